"""Which topics of a recording are the colour and the depth of one camera."""

from dataclasses import dataclass

from m3et_ros.data.bags.reader import COMPRESSED_IMAGE, IMAGE, BagReader, decode
from m3et_ros.data.bags.writer import COLOR_TOPIC, DEPTH_TOPIC
from m3et_ros.data.errors import InputError
from m3et_ros.data.images.compressed import depth_from_compressed, rgb_from_compressed
from m3et_ros.data.images.messages import COLOUR, DEPTH, depth_from_msg, rgb_from_msg

ALIGNED = ('align', 'regist', 'to_color', 'to_rgb')
"""What names of depth that lies on the colour picture contain (RealSense, depth_image_proc)."""


@dataclass(frozen=True)
class CameraTopics:
    """The topics of a camera."""

    # Colour images, raw or compressed.
    rgb: str
    # Depth on the same pixel grid; None where the bag has none.
    depth: str | None
    # Why there is no depth, in a sentence; empty where there is.
    told: str = ''


@dataclass(frozen=True)
class _Stream:
    """What the first image of a topic says: its topic, 'rgb' or 'depth', (H, W) and the frame of its header."""

    topic: str
    kind: str
    size: tuple[int, int]
    frame: str


def find_camera(bag: BagReader, *, rgb: str | None = None, depth: str | None = None) -> CameraTopics:
    """The camera of a recording, from what the first image of each topic holds.

    Args:
        bag: the recording.
        rgb: its topic of colours; None for the RealSense one where the bag has it, otherwise the only one there is.
        depth: its topic of depth; None for one on the pixels of the colours: of their size, and either called aligned
            or registered, or in the optical frame of the colours (REP 103, 105).

    Raises:
        InputError: 'bag_topic' where a given topic is missing, nothing is in colour, or several could be meant;
            'bag_type' where a given topic holds no images.
    """
    streams, passed = _streams(bag)
    colour = _given(bag, rgb, 'compressed') or _colour(bag, streams, passed)
    if depth is not None:
        return CameraTopics(colour, _given(bag, depth, 'compressedDepth'))
    seen = [stream for stream in streams if stream.kind == 'depth']
    look = next((stream for stream in streams if stream.topic == colour), None)
    fitting = [stream.topic for stream in seen if look and _aligned(stream, look)]
    if fitting:
        return CameraTopics(colour, min(fitting, key=lambda topic: (not topic.startswith(DEPTH_TOPIC), topic)))
    others = [f'{s.topic} ({s.size[1]}x{s.size[0]} in {s.frame or "no frame"})' for s in seen] + passed
    return CameraTopics(
        colour,
        None,
        f'{bag.path} has no depth on the pixels of {colour}: depth is absent, and colours are '
        f'learnt alone{"; not taken: " + ", ".join(others) if others else ""}.',
    )


def _aligned(depth: _Stream, colour: _Stream) -> bool:
    """Whether depth lies on the pixels of the colours, as far as names and headers tell."""
    return depth.size == colour.size and (any(word in depth.topic for word in ALIGNED) or depth.frame == colour.frame)


def _given(bag: BagReader, name: str | None, suffix: str) -> str | None:
    """A topic that was named, or its compressed form."""
    if name is None:
        return None
    packed = f'{name}/{suffix}'
    return bag.topic_name(packed if name not in bag.topics and packed in bag.topics else name, IMAGE, COMPRESSED_IMAGE)


def _colour(bag: BagReader, streams: list[_Stream], passed: list[str]) -> str:
    """The one topic of colours, raw before compressed."""
    topics = [stream.topic for stream in streams if stream.kind == 'rgb']
    for preferred in (COLOR_TOPIC, f'{COLOR_TOPIC}/compressed'):
        if preferred in topics:
            return preferred
    cameras: dict[str, str] = {}
    for topic in sorted(topics, key=lambda name: name.endswith('/compressed')):
        cameras.setdefault(topic.removesuffix('/compressed'), topic)
    if len(cameras) == 1:
        return next(iter(cameras.values()))
    if not cameras:
        raise InputError(
            'bag_topic',
            f'{bag.path} has no readable colour images among its topics '
            f'{", ".join(passed or bag.topics) or "(none)"}; give a bag with a camera',
        )
    raise InputError('bag_topic', f'{bag.path} has several topics of colours, {", ".join(cameras.values())}; name one')


def _streams(bag: BagReader) -> tuple[list[_Stream], list[str]]:
    """Look at the first image of every topic that has any; also the topics passed over, with the reason."""
    streams, passed = [], []
    for topic in bag.topics.values():
        if topic.type in (IMAGE, COMPRESSED_IMAGE) and topic.count:
            try:
                message = decode(next(bag.messages([topic.name])))
                streams.append(_look(topic.name, message, packed=topic.type != IMAGE))
            except InputError as error:
                passed.append(f'{topic.name} ({error})')
            except StopIteration:  # a damaged bag counts more than it gives
                passed.append(f'{topic.name} (no message of it can be read)')
    return streams, passed


def _look(topic: str, message: object, *, packed: bool) -> _Stream:
    """What an image is; InputError where it is neither colour nor depth. Masks and infrared are mono8."""
    if packed:
        depth = 'compressedDepth' in message.format
        image = (depth_from_compressed if depth else rgb_from_compressed)(message)
    elif message.encoding in DEPTH:
        depth, image = True, depth_from_msg(message)
    elif message.encoding in COLOUR and message.encoding != 'mono8':
        depth, image = False, rgb_from_msg(message)
    else:
        raise InputError('bag_topic', f'its encoding is {message.encoding!r}')
    return _Stream(topic, 'depth' if depth else 'rgb', image.shape[:2], message.header.frame_id)
