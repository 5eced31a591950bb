#!/usr/bin/env python3
"""Write the tables of docs/ on the benchmarks that train: ablations and the generative family.

.venv/bin/python scripts/run_tables.py
"""

import json
from pathlib import Path
from typing import Any

from m3et_ros.evaluation.report.markdown import replace_block

ROOT = Path(__file__).resolve().parents[1]
SMALLER_IS_BETTER = ('rmse_in_holes_m',)


def main() -> None:
    """Replace the text between each pair of markers."""
    for page, name, table in (('evaluation.md', 'ablations', ablations), ('talk.md', 'talk', talk)):
        path = ROOT / 'docs' / page
        text = replace_block(path.read_text(encoding='utf-8'), name, 'scripts/run_tables.py', table(load(name)))
        path.write_text(text, encoding='utf-8')


def load(name: str) -> dict[str, Any]:
    """Read the result of a benchmark."""
    return json.loads((ROOT / f'benchmarks/results/{name}.json').read_text(encoding='utf-8'))


def ablations(found: dict[str, Any]) -> str:
    """Return a row for each change; "worse" or "better" marks significant differences from the full model."""
    lines = [
        '| Model | Parameters | VQA | PSNR of hidden colours | mIoU | Depth RMSE in holes |',
        '|---|---:|---:|---:|---:|---:|',
    ]
    for name, row in found['rows'].items():
        cells = [
            _figure(row, key, shown)
            for key, shown in (
                ('vqa_accuracy', '{:.1%}'),
                ('psnr_hidden_db', '{:.2f} dB'),
                ('miou', '{:.1%}'),
                ('rmse_in_holes_m', '{:.3f} m'),
            )
        ]
        lines.append(f'| {name.replace("_", " ")} | {row["parameters"]:,} | {" | ".join(cells)} |')
    return '\n'.join(lines)


def _figure(row: dict[str, Any], key: str, shown: str) -> str:
    if row.get(key) is None:
        return '-'
    text, less = shown.format(row[key]['value']), row.get('less_full', {}).get(key)
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


if __name__ == '__main__':
    main()
