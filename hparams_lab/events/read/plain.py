"""Records of one scalar each, of whatever tags and lengths, taken apart together.

Nearly all records of a training loop are such:

    09 WALL_TIME[8]  10 STEP[1..5]  BODY  NUMBER[4 or 8]  TAIL

The body ends with the key of the number, the tail is metadata or nothing. So time, step and number are found before
the tag is. Without them, what is left of a checksum is that of the body and the tail: the same for all records of a
tag, however wide the step is, so that it tells the tags apart.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hparams_lab.events.format.crc import NEAR, add_to_crc, blank_crcs, crc_tables, unmasked
from hparams_lab.events.format.record import HEADER_SIZE
from hparams_lab.events.read.layout import Layout

LONGEST_PLAIN = NEAR - 1
"""Longer records are not looked at."""

AT_ONCE = 1 << 15
"""So many records at once: what is made of them on the way stays in the processor's cache."""

SHORTEST = 17
"""Bytes before the number: the time, a step, and something of the body."""

_TIME, _STEP, _SUMMARY = 0x09, 0x10, 0x2A
_HEAD = np.dtype([("key", "u1"), ("time", "<f8"), ("behind", "<u8")])
_WIDEST = 5  # bytes of a step
_HIGH_BITS = np.uint64(0x8080808080)
_LOW_BITS = np.uint64(0x7F)


class Shape(NamedTuple):
    """Where the number of a record stands: so far before its end, its NumPy type, and the byte before it."""

    back: int
    dtype: str
    before: int

    @property
    def tail(self) -> int:
        """Bytes behind the number."""
        return self.back - int(self.dtype[2])

    @property
    def end(self) -> np.dtype[Any]:
        """What stands from there to the end of the record."""
        return np.dtype([("number", self.dtype), ("tail", f"V{self.tail}"), ("crc", "<u4")])


SIMPLE = Shape(4, "<f4", 0x15)
"""A `simple_value` ends its record."""


def shape_of(layout: Layout) -> Shape | None:
    """The shape of the records of a layout; None where they have another number of values, or more than a number."""
    if layout.wall_time != 1 or layout.step not in (-1, 10) or layout.step_width > _WIDEST:
        return None
    if len(layout.slots) != 1 or layout.other_tags:
        return None
    at, dtype, *_ = layout.slots[0]
    size = len(layout.sample)
    return Shape(size - at, dtype, layout.sample[at - 1]) if at >= SHORTEST and size <= LONGEST_PLAIN else None


class Words(NamedTuple):
    """What the records of a tag have in common: its name, their shape, and what stands before and behind the number."""

    tag: str
    shape: Shape
    body: bytes
    tail: bytes

    @classmethod
    def of(cls, layout: Layout, body: int) -> Words | None:
        """Those of a layout, the body of which has so many bytes; None where it has no shape."""
        shape = shape_of(layout)
        if shape is None:
            return None
        end = len(layout.sample)
        number = end - shape.back
        return cls(layout.tags[0], shape, layout.sample[number - body : number], layout.sample[end - shape.tail :])

    def fit(
        self, data: bytes | bytearray, bodies: NDArray[np.int64], tails: NDArray[np.void]
    ) -> NDArray[np.bool_]:
        """Which records of that shape, with a body of that length, have these words.

        Args: bodies: where their bodies begin. tails: what stands behind their numbers.
        """
        good: NDArray[np.bool_] = at_places(data, f"V{len(self.body)}", bodies) == np.void(self.body)
        if self.tail:
            good &= tails == np.void(self.tail)
        return good


class Plain(NamedTuple):
    """Records of one shape, one row a record.

    Attributes:
      bodies, sizes: where the body begins, and how many bytes it has.
      prefixes: how many bytes of the payload stand before it.
      rest: the checksum of body and tail, where that of the record is right.
      tails: what stands behind the number.
    """

    bodies: NDArray[np.int64]
    sizes: NDArray[np.int64]
    prefixes: NDArray[np.int64]
    rest: NDArray[np.uint32]
    tails: NDArray[np.void]
    columns: list[NDArray[Any]]  # steps, wall times, values


