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

import functools
import itertools
import struct

import numpy as np
from google_crc32c import value as crc32c
from numpy.typing import NDArray

from hparams_lab.events.crc import MASK_DELTA, masked_crc32c
from hparams_lab.events.record import HEADER_SIZE, frame

FEW = 32
"""Below so many rows each is packed by itself."""

_WALL_TIME = struct.Struct("<d")
_VALUE = struct.Struct("<f")
_CRC = struct.Struct("<I")
_CHUNK = 1 << 14
"""Rows that are encoded at once: their matrix stays in the cache."""


class ScalarEncoder:
    """Encodes the scalars of one tag."""

    def __init__(self, tag: str) -> None:
        value = _delimited(0x0A, tag.encode()) + b"\x15" + bytes(4)
        self._summary = _delimited(0x2A, _delimited(0x0A, value))
        self._layouts: dict[int, _Layout] = {}

    def encode(self, steps: NDArray[np.int64], wall_times: NDArray[np.float64], values: NDArray[np.float64]) -> bytes:
        """The records of the points in their order.

        Args:
          steps: 0 to 2**31-1. wall_times: seconds since 1970, not 0. values: any, narrowed to 32 bits.
        """
        if len(steps) < FEW:
            points = zip(steps.tolist(), wall_times.tolist(), values.tolist(), strict=True)
            return b"".join([self.one(step, time, value) for step, time, value in points])
        with np.errstate(over="ignore", invalid="ignore"):
            narrow = values.astype("<f4")
        lengths = np.searchsorted(_VARINT_ENDS, steps, side="right")
        changes = np.flatnonzero(np.diff(lengths)) + 1
        bounds = [0, *changes.tolist(), len(steps)]
        if len(changes) > len(steps) // FEW:  # steps in no order: many short stretches of one length
            return self._scattered(steps, wall_times, narrow, lengths)
        parts = []
        for begin, end in itertools.pairwise(bounds):
            layout = self._layout(int(lengths[begin]))
            for at in range(begin, end, _CHUNK):
                rows = slice(at, min(at + _CHUNK, end))
                parts.append(layout.rows(steps[rows], wall_times[rows], narrow[rows]).tobytes())
        return b"".join(parts)

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
            rows = self._layout(length).rows(steps[where], wall_times[where], values[where])
            for place, row in zip(where.tolist(), rows, strict=True):
                records[place] = row.tobytes()
        return b"".join(records)

    def _layout(self, length: int) -> _Layout:
        layout = self._layouts.get(length)
        if layout is None:
            layout = self._layouts[length] = _Layout(self._summary, length)
        return layout


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
        self._fixed_crc = np.uint32(crc32c(payload))
        self._row = np.frombuffer(self._record, np.uint8)

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
        """Records as the rows of a matrix."""
        count = len(steps)
        matrix = np.empty((count, len(self._row)), np.uint8)
        matrix[:] = self._row
        crc = np.full(count, self._fixed_crc)
        self._put(matrix, crc, self._wall_time, wall_times.astype("<f8").view(np.uint8).reshape(count, 8))
        self._put(matrix, crc, self._step, _varints(steps, self._length))
        self._put(matrix, crc, self._value, values.view(np.uint8).reshape(count, 4))
        masked = ((crc >> np.uint32(15)) | (crc << np.uint32(17))) + np.uint32(MASK_DELTA)
        matrix[:, self._payload_end :] = masked.astype("<u4", copy=False).view(np.uint8).reshape(count, 4)
        return matrix

    def _put(self, matrix: NDArray[np.uint8], crc: NDArray[np.uint32], at: int, data: NDArray[np.uint8]) -> None:
        """Place the columns of `data` at `at`, and what they mean for the checksum."""
        width = data.shape[1]
        matrix[:, at : at + width] = data
        varying = np.bitwise_or.reduce(data ^ data[0])
        for place in range(width):
            table = _crc_table(self._payload_end - at - place - 1)
            crc ^= table.take(data[:, place]) if varying[place] else table[data[0, place]]


_VARINT_ENDS = np.array([1, *(1 << 7 * length for length in range(1, 5))])
"""The first step of each length: 0 takes no bytes, below 2**7 one, below 2**14 two, ..."""


def _varint_length(step: int) -> int:
    return -(-step.bit_length() // 7)


def _varints(steps: NDArray[np.int64], length: int) -> NDArray[np.uint8]:
    """The varints of `steps`, all of one length, as rows."""
    data = np.empty((len(steps), length), np.uint8)
    for place in range(length):
        np.bitwise_and(steps >> (7 * place), 0x7F, out=data[:, place], casting="unsafe")
    data[:, : length - 1] |= 0x80
    return data


@functools.cache
def _crc_table(distance: int) -> NDArray[np.uint32]:
    """What each value of a byte adds to a CRC-32C, `distance` bytes before the end."""
    zeros = bytes(distance)
    nothing = crc32c(b"\0" + zeros)
    table = np.zeros(256, np.uint32)
    for bit in range(8):
        one = 1 << bit
        table[one : 2 * one] = table[:one] ^ np.uint32(crc32c(bytes([one]) + zeros) ^ nothing)
    return table


def _delimited(key: int, content: bytes) -> bytes:
    """A length-delimited protobuf field."""
    length, digits = len(content), []
    while length > 0x7F:
        digits.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes([key, *digits, length]) + content
