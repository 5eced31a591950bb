"""The engine on the tiny model: one encoding serves everything, and nothing depends on what is missing."""

import numpy as np
import pytest
import torch

from m3et_ros.data.frame import Frame
from m3et_ros.runtime.engine import Engine
from m3et_ros.runtime.open_model import open_checkpoint, untrained
from m3et_ros.runtime.selftest import golden_frame, self_test


@pytest.fixture(scope='module')
def engine():
    return Engine(untrained('tiny', 0))


def test_dense_outputs_have_the_size_of_the_camera(engine):
    view = engine.encode(golden_frame(30, 50))
    result = engine.reconstruct(view)
    assert result.depth.shape == result.mask.shape == (30, 50)
    assert np.isfinite(result.depth).all() and result.mask.max() < len(engine.labels.classes)
    assert engine.reconstruct_rgb(view).shape == (32, 32, 3)


def test_only_what_is_asked_for_is_decoded(engine):
    view = engine.encode(golden_frame())
    assert engine.reconstruct(view, mask=False).mask is None
    assert engine.reconstruct(view, depth=False).depth is None
    unfilled = engine.reconstruct(view, fill=False).depth
    np.testing.assert_array_equal(unfilled, view.frame.depth)


def test_depth_and_instruction_may_be_missing(engine):
    rgb = golden_frame().rgb
    for frame in (Frame(rgb), Frame(rgb, instruction='where is the cup?'), golden_frame()):
        tokens = engine.encode(frame).encoded.context
        assert tokens.isfinite().all()


def test_a_question_that_stands_as_instruction_costs_no_second_pass(engine):
    frame = golden_frame()
    standing = engine.encode(Frame(frame.rgb, frame.depth, instruction='where is the cup?'))
    later = engine.encode(frame)
    first = engine.classify('where is the cup?', [standing], top_k=5)
    second = engine.classify('where is the cup?', [later], top_k=5)
    assert [r.label for r in first] == [r.label for r in second]
    np.testing.assert_allclose([r.score for r in first], [r.score for r in second], rtol=1e-4)
    assert engine._encode_question('where is the cup?', [standing]) is standing.encoded


def test_answers_are_ranked_and_depend_on_the_question(engine):
    view = engine.encode(golden_frame())
    answers = engine.classify('where is the cup?', [view], top_k=4)
    scores = [r.score for r in answers]
    assert len(answers) == 4 and scores == sorted(scores, reverse=True) and 0 < scores[0] < 1
    assert scores != [r.score for r in engine.classify('how many spoons can be seen?', [view], top_k=4)]


def test_writing_grows_a_token_at_a_time(engine):
    view = engine.encode(golden_frame())
    pieces = list(engine.write('where is the cup?', [view], max_tokens=5))
    assert len(pieces) <= 5 and all(0 <= p <= 1 for _, p in pieces)
    assert all(len(a) <= len(b) for (a, _), (b, _) in zip(pieces, pieces[1:]))


def test_anticipation_changes_with_what_was_seen_and_can_be_forgotten(engine):
    def look(brightness):
        view = engine.encode(Frame(np.full((40, 40, 3), brightness, np.uint8)))
        return engine.anticipate(view, horizon_s=1.0, top_k=3)

    engine.reset_actions()
    first, second = look(0), look(255)
    assert first.next != second.next and first.now != first.next
    engine.reset_actions()
    assert look(0).next == first.next
    actions = first.next.actions
    assert actions[0].label.split()[0] in engine.labels.verbs and actions[0].score >= actions[1].score


def test_bfloat16_stays_near_float32():
    frame = golden_frame()
    exact = Engine(untrained('tiny', 0)).encode(frame).encoded.context
    rough = Engine(untrained('tiny', 0), precision='bfloat16').encode(frame).encoded.context
    assert rough.dtype == torch.bfloat16
    assert (rough.float() - exact).abs().max() < 0.1 * exact.abs().max()


def test_the_self_test_refuses_weights_that_are_not_finite():
    engine = Engine(untrained('tiny', 0))
    assert {k.op for k in self_test(engine)} == {'selective_scan', 'ssd'}
    with torch.no_grad():
        next(engine.checkpoint.model.encoder.parameters()).fill_(torch.nan)
    with pytest.raises(ValueError, match='not finite'):
        self_test(engine)


def test_named_sizes_without_weights_say_so(caplog):
    checkpoint = open_checkpoint('tiny', seed=3)
    assert checkpoint.model_id == 'tiny-random-3' and not checkpoint.trained
    assert 'random' in caplog.text and 'mean nothing' in caplog.text


def test_random_weights_depend_on_the_seed_alone():
    frame = golden_frame()
    state = torch.get_rng_state()
    first, again, other = (Engine(untrained('tiny', s)).encode(frame).encoded.context for s in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(state, torch.get_rng_state())


def test_a_runtime_is_prepared_and_torch_stands_in():
    engine = Engine(untrained('tiny', 0))
    serving = engine.prepare('torch', precision='bfloat16')
    assert serving == engine.serving and serving.name == 'torch' and not serving.fallback
    assert engine.dtype == torch.bfloat16 and engine.encode(golden_frame()).encoded.context.dtype == torch.bfloat16
    with pytest.raises(ValueError, match='has rounded its weights'):
        engine.prepare('torch')


@pytest.mark.skipif(torch.cuda.is_available(), reason='speaks of machines without CUDA')
def test_a_runtime_that_cannot_be_had_is_a_fallback():
    engine = Engine(untrained('tiny', 0))
    serving = engine.prepare('cuda')
    assert serving.fallback and 'no CUDA device' in serving.reason and engine.dtype == torch.float32
