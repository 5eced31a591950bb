"""Measure the shipped model in int8 against float32: answers and depth on kitchens, and the time of a frame.

    m3et generate cache --seeds 0:24 --frames 12 --stride 25 --version 2
    m3et generate cache --seeds 20000:20050 --frames 12 --stride 25 --version 2
    python benchmarks/int8.py --calibrate cache/TRAINING --cache cache/TEST     # writes benchmarks/results/int8.json

int8 must hold the accuracy of answers within 1 point and the error of depth within 3 %. Each question is asked of the
float32 graphs and of the int8 graphs; depth is predicted from the same noisy view and compared with the true one.

On a CPU without VNNI, which refuses int8 because sums saturate there, the rounded values are multiplied in float32: the
same sums as with VNNI, and no time worth measuring.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
import torch
from timing import denormals_allowed, environment, finish, interleaved, one_thread, options, ratios

from m3et_ros.cli.progress import track
from m3et_ros.data import preprocess
from m3et_ros.data.checkpoints import DEFAULT_MODEL
from m3et_ros.data.kitchen.cache.dataset import KitchenSamples
from m3et_ros.data.kitchen.cache.recipe import read_recipe
from m3et_ros.data.sample import collate
from m3et_ros.evaluation.batches import cluster_of
from m3et_ros.evaluation.metrics.depth import depth_rates, depth_sums
from m3et_ros.evaluation.metrics.hole_filling import known_mask
from m3et_ros.evaluation.metrics.intervals import mean_rows, paired_difference, ratio
from m3et_ros.evaluation.tasks.vqa import NOISE
from m3et_ros.runtime.backends import openvino
from m3et_ros.runtime.backends.int8 import VIEWS, open_calibration
from m3et_ros.runtime.backends.prepared import prepare
from m3et_ros.runtime.backends.probe import probe_frame
from m3et_ros.runtime.kernels import use_built
from m3et_ros.runtime.machine import lacks_vnni
from m3et_ros.runtime.open_model import open_checkpoint

MODALITY_SETS = (('rgb', 'depth'),)
SIDES = ('float32', 'int8')


@contextmanager
def exact_products() -> Iterator[None]:
    """Let OpenVINO round values to int8 and multiply them in float32; its graphs are stored apart from a robot's."""

    class Exact(openvino.OpenVino):
        def __init__(self, setting):
            super().__init__(setting)
            self._options['LP_TRANSFORMS_MODE'] = 'NO'

    with (
        TemporaryDirectory() as folder,
        patch.dict(os.environ, M3ET_CACHE=folder),
        patch.object(openvino, 'OpenVino', Exact),
    ):
        yield


def scored(checkpoint, runners: dict, samples: KitchenSamples) -> Iterator[tuple[str, dict, dict]]:
    """Yield for each question its kitchen, the score of each side's answer, and sums of its errors of depth, (2, 4).

    The sums are those of the whole view and of the holes that noise has made in the depth of the camera.
    """
    model, tokenizer, answers = checkpoint.model, checkpoint.tokenizer, checkpoint.labels.answers
    for index in track(range(len(samples)), len(samples), 'questions', 'question'):
        sample = samples[index]
        batch = collate([sample], model.config)
        if 'depth' not in batch.inputs:
            continue  # the graphs that are measured take colour with depth
        images = {name: batch.inputs[name] for name in MODALITY_SETS[0]}
        words = tokenizer.encode([sample.question], model.config.text_length)
        mean, std = batch.scale[0].tolist()
        truth = batch.depth[:, 0].numpy() * std + mean
        holes = ~known_mask(preprocess.squeeze_depth(sample.depth, model.config.image_size))[None]
        scores, errors = {}, {}
        for side, runner in runners.items():
            encoding = runner.encode_images(images)
            best = int(model.answer_logits(runner.add_text(encoding, *words)).argmax())
            depth = runner.decode(runner.add_text(encoding), 'depth')[:, 0].numpy() * std + mean
            scores[side] = sample.answers.get(answers[best], 0.0)
            errors[side] = np.concatenate([depth_sums(depth, truth), depth_sums(depth, truth, holes)])
        yield cluster_of(sample), scores, errors


