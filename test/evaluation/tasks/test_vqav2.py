"""VQAv2's official scores: the words of all people decide, and pictures are the clusters."""

from types import SimpleNamespace

import pytest

from m3et_ros.evaluation.predictions import Prediction
from m3et_ros.evaluation.tasks.vqav2 import official, submission, vqav2_scores

PEOPLE = [['2'] * 2 + ['two'] * 2 + ['3'] * 6, ['Yes'] * 10, ['cup'] * 3 + ['mug'] * 7]
DATA = SimpleNamespace(people=PEOPLE.__getitem__, image=[9, 9, 25].__getitem__, question_id=[70, 71, 72].__getitem__)


def predicted(index, answer, family, written=None):
    return Prediction(
        index=index,
        key=f'question {index}',
        cluster='',
        family=family,
        question='?',
        answer='',
        predicted=answer,
        score=0.0,
        written=written,
        written_score=None if written is None else 0.0,
    )


def test_scores_are_those_of_the_official_rule():
    made = [predicted(0, '2', 'number', 'three'), predicted(1, 'cup', 'other', 'the mug')]
    replies = official(made, DATA, [0, 2])
    # '2' and 'two' are one answer, four people of ten; where all agree the words are compared as they are.
    assert [reply.score for reply in replies] == pytest.approx([1, 0.9])
    assert [reply.written_score for reply in replies] == pytest.approx([1, 1])
    assert [(reply.index, reply.cluster) for reply in replies] == [(0, 'image 9'), (2, 'image 25')]
    assert official([predicted(0, 'yes', 'yes/no')], DATA, [1])[0].score == 0
    assert submission(replies, DATA) == [{'question_id': 70, 'answer': '2'}, {'question_id': 72, 'answer': 'cup'}]


def test_accuracy_is_the_mean_over_questions_and_by_type():
    made = [predicted(0, '2', 'number'), predicted(1, 'no', 'yes/no'), predicted(2, 'cup', 'number')]
    scores = vqav2_scores(official(made, DATA, [0, 1, 2]))
    assert scores['accuracy']['value'] == pytest.approx(1.9 / 3, abs=1e-6) and scores['accuracy']['images'] == 2
    assert {name: (part['questions'], part['accuracy']['value']) for name, part in scores['answer_types'].items()} == {
        'number': (2, 0.95),
        'yes/no': (1, 0.0),
    }
    assert scores['questions'] == 3 and 'official' in scores['rule'] and 'written' not in scores
