"""The engine on the tiny model: one encoding serves every output, and missing inputs are allowed."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame
from m3et_ros.models.m3et.sizes import build
from m3et_ros.runtime.backends.probe import probe_frame
from m3et_ros.runtime.engine import Engine
from m3et_ros.runtime.open_model import untrained


@pytest.fixture(scope='module')
def engine():
    return Engine(untrained('tiny', 0))


def test_dense_outputs_have_the_size_of_the_camera(engine):
    view = engine.encode(probe_frame(30, 50))
    result = engine.reconstruct(view)
    assert result.depth.shape == result.mask.shape == (30, 50)
    assert np.isfinite(result.depth).all() and result.mask.max() < len(engine.labels.classes)


def test_only_what_is_asked_for_is_decoded(engine):
    view = engine.encode(probe_frame())
    assert engine.reconstruct(view, mask=False).mask is None
    assert engine.reconstruct(view, depth=False).depth is None
    unfilled = engine.reconstruct(view, fill='never').depth
    np.testing.assert_array_equal(unfilled, view.frame.depth)


def test_depth_and_instruction_may_be_missing(engine):
    rgb = probe_frame().rgb
    for frame in (Frame(rgb), Frame(rgb, instruction='where is the cup?'), probe_frame()):
        tokens = engine.encode(frame).encoded.context
        assert tokens.isfinite().all()


def test_a_standing_question_needs_no_second_pass(engine):
    frame = probe_frame()
    standing = engine.encode(Frame(frame.rgb, frame.depth, instruction='where is the cup?'))
    later = engine.encode(frame)
    first = engine.classify('where is the cup?', [standing], top_k=5)
    second = engine.classify('where is the cup?', [later], top_k=5)
    assert [r.label for r in first] == [r.label for r in second]
    np.testing.assert_allclose([r.score for r in first], [r.score for r in second], rtol=1e-4)
    assert engine._encode_question('where is the cup?', [standing]) is standing.encoded


def test_answers_are_ranked_and_depend_on_the_question(engine):
    view = engine.encode(probe_frame())
    answers = engine.classify('where is the cup?', [view], top_k=4)
    scores = [r.score for r in answers]
    assert len(answers) == 4 and scores == sorted(scores, reverse=True) and 0 < scores[0] < 1
    assert scores != [r.score for r in engine.classify('how many spoons can be seen?', [view], top_k=4)]


def test_answers_are_as_many_as_asked_for_or_as_there_are(engine):
    view, most = engine.encode(probe_frame()), len(engine.labels.answers)
    for top_k, count in ((1, 1), (most, most), (most + 1, most)):
        assert len(engine.classify('where is the cup?', [view], top_k=top_k)) == count


@pytest.mark.parametrize('max_tokens', [1, 3])
def test_a_written_answer_has_at_most_max_tokens(engine, max_tokens):
    view = engine.encode(probe_frame())
    assert len(list(engine.write('where is the cup?', [view], max_tokens=max_tokens))) <= max_tokens


def test_writing_grows_a_token_at_a_time(engine):
    view = engine.encode(probe_frame())
    pieces = list(engine.write('where is the cup?', [view], max_tokens=5))
    assert len(pieces) <= 5 and all(0 <= p <= 1 for _, p in pieces)
    assert all(len(a) <= len(b) for (a, _), (b, _) in itertools.pairwise(pieces))


def test_anticipation_depends_on_earlier_frames_until_the_stream_is_reset(engine):
    def anticipated(brightness):
        view = engine.encode(Frame(np.full((40, 40, 3), brightness, np.uint8)))
        return engine.anticipate(view, horizon_s=1.0, top_k=3)

    engine.reset_actions()
    first, second = anticipated(0), anticipated(255)
    assert first.next != second.next and first.now != first.next
    engine.reset_actions()
    assert anticipated(0).next == first.next
    actions = first.next.actions
    verbs = tuple(verb.replace('-', ' ') for verb in engine.labels.verbs)
    assert actions[0].label.startswith(verbs) and actions[0].score >= actions[1].score


def test_bfloat16_stays_near_float32():
    frame = probe_frame()
    exact = Engine(untrained('tiny', 0)).encode(frame).encoded.context
    rough = Engine(untrained('tiny', 0), precision='bfloat16').encode(frame).encoded.context
    assert rough.dtype == torch.bfloat16
    assert (rough.float() - exact).abs().max() < 0.1 * exact.abs().max()


def test_random_weights_depend_on_the_seed_alone():
    frame = probe_frame()
    state = torch.get_rng_state()
    first, again, other = (Engine(untrained('tiny', s)).encode(frame).encoded.context for s in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(state, torch.get_rng_state())


def test_torch_serves_in_the_precision_asked_for():
    engine = Engine(untrained('tiny', 0))
    serving = engine.prepare('torch', precision='bfloat16')
    assert serving == engine.serving and serving.name == 'torch' and not serving.fallback
    assert engine.dtype == torch.bfloat16 and engine.encode(probe_frame()).encoded.context.dtype == torch.bfloat16
    with pytest.raises(ValueError, match='has rounded its weights'):
        engine.prepare('torch')


@pytest.mark.skipif(torch.cuda.is_available(), reason='speaks of machines without CUDA')
def test_an_unavailable_runtime_falls_back_to_torch():
    engine = Engine(untrained('tiny', 0))
    serving = engine.prepare('cuda')
    assert serving.fallback and 'no CUDA device' in serving.reason and engine.dtype == torch.float32


def test_anticipation_reports_its_horizon_latency_and_breaks(engine):
    engine.reset_actions()
    frame = probe_frame()
    for stamp_ns, broken in ((10**9, ''), (2 * 10**9, ''), (10**9, 'stream_back'), (20 * 10**9, 'stream_gap')):
        view = engine.encode(Frame(frame.rgb, frame.depth, stamp_ns=stamp_ns))
        found = engine.anticipate(view, horizon_s=2.5, top_k=2)
        assert (found.horizon_s, found.broken) == (2.5, broken)
        assert found.latency_s > view.latency_s > 0
        assert len(found.now.verbs) == len(found.next.actions) == 2


def test_a_view_without_its_encoding_cannot_update_the_action_stream(engine):
    with pytest.raises(ValueError, match='encode its frame again'):
        engine.anticipate(engine.encode(probe_frame()).without_encodings(), horizon_s=1.0, top_k=1)


def test_options_of_prepare_arrive_at_the_backend(monkeypatch):
    from m3et_ros.runtime import backends

    settings, names, lines = [], [], []

    class Plain:
        name, lowers, device = 'compile', True, 'cpu'

        def build(self, name, module, inputs):
            names.append(name)
            return lambda *given: list(module(*given))

    monkeypatch.setattr(backends, 'missing', lambda name: '')
    monkeypatch.setattr(backends, 'make', lambda name, setting: settings.append(setting) or Plain())
    engine = Engine(untrained('tiny', 0))
    serving = engine.prepare('compile', precision='bfloat16', modality_sets=[('rgb',)], report=lines.append)
    assert serving.name == 'compile' and settings[0].precision == 'bfloat16'
    assert names and not [name for name in names if '-depth' in name]
    assert len(lines) == len(names) + 1
    assert engine.dtype == torch.float32 and engine.tokens == 'full'


def test_raw_predictions_come_by_task(engine):
    view = engine.encode(probe_frame())
    size = engine.config.image_size
    found = engine.decode(view, ('semseg', 'depth'))
    assert list(found) == ['semseg', 'depth'] and found['depth'].shape == (1, 1, size, size)
    assert found['semseg'].shape[1] == len(engine.labels.classes) and engine.decode(view, ()) == {}


def test_a_device_that_does_not_exist_is_refused(engine):
    with pytest.raises(InputError, match='cannot be used .*; give auto, cpu'):
        Engine(untrained('tiny', 0), device='no-such-device')


@pytest.mark.parametrize('validity', [False, True])
def test_holes_are_predicted_from_colours_alone_unless_depth_has_a_channel_of_validity(validity):
    checkpoint = untrained('tiny', 0)
    config = replace(
        checkpoint.model.config, depth_validity=validity, depth_norm='fixed', depth_mean=1.5, depth_std=1.0
    )
    engine = Engine(replace(checkpoint, model=build(config)))
    frame = probe_frame()
    shifted = Frame(frame.rgb, frame.depth + np.float32(0.3))
    one, other = (engine._predict_depth(engine.encode(each), None) for each in (frame, shifted))
    assert one.shape == (config.image_size,) * 2 and (np.abs(one - other).max() > 1e-6) == validity
    alone = engine._predict_depth(engine.encode(Frame(frame.rgb)), None)
    assert (np.abs(one - alone).max() > 1e-6) == validity
    view = engine.encode(frame)
    if validity:
        hidden = engine._predict_depth(view, np.where(np.arange(config.image_size) < 9, np.nan, view.scale.measured))
        assert np.abs(hidden - one).max() > 1e-6
        np.testing.assert_allclose(engine._predict_depth(view, view.scale.measured), one, atol=1e-5)


def test_a_model_without_metric_depth_predicts_none():
    engine = Engine(untrained('tiny', 0))
    assert engine._predict_depth(engine.encode(Frame(probe_frame().rgb)), None) is None


def test_a_new_stream_weighs_the_ways_of_filling_anew(engine):
    engine.reconstruct(engine.encode(probe_frame()), fill='smooth')
    assert engine.depth_completion.described == 'smooth'
    engine.reset_stream()
    assert engine.depth_completion.described == 'nothing filled yet'
