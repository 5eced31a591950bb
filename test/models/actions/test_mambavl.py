"""MambaVL: parameter ledger, the one shared A, padding, and a stream that equals the whole clip."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from m3et_ros.models.actions.mambavl import MambaVL, MambaVLConfig
from m3et_ros.ops.selective_scan import selective_scan

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


def test_a_stream_can_be_read_at_any_time():
    model, (video, noun, verb) = build(), inputs()
    state = model.update(model.init_stream(2), video[:, :9])
    assert close(model.read(state, noun, verb), model(video[:, :9], noun, verb))
    assert all(logits.isfinite().all() for logits in model.read(model.init_stream(2), noun, verb))


@pytest.mark.parametrize('fade', [0, 7])
def test_features_of_a_clip_are_those_of_its_stream(fade):
    model, (video, noun, verb) = build(fade=fade, hidden=8), inputs()
    features = model.features(video)
    for places in (0, 8, 22):
        state = model.update(model.init_stream(2), video[:, : places + 1])
        assert close(model.classify(features[:, places], noun, verb), model.read(state, noun, verb))


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


def test_a_chain_gives_for_each_verb_the_nouns_of_its_own_question():
    model = build()
    video, noun, verb = inputs(B=5)
    features, first = model.features(video[:2])[:, -1], torch.zeros(2, dtype=torch.long)
    verbs, nouns = model.chain(features, model.question_features(verb[:1]), model.question_features(noun))
    for place in range(5):
        alone = model.classify(features, noun, verb, asked=first + place)
        assert torch.allclose(nouns[:, place], alone[1], atol=1e-5)
    assert torch.allclose(verbs, model.classify(features, noun, verb, asked=first)[0], atol=1e-5)


def test_every_parameter_learns_and_frozen_words_do_not():
    for freeze in (False, True):
        model, (video, noun, verb) = build(freeze_words=freeze), inputs()
        sum(logits.square().sum() for logits in model(video, noun, verb)).backward()
        still = {name for name, parameter in model.named_parameters() if parameter.grad is None}
        assert still == ({'words.weight'} if freeze else set())


def test_same_width_needs_no_video_projection():
    assert not list(build(d_in=16).video_proj.parameters())


def test_every_size_of_the_config_reaches_its_part():
    model = build(expand=3, d_conv=5, N=6, hidden=9, busy=7, d_in=10)
    for mixer in (model.video_mixer, model.text_mixer):
        assert (mixer.d_in, mixer.N, mixer.conv1d.kernel_size) == (48, 6, (5,))
    assert model.A_log.shape == (48, 6) and model.video_proj.in_features == 10
    assert model.words.weight.shape == (30, 8) and model.txt_proj[0].in_features == 8
    assert [model.verb_head[i].out_features for i in (1, 3)] == [9, 5]
    assert [model.noun_head[i].out_features for i in (1, 3)] == [9, 7]
    assert [model.busy_head[i].out_features for i in (1, 3)] == [7, 1]
    assert build().verb_head.out_features == 5 and build().busy_head is None and build().fade is None


def test_the_activity_head_is_trained_apart():
    model = build(busy=7)
    assert not any(parameter.requires_grad for parameter in model.busy_head.parameters())
    assert model.activity_logits(torch.randn(3, 16)).shape == (3,)
    with pytest.raises(ValueError, match='build it with busy > 0'):
        build().activity_logits(torch.randn(3, 16))


def test_a_fade_starts_at_the_rate_of_the_config():
    assert torch.allclose(build(fade=7).fade.exp(), torch.full((16,), 1 / 7))


def test_the_gradient_of_the_fade_is_added_up_sum_by_sum():
    model, (video, _, _) = build(fade=7), inputs()
    model.features(video).square().sum().backward()
    y = model.video_mixer(model.video_proj(video), A_log=model.A_log)
    ones, once = torch.ones(2, 23, 1), [model.fade.detach().clone().requires_grad_() for _ in range(2)]
    sums = [
        selective_scan(part, ones.expand_as(y), -fade.exp()[:, None], ones, ones)[0]
        for part, fade in zip((y, ones.expand_as(y)), once, strict=True)
    ]
    (sums[0] / sums[1]).square().sum().backward()
    assert torch.equal(model.fade.grad, once[0].grad + once[1].grad)


@pytest.mark.parametrize('which', ['noun', 'verb'])
def test_masked_words_have_no_effect(which):
    model, (video, noun, verb) = build(), inputs()
    mask = (torch.arange(6) < 4).expand(2, -1)
    masks = {f'{which}_mask': mask}
    short = {'noun': noun, 'verb': verb} | {which: (noun if which == 'noun' else verb)[:, :4]}
    found = model(video, noun, verb, masks.get('noun_mask'), masks.get('verb_mask'))
    assert close(found, model(video, short['noun'], short['verb']))
    state = model.update(model.init_stream(2), video)
    assert close(model.read(state, noun, verb, masks.get('noun_mask'), masks.get('verb_mask')), found)


@pytest.mark.parametrize('fade', [0, 7])
def test_masked_tokens_have_no_effect_on_a_stream(fade):
    model, (video, _, _) = build(fade=fade), inputs()
    mask = torch.ones(2, 23, dtype=torch.bool)
    mask[:, 5:8] = mask[:, 20:] = False
    other = torch.where(mask[..., None], video, torch.randn(2, 23, 12))
    state = model.init_stream(2)
    for part in (slice(0, 7), slice(7, 23)):
        state = model.update(state, other[:, part], mask=mask[:, part])
    wanted = model.features(video, video_mask=mask)[:, -1]
    assert torch.allclose(model.stream_features(state), wanted, atol=1e-5)


def chain_of(joint):
    """Return the Chain of probabilities (B, verbs, nouns)."""
    return joint.sum(2).log(), joint.log()


def test_the_table_of_what_follows_weighs_against_the_own_expectation():
    model = build(follow=True, verbs=2, nouns=2)
    model.follows.copy_(torch.eye(4)[[1, 2, 3, 0]])  # each pair is followed by the next one
    last = torch.tensor([[[0.97, 0.01], [0.01, 0.01]]])
    own = torch.tensor([[[0.1, 0.2], [0.3, 0.4]]])
    verbs, nouns = model.anticipate(chain_of(last), chain_of(own))
    found = (verbs.log_softmax(-1)[..., None] + nouns.log_softmax(-1)).exp()
    by_table = torch.tensor([[[0.01, 0.97], [0.01, 0.01]]])
    wanted = own.sqrt() * by_table
    assert torch.allclose(found, wanted / wanted.sum(), atol=1e-5)
    with pytest.raises(ValueError, match='build it with follow=True'):
        build().anticipate(chain_of(last), chain_of(own))


def test_balanced_chains_divide_by_how_common_a_pair_is():
    model = build(follow=True, verbs=2, nouns=2)
    share = torch.tensor([[0.4, 0.3], [0.2, 0.1]])
    model.pair_prior.copy_(share.log())
    joint = torch.tensor([[[0.1, 0.2], [0.3, 0.4]]])
    verbs, nouns = model.balanced(*chain_of(joint), 0.5)
    found = (verbs.log_softmax(-1)[..., None] + nouns.log_softmax(-1)).exp()
    wanted = joint / share.sqrt()
    assert torch.allclose(found, wanted / wanted.sum(), atol=1e-5)


def test_the_mean_of_the_paper_is_over_all_patches_of_all_frames():
    model, frames = build(patches=3), torch.randn(2, 5, 3 * 12)
    with torch.no_grad():
        features = model.features(frames)
        outputs = model.video_mixer(model.video_proj(frames.view(2, 15, 12)), A_log=model.A_log)
        assert features.shape == (2, 5, 16)
        for n in (1, 5):
            torch.testing.assert_close(features[:, n - 1], outputs[:, : 3 * n].mean(1))
        state = model.init_stream(2)
        for frame in frames.unbind(1):
            state = model.update(state, frame[:, None])
        torch.testing.assert_close(model.stream_features(state), features[:, -1], atol=1e-5, rtol=1e-4)
        mask = torch.tensor([[True] * 4 + [False]] * 2)
        torch.testing.assert_close(model.features(frames, video_mask=mask)[:, -1], features[:, 3], atol=1e-5, rtol=1e-4)


def test_words_are_embedded_as_roberta_does():
    """Transformers' own module with the same weights; RoBERTa counts positions from the id of the pad plus one."""
    from transformers import RobertaConfig
    from transformers.models.roberta.modeling_roberta import RobertaEmbeddings

    sizes = {'vocab_size': 30, 'hidden_size': 8, 'max_position_embeddings': 12, 'type_vocab_size': 1}
    theirs = RobertaEmbeddings(RobertaConfig(**sizes, pad_token_id=1, layer_norm_eps=1e-5)).eval()
    model = build(positions=10)
    with torch.no_grad():
        model.words.weight.copy_(theirs.word_embeddings.weight)
        model.text.positions.copy_(theirs.position_embeddings.weight[2:])
        model.text.kind.copy_(theirs.token_type_embeddings.weight[0])
        ids = torch.randint(2, 30, (2, 6))
        torch.testing.assert_close(model.text(model.words(ids)), theirs(ids), atol=1e-6, rtol=1e-5)
        ids[0, 4:] = 1
        torch.testing.assert_close(model.text(model.words(ids), ids != 1), theirs(ids), atol=1e-6, rtol=1e-5)
        assert not torch.equal(model.question_features(ids), model.question_features(ids.flip(1)))
    with pytest.raises(ValueError, match='a question has 11 words; give at most 10'):
        model.question_features(torch.zeros(1, 11, dtype=torch.int64))
    assert not any(p.requires_grad for p in build(positions=10, freeze_words=True).text.parameters())


