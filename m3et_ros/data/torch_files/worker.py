"""Read one file of torch.save with weights_only=True and write its tensors as safetensors: the program of a child.

    python -P -m m3et_ros.data.torch_files.worker FILE FOLDER PREFIX MEMORY

It prints one JSON object: {"files": {name: [tensors]}, "part": ..., "left_out": [...]}, or {"error": "..."}. Only the
parent, data.torch_files.convert, starts it; the limits on memory hold for this process alone.
"""

import json
import resource
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

PARTS = ('model', 'state_dict', 'model_state_dict')
"""Keys under which training programs store the weights beside the state of the optimiser."""
SHARD_BYTES = 2**31
DEPTH, NAMES = 16, 1_000_000


def limit_memory(most: int) -> None:
    """Let this process have `most` bytes of memory beside what it has now."""
    status = Path('/proc/self/status').read_text(encoding='ascii')
    now = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith('VmData'))
    resource.setrlimit(resource.RLIMIT_DATA, (now + most, now + most))


def chosen_part(stored: Any) -> tuple[Any, str]:
    """Return the weights in a stored object, and the key that they were stored under; '' for the whole."""
    if isinstance(stored, Mapping) and not any(isinstance(value, torch.Tensor) for value in stored.values()):
        for key in PARTS:
            if isinstance(stored.get(key), Mapping):
                return stored[key], key
    return stored, ''


def leaves(value: Any, name: str = '', depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested mappings and sequences by their names, whose parts are joined by full stops.

    Raises:
        ValueError: they are nested more than DEPTH deep.
    """
    if depth > DEPTH:
        raise ValueError(f'it is nested more than {DEPTH} deep')
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from leaves(item, f'{name}.{key}' if name else str(key), depth + 1)
    elif isinstance(value, (list, tuple)):
        for key, item in enumerate(value):
            yield from leaves(item, f'{name}.{key}' if name else str(key), depth + 1)
    else:
        yield name, value


def named_tensors(stored: Any) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Return the tensors of a stored object by name, and the names of its other leaves.

    Every tensor owns its memory afterwards, as safetensors asks: tied weights are stored twice.

    Raises:
        ValueError: no tensors, too many leaves, two of one name, or a tensor that is sparse or quantised.
    """
    tensors: dict[str, torch.Tensor] = {}
    others: list[str] = []
    owners: set[int] = set()
    for count, (name, value) in enumerate(leaves(stored)):
        if count >= NAMES:
            raise ValueError(f'it holds more than {NAMES} values')
        if not isinstance(value, torch.Tensor):
            others.append(name)
            continue
        if name in tensors:
            raise ValueError(f'it holds two tensors named {name[:200]}')
        if value.layout != torch.strided or value.is_quantized:
            raise ValueError(f'the tensor {name[:200]} is sparse or quantised')
        value = value.detach().contiguous()
        storage = value.untyped_storage()
        if storage.data_ptr() in owners or storage.nbytes() != value.nbytes:
            value = value.clone()
        owners.add(value.untyped_storage().data_ptr())
        tensors[name] = value
    if not tensors:
        raise ValueError('it holds no tensors')
    return tensors, others


def shards(tensors: Mapping[str, torch.Tensor]) -> list[list[str]]:
    """Return the names of tensors in files of at most SHARD_BYTES, or of one tensor that is larger."""
    files: list[list[str]] = [[]]
    size = 0
    for name, value in tensors.items():
        if files[-1] and size + value.nbytes > SHARD_BYTES:
            files.append([])
            size = 0
        files[-1].append(name)
        size += value.nbytes
    return files


def convert(path: Path, folder: Path, prefix: str) -> dict[str, Any]:
    """Convert a file; return what was written, as the module says."""
    stored = torch.load(path, map_location='cpu', weights_only=True)
    stored, part = chosen_part(stored)
    tensors, others = named_tensors(stored)
    written = {}
    for index, names in enumerate(shards(tensors)):
        file = f'{prefix}-{index}.safetensors'
        save_file({name: tensors[name] for name in names}, folder / file, metadata={'format': 'pt'})
        written[file] = names
    return {'files': written, 'part': part, 'left_out': others}


def main(arguments: Sequence[str]) -> int:
    """Run the program; see the module."""
    path, folder, prefix, memory = arguments
    torch.set_num_threads(1)
    limit_memory(int(memory))
    try:
        found = convert(Path(path), Path(folder), prefix)
    except MemoryError:
        found = {'error': 'it needs more memory than it may have'}
    except RuntimeError as error:
        short = 'allocate memory' in str(error)
        found = {'error': 'it needs more memory than it may have' if short else str(error)}
    except Exception as error:  # the reader raises anything on a damaged file
        found = {'error': str(error) or type(error).__name__}
    print(json.dumps(found))
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
