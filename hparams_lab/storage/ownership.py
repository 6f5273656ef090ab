"""One owner per log directory, by locks that the kernel holds: gone the instant their process is, whatever ended it.

<logdir>/.lock        held by the runner, and by none of its children: who has it owns the directory. While it is held
                      it says who does, as JSON: host, pid, since, command
<logdir>/.lock-runs   held by the runner and by all processes of its sweep, through one descriptor that it hands to what
                      starts them, and that they inherit: when the owner was killed, the next one waits here until
                      these are gone too; a fork of the runner itself has none, since it is none of them

Both files stay when nobody holds them, empty. A directory is moved aside, and a lock file deleted, by its owner only:
who got a lock looks whether the path still names the file, and tries again when it does not.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hparams_lab.core.errors import LogDirError, OwnedError
from hparams_lab.core.present import in_units, visible
from hparams_lab.storage import disk
from hparams_lab.storage.locks import HAS_LOCKS, is_held, take

LOCK = ".lock"
LOCK_RUNS = ".lock-runs"
NEW = ".new"
"""What is to take the place of a directory that is moved aside, while it is inside of that."""

RUNS_SECONDS = 5.0
"""How long an owner waits for the processes of the one before, which are being killed."""

TRIES = 100
"""How often a lock file that was moved aside or deleted is looked for again."""

LONGEST = 4096
NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL}


@dataclass(frozen=True, slots=True)
class Owner:
    """Who works in a log directory; what is not known is empty or None."""

    host: str = ""
    pid: int | None = None
    since: float | None = None
    command: str = ""

    @property
    def is_here(self) -> bool:
        """Whether it is a process of this machine."""
        return self.pid is not None and self.host == socket.gethostname()


def current_owner(root: Path) -> Owner | None:
    """Who works in a log directory right now; None when nobody does. Looks only, and disturbs nobody."""
    path = root / LOCK
    return _owner_by(path) if is_held(path) else None


@contextmanager
def owned(root: Path, lock: bool = True, *, patience: float = RUNS_SECONDS) -> Iterator[Ownership]:
    """Own a log directory, which is made when it is not there. What was made goes again unless it is announced.

    Args:
      root: the log directory.
      lock: False where nobody else works in it, and its file system has no locks: nothing is locked, nothing made.
      patience: seconds to wait for the processes of an owner that was killed.

    Raises OwnedError when another runner, or what is left of one, works in it, and LogDirError when it cannot be
    written or its file system has no locks. Where the system has none (Windows) nothing is locked.
    """
    ownership = Ownership(root)
    try:
        if lock and HAS_LOCKS:
            ownership.take(patience)
        yield ownership
    finally:
        ownership.release()


class Ownership:
    """A log directory that is owned.

    Attributes:
      root: the directory.
      runs_fd: what every process of the sweep is to be handed, and to inherit; not there in a fork of this process.
        None where nothing is locked.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.runs_fd: int | None = None
        self._fd: int | None = None
        self._pid = os.getpid()
        self._made: list[Path] = []

    def take(self, patience: float) -> None:
        """Lock the directory, then wait for what is left of its last owner. See `owned` for the errors."""
        with _writing(self.root):
            self._fd = self._own()
            _of_this_process.add(self._fd)
            self.runs_fd = self._opened(self.root / LOCK_RUNS)
            _of_this_process.add(self.runs_fd)
            end = time.monotonic() + patience
            while not _taken(self.runs_fd, self.root, tries=1):
                if time.monotonic() > end:
                    raise OwnedError(_left_in_words(self.root, _processes_with(self.runs_fd)))
                time.sleep(0.02)

    def announce(self) -> None:
        """Write who owns the directory, for those who come later: it is going to be worked in. Raises LogDirError."""
        if self._fd is None:
            return
        said = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.time(), "command": _command()}
        with _writing(self.root):
            disk.truncate(self._fd, 0)
            os.lseek(self._fd, 0, os.SEEK_SET)
            disk.write(self._fd, json.dumps(said).encode("ascii"))
        self._made.clear()

    def release(self) -> None:
        """Let go of the directory. Only who took it does: not a fork that leaves the same block."""
        if os.getpid() != self._pid:
            return
        if self._fd is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, 0)
        self._unmake(files=self._fd is not None)
        for fd in (self.runs_fd, self._fd):
            if fd is not None:
                _of_this_process.discard(fd)
                os.close(fd)
        self.runs_fd = self._fd = None

    def _own(self) -> int:
        """The descriptor of the lock file, locked, and the one that is there now."""
        path = self.root / LOCK
        for tries_left in reversed(range(TRIES)):
            try:
                self._make_root()
                fd = self._opened(path)
            except FileNotFoundError:  # moved aside, or deleted, a moment ago
                if not tries_left:
                    raise
                continue
            try:
                if not _taken(fd, self.root):
                    break
                if _is_at(path, fd):
                    mine, fd = fd, -1
                    return mine
            except LogDirError:
                self._unmake(files=True)  # without locks it is nobody else's
                raise
            finally:
                if fd >= 0:
                    os.close(fd)
        raise OwnedError(owner_in_words(self.root, _owner_by(path), time.time()))

    def _make_root(self) -> None:
        missing = [folder for folder in (self.root, *self.root.parents) if not folder.exists()]
        self._made += reversed(missing)
        disk.make_directories(self.root)

    def _opened(self, path: Path) -> int:
        """The descriptor of a lock file, which is made when it is not there. A program that is started does not get it.

        A link is not followed: it may lead anywhere.
        """
        flags = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0)
        try:
            fd = disk.create(path, flags)
        except FileExistsError:
            return os.open(path, flags)
        self._made.append(path)
        return fd

    def _unmake(self, files: bool) -> None:
        """Delete the directories that were made and hold nothing, and the files where no other can have locked them."""
        for path in reversed(self._made):
            with contextlib.suppress(OSError):  # it holds something
                if path.is_dir():
                    path.rmdir()
                elif files:
                    path.unlink()
        self._made.clear()


