"""How much memory a run may take: `MemoryLimit`, and what the kernel tells of runs that took too much.

    limit = MemoryLimit.make(name, size)     before the fork
    limit.enter()                            in the child, first of all
    limit.was_exceeded(last_words)           after the child's death
    limit.close()                            in the parent, at the end: kills what is left, removes the group

Where a control group can be made, the run and all that it starts share the limit: real memory, beyond what the run
shares with the process that it was forked from. The kernel kills a run that needs more. Groups are made in the group of
the process that makes them, named `hparams-lab-PID-NUMBER-RUN`, and their directory is locked (flock) while anybody of
theirs lives, so that those of a runner that was killed can be told and removed.

    version 1   memory.limit_in_bytes, memory.oom_control    https://docs.kernel.org/admin-guide/cgroup-v1/memory.html
    version 2   memory.max, memory.events; the controller has to be passed on to children, which the kernel refuses to a
                group that has processes of its own          https://docs.kernel.org/admin-guide/cgroup-v2.html

Elsewhere each process of the run is limited by itself: to the data that it has when it begins, and as much on top, by
RLIMIT_DATA: private memory that can be written to. What is only reserved is not counted, as it is by RLIMIT_AS, under
which CUDA, which reserves far more than a machine has, does not start. Before Linux 4.7 it must be RLIMIT_AS. An
allocation beyond it fails: MemoryError in Python, `std::bad_alloc` and an abort in C++. See setrlimit(2).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hparams_lab.core.errors import UsageError
from hparams_lab.executors.keeper import JANITOR_SECONDS, is_janitor, kill
from hparams_lab.storage.locks import is_held, lock_if_free

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

CLOSE_SECONDS = 5.0
MORE_READILY = 500
"""By how much a run's oom_score_adj is raised; 1000 is half of what memory itself can count."""

_PREFIX = "hparams-lab-"
_PROC = Path("/proc")
_NUMBERS = itertools.count()

_LAST_WORDS = (
    "std::bad_alloc",
    "MemoryError",
    "Cannot allocate memory",
    "out of memory",
    "Out of memory",
    "OutOfMemory",
    "Memory allocation still failed",  # OpenBLAS
    "via pthread_create() failed",  # TensorFlow, which found no room for a thread's stack
)


@dataclass(frozen=True, slots=True)
class _Version:
    """The files of a version of the memory controller: what to write into a new group, where kills are counted."""

    limits: tuple[tuple[str, str], ...]
    events: str
    kill_all: str = ""

    @property
    def needed(self) -> str:
        """The file without which nothing is limited."""
        return self.limits[0][0]


_V1 = _Version((("memory.limit_in_bytes", "{size}"), ("memory.memsw.limit_in_bytes", "{size}")), "memory.oom_control")
_V2 = _Version(
    (("memory.max", "{size}"), ("memory.swap.max", "0"), ("memory.oom.group", "1")), "memory.events", "cgroup.kill"
)


def check_limit(size: int | None) -> None:
    """Raise UsageError where a run's memory cannot be limited: outside Linux, whose limits alone are kept."""
    if size is not None and (resource is None or _data_now("VmData") is None):
        raise UsageError(f"--memory needs Linux, and this is {sys.platform}; leave it out")


