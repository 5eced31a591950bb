"""M3ET: what may be missing, what must not matter, and what must."""

from copy import deepcopy
from itertools import combinations

import pytest
import torch
from m3et_switches import SWITCHES

from m3et_ros.models.m3et.config import IMAGE_MODALITIES, MODALITIES
from m3et_ros.models.m3et.encoding import GLOBAL, TEXT, join_frames
from m3et_ros.models.m3et.sizes import SIZES, build

NARROW = {
    'image_size': 32,
    'patch': 16,
    'd': 64,
    'heads': 4,
    'd_decoder': 32,
    'decoder_heads': 4,
    'd_gate': 32,
    'vocabulary': 64,
    'text_length': 12,
    'classes': 5,
    'class_width': 8,
    'answers': 6,
}
SUBSETS = [subset for size in range(1, 5) for subset in combinations(MODALITIES, size)]
BOS, EOS = 2, 3


@pytest.fixture(scope='module', params=[*SIZES, 'switches', 'hearing'])
def model(request):
    """Each named size, narrow where it is wide: same mixer, schedule and depth standardisation; and the switches."""
    if request.param in ('switches', 'hearing'):
        return build('tiny', **SWITCHES, images_hear=request.param == 'hearing').eval()
    return build(request.param, **({} if request.param == 'tiny' else NARROW)).eval()


@pytest.fixture(scope='module')
def switched():
    return build('tiny', **SWITCHES).eval()


@pytest.fixture(scope='module')
def tiny():
    return build('tiny').eval()


def example(batch=2, seed=0, words=(5, 12)):
    """Inputs of the tiny image size, text padded to 12."""
    generator = torch.Generator().manual_seed(seed)
    return {
        'rgb': torch.randn(batch, 3, 32, 32, generator=generator),
        'depth': torch.randn(batch, 1, 32, 32, generator=generator),
        'semseg': torch.randint(0, 5, (batch, 8, 8), generator=generator),
        'text': torch.randint(5, 64, (batch, 12), generator=generator),
        'text_mask': torch.arange(12)[None] < torch.tensor(words)[:batch, None],
    }


def example_of(model, **options):
    """The same with the validity of depth, where the model takes it; patch 3 of the first sample was not measured."""
    inputs = example(**options)
    if model.config.depth_validity:
        inputs['depth'] = torch.cat([inputs['depth'], (inputs['depth'] > -0.5).float()], 1)
        inputs['depth'][0, :, 16:, 16:] = 0
    return inputs


def only(inputs, modalities):
    return {k: v for k, v in inputs.items() if k.removesuffix('_mask') in modalities}


def close(a, b):
    torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize('subset', SUBSETS, ids='+'.join)
def test_any_subset_of_modalities(model, subset):
    config, inputs = model.config, only(example_of(model), subset)
    with torch.no_grad():
        encoded = model.encode(inputs)
        outputs = model(inputs)
    tokens = sum(config.token_count(m) for m in subset)
    assert [z.shape for z in encoded.stages] == [(2, tokens + 1, config.d)] * config.stages
    assert set(encoded.source.unique().tolist()) == {MODALITIES.index(m) for m in subset} | {GLOBAL}
    assert (encoded.source[:, -1] == GLOBAL).all()
    assert {task: tuple(out.shape) for task, out in outputs.items()} == {
        'rgb': (2, 3, 32, 32),
        'depth': (2, 1, 32, 32),
        'semseg': (2, 5, 8, 8),
        'text': (2, 12, 64),
        'answers': (2, 6),
    }
    assert all(out.isfinite().all() for out in outputs.values())


def test_an_empty_batch_gives_empty_outputs(model):
    inputs = {name: value[:0] for name, value in example_of(model).items()}
    with torch.no_grad():
        outputs, wanted = model(inputs), model(example_of(model))
        some = model(inputs, visible=torch.zeros(0, 4, dtype=torch.int64), tasks=('rgb',))
    assert {task: out.shape for task, out in outputs.items()} == {t: (0, *w.shape[1:]) for t, w in wanted.items()}
    assert some['rgb'].shape == (0, 3, 32, 32)


