"""`m3et record`: episodes of the simulated kitchen, without ROS, or a running robot, as bags or LeRobot data sets.

m3et record my_bag --seed 7 --frames 300
m3et record kitchens --eqa --seed 20000 --episodes 20
m3et record kitchens --vqa --seed 20000 --episodes 4 --questions 100
m3et record --lerobot my_set --seed 7 --episodes 3
m3et record --live my_bag --frames 600
"""

import dataclasses
import time
from pathlib import Path
from typing import Annotated

import typer

from m3et_ros.cli.options import Json, expand_options
from m3et_ros.cli.output import Refused, print_json, print_line
from m3et_ros.cli.processes import stop_code, stop_signals
from m3et_ros.cli.record.episode import RecordOptions, open_episode, record_episode
from m3et_ros.cli.record.lerobot import LeRobotOptions, record_lerobot
from m3et_ros.cli.record.live import RunningRobotOptions, record_live
from m3et_ros.cli.record.questions import QuestionOptions, record_eqa, record_vqa


@expand_options()
def record(
    out: Annotated[Path, typer.Argument(help='Folder to create.')],
    options: RecordOptions,
    asked: QuestionOptions,
    as_lerobot: LeRobotOptions,
    robot: RunningRobotOptions,
    as_json: Json = False,
) -> int:
    """Record an episode of the simulated kitchen with depth, intrinsics, pose, segmentation and actions, or a robot."""
    if asked.eqa and asked.vqa:
        raise Refused('--eqa and --vqa are two question files; give one of them.')
    if robot.live:
        if asked != QuestionOptions():
            raise Refused('--eqa, --vqa, --questions and --episodes are for the simulated kitchen; leave --live out.')
        images = as_lerobot.images if as_lerobot.lerobot else None
        return record_live(out, options, robot, lerobot=images, as_json=as_json)
    if robot != RunningRobotOptions():
        raise Refused('--camera and --topic go with --live.')
    if as_lerobot.lerobot:
        if asked.eqa or asked.vqa:
            raise Refused('--eqa and --vqa are about bags; leave --lerobot out.')
        return record_lerobot(out, options, asked.episodes, as_lerobot.images, as_json=as_json)
    if as_lerobot.images != 'lossless':
        raise Refused('--images goes with --lerobot.')
    if asked.eqa:
        return record_eqa(out, options, asked, as_json=as_json)
    if asked.vqa:
        return record_vqa(out, options, asked, as_json=as_json)
    if asked.episodes > 1:
        raise Refused(
            '--episodes goes with --lerobot, --eqa or --vqa; without these one episode is recorded at a time.'
        )
    return record_one(out, options, as_json=as_json)


def record_one(out: Path, options: RecordOptions, *, as_json: bool) -> int:
    """Record one episode without questions, print what was written, and return the exit code.

    Raises:
        InputError: the bag exists already or cannot be written.
    """
    start = time.monotonic()
    with stop_signals() as stopped:
        recorded = record_episode(options, open_episode(options, options.seed), out, stopped)
    code = stop_code(stopped) if recorded.frames < options.frames else 0
    seconds, size = time.monotonic() - start, sum(file.stat().st_size for file in out.iterdir())
    if as_json:
        print_json(
            {
                'path': str(out),
                'frames': recorded.frames,
                'complete': recorded.frames == options.frames,
                'bytes': size,
                'seed': options.seed,
                'seconds': seconds,
                'backend': recorded.backend,
                'actions': [dataclasses.asdict(action) for action in recorded.labels],
            }
        )
        return code
    early = '' if recorded.frames == options.frames else f' (stopped early: {options.frames} were requested)'
    print_line(
        f'{out}: {recorded.frames} frames of {options.width}x{options.height}{early}, '
        f'{len(recorded.labels)} action{"" if len(recorded.labels) == 1 else "s"}, '
        f'{size / 1e6:.1f} MB, {seconds:.0f} s, rendered with {recorded.backend}.\nPlay it: m3et replay {out}'
    )
    return code
