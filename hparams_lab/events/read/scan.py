"""`Scanner`: the bytes of an event file to points and events, most of them many records at a time.

A training loop repeats its tags, so the lengths of its records repeat: where they do, the records of a stretch are rows
at even distances, read as strided columns without a copy. Where they do not, the records of a length are gathered into
rows. A few records, and those that have no `Layout`, are read one by one, the latter by protobuf. Every checksum is
verified on all of these ways.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Sequence

import google_crc32c
import numpy as np
from numpy.typing import NDArray
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary

from hparams_lab.core.curve import Scalars
from hparams_lab.core.findings import Finding, Kind
from hparams_lab.events.format.crc import MASK_DELTA, crc_table, masked
from hparams_lab.events.format.record import BAD_CHECKSUM, BAD_LENGTH, HEADER_SIZE, LARGEST, OVERHEAD, wild_length
from hparams_lab.events.format.summaries import BadSummary
from hparams_lab.events.format.tensor import BadTensor, scalar_of
from hparams_lab.events.read.layout import Rows
from hparams_lab.events.read.layouts import Layouts
from hparams_lab.events.read.long import LONG, read_long
from hparams_lab.events.read.stretch import FEWEST_ROWS, Sink, Stretch
from hparams_lab.events.read.wire import LONGEST

FEW = 64
"""So many records are looked at before it is decided how a stretch is read."""

HEAD = 8
"""So many records of a file's beginning are read one by one."""

SHORT_TAIL = 1 << 13
"""So many bytes of a piece are read one by one."""

SHORT_PIECE = 1 << 16
"""A shorter piece is gathered where its records do not repeat at once."""

SHORT_STRETCH = 1024
"""A stretch of fewer records that repeat is short."""

MOST_SHORT = 4
"""After so many short stretches the rest of a piece is gathered."""

MOST_REPEATED = 16
"""Records that repeat after so many, or more, are gathered."""

LOOKED_AT = 1 << 18
"""Bytes in which records are looked for at once: each may be a place."""

MOST_WALKED = 1024
"""Records whose payloads do not begin as most do are found one by one, so many at a time."""

SPARSE = 1 << 10
"""Records of more bytes, one with another, are images among scalars, and read one by one."""

MOST_FINDINGS = 1000
"""The last finding of a file stands for all beyond so many."""

NO_SCALARS = ("hparams", "text")
"""Plugins whose values are none."""

_HEADER = struct.Struct("<QI")
_CRC = struct.Struct("<I")
_NOT_READ = ("histo", "audio")
_TIME = 0x09  # the key of Event.wall_time
_CRC_OF_ZEROS = google_crc32c.value(bytes(8))