def test_gradient_reaches_every_parameter(model):
    """All of them; beta leaves its start at 0, where the bias of W_k would get rounding errors only, as without it."""
    model = deepcopy(model)
    for decoder in model.decoders.values():
        if decoder.attention.beta is not None:
            torch.nn.init.constant_(decoder.attention.beta, 0.5)
    outputs = model(example_of(model), visible=torch.tensor([[0, 2, 5, 9, 12, 13, 15], [1, 4, 6, 8, 10, 18, 20]]))
    answer = model.text_logits(model.encode(example_of(model)), torch.tensor([[BOS, 7], [BOS, 9]]))
    (sum(out.square().sum() for out in outputs.values()) + answer.square().sum()).backward()
    flat = [
        name
        for name, p in model.named_parameters()
        if p.grad is None
        or (p.grad.abs().max() < 1e-7 and (model.config.semantic_bias or not name.endswith('w_k.bias')))
    ]
    assert flat == []
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_base_at_full_size():
    model = build('base').eval()
    torch.manual_seed(0)
    inputs = {'rgb': torch.randn(1, 3, 224, 224), 'depth': torch.randn(1, 1, 224, 224)}
    with torch.no_grad():
        outputs = model(inputs, visible=torch.randperm(392)[None, :98], tasks=('depth', 'semseg'))
    assert outputs['depth'].shape == (1, 1, 224, 224) and outputs['semseg'].shape == (1, 133, 56, 56)
    assert all(out.isfinite().all() for out in outputs.values())


@torch.no_grad()
def test_missing_is_the_same_as_never_visible(model):
    both, alone = only(example_of(model), ('rgb', 'depth')), only(example_of(model), ('rgb',))
    masked = model(both, visible=torch.arange(4).expand(2, -1))
    absent = model(alone)
    for task in masked:
        close(masked[task], absent[task])


@torch.no_grad()
@pytest.mark.parametrize('pads', [0, 1, 2, 5])
def test_pads_of_text_change_nothing(model, pads):
    inputs = example_of(model, batch=1, words=(7,))
    short = inputs | {'text': inputs['text'][:, :7], 'text_mask': None}
    del short['text_mask']
    padded = inputs | {'text': inputs['text'][:, : 7 + pads].clone(), 'text_mask': inputs['text_mask'][:, : 7 + pads]}
    padded['text'][:, 7:] = 60
    expected, got = model(short), model(padded)
    for task in expected:
        close(got[task][:, :7] if task == 'text' else got[task], expected[task])


@torch.no_grad()
def test_neighbours_in_a_batch_change_nothing(model):
    inputs = example_of(model, words=(5, 9))
    together = model(inputs)
    for row in range(2):
        alone = model({k: v[row : row + 1] for k, v in inputs.items()})
        for task in together:
            close(together[task][row : row + 1], alone[task])


@torch.no_grad()
def test_order_of_visible_ids_changes_nothing(tiny):
    ids = torch.tensor([[1, 3, 6, 11, 14], [0, 2, 9, 10, 13]])
    shuffled = ids[:, [3, 0, 4, 2, 1]]
    a, b = tiny(example(), visible=ids), tiny(example(), visible=shuffled)
    assert all(torch.equal(a[task], b[task]) for task in a)


@torch.no_grad()
def test_hidden_tokens_have_no_effect(tiny):
    """Masked tokens may change: neither the encoder nor the queries use them."""
    inputs, visible = example(), torch.tensor([[0, 1, 5, 9, 12], [0, 1, 5, 9, 12]])
    other = {k: v.clone() for k, v in inputs.items()}
    other['rgb'][:, :, 16:] = 3  # patches 2 and 3
    other['depth'][:, :, :16, :16] = 3  # patch 0, token 4
    other['text'][:, 1:] = 9
    a, b = tiny(inputs, visible=visible), tiny(other, visible=visible)
    assert all(torch.equal(a[task], b[task]) for task in a)


