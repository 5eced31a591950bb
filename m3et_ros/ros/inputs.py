"""Camera and instruction topics: messages are paired by stamp here and decoded later, on the inference thread."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CameraInfo, CompressedImage
from std_msgs.msg import Header, String

from m3et_ros.data.compressed import depth_from_compressed, rgb_from_compressed
from m3et_ros.data.errors import InputError
from m3et_ros.data.images import depth_from_msg, rgb_from_msg
from m3et_ros.data.types import Frame
from m3et_ros.msg import Instruction
from m3et_ros.ros import interfaces
from m3et_ros.ros.messages import stamp_ns
from m3et_ros.ros.reader import TopicReader
from m3et_ros.ros.sync import Pair, Synchroniser, require_same_size

RGB = {'raw': interfaces.RGB, 'compressed': interfaces.RGB_COMPRESSED}
DEPTH = {'raw': interfaces.DEPTH, 'compressedDepth': interfaces.DEPTH_COMPRESSED}
# How often waiting colour images are looked at, and how often publishers are, in seconds.
POLL_S, FOLLOW_S = 0.05, 0.5


@dataclass(frozen=True)
class Sample:
    """A pair of messages on its way to the inference thread."""

    pair: Pair
    info: CameraInfo | None
    instruction: str

    @property
    def header(self) -> Header:
        """Header of the colour image, which every result carries."""
        return self.pair.rgb.header

    def decode(self) -> tuple[Frame, InputError | None]:
        """The frame, and why its depth was left out if it was.

        Raises:
            InputError: the colour image cannot be read.
        """
        message = self.pair.rgb
        rgb = rgb_from_compressed(message) if isinstance(message, CompressedImage) else rgb_from_msg(message)
        depth, problem = None, self.pair.error
        if self.pair.depth is not None:
            try:
                depth = self._decode_depth(rgb)
            except InputError as error:
                problem = error
        return Frame(rgb, depth, self.pair.stamp_ns, self.instruction, self.header.frame_id), problem

    def _decode_depth(self, rgb):
        message = self.pair.depth
        compressed = isinstance(message, CompressedImage)
        depth = depth_from_compressed(message) if compressed else depth_from_msg(message)
        require_same_size(rgb, depth)
        return depth


class Instructions:
    """What the robot is asked to attend to; each holds from its stamp until the next one."""

    def __init__(self, standing: str, limit: int = 16):
        self._known: deque[tuple[int, str]] = deque([(0, standing.strip())], maxlen=limit)

    def add(self, nanoseconds: int, text: str) -> None:
        """Take in an instruction; stamp 0 means 'from now on', whatever the clocks say."""
        if nanoseconds == 0:
            self._known.clear()
        self._known.append((nanoseconds, text.strip()))

    def at(self, nanoseconds: int) -> str:
        """The instruction that holds for an image with this stamp; empty for none."""
        holding = [(t, n) for n, (t, _) in enumerate(self._known) if t <= nanoseconds]
        return self._known[max(holding)[1]][1] if holding else ''


class CameraInputs:
    """Subscriptions of the model node while it is active."""

    def __init__(self, node: LifecycleNode, offer: Callable[[Sample], None]):
        """Remember whom to serve; nothing is read before `start`.

        Args:
            node: subscribes; its `settings` say how.
            offer: takes each finished sample, on the executor thread.
        """
        self._node = node
        self._offer = offer
        self._readers: list[TopicReader] = []
        self._timers = []
        self._info: CameraInfo | None = None
        self.sync = Synchroniser()
        self.instructions = Instructions('')

    def start(self) -> None:
        """Open the topics."""
        settings = self._node.settings
        self.sync = Synchroniser(slop_s=settings.sync_slop_s, depth_wait_s=settings.depth_wait_s,
                                 stall=settings.depth_stall)
        self.instructions = Instructions(settings.instruction)
        self._read(RGB, self._on_rgb, settings.rgb_transport)
        if settings.depth_transport != 'none':
            self._read(DEPTH, self._on_depth, settings.depth_transport)
        self._read({'raw': interfaces.RGB_INFO}, self._on_info, 'raw')
        self._read({'raw': interfaces.INSTRUCTION}, self._on_instruction, 'raw')
        self._read({'raw': interfaces.INSTRUCTION_TEXT}, self._on_text, 'raw')
        # On the steady clock: waiting must end also when simulated time stands still.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timers = [self._node.create_timer(POLL_S, lambda: self._pass(self.sync.poll()), clock=steady),
                        self._node.create_timer(FOLLOW_S, self._follow, clock=steady)]

    def stop(self) -> None:
        """Close the topics."""
        for timer in self._timers:
            self._node.destroy_timer(timer)
        for reader in self._readers:
            reader.close()
        self._timers, self._readers = [], []

    def _read(self, transports, callback, transport: str) -> None:
        self._readers.append(TopicReader(
            self._node, transports, callback, counters=self._node.health.counters, transport=transport,
            reliability=self._node.settings.reliability, watched=transports is RGB))

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
            self._node.health.refuse(InputError('instruction_long', f'The instruction has {len(text)} characters and '
                                     f'at most {limit} are read; shorten it or raise max_question_chars.'))
        else:
            self.instructions.add(nanoseconds, text)

    def _pass(self, pair: Pair | None) -> None:
        if pair is not None:
            self._offer(Sample(pair, self._info, self.instructions.at(pair.stamp_ns)))
