"""`m3et record`: an episode of the simulated kitchen as a rosbag2 recording, without ROS."""

import dataclasses
import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from m3et_ros.cli.output import Json, Refused, emit, say
from m3et_ros.cli.processes import stop_signals
from m3et_ros.cli.progress import track
from m3et_ros.cli.record.questions import RecordOptions, record_eqa, record_vqa

START_NS = 1_700_000_000 * 10**9
"""Stamp of the first frame: fixed, so that the same seed writes the same messages."""


def record(
    out: Annotated[Path, typer.Argument(help='Folder to create.')],
    seed: Annotated[int, typer.Option(min=0, help='Same seed, same kitchen, same actions.')] = 0,
    frames: Annotated[int, typer.Option(min=1, help='How many.')] = 300,
    fps: Annotated[float, typer.Option(min=1, max=240, help='Frames per second of simulated time.')] = 10.0,
    width: Annotated[int, typer.Option(min=16, max=4096, help='Pixels.')] = 640,
    height: Annotated[int, typer.Option(min=16, max=4096, help='Pixels.')] = 480,
    storage: Annotated[Literal['mcap', 'sqlite3'], typer.Option(help='Storage plug-in.')] = 'mcap',
    compressed: Annotated[bool, typer.Option('--compressed', help='JPEG colour and PNG depth instead of raw.')] = False,
    backend: Annotated[Literal['auto', 'egl', 'osmesa', 'raycast'], typer.Option(help='Renderer.')] = 'auto',
    eqa: Annotated[
        bool, typer.Option('--eqa', help='Also write questions to be asked at the end, as OpenEQA has them.')
    ] = False,
    vqa: Annotated[
        bool, typer.Option('--vqa', help='Also write questions about single frames, for m3et evaluate vqa.')
    ] = False,
    questions: Annotated[int, typer.Option(min=1, help='With --eqa or --vqa: of each episode, on average.')] = 24,
    episodes: Annotated[
        int, typer.Option(min=1, help='With --eqa or --vqa: of so many seeds from --seed on, each a bag in the folder.')
    ] = 1,
    as_json: Json = False,
) -> None:
    """Record an episode of the simulated kitchen: colour, depth, intrinsics, pose, segmentation and actions."""
    from m3et_ros.data.bags.writer import BagWriter
    from m3et_ros.data.kitchen.sim.camera import Camera
    from m3et_ros.data.kitchen.sim.episode import Episode

    images = 'compressed' if compressed else 'raw'
    if eqa and vqa:
        raise Refused('--eqa and --vqa are two question files; give one of them.')
    if eqa or vqa:
        wish = RecordOptions(
            out,
            seed,
            episodes,
            frames,
            fps,
            width,
            height,
            storage,
            images,
            backend,
            questions,
            START_NS,
            'eqa' if eqa else 'vqa',
        )
        return (record_eqa if eqa else record_vqa)(wish, as_json=as_json)
    if episodes > 1:
        raise Refused('--episodes goes with --eqa or --vqa; without these one episode is recorded at a time.')
    episode = Episode(seed, width=width, height=height, fps=fps)
    start = time.monotonic()
    with (
        BagWriter(out, storage, images=images) as bag,
        Camera(episode, backend=backend, shadows=False) as camera,
        stop_signals() as stopped,
    ):
        written = 0
        for state in track(episode.run(frames), frames, f'recording {out}'):
            bag.write_observation(camera.observe(state), START_NS)
            written += 1
            if stopped.is_set():
                break
    seconds, size = time.monotonic() - start, sum(file.stat().st_size for file in out.iterdir())
    if as_json:
        emit(
            {
                'path': str(out),
                'frames': written,
                'complete': written == frames,
                'bytes': size,
                'seed': seed,
                'seconds': seconds,
                'backend': camera.backend,
                'actions': [dataclasses.asdict(action) for action in episode.labels],
            }
        )
        return None
    ended = '' if written == frames else f' (stopped early: {frames} were asked for)'
    say(
        f'{out}: {written} frames of {width}x{height}{ended}, {len(episode.labels)} actions, {size / 1e6:.1f} MB, '
        f'{seconds:.0f} s, rendered with {camera.backend}.\nPlay it: m3et replay {out}'
    )
