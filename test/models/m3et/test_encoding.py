"""Encodings: sources, summaries, samples, images joined with text, and several frames in one context."""

from dataclasses import replace

import pytest
import torch

from m3et_ros.models.m3et.config import IMAGE_MODALITIES
from m3et_ros.models.m3et.encoding import (
    GLOBAL,
    TEXT,
    Encoded,
    join_frames,
    joined,
    raster_ids,
    returned,
    select,
    sources,
)
from m3et_ros.models.m3et.sizes import build

BOS = 2


@pytest.fixture(scope='module')
def tiny():
    return build('tiny').eval()


def example(batch=2, seed=0, words=(5, 12)):
    generator = torch.Generator().manual_seed(seed)
    return {
        'rgb': torch.randn(batch, 3, 32, 32, generator=generator),
        'depth': torch.randn(batch, 1, 32, 32, generator=generator),
        'semseg': torch.randint(0, 5, (batch, 8, 8), generator=generator),
        'text': torch.randint(5, 64, (batch, 12), generator=generator),
        'text_mask': torch.arange(12)[None] < torch.tensor(words)[:batch, None],
    }


def close(a, b):
    torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)


def test_tokens_are_selected_from_masks_and_features():
    ids = torch.tensor([[2, 0], [1, 1]])
    values = torch.arange(6.0).view(2, 3)
    assert select(ids, values).tolist() == [[2, 0], [4, 4]]
    assert torch.equal(select(ids, values[..., None].expand(-1, -1, 5))[..., 3], select(ids, values))


def test_returned_tokens_stand_in_their_places():
    tokens = torch.arange(1.0, 9).view(2, 2, 2)
    found = returned(torch.tensor([[2, 0], [1, 2]]), tokens, 3)
    assert found.tolist() == [[[3, 4], [0, 0], [1, 2]], [[0, 0], [5, 6], [7, 8]]]
    assert raster_ids(tokens).tolist() == [[0, 1], [0, 1]]


@torch.no_grad()
def test_every_token_knows_its_position(tiny):
    """Raster positions of patches, positions of words before pads went to the front, and 0 of the global token."""
    whole = tiny.encode(example(words=(2, 12)))
    raster, pads = list(range(4)) * 3, list(range(2, 12))
    assert whole.position_ids.tolist() == [raster + [*pads, 0, 1, 0], raster + [*range(12), 0]]
    visible = torch.tensor([[1, 3, 6, 13, 17], [0, 7, 9, 14, 15]])
    some = tiny.encode(example(words=(12, 12)), visible=visible)
    rows = [ids[valid].tolist() for ids, valid in zip(some.position_ids, some.valid, strict=True)]
    assert rows == [[1, 3, 2, 1, 5, 0], [0, 3, 1, 2, 3, 0]]
    frames = join_frames([tiny.encode(example()), whole], every=2)
    rows = [ids[valid].tolist() for ids, valid in zip(frames.position_ids, frames.valid, strict=True)]
    assert rows == [[0, 2] * 6 + [0, 1, 0], [0, 2] * 6 + [*range(12), 0]]


def test_a_source_is_given_to_every_token():
    found = sources(torch.zeros(2, 3, 8), TEXT)
    assert found.tolist() == [[TEXT] * 3] * 2 and found.dtype == torch.int64


@torch.no_grad()
def test_images_joined_with_text_are_the_whole_sequence(tiny):
    inputs = example()
    images = tiny.encode_images({m: inputs[m] for m in IMAGE_MODALITIES})
    text = tiny.encode_text(images, inputs['text'], inputs['text_mask'])
    found, wanted = joined(images, text), tiny.encode(inputs)
    assert len(found.stages) == len(wanted.stages) == tiny.config.stages
    for a, b in zip(found.stages, wanted.stages, strict=True):
        close(a, b)
    assert torch.equal(found.source, wanted.source) and torch.equal(found.valid, wanted.valid)
    assert found.tokens.keys() == found.visible.keys() == {*IMAGE_MODALITIES, 'text'}
    assert torch.equal(found.text_mask, inputs['text_mask'])


