"""States and actions of robots: vectors of a data set, messages of a recording.

A vector is what the joints of a JointState are at (its positions), the data of a Float32MultiArray or
Float64MultiArray, or position and quaternion of a PoseStamped.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from m3et_ros.data.errors import InputError
from m3et_ros.data.lerobot.schema import MAX_NUMBERS

JOINTS = 'sensor_msgs/msg/JointState'
POSE = 'geometry_msgs/msg/PoseStamped'
ARRAYS = ('std_msgs/msg/Float32MultiArray', 'std_msgs/msg/Float64MultiArray')
TYPES = (JOINTS, POSE, *ARRAYS)
POSE_NAMES = ('x', 'y', 'z', 'qx', 'qy', 'qz', 'qw')


def vector_of(topic: str, kind: str, message: Any) -> np.ndarray:
    """Return the values of a message, (N,) float32.

    Args:
        topic: its topic, for errors.
        kind: its type, one of TYPES.
        message: the decoded message.

    Raises:
        InputError: 'lerobot_vector', it has no values or too many.
    """
    if kind == JOINTS:
        values = message.position
    elif kind == POSE:
        place, turn = message.pose.position, message.pose.orientation
        values = (place.x, place.y, place.z, turn.x, turn.y, turn.z, turn.w)
    else:
        values = message.data
    vector = np.asarray(values, np.float32).ravel()
    if not 0 < vector.size <= MAX_NUMBERS:
        raise InputError(
            'lerobot_vector',
            f'a message of {topic} has {vector.size} values; record 1 to {MAX_NUMBERS}, or leave it out',
        )
    return vector


def names_of(kind: str, message: Any) -> tuple[str, ...]:
    """Return the names of the values of a message; () where it has none for each."""
    if kind == POSE:
        return POSE_NAMES
    if kind == JOINTS and len(message.name) == len(message.position):
        return tuple(map(str, message.name))
    return ()


def message_of(store: Any, kind: str, vector: np.ndarray, names: Sequence[str], header: Any) -> Any:
    """Return the message of a vector; `vector_of` of it gives the vector again.

    Args:
        store: message types, as from bags.cdr.typestore.
        kind: one of TYPES.
        vector: (N,) float32; (7,) for a PoseStamped.
        names: names of the values; joints without names have numbers.
        header: std_msgs/Header; those of arrays have none.

    Raises:
        InputError: 'lerobot_vector', a pose has another number of values.
    """
    types = store.types
    if kind == JOINTS:
        own = list(names) if len(names) == vector.size else list(map(str, range(vector.size)))
        none = np.zeros(0)
        return types[kind](header=header, name=own, position=vector.astype(np.float64), velocity=none, effort=none)
    if kind == POSE:
        if vector.size != len(POSE_NAMES):
            raise InputError('lerobot_vector', f'a pose has {len(POSE_NAMES)} values and this one {vector.size}')
        x, y, z, *turn = map(float, vector)
        place = types['geometry_msgs/msg/Point'](x=x, y=y, z=z)
        orientation = types['geometry_msgs/msg/Quaternion'](**dict(zip('xyzw', turn, strict=True)))
        return types[kind](header=header, pose=types['geometry_msgs/msg/Pose'](position=place, orientation=orientation))
    layout = types['std_msgs/msg/MultiArrayLayout'](dim=[], data_offset=0)
    return types[kind](layout=layout, data=vector.astype(np.float32 if kind == ARRAYS[0] else np.float64))
