"""A webcam, a video or a folder of pictures as a camera: colour alone, without depth and camera_info.

    ros2 run m3et_ros camera_video --ros-args -p video:=clip.mp4
    python -m m3et_ros.ros.camera_video --ros-args -p webcam:=/dev/video0 -r __ns:=/head/camera

Topics are relative to the namespace, /camera/camera by default. A video is paced by its own timestamps and pictures by
rate_hz; the stamp of an image is the time at which it is due, so stamps are apart as in the clip. An image that comes
late delays all that follow; none is left out. The node ends with the clip. Exit code 1 means that a part of it could
not be read; the log names it.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from m3et_ros.data.bags.writer import OPTICAL_FRAME
from m3et_ros.data.clips import Shot, Source, open_source
from m3et_ros.data.frame import NANOSECONDS
from m3et_ros.ros import process
from m3et_ros.ros.camera.subscription import newest, overrides
from m3et_ros.ros.convert import stamp_msg, to_image_msg
from m3et_ros.ros.guards import guard_services
from m3et_ros.ros.parameters import ParameterSpec as P
from m3et_ros.ros.parameters import declare, unknown_overrides

NAMESPACE = '/camera/camera'
SETTLE_S = 0.5
"""Time without a new subscriber before a clip begins: discovery of the two ends takes a moment each."""
SPIN_S = 0.05
ACK_S = 5.0
"""Longest wait until subscribers have acknowledged the last image."""
RESULT_S = 30.0
"""Longest wait for the result of the last image while the model node reports no further one."""
REPORTS = 2
"""Reports of the model node, one a second, of which the last surely counts the last image."""
LATE_IMAGES = 10
"""Number of late images in a row before a warning."""

PARAMETERS = (
    P('webcam', '', 'Webcam: its path, such as /dev/video0, or its number as text.'),
    P('video', '', 'Video file; images are apart as its container says.'),
    P('pictures', '', 'Folder of JPEG or PNG files, shown in the order of their names.'),
    P('rate_hz', 1.0, 'Pictures a second; a video and a webcam have their own rate.', 0.01, 1000),
    P('loop', False, 'Starts the clip over at its end, forever; stamps go on.'),
    P('wait_for_subscribers', False, 'Holds a clip back until somebody subscribes.'),
    P(
        'results_of',
        '',
        'Full name of a model node, such as /m3et/model: at the end of a clip this node waits until that one has '
        'served the last image. Empty does not wait.',
    ),
    P('frame_id', OPTICAL_FRAME, 'Optical frame in the headers (REP 103: z forward, x right, y down).'),
)
"""Parameters of the node."""


class CameraVideo(Node):
    """Publishes the images of a source as they are due.

    Raises:
        InputError: the source cannot be used, or a parameter is refused.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__('camera_video', namespace=NAMESPACE, **kwargs)
        guard_services(self)
        self.options = declare(self, PARAMETERS)
        for sentence in unknown_overrides(self, PARAMETERS):
            self.get_logger().warning(sentence)
        self.source = self._open()
        self._color = self.create_publisher(Image, 'color/image_raw', newest(), qos_overriding_options=overrides())
        # Images that the model node has taken and not answered for yet, and the number of its reports.
        self._unserved, self._reports, self._served = 0, 0, ''
        if self.options.results_of:
            self.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 10)
        self.sent = 0
        self._size: tuple[int, ...] = ()
        self._late = 0
        self._reported: list[str] = []
        self._stop: Callable[[], bool] = bool
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self)

    def destroy_node(self) -> None:
        """Close the source and leave the graph."""
        if hasattr(self, '_executor'):
            self._executor.shutdown(timeout_sec=1)
            self.source.close()
        super().destroy_node()

    def play(self, stop: Callable[[], bool]) -> int:
        """Publish the source once or, with loop, until stop() is true.

        Returns:
            Exit code: 0, or 1 when a part of a clip could not be read.

        Raises:
            InputError: a webcam gives no images any more.
        """
        self._stop = stop
        if self.options.wait_for_subscribers and not self.source.live:
            self._await_subscribers()
        start_s, start_ns = time.monotonic(), time.time_ns()
        # Steady time at which the clip began; it moves when images are late.
        zero_s = start_s
        while not stop():
            due_s = zero_s
            for shot in self.source.shots():
                if shot.time_s is not None:
                    zero_s += self._late_by(zero_s + shot.time_s)
                    due_s = zero_s + shot.time_s
                    self._spin_until(due_s)
                if stop():
                    return 0
                self._publish(shot, time.time_ns() if shot.time_s is None else start_ns + _ns(due_s - start_s))
            self._report_problems()
            if not self.options.loop or not self.sent or stop():
                break
            zero_s = due_s + self.source.period_s
            self.source.close()
            self.source = self._open()
        return self._finish()

    def _open(self) -> Source:
        options = self.options
        return open_source(
            webcam=options.webcam, video=options.video, pictures=options.pictures, rate_hz=options.rate_hz
        )

    def _await_subscribers(self) -> None:
        """Wait until there is a subscriber and no further one has come for SETTLE_S."""
        self.get_logger().info('waiting for a subscriber')
        known, since = 0, time.monotonic()
        while not self._stop() and (known == 0 or time.monotonic() - since < SETTLE_S):
            self._executor.spin_once(timeout_sec=SPIN_S)
            count = self._color.get_subscription_count()
            if count != known:
                known, since = count, time.monotonic()

    def _late_by(self, due_s: float) -> float:
        """Return the seconds by which an image is late, at least 0, and warn where this goes on."""
        late_s = max(0.0, time.monotonic() - due_s)
        self._late = self._late + 1 if late_s > 0 else 0
        if self._late == LATE_IMAGES:
            self.get_logger().warning(
                f'this machine does not decode {self.source.name} at its own rate, so it plays slower and no image is '
                'left out; convert it to a smaller size or a lower rate',
                once=True,
            )
        return late_s

    def _spin_until(self, due_s: float) -> None:
        """Serve parameters until an image is due; at least once."""
        self._executor.spin_once(timeout_sec=0)
        while not self._stop() and (left_s := due_s - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=min(left_s, SPIN_S))

    def _publish(self, shot: Shot, stamp_ns: int) -> None:
        if self.source.live:
            self._executor.spin_once(timeout_sec=0)
        size = shot.rgb.shape[:2]
        if self._size and size != self._size:
            self.get_logger().info(
                f'{self.source.name} has images of several sizes; each is published in its own', once=True
            )
        self._size = size
        header = Header(stamp=stamp_msg(stamp_ns), frame_id=self.options.frame_id)
        self._color.publish(to_image_msg(shot.rgb, 'rgb8', header))
        self.sent += 1

    def _report_problems(self) -> None:
        for sentence in self.source.problems:
            if sentence not in self._reported:
                self._reported.append(sentence)
                self.get_logger().error(sentence)

    def _finish(self) -> int:
        """Wait until the last image is delivered and served, and log the number of images; return the exit code."""
        deadline = time.monotonic() + ACK_S
        while not self._stop() and not self._color.wait_for_all_acked(Duration(seconds=0.1)):
            if time.monotonic() > deadline:
                self.get_logger().warning(f'the last image was not acknowledged within {ACK_S:g} s')
                break
        if self.options.results_of:
            self._await_results()
        self.get_logger().info(f'end of {self.source.name}, images sent: {self.sent}')
        return 1 if self._reported else 0

    def _await_results(self) -> None:
        """Wait until the model node reports that it has served all images it took, and answered all questions."""
        until, served, since = self._reports + REPORTS, self._served, time.monotonic()
        while not self._stop() and (self._reports < until or self._unserved > 0):
            self._executor.spin_once(timeout_sec=SPIN_S)
            if self._served != served:
                served, since = self._served, time.monotonic()
            if time.monotonic() - since > RESULT_S:
                self.get_logger().warning(
                    f'{self.options.results_of} has reported no result for {RESULT_S:g} s; the last ones may be missing'
                )
                return

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == self.options.results_of:
                values = {pair.key: pair.value for pair in status.values}
                # Frames that the node took and serves no more.
                passed = int(values.get('dropped/frame_superseded', 0)) + int(values.get('frames_unneeded', 0))
                # Those of a vision-language model have a queue of their own.
                questions = int(values.get('questions_waiting', 0)) + int(values.get('answerer/waiting', 0))
                self._served = values.get('frames_out', '0')
                waiting = int(values.get('frames_in', 0)) - int(self._served) - passed
                self._unserved = max(0, waiting) + questions
                self._reports += 1


def _ns(seconds: float) -> int:
    return round(seconds * NANOSECONDS)


def main(args: list[str] | None = None) -> int:
    """Publish a source and return the exit code."""
    return process.run(CameraVideo, args, serve=CameraVideo.play)


if __name__ == '__main__':
    sys.exit(main())
