"""Measure many robots on one model: frames encoded and decoded one by one against several in a batch.

    python benchmarks/fleet.py                                  # writes benchmarks/results/fleet.json
    python benchmarks/fleet.py --device cuda --robots 1 8 32    # on a GPU

Every robot has its own thread and engine; all share one model and show frames at the same time, the best case for
batches. Without batches their steps run side by side. The figure is CPU time per frame with one thread of torch, on
CUDA wall time; the outputs of all sides are compared first. On a CPU the robots also run the graphs of OpenVINO, which
they share and which take one frame after another.

On a CPU the model alone is measured, too, by the frames of a batch: its arithmetic in a second as a share of what the
product of two large matrices reaches, and its time as one graph of OpenVINO for so many frames. Batches can gain no
more than what a single frame leaves of it.
"""

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
from timing import denormals_allowed, error, finish, interleaved, one_thread, options, ratios
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from m3et_ros.cli.output import print_status
from m3et_ros.data.checkpoints import DEFAULT_MODEL
from m3et_ros.data.frame import Frame
from m3et_ros.models.m3et.model import M3ET
from m3et_ros.runtime.backends import Setting, make
from m3et_ros.runtime.engine import Engine
from m3et_ros.runtime.open_model import open_checkpoint
from m3et_ros.runtime.shared_model import SharedModels

KINDS = {'each by itself': (0.0, 'torch'), 'in batches': (1.0, 'torch'), 'openvino, in turn': (0.0, 'openvino')}
"""Longest wait of a step in seconds, and runtime. A step never waits once all robots do, so the wait costs nothing."""
SETS = (('rgb', 'depth'),)
SIDE = 1024
"""Side of the square matrices whose product shows the peak of a core."""


def pictures(count: int) -> list[Frame]:
    """Return frames of noise and slopes, 640x480; their content does not affect the time."""
    rng = np.random.default_rng(0)
    depth = np.linspace(0.5, 3, 480 * 640, dtype=np.float32).reshape(480, 640)
    depth[100:300, 100:400] = np.nan  # a hole that the model fills
    return [Frame(rng.integers(0, 256, (480, 640, 3), np.uint8), depth, stamp_ns=n) for n in range(count)]


def robots(name: str, count: int, window_s: float, runtime: str, device: str) -> list[Engine]:
    """Open engines that share one model.

    Raises:
        SystemExit: the runtime cannot serve.
    """
    models = SharedModels(window_s=window_s, most=max(2, count))
    found = []
    for _ in range(count):
        checkpoint, shared = models.open(name)
        found.append(Engine(checkpoint, shared=shared, device=device))
        with denormals_allowed():
            serving = found[-1].prepare(runtime, device=device, modality_sets=SETS, report=print_status)
        if serving.name != runtime:
            raise SystemExit(serving.reason)
    return found


def run_fleet(engines: list[Engine], frames: list[Frame], pool: ThreadPoolExecutor, times: int) -> list:
    """Let every robot process its frame `times` times; return the last depth of each."""

    def process(engine: Engine, frame: Frame):
        for _ in range(times):
            result = engine.reconstruct(engine.encode(frame))
        return result.depth

    return list(pool.map(process, engines, frames))


def spent(clock: Callable[[], float], work: Callable[[], object]) -> float:
    """Return the milliseconds that some work takes by a clock."""
    start = clock()
    work()
    return 1e3 * (clock() - start)


