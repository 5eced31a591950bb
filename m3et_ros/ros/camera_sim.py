"""The simulated kitchen as a RealSense camera: colour, aligned depth and camera_info.

    ros2 run m3et_ros camera_sim --ros-args -p seed:=7 -p rate_hz:=10.0
    python -m m3et_ros.ros.camera_sim --ros-args -r __ns:=/robot2/camera -p backend:=raycast

Topics are relative to the namespace, /camera/camera by default. A thread of its own renders. The true action of the
person in the kitchen is published on ~/action beside the images, as ground truth for comparison.
"""

import json
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.publisher import Publisher
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header, String

from m3et_ros.data.bags.writer import OPTICAL_FRAME, truth
from m3et_ros.data.errors import InputError
from m3et_ros.data.images.messages import depth_to_mm
from m3et_ros.data.kitchen.questions.frame import VisibleScene, drafts
from m3et_ros.data.kitchen.questions.frame_wordings import phrasings
from m3et_ros.data.kitchen.sim.camera import Camera, Observation
from m3et_ros.data.kitchen.sim.episode import Episode, import_mujoco
from m3et_ros.data.kitchen.sim.renderers import BACKENDS, choose_backend
from m3et_ros.ros import process
from m3et_ros.ros.camera.subscription import newest, overrides
from m3et_ros.ros.convert import stamp_ns, to_image_msg
from m3et_ros.ros.guards import guard_services
from m3et_ros.ros.parameters import ParameterSpec as P
from m3et_ros.ros.parameters import declare, unknown_overrides

NAMESPACE = '/camera/camera'
ENDLESS = sys.maxsize
JOIN_S = 1.0
"""Longest wait in seconds for the image being rendered when the node stops."""

NEAREST_M, FURTHEST_M = 0.3, 6.0
"""Range of the simulated depth sensor, about that of a RealSense D435."""
DISPARITY_PX, BASELINE_M = 0.125, 0.05
"""Smallest step of disparity in pixels, and distance of the two imagers of the stereo sensor in metres."""
LATE_IMAGES = 10
"""Number of late images in a row before a warning; the first ones of an episode always take longer."""


PARAMETERS = (
    P('seed', 0, 'Seed of kitchen and person; the same seed gives the same images.', 0, 2**53),
    P('rate_hz', 10.0, 'Images per second, simulated and published.', 1, 60),
    P('width', 640, 'Width of an image in pixels.', 16, 1920),
    P('height', 480, 'Height of an image in pixels.', 16, 1200),
    P('backend', 'auto', 'Renderer; auto takes the first of the others that works.', choices=('auto', *BACKENDS)),
    P(
        'depth_encoding',
        '16UC1',
        'Depth in millimetres (16UC1, 0 unknown) or metres (32FC1, NaN unknown).',
        choices=('16UC1', '32FC1'),
    ),
    P(
        'depth_noise',
        False,
        'Gives depth holes where one of two imagers has no view, steps that grow with distance and a limited range.',
    ),
    P('questions', '', 'Questions, separated by |, whose true answers ~/action reports too, if they have one.'),
    P(
        'episode_frames',
        0,
        'Number of images after which the kitchen of the next seed follows; 0 stays in one.',
        0,
        10**9,
    ),
    P('frame_id', OPTICAL_FRAME, 'Optical frame in the headers (REP 103: z forward, x right, y down).'),
)
"""Parameters of the node."""


def sensed(depth: np.ndarray, K: np.ndarray) -> np.ndarray:
    """Return depth as an active stereo sensor would measure it.

    Args:
        depth: metres (H, W) float32, NaN where unknown.
        K: intrinsics (3, 3) in pixels.

    Returns:
        Metres (H, W) float32 in steps of z^2 * DISPARITY_PX / (f * BASELINE_M), because disparity has steps; NaN out of
        range and where only one of the two imagers has a view: to the left of near things, in shadows whose width is
        the difference of the disparities.
    """
    scale = K[0, 0] * BASELINE_M / DISPARITY_PX
    with np.errstate(invalid='ignore', divide='ignore'):
        noisy = (scale / np.rint(scale / depth)).astype(np.float32)
        disparity = np.nan_to_num(scale * DISPARITY_PX / depth, posinf=0)
        # Columns of the second imager; a nearer thing further right covers what falls at or beyond its column.
        columns = np.arange(depth.shape[1]) - disparity
        nearest = np.minimum.accumulate(columns[:, ::-1], 1)[:, ::-1]
        shadow = np.zeros(depth.shape, bool)
        shadow[:, :-1] = nearest[:, 1:] < columns[:, :-1]
        noisy[shadow | ~((depth >= NEAREST_M) & (depth <= FURTHEST_M))] = np.nan
    return noisy


def true_answers(episode: Episode, observation: Observation, questions: Sequence[str]) -> dict[str, str]:
    """Return the true answers to those of the questions that one frame of the kitchen can be asked."""
    if not questions:
        return {}
    found = {}
    for _, (kind, answer, fields) in drafts(VisibleScene(episode, observation)):
        for wording in phrasings(kind, episode.version):
            text = wording.format(**fields)
            if text in questions:
                found[text] = answer
    return found


