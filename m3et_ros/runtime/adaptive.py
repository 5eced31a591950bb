"""Encode what changed: which patches of a camera's next frame are encoded, and what is seen with the older ones.

Glossary: S side of the model's square image; p side of a patch; n patches of an image; N tokens of all images of a
frame; K of them that are encoded. A token's age is the number of frames since it was encoded.

A patch that is not encoded keeps its tokens of all stages, keys and values, and its place in every scan; those that are
encoded attend to it and are scanned with it (HybridStack.renew). What it does not do is learn of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from m3et_ros.data.frame import Frame
from m3et_ros.models.m3et.adapters import patchify
from m3et_ros.models.m3et.encoding import Held, ImageEncoding
from m3et_ros.models.m3et.model import M3ET

TOKENS = ('full', 'adaptive')
"""What the parameter `tokens` may be."""

CELLS = 4
"""Differences are taken between the means of so many cells along each side of a patch: half of a camera's grain is
gone at patches of 8 pixels, three quarters at 16, and hardly anything of an edge that moves."""


@dataclass(frozen=True)
class Adaptive:
    """When a patch is encoded.

    Raises:
        ValueError: a field is out of its range.
    """

    # Mean absolute difference of a patch from what it was when it was last encoded, in standardised colours or depth,
    # above which it has changed: 0..10. A grey level of 255 is 0.017; 0.8 m of the kitchen's depth is 1.
    threshold: float = 0.1
    # Share of all tokens that is encoded of every frame beside the changed ones, the oldest first: 0..1. None gets
    # older than its inverse, rounded up, in frames; 0 lets them grow old.
    refresh: float = 1 / 16
    # Share of changed tokens above which the frame is encoded whole: 0..1.
    whole_above: float = 0.6
    # Numbers of encoded tokens are rounded up to this many parts of all, so that shapes are few: 1..64.
    parts: int = 16
    # Seconds between two frames above which the later one is encoded whole: above 0.
    gap_s: float = 1.0

    def __post_init__(self):
        for name, low, high in (('threshold', 0, 10), ('refresh', 0, 1), ('whole_above', 0, 1), ('parts', 1, 64)):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f'{name} is {getattr(self, name)}; give {low} to {high}')
        if not self.gap_s > 0:
            raise ValueError(f'gap_s is {self.gap_s}; give seconds above 0')


def patch_changes(new: Tensor, old: Tensor, patch: int) -> Tensor:
    """Mean absolute difference (n,) of the cells of each patch of two images (1, C, S, S)."""
    cell = max(patch // CELLS, 1)
    return patchify(F.avg_pool2d(new - old, cell).abs(), patch // cell).mean(-1)[0]


def places_to_encode(changed: Tensor, age: Tensor, settings: Adaptive) -> Tensor:
    """Ids (K,) int64, rising, of the tokens to encode: the changed ones, then the oldest.

    Args:
        changed: (N,) bool.
        age: (N,) int64, frames.
        settings: how many.
    """
    N, asked = len(changed), int(changed.sum())
    if asked > settings.whole_above * N:
        return torch.arange(N, device=changed.device)
    wanted = asked + min(-int(-settings.refresh * N // 1), N - asked)
    # Rounded up to whole parts; room that is left over is the oldest ones' too.
    K = min(-(-wanted * settings.parts // N) * N // settings.parts, N) if wanted else 0
    order = age + changed * (age.max() + 1)
    return order.topk(max(K, wanted)).indices.sort().values


def patch_pixels(chosen: Tensor, patch: int) -> Tensor:
    """Patches (n,) bool of a square image as its pixels (S, S) bool."""
    side = int(len(chosen) ** 0.5)
    return chosen.view(side, side).repeat_interleave(patch, 0).repeat_interleave(patch, 1)


class Follower:
    """What is held of the frames of one camera."""

    def __init__(self, model: M3ET, settings: Adaptive | None = None):
        """Follow a camera.

        Args:
            model: encodes; where it is moved to another device, reset.
            settings: when a patch is encoded; None takes the defaults.
        """
        self.settings = settings or Adaptive()
        self._model = model
        self.reset()

    def reset(self) -> None:
        """Hold nothing, so that the next frame is encoded whole."""
        self._held: Held | None = None
        # Of each image what its patches were when they were encoded, and the age of all tokens.
        self._shown: dict[str, Tensor] = {}
        self._age = torch.zeros(0, dtype=torch.int64)
        # A frame that was asked about, and what is seen of all of it.
        self._asked: tuple[ImageEncoding, ImageEncoding] | None = None
        self._like: tuple = ()
        self._last_ns = 0

    def encode(self, inputs: Mapping[str, Tensor], frame: Frame) -> tuple[ImageEncoding, float]:
        """What is seen of the next frame, and the share of its tokens that was encoded for it.

        Args:
            inputs: image tensors of batch 1, as M3ET.encode_images takes them.
            frame: from which they were made: another size, camera or instruction, a step back in time and a gap all
                have it encoded whole.
        """
        like = (tuple(inputs), frame.rgb.shape, frame.frame_id, frame.instruction)
        step = frame.stamp_ns - self._last_ns
        if self._held is None or like != self._like or not 0 <= step <= self.settings.gap_s * 1e9:
            self._whole(inputs)
            share = 1.0
        else:
            share = self._go_on(inputs)
        self._like, self._last_ns = like, frame.stamp_ns
        return self._held.sight, share

    def whole(self, sight: ImageEncoding, inputs: Mapping[str, Tensor]) -> ImageEncoding:
        """What is seen of a frame with all of its patches encoded, for questions; encoded once, however many they are.

        Args:
            sight: what `see` said of the frame; if it is the newest, later ones go on from the whole.
            inputs: as `see` took them.
        """
        if self._asked is not None and self._asked[0] is sight:
            return self._asked[1]
        if self._held is None or self._held.sight is not sight:
            return self._model.encode_images(inputs)
        self._whole(inputs)
        self._asked = sight, self._held.sight
        return self._held.sight

    def _whole(self, inputs: Mapping[str, Tensor]) -> None:
        self._held = self._model.encode_changed(inputs)
        self._shown = dict(inputs)
        self._age = torch.zeros_like(self._held.sight.source[0])

    def _go_on(self, inputs: Mapping[str, Tensor]) -> float:
        patch, n = self._model.config.patch, self._model.config.image_tokens
        changed = torch.cat([patch_changes(image, self._shown[m], patch) for m, image in inputs.items()])
        places = places_to_encode(changed > self.settings.threshold, self._age, self.settings)
        self._age += 1
        if not len(places):
            return 0.0
        if len(places) == len(changed):
            self._whole(inputs)
            return 1.0
        self._held = self._model.encode_changed(inputs, places, self._held)
        self._age[places] = 0
        for (m, image), fresh in zip(inputs.items(), (self._age == 0).split(n)):
            self._shown[m] = torch.where(patch_pixels(fresh, patch), image, self._shown[m])
        return len(places) / len(changed)
