"""torch.compile ahead of time (AOTInductor): static shapes, frozen and packed weights, one stored package per graph.

Needs a C++ compiler and, the first time, minutes; after that a package loads without compiling.
"""

import os
from pathlib import Path

import torch
from torch import Tensor, nn

from m3et_ros.runtime.backends import Runner, Setting
from m3et_ros.runtime.machine import cache, compiler, foreign, private_folder


def missing() -> str:
    """Return the reason why this backend is not available; '' where it is."""
    if not hasattr(torch._inductor, 'aoti_compile_and_package'):
        return f'torch {torch.__version__} cannot compile ahead of time: pip install torch>=2.6'
    return '' if compiler() else 'there is no C++ compiler: apt-get install g++'


class Compiled:
    """One package of native code per graph."""

    name, lowers, device = 'compile', False, 'cpu'

    def __init__(self, setting: Setting):
        self._setting = setting
        # By default torch shares a folder in the place for temporary files, where others may put code first.
        os.environ.setdefault('TORCHINDUCTOR_CACHE_DIR', str(private_folder(cache() / 'inductor')))

    def build(self, name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> Runner:
        """Load the stored package, or else export, compile and store."""
        folder = self._setting.folder
        if folder is None:
            package = compile_package(module, inputs)
        else:
            stored = folder / f'{name}.pt2'
            package = str(stored)
            private_folder(folder)
            if not stored.exists() or foreign(stored):
                # The package moves to its place once it is whole.
                os.replace(compile_package(module, inputs, folder / f'{name}.{os.getpid()}.pt2'), stored)
        loaded = torch._inductor.aoti_load_package(package)

        def run(*inputs: Tensor) -> list[Tensor]:
            # Outputs may be buffers of the package, which its next call would overwrite.
            return [t.clone() for t in loaded(*(t.contiguous() for t in inputs))]

        return run


def compile_package(module: nn.Module, inputs: tuple[Tensor, ...], path: Path | None = None) -> str:
    """Export and compile a module; returns the path of the package, which torch chooses where `path` is None."""
    with torch.no_grad():
        # The code reads memory in the strides of the examples, even if later inputs have others.
        exported = torch.export.export(module, tuple(t.contiguous() for t in inputs), strict=False)
        return torch._inductor.aoti_compile_and_package(
            exported, package_path=None if path is None else str(path), inductor_configs={'freezing': True}
        )
