"""`m3et record --live`: the topics of a running robot as a bag or a LeRobot data set.

m3et record --live my_bag --frames 600 --topic /joint_states
m3et record --live --lerobot my_set --frames 600
"""

import dataclasses
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from m3et_ros.cli.convert.lerobot import whole
from m3et_ros.cli.output import Refused, print_json, print_line, print_status
from m3et_ros.cli.processes import StopEvent, stop_code, stop_signals, use_ros
from m3et_ros.cli.record.episode import RecordOptions
from m3et_ros.cli.ros_names import full_namespace

if TYPE_CHECKING:
    from m3et_ros.cli.ask.client import Client
    from m3et_ros.data.bags.writer import BagWriter

COLOUR = ('color/image_raw', 'color/image_raw/compressed')
DEPTH = ('aligned_depth_to_color/image_raw', 'aligned_depth_to_color/image_raw/compressedDepth')
"""Topics below the camera's prefix, the preferred one first."""
INFO = 'color/camera_info'
USUAL = ('/instruction', '/instruction/text', '/joint_states', '/action')
"""Topics that are recorded where somebody publishes them."""
FIRST_S = 30.0
"""Longest wait for the first colour image, in seconds."""
SETTLE_S = 1.0
"""Time for the other topics of the camera to be discovered, and for the last depth to arrive, in seconds."""
QUEUE = 100
"""Messages of a topic that wait while the disk is busy."""


@dataclass(frozen=True, kw_only=True)
class RunningRobotOptions:
    """The topics of a running robot."""

    live: Annotated[
        bool, typer.Option('--live', help='Record the topics of a running robot instead of the simulated kitchen.')
    ] = False
    camera: Annotated[str, typer.Option(help='With --live: prefix of the topics of the camera.')] = '/camera/camera'
    topics: Annotated[
        list[str] | None,
        typer.Option(
            '--topic',
            show_default=False,
            help='With --live: record this topic too, besides those of the camera and /instruction, '
            '/instruction/text, /joint_states and /action; may be given several times.',
        ),
    ] = None


class LiveRecorder:
    """Subscriptions that write what they receive, as it came, into a bag.

    Args:
        node: the node that subscribes.
        bag: the bag.

    Attributes:
        received: messages by topic.
        unknown: topics whose type cannot be recorded.
    """

    def __init__(self, node: 'Client', bag: 'BagWriter'):
        self.received: Counter[str] = Counter()
        self.unknown: set[str] = set()
        self._node, self._bag = node, bag
        self._subscribed: set[str] = set()

    def subscribe(self, topics: Iterable[str]) -> None:
        """Subscribe to those of the topics that somebody publishes, with the quality of service that is offered."""
        from rclpy.qos import DurabilityPolicy, QoSProfile

        from m3et_ros.data.bags.cdr import typestore
        from m3et_ros.ros.camera.subscription import durability_of_publishers, reliability_of_publishers
        from m3et_ros.ros.replay_node import message_class

        published = dict(self._node.get_topic_names_and_types())
        for topic in topics:
            if topic in self._subscribed or not self._node.count_publishers(topic):
                continue
            self._subscribed.add(topic)
            (kind, *others) = published.get(topic, [''])
            message = message_class(kind)
            if others or message is None or kind not in typestore().fielddefs:
                self.unknown.add(topic)
                continue
            durability = durability_of_publishers(self._node, topic)
            profile = QoSProfile(
                depth=QUEUE, reliability=reliability_of_publishers(self._node, topic), durability=durability
            )
            latched = durability == DurabilityPolicy.TRANSIENT_LOCAL
            self._node.create_subscription(
                message,
                topic,
                lambda raw, topic=topic, kind=kind, latched=latched: self._write(topic, kind, raw, latched=latched),
                profile,
                raw=True,
            )

    def _write(self, topic: str, kind: str, raw: bytes, *, latched: bool) -> None:
        self._bag.write_serialized(topic, kind, raw, time.time_ns(), latched=latched)
        self.received[topic] += 1


