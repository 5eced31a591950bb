"""Pasts of EPIC-KITCHENS-100 targets as tensors: windows of videos, memories of objects, questions (docs/papers.md 3, 9.2).

Sorted by their end, the segments that are visible to a target are a beginning of its video, so that one causal pass
over a video serves all its targets. A class that is not in the lists stands as 'unknown', one id too large.

Symbols: N segments, in order of video and end; S slots of a memory; L past actions of a window; T targets;
    Q questions, Lq words.
"""

import bisect
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from m3et_ros.data.epic.annotations import GAP_S, Annotations, Segment, by_stop, visible_counts
from m3et_ros.data.epic.class_lists import Classes, spoken
from m3et_ros.models.actions.history import pause_bucket

QUESTIONS = (
    'After the person {verb} the {noun}, which object is used next?',
    'After the person {verb} the {noun}, what is done next?',
)
"""About the noun and about the verb (mode 'history' of docs/papers.md 3), from the last visible action."""

FIRST = ('In this kitchen, which object is used first?', 'In this kitchen, what is done first?')
"""Where nothing is visible yet."""

UNKNOWN_WORDS = 'does something with', 'something'
WORDS = re.compile(r"[\w'/]+|[?,]")
PAD, UNKNOWN = '<pad>', '<unk>'
FIRST_PAUSE_S = 60.0
"""Pause before the first action of a video."""


@dataclass(frozen=True)
class HistoryWindow:
    """Part of a video: what is scanned, and the targets that are asked for."""

    # First and last + 1 of the past actions, places in order of the end.
    start: int
    stop: int
    # Targets, places in the same order; each sees at least the start and at most the stop.
    targets: np.ndarray


class Pasts:
    """The past of every segment of a file, laid out as arrays; N in order of video and end, `order` leads back.

    Args:
        annotations: of the file.
        classes: for the ids that are known.
        slots: objects and verbs that are remembered.
        gap_s: see data.epic.visible_counts.

    Attributes:
        order: (N,) place in annotations.segments of each.
        starts: (videos + 1,) where each video begins.
        verb, noun: (N,) class ids as they are, for scoring.
        count: (N,) visible actions of each target.
        objects: memory of the nouns used so far, with the verbs that went with them.
        deeds: memory of the verbs used so far, with the nouns that went with them.
    """

    def __init__(
        self, annotations: Annotations, classes: Classes, *, slots: tuple[int, int] = (40, 24), gap_s: float = GAP_S
    ):
        self.classes, self.gap_s, self.segments = classes, gap_s, annotations.segments
        videos = annotations.videos
        self.videos = tuple(videos)
        ordered = [by_stop(self.segments, own) for own in videos.values()]
        self.order = np.array([place for own in ordered for place in own])
        self.starts = np.cumsum([0, *map(len, ordered)])
        self.count = np.array([n for own in ordered for n in visible_counts(self.segments, own, gap_s)])
        mine = [self.segments[place] for place in self.order]
        self.verb, self.noun = (np.array([getattr(s, name) for s in mine]) for name in ('verb', 'noun'))
        self.start_s, self.stop_s = (np.array([getattr(s, name) for s in mine]) for name in ('start_s', 'stop_s'))
        self.first = np.repeat(self.starts[:-1], np.diff(self.starts))
        self._known = [
            np.where((ids >= 0) & (ids < size), ids, size)
            for ids, size in ((self.verb, len(classes.verbs)), (self.noun, len(classes.nouns)))
        ]
        verbs, nouns = ((ids, size) for ids, size in zip(self._known, (len(classes.verbs), len(classes.nouns))))
        self.objects, self.deeds = self._remember(nouns, verbs, slots[0]), self._remember(verbs, nouns, slots[1])

    def __len__(self) -> int:
        return len(self.order)

    @property
    def known_verb(self) -> np.ndarray:
        """Verb ids (N,), V where the class is not in the list."""
        return self._known[0]

    @property
    def known_noun(self) -> np.ndarray:
        """Noun ids (N,), M where the class is not in the list."""
        return self._known[1]

    @property
    def last(self) -> np.ndarray:
        """Place (N,) of the last visible action of each target, -1 where there is none."""
        return np.where(self.count > 0, self.first + self.count - 1, -1)

    @property
    def cut_s(self) -> np.ndarray:
        """Seconds (N,) from the end of the last visible action to the moment of anticipation."""
        ended = np.where(self.count > 0, self.stop_s[self.last], 0.0)
        return np.maximum(self.start_s - self.gap_s - ended, 0.0)

    @property
    def pause_s(self) -> np.ndarray:
        """Seconds (N,) from the end of the action before to the start; negative where they overlap."""
        pause = self.start_s - np.concatenate([[0.0], self.stop_s[:-1]])
        pause[self.starts[:-1]] = FIRST_PAUSE_S
        return pause

    def segment(self, place: int) -> Segment:
        """The segment at a place in order of the end."""
        return self.segments[self.order[place]]

    def context(self, place: int, labels: np.ndarray, most: int | None = None) -> list[int]:
        """Labels (N,) of what a target sees, newest last; at most so many of the newest."""
        first, end = self.first[place], self.first[place] + self.count[place]
        return labels[first if most is None else max(first, end - most) : end].tolist()

    def windows(self, length: int = 128, before: int = 48) -> list[HistoryWindow]:
        """Cut the videos into windows so that each target belongs to one.

        Args:
            length: past actions of a window at most, to bound memory.
            before: further ones in front, so that nobody starts without a past.

        Raises:
            ValueError: length is below 1 or before is negative.
        """
        if length < 1 or before < 0:
            raise ValueError(f'length is {length} and before {before}; give at least 1 and 0')
        found = []
        for first, end in zip(self.starts[:-1], self.starts[1:]):
            edges = np.linspace(0, end - first, math.ceil((end - first) / length) + 1).astype(int)
            count = self.count[first:end]
            for low, high in zip(edges[:-1], edges[1:]):
                own = (count > low if low else count >= 0) & (count <= high)
                if own.any():
                    found.append(
                        HistoryWindow(int(first + max(0, low - before)), int(first + high), first + np.flatnonzero(own))
                    )
        return found

    def _remember(self, keys: tuple[np.ndarray, int], others: tuple[np.ndarray, int], slots: int) -> 'Memory':
        """What was used so far, by the ids and class counts of what is remembered and of what goes with it."""
        found = Memory.empty(len(self), slots, others[1])
        cuts = self.start_s - self.gap_s
        for first, end in zip(self.starts[:-1].tolist(), self.starts[1:].tolist()):
            used: dict[int, tuple[int, int, int, float]] = {}
            seen = 0
            for place in sorted(range(first, end), key=lambda i: self.count[i]):
                for newer in range(first + seen, first + int(self.count[place])):
                    key = int(keys[0][newer])
                    if key < keys[1]:
                        old = used.pop(key, (others[1] + 1, 0, 0, 0.0))
                        used[key] = int(others[0][newer]), old[0], old[2] + 1, float(self.stop_s[newer])
                seen = int(self.count[place])
                found.lay_down(place, used, float(cuts[place]))
        return found


