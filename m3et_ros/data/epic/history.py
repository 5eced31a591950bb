"""Action histories of EPIC-KITCHENS-100 as tensors: windows, memories and questions of targets (docs/papers.md 3, 9.2).

Sorted by their end, the segments that are visible to a target are the first ones of its video, so that one causal pass
over a video serves all its targets. A class that is not in the lists becomes 'unknown', the id after the last.

Symbols: N segments, in order of video and end; S slots of a memory; L past actions of a window; T targets; V verbs and
    M nouns in the lists; Q questions, Lq words.
"""

import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from m3et_ros.data.action_questions import spoken_noun, spoken_verb
from m3et_ros.data.epic.annotations import GAP_S, Annotations, Segment, by_stop, visible_counts
from m3et_ros.data.epic.class_lists import Classes
from m3et_ros.models.actions.history import pause_bucket

QUESTIONS = (
    'After the person {verb} the {noun}, which object is used next?',
    'After the person {verb} the {noun}, what is done next?',
)
"""Questions about the noun and the verb after the last visible action (mode 'history' of docs/papers.md 3)."""

FIRST = ('In this kitchen, which object is used first?', 'In this kitchen, what is done first?')
"""The same where no action is visible yet."""

UNKNOWN_WORDS = 'does something with', 'something'
"""Words of an unknown verb and an unknown noun."""
WORDS = re.compile(r"[\w'/]+|[?,]")
PAD, UNKNOWN = '<pad>', '<unk>'
FIRST_PAUSE_S = 60.0
"""Pause before the first action of a video."""


@dataclass(frozen=True)
class HistoryWindow:
    """Part of a video: the past actions to scan, and the targets to predict."""

    # First and last + 1 of the past actions, as positions in order of the end.
    start: int
    stop: int
    # Targets, positions in the same order; the visible actions of each end between start and stop.
    targets: np.ndarray


