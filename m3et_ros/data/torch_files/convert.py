"""Weights of torch.save to safetensors: a file is read by a child (data.torch_files.worker), never by this process."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from m3et_ros.data.errors import InputError
from m3et_ros.data.files import check_regular, refuse_unwritable

WORKER = 'm3et_ros.data.torch_files.worker'
ONE, INDEX = 'model.safetensors', 'model.safetensors.index.json'
SPARE_BYTES = 2**30
"""Memory that a child may have beside three times the size of its file: the tensors, a copy, and a shard of them."""
FIX = 'give a file of torch.save that holds tensors alone, from a source that you trust'
CODE = ('Weights only load failed', 'Unsupported global', 'weights_only')
"""Words of torch about a file that would run code."""


@dataclass(frozen=True)
class Converted:
    """The result of a conversion."""

    # Files of weights in the folder, and the number of tensors in them.
    files: tuple[str, ...]
    tensors: int
    # The key that the weights were stored under, by input file; '' for a file that holds weights alone.
    parts: tuple[str, ...]
    # Names of values that are no tensors and were left out.
    left_out: tuple[str, ...]


def convert_weights(paths: Sequence[Path], folder: Path, *, timeout_s: float = 1800.0) -> Converted:
    """Convert files of torch.save to safetensors, each in a process of its own.

    Nested dictionaries become names with full stops. Where a file holds the state of training too, only its weights
    are converted: those under 'model', 'state_dict' or 'model_state_dict'.

    Args:
        paths: the files, all shards of one model.
        folder: gets model.safetensors, or shards with their index where there are several files or more than 2 GiB.
        timeout_s: longest time for a file in seconds.

    Raises:
        InputError: weights_file (a file is missing or damaged, holds code, no tensors, or two tensors of one name;
            it takes too much memory or time), not_a_file, out_exists (the folder holds weights already),
            out_unwritable.
    """
    for path in paths:
        if not os.path.exists(path):
            raise InputError('weights_file', f'There is no {path}; {FIX}.')
        check_regular(path, FIX)
    for name in (ONE, INDEX):
        if (folder / name).exists():
            raise InputError('out_exists', f'{folder / name} exists already; give another folder with -o.')
    with refuse_unwritable(folder, 'give a writable folder with free space.'):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix='.convert-', dir=folder) as part:
            return _converted(paths, folder, Path(part), timeout_s)


def _converted(paths: Sequence[Path], folder: Path, part: Path, timeout_s: float) -> Converted:
    owners: dict[str, str] = {}
    parts, left_out = [], []
    for index, path in enumerate(paths):
        found = _read(path, part, f'{index:05}', timeout_s)
        parts.append(found['part'])
        left_out += found['left_out']
        for file, names in found['files'].items():
            twice = sorted(set(names) & set(owners))
            if twice:
                raise InputError(
                    'weights_file', f'{path} holds the tensor {twice[0]} again; give each file of the model once.'
                )
            owners |= dict.fromkeys(names, file)
    files = sorted(set(owners.values()))
    if len(files) == 1:
        shutil.move(part / files[0], folder / ONE)
        return Converted((ONE,), len(owners), tuple(parts), tuple(left_out))
    names = {file: f'model-{n:05}-of-{len(files):05}.safetensors' for n, file in enumerate(files, start=1)}
    for file, name in names.items():
        shutil.move(part / file, folder / name)
    total = sum((folder / name).stat().st_size for name in names.values())
    index_file = {'metadata': {'total_size': total}, 'weight_map': {name: names[owners[name]] for name in owners}}
    (folder / INDEX).write_text(json.dumps(index_file, indent=2), encoding='utf-8')
    return Converted(tuple(names.values()), len(owners), tuple(parts), tuple(left_out))


def _read(path: Path, part: Path, prefix: str, timeout_s: float) -> dict:
    """Have a child convert a file, and return its report."""
    memory = 3 * path.stat().st_size + SPARE_BYTES
    try:
        done = subprocess.run(
            [sys.executable, '-P', '-m', WORKER, str(path.resolve()), str(part), prefix, str(memory)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            env=os.environ | {'OMP_NUM_THREADS': '1', 'MALLOC_ARENA_MAX': '1'},
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise InputError(
            'weights_file', f'{path} took longer than {timeout_s:g} s to read; raise --timeout, or {FIX}.'
        ) from error
    try:
        found = json.loads(done.stdout)
    except ValueError:
        last = done.stderr.decode(errors='replace').strip().splitlines()[-1:] or ['it said nothing']
        raise InputError(
            'weights_file', f'The reader of {path} ended with code {done.returncode} ({last[0][:200]}); {FIX}.'
        ) from None
    if 'error' not in found:
        return found
    said = str(found['error'])
    if any(words in said for words in CODE):
        raise InputError('weights_file', f'{path} holds more than tensors: it would run code when read; {FIX}.')
    raise InputError('weights_file', f'{path} cannot be converted: {" ".join(said.split())[:300]}; {FIX}.')
