"""States and actions: messages become vectors, and the same vectors become messages again."""

import numpy as np
import pytest

from m3et_ros.data.bags.cdr import typestore
from m3et_ros.data.errors import InputError
from m3et_ros.data.lerobot.robot_topics import ARRAYS, JOINTS, POSE, POSE_NAMES, message_of, names_of, vector_of

STORE = typestore()
STAMP = STORE.types['builtin_interfaces/msg/Time'](sec=5, nanosec=6)
HEADER = STORE.types['std_msgs/msg/Header'](stamp=STAMP, frame_id='map')


@pytest.mark.parametrize('kind', [JOINTS, POSE, *ARRAYS], ids=['joints', 'pose', 'floats', 'doubles'])
def test_a_vector_comes_back_through_a_real_message(kind):
    vector = np.linspace(-1, 2, 7).astype(np.float32)
    names = tuple('abcdefg')
    made = message_of(STORE, kind, vector, names, HEADER)
    message = STORE.deserialize_cdr(STORE.serialize_cdr(made, kind), kind)
    found = vector_of('/t', kind, message)
    assert found.dtype == np.float32 and np.array_equal(found, vector)
    assert names_of(kind, message) == {JOINTS: names, POSE: POSE_NAMES}.get(kind, ())


def test_joints_without_names_get_numbers():
    assert message_of(STORE, JOINTS, np.zeros(2, np.float32), (), HEADER).name == ['0', '1']
    message = message_of(STORE, JOINTS, np.zeros(2, np.float32), ('a', 'b'), HEADER)
    message.name = ['a']
    assert names_of(JOINTS, message) == ()


def test_vectors_that_cannot_be_are_refused():
    with pytest.raises(InputError, match='/t has 0 values'):
        vector_of('/t', ARRAYS[0], message_of(STORE, ARRAYS[0], np.zeros(0, np.float32), (), HEADER))
    with pytest.raises(InputError, match='10001 values'):
        vector_of('/t', ARRAYS[0], message_of(STORE, ARRAYS[0], np.zeros(10_001, np.float32), (), HEADER))
    with pytest.raises(InputError, match='a pose has 7 values and this one 3'):
        message_of(STORE, POSE, np.zeros(3, np.float32), (), HEADER)
