"""Read released models from a folder on disk: config.json and safetensors, in one file or in shards (docs/released.md).

These are Mamba-1 and Mamba-2 (state-spaces, transformers), Phi, TinyLLaVA and MaTVLM. `m3et convert weights` turns a
.pt or .bin file to safetensors: nothing here executes what it reads.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from m3et_ros.data.byte_pairs import BytePairs
from m3et_ros.data.checkpoints import json_files
from m3et_ros.data.checkpoints.safetensor_files import AGAIN, ONE, check_memory, weight_files
from m3et_ros.data.errors import InputError
from m3et_ros.models.vlm.generation import Sampling
from m3et_ros.models.vlm.import_weights import (
    config_from,
    fill,
    language_tensors,
    visual_config_from,
    visual_language_tensors,
)
from m3et_ros.models.vlm.language_model import LanguageModel
from m3et_ros.models.vlm.matvlm import MaTVLM
from m3et_ros.models.vlm.siglip import SiglipConfig, SiglipTower, tower_tensors

CONFIG = 'config.json'
MAMBA_CONFIG, GENERATION_CONFIG = 'mamba_config.json', 'generation_config.json'
MAX_JSON_BYTES = 16 * 2**20
Made = TypeVar('Made')


def load_language_model(folder: str | Path, *, dtype: torch.dtype = torch.float32) -> LanguageModel:
    """Read a Mamba-2 or Phi language model, in eval mode.

    Args:
        folder: has config.json and model.safetensors, or the shards that model.safetensors.index.json lists.
        dtype: data type of the model.

    Raises:
        InputError: model_missing (folder or file), model_truncated (a file is cut short), model_config (config.json, or
            a model of another kind), model_tensor (the first missing, extra or misshapen tensor).
    """
    folder = Path(folder)
    config = _checked('model_config', config_from, read_json(folder / CONFIG), name=_name(folder))
    tensors = _checked('model_tensor', language_tensors, read_tensors(folder), config)
    return _filled(lambda: LanguageModel(config), tensors, dtype)


@dataclass(frozen=True)
class ReleasedMaTVLM:
    """A TinyLLaVA or MaTVLM as released, and all that is needed to ask it; models are in eval mode."""

    # Connector and language model.
    model: MaTVLM
    # Image encoder.
    tower: SiglipTower
    tokenizer: BytePairs
    # Stop tokens, and the sampling of generation_config.json; the answers' length is the caller's.
    sampling: Sampling
    # True pads an image to a square in grey, False squeezes it.
    pad: bool
    # 'matvlm' followed by the name of the folder.
    model_id: str


def is_matvlm(folder: str | Path) -> bool:
    """Return True if a folder holds a TinyLLaVA or MaTVLM as released.

    Raises:
        InputError: model_config, its config.json is damaged.
    """
    path = Path(folder) / CONFIG
    return path.is_file() and read_json(path).get('model_type') == 'tinyllava'


def load_matvlm(folder: str | Path, *, dtype: torch.dtype | None = None) -> ReleasedMaTVLM:
    """Read a TinyLLaVA with a Phi language model, or a MaTVLM, whole.

    Args:
        folder: has config.json, model.safetensors or shards with their index, the files of a byte-level BPE tokenizer,
            and, where they were released, mamba_config.json and generation_config.json.
        dtype: data type of the models; None takes that of the stored word table.

    Raises:
        InputError: as load_language_model; tokenizer; model_missing also where `transformers` is not installed.
    """
    folder = Path(folder)
    values = read_json(folder / CONFIG)
    _checked('model_config', _check_mamba_config, _optional(folder / MAMBA_CONFIG))
    tokenizer = BytePairs.load(folder)
    sampling = _checked('model_config', _released_sampling, _optional(folder / GENERATION_CONFIG), tokenizer)
    aspect = values.get('image_aspect_ratio', 'square')
    if aspect not in ('square', 'pad'):
        raise InputError('model_config', f'image_aspect_ratio is {aspect!r}; give a model with square or pad.')
    tensors = read_tensors(folder)
    config = _checked('model_config', visual_config_from, values, list(tensors), name=_name(folder))
    if tokenizer.vocabulary > config.language.vocabulary:
        raise InputError(
            'model_config',
            f'The tokenizer has {tokenizer.vocabulary} tokens and the model room for {config.language.vocabulary}; '
            'use the tokenizer that the model was made with.',
        )
    stored = _checked('model_tensor', visual_language_tensors, tensors, config.language)
    vision = _checked('model_config', SiglipConfig.from_released, values)
    dtype = dtype or stored['language.embedding.weight'].dtype
    try:
        tower = _filled(lambda: SiglipTower(vision), tower_tensors(tensors), dtype)
    except ImportError as error:
        raise InputError(
            'model_missing', f'The image encoder of {folder} needs transformers ({error}); pip install "m3et_ros[vlm]".'
        ) from error
    model_id = f'matvlm@{re.sub(r"[^A-Za-z0-9_.+-]", "_", _name(folder))[:100]}'
    model = _filled(lambda: MaTVLM(config), stored, dtype)
    return ReleasedMaTVLM(model, tower, tokenizer, sampling, aspect == 'pad', model_id)


def _check_mamba_config(values: Mapping[str, Any]) -> None:
    """Refuse switches of mamba_config.json that no released model has set and this package lacks."""
    for switch in ('bidirectional', 'is_bias'):
        if values.get(switch, False) is not False:
            raise ValueError(f'{MAMBA_CONFIG} sets {switch} to {values[switch]!r}; give a model without it')


def _released_sampling(generation: Mapping[str, Any], tokenizer: BytePairs) -> Sampling:
    """Return the stop tokens and the sampling that the files of a model ask for; greedy unless they ask for more."""
    # The authors' code stops at the tokenizer's token, whatever the configs of its parts say.
    found = generation.get('eos_token_id') if tokenizer.end is None else tokenizer.end
    if found is None:
        raise ValueError(f'neither the tokenizer nor {GENERATION_CONFIG} names the token that ends an answer; add it')
    stop = tuple(found) if isinstance(found, list) else (found,)
    if generation.get('do_sample', False) is not True:
        return Sampling(stop=stop)
    return Sampling(stop=stop, temperature=generation.get('temperature', 1.0), top_p=generation.get('top_p', 1.0))


def _optional(path: Path) -> dict[str, Any]:
    return read_json(path) if path.exists() else {}


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Read every tensor of a folder's safetensors, by name.

    Raises:
        InputError: as load_language_model.
    """
    files = weight_files(folder)
    check_memory(str(folder), sum(path.stat().st_size for path in files))
    tensors: dict[str, Tensor] = {}
    for path in files:
        try:
            tensors |= load_file(path)
        except (SafetensorError, OSError) as error:
            raise InputError('model_truncated', f'{path.name} is cut short or damaged ({error}); {AGAIN}.') from error
    return tensors


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        InputError: model_missing, or model_config where it holds anything else.
    """
    if not path.is_file():
        raise InputError('model_missing', f'There is no {path}; give a folder with {CONFIG} and {ONE}.')
    return json_files.read_json(path, MAX_JSON_BYTES)


def _filled(make: Callable[[], nn.Module], tensors: dict[str, Tensor], dtype: torch.dtype) -> Any:
    """Build a model and fill it with the tensors, which are not copied where their dtype is right."""
    with torch.device('meta'):
        model = make()
    tensors = {name: value.to(dtype) for name, value in tensors.items()}
    return _checked('model_tensor', fill, model, tensors).eval()


def _checked(reason: str, make: Callable[..., Made], *given: Any, **options: Any) -> Made:
    """Call `make` and turn its errors about the content of a file into an InputError."""
    try:
        return make(*given, **options)
    except (ValueError, TypeError, ArithmeticError) as error:
        raise InputError(reason, f'The model is refused: {error}.') from error


def _name(folder: Path) -> str:
    return folder.resolve().name or 'released'
