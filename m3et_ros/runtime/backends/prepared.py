"""M3ET with graphs that a backend runs: how graphs are built, checked against eager float32, and used."""

import copy
import hashlib
import logging
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from m3et_ros import __version__
from m3et_ros.models.m3et.config import MODALITIES
from m3et_ros.models.m3et.encoding import (
    GLOBAL,
    TEXT,
    Encoded,
    HeldEncoding,
    ImageEncoding,
    joined,
    raster_ids,
    sources,
)
from m3et_ros.models.m3et.model import M3ET
from m3et_ros.runtime import backends
from m3et_ros.runtime.backends import Runner, Setting, check, int8
from m3et_ros.runtime.backends.graphs import (
    TextlessImageEncoding,
    decoder_inputs,
    flat_held,
    graphs,
    part_kind,
    restored_held,
    text_inputs,
    text_kind,
)
from m3et_ros.runtime.backends.int8 import CalibrationCache
from m3et_ros.runtime.machine import cache, cpu_facts

LOG = logging.getLogger(__name__)
DTYPES = {'float32': torch.float32, 'bfloat16': torch.bfloat16, 'int8': torch.float32}
"""Arithmetic of torch in each precision; int8 is one of graphs, and torch computes in float32 beside them."""
MODALITY_SETS = (('rgb', 'depth'), ('rgb',))
"""Sets of image modalities that a robot's frames have."""
SOURCE_FOLDERS = ('ops', 'layers', 'models', 'runtime/backends')
"""Sources on which a compiled artefact depends."""


@dataclass(frozen=True)
class Serving:
    """The runtime that serves, and why."""

    # One of RUNTIMES except auto.
    name: str
    # In words; begins with the runtime asked for where that cannot serve.
    reason: str
    # True if it replaces one that should serve and cannot.
    fallback: bool = False


class Prepared:
    """An M3ET whose images, text and dense tasks run through graphs.

    Inputs that no graph covers run in torch on the same weights.

    Args:
        model: in eval mode.
        runners: graphs by Graph.key.
        name: name of the runtime.
        device: 'cpu' or 'cuda'.
    """

    def __init__(self, model: M3ET, runners: Mapping[tuple, Runner], name: str, device: str = 'cpu'):
        self.name, self.device = name, device
        self._model, self.runners = model, dict(runners)

    def encode_images(self, images: Mapping[str, Tensor]) -> ImageEncoding:
        """Encode images as M3ET.encode_images does."""
        return self.encode_changed(images).image_encoding

    def encode_changed(
        self, images: Mapping[str, Tensor], indices: Tensor | None = None, held: HeldEncoding | None = None
    ) -> HeldEncoding:
        """Encode some patches of images anew, or all, as M3ET.encode_changed does."""
        modalities = tuple(m for m in MODALITIES if m in images)
        kind = 'encode_images' if indices is None else part_kind(len(indices))
        run, config = self.runners.get((kind, modalities, False)), self._model.config
        if run is None or len(images[modalities[0]]) != 1:
            return self._model.encode_changed(images, indices, held)
        inputs = [images[m].float() for m in modalities]
        if indices is not None and held is not None:
            inputs += [indices, *flat_held(held, config)]
        return restored_held(run(*inputs), config, modalities)

    def part_counts(self, modalities: Sequence[str]) -> list[int]:
        """Return how many patches of a frame of these modalities graphs encode anew, rising; [] without such graphs."""
        counts = range(1, len(modalities) * self._model.config.image_tokens)
        return [count for count in counts if (part_kind(count), tuple(modalities), False) in self.runners]

    def add_text(
        self, image_encoding: ImageEncoding, text: Tensor | None = None, text_mask: Tensor | None = None
    ) -> Encoded:
        """Encode text after images as M3ET.add_text does."""
        if text is None and isinstance(image_encoding, TextlessImageEncoding):
            last = image_encoding.global_stages[-1]
            alone = Encoded(
                list(image_encoding.global_stages),
                sources(last, GLOBAL),
                None,
                {},
                {},
                raster_ids(last),
                places=image_encoding.global_places,
                look=image_encoding.global_look,
            )
            return joined(image_encoding, alone)
        return joined(image_encoding, self.encode_text(image_encoding, text, text_mask))

    def encode_text(
        self, image_encoding: ImageEncoding, text: Tensor | None, text_mask: Tensor | None = None
    ) -> Encoded:
        """Encode words after images as M3ET.encode_text does."""
        run = None if text is None else self.runners.get((text_kind(text), tuple(image_encoding.tokens), True))
        whole = len(image_encoding.source) == 1 and image_encoding.valid is None
        if run is None or text is None or text_mask is None or not whole:
            return self._model.encode_text(image_encoding, text, text_mask)
        *stages, valid = run(*text_inputs(image_encoding, text, text_mask))
        look = stages.pop() if self._model.config.look_parts else None
        places = stages.pop() if self._model.config.places else None
        tokens = self._model.adapters['text'](text)
        source = torch.cat([sources(tokens, TEXT), sources(stages[-1][:, -1:], GLOBAL)], 1)
        position_ids = F.pad(text_mask.int().argsort(stable=True, dim=1), (0, 1))
        return Encoded(
            stages, source, valid > 0, {'text': tokens}, {'text': text_mask}, position_ids, text_mask, places, look
        )

    def decode(self, encoded: Encoded, task: str) -> Tensor:
        """Predict as M3ET.decode does."""
        modalities, with_text = tuple(m for m in encoded.tokens if m != 'text'), 'text' in encoded.tokens
        run = self.runners.get((task, modalities, with_text))
        config, valid = self._model.config, encoded.valid
        count = len(modalities) * config.image_tokens + 1
        if with_text:
            count += config.text_length
        if run is None or encoded.context.shape[:2] != (1, count) or (valid is not None) != with_text:
            return self._model.decode(encoded, task)
        return run(*decoder_inputs(encoded, task, config))[0]


