"""Read released language models from a folder on disk: config.json and safetensors, in one file or in shards.

These are Mamba-2 (state-spaces, transformers), Phi, TinyLLaVA and MaTVLM. Convert weights that were published in
another format to safetensors first: nothing here executes what it reads.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from m3et_ros.data.checkpoints import json_files
from m3et_ros.data.errors import InputError
from m3et_ros.models.vlm.import_weights import (
    config_from,
    fill,
    language_tensors,
    visual_config_from,
    visual_language_tensors,
)
from m3et_ros.models.vlm.language_model import LanguageModel
from m3et_ros.models.vlm.matvlm import MaTVLM

CONFIG, ONE, SHARDS = 'config.json', 'model.safetensors', 'model.safetensors.index.json'
MAX_JSON_BYTES = 16 * 2**20
AGAIN = 'copy or download the model again'
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


def load_matvlm(folder: str | Path, *, dtype: torch.dtype = torch.float32) -> MaTVLM:
    """Read a TinyLLaVA with a Phi language model, or a MaTVLM, in eval mode, without its image encoder.

    Args:
        folder: as load_language_model.
        dtype: data type of the model.

    Raises:
        InputError: as load_language_model.
    """
    folder = Path(folder)
    values, tensors = read_json(folder / CONFIG), read_tensors(folder)
    config = _checked('model_config', visual_config_from, values, list(tensors), name=_name(folder))
    tensors = _checked('model_tensor', visual_language_tensors, tensors, config.language)
    return _filled(lambda: MaTVLM(config), tensors, dtype)


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Read every tensor of a folder's safetensors, by name.

    Raises:
        InputError: as load_language_model.
    """
    names = [ONE]
    if not (folder / ONE).is_file() and (folder / SHARDS).is_file():
        shards = read_json(folder / SHARDS).get('weight_map')
        if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
            raise InputError('model_config', f'{SHARDS} has no weight_map of tensors to files; {AGAIN}.')
        names = sorted(set(shards.values()))
    tensors: dict[str, Tensor] = {}
    for name in names:
        if Path(name).name != name:
            raise InputError('model_config', f'{SHARDS} names the file {name!r}, which is not beside it; {AGAIN}.')
        if not (folder / name).is_file():
            raise InputError('model_missing', f'There is no {folder / name}; give a folder with {CONFIG} and {ONE}.')
        try:
            tensors |= load_file(folder / name)
        except (SafetensorError, OSError) as error:
            raise InputError('model_truncated', f'{name} is cut short or damaged ({error}); {AGAIN}.') from error
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
    """Call `make` and turn its ValueError or TypeError about the content of a file into an InputError."""
    try:
        return make(*given, **options)
    except (ValueError, TypeError) as error:
        raise InputError(reason, f'The model is refused: {error}.') from error


def _name(folder: Path) -> str:
    return folder.resolve().name or 'released'
