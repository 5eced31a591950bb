"""From camera frames to model inputs, and from model outputs back to camera images.

The whole view is squeezed into the model's square, without a crop: every camera pixel gets an answer, and outputs
resized to (H, W) are aligned with the camera image and its intrinsics.

Symbols: H, W camera height and width in pixels; S side of the model's square image; s side of its label map; C
segmentation classes.
"""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from m3et_ros.data.frame import UNLABELLED, Frame
from m3et_ros.data.images import native
from m3et_ros.models.m3et.config import M3ETConfig

if TYPE_CHECKING:
    # Only the functions that need torch import it: it costs every process that renders kitchens a second and 200 MB.
    import torch

# Mean and standard deviation of ImageNet, R G B in 0..1: the standardisation of docs/papers.md 2.5.
RGB_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
RGB_STD = np.array([0.229, 0.224, 0.225], np.float32)


def squeeze_rgb(rgb: np.ndarray, size: int) -> np.ndarray:
    """Squeeze colours (H, W, 3) uint8 to (S, S, 3) by means over areas; a view of that size is returned as it is."""
    if rgb.shape[:2] == (size, size):
        return rgb
    return cv2.resize(halved(rgb, size), (size, size), interpolation=cv2.INTER_AREA)


def bicubic_square(
    rgb: np.ndarray, size: int, *, pad: bool = False, mean: np.ndarray | float = 0.5, std: np.ndarray | float = 0.5
) -> np.ndarray:
    """Scale colours (H, W, 3) uint8 to a square by bicubic filters and standardise them, by default as for SigLIP.

    Args:
        rgb: the image.
        size: side S of the square.
        pad: put the image in the middle of a grey square; False squeezes it.
        mean: subtracted from colours in 0..1, one value or (3,).
        std: divides them then, one value or (3,).

    Returns:
        (3, S, S) float32; in -1..1 by default.
    """
    from PIL import Image

    if pad:
        height, width = rgb.shape[:2]
        side = max(height, width)
        top, left = (side - height) // 2, (side - width) // 2
        square = np.full((side, side, 3), 127, np.uint8)
        square[top : top + height, left : left + width] = rgb
        rgb = square
    scaled = np.asarray(Image.fromarray(rgb).resize((size, size), Image.Resampling.BICUBIC), np.float32)
    return ((scaled / 255 - mean) / std).transpose(2, 0, 1).astype(np.float32)


