"""Locks held by the kernel: gone the instant their process is, whatever ended it.

`flock` where the system has it. Elsewhere (Windows, some network file systems) nothing is locked, and a run that goes
on looks interrupted.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hparams_lab.storage import disk

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

HAS_LOCKS = fcntl is not None
"""Whether the system has locks at all."""


def lock_shared_with_nobody(fd: int) -> None:
    """Lock an open file for this process, waiting for it; nothing where the file system has no locks."""
    if fcntl is not None:
        with suppress(OSError):  # some network file systems
            fcntl.flock(fd, fcntl.LOCK_EX)


def take(fd: int, tries: int = 20) -> bool:
    """Lock an open file for this process, unless another has it (who only looks has it for an instant).

    Raises OSError where the file system has no locks.
    """
    if fcntl is None:
        return True
    for left in reversed(range(tries)):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.01 if left else 0)
        else:
            return True
    return False


def lock_if_free(fd: int) -> bool:
    """As `take`; where the file system has no locks, nobody else is seen."""
    try:
        return take(fd)
    except OSError:
        return True


def is_held(path: str | Path) -> bool:
    """Whether a process holds the lock of the file at `path`."""
    if fcntl is None:
        return False
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a FIFO would wait for a writer
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return isinstance(error, BlockingIOError)  # else a file system without locks
    finally:
        os.close(fd)
    return False


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the lock of the file at `path` (made when it is not there), waiting for it.

    Raises LogDirError when it cannot be made or opened.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT, disk.NEW_FILE)
    except OSError as error:
        raise disk.refusal(path, error) from None
    try:
        lock_shared_with_nobody(fd)
        yield
    finally:
        os.close(fd)
