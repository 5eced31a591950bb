"""Many robots on one model: frames encoded and decoded each by itself, or several in one batch.

    python benchmarks/fleet.py                                  # writes benchmarks/results/fleet.json
    python benchmarks/fleet.py --device cuda --robots 1 8 32    # where there is one

Every robot has a thread and an engine of its own; the model is one. All show a frame at the same time, again and again:
the best case for batches. Without batches their steps run side by side, as torch lets them. The figure is CPU time a
frame with one thread of torch, on CUDA wall time; what both sides compute is compared first.
"""

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from timing import error, finish, one_thread, options, ratios

from m3et_ros.cli.output import note
from m3et_ros.data.frame import Frame
from m3et_ros.runtime.engine import Engine
from m3et_ros.runtime.shared_model import SharedModels

WINDOWS = {'each by itself': 0.0, 'in batches': 1.0}
"""Seconds that a step waits; where all wait nobody waits any longer, so that it costs nothing here."""


def pictures(count: int) -> list[Frame]:
    """Frames of noise and slopes, 640x480; what they show does not matter for the time."""
    rng = np.random.default_rng(0)
    depth = np.linspace(0.5, 3, 480 * 640, dtype=np.float32).reshape(480, 640)
    depth[100:300, 100:400] = np.nan  # which the model fills
    return [Frame(rng.integers(0, 256, (480, 640, 3), np.uint8), depth, stamp_ns=n) for n in range(count)]


def robots(name: str, count: int, window_s: float, device: str) -> list[Engine]:
    """Engines that share one model."""
    models = SharedModels(window_s=window_s, most=max(2, count))
    found = []
    for _ in range(count):
        checkpoint, shared = models.open(name)
        found.append(Engine(checkpoint, shared=shared, device=device))
    return found


def shown(engines: list[Engine], frames: list[Frame], pool: ThreadPoolExecutor, times: int) -> list:
    """Let every robot see its frame `times` times; the last depth of each."""

    def watch(engine: Engine, frame: Frame):
        for _ in range(times):
            result = engine.reconstruct(engine.encode(frame))
        return result.depth

    return list(pool.map(watch, engines, frames))


def spent(clock: Callable[[], float], work: Callable[[], object]) -> float:
    """Milliseconds of a clock."""
    start = clock()
    work()
    return 1e3 * (clock() - start)


def main() -> None:
    """Measure and write."""
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
        frames, fleets = (
            pictures(count),
            {kind: robots(asked.model, count, window, asked.device) for kind, window in WINDOWS.items()},
        )
        with ThreadPoolExecutor(count) as pool:
            alone, together = (np.stack(shown(fleet, frames, pool, 1)) for fleet in fleets.values())
            wrong = error(torch.from_numpy(together), torch.from_numpy(alone))
            ms = {kind: [] for kind in fleets}
            for number in range(asked.rounds):
                for kind in list(fleets)[:: 1 if number % 2 else -1]:
                    ms[kind].append(spent(clock, lambda: shown(fleets[kind], frames, pool, asked.frames)))
                note(f'{count} robots: round {number + 1} of {asked.rounds}')
        medians = {kind: round(statistics.median(values) / (count * asked.frames), 4) for kind, values in ms.items()}
        found[f'{count} robots, {asked.model}, a frame'] = {
            'cpu_ms': medians,
            'times_as_fast': ratios(medians, 'each by itself'),
            'error': {'in batches': float(f'{wrong:.1e}')},
        }
    finish('fleet', {'device': asked.device, 'rounds': asked.rounds, 'cases': found}, asked.results)


if __name__ == '__main__':
    main()
