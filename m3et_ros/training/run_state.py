"""What a run needs to go on where it stopped: one safetensors file, its JSON header holding the counters.

Weights, moments of the optimiser and averaged weights are tensors; step, seed, recipe and model are JSON in the
file's metadata. There is no state of random generators: whatever is random is drawn from (seed, step, process).
The file is written beside the old one and then takes its place, so a run that is killed loses no state.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from m3et_ros.data.errors import InputError
from m3et_ros.training.optim import Together

STATE = 'state.safetensors'
FORMAT = 1
MOMENTS = ({'step', 'exp_avg', 'exp_avg_sq'}, {'momentum_buffer'})
"""What AdamW and Muon keep of a parameter."""


def save_state(
    folder: Path, *, model: nn.Module, optimizer: Together, average: nn.Module | None, header: Mapping[str, Any]
) -> None:
    """Write the state of a run, replacing the one before.

    Args:
        folder: folder of the run, which exists.
        model: what is trained.
        optimizer: over its parameters.
        average: averaged weights of the same model, or None.
        header: values that JSON can hold.

    Raises:
        InputError: the file cannot be written (disk_full); the state before it is kept.
    """
    tensors = dict(_tensors(model, optimizer, average))
    new = folder / f'{STATE}.new'
    try:
        save_file(
            {name: t.detach().cpu().contiguous() for name, t in tensors.items()},
            new,
            metadata={'state': json.dumps({'format': FORMAT, **header})},
        )
        with new.open('rb') as file:
            os.fsync(file.fileno())
        new.replace(folder / STATE)
    except (OSError, SafetensorError) as error:
        new.unlink(missing_ok=True)
        raise InputError(
            'disk_full',
            f'The state of the run cannot be written to {folder} ({error}); make room and go '
            'on with --resume from the state before.',
        ) from error


def read_header(folder: Path) -> dict[str, Any]:
    """Read the counters of a stored state.

    Raises:
        InputError: there is none (resume_missing), or it is damaged or of another version (resume_state).
    """
    path = folder / STATE
    if not path.is_file():
        raise InputError('resume_missing', f'There is no {STATE} in {folder}; leave --resume out to start anew.')
    try:
        with safe_open(path, framework='pt') as file:
            header = json.loads((file.metadata() or {})['state'])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise InputError(
            'resume_state', f'{path} is no state of a run ({error}); start anew in another folder.'
        ) from error
    if header.get('format') != FORMAT:
        raise InputError(
            'resume_state',
            f'{path} is of format {header.get("format")} and this version reads {FORMAT}; '
            'go on with the version that wrote it.',
        )
    return header


def load_state(folder: Path, *, model: nn.Module, optimizer: Together, average: nn.Module | None) -> dict[str, Any]:
    """Fill model, optimiser and average from a stored state and return its header.

    Raises:
        InputError: as read_header; resume_state also where the tensors are those of another model.
    """
    header = read_header(folder)
    with safe_open(folder / STATE, framework='pt') as file:
        stored = {name: file.get_tensor(name) for name in file.keys()}
    try:
        model.load_state_dict(_part(stored, 'model.'))
        if average is not None:
            average.load_state_dict(_part(stored, 'average.'))
        _fill_moments(model, optimizer, _part(stored, 'moments.'))
    except (RuntimeError, KeyError) as error:
        first = str(error).splitlines()[0]
        raise InputError(
            'resume_state',
            f'{folder / STATE} holds another model ({first}); give the options that the run was started with.',
        ) from error
    return header


def _tensors(model: nn.Module, optimizer: Together, average: nn.Module | None):
    yield from ((f'model.{name}', t) for name, t in model.state_dict().items())
    if average is not None:
        yield from ((f'average.{name}', t) for name, t in average.state_dict().items())
    for name, parameter in model.named_parameters():
        # A parameter without gradient so far has no moments yet.
        for part in optimizer.parts:
            yield from ((f'moments.{key}.{name}', value) for key, value in part.state.get(parameter, {}).items())


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def _fill_moments(model: nn.Module, optimizer: Together, moments: Mapping[str, Tensor]) -> None:
    kept: dict[str, dict[str, Tensor]] = {}
    for full, value in moments.items():
        key, _, name = full.partition('.')
        kept.setdefault(name, {})[key] = value
    homes = {
        parameter: part for part in optimizer.parts for group in part.param_groups for parameter in group['params']
    }
    for name, parameter in model.named_parameters():
        values = kept.get(name, {})
        if values and set(values) not in MOMENTS:
            raise KeyError(f'moments of {name}')
        if values:
            homes[parameter].state[parameter] = {
                key: value.to(parameter.device, torch.float32 if key == 'step' else parameter.dtype)
                for key, value in values.items()
            }
