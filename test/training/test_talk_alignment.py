"""EMMA's loss: both reductions, the rise of its weight, refusals."""

import pytest
import torch

from m3et_ros.training.talk import alignment_loss, alignment_weight


def test_the_published_sum_is_the_mean_times_its_size():
    predicted, target = torch.randn(2, 9, 5), torch.randn(2, 9, 5)
    mean = alignment_loss(predicted, target)
    assert torch.allclose(mean, (predicted - target).square().mean())
    assert torch.allclose(alignment_loss(predicted, target, reduction='sum_1e-5'), 1e-5 * 90 * mean)
    assert alignment_loss(target, target) == 0


def test_the_weight_rises_over_a_tenth_of_an_epoch():
    weights = [alignment_weight(step, steps_per_epoch=100, weight=0.5) for step in (0, 5, 10, 50)]
    assert weights == [0.0, 0.25, 0.5, 0.5]
    assert alignment_weight(0, steps_per_epoch=100, warm_up=0) == 1.0


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r'the prediction is \(1, 2, 3\) and the target \(1, 3, 2\)'):
        alignment_loss(torch.zeros(1, 2, 3), torch.zeros(1, 3, 2))
    with pytest.raises(ValueError, match="reduction is 'sum'; give one of mean, sum_1e-5"):
        alignment_loss(torch.zeros(1, 2, 3), torch.zeros(1, 2, 3), reduction='sum')
