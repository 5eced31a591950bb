"""Fields of protobuf messages, for tests without the library."""

import struct


def fields(data):
    """Return the values of each field by its number: integers, doubles, or the bytes of texts and messages."""
    found, at = {}, 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        number, kind = divmod(varint(), 8)
        if kind == 0:
            value = varint()
        elif kind == 1:
            value = struct.unpack_from('<d', data, at)[0]
            at += 8
        elif kind == 5:
            value = struct.unpack_from('<I', data, at)[0]
            at += 4
        else:
            length = varint()
            value = bytes(data[at : at + length])
            at += length
        found.setdefault(number, []).append(value)
    return found
