"""Adaptive tokens: only the changed patches of a camera's next frame are encoded; the other tokens stay.

Symbols: S side of the model's square image; p side of a patch; n patches of an image; N tokens of all images of a
frame; K of them that are encoded. A token's age is the number of frames since it was encoded.

A patch that is not encoded keeps its tokens of all stages, its keys and values, and its place in every scan. Encoded
patches attend to it and are scanned with it (HybridStack.renew), but its own tokens are not updated by them.

A stem of convolutions always runs on the whole image, and the tokens of the encoded patches are taken from it. They
are those of a frame encoded whole. The token of another patch stays as it was, although pixels around that patch may
have changed; once they have changed by more than the threshold on average, it is encoded too.

Graphs (runtime.backends) have fixed shapes, so there is one for each of a few K, and the smallest that suffices encodes
the oldest patches, too, until it is full. A frame that needs more than the largest encodes is encoded whole.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from m3et_ros.data.frame import Frame
from m3et_ros.models.config_checks import check_number, check_whole
from m3et_ros.models.m3et.adapters import patchify
from m3et_ros.models.m3et.config import M3ETConfig
from m3et_ros.models.m3et.encoding import HeldEncoding, ImageEncoding
from m3et_ros.models.m3et.model import M3ET
from m3et_ros.runtime.backends.prepared import Prepared

CELLS = 4
"""Differences are taken between the means of so many cells along each side of a patch. This removes half of a camera's
grain from patches of 8 pixels and three quarters from those of 16, and hardly anything of a moving edge."""


@dataclass(frozen=True)
class Adaptive:
    """When a patch is encoded.

    Raises:
        ValueError: a field is out of its range.
    """

    # Mean absolute difference of a patch from its state when it was last encoded, in standardised colours or depth,
    # above which it has changed: 0..10. A grey level of 255 is 0.017; 0.8 m of the kitchen's depth is 1.
    threshold: float = 0.1
    # Share of all tokens that every frame encodes besides the changed ones, the oldest first: 0..1. No token gets
    # older than its inverse, rounded up, in frames; 0 sets no limit.
    refresh: float = 1 / 16
    # Share of changed tokens above which the frame is encoded whole: 0..1.
    whole_above: float = 0.6
    # Torch rounds numbers of encoded tokens up to this many parts of all, so that there are few shapes: 1..64.
    parts: int = 16
    # Seconds between two frames above which the later one is encoded whole: 0.001..1e9.
    gap_s: float = 1.0

    def __post_init__(self):
        check_number(self, {'threshold': (0, 10), 'refresh': (0, 1), 'whole_above': (0, 1), 'gap_s': (0.001, 1e9)})
        check_whole(self, {'parts': (1, 64)})


def patch_changes(new: Tensor, old: Tensor, patch: int, *, around: bool = False) -> Tensor:
    """Return the mean absolute difference (n,) of the cells of each patch of two images (1, C, S, S).

    Args:
        new: the image.
        old: the earlier image.
        patch: side of a patch.
        around: count the mean over a patch and half a patch around it, too, which is all that a token of a stem of
            convolutions depends on; the larger mean is returned.
    """
    cell = max(patch // CELLS, 1)
    cells, side = F.avg_pool2d(new - old, cell).abs(), patch // cell
    changes = patchify(cells, side).mean(-1)[0]
    if not around:
        return changes
    # Beyond the rim of the image nothing changes, so zeros there count.
    wide = F.avg_pool2d(cells.mean(1, keepdim=True), 2 * side, side, side // 2)
    return torch.maximum(changes, wide.flatten())


def input_changes(new: Mapping[str, Tensor], old: Mapping[str, Tensor], config: M3ETConfig) -> Tensor:
    """Return the change (N,) of every patch of the images of two frames, as encode_images takes them.

    Where depth has its validity, the change of a depth patch is that of the metres or that of the validity, whichever
    is larger.
    """
    changes = []
    for m, image in new.items():
        parts = [slice(0, 1), slice(1, 2)] if m == 'depth' and config.depth_validity else [slice(None)]
        around = config.stem == 'conv'
        each = [patch_changes(image[:, c], old[m][:, c], config.patch, around=around) for c in parts]
        changes.append(torch.stack(each).amax(0))
    return torch.cat(changes)


def tokens_to_encode(changed: Tensor, age: Tensor, settings: Adaptive, counts: Sequence[int] = ()) -> Tensor:
    """Return the ids (K,) int64, rising, of the tokens to encode: the changed ones, then the oldest.

    Args:
        changed: (N,) bool.
        age: (N,) int64, frames.
        settings: shares and rounding.
        counts: the numbers of tokens that can be encoded besides 0 and all, rising; () = any.
    """
    N, count = len(changed), int(changed.sum())
    if count > settings.whole_above * N:
        return torch.arange(N, device=changed.device)
    wanted = count + min(-int(-settings.refresh * N // 1), N - count)
    # Rounded up; the oldest tokens fill what is left over.
    if counts and wanted:
        K = next((count for count in counts if count >= wanted), N)
    else:
        K = max(min(-(-wanted * settings.parts // N) * N // settings.parts, N), wanted)
    order = age + changed * (age.max() + 1)
    return order.topk(K).indices.sort().values


def patch_pixels(chosen: Tensor, patch: int) -> Tensor:
    """Return the pixels (S, S) bool of the chosen patches (n,) bool of a square image."""
    side = int(len(chosen) ** 0.5)
    return chosen.view(side, side).repeat_interleave(patch, 0).repeat_interleave(patch, 1)


class StreamEncoder:
    """Encodes the frames of one camera, and holds what the next frame may reuse.

    Args:
        config: config of the model.
        runner: returns what encodes the next frame, the model or its graphs; call `reset` after moving it to another
            device.
        settings: when a patch is encoded; None takes the defaults.

    Attributes:
        age: age of every token of the newest frame, (N,) int64, in frames.
    """

    def __init__(self, config: M3ETConfig, runner: Callable[[], M3ET | Prepared], settings: Adaptive | None = None):
        self.settings = settings or Adaptive()
        self._config, self._runner = config, runner
        self.reset()

    def reset(self) -> None:
        """Hold nothing, so that the next frame is encoded whole."""
        self._held: HeldEncoding | None = None
        # The patches of each image as they were when last encoded.
        self._encoded_images: dict[str, Tensor] = {}
        self.age = torch.zeros(0, dtype=torch.int64)
        # The encoding of a frame, and the encoding of all of its patches that `complete` made of it.
        self._completed: tuple[ImageEncoding, ImageEncoding] | None = None
        self._stream_key: tuple = ()
        self._last_ns = 0

    def encode(self, inputs: Mapping[str, Tensor], frame: Frame) -> tuple[ImageEncoding, float]:
        """Encode the next frame of the stream.

        A frame of another size, camera or instruction, after a step back in time or after a gap, is encoded whole.

        Args:
            inputs: image tensors of batch 1, as M3ET.encode_images takes them.
            frame: from which they were made.

        Returns:
            The encoding, and the share of its tokens that was encoded for this frame.
        """
        key = (tuple(inputs), frame.rgb.shape, frame.frame_id, frame.instruction)
        step = frame.stamp_ns - self._last_ns
        if self._held is None or key != self._stream_key or not 0 <= step <= self.settings.gap_s * 1e9:
            held, share = self._encode_whole(inputs), 1.0
        else:
            held, share = self._encode_changes(inputs, self._held)
        self._stream_key, self._last_ns = key, frame.stamp_ns
        return held.image_encoding, share

    def complete(self, image_encoding: ImageEncoding, inputs: Mapping[str, Tensor]) -> ImageEncoding:
        """Return the encoding of all patches of a frame, for questions; it is computed once for all of them.

        Args:
            image_encoding: encoding of the frame, from `encode`. If it is the newest one, later frames continue from
                the result.
            inputs: as given to `encode`.
        """
        if self._completed is not None and self._completed[0] is image_encoding:
            return self._completed[1]
        if self._held is None or self._held.image_encoding is not image_encoding:
            return self._runner().encode_images(inputs)
        whole = self._encode_whole(inputs).image_encoding
        self._completed = image_encoding, whole
        return whole

    def _encode_whole(self, inputs: Mapping[str, Tensor]) -> HeldEncoding:
        self._held = self._runner().encode_changed(inputs)
        self._encoded_images = dict(inputs)
        self.age = torch.zeros_like(self._held.image_encoding.source[0])
        return self._held

    def _encode_changes(self, inputs: Mapping[str, Tensor], held: HeldEncoding) -> tuple[HeldEncoding, float]:
        patch, n, runner = self._config.patch, self._config.image_tokens, self._runner()
        changed = input_changes(inputs, self._encoded_images, self._config)
        counts = runner.part_counts(tuple(inputs)) if isinstance(runner, Prepared) else ()
        ids = tokens_to_encode(changed > self.settings.threshold, self.age, self.settings, counts)
        self.age += 1
        if not len(ids):
            return held, 0.0
        if len(ids) == len(changed):
            return self._encode_whole(inputs), 1.0
        self._held = runner.encode_changed(inputs, ids, held)
        self.age[ids] = 0
        for (m, image), fresh in zip(inputs.items(), (self.age == 0).split(n), strict=True):
            self._encoded_images[m] = torch.where(patch_pixels(fresh, patch), image, self._encoded_images[m])
        return self._held, len(ids) / len(changed)
