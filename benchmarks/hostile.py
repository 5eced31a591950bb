"""Hostile values, messages and bytes for fuzz.py, drawn from a seed: wrong sizes, types, numbers, texts and cuts."""

import importlib
import random
import re
from typing import Any

import cv2
import numpy as np
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header, String
from watched import picture

from m3et_ros.data.images.compressed import encode_depth, encode_rgb
from m3et_ros.data.images.messages import stored_depth
from m3et_ros.msg import Instruction
from m3et_ros.ros.convert import to_image_msg

TEXTS = (
    *('', ' ', 'Is there a cup?', 'rgb8', 'bgr8', 'mono16', '16UC1', '32FC1', 'bayer_rggb8', 'nv12', 'yuv422', '8UC4'),
    *('jpeg', 'png', 'tiff', 'rgb8; jpeg compressed bgr8', '16UC1; compressedDepth png', '16UC1; compressedDepth rvl'),
    *('frame', 'episode', 'configure', 'activate', 'deactivate', 'cleanup', 'create', 'destroy', 'tiny', 'kitchen'),
    *('/', '//', '..', '../../etc/passwd', '/dev/zero', '/dev/null', '/proc/self/mem', '~', 'hf:', 'hf:no/body', '{}'),
    *(
        'nan',
        '-1',
        '1e400',
        'null',
        "'; --",
        '<script>',
        '${x}',
        '%s%n',
        '\x1b[2J',
        'a\n[FATAL] b',
        '\x00',
        '\u202e',
        '🤖',
    ),
    *('x' * 999, 'x' * 1001, 'why ' * 5000, '?' * 70000),
)
"""Texts: real words of the interfaces among paths, escapes, controls and lengths on both sides of the limits."""
FLOATS = (0.0, -0.0, 1.0, -1.0, 0.5, float('nan'), float('inf'), float('-inf'), 1e-45, 3e38, -3e38)
ELEMENT = re.compile(r'(?:sequence<(?P<of>[^,>]+(?:<\d+>)?)(?:, ?(?P<most>\d+))?>|(?P<array>[^\[]+)\[(?P<size>\d+)\])')
JSON_WORDS = (b'NaN', b'-1', b'1e400', b'null', b'[]', b'{}', b'""', b'9' * 40, b'[' * 3000, b'true', b'"\\u0000"')
LONGEST = 200
"""Most elements of a drawn sequence; a quarter of the sequences of bytes are 64 times as long."""


