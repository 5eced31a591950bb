"""Dialogues about cached kitchens: views with prompts and whole sentences as answers, and descriptions of views.

From a seed to a question: after cache/dataset.py and questions/sentences.py; the last file.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from m3et_ros.data.kitchen.cache.dataset import KitchenSamples
from m3et_ros.data.kitchen.questions.frame_wordings import ANSWERS, NOT_IN_VIEW
from m3et_ros.data.kitchen.questions.sentences import DESCRIBE, DOING, join_words, noun_phrase, sentence
from m3et_ros.data.kitchen.sim.vocabulary import CLASS_OF, NOUNS, OBJECTS, VERBS, plural, spoken

LEAST_CELLS = 3
"""Smallest area of an object that a description names, in cells of the label map (a quarter of the image's side)."""

NAMED = 4
"""Largest number of nouns in a description."""

NOUN_OF = {spoken(noun): noun for noun in OBJECTS}
NOUN_OF_PLURAL = {plural(noun): noun for noun in OBJECTS}


@dataclass(frozen=True)
class Facts:
    """The facts that a cache holds about a view."""

    # Object nouns in view and their cells of the label map, the largest first.
    cells: dict[str, int]
    # Colour, place and number of nouns, where known.
    colours: dict[str, str]
    places: dict[str, str]
    counts: dict[str, int]
    # Words for the object in the hand; None if the hand is empty or out of view.
    held: str | None
    # Verb and noun of the action under way; None for none.
    now: tuple[str, str] | None

    @property
    def named(self) -> list[str]:
        """Nouns that a description names."""
        return [noun for noun, cells in self.cells.items() if cells >= LEAST_CELLS][:NAMED]


@dataclass(frozen=True)
class Turn:
    """A prompt and its reply."""

    prompt: str
    reply: str
    # Family of the question, 'describe' for a description.
    family: str


@dataclass(frozen=True)
class Dialogue:
    """A view with questions and a description."""

    # Position of the view among those of the data set.
    view: int
    # Questions, all about this view.
    turns: tuple[Turn, ...]
    # A description.
    description: Turn
    # Colours of the view, (H, W, 3) uint8, if requested.
    rgb: np.ndarray | None
    # Source of the view: 'seed 12 tick 70'.
    key: str


def describe(facts: Facts) -> str:
    """Return up to three sentences: what is in view, where the largest objects are, and what is done or held."""
    found = [noun_phrase(noun, facts.counts.get(noun, 1), facts.colours.get(noun, '')) for noun in facts.named]
    text = [f'I can see {join_words(found)}.' if found else 'I can see no things.']
    located = [f'the {spoken(noun)} is {facts.places[noun]}' for noun in facts.named if noun in facts.places][:2]
    if located:
        clause = join_words(located)
        text.append(f'{clause[0].upper()}{clause[1:]}.')
    if facts.now:
        text.append(f'The person is {DOING[facts.now[0]]} the {spoken(facts.now[1])}.')
    elif facts.held:
        text.append(f'The hand is holding the {facts.held}.')
    return ' '.join(text)


class DialogueViews(Dataset[Dialogue]):
    """Views with balanced questions and a description; the same seed, epoch and index always give the same dialogue.

    Args:
        folders: caches of one split.
        frames: numbers of the views among all frames of the caches, rising, (V,).
        each: questions of a view, 1 to 64.
        families: as for KitchenSamples.
        length: views of an epoch; None for V.
        pixels: add the colours of the views, for EMMA.
        seed: seed of the draws.

    Attributes:
        samples: the balanced questions about these views.

    Raises:
        ValueError: as KitchenSamples.
        InputError: as KitchenSamples.
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
        self.pixels = pixels
        self.samples = KitchenSamples(folders, each=each, families=families, length=length or len(frames), seed=seed)
        self.samples.restrict_to(frames)
        self._frames = np.asarray(frames)

    @property
    def epoch(self) -> int:
        """Epoch of the draws; set it before a loader starts on it."""
        return self.samples.epoch

    @epoch.setter
    def epoch(self, value: int) -> None:
        self.samples.epoch = value

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Dialogue:
        """Return the dialogue about one view.

        Raises:
            IndexError: index is not in 0..len - 1.
        """
        if not 0 <= index < len(self):
            raise IndexError(f'index is {index}; give 0 to {len(self) - 1}')
        rng = np.random.default_rng((self.samples.seed, self.epoch, index))
        table, rows, turns = self.samples.table, self.samples.draw_rows(rng), []
        frame = int(table.frame[rows[0]])
        sample = self.samples.frame_sample(frame)
        for row in rows:
            family, kind, fields = table.wordings[table.wording[row]]
            question, answer = table.question(row, rng)
            turns.append(Turn(question, sentence(kind, dict(fields), answer), family))
        return Dialogue(
            int(np.searchsorted(self._frames, frame)),
            tuple(turns),
            Turn(DESCRIBE[rng.integers(len(DESCRIBE))], describe(self.facts(frame)), 'describe'),
            sample.rgb if self.pixels else None,
            sample.key,
        )

    def facts(self, frame: int) -> Facts:
        """Return the facts about a frame, by its number among all frames."""
        return facts_of(self.samples, frame)


def facts_of(samples: KitchenSamples, frame: int) -> Facts:
    """Return the facts that caches hold about a frame.

    Args:
        samples: with questions.
        frame: its number among all frames of the caches.

    Raises:
        ValueError: the samples have no questions.
    """
    sample, table = samples.frame_sample(frame), samples.table
    labels = np.zeros(0, np.uint8) if sample.semseg is None else sample.semseg.ravel()
    cells = np.bincount(labels, minlength=256)
    objects = sorted((noun for noun in OBJECTS if cells[CLASS_OF[noun]]), key=lambda noun: -cells[CLASS_OF[noun]])

    def answers(wanted: str, field: str) -> Iterator[tuple[str, str]]:
        """Yield the value of a field and the answer of each question of a kind about things in view."""
        for row in table.rows_of(frame):
            _, kind, fields = table.wordings[table.wording[row]]
            answer = ANSWERS[table.answer[row]]
            if kind == wanted and answer != NOT_IN_VIEW:
                yield dict(fields).get(field, ''), answer

    held = next((answer for _, answer in answers('held', '')), 'nothing')
    return Facts(
        cells={noun: int(cells[CLASS_OF[noun]]) for noun in objects},
        colours={NOUN_OF[name]: colour for name, colour in answers('colour', 'a') if name in NOUN_OF},
        places={NOUN_OF[name]: place for name, place in answers('location', 'a') if name in NOUN_OF},
        counts={NOUN_OF_PLURAL[name]: int(n) for name, n in answers('count', 'plural') if name in NOUN_OF_PLURAL},
        held=None if held == 'nothing' else held,
        now=None if sample.now[0] < 0 else (tuple(VERBS)[sample.now[0]], tuple(NOUNS)[sample.now[1]]),
    )