class Scanner:
    """Reads one file, piece by piece.

    Args:
      file: its name, for the findings, to which what is wrong is appended.
      layouts: what is known of records.
      sink: takes what is read.
    """

    def __init__(self, file: str, layouts: Layouts, sink: Sink, findings: list[Finding]) -> None:
        self._file = file
        self.layouts = layouts
        self.sink = sink
        self._findings = findings
        self._found = 0
        self._rest = 0
        self._last: Finding | None = None
        self.ended = False
        """Whether a broken length ended the reading: where the next record begins is not known."""

    def scan(self, data: bytes | bytearray, end: int, base: int, left: int) -> int:
        """Read the whole records of `data[:end]`; where the first that is not whole begins.

        Args:
          base: where in the file `data` begins. left: how many bytes the file has from there.
        """
        at = 0
        if not base:  # its version and its session's start, before what repeats
            at = self.read_one_by_one(data, at, end, base, left, HEAD)
        if end - at > SHORT_TAIL and self._is_sparse(data, at, end):
            return self.read_one_by_one(data, at, end, base, left, end)
        short, nothing = 0, int(end < SHORT_PIECE)
        likely = None
        while not self.ended and end - at > SHORT_TAIL:
            before = at
            if short < MOST_SHORT and nothing < 2:
                at, records = self._repeated(data, at, end, base)
                if records:
                    short, nothing = short + 1 if records < SHORT_STRETCH else 0, 0
                    continue
                nothing += 1
            if nothing == 1:  # perhaps the rest of a turn of a loop
                at = self.read_one_by_one(data, at, end, base, left, HEAD)
            else:
                likely = _likely_records(data, at, end) if likely is None else likely
                at = self._gathered(data, at, end, base, likely)
            if at == before:  # a record that is broken, or longer than the piece
                at = self.read_one_by_one(data, at, end, base, left, 1)
                if at == before:
                    return at
        return at if self.ended else self.read_one_by_one(data, at, end, base, left, end)

    # One by one

    def read_one_by_one(self, data: bytes | bytearray, at: int, end: int, base: int, left: int, count: int) -> int:
        """Read at most so many records from `at` on; where they end. See `scan` for the rest."""
        sound = self.layouts.length_crcs
        count = 0 if self.ended else count
        view = memoryview(data)
        while count and end - at >= HEADER_SIZE:
            length, length_crc = _HEADER.unpack_from(data, at)
            if sound.get(length) != length_crc and not self._length_is_sound(length, length_crc, base + at, left - at):
                return at
            if length + OVERHEAD > end - at:
                return at
            self.read_one(view, at, length, base)
            at += length + OVERHEAD
            count -= 1
        return at

    def read_one(self, data: memoryview, at: int, length: int, base: int) -> None:
        """Read the record at `at`, which is there and of that length."""
        begin = at + HEADER_SIZE
        payload = bytes(data[begin : begin + length])
        crc = google_crc32c.value(payload)
        if _CRC.unpack_from(data, begin + length)[0] == (((crc >> 15) | (crc << 17)) + MASK_DELTA) & 0xFFFFFFFF:
            self.take(payload, base + at)
        else:
            self._find(base + at, Kind.BAD_CHECKSUM, BAD_CHECKSUM, length + OVERHEAD)

    def _length_is_sound(self, length: int, crc: int, offset: int, left: int) -> bool:
        """Whether a record may be of that length; if not, the reading ends here."""
        if not self.layouts.length_is_sound(length, crc):
            self._find(offset, Kind.BAD_LENGTH, BAD_LENGTH, left)
        elif length > LARGEST:
            self._find(offset, Kind.WILD_LENGTH, wild_length(length, left - HEADER_SIZE), left)
        else:
            return True
        self.ended = True
        return False

    def take(self, payload: bytes, offset: int) -> None:
        """Read the payload of a record; its checksum is verified already."""
        found = self.layouts.read_single(payload) if len(payload) <= LONGEST else None
        if found is None:
            self.take_event(payload, offset)
        elif found[0].slots:
            self.sink.take_point(found[0].tags, *found[1])

    def take_event(self, payload: bytes | bytearray, offset: int) -> None:
        """Read the payload of a record that has no layout; its checksum is verified already."""
        points: Sequence[tuple[str, Scalars]] = ()
        try:
            if len(payload) > LONG:
                points, values, event = read_long(payload)
            else:
                event = Event.FromString(payload)
                values = event.summary.value
                if event.HasField("session_log") and event.session_log.status == SessionLog.START:
                    self.sink.take_restart(event.step)
        except Exception as error:  # protobuf's DecodeError has no stable home across its versions
            self._find(offset, Kind.NOT_AN_EVENT, f"a record is not an Event ({error})", len(payload) + OVERHEAD)
            return
        for tag, column in points:
            self.sink.take_points(tag, column)
        for value in values:
            kind, described = value.WhichOneof("value"), value.HasField("metadata")
            if kind in _NOT_READ and not described:
                continue
            if kind == "image" or (described and value.metadata.plugin_data.plugin_name in NO_SCALARS):
                self.give_value(value, offset)
            elif kind == "simple_value":
                self.sink.take_point((value.tag,), event.step, event.wall_time, (value.simple_value,))
            else:
                self._take_value(event, value, offset)

    def give_value(self, value: Summary.Value, offset: int) -> None:
        """Give the sink a value that is no scalar."""
        try:
            self.sink.take_value(value, offset)
        except BadSummary as error:
            self._find(offset, Kind.NOT_AN_EVENT, f"what {value.tag!r} holds is no message: {error}", value.ByteSize())

    def _take_value(self, event: Event, value: Summary.Value, offset: int) -> None:
        try:
            number = scalar_of(value)
        except BadTensor as error:
            self._find(offset, Kind.BAD_TENSOR, f"the value of {value.tag!r} is no tensor: {error}", value.ByteSize())
            return
        if number is None:
            self.give_value(value, offset)
        else:
            self.sink.take_point((value.tag,), event.step, event.wall_time, (number,))

    def _find(self, offset: int, kind: Kind, reason: str, lost: int) -> None:
        self._found += 1
        if self._found >= MOST_FINDINGS:
            self._rest += lost
            if self._last is not None:
                offset = self._last.offset
                if self._findings[-1] is self._last:
                    self._findings.pop()
                else:  # another file's came after it
                    self._findings.remove(self._last)
            reason = f"{reason}; from here on {self._found - MOST_FINDINGS + 1} records are damaged"
            lost = self._rest
        found = Finding(self._file, offset, kind, reason, lost)
        self._findings.append(found)
        self._last = found if self._found >= MOST_FINDINGS else None

    # Rows at even distances

    def _repeated(self, data: bytes | bytearray, at: int, end: int, base: int) -> tuple[int, int]:
        """Read the records that repeat the lengths of those before them: where they end, and how many they were."""
        offsets, lengths = self._first_few(data, at, end)
        period = _period(lengths)
        if not period or max(lengths[:period]) > LONGEST:
            return at, 0
        starts = [offset - at for offset in offsets[: period + 1]]
        stride = starts.pop()
        count = (end - at) // stride
        for start, (shift, dtype) in itertools.product(starts, [(0, "<u8"), (8, "<u4")]):
            header = Rows(data, at + start, stride, count).column(shift, dtype)
            other = np.flatnonzero(header != header[0])
            count = int(other[0]) if len(other) else count
        stretch = Stretch(self, data, base)
        for place, start in enumerate(starts):
            rows = Rows(data, at + start, stride, count)
            stretch.take(rows, lengths[place], np.arange(place, count * period, period), at + start, stride)
        stretch.hand_on()
        return at + count * stride, count * period

    def _is_sparse(self, data: bytes | bytearray, at: int, end: int) -> bool:
        """Whether the next records are long, one with another."""
        _, lengths = self._first_few(data, at, end)
        return sum(min(length, 8 * SPARSE) for length in lengths) > SPARSE * len(lengths)

    def _first_few(self, data: bytes | bytearray, at: int, end: int) -> tuple[list[int], list[int]]:
        """Where the next records begin, and how long their payloads are: `records_of`, for few."""
        offsets: list[int] = []
        lengths: list[int] = []
        sound = self.layouts.length_crcs
        unpack = _HEADER.unpack_from
        while len(offsets) < FEW and end - at >= OVERHEAD:
            length, crc = unpack(data, at)
            if sound.get(length) != crc and not self.layouts.length_is_sound(length, crc):
                break
            if length + OVERHEAD > end - at:
                break
            offsets.append(at)
            lengths.append(length)
            at += length + OVERHEAD
        return offsets, lengths

    # Rows gathered by length

    def _gathered(self, data: bytes | bytearray, at: int, end: int, base: int, likely: NDArray[np.int64]) -> int:
        """Read the records that `_records` finds; where they end."""
        offsets, lengths = _records(data, at, end, likely)
        if not len(offsets):
            return at
        stretch = Stretch(self, data, base)
        whole = Rows(data, 0, 1, 0)
        for which in _by_length(lengths, stretch.take_plain(offsets, lengths)):
            length = int(lengths[which[0]])
            if length > LONGEST or len(which) < FEWEST_ROWS:
                stretch.take_singly(offsets[which], which, length)
                continue
            size = length + OVERHEAD
            rows = whole._replace(size=end - size + 1).taken(offsets[which], size)
            stretch.take(rows, length, which, offsets[which])
        stretch.hand_on()
        return int(offsets[-1] + lengths[-1]) + OVERHEAD


