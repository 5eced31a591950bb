"""VQAv2 by the official metric (docs/papers.md 7.1): the soft score of ten people's answers, by answer type.

Questions of one picture resemble each other, so intervals are over pictures.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from m3et_ros.data.datasets.vqav2 import VQAv2Samples
from m3et_ros.evaluation.batches import interval_json
from m3et_ros.evaluation.metrics.answers import SOFT_RULES, soft_score
from m3et_ros.evaluation.metrics.intervals import bootstrap, mean_rows, ratio
from m3et_ros.evaluation.predictions import Prediction

RULE = 'vqa_soft'
"""Rule of the scores, in SOFT_RULES."""


def official(predictions: Sequence[Prediction], data: VQAv2Samples, chosen: Sequence[int]) -> list[Prediction]:
    """Score predictions by the official rule, by the words of all people as the file has them.

    Args:
        predictions: predictions of some questions, in order.
        data: the data set.
        chosen: position in the data set of each of these questions.

    Returns:
        The predictions with their scores; index and cluster are those of the data set and of the picture.
    """
    return [
        replace(
            prediction,
            index=number,
            cluster=f'image {data.image(number)}',
            score=soft_score(prediction.predicted, data.people(number)),
            written_score=None if prediction.written is None else soft_score(prediction.written, data.people(number)),
        )
        for prediction, number in zip(predictions, chosen, strict=True)
    ]


def vqav2_scores(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """Return the accuracy over all questions and of each answer type, 0 to 1, with 95 % intervals over pictures.

    Where the text decoder answered, too, its accuracy is under `written`.

    Raises:
        ValueError: there are no predictions.
    """
    types = sorted({prediction.family for prediction in predictions})
    result = {'rule': SOFT_RULES[RULE], 'questions': len(predictions), 'accuracy': _accuracy(predictions, 'score')}
    result['answer_types'] = {
        name: {
            'questions': sum(prediction.family == name for prediction in predictions),
            'accuracy': _accuracy([prediction for prediction in predictions if prediction.family == name], 'score'),
        }
        for name in types
    }
    if predictions[0].written is not None:
        result['written'] = _accuracy(predictions, 'written_score')
    return result


def _accuracy(predictions: Sequence[Prediction], field: str) -> dict[str, Any]:
    rows = mean_rows([getattr(prediction, field) for prediction in predictions])
    return interval_json(bootstrap(rows, ratio, [prediction.cluster for prediction in predictions]), 'images')


def submission(predictions: Sequence[Prediction], data: VQAv2Samples) -> list[dict[str, Any]]:
    """Return the answers in the form of the official evaluation: question_id and answer."""
    return [{'question_id': data.question_id(one.index), 'answer': one.predicted} for one in predictions]
