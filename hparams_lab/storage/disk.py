"""What makes things durable, in one place: every operation that changes a log directory, and every wait for the disk.

`before`, when it is set, is called with each operation's name and its path or descriptor before it is done: a test
kills the process there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable

from hparams_lab.core.errors import LogDirError, UnsavedError
from hparams_lab.storage.file_names import is_event_file

before: Callable[[str, str | int], None] | None = None
"""Called before each operation."""

NEW_FILE = 0o666
"""The mode of a new file, less the umask, which the system takes off: a group may share a directory."""

_Path = str | os.PathLike[str]

_NO_ENTRIES_TO_SYNC = {errno.EINVAL, errno.EBADF, errno.ENOTSUP}
"""What some file systems answer, which do not know how to wait for a directory."""

_WAYS_OUT = {
    errno.ENOSPC: "make room on the disk",
    errno.EDQUOT: "make room in the quota",
    errno.EFBIG: "raise the limit of a file's size (ulimit -f)",
}
_TROUBLE = {errno.ENOSPC, errno.EDQUOT, errno.EIO}


def create(path: _Path, flags: int = os.O_WRONLY) -> int:
    """Make a file that is not there, and open it; the descriptor."""
    _tell("create", path)
    return os.open(path, flags | os.O_CREAT | os.O_EXCL, NEW_FILE)


def write(fd: int, data: bytes | memoryview) -> int:
    """Hand some of `data` to the system; how many bytes of it."""
    _tell("write", fd)
    return os.write(fd, data)


def truncate(fd: int, size: int) -> None:
    """Cut an open file to `size` bytes."""
    _tell("truncate", fd)
    os.ftruncate(fd, size)


def sync(fd: int) -> None:
    """Wait until an open file is on the disk. When that failed once, a second success means nothing."""
    _tell("sync", fd)
    os.fsync(fd)


def sync_directory(path: _Path) -> None:
    """Wait until a directory's entries are on the disk, where the system can be asked."""
    _tell("sync_directory", path)
    if os.name == "nt":
        return
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _NO_ENTRIES_TO_SYNC:
            raise
    finally:
        os.close(fd)


def make_directory(path: _Path, sync: bool = False) -> None:
    """Make a directory in one that is there; with `sync`, wait until its entry is on the disk."""
    _tell("make_directory", path)
    os.mkdir(path)
    if sync:
        sync_directory(os.path.dirname(os.path.abspath(path)))


def make_directories(path: _Path) -> None:
    """Make a directory and those above it, if they are not there, and wait until their entries are on the disk."""
    if not os.path.isdir(path):
        absolute = os.path.abspath(path)
        make_directories(os.path.dirname(absolute))
        try:
            make_directory(absolute, sync=True)
        except FileExistsError:
            if not os.path.isdir(absolute):
                raise


def replace(source: _Path, target: _Path) -> None:
    """Give a file the name of another, which is gone then. Its entry is not waited for."""
    _tell("replace", target)
    os.replace(source, target)


def rename(source: _Path, target: _Path) -> None:
    """Give a file or directory a name that is free. Its entry is not waited for."""
    _tell("rename", source)
    os.rename(source, target)


def remove(path: _Path) -> None:
    """Remove a file or a link, if it is there."""
    _tell("remove", path)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def remove_tree(path: _Path) -> None:
    """Remove a directory and all in it, its own event files first: what a kill in between leaves of a run is none.

    Links are removed, never followed.
    """
    if os.path.islink(path):
        remove(path)
        return
    files: list[str] = []
    folders: list[str] = []
    for folder, inner, names in os.walk(path):
        folders.append(folder)
        files += [
            f"{folder}/{name}" for name in [*names, *inner] if name in names or os.path.islink(f"{folder}/{name}")
        ]
    for file in sorted(files, key=lambda file: (not is_event_file(os.path.basename(file)), file.count("/"), file)):
        remove(file)
    for folder in reversed(folders):
        _tell("remove", folder)
        os.rmdir(folder)


def save(path: _Path, data: bytes) -> None:
    """Write a file whole or not at all; it is on the disk when this returns. Raises OSError.

    One that takes the place of another has its mode.
    """
    folder, name = os.path.split(os.path.abspath(path))
    temporary = f"{folder}/.{name}.{os.urandom(8).hex()}"  # containers share their processes' numbers
    try:
        _write_new(temporary, data)
        with contextlib.suppress(OSError):  # there is none yet, or it is another user's
            os.chmod(temporary, stat.S_IMODE(os.stat(path).st_mode))
        replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            remove(temporary)
        raise
    sync_directory(folder)


def _write_new(path: str, data: bytes) -> None:
    fd = create(path, os.O_WRONLY | getattr(os, "O_BINARY", 0))
    try:
        left = memoryview(data)
        while left:
            left = left[write(fd, left) :]
        sync(fd)
    finally:
        os.close(fd)


def way_out(error: OSError) -> str:
    """What a person does about it, in words."""
    return _WAYS_OUT.get(error.errno or 0, "see to the disk")


def unsaved(path: _Path, error: OSError, lost: bool) -> UnsavedError:
    """The error of a run that cannot be written to `path`; `lost` where it was the wait for the disk that failed."""
    if lost:
        why = f"is not saved, its disk lost what was written: {error.strerror}; {way_out(error)}, and do the run again"
    else:
        why = f"cannot be written: {error.strerror}; {way_out(error)}: what was logged is kept and tried again"
    return UnsavedError(f"{path} {why}")


def refusal(path: _Path, error: OSError) -> LogDirError:
    """The error to raise when the system refuses to write at `path`: `UnsavedError` where the disk is in trouble."""
    if error.errno in _TROUBLE:
        return UnsavedError(f"{path} cannot be written: {error.strerror}; {way_out(error)}, and start again")
    return LogDirError(f"{path} cannot be written: {error.strerror}; choose another log directory")


def _tell(operation: str, what: _Path | int) -> None:
    if before is not None:
        before(operation, what if isinstance(what, int) else os.fspath(what))
