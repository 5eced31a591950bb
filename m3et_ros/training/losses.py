"""Losses of both training stages (docs/papers.md 1, 2.5): pure functions, in float32 even under autocast.

Symbols: B batch, n patches, S image side, s segmentation side, T text tokens, V vocabulary, A candidate answers,
    Q questions per sample, P pointing tokens of a question, I image tokens, C classes.
Means are MultiMAE's: first over the counted elements of a sample, then over the samples that have any.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from m3et_ros.layers.attention import HeadAttention
from m3et_ros.models.m3et.config import UNLABELLED

LEAST_WEIGHT = 1e-4
"""Added to an attention weight, so that its logarithm is finite."""


def sample_mean(errors: Tensor, counted: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean of (B, ...) errors where `counted` of the same shape is True: per sample, then over samples.

    Samples with nothing counted are left out; without any sample the result is 0, with zero gradients. Weights of the
    same shape, 1 or more, make some errors count more often within their sample.
    """
    counted = counted.expand_as(errors).flatten(1)
    # Selected rather than multiplied, because errors that do not count may be NaN.
    selected = torch.where(counted, errors.float().flatten(1), 0.0)
    number = counted.sum(1)
    if weights is not None:
        weights = counted * weights.expand_as(errors).flatten(1)
        selected, number = selected * weights, weights.sum(1)
    means = selected.sum(1) / number.clamp(min=1)
    return means.sum() / (number > 0).sum().clamp(min=1)


def patch_pixels(tokens: Tensor, patch: int) -> Tensor:
    """Expand a mask of the patches of a square grid, (B, n) bool, to pixels, (B, side * patch, side * patch)."""
    side = round(tokens.shape[1] ** 0.5)
    grid = tokens.unflatten(1, (side, side))
    return grid.repeat_interleave(patch, 1).repeat_interleave(patch, 2)


def rgb_loss(predicted: Tensor, target: Tensor, counted: Tensor) -> Tensor:
    """Return the mean squared error of standardised colours (B, 3, S, S) on the pixels counted, (B, S, S) bool."""
    return sample_mean((predicted.float() - target.float()).square(), counted[:, None])


