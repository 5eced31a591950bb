"""Adaptive tokens on the tiny model: changed patches are encoded, the others refreshed, questions rest on all."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from m3et_ros.data.frame import Frame
from m3et_ros.models.m3et.sizes import build
from m3et_ros.runtime import backends
from m3et_ros.runtime.adaptive import Adaptive, StreamEncoder, input_changes, patch_changes, tokens_to_encode
from m3et_ros.runtime.backends.graphs import flat_states
from m3et_ros.runtime.backends.prepared import Prepared, build_graphs, prepare
from m3et_ros.runtime.engine import Engine
from m3et_ros.runtime.open_model import untrained
from m3et_ros.runtime.session import Session

SECOND = 10**9
LAZY = Adaptive(refresh=0.0)
STEM = {'stem': 'conv', 'adapter_width': 4, 'depth_validity': True}
SIZES = (
    {},
    {'mixer': 'mamba1', 'mixer_options': {'N': 8}},
    {'schedule': 'SMTMSS'},
    {'adapter_width': 4},
    {'depth_validity': True},
    STEM,
    STEM | {'decoder_queries': 'encoded'},
)


@pytest.fixture(scope='module')
def model():
    return build('tiny').eval()


@pytest.fixture
def calls(model, monkeypatch):
    """Numbers of tokens that the encoder was given, one a call; 0 for all of them."""
    seen, whole = [], model.encode_changed
    monkeypatch.setattr(
        model,
        'encode_changed',
        lambda images, places=None, held=None: (
            seen.append(0 if places is None else len(places)) or whole(images, places, held)
        ),
    )
    return seen


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


def images(seed=0, depth=True, validity=False):
    """Random images; where depth has its validity, its last patch was not measured."""
    random = torch.Generator().manual_seed(seed)
    found = {'rgb': torch.randn(1, 3, 32, 32, generator=random)}
    if not depth:
        return found
    found['depth'] = torch.randn(1, 1, 32, 32, generator=random)
    if validity:
        found['depth'] = torch.cat([found['depth'], torch.ones(1, 1, 32, 32)], 1)
        found['depth'][..., 16:, 16:] = 0
    return found


def frame(n=1, **options):
    """A frame a tenth of a second after the one before."""
    return Frame(np.zeros((24, 32, 3), np.uint8), stamp_ns=n * SECOND // 10, **options)


def parts(encoding):
    return [*encoding.stages, *encoding.tokens.values()]


def same(a, b, tolerance=1e-5):
    return all(torch.allclose(x, y, atol=tolerance) for x, y in zip(parts(a), parts(b), strict=True))


@pytest.mark.parametrize(
    'name, low, high', [('threshold', 0, 10), ('refresh', 0, 1), ('whole_above', 0, 1), ('parts', 1, 64)]
)
def test_settings_out_of_range_are_refused_with_the_range(name, low, high):
    for value in (low - 1, high + 1, float('nan')):
        with pytest.raises(ValueError, match=f'{name} is {value}; give a .*number from {low} to {high}'):
            Adaptive(**{name: value})
    with pytest.raises(ValueError, match='gap_s is 0; give a number from 0.001'):
        Adaptive(gap_s=0)


def test_a_patch_changes_by_the_mean_of_its_cells():
    old, new = torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 32, 32)
    new[:, :, 16:, :16] = 0.5
    torch.testing.assert_close(patch_changes(new, old, 16), torch.tensor([0, 0, 0.5, 0]))
    # Grain that is nothing on average is hardly a change.
    grain = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert (patch_changes(old + grain, old, 16) < 0.3).all()


def test_changed_tokens_are_encoded_then_the_oldest():
    age = torch.tensor([5, 0, 7, 1, 6, 0, 2, 3])
    changed = torch.tensor([0, 1, 0, 0, 0, 1, 0, 0], dtype=torch.bool)
    taken = tokens_to_encode(changed, age, Adaptive(refresh=1 / 8, parts=8))
    assert taken.tolist() == [1, 2, 5]
    assert tokens_to_encode(changed, age, Adaptive(refresh=1 / 8, parts=2)).tolist() == [1, 2, 4, 5]
    assert tokens_to_encode(changed, age, Adaptive(refresh=0, whole_above=0.2)).tolist() == list(range(8))
    assert tokens_to_encode(changed & False, age, LAZY).tolist() == []


@pytest.mark.parametrize('options', SIZES)
def test_with_all_patches_the_encoding_is_that_of_encode_images(options):
    model = build('tiny', **options).eval()
    first, second = (images(seed, validity=model.config.depth_validity) for seed in (0, 1))
    second['depth'][:, -1] = 1  # measured everywhere, where the model knows
    whole, held = model.encode_images(first), model.encode_changed(second)
    everything = torch.arange(whole.source.shape[1])
    for found in (model.encode_changed(first), model.encode_changed(first, everything, held)):
        assert same(found.image_encoding, whole, 1e-5) and torch.equal(found.image_encoding.source, whole.source)
        assert torch.equal(found.image_encoding.position_ids, whole.position_ids)
        assert all(torch.equal(found.image_encoding.visible[m], mask) for m, mask in whole.visible.items())
        words = torch.ones(1, 4, dtype=torch.int64)
        torch.testing.assert_close(
            model.encode_text(found.image_encoding, words).context,
            model.encode_text(whole, words).context,
            atol=1e-5,
            rtol=1e-5,
        )


def test_a_changed_patch_gets_new_tokens_and_the_others_keep_theirs(model):
    old, new = images(), images()
    new['depth'] = old['depth'].clone()
    new['depth'][..., :16, 16:] += 2
    held = model.encode_changed(old)
    found = model.encode_changed(new, torch.tensor([5]), held).image_encoding
    moved = [(a != b).any(-1)[0].nonzero().flatten().tolist() for a, b in zip(found.stages, held.image_encoding.stages)]
    assert moved == [[5]] * len(moved)
    assert (found.tokens['depth'] != held.image_encoding.tokens['depth']).any(-1).nonzero().tolist() == [[0, 1]]
    # In the first layer nothing is missing: what it kept of the others is what they would be.
    again = model.encode_changed(new)
    for a, b in zip(
        model.encode_changed(new, torch.tensor([5]), held).encoder_pass.caches[0], again.encoder_pass.caches[0]
    ):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_some_tokens_of_a_stem_are_those_of_the_whole_image_and_the_others_stay():
    """A change in one patch moves the tokens around it; those that are not encoded keep what they were."""
    model = build('tiny', **STEM).eval()
    old, new = images(validity=True), images(validity=True)
    new['rgb'] = old['rgb'].clone()
    new['rgb'][..., :16, :16] += 2  # patch 0
    new['depth'] = old['depth'].clone()
    new['depth'][..., 16:, 16:] = 1  # patch 3, token 7, is measured now
    held, whole = model.encode_changed(old), model.encode_images(new)
    before, after = held.image_encoding.tokens, whole.tokens
    assert (after['rgb'] != before['rgb']).any(-1).all()
    found = model.encode_changed(new, torch.tensor([0, 1, 7]), held).image_encoding
    torch.testing.assert_close(found.tokens['rgb'][:, :2], after['rgb'][:, :2])
    assert torch.equal(found.tokens['rgb'][:, 2:], before['rgb'][:, 2:])
    torch.testing.assert_close(found.tokens['depth'][:, 3:], after['depth'][:, 3:])
    assert torch.equal(found.tokens['depth'][:, :3], before['depth'][:, :3])
    assert held.image_encoding.visible['depth'].tolist() == [[True, True, True, False]]
    assert found.visible['depth'].all()


def test_a_patch_changes_by_what_its_token_sees_around_it():
    old, new = torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 64)
    new[..., 16:32, 24:40] = 1  # the right half of patch 5 and the left half of patch 6
    alone, around = (patch_changes(new, old, 16, around=whether).view(4, 4) for whether in (False, True))
    assert alone[1].tolist() == [0, 0.5, 0.5, 0] and alone.sum() == 1
    # An eighth of what patches 1 and 2 above and 9 and 10 below see; patches 4 and 7 see nothing of it.
    assert around[1].tolist() == [0, 0.5, 0.5, 0]
    assert around[0].tolist() == around[2].tolist() == [0, 0.125, 0.125, 0] and not around[3].any()


def test_depth_changes_by_its_metres_or_by_its_validity():
    config = build('tiny', **STEM).config
    old, new = images(validity=True), images(validity=True)
    new['depth'] = old['depth'].clone()
    new['depth'][:, 0, :16, :16] += 0.5
    new['depth'][:, 1, :16, 16:] = 0.75
    found = input_changes(new, old, replace(config, stem='patch'))
    torch.testing.assert_close(found, torch.tensor([0, 0, 0, 0, 0.5, 0.25, 0, 0]))
    wide = input_changes(new, old, config)
    assert (wide >= found).all() and (wide[6:] > 0).all()


def test_other_modalities_than_those_held_are_refused(model):
    with pytest.raises(ValueError, match='images are rgb and rgb, depth are held'):
        model.encode_changed(images(depth=False), torch.tensor([0]), model.encode_changed(images()))


def test_nothing_changed_nothing_is_encoded_but_the_refresh(model, calls):
    stream = StreamEncoder(model.config, lambda: model, LAZY)
    first, _ = stream.encode(images(), frame(1))
    encoding, share = stream.encode(images(), frame(2))
    assert encoding is first and share == 0 and calls == [0]
    stream = StreamEncoder(model.config, lambda: model, Adaptive(refresh=1 / 4, parts=4))
    stream.encode(images(), frame(1))
    assert stream.encode(images(), frame(2))[1] == 1 / 4 and calls == [0, 0, 2]


def test_when_nothing_moves_a_refresh_changes_nothing(model):
    stream = StreamEncoder(model.config, lambda: model, Adaptive(refresh=1 / 4))
    for n in range(5):
        encoding, _ = stream.encode(images(), frame(n))
        assert same(encoding, model.encode_images(images()))


def test_a_frame_that_changed_everywhere_is_encoded_whole(model, calls):
    stream = StreamEncoder(model.config, lambda: model)
    stream.encode(images(0), frame(1))
    encoding, share = stream.encode(images(1), frame(2))
    assert share == 1 and same(encoding, model.encode_images(images(1))) and calls == [0, 0]


def test_slow_change_adds_up(model):
    stream, shown = StreamEncoder(model.config, lambda: model, LAZY), images()
    stream.encode(shown, frame(0))
    shares = []
    for n in range(1, 5):
        shown = shown | {'rgb': shown['rgb'] + 0.04}
        shares.append(stream.encode(shown, frame(n))[1])
    assert shares == [0, 0, 0.5, 0]


def test_a_frame_at_the_longest_gap_continues_the_stream(model, calls):
    stream = StreamEncoder(model.config, lambda: model, LAZY)
    stream.encode(images(), frame(1))
    stamp_ns = SECOND // 10 + SECOND
    assert stream.encode(images(), replace(frame(2), stamp_ns=stamp_ns))[1] == 0
    assert stream.encode(images(), replace(frame(2), stamp_ns=stamp_ns))[1] == 0 and calls == [0]


def test_the_limits_of_change_themselves_count_as_unchanged(model):
    age, changed = torch.zeros(8, dtype=torch.int64), torch.arange(8) < 4
    assert tokens_to_encode(changed, age, Adaptive(refresh=0, whole_above=0.5, parts=8)).tolist() == [0, 1, 2, 3]
    assert len(tokens_to_encode(changed, age, Adaptive(refresh=0, whole_above=0.49, parts=8))) == 8
    assert len(tokens_to_encode(changed, age, Adaptive(refresh=1, whole_above=1))) == 8
    # A threshold of 0 encodes patches that changed at all, and those alone.
    stream = StreamEncoder(model.config, lambda: model, Adaptive(threshold=0, refresh=0))
    stream.encode(images(), frame(1))
    assert stream.encode(images(), frame(2))[1] == 0


def test_settings_at_the_ends_of_their_ranges_are_accepted():
    low = Adaptive(threshold=0, refresh=0, whole_above=0, parts=1, gap_s=0.001)
    high = Adaptive(threshold=10, refresh=1, whole_above=1, parts=64, gap_s=1e9)
    assert (low.parts, high.parts) == (1, 64)


@pytest.mark.parametrize('refresh, bound', [(1 / 8, 8), (1 / 3, 3), (1, 1)])
def test_no_patch_gets_older_than_the_refresh_allows_even_if_others_always_change(model, refresh, bound):
    stream, shown = StreamEncoder(model.config, lambda: model, Adaptive(refresh=refresh, parts=8)), images()
    oldest = []
    for n in range(30):
        shown['rgb'] = shown['rgb'].clone()
        shown['rgb'][..., :16, :] *= -1
        stream.encode(shown, frame(n))
        oldest.append(int(stream.age.max()))
    assert max(oldest) < bound and stream.age[:2].max() == 0


@pytest.mark.parametrize(
    'change',
    [
        {'stamp_ns': 0},
        {'stamp_ns': SECOND // 10 + SECOND + 1},
        {'instruction': 'where is the cup?'},
        {'frame_id': 'other'},
        {'rgb': np.zeros((48, 64, 3), np.uint8)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_frame_that_breaks_the_stream_is_encoded_whole(model, calls, change):
    stream = StreamEncoder(model.config, lambda: model, LAZY)
    stream.encode(images(), frame(1))
    assert stream.encode(images(), replace(frame(2), **change))[1] == 1 and calls == [0, 0]


def test_a_frame_with_other_modalities_is_encoded_whole(model, calls):
    stream = StreamEncoder(model.config, lambda: model, LAZY)
    for depth in (True, False, True):
        encoding, share = stream.encode(images(depth=depth), frame(1))
        assert share == 1 and same(encoding, model.encode_images(images(depth=depth)))


# The engine and the session


def picture(n, seed=0):
    """A scene that stands still but for one corner."""
    rgb = np.random.default_rng(seed).integers(0, 255, (32, 32, 3), np.uint8)
    rgb[:8, :8] = 60 * (n % 4)
    return Frame(rgb, np.full((32, 32), 2, np.float32), stamp_ns=n * SECOND // 10)


@pytest.fixture
def session():
    return Session(Engine(untrained('tiny', 0), tokens='adaptive', adaptive=Adaptive(refresh=1 / 8)))


def test_an_engine_encodes_parts_of_a_stream_and_all_of_a_sent_image(session):
    shares = [session.observe(picture(n)).share for n in range(4)]
    assert shares[0] == 1 and all(0 < share < 1 for share in shares[1:])
    (own,) = session.views('frame', picture(9, seed=1))
    assert own.share == 1 and session.observe(picture(4)).share < 1
    result = session.engine.reconstruct(session.newest)
    assert np.isfinite(result.depth).all() and result.mask.shape == (32, 32)
    session.reset()
    assert session.observe(picture(5)).share == 1
    session.engine.to('cpu')
    assert session.observe(picture(6)).share == 1


def test_questions_rest_on_the_whole_frame_which_is_encoded_once(session, monkeypatch):
    for n in range(4):
        session.observe(picture(n))
    whole, encoded = session.engine.checkpoint.model.encode_changed, []
    monkeypatch.setattr(
        session.engine.checkpoint.model, 'encode_changed', lambda *given: encoded.append(1) or whole(*given)
    )
    exact = Session(Engine(untrained('tiny', 0)))
    exact.observe(picture(3))
    for question in ('where is the cup?', 'how many spoons can be seen?'):
        found, wanted = (s.ask(question, s.views('frame'), scope='frame', top_k=4) for s in (session, exact))
        assert [a.label for a in found.alternatives] == [a.label for a in wanted.alternatives]
        np.testing.assert_allclose(
            [a.score for a in found.alternatives], [a.score for a in wanted.alternatives], rtol=1e-4
        )
    assert len(encoded) == 1
    later = session.observe(picture(3))
    assert later.share < 1 and same(later.image_encoding, exact.newest.image_encoding)


def test_the_standing_instruction_rests_on_the_frame_as_it_is(session, monkeypatch):
    for n in range(3):
        view = session.observe(replace(picture(n), instruction='where is the cup?'))
    monkeypatch.setattr(session.engine._stream, 'complete', None)
    assert view.share < 1 and session.ask('where is the cup?', [view], scope='frame', top_k=1).text


def test_tokens_are_one_of_two():
    with pytest.raises(ValueError, match="tokens is 'some'; give full or adaptive"):
        Engine(untrained('tiny', 0), tokens='some')


# Graphs, here run by torch as they are


class Plain:
    """A backend that runs its graphs as they are."""

    name, lowers, device = 'compile', False, 'cpu'

    def build(self, name, module, inputs):
        return lambda *given: list(module(*given))


def test_graphs_encode_some_numbers_of_patches_and_the_oldest_fill_them():
    age = torch.tensor([5, 0, 7, 1, 6, 0, 2, 3])
    changed = torch.tensor([0, 1, 0, 0, 0, 1, 0, 0], dtype=torch.bool)
    assert tokens_to_encode(changed, age, LAZY, [2, 4]).tolist() == [1, 5]
    assert tokens_to_encode(changed, age, Adaptive(refresh=1 / 8), [2, 4]).tolist() == [1, 2, 4, 5]
    assert tokens_to_encode(changed, age, Adaptive(refresh=1 / 2), [2, 4]).tolist() == list(range(8))
    assert tokens_to_encode(changed & False, age, LAZY, [2, 4]).tolist() == []


@pytest.mark.parametrize('options', SIZES)
def test_a_stream_through_graphs_is_that_of_torch(options, monkeypatch):
    model = build('tiny', **options).eval()
    found = build_graphs(model, Plain(), 'float32', 'cpu', [('rgb', 'depth')], lambda line: None, adaptive=True)
    assert found.part_counts(('rgb', 'depth')) == [1, 2, 4] and found.part_counts(('rgb',)) == []
    in_torch = Prepared(model, {}, 'torch')
    monkeypatch.setattr(in_torch, 'part_counts', found.part_counts)
    settings = Adaptive(refresh=1 / 8)
    streams = [StreamEncoder(model.config, lambda runner=runner: runner, settings) for runner in (found, in_torch)]
    shown, shares = images(validity=model.config.depth_validity), []
    for n in range(8):
        shown = shown | {'rgb': shown['rgb'].clone()}
        for corner in [slice(8), slice(24, 32)][: n % 3]:  # of patches 0 and 1, away from what others see
            shown['rgb'][..., :8, corner] += 1
        (one, share), (other, wanted) = (stream.encode(shown, frame(n)) for stream in streams)
        assert same(one, other, 1e-5) and share == wanted
        for a, b in zip(flat_states(one.states), flat_states(other.states), strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
        assert all(torch.equal(one.visible[m], mask) for m, mask in other.visible.items())
        torch.testing.assert_close(found.add_text(one).context, model.add_text(other).context, atol=1e-5, rtol=1e-5)
        shares.append(share)
    assert shares == [1, 1 / 4, 1 / 2, 1 / 8, 1 / 4, 1 / 2, 1 / 8, 1 / 4]


def test_an_engine_goes_on_from_what_torch_encoded_when_graphs_take_over(monkeypatch):
    monkeypatch.setattr(backends, 'missing', lambda name: '')
    monkeypatch.setattr(backends, 'make', lambda name, setting: Plain())
    engine = Engine(untrained('tiny', 0), tokens='adaptive')
    before = [engine.encode(picture(n), stream=True).share for n in range(2)]
    built = prepare(engine.checkpoint.model, 'compile', adaptive=True, store=False)
    engine._graphs, engine._serving = built
    after = [engine.encode(picture(n), stream=True).share for n in range(2, 4)]
    assert before[0] == 1 and all(share in (1 / 8, 1 / 4, 1 / 2) for share in [before[1], *after])


def test_adaptive_tokens_have_graphs_of_parts_and_full_tokens_have_none(monkeypatch):
    monkeypatch.setattr(backends, 'missing', lambda name: '')
    monkeypatch.setattr(backends, 'make', lambda name, setting: Plain())
    for tokens, parts in (('adaptive', [1, 2, 4]), ('full', [])):
        engine = Engine(untrained('tiny', 0), tokens=tokens)
        assert engine.prepare('compile').name == 'compile' and engine.tokens == tokens
        assert engine._runner.part_counts(('rgb', 'depth')) == parts
        shares = [engine.encode(picture(n), stream=True).share for n in range(3)]
        assert shares[0] == 1 and all((share < 1) == (tokens == 'adaptive') for share in shares[1:])
