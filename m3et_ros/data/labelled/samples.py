"""A labelled recording as samples, for both stages of training.

The folder holds shards of frames (data.shards), whose masks hold the numbers of the objects, the two tables of
data.labelled.facts, and labelled.json. Masks and questions follow from the tables when the folder is opened, so a row
that was corrected by hand corrects both.
"""

import functools
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from m3et_ros.data.datasets.base import LIGHT, SampleSet
from m3et_ros.data.datasets.class_map import read_json
from m3et_ros.data.errors import InputError
from m3et_ros.data.files import write_atomically
from m3et_ros.data.frame import UNLABELLED
from m3et_ros.data.images.messages import metres
from m3et_ros.data.kitchen.questions.frame import Draft
from m3et_ros.data.kitchen.questions.frame_wordings import NOT_IN_VIEW
from m3et_ros.data.labelled.facts import OBJECTS_FILE, QUESTIONS_FILE, AnsweredFact, ObjectFact, names_of, read_facts
from m3et_ros.data.labelled.scene import AskedBy, LabelledScene, draw, labelled_drafts
from m3et_ros.data.noise import Noise, disturb
from m3et_ros.data.sample import QuestionAnswers, Sample
from m3et_ros.data.shards import open_shard

CONTENTS = 'labelled.json'
VERSION = 1
SPLITS = ('train', 'held_out')
ITSELF = ' (itself)'
"""End of the teacher's name where the student labelled what no teacher did."""
OPEN = 'open'
"""Family of the questions that a teacher answered in words."""
OPEN_SHARE = 0.2
"""Share of these among the questions of a frame that has some."""
HOLED = replace(LIGHT, cover=0.4, cover_sizes=(0.01, 0.2))
"""Augmentation of recordings: as of pictures from a real camera, and holes in measured depth, which the model fills."""
FIELDS = {
    'version': int,
    'shards': list,
    'splits': list,
    'known': list,
    'counted': list,
    'masks': bool,
    'teachers': dict,
}


