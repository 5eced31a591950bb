"""Map the class ids of a data set to those of a model, by name; a class without a counterpart is unlabelled."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from m3et_ros.data.errors import InputError
from m3et_ros.data.files import parse_json, read_regular
from m3et_ros.data.frame import UNLABELLED


def class_table(names: Sequence[str], wanted: Mapping[str, int], *, first: int = 0) -> np.ndarray:
    """Return a table (65536,) uint8 that translates label maps uint8 or uint16: `table[labels]`.

    Args:
        names: classes of the data set; the first one has the id `first`.
        wanted: name to the model's class id, 0 to 254; names that are not in `names` are ignored.
        first: id of names[0] in the label maps.
    """
    table = np.full(65536, UNLABELLED, np.uint8)
    table[first : first + len(names)] = [wanted.get(name, UNLABELLED) for name in names]
    return table


def read_class_map(path: Path, classes: Sequence[str]) -> dict[str, int]:
    """Read a user's map: a JSON object from the data set's class names to the model's classes, by name or id.

        {"refrigerator": "fridge", "cabinet": 6}

    Args:
        path: path of the file.
        classes: the model's, in the order of its ids.

    Raises:
        InputError: the file cannot be read or holds no such object, or a class is not the model's.
    """
    document = read_json(path)
    if not isinstance(document, dict):
        raise InputError(
            'class_map',
            f'{path} holds a {type(document).__name__}; give an object of class names, for '
            'example {"refrigerator": "fridge"}',
        )
    ids = {name: number for number, name in enumerate(classes)}
    return {name: _class_id(path, name, target, ids) for name, target in document.items()}


def _class_id(path: Path, name: str, target: object, ids: Mapping[str, int]) -> int:
    if isinstance(target, str) and target in ids:
        return ids[target]
    if isinstance(target, int) and not isinstance(target, bool) and 0 <= target < len(ids):
        return target
    raise InputError(
        'class_map',
        f'{path} maps {name!r} to {target!r}, which is not a class of the model; give one of '
        f'its {len(ids)} names or ids, such as {next(iter(ids), None)!r} or 0',
    )


def read_json(path: Path) -> Any:
    """Read a JSON document.

    Raises:
        InputError: the file is missing, no regular file, cut off or not JSON.
    """
    try:
        return parse_json(read_regular(path, 'give a JSON file'))
    except OSError as error:
        raise InputError(
            'data_missing', f'{path} cannot be read ({error.strerror}); give a file that exists'
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError('data_format', f'{path} is not JSON or was cut off ({error}); fetch it again') from error
