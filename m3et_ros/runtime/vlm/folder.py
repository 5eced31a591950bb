"""Find the folder of a vision-language model, on disk or on the Hugging Face Hub, and check it before it is loaded.

Nothing of the folder is executed: weights are safetensors, and a model that needs code of its own is refused.
"""

import hashlib
import json
import math
import os
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

from m3et_ros.data.checkpoints.json_files import read_json
from m3et_ros.data.errors import InputError
from m3et_ros.runtime.open_model import HUB

HUB_NAME = re.compile(r'([A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})(?:@([\w./-]{1,200}))?')
FILES = ['*.json', '*.safetensors', '*.jinja', '*.model', '*.txt']
"""Files of a model on the Hub that are downloaded; pickled weights are not among them."""
INDEX = 'model.safetensors.index.json'
PICKLED = ('*.bin', '*.pt', '*.pth', '*.ckpt')
MAX_HEADER_BYTES = 100 * 2**20
FLOATS = {'F64': 8, 'F32': 4, 'F16': 2, 'BF16': 2, 'F8_E4M3': 1, 'F8_E5M2': 1}
"""Bytes of a stored number, which loading converts to the data type of the model."""
OTHERS = {'I64': 8, 'U64': 8, 'I32': 4, 'U32': 4, 'I16': 2, 'U16': 2, 'I8': 1, 'U8': 1, 'BOOL': 1}
WORK = 1.2
"""Memory of a model that answers over that of its weights: activations, and keys and values of a few images."""
GIB = 2**30


@dataclass(frozen=True)
class VlmFolder:
    """A folder that has been checked: an image-text model with weights as safetensors."""

    path: Path
    # name@checksum of the weights, or owner--name@commit for a model of the Hub.
    model_id: str
    # Content of config.json.
    config: dict[str, Any]
    # (name of the stored type, count of its numbers) of all weights.
    stored: tuple[tuple[str, int], ...]
    # SHA-256 over the SHA-256 of each file of weights, in hexadecimal digits.
    weights_sha256: str = ''

    def weight_bytes(self, dtype: torch.dtype | None) -> int:
        """Return the size of the weights in bytes.

        Args:
            dtype: data type to which floating-point weights are converted; None leaves them as stored.
        """
        return sum(
            count * (dtype.itemsize if dtype is not None and kind in FLOATS else (FLOATS | OTHERS)[kind])
            for kind, count in self.stored
        )

    def check_memory(self, dtype: torch.dtype | None, device: torch.device) -> None:
        """Refuse a model that does not fit into the free memory of its device.

        Raises:
            InputError: vlm_memory, with both figures.
        """
        needed, free = WORK * self.weight_bytes(dtype), free_bytes(device)
        if needed > free:
            kind = 'its own data types' if dtype is None else str(dtype).removeprefix('torch.')
            raise InputError(
                'vlm_memory',
                f'{self.model_id} needs about {needed / GIB:.2f} GiB in {kind} and {free / GIB:.2f} GiB are free on '
                f'{device}; choose a smaller model, bfloat16, or a device with more memory.',
            )


def free_bytes(device: torch.device) -> int:
    """Return the free memory of a device in bytes; on a CPU what the system can give without swapping."""
    return torch.cuda.mem_get_info(device)[0] if device.type == 'cuda' else psutil.virtual_memory().available


def find_vlm(name: str) -> VlmFolder:
    """Find and check a vision-language model.

    Args:
        name: a folder as save_pretrained of transformers writes it, or hf:owner/name[@revision]; only the latter uses
            the network, and not where HF_HUB_OFFLINE is set.

    Raises:
        InputError: model_missing (no folder, no such model, or no network), model_config, model_truncated, vlm_kind (no
            image-text model), vlm_code (it needs code of its own), vlm_weights (no safetensors), vlm_packages.
    """
    if not name:
        raise InputError(
            'model_missing',
            'The answerer needs a model; give a folder or hf:owner/name as its checkpoint (answerer_checkpoint).',
        )
    path, commit = _download(name) if name.startswith(HUB) else (Path(name).expanduser(), '')
    if not os.path.isdir(path):
        hub = f', or {HUB}{name} for the Hugging Face Hub' if HUB_NAME.fullmatch(name) else ''
        raise InputError('model_missing', f'There is no folder {name[:200]}; give the folder of a model{hub}.')
    if not (path / 'config.json').is_file():
        raise InputError('model_missing', f'{path} has no config.json; give the folder of a model of transformers.')
    config = read_json(path / 'config.json')
    _check_kind(path, config)
    files = _weights(path)
    stored = [one for file in files for one in _header(file)]
    counts: dict[str, int] = {}
    for kind, count in stored:
        counts[kind] = counts.get(kind, 0) + count
    digest = _checksum(files)
    if commit:
        owner, own = name.removeprefix(HUB).partition('@')[0].split('/')
        model_id = f'{owner}--{own}@{commit}'
    else:
        model_id = f'{re.sub(r"[^A-Za-z0-9_.+-]", "-", path.resolve().name) or "model"}@{digest[:8]}'
    return VlmFolder(path, model_id, config, tuple(sorted(counts.items())), digest)


