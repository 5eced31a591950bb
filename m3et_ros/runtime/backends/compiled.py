"""torch.compile ahead of time (AOTInductor): static shapes, frozen and packed weights, one package a graph, kept.

Needs a C++ compiler and, the first time, minutes; after that a package loads without compiling.
"""

import os

import torch
from torch import Tensor, nn

from m3et_ros.runtime.backends import Runner, Setting
from m3et_ros.runtime.kernels import compiler


def missing() -> str:
    """Why it cannot be had; '' where it can."""
    if not hasattr(torch._inductor, 'aoti_compile_and_package'):
        return f'torch {torch.__version__} cannot compile ahead of time: pip install torch>=2.6'
    return '' if compiler() else 'there is no C++ compiler: apt-get install g++'


class Compiled:
    """One package of native code a graph."""

    name, lowers, device = 'compile', False, 'cpu'

    def __init__(self, setting: Setting):
        self._setting = setting

    def build(self, name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> Runner:
        """The kept package where there is one, else export, compile and keep."""
        folder = self._setting.folder
        path = folder / f'{name}.pt2' if folder else None
        if path is None or not path.exists():
            with torch.no_grad():
                # The code reads memory in the strides of the examples, whatever it is given later.
                exported = torch.export.export(module, tuple(t.contiguous() for t in inputs), strict=False)
                # Inductor writes where it is told; the package moves to its place when it is whole.
                part = str(path.with_name(f'{name}.{os.getpid()}.pt2')) if path else None
                if path is not None:
                    folder.mkdir(parents=True, exist_ok=True)
                made = torch._inductor.aoti_compile_and_package(
                    exported, package_path=part, inductor_configs={'freezing': True}
                )
                path = path or made
                if part is not None:
                    os.replace(made, path)
        loaded = torch._inductor.aoti_load_package(str(path))

        def run(*inputs: Tensor) -> list[Tensor]:
            # Outputs may be buffers of the package, which its next call would write over.
            return [t.clone() for t in loaded(*(t.contiguous() for t in inputs))]

        return run
