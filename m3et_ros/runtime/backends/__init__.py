"""Runtimes of the model behind one interface: torch as it is, torch compiled ahead, OpenVINO, or CUDA graphs.

A backend turns a graph (graphs.py: a module of fixed shapes, with example inputs) into a function of tensors. Graphs
take and return float32 in any internal precision, so that torch can continue where they end. No backend serves before
check.py has compared it with eager float32.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from m3et_ros.models.m3et.model import M3ET
from m3et_ros.ops import native

RUNTIMES = ('auto', 'torch', 'compile', 'openvino', 'cuda')
"""Values of the parameter `runtime`."""


Runner = Callable[..., list[Tensor]]
"""A graph that runs: tensors in the order of the example in, tensors of their own memory out."""


@dataclass(frozen=True)
class Setting:
    """Settings of the build of graphs."""

    # Arithmetic inside the graphs: one of PRECISIONS.
    precision: str
    # CPU threads, 1 or more.
    threads: int
    # Folder of compiled artefacts of this model, these versions and this CPU; None stores nothing.
    folder: Path | None
    # For int8: takes a converted model of OpenVINO and the name of its graph, and returns it quantised.
    quantise: Callable[[Any, str], Any] | None = None


class Backend(Protocol):
    """The interface of a backend; each has a file of this folder."""

    # As in RUNTIMES.
    name: str
    # True if the backend itself lowers the arithmetic; else it gets a model of the wanted dtype.
    lowers: bool
    # 'cpu' or 'cuda': where its inputs and outputs are.
    device: str

    def build(self, name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> Runner:
        """Make one graph run.

        Args:
            name: name of the graph; artefacts are stored under it.
            module: module with fixed shapes, in eval mode.
            inputs: examples, in order.

        Raises:
            Exception: whatever the library raises; the caller falls back and reports it.
        """


def missing(name: str) -> str:
    """Return the reason why a runtime is not available here, with the fix; '' where it is."""
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


def unfit(name: str, model: M3ET) -> str:
    """Return the reason why a runtime cannot run this M3ET; '' where it can."""
    if name == 'openvino' and model.config.mixer == 'mamba1' and 'M' in model.config.schedule and not native.loaded():
        return (
            'OpenVINO has no operation for the scans of Mamba-1, and the native scans are not loaded: m3et build '
            'kernels, or take a size with Mamba-2, such as base_ssd'
        )
    if name != 'torch' and model.config.images_hear:
        return 'the graph of the images cannot be shared, as they hear the words (images_hear); runtime torch runs them'
    return ''


def automatic(device: str) -> str:
    """Return the runtime that `auto` selects: CUDA graphs on CUDA; on a CPU OpenVINO where installed, else torch.

    OpenVINO took half the CPU time of eager torch on the shipped model, in float32, and less than eager bfloat16
    (benchmarks/results/runtimes.json). Compiling ahead takes minutes on first use, so it is never chosen unasked.
    The environment variable M3ET_RUNTIME names another choice.
    """
    if named := os.environ.get('M3ET_RUNTIME'):
        return named
    if device == 'cuda':
        return 'cuda'
    return 'torch' if missing('openvino') else 'openvino'


def waits_for_openvino(model: M3ET, device: str) -> bool:
    """Return whether `auto` selects OpenVINO for a model on 'cpu' or 'cuda', so that its graphs must be made first."""
    name = automatic(device)
    return name == 'openvino' and device == 'cpu' and not missing(name) and not unfit(name, model)


def make(name: str, setting: Setting) -> Backend:
    """Return the backend of a name of RUNTIMES, except auto and torch."""
    if name == 'openvino':
        from m3et_ros.runtime.backends.openvino import OpenVino

        return OpenVino(setting)
    if name == 'compile':
        from m3et_ros.runtime.backends.compiled import Compiled

        return Compiled(setting)
    from m3et_ros.runtime.backends.cuda import CudaGraphs

    return CudaGraphs(setting)
