"""Shared by the benchmarks of speed: interleaved medians of CPU time, comparison of outputs, and the environment.

All variants run in one process, in turn, and each round begins with another one. The figure is the median CPU time of
the process on one thread, which other work on the machine affects least. Compare figures within one run only.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from m3et_ros.cli.output import format_table, print_status
from m3et_ros.data.files import write_atomically

RESULTS = Path(__file__).parent / 'results'


def options(doc: str, rounds: int = 9) -> argparse.ArgumentParser:
    """Build the options of all benchmarks of speed."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument('--rounds', type=int, default=rounds, help='measurements of each variant')
    parser.add_argument('--results', type=Path, help='JSON file to write; default in benchmarks/results')
    return parser


def one_thread() -> None:
    """Use one thread, and flush denormals as every compiled kernel does, so that only arithmetic is measured."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)


@contextmanager
def denormals_allowed() -> Iterator[None]:
    """Compile or load graphs of OpenVINO within this block, in a process that flushes denormals otherwise.

    While they are flushed, OpenVINO 2026.4 compiles the decoders of kitchen2 for words to wrong ones, off by 5e-2.
    """
    torch.set_flush_denormal(False)
    try:
        yield
    finally:
        torch.set_flush_denormal(True)


def interleaved(work: Mapping[str, Callable[[], Any]], rounds: int, what: str = '') -> dict[str, float]:
    """Return the median CPU milliseconds of each variant; every round runs each once."""
    names, times = list(work), {name: [] for name in work}
    for number in range(-1, rounds):
        turn = max(number, 0) % len(names)
        for name in names[turn:] + names[:turn]:
            start = time.process_time_ns()
            work[name]()
            if number >= 0:
                times[name].append((time.process_time_ns() - start) / 1e6)
        if what:
            print_status(f'{what}: round {number + 1} of {rounds}')
    return {name: round(statistics.median(found), 4) for name, found in times.items()}


def error(found: Tensor, wanted: Tensor) -> float:
    """Return the largest difference as a share of the largest wanted value."""
    found, wanted = (t.detach().double() for t in (found, wanted))
    return float((found - wanted).abs().max() / wanted.abs().max().clamp(min=1e-30))


def ratios(ms: Mapping[str, float], base: str) -> dict[str, float]:
    """Return the speed of each variant as a multiple of that of `base`."""
    return {name: round(ms[base] / value, 3) for name, value in ms.items() if name != base}


def environment() -> dict[str, Any]:
    """Describe versions and hardware, without a name or path of this machine."""
    versions = {}
    for name in ('torch', 'numpy', 'openvino', 'transformers'):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    known = torch.cpu.get_capabilities() if hasattr(torch.cpu, 'get_capabilities') else {}
    return {
        'python': platform.python_version(),
        **versions,
        'machine': platform.machine(),
        'cpu': cpu_name(),
        'cores': os.cpu_count(),
        'threads': 1,
        **{name: bool(known.get(name)) for name in ('avx512_f', 'avx512_vnni', 'avx512_bf16', 'amx_bf16')},
        'load': round(os.getloadavg()[0], 1),
        'note': 'shared machine: other jobs ran on all cores'
        if os.getloadavg()[0] > 1.5
        else 'otherwise quiet machine',
    }


def cpu_name() -> str:
    """Return the model name of the CPU as the kernel reports it."""
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        return platform.processor() or 'unknown'
    return next((line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')), 'unknown')


def finish(name: str, document: dict[str, Any], path: Path | None) -> None:
    """Write the result atomically and print its table."""
    path = path or RESULTS / f'{name}.json'
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {'benchmark': name, **document, 'environment': environment()}
    with write_atomically(path) as part:
        part.write_text(json.dumps(document, indent=2, allow_nan=False) + '\n', encoding='utf-8')
    for case, rows in document.get('cases', {}).items():
        print(f'\n{case}')
        print(
            format_table(
                [
                    ('variant', 'CPU ms', 'times', 'error'),
                    *(
                        (
                            variant,
                            f'{ms:.2f}',
                            rows['times_as_fast'].get(variant, ''),
                            rows.get('error', {}).get(variant, ''),
                        )
                        for variant, ms in rows['cpu_ms'].items()
                    ),
                ],
                right=(1, 2, 3),
            )
        )
    print(f'\nWritten: {path.name}')
