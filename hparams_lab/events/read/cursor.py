"""`Cursor`: one event file read from where it was left, in pieces, however long it is.

Nothing is mapped into memory: a file that another process cuts while it is read ends the reading, not this process.
"""

from __future__ import annotations

import io
import os
import stat
import struct
from collections.abc import Iterator

import google_crc32c

from hparams_lab.core.findings import Finding, Kind
from hparams_lab.events.format.crc import MASK_DELTA
from hparams_lab.events.format.record import BAD_CHECKSUM, HEADER_SIZE, OVERHEAD
from hparams_lab.events.read.layouts import Layouts
from hparams_lab.events.read.scan import Scanner
from hparams_lab.events.read.stretch import Sink

PIECE = 1 << 22
"""Bytes that are read at a time: they stay in the processor's cache."""

SMALL = 1 << 16
"""A file with less to read is read at once."""

LONGEST_DECODED = 1 << 24
"""Of a longer record only the checksum is verified: it is an image or a graph."""

_FIELDS = (0x09, 0x10, 0x1A, 0x22, 0x2A, 0x32, 0x3A, 0x42, 0x4A, 0x52)
"""What an Event may begin with: the keys of its fields."""

FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)  # a FIFO would wait for a writer
_idle: list[bytearray] = []
"""Buffers for pieces that nobody uses: fresh memory is slower than the reading."""


class Cursor:
    """Where the reading of a file stands.

    Args: path: the file. layouts, sink, findings: as for `Scanner`.
    """

    def __init__(self, path: str, layouts: Layouts, sink: Sink, findings: list[Finding]) -> None:
        self.path = path
        self.offset = 0
        self.size = 0
        self._inode = 0
        self._findings = findings
        self._layouts = layouts
        self._sink = sink
        self._scanner_made: Scanner | None = None
        self._refused = False

    @property
    def _scanner(self) -> Scanner:
        """Made when there is something to read."""
        if self._scanner_made is None:
            self._scanner_made = Scanner(self.path, self._layouts, self._sink, self._findings)
        return self._scanner_made

    def skip(self, size: int, inode: int) -> None:
        """Go on behind what was read in another way."""
        self.offset = self.size = size
        self._inode = inode

    @property
    def torn(self) -> Finding | None:
        """The end of the file, if it is no whole record: not there yet, or never."""
        left = self.size - self.offset
        if not left or self._scanner.ended:
            return None
        return Finding(self.path, self.offset, Kind.TORN, "the last record is not whole", left)

    def read_new(self) -> bool | None:
        """Read what is new: whether there was anything; None when the file is another, or shorter, than it was."""
        try:
            file = os.open(self.path, FLAGS)
        except OSError as error:
            return self._refuse(f"it cannot be opened: {error.strerror}")
        try:
            found = os.fstat(file)
            if not stat.S_ISREG(found.st_mode):
                return self._refuse("it is no regular file")
            before, self.size = self.size, found.st_size
            inode, self._inode = self._inode, found.st_ino
            if self.size < self.offset or inode not in (0, found.st_ino):
                return None
            if self.size == before:
                return False
            if self._scanner.ended:  # more is lost by now
                return None
            self._read(file)
        except OSError as error:
            return self._refuse(f"it cannot be read: {error.strerror}")
        finally:
            os.close(file)
        return True

    def _refuse(self, reason: str) -> bool:
        if not self._refused:
            self._findings.append(Finding(self.path, self.offset, Kind.UNREADABLE, reason, 0))
        self._refused = True
        return False

    def _read(self, file: int) -> None:
        os.lseek(file, self.offset, os.SEEK_SET)
        left = self.size - self.offset
        if left <= SMALL:
            data = b"".join(_pieces(file, left))
            self.offset += self._scanner.scan(data, len(data), self.offset, left)
            return
        buffer = _idle.pop() if _idle else bytearray(PIECE)
        with memoryview(buffer) as view, io.FileIO(file, closefd=False) as reader:
            self._read_pieces(buffer, view, reader)
        _idle.append(buffer)

    def _read_pieces(self, buffer: bytearray, view: memoryview, reader: io.FileIO) -> None:
        filled = 0
        while not self._scanner.ended:
            wanted = min(PIECE, self.size - self.offset)
            more = reader.readinto(view[filled:wanted]) or 0
            filled += more
            used = self._scanner.scan(buffer, filled, self.offset, self.size - self.offset)
            if used:
                self.offset += used
                view[: filled - used] = view[used:filled]
                filled -= used
            elif filled == PIECE:
                if not self._skip_long(reader.fileno(), view):
                    return
                filled = 0
            elif filled == wanted or not more:
                return

    def _skip_long(self, file: int, view: memoryview) -> bool:
        """Read a record that is longer than a piece, if it is whole."""
        (length,) = struct.unpack_from("<Q", view)
        if length + OVERHEAD > self.size - self.offset:
            return False
        os.lseek(file, self.offset + HEADER_SIZE, os.SEEK_SET)
        payload = bytearray(length if length <= LONGEST_DECODED else 0)
        crc = at = 0
        for piece in _pieces(file, length):
            crc = google_crc32c.extend(crc, piece)
            if payload:
                payload[at : at + len(piece)] = piece
            at += len(piece)
        stored = int.from_bytes(os.read(file, 4), "little")
        if stored != (((crc >> 15) | (crc << 17)) + MASK_DELTA) & 0xFFFFFFFF:
            self._findings.append(Finding(self.path, self.offset, Kind.BAD_CHECKSUM, BAD_CHECKSUM, length + OVERHEAD))
        elif payload:
            self._scanner.take_event(payload, self.offset)
        elif view[HEADER_SIZE] not in _FIELDS:
            reason = "a record is not an Event (no field of it begins so)"
            self._findings.append(Finding(self.path, self.offset, Kind.NOT_AN_EVENT, reason, length + OVERHEAD))
        self.offset += length + OVERHEAD
        return True


def _pieces(file: int, length: int) -> Iterator[bytes]:
    while length:
        piece = os.read(file, min(PIECE, length))
        if not piece:
            return
        length -= len(piece)
        yield piece