class MemoryLimit:
    """The limit of one run, by a control group or by each process's own limit."""

    def __init__(self, size: int, group: Path | None = None, version: _Version = _V1, lock: int | None = None) -> None:
        self._size, self._group, self._version, self._lock = size, group, version, lock
        self._closed = False

    @classmethod
    def make(cls, name: str, size: int, by_group: bool = True) -> MemoryLimit:
        """A limit of `size` bytes for the run of that name.

        With `by_group=False`, or where no control group can be made, it is one of each process.
        """
        found = _home() if by_group else None
        if found is not None:
            home, version = found
            _remove_left(home)
            for _ in range(3):
                with contextlib.suppress(OSError):
                    group, lock = _new_group(home, version, name, size)
                    return cls(size, group, version, lock)
        return cls(size)

    @property
    def by_group(self) -> bool:
        """Whether all processes of the run are limited together."""
        return self._group is not None

    def __reduce__(self) -> tuple[type[MemoryLimit], tuple[int, Path | None, _Version]]:
        """In another process it can be entered, and tells; the lock stays here."""
        return MemoryLimit, (self._size, self._group, self._version)

    def enter(self) -> None:
        """Put this process, and all that it will start, under the limit. Never fails: does what can be done."""
        if self._group is not None:
            with contextlib.suppress(OSError):
                (self._group / "cgroup.procs").write_text("0")
                return
        _limit_own_data(self._size)

    def was_exceeded(self, last_words: str = "") -> bool:
        """Whether a run that died did so for want of memory.

        In a control group the kernel counts what it killed. Without one only what was printed at last tells: an
        allocation that failed in C++ looks like any other abort, and one that nobody checked like any other crash.
        """
        if self._group is not None and kills_in(self._group / self._version.events) > 0:
            return True
        return any(word in last_words for word in _LAST_WORDS)

    def close(self) -> None:
        """Kill what is left in the group and remove it; nothing without one, or when it was closed before."""
        if self._group is None or self._closed:
            return
        self._closed = True
        _empty(self._group, self._version)
        if self._lock is not None:
            os.close(self._lock)


def oom_kills() -> int:
    """How many processes the kernel has killed for want of memory, in this process's control group or else anywhere.

    A number to compare with one of before. Those with a control group of their own (`MemoryLimit`) are not in it.
    """
    found = _own_group()
    if found is not None and (found[0] / found[1].events).exists():
        return kills_in(found[0] / found[1].events)
    return kills_in(_PROC / "vmstat")


def kills_in(events: Path) -> int:
    """The number after `oom_kill` in a file of the kernel's; 0 where it cannot be read."""
    return next((int(count) for name, count in _pairs(events) if name == "oom_kill" and count.isdecimal()), 0)


def prefer_to_be_killed() -> None:
    """Have the kernel choose this process before the one that started it, when memory runs out. Never fails."""
    with contextlib.suppress(OSError, ValueError):
        path = _PROC / "self/oom_score_adj"
        path.write_text(str(min(1000, int(path.read_text()) + MORE_READILY)))


def _limit_own_data(size: int) -> None:
    """Limit this process to what it has now and `size` bytes on top."""
    if resource is None:
        return
    what, line = (resource.RLIMIT_DATA, "VmData") if _data_limit_is_kept() else (resource.RLIMIT_AS, "VmSize")
    has = _data_now(line)
    if has is None:
        return
    with contextlib.suppress(OSError, ValueError):
        _, hard = resource.getrlimit(what)
        wanted = has + size if hard == resource.RLIM_INFINITY else min(has + size, hard)
        resource.setrlimit(what, (wanted, hard))


def _data_limit_is_kept() -> bool:
    """Whether RLIMIT_DATA counts all that is allocated, as since Linux 4.7, and not only the heap."""
    release = os.uname().release.split(".")
    with contextlib.suppress(ValueError, IndexError):
        return (int(release[0]), int(release[1])) >= (4, 7)
    return False


def _data_now(line: str) -> int | None:
    """Bytes that this process has by a line of its status; None outside Linux."""
    found = next((size for name, size in _pairs(_PROC / "self/status") if name == f"{line}:"), None)
    return int(found.split()[0]) * 1024 if found else None