@torch.no_grad()
def test_neighbours_of_hidden_patches_do_not_see_them(switched):
    """The stem sees half a patch around a token: hidden colours, depths and validities are zeroed before it."""
    inputs, visible = example_of(switched), torch.tensor([[0, 1, 5, 6, 9, 12], [0, 1, 5, 6, 9, 12]])
    other = {k: v.clone() for k, v in inputs.items()}
    other['rgb'][:, :, 16:] = torch.nan  # patches 2 and 3
    other['depth'][:, :, :16, :16] = 3  # patch 0, token 4
    other['depth'][:, 1, 16:, 16:] = 1 - other['depth'][:, 1, 16:, 16:]  # patch 3, token 7
    a, b = switched(inputs, visible=visible), switched(other, visible=visible)
    assert all(torch.equal(a[task], b[task]) for task in a)
    other['rgb'][:, :, 15] = 3  # the last row of the patches above
    assert not torch.equal(switched(other, visible=visible, tasks=['rgb'])['rgb'], a['rgb'])


@torch.no_grad()
@pytest.mark.parametrize('queries', ['tokens', 'encoded'])
def test_depth_patches_without_a_measured_pixel_are_one_learned_token(queries):
    model = build('tiny', depth_validity=True, decoder_queries=queries).eval()
    inputs = only(example_of(model), ('rgb', 'depth'))
    inputs['depth'][1, 1, 0, 16] = 1  # one pixel of patch 1 of the second sample is enough
    inputs['depth'][1, 1, 1:16, 16:] = inputs['depth'][1, 1, 0, 17:] = 0
    encoding = model.encode_images(inputs)
    assert encoding.visible['depth'].tolist() == [[True, True, True, False], [True] * 4]
    assert encoding.visible['rgb'].all() and encoding.source.shape == (2, 8)
    values = inputs['depth'].clone()
    values[0, 0, 16:, 16:] = 9  # no token knows what a pixel that was not measured holds
    a, b = model(inputs), model(inputs | {'depth': values})
    assert all(torch.equal(a[task], b[task]) for task in a)
    first = {name: value[:1] for name, value in inputs.items()}
    before = model(first)
    model.unmeasured[:16] += 1
    after = model(first)
    assert not torch.allclose(before['rgb'], after['rgb'], atol=1e-4)
    close(model({m: v[1:] for m, v in inputs.items()})['depth'], a['depth'][1:])


@torch.no_grad()
def test_unmeasured_depth_is_a_mask_token_in_the_queries_of_the_decoder(switched):
    encoded, decoder = switched.encode(example_of(switched)), switched.decoders['depth']
    queries = decoder.queries(encoded.tokens['depth'], encoded.visible['depth'], switched.positions)
    close(queries[0, 3], decoder.mask_token + switched.positions[3])
    close(queries[1, 3], encoded.context[1, 7] + switched.positions[3])
    hidden = switched.encode(example_of(switched), visible=torch.tensor([[0, 4, 7], [0, 4, 7]]))
    assert hidden.visible['depth'].tolist() == [[True, False, False, False], [True, False, False, True]]


@torch.no_grad()
def test_queries_are_the_outputs_of_the_encoder_where_the_config_says_so(switched):
    inputs = example_of(switched, words=(5, 12))
    whole = switched.encode(inputs)
    for place, modality in enumerate(IMAGE_MODALITIES):
        assert torch.equal(whole.tokens[modality], whole.context[:, 4 * place : 4 * place + 4])
    some = switched.encode(only(inputs, IMAGE_MODALITIES), visible=torch.tensor([[1, 2, 9], [0, 10, 11]]))
    assert torch.equal(some.tokens['rgb'][0, 1:3], some.context[0, :2])
    assert torch.equal(some.tokens['semseg'][0, 1], some.context[0, 2])
    assert torch.equal(some.tokens['semseg'][1, 2:], some.context[1, 1:3])
    bare = build('tiny').eval()
    assert torch.equal(bare.encode(example()).tokens['rgb'], bare.adapters['rgb'](example()['rgb']))


@torch.no_grad()
def test_the_words_of_the_text_decoder_are_encoded_too(switched, monkeypatch):
    seen, decoder = [], switched.decoders['text']
    queries = decoder.queries
    monkeypatch.setattr(decoder, 'queries', lambda tokens, *rest: (seen.append(tokens), queries(tokens, *rest))[1])
    encoded = switched.encode(example_of(switched, words=(5, 12)))
    switched.decode(encoded, 'text')
    assert torch.equal(seen[0][0, :5], encoded.context[0, -6:-1])
    assert torch.equal(seen[0][1], encoded.context[1, -13:-1])


