"""Find the colour and the depth topic of the camera in a recording."""

from dataclasses import dataclass
from typing import Any

from m3et_ros.data.bags.frames import image_topic
from m3et_ros.data.bags.reader import COMPRESSED_IMAGE, IMAGE, BagReader, decode
from m3et_ros.data.bags.writer import COLOR_TOPIC, DEPTH_TOPIC
from m3et_ros.data.depth_checks import check_frame_id
from m3et_ros.data.errors import InputError
from m3et_ros.data.images.compressed import depth_from_compressed, rgb_from_compressed
from m3et_ros.data.images.messages import COLOUR, DEPTH, GREY, depth_from_msg, rgb_from_msg

ALIGNED = ('align', 'regist', 'to_color', 'to_rgb')
"""Parts of the names of depth topics that are aligned to colour (RealSense, depth_image_proc)."""


@dataclass(frozen=True)
class CameraTopics:
    """The topics of a camera."""

    # Colour images, raw or compressed.
    rgb: str
    # Depth on the same pixel grid; None where the bag has none.
    depth: str | None
    # A sentence on why there is no depth, or why it may not match; empty where all is well.
    note: str = ''


@dataclass(frozen=True)
class _Stream:
    """Facts of the first image of a topic."""

    topic: str
    # 'rgb' or 'depth'.
    kind: str
    # (H, W).
    size: tuple[int, int]
    # frame_id of its header.
    frame_id: str


def find_camera(bag: BagReader, *, rgb: str | None = None, depth: str | None = None) -> CameraTopics:
    """Find the camera of a recording from the first image of each topic.

    Args:
        bag: the recording.
        rgb: topic of the colours; None for the RealSense one where the bag has it, otherwise the only one there is.
        depth: topic of the depth, which is taken whatever its frame; None for one that is aligned to the colours: of
            their size and in their optical frame (REP 103, 105). Where one of the frames is empty, the name decides.

    Raises:
        InputError: 'bag_topic' where a given topic is missing, no topic is in colour, or several could be meant;
            'bag_type' where a given topic holds no images.
    """
    streams, rejected = _streams(bag)
    colour = _colour(bag, streams, rejected) if rgb is None else image_topic(bag, rgb, 'compressed')
    if depth is not None:
        depth = image_topic(bag, depth, 'compressedDepth')
        return CameraTopics(colour, depth, why_not_registered(bag, colour, depth))
    own = next((stream for stream in streams if stream.topic == colour), None)
    depths = [stream for stream in streams if stream.kind == 'depth']
    aligned = [
        depth_stream.topic
        for depth_stream in depths
        if own is not None and depth_stream.size == own.size and _aligned(own, depth_stream)
    ]
    if aligned:
        return CameraTopics(colour, min(aligned, key=lambda topic: (not topic.startswith(DEPTH_TOPIC), topic)))
    others = [f'{s.topic} ({s.size[1]}x{s.size[0]} in {s.frame_id or "no frame"})' for s in depths] + rejected
    return CameraTopics(
        colour,
        None,
        f'{bag.path} has no depth aligned to {colour}: depth is absent and colours are used '
        f'alone{"; not used: " + ", ".join(others) if others else ""}.',
    )


def why_not_registered(bag: BagReader, rgb: str, depth: str) -> str:
    """Return a sentence if the first depth image is in another frame than the first colour image, else ''."""
    frames = []
    for topic in (rgb, depth):
        try:
            frames.append(decode(next(bag.messages([topic]))).header.frame_id)
        except (InputError, StopIteration):
            return ''
    try:
        check_frame_id(*frames)
    except InputError as error:
        return f'{depth} in {bag.path}: {error}'
    return ''


def _aligned(rgb: _Stream, depth: _Stream) -> bool:
    own, other = rgb.frame_id.strip('/'), depth.frame_id.strip('/')
    return own == other or (not (own and other) and any(word in depth.topic for word in ALIGNED))


def _colour(bag: BagReader, streams: list[_Stream], rejected: list[str]) -> str:
    """Return the one topic of colours, raw rather than compressed."""
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
            f'{", ".join(rejected or bag.topics) or "(none)"}; give a bag with a camera',
        )
    raise InputError('bag_topic', f'{bag.path} has several topics of colours, {", ".join(cameras.values())}; name one')


def _streams(bag: BagReader) -> tuple[list[_Stream], list[str]]:
    """Read the first image of every image topic; also return the topics without a usable one, with the reason."""
    streams, rejected = [], []
    for topic in bag.topics.values():
        if topic.type in (IMAGE, COMPRESSED_IMAGE) and topic.count:
            try:
                message = decode(next(bag.messages([topic.name])))
                streams.append(_stream(topic.name, message, packed=topic.type != IMAGE))
            except InputError as error:
                rejected.append(f'{topic.name} ({error})')
            except StopIteration:  # a damaged bag counts more than it gives
                rejected.append(f'{topic.name} (no message of it can be read)')
    return streams, rejected


def _stream(topic: str, message: Any, *, packed: bool) -> _Stream:
    """Decode an image; InputError where it is neither colour nor depth. Masks and infrared are mono8."""
    if packed:
        encoding = message.format.partition(';')[0].strip()
        if encoding in GREY and encoding not in DEPTH:
            raise InputError('bag_topic', f'its encoding is {encoding!r}')
        depth = 'compressedDepth' in message.format or encoding in DEPTH
        image = (depth_from_compressed if depth else rgb_from_compressed)(message)
    elif message.encoding in DEPTH:
        depth, image = True, depth_from_msg(message)
    elif message.encoding in COLOUR and message.encoding not in GREY:
        depth, image = False, rgb_from_msg(message)
    else:
        raise InputError('bag_topic', f'its encoding is {message.encoding!r}')
    return _Stream(topic, 'depth' if depth else 'rgb', image.shape[:2], message.header.frame_id)
