"""Recording of one episode of the simulated kitchen as a bag, without ROS."""

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from m3et_ros.cli.progress import track
from m3et_ros.data.errors import InputError

START_NS = 1_700_000_000 * 10**9
"""Stamp of the first frame: fixed, so that the same seed writes the same messages."""


@dataclass(frozen=True, kw_only=True)
class RecordOptions:
    """The episode to record, its camera and its storage."""

    seed: Annotated[int, typer.Option(min=0, help='The same seed gives the same kitchen and the same actions.')] = 0
    frames: Annotated[int, typer.Option(min=1, help='Number of frames.')] = 300
    fps: Annotated[float, typer.Option(min=1, max=240, help='Frames per second of simulated time.')] = 10.0
    width: Annotated[int, typer.Option(min=16, max=4096, help='Pixels.')] = 640
    height: Annotated[int, typer.Option(min=16, max=4096, help='Pixels.')] = 480
    storage: Annotated[Literal['mcap', 'sqlite3'], typer.Option(help='Storage plug-in.')] = 'mcap'
    compressed: Annotated[bool, typer.Option('--compressed', help='JPEG colour and PNG depth instead of raw.')] = False
    backend: Annotated[Literal['auto', 'egl', 'osmesa', 'raycast'], typer.Option(help='Renderer.')] = 'auto'


@dataclass(frozen=True)
class RecordedEpisode:
    """A recorded episode."""

    # Number of frames; fewer than requested if a signal came.
    frames: int
    # Actions that were finished.
    labels: list[Any]
    # Renderer that was used.
    backend: str


def record_episode(
    options: RecordOptions,
    episode: Any,
    bag: Path,
    stopped: threading.Event,
    observe: Callable[[Any], Any] | None = None,
) -> RecordedEpisode:
    """Record an episode; it ends early if `stopped` is set.

    Args:
        options: number of frames, storage and renderer.
        episode: episode to record, as from `open_episode`.
        bag: folder to create.
        stopped: event that ends the recording after the current frame.
        observe: receives every observation before it is written.

    Raises:
        InputError: the bag exists already or cannot be written.
    """
    from m3et_ros.data.bags.writer import BagWriter
    from m3et_ros.data.kitchen.sim.camera import Camera

    frames = 0
    with (
        Camera(episode, backend=options.backend, shadows=False) as camera,
        _complete(bag),
        BagWriter(bag, options.storage, images='compressed' if options.compressed else 'raw') as writer,
    ):
        for state in track(episode.run(options.frames), options.frames, f'recording {bag}'):
            observation = camera.observe(state)
            if observe is not None:
                observe(observation)
            writer.write_observation(observation, START_NS)
            frames += 1
            if stopped.is_set():
                break
    return RecordedEpisode(frames, list(episode.labels), camera.backend)


@contextmanager
def _complete(bag: Path) -> Iterator[None]:
    """Turn an OSError of the block into a refusal, and remove the bag that it has begun.

    Raises:
        InputError: 'out_unwritable'.
    """
    from m3et_ros.data.files import refuse_unwritable

    was_there = bag.exists()
    try:
        with refuse_unwritable(bag, 'give a writable folder with free space'):
            yield
    except InputError as error:
        if error.reason == 'out_unwritable' and not was_there:
            shutil.rmtree(bag, ignore_errors=True)
        raise


def open_episode(options: RecordOptions, seed: int) -> Any:
    """Return the episode of a seed with the camera of the options."""
    from m3et_ros.data.kitchen.sim.episode import Episode

    return Episode(seed, width=options.width, height=options.height, fps=options.fps)
