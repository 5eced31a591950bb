#!/usr/bin/env python3
"""Measure the throughput of stage 2 of training, with what makes it fast and without, each alone and all together.

    m3et generate cache --seeds 0:32 --frames 22 --stride 14
    python benchmarks/throughput.py --data cache/kitchen-...     # 10 minutes; writes benchmarks/results/throughput.json

Each side is a process with one thread, as each core has one in scripts/train_kitchen.py. The sides take their steps in
turn, on the same batches and draws. A step is everything that a training process does but reading its samples, which a
process of its own does meanwhile: forward, backward, clipping, Muon, averaging; in bfloat16 where the CPU has units for
it. The figures are the mean CPU time of a step, and the median over the steps of how many times as fast it is as
without any measure. The exchange between processes is not part of it. Huge pages of memory
(GLIBC_TUNABLES=glibc.malloc.hugetlb=1) were tried and gained nothing.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from timing import environment, finish, one_thread, options

BATCHES = 8
"""Batches that are read once and used in turn."""


def recorded_convolution() -> None:
    """Record the convolution of the mixers step by step."""
    from torch.nn import functional as F

    from m3et_ros.layers import mamba

    def convolve(padded, weight, bias):
        taps = weight[:, 0].unbind(-1)
        length, y = padded.shape[1] - len(taps) + 1, bias
        for shift, tap in enumerate(taps):
            y = y + padded[:, shift : shift + length] * tap
        return F.silu(y)

    mamba.causal_conv = convolve


def repeated_states() -> None:
    """Repeat the states that the questions about a view share."""
    from m3et_ros.layers import mamba
    from m3et_ros.ops.ssd import ssd

    def scan(x, dt, A, B, C, *, D, state):
        return ssd(x, dt, A, B, C, D=D, state=state.repeat_interleave(len(x) // len(state), 0))[0]

    mamba.ssd_shared = scan


def joined_attention() -> None:
    """Join the logits of the keys that questions share and of their own keys, and record each step."""
    import torch

    from m3et_ros.layers import attention

    def attend(q, k, v, own):
        weights = torch.cat([q @ k.transpose(-1, -2), own], -1).softmax(-1)
        to_shared, to_own = weights.split([k.shape[2], own.shape[-1]], -1)
        return to_shared @ v, to_own

    attention.shared_attention = attend


def questions_at_once() -> None:
    """Encode all questions as long as the longest one."""
    from m3et_ros.training import m3et

    m3et.encode_questions = lambda model, *given, **options: model.encode_text(*given, **options)


def bias_in_float32() -> None:
    """Add the semantic bias in float32, which makes the weights of the attention float32."""
    from m3et_ros.layers import attention

    attend = attention.scaled_attention
    attention.scaled_attention = lambda *qkv, mask=None, **o: attend(
        *qkv, mask=mask if mask is None or not mask.is_floating_point() else mask.float(), **o
    )


def muon_in_bfloat16() -> None:
    """Orthogonalise the updates of Muon in bfloat16, as torch does."""
    from m3et_ros.training import optim

    orthogonalise = optim.orthogonalised
    optim.orthogonalised = lambda update: orthogonalise(update.bfloat16())


MEASURES: dict[str, Callable[[], None] | None] = {
    'convolution': recorded_convolution,
    'shared_states': repeated_states,
    'shared_attention': joined_attention,
    'groups': questions_at_once,
    'bias': bias_in_float32,
    'muon': muon_in_bfloat16,
    'heap': None,
    'kernels': None,
}
"""What makes a step fast, and how to do without it; heap and native scans are settings of the process."""


def step_of(data: Path, size: str, questions: int, views: int, used: set[str]) -> tuple[Callable[[], Any], str]:
    """Return one step of stage 2 as a function, and the kernel of its scans."""
    import torch
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    from m3et_ros.data.class_names import ClassNames
    from m3et_ros.data.kitchen.cache.dataset import KitchenSamples
    from m3et_ros.data.noise import Noise
    from m3et_ros.ops import dispatch
    from m3et_ros.runtime import kernels
    from m3et_ros.runtime.heap import keep_freed_memory
    from m3et_ros.runtime.open_model import untrained
    from m3et_ros.training.loop import KEPT, Objective
    from m3et_ros.training.m3et import Answer, Collate
    from m3et_ros.training.optim import build_optimiser, set_rate

    one_thread()
    if 'heap' in used:
        keep_freed_memory(KEPT)
    if 'kernels' in used:
        kernels.build()
        kernels.use_built()
    for name, without in MEASURES.items():
        if name not in used and without is not None:
            without()
    checkpoint, recipe = untrained(size, 0), Answer(optimiser='muon')
    model, labels = checkpoint.model.train(), checkpoint.labels
    samples = KitchenSamples(data, each=questions, noise=Noise())
    collate = Collate(
        model.config, checkpoint.tokenizer, tuple(labels.answers), ClassNames(checkpoint.tokenizer, labels.classes)
    )
    batches = [collate([samples[(n * views + i) % len(samples)] for i in range(views)])[0] for n in range(BATCHES)]
    facts = environment()
    objective = Objective(model, recipe, bf16=facts['avx512_bf16'] or facts['amx_bf16'])
    optimizer = build_optimiser(model, kind='muon', weight_decay=recipe.weight_decay)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.999))
    set_rate(optimizer.param_groups, 1e-4)
    done = 0

    def step() -> float:
        nonlocal done
        loss, _ = objective(batches[done % BATCHES], done)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimizer.step()
        optimizer.zero_grad()
        average.update_parameters(model)
        done += 1
        return float(loss.detach())

    return step, dispatch.choose('ssd', 'cpu').name


def serve(given: argparse.Namespace) -> None:
    """Take a step for each line of the standard input, and answer with its CPU seconds and its loss."""
    step, kernel = step_of(given.data, given.size, given.questions, given.views, set(given.side.split('+')))
    print(json.dumps({'kernel': kernel}), flush=True)
    for _ in sys.stdin:
        start = time.process_time()
        loss = step()
        print(json.dumps({'seconds': time.process_time() - start, 'loss': loss}), flush=True)


class Side:
    """A process that trains with some of the measures.

    Args:
        given: options of the script.
        used: measures.
    """

    def __init__(self, given: argparse.Namespace, used: set[str]):
        words = [sys.executable, __file__, '--side', '+'.join(sorted(used)) or 'none', '--data', str(given.data)]
        for name in ('size', 'questions', 'views'):
            words += [f'--{name}', str(getattr(given, name))]
        settings = {'OMP_NUM_THREADS': '1', 'OMP_WAIT_POLICY': 'PASSIVE'}
        settings['M3ET_KERNELS'] = 'on' if 'kernels' in used else 'off'
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **settings}
        )
        self.seconds: list[float] = []
        self.losses: list[float] = []

    def read(self) -> dict:
        """Return the next answer of the process."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit('A side ended before its last step; see its message above.')
        return json.loads(line)

    def step(self) -> None:
        """Take a step and record its CPU seconds and its loss."""
        assert self._process.stdin is not None
        self._process.stdin.write('step\n')
        self._process.stdin.flush()
        found = self.read()
        self.seconds.append(found['seconds'])
        self.losses.append(found['loss'])

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def compared(given: argparse.Namespace, sides: dict[str, set[str]]) -> dict[str, Any]:
    """Take the steps of all sides in turn, and return their figures; the first side is the one to compare with."""
    processes = {name: Side(given, used) for name, used in sides.items()}
    kernels = {name: side.read()['kernel'] for name, side in processes.items()}
    for _ in range(1 + given.rounds):
        for side in processes.values():
            side.step()
    for side in processes.values():
        side.close()
    found, base = {}, next(iter(processes.values())).seconds
    for name, side in processes.items():
        # The first step allocates memory. A mean of all others, because steps with a repeat of stage 1 take longer.
        seconds = statistics.mean(side.seconds[1:])
        ratios = [before / after for before, after in zip(base[1:], side.seconds[1:])]
        found[name] = {
            'cpu_seconds_a_step': round(seconds, 4),
            'times_as_fast': round(statistics.median(ratios), 3),
            'views_an_hour_on_2_cores': round(2 * 3600 * given.views / seconds),
            'questions_a_second_on_2_cores': round(2 * given.views * given.questions / seconds, 1),
            'scans': kernels[name],
            'mean_loss': round(statistics.mean(side.losses), 4),
        }
    return found


