"""The fork server, started by `executors/server.py` and by nobody else.

It imports what the runs need once, runs no operation of a framework (a fork after one may hang), and then forks a
process per job. Messages on the control socket:

    in   sys.path
    in   ("describe", source)
    out  (the pickled Description, None), or (None, error)
    in   ("start", (the pickled Setup, bytes of memory per run or None, whether a descriptor follows))
    in   a descriptor that every process of the sweep is to hold, if one follows
    out  (why no fork of it can be used, or "", None) when runs can train, else (None, error)
    in   ("run" or "run anew", Job) followed by the descriptor of the run's pipe
    in   ("signal", (name, number))
    out  (name, exit status, whether it died for want of memory)

A job that is run anew gets a fresh interpreter in place of a fork. A run's pipe carries ("ready",), by which the runner
tells a fork that hangs from one that works, then ("report", step, metrics) and ("unsaved", why). The end of the control
socket is the end of the server and of its runs (`keeper`).
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, Pipe, wait
from multiprocessing.reduction import recv_handle
from pathlib import Path
from typing import Any

import cloudpickle

import hparams_lab
from hparams_lab.core.errors import DomainLoadError, HParamsLabError
from hparams_lab.executors.child import live, loaded, out_at_the_end, preload
from hparams_lab.executors.forking import fork_quietly, why_no_fork
from hparams_lab.executors.job import check
from hparams_lab.executors.keeper import JANITOR_SECONDS, PARENT_SECONDS, kill_group
from hparams_lab.executors.memory import MemoryLimit, oom_kills
from hparams_lab.executors.protocol import Job, Setup
from hparams_lab.storage.paths import OUTPUT_LOG
from hparams_lab.targets.load import describe, is_file, load_module
from hparams_lab.targets.protocol import Train

LAST_WORDS = 4096
"""Bytes of what a run printed that may tell why it died."""

LEFT_SECONDS = 0.05
"""How often to look at what a run left that cleans up after it."""

NO_PROCESS_CODE = 71  # EX_OSERR of sysexits.h

HOME = str(Path(hparams_lab.__file__).parents[1])

# A run in an interpreter of its own: the descriptors of what it is to do and of its pipe, then where the package is.
_ALONE = """
import sys
sys.path = [entry for entry in sys.path if entry] + sys.argv[3:]
from hparams_lab.executors.child import run_alone
run_alone(int(sys.argv[1]), int(sys.argv[2]))
"""


def main(fd: int, keeper: int) -> None:
    """Serve the control socket until its other end closes, or the process `keeper` is not the parent any more."""
    control = Connection(fd)
    with contextlib.suppress(EOFError):
        sys.path[:] = control.recv()
        while True:
            word, about = control.recv()
            try:
                if word == "start":
                    pickled, memory, descriptor_follows = about
                    if descriptor_follows:
                        recv_handle(control)  # held until this process and its runs are gone
                    setup, train, why_anew = _get_ready(pickled)
                    break
                control.send((_described(about), None))
            except HParamsLabError as error:
                control.send((None, error))
        control.send((why_anew, None))
        _Server(control, pickled, setup, train, memory).serve(keeper)


def _described(source: str) -> bytes:
    """The description of a domain module, pickled; the functions of a file by value, since nobody can import it."""
    found = describe(source)
    module = load_module(source)
    if is_file(source):
        cloudpickle.register_pickle_by_value(module)
    pickled: bytes = cloudpickle.dumps(found)
    return pickled


def _get_ready(pickled: bytes) -> tuple[Setup, Train, str]:
    """Load the train function, see that it can train, and import the framework: the slowest last.

    Where no fork can be used, what the forks would share is not imported, and it is said why.
    """
    setup, train = loaded(pickled)
    if why_anew := why_no_fork():
        if error := _error_of_check(train):
            raise error
        return setup, train, why_anew
    if _check_in_a_child(train):
        check(train)
    preload(setup)
    _preload_for_optimizers()
    return setup, train, why_no_fork()


def _preload_for_optimizers() -> None:
    """Import what the first optimizer of PyTorch would in each fork: 800 modules, a second. It starts no thread."""
    if "torch.optim" in sys.modules:
        with contextlib.suppress(Exception):  # private, and not there in every version
            importlib.import_module("torch._dynamo")


def _check_in_a_child(train: Train) -> bool:
    """`check` in a fork, since loading data may run operations of a framework, after which no fork is safe.

    Whether it left no thread behind there, so that it can be done here too and the runs share what it loaded.
    """
    ours, theirs = Pipe(duplex=False)
    pid = os.fork()
    if pid == 0:
        try:
            before = _threads()
            error = _error_of_check(train)
            theirs.send((error, before is not None and before == _threads()))
        finally:
            os._exit(0)
    theirs.close()
    with ours:
        try:
            error, can_be_shared = ours.recv()  # not up to the end: what it started may keep the pipe
        except EOFError:
            error, can_be_shared = DomainLoadError("the process that loaded the data died"), False
    os.waitpid(pid, 0)
    if error is not None:
        raise error
    shared: bool = can_be_shared
    return shared


def _threads() -> int | None:
    """How many threads this process has; None where that cannot be told."""
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return None


def _error_of_check(train: Train) -> HParamsLabError | None:
    try:
        check(train)
    except HParamsLabError as error:
        return error
    except BaseException as error:
        traceback.print_exc()
        return DomainLoadError(f"the data could not be loaded: {error!r}")
    return None


class _Child:
    """A run's process, as the server knows it."""

    def __init__(self, job: Job, memory: int | None) -> None:
        self.name = job.name
        self.limit = None if memory is None else MemoryLimit.make(job.name, memory)
        self._log = job.directory / OUTPUT_LOG
        self._kills = oom_kills()

    def never_lived(self, error: OSError) -> None:
        """Tell it where the run would have told it itself, and let go of its limit."""
        if self.limit is not None:
            self.limit.close()
        with contextlib.suppress(OSError), open(self._log, "a", encoding="utf-8") as log:
            log.write(f"no process could be begun for the run: {error}\n")

    def died_for_want_of_memory(self, code: int) -> bool:
        """Whether its limit, or the machine's end of memory, killed it."""
        exceeded = False
        if self.limit is not None:
            exceeded = code != 0 and self.limit.was_exceeded(_end_of(self._log))
            self.limit.close()
        return code != 0 and (exceeded or (code == -signal.SIGKILL and oom_kills() > self._kills))


