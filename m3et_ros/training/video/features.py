"""Extract features of whole videos with a frozen network: a row for every moment, from the pictures just before it.

A folder gets PXX_YY.npy, (rows, d) float16, for each video, and features.json, which names the network and the rate, so
that another network does not add to it. Row k ends k / rate_hz seconds into the video. Videos that are there already
are left as they are, so a run that was stopped goes on.

Symbols: d width, n pictures of a clip.
"""

import json
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from m3et_ros.data.checkpoints.m3et import Checkpoint
from m3et_ros.data.epic.annotations import Segment
from m3et_ros.data.epic.clips import INDEX, RANDAUGMENT, read_index
from m3et_ros.data.epic.frames import Clip, FrameFolders, moment
from m3et_ros.data.errors import InputError
from m3et_ros.data.features.episodes import encode_samples
from m3et_ros.data.files import write_atomically
from m3et_ros.data.progress import Progress, no_progress
from m3et_ros.data.randaugment import randaugment
from m3et_ros.data.sample import Sample
from m3et_ros.models.actions.frame_token import frame_width
from m3et_ros.models.config_checks import check_number, check_whole


class Backbone(Protocol):
    """A frozen network that turns clips into features; `frames` pictures in, `width` numbers out."""

    model_id: str
    frames: int
    width: int

    def encode(self, clips: Any) -> np.ndarray:
        """Return features (B, d) of B clips (n, H, W, 3) uint8, R G B."""


class FrameBackbone:
    """M3ET as a network for single pictures: the token of a frame (models.actions.frame_token)."""

    def __init__(self, checkpoint: Checkpoint):
        self.checkpoint, self.model_id = checkpoint, checkpoint.model_id
        self.frames, self.width = 1, frame_width(checkpoint.model.config)

    def encode(self, clips: Any) -> np.ndarray:
        """See Backbone."""
        return encode_samples([Sample(clip[-1]) for clip in clips], self.checkpoint)[1]


@dataclass(frozen=True)
class Rows:
    """The moments of a video that get a row.

    Raises:
        ValueError: a field is out of range; the message names field, value and range.
    """

    # Rows a second.
    rate_hz: float = 4.0
    # Seconds from the first to the last picture of a row.
    span_s: float = 2.0
    # Rows that the network computes at a time.
    batch: int = 8

    def __post_init__(self):
        check_number(self, {'rate_hz': (0.01, 1000), 'span_s': (0, 3600)})
        check_whole(self, {'batch': (1, 4096)})


def extract(
    backbone: Backbone,
    segments: Iterable[Segment],
    pictures: FrameFolders,
    out: Path,
    rows: Rows = Rows(),
    *,
    augment: int | None = None,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Extract the features of every video that segments name.

    Args:
        backbone: the network.
        segments: their videos are read, and their frame numbers checked against the rate of the pictures.
        pictures: folders of the pictures.
        out: folder of the features.
        rows: moments of the rows.
        augment: seed of RandAugment, by which the pictures of every row are changed; None leaves them as they are.
        progress: reports videos.

    Returns:
        The content of features.json.

    Raises:
        InputError: 'other_run' where the folder holds features of another network or rate; as FrameFolders.clip.
    """
    index = {
        'backbone': backbone.model_id,
        'frames': backbone.frames,
        'width': backbone.width,
        'rate_hz': float(rows.rate_hz),
        'span_s': float(rows.span_s),
    }
    if augment is not None:
        index[RANDAUGMENT] = augment
    out.mkdir(parents=True, exist_ok=True)
    if (before := read_index(out)) and before != index:
        raise InputError(
            'other_run',
            f'{out} holds features of another network or rate ({before}); give another folder or delete it.',
        )
    with write_atomically(out / INDEX) as part:
        part.write_text(json.dumps(index, indent=2) + '\n', encoding='utf-8')
    videos: dict[str, list[Segment]] = {}
    for segment in segments:
        videos.setdefault(segment.video, []).append(segment)
    for name, own in progress(list(videos.items()), len(videos), 'videos', 'video'):
        if not (out / f'{name}.npy').exists():
            table = features_of(backbone, own, pictures, rows, augment=augment)
            with write_atomically(out / f'{name}.npy') as part, part.open('wb') as file:
                np.save(file, table)
    return index


def features_of(
    backbone: Backbone, segments: list[Segment], pictures: FrameFolders, rows: Rows, *, augment: int | None = None
) -> np.ndarray:
    """Return the features (rows, d) float16 of one video; the rate is checked against all its segments."""
    for segment in segments:
        pictures.paths(segment, Clip(1, 0.0, 0.0))
    length_s = max(pictures.length_s(segment) for segment in segments)
    clip, video = Clip(backbone.frames, rows.span_s, 0.0), segments[0].video

    def read(row: int) -> np.ndarray:
        shown = pictures.clip(moment(segments[0], row / rows.rate_hz), clip)
        if augment is None:
            return shown
        return randaugment(shown, np.random.default_rng((augment, zlib.crc32(video.encode()), row)))

    numbers = np.arange(max(1, int(length_s * rows.rate_hz)))
    groups = np.split(numbers, range(rows.batch, len(numbers), rows.batch))
    return np.concatenate([backbone.encode([read(int(row)) for row in group]) for group in groups]).astype(np.float16)
