"""Checkpoints of M3ET: config.json, model.safetensors, tokenizer.json, labels.json and README.md (model card).

Heads that read the model's tokens (MambaVL, EpisodeHead) add one safetensors file each, named after the head.
config.json holds the configs and the SHA-256 of every weight file; nothing in the folder is executed, and nothing is
downloaded unless asked for.
"""

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from m3et_ros.data.answer_parts import answer_parts
from m3et_ros.data.checkpoints import MODEL_TYPE
from m3et_ros.data.checkpoints.cards import with_head
from m3et_ros.data.checkpoints.json_files import AGAIN, CONFIG, write_json
from m3et_ros.data.checkpoints.labels import (
    FORMAT,
    LABELS,
    MODEL,
    dataclass_from,
    model_id_of,
    read_config,
    read_labels,
)
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Labels
from m3et_ros.data.tokenizer import Tokenizer
from m3et_ros.models.actions.frame_token import frame_width
from m3et_ros.models.actions.mambavl import MambaVL, MambaVLConfig
from m3et_ros.models.episode.model import EpisodeConfig, EpisodeHead
from m3et_ros.models.m3et.answers import PlacedAnswerHead
from m3et_ros.models.m3et.config import M3ETConfig
from m3et_ros.models.m3et.model import M3ET
from m3et_ros.models.m3et.sizes import SIZES, build

TOKENIZER, CARD = 'tokenizer.json', 'README.md'
FLOATS = {'F32', 'F16', 'BF16'}
Model = TypeVar('Model', bound=nn.Module)
# torch lists what a device context redirects when the first one is used. transformers replaces torch.linspace while it
# loads a model; if that came first, linspace would stay out of the list and read_weights would get tensors of the CPU.
with torch.device('meta'):
    torch.empty(0)
HEADS: dict[str, tuple[type, type]] = {'mambavl': (MambaVLConfig, MambaVL), 'episode': (EpisodeConfig, EpisodeHead)}
"""Kinds of heads: name to config dataclass and module, which is built from that config and keeps it as `config`."""


@dataclass(frozen=True)
class Checkpoint:
    """A model and all that is needed to use it."""

    model: M3ET
    tokenizer: Tokenizer
    labels: Labels
    # 'name@first 8 of the SHA-256 of model.safetensors', or 'name-random-seed' for an untrained model.
    model_id: str
    # False while the weights are random.
    trained: bool
    # Heads that read the model's tokens, by their names in HEADS.
    heads: Mapping[str, nn.Module] = field(default_factory=dict)


def random_checkpoint(
    size: str | M3ETConfig,
    tokenizer: Tokenizer,
    labels: Labels,
    seed: int = 0,
    *,
    heads: Mapping[str, nn.Module] | None = None,
) -> Checkpoint:
    """Build an untrained checkpoint whose outputs fit a label set.

    Args:
        size: a name of models.m3et.sizes.SIZES, or a config; its classes and answers, and the parts of answers where it
            has any, are replaced by those of `labels`.
        tokenizer: at most as large as the config's vocabulary.
        labels: label sets.
        seed: seed of the weights.
        heads: heads of the model, by their names in HEADS.

    Raises:
        InputError: the size is unknown, or tokenizer, labels or heads do not match the model.
    """
    if isinstance(size, str):
        if size not in SIZES:
            raise InputError('model_config', f'There is no model size {size!r}; give one of {", ".join(SIZES)}.')
        size = SIZES[size]
    parts = answer_parts(labels)
    try:
        config = replace(
            size,
            classes=len(labels.classes),
            answers=len(labels.answers),
            answer_parts=len(parts.names) if size.answer_parts else 0,
            look_parts=parts.colours if size.look_parts else 0,
        )
    except ValueError as error:
        raise InputError('model_config', f'The label set does not fit the model: {error}.') from error
    heads = dict(heads or {})
    _check_fit(config, tokenizer, labels, {name: head.config for name, head in heads.items()})
    model = build(config, seed=seed)
    if config.answer_parts and isinstance(model.answer_head, PlacedAnswerHead):
        model.answer_head.set_parts(parts.matrix)
    return Checkpoint(model, tokenizer, labels, f'{config.name}-random-{seed}', False, heads)


