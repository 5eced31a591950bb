"""Talk about cached kitchens: views with prompts and whole sentences as answers, and what a description must hold.

Symbols: V views, Q questions of a view, R rows: questions of all frames.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from m3et_ros.data.kitchen.cache.dataset import KitchenSamples
from m3et_ros.data.kitchen.questions.balance import Balance
from m3et_ros.data.kitchen.questions.frame import FAMILIES
from m3et_ros.data.kitchen.questions.frame_wordings import ANSWERS, PHRASINGS
from m3et_ros.data.kitchen.questions.sentences import DESCRIBE, DOING, listed, sentence, some
from m3et_ros.data.kitchen.sim.vocabulary import CLASS_OF, NOUNS, OBJECTS, VERBS, plural, spoken

LEAST_CELLS = 3
"""Cells of the label map (a quarter of the image's side) from which on a thing is named in a description."""

NAMED = 4
"""Most kinds of things that a description names."""


@dataclass(frozen=True)
class Facts:
    """What the cache tells of a view."""

    # Object nouns in view and their cells of the label map, the largest first.
    cells: dict[str, int]
    # Colour, place and number of nouns, where known.
    colours: dict[str, str]
    places: dict[str, str]
    counts: dict[str, int]
    # What the hand holds: '' for nothing, None where no hand is in view.
    held: str | None
    # Verb and noun of what is being done; None for nothing.
    now: tuple[str, str] | None

    @property
    def named(self) -> list[str]:
        """Nouns that a description names."""
        return [noun for noun, cells in self.cells.items() if cells >= LEAST_CELLS][:NAMED]


@dataclass(frozen=True)
class Turn:
    """A prompt and what is to be said."""

    prompt: str
    reply: str
    # Family of the question, 'describe' for a description.
    family: str


@dataclass(frozen=True)
class Talk:
    """A view and what is said about it."""

    # Number of the view among the encoded ones.
    view: int
    # Questions, all about this view.
    turns: tuple[Turn, ...]
    # A description.
    description: Turn
    # Colours of the view, (H, W, 3) uint8, where they were asked for.
    rgb: np.ndarray | None
    # Where it came from: 'seed 12 tick 70'.
    key: str


def describe(facts: Facts) -> str:
    """One to three sentences: what is in view, where the largest things are, what is being done or held."""
    found = [some(noun, facts.counts.get(noun, 1), facts.colours.get(noun, '')) for noun in facts.named]
    said = [f'I can see {listed(found)}.' if found else 'I can see no things.']
    placed = [f'the {spoken(noun)} is {facts.places[noun]}' for noun in facts.named if noun in facts.places][:2]
    if placed:
        text = listed(placed)
        said.append(f'{text[0].upper()}{text[1:]}.')
    if facts.now:
        said.append(f'The person is {DOING[facts.now[0]]} the {spoken(facts.now[1])}.')
    elif facts.held:
        said.append(f'The hand is holding the {facts.held}.')
    return ' '.join(said)


BY_WORD = {spoken(noun): noun for noun in OBJECTS}
BY_PLURAL = {plural(noun): noun for noun in OBJECTS}


class TalkViews(KitchenSamples):
    """Views with balanced questions and a description; the same seed, epoch and index always give the same.

    Args:
        folders: caches of one split.
        frames: numbers of the views among all frames of the caches, rising, (V,).
        each: questions of a view.
        families: as KitchenSamples.
        length: views of an epoch; None for as many as there are.
        pixels: whether colours come along, for EMMA.
        seed: of the draws.

    Raises:
        ValueError, InputError: as KitchenSamples.
    """

    def __init__(
        self,
        folders: Path | Sequence[Path],
        frames: np.ndarray,
        *,
        each: int = 8,
        families: Sequence[str] | None = None,
        length: int | None = None,
        pixels: bool = False,
        seed: int = 0,
    ):
        super().__init__(folders, each=max(2, each), families=families, length=length or len(frames), seed=seed)
        self.each, self.pixels = each, pixels
        rows = self._rows_of('all', set(FAMILIES if families is None else families))
        known = np.isin(self._frame, frames)
        self.balance = Balance(self._wording, self._answer, [key[:2] for key in self._wordings], chosen=rows & known)
        self._steps = np.concatenate([[0.0], np.cumsum(self.balance.row_odds(len(self._answer)))])
        self._views = np.asarray(frames)

    def __getitem__(self, index: int) -> Talk:
        """One view with its talk.

        Raises:
            IndexError: index is not in 0..len - 1.
        """
        if not 0 <= index < len(self):
            raise IndexError(f'index is {index}; give 0 to {len(self) - 1}')
        rng = np.random.default_rng((self.seed, self.epoch, index))
        rows = self._draw(rng)
        frame = int(self._frame[rows[0]])
        sample = self._view(frame)
        said = describe(self.facts(frame))
        return Talk(
            int(np.searchsorted(self._views, frame)),
            tuple(self._turn(row, rng) for row in rows),
            Turn(DESCRIBE[rng.integers(len(DESCRIBE))], said, 'describe'),
            sample.rgb if self.pixels else None,
            sample.key,
        )

    def _turn(self, row: int, rng: np.random.Generator) -> Turn:
        family, kind, fields = self._wordings[self._wording[row]]
        wordings = PHRASINGS[kind]
        return Turn(
            wordings[rng.integers(len(wordings))].format(**dict(fields)),
            sentence(kind, dict(fields), ANSWERS[self._answer[row]]),
            family,
        )

    def facts(self, frame: int) -> Facts:
        """What the cache tells of a frame, by its number among all frames."""
        return facts_of(self, frame)


def facts_of(samples: KitchenSamples, frame: int) -> Facts:
    """What a data set with questions tells of a frame, by its number among all frames of its caches."""
    sample = samples._view(frame)
    start, end = np.searchsorted(samples._frame, (frame, frame + 1))
    told = [(*samples._wordings[samples._wording[row]][1:], ANSWERS[samples._answer[row]]) for row in range(start, end)]
    cells = np.bincount(sample.semseg.ravel(), minlength=256)
    objects = sorted((noun for noun in OBJECTS if cells[CLASS_OF[noun]]), key=lambda noun: -cells[CLASS_OF[noun]])
    held = _answers(told, 'held')
    now = None if sample.now[0] < 0 else (tuple(VERBS)[sample.now[0]], tuple(NOUNS)[sample.now[1]])
    return Facts(
        {noun: int(cells[CLASS_OF[noun]]) for noun in objects},
        _by_noun(told, 'colour', 'a', BY_WORD),
        _by_noun(told, 'location', 'a', BY_WORD),
        {noun: int(count) for noun, count in _by_noun(told, 'count', 'plural', BY_PLURAL).items()},
        held[0].replace('nothing', '') if held else None,
        now,
    )


def _answers(told: Iterable[tuple], kind: str) -> list[str]:
    return [answer for found, _, answer in told if found == kind]


def _by_noun(told: Iterable[tuple], kind: str, field: str, nouns: dict[str, str]) -> dict[str, str]:
    return {
        nouns[value]: answer
        for found, fields, answer in told
        if found == kind
        for name, value in fields
        if name == field and value in nouns
    }
