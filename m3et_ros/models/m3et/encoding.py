"""Outputs of M3ET's encoder: of images alone, of images and words, of several frames.

Symbols: B batch, T text tokens, I image tokens, L tokens of the encoder (the global token is the last), d width,
    n patches of an image.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from m3et_ros.layers.hybrid import LayerState, Pass
from m3et_ros.models.m3et.config import MODALITIES

TEXT = MODALITIES.index('text')
GLOBAL = len(MODALITIES)
"""Source of the global token, after the indices of MODALITIES."""


@dataclass(frozen=True)
class ImageEncoding:
    """Encoding of images alone; M3ET.add_text makes an Encoded of it, with words or without."""

    # Outputs of the stages, each (B, I, d); the last one is normalised.
    stages: list[Tensor]
    # One per layer: the keys and values that words attend to, or the state from which their scan continues.
    states: list[LayerState]
    # Index in MODALITIES of each token, (B, I) int64.
    source: Tensor
    # (B, I) bool, False for fillers in front of samples that show fewer tokens than others; None = there are none.
    valid: Tensor | None
    # Bare tokens of every present image modality, (B, n, d): the decoders' queries. With decoder_queries 'encoded' the
    # outputs of the encoder in their places.
    tokens: Mapping[str, Tensor]
    # Which of them stand for something that the encoder was shown, (B, n) bool: not hidden, nor depth without a
    # measured pixel where the config has depth_validity.
    visible: Mapping[str, Tensor]
    # Raster position of each token in its image, (B, I) int64.
    position_ids: Tensor
    # Place and depth of the patch of each token, (B, I, 4) float32 (readout.token_places); None without a read-out.
    places: Tensor | None = None
    # Bare colour token at the patch of each token, (B, I, d) (readout.token_colours); None where no answer reads it.
    colours: Tensor | None = None
    # The encoder's input, (B, I, d), where images hear words and have not heard any yet; else None.
    embedded: Tensor | None = None


@dataclass(frozen=True)
class HeldEncoding:
    """An ImageEncoding with everything visible, and all that is needed to encode some of its patches anew."""

    image_encoding: ImageEncoding
    # Results of the encoder for all tokens.
    encoder_pass: Pass


@dataclass(frozen=True)
class Encoded:
    """Output of the encoder for a whole sequence, which decoders, answer heads and memories read."""

    # Outputs of the stages, each (B, L, d); the last one is normalised and is what decoders attend to.
    stages: list[Tensor]
    # Index in MODALITIES of each token, or GLOBAL, (B, L) int64.
    source: Tensor
    # (B, L) bool, False for pads of text, which come before the words; None = there are no pads.
    valid: Tensor | None
    # As in ImageEncoding, and the bare tokens of the words.
    tokens: Mapping[str, Tensor]
    # As in ImageEncoding.
    visible: Mapping[str, Tensor]
    # Position of each token in its image or text, 0 of the global token, (B, L) int64.
    position_ids: Tensor
    # (B, T) bool, False for pads; None = there is no text or no pad.
    text_mask: Tensor | None = None
    # Places that the first two nouns of the question attend to, (B, 2, 7) float32 (models.m3et.readout), 0 where there
    # are no images; None without a read-out.
    places: Tensor | None = None
    # Mean output of the encoder and mean bare colour token of what the question attends to, (B, 2 * d), 0 where there
    # are no images; None where no answer reads it.
    look: Tensor | None = None

    @property
    def context(self) -> Tensor:
        """Return the encoder output (B, L, d)."""
        return self.stages[-1]

    def sampled(self, every: int) -> 'Encoded':
        """Return every `every`-th sample, starting with the first: one question of `every` about each view."""

        def thin(value: Tensor | None) -> Tensor | None:
            return None if value is None else value[::every]

        return Encoded(
            [z[::every] for z in self.stages],
            self.source[::every],
            thin(self.valid),
            {name: tokens[::every] for name, tokens in self.tokens.items()},
            {name: visible[::every] for name, visible in self.visible.items()},
            self.position_ids[::every],
            thin(self.text_mask),
            thin(self.places),
            thin(self.look),
        )

    def summary(self) -> Tensor:
        """Return the mean of the encoder's text tokens (B, d); the global token for samples without text."""
        is_text = self.source == TEXT
        if self.valid is not None:
            is_text = is_text & self.valid
        weights = is_text[..., None].to(self.context.dtype)
        count = weights.sum(1)
        mean = (self.context * weights).sum(1) / count.clamp(min=1)
        return torch.where(count > 0, mean, self.context[:, -1])


