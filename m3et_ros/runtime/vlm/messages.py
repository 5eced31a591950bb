"""Messages between a process and its child: JSON objects, each with its length in eight bytes before it."""

import json
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO


def write_message(stream: BinaryIO, message: Mapping[str, Any]) -> None:
    """Write a message at once.

    Raises:
        OSError: the other side has ended.
    """
    data = json.dumps(message).encode()
    stream.write(struct.pack('<Q', len(data)) + data)
    stream.flush()


def read_message(stream: BinaryIO) -> dict[str, Any] | None:
    """Return the next message; None where the other side has ended."""
    head = stream.read(8)
    if len(head) < 8:
        return None
    (length,) = struct.unpack('<Q', head)
    data = stream.read(length)
    return json.loads(data) if len(data) == length else None
