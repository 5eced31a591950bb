"""`m3et record --lerobot`: episodes of the simulated kitchen as a LeRobot data set.

    m3et record --lerobot my_set --seed 7 --episodes 3

The task of a frame is the action under way in words, '' between two; observation.state is the pose of the camera.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from m3et_ros.cli.convert.lerobot import Images, whole
from m3et_ros.cli.output import Refused, print_json, print_line
from m3et_ros.cli.processes import StopEvent, stop_code, stop_signals
from m3et_ros.cli.progress import track
from m3et_ros.cli.record.episode import START_NS, RecordOptions, open_episode


@dataclass(frozen=True, kw_only=True)
class LeRobotOptions:
    """The episodes as a LeRobot data set."""

    lerobot: Annotated[
        bool, typer.Option('--lerobot', help='Write a LeRobot data set of version 3.0 instead of a bag.')
    ] = False
    images: Images = 'lossless'


def record_lerobot(out: Path, options: RecordOptions, episodes: int, images: str, *, as_json: bool) -> int:
    """Record episodes into one data set, print what was written, and return the exit code.

    Args:
        out: folder to create.
        options: first seed, frames, camera and renderer.
        episodes: number of seeds.
        images: storage of the colours, as `m3et convert bag` takes it.
        as_json: print JSON.

    Raises:
        InputError: the folder exists already or cannot be written, or fps is no whole number.
        Refused: an option is for bags alone.
    """
    if options.compressed or options.storage != 'mcap':
        raise Refused('--storage and --compressed are for bags; with --lerobot give --images.')
    start = time.monotonic()
    with stop_signals() as stopped, whole(out):
        frames, tasks, backend = _record(out, options, episodes, images, stopped)
    size = sum(file.stat().st_size for file in out.rglob('*') if file.is_file())
    complete = frames == options.frames * episodes
    if as_json:
        print_json(
            {
                'path': str(out),
                'episodes': -(-frames // options.frames),
                'frames': frames,
                'complete': complete,
                'bytes': size,
                'seed': options.seed,
                'seconds': time.monotonic() - start,
                'backend': backend,
                'tasks': tasks,
            }
        )
    else:
        early = '' if complete else f' (stopped early: {options.frames * episodes} were requested)'
        print_line(
            f'{out}: {frames} frames of {options.width}x{options.height}{early}, {len(tasks)} tasks, '
            f'{size / 1e6:.1f} MB, rendered with {backend}.\n'
            f'Train on it: m3et train pretrain --data lerobot:{out}'
        )
    return 0 if complete else stop_code(stopped)


def _record(
    out: Path, options: RecordOptions, episodes: int, images: str, stopped: StopEvent
) -> tuple[int, list[str], str]:
    """Write the data set; return the number of frames, the tasks and the renderer."""
    from m3et_ros.data.bags.writer import POSE_TOPIC
    from m3et_ros.data.kitchen.sim.camera import Camera
    from m3et_ros.data.lerobot.robot_topics import POSE, POSE_NAMES
    from m3et_ros.data.lerobot.schema import STATE
    from m3et_ros.data.lerobot.writer import LeRobotWriter

    tasks: dict[str, None] = {}
    backend = options.backend
    names = {STATE: POSE_NAMES}
    with LeRobotWriter(out, options.fps, images=images, depth=True, names=names, robot_type='m3et_kitchen') as writer:
        for seed in range(options.seed, options.seed + episodes):
            episode = open_episode(options, seed)
            facts: dict[str, Any] = {}
            with Camera(episode, backend=options.backend, shadows=False) as camera:
                backend = camera.backend
                for state in track(episode.run(options.frames), options.frames, f'recording seed {seed} into {out}'):
                    row = frame_of(camera.observe(state))
                    writer.write(row)
                    tasks.setdefault(row.frame.instruction)
                    facts = {
                        'source': f'seed {seed}',
                        'frame_id': row.frame.frame_id,
                        'K': row.frame.K.ravel().tolist(),
                        'topics': {STATE: {'name': POSE_TOPIC, 'type': POSE}},
                    }
                    if stopped.is_set():
                        break
            writer.end_episode(facts)
            if stopped.is_set():
                break
    return writer.frames, list(tasks), backend


def frame_of(observation: Any) -> Any:
    """Return an observation of the simulated kitchen as a row of a data set, an EpisodeFrame."""
    import numpy as np

    from m3et_ros.data.bags.writer import OPTICAL_FRAME, quaternion
    from m3et_ros.data.frame import NANOSECONDS, Frame
    from m3et_ros.data.lerobot.schema import EpisodeFrame

    current = observation.state.current
    frame = Frame(
        observation.rgb,
        observation.depth,
        START_NS + round(observation.stamp_s * NANOSECONDS),
        instruction='' if current is None else current.narration,
        frame_id=OPTICAL_FRAME,
        K=observation.K,
    )
    pose = observation.pose
    return EpisodeFrame(frame, np.array([*pose[:3, 3], *quaternion(pose[:3, :3])], np.float32))
