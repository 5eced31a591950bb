"""Answer heads: sums of parts by hand, what a head learns from places, and answers that training never showed."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from m3et_ros.models.m3et.answers import LookReader, PlacedAnswerHead, build_answer_head
from m3et_ros.models.m3et.decoders import AnswerHead
from m3et_ros.models.m3et.sizes import TINY

# red bowl, red cup, blue bowl, blue cup as noun + colour + what all have; 'yes' is a part of its own.
# Parts: yes, a coloured thing, bowl, cup; then the colours red and blue.
PAIRS = torch.tensor(
    [[1.0, 0, 0, 0, 0, 0], [0, 1, 1, 0, 1, 0], [0, 1, 0, 1, 1, 0], [0, 1, 1, 0, 0, 1], [0, 1, 0, 1, 0, 1]]
)


@pytest.fixture
def pairs():
    torch.manual_seed(0)
    head = PlacedAnswerHead(d=8, answers=5, parts=6, looks=2)
    head.set_parts(PAIRS)
    return head


def given(rows=3, d=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    draw = (torch.randn(rows, *shape, generator=generator) for shape in ((d,), (2, 7), (2 * d,)))
    return tuple(draw)


def test_a_config_gets_its_head():
    assert build_answer_head(replace(TINY, answers=0)) is None
    assert isinstance(build_answer_head(TINY), AnswerHead)
    placed = build_answer_head(replace(TINY, places=True))
    assert placed.parts is None and placed.look is None and placed(*given(d=32)).shape == (3, 6)
    assert placed.layers[0].in_features == 32 + 21 + 32 and placed.layers[-1].out_features == 6
    whole = build_answer_head(replace(TINY, places=True, answer_parts=5, look_parts=2))
    assert whole.layers[-1].out_features == 3 and whole.parts.shape == (6, 5) and whole(*given(d=32)).shape == (3, 6)
    assert build_answer_head(replace(TINY, places=True, answer_parts=5)).look is None


@torch.no_grad()
def test_the_score_of_an_answer_is_the_sum_of_its_parts(pairs):
    yes, thing, bowl, cup, red, blue = pairs.part_scores(*given()).T
    wanted = [yes, thing + bowl + red, thing + cup + red, thing + bowl + blue, thing + cup + blue]
    torch.testing.assert_close(pairs(*given()), torch.stack(wanted, 1))


def test_colours_read_the_look_alone_and_the_rest_does_not(pairs):
    token, places, look = (tensor.requires_grad_() for tensor in given())
    scores = pairs.part_scores(token, places, look)
    colour = torch.autograd.grad(scores[:, -2:].sum(), (token, places, look), retain_graph=True)
    assert not colour[0].any() and not colour[1].any() and colour[2].abs().min() > 0
    rest = torch.autograd.grad(scores[:, :-2].square().sum(), (token, places, look))
    assert not rest[2].any() and rest[0].abs().min() > 0 and rest[1].abs().min() > 0


@torch.no_grad()
def test_the_encoders_outputs_are_read_linearly_and_the_bare_colours_are_not():
    reader, look = LookReader(d=8, parts=2), given()[2]
    zero = torch.zeros(1, 8)

    def change(part, factor):
        moved = torch.cat([part, zero], 1) if factor > 0 else torch.cat([zero, part], 1)
        return reader(moved * abs(factor)) - reader(torch.zeros(1, 16))

    encoded, bare = look[:1].chunk(2, -1)
    torch.testing.assert_close(change(encoded, 3), 3 * change(encoded, 1))
    assert not torch.allclose(change(bare, -3), 3 * change(bare, -1), atol=1e-3)


def test_a_head_that_reads_looks_needs_one(pairs):
    with pytest.raises(ValueError, match='give the look'):
        pairs(*given()[:2], None)


def test_until_the_answers_are_known_each_has_a_part_of_either_kind():
    head = PlacedAnswerHead(d=8, answers=5, parts=6, looks=2)
    assert head.parts.nonzero().tolist() == [[row, part] for row in range(5) for part in sorted((row % 4, 4 + row % 2))]
    assert torch.equal(PlacedAnswerHead(d=8, answers=3, parts=3).parts, torch.eye(3))


@pytest.mark.parametrize('parts', [0, 6])
def test_parts_of_another_shape_are_refused(parts):
    head = PlacedAnswerHead(d=8, answers=5, parts=parts)
    with pytest.raises(ValueError, match=r'the parts are \(5, 4\) and those of the head (\(5, 6\)|None)'):
        head.set_parts(torch.zeros(5, 4))


def test_the_parts_are_weights_of_the_checkpoint(pairs):
    assert torch.equal(pairs.state_dict()['parts'], PAIRS)
    assert 'parts' not in PlacedAnswerHead(d=8, answers=5).state_dict()


@torch.no_grad()
@pytest.mark.parametrize('parts', [0, 6])
def test_every_answer_can_be_given_the_same_bias(parts):
    head = PlacedAnswerHead(d=8, answers=5, parts=parts, looks=2 if parts else 0)
    if parts:
        head.set_parts(PAIRS)
    head.set_answer_bias(-4.0)
    torch.testing.assert_close(head.answer_bias(), torch.full((5,), -4.0))
    for layer in [head.layers[-1], *([head.look.encoded, head.look.bare[-1]] if parts else [])]:
        layer.weight.zero_()
    torch.testing.assert_close(head(*given()), torch.full((3, 5), -4.0))


def fit(head, draw, steps, lr=1e-2):
    optimizer = torch.optim.AdamW(head.parameters(), lr=lr)
    for step in range(steps):
        inputs, target = draw(step)
        F.binary_cross_entropy_with_logits(head(*inputs), target).backward()
        optimizer.step()
        optimizer.zero_grad()


def test_a_head_learns_from_places_what_is_left_of_what():
    """The token says whether the question is about left or right, and else nothing."""
    torch.manual_seed(0)
    head = PlacedAnswerHead(d=8, answers=2)

    def draw(seed, rows=256):
        token, places, _ = given(rows, seed=seed)
        places = torch.cat([torch.rand(rows, 2, 2, generator=torch.Generator().manual_seed(seed)), places[..., 2:]], -1)
        yes = (places[:, 0, 0] < places[:, 1, 0]) == (token[:, 0] > 0)
        return (token.sign(), places, None), torch.stack([yes, ~yes], 1).float()

    fit(head, draw, 150)
    inputs, target = draw(1000, rows=2000)
    assert (head(*inputs).argmax(1) == target.argmax(1)).float().mean() > 0.97


def test_a_pair_that_training_never_showed_can_be_the_answer(pairs):
    """A red bowl is never shown: the token knows the noun, the look the colour."""

    def draw(seed, rows=128, shown=(2, 3, 4)):
        generator = torch.Generator().manual_seed(seed)
        answer = torch.tensor(shown)[torch.randint(len(shown), (rows,), generator=generator)]
        bowl, red = (answer % 2 == 1).float(), (answer <= 2).float()
        token, places, look = given(rows, seed=seed + 1)
        token, look = 0.3 * token, 0.3 * look
        token[:, 0], look[:, 0] = 2 * bowl - 1, 2 * red - 1
        return (token, places, look), F.one_hot(answer, 5).float()

    inputs, target = draw(1000, shown=(1,))
    logit = pairs(*inputs)[0, 1]
    found = torch.autograd.grad(logit, list(pairs.parameters()), allow_unused=True)
    assert logit.isfinite() and all(part is not None and part.abs().max() > 0 for part in found)
    fit(pairs, draw, 150)
    assert (pairs(*inputs).argmax(1) == target.argmax(1)).float().mean() > 0.95
