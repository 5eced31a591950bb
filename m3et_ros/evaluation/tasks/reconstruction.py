"""Measure the reconstruction of frames: hidden patches, holes in depth, and colour alone (docs/papers.md 2.4, 2.6).

    frames = measure_frames(model, KitchenSamples(cache, questions=False))
    reconstruction_scores(frames)

Each frame takes three passes: `hidden`, clean images with 70 % of all tokens hidden; `full`, colour and noisy depth as
a camera gives them; `rgb_only`, the same without depth.

Symbols: B batch, S image side, s side of the label map, K classes, n patches of an image.
"""

import functools
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from m3et_ros.data.depth_fill import FillBlend, carry, smooth
from m3et_ros.data.frame import UNLABELLED
from m3et_ros.data.noise import Noise, disturb
from m3et_ros.data.preprocess import RGB_MEAN, RGB_STD, DepthScale, depth_input, squeeze_depth, squeeze_labels
from m3et_ros.data.progress import Progress, no_progress
from m3et_ros.data.sample import Batch, Sample, collate
from m3et_ros.evaluation.batches import BATCH, cluster_of, in_batches, measured, shown_inputs
from m3et_ros.evaluation.metrics.depth import depth_sums
from m3et_ros.evaluation.metrics.hole_filling import FILLERS, known_mask
from m3et_ros.evaluation.metrics.psnr import patch_mask, psnr_hidden, psnr_pasted, unstandardise
from m3et_ros.evaluation.metrics.segmentation import confusion
from m3et_ros.models.m3et.config import IMAGE_MODALITIES
from m3et_ros.models.m3et.masking import draw, visible_total
from m3et_ros.models.m3et.model import M3ET

NOISE = Noise(mirror=0)
"""The noise of training without mirroring, which would add nothing to the measurement."""

Columns = dict[str, np.ndarray]
"""Name to measurements, one row for each frame."""

Found = tuple[Columns, dict[str, np.ndarray]]
"""Measurements and images of a batch by name, one row for each frame."""


@dataclass
class Frames:
    """Measurements frame by frame; a column is missing if model or samples lack what it needs.

    psnr_hidden, psnr_pasted: (n,) decibels; the first is NaN where no colour was hidden.
    rgb_hidden: (n,) share of the colour patches that were hidden.
    hidden_depth, known, rgb_only_depth, holes_<way of filling>: (n, 4) sums of depth.depth_sums.
    hidden_labels, labels, rgb_only_labels: (n, K, K) matrices of segmentation.confusion.
    """

    # Keys of the samples.
    keys: list[str]
    # Kitchens or recordings of the samples; intervals are over clusters.
    clusters: list[str]
    columns: Columns
    # Number of the frame -> images by name: rgb, masked and rebuilt (S, S, 3) in 0..1; measured, completed and true
    # depth (S, S) in metres, NaN unknown; predicted and true labels (s, s), 255 unlabelled.
    images: dict[int, dict[str, np.ndarray]] = field(default_factory=dict)


def without_context(model: M3ET) -> M3ET:
    """Return a copy whose decoders have no cross-attention and so no access to the encoder (docs/papers.md 2.6)."""
    other = M3ET(replace(model.config, cross_attention=False)).to(model.positions.device)
    # Weights of the cross-attention are left over; everything else must be there.
    left = other.load_state_dict(model.state_dict(), strict=False)
    assert not left.missing_keys
    return other.eval()


def measure_frames(
    model: nn.Module,
    samples: Dataset[Sample],
    *,
    seed: int = 0,
    noise: Noise | None = NOISE,
    batch: int = BATCH,
    pictures: Collection[int] = (),
    progress: Progress = no_progress,
) -> Frames:
    """Run all passes over every sample.

    Args:
        model: M3ET with image decoders; its device and mode are restored.
        samples: map-style and clean; labels of a kitchen must be those of the model.
        seed: seed of masks and noise, which depend only on it and the number of the frame.
        noise: noise of the camera in the passes full and rgb_only; None for samples of a real camera.
        batch: frames at a time.
        pictures: numbers of the frames whose images are returned.
        progress: see data.progress.Progress.

    Raises:
        ValueError: the model predicts depth that is not finite.
    """
    count = len(samples)
    clean = (samples[i] for i in progress(range(count), count, 'frames', 'frame'))
    disturbed = (
        (i, _Pair(sample, disturb(sample, noise, np.random.default_rng((seed, i))) if noise else sample))
        for i, sample in enumerate(clean)
    )
    # Batches are formed by the depth of the noisy image, which may be missing.
    pairs: dict[int, _Pair] = {}
    pictured = set(pictures)

    def noisy() -> Iterator[tuple[int, Sample]]:
        for i, pair in disturbed:
            pairs[i] = pair
            yield i, pair.noisy

    found = Frames([''] * count, [''] * count, {})
    with measured(model) as device:
        for group in in_batches(noisy(), batch):
            numbers = [i for i, _ in group]
            group_pairs = [pairs.pop(i) for i in numbers]
            for number, pair in zip(numbers, group_pairs, strict=True):
                found.keys[number], found.clusters[number] = pair.noisy.key, cluster_of(pair.clean)
            columns, images = Passes(model, group_pairs, [(seed, i) for i in numbers], device).run()
            for name, values in columns.items():
                found.columns.setdefault(name, np.zeros((count, *values.shape[1:]), values.dtype))[numbers] = values
            for row, number in enumerate(numbers):
                if number in pictured:
                    found.images[number] = {name: values[row] for name, values in images.items()}
    return found