class LabelledSamples(SampleSet):
    """The frames of one split of a labelled recording.

    Args:
        folder: folder that `m3et label` wrote.
        classes: names of the student's classes in the order of their ids; other names stay unlabelled in the masks.
        answers: the student's candidate answers; questions with other answers are left out. () takes all.
        split: one of SPLITS.
        each: questions of a sample, 0 to 64.
        noise, seed: see SampleSet.

    Attributes:
        contents: labelled.json.
        facts, answered: rows of the two tables, corrected, of all splits.
        asked_by: the rules of the questions.
        numbers: number of each frame of the split among all frames.

    Raises:
        InputError: 'labelled', the folder is none, or is not finished; 'labels_table', a table is not valid; as
            open_shard.
        ValueError: split or each is out of range.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        classes: Sequence[str],
        answers: Sequence[str] = (),
        split: str = 'train',
        each: int = 0,
        noise: Noise | None = None,
        seed: int = 0,
    ):
        folder = Path(folder)
        if split not in SPLITS:
            raise ValueError(f'split is {split!r}; give {" or ".join(SPLITS)}')
        if not 0 <= each <= 64:
            raise ValueError(f'each is {each}; give 0 to 64 questions')
        self.contents = read_contents(folder)
        splits = self.contents['splits']
        self.facts = read_facts(folder / OBJECTS_FILE, ObjectFact, len(splits))
        self.answered = read_facts(folder / QUESTIONS_FILE, AnsweredFact, len(splits))
        self.numbers = np.flatnonzero(np.array(splits) == split)
        self._classes = {name: number for number, name in enumerate(classes)}
        self._answers = frozenset(answers)
        known = [*self.contents['known'], *names_of(self.facts, ('thing',))]
        self.asked_by = AskedBy(
            tuple(dict.fromkeys(known)), tuple(self.contents['counted']), 2 if NOT_IN_VIEW in self._answers else 1
        )
        self.each = each
        self._of_frame: list[list[ObjectFact]] = [[] for _ in splits]
        for fact in self.facts:
            self._of_frame[fact.frame].append(fact)
        self._open: dict[int, list[AnsweredFact]] = {}
        for one in self.answered:
            if not answers or one.answer in self._answers:
                self._open.setdefault(one.frame, []).append(one)
        self._shards = [open_shard(folder / name).frames for name in self.contents['shards']]
        self._ends = np.cumsum([len(shard) for shard in self._shards])
        self.drafts = functools.lru_cache(4096)(self._drafts)
        super().__init__(len(self.numbers), str(folder), noise=noise, seed=seed)

    def view(self, index: int) -> Sample:
        """Return a frame of the split without questions."""
        number = int(self.numbers[index])
        record = self._record(number)
        depth = metres(record['depth'])
        return Sample(
            np.array(record['rgb']),
            depth if np.isfinite(depth).any() else None,
            self._mask(number, record['semseg']) if self.contents['masks'] else None,
            key=f'{self.where} frame {number}',
        )

    def _record(self, number: int) -> Any:
        """Return the stored record of a frame, by its number among all frames."""
        shard = int(np.searchsorted(self._ends, number, side='right'))
        return self._shards[shard][number - self._ends[shard]]  # counted from its end

    def _mask(self, number: int, objects: np.ndarray, *, own: bool = True) -> np.ndarray:
        """Return class ids of a mask of object numbers; without `own`, what the student labelled itself is left out."""
        table = np.full(256, UNLABELLED, np.uint8)
        for fact in self._of_frame[number]:
            if own or not fact.teacher.endswith(ITSELF):
                table[fact.number] = self._classes.get(fact.name, UNLABELLED)
        return table[objects]

    def objects(self, index: int) -> np.ndarray:
        """Return the numbers of the objects (s, s) uint8 of a frame of the split, 255 for none."""
        return np.array(self._record(int(self.numbers[index]))['semseg'])

    def taught_mask(self, index: int) -> np.ndarray:
        """Return the class ids (s, s) uint8 of a frame of the split that come from teachers, 255 elsewhere."""
        number = int(self.numbers[index])
        return self._mask(number, self._record(number)['semseg'], own=False)

    def _drafts(self, number: int) -> tuple[tuple[str, Draft], ...]:
        """Return the questions of a frame, by its number among all frames, whose answers the student has."""
        scene = LabelledScene(self._of_frame[number], self.asked_by)
        found = labelled_drafts(scene, self.asked_by)
        return tuple(one for one in found if not self._answers or one[1][1] in self._answers)

    def __getitem__(self, index: int) -> Sample:
        """Return one sample.

        Raises:
            IndexError: index is not in 0..N - 1.
        """
        if not 0 <= index < len(self):
            raise IndexError(f'index is {index}; give 0 to {len(self) - 1}')
        rng = np.random.default_rng((self.seed, self.epoch, index))
        sample, asked = self.view(index), self._asked(int(self.numbers[index]), rng)
        if asked:
            sample = replace(sample, **vars(asked[0]), further=tuple(asked[1:]))
        # Only our own questions are known to mean sides by left and right.
        swap = all(one.family != OPEN for one in asked)
        return disturb(sample, self.noise, rng, swap_sides=swap) if self.noise else sample

    def _asked(self, number: int, rng: np.random.Generator) -> list[QuestionAnswers]:
        """Draw the questions of a frame; empty ones fill up a frame that allows none."""
        answered, drafts = self._open.get(number, []), self.drafts(number) if self.each else ()
        share = OPEN_SHARE if drafts else 1.0
        chosen = int(rng.binomial(self.each, share)) if answered else 0
        asked = draw(drafts, self.each - chosen, self.asked_by, rng)
        for place in rng.integers(len(answered), size=chosen) if chosen else ():
            one = answered[place]
            asked.append(QuestionAnswers(one.question, {one.answer: 1.0}, OPEN))
        return [*asked, *[QuestionAnswers()] * (self.each - len(asked))]

    @property
    def has_questions(self) -> bool:
        """True if a frame of the split has a question."""
        return any(self.drafts(number) or number in self._open for number in map(int, self.numbers))

    @property
    def has_depth(self) -> bool:
        """True if a frame of the data set has depth."""
        return any(bool((shard['depth'] > 0).any()) for shard in self._shards)

    def wanted_answers(self) -> list[str]:
        """Return the answers of all questions of the split, each once, in the order of the frames."""
        found: dict[str, None] = {}
        for number in map(int, self.numbers):
            found.update(dict.fromkeys(draft[1] for _, draft in self.drafts(number)))
            found.update(dict.fromkeys(one.answer for one in self._open.get(number, [])))
        return list(found)

    def wanted_classes(self) -> list[str]:
        """Return the names in the masks of all splits, each once, the commonest first."""
        return names_of(self.facts, ('thing', 'background')) if self.contents['masks'] else []


def write_contents(folder: Path, contents: dict[str, Any]) -> None:
    """Write labelled.json, which makes the folder a data set.

    Raises:
        OSError: it cannot be written.
    """
    with write_atomically(folder / CONTENTS) as part:
        part.write_text(json.dumps({'schema': 1, 'version': VERSION, **contents}, indent=1), encoding='utf-8')


def read_contents(folder: Path) -> dict[str, Any]:
    """Return labelled.json.

    Raises:
        InputError: 'labelled', the folder is no labelled recording of this version.
    """
    path = folder / CONTENTS
    if not path.is_file():
        raise InputError(
            'labelled', f'{folder} holds no {CONTENTS}; give a folder that m3et label has finished, or run it again'
        )
    contents = read_json(path)
    if not isinstance(contents, dict):
        contents = {}
    wrong = [name for name, kind in FIELDS.items() if not isinstance(contents.get(name), kind)]
    if wrong or contents['version'] != VERSION or not set(contents['splits']) <= {*SPLITS}:
        what = f'the field {wrong[0]!r}' if wrong else f'version {contents["version"]} or its splits'
        raise InputError('labelled', f'{path} is not read because of {what}; label the recording again')
    return contents
