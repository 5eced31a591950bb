"""Camera and instruction topics: pair messages by stamp, give the pairs to the inference thread, decode them there."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.serialization import deserialize_message
from rclpy.timer import Timer
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from m3et_ros.data.bags.cdr import from_cdr, typestore
from m3et_ros.data.errors import InputError
from m3et_ros.data.frame import Frame
from m3et_ros.data.images.compressed import depth_from_compressed, rgb_from_compressed
from m3et_ros.data.images.messages import depth_from_msg, rgb_from_msg
from m3et_ros.ros import interfaces
from m3et_ros.ros.camera.stream_watch import CAUSES, Limits, StreamWatch, Topics, expected_size
from m3et_ros.ros.camera.subscription import TopicReader
from m3et_ros.ros.camera.sync import Pair, Synchroniser, require_same_size
from m3et_ros.ros.camera.wait_thread import IDLE_S, WaitThread
from m3et_ros.ros.convert import intrinsics_of, stamp_msg, stamp_ns
from m3et_ros.ros.environment import foreign_shared_memory
from m3et_ros.ros.host import Host
from m3et_ros.ros.interfaces import Interface
from m3et_ros.ros.process import share

RGB = {'raw': interfaces.RGB, 'compressed': interfaces.RGB_COMPRESSED}
DEPTH = {
    'raw': interfaces.DEPTH,
    'compressedDepth': interfaces.DEPTH_COMPRESSED,
    'compressed': interfaces.DEPTH_PICTURE,
}
PROFILE = str(share('config', 'fastdds.xml'))
"""Fast DDS profile for large images, which a camera driver needs too."""
POLL_S = 0.05
"""Seconds between two looks at a colour image that waits for its depth, if no message arrives."""
FOLLOW_S = 0.5
"""Seconds between two checks of the publishers of the topics."""


@dataclass(frozen=True)
class PairedMessages:
    """A colour and a depth message on their way to the inference thread, with what belongs to them."""

    # The messages, of rclpy's types or of rosbags'.
    pair: Pair
    # Intrinsics of the colour camera; None before they arrive.
    info: CameraInfo | None
    # Instruction that holds for the colour image; '' for none.
    instruction: str
    # Metres of one unit of the depth image; 0 = by its encoding.
    depth_unit_m: float = 0.0
    # True where depth comes for colour images, so that one without has lost it.
    depth_comes: bool = False

    @cached_property
    def header(self) -> Header:
        """Header of the colour image, which every result carries."""
        header = self.pair.rgb.header
        return Header(stamp=stamp_msg(stamp_ns(header.stamp)), frame_id=header.frame_id)

    def decode(self) -> tuple[Frame, InputError | None]:
        """Decode the images.

        Returns:
            The frame, and the reason if its depth was left out.

        Raises:
            InputError: the colour image cannot be decoded.
        """
        message = self.pair.rgb
        rgb = rgb_from_compressed(message) if _is_compressed(message) else rgb_from_msg(message)
        depth, problem = None, self.pair.error
        if self.pair.depth is not None:
            message, read = self.pair.depth, depth_from_msg
            if _is_compressed(message):
                read = depth_from_compressed
            try:
                decoded = read(message, self.depth_unit_m)
                require_same_size(rgb, decoded)
                depth = decoded
            except InputError as error:
                problem = error
        K = intrinsics_of(self.info_for(rgb.shape))
        return Frame(rgb, depth, self.pair.stamp_ns, self.instruction, self.header.frame_id, K), problem

    def info_for(self, size: tuple[int, ...]) -> CameraInfo | None:
        """Return the intrinsics, unless they are for images of another size than (H, W)."""
        expected = expected_size(self.info) if self.info is not None else None
        return self.info if expected in (None, size[:2]) else None


def _is_compressed(message: Any) -> bool:
    return hasattr(message, 'format')


class Instructions:
    """The instructions given to the robot; each holds from its stamp until the next one."""

    def __init__(self, first: str, limit: int = 16):
        """Start with an instruction that holds from the beginning.

        Args:
            first: its text; '' for none.
            limit: number of instructions that are stored; the oldest are dropped.
        """
        self._lock = Lock()
        self._stored: deque[tuple[int, str]] = deque([(0, first.strip())], maxlen=limit)

    def add(self, nanoseconds: int, text: str) -> None:
        """Add an instruction; stamp 0 means 'from now on', whatever the clocks say."""
        with self._lock:
            if nanoseconds == 0:
                self._stored.clear()
            self._stored.append((nanoseconds, text.strip()))

    def at(self, nanoseconds: int) -> str:
        """Return the instruction that holds for an image with this stamp; '' for none."""
        with self._lock:
            # Of two instructions with the same stamp, the one that arrived later holds.
            holding = [(stamp, order) for order, (stamp, _) in enumerate(self._stored) if stamp <= nanoseconds]
            return self._stored[max(holding)[1]][1] if holding else ''


class CameraInputs:
    """The subscriptions of the model node while it is active."""

    def __init__(self, host: Host):
        """Prepare; `start` subscribes."""
        self._host = host
        self._rgb: TopicReader | None = None
        self._depth: TopicReader | None = None
        self._readers: list[TopicReader] = []
        self._timer: Timer | None = None
        self._info: CameraInfo | None = None
        self._wait_thread: WaitThread | None = None
        self.sync = Synchroniser()
        self.watch = StreamWatch()
        self.instructions = Instructions('')

    def start(self) -> None:
        """Subscribe to the topics."""
        settings = self._host.settings
        self.sync = Synchroniser(
            slop_s=settings.sync_slop_s, depth_wait_s=settings.depth_wait_s, stall=settings.depth_stall
        )
        self.watch = StreamWatch()
        self.instructions = Instructions(settings.instruction)
        typestore()  # takes a moment, which must not delay the first image
        # After each wait, because waiting for depth must end even if no message arrives and simulated time is frozen.
        self._wait_thread = WaitThread(self._host.context, self._poll)
        # Instructions first: one that arrives together with an image holds for it.
        # All raw: what does not parse is counted here, and rclpy would drop it without a word.
        self._reader([interfaces.INSTRUCTION], self._on_instruction, raw=True, latched=True)
        self._reader([interfaces.INSTRUCTION_TEXT], self._on_instruction_text, raw=True, latched=True)
        self._rgb = self._reader(_chosen(RGB, settings.rgb_transport), self._on_rgb, raw=True)
        self._depth = None
        if settings.depth_transport != 'none':
            self._depth = self._reader(_chosen(DEPTH, settings.depth_transport), self._on_depth, raw=True)
        self._reader([interfaces.RGB_INFO], self._on_info, raw=True, latched=True)
        for reader in self._readers:
            reader.open()
        # On the steady clock, because simulated time may stand still.
        self._timer = self._host.create_timer(
            FOLLOW_S, self._follow_publishers, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )

    @property
    def alive(self) -> bool:
        """False when the thread that takes the messages has ended although nobody stopped it."""
        return self._wait_thread is None or self._wait_thread.alive

    @property
    def topics(self) -> dict[str, str]:
        """Full names of the topics that are read now, by input; empty while the node is not active."""
        read = {'rgb': self._rgb, 'depth': self._depth}
        names = {name: reader.transport.name for name, reader in read.items() if reader in self._readers}
        if names:
            names['camera_info'] = interfaces.RGB_INFO.name
        return {name: self._host.resolve_topic_name(topic) for name, topic in names.items()}

    def stop(self) -> None:
        """Unsubscribe."""
        if self._timer is not None:
            self._host.destroy_timer(self._timer)
            self._timer = None
        for reason in ('rgb_silent', 'depth_silent', *CAUSES):
            self._host.health.set_cause(reason, '')
        for reader in self._readers:
            reader.close()
        self._readers = []
        if self._wait_thread is not None:
            self._wait_thread.close()
            self._wait_thread = None

    def _reader(
        self,
        transports: Sequence[Interface],
        callback: Callable[[Interface, Any], None],
        *,
        raw: bool = False,
        latched: bool = False,
    ) -> TopicReader:
        reader = TopicReader(
            self._host,
            transports,
            callback,
            counters=self._host.health.counters,
            reliability=self._host.settings.reliability,
            wait_thread=self._wait_thread,
            raw=raw,
            follow_durability=latched,
        )
        self._readers.append(reader)
        return reader

    def _follow_publishers(self) -> None:
        for reader in self._readers:
            reader.follow()
        self._report_silence('rgb_silent', self._rgb, '')
        if self._depth is not None:
            self._report_silence(
                'depth_silent', self._depth, ', or set depth_transport to none if the camera has no depth'
            )
        self._report_causes()

    def _report_silence(self, reason: str, reader: TopicReader, fix: str) -> None:
        limit = self._host.settings.silent_topic_s
        if sentence := reader.silence.warn_after(limit, fix):
            if trouble := foreign_shared_memory():
                self._host.get_logger().warning(besides := f'Besides, {trouble}')
                sentence += f' {besides}'
            self._host.health.set_cause(reason, sentence, logged=True)
        elif not limit or reader.silence.silent_s < limit:
            self._host.health.set_cause(reason, '')

    def _report_causes(self) -> None:
        """Hand what does not fit to the health of the node, and withdraw what is over."""
        host, settings = self._host, self._host.settings
        name = host.resolve_topic_name
        depth = self._depth
        topics = Topics(
            rgb=name(self._rgb.transport.name),
            depth=name(depth.transport.name if depth else interfaces.DEPTH.name),
            info=name(interfaces.RGB_INFO.name),
            best_effort=(self._rgb.best_effort, depth is not None and depth.best_effort),
            profile=PROFILE,
        )
        limits = Limits(
            slop_s=settings.sync_slop_s,
            wait_s=settings.depth_wait_s,
            unit_m=settings.depth_unit_m,
            # A camera without depth, such as a webcam, often has no camera_info either; nothing here needs it then.
            silent_s=settings.silent_topic_s if depth else 0.0,
            sim_time=host.get_parameter('use_sim_time').value,
        )
        # While the node is idle it serves nothing on purpose.
        rates = (0.0, 0.0) if host.health.idle else (host.health.arrived.hz, host.health.served.hz)
        found = self.watch.causes(topics, limits, rates)
        for reason in CAUSES:
            host.health.set_cause(reason, found.get(reason, ''))

    # Callbacks, on the wait thread

    def _on_rgb(self, transport: Interface, data: bytes) -> None:
        self._rgb.silence.message_arrived()
        message = self._parse(transport, data)
        if message is not None:
            self._host.health.arrived.tick()
            stamp = stamp_ns(message.header.stamp)
            self.watch.rgb_arrived(stamp, self._now_ns())
            self._offer_to_inference(self.sync.add_rgb(stamp, message))

    def _on_depth(self, transport: Interface, data: bytes) -> None:
        self._depth.silence.message_arrived()
        message = self._parse(transport, data)
        if message is not None:
            stamp = stamp_ns(message.header.stamp)
            self.watch.depth_arrived(stamp, self._now_ns())
            self._offer_to_inference(self.sync.add_depth(stamp, message))

    def _on_info(self, transport: Interface, data: bytes) -> None:
        if self._parse(transport, data) is not None:
            # It is published again, so it has to be of rclpy's type.
            self._info = deserialize_message(data, CameraInfo)
            self.watch.info_arrived(self._info)

    def _on_instruction(self, transport: Interface, data: bytes) -> None:
        message = self._parse(transport, data)
        if message is not None:
            self._instruct(stamp_ns(message.header.stamp), message.text)

    def _on_instruction_text(self, transport: Interface, data: bytes) -> None:
        message = self._parse(transport, data)
        if message is not None:
            self._instruct(0, message.data)

    def _now_ns(self) -> int:
        return self._host.get_clock().now().nanoseconds

    def _parse(self, transport: Interface, data: bytes) -> Any | None:
        """Return the message as rosbags reads it, without a copy of the pixels; None if it is refused."""
        try:
            return from_cdr(data, transport.type_name)
        except InputError as error:
            self._host.health.refuse(error)
            return None

    def _offer_to_inference(self, pair: Pair | None) -> None:
        """Put a finished pair, if there is one, into the slot of the inference thread; the newest pair wins there.

        From the slot it goes to ModelNode._process_frame.
        """
        inference = self._host.inference_thread
        if pair is None or inference is None:
            return
        self.watch.paired(with_depth=pair.depth is not None or pair.error is not None)
        messages = PairedMessages(
            pair,
            self._info,
            self.instructions.at(pair.stamp_ns),
            depth_unit_m=self._host.settings.depth_unit_m,
            depth_comes=self.sync.any_depth,
        )
        if inference.offer(messages):
            self._host.health.counters.count('frame_superseded')

    def _poll(self) -> float:
        """Offer a colour image that has waited long enough for its depth; return the seconds until the next look."""
        self._offer_to_inference(self.sync.poll())
        return POLL_S if self.sync.waiting[0] else IDLE_S

    def _instruct(self, nanoseconds: int, text: str) -> None:
        limit = self._host.settings.max_question_chars
        if len(text) > limit:
            self._host.health.refuse(
                InputError(
                    'instruction_long',
                    f'The instruction has {len(text)} characters and '
                    f'at most {limit} are read; shorten it or raise max_question_chars.',
                )
            )
        else:
            self.instructions.add(nanoseconds, text)


def _chosen(transports: dict[str, Interface], name: str) -> list[Interface]:
    """Return the transport of this name, or all of them, preferred first, for 'auto'."""
    return list(transports.values()) if name == 'auto' else [transports[name]]