@torch.no_grad()
def test_the_context_is_told_apart_by_position_and_modality(switched, monkeypatch):
    seen = {}
    monkeypatch.setattr(switched.decoders['rgb'], 'forward', lambda *args, **options: seen.update(options) or args[0])
    inputs = example_of(switched, words=(5, 12))
    encoded = switched.encode(inputs, visible=torch.tensor([[1, 6, 12, 14], [0, 11, 13, 23]]))
    monkeypatch.setattr('m3et_ros.models.m3et.model.unpatchify', lambda out, patch: out)
    switched.decode(encoded, 'rgb')
    assert torch.equal(seen['source'], encoded.source)
    images, words, none = switched.positions, switched.adapters['text'].positions, torch.zeros(switched.config.d)
    wanted = [[images[1], images[2], words[0], words[2], none], [images[0], images[3], words[1], words[11], none]]
    for row, places in enumerate(wanted):
        assert torch.equal(seen['positions'][row][encoded.valid[row]], torch.stack(places))


@torch.no_grad()
def test_several_frames_keep_the_positions_of_their_tokens(switched):
    frames = [switched.encode(example_of(switched, seed=seed)) for seed in range(2)]
    ids = torch.tensor([[BOS, 7, 8]] * 2)
    close(switched.text_logits(join_frames(frames[1:], every=1), ids), switched.text_logits(frames[1], ids))
    assert switched.text_logits(join_frames(frames), ids).isfinite().all()


def test_visible_ids_that_do_not_fit_are_refused(tiny):
    with pytest.raises(ValueError, match='visible is'):
        tiny.encode(example(), visible=torch.zeros(2, 99, dtype=torch.int64))


@torch.no_grad()
def test_the_summary_is_the_mean_of_the_text_or_else_the_global_token(tiny):
    encoded = tiny.encode(example(words=(5, 12)))
    text = encoded.context[0][(encoded.source[0] == TEXT) & encoded.valid[0]]
    assert len(text) == 5
    close(encoded.summary()[0], text.mean(0))
    visible = torch.tensor([[0, 1, 12], [0, 1, 2]])  # the second sample shows no text
    encoded = tiny.encode(example(), visible=visible)
    close(encoded.summary()[0], encoded.context[0, -2])
    close(encoded.summary()[1], tiny.global_token(encoded)[1])


@torch.no_grad()
def test_one_image_encoding_serves_many_questions(model):
    images, (first, second) = (
        only(example_of(model), IMAGE_MODALITIES),
        (example_of(model, seed=s, words=(5, 12)) for s in (0, 1)),
    )
    encoding = model.encode_images(images)
    both = {name: torch.stack([first[name], second[name]], 1).flatten(0, 1) for name in ('text', 'text_mask')}
    together = model.add_text(encoding, both['text'], both['text_mask'])
    close(
        model.answer_logits(model.encode_text(encoding, both['text'], both['text_mask'])), model.answer_logits(together)
    )
    for place, words in enumerate((first, second)):
        alone = model.encode(images | {name: words[name] for name in ('text', 'text_mask')})
        close(model.answer_logits(together)[place::2], model.answer_logits(alone))
        close(model.decode(together, 'semseg')[place::2], model.decode(alone, 'semseg'))


@torch.no_grad()
def test_images_do_not_depend_on_the_words_unless_they_hear_them(model):
    images = only(example_of(model), IMAGE_MODALITIES)
    bare, asked = model.encode(images), model.encode(images | only(example_of(model), ('text', 'text_mask')))
    count = bare.context.shape[1] - 1
    changed = (bare.context[:, :count] - asked.context[:, :count]).abs().amax(-1) > 1e-4
    assert changed.all() if model.config.images_hear else not changed.any()
    assert not torch.allclose(model.global_token(bare), model.global_token(asked), atol=1e-4)
    blank = {'text': torch.zeros(2, 3, dtype=torch.int64), 'text_mask': torch.zeros(2, 3, dtype=torch.bool)}
    close(model.encode(images | blank).context[:, :count], bare.context[:, :count])  # there is nothing to hear


