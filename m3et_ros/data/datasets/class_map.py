"""From the class ids of a data set to those of a model, by name; what has no counterpart is unlabelled."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import UNLABELLED


def class_table(names: Sequence[str], wanted: Mapping[str, int], *, first: int = 0) -> np.ndarray:
    """Table (65536,) uint8 by which label maps uint8 or uint16 are translated: `table[labels]`.

    Args:
        names: classes of the data set; the first one has the id `first`.
        wanted: name to the model's class id, 0 to 254; a name that is not among `names` does no harm.
        first: id of names[0] in the label maps.
    """
    table = np.full(65536, UNLABELLED, np.uint8)
    table[first : first + len(names)] = [wanted.get(name, UNLABELLED) for name in names]
    return table


def read_class_map(path: Path, classes: Sequence[str]) -> dict[str, int]:
    """A user's map: a JSON object from the data set's class names to the model's classes, by name or id.

        {"refrigerator": "fridge", "cabinet": 6}

    Args:
        path: of the file.
        classes: the model's, in the order of its ids.

    Raises:
        InputError: the file cannot be read or is no such object, or a class is not the model's.
    """
    document = read_json(path)
    if not isinstance(document, dict):
        raise InputError(
            'class_map',
            f'{path} holds a {type(document).__name__}; give an object of class names, for '
            'example {"refrigerator": "fridge"}',
        )
    places = {name: place for place, name in enumerate(classes)}
    return {name: _place(path, name, target, places) for name, target in document.items()}


def _place(path: Path, name: str, target: object, places: Mapping[str, int]) -> int:
    if isinstance(target, str) and target in places:
        return places[target]
    if isinstance(target, int) and not isinstance(target, bool) and 0 <= target < len(places):
        return target
    raise InputError(
        'class_map',
        f'{path} maps {name!r} to {target!r}, which is no class of the model; give one of '
        f'its {len(places)} names or ids, such as {next(iter(places), None)!r} or 0',
    )


def read_json(path: Path) -> object:
    """What a JSON file holds.

    Raises:
        InputError: the file is missing, cut off or no JSON.
    """
    try:
        with path.open(encoding='utf-8') as file:
            return json.load(file)
    except OSError as error:
        raise InputError(
            'data_missing', f'{path} cannot be read ({error.strerror}); give a file that is there'
        ) from error
    except ValueError as error:
        raise InputError('data_format', f'{path} is no JSON or was cut off ({error}); fetch it again') from error
