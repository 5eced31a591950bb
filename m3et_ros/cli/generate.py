"""`m3et generate`: simulated kitchens as a cache to train on.

m3et generate cache --seeds 0:2000                   # training kitchens (seeds 0 to 9,999)
m3et generate cache --seeds 20000:20100              # test kitchens
"""

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from m3et_ros.cli.output import Json, Refused, emit, say


def generate(
    root: Annotated[Path, typer.Argument(help='Where the cache becomes a folder named by what is in it.')],
    seeds: Annotated[
        str,
        typer.Option(
            metavar='FIRST:LAST',
            help='Kitchens, the last one not included, of one split: '
            'train 0 to 9,999, validation 10,000 to 10,499, test from 20,000.',
        ),
    ] = '0:2000',
    size: Annotated[int, typer.Option(min=16, max=1024, help='Side of a stored picture in pixels.')] = 112,
    frames: Annotated[int, typer.Option(min=1, max=1000, help='Pictures of a kitchen.')] = 43,
    stride: Annotated[int, typer.Option(min=1, max=1000, help='Tenths of a second between them.')] = 7,
    shadows: Annotated[bool, typer.Option('--shadows', help='Draw shadows, for twice the time.')] = False,
    workers: Annotated[int, typer.Option(min=0, max=256, help='Processes; 0 works in this one.')] = os.cpu_count() or 1,
    backend: Annotated[Literal['auto', 'egl', 'osmesa', 'raycast'], typer.Option(help='Renderer.')] = 'auto',
    as_json: Json = False,
) -> None:
    """Render kitchens with questions into a cache to train on; the same command goes on where it was stopped."""
    from m3et_ros.data.kitchen.cache.generate import generate as make
    from m3et_ros.data.kitchen.cache.recipe import read_shards, troubles
    from m3et_ros.data.shards import open_shard

    first, colon, last = seeds.partition(':')
    if not (colon and first.isdigit() and last.isdigit() and int(first) < int(last)):
        raise Refused(f'--seeds is {seeds!r}; give the first kitchen and the one after the last, as in 0:2000.')
    try:
        folder = make(
            root,
            seeds=range(int(first), int(last)),
            workers=workers,
            progress=not as_json,
            size=size,
            frames=frames,
            stride=stride,
            shadows=shadows,
            backend=backend,
        )
    except ValueError as error:
        raise Refused(f'{error}.') from error
    count = sum(len(open_shard(path).frames) for path in read_shards(folder))
    if as_json:
        emit({'path': str(folder), 'frames': count, 'failed': troubles(folder)})
        return
    say(
        f'{folder}: {count:,} pictures of kitchens {first} to {int(last) - 1}.\n'
        f'Train on it: m3et train pretrain --data {folder} --out runs/one'
    )
