"""`m3et generate`: simulated kitchens as a cache to train on.

m3et generate cache --seeds 0:2000                   # training kitchens (seeds 0 to 9,999)
m3et generate cache --seeds 20000:20100              # test kitchens
m3et generate cache --seeds 20000:20100 --version 2 --camera other
"""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from m3et_ros.cli.options import Json, expand_options
from m3et_ros.cli.output import Refused, print_json, print_line
from m3et_ros.data.extras import require


@dataclass(frozen=True, kw_only=True)
class RenderOptions:
    """Frames of each kitchen and the way they are rendered; the fields are arguments of `generate`."""

    size: Annotated[int, typer.Option(min=16, max=1024, help='Side of a stored image in pixels.')] = 224
    frames: Annotated[int, typer.Option(min=1, max=1000, help='Number of images of each kitchen.')] = 43
    stride: Annotated[int, typer.Option(min=1, max=1000, help='Time between images, in tenths of a second.')] = 7
    shadows: Annotated[
        bool, typer.Option('--shadows', help='Draw shadows in kitchens of version 1; takes twice the time.')
    ] = False
    workers: Annotated[int, typer.Option(min=0, max=256, help='Number of worker processes; 0 renders in this one.')] = (
        os.cpu_count() or 1
    )
    backend: Annotated[Literal['auto', 'egl', 'osmesa', 'raycast'], typer.Option(help='Renderer.')] = 'auto'
    version: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=2,
            help='Version of the kitchens; 2 varies camera, light, surfaces, shapes and clutter, and half have '
            'shadows. By default the version that the shipped weights were trained on.',
            show_default=False,
        ),
    ] = None
    camera: Annotated[
        Literal['own', 'other'],
        typer.Option(
            help='Camera of the kitchens of version 2: as in training, or, for test kitchens, with a field of view, '
            'aspect or mount outside the ranges of training.'
        ),
    ] = 'own'


@expand_options()
def generate(
    root: Annotated[Path, typer.Argument(help='Folder in which the cache becomes a folder named after its content.')],
    seeds: Annotated[
        str,
        typer.Option(
            metavar='FIRST:LAST',
            help='Kitchens of one split, LAST not included: '
            'train 0 to 9,999, validation 10,000 to 10,499, test from 20,000.',
        ),
    ] = '0:2000',
    *,
    rendering: RenderOptions,
    as_json: Json = False,
) -> None:
    """Render kitchens with questions into a cache to train on; the same command resumes a run that was stopped."""
    require('sim')
    from m3et_ros.data.kitchen.cache.generate import generate as generate_cache
    from m3et_ros.data.kitchen.cache.recipe import failures, read_shards
    from m3et_ros.data.shards import open_shard

    first, colon, last = seeds.partition(':')
    if not (colon and first.isdigit() and last.isdigit() and int(first) < int(last)):
        raise Refused(f'--seeds is {seeds!r}; give the first kitchen and the one after the last, as in 0:2000.')
    recipe = {name: value for name, value in asdict(rendering).items() if value is not None}
    try:
        folder = generate_cache(root, seeds=range(int(first), int(last)), progress=not as_json, **recipe)
    except ValueError as error:
        raise Refused(f'{error}.') from error
    count = sum(len(open_shard(path).frames) for path in read_shards(folder))
    if as_json:
        print_json({'path': str(folder), 'frames': count, 'failed': failures(folder)})
        return
    print_line(
        f'{folder}: {count:,} images of kitchens {first} to {int(last) - 1}.\n'
        f'Train on it: m3et train pretrain --data {folder} --out runs/one'
    )