def at_places(data: bytes | bytearray, dtype: str | np.dtype[Any], places: NDArray[np.int64]) -> NDArray[Any]:
    """What stands at any places of the data."""
    width = np.dtype(dtype).itemsize
    whole = np.ndarray((len(data) - width + 1,), f"V{width}", data, 0, (1,))
    found: NDArray[Any] = whole[places].view(dtype)
    return found


def taken_apart(
    data: bytes | bytearray, offsets: NDArray[np.int64], lengths: NDArray[np.int64], shape: Shape
) -> tuple[NDArray[np.int64], Plain]:
    """The numbers of the records that may have a shape, and their rows."""
    which = np.flatnonzero((lengths >= SHORTEST + shape.back) & (lengths <= LONGEST_PLAIN))
    before = at_places(data, "u1", offsets[which] + (HEADER_SIZE - shape.back - 1) + lengths[which])
    which = which[before == shape.before]
    begins, lengths = offsets[which] + HEADER_SIZE, lengths[which]
    heads = at_places(data, _HEAD, begins)
    key = heads["behind"] & np.uint64(0xFF)
    fits = (heads["key"] == _TIME) & ((key == _STEP) | (key == _SUMMARY))
    if not fits.all():
        which, begins, lengths, heads = (column[fits] for column in (which, begins, lengths, heads))
    ends = at_places(data, shape.end, begins + (lengths - shape.back))
    wall_times, numbers = np.array(heads["time"]), np.array(ends["number"])
    steps, digits, widths = _steps(np.array(heads["behind"]))
    rest = unmasked(np.array(ends["crc"]))
    if len(which):
        rest ^= blank_crcs((0, _TIME), (9, _STEP))[lengths]
        if not widths.all():  # some have no step, and so no key of it
            rest ^= np.where(widths, np.uint32(0), crc_tables()[_STEP::256].take(lengths - 10))
        _add_bytes(rest, lengths - 2, wall_times.view(np.uint64), 8)
        _add_bytes(rest, lengths - 11, digits, int(widths.max()) - 1)
        add_to_crc(rest, shape.back, numbers.view(shape.dtype.replace("f", "u")))
    with np.errstate(invalid="ignore"):  # a signalling NaN
        values = numbers.astype(np.float64)
    prefixes = 9 + widths
    sizes = lengths - shape.back - prefixes
    return which, Plain(begins + prefixes, sizes, prefixes, rest, ends["tail"], [steps, wall_times, values])


def _add_bytes(crc: NDArray[np.uint32], distances: NDArray[np.int64], words: NDArray[np.uint64], count: int) -> None:
    """Add to the checksums what the first bytes of `words` mean, the first of which are so far before the end.

    A byte that all words share is looked up by the distance alone.
    """
    tables, bytes_of = crc_tables(), words.view(np.uint8).reshape(-1, 8)
    varying = int(np.bitwise_or.reduce(words ^ words[0]))
    places = distances << 8
    for byte in range(count):
        column = bytes_of[:, byte]
        if varying >> 8 * byte & 0xFF:
            crc ^= tables.take(places + column)
        elif column[0]:
            crc ^= tables[int(column[0]) :: 256].take(distances - byte)
        places -= 256


def _steps(words: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.int64]]:
    """The steps in the bytes behind the times, those bytes of each, and how many they are with their key.

    There are none where the step is left out; a step wider than is looked at is taken for one without digits.
    """
    digits = words >> np.uint64(8)
    ends = ~digits & _HIGH_BITS
    ends &= ~ends + np.uint64(1)  # the byte that ends the number
    ends[(words & np.uint64(0xFF)) != _STEP] = 0
    digits &= np.where(ends, ends - np.uint64(1), np.uint64(0))
    steps = digits & _LOW_BITS
    widths = np.where(ends, 2, 0).astype(np.int64)
    for place in range(1, _WIDEST):
        wider = ends > 0x80 << 8 * (place - 1)
        if not wider.any():
            break
        widths += wider
        steps |= (digits >> np.uint64(place)) & (_LOW_BITS << np.uint64(7 * place))
    return steps.view(np.int64), digits, widths
