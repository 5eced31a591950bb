"""Config and labels of a checkpoint folder of M3ET: what it says of itself, read without torch and without weights."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from m3et_ros.data.calibration import calibration_from
from m3et_ros.data.checkpoints import MODEL_TYPE
from m3et_ros.data.checkpoints.json_files import AGAIN, CONFIG, check_fields, read_json
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Labels
from m3et_ros.data.questions.taught import taught_from
from m3et_ros.models.m3et.config import M3ETConfig

FORMAT = 1
MODEL = 'model.safetensors'
LABELS = 'labels.json'


@dataclass(frozen=True)
class CheckpointFacts:
    """Facts of a checkpoint before its weights are read; the fields are those of Checkpoint."""

    labels: Labels
    model_id: str
    trained: bool
    # Names of the heads.
    heads: frozenset[str]


def read_facts(folder: Path) -> CheckpointFacts:
    """Read what a folder says of itself; nothing is compared with its weights.

    Raises:
        InputError: model_config.
    """
    stored = read_config(folder)
    try:
        config = M3ETConfig.from_dict(stored['model'])
    except (ValueError, TypeError) as error:
        raise InputError('model_config', f'{CONFIG} is refused: {error}; correct it, or {AGAIN}.') from error
    return CheckpointFacts(
        read_labels(folder), model_id_of(stored, config), stored['trained'], frozenset(stored['heads'])
    )


def model_id_of(stored: Mapping[str, Any], config: M3ETConfig) -> str:
    """Return the id of the model of a folder: its name and the beginning of the SHA-256 of its weights, if trained."""
    return f'{config.name}@{str(stored["sha256"].get(MODEL))[:8]}' if stored['trained'] else stored['model_id']


def read_config(folder: Path) -> dict[str, Any]:
    """Read config.json of a folder, with the types of its fields checked.

    Raises:
        InputError: model_config.
    """
    stored = read_json(folder / CONFIG)
    kinds = {'format': int, 'model_id': str, 'trained': bool, 'model': dict, 'heads': dict, 'sha256': dict}
    check_fields(stored, kinds, FORMAT)
    if stored.get('model_type', MODEL_TYPE) != MODEL_TYPE:
        raise InputError(
            'model_config',
            f'{CONFIG} has model_type {str(stored["model_type"])[:40]!r} and not {MODEL_TYPE!r}; {AGAIN}.',
        )
    unknown = sorted(set(stored) - set(kinds) - {'model_type'})
    if unknown:
        raise InputError('model_config', f'{CONFIG} holds the unknown key {unknown[0]!r}; remove it.')
    return stored


def dataclass_from(kind: type, values: Mapping[str, Any]) -> Any:
    """Rebuild a flat dataclass; lists become tuples, which JSON does not have.

    Raises:
        ValueError: a field is unknown.
    """
    known = {f.name for f in fields(kind)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ValueError(f'{kind.__name__} has no field {unknown[0]!r}, only {", ".join(sorted(known))}')
    return kind(**{key: _tuples(value) for key, value in values.items()})


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def read_labels(folder: Path) -> Labels:
    """Read labels.json of a folder.

    Raises:
        InputError: model_config.
    """
    values = read_json(folder / LABELS)
    if values.get('taught') is not None:
        values['taught'] = taught_from(values['taught'])
    if 'calibration' in values:
        values['calibration'] = calibration_from(values['calibration'])
    try:
        labels = dataclass_from(Labels, values)
    except (ValueError, TypeError) as error:
        raise InputError('model_config', f'{LABELS} is refused: {error}; correct it, or {AGAIN}.') from error
    for name in ('classes', 'answers', 'verbs', 'nouns'):
        if not all(isinstance(label, str) for label in getattr(labels, name)):
            raise InputError('model_config', f'{LABELS} has {name} that are not words; {AGAIN}.')
        if len(set(getattr(labels, name))) < len(getattr(labels, name)):
            raise InputError('model_config', f'{LABELS} has {name} with the same word twice; {AGAIN}.')
    if not all(_is_colour(colour) for colour in labels.colors) or len(labels.colors) > len(labels.classes):
        raise InputError('model_config', f'{LABELS} has colors that are not (R, G, B) of 0..255 for a class; {AGAIN}.')
    return labels


def _is_colour(colour: Any) -> bool:
    return isinstance(colour, tuple) and len(colour) == 3 and all(type(c) is int and 0 <= c <= 255 for c in colour)