@dataclass(frozen=True)
class Memory:
    """Slots of N targets, newest first."""

    # Class that is remembered (N, S) int16, -1 for none.
    key: np.ndarray
    # Class that went with its last use, and the one before that: two too large for none.
    last: np.ndarray
    before: np.ndarray
    # How often it was used.
    count: np.ndarray
    # Seconds (N, S) float32 from the end of its last use to the moment of anticipation.
    lag_s: np.ndarray

    @classmethod
    def empty(cls, size: int, slots: int, others: int) -> 'Memory':
        """Memories in which nothing has been used; `others` classes may go with what is."""
        key, last, before, count = (np.full((size, slots), value, np.int16) for value in (-1, 0, others + 1, 1))
        return cls(key, last, before, count, np.zeros((size, slots), np.float32))

    def lay_down(self, place: int, used: Mapping[int, tuple[int, int, int, float]], cut_s: float) -> None:
        """Write the newest of what was used, oldest first in `used`, into a target's slots."""
        newest = [item for _, item in zip(range(self.key.shape[1]), reversed(used.items()))]
        if not newest:
            return
        own = slice(0, len(newest))
        self.key[place, own] = [key for key, _ in newest]
        self.last[place, own], self.before[place, own], self.count[place, own], stop_s = zip(
            *(values for _, values in newest)
        )
        self.lag_s[place, own] = np.maximum(cut_s - np.array(stop_s), 0)


class Asking:
    """Words of the questions.

    Args:
        words: all words, padding first, then 'unknown'; None collects those of the classes and templates.
        classes: verbs and nouns.

    Raises:
        ValueError: the list does not start with padding and unknown, or holds a word twice.
    """

    def __init__(self, classes: Classes, words: Sequence[str] | None = None):
        self._verbs = [spoken(key, noun=False) for key in classes.verbs] + [UNKNOWN_WORDS[0]]
        self._nouns = [spoken(key, noun=True) for key in classes.nouns] + [UNKNOWN_WORDS[1]]
        if words is None:
            texts = [*self._verbs, *self._nouns, *QUESTIONS, *FIRST]
            words = (PAD, UNKNOWN, *dict.fromkeys(word for text in texts for word in split(text)))
        self.words = tuple(words)
        self._ids = {word: place for place, word in enumerate(self.words)}
        if self.words[:2] != (PAD, UNKNOWN) or len(self._ids) < len(self.words):
            raise ValueError(
                f'the words start with {self.words[:2]} and {len(self._ids)} of {len(self.words)} differ; '
                f'start with {PAD} and {UNKNOWN}, and give each once'
            )

    def text(self, verb: int, noun: int, which: int) -> str:
        """A question: which 0 asks for the noun, 1 for the verb; verb -1 where nothing has happened yet."""
        if verb < 0:
            return FIRST[which]
        return QUESTIONS[which].format(verb=self._verbs[verb], noun=self._nouns[noun])

    def ids(self, verb: int, noun: int, which: int) -> list[int]:
        """Word ids of a question."""
        return [self._ids.get(word, 1) for word in split(self.text(verb, noun, which))]


