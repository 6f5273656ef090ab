"""`Layout`: where the numbers stand in a record of scalars, so that records like it are read without parsing.

What varies between two records of a training loop are a few bytes at fixed places; these are in capitals:

    09 WALL_TIME[8]                  Event.wall_time, left out for 0
    10 STEP[1..9]                    Event.step, a varint, left out for 0
    2a n                             Event.summary
       0a m  0a t tag                  value.tag, then one of
             15 VALUE[4]                 simple_value
             42 k ... VALUE[4 or 8]      a tensor: a float or double without dimensions
             42 k ... CONTENT[n]         a tensor of more elements, such as TensorFlow 2's histograms
             2a k (09 NUMBER[8])...      a histogram: its moments and its buckets, all of 8 bytes
             4a k metadata               of any plugin but those that are read by protobuf
       0a m ...                        more values of the same event

All other bytes must be those of the record that the layout was learned from. A record whose fields stand in another
order, or hold anything else, has no layout and is read by protobuf.
Source: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from hparams_lab.events.format.crc import add_to_crc, crc_table, masked, unmasked
from hparams_lab.events.format.record import HEADER_SIZE

Point: TypeAlias = tuple[int, float, tuple[float, ...]]
"""Step, wall time and values of an event."""


class Slot(NamedTuple):
    """A value's place in a payload: where it begins, its NumPy type, its tag, and where that begins."""

    at: int
    dtype: str
    tag: str
    tag_at: int


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
    """What the records of one layout say, one row a record.

    `fixed_crc` is what `Layout.fixed_crc` is where the record's checksum is right.
    """

    steps: NDArray[np.int64]
    wall_times: NDArray[np.float64]
    values: list[NDArray[np.float64]]
    fixed_crc: NDArray[np.uint32]

    def columns(self, order: NDArray[np.int64] | None = None) -> list[NDArray[Any]]:
        """Steps, wall times and the values of each slot, of the rows in some order."""
        columns = [self.steps, self.wall_times, *self.values]
        return columns if order is None else [column[order] for column in columns]


@dataclass(frozen=True)
class Layout:
    """Where the numbers stand in payloads of one length.

    Attributes:
      sample: a payload of that layout.
      wall_time, step: where they stand, -1 where they are left out.
      step_width: bytes of the step, 0 to 9.
      slots: the scalars.
      other_tags: where the tags of the values that are no scalars begin and end.
      skipped: the numbers of those: where they stand, and how many bytes they have.
    """

    sample: bytes
    wall_time: int
    step: int
    step_width: int
    slots: tuple[Slot, ...]
    other_tags: tuple[tuple[int, int], ...] = ()
    skipped: tuple[tuple[int, int], ...] = ()

    @functools.cached_property
    def tags(self) -> tuple[str, ...]:
        """The tags of its values."""
        return tuple(slot.tag for slot in self.slots)

    def one(self, payload: bytes) -> Point | None:
        """What one payload of the right length says; None when it has another layout."""
        found = self.unpack(payload)
        return self.point(found) if found[::2] == self.fixed else None

    def point(self, found: tuple[Any, ...]) -> Point | None:
        """What a payload says that `unpack` took apart, its fixed parts compared; None when its step is none."""
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
        wall_time = found[1] if self.wall_time >= 0 else 0.0
        if self.skipped:
            return step, wall_time, tuple([found[index] for index in self._value_indices])
        return step, wall_time, found[self._values_from :: 2]

    def fits(self, rows: Rows) -> NDArray[np.bool_]:
        """Which rows have this layout."""
        return self.fits_form(rows) & self.fits_tags(rows)

    def fits_tags(self, rows: Rows) -> NDArray[np.bool_]:
        """Which rows have its tags where they are."""
        return equal(rows, self._tag_words)

    def fits_form(self, rows: Rows) -> NDArray[np.bool_]:
        """Which rows have this layout but for their tags, which are as long."""
        good = equal(rows, self._form_words)
        for place in range(self.step_width):
            more = rows.column(HEADER_SIZE + self.step + place, "u1") > 0x7F
            good &= more if place < self.step_width - 1 else ~more
        return good

    def by_tags(self, rows: Rows) -> Groups:
        """Rows of this layout but for their tags, grouped by these."""
        keys = np.zeros(rows.size, np.uint64)
        for at, dtype, _ in self._tag_words:
            keys *= _PRIME
            keys += rows.column(HEADER_SIZE + at, dtype)
            keys ^= keys >> _SHIFT
        words = (rows.column(HEADER_SIZE + at, dtype) for at, dtype, _ in self._tag_words)
        return Groups.of(keys * _PRIME >> _TO_SHORT, *words)

    def decoded(self, rows: Rows) -> Decoded:
        """The numbers of rows that have this layout, whatever their tags."""
        size = len(self.sample)
        crc = unmasked(np.array(rows.column(HEADER_SIZE + size, "<u4")))
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
        return Decoded(steps, wall_times, values, crc)

    def sound(self, rows: Rows, decoded: Decoded, fixed_crc: NDArray[np.uint32] | int) -> NDArray[np.bool_]:
        """Of which rows of this layout, whatever their tags, the checksum is right.

        Args: fixed_crc: that of the layout with the tags of each row.
        """
        if self.skipped:
            size = len(self.sample)
            payloads = rows.column(HEADER_SIZE, f"V{size}").tolist()
            found = np.fromiter(map(google_crc32c.value, payloads), np.uint32, rows.size)
            sound: NDArray[np.bool_] = masked(found) == rows.column(HEADER_SIZE + size, "<u4")
        else:
            sound = decoded.fixed_crc == fixed_crc
        return sound

    @functools.cached_property
    def holes(self) -> tuple[tuple[int, int, str], ...]:
        """What varies: where it begins, how many bytes it has, and its letter in `struct`."""
        holes = [(self.wall_time, 8, "d")] if self.wall_time >= 0 else []
        holes += [(self.step, self.step_width, f"{self.step_width}s")] if self.step_width else []
        holes += [(slot.at, int(slot.dtype[2]), "f" if slot.dtype == "<f4" else "d") for slot in self.slots]
        if self.skipped:
            holes = sorted([*holes, *((at, width, f"{width}s") for at, width in self.skipped)])
        return tuple(holes)

    @functools.cached_property
    def unpack(self) -> Callable[[bytes], tuple[Any, ...]]:
        """Takes a payload apart into fixed and varying parts in turn."""
        form, end = "<", 0
        for at, width, letter in self.holes:
            form += f"{at - end}s{letter}"
            end = at + width
        return struct.Struct(f"{form}{len(self.sample) - end}s").unpack

    @functools.cached_property
    def fixed(self) -> tuple[bytes, ...]:
        """The fixed parts."""
        return self.unpack(self.sample)[::2]

    @functools.cached_property
    def _step_index(self) -> int:
        return 3 if self.wall_time >= 0 else 1

    @functools.cached_property
    def _values_from(self) -> int:
        return 1 + 2 * (self.wall_time >= 0) + 2 * (self.step_width > 0)

    @functools.cached_property
    def _value_indices(self) -> list[int]:
        places = [at for at, _, _ in self.holes]
        return [1 + 2 * places.index(slot.at) for slot in self.slots]

    @functools.cached_property
    def _tag_ranges(self) -> list[tuple[int, int]]:
        return [*((slot.tag_at, slot.tag_at + len(slot.tag.encode())) for slot in self.slots), *self.other_tags]

    @functools.cached_property
    def _tag_words(self) -> list[Word]:
        """The tags' bytes as numbers of up to 8 bytes: where, which type, which number."""
        return [word for begin, end in self._tag_ranges for word in words_of(self.sample, begin, end)]

    @functools.cached_property
    def _form_words(self) -> list[Word]:
        """The fixed bytes but the tags' in the same form."""
        ranges = sorted([*((at, at + width) for at, width, _ in self.holes), *self._tag_ranges])
        ends = [0, *(end for _, end in ranges)]
        begins = [*(begin for begin, _ in ranges), len(self.sample)]
        return [word for end, begin in zip(ends, begins, strict=True) for word in words_of(self.sample, end, begin)]

    @functools.cached_property
    def fixed_crc(self) -> int:
        """The checksum of the payload with zeros for what varies."""
        blank = bytearray(self.sample)
        for at, width, _ in self.holes:
            blank[at : at + width] = bytes(width)
        return int(google_crc32c.value(bytes(blank)))


