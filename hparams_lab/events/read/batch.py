"""`read_alike`: many short event files at once, where their records have the same lengths, as those of a sweep have.

Side by side such files are the rows of a matrix: their points are read as columns, over all files. Sessions and texts
are read file by file. A file in another form than the first of its length is left to `read_together`, one with anything
wrong in it to be read by itself.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import google_crc32c
import numpy as np
from numpy.typing import NDArray
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from hparams_lab.core.curve import Scalars, Thin
from hparams_lab.events.format.crc import masked_crc32c, unmasked
from hparams_lab.events.format.record import HEADER_SIZE, OVERHEAD
from hparams_lab.events.format.summaries import HPARAMS_PLUGIN
from hparams_lab.events.read.collector import Facts
from hparams_lab.events.read.cursor import FLAGS
from hparams_lab.events.read.layout import Decoded, Rows, equal, words_of
from hparams_lab.events.read.layouts import Layouts
from hparams_lab.events.read.scan import NO_SCALARS
from hparams_lab.events.read.together import FEWEST_FILES, read_together
from hparams_lab.events.read.wire import last_field

LONGEST_FILE = 1 << 16
"""Longer files have enough records to be read by themselves."""

LONGEST_ALIKE = 1 << 14
"""Longer files have enough records to be read as records of one file."""

FEWEST = 64
"""So many files must be of one length; fewer are read as records of one file."""

_AT_ONCE = 512

_WAY_TO_MESSAGE = (0x2A, 0x0A, 0x4A, 0x0A, 0x12)
"""Event.summary, Summary.value, Value.metadata, SummaryMetadata.plugin_data, PluginData.content."""


def read_alike(paths: Sequence[str], layouts: Layouts, thin: Thin | None = None) -> dict[str, tuple[Facts, int, int]]:
    """What the files say that could be read together, the size of each and its inode; the others are left out."""
    found: dict[str, tuple[Facts, int, int]] = {}
    if len(paths) < FEWEST_FILES:
        return found
    for begin in range(0, len(paths), _AT_ONCE):
        by_size: dict[int, list[tuple[str, bytes]]] = {}
        inodes: dict[str, int] = {}
        for path in paths[begin : begin + _AT_ONCE]:
            data, inode = _short(path)
            if data:
                by_size.setdefault(len(data), []).append((path, data))
                inodes[path] = inode
        for size, files in by_size.items():
            if len(files) >= FEWEST and size <= LONGEST_ALIKE:
                for path, facts in _Group(files, size, layouts, thin).read():
                    found[path] = facts, size, inodes[path]
        others = [(path, data) for files in by_size.values() for path, data in files if path not in found]
        sizes = {path: len(data) for path, data in others}
        for path, facts in read_together(others, layouts, thin):
            found[path] = facts, sizes[path], inodes[path]
    return found


def _short(path: str) -> tuple[bytes, int]:
    """The bytes of a short file and its inode; no bytes for others, and for those that cannot be read."""
    try:
        file = os.open(path, FLAGS)
    except OSError:
        return b"", 0
    try:
        status = os.fstat(file)
        if status.st_size > LONGEST_FILE or not stat.S_ISREG(status.st_mode):
            return b"", 0
        return os.read(file, LONGEST_FILE), status.st_ino
    except OSError:
        return b"", 0
    finally:
        os.close(file)


class _Group:
    """Files of one length."""

    def __init__(self, files: Sequence[tuple[str, bytes]], size: int, layouts: Layouts, thin: Thin | None) -> None:
        self._files = files
        self._layouts = layouts
        self._thin = thin
        self._records = _records(files[0][1])
        self._joined = b"".join(data for _, data in files)
        self._size = size
        self._good = np.ones(len(files), np.bool_)
        self._others: list[_Other] = []
        self._columns: dict[str, list[tuple[Decoded, NDArray[np.float64]]]] = {}

    def read(self) -> Iterator[tuple[str, Facts]]:
        """The files that are like the first one, and what each says."""
        if not self._records:
            return
        for offset, length in self._records:
            self._read_record(offset, length)
        columns = {tag: _side_by_side(parts) for tag, parts in self._columns.items()}
        for place in np.flatnonzero(self._good).tolist():
            path, data = self._files[place]
            facts = Facts(self._thin)
            if self._read_others(place, data, facts):
                facts.take_columns(
                    {
                        tag: Scalars(steps[place], wall_times[place], values[place])
                        for tag, (steps, wall_times, values) in columns.items()
                    }
                )
                yield path, facts

    def _read_record(self, offset: int, length: int) -> None:
        """Read the record that stands there in all files."""
        rows = Rows(self._joined, offset, self._size, len(self._files))
        for shift, dtype in ((0, "<u8"), (8, "<u4")):
            header = rows.column(shift, dtype)
            self._good &= header == header[0]
        payload = self._joined[offset + HEADER_SIZE : offset + HEADER_SIZE + length]
        known = self._layouts.read(payload)
        if known is None:
            self._others.append(_Other.of(payload, offset, rows))
            return
        layout = known[0]
        decoded = layout.decoded(rows)
        self._good &= layout.fits(rows) & layout.sound(rows, decoded, layout.fixed_crc)
        for slot, values in zip(layout.slots, decoded.values, strict=True):
            self._columns.setdefault(slot.tag, []).append((decoded, values))

    def _read_others(self, place: int, data: bytes, facts: Facts) -> bool:
        """Read the records of a file that have no layout; whether they are whole, and hold no points."""
        checksum = google_crc32c.value
        for other in self._others:
            payload = data[other.begin : other.end]
            if checksum(payload) != other.crcs[place]:
                return False
            try:
                if other.message is not None and other.fits[place]:
                    facts.take_message(HParamsPluginData.FromString(payload[other.message]), other.begin - HEADER_SIZE)
                    continue
                event = Event.FromString(payload)
                if event.HasField("session_log"):  # the order of points and restarts counts
                    return False
                for value in event.summary.value:
                    if value.metadata.plugin_data.plugin_name not in NO_SCALARS:
                        return False
                    facts.take_value(value, other.begin - HEADER_SIZE)
            except Exception:  # BadSummary, or protobuf's DecodeError, which has no stable home across its versions
                return False
        return True


class _Other(NamedTuple):
    """A record without a layout: where its payload is, its checksum in each file; where in the payload the message of
    the HParams plugin is, if there is one, and in which files it is there, only the event's time being another."""

    begin: int
    end: int
    crcs: list[int]
    message: slice | None
    fits: list[bool]

    @classmethod
    def of(cls, payload: bytes, offset: int, rows: Rows) -> _Other:
        """The record at `offset` of the files of which `rows` are the records there."""
        begin = offset + HEADER_SIZE
        crcs = unmasked(np.array(rows.column(HEADER_SIZE + len(payload), "<u4"))).tolist()
        found = _message_in(payload)
        if found is None:
            return cls(begin, begin + len(payload), crcs, None, [])
        around = ((0, 1), (9, found[0]), (found[1], len(payload)))
        fits = equal(rows, (word for range_ in around for word in words_of(payload, *range_)))
        return cls(begin, begin + len(payload), crcs, slice(*found), fits.tolist())


