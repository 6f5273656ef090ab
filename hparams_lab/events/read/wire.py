"""`layout_of`: the `Layout` of a payload, from protobuf's wire format; and the varints that it is made of.

Source: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from typing import NamedTuple

from hparams_lab.events.format.varints import skipped, varint
from hparams_lab.events.read.layout import Layout, Slot

LONGEST = 4096
"""Longer records are read by protobuf."""

_READ_BY_PROTOBUF = (b"hparams", b"text")
_PLUGINS_OF_PROTOBUF = tuple(b"\x0a" + bytes([len(name)]) + name for name in _READ_BY_PROTOBUF)
"""As a plugin's name is usually written: found before the fields are looked through one by one."""

_WALL_TIME, _STEP, _VERSION, _SUMMARY, _SOURCE = 0x09, 0x10, 0x1A, 0x2A, 0x52
_TAG, _SIMPLE, _HISTOGRAM, _TENSOR, _METADATA = 0x0A, 0x15, 0x2A, 0x42, 0x4A


def last_field(payload: bytes, at: int, end: int, wanted: int) -> tuple[int, int]:
    """Where the content of the last field of that key begins and ends, between `at` and `end`.

    Raises ValueError without one, and as `skipped` does.
    """
    found = None
    while at < end:
        key, begin, at = skipped(payload, at)
        if key == wanted:
            found = begin, at
    if found is None or at > end:
        raise ValueError("there is no such field")
    return found


def layout_of(payload: bytes) -> Layout | None:
    """The layout of a payload; None for one that only protobuf understands."""
    if len(payload) > LONGEST or any(plugin in payload for plugin in _PLUGINS_OF_PROTOBUF):
        return None
    try:
        return _event(payload)
    except (IndexError, ValueError):
        return None


def _event(payload: bytes) -> Layout:
    wall_time, step, step_width = -1, -1, 0
    values = _Values([], [], [])
    at, last = 0, 0
    while at < len(payload):
        key = payload[at]
        if key <= last:
            raise ValueError  # twice, or in another order
        last = key
        at += 1
        if key == _WALL_TIME:
            wall_time, at = at, at + 8
        elif key == _STEP:
            step = at
            at = varint(payload, at)[1]
            step_width = at - step
            if step_width > 9:
                raise ValueError  # a negative step
        elif key in (_VERSION, _SOURCE, _SUMMARY):
            begin, at = _delimited(payload, at, len(payload))
            if key == _SUMMARY:
                _summary(payload, begin, at, values)
            elif key == _VERSION:
                payload[begin:at].decode()
        else:
            raise ValueError
    if at != len(payload):
        raise ValueError
    return Layout(
        payload, wall_time, step, step_width, tuple(values.slots), tuple(values.other_tags), tuple(values.skipped)
    )


class _Values(NamedTuple):
    """The values of a summary, as `Layout` has them."""

    slots: list[Slot]
    other_tags: list[tuple[int, int]]
    skipped: list[tuple[int, int]]


def _summary(payload: bytes, at: int, end: int, values: _Values) -> None:
    while at < end:
        if payload[at] != _TAG:  # Summary.value has the same number and type
            raise ValueError
        begin, at = _delimited(payload, at + 1, end)
        _value(payload, begin, at, values)


def _value(payload: bytes, at: int, end: int, values: _Values) -> None:
    """A value: its tag first, then a number or numbers, then perhaps its metadata."""
    if payload[at] != _TAG:
        raise ValueError
    tag_at, at = _delimited(payload, at + 1, end)
    tag_end = at
    tag = payload[tag_at:at].decode()
    key = payload[at] if at < end else 0
    if key == _SIMPLE:
        values.slots.append(Slot(at + 1, "<f4", tag, tag_at))
        at += 5
    elif key in (_TENSOR, _HISTOGRAM):
        begin, at = _delimited(payload, at + 1, end)
        number = _number(payload, begin, at) if key == _TENSOR else None
        if number is not None:
            values.slots.append(Slot(*number, tag, tag_at))
        else:
            values.other_tags.append((tag_at, tag_end))
            values.skipped.extend(_content(payload, begin, at) if key == _TENSOR else _numbers(payload, begin, at))
    else:
        raise ValueError
    if at < end and payload[at] == _METADATA:
        begin, at = _delimited(payload, at + 1, end)
        if any(name in payload[begin:at] for name in _READ_BY_PROTOBUF):
            raise ValueError
    if at != end:
        raise ValueError


_TENSOR_FORMS = {
    head + key: dtype
    for head, keys, dtype in [
        # the type, and a shape without dimensions or none; then tensor_content, *_val packed, *_val
        (b"\x08\x01\x12\x00", (b"\x22\x04", b"\x2a\x04", b"\x2d"), "<f4"),
        (b"\x08\x01", (b"\x22\x04", b"\x2a\x04", b"\x2d"), "<f4"),
        (b"\x08\x02\x12\x00", (b"\x22\x08", b"\x32\x08", b"\x31"), "<f8"),
        (b"\x08\x02", (b"\x22\x08", b"\x32\x08", b"\x31"), "<f8"),
    ]
    for key in keys
}


def _number(payload: bytes, begin: int, end: int) -> tuple[int, str] | None:
    """Where the one number of a tensor stands, and its type; None for another tensor."""
    for form, dtype in _TENSOR_FORMS.items():
        if end - begin == len(form) + int(dtype[2]) and payload.startswith(form, begin):
            return begin + len(form), dtype
    return None


_DTYPE, _SHAPE, _CONTENT, _DIM, _SIZE = 0x08, 0x12, 0x22, 0x12, 0x08
_WIDTHS = {1: 4, 2: 8, 3: 4, 4: 1, 9: 8}  # of float, double, int32, uint8, int64


def _content(payload: bytes, at: int, end: int) -> list[tuple[int, int]]:
    """Where the content of a tensor with dimensions stands, which has as many bytes as its shape takes."""
    if payload[at] != _DTYPE or payload[at + 2] != _SHAPE:
        raise ValueError
    count = _WIDTHS.get(payload[at + 1], 0)
    dim, shape_end = _delimited(payload, at + 3, end)
    if dim == shape_end:
        raise ValueError
    while dim < shape_end:
        if payload[dim] != _DIM:
            raise ValueError
        begin, dim = _delimited(payload, dim + 1, shape_end)
        if payload[begin] != _SIZE:
            raise ValueError
        size, after = varint(payload, begin + 1)
        if after != dim:
            raise ValueError
        count *= size
    if payload[shape_end] != _CONTENT:
        raise ValueError
    begin, stop = _delimited(payload, shape_end + 1, end)
    if stop != end or not 0 < count == stop - begin:
        raise ValueError
    return [(begin, count)]


def _numbers(payload: bytes, at: int, end: int) -> list[tuple[int, int]]:
    """Where the numbers of a histogram stand: its five moments, then its buckets' limits and counts."""
    found, last = [], 0
    while at < end:
        key = payload[at]
        if key <= last:
            raise ValueError
        last = key
        if key in (0x09, 0x11, 0x19, 0x21, 0x29):
            begin, at = at + 1, at + 9
        elif key in (0x32, 0x3A):
            begin, at = _delimited(payload, at + 1, end)
        else:
            raise ValueError
        if (at - begin) % 8 or at > end:
            raise ValueError
        if at > begin:
            found.append((begin, at - begin))
    return found


def _delimited(payload: bytes, at: int, end: int) -> tuple[int, int]:
    """Where a length-delimited field begins and ends, inside of `end`."""
    length, begin = varint(payload, at)
    if begin + length > end:
        raise ValueError
    return begin, begin + length
