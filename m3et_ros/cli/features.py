"""`m3et features`: features of the videos of EPIC-KITCHENS-100 by a frozen public network, for m3et train actions.

m3et features --epic annotations --frames EPIC-KITCHENS --backbone hf:MCG-NJU/videomae-base --out features
m3et train actions --epic annotations --features features --task anticipation --out runs/anticipation
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from m3et_ros.cli.options import Json, expand_options
from m3et_ros.cli.output import Refused, print_json, print_line, print_status
from m3et_ros.cli.progress import track

if TYPE_CHECKING:
    from m3et_ros.training.video.features import Backbone


@dataclass(frozen=True, kw_only=True)
class RowOptions:
    """The moments that get a row, and the changes of their pictures."""

    rate: Annotated[float, typer.Option(help='Rows a second.')] = 4.0
    span: Annotated[float, typer.Option(help='Seconds from the first to the last picture of a row.')] = 2.0
    batch: Annotated[int, typer.Option(help='Number of rows that the network computes at a time.')] = 8
    randaugment: Annotated[
        int | None,
        typer.Option(
            min=0,
            help='Seed by which RandAugment changes the pictures of every row, for m3et train actions --augmented.',
            show_default=False,
        ),
    ] = None


@expand_options('epic frames backbone out split rate span batch fps missing randaugment device as_json')
def features(
    epic: Annotated[Path, typer.Option(help='Folder of the EPIC-KITCHENS-100 annotations.')],
    frames: Annotated[Path, typer.Option(help='Folder of the official pictures, PXX/rgb_frames/PXX_YY.')],
    backbone: Annotated[
        str,
        typer.Option(
            help='Video network of transformers, VideoMAE or TimeSformer, as a folder or hf:owner/name; or an M3ET, a '
            'named size or a checkpoint folder, for single pictures.'
        ),
    ],
    out: Annotated[Path, typer.Option('--out', '-o', help='Folder for a file of features of each video.')],
    *,
    split: Annotated[
        list[str] | None,
        typer.Option(
            help='Videos of this split, train or validation, or of a CSV file with the official columns; may be given '
            'several times. Both by default.',
            show_default=False,
        ),
    ] = None,
    rows: RowOptions,
    fps: Annotated[
        float | None,
        typer.Option(help='Pictures a second, for pictures that are not the official ones.', show_default=False),
    ] = None,
    missing: Annotated[
        int, typer.Option(min=0, help='Number of pictures that a video may lack; the one before takes their place.')
    ] = 0,
    device: Annotated[str, typer.Option(help='cpu, cuda, cuda:N, or auto for CUDA where there is one.')] = 'auto',
    as_json: Json = False,
) -> None:
    """Compute features of the pictures of EPIC-KITCHENS-100 with a frozen public video network."""
    from m3et_ros.data.epic.annotations import find_split, read_segments
    from m3et_ros.data.epic.class_lists import read_classes, read_videos
    from m3et_ros.data.epic.frames import FrameFolders
    from m3et_ros.training.video.features import Rows, extract

    classes = read_classes(epic)
    files = [find_split(epic, name) for name in split or ('train', 'validation')]
    segments = [segment for file in files for segment in read_segments(file, classes).segments]
    try:
        moments = Rows(rows.rate, rows.span, rows.batch)
        pictures = FrameFolders(frames, read_videos(epic), fps=fps, missing=missing)
    except ValueError as error:
        raise Refused(f'{error}.') from error
    network = open_network(backbone, device)
    index = extract(network, segments, pictures, out, moments, augment=rows.randaugment, progress=track)
    for note in pictures.notes:
        print_status(note.text)
    videos = len({segment.video for segment in segments})
    if as_json:
        print_json({'out': str(out), 'videos': videos, **index})
    else:
        print_line(f'{videos} videos in {out}: {index["width"]} numbers, {index["rate_hz"]:g} rows a second.')


def open_network(name: str, device: str) -> 'Backbone':
    """Open a video network, or an M3ET.

    Args:
        name: named size, folder or hf:owner/name.
        device: cpu, cuda, cuda:N or auto.

    Raises:
        InputError: there is no such network, or it is of another kind.
    """
    from m3et_ros.data.checkpoints import MODEL_TYPE
    from m3et_ros.data.checkpoints.json_files import CONFIG, read_json
    from m3et_ros.models.m3et.sizes import SIZES
    from m3et_ros.runtime.engine import Engine
    from m3et_ros.runtime.networks.video import open_backbone
    from m3et_ros.runtime.open_model import open_checkpoint
    from m3et_ros.training.video.features import FrameBackbone

    config = Path(name) / CONFIG
    if name in SIZES or (config.is_file() and read_json(config).get('model_type') == MODEL_TYPE):
        return FrameBackbone(Engine(open_checkpoint(name), device=device).checkpoint)
    return open_backbone(name, device=device)
