"""Messages of their serialised bytes, without rclpy: rosbags leaves an image's pixels where they are.

rclpy copies the pixels of an image four times on their way to Python; of bytes it copies them once.
"""

from functools import lru_cache

from rosbags.typesys import Stores, get_typestore

from m3et_ros.data.errors import InputError


@lru_cache(maxsize=1)
def _store():
    return get_typestore(Stores.ROS2_JAZZY)


def from_cdr(data: bytes, kind: str) -> object:
    """An object with the fields of a message; arrays are read-only NumPy views of `data`.

    Args:
        data: the message in CDR, as ROS 2 sends and records it.
        kind: a type of ROS 2 that has not changed since Jazzy, for example 'sensor_msgs/msg/Image'.

    Raises:
        InputError: 'message', the bytes are no such message.
    """
    try:
        return _store().deserialize_cdr(memoryview(data), kind)
    except Exception as error:  # rosbags raises whatever the damaged byte leads it to
        raise InputError('message', f'{len(data)} bytes do not read as {kind} ({type(error).__name__}: {error}); mend '
                         'their publisher') from error
