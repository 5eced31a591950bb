"""Cached kitchens as a data set of samples.

Symbols: F frames of all shards, R rows: questions of all frames, W wordings (a kind of question with its fields).

From a seed to a question: after cache/generate.py, before cache/dialogues.py; here a row of the cache becomes words.
"""

import functools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from m3et_ros.data.datasets.base import SampleSet
from m3et_ros.data.errors import InputError
from m3et_ros.data.kitchen.cache.recipe import CacheRecipe, read_recipe, read_shards
from m3et_ros.data.kitchen.questions.balance import Balance
from m3et_ros.data.kitchen.questions.frame import FAMILIES
from m3et_ros.data.kitchen.questions.frame_wordings import ANSWERS, CLOSED, phrasings
from m3et_ros.data.kitchen.questions.recorded_frames import ANSWER_INDEX, Wording, texts_of
from m3et_ros.data.kitchen.questions.splits import HELD_OUT, READ_VERSIONS
from m3et_ros.data.noise import Noise, disturb
from m3et_ros.data.sample import QuestionAnswers, Sample
from m3et_ros.data.shards import open_shard

SUBSETS = ('all', 'seen', 'held_out', 'textures')
"""Subsets of a cache: everything; nothing held out in question, answer or kitchen; questions about a held-out
combination (without questions: kitchens with a held-out colour); kitchens with held-out textures."""


@functools.lru_cache(maxsize=512)  # every map holds an open file; a common limit is 1024
def _mapped_frames(path: Path) -> np.ndarray:
    """Map the frames of a shard that was checked when it was indexed."""
    return np.load(path / 'frames.npy', mmap_mode='r', allow_pickle=False)


@dataclass(frozen=True)
class QuestionTable:
    """The questions of all frames, one row each; the rows of a frame are adjacent."""

    # Family, kind and fields of each wording, (W,).
    wordings: list[Wording]
    # Number of the wording of each row, (R,).
    wording: np.ndarray
    # Index of its answer in ANSWERS, (R,).
    answer: np.ndarray
    # Number of its frame, (R,), rising.
    frame: np.ndarray
    # True if it is about a held-out combination, (R,).
    held_out: np.ndarray
    # Version of the generator, which decides the wordings of question().
    version: int = 1

    def __len__(self) -> int:
        return len(self.answer)

    def of_families(self, families: Collection[str]) -> np.ndarray:
        """Return which rows belong to families, (R,) bool."""
        return np.array([family in families for family, _, _ in self.wordings], bool)[self.wording]

    def rows_of(self, frame: int) -> range:
        """Return the rows of a frame."""
        # Numbers of another type would make NumPy convert, and so copy, the whole table.
        start, end = np.searchsorted(self.frame, np.array((frame, frame + 1), self.frame.dtype))
        return range(int(start), int(end))

    def question(self, row: int, rng: np.random.Generator) -> tuple[str, str]:
        """Return the question of a row in one of its wordings, drawn by rng, and its answer."""
        _, kind, fields = self.wordings[self.wording[row]]
        texts = phrasings(kind, self.version)
        return texts[rng.integers(len(texts))].format(**dict(fields)), ANSWERS[self.answer[row]]

    def asked(self, row: int, rng: np.random.Generator) -> QuestionAnswers:
        """Return the question of a row as question() words it, with its answer, its family and its form."""
        question, answer = self.question(row, rng)
        family, kind, _ = self.wordings[self.wording[row]]
        return QuestionAnswers(question, {answer: 1.0}, family, kind in CLOSED)


