"""Questions and answers that a model cannot be sure of: what it was taught, and the replies that say "I cannot tell".

A question is read before it reaches the model (data/questions/reader.py), and an answer is judged before it leaves the
session. A model without trained weights is not judged: every answer of it says already that it means nothing.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from m3et_ros.data.checkpoints.labels import CheckpointFacts
from m3et_ros.data.kitchen.questions.frame_wordings import NOT_IN_VIEW
from m3et_ros.data.kitchen.questions.taught import taught_to
from m3et_ros.data.questions import reader
from m3et_ros.data.questions.reader import QuestionReader, Reading
from m3et_ros.data.questions.taught import Taught
from m3et_ros.runtime.results import Reply

if TYPE_CHECKING:
    from m3et_ros.data.checkpoints.m3et import Checkpoint

CANNOT_TELL = 'I cannot tell'
"""Text of a reply without an answer."""

REASONS = (*reader.REASONS, 'not_in_view', 'unsure', 'unlike_training')
"""Reasons for which a reply has no answer."""


def taught_of(checkpoint: 'Checkpoint | CheckpointFacts') -> Taught | None:
    """Return the questions that a checkpoint was taught; None where nobody knows them.

    Checkpoints with the labels of the kitchen that do not say were taught those of the kitchen. Questions about the
    episode need the head for it.
    """
    labels = checkpoint.labels
    taught = taught_to(labels.answers, labels.classes) if labels.taught is None else labels.taught
    if taught is None or not taught.frame or not checkpoint.trained:
        return None
    return taught if 'episode' in checkpoint.heads else replace(taught, episode={})


def question_reader(checkpoint: 'Checkpoint') -> QuestionReader | None:
    """Return the reader of questions to a checkpoint; None where nobody knows what it was taught."""
    taught = taught_of(checkpoint)
    return None if taught is None else QuestionReader(taught)


def refused(reply: Reply, reading: Reading) -> Reply:
    """Return a reply without an answer, because of the words of the question."""
    return replace(
        reply,
        text=CANNOT_TELL,
        confidence=0.0,
        answerable=False,
        reason=reading.reason,
        explanation=reading.explanation,
        suggestions=reading.suggestions,
        read_as=reading.question,
    )


def judged(reply: Reply, *, min_confidence: float, unlike_training: bool) -> Reply:
    """Return a reply, without its answer where the model cannot be sure of it; its guesses stay.

    Args:
        reply: reply of the model.
        min_confidence: probability below which an answer is unsure, 0..1.
        unlike_training: the frame is unlike those that the model learned from.
    """
    if not reply.answerable:
        return reply
    if reply.text == NOT_IN_VIEW:
        reason, why = 'not_in_view', 'The model does not see it in this frame.'
    elif unlike_training:
        reason = 'unlike_training'
        why = 'The frame is unlike anything that the model was trained on, so its guesses may mean nothing.'
    elif reply.confidence < min_confidence:
        reason = 'unsure'
        why = (
            f'The best answer, "{reply.text}", has a probability of {reply.confidence:.2f}, below {min_confidence:.2f}.'
        )
    else:
        return reply
    return replace(reply, text=CANNOT_TELL, confidence=0.0, answerable=False, reason=reason, explanation=why)
