"""Measure how time and memory grow with tokens, batch, image side and robots: Mamba-2 and hybrids against Transformers.

    python benchmarks/scaling.py                # writes benchmarks/results/scaling.json and docs/scaling.png

For tokens, the layers of a named size run against a stack of Transformer blocks and one of Mamba-2, of the same width
and number, on 98 to 4096 tokens. For batch and side, whole frames are encoded without a question and decoded. Memory is
the largest sum of all live tensors beyond weights and inputs. The figures are CPU time in float32, in eager torch on
one thread, with random weights.
"""

import statistics
import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from timing import finish, one_thread, options
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from m3et_ros.layers.hybrid import HybridStack
from m3et_ros.models.m3et.config import M3ETConfig
from m3et_ros.models.m3et.sizes import SIZES, build
from m3et_ros.runtime.kernels import use_built

PLOT = Path(__file__).resolve().parents[1] / 'docs' / 'scaling.png'
TASKS = ('depth', 'semseg')


class Peak(TorchDispatchMode):
    """Track the bytes of live storages that operators created: `now`, and the peak `most`."""

    def __init__(self):
        super().__init__()
        self.now = self.most = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        """Run the operator and count its new storages."""
        found = function(*args, **(kwargs or {}))
        given = {t.untyped_storage().data_ptr() for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        for t in tree_leaves(found):
            if isinstance(t, Tensor) and t.untyped_storage().data_ptr() not in given | self._known:
                self._count(t.untyped_storage())
        return found

    def _count(self, storage) -> None:
        key, size = storage.data_ptr(), storage.nbytes()
        self._known.add(key)
        self.now += size
        self.most = max(self.most, self.now)

        def release() -> None:
            self._known.discard(key)
            self.now -= size

        weakref.finalize(storage, release)


def measured(call: Callable, rounds: int) -> dict[str, float]:
    """Return median CPU milliseconds and peak MiB of a call."""
    with torch.inference_mode():
        call()  # the first scan of a process checks its kernel, which takes memory of its own
        with Peak() as peak:
            call()
        times = []
        for _ in range(rounds):
            start = time.process_time_ns()
            call()
            times.append((time.process_time_ns() - start) / 1e6)
    return {'cpu_ms': round(statistics.median(times), 3), 'mib': round(peak.most / 2**20, 2)}


def stacks(config: M3ETConfig) -> dict[str, HybridStack]:
    """Build the layers of a size, and stacks of as many layers of one kind."""
    count = len(config.schedule)
    made = {f'{config.name} ({config.schedule})': config.schedule, 'Transformer': 'T' * count, 'Mamba-2': 'M' * count}
    torch.manual_seed(0)
    return {
        name: HybridStack(
            d=config.d,
            schedule=schedule,
            heads=config.heads,
            mixer='mamba2',
            stages=1,
            mixer_options=config.mixer_options if config.mixer == 'mamba2' else {'N': 64},
        ).eval()
        for name, schedule in made.items()
    }


def frame(config: M3ETConfig, batch: int) -> Callable:
    """Return a call that encodes and decodes a batch of frames."""
    model, S = build(config).eval(), config.image_size
    images = {m: torch.randn(batch, channels, S, S) for m, channels in config.image_channels.items()}

    def run() -> list[Tensor]:
        encoded = model.add_text(model.encode_images(images))
        return [model.decode(encoded, task) for task in TASKS]

    return run


def plot(found: dict, path: Path) -> None:
    """Draw all figures on one sheet."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 3, figsize=(13, 7), layout='constrained')
    for axis, key, what in zip(axes[0], ('cpu_ms', 'mib'), ('CPU ms', 'peak MiB beyond weights')):
        for name, rows in found['tokens'].items():
            axis.loglog([int(n) for n in rows], [row[key] for row in rows.values()], marker='o', label=name)
        axis.set(xlabel='tokens', ylabel=what, title=f'Encoder layers: {what}')
        axis.legend()
        axis.grid(True, alpha=0.3)
    singles = ((axes[0][2], 'batch', 'frames at a time'), (axes[1][0], 'image', 'side of the image, pixels'))
    for axis, name, label in singles:
        rows = found[name]
        axis.plot([int(n) for n in rows], [row['cpu_ms'] for row in rows.values()], marker='o', color='C0')
        axis.set(xlabel=label, ylabel='CPU ms', ylim=(0, None), title=f'Whole frames: {name}')
        beside = axis.twinx()
        beside.plot([int(n) for n in rows], [row['mib'] for row in rows.values()], marker='s', color='C1')
        beside.set(ylabel='peak MiB (squares)', ylim=(0, None))
        axis.grid(True, alpha=0.3)
    robots = found['robots']
    for way in ('in turn', 'in one batch'):
        axes[1][1].plot([int(n) for n in robots], [row[way] for row in robots.values()], marker='o', label=way)
    axes[1][1].set(
        xlabel='robots on one engine', ylabel='CPU ms for one frame of each', ylim=(0, None), title='Robots on one core'
    )
    axes[1][1].legend()
    axes[1][1].grid(True, alpha=0.3)
    axes[1][2].axis('off')
    figure.savefig(path, dpi=90)


def main() -> None:
    """Measure, draw and write the figures."""
    parser = options(__doc__, rounds=3)
    parser.add_argument('--size', default='kitchen', choices=sorted(SIZES))
    parser.add_argument('--tokens', type=int, nargs='+', default=(98, 196, 392, 588, 1176, 2352, 4096))
    parser.add_argument('--batch', type=int, nargs='+', default=(1, 2, 4, 8))
    parser.add_argument(
        '--sides', type=int, nargs='+', help='sides of the image, multiples of the patch; default half to double'
    )
    parser.add_argument('--plot', type=Path, default=PLOT)
    asked = parser.parse_args()
    one_thread()
    use_built()
    config, found = SIZES[asked.size], {'rounds': asked.rounds, 'size': asked.size}
    found['tokens'] = {name: {} for name in stacks(config)}
    for name, stack in stacks(config).items():
        for L in asked.tokens:
            x = torch.randn(1, L, config.d)
            found['tokens'][name][str(L)] = measured(partial(stack, x), asked.rounds)
    found['batch'] = {str(n): measured(frame(config, n), asked.rounds) for n in asked.batch}
    sides = asked.sides or [config.grid * n // 4 * config.patch for n in (2, 3, 4, 6, 8)]
    found['image'] = {str(S): measured(frame(replace(config, image_size=S), 1), asked.rounds) for S in sides}
    one = found['batch'].get('1') or measured(frame(config, 1), asked.rounds)
    found['robots'] = {
        n: {'in turn': round(int(n) * one['cpu_ms'], 3), 'in one batch': row['cpu_ms']}
        for n, row in found['batch'].items()
    }
    plot(found, asked.plot)
    finish('scaling', found, asked.results)


if __name__ == '__main__':
    main()
