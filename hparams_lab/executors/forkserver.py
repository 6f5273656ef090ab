"""The fork server, started by `ProcessExecutor` and by nobody else.

It imports what the runs need once, runs no operation of a framework (a fork after one may hang), and then forks a
process per job. Messages on the control socket:

    in   sys.path
    in   ("describe", source)
    out  (the pickled Description, None), or (None, error)
    in   ("start", the pickled Setup)
    out  (None, None) when runs can train, else (None, error)
    in   ("run", Job) followed by the file descriptor of the run's pipe
    out  (name, exit status)

A run's pipe carries its process id first, by which the runner kills it should this server die, and then its reports.
The end of the control socket is the end of the server: it kills the process group of every run and exits.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import signal
import socket
import sys
import threading
import traceback
import warnings
from collections.abc import Mapping
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import recv_handle

import cloudpickle

from hparams_lab.domain import describe, is_file, load_module
from hparams_lab.errors import DomainLoadError, HParamsLabError
from hparams_lab.executors.job import Job, Setup, Train, check, perform
from hparams_lab.paths import OUTPUT_LOG


def main(fd: int) -> None:
    """Serve the control socket until its other end closes."""
    control = Connection(fd)
    with contextlib.suppress(EOFError):
        sys.path[:] = control.recv()
        while True:
            word, about = control.recv()
            try:
                if word == "start":
                    setup, train = _get_ready(about)
                    break
                control.send((_described(about), None))
            except HParamsLabError as error:
                control.send((None, error))
        control.send((None, None))
        _Server(control, setup, train).serve()


def _described(source: str) -> bytes:
    """The description of a domain module, pickled; the functions of a file by value, since nobody can import it."""
    found = describe(source)
    module = load_module(source)
    if is_file(source):
        cloudpickle.register_pickle_by_value(module)
    pickled: bytes = cloudpickle.dumps(found)
    return pickled


def _get_ready(pickled: bytes) -> tuple[Setup, Train]:
    """Load the train function, see that it can train, and import the framework: the slowest last."""
    try:
        setup: Setup = pickle.loads(pickled)
        train = setup.target.load()
        if _check_in_a_child(train):
            check(train)
        for module in setup.target.preload:
            importlib.import_module(module)
    except HParamsLabError:
        raise
    except Exception as error:
        traceback.print_exc()
        raise DomainLoadError(f"the train function could not be loaded in another process: {error!r}") from None
    return setup, train


def _check_in_a_child(train: Train) -> bool:
    """`check` in a fork, since loading data may run operations of a framework, after which no fork is safe.

    Whether it left no thread behind there, so that it can be done here too and the runs share what it loaded.
    """
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            with os.fdopen(theirs, "wb") as pipe:
                before = _threads()
                error = _error_of_check(train)
                pickle.dump((error, before is not None and before == _threads()), pipe)
        finally:
            os._exit(0)
    os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        said = pipe.read()
    os.waitpid(pid, 0)
    error, can_be_shared = (
        pickle.loads(said) if said else (DomainLoadError("the process that loaded the data died"), False)
    )
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


class _Server:
    """The loop between the control socket and the children."""

    def __init__(self, control: Connection, setup: Setup, train: Train) -> None:
        self._control, self._setup, self._train = control, setup, train
        self._names: dict[int, str] = {}
        self._wakeup, wakeup = socket.socketpair()
        self._wakeup.setblocking(False)
        wakeup.setblocking(False)
        self._sockets = (self._wakeup, wakeup)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)

    def serve(self) -> None:
        """Fork and reap until the control socket ends, then kill what is left."""
        with contextlib.suppress(EOFError, OSError):
            while True:
                ready = wait([self._control, self._wakeup])
                if self._wakeup in ready:
                    self._reap()
                if self._control in ready:
                    _, job = self._control.recv()
                    self._fork(job, recv_handle(self._control))
        for pid in self._names:
            _kill_group(pid)

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._wakeup.recv(4096):
                pass
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                name = self._names.pop(pid, None)
                if name is not None:  # else it was started by something imported
                    _kill_group(pid)
                    self._control.send((name, os.waitstatus_to_exitcode(status)))

    def _fork(self, job: Job, pipe_fd: int) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # threads of imported libraries; none has run
            pid = os.fork()
        if pid == 0:
            self._become(job, pipe_fd)
        os.close(pipe_fd)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.setpgid(pid, pid)
        self._names[pid] = job.name

    def _become(self, job: Job, pipe_fd: int) -> None:
        """In the child: a process group and an output.log of its own, the run, and out."""
        code = 1
        try:
            os.setpgid(0, 0)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._control.close()
            for end in self._sockets:
                end.close()
            _redirect_output(str(job.directory / OUTPUT_LOG))
            pipe = Connection(pipe_fd)
            pipe.send(os.getpid())
            perform(self._train, self._setup, job, Reporter(pipe))
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)


def _kill_group(pid: int) -> None:
    """Kill a run with all that it started, or what it left behind."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


class Reporter:
    """Sends a run's (step, metrics) to the runner; a runner that is gone is no trouble."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()

    def __call__(self, step: int, metrics: Mapping[str, float]) -> None:
        """Report."""
        with self._lock, contextlib.suppress(OSError):
            self._pipe.send((step, dict(metrics)))


def _redirect_output(path: str) -> None:
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    sys.stderr.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
