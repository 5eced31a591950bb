"""Sentences are read back and scored, and descriptions are counted thing by thing."""

import pytest
from talkers import talker

from m3et_ros.data.kitchen.cache.dataset import KitchenSamples
from m3et_ros.evaluation.tasks import talk
from m3et_ros.evaluation.tasks.talk import (
    DescriptionResult,
    SentencePrediction,
    ask_talker,
    describe_views,
    description_scores,
    talk_scores,
)
from m3et_ros.runtime.open_model import untrained


def said(index, family, answer, written, read, *, yes=0.0, no=0.0):
    return SentencePrediction(
        index=index,
        key=f'seed {index % 3} tick {index}',
        cluster=f'seed {index % 3}',
        family=family,
        question='?',
        answer=answer,
        predicted=read,
        score=float(read == answer),
        written=written,
        yes=yes,
        no=no,
    )


def test_scores_by_hand():
    found = talk_scores(
        [
            said(0, 'colour', 'red', 'The cup is red.', 'red'),
            said(1, 'colour', 'red', 'Hm.', ''),
            said(2, 'region', 'left', 'The cup is on the left.', 'left'),
            said(3, 'action_done', '3', 'Four.', '4'),
            said(4, 'existence', 'no', 'Yes, there is a cup in view.', 'yes', yes=0.6, no=0.3),
            said(5, 'existence', 'no', 'No, a cup is not in view.', 'no', yes=0.6, no=0.3),
            said(6, 'existence', 'yes', 'Yes, there is a cup in view.', 'yes', yes=0.9, no=0.1),
        ]
    )
    assert found['all']['accuracy']['value'] == pytest.approx(4 / 7, abs=1e-6) and found['unread'] == round(1 / 7, 6)
    assert found['answerable_from_one_frame']['samples'] == 6 and found['fine_spatial']['accuracy']['value'] == 1
    assert found['families']['colour']['accuracy']['value'] == 0.5
    assert found['pope']['hallucinated'] == 0.5 and found['pope']['harness_B']['accuracy'] == round(2 / 3, 6)
    assert found['pope']['harness_A']['accuracy'] == round(1 / 3, 6)
    assert found['all']['accuracy']['kitchens'] == 3


def test_descriptions_by_hand():
    scores = description_scores(
        [
            DescriptionResult('seed 1 tick 1', 'seed 1', '', '', 3, 2, 2, 2),
            DescriptionResult('seed 2 tick 1', 'seed 2', '', '', 1, 1, 3, 1),
            DescriptionResult('seed 3 tick 1', 'seed 3', '', '', 0, 0, 0, 0),
        ]
    )
    assert scores['chair_things']['value'] == 0.25 and scores['chair_descriptions']['value'] == round(1 / 3, 6)
    assert scores['precision']['value'] == 0.75 and scores['recall']['value'] == 0.6


@pytest.fixture(scope='module')
def kitchens(tmp_path_factory):
    pytest.importorskip('mujoco')
    from m3et_ros.data.kitchen.cache.generate import generate

    cache = generate(
        tmp_path_factory.mktemp('caches'),
        seeds=range(20_003, 20_005),
        size=32,
        stride=25,
        frames=4,
        backend='raycast',
        workers=0,
        progress=False,
    )
    return KitchenSamples(cache, length=10)


def test_answers_do_not_depend_on_the_batch(kitchens):
    checkpoint, encoder = talker('matvlm'), untrained('tiny', 0)
    one, many = (ask_talker(checkpoint, encoder, kitchens, batch=batch) for batch in (1, 8))
    assert [(s.index, s.question, s.written, s.read) for s in one] == [
        (s.index, s.question, s.written, s.read) for s in many
    ]
    assert all(a.yes == pytest.approx(b.yes, abs=1e-4) for a, b in zip(one, many)) and len(one) == 10
    assert all(s.cluster in ('seed 20003', 'seed 20004') and s.key.startswith(s.cluster) for s in one)
    row, sample = one[4].row(), kitchens[4]
    assert list(row) == ['index', 'key', 'family', 'question', 'answer', 'written', 'read', 'score', 'yes', 'no']
    assert (row['index'], row['key'], row['family'], row['question'], row['answer']) == (
        4,
        sample.key,
        sample.family,
        sample.question,
        sample.answer,
    )
    assert row['read'] == one[4].predicted and 0 < row['yes'] < 1 and 0 < row['no'] < 1 and row['yes'] != row['no']


def test_descriptions_have_their_reference_and_their_own_length(kitchens, monkeypatch):
    checkpoint, encoder = talker('matvlm'), untrained('tiny', 0)
    found = describe_views(checkpoint, encoder, kitchens, views=3)
    assert len(found) == 3 and all(one.reference.startswith('I can see') and one.found <= one.wanted for one in found)
    assert list(found[0].row()) == ['key', 'written', 'reference', 'named', 'right', 'wanted', 'found']
    assert all(one.key.startswith(one.cluster) for one in found)
    monkeypatch.setattr(talk, 'LONGEST_DESCRIPTION', 1)
    short = describe_views(checkpoint, encoder, kitchens, views=3)
    assert sum(len(one.written) for one in short) < sum(len(one.written) for one in found)
