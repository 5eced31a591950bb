"""Read, check and write question files and result files in OpenEQA's schema (docs/papers.md 9.3).

A question file is a JSON list of objects with the texts question, answer, category, question_id and episode_history;
some have extra_answers, a list of further right answers. Two more fields, which other readers ignore, are ours: time,
for a question about one frame, and answers, the answers of several people. A result file is a list of objects with
question_id and answer, null for none.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m3et_ros.data.datasets.class_map import read_json
from m3et_ros.data.errors import InputError
from m3et_ros.data.files import refuse_unwritable

CATEGORIES = (
    'object recognition',
    'object localization',
    'attribute recognition',
    'spatial understanding',
    'object state recognition',
    'functional reasoning',
    'world knowledge',
)
"""The seven categories of OpenEQA; files may have others."""

FIELDS = ('question', 'answer', 'category', 'question_id', 'episode_history')
FEWEST = 4
"""Fewest human answers of a soft score: with fewer even full agreement would score below 1."""


@dataclass(frozen=True)
class EqaQuestion:
    """One question about an episode."""

    question: str
    # The reference.
    answer: str
    # One of CATEGORIES, or another word under which scores are reported.
    category: str
    # Unique in the file.
    question_id: str
    # Its episode: 'hm3d-v0/000-hm3d-BFRyYbPCCPE', or the name of a bag.
    episode_history: str
    # Further right answers.
    extra_answers: tuple[str, ...] = ()
    # Seconds after the first colour frame of the bag, 0 or more: the question is about the newest frame at or before
    # it. None for the last frame.
    time: float | None = None
    # Answers of several people, ten in VQAv2, for the soft score; () for none.
    answers: tuple[str, ...] = ()

    @property
    def references(self) -> tuple[str, ...]:
        """All right answers, the reference first."""
        return (self.answer, *self.extra_answers)

    @property
    def episode(self) -> str:
        """The last part of episode_history, which identifies a bag."""
        return episode_name(self.episode_history)


def episode_name(path: str | Path) -> str:
    """Return the name of an episode: the last part of a path, without the suffix of a bag."""
    # A node, which needs the categories of this file, reads no bag.
    from m3et_ros.data.bags.packed import PACKED
    from m3et_ros.data.bags.reader import SUFFIXES, is_recording

    last = Path(Path(path).name)
    if is_recording(last) and last.suffix in PACKED:
        last = Path(last.stem)
    return last.stem if last.suffix in SUFFIXES else last.name


def read_questions(path: Path) -> list[EqaQuestion]:
    """Read the questions of a file, in its order.

    Raises:
        InputError: 'data_missing' or 'data_format' where it cannot be read, 'eqa_schema' where it is not a list of
            questions; the sentence names the record.
    """
    records = _records(path, 'question')
    questions = [_question(record, f'{path}, record {n}') for n, record in enumerate(records, start=1)]
    _check_distinct(path, [question.question_id for question in questions])
    return questions


def read_question_files(paths: Sequence[Path]) -> list[EqaQuestion]:
    """Read the questions of several files, one after the other.

    Raises:
        InputError: as read_questions, or two files share a question_id.
    """
    questions = [question for path in paths for question in read_questions(path)]
    _check_distinct(' and '.join(map(str, paths)), [question.question_id for question in questions])
    return questions


def write_questions(path: Path, questions: Iterable[EqaQuestion]) -> None:
    """Write a question file, with extra_answers, time and answers only where there are any.

    Raises:
        InputError: 'out_unwritable'.
    """
    records = []
    for question in questions:
        record: dict[str, Any] = {name: getattr(question, name) for name in FIELDS}
        if question.extra_answers:
            record['extra_answers'] = list(question.extra_answers)
        if question.time is not None:
            record['time'] = question.time
        if question.answers:
            record['answers'] = list(question.answers)
        records.append(record)
    _write(path, records)


def read_results(path: Path) -> dict[str, str | None]:
    """Read a result file: question_id to answer, None for none.

    Raises:
        InputError: as read_questions.
    """
    results: dict[str, str | None] = {}
    for n, record in enumerate(_records(path, 'result'), start=1):
        where = f'{path}, record {n}'
        name = _text(record, 'question_id', where)
        answer = record.get('answer')
        if answer is not None and not isinstance(answer, str):
            raise InputError(
                'eqa_schema',
                f"{where} (question_id {name!r}): 'answer' is {answer!r}; give text, or "
                'null for a question left unanswered',
            )
        if name in results:
            raise InputError(
                'eqa_schema', f'{where}: question_id {name!r} has been answered before; answer each question once'
            )
        results[name] = answer
    return results


def write_results(path: Path, answers: Mapping[str, str | None]) -> None:
    """Write a result file, sorted by question_id; None for a question left unanswered.

    Raises:
        InputError: 'out_unwritable'.
    """
    _write(path, [{'question_id': name, 'answer': answers[name]} for name in sorted(answers)])


def _records(path: Path, what: str) -> list[dict]:
    """Read the objects of a file; `what` is the noun for one of them."""
    document = read_json(path)
    if not isinstance(document, list) or not document:
        found = 'an empty list' if document == [] else f'a {type(document).__name__}'
        raise InputError('eqa_schema', f'{path} holds {found}; OpenEQA has a list of objects, one for each {what}')
    for n, record in enumerate(document, start=1):
        if not isinstance(record, dict):
            raise InputError(
                'eqa_schema',
                f'{path}, record {n} is {str(record)[:40]!r}; give an object, as OpenEQA has for each {what}',
            )
    return document


def _question(record: Mapping[str, Any], where: str) -> EqaQuestion:
    if isinstance(record.get('question_id'), str):
        where += f' (question_id {record["question_id"]!r})'
    texts = {name: _text(record, name, where) for name in FIELDS}
    extra = record.get('extra_answers') or ()
    if not isinstance(extra, (list, tuple)) or not all(isinstance(answer, str) for answer in extra):
        raise InputError(
            'eqa_schema', f"{where}: 'extra_answers' is {str(extra)[:60]!r}; give a list of texts, or leave it out"
        )
    # OpenEQA's own file has a blank one, which would make an empty answer right.
    return EqaQuestion(
        **texts,
        extra_answers=tuple(answer for answer in extra if answer.strip()),
        time=_time(record.get('time'), where),
        answers=_human_answers(record.get('answers'), where),
    )


def _time(value: Any, where: str) -> float | None:
    """Return seconds from the beginning of a bag, or None."""
    if value is None:
        return None
    try:
        # Python takes true for 1.
        fits = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
    except OverflowError:  # an integer beyond all floats
        fits = False
    if not fits:
        raise InputError(
            'eqa_schema',
            f"{where}: 'time' is {str(value)[:60]!r}; give seconds after the first colour "
            'frame of the bag, 0 or more, or leave it out for the last frame',
        )
    return float(value)


def _human_answers(value: Any, where: str) -> tuple[str, ...]:
    """Return the answers of people: texts, or VQAv2's objects, which hold one under 'answer'."""
    if value is None or value == []:
        return ()
    items = value if isinstance(value, list) else []
    answers = [item.get('answer') if isinstance(item, dict) else item for item in items]
    texts = tuple(answer for answer in answers if isinstance(answer, str))
    if len(answers) < FEWEST or len(texts) < len(answers):
        raise InputError(
            'eqa_schema',
            f"{where}: 'answers' is {str(value)[:60]!r}; give a list of the answers of {FEWEST} or "
            'more people (ten in VQAv2), or leave it out',
        )
    return texts


def _text(record: Mapping[str, Any], name: str, where: str) -> str:
    """Return a field that must hold text."""
    if name not in record:
        raise InputError(
            'eqa_schema',
            f'{where} has no {name!r}, only {", ".join(map(str, record)) or "nothing"}; '
            f'OpenEQA wants {name!r} in every record',
        )
    value = record[name]
    if not isinstance(value, str) or not value.strip():
        raise InputError('eqa_schema', f'{where}: {name!r} is {str(value)[:60]!r}; give text that is not empty')
    return value


def _check_distinct(where: str | Path, names: Sequence[str]) -> None:
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise InputError(
            'eqa_schema', f'{where}: question_id {twice!r} is in several records; give each question its own'
        )


def _write(path: Path, records: list[dict]) -> None:
    with refuse_unwritable(path, 'give a writable folder with free space'):
        path.write_text(
            json.dumps(records, indent=1, ensure_ascii=False) + '\n', encoding='utf-8', errors='backslashreplace'
        )
