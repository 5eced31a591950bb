"""Train the action log and the reader of an episode memory: finished actions, and answers to questions.

The memory's percept encoder encodes every frame once (training.memory.percepts). Then the action recogniser learns from
the actions of the episodes; slots and reader learn from questions at several points of each episode, worded anew every
time. The rest of the memory stays as it is.

Symbols: B episodes, L frames, C classes, P width of a percept, M question points, Q questions at each, T word pieces.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from m3et_ros.data.class_names import QuestionEncoder
from m3et_ros.data.features.episodes import EncodedEpisodes, logs_at_questions
from m3et_ros.data.kitchen.cache.episodes import EpisodeFrames
from m3et_ros.data.kitchen.questions.episode import worded
from m3et_ros.data.kitchen.questions.episode_wordings import EQA_CATEGORIES
from m3et_ros.models.episode.action_log import ActionLog
from m3et_ros.models.episode.model import EpisodeHead
from m3et_ros.models.episode.percepts import PEAK
from m3et_ros.training.recipe import Recipe

NEAR = 4
"""Frames after the end of an action in which its prediction has full weight."""

FAR = 0.2
"""Weight of its prediction in later frames."""

EACH = 40
"""Questions at a point, Q."""


class ActionLogEpisodes(Dataset):
    """Episodes with their actions, for the action recogniser; all are padded to the length of the longest."""

    def __init__(self, encoded: EncodedEpisodes):
        self.encoded, self.episodes = encoded, list(encoded.episodes)
        self.frames = max(len(episode.stamps) for episode in self.episodes)

    def __len__(self) -> int:
        return len(self.episodes)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """Return the arrays of an episode, each with L rows.

        Returns:
            tokens and percepts; now, verb and noun under way, and last, verb and noun of the last finished action, -1
            for none; fired, 1 where an action has just finished; weight, of predicting that; there, 1 for frames
            of the episode and 0 for padding.
        """
        episode = self.episodes[index]
        here, frames = self.encoded.frames(episode), len(episode.stamps)
        pairs = np.array([(action.verb, action.noun) for action in episode.actions] + [(-1, -1)])
        over = count_finished(episode)
        fired = np.diff(over, prepend=0) > 0
        number = np.arange(frames)
        since = number - np.maximum.accumulate(np.where(fired, number, -frames))
        found = {
            'tokens': self.encoded.tokens[here],
            'percepts': self.encoded.percepts[here],
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


def count_finished(episode: EpisodeFrames) -> np.ndarray:
    """Count the actions that are over at each frame, (n,)."""
    return np.searchsorted([action.stop_s for action in episode.actions], episode.stamps + 1e-6, side='right')


def collate_action_logs(rows: Sequence[dict[str, np.ndarray]]) -> tuple[dict[str, Tensor], list[str]]:
    """Stack the arrays of ActionLogEpisodes to (B, L, ...), float32 or int64; also return B keys."""
    stacked = {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]}
    tensors = {name: value.float() if value.is_floating_point() else value.long() for name, value in stacked.items()}
    return tensors, [''] * len(rows)


@dataclass(frozen=True)
class ActionLogRecipe(Recipe):
    """Recognise the action under way in each frame, its end, and then the finished action."""

    STORED_NAME: ClassVar[str] = 'Tell'
    samples: int = 12_000
    batch: int = 16
    lr: float = 1e-3
    weight_decay: float = 0.05
    # Share of a frame's token and percepts that is dropped in training.
    dropout: float = 0.4
    # Weight of the ends of actions.
    ends: float = 3.0
    # Label smoothing of the targets.
    smoothing: float = 0.1

    def losses(self, model: EpisodeHead, batch: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return the cross-entropies of the action under way, of the ends, and of the finished action."""
        with torch.no_grad():
            inputs = model.action_inputs(batch['percepts'])
        readout, _ = model.diarist(*(self._dropped(part, generator) for part in (batch['tokens'], inputs)))
        verbs, nouns = batch['now'].unbind(-1)
        no_action = readout.verb.shape[-1] - 1
        there = batch['there']
        ends = F.binary_cross_entropy_with_logits(readout.finished, batch['fired'], reduction='none')
        found = {
            'verb': self._error(readout.verb, torch.where(verbs < 0, no_action, verbs), there),
            'noun': self._error(readout.noun, nouns, there),
            'finished': self.ends * (ends * there).sum() / there.sum().clamp(min=1),
        }
        for name, logits, target in (
            ('done_verb', readout.done_verb, batch['last'][..., 0]),
            ('done_noun', readout.done_noun, batch['last'][..., 1]),
        ):
            found[name] = self._error(logits, target, batch['weight'] * there)
        return found

    def _dropped(self, part: Tensor, generator: torch.Generator) -> Tensor:
        kept = torch.rand(part.shape, generator=generator) >= self.dropout
        return part * kept.to(part) / (1 - self.dropout)

    def _error(self, logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        errors = F.cross_entropy(
            logits.transpose(1, 2), target, ignore_index=-1, reduction='none', label_smoothing=self.smoothing
        )
        weight = (target >= 0).float() * weight
        return (errors * weight).sum() / weight.sum().clamp(min=1)


class QuestionEpisodes(Dataset):
    """Episodes with questions at several points; the same seed, epoch and index always give the same wordings.

    Args:
        head: makes the action logs; its answers are the candidates.
        encoded: the episodes; those without question points are skipped.
        seed: seed of the wordings.
    """

    def __init__(self, head: EpisodeHead, encoded: EncodedEpisodes, *, seed: int = 0):
        self.encoded, self.seed, self.epoch = encoded, seed, 0
        self.episodes = [episode for episode in encoded.episodes if episode.question_points]
        self.size = (
            max(len(episode.stamps) for episode in self.episodes),
            max(len(episode.question_points) for episode in self.episodes),
        )
        self.logs = [logs_at_questions(head, encoded, episode) for episode in self.episodes]
        self._answers = {answer: i for i, answer in enumerate(head.config.answers)}

    def __len__(self) -> int:
        return len(self.episodes)

    def __getitem__(self, index: int) -> dict:
        """Return an episode.

        Shorter episodes are padded with empty frames, and with points without questions.

        Returns:
            percepts (L, C, P); log, of batch M; frames (M,), the frame of each point; questions, M * EACH texts;
            starts (M,), the first question to use; answers and categories (M, EACH), -1 for none.
        """
        episode, rng = self.episodes[index], np.random.default_rng((self.seed, self.epoch, index))
        frames, points = self.size
        questions, targets = [''] * (points * EACH), np.full((2, points, EACH), -1)
        for number, point in enumerate(episode.question_points):
            asked = worded(point.drafts[:EACH], '', rng)
            questions[number * EACH : number * EACH + len(asked)] = [one.question for one in asked]
            targets[0, number, : len(asked)] = [self._answers.get(one.answer, -1) for one in asked]
            targets[1, number, : len(asked)] = [EQA_CATEGORIES.index(one.category) for one in asked]
        percepts = self.encoded.percepts[self.encoded.frames(episode)]
        padding = np.zeros((frames - len(percepts), *percepts.shape[1:]), percepts.dtype)
        last = np.minimum(np.arange(points), len(episode.question_points) - 1)
        return {
            'percepts': np.concatenate([percepts, padding]),
            'log': self.logs[index].at(torch.from_numpy(last)),
            'frames': np.array([episode.question_points[number].frame for number in last]),
            'questions': questions,
            'starts': rng.integers(EACH, size=points),
            'answers': targets[0],
            'categories': targets[1],
        }


@dataclass(frozen=True)
class CollateQuestions:
    """Turn episodes with questions into tensors.

    The batch holds percepts (B, L, C, P); frames (B, M); the parts of the action logs (B * M, ...); ids, mask and named
    (B * M, each, T); answers and categories (B * M, each).
    """

    encoder: QuestionEncoder
    # Questions at a point in a batch, 1 to 40; each epoch draws others.
    each: int = EACH

    def __call__(self, episodes: Sequence[dict]) -> tuple[dict[str, Tensor], list[str]]:
        """Return tensors by name, and B keys."""
        asked, targets = [], {'answers': [], 'categories': []}
        for episode in episodes:
            rows = np.array(episode['questions'], object).reshape(-1, EACH)
            for point, row in enumerate(rows):
                # The questions are drawn category by category in turn, so any stretch holds all categories evenly.
                chosen = (episode['starts'][point] + np.arange(self.each)) % EACH
                asked += row[chosen].tolist()
                for name, values in targets.items():
                    values.append(episode[name][point, chosen])
        ids, mask, named = (part.unflatten(0, (-1, self.each)) for part in self.encoder(asked))
        tensors = {
            'percepts': torch.from_numpy(np.stack([episode['percepts'] for episode in episodes])).float(),
            'frames': torch.from_numpy(np.stack([episode['frames'] for episode in episodes])),
            'ids': ids,
            'mask': mask,
            'named': named,
        }
        tensors |= {name: torch.from_numpy(np.stack(values)) for name, values in targets.items()}
        tensors |= {
            f'log_{name}': torch.cat([getattr(episode['log'], name) for episode in episodes])
            for name in ActionLog._fields
        }
        return tensors, [''] * len(episodes)


@dataclass(frozen=True)
class AnswerRecipe(Recipe):
    """Answer questions about episodes."""

    STORED_NAME: ClassVar[str] = 'Remember'
    samples: int = 12_000
    batch: int = 8
    lr: float = 1e-3
    weight_decay: float = 0.05
    # Share of the frames that are blanked in training.
    blinks: float = 0.1
    # Share of the probability that the targets spread evenly over all answers.
    smoothing: float = 0.03
    # Weight of the questions' categories relative to their answers.
    categories: float = 0.1

    def losses(self, model: EpisodeHead, batch: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Return the cross-entropies of answers and categories."""
        answers, categories = answer_logits(model, batch, blinks=self.blinks, generator=generator)
        found = {}
        for name, logits, weight, smoothing in (
            ('answers', answers, 1.0, self.smoothing),
            ('categories', categories, self.categories, 0.0),
        ):
            found[name] = weight * F.cross_entropy(
                logits.flatten(0, 1), batch[name].flatten(), ignore_index=-1, label_smoothing=smoothing
            )
        return found


def answer_logits(
    model: EpisodeHead, batch: Mapping[str, Tensor], *, blinks: float = 0.0, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Return the logits of answers and of categories, (B * M, each, ...).

    Args:
        model: the memory.
        batch: batch from CollateQuestions.
        blinks: share of the frames that are blanked.
        generator: draws them.
    """
    percepts, frames = batch['percepts'], batch['frames']
    if model.config.blind:  # it reads neither slots nor percepts, so one frame is enough
        percepts, frames = percepts[:, :1], torch.zeros_like(frames)
    rows = torch.arange(len(percepts), device=frames.device)[:, None]
    newest = percepts[rows, frames].flatten(0, 1)
    if blinks:
        blanked = torch.rand(percepts.shape[:2], generator=generator) < blinks
        percepts = percepts.clone()
        percepts[..., PEAK] *= (~blanked).to(percepts)[..., None]
    slots = model.update_slots(percepts)[0][rows, frames].flatten(0, 1)
    log = ActionLog(*(batch[f'log_{name}'] for name in ActionLog._fields))
    return model.answer(slots, newest, log, batch['ids'], batch['mask'], batch['named'])
