"""Places by hand, what they may depend on, and the look at what a question attends to."""

import pytest
import torch

from m3et_ros.layers.attention import HeadAttention
from m3et_ros.models.m3et.readout import PlaceReader, attended_places, standardised, token_colours, token_places
from m3et_ros.models.m3et.sizes import build

PARTS = {'places': True, 'answer_parts': 5, 'look_parts': 2}
ONES = torch.ones(1, 4, dtype=torch.bool)
LAST = '2'  # the last T layer of tiny's schedule; index of its map


@pytest.fixture(scope='module')
def model():
    """Four patches, depth with validity, and a read-out that is not silent any more."""
    model = build('tiny', schedule='TMT', **PARTS, depth_validity=True).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for layer in model.readout.maps.values():
            layer.weight.normal_(std=0.3)
            layer.bias.normal_(std=0.3)
        model.readout.slots.weight.normal_()
        model.readout.choice.weight.normal_(std=0.2)
    return model


def example(batch=2, seed=0, words=(5, 8)):
    generator = torch.Generator().manual_seed(seed)
    depth = torch.randn(batch, 1, 32, 32, generator=generator)
    return {
        'rgb': torch.randn(batch, 3, 32, 32, generator=generator),
        'depth': torch.cat([depth, torch.ones_like(depth)], 1),
        'text': torch.randint(5, 64, (batch, 8), generator=generator),
        'text_mask': torch.arange(8)[None] < torch.tensor(words)[:batch, None],
    }


def pointing(*scores, mask=None):
    """Attention of one row whose scores to the keys are given, one list per token."""
    keys = torch.eye(len(scores[0]))[None]
    return HeadAttention(torch.tensor(scores)[None] * len(scores[0]) ** 0.5, keys, mask)


def test_tokens_have_the_middle_of_their_patch_and_its_measured_depth():
    depth = torch.zeros(1, 2, 8, 8)
    depth[0, :, :4, 4:] = torch.tensor([2.0, 1.0])[:, None, None]  # patch 1 is measured, patch 2 in its upper half
    depth[0, :, 4:6, :4] = torch.tensor([-1.0, 1.0])[:, None, None]
    depth[0, :, 6:, :4] = torch.tensor([9.0, 0.0])[:, None, None]
    found = token_places({'rgb': torch.zeros(1, 3, 8, 8), 'depth': depth}, {'rgb': ONES, 'depth': ONES})
    wanted = [[0.25, 0.25, 0, 0], [0.75, 0.25, 2, 1], [0.25, 0.75, -1, 0.5], [0.75, 0.75, 0, 0]]
    torch.testing.assert_close(found, torch.tensor([wanted * 2]))
    hidden = torch.tensor([[True, False, True, True]])
    found = token_places({'rgb': torch.zeros(1, 3, 8, 8), 'depth': depth}, {'rgb': ONES, 'depth': hidden})
    assert found[0, 1].tolist() == found[0, 5].tolist() == [0.75, 0.25, 0, 0]
    bare = token_places({'depth': torch.full((1, 1, 8, 8), 3.0)}, {'depth': ONES})
    assert bare[0, :, 2:].tolist() == [[3, 1]] * 4  # without validity everything counts as measured
    assert token_places({'rgb': torch.zeros(1, 3, 8, 8)}, {'rgb': ONES})[0, :, 2:].tolist() == [[0, 0]] * 4


def test_colours_are_those_of_the_patch_for_the_tokens_of_every_modality():
    tokens = {'rgb': torch.randn(1, 4, 3), 'depth': torch.randn(1, 4, 3)}
    shown = torch.tensor([[True, True, False, True]])
    found = token_colours(tokens, {'rgb': shown, 'depth': ONES})
    wanted = tokens['rgb'] * shown[..., None]
    assert torch.equal(found, torch.cat([wanted, wanted], 1)) and found[0, 2].tolist() == [0, 0, 0]
    assert not token_colours({'depth': tokens['depth']}, {'depth': ONES}).any()


def test_the_place_of_a_hand_made_attention():
    where = torch.tensor(
        [[[0.25, 0.25, 2.0, 1.0], [0.75, 0.25, 0.0, 0.0], [0.25, 0.75, -1.0, 0.5], [0.75, 0.75, 0, 0]]]
    )
    places, weights = attended_places(pointing([30.0, 0, 0, 0], [5.0, 5, -30, -30], [0.0, 0, 30, -30]), where)
    torch.testing.assert_close(weights[0, 1], torch.tensor([0.5, 0.5, 0, 0]), atol=1e-6, rtol=0)
    x, y, across, down, depth, known, strength = places[0].T
    assert x.tolist() == pytest.approx([0.25, 0.5, 0.25], abs=1e-3)
    assert y.tolist() == pytest.approx([0.25, 0.25, 0.75], abs=1e-3)
    assert across.tolist() == pytest.approx([0.01, 0.25, 0.01], abs=2e-3)  # the deviation is never below 0.01
    assert down.tolist() == pytest.approx([0.01, 0.01, 0.01], abs=2e-3)
    # Of the second token half of the attention is on depth 2; the mean is over what was measured.
    assert depth.tolist() == pytest.approx([2, 2, -1], abs=0.01)
    assert known.tolist() == pytest.approx([1, 0.5, 0.5], abs=1e-3)
    exact = torch.tensor([[30.0, 0, 0, 0], [5, 5, -30, -30], [0, 0, 30, -30]]).exp().mean(1).log()
    torch.testing.assert_close(strength, exact)


