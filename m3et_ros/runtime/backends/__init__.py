"""What runs the model: torch as it is, torch compiled ahead, OpenVINO, or CUDA graphs; one interface for all.

A backend turns a graph (graphs.py: a module of fixed shapes, with example inputs) into a function of tensors. Graphs
take and give float32 whatever they calculate in, so what the graphs do not cover goes on in torch. None is trusted
unseen: check.py compares each with eager float32 first.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor, nn

RUNTIMES = ('auto', 'torch', 'compile', 'openvino', 'cuda')
"""What the parameter `runtime` may be."""

Runner = Callable[..., list[Tensor]]
"""A graph that runs: tensors in the order of the example in, tensors of their own memory out."""


@dataclass(frozen=True)
class Setting:
    """How graphs are to be built."""

    # Arithmetic inside the graphs: 'float32' or 'bfloat16'.
    precision: str
    # CPU threads, 1 or more.
    threads: int
    # Folder of compiled artefacts of this model, these versions and this CPU; None keeps nothing.
    folder: Path | None


class Backend(Protocol):
    """What a file of this folder offers."""

    # As in RUNTIMES.
    name: str
    # Whether the backend itself lowers the arithmetic; else the model that it is given has the wanted dtype.
    lowers: bool
    # 'cpu' or 'cuda': where its inputs and outputs are.
    device: str

    def build(self, name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> Runner:
        """Make one graph run.

        Args:
            name: of the graph; artefacts are kept under it.
            module: of fixed shapes, in eval mode.
            inputs: examples, in order.

        Raises:
            Exception: whatever the library raises; the caller falls back and says so.
        """


def missing(name: str) -> str:
    """Why a runtime cannot be had here, in words with the fix; '' where it can."""
    if name == 'openvino':
        from m3et_ros.runtime.backends import openvino

        return openvino.missing()
    if name == 'compile':
        from m3et_ros.runtime.backends import compiled

        return compiled.missing()
    if name == 'cuda':
        from m3et_ros.runtime.backends import cuda

        return cuda.missing()
    return ''


def unfit(name: str, model: nn.Module) -> str:
    """Why a runtime cannot run this M3ET, in words; '' where it can."""
    if name == 'openvino' and model.config.mixer == 'mamba1' and 'M' in model.config.schedule:
        return 'OpenVINO knows no operation for the scans of Mamba-1; take a size with Mamba-2, such as base_ssd'
    return ''


def automatic(device: str) -> str:
    """What `auto` stands for: CUDA graphs on CUDA; on a CPU OpenVINO where installed, else torch as it is.

    OpenVINO took half the CPU time of eager torch on the shipped model, in float32, and less than eager bfloat16
    (benchmarks/results/runtimes.json); compiling ahead takes minutes on first use, so nobody gets it unasked.
    The environment variable M3ET_RUNTIME names another choice.
    """
    if named := os.environ.get('M3ET_RUNTIME'):
        return named
    if device == 'cuda':
        return 'cuda'
    return 'torch' if missing('openvino') else 'openvino'


def make(name: str, setting: Setting) -> Backend:
    """The backend of a name of RUNTIMES, except auto and torch."""
    if name == 'openvino':
        from m3et_ros.runtime.backends.openvino import OpenVino

        return OpenVino(setting)
    if name == 'compile':
        from m3et_ros.runtime.backends.compiled import Compiled

        return Compiled(setting)
    from m3et_ros.runtime.backends.cuda import CudaGraphs

    return CudaGraphs(setting)