def _pairs(path: Path) -> Iterator[tuple[str, str]]:
    """The lines of a file of the kernel's: a name, and what follows. None where it cannot be read."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        for line in path.read_text(encoding="ascii").splitlines():
            name, _, rest = line.partition("\t" if "\t" in line else " ")
            yield name, rest.strip()


def _home() -> tuple[Path, _Version] | None:
    """The group in which groups can be made; None where there is none."""
    found = _own_group()
    if found is None or not os.access(found[0], os.W_OK):
        return None
    group, version = found
    if version is _V2:
        with contextlib.suppress(OSError):  # refused to a group with processes in it, but for the root
            (group / "cgroup.subtree_control").write_text("+memory")
        if "memory" not in _words(group / "cgroup.subtree_control"):
            return None
    return found


def _own_group() -> tuple[Path, _Version] | None:
    """The directory of this process's control group for memory."""
    paths = {}
    for line in _lines(_PROC / "self/cgroup"):
        _, controllers, path = line.split(":", 2)
        paths[controllers] = path
    for fields, kind, options in _mounts():
        root, mounted = fields[3], fields[4]
        if kind == "cgroup" and "memory" in options.split(","):
            version, named = _V1, [path for name, path in paths.items() if "memory" in name.split(",")]
        elif kind == "cgroup2":
            version, named = _V2, [paths.get("", "")]
        else:
            continue
        group = _below(mounted, root, "".join(named))
        if group is not None and (version is _V1 or "memory" in _words(group / "cgroup.controllers")):
            return group, version
    return None


def _below(mounted: str, root: str, path: str) -> Path | None:
    """The directory of a group, where `root` of all groups is mounted there; None when the group is not below it."""
    if not path or ".." in path.split("/") or not f"{path}/".startswith(f"{root.rstrip('/')}/"):
        return None
    group = Path(mounted, path[len(root.rstrip("/")) :].lstrip("/"))
    return group if group.is_dir() else None


def _mounts() -> Iterator[tuple[list[str], str, str]]:
    """The mounts: fields, kind of file system, its options. https://man7.org/linux/man-pages/man5/proc.5.html"""
    for line in _lines(_PROC / "self/mountinfo"):
        fields, _, rest = line.partition(" - ")
        kind, _, options = rest.split(" ", 2)
        yield fields.split(" "), kind, options


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return []


def _words(path: Path) -> list[str]:
    return " ".join(_lines(path)).split()


def _new_group(home: Path, version: _Version, name: str, size: int) -> tuple[Path, int]:
    """A group with that limit, and a descriptor that locks its directory. Raises OSError, and leaves nothing."""
    group = home / f"{_PREFIX}{os.getpid()}-{next(_NUMBERS)}-{re.sub('[^a-zA-Z0-9-]', '_', name)[:100]}"
    group.mkdir()
    lock = -1
    try:
        lock = os.open(group, os.O_RDONLY)
        if not lock_if_free(lock) or not (group / version.needed).exists():
            raise OSError("somebody removes it, or it has no memory controller")
        for file, value in version.limits:
            _write_limit(group / file, value.format(size=size), file == version.needed)
    except OSError:
        if lock >= 0:
            os.close(lock)
        with contextlib.suppress(OSError):
            group.rmdir()
        raise
    return group, lock


def _write_limit(path: Path, value: str, needed: bool) -> None:
    """Set a limit; one that is not needed may be missing, such as that of swap."""
    try:
        path.write_text(value)
    except OSError:
        if needed:
            raise


def _remove_left(home: Path) -> None:
    """Remove the groups of runners that are gone: those that nobody locks and nobody is in."""
    with contextlib.suppress(OSError):
        for group in home.glob(f"{_PREFIX}*"):
            if not is_held(group):
                with contextlib.suppress(OSError):
                    group.rmdir()


def _empty(group: Path, version: _Version) -> None:
    """Kill what is in a group until it can be removed, the janitors last."""
    began = time.monotonic()
    while group.exists():
        with contextlib.suppress(OSError):
            group.rmdir()
            return
        took = time.monotonic() - began
        _kill_all(group, version, but_janitors=took < JANITOR_SECONDS)
        if took > CLOSE_SECONDS:
            return  # removed by the next that makes a group here
        time.sleep(0.002)


def _kill_all(group: Path, version: _Version, but_janitors: bool) -> None:
    if version.kill_all and not but_janitors:
        with contextlib.suppress(OSError):
            (group / version.kill_all).write_text("1")
    for pid in map(int, _words(group / "cgroup.procs")):
        if pid > 0 and not (but_janitors and is_janitor(pid)):  # 0 is a process that cannot be seen from here
            kill(pid)