def test_fillers_have_no_place_and_no_strength():
    where = torch.tensor([[[0.9, 0.9, 5.0, 1.0], [0.25, 0.25, 1, 1], [0.75, 0.25, 1, 1]]])
    whole, _ = attended_places(pointing([1.0, 2.0], [0.5, -1.0]), where[:, 1:])
    masked, weights = attended_places(
        pointing([9.0, 1.0, 2.0], [9.0, 0.5, -1.0], mask=torch.tensor([[False, True, True]])), where
    )
    torch.testing.assert_close(masked, whole)
    assert not weights[..., 0].any()
    nothing, weights = attended_places(pointing([9.0, 1.0, 2.0], mask=torch.zeros(1, 3, dtype=torch.bool)), where)
    assert not nothing.any() and not weights.any()


def test_gradients_are_finite_where_nothing_was_measured_and_one_patch_has_all_attention():
    scores = torch.tensor([[80.0, 0, 0, 0]], requires_grad=True)
    where = torch.tensor([[[0.25, 0.25, 0.0, 0.0]] * 4])
    places, _ = attended_places(HeadAttention(scores[None], torch.eye(4)[None], None), where)
    standardised(places).square().sum().backward()
    assert scores.grad.isfinite().all()


@torch.no_grad()
def test_an_untrained_read_out_changes_nothing():
    plain = build('tiny').eval()
    read = build('tiny', places=True).eval()
    read.load_state_dict(
        plain.state_dict() | {k: v for k, v in read.state_dict().items() if 'answer_head' in k}, strict=False
    )
    inputs = example()
    inputs['depth'] = inputs['depth'][:, :1]
    found, wanted = read.encode(inputs), plain.encode(inputs)
    assert torch.equal(found.context, wanted.context) and wanted.places is wanted.look is found.look is None
    assert found.places.shape == (2, 2, 7)


@torch.no_grad()
def test_places_are_added_after_each_t_layer(model):
    inputs, seen = example(), []
    images = model.encode_images({m: inputs[m] for m in ('rgb', 'depth')})
    reading = PlaceReader(model.readout, images)
    attention = model.encoder.layers[2].head_attention(torch.randn(2, 5, 32), images.states[2])
    added = reading(2, attention)
    places, _ = attended_places(attention, images.places)
    torch.testing.assert_close(added, model.readout.maps[LAST](standardised(places)))
    model.encode_text(images, inputs['text'], inputs['text_mask'], head_attentions=seen)
    assert len(seen) == 2 and model.readout.maps.keys() == {'0', '2'}


@torch.no_grad()
def test_slots_attend_to_words_alone(model):
    inputs = example(words=(5, 8))
    text = model.encode_text(model.encode_images({'rgb': inputs['rgb']}), inputs['text'], inputs['text_mask'])
    weights = model.readout.slot_weights(text)
    assert weights.shape == (2, 2, 8) and not weights[0, :, :3].any()  # pads come first
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2))
    scores = text.context[1, :-1] @ model.readout.slots.weight[1]
    torch.testing.assert_close(weights[1, 1], scores.softmax(0))
    mute = model.encode_text(None, inputs['text'], torch.zeros(2, 8, dtype=torch.bool))
    assert not model.readout.slot_weights(mute).any()


@torch.no_grad()
def test_the_place_of_a_slot_is_that_of_its_words_in_the_last_t_layer(model):
    inputs, seen = example(words=(8, 8)), []
    images = model.encode_images({m: inputs[m] for m in ('rgb', 'depth')})
    text = model.encode_text(images, inputs['text'], inputs['text_mask'], head_attentions=seen)
    places, _ = attended_places(seen[-1], images.places)
    weights = model.readout.slot_weights(text)
    torch.testing.assert_close(text.places, torch.einsum('rst,rtp->rsp', weights, places[:, :-1]))


@torch.no_grad()
def test_the_look_is_a_sharpened_mixture_of_the_first_noun_and_the_global_token(model):
    inputs, seen = example(words=(8, 8)), []
    images = model.encode_images({m: inputs[m] for m in ('rgb', 'depth')})
    text = model.encode_text(images, inputs['text'], inputs['text_mask'], head_attentions=seen)
    places, weights = attended_places(seen[-1], images.places)
    slot = model.readout.slot_weights(text)[:, 0]
    both = torch.cat([standardised(text.places[:, 0]), standardised(places[:, -1])], 1)
    share = (both @ model.readout.choice.weight[0] + model.readout.choice.bias).sigmoid()[:, None]
    mixed = share * torch.einsum('rt,rti->ri', slot, weights[:, :-1]) + (1 - share) * weights[:, -1]
    sharp = mixed.square() / mixed.square().sum(1, keepdim=True)  # sharpness starts at 2
    values = torch.cat([images.stages[-1], images.colours], -1)
    torch.testing.assert_close(text.look, torch.einsum('ri,rid->rd', sharp, values), atol=1e-3, rtol=1e-3)
    assert share.min() > 0.05 and share.max() < 0.95