@torch.no_grad()
def test_fillers_of_samples_that_show_fewer_image_tokens_change_nothing(model):
    inputs = example_of(model)
    last = model.config.image_tokens * 3
    visible = torch.tensor([[0, 3, 8, 11], [2, last, last + 1, last + 2]])  # the second shows one image token
    together = model.encode(inputs, visible=visible)
    for row in range(2):
        alone = model.encode(
            {name: value[row : row + 1] for name, value in inputs.items()}, visible=visible[row : row + 1]
        )
        close(model.global_token(together)[row], model.global_token(alone)[0])


@torch.no_grad()
def test_every_input_has_an_effect(tiny):
    answers = tiny.answer_logits(tiny.encode(example()))
    for changed in ('rgb', 'depth', 'semseg', 'text'):
        inputs = example() | {changed: example(seed=1)[changed]}
        assert not torch.allclose(tiny.answer_logits(tiny.encode(inputs)), answers, atol=1e-4)


@torch.no_grad()
def test_generation_equals_teacher_forcing(model):
    encoded = model.encode(example_of(model))
    steps = list(model.generate(encoded, bos=BOS, eos=EOS, max_tokens=8))
    answer_ids = torch.stack([ids for ids, _ in steps], 1)
    assert 1 <= answer_ids.shape[1] <= 8
    forced = model.text_logits(encoded, torch.cat([torch.full((2, 1), BOS), answer_ids[:, :-1]], 1)).softmax(-1)
    for row in range(2):
        ended = (answer_ids[row] == EOS).nonzero()
        length = int(ended[0]) + 1 if len(ended) else answer_ids.shape[1]
        assert torch.equal(forced[row, :length].argmax(-1), answer_ids[row, :length])
        close(forced[row, :length].amax(-1), torch.stack([p for _, p in steps], 1)[row, :length])


@torch.no_grad()
def test_teacher_forcing_is_causal(tiny):
    encoded = tiny.encode(example())
    ids = torch.tensor([[BOS, 7, 8, 9], [BOS, 5, 6, 7]])
    changed = ids.clone()
    changed[:, 2] = 30
    a, b = tiny.text_logits(encoded, ids), tiny.text_logits(encoded, changed)
    close(a[:, :2], b[:, :2])
    assert not torch.allclose(a[:, 2], b[:, 2], atol=1e-4)


@torch.no_grad()
def test_generation_stops_when_all_have_ended():
    model = build('tiny').eval()
    model.text_bias[EOS] = 1e4
    encoded = model.encode(example())
    assert list(model.generate(encoded, bos=BOS, eos=EOS)) == []
    model.text_bias[EOS] = -1e4
    assert len(list(model.generate(encoded, bos=BOS, eos=EOS, max_tokens=5))) == 5


def test_text_limits_are_refused(tiny):
    encoded = tiny.encode(example())
    with pytest.raises(ValueError, match='max_tokens is 13'):
        next(tiny.generate(encoded, bos=BOS, eos=EOS, max_tokens=13))
    with pytest.raises(ValueError, match='13 tokens'):
        tiny.text_logits(encoded, torch.zeros(2, 13, dtype=torch.int64))


def test_absent_parts_are_refused_by_name():
    model = build('tiny', tasks=('rgb',), answers=0)
    encoded = model.encode(example())
    with pytest.raises(ValueError, match="no decoder for 'depth'"):
        model.decode(encoded, 'depth')
    with pytest.raises(ValueError, match="no decoder for 'text'"):
        model.text_logits(encoded, torch.zeros(2, 1, dtype=torch.int64))
    with pytest.raises(ValueError, match='no answer head'):
        model.answer_logits(encoded)


@torch.no_grad()
@pytest.mark.parametrize(
    'switch, reads_context',
    [({'cross_attention': False}, False), ({'semantic_bias': False}, True), ({'gate': False}, True), ({}, True)],
)
def test_decoder_ablations(switch, reads_context):
    model = build('tiny', **switch).eval()
    inputs, visible = example(), torch.tensor([[4, 5, 6, 7]]).expand(2, -1)  # depth only
    other = inputs | {'depth': example(seed=1)['depth']}
    changed = not torch.allclose(model(inputs, visible=visible)['rgb'], model(other, visible=visible)['rgb'], atol=1e-5)
    assert changed == reads_context
    names = [name for name, _ in model.named_parameters()]
    assert any('.beta' in n for n in names) == (switch == {} or 'gate' in switch)
    assert any(n.startswith('gate.') for n in names) == ('semantic_bias' in switch or switch == {})


