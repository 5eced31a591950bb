"""Camera and instruction topics: messages are paired by stamp here and decoded later, on the inference thread."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from threading import Lock

from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode
from rclpy.timer import Timer
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header, String

from m3et_ros.data.bags.cdr import typestore
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame
from m3et_ros.data.images.compressed import depth_from_compressed, rgb_from_compressed
from m3et_ros.data.images.messages import depth_from_msg, rgb_from_msg
from m3et_ros.msg import Instruction
from m3et_ros.ros import interfaces
from m3et_ros.ros.camera.subscription import TopicReader
from m3et_ros.ros.camera.sync import Pair, Synchroniser, require_same_size
from m3et_ros.ros.camera.wait_thread import WaitThread
from m3et_ros.ros.convert import stamp_msg, stamp_ns

RGB = {'raw': interfaces.RGB, 'compressed': interfaces.RGB_COMPRESSED}
DEPTH = {'raw': interfaces.DEPTH, 'compressedDepth': interfaces.DEPTH_COMPRESSED}
# How often publishers are looked for, in seconds.
FOLLOW_S = 0.5


@dataclass(frozen=True)
class PairedMessages:
    """A pair of messages on its way to the inference thread, of rclpy or of rosbags."""

    pair: Pair
    info: CameraInfo | None
    instruction: str

    @cached_property
    def header(self) -> Header:
        """Header of the colour image, which every result carries."""
        header = self.pair.rgb.header
        return Header(stamp=stamp_msg(stamp_ns(header.stamp)), frame_id=header.frame_id)

    def decode(self) -> tuple[Frame, InputError | None]:
        """The frame, and why its depth was left out if it was.

        Raises:
            InputError: the colour image cannot be read.
        """
        message = self.pair.rgb
        rgb = rgb_from_compressed(message) if _compressed(message) else rgb_from_msg(message)
        depth, problem = None, self.pair.error
        if self.pair.depth is not None:
            try:
                depth = self._decode_depth(rgb)
            except InputError as error:
                problem = error
        return Frame(rgb, depth, self.pair.stamp_ns, self.instruction, self.header.frame_id), problem

    def _decode_depth(self, rgb):
        message = self.pair.depth
        depth = depth_from_compressed(message) if _compressed(message) else depth_from_msg(message)
        require_same_size(rgb, depth)
        return depth


def _compressed(message) -> bool:
    return hasattr(message, 'format')


class Instructions:
    """What the robot is asked to attend to; each holds from its stamp until the next one."""

    def __init__(self, standing: str, limit: int = 16):
        self._lock = Lock()
        self._known: deque[tuple[int, str]] = deque([(0, standing.strip())], maxlen=limit)

    def add(self, nanoseconds: int, text: str) -> None:
        """Take in an instruction; stamp 0 means 'from now on', whatever the clocks say."""
        with self._lock:
            if nanoseconds == 0:
                self._known.clear()
            self._known.append((nanoseconds, text.strip()))

    def at(self, nanoseconds: int) -> str:
        """The instruction that holds for an image with this stamp; empty for none."""
        with self._lock:
            holding = [(t, n) for n, (t, _) in enumerate(self._known) if t <= nanoseconds]
            return self._known[max(holding)[1]][1] if holding else ''


class CameraInputs:
    """Subscriptions of the model node while it is active."""

    def __init__(self, node: LifecycleNode, offer: Callable[[PairedMessages], None]):
        """Remember whom to serve; nothing is read before `start`.

        Args:
            node: subscribes; its `settings` say how.
            offer: takes each finished sample, on the thread of the intake.
        """
        self._node = node
        self._offer = offer
        self._readers: list[TopicReader] = []
        self._timer: Timer | None = None
        self._info: CameraInfo | None = None
        self._intake: WaitThread | None = None
        self.sync = Synchroniser()
        self.instructions = Instructions('')

    def start(self) -> None:
        """Open the topics."""
        settings = self._node.settings
        self.sync = Synchroniser(
            slop_s=settings.sync_slop_s, depth_wait_s=settings.depth_wait_s, stall=settings.depth_stall
        )
        self.instructions = Instructions(settings.instruction)
        typestore()  # now, not at the first image
        # Between messages, since waiting for depth must end also where nothing comes and simulated time stands still.
        self._intake = WaitThread(self._node.context, lambda: self._pass(self.sync.poll()))
        # Instructions first: one that came together with an image holds for it.
        self._read({'raw': interfaces.INSTRUCTION}, self._on_instruction, 'raw')
        self._read({'raw': interfaces.INSTRUCTION_TEXT}, self._on_text, 'raw')
        self._read(RGB, self._on_rgb, settings.rgb_transport)
        if settings.depth_transport != 'none':
            self._read(DEPTH, self._on_depth, settings.depth_transport)
        self._read({'raw': interfaces.RGB_INFO}, self._on_info, 'raw')
        # On the steady clock, for the same reason.
        self._timer = self._node.create_timer(FOLLOW_S, self._follow, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def stop(self) -> None:
        """Close the topics."""
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
        for reader in self._readers:
            reader.close()
        self._timer, self._readers = None, []
        if self._intake is not None:
            self._intake.close()
            self._intake = None

    def _read(self, transports, callback, transport: str) -> None:
        self._readers.append(
            TopicReader(
                self._node,
                transports,
                callback,
                counters=self._node.health.counters,
                transport=transport,
                reliability=self._node.settings.reliability,
                watched=transports is RGB,
                intake=self._intake,
                refuse=self._node.health.refuse if transports in (RGB, DEPTH) else None,
            )
        )

    def _follow(self) -> None:
        for reader in self._readers:
            reader.follow(self._node.settings.silent_topic_s)

    def _on_rgb(self, message) -> None:
        self._node.health.arrived.tick()
        self._pass(self.sync.add_rgb(stamp_ns(message.header.stamp), message))

    def _on_depth(self, message) -> None:
        self._pass(self.sync.add_depth(stamp_ns(message.header.stamp), message))

    def _on_info(self, message: CameraInfo) -> None:
        self._info = message

    def _on_instruction(self, message: Instruction) -> None:
        self._instruct(stamp_ns(message.header.stamp), message.text)

    def _on_text(self, message: String) -> None:
        self._instruct(0, message.data)

    def _instruct(self, nanoseconds: int, text: str) -> None:
        limit = self._node.settings.max_question_chars
        if len(text) > limit:
            self._node.health.refuse(
                InputError(
                    'instruction_long',
                    f'The instruction has {len(text)} characters and '
                    f'at most {limit} are read; shorten it or raise max_question_chars.',
                )
            )
        else:
            self.instructions.add(nanoseconds, text)

    def _pass(self, pair: Pair | None) -> None:
        if pair is not None:
            self._offer(PairedMessages(pair, self._info, self.instructions.at(pair.stamp_ns)))
