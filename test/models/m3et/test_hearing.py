"""Images that hear the words; test_model.py runs its tests on such a model, too."""

import pytest
import torch

from m3et_ros.models.m3et.sizes import build

PARTS = {'places': True, 'answer_parts': 5, 'look_parts': 2}


def example(seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = {name: torch.randn(2, c, 32, 32, generator=generator) for name, c in (('rgb', 3), ('depth', 1))}
    text = torch.randint(5, 64, (2, 12), generator=generator)
    return images, text, torch.arange(12) < torch.tensor([[12], [7]])


@torch.no_grad()
@pytest.mark.parametrize('places', [{}, PARTS], ids=['plain', 'places'])
def test_what_images_hear_reaches_the_answer(places):
    """Images that attend to the words are those of one sequence in which the words stand before the images."""
    model = build('tiny', schedule='T', stages=1, images_hear=True, **places).eval()
    images, text, mask = (part[:1] if isinstance(part, torch.Tensor) else part for part in example())
    encoding = model.encode_images({'rgb': images['rgb'][:1]})
    heard = model.hear(encoding, text, mask)
    words = model._with_position('text', model.adapters['text'](text))
    (together,) = model.encoder(torch.cat([words, encoding.embedded], 1))
    torch.testing.assert_close(heard.stages[0], together[:, 12:])
    assert heard.embedded is None and heard.states[0].k.shape[2] == 4  # the words after the images attend to them alone
    passes = []
    model.encoder.register_forward_hook(lambda encoder, arguments, outputs: passes.append(arguments[0].shape[1]))
    model.encode_text(encoding, text, mask)
    assert passes == [12, 4, 13]  # words, images, words and the global token


@torch.no_grad()
def test_frames_encoded_in_part_hear_as_whole_ones_do():
    model = build('tiny', images_hear=True, **PARTS).eval()
    (images, text, mask), (changed, _, _) = example(), example(seed=1)
    every = torch.arange(8)
    held = model.encode_changed(changed, every, model.encode_changed(images)).image_encoding
    wanted = model.encode_images(changed)
    torch.testing.assert_close(held.embedded, wanted.embedded)
    one, other = (model.answer_logits(model.encode_text(found, text, mask)) for found in (held, wanted))
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize('queries', ['tokens', 'encoded'])
def test_encoded_queries_of_the_decoders_hear_too(queries):
    model, (images, text, mask) = build('tiny', images_hear=True, decoder_queries=queries).eval(), example()
    deaf, asked = model.add_text(model.encode_images(images)), model.add_text(model.encode_images(images), text, mask)
    for name in images:
        assert torch.equal(deaf.tokens[name], asked.tokens[name]) == (queries == 'tokens')


@torch.no_grad()
def test_words_after_the_images_point_with_what_the_images_heard():
    model, (images, text, mask), points = build('tiny', images_hear=True).eval(), example(), []
    for words in (text, text.flip(1)):
        attentions = []
        model.encode_text(model.encode_images(images), words, mask, head_attentions=attentions)
        assert [one.k.shape[:2] for one in attentions] == [(2, 8)] * 3
        points.append(attentions[-1].k)
    assert not torch.allclose(points[0], points[1], atol=1e-4)
