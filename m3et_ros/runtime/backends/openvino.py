"""OpenVINO on the CPU: the chunked scans exported by torch, compiled to one stored blob per graph.

The same library serves Intel GPUs: M3ET_OPENVINO_DEVICE=GPU asks for one.
"""

import importlib.util
import logging
import os
import sys
import warnings
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn

from m3et_ros.data.files import write_atomically
from m3et_ros.ops.dispatch import traced
from m3et_ros.runtime.backends import Runner, Setting
from m3et_ros.runtime.machine import foreign, private_folder

LOG = logging.getLogger(__name__)
_CORES: list[Any] = []
_CORES_LOCK = Lock()


def missing() -> str:
    """Return the reason why this backend is not available; '' where it is."""
    if importlib.util.find_spec('openvino') is None:
        return 'OpenVINO is not installed: pip install openvino'
    return ''


def without_telemetry() -> None:
    """Let OpenVINO and its packages, imported after this, do without telemetry, by which they report their use."""
    absent: Any = None
    sys.modules.setdefault('openvino_telemetry', absent)


def core() -> Any:
    """Return the Core of this process, which every backend shares and nothing destroys.

    The CPU plugin of a Core gives the thread that loads it another stack for signal handlers. It unmaps that stack with
    the Core, even while the thread has it (OpenVINO 2026.4): after two Cores a signal ends the process, or overwrites
    what has been mapped there since.
    """
    without_telemetry()
    import openvino

    with _CORES_LOCK:
        if not _CORES:
            from m3et_ros.runtime.backends.openvino_scan import SelectiveScan

            made = openvino.Core()
            made.add_extension(SelectiveScan)
            _CORES.append(made)
        return _CORES[0]


class OpenVino:
    """One compiled model per graph."""

    name, lowers, device = 'openvino', True, 'cpu'

    def __init__(self, setting: Setting):
        self._core, self._setting = core(), setting
        import openvino

        self._ov = openvino
        self._target = os.environ.get('M3ET_OPENVINO_DEVICE', 'CPU')
        self._options: dict[str, str | int] = {
            'INFERENCE_PRECISION_HINT': 'bf16' if setting.precision == 'bfloat16' else 'f32',
            'PERFORMANCE_HINT': 'LATENCY',
        }
        if self._target == 'CPU':
            self._options['INFERENCE_NUM_THREADS'] = setting.threads

    def stored(self, name: str) -> Runner | None:
        """Load the stored blob of a graph; None where there is none that can be read."""
        blob = self._blob(name)
        if blob is None or not blob.exists() or foreign(blob):
            return None
        try:
            return self._runner(self._core.import_model(blob.read_bytes(), self._target, self._options))
        except RuntimeError as error:
            LOG.warning('%s cannot be read (%s); it is made anew.', blob.name, str(error).splitlines()[0])
            return None

    def build(self, name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> Runner:
        """Load the stored blob, or else export, compile and store."""
        if (run := self.stored(name)) is not None:
            return run
        from m3et_ros.runtime.backends.openvino_scan import CONVERSION, traced_scan

        with torch.no_grad(), warnings.catch_warnings():
            # Both libraries warn of their own code, which no user of a robot can change.
            warnings.simplefilter('ignore')
            # The chunked scan of Mamba-2 becomes operations of OpenVINO; that of Mamba-1 is one of ours.
            with traced('selective_scan', traced_scan):
                exported = torch.export.export(module, inputs, strict=False)
            model = self._ov.convert_model(exported, extension=[CONVERSION])
        model.reshape({index: list(t.shape) for index, t in enumerate(inputs)})  # the conversion drops the shapes
        if self._setting.quantise is not None:
            model = self._setting.quantise(model, name)
        compiled = self._core.compile_model(model, self._target, self._options)
        if (blob := self._blob(name)) is not None:
            write_whole(blob, compiled.export_model())
        return self._runner(compiled)

    def _blob(self, name: str) -> Path | None:
        return self._setting.folder / f'{name}.blob' if self._setting.folder else None

    def _runner(self, compiled: Any) -> Runner:
        request, Shared, lock = compiled.create_infer_request(), self._ov.Tensor, Lock()
        # The library allocates outputs whose shape it does not know; those are copied.
        shapes = [None if output.partial_shape.is_dynamic else tuple(output.shape) for output in compiled.outputs]

        def run(*inputs: Tensor) -> list[Tensor]:
            held = [t.detach().contiguous().numpy() for t in inputs]
            # Fresh memory for each call, as outputs outlive the next call; nothing is copied.
            outputs = [None if shape is None else torch.empty(shape) for shape in shapes]
            with lock:  # a request serves one thread, and engines of several threads may share a model
                for index, array in enumerate(held):
                    request.set_input_tensor(index, Shared(array, shared_memory=True))
                for index, output in enumerate(outputs):
                    if output is not None:
                        request.set_output_tensor(index, Shared(output.numpy(), shared_memory=True))
                request.infer()
                return [
                    torch.from_numpy(request.get_output_tensor(index).data.copy()) if output is None else output
                    for index, output in enumerate(outputs)
                ]

        return run


def write_whole(path: Path, content: Any) -> None:
    """Write an artefact, bytes or a stream, so that the file is whole or absent."""
    private_folder(path.parent)
    with write_atomically(path) as part:
        part.write_bytes(content.getvalue() if hasattr(content, 'getvalue') else content)