class ActionHistories:
    """The past of every segment of a file as arrays; N in order of video and end.

    Args:
        annotations: annotations of the file.
        classes: lists of the known ids.
        slots: number of objects and of verbs in the memories.
        gap_s: see data.epic.annotations.visible_counts.

    Attributes:
        order: (N,) position of each segment in annotations.segments.
        starts: (videos + 1,) position of the first segment of each video.
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
        self.order = np.array([position for own in ordered for position in own])
        self.starts = np.cumsum([0, *map(len, ordered)])
        self.count = np.array([n for own in ordered for n in visible_counts(self.segments, own, gap_s)])
        mine = [self.segments[position] for position in self.order]
        self.verb, self.noun = (np.array([getattr(s, name) for s in mine]) for name in ('verb', 'noun'))
        self.start_s, self.stop_s = (np.array([getattr(s, name) for s in mine]) for name in ('start_s', 'stop_s'))
        self.first = np.repeat(self.starts[:-1], np.diff(self.starts))
        # Verb ids (N,), V where the class is not in the list; noun ids (N,), M likewise.
        self.known_verb, self.known_noun = (
            np.where((ids >= 0) & (ids < size), ids, size)
            for ids, size in ((self.verb, len(classes.verbs)), (self.noun, len(classes.nouns)))
        )
        verbs, nouns = (self.known_verb, len(classes.verbs)), (self.known_noun, len(classes.nouns))
        self.objects, self.deeds = self._memory(nouns, verbs, slots[0]), self._memory(verbs, nouns, slots[1])

    def __len__(self) -> int:
        return len(self.order)

    @property
    def last(self) -> np.ndarray:
        """Position (N,) of the last visible action of each target, -1 for none."""
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

    def segment(self, position: int) -> Segment:
        """Return the segment at a position in order of the end."""
        return self.segments[self.order[position]]

    def context(self, position: int, labels: np.ndarray, most: int | None = None) -> list[int]:
        """Return the labels of the actions visible to a target, newest last.

        Args:
            position: position of the target.
            labels: (N,) labels of all segments.
            most: number of the newest that are returned at most; None for all.
        """
        first, end = self.first[position], self.first[position] + self.count[position]
        return labels[first if most is None else max(first, end - most) : end].tolist()

    def windows(self, length: int = 128, before: int = 48) -> list[HistoryWindow]:
        """Cut the videos into windows so that each target belongs to one.

        Args:
            length: past actions of a window at most, to bound memory.
            before: further ones in front, so that every target has a past.

        Raises:
            ValueError: length is below 1 or before is negative.
        """
        if length < 1 or before < 0:
            raise ValueError(f'length is {length} and before {before}; give at least 1 and 0')
        found = []
        for first, end in itertools.pairwise(self.starts):
            edges = np.linspace(0, end - first, math.ceil((end - first) / length) + 1).astype(int)
            count = self.count[first:end]
            for low, high in itertools.pairwise(edges):
                own = (count > low if low else count >= 0) & (count <= high)
                if own.any():
                    found.append(
                        HistoryWindow(int(first + max(0, low - before)), int(first + high), first + np.flatnonzero(own))
                    )
        return found

    def _memory(self, keys: tuple[np.ndarray, int], others: tuple[np.ndarray, int], slots: int) -> 'UsageMemory':
        """Collect the classes used before each target.

        Args:
            keys: ids (N,) of the classes to remember, and their number.
            others: ids (N,) of the classes that went with them, and their number.
            slots: S.
        """
        found = UsageMemory.empty(len(self), slots, others[1])
        cuts = self.start_s - self.gap_s
        for first, end in itertools.pairwise(self.starts.tolist()):
            used: dict[int, tuple[int, int, int, float]] = {}
            done = 0
            for target in sorted(range(first, end), key=lambda i: self.count[i]):
                for newer in range(first + done, first + int(self.count[target])):
                    key = int(keys[0][newer])
                    if key < keys[1]:
                        old = used.pop(key, (others[1] + 1, 0, 0, 0.0))
                        used[key] = int(others[0][newer]), old[0], old[2] + 1, float(self.stop_s[newer])
                done = int(self.count[target])
                found.write(target, used, float(cuts[target]))
        return found


@dataclass(frozen=True)
class UsageMemory:
    """Classes used before each of N targets, in S slots, newest first."""

    # Class in the slot (N, S) int16, -1 for none.
    key: np.ndarray
    # Class that went with its last use, and with the one before that: two above the last id for none.
    last: np.ndarray
    before: np.ndarray
    # Number of its uses.
    count: np.ndarray
    # Seconds (N, S) float32 from the end of its last use to the moment of anticipation.
    lag_s: np.ndarray

    @classmethod
    def empty(cls, size: int, slots: int, others: int) -> 'UsageMemory':
        """Return memories without any use; `others` is the number of classes that can go with a key."""
        key, last, before, count = (np.full((size, slots), value, np.int16) for value in (-1, 0, others + 1, 1))
        return cls(key, last, before, count, np.zeros((size, slots), np.float32))

    def write(self, target: int, used: Mapping[int, tuple[int, int, int, float]], cut_s: float) -> None:
        """Write the newest uses into the slots of a target.

        Args:
            target: its position.
            used: key to last, before, count and end of the last use in seconds; the oldest use first.
            cut_s: moment of anticipation in seconds.
        """
        newest = list(used.items())[: -self.key.shape[1] - 1 : -1]
        for slot, (key, (last, before, count, stop_s)) in enumerate(newest):
            self.key[target, slot], self.last[target, slot], self.before[target, slot] = key, last, before
            self.count[target, slot], self.lag_s[target, slot] = count, max(cut_s - stop_s, 0)


class QuestionWords:
    """The vocabulary of the questions about the last visible action.

    Args:
        classes: verbs and nouns.
        words: all words, padding first, then 'unknown'; None collects those of the classes and templates.

    Raises:
        ValueError: the list does not start with padding and unknown, or holds a word twice.
    """

    def __init__(self, classes: Classes, words: Sequence[str] | None = None):
        self._verbs = [spoken_verb(key) for key in classes.verbs] + [UNKNOWN_WORDS[0]]
        self._nouns = [spoken_noun(key) for key in classes.nouns] + [UNKNOWN_WORDS[1]]
        if words is None:
            texts = [*self._verbs, *self._nouns, *QUESTIONS, *FIRST]
            words = (PAD, UNKNOWN, *dict.fromkeys(word for text in texts for word in split(text)))
        self.words = tuple(words)
        self._ids = {word: number for number, word in enumerate(self.words)}
        if self.words[:2] != (PAD, UNKNOWN) or len(self._ids) < len(self.words):
            raise ValueError(
                f'the words start with {self.words[:2]} and {len(self._ids)} of {len(self.words)} differ; '
                f'start with {PAD} and {UNKNOWN}, and give each once'
            )

    def text(self, verb: int, noun: int, which: int) -> str:
        """Return a question.

        Args:
            verb: class of the last visible action; -1 where no action is visible yet.
            noun: likewise.
            which: 0 for the question about the noun, 1 for that about the verb.
        """
        if verb < 0:
            return FIRST[which]
        return QUESTIONS[which].format(verb=self._verbs[verb], noun=self._nouns[noun])

    def ids(self, verb: int, noun: int, which: int) -> list[int]:
        """Return the word ids of a question; see text."""
        return [self._ids.get(word, 1) for word in split(self.text(verb, noun, which))]


def split(text: str) -> list[str]:
    """Split a text into words and marks, in lower case."""
    return WORDS.findall(text.lower())


class HistoryWindows(Dataset):
    """Windows of videos as samples; `collate` makes the batches of models.actions.history.

    Args:
        histories: histories of a file.
        pairs: verb * 1000 + noun of the pairs that have an embedding, ascending.
        question_words: vocabulary of the questions.
        windows: of histories.windows.

    Attributes:
        pairs: number of pairs.
        pair: (N,) position of each segment's pair among them; `pairs` for any other.
    """

    def __init__(
        self,
        histories: ActionHistories,
        pairs: Sequence[int],
        question_words: QuestionWords,
        windows: Iterable[HistoryWindow],
    ):
        self.histories, self.question_words, self.windows = histories, question_words, list(windows)
        self.pairs = len(pairs)
        positions = {pair: position for position, pair in enumerate(pairs)}
        own = (1000 * histories.known_verb + histories.known_noun).tolist()
        self.pair = np.array([positions.get(pair, self.pairs) for pair in own])
        self._pause = pause_bucket(torch.as_tensor(histories.pause_s)).numpy()
        self._last, self._cut = histories.last, histories.cut_s

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> HistoryWindow:
        """Return the window itself; collate looks up its arrays."""
        return self.windows[index]

    def collate(self, windows: Sequence[HistoryWindow]) -> tuple[dict[str, Tensor], list[str]]:
        """Return the tensors of models.actions.history.HistoryModel, with 'verb' and 'noun' (T,), and narration ids.

        'target' (T,) holds the positions of the targets; verb and noun are -1 for classes that are not in the lists.
        """
        histories, found = self.histories, self._past(windows)
        targets = np.concatenate([window.targets for window in windows])
        found['window'] = np.repeat(np.arange(len(windows)), [len(window.targets) for window in windows])
        starts = np.array([window.start for window in windows])[found['window']]
        found['place'] = (histories.first + histories.count)[targets] - starts
        last = self._last[targets]
        for name, ids, size in (
            ('verb', histories.known_verb, len(histories.classes.verbs)),
            ('noun', histories.known_noun, len(histories.classes.nouns)),
        ):
            found[f'last_{name}'] = np.where(last >= 0, ids[last], size)
            found[name] = np.where(ids[targets] < size, ids[targets], -1)
        for name, memory in (('objects', histories.objects), ('deeds', histories.deeds)):
            found |= {
                f'{name}_{part}': getattr(memory, part)[targets].astype(np.int64)
                for part in ('key', 'last', 'before', 'count')
            }
            found[f'{name}_lag_s'] = memory.lag_s[targets]
        found |= {'cut_s': self._cut[targets].astype(np.float32), 'target': targets} | self._questions(last)
        return (
            {name: torch.as_tensor(values) for name, values in found.items()},
            [histories.segment(position).narration_id for position in targets.tolist()],
        )

    def _past(self, windows: Sequence[HistoryWindow]) -> dict[str, np.ndarray]:
        """Return the past actions of windows, padded to the longest."""
        histories = self.histories
        size = len(windows), max(window.stop - window.start for window in windows)
        found = {name: np.zeros(size, np.int64) for name in ('verbs', 'nouns', 'pairs', 'pauses')}
        found |= {'lengths_s': np.zeros(size, np.float32), 'mask': np.zeros(size, bool)}
        sources = {
            'verbs': histories.known_verb,
            'nouns': histories.known_noun,
            'pairs': self.pair,
            'pauses': self._pause,
            'lengths_s': histories.stop_s - histories.start_s,
            'mask': np.ones(len(histories), bool),
        }
        for row, window in enumerate(windows):
            for name, values in sources.items():
                found[name][row, : window.stop - window.start] = values[window.start : window.stop]
        return found

    def _questions(self, last: np.ndarray) -> dict[str, np.ndarray]:
        """Return the different questions of targets by their last visible actions, and the one of each target."""
        known = self.histories.known_verb, self.histories.known_noun
        verbs, nouns = (np.where(last >= 0, ids[last], -1) for ids in known)
        actions, asked = np.unique(np.stack([verbs, nouns], 1), axis=0, return_inverse=True)
        found: dict[str, np.ndarray] = {'asked': asked.reshape(-1)}
        for which, name in enumerate(('noun_question', 'verb_question')):
            rows = [self.question_words.ids(verb, noun, which) for verb, noun in actions.tolist()]
            found[name] = np.zeros((len(rows), max(map(len, rows))), np.int64)
            for row, ids in enumerate(rows):
                found[name][row, : len(ids)] = ids
        return found