def _download(name: str) -> tuple[Path, str]:
    """Return the local copy of a model of the Hub and the commit that it is."""
    found = HUB_NAME.fullmatch(name.removeprefix(HUB))
    if found is None:
        raise InputError('model_missing', f'{name[:200]} is no model of the Hub; give {HUB}owner/name[@revision].')
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        path = Path(snapshot_download(found[1], revision=found[2], allow_patterns=FILES))
    except LocalEntryNotFoundError as error:
        raise InputError(
            'model_missing',
            f'{name} is not on this machine and the Hub cannot be reached; connect it, unset HF_HUB_OFFLINE, or copy '
            'the model to a folder and give that.',
        ) from error
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise InputError(
            'model_missing',
            f'{name} cannot be downloaded ({str(error).splitlines()[0][:200]}); check name, revision and access.',
        ) from error
    return path, path.name


def _check_kind(path: Path, config: dict[str, Any]) -> None:
    """Refuse a model that needs code of its own or takes no images."""
    try:
        from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as KNOWN
    except ImportError as error:
        raise InputError(
            'vlm_packages', f"The answerer vlm needs transformers ({error}); pip install 'm3et_ros[vlm]'."
        ) from error
    kind = str(config.get('model_type', ''))[:80]
    if kind in KNOWN:
        return
    if config.get('auto_map'):
        raise InputError(
            'vlm_code',
            f'{path} needs code of its own (auto_map in config.json), which is never run; give a model whose '
            'architecture is part of transformers.',
        )
    raise InputError(
        'vlm_kind',
        f'{path} holds {kind or "an unnamed model"}, which is no image-text model of transformers; give one such as '
        'SmolVLM, Qwen2.5-VL, PaliGemma or LLaVA.',
    )


def _weights(path: Path) -> list[Path]:
    """Return the safetensors files of a folder."""
    if (path / INDEX).is_file():
        named = read_json(path / INDEX, MAX_HEADER_BYTES).get('weight_map')
        names: list[Any] = list(named.values()) if isinstance(named, dict) else [None]
        if not all(isinstance(one, str) and Path(one).name == one for one in names):
            raise InputError('model_config', f'{INDEX} has no weight_map of tensors to files; copy the model again.')
        files = [path / one for one in sorted(set(names))]
        missing = next((file.name for file in files if not file.is_file()), None)
        if missing:
            raise InputError('model_truncated', f'{path} lacks {missing}, which {INDEX} names; copy the model again.')
        return files
    if (path / 'model.safetensors').is_file():
        return [path / 'model.safetensors']
    pickled = sorted(file.name for pattern in PICKLED for file in path.glob(pattern))
    if pickled:
        raise InputError(
            'vlm_weights',
            f'{path} has its weights in {pickled[0]} alone, a format that can run code when it is read; give a copy '
            'with safetensors.',
        )
    raise InputError('model_missing', f'{path} has no model.safetensors; give a folder with weights.')


def _header(file: Path) -> list[tuple[str, int]]:
    """Return (type, count of numbers) of each tensor of a safetensors file.

    Raises:
        InputError: model_truncated.
    """
    try:
        with file.open('rb') as stream:
            (length,) = struct.unpack('<Q', stream.read(8))
            if not 2 <= length <= MAX_HEADER_BYTES:
                raise ValueError(f'its header claims {length} bytes')
            header = json.loads(stream.read(length))
        tensors = [one for name, one in header.items() if name != '__metadata__']
        sizes = [(one['dtype'], math.prod(one['shape'])) for one in tensors]
        end = 8 + length + max((one['data_offsets'][1] for one in tensors), default=0)
        if end != file.stat().st_size or any(kind not in FLOATS | OTHERS for kind, _ in sizes):
            raise ValueError(f'{end} bytes are announced and {file.stat().st_size} are there')
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        IndexError,
        RecursionError,
        struct.error,
    ) as error:
        raise InputError(
            'model_truncated', f'{file} is cut short or damaged ({str(error)[:200]}); copy the model again.'
        ) from error
    return sizes


def _checksum(files: list[Path]) -> str:
    """Return the SHA-256 over the SHA-256 of each file."""
    digest = hashlib.sha256()
    for file in files:
        with file.open('rb') as stream:
            digest.update(hashlib.file_digest(stream, 'sha256').digest())
    return digest.hexdigest()