class KitchenSamples(SampleSet):
    """Samples of caches made by `generate`; the same seed, epoch and index always give the same sample.

    With questions, an index selects a draw, balanced by family and answer (balance.Balance). Without, it selects a
    frame.

    Args:
        folders: caches of one split.
        questions: give every sample a question.
        families: families of questions (frame.FAMILIES); None for all. One frame does not show past and next actions:
            leave action_done and action_next out for a model without memory.
        subset: one of SUBSETS.
        noise: disturbances of the camera; None leaves pictures clean, as the evaluation on hidden pixels needs them.
        length: samples of an epoch, with questions; None for the number of frames.
        each: questions of a sample, 1 to 64, all about one frame. The frame of the first draw is kept, and each further
            question is drawn from its rows by their odds: every question is as balanced as a single one.
        temper: exponents of the odds of answers by kind of question (balance.TEMPERED in training); None draws all
            answers evenly, as every evaluation does.
        seed: seed of the draws.

    Attributes:
        split: 'train', 'validation' or 'test'.
        version: version of the caches' generator.
        balance: odds of the questions; None without questions.
        frames: numbers of the frames of the subset among all F frames.

    Raises:
        ValueError: an argument is out of its range, or the subset is empty.
        InputError: a folder is not a cache, is empty, was made by a version that is not read, or has unknown answers.
    """

    def __init__(
        self,
        folders: Path | Sequence[Path],
        *,
        questions: bool = True,
        families: Sequence[str] | None = None,
        subset: str = 'all',
        noise: Noise | None = None,
        length: int | None = None,
        each: int = 1,
        temper: Mapping[str, float] | None = None,
        seed: int = 0,
    ):
        folders = [Path(folders)] if isinstance(folders, (str, Path)) else [Path(folder) for folder in folders]
        if subset not in SUBSETS:
            raise ValueError(f'subset is {subset!r}; give one of {", ".join(SUBSETS)}')
        if length is not None and (length < 1 or not questions):
            raise ValueError(f'length is {length}; give at least 1, and only with questions')
        if not 1 <= each <= 64 or (each > 1 and not questions):
            raise ValueError(f'each is {each}; give 1 to 64 questions, and more than 1 only with questions')
        unknown = sorted(set(families or ()) - set(FAMILIES))
        if unknown:
            raise ValueError(f'families hold {unknown[0]!r}; give some of {", ".join(FAMILIES)}')
        recipe = _common_recipe(folders)
        self.split, self.version = recipe.split, recipe.version
        self.each, self._temper = each, temper
        self._paths = [path for folder in folders for path in read_shards(folder)]
        self._seeds: set[int] = set()
        self.balance: Balance | None = None
        self._table: QuestionTable | None = None
        chosen = self._index(subset, questions)
        if questions:
            rows = self.table.of_families(FAMILIES if families is None else families)
            if subset != 'all':
                rows &= self.table.held_out == (subset == 'held_out')
            self._draw_from(rows & chosen[self.table.frame])
        self.frames = np.flatnonzero(chosen)
        if not len(self.frames):
            raise ValueError(f'no frame is left of subset {subset!r}; give more seeds')
        super().__init__(length or len(self.frames), str(folders[0]), noise=noise, seed=seed)

    def _index(self, subset: str, questions: bool) -> np.ndarray:
        """Read the shards one by one, since each is an open file; returns which frames are chosen, (F,) bool."""
        numbers: dict[Wording, int] = {}
        ends, chosen, rows = [0], [], []
        for path in self._paths:
            shard = open_shard(path)
            header = shard.header
            unknown = [answer for answer in header['answers'] if answer not in ANSWER_INDEX]
            if unknown:
                raise InputError(
                    'foreign_cache',
                    f'{path} has the answer {unknown[0]!r}, which this version does not know; generate it again.',
                )
            chosen.append(_chosen_frames(header, subset, questions))
            if questions:
                keys: list[Wording] = [
                    (family, kind, tuple(sorted(fields.items())))
                    for family, (kind, fields) in zip(header['families'], header['questions'], strict=True)
                ]
                words = np.array(
                    [ANSWER_INDEX[answer] for answer in header['answers']], shard.questions['answer'].dtype
                )
                local = np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.uint32)
                frame = np.repeat(np.arange(len(header['asked']), dtype=np.uint32), header['asked']) + ends[-1]
                rows.append(
                    (
                        local[shard.questions['question']],
                        words[shard.questions['answer']],
                        frame,
                        shard.questions['held_out'].astype(bool),
                    )
                )
            ends.append(ends[-1] + len(header['asked']))
            self._seeds.update(header['seed'])
        if questions:
            wording, answer, frames, held_out = map(np.concatenate, zip(*rows, strict=True))
            self._table = QuestionTable(list(numbers), wording, answer, frames, held_out, self.version)
        self._ends = np.array(ends[1:])
        return np.concatenate(chosen)

    @property
    def table(self) -> QuestionTable:
        """The questions of all frames.

        Raises:
            ValueError: the data set has no questions.
        """
        if self._table is None:
            raise ValueError('this data set has no questions; open it with questions=True')
        return self._table

    def _draw_from(self, rows: np.ndarray) -> None:
        """Set the rows (R,) bool that can be drawn; the odds of wordings remain those of all rows."""
        table = self.table
        self.balance = Balance(
            table.wording,
            table.answer,
            [key[:2] for key in table.wordings],
            chosen=rows,
            texts=texts_of(table.wordings),
            temper=self._temper,
        )
        self._rows = rows
        if self.each > 1:
            self._steps = np.concatenate([[0.0], np.cumsum(self.balance.row_odds(len(table)))])

    def restrict_to(self, frames: np.ndarray) -> None:
        """Draw only questions about some frames, by their numbers among all frames; len does not change."""
        self._draw_from(self._rows & np.isin(self.table.frame, frames))

    def __getitem__(self, index: int) -> Sample:
        """Return one sample.

        Raises:
            IndexError: index is not in 0..len - 1.
        """
        if not 0 <= index < len(self):
            raise IndexError(f'index is {index}; give 0 to {len(self) - 1}')
        rng = np.random.default_rng((self.seed, self.epoch, index))
        if self.balance is None:
            sample = self.frame_sample(self.frames[index])
        else:
            rows = self.draw_rows(rng)
            asked = [self.table.asked(row, rng) for row in rows]
            sample = replace(self.frame_sample(self.table.frame[rows[0]]), **vars(asked[0]), further=tuple(asked[1:]))
        return disturb(sample, self.noise, rng, swap_sides=True) if self.noise else sample

    def draw_rows(self, rng: np.random.Generator) -> list[int]:
        """Draw `each` rows of the table, all of one frame.

        Raises:
            ValueError: the data set has no questions.
        """
        if self.balance is None:
            raise ValueError('this data set has no questions; open it with questions=True')
        first = self.balance.draw(rng)
        if self.each == 1:
            return [first]
        # A balanced draw takes a frame as often as the odds of its rows add up to; within it, rows keep their odds.
        rows = self.table.rows_of(int(self.table.frame[first]))
        places = rng.uniform(self._steps[rows.start], self._steps[rows.stop], self.each - 1)
        steps = self._steps[rows.start : rows.stop + 1]
        found = np.searchsorted(steps, places, side='right') - 1 + rows.start
        return [first, *np.minimum(found, rows.stop - 1).tolist()]

    def frame_sample(self, frame: int) -> Sample:
        """Return a frame, by its number among all frames, as a sample without a question."""
        shard = int(np.searchsorted(self._ends, frame, side='right'))
        record = _mapped_frames(self._paths[shard])[frame - self._ends[shard]]  # counted from its end
        metres = record['depth'].astype(np.float32) / 1000
        metres[record['depth'] == 0] = np.nan
        return Sample(
            np.array(record['rgb']),
            metres,
            np.array(record['semseg']),
            now=(int(record['now'][0]), int(record['now'][1])),
            next=(int(record['next'][0]), int(record['next'][1])),
            key=f'seed {record["seed"]} tick {record["tick"]}',
            seed=int(record['seed']),
            tick=int(record['tick']),
        )

    def seeds(self) -> set[int]:
        """Return the seeds of the kitchens in the caches."""
        return set(self._seeds)


