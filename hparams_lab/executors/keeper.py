"""`keep`: nothing that the fork server starts outlives the runner, however either of them ends.

    runner --- control socket --- keeper
                    `------------ fork server --- runs --- what they start

The keeper imports nothing, waits, and does one thing: when the other end of the control socket is closed (the runner
stopped, or was killed), or the server is gone, it kills every process below itself and ends. On Linux that is all of
them, also those that made themselves daemons, which come to it as to their reaper; elsewhere the server is given a
moment to kill the process groups of its runs, and is killed.

Janitors are killed last: processes that unlink the named semaphores and shared memory of others once those are gone,
as Python's own resource tracker does. They end by themselves; killed with the rest they would leave `/dev/shm` full.
https://docs.python.org/3/library/multiprocessing.html#contexts-and-start-methods
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

PARENT_SECONDS = 0.5
"""How often the keeper looks whether the runner is there, should its socket live on in another process."""

SERVER_SECONDS = 3.0
"""What the server has for its own end where the processes below cannot be told."""

JANITOR_SECONDS = 2.0
"""What janitors have for their work once all others are killed."""

_JANITORS = (b"resource_tracker", b"torch_shm_manager")  # in their command lines: of multiprocessing, loky; of PyTorch

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # prctl(2)


def keep(control_fd: int, runner: int) -> int:
    """Fork: the child returns, to be the server; the parent stays as its keeper and never returns.

    Args:
      control_fd: the server's end of the socket whose other end is the runner's.
      runner: the process id of the runner, whose child this process is.

    Returns the process id of the keeper; when it is not the server's parent any more, it was killed.
    """
    _become_reaper()
    keeper = os.getpid()
    server = os.fork()
    if server == 0:
        return keeper
    status = 1
    try:
        status = _watch(control_fd, runner, server)
    finally:
        os._exit(status)


def hang_up(control: Connection, runner: int) -> None:
    """Close the runner's end of a control socket, which the keeper notices also where a fork of the runner has it.

    Args:
      control: the runner's end.
      runner: the process id of the runner; in another process, which is a fork, the socket goes on for the runner.
    """
    if os.getpid() == runner:
        end = socket.socket(fileno=control.fileno())
        try:
            with contextlib.suppress(OSError):  # the other end is closed
                end.shutdown(socket.SHUT_RDWR)
        finally:
            end.detach()
    control.close()


def _watch(control_fd: int, runner: int, server: int) -> int:
    """Wait for the end of the runner or of the server, then kill what is below. The server's exit status."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    wakeup, woken = socket.socketpair()
    for end in (wakeup, woken):
        end.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(woken.fileno(), warn_on_full_buffer=False)
    poll = select.poll()
    poll.register(control_fd, select.POLLHUP)
    poll.register(wakeup, select.POLLIN)
    statuses: dict[int, int] = {}
    hung_up = False
    while server not in statuses and not hung_up and os.getppid() == runner:
        ready = dict(poll.poll(PARENT_SECONDS * 1000))
        hung_up = bool(ready.get(control_fd, 0) & (select.POLLHUP | select.POLLERR))
        with contextlib.suppress(BlockingIOError):
            wakeup.recv(4096)
        _reap(statuses)
    _kill_below(server, statuses)
    return os.waitstatus_to_exitcode(statuses.get(server, 1)) & 0xFF


def _kill_below(server: int, statuses: dict[int, int]) -> None:
    """Kill and reap until no process is left below this one, the janitors last."""
    began = time.monotonic()
    pause = 0.001
    while not _reap(statuses):
        took = time.monotonic() - began
        below = descendants(os.getpid())
        if below is None and took > SERVER_SECONDS:
            below = [server] if server not in statuses else []
        for pid in below or ():
            if took > JANITOR_SECONDS or not is_janitor(pid):
                kill(pid)
        time.sleep(pause)
        pause = min(2 * pause, 0.05)


def _reap(statuses: dict[int, int]) -> bool:
    """Collect the children that ended; whether none is left."""
    try:
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return False
            statuses[pid] = status
    except ChildProcessError:
        return True


def descendants(pid: int) -> list[int] | None:
    """The processes below one, by `/proc`; None where there is none."""
    parents = {one.pid: one.parent for one in _processes()}
    if os.getpid() not in parents:
        return None
    below = {pid}
    found: list[int] = []
    while more := [child for child, parent in parents.items() if parent in below and child not in below]:
        below.update(more)
        found += more
    return found


def kill_group(group: int) -> bool:
    """Kill a process group, but for its janitors where they can be told (`/proc`); whether any of those is left."""
    try:
        os.killpg(group, 0)  # mostly nothing is left: a look through all processes would cost more
    except (ProcessLookupError, PermissionError):
        return False
    alive = [one.pid for one in _processes() if one.group == group and not one.is_zombie]
    if not alive:  # or not to be told
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
        return False
    janitors = {pid for pid in alive if is_janitor(pid)}
    for pid in alive:
        if pid not in janitors:
            kill(pid)
    return bool(janitors)


def is_janitor(pid: int) -> bool:
    """Whether a process cleans up after others when they are gone, and ends then."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            command = file.read()
    except OSError:
        return False
    return any(word in command for word in _JANITORS)


def kill(pid: int) -> None:
    """SIGKILL, to a process that may be gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


class _Process(NamedTuple):
    """A line of /proc/PID/stat. https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html"""

    pid: int
    is_zombie: bool
    parent: int
    group: int


def _processes() -> Iterator[_Process]:
    """All processes, by `/proc`; none where there is none."""
    try:
        names = os.listdir("/proc")
    except OSError:
        return
    for name in names:
        if name.isdecimal():
            with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{name}/stat", "rb") as file:
                state, parent, group = file.read().rpartition(b")")[2].split()[:3]
                yield _Process(int(name), state == b"Z", int(parent), int(group))


def _become_reaper() -> None:
    """Have orphans below come to this process, where the system can (Linux 3.4)."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> None:
    """Have the system kill this process when the one that forked it dies, where it can (Linux)."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _prctl(option: int, value: int) -> None:
    with contextlib.suppress(Exception):
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)
