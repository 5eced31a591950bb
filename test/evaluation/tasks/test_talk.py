"""What sentences are worth: read back, scored, and descriptions counted thing by thing."""

import pytest
from talkers import talker

from m3et_ros.data.kitchen.cache.dataset import KitchenSamples
from m3et_ros.data.kitchen.cache.generate import generate
from m3et_ros.evaluation.tasks.talk import Said, Told, ask_talker, description_scores, talk_scores, tell_talker
from m3et_ros.runtime.open_model import untrained


def said(index, family, answer, written, read, *, yes=0.0, no=0.0):
    return Said(
        index, f'seed {index % 3} tick {index}', family, '?', answer, written, read, float(read == answer), yes, no
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


def test_descriptions_by_hand():
    scores = description_scores(
        [
            Told('seed 1 tick 1', '', '', 3, 2, 2, 2),
            Told('seed 2 tick 1', '', '', 1, 1, 3, 1),
            Told('seed 3 tick 1', '', '', 0, 0, 0, 0),
        ]
    )
    assert scores['chair_things']['value'] == 0.25 and scores['chair_descriptions']['value'] == round(1 / 3, 6)
    assert scores['precision']['value'] == 0.75 and scores['recall']['value'] == 0.6


@pytest.fixture(scope='module')
def kitchens(tmp_path_factory):
    pytest.importorskip('mujoco')
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


def test_whatever_the_batch_the_same_is_said(kitchens):
    checkpoint, sight = talker('matvlm'), untrained('tiny', 0)
    one, many = (ask_talker(checkpoint, sight, kitchens, batch=batch) for batch in (1, 8))
    assert [(s.index, s.question, s.written, s.read) for s in one] == [
        (s.index, s.question, s.written, s.read) for s in many
    ]
    assert all(a.yes == pytest.approx(b.yes, abs=1e-4) for a, b in zip(one, many)) and len(one) == 10
    told = tell_talker(checkpoint, sight, kitchens, views=3)
    assert len(told) == 3 and all(t.reference.startswith('I can see') and t.found <= t.wanted for t in told)
