"""Translate segments whose verbs and nouns are words to the labels of a model, and write them to files.

    known, unknown = labelled(read_segments(path, None).segments, labels)
    write_segments(path, segments, fps=10)

A word matches a label in any of EPIC-KITCHENS-100's forms: 'turn-on' and 'turn on', 'board:chopping' and 'chopping
board'.
"""

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from m3et_ros.data.action_questions import spoken_noun, spoken_verb
from m3et_ros.data.epic.annotations import NO_CLASS, Segment
from m3et_ros.data.files import refuse_unwritable
from m3et_ros.data.frame import Labels

COLUMNS = (
    'narration_id',
    'participant_id',
    'video_id',
    'narration_timestamp',
    'start_timestamp',
    'stop_timestamp',
    'start_frame',
    'stop_frame',
    'narration',
    'verb',
    'verb_class',
    'noun',
    'noun_class',
    'all_nouns',
    'all_noun_classes',
)
"""The official columns, in their order."""


@dataclass(frozen=True)
class Labelled:
    """A segment with the labels of a model."""

    segment: Segment
    # Positions in Labels.verbs and Labels.nouns.
    verb: int
    noun: int


@dataclass(frozen=True)
class Unknown:
    """Words of segments for which a model has no label."""

    # Number of segments left out.
    segments: int
    # Word, or 'class 7' where the file has only ids, to its number of segments; the commonest first.
    verbs: dict[str, int]
    nouns: dict[str, int]


def labelled(segments: Sequence[Segment], labels: Labels) -> tuple[list[Labelled], Unknown]:
    """Look up verbs and nouns in the labels of a model.

    Args:
        segments: as data.epic.annotations.read_segments returns them. Where a word is missing, the class id is looked
            up in the published ids of the labels; where these have none, the id is a position in them.
        labels: labels of the model.

    Returns:
        The segments whose verb and noun are both known, in their order, and the unknown words.
    """
    tables: list[dict[str | int, int]] = []
    for names, ids, of_noun in ((labels.verbs, labels.verb_ids, False), (labels.nouns, labels.noun_ids, True)):
        tables.append({_plain(name, noun=of_noun): i for i, name in enumerate(names)})
        tables[-1] |= {number: i for i, number in enumerate(ids or range(len(names)))}
    known: list[Labelled] = []
    unknown_verbs: Counter[str] = Counter()
    unknown_nouns: Counter[str] = Counter()
    for segment in segments:
        verb_word, noun_word = segment.verb_word, segment.noun_word
        verb = tables[0].get(_plain(verb_word, noun=False) if verb_word else segment.verb)
        noun = tables[1].get(_plain(noun_word, noun=True) if noun_word else segment.noun)
        if verb is not None and noun is not None:
            known.append(Labelled(segment, verb, noun))
            continue
        if verb is None:
            unknown_verbs[verb_word or f'class {segment.verb}'] += 1
        if noun is None:
            unknown_nouns[noun_word or f'class {segment.noun}'] += 1
    unknown = Unknown(len(segments) - len(known), dict(unknown_verbs.most_common()), dict(unknown_nouns.most_common()))
    return known, unknown


def _plain(word: str, *, noun: bool) -> str:
    """Return a word in a form that all its spellings share."""
    word = word.strip().lower()
    return ' '.join((spoken_noun(word) if noun else spoken_verb(word)).replace('_', ' ').replace('-', ' ').split())


def write_segments(path: Path, segments: Sequence[Segment], *, fps: float) -> None:
    """Write a file with the official columns.

    Args:
        path: path of the file.
        segments: with their words; missing ids are left empty.
        fps: rate of the official frame numbers, which nothing here reads.

    Raises:
        InputError: 'out_unwritable'.
    """
    refusal = refuse_unwritable(path, 'give a writable folder with free space')
    with refusal, path.open('w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file, lineterminator='\n')
        writer.writerow(COLUMNS)
        writer.writerows(_row(segment, fps) for segment in segments)


def _row(segment: Segment, fps: float) -> tuple:
    verb, noun = ('' if number == NO_CLASS else number for number in (segment.verb, segment.noun))
    return (
        segment.narration_id,
        segment.participant,
        segment.video,
        _clock(segment.start_s),
        _clock(segment.start_s),
        _clock(segment.stop_s),
        round(fps * segment.start_s) + 1,
        round(fps * segment.stop_s) + 1,
        segment.narration,
        segment.verb_word,
        verb,
        segment.noun_word,
        noun,
        f"['{segment.noun_word}']",
        f'[{noun}]',
    )


def _clock(seconds: float) -> str:
    """Format seconds as an official timestamp: 62.34 as '00:01:02.340'."""
    whole, thousandths = divmod(round(1000 * seconds), 1000)
    return f'{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}.{thousandths:03}'
