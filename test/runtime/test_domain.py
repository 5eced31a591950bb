from dataclasses import replace

import numpy as np
import pytest
import torch

from m3et_ros.data.calibration import STEPS, Calibration
from m3et_ros.data.frame import Frame
from m3et_ros.runtime.domain import DomainCheck, DomainResult, domain_score
from m3et_ros.runtime.engine import Engine
from m3et_ros.runtime.open_model import untrained
from m3et_ros.runtime.session import Session


def engine_with(**domain):
    checkpoint = untrained('tiny', 0)
    labels = replace(
        checkpoint.labels, calibration=Calibration(domain={n.replace('_', '+'): q for n, q in domain.items()})
    )
    return Engine(replace(checkpoint, labels=labels))


def frame(seed=0):
    rng = np.random.default_rng(seed)
    return Frame(rng.integers(0, 255, (24, 32, 3), dtype=np.uint8), np.full((24, 32), 1.5, np.float32), stamp_ns=seed)


def test_the_score_is_the_mean_doubt_of_the_segmentation():
    logits = torch.tensor([[[[0.0, 50.0]], [[0.0, 0.0]]]])  # doubts of 0.5 and 0
    assert domain_score({'rgb': torch.randn(1, 3, 4, 4)}, logits) == pytest.approx(0.25)
    assert domain_score({}, logits) == pytest.approx(0.25)


def test_a_picture_of_one_colour_is_unlike_any_kitchen():
    assert domain_score({'rgb': torch.full((1, 3, 4, 4), 0.7)}, torch.tensor([[[[50.0]], [[0.0]]]])) == 1.0


def test_a_frame_is_compared_with_those_of_its_modalities():
    engine = engine_with(rgb_depth=(0.0,) * (STEPS + 1), rgb=(1.0,) * (STEPS + 1))
    check = DomainCheck(engine)
    deep = check.check(engine.encode(frame()))
    plain = check.check(engine.encode(Frame(frame().rgb)))
    assert (deep.limit, deep.above, deep.unlike) == (0.0, 1.0, True) and 0 < deep.score < 1
    assert (plain.limit, plain.above, plain.unlike) == (1.0, 0.0, False)
    assert deep.described == f'score {deep.score:.3f}, limit 0.000, above 100.0% of the frames of validation'


def test_without_quantiles_nothing_is_compared():
    engine = engine_with()
    assert not DomainCheck(engine).possible
    result = DomainCheck(engine).check(engine.encode(frame()))
    assert not result.unlike and result.described == 'not checked'


def test_a_session_compares_every_so_many_frames_and_sent_images_at_once(monkeypatch):
    engine, checked = engine_with(rgb_depth=(0.0,) * (STEPS + 1), rgb=(1.0,) * (STEPS + 1)), []
    inner = DomainCheck.check

    def check(self, view):
        checked.append(view.frame.stamp_ns)
        return inner(self, view)

    monkeypatch.setattr(DomainCheck, 'check', check)
    session = Session(engine)
    session.domain_every = 3
    for n in range(1, 8):
        session.observe(frame(n))
    assert checked == [1, 4, 7] and session.domain.unlike
    reply = session.ask('what?', session.views('frame'), scope='frame', top_k=2)
    assert (reply.reason, reply.answerable, len(reply.alternatives)) == ('unlike_training', False, 2)
    sent = session.views('frame', Frame(frame(9).rgb, stamp_ns=9))
    assert session.ask('what?', sent, scope='frame', top_k=2).answerable and checked[-1] == 9
    session.domain_every = 0  # from now on, not from the next frame on
    for views in (session.views('frame'), session.views('frame', Frame(frame(9).rgb, stamp_ns=9))):
        assert session.ask('what?', views, scope='frame', top_k=2).answerable and checked[-1] == 9
    session.observe(frame(10))
    assert session.domain == DomainResult() or not session.domain.unlike
    assert session.ask('what?', session.views('frame'), scope='frame', top_k=2).answerable and checked[-1] == 9