def save_checkpoint(
    folder: str | Path, checkpoint: Checkpoint, *, card: str, dtype: torch.dtype = torch.float32
) -> str:
    """Write a checkpoint folder, which need not exist.

    Args:
        folder: the folder.
        checkpoint: the model and all that goes with it.
        card: text of the model card, Markdown; it gets the YAML head of the Hub where it has none.
        dtype: data type of stored matrices; vectors (norms, biases, decays) are always stored in float32.

    Returns:
        The model id that load_checkpoint will report.

    Raises:
        InputError: model, tokenizer and labels do not match, or a head is of no known kind.
    """
    folder = Path(folder)
    config = checkpoint.model.config
    head_configs: dict[str, Any] = {name: head.config for name, head in checkpoint.heads.items()}
    _check_fit(config, checkpoint.tokenizer, checkpoint.labels, head_configs)
    folder.mkdir(parents=True, exist_ok=True)
    sums = {MODEL: write_weights(folder / MODEL, checkpoint.model, dtype)}
    for name, head in checkpoint.heads.items():
        sums[f'{name}.safetensors'] = write_weights(folder / f'{name}.safetensors', head, dtype)
    checkpoint.tokenizer.save(folder / TOKENIZER)
    write_json(folder / LABELS, asdict(checkpoint.labels))
    (folder / CARD).write_text(with_head(card, MODEL_TYPE), encoding='utf-8')
    model_id = f'{config.name}@{sums[MODEL][:8]}' if checkpoint.trained else checkpoint.model_id
    write_json(
        folder / CONFIG,
        {
            'model_type': MODEL_TYPE,
            'format': FORMAT,
            'model_id': model_id,
            'trained': checkpoint.trained,
            'model': config.to_dict(),
            'heads': {name: asdict(head_config) for name, head_config in head_configs.items()},
            'sha256': sums,
        },
    )
    return model_id


def load_checkpoint(folder: str | Path) -> Checkpoint:
    """Read a checkpoint folder in float32; weights are read only after their header matches the config.

    Raises:
        InputError: model_missing (folder or file), model_truncated (a weight file is cut short), model_checksum,
            model_tensor (the first missing, extra or misshapen tensor), model_config (anything in the JSON files).
    """
    folder = Path(folder)
    for path in (folder, *(folder / name for name in (CONFIG, MODEL, TOKENIZER, LABELS))):
        if not os.path.exists(path):
            raise InputError(
                'model_missing',
                f'There is no {path}; give a checkpoint folder with {CONFIG}, {MODEL}, '
                f'{TOKENIZER} and {LABELS}, or fetch one with M3ETCheckpoint.from_pretrained.',
            )
    stored = read_config(folder)
    config = _config_from(M3ETConfig, stored['model'])
    labels = read_labels(folder)
    try:
        tokenizer = Tokenizer.load(folder / TOKENIZER)
    except InputError as error:
        raise InputError('model_config', str(error)) from error
    head_configs = {name: _config_from(_head_kind(name)[0], values) for name, values in stored['heads'].items()}
    _check_fit(config, tokenizer, labels, head_configs)
    sums = stored['sha256']
    model = read_weights(folder / MODEL, partial(M3ET, config), sums)
    heads = {
        name: read_weights(folder / f'{name}.safetensors', partial(_head_kind(name)[1], head_config), sums)
        for name, head_config in head_configs.items()
    }
    return Checkpoint(model, tokenizer, labels, model_id_of(stored, config), stored['trained'], heads)