def split(text: str) -> list[str]:
    """Words and marks of a text, in small letters."""
    return WORDS.findall(text.lower())


class HistoryWindows(Dataset):
    """Windows of videos as samples; `collate` makes the batches that models.history takes.

    Args:
        pasts: of a file.
        pairs: verb * 1000 + noun of the pairs that have an embedding, in order.
        asking: words of the questions.
        windows: of pasts.windows.

    Attributes:
        pairs: how many pairs there are.
        pair: (N,) place of each segment's pair among them, as many as there are where it is not one.
    """

    def __init__(self, pasts: Pasts, pairs: Sequence[int], asking: Asking, windows: Iterable[HistoryWindow]):
        self.pasts, self.asking, self.windows = pasts, asking, list(windows)
        self._pairs, self.pairs = list(pairs), len(pairs)
        self.pair = np.array([self._place(v, n) for v, n in zip(pasts.known_verb.tolist(), pasts.known_noun.tolist())])
        self._pause = pause_bucket(torch.as_tensor(pasts.pause_s)).numpy()
        self._last, self._cut = pasts.last, pasts.cut_s

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> HistoryWindow:
        """The window itself; its arrays are looked up in collate."""
        return self.windows[index]

    def _place(self, verb: int, noun: int) -> int:
        """Place of a pair in the list; as many as there are where it is not in it."""
        place = bisect.bisect_left(self._pairs, pair := 1000 * verb + noun)
        return place if place < len(self._pairs) and self._pairs[place] == pair else len(self._pairs)

    def collate(self, windows: Sequence[HistoryWindow]) -> tuple[dict[str, Tensor], list[str]]:
        """Tensors as models.history.HistoryModel wants them, with 'verb' and 'noun' (T,), and the ids of the targets.

        'target' (T,) holds the places of the targets; classes that are not in the lists stand as -1 in verb and noun.
        """
        pasts, found = self.pasts, self._past(windows)
        targets = np.concatenate([window.targets for window in windows])
        found['window'] = np.repeat(np.arange(len(windows)), [len(window.targets) for window in windows])
        found['place'] = (pasts.first + pasts.count)[targets] - np.array([w.start for w in windows])[found['window']]
        last = self._last[targets]
        for name, ids, size in (
            ('verb', pasts.known_verb, len(pasts.classes.verbs)),
            ('noun', pasts.known_noun, len(pasts.classes.nouns)),
        ):
            found[f'last_{name}'] = np.where(last >= 0, ids[last], size)
            found[name] = np.where(ids[targets] < size, ids[targets], -1)
        for name, memory in (('objects', pasts.objects), ('deeds', pasts.deeds)):
            found |= {
                f'{name}_{part}': getattr(memory, part)[targets].astype(np.int64)
                for part in ('key', 'last', 'before', 'count')
            }
            found[f'{name}_lag_s'] = memory.lag_s[targets]
        found |= {'cut_s': self._cut[targets].astype(np.float32), 'target': targets} | self._questions(last)
        return (
            {name: torch.as_tensor(values) for name, values in found.items()},
            [pasts.segment(place).narration_id for place in targets.tolist()],
        )

    def _past(self, windows: Sequence[HistoryWindow]) -> dict[str, np.ndarray]:
        """The past actions of windows, padded to the longest."""
        pasts = self.pasts
        size = len(windows), max(window.stop - window.start for window in windows)
        found = {name: np.zeros(size, np.int64) for name in ('verbs', 'nouns', 'pairs', 'pauses')}
        found |= {'lengths_s': np.zeros(size, np.float32), 'mask': np.zeros(size, bool)}
        sources = {
            'verbs': pasts.known_verb,
            'nouns': pasts.known_noun,
            'pairs': self.pair,
            'pauses': self._pause,
            'lengths_s': pasts.stop_s - pasts.start_s,
            'mask': np.ones(len(pasts), bool),
        }
        for row, window in enumerate(windows):
            for name, values in sources.items():
                found[name][row, : window.stop - window.start] = values[window.start : window.stop]
        return found

    def _questions(self, last: np.ndarray) -> dict[str, np.ndarray]:
        """Each question once, and which one each target asks."""
        verbs, nouns = (np.where(last >= 0, ids[last], -1) for ids in (self.pasts.known_verb, self.pasts.known_noun))
        asked, which = np.unique(np.stack([verbs, nouns], 1), axis=0, return_inverse=True)
        found = {'asked': which.reshape(-1)}
        for number, name in enumerate(('noun_question', 'verb_question')):
            rows = [self.asking.ids(verb, noun, number) for verb, noun in asked.tolist()]
            found[name] = np.zeros((len(rows), max(map(len, rows))), np.int64)
            for row, ids in zip(found[name], rows):
                row[: len(ids)] = ids
        return found
