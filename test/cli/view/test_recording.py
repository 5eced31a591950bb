"""The last minute and its bag."""

import pytest
from rosbags.highlevel import AnyReader

from m3et_ros.cli.view.recording import LastMinute
from m3et_ros.data.bags.cdr import typestore
from m3et_ros.data.errors import InputError

STRING = 'std_msgs/msg/String'
SECOND = 1_000_000_000


def cdr(text):
    store = typestore()
    return bytes(store.serialize_cdr(store.types[STRING](data=text), STRING))


class Clock:
    now = 1_700_000_000 * SECOND

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_what_is_older_than_the_time_is_dropped(clock):
    minute = LastMinute(60, clock=clock)
    for second in range(0, 100, 10):
        minute.add('/a', STRING, cdr(str(second)))
        clock.now += 10 * SECOND
    assert minute.seconds == 60


def test_what_does_not_fit_into_the_memory_is_dropped_first_in_first_out(clock):
    size = len(cdr('0'))
    minute = LastMinute(60, 3 * size, clock)
    for number in range(5):
        minute.add('/a', STRING, cdr(str(number)))
        clock.now += SECOND
    assert minute.size == 3 * size and minute.seconds == 2


def test_the_bag_has_every_message_and_first_what_holds_for_good(clock, tmp_path):
    minute = LastMinute(60, clock=clock)
    minute.add('/labels', STRING, cdr('old'), standing=True)
    minute.add('/labels', STRING, cdr('classes'), standing=True)
    clock.now += 1000 * SECOND
    for number in range(3):
        minute.add('/a', STRING, cdr(f'{number}' * 1000))
        clock.now += SECOND
    assert minute.holds('/labels') and not minute.holds('/a')
    assert minute.write(tmp_path / 'bag') == 4
    store = typestore()
    with AnyReader([tmp_path / 'bag'], default_typestore=store) as bag:
        found = [
            (connection.topic, stamp, store.deserialize_cdr(raw, connection.msgtype).data)
            for connection, stamp, raw in bag.messages()
        ]
    start = clock.now - 3 * SECOND
    assert found == [('/labels', start, 'classes')] + [('/a', start + n * SECOND, f'{n}' * 1000) for n in range(3)]


def test_nothing_gives_no_bag(tmp_path):
    minute = LastMinute()
    minute.add('/a', STRING, cdr('x'))
    minute.clear()
    assert minute.size == 0
    with pytest.raises(InputError, match='Nothing has been shown') as refused:
        minute.write(tmp_path / 'bag')
    assert refused.value.reason == 'recording_empty' and not (tmp_path / 'bag').exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    minute = LastMinute()
    minute.add('/a', STRING, cdr('x'))
    (tmp_path / 'file').write_text('')
    with pytest.raises(InputError, match='--out') as refused:
        minute.write(tmp_path / 'file' / 'bag')
    assert refused.value.reason == 'out_unwritable'
