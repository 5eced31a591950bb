"""MambaVL: parameter ledger, the one shared A, padding, and a stream that equals the whole clip."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from m3et_ros.models.actions.mambavl import MambaVL, MambaVLConfig

TINY = {'d_in': 12, 'd': 16, 'd_word': 8, 'vocabulary': 30, 'verbs': 5, 'nouns': 7, 'N': 4}


def build(**changes) -> MambaVL:
    torch.manual_seed(0)
    return MambaVL(MambaVLConfig(**{**TINY, **changes})).eval()


def inputs(B: int = 2, Lv: int = 23, Lq: int = 6) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.randn(B, Lv, 12), torch.randint(30, (B, Lq)), torch.randint(30, (B, Lq))


def close(found, wanted, tolerance: float = 1e-5) -> bool:
    return all(torch.allclose(a, b, atol=tolerance) for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize(
    ('d', 'mixers', 'A', 'projection', 'heads'),
    [(1024, 13_299_712, 32_768, 2_885_632, 406_925), (768, 7_517_184, 24_576, 1_771_008, 305_293)],
)
def test_parameter_ledger(d, mixers, A, projection, heads):
    with torch.device('meta'):
        model = MambaVL(MambaVLConfig(d_in=d, d=d))
        disjoint = MambaVL(MambaVLConfig(d_in=d, d=d, shared_A=False))

    def count(*modules):
        return sum(p.numel() for module in modules for p in module.parameters())

    assert model.A_log.numel() == A
    assert count(model.video_mixer, model.text_mixer) + A == mixers
    assert count(model.txt_proj) == projection
    assert count(model.verb_head, model.noun_head) == heads
    assert count(model) == mixers + projection + heads + 50_265 * 768
    assert count(disjoint) == count(model) + A


def test_shared_a_is_one_tensor_and_learns_from_each_stream():
    model, (video, noun, verb) = build(), inputs()
    assert [name for name in model.state_dict() if 'A_log' in name] == ['A_log']
    assert sum(parameter is model.A_log for parameter in model.parameters()) == 1
    assert model.A_log._no_weight_decay
    nothing = torch.zeros(2, 6, dtype=torch.bool)
    only_video = model(video, noun, verb, nothing, nothing)
    only_words = model.read(model.init_stream(2), noun, verb)
    for logits in (only_video, only_words):
        (gradient,) = torch.autograd.grad(sum(value.square().sum() for value in logits), [model.A_log])
        assert gradient.abs().sum() > 0


def test_disjoint_variant_keeps_the_streams_apart():
    model, (video, noun, verb) = build(shared_A=False), inputs()
    assert [name for name in model.state_dict() if 'A_log' in name] == ['A_log', 'text_A_log']
    assert close(model(video, noun, verb), build()(video, noun, verb))  # both start as the shared variant does
    only_words = model.read(model.init_stream(2), noun, verb)
    gradients = torch.autograd.grad(only_words[0].sum(), [model.A_log, model.text_A_log], allow_unused=True)
    assert gradients[0] is None and gradients[1].abs().sum() > 0


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(1, 22), max_size=5, unique=True).map(sorted), fade=st.sampled_from([0, 7]))
def test_stream_in_any_pieces_equals_the_whole_clip(cuts, fade):
    model, (video, noun, verb) = build(fade=fade), inputs()
    with torch.no_grad():
        wanted = model(video, noun, verb)
        state = model.init_stream(2)
        shapes = [part.shape for part in (*state.mixer, state.total, state.weight)]
        for start, end in zip([0, *cuts], [*cuts, 23], strict=True):
            state = model.update(state, video[:, start:end])
            parts = (*state.mixer, state.total, state.weight)
            assert [part.shape for part in parts] == shapes
            assert all(part.untyped_storage().nbytes() == part.nbytes for part in parts)
        assert close(model.read(state, noun, verb), wanted)
        assert close(model.read(state, noun, verb), wanted)  # reading leaves the state as it was


def test_answers_can_be_read_at_any_time():
    model, (video, noun, verb) = build(), inputs()
    state = model.update(model.init_stream(2), video[:, :9])
    assert close(model.read(state, noun, verb), model(video[:, :9], noun, verb))
    assert all(logits.isfinite().all() for logits in model.read(model.init_stream(2), noun, verb))


@pytest.mark.parametrize('fade', [0, 7])
def test_what_is_followed_is_what_a_stream_would_have_seen(fade):
    model, (video, noun, verb) = build(fade=fade, hidden=8), inputs()
    seen = model.features(video)
    for places in (0, 8, 22):
        state = model.update(model.init_stream(2), video[:, : places + 1])
        assert close(model.classify(seen[:, places], noun, verb), model.read(state, noun, verb))


def test_a_fading_mean_weighs_tokens_by_their_age():
    model, (video, _, _) = build(fade=7), inputs()
    with torch.no_grad():
        model.fade[0] = 1e9**0.5  # the first channel forgets at once
        y = model.video_mixer(model.video_proj(video), A_log=model.A_log)
        weights = torch.exp(-torch.arange(22, -1, -1) / 7.0)
        wanted = (y * weights[:, None]).sum(1) / weights.sum()
        wanted[:, 0] = y[:, -1, 0]
        torch.testing.assert_close(model.features(video)[:, -1], wanted, atol=1e-5, rtol=1e-4)


def test_balanced_scores_divide_by_how_common_a_class_is():
    model, (video, noun, verb) = build(), inputs()
    model.verb_prior.copy_(torch.tensor([0.5, 0.2, 0.1, 0.1, 0.1]).log())
    verbs, nouns = model(video, noun, verb)
    found, same = model.balanced(verbs, nouns, 0.5)
    scale = found.exp() / verbs.exp() * model.verb_prior.exp().sqrt()
    assert torch.allclose(scale, torch.ones_like(scale)) and torch.equal(same, nouns)


@pytest.mark.parametrize('fade', [0, 7])
def test_padding_does_not_change_an_answer(fade):
    model, (video, noun, verb) = build(fade=fade), inputs()
    wanted = model(video, noun, verb)
    pads = torch.randint(30, (2, 4))
    words = (torch.arange(10) < 6).expand(2, -1)
    frames = (torch.arange(30) < 23).expand(2, -1)
    padded = torch.cat([video, torch.randn(2, 7, 12)], 1)
    found = model(padded, torch.cat([noun, pads], 1), torch.cat([verb, pads], 1), words, words, video_mask=frames)
    assert close(found, wanted)


def test_neighbours_in_the_batch_do_not_change_an_answer():
    model, (video, noun, verb) = build(), inputs(B=3)
    wanted = model(video, noun, verb)
    for i in range(3):
        alone = model(video[i : i + 1], noun[i : i + 1], verb[i : i + 1])
        assert close(alone, [logits[i : i + 1] for logits in wanted])


def test_each_question_serves_its_own_head():
    model, (video, noun, verb) = build(), inputs()
    verbs, nouns = model(video, noun, verb)
    other_verbs, other_nouns = model(video, (noun + 1) % 30, verb)
    assert torch.equal(verbs, other_verbs) and not torch.allclose(nouns, other_nouns)
    assert (verbs.shape, nouns.shape) == ((2, 5), (2, 7))


def test_nouns_asked_for_given_each_verb_are_what_each_question_alone_would_say():
    model = build()
    video, noun, verb = inputs(B=5)
    seen, first = model.features(video[:2])[:, -1], torch.zeros(2, dtype=torch.long)
    verbs, nouns = model.chain(seen, model.question_features(verb[:1]), model.question_features(noun))
    for place in range(5):
        alone = model.classify(seen, noun, verb, asked=first + place)
        assert torch.allclose(nouns[:, place], alone[1], atol=1e-5)
    assert torch.allclose(verbs, model.classify(seen, noun, verb, asked=first)[0], atol=1e-5)


def test_every_parameter_learns_and_frozen_words_do_not():
    for freeze in (False, True):
        model, (video, noun, verb) = build(freeze_words=freeze), inputs()
        sum(logits.square().sum() for logits in model(video, noun, verb)).backward()
        still = {name for name, parameter in model.named_parameters() if parameter.grad is None}
        assert still == ({'words.weight'} if freeze else set())


def test_same_width_needs_no_video_projection():
    assert not list(build(d_in=16).video_proj.parameters())


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'d': 0}, 'd is 0; give a whole number from 1 to 8192'),
        ({'N': 1.5}, 'N is 1.5'),
        ({'verbs': True}, 'verbs is True'),
        ({'shared_A': 1}, 'shared_A is 1; give true or false'),
        ({'rate_hz': -1.0}, 'rate_hz is -1.0'),
    ],
)
def test_bad_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        MambaVLConfig(**changes)