@torch.no_grad()
@pytest.mark.parametrize('schedule', ['TTTTTT', 'MMMMMM'])
def test_mixer_ablations(schedule):
    model = build('tiny', schedule=schedule).eval()
    kinds = {type(layer).__name__ for layer in model.encoder.layers}
    assert kinds == ({'TransformerBlock'} if schedule[0] == 'T' else {'MambaLayer'})
    assert all(out.isfinite().all() for out in model(example()).values())


@torch.no_grad()
def test_single_modality_ablation():
    model = build('tiny', modalities=('rgb',), tasks=('rgb', 'depth')).eval()
    assert set(model(only(example(), ('rgb',)))) == {'rgb', 'depth', 'answers'}
    with pytest.raises(ValueError, match="'depth' is unknown"):
        model.encode(only(example(), ('rgb', 'depth')))


@torch.no_grad()
@pytest.mark.parametrize('length', [1, 12])
def test_answers_of_any_length_up_to_the_limit_are_accepted(tiny, length):
    encoded = tiny.encode(example())
    assert tiny.text_logits(encoded, torch.full((2, length), BOS)).shape == (2, length, 64)
    assert 1 <= len(list(tiny.generate(encoded, bos=BOS, eos=0, max_tokens=length))) <= length


def test_no_answer_at_all_is_refused(tiny):
    encoded = tiny.encode(example())
    with pytest.raises(ValueError, match='max_tokens is 0'):
        next(tiny.generate(encoded, bos=BOS, eos=EOS, max_tokens=0))
    with pytest.raises(ValueError, match='0 tokens'):
        tiny.text_logits(encoded, torch.zeros(2, 0, dtype=torch.int64))


@torch.no_grad()
def test_all_tokens_may_be_visible(tiny):
    """Ids of every token, in any order, are the same as no choice at all."""
    inputs = only(example(words=(12, 12)), ('rgb', 'text'))
    every = torch.stack([torch.randperm(16), torch.randperm(16)])
    close(tiny.encode(inputs, visible=every).context, tiny.encode(inputs).context)
    with pytest.raises(ValueError, match=r'visible is \(2, 17\); give \(2, 1 to 16\) token ids'):
        tiny.encode(inputs, visible=torch.zeros(2, 17, dtype=torch.int64))


def test_every_field_of_the_config_reaches_the_encoder():
    model = build('tiny', schedule='MMTS', directions='forward', stages=2, mixer_options={'N': 4, 'P': 8})
    mamba, _, transformer, replaced = model.encoder.layers
    assert model.encoder.ends == [2, 4] and not any(model.encoder.layers[i].backward for i in (0, 1, 3))
    assert (mamba.mixer.N, mamba.mixer.P, transformer.attention.heads, replaced.mixer.H) == (4, 8, 2, 2)
    assert build('tiny', schedule='MM', stages=1).encoder.layers[1].backward
    assert type(build('tiny', mixer='mamba1', mixer_options={}).encoder.layers[1].mixer).__name__ == 'Mamba1'


def test_sizes_of_the_config_reach_the_gate_and_the_answer_head():
    model = build('tiny', d_gate=24, answers=9)
    assert (model.gate.w1.out_features, model.gate.w2.out_features) == (24, model.config.d_decoder)
    assert model.answer_head.layers[-1].out_features == 9 and model.text_bias.shape == (64,)
    assert build('tiny', answers=0).answer_head is None and build('tiny', tasks=('rgb',)).text_bias is None


@torch.no_grad()
def test_head_attentions_cover_words_and_global_token_over_the_image_tokens(tiny):
    encoding, words, found = tiny.encode_images(only(example(), IMAGE_MODALITIES)), example(), []
    tiny.encode_text(encoding, words['text'], words['text_mask'], head_attentions=found)
    assert len(found) == tiny.config.schedule.count('T')
    indices = torch.arange(13).expand(2, -1)
    for attention in found:
        weights = attention.weights(indices)
        assert weights.shape == (2, 13, 12)
        close(weights.sum(-1), torch.ones(2, 13))