def joined(images: ImageEncoding, text: Encoded) -> Encoded:
    """Return images and the text that follows them as one sequence, the images once for each of their questions."""
    each = len(text.source) // max(1, len(images.source))
    valid = None
    if images.valid is not None or text.valid is not None:
        of_images, of_text = (
            torch.ones_like(part.source, dtype=torch.bool) if part.valid is None else part.valid
            for part in (images, text)
        )
        valid = torch.cat([repeated(of_images, each), of_text], 1)
    return replace(
        text,
        stages=[torch.cat([repeated(a, each), b], 1) for a, b in zip(images.stages, text.stages, strict=True)],
        source=torch.cat([repeated(images.source, each), text.source], 1),
        position_ids=torch.cat([repeated(images.position_ids, each), text.position_ids], 1),
        valid=valid,
        tokens={name: repeated(t, each) for name, t in images.tokens.items()} | dict(text.tokens),
        visible={name: repeated(t, each) for name, t in images.visible.items()} | dict(text.visible),
    )


def repeated(value: Tensor, each: int) -> Tensor:
    """Return every row `each` times, one after the other."""
    return value if each == 1 else value.repeat_interleave(each, 0)


def sources(tokens: Tensor, source: int) -> Tensor:
    """Return the source of tokens (B, n, d) that are all of one kind: (B, n) int64."""
    return torch.full(tokens.shape[:2], source, device=tokens.device)


def raster_ids(tokens: Tensor) -> Tensor:
    """Return the positions 0..n-1 of tokens (B, n, d) in raster order: (B, n) int64."""
    return torch.arange(tokens.shape[1], device=tokens.device).expand(len(tokens), -1)


def join_frames(frames: Sequence[Encoded], *, every: int = 4) -> Encoded:
    """Make one context of several frames encoded with the same question (docs/papers.md 2.5, EQA).

    It holds every `every`-th patch token of each modality and frame, the text tokens of the last frame, and the mean
    of the global tokens: 8 frames of 196 patches give 392 + text + 1 tokens. Places and looks are means, too. There is
    no temporal model in it.

    Raises:
        ValueError: there are no frames, or every is below 1.
    """
    if not frames or every < 1:
        raise ValueError(f'{len(frames)} frames and every = {every}; give at least one of each')
    keep = torch.cat([_sampled_tokens(frame, every, text=frame is frames[-1]) for frame in frames], 1)
    order = (~keep).int().argsort(stable=True, dim=1)[:, : int(keep.sum(1).max())]
    stages = []
    for outputs in zip(*(frame.stages for frame in frames), strict=True):
        tokens = select(order, torch.cat([z[:, :-1] for z in outputs], 1))
        global_token = torch.stack([z[:, -1:] for z in outputs]).mean(0)
        stages.append(torch.cat([tokens, global_token], 1))
    source = select(order, torch.cat([frame.source[:, :-1] for frame in frames], 1))
    position_ids = select(order, torch.cat([frame.position_ids[:, :-1] for frame in frames], 1))
    valid = F.pad(select(order, keep), (0, 1), value=True)
    places, look = (_mean([getattr(frame, name) for frame in frames]) for name in ('places', 'look'))
    return Encoded(
        stages,
        F.pad(source, (0, 1), value=GLOBAL),
        valid,
        {},
        {},
        F.pad(position_ids, (0, 1)),
        places=places,
        look=look,
    )


def _mean(values: Sequence[Tensor | None]) -> Tensor | None:
    """Return the mean of one tensor of each frame; None where the frames have none."""
    found = [value for value in values if value is not None]
    return torch.stack(found).mean(0) if found else None


def _sampled_tokens(frame: Encoded, every: int, *, text: bool) -> Tensor:
    """Return which tokens of a frame, without the global one, a joined context holds: (B, L - 1) bool."""
    source = frame.source[:, :-1]
    valid = torch.ones_like(source, dtype=torch.bool) if frame.valid is None else frame.valid[:, :-1]
    keep = valid & (source == TEXT) & text
    for modality in range(TEXT):
        own = valid & (source == modality)
        keep = keep | own & ((own.cumsum(1) - 1) % every == 0)
    return keep


def returned(ids: Tensor, tokens: Tensor, count: int) -> Tensor:
    """Put tokens (B, K, d) into the places ids (B, K) of (B, count, d), zeros elsewhere: the inverse of select."""
    empty = tokens.new_zeros(len(tokens), count, tokens.shape[-1])
    return empty.scatter(1, ids[..., None].expand_as(tokens), tokens)


def select(ids: Tensor, tokens: Tensor) -> Tensor:
    """Take the tokens ids (B, K) of a tensor (B, L) or (B, L, d)."""
    return tokens.gather(1, ids if tokens.dim() == 2 else ids[..., None].expand(-1, -1, tokens.shape[-1]))