@dataclass(frozen=True)
class _Pair:
    """A frame without and with the noise of a camera."""

    clean: Sample
    noisy: Sample


class Passes:
    """The three passes of one batch.

    Args:
        model: the model, in evaluation mode.
        pairs: the frames.
        seeds: seeds of the mask of each frame.
        device: device of the model.
    """

    def __init__(
        self, model: nn.Module, pairs: Sequence[_Pair], seeds: Sequence[tuple[int, int]], device: torch.device
    ):
        self.model, self.config, self.device, self.seeds = model, model.config, device, seeds
        self.clean = collate([pair.clean for pair in pairs], model.config)
        self.noisy = collate([pair.noisy for pair in pairs], model.config)
        self.measured = _stacked([pair.noisy.depth for pair in pairs], squeeze_depth, model.config.image_size)
        labels = _stacked([pair.clean.semseg for pair in pairs], squeeze_labels, model.config.semseg_size)
        self.labels = labels if 'semseg' in model.config.tasks else None

    def run(self) -> Found:
        """Run all passes; return measurements and images of the batch."""
        columns, images = {}, {}
        for one_pass in (self.hidden, self.full, self.rgb_only):
            more_columns, more_images = one_pass()
            columns |= more_columns
            images |= more_images
        return columns, images

    def hidden(self) -> Found:
        """Hide 70 % of all tokens of the clean images; the shares of the modalities are drawn for each frame."""
        inputs = shown_inputs(self.clean, IMAGE_MODALITIES, self.device)
        counts = {name: self.config.image_tokens for name in IMAGE_MODALITIES if name in inputs}
        drawn = [draw(counts, batch=1, total=visible_total(counts), generator=_generator(seed)) for seed in self.seeds]
        encoded = self.model.encode(inputs, visible=torch.cat([one.visible for one in drawn]).to(self.device))
        hidden = {name: ~torch.cat([one.masks[name] for one in drawn]).numpy() for name in counts}

        def where(task: str, side: int) -> np.ndarray:
            patches = hidden.get(task, np.ones((len(self.seeds), self.config.image_tokens), bool))
            return patch_mask(patches, (side, side), side // self.config.grid)

        columns, images = self._rgb(encoded, where)
        columns |= self._depth('hidden_depth', encoded, self.clean, where('depth', self.config.image_size))[0]
        return columns | self._labels('hidden_labels', encoded, where('semseg', self.config.semseg_size))[0], images

    def full(self) -> Found:
        """Encode colour and noisy depth: measure segmentation, and depth inside and outside the holes."""
        encoded = self.model.encode(shown_inputs(self.noisy, ('rgb', 'depth'), self.device))
        columns, images = self._labels('labels', encoded)
        if 'depth' not in self.config.tasks or self.measured is None:
            return columns, images
        known = known_mask(self.measured)
        # Without any known depth a filler has nothing to fill from.
        holes = ~known & known.any((1, 2), keepdims=True)
        known_sums, more = self._depth('known', encoded, self.noisy, known)
        truth, predicted = more['depth'], more['completed']
        # As the robot fills holes: weights without a channel of validity do so from colours alone.
        from_depth = self.config.depth_validity or 'rgb' not in self.config.modalities
        if not from_depth:
            predicted = _metres(self.model.decode(self._colours, 'depth'), self.noisy)
        filled = [
            self._fill(row, one.astype(np.float32), depth, from_depth=from_depth)
            for row, (one, depth) in enumerate(zip(predicted, self.measured, strict=True))
        ]
        ways = {way: np.stack([one[way] for one in filled]) for way in filled[0]} | {'model_alone': predicted}
        columns |= known_sums | {f'holes_{way}': depth_sums(depth, truth, holes) for way, depth in ways.items()}
        more = more | {'completed': np.where(known, self.measured, ways['auto'])}
        for name, fill in FILLERS.items():
            filled = np.stack(
                [fill(depth) if where.any() else depth for depth, where in zip(self.measured, known, strict=True)]
            )
            columns[f'holes_{name}'] = depth_sums(filled, truth, holes)
        return columns, images | more | {'measured': self.measured}

    def rgb_only(self) -> Found:
        """Encode colour without depth."""
        if 'rgb' not in self.config.modalities:
            return {}, {}
        columns = self._depth('rgb_only_depth', self._colours, self.noisy)[0]
        return columns | self._labels('rgb_only_labels', self._colours)[0], {}

    @functools.cached_property
    def _colours(self) -> Any:
        """The encoding of the noisy colours without depth."""
        return self.model.encode(shown_inputs(self.noisy, ('rgb',), self.device))

    def _fill(self, row: int, predicted: np.ndarray, depth: np.ndarray, *, from_depth: bool) -> dict[str, np.ndarray]:
        """Fill the holes of one frame by the model, by a smooth surface, and by the blend after one check.

        Args:
            row: number of the frame in the batch.
            predicted: (S, S) in metres.
            depth: (S, S) in metres, NaN unknown.
            from_depth: the prediction depends on the measured depth.

        Returns:
            'model', 'smooth' and 'auto': (S, S) in metres; the prediction itself where nothing was measured.
        """
        if not known_mask(depth).any():
            return dict.fromkeys(('model', 'smooth', 'auto'), predicted)
        blend = FillBlend()
        blend.check(depth, lambda given: self._predicted_from(row, given) if from_depth else predicted)
        return {
            'model': carry(predicted, depth),
            'smooth': smooth(depth, depth),
            'auto': blend.fill(predicted, depth, depth),
        }

    def _predicted_from(self, row: int, depth: np.ndarray) -> np.ndarray:
        """Predict depth (S, S) in metres for a frame of the batch with other measured depth."""
        mean, std = self.noisy.scale[row].tolist()
        inputs = {
            name: value[row : row + 1]
            for name, value in shown_inputs(self.noisy, ('rgb', 'depth'), self.device).items()
        }
        holed = depth_input(depth, self.config.image_size, DepthScale(mean, std), validity=self.config.depth_validity)
        decoded = self.model.decode(self.model.encode(inputs | {'depth': holed.to(self.device)}), 'depth')
        return decoded[0, 0].float().cpu().numpy() * np.float32(std) + np.float32(mean)

    def _rgb(self, encoded: Any, where: Callable[[str, int], np.ndarray]) -> Found:
        if 'rgb' not in self.config.tasks or 'rgb' not in self.config.modalities:
            return {}, {}
        hidden = where('rgb', self.config.image_size)
        truth = unstandardise(self.clean.inputs['rgb'], RGB_MEAN, RGB_STD)
        predicted = unstandardise(self.model.decode(encoded, 'rgb'), RGB_MEAN, RGB_STD)
        columns = {
            'psnr_hidden': psnr_hidden(predicted, truth, hidden),
            'psnr_pasted': psnr_pasted(predicted, truth, hidden),
            'rgb_hidden': hidden.mean((1, 2)),
        }
        true, rebuilt = (colours.transpose(0, 2, 3, 1) for colours in (truth, predicted))
        return columns, {'rgb': true, 'masked': np.where(hidden[..., None], 0.5, true), 'rebuilt': rebuilt}

    def _depth(self, name: str, encoded: Any, batch: Batch, where: np.ndarray | None = None) -> Found:
        if 'depth' not in self.config.tasks or batch.depth is None:
            return {}, {}
        truth, predicted = _metres(batch.depth, batch), _metres(self.model.decode(encoded, 'depth'), batch)
        return {name: depth_sums(predicted, truth, where)}, {'completed': predicted, 'depth': truth}

    def _labels(self, name: str, encoded: Any, where: np.ndarray | None = None) -> Found:
        if self.labels is None:
            return {}, {}
        predicted = self.model.decode(encoded, 'semseg').argmax(1).cpu().numpy()
        truth = self.labels if where is None else np.where(where, self.labels, UNLABELLED)
        return {name: confusion(predicted, truth, self.config.classes)}, {'predicted': predicted, 'labels': truth}


def _stacked(
    images: list[np.ndarray | None], squeeze: Callable[[np.ndarray, int], np.ndarray], size: int
) -> np.ndarray | None:
    """Return images at the model's size, (B, size, size), resized as collate does; None where one is missing."""
    if any(image is None for image in images):
        return None
    return np.stack([image if image.shape == (size, size) else squeeze(image, size) for image in images])


def _generator(seed: tuple[int, int]) -> torch.Generator:
    """Return the generator of the mask of one frame."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] >> 1))


def _metres(standardised: Tensor, batch: Batch) -> np.ndarray:
    """Convert standardised depth (B, 1, S, S) to metres, (B, S, S)."""
    mean, std = batch.scale.double().T[:, :, None, None]
    return (standardised[:, 0].double().cpu() * std + mean).numpy()
