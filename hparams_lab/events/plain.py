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

from hparams_lab.events.crc import NEAR, add_to_crc, blank_crcs, crc_tables, unmasked
from hparams_lab.events.layout import Layout
from hparams_lab.events.record import HEADER_SIZE

LONGEST_PLAIN = NEAR - 1
"""Longer records are not looked at."""

SHORTEST = 17
"""Bytes before the number: the time, a step, and something of the body."""

_TIME, _STEP, _SUMMARY = 0x09, 0x10, 0x2A
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

    def fit(self, data: bytes | bytearray, bodies: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of the records of that shape have these words, by where their bodies begin."""
        size = len(self.body)
        good: NDArray[np.bool_] = at_places(data, f"V{size}", bodies) == np.void(self.body)
        if self.tail:
            tails = bodies + (size + self.shape.back - len(self.tail))
            good &= at_places(data, f"V{len(self.tail)}", tails) == np.void(self.tail)
        return good


class Plain(NamedTuple):
    """Records of one shape, one row a record.

    Attributes:
      bodies, sizes: where the body begins, and how many bytes it has.
      rest: the checksum of body and tail, where that of the record is right.
    """

    bodies: NDArray[np.int64]
    sizes: NDArray[np.int64]
    rest: NDArray[np.uint32]
    steps: NDArray[np.int64]
    wall_times: NDArray[np.float64]
    values: NDArray[np.float64]


def at_places(data: bytes | bytearray, dtype: str, places: NDArray[np.int64]) -> NDArray[Any]:
    """What stands at any places of the data."""
    width = np.dtype(dtype).itemsize
    found: NDArray[Any] = np.ndarray((len(data) - width + 1,), dtype, data, 0, (1,))[places]
    return found


def of_shape(
    data: bytes | bytearray, offsets: NDArray[np.int64], lengths: NDArray[np.int64], shape: Shape
) -> NDArray[np.int64]:
    """The numbers of the records that may have a shape."""
    which = np.flatnonzero((lengths >= SHORTEST + shape.back) & (lengths <= LONGEST_PLAIN))
    begins = offsets[which] + HEADER_SIZE
    key = at_places(data, "u1", begins + 9)
    before = at_places(data, "u1", begins + (lengths[which] - shape.back - 1))
    first = at_places(data, "u1", begins)
    found: NDArray[np.int64] = which[(first == _TIME) & ((key == _STEP) | (key == _SUMMARY)) & (before == shape.before)]
    return found


def taken_apart(
    data: bytes | bytearray, offsets: NDArray[np.int64], lengths: NDArray[np.int64], shape: Shape
) -> Plain:
    """The rows of records that `of_shape` names."""
    begins = offsets + HEADER_SIZE
    wall_times = at_places(data, "<f8", begins + 1)
    steps, digits, widths = _steps(at_places(data, "<u8", begins + 9))
    numbers = at_places(data, shape.dtype, begins + (lengths - shape.back))
    rest = unmasked(at_places(data, "<u4", begins + lengths))
    rest ^= np.where(widths, blank_crcs((0, _TIME), (9, _STEP))[lengths], blank_crcs((0, _TIME))[lengths])
    tables = crc_tables()
    place = (lengths - 2) << 8  # of the table of the first byte of the time
    for column in wall_times.view(np.uint8).reshape(-1, 8).T:
        rest ^= tables.take(place + column)
        place -= 256
    for back in range(int(widths.max()) - 1):
        place -= 256
        rest ^= tables.take(place + ((digits >> np.uint64(8 * back)).astype(np.int64) & 0xFF))
    add_to_crc(rest, shape.back, numbers.view(shape.dtype.replace("f", "u")))
    with np.errstate(invalid="ignore"):  # a signalling NaN
        values = numbers.astype(np.float64)
    bodies = 9 + widths
    return Plain(begins + bodies, lengths - shape.back - bodies, rest, steps, wall_times, values)


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
