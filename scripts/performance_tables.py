#!/usr/bin/env python3
"""Write the tables of docs/performance.md from benchmarks/results/: goals with their figures, and every benchmark.

.venv/bin/python scripts/performance_tables.py
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from m3et_ros.evaluation.report.markdown import replace_block

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / 'docs/performance.md'
RESULTS = ROOT / 'benchmarks/results'
MISSING = 'not measured'


class Goal(NamedTuple):
    """A goal, and the place of its figure."""

    what: str
    # Figure to reach, and figure to aim for.
    must: float
    aim: float | None
    # Benchmark with the figure in its result.
    result: str
    # Reads the figure from the result.
    find: Callable[[dict[str, Any]], float]
    # False if less is better.
    more: bool = True


def times(case: str, variant: str) -> Callable[[dict[str, Any]], float]:
    """Find the speed of a variant of a case."""
    return lambda result: result['cases'][case]['times_as_fast'][variant]


def over(case: str, slow: str, fast: str) -> Callable[[dict[str, Any]], float]:
    """Find the ratio of the CPU times of two variants."""

    def find(result: dict[str, Any]) -> float:
        ms = result['cases'][case]['cpu_ms']
        return ms[slow] / ms[fast]

    return find


def growth(case: str, variant: str, long: int, short: int) -> Callable[[dict[str, Any]], float]:
    """Find the ratio of the times of a variant at two numbers of tokens."""

    def find(result: dict[str, Any]) -> float:
        return (
            result['cases'][case.format(L=long)]['cpu_ms'][variant]
            / result['cases'][case.format(L=short)]['cpu_ms'][variant]
        )

    return find


def decoded(what: str, context: int) -> Callable[[dict[str, Any]], float]:
    """Find a figure of the all-Mamba model against the Transformer behind a context."""
    return lambda result: result['against_the_transformer']['mamba'][what][str(context)]


def late(result: dict[str, Any]) -> float:
    """Return the seconds by which the p99 age of results exceeds a camera period, a frame's p99 and 20 ms."""
    return result['age_p99_s'] - 1 / result['rate_in_hz'] - result['inference_p99_s'] - 0.02


