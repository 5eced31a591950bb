"""The JSON files of checkpoint folders: written as a whole, read only when small, and checked field by field."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from m3et_ros.data.errors import InputError
from m3et_ros.data.files import parse_json, read_regular, write_atomically

CONFIG = 'config.json'
MAX_JSON_BYTES = 4 * 2**20
"""Largest JSON file that is read."""
MODEL_ID = re.compile(r'[A-Za-z0-9_][\w.@+-]{0,199}')
"""A model id stands in every answer, in logs, tables and file names, so it holds nothing that these would interpret."""
AGAIN = 'copy or download the checkpoint again'
"""The fix in the errors about damaged checkpoints."""


def write_json(path: Path, value: Any) -> None:
    """Write a document of a checkpoint folder."""
    with write_atomically(path) as part:
        part.write_text(json.dumps(value, indent=2, ensure_ascii=False) + '\n', encoding='utf-8')


def read_json(path: Path, most: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """Read a document of a checkpoint folder.

    Args:
        path: path of the document.
        most: largest size in bytes.

    Raises:
        InputError: model_config, it is no regular file, too large or not a JSON object.
    """
    try:
        text = read_regular(path, AGAIN, most=most)
    except InputError as error:
        raise InputError('model_config', str(error)) from error
    except OSError as error:
        raise InputError('model_config', f'{path} cannot be read ({error.strerror}); {AGAIN}.') from error
    try:
        value = parse_json(text)
    except (ValueError, RecursionError) as error:
        raise InputError('model_config', f'{path.name} is not JSON ({error}); {AGAIN}.') from error
    if not isinstance(value, dict):
        raise InputError('model_config', f'{path.name} holds no JSON object; {AGAIN}.')
    return value


def read_config_of(
    folder: Path, kind: str, fields: Mapping[str, type], version: int, *, what: str, command: str
) -> dict[str, Any]:
    """Read config.json of a checkpoint folder of one kind.

    Args:
        folder: the folder.
        kind: value of the field 'kind'.
        fields: field to type, as in check_fields.
        version: the supported format.
        what: the model in words, for errors.
        command: writes such a folder, for errors.

    Raises:
        InputError: model_missing, there is no config.json; model_config, it is of another kind, or as in read_json and
            check_fields.
    """
    fix = f'give a checkpoint folder that {command} has written.'
    if not (folder / CONFIG).is_file():
        raise InputError('model_missing', f'There is no {folder / CONFIG}; {fix}')
    stored = read_json(folder / CONFIG)
    if stored.get('kind') != kind:
        raise InputError('model_config', f'{folder} holds no {what}; {fix}')
    check_fields(stored, fields, version)
    return stored


def check_fields(stored: Mapping[str, Any], kinds: Mapping[str, type], version: int) -> None:
    """Check that a config has its fields and the supported format.

    Args:
        stored: the config.
        kinds: field to type; 'format' is one of them.
        version: the supported format.

    Raises:
        InputError: model_config, a field is missing or of another type, an id is not of the form of MODEL_ID, or the
            format is another one.
    """
    for key, kind in kinds.items():
        if not isinstance(stored.get(key), kind):
            raise InputError('model_config', f'{CONFIG} has no {key} of type {kind.__name__}; {AGAIN}.')
    for key in {'model_id', 'vision'} & set(kinds):
        if not MODEL_ID.fullmatch(stored[key]):
            raise InputError('model_config', f'{CONFIG} has {key} {stored[key][:99]!r}; use letters, digits, _.@+-.')
    if stored['format'] != version:
        raise InputError(
            'model_config',
            f'{CONFIG} is of format {stored["format"]} and this version reads {version}; '
            'use the version that wrote it.',
        )