class Groups(NamedTuple):
    """Rows grouped by a key; groups of different keys may meet, which is rare.

    Attributes:
      order: the numbers of the rows, a group after the other, in each as they were.
      begins, sizes: of the groups, in `order`.
      like_first: which rows, in that order, have the key of their group's first.
    """

    order: NDArray[np.int64]
    begins: NDArray[np.int64]
    sizes: NDArray[np.int64]
    like_first: NDArray[np.bool_]

    @classmethod
    def of(cls, short: NDArray[Any], *keys: NDArray[Any]) -> Groups:
        """Rows of which the `keys` are the same. Args: short: a number of 16 bits that follows from them."""
        short = short.astype(np.uint16)  # NumPy sorts these by radix
        order = np.argsort(short, kind="stable")
        column = short[order]
        ends = np.append(np.flatnonzero(column[1:] != column[:-1]) + 1, len(order))
        begins = np.concatenate([[0], ends[:-1]])
        sizes = ends - begins
        firsts = np.repeat(begins, sizes)
        like_first = np.ones(len(order), np.bool_)
        for key in keys:
            column = key[order]
            like_first &= column == column[firsts]
        return cls(order, begins, sizes, like_first)


Word: TypeAlias = tuple[int, str, int]
"""Bytes of a payload as a number of up to 8 bytes: where, which type, which number."""


def words_of(payload: bytes, begin: int, end: int) -> Iterator[Word]:
    """A range of a payload's bytes as numbers."""
    for width in (8, 4, 2, 1):
        while end - begin >= width:
            yield begin, f"<u{width}", int.from_bytes(payload[begin : begin + width], "little")
            begin += width


def equal(rows: Rows, words: Iterable[Word]) -> NDArray[np.bool_]:
    """Which rows have these words in their payloads."""
    good = np.ones(rows.size, np.bool_)
    for at, dtype, expected in words:
        good &= rows.column(HEADER_SIZE + at, dtype) == expected
    return good


_PRIME = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(29)
_TO_SHORT = np.uint64(48)


@functools.lru_cache(maxsize=64)
def _varint_of(data: bytes) -> int:
    """The varint that all of `data` is; -1 when it is none. The tags of a turn share their step."""
    number = 0
    for place, byte in enumerate(data):
        number |= (byte & 0x7F) << (7 * place)
        if (byte > 0x7F) is (place == len(data) - 1):
            return -1
    return number
