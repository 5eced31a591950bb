"""Every loss against numbers worked out by hand."""

import math

import pytest
import torch

from m3et_ros.layers.attention import HeadAttention
from m3et_ros.training import losses

YES = torch.ones(1, 2, 2, dtype=torch.bool)


def test_means_are_per_sample_first_and_leave_empty_samples_out():
    errors = torch.tensor([[1.0, 3.0, math.nan], [10.0, 0.0, 0.0], [math.nan] * 3], requires_grad=True)
    counted = torch.tensor([[True, True, False], [True, False, False], [False] * 3])
    mean = losses.sample_mean(errors, counted)
    assert mean.item() == (2 + 10) / 2  # over all counted numbers it would be 14 / 3
    mean.backward()
    assert torch.equal(errors.grad, torch.tensor([[0.25, 0.25, 0], [0.5, 0, 0], [0, 0, 0]]))


def test_nothing_counted_is_zero_with_zero_gradients():
    errors = torch.ones(2, 3, requires_grad=True)
    mean = losses.sample_mean(errors, torch.zeros(2, 3, dtype=torch.bool))
    mean.backward()
    assert mean.item() == 0 and not errors.grad.any()


def test_patches_cover_their_pixels():
    pixels = losses.patch_pixels(torch.tensor([[True, False, False, True]]), 2)
    assert pixels.int().tolist() == [[[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]]


def test_colours():
    target = torch.zeros(1, 3, 2, 2)
    predicted = torch.zeros(1, 3, 2, 2)
    predicted[0, :, 0, 0] = torch.tensor([1.0, 2.0, 0.0])
    predicted[0, :, 1, 1] = 100.0
    counted = torch.tensor([[[True, True], [False, False]]])
    assert losses.rgb_loss(predicted, target, counted).item() == pytest.approx((1 + 4) / 6)


def test_unknown_depth_does_not_count_and_leaves_gradients_finite():
    target = torch.tensor([[[[1.0, math.nan], [3.0, 5.0]]]])
    predicted = torch.tensor([[[[2.0, 7.0], [3.5, 9.0]]]], requires_grad=True)
    counted = target[:, 0].isfinite() & torch.tensor([[[True, True], [True, False]]])
    loss = losses.depth_loss(predicted, target, counted)
    assert loss.item() == pytest.approx((1 + 0.5) / 2)
    loss.backward()
    assert predicted.grad.flatten().tolist() == [0.5, 0, 0.5, 0]


def test_segmentation_ignores_unlabelled_pixels():
    logits = torch.zeros(1, 4, 2, 2)
    logits[0, 2, 0, 0] = math.log(5.0)
    target = torch.tensor([[[2, 255], [1, 3]]])
    counted = torch.tensor([[[True, True], [True, False]]])
    assert losses.semseg_loss(logits, target, counted).item() == pytest.approx((math.log(8 / 5) + math.log(4)) / 2)
    assert losses.semseg_loss(logits, torch.full((1, 2, 2), 255), YES).item() == 0


def test_hidden_words():
    logits = torch.zeros(1, 3, 5)
    logits[0, 1, 4] = math.log(6.0)
    loss = losses.text_loss(logits, torch.tensor([[1, 4, 2]]), torch.tensor([[True, True, False]]))
    assert loss.item() == pytest.approx((math.log(5) + math.log(10 / 6)) / 2)


def test_answers_sum_over_candidates_and_average_over_questions():
    logits = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0], [50.0, -50.0]])
    scores = torch.tensor([[0.3, 1.0], [0.0, 0.0], [0.0, 1.0]])
    asked = torch.tensor([True, True, False])
    one = math.log(2) + math.log(4 / 3)  # at logit 0 the loss is log 2 whatever the target
    assert losses.answer_loss(logits, scores, asked).item() == pytest.approx((one + 2 * math.log(2)) / 2)
    assert losses.answer_loss(logits, scores, ~asked).item() == pytest.approx(100)


def test_the_end_of_an_answer_is_predicted():
    # [CLS] 5 [SEP] pad: the piece and [SEP] are predicted, the pad is not.
    answer, mask = torch.tensor([[2, 5, 3, 0]]), torch.tensor([[True, True, True, False]])
    logits = torch.zeros(1, 3, 6)
    logits[0, 1, 3] = math.log(15.0)
    assert losses.generation_loss(logits, answer, mask).item() == pytest.approx((math.log(6) + math.log(20 / 15)) / 2)
    assert losses.generation_loss(logits, answer, mask & False).item() == 0


def test_half_precision_is_summed_in_full():
    predicted = torch.full((1, 1, 64, 64), 1.0, dtype=torch.bfloat16)
    loss = losses.depth_loss(predicted, torch.zeros(1, 1, 64, 64), torch.ones(1, 64, 64, dtype=torch.bool))
    assert loss.dtype == torch.float32 and loss.item() == 1.0


