"""`m3et demo`: the robot in the simulated kitchen, which answers a few questions meanwhile."""

import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from m3et_ros.cli.options import Json, expand_options
from m3et_ros.cli.output import Refused, print_json, print_line, print_status
from m3et_ros.cli.processes import Child, running, stop_code, stop_signals, use_ros
from m3et_ros.cli.progress import Waiting
from m3et_ros.cli.robot import MODEL_NODE, NodeOptions, model_arguments
from m3et_ros.cli.ros_names import assignments, ros_arguments
from m3et_ros.data.checkpoints import DEFAULT_MODEL
from m3et_ros.data.extras import require

if TYPE_CHECKING:
    from m3et_ros.cli.demo.camera_and_robot import Demo

CAMERA_SIM = 'm3et_ros.ros.camera_sim'
START_S = 120.0
"""Seconds that the nodes may take to start: they load torch, and train the tokenizer of an untrained model."""
SLOW = 0.8
"""Share of the requested frame rate below which the camera is reported as slow."""
SPIN_S = 0.2
POSTER = 'sheet.png'


@dataclass(frozen=True, kw_only=True)
class RobotModel:
    """The model of the robot."""

    model: Annotated[str, typer.Option(help='Named size, checkpoint folder or hf:owner/name.')] = DEFAULT_MODEL
    device: Annotated[str, typer.Option(help='auto, cpu, cuda or cuda:N.')] = 'auto'


@dataclass(frozen=True, kw_only=True)
class SimulatedCamera:
    """Frame rate and image size of the simulated camera."""

    rate: Annotated[float, typer.Option(min=1, max=60, help='Frames per second of the camera.')] = 10.0
    width: Annotated[int, typer.Option(min=16, max=1920, help='Pixels.')] = 640
    height: Annotated[int, typer.Option(min=16, max=1200, help='Pixels.')] = 480


@expand_options()
def demo(
    seconds: Annotated[float, typer.Option(min=1, max=3600, help='Duration of the demo.')] = 20.0,
    seed: Annotated[int, typer.Option(min=0, help='Seed of the kitchen and of untrained weights.')] = 0,
    out: Annotated[Path, typer.Option(help='Folder of the picture.')] = Path('out/demo'),
    *,
    robot: RobotModel,
    camera: SimulatedCamera,
    rows: Annotated[int, typer.Option(min=1, max=8, help='Moments to ask at, and rows of the picture.')] = 4,
    sheet: Annotated[bool, typer.Option('--sheet/--no-sheet', help='Write the picture.')] = True,
    as_json: Json = False,
) -> int:
    """Run the robot in the simulated kitchen, ask it a few questions, measure it, and write a picture."""
    require('sim', *(['report'] if sheet else []))
    use_ros()
    output = DemoOutput(as_json=as_json)
    # A namespace of its own keeps the demo apart from robots and other demos on the same domain.
    namespace = f'/m3et_demo_{os.getpid()}'
    prefix = f'{namespace}/camera'
    with stop_signals() as stopped:
        children = start_nodes(namespace, prefix, seed, robot, camera)
        with running(*children):
            finished = _run(children, stopped, namespace, prefix, seconds, rows, output)
    summary = finished.summary() | {'seed': seed, 'fps_asked': camera.rate}
    if sheet and summary['moments']:
        summary['sheet'] = str(out / POSTER)
        finished.draw(out / POSTER, summary)
    output.print_summary(summary)
    return stopped.code