@torch.no_grad()
def test_images_are_repeated_for_each_of_their_questions(tiny):
    inputs, questions = example(), example(batch=4, seed=1, words=(5, 12, 3, 9))
    images = tiny.encode_images({m: inputs[m] for m in IMAGE_MODALITIES})
    found = joined(images, tiny.encode_text(images, questions['text'], questions['text_mask']))
    assert found.context.shape[0] == len(found.source) == len(found.valid) == 4
    for row in range(4):
        assert torch.equal(found.context[row, :12], images.stages[-1][row // 2])
        assert torch.equal(found.tokens['rgb'][row], images.tokens['rgb'][row // 2])
        assert torch.equal(found.visible['depth'][row], images.visible['depth'][row // 2])


@torch.no_grad()
def test_without_pads_and_fillers_there_is_no_mask(tiny):
    inputs = example(words=(12, 12))
    images = tiny.encode_images({'rgb': inputs['rgb']})
    assert joined(images, tiny.encode_text(images, inputs['text'])).valid is None
    padded = joined(images, tiny.encode_text(images, inputs['text'], example()['text_mask']))
    assert padded.valid[:, :4].all() and padded.valid.sum(1).tolist() == [4 + 5 + 1, 4 + 12 + 1]


@torch.no_grad()
def test_every_so_many_samples_are_taken_in_every_field(tiny):
    encoded = tiny.encode(example(batch=4, words=(5, 12, 3, 9)), visible=torch.arange(20).expand(4, -1))
    found = encoded.sampled(2)
    for a, b in zip(found.stages, encoded.stages, strict=True):
        assert torch.equal(a, b[::2])
    for name in ('source', 'valid', 'text_mask', 'position_ids'):
        assert torch.equal(getattr(found, name), getattr(encoded, name)[::2]), name
    for name in encoded.tokens:
        assert torch.equal(found.tokens[name], encoded.tokens[name][::2])
        assert torch.equal(found.visible[name], encoded.visible[name][::2])


def test_what_is_absent_stays_absent_in_a_sample():
    ids = torch.zeros(4, 3, dtype=torch.int64)
    encoded = Encoded([torch.zeros(4, 3, 2)], ids, None, {}, {}, ids)
    found = encoded.sampled(2)
    assert found.valid is None and found.text_mask is None and found.context.shape == (2, 3, 2)


def test_the_summary_leaves_out_pads_and_other_tokens():
    context = torch.tensor([[[1.0], [2.0], [4.0], [9.0]], [[1.0], [2.0], [4.0], [9.0]]])
    source = torch.tensor([[0, TEXT, TEXT, GLOBAL], [0, 0, 0, GLOBAL]])
    assert Encoded([context], source, None, {}, {}, source).summary().tolist() == [[3.0], [9.0]]
    valid = torch.tensor([[True, False, True, True]] * 2)
    assert Encoded([context], source, valid, {}, {}, source).summary().tolist() == [[4.0], [9.0]]


@torch.no_grad()
def test_joined_frames_hold_sampled_patches_and_the_last_text(tiny):
    frames = [tiny.encode(example(seed=seed, words=(5, 12))) for seed in range(3)]
    joined = join_frames(frames, every=2)
    # Two of four patches per modality and frame, the last frame's text, the global token.
    assert joined.valid.sum(1).tolist() == [3 * 3 * 2 + 5 + 1, 3 * 3 * 2 + 12 + 1]
    close(tiny.global_token(joined), torch.stack([tiny.global_token(f) for f in frames]).mean(0))
    rgb = (joined.source[0] == 0) & joined.valid[0]
    patches = torch.cat([f.context[0][(f.source[0] == 0) & f.valid[0]][::2] for f in frames])
    close(joined.context[0][rgb], patches)
    assert next(tiny.generate(joined, bos=BOS, eos=0))[0].shape == (2,)
    close(joined.summary(), frames[-1].summary())


@torch.no_grad()
def test_one_joined_frame_with_every_token_answers_as_the_frame_does(tiny):
    encoded = tiny.encode(example())
    joined, ids = join_frames([encoded], every=1), torch.tensor([[BOS, 7, 8]] * 2)
    close(tiny.text_logits(joined, ids), tiny.text_logits(encoded, ids))
    close(tiny.answer_logits(joined), tiny.answer_logits(encoded))


def test_no_frames_to_join_are_refused():
    with pytest.raises(ValueError, match='0 frames'):
        join_frames([])


def test_frames_are_sampled_at_every_token_or_more_sparsely(tiny):
    with torch.no_grad():
        frame = tiny.encode({'rgb': example()['rgb']})
    assert [join_frames([frame], every=every).context.shape[1] for every in (1, 3, 4)] == [5, 3, 2]
    with pytest.raises(ValueError, match='every = 0'):
        join_frames([frame], every=0)


@torch.no_grad()
def test_places_and_looks_travel_with_an_encoding():
    model = build('tiny', places=True, answer_parts=5, look_parts=2).eval()
    images = model.encode_images({m: example()[m] for m in ('rgb', 'depth')})
    questions = [example(seed=seed) for seed in (0, 1)]
    words = {name: torch.stack([one[name] for one in questions], 1).flatten(0, 1) for name in ('text', 'text_mask')}
    text = model.encode_text(images, words['text'], words['text_mask'])
    together = joined(images, text)
    first = model.encode({m: example()[m] for m in ('rgb', 'depth', 'text', 'text_mask')})
    for name in ('places', 'look'):
        whole = getattr(text, name)
        assert torch.equal(getattr(together, name), whole)
        close(getattr(text.sampled(2), name), getattr(first, name))
        frames = join_frames([text.sampled(2), first, joined(images, text.sampled(2))])
        close(getattr(frames, name), whole[::2])
        other = join_frames([text.sampled(2), replace(first, **{name: getattr(first, name) + 3})])
        close(getattr(other, name), whole[::2] + 1.5)
    close(model.answer_logits(together), model.answer_logits(text))


def test_a_token_shown_twice_shows_no_other(tiny):
    images = {'rgb': torch.randn(2, 3, tiny.config.image_size, tiny.config.image_size)}
    once, twice = (tiny.encode(images, visible=torch.tensor([ids] * 2)) for ids in ([0, 1], [0, 1, 1]))
    assert torch.allclose(once.context[:, -1], twice.context[:, -1], atol=1e-5)