def halved(image: np.ndarray, size: int) -> np.ndarray:
    """Halve an image while both sides are even and stay at least 2 S: a quick first step of squeezing.

    OpenCV takes a tenth of the time for means over two by two pixels as for means over areas of any size.
    """
    while min(image.shape[:2]) >= 4 * size and not any(side % 2 for side in image.shape[:2]):
        image = cv2.resize(image, (image.shape[1] // 2, image.shape[0] // 2), interpolation=cv2.INTER_AREA)
    return image


def squeeze_depth(depth: np.ndarray, size: int) -> np.ndarray:
    """Squeeze depth (H, W) in metres, NaN unknown, to (S, S) float32.

    A small pixel is the mean of the known pixels it covers, so that holes do not bleed into their surroundings.
    """
    if depth.shape == (size, size):
        return depth
    if depth.dtype == np.float32 and native.takes(depth, size):
        return native.area_depth(depth, size)
    known = np.isfinite(depth)
    # OpenCV copies under a mask four times as fast as NumPy, and leaves 0 elsewhere.
    zeroed = cv2.copyTo(np.ascontiguousarray(depth, np.float32), known.view(np.uint8))
    weight, total = (
        cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA) for image in (known.astype(np.float32), zeroed)
    )
    covered = weight > 1e-3
    return np.where(covered, total / np.where(covered, weight, 1), np.float32(np.nan))


def squeeze_labels(labels: np.ndarray, size: int, *, votes: int = 4) -> np.ndarray:
    """Squeeze a label map (H, W) uint8 to (s, s): the commonest label of each cell, the smallest id on a draw.

    A map of that size is returned as it is.

    Args:
        labels: class ids, any uint8 value.
        size: s.
        votes: pixels that vote along each side of a cell.
    """
    if labels.shape == (size, size):
        return labels
    fine = cv2.resize(labels, (size * votes, size * votes), interpolation=cv2.INTER_NEAREST)
    cells = fine.reshape(size, votes, size, votes).transpose(0, 2, 1, 3).reshape(size, size, votes**2)
    present = np.unique(cells)
    counts = (cells[..., None] == present).sum(2)
    return present[counts.argmax(-1)]


@dataclass(frozen=True)
class DepthScale:
    """Standardisation of one depth image: z = standard * std + mean, in metres."""

    mean: float
    std: float
    # Measured depth as the model got it, (S, S) in metres, NaN unknown; None where it was not kept.
    measured: np.ndarray | None = field(default=None, compare=False, repr=False)


def rgb_input(rgb: np.ndarray, size: int) -> 'torch.Tensor':
    """Return standardised colours (1, 3, S, S) float32 of an (H, W, 3) uint8 image."""
    import torch

    factor, offset = 1 / (255 * RGB_STD), RGB_MEAN / RGB_STD
    rgb = halved(rgb, size)
    if native.takes(rgb, size):
        return torch.from_numpy(native.area_rgb(rgb, size, factor, offset))[None]
    # Planes first: each is then standardised in one go by a single number.
    planes = squeeze_rgb(rgb, size).transpose(2, 0, 1).astype(np.float32)
    planes *= factor[:, None, None]
    planes -= offset[:, None, None]
    return torch.from_numpy(planes)[None]


def depth_scale(depth: np.ndarray | None, config: M3ETConfig) -> DepthScale | None:
    """Return the scale by which depth is standardised; None when it cannot be known.

    'fixed': the model's own metres. 'image': mean and deviation of the known values between the 10th and the 90th
    percentile of this image (MultiMAE; docs/papers.md 1), so without measured depth there are no metres to return to.
    """
    if config.depth_norm == 'fixed':
        return DepthScale(config.depth_mean, config.depth_std)
    known = depth[np.isfinite(depth)] if depth is not None else np.empty(0, np.float32)
    if known.size == 0:
        return None
    low, high = np.percentile(known, (10, 90))
    middle = known[(known >= low) & (known <= high)]
    return DepthScale(float(middle.mean()), float(np.sqrt(middle.var() + 1e-6)))


def depth_input(depth: np.ndarray, size: int, scale: DepthScale, *, validity: bool = False) -> 'torch.Tensor':
    """Return standardised depth (1, 1, S, S) float32 of (H, W) metres; unknown pixels become 0, the mean.

    Args:
        depth: metres, NaN unknown.
        size: S.
        scale: standardisation.
        validity: add a second channel, 1 where a pixel is known and 0 elsewhere: (1, 2, S, S).
    """
    import torch

    squeezed = squeeze_depth(depth, size)
    known = np.isfinite(squeezed)
    standard = np.divide(squeezed - scale.mean, scale.std, dtype=np.float32)
    channels = np.empty((2 if validity else 1, size, size), np.float32)
    channels[0] = np.where(known, standard, np.float32(0))
    channels[1:] = known
    return torch.from_numpy(channels)[None]


def image_inputs(frame: Frame, config: M3ETConfig) -> tuple[dict[str, 'torch.Tensor'], DepthScale | None]:
    """Return the model inputs of a frame without its text, and the scale of its depth.

    Depth without a single known pixel is a missing modality: no tokens rather than zeros.
    """
    scale = depth_scale(frame.depth, config)
    inputs = {'rgb': rgb_input(frame.rgb, config.image_size)}
    if frame.depth is not None and scale is not None:
        measured = squeeze_depth(frame.depth, config.image_size)
        scale = replace(scale, measured=measured)
        if np.isfinite(measured).any():
            inputs['depth'] = depth_input(measured, config.image_size, scale, validity=config.depth_validity)
    return inputs, scale


def mask_output(logits: 'torch.Tensor', size: int, shape: tuple[int, int]) -> np.ndarray:
    """Return class ids (H, W) uint8 of logits (1, C, s, s); UNLABELLED where the logits are not finite.

    Args:
        logits: logits of the segmentation decoder.
        size: S, to which logits are smoothed before the classes are chosen.
        shape: (H, W).
    """
    planes = logits[0].float().cpu()
    ids = native.best_class(planes.numpy(), size)
    if ids is not None:
        return cv2.resize(ids, shape[::-1], interpolation=cv2.INTER_NEAREST)
    # Classes last, as OpenCV resizes and NumPy compares them: a third of the time that torch takes with planes.
    scores = planes.permute(1, 2, 0).contiguous().numpy()
    smooth = cv2.resize(scores, (size, size), interpolation=cv2.INTER_LINEAR)
    ids = smooth.argmax(-1).astype(np.uint8)
    if not np.isfinite(scores).all():
        ids[~np.isfinite(smooth.max(-1))] = UNLABELLED
    return cv2.resize(ids, shape[::-1], interpolation=cv2.INTER_NEAREST)


def overlay(rgb: np.ndarray, mask: np.ndarray, colors: np.ndarray, alpha: float) -> np.ndarray:
    """Lay class colours over the camera image and return (H, W, 3) uint8.

    Args:
        rgb: (H, W, 3) uint8.
        mask: class ids (H, W) uint8; UNLABELLED pixels keep the camera's colour.
        colors: (256, 3) uint8, the colour of every pixel value.
        alpha: weight of the class colour in 0..1.
    """
    mixed = cv2.addWeighted(rgb, 1 - alpha, colors[mask], alpha, 0)
    return np.where((mask == UNLABELLED)[..., None], rgb, mixed)
