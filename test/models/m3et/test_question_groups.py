"""Questions in groups of similar length are encoded as all at once, and the groups are the cheapest."""

import pytest
import torch

from m3et_ros.models.m3et.question_groups import GROUPS, _cuts, encode_questions
from m3et_ros.models.m3et.sizes import build

LENGTHS = ((9, 3, 4, 2), (3, 5, 0, 10))  # of four questions about each of two views; 0 = no question
PARTS = {'places': True, 'answer_parts': 5, 'look_parts': 2}


def batch(lengths=LENGTHS, size=10):
    generator = torch.Generator().manual_seed(1)
    images = {name: torch.randn(len(lengths), c, 32, 32, generator=generator) for name, c in (('rgb', 3), ('depth', 1))}
    count = torch.tensor(lengths).flatten()
    text = torch.randint(5, 64, (len(count), size), generator=generator)
    return images, text, torch.arange(size) < count[:, None]


@pytest.mark.parametrize(
    'changes', [{}, PARTS, PARTS | {'images_hear': True}], ids=['plain', 'places and parts', 'hearing']
)
@pytest.mark.parametrize('size', [10, 12], ids=['full', 'with pads that no question needs'])
def test_values_and_gradients_are_those_of_all_questions_at_once(changes, size):
    model, (images, text, mask) = build('tiny', **changes), batch(size=size)
    results = []
    for encode in (model.encode_text, lambda *a, **o: encode_questions(model, *a, **o)):
        attentions = []
        encoded = encode(model.encode_images(images), text, mask, head_attentions=attentions)
        (model.answer_logits(encoded).square().sum() + attentions[-1].q[:, -1].sum()).backward()
        gradients = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        model.zero_grad()
        results.append((encoded, attentions, gradients))
    (wanted, attended, gradients), (found, attended_in_groups, gradients_in_groups) = results
    valid = wanted.valid
    assert torch.equal(found.valid, valid) and torch.equal(found.source, wanted.source)
    assert torch.equal(found.position_ids[valid], wanted.position_ids[valid]) and found.text_mask is mask
    for one, other in (
        *zip(found.stages, wanted.stages, strict=True),
        *((a.q, b.q) for a, b in zip(attended_in_groups, attended, strict=True)),
    ):
        torch.testing.assert_close(one[valid], other[valid], atol=1e-5, rtol=1e-4)
    assert torch.equal(found.tokens['text'][mask], wanted.tokens['text'][mask])
    assert torch.equal(found.visible['text'], wanted.visible['text'])
    for name in ('places', 'look') if changes else ():
        torch.testing.assert_close(getattr(found, name), getattr(wanted, name), atol=1e-5, rtol=1e-4)
    assert gradients.keys() == gradients_in_groups.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradients_in_groups[name], gradient, atol=1e-4, rtol=1e-3, msg=name)


def test_each_group_is_as_long_as_its_longest_question(monkeypatch):
    model, (images, text, mask) = build('tiny'), batch()
    shapes, encode = [], model.encode_text
    monkeypatch.setattr(
        model,
        'encode_text',
        lambda images, text, *a, **o: shapes.append(tuple(text.shape)) or encode(images, text, *a, **o),
    )
    encode_questions(model, model.encode_images(images), text, mask)
    # In order: 2, 3, 4, 9 and 0, 3, 5, 10.
    assert shapes == [(4, 3), (2, 5), (2, 10)]


@pytest.mark.parametrize(
    ('longest', 'wanted'),
    [
        ([7], [(0, 1)]),
        ([7, 7, 7], [(0, 3)]),
        ([3, 9], [(0, 1), (1, 2)]),
        ([2, 2, 9, 9, 20, 20], [(0, 2), (2, 4), (4, 6)]),
        ([2, 9, 10, 11, 20], [(0, 1), (1, 4), (4, 5)]),
    ],
)
def test_questions_are_cut_where_the_fewest_tokens_remain(longest, wanted):
    assert _cuts(longest) == wanted and len(wanted) <= GROUPS


def test_questions_padded_in_front_are_refused_everywhere():
    """They would lose their last words here, and have their words at other positions elsewhere."""
    model, (images, text, mask) = build('tiny'), batch()
    encoding = model.encode_images(images)
    for encode in (lambda *a: encode_questions(model, *a), model.encode_text, model.add_text):
        with pytest.raises(ValueError, match='row 0 of text_mask has pads before words'):
            encode(encoding, text.flip(1), mask.flip(1))
    with pytest.raises(ValueError, match='row 1 of text_mask has pads before words'):
        model.encode(images | {'text': text[[0, 1]], 'text_mask': torch.stack([mask[0], mask[1].flip(0)])})
