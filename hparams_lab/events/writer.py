"""`EventFileWriter`: records into one file that is ours alone. What is written stays buffered until it is flushed.

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
from hparams_lab.locks import lock_if_free, lock_shared_with_nobody
from hparams_lab.paths import writing

_WRITE = os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0)  # Windows would turn \n into \r\n


class EventFileWriter:
    """Writes to one event file."""

    def __init__(self, path: str | Path, fd: int) -> None:
        self._path = path
        self._fd = fd
        self._pid = os.getpid()
        self._buffer: list[bytes] = []
        lock_shared_with_nobody(fd)

    @property
    def path(self) -> Path:
        """The file."""
        return Path(self._path)

    @classmethod
    def create(cls, directory: Path, now: float | None = None) -> EventFileWriter:
        """A writer to a new file in `directory`, which exists. Raises LogDirError when it cannot be written."""
        path = f"{directory}/{file_name(now)}"
        with writing(directory):
            fd = os.open(path, _WRITE | os.O_CREAT | os.O_EXCL, 0o644)
        writer = cls(path, fd)
        writer._buffer.append(version_event(time.time() if now is None else now))
        return writer

    @classmethod
    def append(cls, path: Path) -> EventFileWriter:
        """A writer at the end of a file that nobody writes any more, its torn tail cut off.

        Raises LogDirError while another process holds the file.
        """
        fd = os.open(path, _WRITE)
        if not lock_if_free(fd):
            os.close(fd)
            raise LogDirError(f"{path} is being written by another process; wait for it to end")
        writer = cls(path, fd)
        writer.truncate(whole_length(path.read_bytes()))
        return writer

    def add(self, summary: Summary, step: int = 0, now: float | None = None) -> None:
        """Add one event. `now` is seconds since 1970."""
        self._buffer.append(summary_event(summary, step, time.time() if now is None else now))

    def write(self, records: bytes | memoryview) -> None:
        """Hand records to the operating system, after what is buffered. Raises OSError; see `flush`."""
        if self._buffer:
            self._buffer.append(bytes(records))
            self.flush()
            return
        written = 0
        try:
            while written < len(records):
                written += os.write(self._fd, records[written:])
        except OSError:
            self._buffer.append(bytes(records[written:]))
            raise

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
            self._buffer = [data] if data else []

    def close(self, fsync: bool = True) -> None:
        """Flush, by default wait until file and directory are on the disk, and close. Raises OSError, still open."""
        if self._fd < 0:
            return
        self.flush()
        if fsync:
            os.fsync(self._fd)
            sync_directory(self.path.parent)
        os.close(self._fd)
        self._fd = -1

    def truncate(self, size: int) -> None:
        """Cut the file to `size` bytes."""
        os.ftruncate(self._fd, size)

    def abandon(self) -> None:
        """Let go of the file without writing: in a fork's child, where it is the parent's."""
        self._buffer.clear()
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


def sync_directory(directory: Path) -> None:
    """Wait until the directory's entries are on the disk, where the system can be asked."""
    if os.name == "nt":
        return
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
