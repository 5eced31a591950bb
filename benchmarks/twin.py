"""Measure M3ET against its twin of MultiMAE's form at equal data, steps and seeds: accuracy, parameters and cost.

    python benchmarks/twin.py --data CACHE ... --out runs/twin       # writes benchmarks/results/twin.json

The defaults are two models, three seeds and 1.4 million views each, days on two CPU cores, a few hours on one large GPU
with --bf16; progress lines report the time left. Lower --samples-one, --samples-two and --seeds to shorten it, or use
--minutes to divide it into sessions. Existing runs are not repeated. The figures are written after each seed.

The twin has MultiMAE's twelve Transformer blocks and its decoders at the width of the model. With --decoders own its
decoders are ours, without gate and semantic bias: the comparison of docs/results.md.

The cost is that of the models alone, without camera and preprocessing: CPU time of the process at batch 1 in float32 on
one thread, with the models in turn. There are three jobs: `question` is a frame with depth and one question; `dense` is
depth and segmentation of a frame with depth; `masked` reconstructs all three images from the 30 % of the tokens that
pre-training shows, the paper's measure of speed (docs/papers.md 2.1).
"""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from runs import RESULTS, Bench, parser, run_script, write
from scores import Exam, Rows, differences, figures, measure

from m3et_ros.cli.progress import track
from m3et_ros.data.checkpoints.m3et import Checkpoint
from m3et_ros.data.kitchen.cache.dataset import KitchenSamples
from m3et_ros.data.sample import Sample, collate
from m3et_ros.evaluation.batches import rounded, shown_inputs
from m3et_ros.evaluation.metrics.latency import latency_summary
from m3et_ros.models.m3et.config import IMAGE_MODALITIES
from m3et_ros.models.m3et.cost import mac_parts, parameters_of
from m3et_ros.models.m3et.masking import draw, visible_total
from m3et_ros.models.m3et.sizes import KITCHEN, KITCHEN_TWIN

LIVE = ('depth', 'semseg')
"""Tasks that a robot decodes for every frame."""
WARM_UP = 10
DECODERS = ('multimae', 'own')
ADDED = ('decoder_queries', 'context_positions', 'cross_mlp')
"""Fields that only MultiMAE's decoders have."""


def twin_changes(decoders: str = 'multimae') -> dict[str, Any]:
    """Return the fields in which the twin differs, except its name; `decoders` is one of DECODERS."""
    own, other = KITCHEN.to_dict(), KITCHEN_TWIN.to_dict()
    same = {'name', *(ADDED if decoders == 'own' else ())}
    return {name: value for name, value in other.items() if value != own[name] and name not in same}


def jobs(checkpoint: Checkpoint, sample: Sample) -> tuple[dict[str, Callable], dict[str, int]]:
    """Return the work to time, by name, and the multiply-accumulates of each job."""
    model, config = checkpoint.model.cpu().eval(), checkpoint.model.config  # the test may have left it on a GPU
    batch = collate([sample], config, checkpoint.tokenizer, answers=checkpoint.labels.answers)
    device = torch.device('cpu')
    rgb_depth, all_three = (shown_inputs(batch, names, device) for names in (('rgb', 'depth'), IMAGE_MODALITIES))
    words, mask = batch.inputs['text'], batch.inputs['text_mask']
    counts = dict.fromkeys(all_three, config.image_tokens)
    visible = draw(counts, batch=1, generator=torch.Generator().manual_seed(0)).visible

    def reconstruct() -> list[torch.Tensor]:
        encoded = model.add_text(model.encode_images(rgb_depth))
        return [model.decode(encoded, task) for task in LIVE]

    def masked() -> list[torch.Tensor]:
        encoded = model.encode(all_three, visible=visible)
        return [model.decode(encoded, task) for task in IMAGE_MODALITIES]

    def macs(tokens: int, images: tuple[str, ...], tasks: tuple[str, ...], answers: bool = False) -> int:
        parts = mac_parts(config, tokens, modalities=images, tasks=tasks)
        return sum(count for name, count in parts.items() if answers or name != 'answers')

    frame = len(rgb_depth) * config.image_tokens
    return (
        {
            'question': lambda: model.answer_logits(model.add_text(model.encode_images(rgb_depth), words, mask)),
            'dense': reconstruct,
            'masked': masked,
        },
        {
            'question': macs(frame + words.shape[1], tuple(rgb_depth), (), True),
            'dense': macs(frame, tuple(rgb_depth), LIVE),
            'masked': macs(visible_total(counts), tuple(all_three), IMAGE_MODALITIES),
        },
    )