def test_rare_classes_weigh_more_and_the_mean_pixel_one():
    target = torch.zeros(1, 4, 4, dtype=torch.int64)
    target[0, 0, 0], target[0, 3, 3] = 1, 255
    counted = torch.ones(1, 4, 4, dtype=torch.bool)
    logits = torch.zeros(1, 3, 4, 4)
    # Equal errors everywhere: weights whose mean is one change nothing.
    for rarity in (0.0, 0.5):
        assert losses.semseg_loss(logits, target, counted, rarity=rarity).item() == pytest.approx(math.log(3))
    logits[:, 1] = -5.0  # the single pixel of class 1 is wrong: of 15 it weighs 1 / 15, or more
    plain, balanced = (losses.semseg_loss(logits, target, counted, rarity=rarity).item() for rarity in (0.0, 0.5))
    wrong, right = math.log(2 + math.exp(-5)) + 5, math.log(2 + math.exp(-5))
    rare, common = 1.0, 14**-0.5
    total = rare + 14 * common
    assert plain == pytest.approx((wrong + 14 * right) / 15, rel=1e-4)
    assert balanced == pytest.approx((rare * wrong + 14 * common * right) / total, rel=1e-4)


def test_presence_is_the_share_of_the_fullest_patch():
    target = torch.full((1, 4, 4), 255)
    target[0, :2, :2], target[0, 0, 2] = 1, 1
    target[0, 3, 3] = 0
    presence = losses.class_presence(target, 3, 2)
    assert presence[0].tolist() == [[0, 1, 0], [0, 0.25, 0], [0, 0, 0], [1, 0, 0]]


def test_pointing_counts_the_weight_on_the_named_class():
    """Keys 0..3 and a query that prefers key 2 by log 5: weights 1, 1, 5, 1 of 8."""
    q = torch.zeros(2, 3, 4)  # one sample, two questions of three tokens
    q[0, 1, 0], q[1, 2, 0] = 2 * math.log(5), 2 * math.log(5)
    k = torch.zeros(1, 4, 4)
    k[0, 2, 0] = 1
    presence = torch.zeros(1, 4, 3)
    presence[0, 2, 0], presence[0, 3, 0], presence[0, 1, 1] = 1, 0.5, 1
    look = HeadAttention(q, k, None)

    def loss(*pointed):
        return losses.pointing_loss(look, presence, torch.tensor(pointed).view(2, -1, 2)).item()

    nothing = (-1, -1)
    assert loss((1, 0), nothing) == pytest.approx(-math.log(5.5 / 8 + 1e-4))
    assert loss(nothing, (2, 1)) == pytest.approx(-math.log(1 / 8 + 1e-4))
    assert loss((1, 0), (0, 1)) == pytest.approx(-(math.log(5.5 / 8 + 1e-4) + math.log(1 / 4 + 1e-4)) / 2)
    assert loss((1, 2), nothing) == 0  # class 2 is not in the picture


def test_slots_are_asked_for_the_first_and_the_second_noun():
    """T = 5 words; the first noun has two pieces, the second one, and a third noun has no slot."""
    weights = torch.tensor([[[0.1, 0.2, 0.3, 0.25, 0.15], [0.5, 0.1, 0.1, 0.2, 0.1]]])

    def loss(*pointed):
        return losses.slots_loss(weights, torch.tensor(pointed).view(1, -1, 2)).item()

    first, second = -math.log(0.5001), -math.log(0.2001)
    assert loss((1, 7), (2, 7), (5, 7)) == pytest.approx(first)  # position 5 is the global token
    assert loss((1, 7), (2, 7), (3, 8), (5, 7), (5, 8)) == pytest.approx((first + second) / 2)
    assert loss((1, 7), (2, 7), (3, 8), (4, 9), (-1, -1)) == pytest.approx((first + second) / 2)
    # The same class named twice is two nouns.
    assert loss((2, 7), (4, 7)) == pytest.approx(-(math.log(0.3001) + math.log(0.1001)) / 2)
    assert loss((5, 7)) == loss((-1, -1)) == 0
    assert losses.slots_loss(weights, torch.zeros(1, 0, 2, dtype=torch.int64)) == 0


def test_weights_count_errors_more_often_within_their_sample():
    errors = torch.tensor([[1.0, 5.0, torch.nan], [2.0, 4.0, 6.0]])
    counted = torch.tensor([[True, True, False], [True, True, True]])
    weights = torch.tensor([[3.0, 1.0, 3.0], [1.0, 1.0, 1.0]])
    assert losses.sample_mean(errors, counted, weights).item() == pytest.approx((8 / 4 + 4) / 2)
    assert losses.sample_mean(errors, counted).item() == pytest.approx((3 + 4) / 2)