def depth_loss(predicted: Tensor, target: Tensor, counted: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean absolute error of standardised depth (B, 1, S, S) on the pixels counted, (B, S, S) bool.

    The depth of pixels that do not count may have any value, also NaN. Weights are those of the pixels, (B, S, S).
    """
    target = torch.where(counted[:, None], target, 0.0)  # a NaN here would reach the gradient
    errors = (predicted.float() - target.float()).abs()
    return sample_mean(errors, counted[:, None], None if weights is None else weights[:, None])


def semseg_loss(logits: Tensor, target: Tensor, counted: Tensor, *, rarity: float = 0.0) -> Tensor:
    """Return the cross-entropy of logits (B, C, s, s) against ids (B, s, s) on the pixels counted, (B, s, s) bool.

    Unlabelled pixels (255) never count. With rarity r a class that fills the share f of the batch has a weight
    proportional to f^-r, and the mean weight of a pixel is 1. Without it small objects are hardly learnt beside walls.
    """
    errors = F.cross_entropy(logits.float(), target, ignore_index=UNLABELLED, reduction='none')
    counted = counted & (target != UNLABELLED)
    if rarity:
        number = torch.bincount(target[counted], minlength=logits.shape[1]).to(errors.dtype)
        weight = number.clamp(min=1) ** -rarity
        weight = weight * number.sum() / (weight * number).sum().clamp(min=1e-12)
        errors = errors * weight[target.clamp(max=logits.shape[1] - 1)]
    return sample_mean(errors, counted)


def text_loss(logits: Tensor, target: Tensor, counted: Tensor) -> Tensor:
    """Return the cross-entropy of word pieces (B, T, V) against ids (B, T) on the tokens counted, (B, T) bool."""
    return sample_mean(F.cross_entropy(logits.float().transpose(1, 2), target, reduction='none'), counted)


def answer_loss(logits: Tensor, scores: Tensor, counted: Tensor) -> Tensor:
    """Return the binary cross-entropy of (B, A) logits against soft scores in 0..1, summed over answers.

    The mean is over the samples counted, (B,) bool, the ones with a question; 0 if there are none.
    """
    errors = F.binary_cross_entropy_with_logits(logits.float(), scores.float(), reduction='none').sum(1)
    return sample_mean(errors[:, None], counted[:, None])


def class_presence(target: Tensor, classes: int, grid: int) -> Tensor:
    """Return the share of each patch that a class fills, relative to the patch that it fills most.

    Args:
        target: ids (B, s, s), 255 for unlabelled; s is a multiple of grid.
        classes: number of classes, C.
        grid: patches along a side.

    Returns:
        (B, grid * grid, classes) float32 in 0..1, patches in raster order.
    """
    side = target.shape[-1] // grid
    cells = target.unflatten(2, (grid, side)).unflatten(1, (grid, side)).transpose(2, 3).flatten(3).flatten(1, 2)
    # Pixels of a patch by class, the unlabelled ones last.
    counts = torch.zeros(*cells.shape[:2], classes + 1, device=target.device)
    counts.scatter_add_(2, cells.clamp(max=classes), torch.ones_like(cells, dtype=counts.dtype))
    filled = counts[..., :classes] / side**2
    return filled / filled.amax(1, keepdim=True).clamp(min=1e-6)


def pointing_loss(attention: HeadAttention, presence: Tensor, pointed: Tensor) -> Tensor:
    """Return -log of the attention weight that tokens give to the patches of the class that they name.

    The mean is over the named classes that are in the image; 0 if there are none.

    Args:
        attention: attention of T tokens of B * Q questions to I image tokens.
        presence: share of each image token that a class fills, (B, I, C) in 0..1.
        pointed: position of a token and the class that it names, (B * Q, P, 2) int64; -1 for none.
    """
    positions, classes = pointed.unbind(-1)
    classes = classes.view(len(presence), -1)
    targets = presence.transpose(1, 2).gather(1, classes.clamp(min=0)[..., None].expand(-1, -1, presence.shape[1]))
    weight = (attention.weights(positions.clamp(min=0)) * targets).sum(-1)
    counted = (classes >= 0) & (targets > 0).any(-1)
    return -torch.where(counted, (weight + LEAST_WEIGHT).log(), 0.0).sum() / counted.sum().clamp(min=1)


def slots_loss(weights: Tensor, pointed: Tensor) -> Tensor:
    """Return -log of the attention weight that the slots give to the words of the first and the second noun.

    A noun is a run of word pieces, one after the other, that name one class. The mean is over the nouns that there are
    a slot for; 0 if there are none.

    Args:
        weights: attention of the S slots to the T words of each question, (B * Q, S, T).
        pointed: as pointing_loss takes it, in the order of the words; positions from T on are not of words.
    """
    positions, classes = pointed.unbind(-1)
    slots, length = weights.shape[1:]
    same_noun = (classes[:, 1:] == classes[:, :-1]) & (positions[:, 1:] == positions[:, :-1] + 1)
    noun = F.pad((~same_noun).cumsum(1), (1, 0))[:, : classes.shape[1]]
    named = ((classes >= 0) & (positions < length))[:, None] & (
        noun[:, None] == torch.arange(slots, device=noun.device)[:, None]
    )
    weight = (weights.gather(2, positions.clamp(0, length - 1)[:, None].expand_as(named)) * named).sum(-1)
    counted = named.any(-1)
    return -torch.where(counted, (weight + LEAST_WEIGHT).log(), 0.0).sum() / counted.sum().clamp(min=1)


def generation_loss(logits: Tensor, answer: Tensor, mask: Tensor) -> Tensor:
    """Return the cross-entropy of an answer under teacher forcing.

    Args:
        logits: M3ET.text_logits of answer[:, :-1], (B, T - 1, V).
        answer: [CLS] pieces [SEP] pads, (B, T) int64; [SEP] is predicted like any piece.
        mask: (B, T) bool, False for pads; a row with pads only is a sample without an answer.
    """
    return text_loss(logits, answer[:, 1:], mask[:, 1:])
