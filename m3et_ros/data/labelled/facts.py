"""Facts about the frames of a labelled recording, and the two tables in which people correct them.

objects.csv has a row for each thing and each part of the background that a teacher found, questions.csv one for each
question that a teacher answered in its own words. The last column, `correct`, is empty where the row is right. In
objects.csv it takes the right name, in questions.csv the right answer; '-' leaves the row out in both.
"""

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from m3et_ros.data.errors import InputError
from m3et_ros.data.files import read_regular, write_atomically

OBJECTS_FILE, QUESTIONS_FILE = 'objects.csv', 'questions.csv'
PARTS = ('thing', 'unsure', 'background')
"""Roles of a row: questions are about things; a name that is unsure is neither counted nor called absent; the
background only colours the mask."""
LEFT_OUT = '-'


@dataclass(frozen=True)
class ObjectFact:
    """One thing, or one part of the background, of one frame."""

    # Number of the frame in the data set, and of the object in the frame: its value in the mask, 0 to 254.
    frame: int
    number: int
    name: str
    # One of PARTS.
    part: str
    # Confidence of the teacher, 0 to 1, and its model id.
    confidence: float
    teacher: str
    # Box as shares of the width and height: left, top, right, bottom.
    left: float
    top: float
    right: float
    bottom: float
    # Mean position across the picture, 0 left to 1 right, and share of the picture.
    across: float
    share: float
    # Metres from the camera; NaN where unknown.
    distance: float = math.nan
    # Word for its colour; empty where several meet.
    colour: str = ''
    # Words for its place, 'on the table'; empty where unknown.
    place: str = ''
    correct: str = ''


@dataclass(frozen=True)
class AnsweredFact:
    """One question about one frame that a teacher answered in words."""

    frame: int
    question: str
    answer: str
    confidence: float
    teacher: str
    correct: str = ''


Fact = TypeVar('Fact', ObjectFact, AnsweredFact)


def write_facts(path: Path, facts: Iterable[ObjectFact] | Iterable[AnsweredFact], kind: type) -> None:
    """Write a table; unknown numbers are empty cells.

    Raises:
        OSError: it cannot be written; a table that was there stays.
    """
    names = [field.name for field in fields(kind)]
    with write_atomically(path) as part, part.open('w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows([_cell(getattr(fact, name)) for name in names] for fact in facts)


def read_facts(path: Path, kind: type[Fact], frames: int) -> list[Fact]:
    """Read a table with its corrections applied: renamed rows have their right name, rows left out are gone.

    An unsure row with a correction becomes a thing.

    Args:
        path: the table.
        kind: ObjectFact or AnsweredFact.
        frames: number of frames of the data set.

    Raises:
        InputError: 'labels_table', the file is missing, or a row of it is not valid.
    """
    try:
        text = read_regular(path, 'label the recording again').decode()
        rows = list(csv.DictReader(text.splitlines(), strict=True))
    except (OSError, ValueError, csv.Error) as error:
        raise InputError('labels_table', f'{path} cannot be read ({error}); label the recording again') from error
    found = []
    for line, row in enumerate(rows, start=2):
        try:
            fact = kind(**{field.name: _value(row[field.name], field.type) for field in fields(kind)})
            _check(fact, frames)
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise InputError(
                'labels_table',
                f'line {line} of {path} is not valid ({error}); change only its last column, correct: empty where '
                f'the row is right, {LEFT_OUT} to leave it out, or the right word',
            ) from error
        if fact.correct != LEFT_OUT:
            found.append(_corrected(fact))
    return found


def _corrected(fact: Any) -> Any:
    if not fact.correct:
        return fact
    if isinstance(fact, ObjectFact):
        part = 'thing' if fact.part == 'unsure' else fact.part
        return replace(fact, name=fact.correct, part=part, confidence=1.0)
    return replace(fact, answer=fact.correct, confidence=1.0)


def _check(fact: Any, frames: int) -> None:
    if not 0 <= fact.frame < frames:
        raise ValueError(f'frame is {fact.frame} of {frames}')
    if not 0 <= fact.confidence <= 1:
        raise ValueError(f'confidence is {fact.confidence}')
    if isinstance(fact, ObjectFact):
        if fact.part not in PARTS:
            raise ValueError(f'part is {fact.part!r}, not one of {", ".join(PARTS)}')
        if not 0 <= fact.number < 255 or not fact.name:
            raise ValueError(f'number is {fact.number} and name {fact.name!r}')


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return '' if math.isnan(value) else round(value, 4)
    return value


def _value(text: str, kind: Any) -> Any:
    if kind is float:
        return float(text) if text else math.nan
    return kind(text.strip())


def names_of(facts: Sequence[ObjectFact], parts: Sequence[str] = PARTS) -> list[str]:
    """Return the names of the facts of some parts, each once, the commonest first."""
    counts: dict[str, int] = {}
    for fact in facts:
        if fact.part in parts:
            counts[fact.name] = counts.get(fact.name, 0) + 1
    return sorted(counts, key=lambda name: (-counts[name], name))
