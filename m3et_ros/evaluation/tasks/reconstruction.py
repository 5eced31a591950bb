"""Frames through a model: what it makes of hidden patches, of holes in depth and of colour alone (docs/papers.md 2.4, 2.6).

    reconstruction_run(model, KitchenSamples(cache, questions=False))

Three passes over each frame: `hidden`, clean pictures of which 70 % of all tokens are hidden; `full`, colour and noisy
depth as a camera gives them; `rgb_only`, the same without depth.

Symbols: B batch, S image side, s side of the label map, K classes, n patches of an image.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from m3et_ros.data.noise import Noise, disturb
from m3et_ros.data.preprocess import RGB_MEAN, RGB_STD, met, squeeze_depth, squeeze_labels
from m3et_ros.data.progress import Progress, no_progress
from m3et_ros.data.sample import Batch, Sample, collate
from m3et_ros.evaluation.batches import BATCH, in_batches, measured, shown_inputs
from m3et_ros.evaluation.metrics.depth import depth_sums
from m3et_ros.evaluation.metrics.hole_filling import FILLERS, known_mask
from m3et_ros.evaluation.metrics.psnr import patch_mask, psnr_hidden, psnr_pasted, unstandardise
from m3et_ros.evaluation.metrics.segmentation import IGNORED, confusion
from m3et_ros.models.m3et.config import IMAGE_MODALITIES
from m3et_ros.models.m3et.masking import draw, visible_total
from m3et_ros.models.m3et.model import M3ET

NOISE = Noise(mirror=0)
"""A camera as in training; a mirrored kitchen would say nothing new."""

Columns = dict[str, np.ndarray]
"""Measurements of frames by name, each with a row for every frame."""

Found = tuple[Columns, dict[str, np.ndarray]]
"""Measurements and images of a batch by name, a row for each frame."""


@dataclass
class Frames:
    """What was measured frame by frame; a name is there if model and samples have what it takes.

    psnr_hidden, psnr_pasted: (n,) decibels, the first NaN where no colour was hidden.
    rgb_hidden: (n,) share of the colour patches that were hidden in these.
    hidden_depth, known, rgb_only_depth, holes_model, holes_<filler>: (n, 4) sums of depth.depth_sums.
    hidden_labels, labels, rgb_only_labels: (n, K, K) matrices of segmentation.confusion.
    """

    keys: list[str]
    columns: Columns
    # Number of the frame -> images to look at, by name: rgb, masked and rebuilt (S, S, 3) in 0..1; measured,
    # completed and true depth (S, S) in metres, NaN unknown; said and true labels (s, s), 255 unlabelled.
    images: dict[int, dict[str, np.ndarray]] = field(default_factory=dict)


def without_context(model: M3ET) -> M3ET:
    """The same weights, the decoders' cross-attention switched off: they see none of the encoder (docs/papers.md 2.6)."""
    other = M3ET(replace(model.config, cross_attention=False)).to(model.positions.device)
    # Strict but for what is switched off: everything that is left has its weights.
    left = other.load_state_dict(model.state_dict(), strict=False)
    assert not left.missing_keys
    return other.eval()


def measure_frames(
    model: nn.Module,
    samples: Dataset[Sample],
    *,
    seed: int = 0,
    noise: Noise = NOISE,
    batch: int = BATCH,
    pictures: Collection[int] = (),
    progress: Progress = no_progress,
) -> Frames:
    """Run all passes over every sample.

    Args:
        model: M3ET with image decoders; it stays on its device and in its mode.
        samples: map-style and clean; a kitchen's labels need to be the model's.
        seed: of masks and noise, which depend on it and the place of the frame alone.
        noise: of the camera in the passes full and rgb_only.
        batch: frames at a time.
        pictures: places of the frames whose images are kept.
        progress: see feed.Progress.

    Raises:
        ValueError: the model predicts depth that is not finite.
    """
    count = len(samples)
    clean = (samples[i] for i in progress(range(count), count, 'frames', 'frame'))
    disturbed = (
        (i, _Pair(sample, disturb(sample, noise, np.random.default_rng((seed, i))))) for i, sample in enumerate(clean)
    )
    # Batches form by the depth of the noisy picture, which is what may be lacking.
    pairs: dict[int, _Pair] = {}

    def noisy():
        for i, pair in disturbed:
            pairs[i] = pair
            yield i, pair.noisy

    found = Frames([''] * count, {})
    with measured(model) as device:
        for group in in_batches(noisy(), batch):
            numbers = [i for i, _ in group]
            passes = Passes(model, [pairs.pop(i) for i in numbers], [(seed, i) for i in numbers], device)
            _note(found, numbers, count, passes, set(pictures))
    return found


@dataclass(frozen=True)
class _Pair:
    """A frame as it is and as the camera told it."""

    clean: Sample
    noisy: Sample


def _note(found: Frames, numbers: list[int], count: int, passes: 'Passes', kept: set[int]) -> None:
    """Put what was measured of a batch in its place."""
    columns, images = passes.run()
    for name, values in columns.items():
        found.columns.setdefault(name, np.zeros((count, *values.shape[1:]), values.dtype))[numbers] = values
    for place, number in enumerate(numbers):
        found.keys[number] = passes.noisy.keys[place]
        if number in kept:
            found.images[number] = {name: values[place] for name, values in images.items()}