def _check_fit(config: M3ETConfig, tokenizer: Tokenizer, labels: Labels, heads: Mapping[str, Any]) -> None:
    """Refuse parts that were not made for each other; heads are represented by their configs."""
    for what, given, wanted in (
        ('classes', len(labels.classes), config.classes),
        ('answers', len(labels.answers), config.answers),
    ):
        if given != wanted:
            raise InputError(
                'model_config',
                f'The label set has {given} {what} and the model {wanted}; use the '
                'labels that the model was made with.',
            )
    if tokenizer.vocabulary > config.vocabulary:
        raise InputError(
            'model_config',
            f'The tokenizer has {tokenizer.vocabulary} pieces and the model room for '
            f'{config.vocabulary}; use the tokenizer that the model was made with.',
        )
    for name, head in heads.items():
        _head_kind(name)
        # A head reads one token of a frame, or all its patches.
        whole = getattr(head, 'patches', 1) > 1
        inputs = {'d_in': config.d, 'patches': config.image_tokens} if whole else {'d_in': frame_width(config)}
        for what, wanted in (*inputs.items(), ('verbs', len(labels.verbs)), ('nouns', len(labels.nouns))):
            if getattr(head, what, wanted) != wanted:
                raise InputError(
                    'model_config',
                    f'The head {name} has {what} {getattr(head, what)} where model and '
                    f'labels have {wanted}; use the head that was made with them.',
                )
        if getattr(head, 'vocabulary', tokenizer.vocabulary) < tokenizer.vocabulary:
            raise InputError(
                'model_config',
                f'The head {name} has room for {head.vocabulary} pieces and the tokenizer '
                f'has {tokenizer.vocabulary}; use the head that was made with it.',
            )


def _head_kind(name: str) -> tuple[type, type[nn.Module]]:
    if name not in HEADS:
        raise InputError('model_config', f'The head {name!r} is of no known kind; the kinds are {", ".join(HEADS)}.')
    return HEADS[name]


def _config_from(kind: type, values: Any) -> Any:
    """Rebuild a config dataclass from JSON; refuse unknown keys and values out of range by name."""
    try:
        if hasattr(kind, 'from_dict'):
            return kind.from_dict(values)
        return dataclass_from(kind, values)
    except (ValueError, TypeError) as error:
        raise InputError('model_config', f'{CONFIG} is refused: {error}; correct it, or {AGAIN}.') from error


def write_weights(path: Path, module: nn.Module, dtype: torch.dtype) -> str:
    """Write a state dict and return the SHA-256 of the file."""
    state = {
        name: tensor.detach().cpu().to(dtype if tensor.dim() > 1 else torch.float32).contiguous()
        for name, tensor in module.state_dict().items()
    }
    save_file(state, path, metadata={'format': 'pt'})
    return _digest(path)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def read_weights(path: Path, make: Callable[[], Model], sums: Mapping[str, Any]) -> Model:
    """Build a module and fill it from a file, after checking the header and checksum of the file.

    Args:
        path: safetensors file.
        make: builds the module.
        sums: file name to SHA-256.

    Returns:
        The module, in evaluation mode.

    Raises:
        InputError: model_missing, model_truncated, model_tensor or model_checksum, as load_checkpoint.
    """
    with torch.device('meta'):
        expected = {name: list(tensor.shape) for name, tensor in make().state_dict().items()}
    if not path.is_file():
        raise InputError('model_missing', f'There is no {path}; {AGAIN}.')
    try:
        with safe_open(path, framework='pt') as file:
            found = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - it is not a dict
            shapes = {name: (part.get_shape(), part.get_dtype()) for name, part in found.items()}
    except (SafetensorError, OSError) as error:
        raise InputError('model_truncated', f'{path.name} is cut short or damaged ({error}); {AGAIN}.') from error
    _check_tensors(path.name, expected, shapes)
    digest = _digest(path)
    if digest != sums.get(path.name):
        raise InputError(
            'model_checksum',
            f'{path.name} has SHA-256 {digest[:8]}... but {CONFIG} says {str(sums.get(path.name))[:8]}...; {AGAIN}.',
        )
    with torch.random.fork_rng(devices=[]):
        module = make()
    module.load_state_dict(load_file(path))
    return module.eval()


def _check_tensors(name: str, expected: dict[str, list[int]], found: dict[str, tuple[list[int], str]]) -> None:
    for tensor, shape in expected.items():
        if tensor not in found:
            raise InputError('model_tensor', f'{name} has no tensor {tensor}, which its config asks for; {AGAIN}.')
        if found[tensor][0] != shape or found[tensor][1] not in FLOATS:
            raise InputError(
                'model_tensor',
                f'{name} has {tensor} as {found[tensor][1]} {found[tensor][0]} and its '
                f'config asks for floats of {shape}; {AGAIN}.',
            )
    extra = sorted(set(found) - set(expected))
    if extra:
        raise InputError('model_tensor', f'{name} has the tensor {extra[0]}, which its config does not have; {AGAIN}.')