SSD, SSD_BACK = ('SSD forward, L=588, d_inner 1536, N 128', 'SSD forward + backward, L=588, d_inner 1536, N 128')
SCAN, SCAN_BACK = ('Mamba-1 forward, L=588, D 1536, N 16', 'Mamba-1 forward + backward, L=588, D 1536, N 16')
MIXER = 'Mamba-2 mixer, d 768, 588 tokens, float32'
EAGER, FAST = '588 tokens, batch 1, float32 eager', '588 tokens, batch 1, bfloat16 OpenVINO'
GOALS = (
    Goal('SSD forward against the published listing, torch', 1.6, None, 'ssd', times(SSD, 'chunked')),
    Goal('the same, compiled', 1.6, 4, 'ssd', times(SSD, 'compiled')),
    Goal('the same, native', 5, 6, 'ssd', times(SSD, 'native')),
    Goal('SSD forward and backward against the listing, torch', 1.3, None, 'ssd', times(SSD_BACK, 'chunked')),
    Goal('the same, compiled', 2, 2.5, 'ssd', times(SSD_BACK, 'compiled')),
    Goal('the same, native', 3.3, 4.5, 'ssd', times(SSD_BACK, 'native')),
    Goal('Mamba-1 forward, native, against the best form in torch', 7, None, 'ssd', over(SCAN, 'blocked', 'native')),
    Goal(
        'Mamba-1 forward and backward, native, against the best form in torch',
        14,
        None,
        'ssd',
        over(SCAN_BACK, 'blocked', 'native'),
    ),
    Goal(
        'the same against the closed form in chunks, which set the goal',
        14,
        20,
        'ssd',
        over(SCAN_BACK, 'cumsum', 'native'),
    ),
    Goal(
        'Mamba-1 native, forward and backward: time at 588 tokens over that at 196',
        4.5,
        None,
        'ssd',
        growth('Mamba-1 forward + backward, L={L}, D 1536, N 16', 'native', 588, 196),
        False,
    ),
    Goal("Mamba-2 mixer against transformers' CPU path", 2.2, 4.7, 'mixer', times(MIXER, 'ours, native scan')),
    Goal('compact against MultiMAE, 588 tokens, float32 eager', 2.4, 3.2, 'models', times(EAGER, 'compact')),
    Goal('base_ssd against MultiMAE, 588 tokens, float32 eager', 0.85 * 2.5, None, 'models', times(EAGER, 'base_ssd')),
    Goal('base against MultiMAE, 588 tokens, float32 eager', 0.85 * 2.5, None, 'models', times(EAGER, 'base')),
    Goal('compact against MultiMAE, 588 tokens, bfloat16 through OpenVINO', 2.4, 3.2, 'models', times(FAST, 'compact')),
    *(
        Goal(
            f'{name} against MultiMAE, {tokens} visible tokens{which}, float32 eager',
            must,
            aim,
            'models',
            times(f'{tokens} tokens, batch {batch}, float32 eager', name),
        )
        for tokens, batch, which in ((98, 1, ''), (176, 1, ''), (588, 8, ', batch 8'))
        for name, must, aim in (('compact', 2.4, 3.2), ('base', 0.85 * 2.5, None))
    ),
    *(
        Goal(
            f'base against MultiMAE, {tokens} tokens, batch {batch}, both by OpenVINO, without AVX-512',
            2.3,
            None,
            'models_avx2',
            times(f'{tokens} tokens, batch {batch}, float32 OpenVINO', 'base'),
        )
        for batch in (1, 8)
        for tokens in (98, 176, 588)
    ),
    Goal(
        'four robots on one model by OpenVINO against each alone in torch',
        1.5,
        None,
        'fleet',
        times('4 robots, kitchen2, a frame', 'openvino, in turn'),
    ),
    Goal(
        "share of the node's CPU time outside the model, 640x480",
        0.10,
        0.05,
        'node',
        lambda result: result['share_not_model'],
        False,
    ),
    Goal(
        'age of results at 30 Hz, p99: seconds beyond a period, inference p99 and 20 ms',
        0,
        None,
        'node_30hz',
        late,
        False,
    ),
    Goal(
        'frames at 30 Hz without a result that no counter explains',
        0,
        None,
        'node_30hz',
        lambda result: result['drops']['unexplained'],
        False,
    ),
    Goal(
        'a token after a context of 4,096, bfloat16, all-Mamba against attention',
        1.3,
        1.5,
        'decode_bfloat16',
        decoded('times_as_fast', 4096),
    ),
    Goal('the same after 16,384', 3.3, 4, 'decode_bfloat16', decoded('times_as_fast', 16384)),
    Goal(
        'its time after 16,384 over that after 1,024',
        1.05,
        None,
        'decode_bfloat16',
        lambda result: result['against_the_transformer']['mamba']['last_over_first_ms'],
        False,
    ),
    Goal(
        'a step of training kitchen2 against one without its measures, without AVX-512',
        1.5,
        None,
        'throughput',
        lambda result: result['sides']['with']['times_as_fast'],
    ),
    Goal(
        'int8: change of right answers, points',
        -1.0,
        None,
        'int8',
        lambda result: result['accuracy']['points']['value'],
    ),
    Goal(
        'int8: error of depth against float32, %',
        3.0,
        None,
        'int8',
        lambda result: 100 * result['accuracy']['depth_rmse_m_change'],
        False,
    ),
    Goal(
        'decoding a 1080p colour image message, ms',
        1.0,
        None,
        'codec',
        lambda result: result['cases']['1080p']['cpu_ms']['rgb8 in'],
        False,
    ),
    Goal(
        'encoding a 1080p colour image message, ms',
        1.0,
        None,
        'codec',
        lambda result: result['cases']['1080p']['cpu_ms']['rgb8 out'],
        False,
    ),
)


def load(name: str) -> dict[str, Any] | None:
    """Load a result; None if it was not measured."""
    path = RESULTS / f'{name}.json'
    return json.loads(path.read_text(encoding='utf-8')) if path.is_file() else None


def goals() -> str:
    """Return the table of all goals with their figures and verdicts."""
    lines = ['| What | Must | Aim | Measured | |', '|---|---|---|---|---|']
    for goal in GOALS:
        sign, result = '' if goal.more else 'at most ', load(goal.result)
        try:
            value = goal.find(result) if result else None
        except KeyError:
            value = None
        reached = value is not None and (value >= goal.must if goal.more else value <= goal.must)
        aimed = value is not None and goal.aim is not None and (value >= goal.aim if goal.more else value <= goal.aim)
        if value is None:
            verdict = '-'
        elif aimed:
            verdict = 'aim reached'
        else:
            verdict = 'reached' if reached else '**missed**'
        aim = '-' if goal.aim is None else f'{sign}{goal.aim:g}'
        lines.append(
            f'| {goal.what} | {sign}{goal.must:.3g} | {aim} | '
            f'{MISSING if value is None else f"{value:.2f}"} | {verdict} |'
        )
    return '\n'.join(lines)


