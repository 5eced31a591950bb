"""Scores of clips by the official protocol, from logits made by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from m3et_ros.data.epic.annotations import Annotations, Segment
from m3et_ros.evaluation.tasks.epic_video import ClipScores, clip_challenge, clip_ranks, clip_rows

LABELS = [(0, 1), (2, 0)]
ANNOTATIONS = Annotations(
    None, tuple(Segment(f'P01_01_{i}', 'P01_01', 'P01', i, i + 1, *pair) for i, pair in enumerate(LABELS)), ()
)
NAMES = SimpleNamespace(verbs=('take', 'put', 'wash'), nouns=('cup', 'pan'))


def logits():
    """The first action is right by plain scores; the second one by those without the prior."""
    plain = np.array([[5.0, 0, 0], [5, 0, 4]]), np.array([[0.0, 2], [0, 2]])
    corrected = np.array([[0.0, 3, 0], [0, 0, 4]]), np.array([[0.0, 2], [1, 0]])
    return ClipScores(plain, corrected)


def test_the_true_classes_are_ranked_by_both_scores():
    ranks = clip_ranks(logits(), ANNOTATIONS)
    assert {kind: own['verb'].tolist() for kind, own in ranks.items()} == {'plain': [0, 1], 'corrected': [1, 0]}
    assert {kind: own['noun'].tolist() for kind, own in ranks.items()} == {'plain': [0, 1], 'corrected': [0, 0]}
    assert ranks['plain']['action'].tolist() == [0, 3] and ranks['corrected']['action'].tolist()[1] == 0
    rows = clip_rows(logits(), ranks, ANNOTATIONS, NAMES)
    assert [row['truth'] for row in rows] == ['take pan', 'wash cup']
    assert [row['expected_plain'] for row in rows] == ['take pan', 'take pan']
    assert [row['expected_corrected'] for row in rows] == ['put pan', 'wash cup']
    assert rows[1]['action_rank_plain'] == 3 and rows[0]['narration_id'] == 'P01_01_0'


@pytest.mark.parametrize(('task', 'first'), [('recognition', 7), ('anticipation', 8)])
def test_the_challenge_gets_the_scores_of_its_measure(task, first):
    def official(verb):
        return np.eye(97)[[verb, verb]] * 9, np.eye(300)[[3, 3]] * 9

    document = clip_challenge(ClipScores(official(7), official(8)), ['a', 'b'], task)
    assert document['challenge'] == f'action_{task}' and set(document['results']) == {'a', 'b'}
    assert max(document['results']['a']['verb'], key=document['results']['a']['verb'].get) == str(first)
    assert max(document['results']['a']['action'], key=document['results']['a']['action'].get) == f'{first},3'
    assert (document['sls_pt'], document['sls_tl'], document['sls_td']) == (2, 4, 3)
