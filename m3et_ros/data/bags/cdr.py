"""Message types and decoded messages without rclpy; rosbags does not copy the pixels of an image."""

import os
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from m3et_ros.data.errors import InputError

ANSWER = 'm3et_ros/msg/Answer'


@lru_cache(maxsize=1)
def typestore() -> Typestore:
    """Return the message types of ROS 2 Jazzy and of this package.

    Raises:
        InputError: the package's msg files are not installed ('install_broken').
    """
    store = get_typestore(Stores.ROS2_JAZZY)
    types = {}
    for path in sorted(_msg_folder().glob('*.msg')):
        types.update(get_types_from_msg(path.read_text(), f'm3et_ros/msg/{path.stem}'))
    store.register(types)
    return store


def from_cdr(data: bytes, kind: str) -> Any:
    """Decode a message that came over DDS to an object with its fields; arrays are read-only NumPy views of `data`.

    Args:
        data: the message in CDR.
        kind: its type, for example 'sensor_msgs/msg/Image'.

    Raises:
        InputError: 'message', the bytes are not such a message.
    """
    try:
        return typestore().deserialize_cdr(memoryview(data), kind)
    except Exception as error:  # rosbags raises anything on damaged bytes
        raise InputError(
            'message',
            f'{len(data)} bytes do not read as {kind} ({type(error).__name__}: {error}); correct their publisher',
        ) from error


def older_answer(data: bytes) -> Any:
    """Decode an m3et_ros/msg/Answer that was recorded before answers had places; it gets none.

    Raises:
        Exception: as rosbags raises it, the bytes are not such a message.
    """
    older = _older_typestore().deserialize_cdr(memoryview(data), ANSWER)
    fields = {name: getattr(older, name) for name, _ in _older_typestore().fielddefs[ANSWER][1]}
    return typestore().types[ANSWER](**fields, places=[])


@lru_cache(maxsize=1)
def _older_typestore() -> Typestore:
    store, lines = get_typestore(Stores.ROS2_JAZZY), (_msg_folder() / 'Answer.msg').read_text().splitlines()
    text = '\n'.join(line for line in lines if not line.startswith('Place[]'))
    label = (_msg_folder() / 'ScoredLabel.msg').read_text()
    store.register(get_types_from_msg(text, ANSWER) | get_types_from_msg(label, 'm3et_ros/msg/ScoredLabel'))
    return store


def _msg_folder() -> Path:
    """Return the folder of the installed msg files, else that of the checkout."""
    prefixes = [*filter(None, os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)), sys.prefix]
    folders = [*(Path(prefix) / 'share/m3et_ros/msg' for prefix in prefixes), Path(__file__).parents[3] / 'msg']
    for folder in folders:
        if any(folder.glob('*.msg')):
            return folder
    raise InputError(
        'install_broken',
        'the msg files of m3et_ros are in none of '
        f'{", ".join(map(str, folders))}; install the package again with pip or colcon',
    )