def cases(name: str) -> str:
    """Return the table of all variants of all cases of a benchmark, and the machine."""
    result = load(name)
    if result is None:
        return f'Not measured yet: `m3et bench {name}`.'
    lines = ['| Case | Variant | CPU ms | Times as fast | Error |', '|---|---|---|---|---|']
    for case, rows in result['cases'].items():
        for variant, ms in rows['cpu_ms'].items():
            lines.append(
                f'| {case} | {variant} | {ms:.2f} | {rows["times_as_fast"].get(variant, "1")} | '
                f'{rows.get("error", {}).get(variant, "-")} |'
            )
    if not result['cases']:
        lines = ['The time was not measured.']
    extra = ''
    if 'parameters' in result:
        extra = (
            '\n\nParameters: '
            + ', '.join(f'{n} {count:,}' for n, count in result['parameters'].items())
            + (f'. The other side is {result["other_side"]}.')
        )
    for name, note in result.get('notes', {}).items():
        extra += f'\n\n{name}: {note}.'
    if 'alone' in result:
        extra += '\n\n' + alone(result)
    return '\n'.join(lines) + extra + '\n\n' + machine(result)


def alone(result: dict[str, Any]) -> str:
    """Return the table of the model alone, by the frames of a batch."""
    lines = [
        f'| Frames of a batch, {result["model"]} alone | CPU ms a frame | GFLOP a frame | GFLOP a second | Of peak | '
        'By OpenVINO, CPU ms a frame |',
        '|---|---|---|---|---|---|',
    ]
    lines += [
        f'| {size} | {row["cpu_ms_a_frame"]:.2f} | {row["gflop_a_frame"]:.2f} | {row["gflop_a_second"]:.0f} | '
        f'{row["share_of_peak"]:.0%} | {row["openvino_cpu_ms_a_frame"]:.2f} |'
        for size, row in result['alone'].items()
    ]
    return '\n'.join(lines)


NODE: dict[str, Callable[[dict[str, Any]], Any]] = {
    'image': lambda r: r['image'],
    'model, runtime': lambda r: f'{r["model"]}, {r["runtime"]}',
    'camera': lambda r: f'{r["rate_in_hz"]:g} Hz' if r['rate_in_hz'] != 'a frame a result' else r['rate_in_hz'],
    'frames per second': lambda r: r['frames_per_s'],
    'frames per second of CPU time': lambda r: r['frames_per_cpu_s'],
    'CPU ms per frame': lambda r: r['cpu_ms_per_frame'],
    'of these in the model': lambda r: r['model_cpu_ms_per_frame'],
    'share outside the model': lambda r: f'{r["share_not_model"]:.1%}',
    'age of results, p50 / p99, s': lambda r: f'{r["age_p50_s"]} / {r["age_p99_s"]}',
    'time of a frame, p99, s': lambda r: r['inference_p99_s'],
    'frames shown / with a result': lambda r: f'{r["drops"]["shown"]} / {r["drops"]["served"]}',
    'superseded by a newer one / unexplained': lambda r: (
        f'{sum(n for key, n in r["drops"].items() if key.endswith("superseded"))} / {r["drops"]["unexplained"]}'
    ),
}


WHOLE, LARGE = ('node', 'node_30hz', 'node_openvino'), ('node_480p_30hz', 'node_1080p_30hz', 'node_1080p_60hz')
"""Results of the whole node: at full speed, behind a fast camera, in another runtime; and by size of the images."""


def node(names: Sequence[str]) -> str:
    """Return the table of results of the whole node."""
    found = [result for name in names if (result := load(name))]
    if not found:
        return 'Not measured yet: `m3et bench node --bag BAG`.'
    lines = ['|' * (len(found) + 2), '|---' * (len(found) + 1) + '|']
    lines += [' | '.join([f'| {what}', *(str(read(result)) for result in found)]) + ' |' for what, read in NODE.items()]
    return '\n'.join(lines) + '\n\n' + machine(found[0])


GETS: dict[str, Callable[[dict[str, Any]], str]] = {
    'results a second': lambda r: f'{r["frames_per_s"]:.0f}',
    'age of a result, half of them / 99 of 100, ms': lambda r: (
        f'{1e3 * r["age_p50_s"]:.0f} / {1e3 * r["age_p99_s"]:.0f}'
    ),
}


def gets() -> str:
    """Return the table of what a user gets from the node in the runtimes that were measured."""
    found = [result for name in ('node', 'node_openvino') if (result := load(name))]
    lines = [' | '.join([f'| {found[0]["image"]}, one thread', *(result['runtime'] for result in found)]) + ' |']
    lines += ['|---' * (len(found) + 1) + '|']
    lines += [' | '.join([f'| {what}', *(read(result) for result in found)]) + ' |' for what, read in GETS.items()]
    return '\n'.join(lines) + '\n\n' + machine(found[0])


def decode() -> str:
    """Return the tables of a token behind a long context, in both precisions."""
    found = [result for name in ('decode', 'decode_bfloat16') if (result := load(name))]
    return '\n\n'.join(map(decode_table, found)) or 'Not measured yet: `m3et bench decode`.'