@contextmanager
def _writing(root: Path) -> Iterator[None]:
    """Turn the system's refusals to write into LogDirError."""
    try:
        yield
    except OSError as error:
        raise disk.refusal(root, error) from None


# --- locks ----------------------------------------------------------------------------------------------------------

_of_this_process: set[int] = set()
"""Descriptors of lock files that a fork is not to keep: the lock would outlive its owner, or its sweep."""


def _forget_in_fork() -> None:
    for fd in _of_this_process:
        with contextlib.suppress(OSError):
            os.close(fd)
    _of_this_process.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_fork)


def _taken(fd: int, root: Path, tries: int = 20) -> bool:
    """`locks.take`, where a file system without locks is an error with a way out."""
    try:
        return take(fd, tries)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        raise LogDirError(
            f"{root} is on a file system without locks ({error.strerror}), where two runners do not notice each other; "
            "choose another --logdir, or --no-lock when nobody else works there"
        ) from None


def _is_at(path: Path, fd: int) -> bool:
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(fd))
    except FileNotFoundError:
        return False


def move_aside(root: Path, aside: Path) -> None:
    """Rename a directory that this process owns, and leave an empty one in its place that it owns likewise.

    The new one appears with the lock files in it, the same that are held; it is made inside of the old one, so that a
    kill leaves nothing beside it. Between the two renames there is none: another runner may be quicker. Then this one
    raises OwnedError, and what was moved is whole.
    """
    new = aside / NEW
    with contextlib.suppress(FileExistsError):  # left by one that was killed here
        disk.make_directory(root / NEW)
    disk.rename(root, aside)
    _move_locks(aside, new)
    try:
        disk.rename(new, root)
    except OSError as error:
        _move_locks(new, aside)
        with contextlib.suppress(OSError):
            new.rmdir()
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        raise OwnedError(
            f"{root} went to another runner; what it held is in {aside}; choose another --logdir"
        ) from None


