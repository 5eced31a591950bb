"""Build and store the graphs of a model for OpenVINO: the program of a child.

    python -P -m m3et_ros.runtime.backends.builder

Its input is a line of JSON (config, precision, threads, nice, folder, modality_sets, guides, adaptive, bytes) and the
weights as safetensors. `nice` is its priority as nice(1) counts it.
It prints a line of JSON for each line of progress, {"report": ...}, and at the end {"done": true} or {"failed": ...}.
Only runtime.backends.background starts it. It ends when its input ends, and so with its parent.
"""

import json
import os
import signal
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

import torch
from safetensors.torch import load

from m3et_ros.models.m3et.config import M3ETConfig
from m3et_ros.models.m3et.model import M3ET
from m3et_ros.models.m3et.sizes import build
from m3et_ros.runtime.backends import Setting
from m3et_ros.runtime.backends.openvino import OpenVino
from m3et_ros.runtime.backends.prepared import build_graphs
from m3et_ros.runtime.machine import private_folder


def store_graphs(asked: Mapping[str, Any], model: M3ET, out: TextIO) -> None:
    """Build the graphs of a model into a folder.

    Args:
        asked: precision, threads, folder, modality_sets, guides and adaptive, as the module says.
        model: in float32, in eval mode.
        out: gets the lines of progress.

    Raises:
        InputError: the folder cannot be made.
        Exception: whatever OpenVino.build raises.
    """

    def report(line: str) -> None:
        print(json.dumps({'report': line}), file=out, flush=True)

    folder = private_folder(Path(asked['folder']))  # refused now and not after the first graph
    backend = OpenVino(Setting(asked['precision'], asked['threads'], folder))
    sets = [tuple(modalities) for modalities in asked['modality_sets']]
    guides = asked['guides'] and tuple(asked['guides'])
    build_graphs(model, backend, asked['precision'], 'cpu', sets, report, guides, asked['adaptive'])


def yield_cpu(nice: int) -> None:
    """Give way to other processes, also where Linux shares the CPU among sessions before it looks at priorities."""
    os.nice(nice)
    with suppress(OSError):  # a kernel without groups of sessions, or another system
        Path('/proc/self/autogroup').write_text(str(nice))


def main() -> int:
    """Read the model and build it; return 1 where that fails."""
    given, out = sys.stdin.buffer, os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)  # what a library prints must not stand between the lines
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this process
    asked = json.loads(given.readline())
    yield_cpu(asked['nice'])
    model = build(M3ETConfig.from_dict(asked['config'])).eval()
    model.load_state_dict(load(given.read(asked['bytes'])))
    threading.Thread(target=lambda: (given.read(), os._exit(1)), daemon=True).start()
    torch.set_num_threads(asked['threads'])
    try:
        store_graphs(asked, model, out)
    except Exception as error:
        print(json.dumps({'failed': f'{type(error).__name__}: {error}'}), file=out, flush=True)
        return 1
    print(json.dumps({'done': True}), file=out, flush=True)
    return 0


if __name__ == '__main__':
    # Nothing is left to be saved, and tearing torch down takes seconds on a busy machine.
    os._exit(main())
