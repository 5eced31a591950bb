"""Message types, and messages of their bytes, without rclpy: rosbags leaves an image's pixels where they are."""

import os
import sys
from functools import lru_cache
from pathlib import Path

from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from m3et_ros.data.errors import InputError


@lru_cache(maxsize=1)
def typestore() -> Typestore:
    """Return the message types of ROS 2 Jazzy and of this package, for (de)serialising without rclpy.

    Raises:
        InputError: the package's msg files are not installed ('install_broken').
    """
    store = get_typestore(Stores.ROS2_JAZZY)
    types = {}
    for path in sorted(_msg_folder().glob('*.msg')):
        types.update(get_types_from_msg(path.read_text(), f'm3et_ros/msg/{path.stem}'))
    store.register(types)
    return store


def from_cdr(data: bytes, kind: str) -> object:
    """An object with the fields of a message that came over DDS; arrays are read-only NumPy views of `data`.

    Args:
        data: the message in CDR.
        kind: its type, for example 'sensor_msgs/msg/Image'.

    Raises:
        InputError: 'message', the bytes are no such message.
    """
    try:
        return typestore().deserialize_cdr(memoryview(data), kind)
    except Exception as error:  # rosbags raises whatever the damaged byte leads it to
        raise InputError(
            'message',
            f'{len(data)} bytes do not read as {kind} ({type(error).__name__}: {error}); mend their publisher',
        ) from error


def _msg_folder() -> Path:
    """Return the folder of the installed msg files, or of the checkout's when the package was never installed."""
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
