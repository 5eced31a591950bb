#!/usr/bin/env python3
"""Write the tables of docs/ on the benchmarks that train: ablations and the generative family.

.venv/bin/python scripts/run_tables.py
"""

import json
from pathlib import Path
from typing import Any

from m3et_ros.evaluation.report.markdown import replace_block

ROOT = Path(__file__).resolve().parents[1]
FIGURES = {
    'vqa_accuracy': ('VQA, %', 100, '.1f'),
    'psnr_hidden_db': ('PSNR of hidden colours, dB', 1, '.2f'),
    'miou': ('mIoU, %', 100, '.1f'),
    'rmse_in_holes_m': ('Depth RMSE in holes, m', 1, '.3f'),
}
"""Key of a result -> its title in a table, the factor of its unit, and its format."""
SMALLER_IS_BETTER = ('rmse_in_holes_m',)


def main() -> None:
    """Replace the text between each pair of markers."""
    for page, name, table in TABLES:
        path = ROOT / 'docs' / page
        text = replace_block(path.read_text(encoding='utf-8'), name, 'scripts/run_tables.py', table(load(name)))
        path.write_text(text, encoding='utf-8')


def load(name: str) -> dict[str, Any]:
    """Read the result of a benchmark."""
    return json.loads((ROOT / f'benchmarks/results/{name}.json').read_text(encoding='utf-8'))


def ablations(found: dict[str, Any]) -> str:
    """Return a row for each change; "worse" or "better" marks significant differences from the full model."""
    if len(found['settings']['seeds']) > 1:
        return by_seed(found)
    titles = ' | '.join(title for title, *_ in FIGURES.values())
    lines = [f'| Model | Parameters | {titles} |', '|---|---:|---:|---:|---:|---:|']
    for name, row in found['rows'].items():
        cells = [_figure(row, key, scale, shown) for key, (_, scale, shown) in FIGURES.items()]
        lines.append(f'| {name.replace("_", " ")} | {row["parameters"]:,} | {" | ".join(cells)} |')
    return '\n'.join(lines)


def by_seed(found: dict[str, Any]) -> str:
    """Return the full model's figures, then each change's differences from them: mean and, in brackets, of each seed.

    "worse" or "better" marks a difference whose sign all seeds share. Figures that the full model lacks have no column.
    """
    figures = {key: figure for key, figure in FIGURES.items() if key in found['rows']['full']}
    lines = [f'| Model | {" | ".join(title for title, *_ in figures.values())} |', '|---' * (1 + len(figures)) + '|']
    for name, row in found['rows'].items():
        compared = row.get('less_full')
        cells = [
            _of_seeds((compared or row).get(key), key, scale, f'+{shown}' if compared else shown)
            for key, (_, scale, shown) in figures.items()
        ]
        lines.append(f'| {name.replace("_", " ")} | {" | ".join(cells)} |')
    return '\n'.join(lines)


def _of_seeds(figure: dict[str, Any] | None, key: str, scale: float, shown: str) -> str:
    if figure is None:
        return '-'
    values = [scale * value for value in figure['of_seeds']]
    text = f'{{:{shown}}} ({{}})'.format(sum(values) / len(values), ', '.join(f'{value:{shown}}' for value in values))
    if not shown.startswith('+') or min(values) * max(values) <= 0:
        return text
    return f'{text} {"worse" if (values[0] > 0) == (key in SMALLER_IS_BETTER) else "better"}'


def _figure(row: dict[str, Any], key: str, scale: float, shown: str) -> str:
    if row.get(key) is None:
        return '-'
    text, less = f'{scale * row[key]["value"]:{shown}}', row.get('less_full', {}).get(key)
    if less is None:
        return text
    certain = less['low'] is not None and less['low'] * less['high'] > 0
    worse = (less['value'] > 0) == (key in SMALLER_IS_BETTER)
    return f'{text} ({"worse" if worse else "better"})' if certain else text


def talk(found: dict[str, Any]) -> str:
    """Return a row for each model: means over training seeds, and their range if there are several."""
    lines = [
        '| Model | Parameters | Accuracy | From one frame | Fine spatial | Existence, POPE A | Hallucinated objects | '
        'Training, s |',
        '|---|---:|---:|---:|---:|---:|---:|---:|',
    ]
    for name, row in found['rows'].items():
        runs = row['runs']
        cells = [
            _mean([pick(run) for run in runs])
            for pick in (
                lambda run: run['accuracy']['value'],
                lambda run: run['one_frame']['value'],
                lambda run: run['fine_spatial']['value'],
                lambda run: run['pope']['harness_A']['accuracy'],
                lambda run: run['descriptions']['chair_things']['value'],
            )
        ]
        seconds = sum(run['seconds'] for run in runs) / len(runs)
        lines.append(f'| {name} | {runs[0]["parameters"]:,} | {" | ".join(cells)} | {seconds:.0f} |')
    lines += ['', f"The seeded student keeps {found['accuracy_kept']:.1%} of its teacher's accuracy."]
    for run in found.get('steps_to_same_loss', []):
        reached = f'after {run["seeded_steps"]}' if run['seeded_steps'] else 'never'
        lines.append(
            f'Training seed {run["seed"]}: random mixers have their final loss after {run["random_steps"]} steps; '
            f'seeded ones reach it {reached}.'
        )
    return '\n'.join(lines)


def _mean(values: list[float]) -> str:
    mean = f'{sum(values) / len(values):.1%}'
    return mean if len(values) == 1 else f'{mean} ({min(values):.1%} to {max(values):.1%})'


TABLES = (
    ('evaluation.md', 'ablations', ablations),
    ('evaluation.md', 'ablations_kitchen2', ablations),
    ('talk.md', 'talk', talk),
)
"""Page, result and what writes its table."""

if __name__ == '__main__':
    main()
