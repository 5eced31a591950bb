"""A webcam, a video or a folder of pictures as the camera of a robot, in a process of its own."""

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import typer

from m3et_ros.cli.output import Refused
from m3et_ros.cli.processes import Child
from m3et_ros.cli.ros_names import assignments, full_namespace, ros_arguments

CAMERA_VIDEO = 'm3et_ros.ros.camera_video'
RATE_HZ = 1.0
"""Pictures a second unless --rate is given."""


@dataclass(frozen=True, kw_only=True)
class CameraSource:
    """A camera that needs no driver: colour alone."""

    panel: ClassVar[str] = 'Camera'

    webcam: Annotated[
        str,
        typer.Option(
            '--webcam', metavar='N', help='Webcam as the camera: 0 for /dev/video0, or a path.', show_default=False
        ),
    ] = ''
    video: Annotated[
        Path | None,
        typer.Option(
            '--video', help='Video file as the camera, at its own pace; its end ends the robot.', show_default=False
        ),
    ] = None
    pictures: Annotated[
        Path | None,
        typer.Option('--pictures', help='Folder of JPEG or PNG files as the camera, by name.', show_default=False),
    ] = None
    rate: Annotated[
        float | None,
        typer.Option(
            '--rate', min=0.01, max=1000, help='With --pictures: pictures a second; 1 by default.', show_default=False
        ),
    ] = None
    loop: Annotated[
        bool, typer.Option('--loop', help='With --video or --pictures: start again at the end, until Ctrl-C.')
    ] = False

    @property
    def given(self) -> bool:
        """True where one of the sources was given."""
        return bool(self.webcam or self.video or self.pictures)

    @property
    def name(self) -> str:
        """The source in a word or two."""
        return f'webcam {self.webcam}' if self.webcam else str(self.video or self.pictures)


def check_source(source: CameraSource) -> None:
    """Refuse options that do not go together, and a clip that cannot be read, before anything is started.

    A webcam is opened by its process alone, because some drivers refuse a camera that was in use a moment ago.

    Raises:
        Refused: the options do not go together.
        InputError: the clip is missing, damaged or empty.
    """
    if sum(map(bool, (source.webcam, source.video, source.pictures))) > 1:
        raise Refused('--webcam, --video and --pictures are three cameras; give one of them.')
    if source.rate is not None and not source.pictures:
        raise Refused('--rate goes with --pictures; a video and a webcam have their own rate.')
    if source.loop and not (source.video or source.pictures):
        raise Refused('--loop goes with --video or --pictures.')
    if source.video or source.pictures:
        from m3et_ros.data.clips import open_source

        open_source(video=str(source.video or ''), pictures=str(source.pictures or '')).close()


def source_arguments(source: CameraSource, camera: str, namespace: str) -> list[str]:
    """Return the arguments of the camera's process.

    Args:
        source: the source that was given.
        camera: prefix of the topics of the camera.
        namespace: namespace of the model node, which must have served the last image before the camera ends.

    Raises:
        Refused: the prefix is not a ROS name.
    """
    given = {
        name: str(value)
        for name, value in (('webcam', source.webcam), ('video', source.video), ('pictures', source.pictures))
        if value
    }
    return ros_arguments(
        namespace=full_namespace(camera, '--camera'),
        parameters=assignments(
            **given,
            rate_hz=source.rate or RATE_HZ,
            loop=source.loop,
            wait_for_subscribers=True,
            results_of=f'{namespace}/model',
        ),
    )


class SourceEnd(threading.Event):
    """An event that is set by a signal and by the end of the camera's process.

    Args:
        stopped: set by a signal.
        camera: process of the camera.
    """

    def __init__(self, stopped: threading.Event, camera: Child):
        super().__init__()
        self._stopped, self._camera = stopped, camera

    def is_set(self) -> bool:
        """Return True after a signal or the end of the camera."""
        return self._stopped.is_set() or self._camera.code is not None

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for a signal for `timeout` seconds; return `is_set`."""
        return self._stopped.wait(timeout) or self.is_set()
