"""Folders of models of transformers, on disk or of the Hugging Face Hub: found by name and checked, not loaded.

Only safetensors are read, and nothing in a folder is executed. Only hf:owner/name[@revision] uses the network.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch

from m3et_ros.data.checkpoints.json_files import CONFIG, read_json
from m3et_ros.data.checkpoints.safetensor_files import (
    bytes_of,
    check_memory,
    checksum,
    stored_numbers,
    weight_files,
    weight_names,
)
from m3et_ros.data.errors import InputError
from m3et_ros.data.hub import DESCRIBING, HUB, HUB_ID, hub_id, pull

WORKING = 1.2
"""Memory of a model at work, as a multiple of its weights: activations, and keys and values of a few images."""
WIDEST = 4
"""Most bytes of a number in published weights."""


@dataclass(frozen=True)
class ModelFolder:
    """A folder of a model, checked but not loaded."""

    path: Path
    # The name that the user gave.
    name: str
    # Its commit on the Hub; '' for a folder of the user.
    commit: str
    # The content of config.json.
    config: dict[str, Any]
    # Safetensors files of the weights.
    weights: tuple[Path, ...]
    # Count of the numbers of each stored type, such as F32.
    stored: dict[str, int]

    @cached_property
    def weights_sha256(self) -> str:
        """SHA-256 of the weights, see safetensor_files.checksum."""
        return checksum(self.weights)

    @property
    def model_id(self) -> str:
        """Id of the model: owner--name@commit of the Hub, or name@first 8 digits of weights_sha256."""
        if self.commit:
            return f'{hub_id(self.name)[0].replace("/", "--")}@{self.commit}'
        return id_of(self.path.resolve().name, self.weights_sha256)

    @property
    def architecture(self) -> str:
        """The class of transformers that config.json names; '' where it names none."""
        named = self.config.get('architectures')
        return named[0] if isinstance(named, list) and named and isinstance(named[0], str) else ''

    def check_memory(self, dtype: torch.dtype | None, device: torch.device) -> None:
        """Refuse a model that does not fit into the free memory.

        Args:
            dtype: data type to which floating-point weights are converted; None leaves them as stored.
            device: where it is to run.

        Raises:
            InputError: model_memory.
        """
        check_memory(self.name, WORKING * bytes_of(self.stored, dtype), device)


def id_of(name: str, sha256: str) -> str:
    """Return 'name@first 8 digits of the checksum', with what an id may not hold replaced by '-'."""
    return f'{re.sub(r"[^A-Za-z0-9_.+-]", "-", name)[:100] or "model"}@{sha256[:8]}'


def find_model(name: str, check: Callable[[str, dict[str, Any]], None], dtype: torch.dtype | None) -> ModelFolder:
    """Find and check a model; of the Hub its configuration first, so that no weights of a wrong model are fetched.

    Args:
        name: a folder as save_pretrained of transformers writes it, or hf:owner/name[@revision].
        check: refuses a model of another kind by its name and the content of config.json.
        dtype: data type to which floating-point weights will be converted; None leaves them as stored.

    Raises:
        InputError: model_missing (no folder, or no safetensors in it), model_config, model_truncated, model_memory (for
            a model of the Hub); as hub.pull and `check`.
    """
    commit = ''
    if name.startswith(HUB):
        path = pull(name, files=DESCRIBING)
        commit = path.name
    else:
        path = Path(name).expanduser()
    # os.path and not Path: that raises where the system refuses a name, for example as too long.
    if not os.path.isdir(path):
        hub = f', or {HUB}{name} for the Hugging Face Hub' if HUB_ID.fullmatch(name.partition('@')[0]) else ''
        raise InputError('model_missing', f'There is no folder {name[:200]}; give the folder of a model{hub}.')
    if not (path / CONFIG).is_file():
        raise InputError('model_missing', f'{name[:200]} has no {CONFIG}; give a model of transformers.')
    config = read_json(path / CONFIG)
    check(name, config)
    if commit:
        pull(
            f'{name.partition("@")[0]}@{commit}', files=weight_names(path), begin=partial(_check_download, name, dtype)
        )
    files = weight_files(path)
    return ModelFolder(path, name, commit, config, files, stored_numbers(files))


def _check_download(name: str, dtype: torch.dtype | None, files: int, size: int) -> None:
    """Refuse weights that will not fit into memory before they are fetched; `size` is in bytes."""
    del files
    check_memory(name, size if dtype is None else size * min(1, dtype.itemsize / WIDEST))