class Reconstructed(nn.Module):
    """The dense outputs of a batch, without what surrounds the model."""

    def __init__(self, model: M3ET):
        super().__init__()
        self.model = model

    def forward(self, rgb: torch.Tensor, depth: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return depth and classes of images (B, 3, S, S) and their depth (B, 1 or 2, S, S)."""
        encoded = self.model.add_text(self.model.encode_images({'rgb': rgb, 'depth': depth}))
        return tuple(self.model.decode(encoded, task) for task in ('depth', 'semseg'))


def utilisation(name: str, sizes: list[int], rounds: int) -> dict[str, dict[str, float]]:
    """Measure the model on batches of several sizes, on one thread.

    Returns:
        For each number of frames: CPU milliseconds a frame, the products of a frame in GFLOP, those in a second,
        their share of the peak, and CPU milliseconds a frame in a graph of OpenVINO.
    """
    model = open_checkpoint(name).model.eval().requires_grad_(False)
    side, channels = model.config.image_size, model.config.image_channels['depth']
    rng = torch.Generator().manual_seed(0)
    backend = make('openvino', Setting('float32', 1, None))
    work: dict[str, Callable[[], object]] = {}
    operations: dict[str, int] = {}
    for size in sizes:
        given = [torch.randn(size, count, side, side, generator=rng) for count in (3, channels)]
        work[str(size)] = partial(Reconstructed(model), *given)
        with FlopCounterMode(display=False) as counter:
            work[str(size)]()
        operations[str(size)] = counter.get_total_flops()
        print_status(f'a graph for {size} frames is being built')
        with denormals_allowed():
            work[f'openvino {size}'] = partial(backend.build(str(size), Reconstructed(model), tuple(given)), *given)
    square = torch.randn(SIDE, SIDE, generator=rng)
    work['peak'], operations['peak'] = partial(torch.mm, square, square), 2 * SIDE**3
    ms = interleaved(work, rounds, 'the model alone')
    reached = {key: operations[key] / ms[key] / 1e6 for key in operations}
    return {
        key: {
            'cpu_ms_a_frame': round(ms[key] / int(key), 3),
            'gflop_a_frame': round(operations[key] / int(key) / 1e9, 3),
            'gflop_a_second': round(reached[key], 1),
            'share_of_peak': round(reached[key] / reached['peak'], 3),
            'openvino_cpu_ms_a_frame': round(ms[f'openvino {key}'] / int(key), 3),
        }
        for key in map(str, sizes)
    }


def main() -> None:
    """Measure and write the figures."""
    parser = options(__doc__, rounds=5)
    parser.add_argument('--model', default=DEFAULT_MODEL)
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--robots', type=int, nargs='+', default=[1, 2, 4, 8])
    parser.add_argument('--frames', type=int, default=8, help='frames of each robot in a round')
    asked = parser.parse_args()
    one_thread()
    clock = time.process_time if asked.device == 'cpu' else time.perf_counter
    kinds = {kind: how for kind, how in KINDS.items() if how[1] == 'torch' or asked.device == 'cpu'}
    found = {}
    for count in asked.robots:
        frames = pictures(count)
        fleets = {kind: robots(asked.model, count, *how, asked.device) for kind, how in kinds.items()}
        with ThreadPoolExecutor(count) as pool:
            depths = {k: torch.from_numpy(np.stack(run_fleet(f, frames, pool, 1))) for k, f in fleets.items()}
            wrong = {k: float(f'{error(found, depths["each by itself"]):.1e}') for k, found in depths.items()}
            ms = {kind: [] for kind in fleets}
            for number in range(asked.rounds):
                for kind in list(fleets)[:: 1 if number % 2 else -1]:
                    ms[kind].append(spent(clock, partial(run_fleet, fleets[kind], frames, pool, asked.frames)))
                print_status(f'{count} robots: round {number + 1} of {asked.rounds}')
        medians = {kind: round(statistics.median(values) / (count * asked.frames), 4) for kind, values in ms.items()}
        found[f'{count} robots, {asked.model}, a frame'] = {
            'cpu_ms': medians,
            'times_as_fast': ratios(medians, 'each by itself'),
            'error': {kind: off for kind, off in wrong.items() if kind != 'each by itself'},
        }
    result = {'device': asked.device, 'rounds': asked.rounds, 'cases': found}
    if asked.device == 'cpu':
        result |= {'model': asked.model, 'alone': utilisation(asked.model, asked.robots, asked.rounds)}
    finish('fleet', result, asked.results)


if __name__ == '__main__':
    main()