def _common_recipe(folders: Sequence[Path]) -> CacheRecipe:
    """Return the recipe of the first cache, whose split and version all caches share.

    Raises:
        ValueError: there are no caches, or they differ in split or version.
        InputError: a cache was made by a version that is not read.
    """
    if not folders:
        raise ValueError('folders is empty; give at least one cache')
    recipes = [read_recipe(folder) for folder in folders]
    for folder, recipe in zip(folders, recipes, strict=True):
        if recipe.version not in READ_VERSIONS:
            raise InputError(
                'foreign_cache',
                f'{folder} was made by version {recipe.version} of the generator and '
                f'this reads versions {" and ".join(map(str, READ_VERSIONS))}; generate it again.',
            )
    for name in ('split', 'version'):
        found = {str(getattr(recipe, name)) for recipe in recipes}
        if len(found) > 1:
            raise ValueError(f'the caches are of the {name}s {", ".join(sorted(found))}; give caches of one')
    return recipes[0]


def _chosen_frames(header: dict, subset: str, questions: bool) -> np.ndarray:
    """Return which frames of a shard belong to a subset, (frames,) bool."""
    surfaces = {f'{colour} {pattern} {material}' for material, pattern, colour in HELD_OUT.textures}
    chosen = {}
    for seed, appearances in header['sights'].items():
        held_out = set(appearances)
        chosen[int(seed)] = {
            'all': True,
            'seen': not held_out,
            'textures': bool(held_out & surfaces),
            'held_out': questions or bool(held_out - surfaces),
        }[subset]
    return np.array([chosen[seed] for seed in header['seed']], bool)
