"""`ScalarEncoder`: columns of one tag to the records that hold them, all rows at once.

A scalar's record, with what varies from row to row in capitals:

    length, crc of length                       fixed for a tag and a length of STEP
    09 WALL_TIME[8]                             Event.wall_time
    10 STEP[1..5]                               Event.step, a varint; both bytes are left out for step 0
    2a n  0a m  0a t tag  15 VALUE[4]           Event.summary.value: tag and simple_value
    CRC[4]

NumPy lays the fixed bytes as the rows of a matrix and scatters the varying ones into its columns. A CRC is linear over
XOR: that of a row is the one of its fixed bytes, XORed with a table look-up for each varying byte by its distance from
the end. A few rows are packed one by one instead, for which a matrix is too slow to set up.

Source: https://protobuf.dev/programming-guides/encoding/ and `record.py` for the framing.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable

import numpy as np
from google_crc32c import value as crc32c
from numpy.typing import NDArray

from hparams_lab.events.format.crc import add_to_crc, crc_table, masked, masked_crc32c
from hparams_lab.events.format.record import HEADER_SIZE, frame

FEW = 32
"""Below so many rows each is packed by itself."""

MOST_IDLE = 100
"""So many encoders are kept for runs to come."""

_WALL_TIME = struct.Struct("<d")
_VALUE = struct.Struct("<f")
_CRC = struct.Struct("<I")
_CHUNK = 1 << 12
"""Rows that are encoded at once: their matrix stays in the cache, and fresh memory is slower than all the rest."""


class ScalarEncoder:
    """Encodes the scalars of one tag."""

    def __init__(self, tag: str) -> None:
        self._tag = tag
        value = _delimited(0x0A, tag.encode()) + b"\x15" + bytes(4)
        self._summary = _delimited(0x2A, _delimited(0x0A, value))
        self._layouts: dict[int, _Layout] = {}

    @classmethod
    def borrowed(cls, tag: str) -> ScalarEncoder:
        """The encoder of a tag, its templates made already where another run has given one back."""
        return _idle.pop(tag, None) or cls(tag)

    def give_back(self) -> None:
        """Let the next run have it."""
        if len(_idle) < MOST_IDLE:
            _idle[self._tag] = self

    def encode(self, steps: NDArray[np.int64], wall_times: NDArray[np.float64], values: NDArray[np.float64]) -> bytes:
        """The records of the points in their order.

        Args:
          steps: 0 to 2**31-1. wall_times: seconds since 1970, not 0. values: any, narrowed to 32 bits.
        """
        parts: list[bytes] = []
        self.encode_to(lambda part: parts.append(bytes(part)), steps, wall_times, values)
        return b"".join(parts)

    def encode_to(
        self,
        emit: Callable[[bytes | memoryview], None],
        steps: NDArray[np.int64],
        wall_times: NDArray[np.float64],
        values: NDArray[np.float64],
    ) -> None:
        """As `encode`, part by part. A part is valid until `emit` returns: its memory is used again for the next."""
        if len(steps) < FEW:
            points = zip(steps.tolist(), wall_times.tolist(), values.tolist(), strict=True)
            emit(b"".join([self.one(step, time, value) for step, time, value in points]))
            return
        with np.errstate(over="ignore", invalid="ignore"):
            narrow = values.astype("<f4")
        lengths = np.searchsorted(_VARINT_ENDS, steps, side="right")
        changes = np.flatnonzero(lengths[1:] != lengths[:-1]) + 1
        if len(changes) > len(steps) // FEW:  # steps in no order: many short stretches of one length
            emit(self._scattered(steps, wall_times, narrow, lengths))
            return
        for begin, end in itertools.pairwise([0, *changes.tolist(), len(steps)]):
            layout = self._layout(int(lengths[begin]))
            for at in range(begin, end, _CHUNK):
                rows = slice(at, min(at + _CHUNK, end))
                emit(layout.rows(steps[rows], wall_times[rows], narrow[rows]).data.cast("B"))

    def one(self, step: int, wall_time: float, value: float) -> bytes:
        """The record of one point."""
        return self._layout(_varint_length(step)).one(step, wall_time, value)

    def _scattered(
        self,
        steps: NDArray[np.int64],
        wall_times: NDArray[np.float64],
        values: NDArray[np.float32],
        lengths: NDArray[np.int64],
    ) -> bytes:
        """Encode the rows of each length together and put them back in their order."""
        records: list[bytes] = [b""] * len(steps)
        for length in np.unique(lengths).tolist():
            where = np.flatnonzero(lengths == length)
            for at in range(0, len(where), _CHUNK):
                places = where[at : at + _CHUNK]
                rows = self._layout(length).rows(steps[places], wall_times[places], values[places])
                for place, row in zip(places.tolist(), rows, strict=True):
                    records[place] = row.tobytes()
        return b"".join(records)

    def _layout(self, length: int) -> _Layout:
        layout = self._layouts.get(length)
        if layout is None:
            layout = self._layouts[length] = _Layout(self._summary, length)
        return layout


_idle: dict[str, ScalarEncoder] = {}


class _Layout:
    """The record of a tag whose step takes `length` bytes: its fixed bytes, and where the varying ones go."""

    def __init__(self, summary: bytes, length: int) -> None:
        step = b"\x10" + bytes(length) if length else b""
        payload = b"\x09" + bytes(8) + step + summary
        self._record = frame(payload)
        self._payload_end = HEADER_SIZE + len(payload)
        self._wall_time = HEADER_SIZE + 1
        self._step = HEADER_SIZE + 10
        self._length = length
        self._value = self._payload_end - 4
        self._matrix: NDArray[np.uint8] | None = None

    def _rows_for(self, count: int) -> NDArray[np.uint8]:
        """A matrix of `count` rows, which is the next call's again; what it needs is made at the first call."""
        if self._matrix is None:
            between = self._value - self._wall_time - 8
            gap, rest = ("", f"V{self._wall_time}"), ("", f"V{between}")
            self._fields = np.dtype([gap, ("wall_time", "<f8"), rest, ("value", "<f4"), ("crc", "<u4")])
            self._fixed_crc = np.uint32(crc32c(self._record[HEADER_SIZE : self._payload_end]))
            self._row = np.frombuffer(self._record, np.uint8)
        if self._matrix is None or count > len(self._matrix):
            self._matrix = np.empty((min(_CHUNK, 2 * count), len(self._row)), np.uint8)
        return self._matrix[:count]

    def one(self, step: int, wall_time: float, value: float) -> bytes:
        """One record."""
        record = bytearray(self._record)
        _WALL_TIME.pack_into(record, self._wall_time, wall_time)
        for place in range(self._length):
            record[self._step + place] = step >> (7 * place) & 0x7F | (0x80 if place < self._length - 1 else 0)
        try:
            _VALUE.pack_into(record, self._value, value)
        except OverflowError:
            _VALUE.pack_into(record, self._value, float("inf") if value > 0 else float("-inf"))
        payload = bytes(record[HEADER_SIZE : self._payload_end])
        _CRC.pack_into(record, self._payload_end, masked_crc32c(payload))
        return bytes(record)

    def rows(
        self, steps: NDArray[np.int64], wall_times: NDArray[np.float64], values: NDArray[np.float32]
    ) -> NDArray[np.uint8]:
        """Records as the rows of a matrix, which is the next call's again."""
        matrix = self._rows_for(len(steps))
        matrix[:] = self._row
        fields = matrix.view(self._fields)[:, 0]
        fields["wall_time"] = wall_times
        fields["value"] = values
        varints = matrix[:, self._step : self._step + self._length]
        _put_varints(varints, steps)
        crc = np.full(len(steps), self._fixed_crc)
        add_to_crc(crc, self._payload_end - self._wall_time, np.ascontiguousarray(wall_times).view("<u8"))
        add_to_crc(crc, self._payload_end - self._value, values.view("<u4"))
        for place in range(self._length):
            crc ^= crc_table(self._payload_end - self._step - place - 1).take(varints[:, place])
        fields["crc"] = masked(crc)
        return matrix


_VARINT_ENDS = np.array([1, *(1 << 7 * length for length in range(1, 5))])
"""The first step of each length: 0 takes no bytes, below 2**7 one, below 2**14 two, ..."""


def _varint_length(step: int) -> int:
    return -(-step.bit_length() // 7)


def _put_varints(out: NDArray[np.uint8], steps: NDArray[np.int64]) -> None:
    """The varints of `steps`, all of the length that `out` has columns, into its rows."""
    for place in range(out.shape[1]):
        np.bitwise_and(steps >> (7 * place), 0x7F, out=out[:, place], casting="unsafe")
    out[:, :-1] |= 0x80


def _delimited(key: int, content: bytes) -> bytes:
    """A length-delimited protobuf field."""
    length, digits = len(content), []
    while length > 0x7F:
        digits.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([key, *digits, length]) + content
