"""Learning to remember episodes: what was done, and what questions about all that was seen ask for.

The eye of a memory (training.seeing) looks at every frame once; then a diarist learns from the actions of the episodes,
and slots and reader from questions at several moments of each, worded anew every time. All else stands still.

Symbols: B episodes, L frames, C classes, P width of a percept, M moments, Q questions of a moment, T word pieces.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from m3et_ros.data.class_names import Reading
from m3et_ros.data.features import EncodedEpisodes, diaries
from m3et_ros.data.kitchen.cache.episodes import EpisodeFrames
from m3et_ros.data.kitchen.questions.episode import worded
from m3et_ros.data.kitchen.questions.episode_wordings import EQA_CATEGORIES
from m3et_ros.models.episode.action_log import ActionLog
from m3et_ros.models.episode.model import EpisodeHead
from m3et_ros.models.episode.percepts import PEAK
from m3et_ros.training.recipe import Recipe

NEAR = 4
"""Frames after the end of an action within which it counts fully that it is told which one that was."""

FAR = 0.2
"""How much it counts later on."""

EACH = 40
"""Questions of a moment, Q."""


class Doings(Dataset):
    """Episodes with their actions, for a diarist; all are filled up to the length of the longest."""

    def __init__(self, watched: EncodedEpisodes):
        self.watched, self.episodes = watched, list(watched.episodes)
        self.frames = max(len(episode.stamps) for episode in self.episodes)

    def __len__(self) -> int:
        return len(self.episodes)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """Tokens, percepts, and of each frame verb and noun under way, whether one is finished, and which was last.

        `there` is 1 for frames of the episode, and `weight` how much it counts which action was last.
        """
        episode = self.episodes[index]
        here, frames = self.watched.frames(episode), len(episode.stamps)
        pairs = np.array([(action.verb, action.noun) for action in episode.actions] + [(-1, -1)])
        over = finished(episode)
        fired = np.diff(over, prepend=0) > 0
        number = np.arange(frames)
        since = number - np.maximum.accumulate(np.where(fired, number, -frames))
        found = {
            'tokens': self.watched.tokens[here],
            'percepts': self.watched.percepts[here],
            'now': pairs[episode.now()],
            'fired': fired.astype(np.float32),
            'last': pairs[over - 1],
            'weight': np.where(since < NEAR, 1, FAR).astype(np.float32),
            'there': np.ones(frames, np.float32),
        }
        return {
            name: np.concatenate([value, np.zeros((self.frames - frames, *value.shape[1:]), value.dtype)])
            for name, value in found.items()
        }


def finished(episode: EpisodeFrames) -> np.ndarray:
    """How many actions are over at each frame, (n,)."""
    return np.searchsorted([action.stop_s for action in episode.actions], episode.stamps + 1e-6, side='right')


def collate_doings(rows: Sequence[dict[str, np.ndarray]]) -> tuple[dict[str, Tensor], list[str]]:
    """As Doings gives them, (B, L, ...), and B keys."""
    stacked = {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]}
    return {name: value.float() if value.is_floating_point() else value.long() for name, value in stacked.items()}, [
        ''
    ] * len(rows)


@dataclass(frozen=True)
class Tell(Recipe):
    """What is done in every frame, when it is finished, and what it was."""

    samples: int = 12_000
    batch: int = 16
    lr: float = 1e-3
    weight_decay: float = 0.05
    # Share of what is told of a frame that is dropped while training.
    dropout: float = 0.4
    # Weight of when actions end.
    ends: float = 3.0
    # Share of the probability that the targets give to all classes alike.
    smoothing: float = 0.1

    def losses(self, model: EpisodeHead, batch: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return the cross-entropies of what is under way, of the ends, and of what was ended."""
        with torch.no_grad():
            moves = model.moves(batch['percepts'])
        told, _ = model.diarist(*(self._thinned(part, generator) for part in (batch['tokens'], moves)))
        verbs, nouns = batch['now'].unbind(-1)
        none = told.verb.shape[-1] - 1
        there = batch['there']
        ends = F.binary_cross_entropy_with_logits(told.finished, batch['fired'], reduction='none')
        found = {
            'verb': self._error(told.verb, torch.where(verbs < 0, none, verbs), there),
            'noun': self._error(told.noun, nouns, there),
            'finished': self.ends * (ends * there).sum() / there.sum().clamp(min=1),
        }
        for name, logits, target in (
            ('done_verb', told.done_verb, batch['last'][..., 0]),
            ('done_noun', told.done_noun, batch['last'][..., 1]),
        ):
            found[name] = self._error(logits, target, batch['weight'] * there)
        return found

    def _thinned(self, part: Tensor, generator: torch.Generator) -> Tensor:
        kept = torch.rand(part.shape, generator=generator) >= self.dropout
        return part * kept.to(part) / (1 - self.dropout)

    def _error(self, logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        errors = F.cross_entropy(
            logits.transpose(1, 2), target, ignore_index=-1, reduction='none', label_smoothing=self.smoothing
        )
        weight = (target >= 0).float() * weight
        return (errors * weight).sum() / weight.sum().clamp(min=1)


class Lessons(Dataset):
    """Episodes with questions at their moments; the same seed, epoch and index always give the same wordings.

    Args:
        head: whose diaries are read, and whose answers are the candidates.
        watched: the episodes; those without moments are left out.
        reading: turns questions into tensors.
        seed: of the wordings.
    """

    def __init__(self, head: EpisodeHead, watched: EncodedEpisodes, reading: Reading, *, seed: int = 0):
        self.watched, self.reading, self.seed, self.epoch = watched, reading, seed, 0
        self.episodes = [episode for episode in watched.episodes if episode.moments]
        self.size = (
            max(len(episode.stamps) for episode in self.episodes),
            max(len(episode.moments) for episode in self.episodes),
        )
        self.diaries = [diaries(head, watched, episode) for episode in self.episodes]
        self._answers = {answer: i for i, answer in enumerate(head.config.answers)}

    def __len__(self) -> int:
        return len(self.episodes)

    def __getitem__(self, index: int) -> dict:
        """Percepts (L, C, P), frames (M,), diary, M * EACH questions, answers and categories, -1 for none.

        Shorter episodes are filled up with frames in which nothing is seen, and with moments at which nothing is asked.
        """
        episode, rng = self.episodes[index], np.random.default_rng((self.seed, self.epoch, index))
        frames, moments = self.size
        questions, targets = [''] * (moments * EACH), np.full((2, moments, EACH), -1)
        for place, moment in enumerate(episode.moments):
            asked = worded(moment.drafts[:EACH], '', rng)
            questions[place * EACH : place * EACH + len(asked)] = [one.question for one in asked]
            targets[0, place, : len(asked)] = [self._answers.get(one.answer, -1) for one in asked]
            targets[1, place, : len(asked)] = [EQA_CATEGORIES.index(one.category) for one in asked]
        percepts = self.watched.percepts[self.watched.frames(episode)]
        more = np.zeros((frames - len(percepts), *percepts.shape[1:]), percepts.dtype)
        last = np.minimum(np.arange(moments), len(episode.moments) - 1)
        return {
            'percepts': np.concatenate([percepts, more]),
            'diary': self.diaries[index].at(torch.from_numpy(last)),
            'frames': np.array([episode.moments[place].frame for place in last]),
            'questions': questions,
            'starts': rng.integers(EACH, size=moments),
            'answers': targets[0],
            'categories': targets[1],
        }


@dataclass(frozen=True)
class CollateLessons:
    """Lessons to tensors: percepts (B, L, C, P), frames (B, M), the parts of the diaries (B * M, ...), ids, mask and
    named (B * M, each, T), answers and categories (B * M, each).
    """

    reading: Reading
    # Questions of a moment that are learnt from at a time, drawn anew every time.
    each: int = EACH

    def __call__(self, lessons: Sequence[dict]) -> tuple[dict[str, Tensor], list[str]]:
        """Return tensors by name, and B keys."""
        asked, targets = [], {'answers': [], 'categories': []}
        for lesson in lessons:
            rows = np.array(lesson['questions'], object).reshape(-1, EACH)
            for moment, row in enumerate(rows):
                # In the order of drawing the categories take turns, so that any stretch has them evenly.
                chosen = (lesson['starts'][moment] + np.arange(self.each)) % EACH
                asked += row[chosen].tolist()
                for name, kept in targets.items():
                    kept.append(lesson[name][moment, chosen])
        ids, mask, named = (part.unflatten(0, (-1, self.each)) for part in self.reading(asked))
        tensors = {
            'percepts': torch.from_numpy(np.stack([lesson['percepts'] for lesson in lessons])).float(),
            'frames': torch.from_numpy(np.stack([lesson['frames'] for lesson in lessons])),
            'ids': ids,
            'mask': mask,
            'named': named,
        }
        tensors |= {name: torch.from_numpy(np.stack(kept)) for name, kept in targets.items()}
        tensors |= {
            f'diary_{name}': torch.cat([getattr(lesson['diary'], name) for lesson in lessons])
            for name in ActionLog._fields
        }
        return tensors, [''] * len(lessons)


@dataclass(frozen=True)
class Remember(Recipe):
    """Answers to questions about episodes."""

    samples: int = 12_000
    batch: int = 8
    lr: float = 1e-3
    weight_decay: float = 0.05
    # Chance that a frame is not seen while training.
    blinks: float = 0.1
    # Share of the probability that the targets give to all answers alike.
    smoothing: float = 0.03
    # Weight of the categories of questions beside their answers.
    categories: float = 0.1

    def losses(self, model: EpisodeHead, batch: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return the cross-entropies of answers and categories."""
        answers, categories = answers_of(model, batch, blinks=self.blinks, generator=generator)
        found = {}
        for name, logits, weight, smoothing in (
            ('answers', answers, 1.0, self.smoothing),
            ('categories', categories, self.categories, 0.0),
        ):
            found[name] = weight * F.cross_entropy(
                logits.flatten(0, 1), batch[name].flatten(), ignore_index=-1, label_smoothing=smoothing
            )
        return found


def answers_of(
    model: EpisodeHead, batch: Mapping[str, Tensor], *, blinks: float = 0.0, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Logits of answers and of categories, (B * M, each, ...), for a batch of CollateLessons."""
    percepts, frames = batch['percepts'], batch['frames']
    if model.config.blind:  # which reads nothing of what is made here
        percepts, frames = percepts[:, :1], torch.zeros_like(frames)
    rows = torch.arange(len(percepts), device=frames.device)[:, None]
    newest = percepts[rows, frames].flatten(0, 1)
    if blinks:
        closed = torch.rand(percepts.shape[:2], generator=generator) < blinks
        percepts = percepts.clone()
        percepts[..., PEAK] *= (~closed).to(percepts)[..., None]
    slots = model.keep(percepts)[0][rows, frames].flatten(0, 1)
    diary = ActionLog(*(batch[f'diary_{name}'] for name in ActionLog._fields))
    return model.answer(slots, newest, diary, batch['ids'], batch['mask'], batch['named'])
