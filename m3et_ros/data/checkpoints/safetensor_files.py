"""The weights of a folder as safetensors, in one file or in shards with an index: found and measured, not loaded."""

import hashlib
import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import psutil
import torch
from safetensors import SafetensorError, safe_open

from m3et_ros.data.checkpoints.json_files import read_json
from m3et_ros.data.errors import InputError

ONE, SHARDS = 'model.safetensors', 'model.safetensors.index.json'
MAX_INDEX_BYTES = 16 * 2**20
AGAIN = 'copy or download the model again'
GIB = 2**30


def weight_names(folder: Path) -> list[str]:
    """Return the names of the files of weights, those that are missing among them.

    Raises:
        InputError: model_config, the index is damaged or names a file outside of the folder.
    """
    if (folder / ONE).is_file() or not (folder / SHARDS).is_file():
        return [ONE]
    shards = read_json(folder / SHARDS, MAX_INDEX_BYTES).get('weight_map')
    names = list(shards.values()) if isinstance(shards, dict) else []
    if not names or not all(isinstance(name, str) and Path(name).name == name for name in names):
        raise InputError('model_config', f'{SHARDS} has no weight_map of tensors to files beside it; {AGAIN}.')
    return sorted(set(names))


def weight_files(folder: Path) -> tuple[Path, ...]:
    """Return the safetensors files of a folder.

    Raises:
        InputError: model_missing (a file is not there), model_config (as weight_names).
    """
    files = tuple(folder / name for name in weight_names(folder))
    for file in files:
        if not file.is_file():
            raise InputError(
                'model_missing',
                f'{folder} has no {file.name}; only safetensors are read, so convert weights of another format first '
                f'(m3et convert weights), or {AGAIN}.',
            )
    return files


def stored_numbers(files: Sequence[Path]) -> dict[str, int]:
    """Return the count of numbers of each stored type, such as F32 or I64, from the headers of the files.

    Raises:
        InputError: model_truncated, a file is damaged.
    """
    counts: Counter[str] = Counter()
    for path in files:
        try:
            with safe_open(path, framework='pt') as file:
                for name in file.keys():  # noqa: SIM118 - it is not a dict
                    tensor = file.get_slice(name)
                    counts[tensor.get_dtype()] += math.prod(tensor.get_shape())
        except (SafetensorError, OSError) as error:
            raise InputError('model_truncated', f'{path} is cut short or damaged ({error}); {AGAIN}.') from error
    return dict(counts)


def bytes_of(stored: dict[str, int], dtype: torch.dtype | None = None) -> int:
    """Return the size of weights in bytes.

    Args:
        stored: count of numbers of each type, as stored_numbers returns it.
        dtype: data type to which floating-point numbers are converted; None leaves them as stored.
    """
    size = 0
    for kind, count in stored.items():
        if dtype is not None and kind.startswith(('F', 'BF')):
            bits = 8 * dtype.itemsize
        else:
            found = re.search(r'\d+', kind)
            bits = int(found[0]) if found else 8  # BOOL
        size += count * bits // 8
    return size


def checksum(files: Sequence[Path]) -> str:
    """Return the SHA-256 of a file in hexadecimal digits; of several, the SHA-256 over the digests of each."""
    digests = []
    for path in files:
        with path.open('rb') as file:
            digests.append(hashlib.file_digest(file, 'sha256'))
    if len(digests) == 1:
        return digests[0].hexdigest()
    return hashlib.sha256(b''.join(digest.digest() for digest in digests)).hexdigest()


def check_memory(name: str, needed: float, device: torch.device | None = None) -> None:
    """Refuse a model that does not fit into the free memory of the host, through which weights pass, and of its device.

    Args:
        name: name of the model for the sentence.
        needed: bytes.
        device: where the model is to run; None for the host.

    Raises:
        InputError: model_memory, with both figures.
    """
    free = {'the host': psutil.virtual_memory().available}
    if device is not None and device.type == 'cuda':
        free[str(device)] = torch.cuda.mem_get_info(device)[0]
    for where, there in free.items():
        if needed > there:
            raise InputError(
                'model_memory',
                f'{name} needs about {needed / GIB:.2f} GiB and {where} has {there / GIB:.2f} GiB free; take a smaller '
                'model or data type, or stop other programs.',
            )