def start_nodes(namespace: str, prefix: str, seed: int, robot: RobotModel, camera: SimulatedCamera) -> list[Child]:
    """Start the simulated camera and the model node.

    Args:
        namespace: namespace of the model node.
        prefix: prefix of the topics of the camera, and its namespace.
        seed: seed of the kitchen and of untrained weights.
        robot: model of the robot.
        camera: frame rate and image size.

    Returns:
        The children, camera first.
    """
    from m3et_ros.cli.demo.camera_and_robot import QUESTIONS

    simulator = ros_arguments(
        namespace=prefix,
        parameters=assignments(
            seed=seed,
            rate_hz=camera.rate,
            width=camera.width,
            height=camera.height,
            depth_noise=True,
            questions='|'.join(question for question, _ in QUESTIONS),
        ),
    )
    node = NodeOptions(namespace=namespace, camera=prefix, model=robot.model, device=robot.device)
    return [
        Child('camera', CAMERA_SIM, simulator, show=False),
        Child('model', MODEL_NODE, model_arguments(node, parameters=assignments(seed=seed)), show=False),
    ]


class DemoOutput:
    """Output of the demo: lines as events happen, or one JSON document at the end."""

    def __init__(self, *, as_json: bool):
        self._json = as_json

    def print_event(self, text: str) -> None:
        """Print a line now; with --json on stderr."""
        if self._json:
            print_status(text)
        else:
            print_line(text)

    def print_summary(self, summary: dict[str, Any]) -> None:
        """Print the measurements, see `Demo.summary`."""
        if self._json:
            print_json(summary)
            return
        age, drops = summary['age_s'], summary['drops']
        dropped = ', '.join(f'{count} {reason}' for reason, count in drops.items()) or 'none'
        requested = ''
        if summary['fps_in'] < SLOW * summary['fps_asked']:
            requested = f' ({summary["fps_asked"]:g} were requested; the kitchen renders no faster here)'
        print_line(
            f'\n{summary["fps_in"]:.1f} frames/s in{requested}, {summary["fps_out"]:.1f} frames/s out; age of a result '
            f'{_milliseconds(age["p50"])} (p95 {_milliseconds(age["p95"])}); dropped by the model node: {dropped}.'
        )
        if 'sheet' in summary:
            print_line(f'Picture: {summary["sheet"]}')


def _run(
    children: Sequence[Child],
    stopped: threading.Event,
    namespace: str,
    prefix: str,
    seconds: float,
    rows: int,
    output: DemoOutput,
) -> 'Demo':
    """Wait for the first result, then listen for `seconds` and ask `rows` times; return the finished demo."""
    from m3et_ros.cli.ask.client import client
    from m3et_ros.cli.demo.camera_and_robot import Demo

    with client(stopped) as node:
        current = Demo(node, namespace, prefix, lambda: check_alive(children))
        _await_first_result(current, stopped)
        output.print_event(current.describe_model())
        output.print_event(f'The demo lasts {seconds:g} s; ask too: m3et ask "..." --namespace {namespace}\n')
        start = time.monotonic()
        for row in range(rows):
            current.listen(start + (row + 0.5) * seconds / rows - time.monotonic())
            current.ask(output.print_event)
        current.listen(start + seconds - time.monotonic())
        return current


def _await_first_result(current: 'Demo', stopped: threading.Event) -> None:
    """Wait until the results of one frame have come, and show what is missing.

    Raises:
        Refused: a signal came, the model node cannot start, or START_S have passed.
    """
    deadline = time.monotonic() + START_S
    with Waiting() as waiting:
        while not current.begun():
            if stopped.is_set():
                raise Refused('The demo was stopped before the first result.', stop_code(stopped))
            if time.monotonic() > deadline:
                raise Refused(
                    f'No result came within {START_S:.0f} s ({current.missing()}); try a smaller image, '
                    '--model tiny, or see m3et doctor.'
                )
            if trouble := current.trouble():
                raise Refused(f'The model node cannot start: {trouble}')
            waiting.show(f'waiting for {current.missing()}')
            current.listen(SPIN_S)


def check_alive(children: Sequence[Child]) -> None:
    """Raise the failure of the first child that has ended, if any.

    Raises:
        Refused: a child has ended.
    """
    for child in children:
        if child.code is not None:
            raise child.failure()


def _milliseconds(seconds: float | None) -> str:
    return 'unknown' if seconds is None else f'{1e3 * seconds:.0f} ms'