def record_live(
    out: Path, options: RecordOptions, robot: RunningRobotOptions, *, lerobot: str | None, as_json: bool
) -> int:
    """Record a running robot until it has sent enough colour images or a signal comes; return the exit code.

    Args:
        out: folder to create.
        options: number of colour images, and storage; the rest is for the simulated kitchen.
        robot: topics.
        lerobot: storage of the colours in a LeRobot data set, as `m3et convert bag` takes it; None leaves the bag.
        as_json: print JSON.

    Raises:
        InputError: the bag exists already or cannot be written.
        Refused: an option is for the simulated kitchen, no colour image has come, or the recording does not become a
            data set; it then stays.
    """
    if dataclasses.replace(RecordOptions(), frames=options.frames, storage=options.storage) != options:
        raise Refused(
            '--seed, --fps, --width, --height, --compressed and --backend are for the simulated kitchen; with --live '
            'give --frames, --storage, --camera and --topic.'
        )
    bag = out if lerobot is None else out.with_name(f'{out.name}_bag')
    if out.exists():
        raise Refused(f'{out} exists already and is never overwritten; remove it or give another path.')
    use_ros()
    start = time.monotonic()
    with stop_signals() as stopped, whole(bag):
        frames, received = _record(bag, options, robot, stopped)
    document: dict[str, Any] = {'path': str(out), 'frames': frames, 'complete': frames >= options.frames}
    if lerobot is not None:
        document |= _to_data_set(bag, out, lerobot)
    document |= {'seconds': time.monotonic() - start, 'topics': received}
    if as_json:
        print_json(document)
    else:
        early = '' if frames >= options.frames else f' (stopped early: {options.frames} were requested)'
        topics = ', '.join(f'{name} {count}' for name, count in received.items())
        print_line(f'{out}: {frames} colour images{early}; messages of {topics}.')
    return 0 if frames >= options.frames else stop_code(stopped)


def _record(
    bag: Path, options: RecordOptions, robot: RunningRobotOptions, stopped: StopEvent
) -> tuple[int, dict[str, int]]:
    """Write the bag; return the number of colour images, and that of messages by topic."""
    from m3et_ros.cli.ask.client import client
    from m3et_ros.data.bags.writer import BagWriter

    prefix = full_namespace(robot.camera, '--camera')
    colours = [f'{prefix}/{name}' for name in COLOUR]
    rest = [f'{prefix}/{INFO}', *USUAL, *(robot.topics or ())]
    with client(stopped) as node, BagWriter(bag, options.storage) as writer:
        recorder = LiveRecorder(node, writer)
        if not node.wait(lambda: any(map(node.count_publishers, colours)), FIRST_S):
            raise _nothing(stopped, f'nobody publishes {colours[0]}; start the camera, or give --camera.')
        node.spin_for(SETTLE_S)
        colour, *_ = [name for name in colours if node.count_publishers(name)] or colours
        depths = [f'{prefix}/{name}' for name in DEPTH if node.count_publishers(f'{prefix}/{name}')]
        topics = [*depths[:1], *rest, colour]

        def enough() -> bool:
            recorder.subscribe(topics)
            return recorder.received[colour] >= options.frames

        if not node.wait(lambda: enough() or bool(recorder.received[colour]), FIRST_S):
            raise _nothing(stopped, f'{colour} is published and nothing arrives; m3et doctor looks for the cause.')
        while not (stopped.is_set() or node.wait(enough, FIRST_S)):
            print_status(f'm3et: {recorder.received[colour]} images so far; Ctrl-C ends the recording.')
        node.spin_for(SETTLE_S)
        for topic in sorted(recorder.unknown):
            print_status(f'm3et: {topic} is left out: its type is not installed here, or it has several.')
        return recorder.received[colour], dict(recorder.received)


def _nothing(stopped: StopEvent, why: str) -> Refused:
    """Return the refusal of a recording without an image."""
    if stopped.is_set():
        return Refused('stopped before the first image came; nothing is recorded.', stop_code(stopped))
    return Refused(f'no image has come within {FIRST_S:g} s: {why}')


def _to_data_set(bag: Path, out: Path, images: str) -> dict[str, Any]:
    """Convert the bag and remove it; return the facts for the document."""
    import shutil

    from m3et_ros.data.errors import InputError
    from m3et_ros.data.lerobot.from_bag import ConvertedTopics, convert_bags

    try:
        with whole(out):
            result = convert_bags([bag], out, topics=ConvertedTopics(), images=images)
    except InputError as error:
        raise Refused(f'{error}. The recording stays in {bag}: convert it with m3et convert bag.') from error
    shutil.rmtree(bag)
    for note in result.notes:
        print_status(f'm3et: {note}')
    return {'episodes': result.episodes, 'fps': result.fps, 'tasks': result.tasks}
