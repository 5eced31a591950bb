"""`m3et demo`: the robot in the simulated kitchen, asked a few questions while it looks."""

import os
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from m3et_ros.cli.output import Json, Refused, emit, note, say
from m3et_ros.cli.processes import Child, running, stop_signals
from m3et_ros.cli.progress import Waiting
from m3et_ros.cli.robot import MODEL_NODE, model_arguments
from m3et_ros.cli.ros_names import assignments, ros_arguments

CAMERA_SIM = 'm3et_ros.ros.camera_sim'
START_S = 120.0
"""How long the nodes may take to come up: loading torch and training the word pieces of an untrained model."""
SLOW = 0.8
"""Share of the pictures asked for below which the camera is said to be slow."""


def demo(
    seconds: Annotated[float, typer.Option(min=1, max=3600, help='How long the robot looks.')] = 20.0,
    seed: Annotated[int, typer.Option(min=0, help='Of the kitchen and of untrained weights.')] = 0,
    out: Annotated[Path, typer.Option(help='Folder of the picture.')] = Path('out/demo'),
    model: Annotated[str, typer.Option(help='Named size, checkpoint folder or Hub id.')] = 'kitchen',
    device: Annotated[str, typer.Option(help='auto, cpu, cuda or cuda:N.')] = 'auto',
    rate: Annotated[float, typer.Option(min=1, max=60, help='Pictures per second of the camera.')] = 10.0,
    width: Annotated[int, typer.Option(min=16, max=1920, help='Pixels.')] = 640,
    height: Annotated[int, typer.Option(min=16, max=1200, help='Pixels.')] = 480,
    rows: Annotated[int, typer.Option(min=1, max=8, help='Moments to ask at, and rows of the picture.')] = 4,
    sheet: Annotated[bool, typer.Option('--sheet/--no-sheet', help='Write the picture.')] = True,
    as_json: Json = False,
) -> None:
    """Run the robot in the simulated kitchen, ask it a few questions, measure it, and write a picture."""
    if sheet and find_spec('matplotlib') is None:
        raise Refused('The picture needs matplotlib; pip install matplotlib, or give --no-sheet.')
    # A namespace of its own keeps the demo apart from robots and other demos on the same domain.
    below = f'/m3et_demo_{os.getpid()}'
    camera = f'{below}/camera'
    with stop_signals() as stopped:
        children = [
            Child(
                'camera',
                CAMERA_SIM,
                ros_arguments(
                    below=camera,
                    parameters=assignments(seed=seed, rate_hz=rate, width=width, height=height, depth_noise=True),
                ),
                show=False,
            ),
            Child(
                'model',
                MODEL_NODE,
                model_arguments(below, camera, model=model, device=device, parameters=assignments(seed=seed)),
                show=False,
            ),
        ]
        with running(*children):
            show = DemoOutput(as_json)
            observed = _observe(children, stopped, below, camera, seconds, rows, show)
    summary = observed.summary() | {'seed': seed, 'fps_asked': rate}
    if sheet and summary['moments']:
        summary['sheet'] = str(out / 'sheet.png')
        observed.draw(out / 'sheet.png', summary)
    show.end(summary)


class DemoOutput:
    """What the demo prints: lines as things happen, or one JSON document at the end."""

    def __init__(self, as_json: bool):
        self._json = as_json

    def line(self, text: str) -> None:
        """Say something now; with --json out of the way, on stderr."""
        (note if self._json else say)(text)

    def end(self, summary: dict) -> None:
        """Say what was measured."""
        if self._json:
            emit(summary)
            return
        age, drops = summary['age_s'], summary['drops']
        dropped = ', '.join(f'{count} {reason}' for reason, count in drops.items()) or 'none'
        slow = summary['fps_in'] < SLOW * summary['fps_asked']
        asked = f' ({summary["fps_asked"]:g} were asked for; the kitchen renders no faster here)' if slow else ''
        say(
            f'\n{summary["fps_in"]:.1f} frames/s in{asked}, {summary["fps_out"]:.1f} frames/s out; age of a result '
            f'{_ms(age["p50"])} (p95 {_ms(age["p95"])}); dropped by the model node: {dropped}.'
        )
        if 'sheet' in summary:
            say(f'Picture: {summary["sheet"]}')


def _observe(children, stopped, below: str, camera: str, seconds: float, rows: int, show: DemoOutput):
    """Wait for the first result, then look on and ask; returns what was observed."""
    from m3et_ros.cli.ask.client import client
    from m3et_ros.cli.demo.camera_and_robot import Demo

    with client(stopped) as node:
        scene = Demo(node, below, camera, lambda: _all_alive(children))
        _await_first(scene, stopped)
        show.line(scene.weights())
        show.line(f'It looks for {seconds:g} s; ask along with: m3et ask "..." --namespace {below}\n')
        start = time.monotonic()
        for row in range(rows):
            scene.look(start + (row + 0.5) * seconds / rows - time.monotonic())
            scene.ask(show.line)
        scene.look(start + seconds - time.monotonic())
        return scene


def _await_first(scene, stopped) -> None:
    """Wait until a frame has come out of the model, and say what is being waited for.

    Raises:
        Refused: a signal came, or it takes too long.
    """
    deadline = time.monotonic() + START_S
    with Waiting() as waiting:
        while not scene.begun():
            if stopped.is_set():
                raise Refused('The demo was stopped before the first result.')
            if time.monotonic() > deadline:
                raise Refused(
                    f'No result came within {START_S:.0f} s ({scene.missing()}); try a smaller picture, '
                    '--model tiny, or see m3et doctor.'
                )
            if scene.trouble():
                raise Refused(f'The model node cannot start: {scene.trouble()}')
            waiting.show(f'waiting for {scene.missing()}')
            scene.look(0.2)


def _all_alive(children) -> None:
    """Raise the failure of the first child that has ended."""
    for child in children:
        if child.code is not None:
            raise child.failure()


def _ms(seconds: float | None) -> str:
    return 'unknown' if seconds is None else f'{1e3 * seconds:.0f} ms'