def _message_in(payload: bytes) -> tuple[int, int] | None:
    """Where the one message of the HParams plugin begins and ends; None when there is none, or more."""
    begin, end = 0, len(payload)
    try:
        values = Event.FromString(payload).summary.value
        for key in _WAY_TO_MESSAGE:
            begin, end = last_field(payload, begin, end, key)
    except Exception:  # there is none, or protobuf's DecodeError, which has no stable home across its versions
        return None
    plugins = [value.metadata.plugin_data for value in values]
    if len(plugins) != 1 or plugins[0].plugin_name != HPARAMS_PLUGIN or payload[:1] != b"\x09":
        return None
    return (begin, end) if payload[begin:end] == plugins[0].content and begin > 9 else None


def _records(data: bytes) -> list[tuple[int, int]]:
    """Where the records of a file begin, and how long their payloads are; none where they do not fill the file.

    The checksums of the lengths are compared with those of the first file, and those of its own here.
    """
    found, at = [], 0
    while at + OVERHEAD <= len(data):
        length = int.from_bytes(data[at : at + 8], "little")
        if masked_crc32c(data[at : at + 8]) != int.from_bytes(data[at + 8 : at + HEADER_SIZE], "little"):
            return []
        found.append((at, length))
        at += length + OVERHEAD
    return found if at == len(data) else []


def _side_by_side(parts: list[tuple[Decoded, NDArray[np.float64]]]) -> Scalars:
    """The points of a tag: a row a file, a column for each of its records."""
    steps = np.stack([decoded.steps for decoded, _ in parts], axis=1)
    wall_times = np.stack([decoded.wall_times for decoded, _ in parts], axis=1)
    return Scalars(steps, wall_times, np.stack([values for _, values in parts], axis=1))