def _records(
    data: bytes | bytearray, at: int, end: int, likely: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where records from `at` on begin, each where the one before ends, and how long their payloads are.

    They are whole, and their lengths are short and sound. Args: likely: where records may begin.
    """
    offsets = likely[np.searchsorted(likely, at) :]
    if not len(offsets) or offsets[0] != at:
        offsets = _walked(data, at, end)
    lengths, sound = _lengths_at(data, offsets)
    ends = offsets + lengths + OVERHEAD
    begins = np.concatenate([[at], ends[:-1]])  # where each is to begin, if it goes on where the one before ends
    wrong = np.flatnonzero(~sound | (ends > end) | (begins != offsets))
    count = int(wrong[0]) if len(wrong) else len(offsets)
    return offsets[:count], lengths[:count]


def _likely_records(data: bytes | bytearray, at: int, end: int) -> NDArray[np.int64]:
    """Nearly all places where records begin, and few others: a time begins an event, and six zeros end its length."""
    block = np.frombuffer(data, np.uint8, end)
    words = np.ndarray((len(data) - HEADER_SIZE + 1,), "<u8", data, 0, (1,))
    found = [np.zeros(0, np.int64)]
    for begin in range(at + HEADER_SIZE, end - OVERHEAD + HEADER_SIZE, LOOKED_AT):
        stop = min(begin + LOOKED_AT, end - OVERHEAD + HEADER_SIZE)
        places = np.flatnonzero(block[begin:stop] == _TIME) + (begin - HEADER_SIZE)
        found.append(places[words[places] < 1 << 16])
    offsets = np.concatenate(found)
    return offsets[_lengths_at(data, offsets)[1]]


def _lengths_at(data: bytes | bytearray, offsets: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The first two bytes of the lengths of records, and whether that is all of them, by the lengths' checksums."""
    headers = np.ndarray((len(data) - HEADER_SIZE + 1,), f"V{HEADER_SIZE}", data, 0, (1,))[offsets]
    fields = headers.view([("length", "<u8"), ("crc", "<u4")])
    lengths = fields["length"].astype(np.int64) & 0xFFFF
    crcs = np.full(len(lengths), _CRC_OF_ZEROS, np.uint32)
    for byte in range(2):
        crcs ^= crc_table(7 - byte).take(lengths >> 8 * byte & 0xFF)
    return lengths, (fields["length"] < 1 << 16) & (fields["crc"] == masked(crcs))


def _walked(data: bytes | bytearray, at: int, end: int) -> NDArray[np.int64]:
    """Where the next records begin if each is as long as the first two bytes of its length say."""
    starts: list[int] = []
    while at <= end - OVERHEAD and len(starts) < MOST_WALKED:
        starts.append(at)
        at += data[at] + (data[at + 1] << 8) + OVERHEAD
    return np.array(starts, np.int64)


def _by_length(lengths: NDArray[np.int64], which: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The numbers among `which` of the records of each length; they are short."""
    if not len(which):
        return []
    lengths = lengths[which].astype(np.uint16)  # NumPy sorts these by radix
    order = np.argsort(lengths, kind="stable")
    return np.split(which[order], np.flatnonzero(np.diff(lengths[order])) + 1)


def _period(lengths: list[int]) -> int:
    """After how many records the lengths repeat, to the end; 0 when they do not, or are too few."""
    if len(lengths) < FEW:
        return 0
    for period in range(1, MOST_REPEATED):
        if lengths[period] == lengths[0] and lengths[period:] == lengths[:-period]:
            return period
    return 0