def number(rng: random.Random, kind: str) -> Any:
    """Draw a value of a primitive type of ROS."""
    if kind in ('boolean', 'bool'):
        return rng.random() < 0.5
    if kind in ('float', 'double', 'float32', 'float64'):
        return rng.choice((*FLOATS, rng.gauss(0, 100)))
    if kind in ('octet', 'byte'):
        return bytes([rng.randrange(256)])
    signed, bits = not kind.startswith('u'), int(re.sub(r'\D', '', kind) or 8)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return rng.choice((0, 1, low, high, high // 2, rng.randint(low, high), min(rng.randrange(12), high)))


def value(rng: random.Random, kind: str, default: Any) -> Any:
    """Draw a value of a field.

    Args:
        rng: source of randomness.
        kind: type as get_fields_and_field_types gives it.
        default: present value of the field.
    """
    if found := ELEMENT.fullmatch(kind):
        of, size = found['of'] or found['array'], int(found['size'] or 0)
        most = int(found['most'] or LONGEST)
        if of in ('octet', 'uint8', 'int8') and not size and rng.random() < 0.25:
            most *= 64
        count = size or rng.choice((0, 1, rng.randint(0, most)))
        if isinstance(default, np.ndarray):
            return np.array([number(rng, of) for _ in range(count)], default.dtype)
        return [value(rng, of, None) for _ in range(min(count, 8) if '/' in of else count)]
    if '/' in kind:
        return fill(rng, default if default is not None else message_type(kind)())
    if kind.startswith(('string', 'wstring')):
        text = rng.choice(TEXTS)
        bound = re.search(r'<=?(\d+)>', kind)
        return text[: int(bound[1])] if bound else text
    return number(rng, kind)


def message_type(name: str) -> type:
    """Return the class of 'package/Name', which get_fields_and_field_types gives; also of the parts of an action."""
    package, short = name.split('/')[0], name.split('/')[-1]
    for folder in ('msg', 'action'):
        try:
            module = importlib.import_module(f'{package}.{folder}')
        except ImportError:
            continue
        owner, _, part = short.rpartition('_')
        if hasattr(module, short):
            return getattr(module, short)
        if hasattr(module, owner):
            return getattr(getattr(module, owner), part)
    raise LookupError(name)


def fill(rng: random.Random, message: Any, share: float = 1.0) -> Any:
    """Draw fields of a message, each with the probability `share`, and return it."""
    for name, kind in message.get_fields_and_field_types().items():
        if rng.random() < share:
            setattr(message, name, value(rng, kind, getattr(message, name)))
        elif hasattr(getattr(message, name), 'get_fields_and_field_types') and rng.random() < share:
            fill(rng, getattr(message, name), share)
    return message


def damaged(rng: random.Random, data: bytes) -> bytes:
    """Damage bytes in one to three ways: flips, cuts, holes, repeats, foreign numbers and texts."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(out) + 1)
        way = rng.randrange(8)
        if way == 0 and out:
            for _ in range(rng.randint(1, 16)):
                out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
        elif way == 1:
            del out[at:]
        elif way == 2:
            del out[at : at + rng.randint(1, 64)]
        elif way == 3:
            out[at:at] = rng.randbytes(rng.randint(1, 64))
        elif way == 4:
            out[at:at] = out[at : at + rng.randint(1, 256)]
        elif way == 5:
            size = rng.choice((1, 2, 4, 8))
            out[at : at + size] = rng.choice((b'\xff' * size, b'\0' * size, b'\x7f' + b'\xff' * (size - 1)))
        elif way == 6:
            out[at:at] = rng.choice(JSON_WORDS)
        else:
            head = rng.randrange(min(len(out), 64) + 1)
            out[head : head + 4] = rng.randbytes(4)
    return bytes(out)


def good(kind: type, topic: str, stamp: Any) -> Any:
    """Return a message of a topic that the node would accept."""
    rgb, depth = picture()
    header = Header(frame_id='camera', stamp=stamp)
    if kind is Image:
        return to_image_msg(depth, '16UC1', header) if 'depth' in topic else to_image_msg(rgb, 'rgb8', header)
    if kind is CompressedImage:
        if topic.endswith('compressedDepth'):
            form, data = encode_depth(stored_depth(depth))
        elif 'depth' in topic:
            form, data = '16UC1; png compressed', cv2.imencode('.png', depth)[1].tobytes()
        else:
            form, data = encode_rgb(rgb)
        return CompressedImage(header=header, format=form, data=data)
    if kind is CameraInfo:
        return CameraInfo(header=header, width=64, height=48, k=np.array([60.0, 0, 32, 0, 60, 24, 0, 0, 1]))
    if kind is Instruction:
        return Instruction(header=header, text='Is there a cup?')
    return String(data='Is there a cup?') if kind is String else kind()


def message(rng: random.Random, kind: type, topic: str, stamp: Any) -> tuple[str, Any]:
    """Draw a message for a topic.

    Returns:
        The way it is wrong ('fields', 'some_fields', 'payload', 'bytes', or 'good'), and the message or its bytes.
    """
    made = good(kind, topic, stamp)
    way = rng.choice(('fields', 'some_fields', 'some_fields', 'payload', 'bytes', 'bytes', 'good'))
    if way == 'fields':
        return way, fill(rng, made)
    if way == 'payload' and hasattr(made, 'data') and not isinstance(made.data, str):
        made.data = damaged(rng, bytes(made.data))
        return way, made
    if way in ('some_fields', 'payload'):
        return 'some_fields', fill(rng, made, 0.3)
    if way == 'bytes':
        return way, damaged(rng, serialize_message(made))
    return way, made