def prepare(
    model: M3ET,
    runtime: str,
    *,
    precision: str = 'float32',
    device: str = 'cpu',
    modality_sets: Sequence[Sequence[str]] = MODALITY_SETS,
    guides: tuple[int, int] | None = None,
    adaptive: bool = False,
    store: bool = True,
    calibration: CalibrationCache | None = None,
    report: Callable[[str], None] = LOG.info,
) -> tuple[Prepared | None, Serving]:
    """Build all graphs of a runtime and compare them with eager float32; torch serves where any of it fails.

    Args:
        model: in float32, on `device`, in eval mode; it stays as it is.
        runtime: one of RUNTIMES.
        precision: arithmetic of the graphs, one of PRECISIONS.
        device: 'cpu' or 'cuda'.
        modality_sets: sets of image modalities to build for.
        guides: number and length of the texts that heads read of every frame; None = there are none.
        adaptive: also build graphs that encode parts of a frame, for adaptive tokens.
        store: read and write artefacts in the user's cache; int8 needs it.
        calibration: for int8, the calibration by which missing graphs are built; None takes those of the last build.
        report: gets lines of progress.

    Returns:
        The graphs, None where torch serves without any; and the runtime that serves.
    """
    name = backends.automatic(device) if runtime == 'auto' else runtime
    if runtime == 'auto' and (reason := backends.unfit(name, model)):
        return None, Serving('torch', reason)
    if name == 'torch':
        return None, Serving('torch', 'asked for' if runtime == 'torch' else backends.missing('openvino'))
    try:
        if reason := backends.missing(name) or backends.unfit(name, model):
            raise RuntimeError(reason)
        folder = artefact_folder(model, name, precision) if store else None
        setting, wanted = Setting(precision, torch.get_num_threads(), folder), usable_sets(model, modality_sets)
        if precision == 'int8':
            setting = int8.with_calibration(setting, model, wanted, calibration, guides)
        backend = backends.make(name, setting)
        found = build_graphs(model, backend, precision, device, wanted, report, guides, adaptive)
        serving = checked(found, model, wanted, precision, guides)
        if calibration is not None and folder is not None:
            int8.record(folder, calibration)
        return found, serving
    except Exception as problem:
        return None, refused(name, problem)


def check_precision(model: M3ET, precision: str, runtime: str, adaptive: bool) -> None:
    """Check that a runtime can serve in a precision, which for int8 must have been built before.

    Raises:
        InputError: as int8.check_possible and int8.check_built.
    """
    if precision == 'int8':
        int8.check_possible(adaptive)
        int8.check_built(artefact_folder(model, 'openvino', precision), runtime, torch.get_num_threads())


