"""Directories for work that is not done yet: gone when the work is, and after a process was killed at the next work."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from hparams_lab.storage.locks import is_held, lock_if_free, lock_shared_with_nobody

MAKING = ".merging-"
"""How the names of directories begin in which a log directory is made, which readers pass over."""


@contextlib.contextmanager
def scratch(parent: Path, prefix: str) -> Iterator[Path]:
    """A new directory in `parent` of which no other process knows, and nothing is left of afterwards.

    Its owner holds its lock. Those of the same prefix whose owner is gone are deleted first.
    """
    made, fd = _made(parent, prefix)
    try:
        if is_held(made):  # else this file system keeps no locks, and nobody knows whose the others are
            _sweep(made, prefix)
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
        os.close(fd)


def _made(parent: Path, prefix: str) -> tuple[Path, int]:
    """A new directory, and its descriptor, which holds the lock."""
    while True:
        made = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        try:
            fd = opened_directory(made)
        except FileNotFoundError:  # swept away by another, before it was locked
            continue
        lock_shared_with_nobody(fd)
        if made.is_dir():
            return made, fd
        os.close(fd)


def opened_directory(directory: Path) -> int:
    """A descriptor of a directory; where a system has none (Windows), of nothing."""
    return os.open(os.devnull if os.name == "nt" else directory, os.O_RDONLY)


def _sweep(own: Path, prefix: str) -> None:
    """Delete the directories beside one's own that nobody holds."""
    for other in own.parent.glob(f"{prefix}*"):
        if other == own or other.is_symlink() or not other.is_dir():
            continue
        with contextlib.suppress(OSError):  # another's, or gone
            fd = opened_directory(other)
            try:
                if lock_if_free(fd):
                    shutil.rmtree(other, ignore_errors=True)
            finally:
                os.close(fd)
