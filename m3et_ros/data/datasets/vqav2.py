"""VQAv2 (Goyal et al., 2017) as samples: the official JSON files of questions and annotations, and COCO's pictures.

Answers have the soft scores of the official metric (docs/papers.md 7.1). Symbols: Q questions.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from m3et_ros.data.datasets.base import SampleSet
from m3et_ros.data.datasets.class_map import read_json
from m3et_ros.data.datasets.openeqa import FEWEST
from m3et_ros.data.errors import InputError
from m3et_ros.data.images.files import names_in, read_rgb
from m3et_ros.data.noise import Noise
from m3et_ros.data.sample import Sample

LEAST = 9
"""Number of questions that must have a candidate as commonest answer; it gives 3,129 candidates in train and val."""


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


def candidate_answers(annotations: str | Path | Sequence[str | Path], *, least: int = LEAST) -> tuple[str, ...]:
    """Return the candidates of an answer head: the commonest answers of at least `least` questions.

    Args:
        annotations: JSON files; the official table takes train and val together.
        least: 1 or more.

    Returns:
        By falling number of questions, then by alphabet.

    Raises:
        InputError: a file is missing or holds no VQAv2 annotations.
        ValueError: least is below 1.
    """
    if least < 1:
        raise ValueError(f'least is {least}; give 1 or more')
    paths = [annotations] if isinstance(annotations, (str, Path)) else annotations
    counts = Counter(
        clean(_field(path, item, 'multiple_choice_answer', str))
        for path in map(Path, paths)
        for item in _items(path, 'annotations')
    )
    return tuple(sorted((answer for answer, n in counts.items() if n >= least), key=lambda a: (-counts[a], a)))


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
        self._store(_answers(annotations, asked))
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

    def _store(self, answered: list[tuple[dict[str, float], str]]) -> None:
        """Store the answers of all questions side by side as numbers: millions of objects would fill the memory."""
        known: dict[str, int] = {}
        self._answers = np.array([known.setdefault(answer, len(known)) for scores, _ in answered for answer in scores])
        self._scores = np.array([score for scores, _ in answered for score in scores.values()])
        self._ends = np.cumsum([0, *(len(scores) for scores, _ in answered)])
        self._words, self._families = list(known), [family for _, family in answered]

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


def _answers(path: Path, asked: Collection[int]) -> list[tuple[dict[str, float], str]]:
    """Return the answers with their scores, and the answer type, of the questions in their order."""
    found = {}
    for item in _items(path, 'annotations'):
        number = _field(path, item, 'question_id', int)
        given = [clean(_field(path, answer, 'answer', str)) for answer in _field(path, item, 'answers', list)]
        if len(given) < FEWEST:
            raise InputError(
                'data_format',
                f'question {number} in {path} has {len(given)} answers; soft scores need '
                f'at least {FEWEST}, and VQAv2 has ten',
            )
        scores = {answer: score for answer, score in soft_scores(given).items() if score > 0}
        found[number] = scores, str(item.get('answer_type', ''))
    missing = [number for number in asked if number not in found]
    if missing:
        raise InputError(
            'data_missing',
            f'{path} lacks the answers of {len(missing)} questions, the first is '
            f'{missing[0]}; give the annotations that belong to the questions',
        )
    return [found[number] for number in asked]


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