def decode_table(found: dict[str, Any]) -> str:
    """Return the table of one precision."""
    settings = found['made_by']['settings']
    head = f'{settings.get("precision", "float32")}, width {settings["width"]}:\n\n'
    contexts = found['made_by']['settings']['contexts']
    lines = [
        '| Model | ' + ' | '.join(f'{c:,} tokens' for c in contexts) + ' | State at the longest |',
        '|---' * (len(contexts) + 2) + '|',
    ]
    for name, row in found['rows'].items():
        at = [row['contexts'][str(c)] for c in contexts]
        lines.append(
            f'| {name} ({row["schedule"]}) | '
            + ' | '.join(f'{a["ms_per_token"]:.2f} ms' for a in at)
            + f' | {at[-1]["state_bytes"] / 2**20:.1f} MiB |'
        )
    return head + '\n'.join(lines)


def adaptive() -> str:
    """Return the tables of adaptive tokens: share, time and accuracy, then the speed of the sizes by share."""
    found = load('adaptive')
    if found is None:
        return 'Not measured yet: `python benchmarks/adaptive.py`.'
    names = {
        'full': 'full',
        'asked whole': f'adaptive, {found["defaults"]["threshold"]:g}, encoded whole for questions',
    }
    lines = [
        '| Camera | Tokens, threshold | Encoded | CPU ms a frame | Right answers | Same answers as full | '
        'Depth RMSE, m | In holes, m | mIoU |',
        '|---|---|---|---|---|---|---|---|---|',
    ]
    for part, what in (('still', 'stands still'), ('carried', 'walks'), ('recording', 'walks, real kitchen')):
        if part not in found:
            continue
        case = found[part]
        for name, row in case['sides'].items():
            cells = [f'{row[key]:.1%}' if key in row else '-' for key in ('accuracy', 'answers_as_full')]
            cells += [f'{row[key]:.3f}' if key in row else '-' for key in ('depth_rmse_m', 'holes_rmse_m', 'miou')]
            lines.append(
                f'| {what}, {case["hz"]:g} Hz | {names.get(name, f"adaptive, {name}")} | {row["share"]:.0%} | '
                f'{row["cpu_ms"]:.1f} | {" | ".join(cells)} |'
            )
    counts = '; '.join(
        f'{part}: {found[part]["frames"]} frames, {found[part].get("questions", 0)} questions'
        for part in ('still', 'carried', 'recording')
        if part in found
    )
    return '\n'.join(lines) + f'\n\nMeans over frames; {counts}.\n\n' + shares(found) + machine(found)


def shares(found: dict[str, Any]) -> str:
    """Return the table of encoder times for shares of the tokens."""
    lines = [
        '| Size, tokens | Encoder, CPU ms | all, with stored state | 3/4 | 1/2 | 1/4 |',
        '|---|---|---|---|---|---|',
    ]
    for name, row in found.get('sizes', {}).items():
        fast = ' | '.join(f'{row["times_as_fast"][key]:.2f} x' for key in ('all', '0.75', '0.5', '0.25'))
        lines.append(f'| {name}, {row["tokens"]} | {row["cpu_ms"]["see"]:.1f} | {fast} |')
    return '\n'.join(lines) + '\n\n' if len(lines) > 2 else ''


def machine(result: dict[str, Any]) -> str:
    """Return a sentence on the machine of a result."""
    e, sets = result['environment'], ('avx512_f', 'avx512_vnni', 'avx512_bf16', 'amx_bf16')
    has = [name for name in sets if e.get(name)]
    return (
        f'{e["cpu"]}, {e["cores"]} cores, {", ".join(has) or "no AVX-512"}; torch {e["torch"]}, one thread; '
        f'median of {result.get("rounds", 1)} rounds in turn; load {e["load"]}: {e["note"]}.'
    )


def page() -> str:
    """Return the page with every block replaced.

    Raises:
        ValueError: a block is missing or occurs twice.
    """
    text = PAGE.read_text(encoding='utf-8')
    blocks = {
        'goals': goals(),
        'gets': gets(),
        'node': node(WHOLE),
        'node_large': node(LARGE),
        'decode': decode(),
        'adaptive': adaptive(),
        **{name: cases(name) for name in ('ssd', 'mixer', 'models', 'models_avx2', 'codec', 'fleet', 'runtimes')},
        **{name: cases(name) for name in ('int8', 'adaptive_runtimes', 'runtimes_avx2')},
    }
    for name, table in blocks.items():
        text = replace_block(text, name, 'scripts/performance_tables.py', table)
    return text


if __name__ == '__main__':
    PAGE.write_text(page(), encoding='utf-8')
