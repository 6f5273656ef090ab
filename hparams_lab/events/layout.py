"""`Layout`: where the numbers stand in a record of scalars, so that records like it are read without parsing.

What varies between two records of a training loop are a few bytes at fixed places; these are in capitals:

    09 WALL_TIME[8]                  Event.wall_time, left out for 0
    10 STEP[1..9]                    Event.step, a varint, left out for 0
    2a n                             Event.summary
       0a m  0a t tag                  value.tag, then one of
             15 VALUE[4]                 simple_value
             42 k ... VALUE[4 or 8]      a tensor: a float or double without dimensions
             4a k metadata               of any plugin but those that are read by protobuf
       0a m ...                        more values of the same event

All other bytes must be those of the record that the layout was learned from. A record whose fields stand in another
order, or hold anything else, has no layout and is read by protobuf.
Source: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from hparams_lab.events.crc import add_to_crc, crc_table, masked
from hparams_lab.events.record import HEADER_SIZE

LONGEST = 4096
"""Longer records are read by protobuf."""

_READ_BY_PROTOBUF = (b"hparams", b"text")
_WALL_TIME, _STEP, _VERSION, _SUMMARY, _SOURCE = 0x09, 0x10, 0x1A, 0x2A, 0x52
_TAG, _SIMPLE, _TENSOR, _METADATA = 0x0A, 0x15, 0x42, 0x4A


class Slot(NamedTuple):
    """A value's place in a payload: where it begins, its NumPy type, its tag."""

    at: int
    dtype: str
    tag: str


class Rows(NamedTuple):
    """Records of one length at even distances in a buffer: where the first begins, how far apart, and how many."""

    buffer: Any
    start: int
    stride: int
    size: int

    def column(self, at: int, dtype: str) -> NDArray[Any]:
        """What stands `at` bytes behind the beginning of each record."""
        found: NDArray[Any] = np.ndarray((self.size,), dtype, self.buffer, self.start + at, (self.stride,))
        return found

    def taken(self, which: NDArray[np.int64], size: int) -> Rows:
        """Some of the records, of `size` bytes each, side by side."""
        return Rows(self.column(0, f"V{size}")[which], 0, size, len(which))


class Decoded(NamedTuple):
    """What the records of one layout say, one row a record: `sound` is false where the checksum fails."""

    steps: NDArray[np.int64]
    wall_times: NDArray[np.float64]
    values: list[NDArray[np.float64]]
    sound: NDArray[np.bool_]


@dataclass(frozen=True)
class Layout:
    """Where the numbers stand in payloads of one length; `wall_time` and `step` are -1 where they are left out."""

    sample: bytes
    wall_time: int
    step: int
    step_width: int
    slots: tuple[Slot, ...]

    @functools.cached_property
    def tags(self) -> tuple[str, ...]:
        """The tags of its values."""
        return tuple(slot.tag for slot in self.slots)

    def one(self, payload: bytes) -> tuple[int, float, tuple[float, ...]] | None:
        """Step, wall time and values of one payload of the right length; None when it has another layout."""
        unpack, fixed = self._struct
        found = unpack(payload)
        if found[::2] != fixed:
            return None
        if self.step_width == 1:
            step = found[self._step_index][0]
            if step > 0x7F:
                return None
        elif self.step_width:
            step = _varint_of(found[self._step_index])
            if step < 0:
                return None
        else:
            step = 0
        return step, found[1] if self.wall_time >= 0 else 0.0, found[self._values_from :: 2]

    def fits(self, rows: Rows) -> NDArray[np.bool_]:
        """Which rows have this layout."""
        good = np.ones(rows.size, np.bool_)
        for at, dtype, expected in self._words:
            good &= rows.column(HEADER_SIZE + at, dtype) == expected
        for place in range(self.step_width):
            more = rows.column(HEADER_SIZE + self.step + place, "u1") > 0x7F
            good &= more if place < self.step_width - 1 else ~more
        return good

    def decoded(self, rows: Rows) -> Decoded:
        """The numbers of rows that have this layout."""
        crc = np.full(rows.size, self._fixed_crc, np.uint32)
        size = len(self.sample)
        wall_times = np.zeros(rows.size)
        if self.wall_time >= 0:
            wall_times = np.array(rows.column(HEADER_SIZE + self.wall_time, "<f8"))
            add_to_crc(crc, size - self.wall_time, wall_times.view("<u8"))
        steps = np.zeros(rows.size, np.int64)
        for place in range(self.step_width):
            column = rows.column(HEADER_SIZE + self.step + place, "u1")
            crc ^= crc_table(size - self.step - place - 1).take(column)
            steps |= (column & 0x7F).astype(np.int64) << (7 * place)
        values = []
        for slot in self.slots:
            value = np.array(rows.column(HEADER_SIZE + slot.at, slot.dtype))
            add_to_crc(crc, size - slot.at, value.view("<u4" if slot.dtype == "<f4" else "<u8"))
            with np.errstate(invalid="ignore"):  # a signalling NaN
                values.append(value.astype(np.float64))
        return Decoded(steps, wall_times, values, rows.column(HEADER_SIZE + size, "<u4") == masked(crc))

    @property
    def _holes(self) -> list[tuple[int, int, str]]:
        """What varies: where it begins, how many bytes it has, and its letter in `struct`."""
        holes = [(self.wall_time, 8, "d")] if self.wall_time >= 0 else []
        holes += [(self.step, self.step_width, f"{self.step_width}s")] if self.step_width else []
        return holes + [(at, 4, "f") if dtype == "<f4" else (at, 8, "d") for at, dtype, _ in self.slots]

    @property
    def _step_index(self) -> int:
        return 3 if self.wall_time >= 0 else 1

    @functools.cached_property
    def _values_from(self) -> int:
        return 1 + 2 * (self.wall_time >= 0) + 2 * (self.step_width > 0)

    @functools.cached_property
    def _struct(self) -> tuple[Any, tuple[bytes, ...]]:
        """What takes a payload apart into fixed and varying parts in turn, and the fixed ones."""
        form, fixed, end = "<", [], 0
        for at, width, letter in self._holes:
            form += f"{at - end}s{letter}"
            fixed.append(self.sample[end:at])
            end = at + width
        fixed.append(self.sample[end:])
        return struct.Struct(f"{form}{len(self.sample) - end}s").unpack, tuple(fixed)

    @functools.cached_property
    def _words(self) -> list[tuple[int, str, Any]]:
        """The fixed bytes as numbers of up to 8 bytes: where, which type, which number."""
        return [
            (at, f"<u{width}", int.from_bytes(self.sample[at : at + width], "little"))
            for begin, end in self._fixed_ranges()
            for at, width in _in_words(begin, end)
        ]

    def _fixed_ranges(self) -> Iterator[tuple[int, int]]:
        end = 0
        for at, width, _ in self._holes:
            yield end, at
            end = at + width
        yield end, len(self.sample)

    @functools.cached_property
    def _fixed_crc(self) -> int:
        """The checksum of the payload with zeros for what varies."""
        blank = bytearray(self.sample)
        for at, width, _ in self._holes:
            blank[at : at + width] = bytes(width)
        return int(google_crc32c.value(bytes(blank)))


