"""Spatial read-out: where in the images words attend, as numbers that later layers and the answer head can compare.

The pointing head is the first head of each T layer; its attention is trained to lie on the class that a word names
(training.losses.pointing_loss). The value that attention returns is a mean over patches, from which the place is hard
to recover. Here it is computed: the mean position under the attention, its spread, and the measured depth there.

A place is (x, y, spread of x, spread of y, depth, known, strength): x and y in 0..1 from the left and the top of the
image; the standard deviations of both; the mean standardised depth of what was measured there, 0 where nothing was; the
share of it that was measured, 0..1; and the logarithm of the mean of the exponential scores, which is high if anything
in the images matches the word, unlike the largest weight, which is of one patch.

Symbols: B samples, R rows (questions, the same number for each sample), L tokens of a row (words and the global one,
    which is the last), T words, n patches of an image, I image tokens, d width.
"""

import math
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from m3et_ros.layers.attention import HeadAttention
from m3et_ros.models.m3et.config import M3ETConfig
from m3et_ros.models.m3et.encoding import Encoded, ImageEncoding
from m3et_ros.ops.precision import no_autocast

PLACE = 7
"""Numbers of a place."""

SLOTS = 2
"""Nouns of a question whose places the answer head gets: the first and the second."""

MIDDLE, WIDTH = (0.5, 0.5, 0.2, 0.2, 0.0, 0.5, 4.0), (0.25, 0.25, 0.1, 0.1, 1.0, 0.5, 3.0)
"""About the mean and the deviation of the numbers of a place, by which they are standardised before a linear map."""

LEAST_VARIANCE, LEAST_SHARE, LEAST_WEIGHT = 1e-4, 1e-3, 1e-6
"""Added to a variance, a share and an attention weight, so that root, quotient and logarithm have finite gradients."""


