"""M3ET with graphs that a backend runs, and how one comes to serve: built, and compared with eager float32."""

import copy
import hashlib
import logging
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from torch import Tensor

from m3et_ros import __version__
from m3et_ros.models.m3et.config import MODALITIES
from m3et_ros.models.m3et.encoding import GLOBAL, TEXT, Encoded, ImageEncoding, joined, sources
from m3et_ros.models.m3et.model import M3ET
from m3et_ros.runtime import backends
from m3et_ros.runtime.backends import Runner, Setting, check
from m3et_ros.runtime.backends.graphs import SilentImageEncoding, flat_states, graphs, restored_sight
from m3et_ros.runtime.kernels import cache

LOG = logging.getLogger(__name__)
DTYPES = {'float32': torch.float32, 'bfloat16': torch.bfloat16}
PLAN = (('rgb', 'depth'), ('rgb',))
"""Sets of modalities that a robot's frames have."""
ROOMS = ('ops', 'layers', 'models', 'runtime/backends')
"""Sources on which a compiled artefact depends."""


@dataclass(frozen=True)
class Serving:
    """Which runtime serves, and why."""

    # One of RUNTIMES except auto.
    name: str
    # In words; begins with what was asked for where that cannot serve.
    reason: str
    # Whether it stands in for one that was to serve and cannot.
    fallback: bool = False


class Prepared:
    """see, listen and decode of an M3ET through graphs; what they do not cover runs in torch on the same weights."""

    def __init__(self, model: M3ET, runners: Mapping[tuple, Runner], name: str, device: str = 'cpu'):
        self.name, self.device = name, device
        self._model, self._runners = model, dict(runners)

    def encode_images(self, images: Mapping[str, Tensor]) -> ImageEncoding:
        """As M3ET.encode_images."""
        modalities = tuple(m for m in MODALITIES if m in images)
        run = self._runners.get(('see', modalities, False))
        if run is None or len(images[modalities[0]]) != 1:
            return self._model.encode_images(images)
        return restored_sight(run(*(images[m].float() for m in modalities)), self._model.config, modalities)

    def add_text(self, sight: ImageEncoding, text: Tensor | None = None, text_mask: Tensor | None = None) -> Encoded:
        """As M3ET.listen to words without hidden ones."""
        if text is None and isinstance(sight, SilentImageEncoding):
            last = sight.silence[-1]
            return joined(sight, Encoded(list(sight.silence), sources(last, GLOBAL), None, {}, {}))
        run = self._runners.get(('listen', tuple(sight.tokens), True))
        whole = (1, self._model.config.text_length)
        if run is None or text is None or text_mask is None or text.shape != whole or sight.valid is not None:
            return self._model.add_text(sight, text, text_mask)
        *stages, valid = run(*flat_states(sight.states), text, text_mask)
        words = self._model.adapters['text'](text)
        source = torch.cat([sources(words, TEXT), sources(stages[-1][:, -1:], GLOBAL)], 1)
        return joined(sight, Encoded(stages, source, valid > 0, {'text': words}, {'text': text_mask}, text_mask))

    def decode(self, encoded: Encoded, task: str) -> Tensor:
        """As M3ET.decode."""
        modalities, words = tuple(m for m in encoded.tokens if m != 'text'), 'text' in encoded.tokens
        run = self._runners.get((task, modalities, words))
        config = self._model.config
        tokens = len(modalities) * config.image_tokens + words * config.text_length + 1
        if run is None or encoded.context.shape[:2] != (1, tokens) or (encoded.valid is None) == words:
            return self._model.decode(encoded, task)
        own = (encoded.tokens[task],) if task in modalities else ()
        return run(encoded.context, *own, *((encoded.valid.float(),) if words else ()))[0]


