"""VQAv2 (Goyal et al., 2017) as samples: the official JSON files of questions and annotations, and COCO's pictures.

Answers have the soft scores of the official metric (docs/papers.md 7.1). Symbols: Q questions.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from m3et_ros.data.datasets.base import SampleSet
from m3et_ros.data.datasets.class_map import read_json
from m3et_ros.data.datasets.openeqa import FEWEST
from m3et_ros.data.errors import InputError
from m3et_ros.data.files import read_regular
from m3et_ros.data.images.files import names_in, read_rgb
from m3et_ros.data.noise import Noise
from m3et_ros.data.sample import Sample

LEAST = 9
"""Number of questions that must have a candidate as commonest answer; it gives MOST candidates in train and val."""

MOST = 3129
"""Number of candidates of the published table."""


def soft_scores(answers: Sequence[str]) -> dict[str, float]:
    """Score each answer, 0 to 1: the mean of min(1, matches / 3) over all sets that leave one person out.

    Args:
        answers: one per person, ten in VQAv2; there 1, 2, 3 and 4 matches score 0.3, 0.6, 0.9 and 1.

    Returns:
        Answer to score, by falling score, then by first mention.

    Raises:
        ValueError: fewer than four answers.
    """
    people = len(answers)
    if people < FEWEST:
        raise ValueError(f'{people} answers; give at least {FEWEST}')
    scores = {
        answer: (n * min(1.0, (n - 1) / 3) + (people - n) * min(1.0, n / 3)) / people
        for answer, n in Counter(answers).items()
    }
    return dict(sorted(scores.items(), key=lambda item: -item[1]))


def candidate_answers(commonest: Mapping[str, int], *, least: int = LEAST, most: int = MOST) -> tuple[str, ...]:
    """Return the candidates of an answer head: the commonest answers of at least `least` questions.

    Where these are fewer than `most`, as in a small data set, the most frequent answers are the candidates.

    Args:
        commonest: answer to the number of questions that have it as commonest answer (VQAv2Samples.commonest); the
            official table counts train and val together.
        least: 1 or more.
        most: number of candidates up to which rarer answers are taken.

    Returns:
        By falling number of questions, then by alphabet.

    Raises:
        ValueError: least is below 1.
    """
    if least < 1:
        raise ValueError(f'least is {least}; give 1 or more')
    ordered = sorted(commonest, key=lambda answer: (-commonest[answer], answer))
    return tuple(answer for i, answer in enumerate(ordered) if i < most or commonest[answer] >= least)


def read_answers(path: str | Path) -> tuple[str, ...]:
    """Read candidate answers: a JSON list (.json), or a text file with one answer a line; each answer once.

    Raises:
        InputError: the file cannot be read, or holds no answers.
    """
    path = Path(path)
    if path.suffix == '.json':
        found = read_json(path)
    else:
        try:
            found = read_regular(path, 'give a text file').decode('utf-8-sig').splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError('data_missing', f'{path} cannot be read ({error}); give a file of answers') from error
    if (
        not isinstance(found, list)
        or not all(isinstance(answer, str) for answer in found)
        or not any(map(clean, found))
    ):
        raise InputError(
            'data_format',
            f'{path} holds no list of answers; give a JSON list of words, or a text with one answer a line',
        )
    return tuple(dict.fromkeys(filter(None, map(clean, found))))


def clean(answer: str) -> str:
    """Return an answer in lower case with single blanks; the annotations are normalised otherwise."""
    return ' '.join(answer.lower().split())


class VQAv2Samples(SampleSet):
    """One sample per question; its family is the answer type: 'yes/no', 'number' or 'other'. There is no depth.

    Args:
        questions: for example v2_OpenEnded_mscoco_train2014_questions.json.
        annotations: for example v2_mscoco_train2014_annotations.json.
        images: folder of COCO_train2014_000000000009.jpg or of 000000000009.jpg.
        noise, seed: see SampleSet. Pictures are mirrored only where no text speaks of left or right.

    Attributes:
        commonest: answer to the number of questions that have it as commonest answer, in the whole file of annotations.

    Raises:
        InputError: a file is missing or of another form, or a question has no annotation or no picture.
    """

    def __init__(
        self,
        questions: str | Path,
        annotations: str | Path,
        images: str | Path,
        *,
        noise: Noise | None = None,
        seed: int = 0,
    ):
        questions, annotations, self.images = Path(questions), Path(annotations), Path(images)
        asked = {
            _field(questions, item, 'question_id', int): (
                _field(questions, item, 'question', str),
                _field(questions, item, 'image_id', int),
            )
            for item in _items(questions, 'questions')
        }
        answered, self.commonest = _answers(annotations, asked)
        self._store(answered)
        self._ids = np.fromiter(asked, np.int64, len(asked))
        self._questions = [question.strip() for question, _ in asked.values()]
        self._pictures = np.array([picture for _, picture in asked.values()], np.int64)
        self._pattern = self._naming()
        super().__init__(len(asked), str(questions), noise=noise, seed=seed)

    def view(self, index: int) -> Sample:
        """See SampleSet."""
        own = slice(self._ends[index], self._ends[index + 1])
        return Sample(
            read_rgb(self.images / self._pattern.format(int(self._pictures[index]))),
            question=self._questions[index],
            family=self._families[index],
            answers={
                self._words[number]: float(score)
                for number, score in zip(self._answers[own], self._scores[own], strict=True)
            },
            key=f'question {self._ids[index]}',
        )

    def image(self, index: int) -> int:
        """Return the number of the picture of a question."""
        return int(self._pictures[index])

    def question_id(self, index: int) -> int:
        """Return the official id of a question."""
        return int(self._ids[index])

    def people(self, index: int) -> list[str]:
        """Return the answers that people gave to a question as the file has them, ten in VQAv2."""
        return [self._words[number] for number in self._said[self._said_ends[index] : self._said_ends[index + 1]]]

    def covered(self, answers: Collection[str]) -> float:
        """Return the share of the questions, 0 to 1, whose commonest answer is among candidates."""
        known = set(answers)
        usable = np.array([word in known for word in self._words])
        best = np.maximum.reduceat(self._scores, self._ends[:-1])
        hits = usable[self._answers] & (self._scores == best.repeat(np.diff(self._ends)))
        return float(np.logical_or.reduceat(hits, self._ends[:-1]).mean())

    def _store(self, answered: list['_Answered']) -> None:
        """Store the answers of all questions side by side as numbers: millions of objects would fill the memory."""
        known: dict[str, int] = {}

        def number(word: str) -> int:
            return known.setdefault(word, len(known))

        self._answers = np.array([number(answer) for one in answered for answer in one.scores])
        self._scores = np.array([score for one in answered for score in one.scores.values()])
        self._ends = np.cumsum([0, *(len(one.scores) for one in answered)])
        self._said = np.array([number(answer) for one in answered for answer in one.said], np.int32)
        self._said_ends = np.cumsum([0, *(len(one.said) for one in answered)])
        self._words, self._families = list(known), [one.family for one in answered]

    def _naming(self) -> str:
        """Return the pattern of the pictures' names, and refuse a folder that lacks one of them."""
        present = {name for name in names_in(self.images) if name.endswith('.jpg')}
        ends = sorted({name[:-16] for name in present if name[-16:-4].isdigit()})
        numbers = np.unique(self._pictures).tolist()
        lacking = {}
        for start in ends:
            pattern = f'{start}{{:012d}}.jpg'
            lacking[pattern] = [number for number in numbers if pattern.format(number) not in present]
            if not lacking[pattern]:
                return pattern
        pattern = min(lacking, key=lambda name: len(lacking[name]), default='{:012d}.jpg')
        missing = lacking.get(pattern, numbers)
        raise InputError(
            'data_missing',
            f'{self.images} lacks {len(missing)} of {len(numbers)} pictures, the first is '
            f'{pattern.format(missing[0])}; put the pictures of these questions there',
        )