def _move_locks(source: Path, target: Path) -> None:
    for name in (LOCK, LOCK_RUNS):
        with contextlib.suppress(FileNotFoundError):  # where nothing is locked
            disk.rename(source / name, target / name)


# --- who has them ---------------------------------------------------------------------------------------------------


def _command() -> str:
    return shlex.join([sys.executable, *sys.orig_argv[1:]])[: LONGEST // 8]


def _owner_by(path: Path) -> Owner:
    """What a lock file that is held says, unless the kernel knows better: one that was killed may have left it."""
    try:
        with open(path, "rb") as file:
            said = json.loads(file.read(LONGEST))
    except (OSError, ValueError, RecursionError):
        said = None
    found = _owner_of(said) if isinstance(said, dict) else Owner()
    holder = _holder_of(path)
    return found if holder in (None, found.pid) else Owner(socket.gethostname(), holder)


def _owner_of(said: dict[str, Any]) -> Owner:
    host, pid, since, command = (said.get(key) for key in ("host", "pid", "since", "command"))
    is_time = isinstance(since, (int, float)) and math.isfinite(since) and 0 <= since < 1e11
    return Owner(
        host if isinstance(host, str) else "",
        pid if type(pid) is int and pid > 1 else None,
        float(since) if is_time and since is not None else None,
        command if isinstance(command, str) else "",
    )


def _holder_of(path: Path) -> int | None:
    """The process of this machine that locked a file, as Linux tells it; None where that is not known.

    A line of /proc/locks is "1: FLOCK ADVISORY WRITE <pid> <major>:<minor>:<inode> 0 EOF", the device in hexadecimal.
    """
    try:
        found = os.stat(path)
        with open("/proc/locks", encoding="ascii") as file:
            lines = [line.split() for line in file]
    except (OSError, ValueError):
        return None
    name = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    pids = [line[4] for line in lines if len(line) > 5 and line[1] == "FLOCK" and line[5] == name]
    return int(pids[0]) if len(pids) == 1 and pids[0].isdecimal() and int(pids[0]) > 1 else None


def _processes_with(fd: int) -> list[int]:
    """The other processes that have a file open, by /proc; those of other users do not tell."""
    found = []
    with contextlib.suppress(OSError):
        wanted = os.readlink(f"/proc/self/fd/{fd}")
        others = {int(name) for name in os.listdir("/proc") if name.isdecimal()} - {os.getpid()}
        found = [pid for pid in sorted(others) if wanted in _open_files(pid)]
    return found


def _open_files(pid: int) -> Iterator[str]:
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                yield os.readlink(f"/proc/{pid}/fd/{name}")


# --- in words -------------------------------------------------------------------------------------------------------


def owner_in_words(root: Path, owner: Owner, now: float) -> str:
    """Who works in a directory, and the way out."""
    known = [f"host {visible(owner.host)[:60]}"] if owner.host else []
    known += [f"pid {owner.pid}"] if owner.pid else []
    if owner.since is not None:
        clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(owner.since))
        known += [f"since {clock}, {in_units(max(0.0, now - owner.since))} ago"]
    who = f" ({', '.join(known)})" if known else ""
    if owner.is_here and owner.pid == os.getpid():
        return f"{root} is being logged into by this very process{who}; end that first, or choose another directory"
    stop = f"stop it with `kill {owner.pid}`, " if owner.is_here else ""
    return f"{root} is being swept by another runner{who}; wait for it, {stop}or choose another --logdir"


def _left_in_words(root: Path, pids: list[int]) -> str:
    if not pids:
        return (
            f"processes of an earlier runner still work in {root}, on another machine or as another user; "
            "wait for them, or choose another --logdir"
        )
    several = f"es {', '.join(map(str, pids))} of an earlier runner still work" if len(pids) > 1 else ""
    said = several or f" {pids[0]} of an earlier runner still works"
    kill = " ".join(map(str, pids))
    return f"process{said} in {root}; wait for it, stop it with `kill -9 {kill}`, or choose another --logdir"
