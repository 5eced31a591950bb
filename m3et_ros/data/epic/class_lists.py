"""Read the lists beside the annotations of EPIC-KITCHENS-100: classes, tail classes, unseen participants, videos.

Source: the annotations repository of Damen et al. (IJCV 2022); docs/papers.md 7.7 and 9.1. It may not be redistributed
inside the package, so everything is read from a folder of the user's.
"""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from m3et_ros.data.errors import InputError
from m3et_ros.data.files import open_regular

VERBS, NOUNS = 'EPIC_100_verb_classes.csv', 'EPIC_100_noun_classes.csv'
TAIL = {'verb': 'EPIC_100_tail_verbs.csv', 'noun': 'EPIC_100_tail_nouns.csv'}
UNSEEN = 'EPIC_100_unseen_participant_ids_{split}.csv'
VIDEOS = 'EPIC_100_video_info.csv'


@dataclass(frozen=True)
class Classes:
    """Names of the verb and noun classes in the order of their ids, with their categories.

    Raises:
        ValueError: a list is empty, holds a name twice, or names and categories differ in number.
    """

    # Keys as the file has them, for example 'turn-on'.
    verbs: tuple[str, ...]
    # For example 'board:chopping'.
    nouns: tuple[str, ...]
    # Category of each verb, 13 in the official list.
    verb_categories: tuple[str, ...]
    # Category of each noun, 21 in the official list.
    noun_categories: tuple[str, ...]

    def __post_init__(self):
        for name, kinds in (('verbs', 'verb_categories'), ('nouns', 'noun_categories')):
            keys = getattr(self, name)
            if not keys or len(set(keys)) < len(keys) or len(getattr(self, kinds)) != len(keys):
                raise ValueError(
                    f'{name} are {len(keys)} keys ({len(set(keys))} different) with '
                    f'{len(getattr(self, kinds))} categories; give each key once, with its category'
                )


@dataclass(frozen=True)
class Video:
    """Length and picture rate of a video as it was recorded.

    Raises:
        ValueError: duration or rate is not a number above 0.
    """

    # Length in seconds.
    duration_s: float
    # Pictures a second of the recording, usually 50 or 59.94; data.epic.frames.official_rate is that of the pictures.
    fps: float

    def __post_init__(self):
        for name in ('duration_s', 'fps'):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f'{name} is {getattr(self, name)}; give a number above 0')


def read_classes(folder: str | Path) -> Classes:
    """Read both class lists of a folder.

    Raises:
        InputError: a file is missing or of another form, or its ids are not 0, 1, 2 and so on.
    """
    verbs, nouns = (_class_list(Path(folder) / name) for name in (VERBS, NOUNS))
    return Classes(*(tuple(keys) for keys in (verbs[0], nouns[0], verbs[1], nouns[1])))


def read_tail(folder: str | Path, task: str) -> tuple[int, ...]:
    """Read the ids of the rare classes.

    Args:
        folder: folder of the annotations.
        task: 'verb' or 'noun'.

    Raises:
        InputError: the file is missing or of another form.
    """
    path = Path(folder) / TAIL[task]
    return tuple(int(_number(path, row.get(task), int, task)) for row in _rows(path))


def read_unseen(folder: str | Path, split: str, *, present: Iterable[str], learnt: Iterable[str]) -> tuple[str, ...]:
    """Return the participants without training videos: the official list of the split if there is one, else computed.

    Args:
        folder: folder of the annotations.
        split: for example 'validation'.
        present: participants of the evaluated file.
        learnt: participants of the training file.

    Raises:
        InputError: the list is of another form.
    """
    path = Path(folder) / UNSEEN.format(split=split)
    if not path.is_file():
        return tuple(sorted(set(present) - set(learnt)))
    return tuple(_text(path, row.get('participant_id'), 'participant_id') for row in _rows(path))


def read_videos(folder: str | Path) -> dict[str, Video]:
    """Read video id to length and picture rate.

    Raises:
        InputError: the file is missing or of another form.
    """
    path = Path(folder) / VIDEOS
    found = {}
    for row in _rows(path):
        name = _text(path, row.get('video_id'), 'video_id')
        try:
            found[name] = Video(*(_number(path, row.get(key), float, key) for key in ('duration', 'fps')))
        except InputError:
            raise
        except ValueError as error:
            raise InputError('data_format', f'{path} has the video {name}, whose {error}') from error
    return found


def _class_list(path: Path) -> tuple[Sequence[str], Sequence[str]]:
    rows = _rows(path)
    ids = [_number(path, row.get('id'), int, 'id') for row in rows]
    if sorted(ids) != list(range(len(rows))) or not rows:
        raise InputError(
            'data_format',
            f'{path} has {len(rows)} classes whose ids are not 0 to {len(rows) - 1}; give the official list',
        )
    ordered = [row for _, row in sorted(zip(ids, rows, strict=True), key=lambda pair: pair[0])]
    keys = [_text(path, row.get('key'), 'key') for row in ordered]
    if len(set(keys)) < len(keys):
        raise InputError('data_format', f'{path} names a class twice; give the official list')
    return keys, [row.get('category') or '' for row in ordered]


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with open_regular(path, 'give a CSV file') as file:
            return list(csv.DictReader(io.TextIOWrapper(file, encoding='utf-8-sig', newline='')))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            'data_missing', f'{path} cannot be read ({error}); put the list of the EPIC-KITCHENS-100 annotations there'
        ) from error


def _number(path: Path, text: str | None, kind: type, name: str) -> int | float:
    try:
        return kind(text)
    except (TypeError, ValueError) as error:
        raise InputError(
            'data_format', f'{path} has {name} {text!r}; give the official list, where it is a number'
        ) from error


def _text(path: Path, text: str | None, name: str) -> str:
    if not text:
        raise InputError('data_format', f'{path} has a row without {name}; give the official list')
    return text
