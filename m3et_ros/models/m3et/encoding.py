"""What the encoder of M3ET leaves behind: of images alone, of images and words, of several frames.

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
"""Source of the global token, beside the modalities' places in MODALITIES."""


@dataclass(frozen=True)
class ImageEncoding:
    """What the encoder keeps of images alone; listen makes an Encoded of it, with words or without."""

    # Outputs of the stages, each (B, I, d); the last one is normalised.
    stages: list[Tensor]
    # One a layer: what words attend to, or the state from which their scan goes on.
    states: list[LayerState]
    # Place of each token in MODALITIES, (B, I) int64.
    source: Tensor
    # (B, I) bool, False for the fillers of samples that show less than others, which stand first; None without any.
    valid: Tensor | None
    # Bare tokens of every present image modality, (B, n, d): the decoders' queries.
    tokens: Mapping[str, Tensor]
    # Which of them the encoder saw, (B, n) bool.
    visible: Mapping[str, Tensor]


@dataclass(frozen=True)
class Held:
    """A Sight of which everything is visible, with what it takes to see some of its patches anew."""

    sight: ImageEncoding
    # What the encoder computed of all tokens.
    passed: Pass


@dataclass(frozen=True)
class Encoded:
    """What the encoder leaves behind; decoders, answers and memories all read this."""

    # Outputs of the stages, each (B, L, d); the last one is normalised and is what decoders attend to.
    stages: list[Tensor]
    # Where each token came from, (B, L) int64: place in MODALITIES, or GLOBAL.
    source: Tensor
    # (B, L) bool, False for pads of text, which stand before the words; None where there is no pad.
    valid: Tensor | None
    # Bare tokens of every present modality, (B, n, d): the decoders' queries.
    tokens: Mapping[str, Tensor]
    # Which of them the encoder saw, (B, n) bool.
    visible: Mapping[str, Tensor]
    # (B, T) bool, False for pads; None where there is no text or no pad.
    text_mask: Tensor | None = None

    @property
    def context(self) -> Tensor:
        """Encoder output (B, L, d)."""
        return self.stages[-1]

    def sampled(self, every: int) -> 'Encoded':
        """Every `every`-th sample, from the first on: of so many questions about each view, the first."""

        def thin(value):
            return None if value is None else value[::every]

        return Encoded(
            [thin(z) for z in self.stages],
            thin(self.source),
            thin(self.valid),
            {name: thin(t) for name, t in self.tokens.items()},
            {name: thin(t) for name, t in self.visible.items()},
            thin(self.text_mask),
        )

    def summary(self) -> Tensor:
        """Mean of the encoder's text tokens (B, d); the global token of samples without text."""
        spoken = self.source == TEXT
        spoken = (spoken if self.valid is None else spoken & self.valid)[..., None].to(self.context.dtype)
        count = spoken.sum(1)
        mean = (self.context * spoken).sum(1) / count.clamp(min=1)
        return torch.where(count > 0, mean, self.context[:, -1])


def joined(sight: ImageEncoding, heard: Encoded) -> Encoded:
    """Images and the words that followed them, as one sequence; images stand before each of their questions."""
    each = len(heard.source) // len(sight.source)

    def more(value: Tensor) -> Tensor:
        return value if each == 1 else value.repeat_interleave(each, 0)

    valid = None
    if sight.valid is not None or heard.valid is not None:
        masks = [
            torch.ones_like(part.source, dtype=torch.bool) if part.valid is None else part.valid
            for part in (sight, heard)
        ]
        valid = torch.cat([more(masks[0]), masks[1]], 1)
    return replace(
        heard,
        stages=[torch.cat([more(seen), said], 1) for seen, said in zip(sight.stages, heard.stages)],
        source=torch.cat([more(sight.source), heard.source], 1),
        valid=valid,
        tokens={name: more(t) for name, t in sight.tokens.items()} | dict(heard.tokens),
        visible={name: more(t) for name, t in sight.visible.items()} | dict(heard.visible),
    )


def sources(tokens: Tensor, place: int) -> Tensor:
    """Source of tokens (B, n, d) that are all of one kind: (B, n) int64."""
    return torch.full(tokens.shape[:2], place, device=tokens.device)


def both_of(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """Where two masks hold; a mask that is None holds everywhere."""
    return a if b is None else b if a is None else a & b


def join_frames(frames: Sequence[Encoded], *, every: int = 4) -> Encoded:
    """Make one context of several frames encoded with the same question (docs/papers.md, section 2.5, EQA).

    Every `every`-th patch token of each modality and frame, the text tokens of the last frame and the mean of the
    global tokens: 8 frames of 196 patches leave 392 + text + 1 tokens. There is no temporal model in it.

    Raises:
        ValueError: no frames, or every below 1.
    """
    if not frames or every < 1:
        raise ValueError(f'{len(frames)} frames and every = {every}; give at least one of each')
    keep = torch.cat([_thinned(frame, every, last=frame is frames[-1]) for frame in frames], 1)
    source = torch.cat([frame.source[:, :-1] for frame in frames], 1)
    order = (~keep).int().argsort(stable=True, dim=1)[:, : int(keep.sum(1).max())]
    stages = []
    for outputs in zip(*(frame.stages for frame in frames)):
        (kept,) = select(order, torch.cat([z[:, :-1] for z in outputs], 1))
        centre = torch.stack([z[:, -1:] for z in outputs]).mean(0)
        stages.append(torch.cat([kept, centre], 1))
    source, valid = select(order, source, keep)
    return Encoded(stages, F.pad(source, (0, 1), value=GLOBAL), F.pad(valid, (0, 1), value=True), {}, {})


def _thinned(frame: Encoded, every: int, *, last: bool) -> Tensor:
    """Which tokens of a frame, global one left out, a joined context keeps: (B, L - 1) bool."""
    source = frame.source[:, :-1]
    valid = torch.ones_like(source, dtype=torch.bool) if frame.valid is None else frame.valid[:, :-1]
    keep = valid & (source == TEXT) & last
    for modality in range(TEXT):
        own = valid & (source == modality)
        keep = keep | own & ((own.cumsum(1) - 1) % every == 0)
    return keep


def select(ids: Tensor, *tensors: Tensor | None) -> list[Tensor | None]:
    """Take the tokens ids (B, K) of (B, L) and (B, L, d) tensors."""
    return [
        None if t is None else t.gather(1, ids if t.dim() == 2 else ids[..., None].expand(-1, -1, t.shape[-1]))
        for t in tensors
    ]