def main() -> None:
    """Measure all sides at one number of questions, and the fastest one at twice as many."""
    parser = options(__doc__, rounds=24)
    parser.add_argument('--data', type=Path, required=True, help='cache of training kitchens')
    parser.add_argument('--size', default='kitchen', help='named size of the model')
    parser.add_argument('--questions', type=int, default=16, help='questions of a view')
    parser.add_argument('--views', type=int, default=16, help='views of a step in one process')
    parser.add_argument('--each', action='store_true', help='also measure each measure alone')
    parser.add_argument('--side', help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        serve(given)
        return
    every = set(MEASURES)
    sides = {'without': set(), 'with': every}
    if given.each:
        sides |= {f'{name} alone': {name} for name in MEASURES}
    found = compared(given, sides)
    questions, given.questions = given.questions, 2 * given.questions
    twice = compared(given, {'without': set(), 'with': every})
    given.questions = questions
    settings = {name: getattr(given, name) for name in ('size', 'questions', 'views', 'rounds')}
    finish('throughput', {**settings, 'sides': found, 'twice_the_questions': twice}, given.results)
    for name, side in found.items():
        print(f'{name}: {side["cpu_seconds_a_step"]:.2f} s a step, {side["times_as_fast"]:.2f} times as fast')


if __name__ == '__main__':
    main()