class _Server:
    """The loop between the control socket and the children."""

    def __init__(self, control: Connection, pickled: bytes, setup: Setup, train: Train, memory: int | None) -> None:
        self._control, self._pickled, self._setup, self._train = control, pickled, setup, train
        self._memory = memory
        self._children: dict[int, _Child] = {}
        self._groups_left: dict[int, float] = {}  # those of runs that are over, and until when they may clean up
        self._wakeup, wakeup = socket.socketpair()
        self._wakeup.setblocking(False)
        wakeup.setblocking(False)
        self._sockets = (self._wakeup, wakeup)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)

    def serve(self, keeper: int) -> None:
        """Fork and reap until the control socket ends, or the keeper was killed; then kill what is left."""
        with contextlib.suppress(EOFError, OSError):
            while os.getppid() == keeper:
                ready = wait([self._control, self._wakeup], LEFT_SECONDS if self._groups_left else PARENT_SECONDS)
                if self._wakeup in ready:
                    self._reap()
                if self._control in ready:
                    self._obey(*self._control.recv())
                self._kill_groups_left()
        for pid in (*self._children, *self._groups_left):
            kill_group(pid)

    def _obey(self, word: str, about: Any) -> None:
        if word == "signal":
            name, number = about
            for pid, child in self._children.items():
                if child.name == name:
                    _signal_group(pid, number)
        else:
            self._begin(self._fork if word == "run" else self._spawn, about, recv_handle(self._control))

    def _begin(self, begin: Callable[[_Child, Job, int], int], job: Job, pipe_fd: int) -> None:
        """Begin a run's process; that there can be none right now is the end of that run, and of no other."""
        child = None
        try:
            child = _Child(job, self._memory)
            pid = begin(child, job, pipe_fd)
        except OSError as error:
            if child is not None:
                child.never_lived(error)
            print(f"no process could be begun for {job.name}: {error}", file=sys.stderr, flush=True)
            self._control.send((job.name, NO_PROCESS_CODE, False))
        else:
            self._children[pid] = child
        finally:
            os.close(pipe_fd)

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._wakeup.recv(4096):
                pass
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                child = self._children.pop(pid, None)
                if child is not None:  # else it was started by something imported
                    if kill_group(pid):  # what it left behind
                        self._groups_left[pid] = time.monotonic() + JANITOR_SECONDS
                    code = os.waitstatus_to_exitcode(status)
                    self._control.send((child.name, code, child.died_for_want_of_memory(code)))

    def _kill_groups_left(self) -> None:
        """See to what runs left that cleans up after them: that it ends, and that nothing else came with it."""
        for group, until in list(self._groups_left.items()):
            if time.monotonic() > until:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(group, signal.SIGKILL)
            if not kill_group(group):
                del self._groups_left[group]

    def _fork(self, child: _Child, job: Job, pipe_fd: int) -> int:
        pid = fork_quietly()  # what is missing there was looked for, or `probe` finds out
        if pid == 0:
            with out_at_the_end():
                os.setpgid(0, 0)
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                self._control.close()
                for end in self._sockets:
                    end.close()
                live(job, Connection(pipe_fd), child.limit, lambda: (self._setup, self._train))
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.setpgid(pid, pid)
        return pid

    def _spawn(self, child: _Child, job: Job, pipe_fd: int) -> int:
        with tempfile.TemporaryFile() as to_do:
            pickle.dump((sys.path, self._pickled, job, child.limit), to_do)
            to_do.flush()
            to_do.seek(0)
            for fd in (to_do.fileno(), pipe_fd):
                os.set_inheritable(fd, True)
            command = [sys.executable, "-c", _ALONE, str(to_do.fileno()), str(pipe_fd), HOME]
            return os.posix_spawn(sys.executable, command, dict(os.environ), setpgroup=0)


def _end_of(log: Path) -> str:
    """The last words of a run."""
    with contextlib.suppress(OSError), open(log, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - LAST_WORDS))
        return file.read().decode("utf-8", "replace")
    return ""


def _signal_group(group: int, number: int) -> None:
    """Signal a run with all that it started, itself first: it must not take the others' end for an error of its own."""
    if number == signal.SIGKILL:
        kill_group(group)
        return
    for send in (os.kill, os.killpg):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            send(group, number)
