"""`m3et convert bag` and `m3et convert lerobot`: recordings to a LeRobot data set, and its episodes to recordings."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from m3et_ros.cli.options import Json, expand_options
from m3et_ros.cli.output import print_json, print_line, print_status
from m3et_ros.cli.progress import track

Images = Annotated[
    Literal['lossless', 'small', 'png'],
    typer.Option(
        help="Colours as H.264 video without loss, as AV1 video with the loss of LeRobot's default, or as single PNGs. "
        'Depth is always in single PNGs.'
    ),
]


@dataclass(frozen=True, kw_only=True)
class RecordedTopics:
    """Topics of the recordings; None for the usual ones where they have them."""

    rgb: Annotated[str | None, typer.Option(help='Topic of the colours; found by default.', show_default=False)] = None
    depth: Annotated[
        str | None,
        typer.Option(help='Topic of the depth, or none; by default one that is aligned.', show_default=False),
    ] = None
    instruction: Annotated[
        str | None,
        typer.Option(
            help='Topic of instructions, which become tasks; by default /instruction or /instruction/text.',
            show_default=False,
        ),
    ] = None
    state: Annotated[
        str | None,
        typer.Option(
            help='Topic of observation.state, a JointState, PoseStamped, Float32MultiArray or Float64MultiArray; by '
            'default /joint_states.',
            show_default=False,
        ),
    ] = None
    action: Annotated[
        str | None, typer.Option(help='Topic of action, likewise; by default /action.', show_default=False)
    ] = None


@expand_options()
def bag(
    bags: Annotated[list[Path], typer.Argument(help='Recordings; each is an episode, or several where it pauses.')],
    out: Annotated[Path, typer.Argument(help='Folder of the data set to create.')],
    topics: RecordedTopics,
    fps: Annotated[
        int | None,
        typer.Option(
            min=1, max=1000, show_default=False, help='Resample to this rate; by default every frame is kept.'
        ),
    ] = None,
    images: Images = 'lossless',
    as_json: Json = False,
) -> int:
    """Convert recordings to a LeRobot data set of version 3.0."""
    from dataclasses import asdict

    from m3et_ros.data.lerobot.from_bag import ConvertedTopics, convert_bags

    with whole(out):
        result = convert_bags(
            bags,
            out,
            topics=ConvertedTopics(**asdict(topics)),
            fps=fps,
            images=images,
            track=lambda rows, count: track(rows, count, f'writing {out}'),
        )
    size = sum(file.stat().st_size for file in out.rglob('*') if file.is_file())
    if as_json:
        print_json({'path': str(out), 'bytes': size, **asdict(result)})
        return 0
    for note in result.notes:
        print_status(f'm3et: {note}')
    tasks = ', '.join(map(repr, result.tasks[:5])) + (' ...' if len(result.tasks) > 5 else '')
    print_line(
        f'{out}: {result.episodes} episodes, {result.frames} frames at {result.fps} per second, {size / 1e6:.1f} MB; '
        f'tasks {tasks}. Stamps are up to {result.deviation_s * 1000:.1f} ms off the times of LeRobot, and stored '
        f'exactly beside them.\nTrain on it: m3et train pretrain --data lerobot:{out}'
    )
    return 0


def lerobot(
    data: Annotated[Path, typer.Argument(help='Folder of the data set.')],
    out: Annotated[Path, typer.Argument(help='Recording to create; a folder of recordings for several episodes.')],
    episodes: Annotated[
        list[int] | None,
        typer.Option(
            '--episode', min=0, help='Convert this episode only; may be given several times.', show_default=False
        ),
    ] = None,
    camera: Annotated[
        str | None, typer.Option(help='Feature with the colours; by default the only one there is.', show_default=False)
    ] = None,
    as_json: Json = False,
) -> int:
    """Convert the episodes of a LeRobot data set of version 3.0 to recordings."""
    from m3et_ros.data.lerobot.reader import LeRobotReader
    from m3et_ros.data.lerobot.to_bag import convert_episodes

    opened = LeRobotReader(data, camera)
    with whole(out):
        result = convert_episodes(
            opened, out, episodes=episodes, track=lambda rows, count: track(rows, count, f'writing {out}')
        )
    if as_json:
        print_json(
            {
                'bags': [str(path) for path in result.bags],
                'frames': result.frames,
                'repeated': result.repeated,
                'notes': result.notes,
            }
        )
        return 0
    for note in result.notes:
        print_status(f'm3et: {note}')
    repeated = f' ({result.repeated} repeated rows are left out)' if result.repeated else ''
    print_line(f'{out}: {len(result.bags)} recordings, {result.frames} frames{repeated}.')
    print_line(f'Play it: m3et replay {result.bags[0]}')
    return 0


@contextmanager
def whole(out: Path) -> Iterator[None]:
    """Remove a folder that the block has begun and not finished; an OSError of the block becomes a refusal.

    Args:
        out: folder that the block creates; one that was there before stays.

    Raises:
        InputError: 'out_unwritable'.
    """
    from m3et_ros.data.files import refuse_unwritable

    was_there = out.exists()
    try:
        with refuse_unwritable(out, 'give a writable folder with free space'):
            yield
    except BaseException:
        if not was_there:
            shutil.rmtree(out, ignore_errors=True)
        raise