def cost(models: Mapping[str, Checkpoint], sample: Sample, rounds: int) -> dict[str, Any]:
    """Return MACs and CPU time of each job by model, and the ratios of the second model to the first."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            work = {name: jobs(checkpoint, sample) for name, checkpoint in models.items()}
            times = _times({name: calls for name, (calls, _) in work.items()}, rounds)
    finally:
        torch.set_num_threads(threads)
    first, second = models
    result: dict[str, Any] = {'threads': 1, 'rounds': rounds}
    for job in work[first][0]:
        own, other = times[first, job], times[second, job]
        low, high = np.quantile(np.divide(other, own), (0.25, 0.75))
        result[job] = {
            'macs': {name: counts[job] for name, (_, counts) in work.items()},
            'macs_ratio': rounded(work[second][1][job] / work[first][1][job]),
            'cpu_ms': {
                name: {key: rounded(value) for key, value in asdict(latency_summary(times[name, job])).items()}
                for name in models
            },
            'cpu_ratio_of_medians': rounded(statistics.median(other) / statistics.median(own)),
            'cpu_ratio_middle_half': [rounded(low), rounded(high)],
        }
    return result


def _times(work: Mapping[str, Mapping[str, Callable]], rounds: int) -> dict[tuple[str, str], list[float]]:
    """Return the CPU milliseconds of each model and job; every round runs each once."""
    turns = [(name, job) for job in next(iter(work.values())) for name in work]
    times: dict[tuple[str, str], list[float]] = {turn: [] for turn in turns}
    for number in track(range(-WARM_UP, rounds), WARM_UP + rounds, 'latency', 'round'):
        for name, job in turns if number % 2 else reversed(turns):  # the first place alternates, too
            start = time.process_time_ns()
            work[name][job]()
            if number >= 0:
                times[name, job].append((time.process_time_ns() - start) / 1e6)
    return times


def document(
    bench: Bench,
    trained: Mapping[str, Checkpoint],
    tests: Mapping[str, list[Rows]],
    seconds: Mapping[str, list[float]],
    costs: dict[str, Any],
) -> dict[str, Any]:
    """Return all figures so far."""
    first, second = trained
    weights = {name: sum(parameters_of(checkpoint.model.config).values()) for name, checkpoint in trained.items()}
    return {
        **bench.made_by('twin.py', trained[first]),
        'seeds_done': len(tests[second]),
        'twin_differs_in': twin_changes(bench.options.decoders),
        'models': {
            name: {
                'parameters': weights[name],
                'training_seconds': [round(s, 1) for s in seconds[name]],
                **figures(tests[name]),
            }
            for name in trained
        },
        'less_twin': differences(tests[first], tests[second]),
        'parameters_saved': rounded(1 - weights[first] / weights[second]),
        'cost': costs,
    }


def options() -> argparse.Namespace:
    """Parse the command line."""
    found = parser(__doc__, one=800_000, two=600_000, seeds='0,1,2')
    found.add_argument('--rounds', type=int, default=200, help='rounds of the timing')
    found.add_argument('--decoders', choices=DECODERS, default=DECODERS[0], help='decoders of the twin')
    return found.parse_args()


def main() -> None:
    """Train and test both models for each seed and write the figures."""
    asked = options()
    pair = {asked.size: {}, f'{asked.size}_twin': {'name': f'{asked.size}_twin', **twin_changes(asked.decoders)}}
    bench = Bench(asked, len(pair) * len(asked.seeds))
    tests: dict[str, list[Rows]] = {name: [] for name in pair}
    seconds: dict[str, list[float]] = {name: [] for name in pair}
    costs: dict[str, Any] = {}
    for seed in asked.seeds:
        trained = {}
        for name, changes in pair.items():
            folder = asked.out / f'{name}-{seed}'
            trained[name], spent = bench.train(bench.start(seed, **changes), folder, seed)
            seconds[name].append(spent)
            exam = Exam(bench.cache, asked.questions, asked.frames)
            tests[name].append(measure(trained[name], folder / 'test', exam))
        costs = costs or cost(trained, KitchenSamples(bench.cache, length=1)[0], asked.rounds)
        write(asked.results or RESULTS / 'twin.json', document(bench, trained, tests, seconds, costs))


if __name__ == '__main__':
    run_script(main)