def usable_sets(model: M3ET, modality_sets: Sequence[Sequence[str]]) -> list[tuple[str, ...]]:
    """Return the sets of image modalities that a model takes, each once."""
    usable = [tuple(m for m in modalities if m in model.config.modalities) for modalities in modality_sets]
    return [modalities for modalities in dict.fromkeys(usable) if modalities]


def checked(
    found: Prepared,
    model: M3ET,
    modality_sets: Sequence[tuple[str, ...]],
    precision: str,
    guides: tuple[int, int] | None = None,
) -> Serving:
    """Compare graphs with eager float32; returns the runtime that may serve.

    Raises:
        RuntimeError: an output differs by more than check.TOLERANCES.
    """
    error = check.largest_difference(found, model, modality_sets, guides)
    for modalities in modality_sets:
        for count in found.part_counts(modalities):
            error = max(error, check.difference_of_part(found, model, modalities, count))
    if not error <= check.TOLERANCES[precision]:
        raise RuntimeError(f'it is off by {error:.1e} from eager float32, more than {check.TOLERANCES[precision]}')
    return Serving(found.name, f'{precision}, agrees with eager float32 to {error:.0e}')


def refused(name: str, problem: Exception, then: str = 'torch serves') -> Serving:
    """Warn that a runtime cannot serve, and return torch in its place.

    Args:
        name: name of the runtime.
        problem: why it cannot.
        then: completes the warning.
    """
    reason = f'{name} cannot serve ({" ".join(str(problem).split())[:300]})'
    LOG.warning('Runtime %s; %s.', reason, then)
    return Serving('torch', reason, True)


def build_graphs(
    model: M3ET,
    backend: backends.Backend,
    precision: str,
    device: str,
    modality_sets: Sequence[tuple[str, ...]],
    report: Callable[[str], None],
    guides: tuple[int, int] | None = None,
    adaptive: bool = False,
) -> Prepared:
    """Build every graph of a model by a backend, which loads those that it has stored.

    Args:
        model: in float32, on `device`, in eval mode.
        backend: builds each graph.
        precision: arithmetic of the graphs, one of PRECISIONS.
        device: 'cpu' or 'cuda'.
        modality_sets: as usable_sets returns them.
        report: gets a line before each graph, and one at the end.
        guides: number and length of the texts that heads read of every frame; None = there are none.
        adaptive: also build graphs that encode parts of a frame, for adaptive tokens.

    Raises:
        RuntimeError: the backend is for another device.
        Exception: whatever Backend.build raises.
    """
    name = backend.name
    if backend.device != device:
        raise RuntimeError(f'it runs on {backend.device} and the model is on {device}')
    dtype = torch.float32 if backend.lowers else DTYPES[precision]
    lowered = model if dtype == torch.float32 else copy.deepcopy(model).to(dtype)
    pieces, runners, start = list(graphs(lowered, dtype, modality_sets, device, guides, adaptive)), {}, time.monotonic()
    for number, graph in enumerate(pieces, 1):
        seconds = time.monotonic() - start
        report(f'Runtime {name}: graph {number} of {len(pieces)} ({graph.name}), {seconds:.0f} s so far')
        runners[graph.key] = backend.build(graph.name, graph.module, graph.inputs)
    report(f'Runtime {name}: {len(pieces)} graphs are ready after {time.monotonic() - start:.0f} s.')
    return Prepared(model, runners, name, device)


def artefact_folder(model: M3ET, name: str, precision: str) -> Path:
    """Return the folder of artefacts of these weights, sources, versions and CPU.

    Args:
        model: the weights.
        name: name of the runtime.
        precision: one of PRECISIONS.
    """
    digest = hashlib.sha256()
    for key, value in model.state_dict().items():
        digest.update(key.encode() + value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    root = Path(backends.__file__).parents[2]
    for path in (path for folder in SOURCE_FOLDERS for path in sorted((root / folder).rglob('*.py'))):
        digest.update(path.read_bytes())
    try:
        openvino = version('openvino')
    except PackageNotFoundError:
        openvino = ''
    facts = (
        str(model.config.to_dict()),
        precision,
        str(torch.get_num_threads()),
        __version__,
        torch.__version__,
        openvino,
        platform.machine(),
        platform.python_version(),
        cpu_facts(),
    )
    digest.update('\n'.join(facts).encode())
    return cache() / 'runtimes' / f'{model.config.name}-{name}-{digest.hexdigest()[:16]}'