@torch.no_grad()
def test_without_images_or_words_places_and_looks_are_0(model):
    inputs = example()
    asked = model.add_text(None, inputs['text'], inputs['text_mask'])
    assert asked.places.shape == (2, 2, 7) and asked.look.shape == (2, 64)
    assert not asked.places.any() and not asked.look.any()
    silent = model.add_text(model.encode_images({'rgb': inputs['rgb']}))
    assert not silent.places.any() and silent.look.any()
    for encoded in (asked, silent):
        assert model.answer_logits(encoded).isfinite().all()


@torch.no_grad()
def test_samples_without_a_visible_image_token_are_as_those_without_images(model):
    inputs = example(words=(8, 8))
    visible = torch.tensor(
        [[0, 3, 5, 8, 9, 10, 11, 12], [8, 9, 10, 11, 12, 13, 14, 15]]
    )  # the second shows words alone
    together = model.encode(inputs, visible=visible)
    for row, images in enumerate((('rgb', 'depth'), ())):
        one = {m: inputs[m][row : row + 1] for m in (*images, 'text', 'text_mask')}
        alone = model.encode(one, visible=visible[row : row + 1] - (8 if not images else 0))
        for name in ('places', 'look'):
            torch.testing.assert_close(getattr(together, name)[row], getattr(alone, name)[0], atol=2e-5, rtol=1e-4)
        torch.testing.assert_close(
            model.answer_logits(together)[row], model.answer_logits(alone)[0], atol=2e-5, rtol=1e-4
        )


@torch.no_grad()
def test_hidden_depth_and_colours_reach_neither_places_nor_looks(model):
    inputs, visible = example(words=(8, 8)), torch.tensor([[0, 1, 6, 7, *range(8, 16)]] * 2)
    other = inputs | {name: inputs[name].clone() for name in ('rgb', 'depth')}
    other['rgb'][:, :, 16:] = 3  # patches 2 and 3
    other['depth'][:, 0, :16] = 3  # patches 0 and 1
    other['depth'][:, 1, :16, :16] = 0
    one, two = (model.encode(given, visible=visible) for given in (inputs, other))
    assert torch.equal(one.places, two.places) and torch.equal(one.look, two.look)
    assert torch.equal(model.answer_logits(one), model.answer_logits(two))


@torch.no_grad()
def test_with_its_attention_fixed_a_noun_changes_no_part_that_is_read_from_the_look(model, monkeypatch):
    inputs = example(words=(8, 8))
    generator = torch.Generator().manual_seed(1)
    fixed = torch.randn(2, 9, 8, generator=generator)
    monkeypatch.setattr(HeadAttention, 'scores', lambda self, indices=None: fixed)
    monkeypatch.setattr(model.readout.slots, 'weight', torch.nn.Parameter(torch.zeros(2, 32)))

    def scores():
        encoded = model.encode(inputs)
        return model.answer_head.part_scores(model.global_token(encoded), encoded.places, encoded.look)

    before, table = scores(), model.adapters['text'].table.weight
    noun = inputs['text'][0, 3]
    kept = table[noun].clone()
    table[noun] = torch.randn(32, generator=generator)
    after = scores()
    table[noun] = kept
    assert torch.equal(before[:, -2:], after[:, -2:])
    assert (before[0, :-2] != after[0, :-2]).all()


@torch.no_grad()
def test_patches_encoded_anew_have_the_places_and_colours_of_the_new_images(model):
    old, new = ({m: example(seed=seed)[m] for m in ('rgb', 'depth')} for seed in (0, 1))
    held = model.encode_changed(old)
    whole = model.encode_images(old)
    assert torch.equal(held.image_encoding.places, whole.places)
    torch.testing.assert_close(held.image_encoding.colours, whole.colours)
    changed = model.encode_changed(new, torch.tensor([1, 6]), held).image_encoding
    wanted = model.encode_images(new)
    assert torch.equal(changed.places, wanted.places)
    torch.testing.assert_close(changed.colours, wanted.colours)


def test_bfloat16_weights_keep_places_in_float32(model):
    lowered = build(model.config).to(torch.bfloat16).eval()
    inputs = {k: v.to(torch.bfloat16) if v.is_floating_point() else v for k, v in example().items()}
    with torch.no_grad():
        encoded = lowered.encode(inputs)
        assert encoded.places.dtype == torch.float32 and lowered.answer_logits(encoded).isfinite().all()
    inputs = example()
    with torch.autocast('cpu', torch.bfloat16):
        encoded = model.encode(inputs)
        loss = model.answer_logits(encoded).float().square().sum()
    exact = model.encode(inputs)
    assert encoded.places.dtype == torch.float32 and loss.isfinite()
    torch.testing.assert_close(encoded.places[..., :2], exact.places[..., :2], atol=0.02, rtol=0)