def token_places(images: Mapping[str, Tensor], visible: Mapping[str, Tensor]) -> Tensor:
    """Return the place of each image token in raster order, and the measured depth of its patch.

    Tokens of other modalities at a patch share its depth, as far as its depth token is visible.

    Args:
        images: present image modalities in their order, as M3ET.encode_images takes them.
        visible: which of their tokens the encoder may see, (B, n) bool each.

    Returns:
        (B, I, 4) float32: x and y of the middle of the patch in 0..1, the mean standardised depth of its measured
        pixels, 0 where there are none, and their share in 0..1. Depth without validity counts as measured everywhere.
    """
    shown = next(iter(visible.values()))
    side = round(shown.shape[1] ** 0.5)
    middle = (torch.arange(side, device=shown.device) + 0.5) / side
    y, x = torch.meshgrid(middle, middle, indexing='ij')
    depth = known = torch.zeros(shown.shape, device=shown.device)
    if 'depth' in images:
        values = images['depth'].float()
        metres, validity = values[:, :1], values[:, 1:] if values.shape[1] > 1 else torch.ones_like(values)
        share = nn.functional.avg_pool2d(validity, values.shape[-1] // side).flatten(1)
        total = nn.functional.avg_pool2d(metres * validity, values.shape[-1] // side).flatten(1)
        known = share * visible['depth']
        depth = total / share.clamp(min=LEAST_SHARE) * visible['depth']
    one = torch.stack([x.flatten().expand_as(known), y.flatten().expand_as(known), depth, known], -1)
    return one.repeat(1, len(images), 1)


def token_colours(tokens: Mapping[str, Tensor], visible: Mapping[str, Tensor]) -> Tensor:
    """Return the colour token at the patch of each image token, before the encoder mixes it with others.

    Args:
        tokens: bare tokens of the present image modalities, (B, n, d) each.
        visible: which of them the encoder may see, (B, n) bool each.

    Returns:
        (B, I, d); zeros where the colours are hidden, or absent.
    """
    first = next(iter(tokens.values()))
    colours = torch.zeros_like(first)
    if 'rgb' in tokens:
        colours = tokens['rgb'] * visible['rgb'][..., None].to(first.dtype)
    return colours.repeat(1, len(tokens), 1)


def attended_places(attention: HeadAttention, where: Tensor) -> tuple[Tensor, Tensor]:
    """Return the places that tokens attend to, and their attention.

    Args:
        attention: attention of R rows of L tokens to I image tokens.
        where: token_places of the image tokens, (B, I, 4).

    Returns:
        Places (R, L, 7) and attention (R, L, I), both float32; zeros for a sample without a visible image token.
    """
    scores = attention.scores()
    weights = scores.softmax(-1)
    x, y, depth, known = where.unbind(-1)
    with no_autocast(attention.k.device):
        moments = weights @ torch.stack([x, y, x * x, y * y, depth * known, known], -1)
    mean, square, measured = moments.split(2, -1)
    spread = ((square - mean * mean).clamp(min=0) + LEAST_VARIANCE).sqrt()
    depth, share = measured.split(1, -1)
    tokens = torch.full_like(x[:, 0], x.shape[1]) if attention.mask is None else attention.mask.sum(1).float()
    strength = scores.logsumexp(-1, keepdim=True) - tokens.clamp(min=1).log()[:, None, None]
    places = torch.cat([mean, spread, depth / (share + LEAST_SHARE), share, strength], -1)
    if attention.mask is not None:
        places, weights = (t * attention.mask.any(1)[:, None, None] for t in (places, weights))
    length = attention.q.shape[1]
    return places.unflatten(1, (-1, length)).flatten(0, 1), weights.unflatten(1, (-1, length)).flatten(0, 1)


def standardised(places: Tensor) -> Tensor:
    """Return places (..., 7) with about mean 0 and deviation 1."""
    return (places - places.new_tensor(MIDDLE)) / places.new_tensor(WIDTH)


def _silent(inputs: int, outputs: int) -> nn.Linear:
    """Build a linear layer that returns 0."""
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def no_places(rows: int, config: M3ETConfig, like: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return Encoded.places and look of questions without images, on the device of `like` and the look in its dtype."""
    places = torch.zeros(rows, SLOTS, PLACE, device=like.device)
    return places, like.new_zeros(rows, 2 * config.d) if config.look_parts else None


class Readout(nn.Module):
    """Maps of places to tokens, the slots that find the nouns of a question, and the look at what they attend to.

    The look is the mean of image tokens under one sharpened attention, a mixture of that of the first noun and that of
    the global token. The share of each follows from their places alone, so the look depends on the words only through
    where they attend.
    """

    def __init__(self, config: M3ETConfig):
        super().__init__()
        layers = [index for index, letter in enumerate(config.schedule) if letter == 'T']
        # By index in the schedule. They start at 0, so that an untrained read-out changes nothing.
        self.maps = nn.ModuleDict({str(index): _silent(PLACE, config.d) for index in layers})
        self.last = layers[-1]
        self.slots = nn.Linear(config.d, SLOTS, bias=False)
        nn.init.normal_(self.slots.weight, std=0.02)
        self.looks = bool(config.look_parts)
        if self.looks:
            self.choice = nn.Linear(2 * PLACE, 1)
            self.log_sharpness = nn.Parameter(torch.tensor([math.log(2)]))

    def slot_weights(self, text: Encoded) -> Tensor:
        """Return the attention of the slots to the words, (R, 2, T) float32; zeros for a row without words.

        Args:
            text: words and global token alone, as M3ET.encode_text returns them.
        """
        scores = self.slots(text.context[:, :-1]).float().transpose(1, 2)
        if text.valid is None:
            return scores.softmax(-1)
        words = text.valid[:, None, :-1]
        return scores.masked_fill(~words, torch.finfo(scores.dtype).min).softmax(-1) * words

    def shares(self, slot: Tensor, global_token: Tensor) -> Tensor:
        """Return the share of the first slot in the look, (R, 1), given the places of both, (R, 7)."""
        return torch.sigmoid(self.choice(torch.cat([standardised(slot), standardised(global_token)], 1)))


class PlaceReader:
    """One pass of words over an image encoding: what HybridStack.forward calls as read_out, and its results."""

    def __init__(self, readout: Readout, images: ImageEncoding):
        self._readout, self._images = readout, images
        self._places = self._weights = torch.zeros(0)

    def __call__(self, index: int, attention: HeadAttention) -> Tensor:
        """Return what the places add to the tokens after the T layer of an index, (R, L, d)."""
        assert self._images.places is not None
        readout = self._readout
        places, weights = attended_places(attention, self._images.places)
        if index == readout.last:
            self._places, self._weights = places, weights
        layer = cast(nn.Linear, readout.maps[str(index)])
        added = layer(standardised(places).to(layer.weight.dtype))
        if attention.mask is not None:  # a sample without a visible image token is one without images
            each = len(added) // max(1, len(attention.k))
            added = added * attention.mask.any(1).repeat_interleave(each)[:, None, None]
        return added

    def results(self, text: Encoded) -> tuple[Tensor, Tensor | None]:
        """Return the places of the slots and the look, once the last layer has run.

        Args:
            text: words and global token of this pass.

        Returns:
            (R, 2, 7) float32, and (R, 2 * d): mean output of the encoder, then mean bare colour token; None without
            parts that are read from the look.
        """
        places = self._places.new_zeros(len(self._places), SLOTS, PLACE)
        pointed = torch.zeros_like(self._weights[:, 0])
        if text.context.shape[1] > 1:
            slots = self._readout.slot_weights(text)
            with no_autocast(slots.device):
                places = slots @ self._places[:, :-1]
                pointed = (slots[:, :1] @ self._weights[:, :-1])[:, 0]
        return places, self._look(pointed, places[:, 0]) if self._readout.looks else None

    def _look(self, pointed: Tensor, place: Tensor) -> Tensor:
        """Return the look, given attention (R, I) and place (R, 7) of the first slot."""
        readout, images = self._readout, self._images
        assert images.colours is not None
        dtype = readout.choice.weight.dtype
        with no_autocast(pointed.device):
            share = readout.shares(place.to(dtype), self._places[:, -1].to(dtype)).float()
            mixed = share * pointed + (1 - share) * self._weights[:, -1]
            logits = (mixed + LEAST_WEIGHT).log() * readout.log_sharpness.float().exp()
            logits = logits.unflatten(0, (len(images.source), len(logits) // max(1, len(images.source))))
            if images.valid is not None:
                logits = logits.masked_fill(~images.valid[:, None], torch.finfo(logits.dtype).min)
            weights = logits.softmax(-1)
            if images.valid is not None:
                weights = weights * images.valid.any(1)[:, None, None]
            means = (weights.to(values.dtype) @ values for values in (images.stages[-1], images.colours))
            return torch.cat([mean.flatten(0, 1) for mean in means], -1)
