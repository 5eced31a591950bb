"""Questions of cached kitchens, answered by an episode head from its memory at several moments of each episode.

    questions = asked_questions(episodes)
    predictions = memory_answers(head, encoded, questions, encoder)

Symbols: M moments of an episode, Q questions of a moment, C classes, P width of a percept, s width of a slot.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from m3et_ros.data.class_names import QuestionEncoder
from m3et_ros.data.datasets.openeqa import CATEGORIES, EqaQuestion
from m3et_ros.data.features.episodes import EncodedEpisodes, logs_at_questions
from m3et_ros.data.kitchen.cache.episodes import EpisodeFrames
from m3et_ros.data.kitchen.questions.episode import worded
from m3et_ros.evaluation.metrics.answers import exact_match
from m3et_ros.evaluation.predictions import Prediction
from m3et_ros.models.episode.action_log import ActionLog, action_logs
from m3et_ros.models.episode.model import EpisodeHead


def asked_questions(episodes: Sequence[EpisodeFrames]) -> list[list[list[EqaQuestion]]]:
    """Return the questions of each moment of each episode; the wording of a kitchen is always the same."""
    return [
        [
            worded(moment.drafts, f'{episode.name}-{place}', np.random.default_rng((int(episode.name), place, 7)))
            for place, moment in enumerate(episode.question_points)
        ]
        for episode in episodes
    ]


@torch.inference_mode()
def memory_answers(
    head: EpisodeHead,
    encoded: EncodedEpisodes,
    questions: Sequence[Sequence[Sequence[EqaQuestion]]],
    encoder: QuestionEncoder,
    *,
    last: bool = False,
) -> list[Prediction]:
    """Answer all questions from the memory at each moment.

    Args:
        head: the episode head.
        encoded: percepts and tokens of the episodes.
        questions: questions of each moment of each episode, as asked_questions returns them.
        encoder: encoder of the questions.
        last: True restricts the memory to the newest frame of each moment.

    Returns:
        Predictions in the order of the questions; `category` is the one of OpenEQA's seven that the head assigns.
    """
    head.eval()
    found: list[Prediction] = []
    for episode, asked in zip(encoded.episodes, questions, strict=True):
        if not any(asked):
            continue
        slots, newest, log = (_memory_of_newest if last else _memory)(head, encoded, episode)
        for place, of_moment in enumerate(asked):
            if of_moment:
                rows = torch.tensor([place])
                found += _answers(head, slots[rows], newest[rows], log.at(rows), of_moment, encoder, len(found))
    return found


def _memory(head: EpisodeHead, encoded: EncodedEpisodes, episode: EpisodeFrames) -> tuple[Tensor, Tensor, ActionLog]:
    """Return slots (M, C, 2 s), newest percepts (M, C, P) and action logs at the moments of an episode."""
    percepts = torch.from_numpy(encoded.percepts[encoded.frames(episode)]).float()
    frames = [moment.frame for moment in episode.question_points]
    return head.update_slots(percepts[None])[0][0, frames], percepts[frames], logs_at_questions(head, encoded, episode)


def _memory_of_newest(
    head: EpisodeHead, encoded: EncodedEpisodes, episode: EpisodeFrames
) -> tuple[Tensor, Tensor, ActionLog]:
    """Return the same as _memory for a memory of the newest frame alone."""
    numbers = [episode.first + moment.frame for moment in episode.question_points]
    percepts, tokens = (torch.from_numpy(part[numbers]).float()[:, None] for part in (encoded.percepts, encoded.tokens))
    state = head.init_state(len(numbers))
    recognised, _ = head.recognise_actions(tokens, percepts)
    return head.update_slots(percepts)[0][:, 0], percepts[:, 0], action_logs(recognised, state.action_log)[0]


def _answers(
    head: EpisodeHead,
    slots: Tensor,
    newest: Tensor,
    log: ActionLog,
    asked: Sequence[EqaQuestion],
    encoder: QuestionEncoder,
    first: int,
) -> list[Prediction]:
    """Answer the questions of one moment; the index of the first prediction is `first`."""
    words = (part[None] for part in encoder([one.question for one in asked]))
    answers, categories = head.answer(slots, newest, log, *words)
    best = answers[0].float().softmax(-1).max(-1)
    names = head.config.categories
    seven = [names.index(name) for name in CATEGORIES if name in names]
    kinds = categories[0][:, seven].argmax(-1).tolist()
    chosen = [head.config.answers[number] for number in best.indices.tolist()]
    return [
        Prediction(
            index=first + i,
            key=question.question_id,
            cluster=question.episode,
            family=question.category,
            question=question.question,
            answer=question.answer,
            predicted=chosen[i],
            score=exact_match(chosen[i], question.references),
            confidence=confidence,
            category=names[seven[kinds[i]]],
        )
        for i, (question, confidence) in enumerate(zip(asked, best.values.tolist(), strict=True))
    ]