def prepare(
    model: M3ET,
    runtime: str,
    *,
    precision: str = 'float32',
    device: str = 'cpu',
    plan=PLAN,
    keep: bool = True,
    tell: Callable[[str], None] = LOG.info,
) -> tuple[Prepared | None, Serving]:
    """Build all graphs of a runtime and compare them with eager float32; torch serves where any of it fails.

    Args:
        model: in float32, on `device`, in eval mode; it stays as it is.
        runtime: one of RUNTIMES.
        precision: arithmetic of the graphs, 'float32' or 'bfloat16'.
        device: 'cpu' or 'cuda'.
        plan: sets of image modalities to build for.
        keep: whether artefacts are kept in, and taken from, the user's cache.
        tell: gets a line of progress now and then.

    Returns:
        The graphs, None where torch serves without any; and which runtime serves.
    """
    name = backends.automatic(device) if runtime == 'auto' else runtime
    if runtime == 'auto' and (reason := backends.unfit(name, model)):
        return None, Serving('torch', reason)
    if name == 'torch':
        return None, Serving('torch', 'asked for' if runtime == 'torch' else backends.missing('openvino'))
    plan = tuple(
        usable
        for usable in dict.fromkeys(tuple(m for m in modalities if m in model.config.modalities) for modalities in plan)
        if usable
    )
    try:
        if reason := backends.missing(name) or backends.unfit(name, model):
            raise RuntimeError(reason)
        found = _built(model, name, precision, device, plan, keep, tell)
        error = check.largest(found, model, plan)
        if not error <= check.TOLERANCES[precision]:
            raise RuntimeError(f'it is off by {error:.1e} from eager float32, more than {check.TOLERANCES[precision]}')
    except Exception as problem:
        reason = f'{name} cannot serve ({" ".join(str(problem).split())[:300]})'
        LOG.warning('Runtime %s; torch serves.', reason)
        return None, Serving('torch', reason, True)
    return found, Serving(name, f'{precision}, agrees with eager float32 to {error:.0e}')


def _built(model: M3ET, name: str, precision: str, device: str, plan, keep: bool, tell) -> Prepared:
    setting = Setting(precision, torch.get_num_threads(), _folder(model, name, precision) if keep else None)
    backend = backends.make(name, setting)
    if backend.device != device:
        raise RuntimeError(f'it runs on {backend.device} and the model is on {device}')
    dtype = torch.float32 if backend.lowers else DTYPES[precision]
    lowered = model if dtype == torch.float32 else copy.deepcopy(model).to(dtype)
    pieces, runners, start = list(graphs(lowered, dtype, plan, device)), {}, time.monotonic()
    for number, graph in enumerate(pieces, 1):
        tell(f'Runtime {name}: graph {number} of {len(pieces)} ({graph.name}), {time.monotonic() - start:.0f} s so far')
        runners[graph.key] = backend.build(graph.name, graph.module, graph.inputs)
    tell(f'Runtime {name}: {len(pieces)} graphs are ready after {time.monotonic() - start:.0f} s.')
    return Prepared(model, runners, name, device)


def _folder(model: M3ET, name: str, precision: str) -> Path:
    """Where artefacts of these weights, this code, these versions and this CPU are kept."""
    digest = hashlib.sha256()
    for key, value in model.state_dict().items():
        digest.update(key.encode() + value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    root = Path(backends.__file__).parents[2]
    for path in (path for room in ROOMS for path in sorted((root / room).rglob('*.py'))):
        digest.update(path.read_bytes())
    facts = (
        str(model.config.to_dict()),
        precision,
        str(torch.get_num_threads()),
        __version__,
        torch.__version__,
        _version('openvino'),
        platform.machine(),
        platform.python_version(),
        _cpu(),
    )
    digest.update('\n'.join(facts).encode())
    return cache() / 'runtimes' / f'{model.config.name}-{name}-{digest.hexdigest()[:16]}'


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ''


def _cpu() -> str:
    """Model and instruction sets of the CPU."""
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        return platform.processor()
    return '\n'.join(dict.fromkeys(line for line in lines if line.startswith(('model name', 'flags', 'Features'))))
