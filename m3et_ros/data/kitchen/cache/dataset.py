"""The cached kitchen as a data set of samples.

Symbols: F frames of all shards, R rows: questions of all frames, W wordings (a kind of question with its fields).
"""

import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from m3et_ros.data.datasets.base import SampleSet
from m3et_ros.data.errors import InputError
from m3et_ros.data.kitchen.cache.recipe import read_recipe, read_shards
from m3et_ros.data.kitchen.questions.balance import Balance
from m3et_ros.data.kitchen.questions.frame import FAMILIES
from m3et_ros.data.kitchen.questions.frame_wordings import ANSWERS, PHRASINGS
from m3et_ros.data.kitchen.questions.splits import GENERATOR_VERSION, HELD_OUT
from m3et_ros.data.noise import Noise, disturb
from m3et_ros.data.sample import QuestionAnswers, Sample
from m3et_ros.data.shards import open_shard

SUBSETS = ('all', 'seen', 'held_out', 'textures')
"""Everything; nothing held out in question, answer or kitchen; questions about a held-out combination (without
questions: kitchens that hold one); kitchens with held-out textures."""


@functools.lru_cache(maxsize=512)  # every map holds an open file, of which 1024 is a common limit
def _mapped(path: Path) -> np.ndarray:
    """The frames of a shard that was checked when it was indexed."""
    return np.load(path / 'frames.npy', mmap_mode='r', allow_pickle=False)