class _Answered(NamedTuple):
    """The answers to a question: soft scores, the words of each person, and the answer type."""

    scores: dict[str, float]
    said: list[str]
    family: str


def _answers(path: Path, asked: Collection[int]) -> tuple[list[_Answered], Counter[str]]:
    """Return the answers of the questions in their order, and the commonest answers of the file with their numbers."""
    found, commonest = {}, Counter[str]()
    for item in _items(path, 'annotations'):
        number = _field(path, item, 'question_id', int)
        said = [_field(path, answer, 'answer', str) for answer in _field(path, item, 'answers', list)]
        if len(said) < FEWEST:
            raise InputError(
                'data_format',
                f'question {number} in {path} has {len(said)} answers; soft scores need '
                f'at least {FEWEST}, and VQAv2 has ten',
            )
        scores = {answer: score for answer, score in soft_scores([clean(one) for one in said]).items() if score > 0}
        commonest[clean(str(item.get('multiple_choice_answer') or next(iter(scores))))] += 1
        found[number] = _Answered(scores, said, str(item.get('answer_type', '')))
    missing = [number for number in asked if number not in found]
    if missing:
        raise InputError(
            'data_missing',
            f'{path} lacks the answers of {len(missing)} questions, the first is '
            f'{missing[0]}; give the annotations that belong to the questions',
        )
    return [found[number] for number in asked], commonest


def _items(path: Path, name: str) -> list[dict]:
    """Return the list that an official file holds under a name."""
    document = read_json(path)
    items = document.get(name) if isinstance(document, dict) else None
    if not isinstance(items, list) or not items or not all(isinstance(item, dict) for item in items):
        raise InputError('data_format', f'{path} holds no list of {name}; give the VQAv2 file that has one')
    return items


def _field(path: Path, item: Any, name: str, kind: type) -> Any:
    """Return one field of an entry."""
    value = item.get(name) if isinstance(item, dict) else None
    if not isinstance(value, kind):
        raise InputError(
            'data_format', f'an entry of {path} has {name} {value!r}; give a VQAv2 file, where it is {kind.__name__}'
        )
    return value
