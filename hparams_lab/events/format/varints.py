"""Varints and the fields of a message, as protobuf's wire format has them.

Source: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations


def varint(payload: bytes | bytearray, at: int) -> tuple[int, int]:
    """The varint that stands there, and where it ends. Raises ValueError when it does not, IndexError at the end."""
    number = 0
    for place in range(10):
        byte = payload[at + place]
        number |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return number, at + place + 1
    raise ValueError("a number has no end")


def skipped(payload: bytes | bytearray, at: int) -> tuple[int, int, int]:
    """The key of the field that stands there, where its content begins (behind its length), and where it ends.

    Raises ValueError for a field of no known kind, IndexError at the end.
    """
    key, begin = varint(payload, at)
    kind = key & 7
    if kind == 2:
        length, begin = varint(payload, begin)
        return key, begin, begin + length
    if kind == 0:
        return key, begin, varint(payload, begin)[1]
    if kind not in (1, 5):
        raise ValueError("it has a field of no known kind")
    return key, begin, begin + (8 if kind == 1 else 4)
