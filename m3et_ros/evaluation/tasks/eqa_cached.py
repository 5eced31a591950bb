"""A memory asked about cached kitchens at several moments of each: the questions of the cache, worded once and for all.

    questions = asked_questions(episodes)
    found = memory_answers(head, watched, questions, reading)

Symbols: M moments of an episode, Q questions of a moment, C classes, P width of a percept.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from m3et_ros.data.class_names import Reading
from m3et_ros.data.datasets.openeqa import CATEGORIES, EqaQuestion
from m3et_ros.data.features import EncodedEpisodes, diaries
from m3et_ros.data.kitchen.cache.episodes import EpisodeFrames
from m3et_ros.data.kitchen.questions.episode import worded
from m3et_ros.models.episode.action_log import ActionLog, kept_diaries
from m3et_ros.models.episode.model import EpisodeHead


@dataclass(frozen=True)
class Given:
    """What was answered to one question."""

    question: EqaQuestion
    answer: str
    # Its probability in 0..1.
    confidence: float
    # Category that the question was taken for, among OpenEQA's seven.
    category: str


def asked_questions(episodes: Sequence[EpisodeFrames]) -> list[list[list[EqaQuestion]]]:
    """The questions of each moment of each episode; the wording of a kitchen is always the same."""
    return [
        [
            worded(moment.drafts, f'{episode.name}-{place}', np.random.default_rng((int(episode.name), place, 7)))
            for place, moment in enumerate(episode.moments)
        ]
        for episode in episodes
    ]


@torch.inference_mode()
def memory_answers(
    head: EpisodeHead,
    watched: EncodedEpisodes,
    questions: Sequence[Sequence[Sequence[EqaQuestion]]],
    reading: Reading,
    *,
    last: bool = False,
) -> list[Given]:
    """Answer all questions from what the memory holds at each moment.

    Args:
        head: the memory.
        watched: the episodes through its eye.
        questions: of each moment of each episode, as asked_questions gives them.
        reading: of its words.
        last: let it see nothing but the newest frame at each moment.
    """
    head.eval()
    found = []
    for episode, asked in zip(watched.episodes, questions):
        if not any(asked):
            continue
        slots, newest, diary = (_last if last else _all)(head, watched, episode)
        for place, of_moment in enumerate(asked):
            if of_moment:
                rows = torch.tensor([place])
                found += _answered(head, slots[rows], newest[rows], diary.at(rows), of_moment, reading)
    return found


def _all(head: EpisodeHead, watched: EncodedEpisodes, episode: EpisodeFrames) -> tuple[Tensor, Tensor, ActionLog]:
    """Slots (M, C, 2 s), newest percepts (M, C, P) and diaries at the moments of an episode."""
    percepts = torch.from_numpy(watched.percepts[watched.frames(episode)]).float()
    frames = [moment.frame for moment in episode.moments]
    return head.keep(percepts[None])[0][0, frames], percepts[frames], diaries(head, watched, episode)


def _last(head: EpisodeHead, watched: EncodedEpisodes, episode: EpisodeFrames) -> tuple[Tensor, Tensor, ActionLog]:
    """As _all, of the newest frame alone."""
    numbers = [episode.first + moment.frame for moment in episode.moments]
    percepts, tokens = (torch.from_numpy(part[numbers]).float()[:, None] for part in (watched.percepts, watched.tokens))
    state = head.init_state(len(numbers))
    told, _ = head.tell(tokens, percepts)
    return head.keep(percepts)[0][:, 0], percepts[:, 0], kept_diaries(told, state.diary)[0]


def _answered(
    head: EpisodeHead, slots: Tensor, newest: Tensor, diary: ActionLog, asked: Sequence[EqaQuestion], reading: Reading
) -> list[Given]:
    """The answers at one moment."""
    words = (part[None] for part in reading([one.question for one in asked]))
    answers, categories = head.answer(slots, newest, diary, *words)
    best = answers[0].float().softmax(-1).max(-1)
    names = head.config.categories
    seven = [names.index(name) for name in CATEGORIES if name in names]
    kinds = categories[0][:, seven].argmax(-1).tolist()
    return [
        Given(question, head.config.answers[number], confidence, names[seven[kind]])
        for question, number, confidence, kind in zip(asked, best.indices.tolist(), best.values.tolist(), kinds)
    ]
