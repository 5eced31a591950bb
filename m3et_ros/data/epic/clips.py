"""Clips of features of EPIC-KITCHENS-100 with their questions, as samples and as tensors (docs/papers.md 3, 7.7).

Symbols: B clips, n rows of a clip, d width of the features, T text tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from m3et_ros.data.action_questions import Pair
from m3et_ros.data.datasets.class_map import read_json
from m3et_ros.data.epic.annotations import Segment
from m3et_ros.data.epic.class_lists import Video
from m3et_ros.data.epic.frames import FeatureFolder, ObservedClip
from m3et_ros.data.errors import InputError
from m3et_ros.data.tokenizer import Tokenizer

INDEX = 'features.json'
"""File of a folder of features that names their network and rate."""
RANDAUGMENT = 'randaugment'
"""Field of that file: seed of the changes of the pictures; absent for pictures as they are."""
LENGTH = 40
"""Most text tokens of a question."""


class ClipSample(NamedTuple):
    """The observed part of a segment: features (n, d) float32, questions, verb and noun."""

    features: np.ndarray
    questions: Pair
    label: tuple[int, int]
    key: str


class Clips(Dataset[ClipSample]):
    """Segments as clips of features.

    Args:
        segments: the segments.
        features: folder of the features.
        questions: narration id to the questions about it.
        observation: the part of the video that is observed.
        augmented: features of the same videos with changed pictures; each clip is drawn from one of all folders.
        seed: seed of these draws.
    """

    def __init__(
        self,
        segments: Sequence[Segment],
        features: FeatureFolder,
        questions: Mapping[str, Pair],
        observation: ObservedClip,
        *,
        augmented: Sequence[FeatureFolder] = (),
        seed: int = 0,
    ):
        self.segments, self.folder, self.questions, self.observation = segments, features, questions, observation
        self.augmented, self.seed, self.epoch = augmented, seed, 0

    def __len__(self) -> int:
        return len(self.segments)

    def __getitem__(self, index: int) -> ClipSample:
        """Read one clip; raises as FeatureFolder.clip."""
        segment, folders = self.segments[index], [self.folder, *self.augmented]
        drawn = int(np.random.default_rng((self.seed, self.epoch, index)).integers(len(folders)))
        return ClipSample(
            folders[drawn].clip(*self.observation.clip(segment)),
            self.questions[segment.narration_id],
            (segment.verb, segment.noun),
            segment.narration_id,
        )


@dataclass(frozen=True)
class CollateClips:
    """Turn clips into tensors: video (B, n, d), label (B, 2), and ids and mask (B, T) of noun and verb questions."""

    tokenizer: Tokenizer

    def __call__(self, clips: Sequence[ClipSample]) -> tuple[dict[str, Tensor], list[str]]:
        """Return tensors by name, and B keys."""
        tensors = {
            'video': torch.from_numpy(np.stack([clip.features for clip in clips])),
            'label': torch.tensor([clip.label for clip in clips]),
        }
        for which, name in enumerate(('noun', 'verb')):
            ids, mask = self.tokenizer.encode([clip.questions[which] for clip in clips], LENGTH)
            tensors |= {f'{name}_ids': ids, f'{name}_mask': mask}
        return tensors, [clip.key for clip in clips]


def read_index(folder: Path) -> dict[str, Any]:
    """Return the content of features.json; empty where the folder has none.

    Raises:
        InputError: 'data_format' where it is of another form.
    """
    if not (folder / INDEX).is_file():
        return {}
    found = read_json(folder / INDEX)
    if not isinstance(found, dict) or not isinstance(found.get('rate_hz'), float) or not found['rate_hz'] > 0:
        raise InputError('data_format', f'{folder / INDEX} names no rate; extract the features again')
    return found


def open_features(folder: Path, fps: float | None, videos: Mapping[str, Video]) -> FeatureFolder:
    """Open a folder of features at the given rate, that of features.json, or that of the official pictures.

    Args:
        folder: holds PXX_YY.npy or PXX_YY.safetensors.
        fps: rows a second; None to find out.
        videos: from read_videos.

    Raises:
        InputError: as read_index.
        ValueError: fps is not above 0.
    """
    return FeatureFolder(folder, fps=fps or read_index(folder).get('rate_hz'), videos=videos)


def check_origin(folder: Path, wanted: Mapping[str, Any]) -> None:
    """Refuse features of another network or rate than those of training, as far as both are known.

    Args:
        folder: folder of the features.
        wanted: features.json of the features of training; empty where that is not known.

    Raises:
        InputError: 'model_config'; as read_index.
    """
    given = read_index(folder)
    if given and wanted and given != wanted:
        raise InputError(
            'model_config',
            f'{folder} holds other features ({given}) than the model was trained with ({dict(wanted)}); extract them '
            'with the same network and rate',
        )
