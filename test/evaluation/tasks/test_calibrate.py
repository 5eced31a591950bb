from dataclasses import replace

import numpy as np
import pytest

from m3et_ros.data.calibration import STEPS, Calibration
from m3et_ros.data.frame import Frame
from m3et_ros.data.sample import Sample
from m3et_ros.evaluation.metrics.temperature import fit_temperature
from m3et_ros.evaluation.tasks.calibrate import answer_scores, calibrate
from m3et_ros.evaluation.tasks.vqa import ask
from m3et_ros.runtime.domain import domain_score
from m3et_ros.runtime.engine import Engine
from m3et_ros.runtime.open_model import untrained


@pytest.fixture(scope='module')
def tiny():
    return untrained('tiny', 0)


def samples(**more):
    rng = np.random.default_rng(0)
    return [
        Sample(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8), np.full((32, 32), 1 + n, np.float32), **more)
        for n in range(4)
    ]


def test_answers_that_the_model_does_not_know_are_left_out(tiny):
    asked = samples(question='Is the tap on?', answers={'yes': 1.0})[:3] + samples(answers={'violet': 1.0})[:1]
    logits, answers, questions = answer_scores(tiny, asked, batch=2)
    assert questions == ['Is the tap on?'] * 3
    assert logits.shape == (3, len(tiny.labels.answers))
    assert answers.tolist() == [tiny.labels.answers.index('yes')] * 3
    engine = Engine(tiny)
    own = engine.answer_all(['Is the tap on?'], engine.encode(Frame(asked[1].rgb, asked[1].depth)))
    assert np.allclose(logits[1].softmax(-1), own[0], atol=1e-5)


def test_temperature_and_quantiles_are_those_of_the_samples(tiny):
    asked = samples(question='Is the tap on?', answers={'yes': 1.0})
    found = calibrate(tiny, asked, samples(), min_confidence=0.25)
    assert found.temperature == pytest.approx(fit_temperature(*answer_scores(tiny, asked)[:2]), abs=1e-5)
    assert found.min_confidence == 0.25 and set(found.domain) == {'rgb', 'rgb+depth'}
    engine = Engine(tiny)
    scores = []
    for sample in samples():
        view = engine.encode(Frame(sample.rgb, sample.depth))
        scores.append(domain_score(view.inputs, engine.decode(view, ['semseg'])['semseg']))
    quantiles = found.domain['rgb+depth']
    assert len(quantiles) == STEPS + 1
    assert quantiles[0] == pytest.approx(min(scores), abs=1e-4) and quantiles[-1] == pytest.approx(
        max(scores), abs=1e-4
    )


def test_without_a_known_answer_there_is_no_temperature(tiny):
    with pytest.raises(ValueError, match='logits are'):
        calibrate(tiny, samples(question='What?', answers={'violet': 1.0}), samples())


def test_an_untaught_answer_gets_a_bonus_in_the_exam_and_on_the_robot(tiny):
    asked = samples(question='Is the tap on?', answers={'yes': 1.0})
    logits = answer_scores(tiny, asked)[0]
    best = {tiny.labels.answers[i] for i in logits.argmax(-1).tolist()}
    new = next(answer for answer in tiny.labels.answers if answer not in best and ' ' not in answer)
    found = calibrate(tiny, asked, samples(), untaught=[new])
    assert list(found.untaught) == [new] and found.untaught[new] >= 0
    sure = replace(tiny, labels=replace(tiny.labels, calibration=Calibration(untaught={new: 1e3})))
    engine = Engine(sure)
    view = engine.encode(Frame(asked[0].rgb, asked[0].depth))
    assert engine.classify('Is the tap on?', [view], top_k=1)[0].label == new
    assert engine.answer_all(['Is the tap on?'] * 2, view).argmax(-1).tolist() == [sure.labels.answers.index(new)] * 2
    told = ask(sure.model, sure.tokenizer, asked, answers=sure.labels.answers, calibration=sure.labels.calibration)
    assert {one.predicted for one in told} == {new}
    assert {one.predicted for one in ask(tiny.model, tiny.tokenizer, asked, answers=tiny.labels.answers)} == best