def info_msg(K: np.ndarray, width: int, height: int, header: Header) -> CameraInfo:
    """Return the camera_info of a pinhole camera without distortion and with intrinsics K (3, 3) in pixels."""
    return CameraInfo(
        header=header,
        width=width,
        height=height,
        distortion_model='plumb_bob',
        d=[0.0] * 5,
        k=K.ravel(),
        r=np.eye(3).ravel(),
        p=np.hstack([K, np.zeros((3, 1))]).ravel(),
    )


class CameraSim(Node):
    """Publishes the view of the person in the simulated kitchen.

    Raises:
        InputError: MuJoCo is missing, the chosen renderer does not work here, or a parameter is refused.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__('camera_sim', namespace=NAMESPACE, **kwargs)
        guard_services(self)
        self.options = declare(self, PARAMETERS)
        for sentence in unknown_overrides(self, PARAMETERS):
            self.get_logger().warning(sentence)
        try:
            import_mujoco()
            self.backend = choose_backend(self.options.backend)
        except RuntimeError as error:
            raise InputError('renderer_missing', str(error)) from error
        self._color = self._camera_publisher(Image, 'color/image_raw')
        self._depth = self._camera_publisher(Image, 'aligned_depth_to_color/image_raw')
        self._info = self._camera_publisher(CameraInfo, 'color/camera_info')
        self._action = self.create_publisher(String, '~/action', 10)
        self._failure: Exception | None = None
        self._late = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._render, name='kitchen', daemon=True)

    def play(self, stop: Callable[[], bool]) -> None:
        """Publish until stop() is true; raise what fails while rendering."""
        self._thread.start()
        process.spin(self, lambda: stop() or not self._thread.is_alive())
        if self._failure:
            raise self._failure

    def stop(self) -> None:
        """End the thread after the image it renders."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(JOIN_S)

    def destroy_node(self) -> None:
        """Stop rendering and leave the graph."""
        self.stop()
        super().destroy_node()

    def _camera_publisher(self, kind: type, topic: str) -> Publisher:
        """Create a reliable, keep-last 1 publisher; the parameters qos_overrides.<topic> change that."""
        return self.create_publisher(kind, topic, newest(), qos_overriding_options=overrides())

    def _render(self) -> None:
        """Render one episode after another on the thread, because a renderer belongs to the thread that created it."""
        try:
            seed = self.options.seed
            while not self._stopping.is_set():
                self._episode(seed)
                seed += 1
        except Exception as error:
            # Once the context is shut down publishers fail; play() raises any other failure.
            self._failure = error if self.context.ok() else None

    def _episode(self, seed: int) -> None:
        options = self.options
        questions = tuple(filter(None, options.questions.split('|')))
        episode = Episode(seed, width=options.width, height=options.height, fps=options.rate_hz)
        with Camera(episode, backend=self.backend, shadows=False) as camera:
            self.get_logger().info(
                f'kitchen {seed}, {options.width}x{options.height} at {options.rate_hz:g} Hz, '
                f'rendered with {self.backend}'
            )
            due = time.monotonic()
            for state in episode.run(options.episode_frames or ENDLESS):
                observation = camera.observe(state)
                due = self._wait_until(due)
                if self._stopping.is_set():
                    return
                self._publish(observation, true_answers(episode, observation, questions))

    def _wait_until(self, due: float) -> float:
        """Wait until an image is due and return the due time of the next; a late image delays all that follow."""
        late = time.monotonic() - due
        self._late = self._late + 1 if late > 0 else 0
        if self._late == LATE_IMAGES:
            self.get_logger().warning(
                f'{self.backend} is too slow for {self.options.rate_hz:g} Hz here, so images are published as soon as '
                'they are ready; choose a smaller image or a lower rate_hz',
                once=True,
            )
        if late < 0:
            self._stopping.wait(-late)
        return due + max(0.0, late) + 1 / self.options.rate_hz

    def _publish(self, observation: Observation, answers: dict[str, str]) -> None:
        """Publish one image; its stamp is the time at which it is complete, as if exposed then."""
        header = Header(stamp=self.get_clock().now().to_msg(), frame_id=self.options.frame_id)
        depth = sensed(observation.depth, observation.K) if self.options.depth_noise else observation.depth
        if self.options.depth_encoding == '16UC1':
            depth = depth_to_mm(depth)
        height, width = observation.depth.shape
        self._info.publish(info_msg(observation.K, width, height, header))
        self._depth.publish(to_image_msg(depth, self.options.depth_encoding, header))
        self._color.publish(to_image_msg(observation.rgb, 'rgb8', header))
        action = {'stamp_ns': stamp_ns(header.stamp), **truth(observation.state), 'answers': answers}
        self._action.publish(String(data=json.dumps(action)))


def main(args: list[str] | None = None) -> int:
    """Run the camera and return the exit code."""
    return process.run(CameraSim, args, serve=CameraSim.play)


if __name__ == '__main__':
    sys.exit(main())
