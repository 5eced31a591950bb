"""Measure many robots on one model: frames encoded and decoded one by one against several in a batch.

    python benchmarks/fleet.py                                  # writes benchmarks/results/fleet.json
    python benchmarks/fleet.py --device cuda --robots 1 8 32    # on a GPU

Every robot has its own thread and engine; all share one model and show frames at the same time, the best case for
batches. Without batches their steps run side by side. The figure is CPU time per frame with one thread of torch, on
CUDA wall time; the outputs of both sides are compared first.
"""

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
from timing import error, finish, one_thread, options, ratios

from m3et_ros.cli.output import print_status
from m3et_ros.data.frame import Frame
from m3et_ros.runtime.engine import Engine
from m3et_ros.runtime.shared_model import SharedModels

WINDOWS = {'each by itself': 0.0, 'in batches': 1.0}
"""Longest wait of a step in seconds. A step never waits once all robots do, so the wait costs nothing here."""


def pictures(count: int) -> list[Frame]:
    """Return frames of noise and slopes, 640x480; their content does not affect the time."""
    rng = np.random.default_rng(0)
    depth = np.linspace(0.5, 3, 480 * 640, dtype=np.float32).reshape(480, 640)
    depth[100:300, 100:400] = np.nan  # a hole that the model fills
    return [Frame(rng.integers(0, 256, (480, 640, 3), np.uint8), depth, stamp_ns=n) for n in range(count)]


def robots(name: str, count: int, window_s: float, device: str) -> list[Engine]:
    """Open engines that share one model."""
    models = SharedModels(window_s=window_s, most=max(2, count))
    found = []
    for _ in range(count):
        checkpoint, shared = models.open(name)
        found.append(Engine(checkpoint, shared=shared, device=device))
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


def main() -> None:
    """Measure and write the figures."""
    parser = options(__doc__, rounds=5)
    parser.add_argument('--model', default='kitchen')
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--robots', type=int, nargs='+', default=[1, 2, 4, 8])
    parser.add_argument('--frames', type=int, default=8, help='frames of each robot in a round')
    asked = parser.parse_args()
    one_thread()
    clock = time.process_time if asked.device == 'cpu' else time.perf_counter
    found = {}
    for count in asked.robots:
        frames = pictures(count)
        fleets = {kind: robots(asked.model, count, window, asked.device) for kind, window in WINDOWS.items()}
        with ThreadPoolExecutor(count) as pool:
            alone, together = (np.stack(run_fleet(fleet, frames, pool, 1)) for fleet in fleets.values())
            wrong = error(torch.from_numpy(together), torch.from_numpy(alone))
            ms = {kind: [] for kind in fleets}
            for number in range(asked.rounds):
                for kind in list(fleets)[:: 1 if number % 2 else -1]:
                    ms[kind].append(spent(clock, partial(run_fleet, fleets[kind], frames, pool, asked.frames)))
                print_status(f'{count} robots: round {number + 1} of {asked.rounds}')
        medians = {kind: round(statistics.median(values) / (count * asked.frames), 4) for kind, values in ms.items()}
        found[f'{count} robots, {asked.model}, a frame'] = {
            'cpu_ms': medians,
            'times_as_fast': ratios(medians, 'each by itself'),
            'error': {'in batches': float(f'{wrong:.1e}')},
        }
    finish('fleet', {'device': asked.device, 'rounds': asked.rounds, 'cases': found}, asked.results)


if __name__ == '__main__':
    main()