class KitchenSamples(SampleSet):
    """Samples of caches that `generate` has made; the same seed, epoch and index always give the same sample.

    With questions, index stands for a draw: balanced by family and answer (balance.Balance). Without, it is a frame.

    Args:
        folders: caches of one split.
        questions: whether samples ask.
        families: the families of questions to ask (questions.FAMILIES); None for all. What was done and what comes
            next cannot be seen in one frame: leave action_done and action_next out where there is no memory.
        subset: one of SUBSETS.
        noise: how the camera disturbs; None leaves pictures clean, as evaluation by hidden pixels wants them.
        length: samples of an epoch; None for as many as there are frames. Only with questions.
        each: questions of a sample, all about its view. Views are drawn by the odds of all their questions together and
            then, of those of the view, each question by its own: so each is as balanced as a single one.
        seed: of the draws.

    Attributes:
        split: 'train', 'validation' or 'test'.
        balance: the odds of the questions, or None.

    Raises:
        ValueError: an argument is out of its range, or nothing is left of the subset.
        InputError: a folder is no cache, is empty, or was made by another version.
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
        self.split = _common_split(folders)
        self.each = each
        self._paths = [path for folder in folders for path in read_shards(folder)]
        self._seeds: set[int] = set()
        self._ends, chosen = self._index(subset, questions)
        self.balance = None
        if questions:
            rows = self._rows_of(subset, set(FAMILIES if families is None else families))
            self.balance = Balance(
                self._wording, self._answer, [key[:2] for key in self._wordings], chosen=rows & chosen[self._frame]
            )
            if each > 1:
                self._steps = np.concatenate([[0.0], np.cumsum(self.balance.row_odds(len(self._answer)))])
        self._frames = np.flatnonzero(chosen)
        if not len(self._frames):
            raise ValueError(f'no frame is left of subset {subset!r}; give more seeds')
        super().__init__(length or len(self._frames), str(folders[0]), noise=noise, seed=seed)

    def _index(self, subset: str, questions: bool) -> tuple[np.ndarray, np.ndarray]:
        """Read the shards one by one, for each is an open file: where their frames end, and which are chosen, (F,)."""
        numbers: dict[tuple, int] = {}
        ends, chosen, rows = [0], [], []
        for path in self._paths:
            shard = open_shard(path)
            header = shard.header
            if tuple(header['answers']) != ANSWERS:
                raise InputError('foreign_cache', f'{path} has other answers than this version; generate it again.')
            chosen.append(_chosen_frames(header, subset, questions))
            if questions:
                keys = [
                    (family, kind, tuple(sorted(fields.items())))
                    for family, (kind, fields) in zip(header['families'], header['questions'])
                ]
                local = np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.uint32)
                frame = np.repeat(np.arange(len(header['asked']), dtype=np.uint32), header['asked']) + ends[-1]
                rows.append(
                    (
                        local[shard.questions['question']],
                        np.array(shard.questions['answer']),
                        frame,
                        shard.questions['held_out'].astype(bool),
                    )
                )
            ends.append(ends[-1] + len(header['asked']))
            self._seeds.update(header['seed'])
        if questions:
            self._wording, self._answer, self._frame, self._held = map(np.concatenate, zip(*rows))
            self._wordings = list(numbers)
        return np.array(ends[1:]), np.concatenate(chosen)

    def _rows_of(self, subset: str, families: set[str]) -> np.ndarray:
        """Which rows belong to a subset and to families, (R,) bool."""
        of_family = np.array([family in families for family, _, _ in self._wordings], bool)[self._wording]
        return of_family if subset == 'all' else of_family & (self._held == (subset == 'held_out'))

    def __getitem__(self, index: int) -> Sample:
        """One sample.

        Raises:
            IndexError: index is not in 0..len - 1.
        """
        if not 0 <= index < len(self):
            raise IndexError(f'index is {index}; give 0 to {len(self) - 1}')
        rng = np.random.default_rng((self.seed, self.epoch, index))
        if self.balance is None:
            sample = self._view(self._frames[index])
        else:
            own, *further = self._draw(rng)
            asked = [self._asked(row, rng) for row in (own, *further)]
            sample = replace(self._view(self._frame[own]), **vars(asked[0]), further=tuple(asked[1:]))
        return disturb(sample, self.noise, rng, swap_sides=True) if self.noise else sample

    def _draw(self, rng: np.random.Generator) -> list[int]:
        """Rows of one view, `each` of them."""
        first = self.balance.draw(rng)
        if self.each == 1:
            return [first]
        # The rows of a frame lie side by side. The view of one balanced draw comes as often as its questions' odds.
        start, end = np.searchsorted(self._frame, (self._frame[first], self._frame[first] + 1))
        places = rng.uniform(self._steps[start], self._steps[end], self.each - 1)
        found = np.searchsorted(self._steps[start : end + 1], places, side='right') - 1 + start
        return [first, *np.minimum(found, end - 1).tolist()]

    def _asked(self, row: int, rng: np.random.Generator) -> QuestionAnswers:
        """The question of a row in one of its wordings."""
        family, kind, fields = self._wordings[self._wording[row]]
        phrasings = PHRASINGS[kind]
        question = phrasings[rng.integers(len(phrasings))].format(**dict(fields))
        return QuestionAnswers(question, {ANSWERS[self._answer[row]]: 1.0}, family)

    def _view(self, frame: int) -> Sample:
        """A frame without a question."""
        shard = int(np.searchsorted(self._ends, frame, side='right'))
        record = _mapped(self._paths[shard])[frame - self._ends[shard]]  # counted from its end
        metres = record['depth'].astype(np.float32) / 1000
        metres[record['depth'] == 0] = np.nan
        now, following = (tuple(map(int, record[name])) for name in ('now', 'next'))
        return Sample(
            np.array(record['rgb']),
            metres,
            np.array(record['semseg']),
            now=now,
            next=following,
            key=f'seed {record["seed"]} tick {record["tick"]}',
            seed=int(record['seed']),
            tick=int(record['tick']),
        )

    def seeds(self) -> set[int]:
        """The kitchens of the caches."""
        return set(self._seeds)


def _common_split(folders: Sequence[Path]) -> str:
    """The split that all caches belong to."""
    if not folders:
        raise ValueError('folders is empty; give at least one cache')
    recipes = [read_recipe(folder) for folder in folders]
    for folder, recipe in zip(folders, recipes):
        if recipe.version != GENERATOR_VERSION:
            raise InputError(
                'foreign_cache',
                f'{folder} was made by version {recipe.version} of the generator and '
                f'this is version {GENERATOR_VERSION}; generate it again.',
            )
    splits = {recipe.split for recipe in recipes}
    if len(splits) > 1:
        raise ValueError(f'the caches are of the splits {", ".join(sorted(splits))}; give caches of one')
    return splits.pop()


def _chosen_frames(header: dict, subset: str, questions: bool) -> np.ndarray:
    """Which frames of a shard belong to a subset, (frames,) bool."""
    surfaces = {f'{colour} {pattern} {material}' for material, pattern, colour in HELD_OUT.textures}
    chosen = {}
    for seed, sights in header['sights'].items():
        textured = bool(surfaces & set(sights))
        chosen[int(seed)] = {
            'all': True,
            'seen': not sights,
            'textures': textured,
            'held_out': questions or bool(set(sights) - surfaces),
        }[subset]
    return np.array([chosen[seed] for seed in header['seed']], bool)
