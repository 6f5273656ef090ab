"""`EventFileWriter`: records into one file that is ours alone.

The file is created, never opened anew over another's, and holds a kernel lock (where the system has `flock`) while it
is open: that is how a reader tells a run that goes on from one that was left. `append` opens a file that its process
left, after cutting a torn tail to the last whole record.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from tensorboard.compat.proto.summary_pb2 import Summary

from hparams_lab.errors import LogDirError
from hparams_lab.events.event_file import file_name, summary_event, version_event
from hparams_lab.events.record import whole_length
from hparams_lab.locks import is_held, lock_shared_with_nobody

FLUSH_BYTES = 1 << 16
FLUSH_SECONDS = 2.0
_WRITE = os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0)  # Windows would turn \n into \r\n


class EventFileWriter:
    """Writes summaries to one event file; what is buffered goes out by size, by age, on `flush` and on `close`."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd = fd
        self._pid = os.getpid()
        self._buffer: list[bytes] = []
        self._buffered = 0
        self._flushed = time.monotonic()
        lock_shared_with_nobody(fd)

    @classmethod
    def create(cls, directory: Path, now: float | None = None) -> EventFileWriter:
        """A writer to a new file in `directory`, which exists. Raises LogDirError when it cannot be written."""
        path = directory / file_name(now)
        try:
            fd = os.open(path, _WRITE | os.O_CREAT | os.O_EXCL, 0o644)
        except OSError as error:
            raise LogDirError(
                f"{directory} cannot be written: {error.strerror}; choose another log directory"
            ) from None
        writer = cls(path, fd)
        writer._write(version_event(time.time() if now is None else now))
        return writer

    @classmethod
    def append(cls, path: Path) -> EventFileWriter:
        """A writer at the end of a file that nobody writes any more, its torn tail cut off.

        Raises LogDirError while another process holds the file.
        """
        if is_held(path):
            raise LogDirError(f"{path} is being written by another process; wait for it to end")
        writer = cls(path, os.open(path, _WRITE))
        os.ftruncate(writer._fd, whole_length(path.read_bytes()))
        return writer

    def add(self, summary: Summary, step: int = 0, now: float | None = None) -> None:
        """Add one event. `now` is seconds since 1970."""
        self._write(summary_event(summary, step, time.time() if now is None else now))
        if self._buffered > FLUSH_BYTES or time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Hand what is buffered to the operating system, where it survives the end of this process.

        When that fails (OSError: a full disk), what is not written stays buffered, so that no record is torn.
        """
        if os.getpid() != self._pid:  # a fork's copy of the buffer is the parent's to write
            self._buffer.clear()
        data = b"".join(self._buffer)
        try:
            while data:
                data = data[os.write(self._fd, data) :]
        finally:
            self._buffer, self._buffered, self._flushed = [data], len(data), time.monotonic()

    def close(self) -> None:
        """Flush, and wait until file and directory are on the disk."""
        if self._fd < 0:
            return
        self.flush()
        os.fsync(self._fd)
        os.close(self._fd)
        self._fd = -1
        sync_directory(self.path.parent)

    def _write(self, record: bytes) -> None:
        self._buffer.append(record)
        self._buffered += len(record)


def sync_directory(directory: Path) -> None:
    """Wait until the directory's entries are on the disk, where the system can be asked."""
    if os.name == "nt":
        return
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