def _in_words(begin: int, end: int) -> Iterator[tuple[int, int]]:
    """A range cut into words of 8, 4, 2 and 1 bytes."""
    for width in (8, 4, 2, 1):
        while end - begin >= width:
            yield begin, width
            begin += width


def layout_of(payload: bytes) -> Layout | None:
    """The layout of a payload; None for one that only protobuf understands."""
    if len(payload) > LONGEST or any(name in payload for name in _READ_BY_PROTOBUF):
        return None
    try:
        return _event(payload)
    except (IndexError, UnicodeDecodeError, _Other):
        return None


class _Other(Exception):
    """There is something else in the payload."""


def _event(payload: bytes) -> Layout:
    wall_time, step, step_width = -1, -1, 0
    slots: tuple[Slot, ...] = ()
    at, last = 0, 0
    while at < len(payload):
        key = payload[at]
        if key <= last:
            raise _Other  # twice, or in another order
        last = key
        at += 1
        if key == _WALL_TIME:
            wall_time, at = at, at + 8
        elif key == _STEP:
            step = at
            at = _varint(payload, at)[1]
            step_width = at - step
        elif key in (_VERSION, _SOURCE, _SUMMARY):
            begin, at = _delimited(payload, at, len(payload))
            slots = _summary(payload, begin, at) if key == _SUMMARY else slots
            if key == _VERSION:
                payload[begin:at].decode()
        else:
            raise _Other
    if at != len(payload):
        raise _Other
    return Layout(payload, wall_time, step, step_width, slots)


def _summary(payload: bytes, at: int, end: int) -> tuple[Slot, ...]:
    slots = []
    while at < end:
        if payload[at] != _TAG:  # Summary.value has the same number and type
            raise _Other
        begin, at = _delimited(payload, at + 1, end)
        slots.append(_value(payload, begin, at))
    return tuple(slots)


def _value(payload: bytes, at: int, end: int) -> Slot:
    """A value: its tag first, then a number, then perhaps its metadata."""
    if payload[at] != _TAG:
        raise _Other
    begin, at = _delimited(payload, at + 1, end)
    tag = payload[begin:at].decode()
    if at < end and payload[at] == _SIMPLE:
        slot, at = Slot(at + 1, "<f4", tag), at + 5
    elif at < end and payload[at] == _TENSOR:
        begin, at = _delimited(payload, at + 1, end)
        slot = Slot(*_tensor(payload, begin, at), tag)
    else:
        raise _Other
    if at < end and payload[at] == _METADATA:
        at = _delimited(payload, at + 1, end)[1]
    if at != end:
        raise _Other
    return slot


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


def _tensor(payload: bytes, begin: int, end: int) -> tuple[int, str]:
    """Where the one number of a tensor stands, and its type."""
    for form, dtype in _TENSOR_FORMS.items():
        if end - begin == len(form) + int(dtype[2]) and payload.startswith(form, begin):
            return begin + len(form), dtype
    raise _Other


def _varint(payload: bytes, at: int) -> tuple[int, int]:
    """A varint of up to 9 bytes (below 2**63), and where it ends."""
    number = 0
    for place in range(9):
        byte = payload[at + place]
        number |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return number, at + place + 1
    raise _Other


def _varint_of(data: bytes) -> int:
    """The varint that all of `data` is; -1 when it is none."""
    number = 0
    for place, byte in enumerate(data):
        number |= (byte & 0x7F) << (7 * place)
        if (byte > 0x7F) is (place == len(data) - 1):
            return -1
    return number


def _delimited(payload: bytes, at: int, end: int) -> tuple[int, int]:
    """Where a length-delimited field begins and ends, inside of `end`."""
    length, begin = _varint(payload, at)
    if begin + length > end:
        raise _Other
    return begin, begin + length