def test_pads_count_and_embeddings_are_dropped_where_the_config_says_so():
    ids, mask = torch.tensor([[5, 6, 7, 0, 0]]), torch.tensor([[True, True, True, False, False]])
    plain, padded = (build(positions=10, pads=pads).eval() for pads in (False, True))
    padded.load_state_dict(plain.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(plain.question_features(ids, mask), plain.question_features(ids[:, :3]))
        y = padded.text_mixer(padded.txt_proj(padded.text(padded.words(ids), mask)), A_log=padded.A_log)
        torch.testing.assert_close(padded.question_features(ids, mask), y.mean(1))
        dropped = build(positions=10, dropout=0.5).train()
        assert 0.2 < (dropped.text(torch.ones(8, 10, 8)) == 0).float().mean() < 0.8
        assert (dropped.eval().text(torch.ones(8, 10, 8)) != 0).all()


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'dropout': 0.1}, 'dropout is 0.1 and positions is 0; give positions above 0'),
        ({'pads': True}, 'pads is True and positions is 0'),
        ({'dropout': 0.95, 'positions': 4}, 'dropout is 0.95; give a number from 0 to 0.9'),
        ({'patches': 0}, 'patches is 0; give a whole number from 1'),
        ({'d': 0}, 'd is 0; give a whole number from 1 to 8192'),
        ({'N': 1.5}, 'N is 1.5'),
        ({'verbs': True}, 'verbs is True'),
        ({'shared_A': 1}, 'shared_A is 1; give true or false'),
        ({'rate_hz': -1.0}, 'rate_hz is -1.0; give a number from 0 to 1000'),
        ({'rate_hz': 1000.1}, 'rate_hz is 1000.1'),
        ({'rate_hz': '4'}, "rate_hz is '4'; give a number from 0 to 1000"),
    ],
)
def test_other_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        MambaVLConfig(**changes)


@pytest.mark.parametrize(
    'changes', [{'rate_hz': 0}, {'rate_hz': 1000}, {'fade': 0}, {'fade': 1_000_000}, {'expand': 16}]
)
def test_the_limits_of_the_settings_are_accepted(changes):
    config = MambaVLConfig(**changes)
    assert {name: getattr(config, name) for name in changes} == changes
