"""Messages go through a pipe unchanged, and a stream that ends is no message."""

import io

from m3et_ros.runtime.vlm.messages import read_message, write_message


def test_messages_come_back_in_order_and_the_end_is_none():
    stream = io.BytesIO()
    messages = [{'text': 'é ' + chr(10)}, {}, {'numbers': [1, 2.5, None, True]}]
    for message in messages:
        write_message(stream, message)
    whole = stream.getvalue()
    stream.seek(0)
    assert [read_message(stream) for _ in range(4)] == [*messages, None]
    for cut in (4, 12):
        assert read_message(io.BytesIO(whole[:cut])) is None
