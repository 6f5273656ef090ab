"""`EventFileWriter`: records into one file that is ours alone. What is written stays buffered until it is flushed.

The file is created, never opened anew over another's, and holds a kernel lock (where the system has `flock`) while it
is open: that is how a reader tells a run that goes on from one that was left. `append` opens a file that its process
left, after cutting a torn tail to the last whole record.

What the system refuses to write stays buffered, and is tried again. A failed wait for the disk is another matter: what
it lost nobody can tell, and a second one may succeed without it. So the end of the file is taken back, and the writer
refuses everything from then on. https://wiki.postgresql.org/wiki/Fsync_Errors
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from tensorboard.compat.proto.summary_pb2 import Summary

from hparams_lab.core.errors import LogDirError
from hparams_lab.events.format.event_file import file_name, summary_event, version_event
from hparams_lab.events.read.tail import tail_of
from hparams_lab.storage import disk
from hparams_lab.storage.locks import lock_if_free, lock_shared_with_nobody

_WRITE = os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0)  # Windows would turn \n into \r\n


class EventFileWriter:
    """Writes to one event file.

    Attributes:
      has_end: whether `append` found a session's end in the file: another is not to be added.
      last_step: the last step that `append` found, the system's samples apart.
    """

    def __init__(self, path: str | Path, fd: int) -> None:
        self._path = path
        self._fd = fd
        self._pid = os.getpid()
        self._buffer: list[bytes | memoryview] = []
        self._lost: tuple[int | None, str | None] | None = None  # by which error of a wait for the disk
        self.has_end = False
        self.last_step = 0
        lock_shared_with_nobody(fd)

    @property
    def path(self) -> Path:
        """The file."""
        return Path(self._path)

    @property
    def is_lost(self) -> bool:
        """Whether a wait for the disk failed: everything raises OSError from then on."""
        return self._lost is not None

    @classmethod
    def create(cls, directory: Path, now: float | None = None) -> EventFileWriter:
        """A writer to a new file in `directory`, which exists. Raises LogDirError when it cannot be written."""
        try:
            path, fd = _created(directory, now)
        except OSError as error:
            raise disk.refusal(directory, error) from None
        writer = cls(path, fd)
        writer._buffer.append(version_event(time.time() if now is None else now))
        return writer

    @classmethod
    def append(cls, path: Path) -> EventFileWriter:
        """A writer at the end of a file that nobody writes any more, its torn tail cut off.

        Raises LogDirError while another process holds the file, and when it cannot be read or written.
        """
        try:
            fd = os.open(path, _WRITE)
        except OSError as error:
            raise disk.refusal(path, error) from None
        if not lock_if_free(fd):
            os.close(fd)
            raise LogDirError(f"{path} is being written by another process; wait for it to end")
        writer = cls(path, fd)
        try:
            whole, writer.has_end, writer.last_step = tail_of(str(path))
            if whole < os.fstat(fd).st_size:
                writer.truncate(whole)
        except BaseException:
            writer.abandon()
            raise
        return writer

    def add(self, summary: Summary, step: int = 0, now: float | None = None) -> None:
        """Add one event. `now` is seconds since 1970."""
        self._buffer.append(summary_event(summary, step, time.time() if now is None else now))

    def write(self, records: bytes | memoryview) -> None:
        """Hand records to the operating system, after what is buffered. Raises OSError; see `flush`."""
        self._check()
        if self._buffer:
            self._buffer.append(bytes(records))
            self.flush()
            return
        written = 0
        try:
            while written < len(records):
                written += disk.write(self._fd, records[written:])
        except OSError:
            self._buffer.append(bytes(records[written:]))
            raise

    def flush(self) -> None:
        """Hand what is buffered to the operating system, where it survives the end of this process.

        When that fails (OSError: a full disk), what is not written stays buffered, so that no record is torn.
        """
        self._check()
        if os.getpid() != self._pid:  # a fork's copy of the buffer is the parent's to write
            self._buffer.clear()
        data = memoryview(b"".join(self._buffer))
        try:
            while data:
                data = data[disk.write(self._fd, data) :]
        finally:
            self._buffer = [data] if data else []

    def close(self, fsync: bool = True, last: bytes = b"") -> None:
        """Flush, write the `last` records, by default wait until file and directory are on the disk, and close.

        Raises OSError, the file still open and as it was: what was buffered still is, and `last` is to be given again.
        """
        self._check()
        if os.getpid() != self._pid:
            self.abandon()
        if self._fd < 0:
            return
        before, buffered = os.fstat(self._fd).st_size, self._buffer[:]
        try:
            self.flush()
            if last:
                self.write(last)
            if fsync:
                self._sync()
        except BaseException:
            self._take_back(before, buffered)
            raise
        fd, self._fd = self._fd, -1
        try:
            os.close(fd)
        except OSError:  # a network file system may write only now
            if not fsync:
                raise

    def truncate(self, size: int) -> None:
        """Cut the file to `size` bytes."""
        disk.truncate(self._fd, size)

    def abandon(self) -> None:
        """Let go of the file without writing: in a fork's child, where it is the parent's."""
        self._buffer.clear()
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def _check(self) -> None:
        if self._lost is not None:
            raise OSError(*self._lost)

    def _sync(self) -> None:
        try:
            disk.sync(self._fd)
            disk.sync_directory(os.path.dirname(self._path))
        except OSError as error:
            if error.filename is None:  # else the directory could not be opened: nothing is lost by that
                self._lost = error.errno, error.strerror
            raise

    def _take_back(self, size: int, buffered: list[bytes | memoryview]) -> None:
        """Cut off what was written from `size` on, as if it had not been."""
        try:
            self.truncate(size)
            self._buffer = buffered
        except OSError as error:  # nothing is known of the file any more
            self._lost = self._lost or (error.errno, error.strerror)


def _created(directory: Path, now: float | None) -> tuple[str, int]:
    """A new file and its descriptor. A name may be taken: containers share a host's name and a process's number."""
    while True:
        path = f"{directory}/{file_name(now)}"
        with contextlib.suppress(FileExistsError):
            return path, disk.create(path, _WRITE)