class Passes:
    """The passes of one batch."""

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
        """Measurements and images of the batch by name, a row for each frame."""
        columns, images = {}, {}
        for one in (self.hidden, self.full, self.rgb_only):
            more, seen = one()
            columns |= more
            images |= seen
        return columns, images

    def hidden(self) -> Found:
        """70 % of all tokens of the clean pictures hidden, shares of the modalities drawn for each frame."""
        inputs = shown_inputs(self.clean, IMAGE_MODALITIES, self.device)
        counts = {name: self.config.image_tokens for name in IMAGE_MODALITIES if name in inputs}
        drawn = [draw(counts, batch=1, total=visible_total(counts), generator=_generator(seed)) for seed in self.seeds]
        encoded = self.model.encode(inputs, visible=torch.cat([one.kept for one in drawn]).to(self.device))
        unseen = {name: ~torch.cat([one.masks[name] for one in drawn]).numpy() for name in counts}

        def where(task: str, side: int) -> np.ndarray:
            patches = unseen.get(task, np.ones((len(self.seeds), self.config.image_tokens), bool))
            return patch_mask(patches, (side, side), side // self.config.grid)

        columns, images = self._rgb(encoded, where)
        columns |= self._depth('hidden_depth', encoded, self.clean, where('depth', self.config.image_size))[0]
        return columns | self._labels('hidden_labels', encoded, where('semseg', self.config.semseg_size))[0], images

    def full(self) -> Found:
        """Colour and noisy depth: segmentation, and depth where it was measured and where it was not."""
        encoded = self.model.encode(shown_inputs(self.noisy, ('rgb', 'depth'), self.device))
        columns, images = self._labels('labels', encoded)
        if 'depth' not in self.config.tasks or self.measured is None:
            return columns, images
        known = known_mask(self.measured)
        # Where nothing at all is known no filler has anything to go by.
        holes = ~known & known.any((1, 2), keepdims=True)
        known_sums, more = self._depth('known', encoded, self.noisy, known)
        truth, said = more['depth'], more['completed']
        # As the robot fills holes: the prediction meets what was measured around them.
        completed = np.stack([met(one.astype(np.float32), depth) for one, depth in zip(said, self.measured)])
        columns |= known_sums | {
            'holes_model': depth_sums(completed, truth, holes),
            'holes_model_alone': depth_sums(said, truth, holes),
        }
        more = more | {'completed': np.where(known, self.measured, completed)}
        for name, fill in FILLERS.items():
            filled = np.stack([fill(depth) if found.any() else depth for depth, found in zip(self.measured, known)])
            columns[f'holes_{name}'] = depth_sums(filled, truth, holes)
        return columns, images | more | {'measured': self.measured}

    def rgb_only(self) -> Found:
        """Colour without depth."""
        if 'rgb' not in self.config.modalities:
            return {}, {}
        encoded = self.model.encode(shown_inputs(self.noisy, ('rgb',), self.device))
        columns = self._depth('rgb_only_depth', encoded, self.noisy)[0]
        return columns | self._labels('rgb_only_labels', encoded)[0], {}

    def _rgb(self, encoded: Any, where: Callable[[str, int], np.ndarray]) -> Found:
        if 'rgb' not in self.config.tasks or 'rgb' not in self.config.modalities:
            return {}, {}
        unseen = where('rgb', self.config.image_size)
        truth = unstandardise(self.clean.inputs['rgb'], RGB_MEAN, RGB_STD)
        said = unstandardise(self.model.decode(encoded, 'rgb'), RGB_MEAN, RGB_STD)
        columns = {
            'psnr_hidden': psnr_hidden(said, truth, unseen),
            'psnr_pasted': psnr_pasted(said, truth, unseen),
            'rgb_hidden': unseen.mean((1, 2)),
        }
        true, rebuilt = (colours.transpose(0, 2, 3, 1) for colours in (truth, said))
        return columns, {'rgb': true, 'masked': np.where(unseen[..., None], 0.5, true), 'rebuilt': rebuilt}

    def _depth(self, name: str, encoded: Any, batch: Batch, where: np.ndarray | None = None) -> Found:
        if 'depth' not in self.config.tasks or batch.depth is None:
            return {}, {}
        truth, said = _metres(batch.depth, batch), _metres(self.model.decode(encoded, 'depth'), batch)
        return {name: depth_sums(said, truth, where)}, {'completed': said, 'depth': truth}

    def _labels(self, name: str, encoded: Any, where: np.ndarray | None = None) -> Found:
        if self.labels is None:
            return {}, {}
        said = self.model.decode(encoded, 'semseg').argmax(1).cpu().numpy()
        truth = self.labels if where is None else np.where(where, self.labels, IGNORED)
        return {name: confusion(said, truth, self.config.classes)}, {'said': said, 'labels': truth}


def _stacked(
    images: list[np.ndarray | None], squeeze: Callable[[np.ndarray, int], np.ndarray], size: int
) -> np.ndarray | None:
    """Images at the model's size, (B, size, size), as collate brings them there; None where one is lacking."""
    if any(image is None for image in images):
        return None
    return np.stack([image if image.shape == (size, size) else squeeze(image, size) for image in images])


def _generator(seed: tuple[int, int]) -> torch.Generator:
    """Of the mask of one frame."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0] >> 1))


def _metres(standardised: Tensor, batch: Batch) -> np.ndarray:
    """Depth (B, 1, S, S) in metres, (B, S, S)."""
    mean, std = batch.scale.double().T[:, :, None, None]
    return (standardised[:, 0].double().cpu() * std + mean).numpy()