def accuracy(checkpoint, runners: dict, cache: Path, questions: int) -> dict:
    """Return answers and depth of both sides with the interval of their difference over kitchens."""
    with torch.inference_mode():
        found = list(scored(checkpoint, runners, KitchenSamples(cache, noise=NOISE, length=questions)))
    kitchens = [kitchen for kitchen, _, _ in found]
    right = {side: mean_rows([scores[side] for _, scores, _ in found]) for side in SIDES}
    change = paired_difference(right['int8'], right['float32'], ratio, kitchens)
    result = {
        'cache': read_recipe(cache).name,
        'questions': len(found),
        'answers': {side: round(float(ratio(rows.sum(0))), 4) for side, rows in right.items()},
        'points': {name: round(100 * getattr(change, name), 2) for name in ('value', 'low', 'high')},
    }
    for part, what in enumerate(('depth_rmse_m', 'holes_rmse_m')):
        rmse = {side: depth_rates(sum(errors[side][part] for _, _, errors in found))[0] for side in SIDES}
        result[what] = {side: round(float(value), 4) for side, value in rmse.items()}
        result[f'{what}_change'] = round(float(rmse['int8'] / rmse['float32'] - 1), 4)
    return result


def notes(found: dict) -> dict[str, str]:
    """Return the accuracy in sentences for the page."""
    points, answers = found['points'], found['answers']
    whole, holes = found['depth_rmse_m'], found['holes_rmse_m']
    return {
        'Answers': f'{answers["int8"]:.1%} right in int8 and {answers["float32"]:.1%} in float32 of '
        f'{found["questions"]:,} questions, a change of {points["value"]:+.2f} points ({points["low"]:+.2f} to '
        f'{points["high"]:+.2f})',
        'Depth': f'RMSE {whole["int8"]:.3f} m in int8 and {whole["float32"]:.3f} m in float32, '
        f'{found["depth_rmse_m_change"]:+.1%}; in holes {holes["int8"]:.3f} and {holes["float32"]:.3f} m, '
        f'{found["holes_rmse_m_change"]:+.1%}',
    }


def main() -> None:
    """Measure and write the figures."""
    parser = options(__doc__, rounds=15)
    parser.add_argument('--model', default=DEFAULT_MODEL)
    parser.add_argument('--calibrate', type=Path, required=True, help='cache of training kitchens')
    parser.add_argument('--cache', type=Path, required=True, help='cache of test kitchens')
    parser.add_argument('--questions', type=int, default=1200)
    asked = parser.parse_args()
    one_thread()
    use_built()
    checkpoint = open_checkpoint(asked.model)
    with exact_products() if lacks_vnni() else nullcontext():
        document = measured(checkpoint, asked)
    finish('int8', document, asked.results)


def measured(checkpoint, asked) -> dict:
    """Build the graphs and return the figures; the times only where int8 runs as on a robot."""
    model, ready = checkpoint.model.eval(), {}
    calibration = open_calibration(asked.calibrate, checkpoint.tokenizer)
    facts = environment()
    has_bfloat16 = facts['avx512_bf16'] or facts['amx_bf16']  # elsewhere OpenVINO runs it in float32
    for precision in ('float32', *(['bfloat16'] if has_bfloat16 else []), 'int8'):
        with denormals_allowed():
            ready[precision], serving = prepare(
                model,
                'openvino',
                precision=precision,
                modality_sets=MODALITY_SETS,
                calibration=calibration if precision == 'int8' else None,
                report=print,
            )
        if ready[precision] is None:
            raise SystemExit(f'{precision}: {serving.reason}')
    cases = {} if lacks_vnni() else {'a frame and its dense outputs': times(model, ready, asked.rounds)}
    found = accuracy(checkpoint, {side: ready[side] for side in SIDES}, asked.cache, asked.questions)
    return {
        'rounds': asked.rounds,
        'model': checkpoint.model_id,
        'calibration': f'{VIEWS} views of {read_recipe(asked.calibrate).name}',
        'products': 'float32, of values rounded to int8' if lacks_vnni() else 'int8',
        'accuracy': found,
        'notes': notes(found),
        'cases': cases,
    }


def times(model, ready: dict, rounds: int) -> dict:
    """Return the CPU time of a frame and its dense outputs by each of the graphs."""
    inputs, _ = preprocess.image_inputs(probe_frame(), model.config)

    def frame(runner) -> None:
        encoded = runner.add_text(runner.encode_images(inputs))
        runner.decode(encoded, 'depth'), runner.decode(encoded, 'semseg')

    with torch.inference_mode():
        work = {f'openvino, {name}': lambda runner=runner: frame(runner) for name, runner in ready.items()}
        ms = interleaved(work, rounds, 'frames')
    return {'cpu_ms': ms, 'times_as_fast': ratios(ms, 'openvino, float32')}


if __name__ == '__main__':
    main()
