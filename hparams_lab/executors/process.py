"""`ProcessExecutor`: a process per run, forked from a server that has imported the framework once.

    this process --- control socket --- fork server --- fork ---> a run
         `------------- a pipe per run, for its reports -------------'

A crash, a leak or a hang touches one run only, and a run costs a fork instead of the seconds that importing a framework
takes. The server (`hparams_lab.executors.forkserver`) ends with this process, whatever ends it, and its runs with it.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import send_handle
from pathlib import Path

import cloudpickle

import hparams_lab
from hparams_lab.domain import Description
from hparams_lab.errors import ExecutorError, UsageError
from hparams_lab.executors import OnReport, default_workers
from hparams_lab.executors.job import Ended, Job, Setup

STARTUP_SECONDS = 300.0
STOP_SECONDS = 5.0

# The server, without the working directory on its path until it has imported what is ours: there may be a logging.py.
_SERVER = """
import sys
sys.path = [entry for entry in sys.path if entry] + sys.argv[2:]
from hparams_lab.executors.forkserver import main
main(int(sys.argv[1]))
"""
_HOME = str(Path(hparams_lab.__file__).parents[1])

# How a framework is told to use no more than its share of the cores.
_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)


class ProcessExecutor:
    """Trains up to `workers` runs at once, each in a process of its own."""

    def __init__(self, workers: int) -> None:
        self.slots = workers
        self._running: dict[str, Connection] = {}
        self._pids: dict[str, int] = {}
        self._server: subprocess.Popen[bytes] | None = None

    def describe(self, source: str) -> Description:
        """What a domain module declares, imported in the server and not here: the runner stays small."""
        return pickle.loads(self._ask("describe", source))  # type: ignore[no-any-return]

    def start(self, setup: Setup, on_report: OnReport) -> None:
        """Have the server import what the runs need, and check that they can train."""
        self._on_report = on_report
        try:
            self._setup = cloudpickle.dumps(setup)
        except Exception as error:
            raise UsageError(
                f"train cannot be sent to another process ({error}); give it less to carry, or use executor='inline'"
            ) from None
        self._ask("start", self._setup)

    def submit(self, job: Job) -> None:
        """Have the server fork a process for the job."""
        if self._server is None:  # it died, and took its runs along; the next ones get another
            self._ask("start", self._setup)
        ours, theirs = Pipe()
        try:
            self._control.send(("run", job))
            send_handle(self._control, theirs.fileno(), self._server.pid)  # type: ignore[union-attr]
        except OSError:
            self._running[job.name] = ours
            return  # the server is gone; `wait` finds out and says so
        finally:
            theirs.close()
        self._running[job.name] = ours

    def wait(self, seconds: float) -> list[Ended]:
        """Pass reports on and collect the ends, for at most so long or until something ended."""
        if not self._running:
            return []
        pipes = {name: pipe for name, pipe in self._running.items() if not pipe.closed}
        ready = wait([self._control, *pipes.values()], seconds)
        for name, pipe in pipes.items():
            if pipe in ready:
                self._pass_on(name, pipe)
        return self._ended() if self._control in ready else []

    def stop(self) -> None:
        """Close the control socket, which makes the server kill its runs and end; kill it when it does not."""
        server, self._server = self._server, None
        if server is None:
            return
        self._control.close()
        try:
            server.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        self._log.close()
        for pipe in self._running.values():
            pipe.close()
        self._running.clear()

    def _start_server(self) -> None:
        ours, theirs = socket.socketpair()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed in stop()
        with theirs:
            self._server = subprocess.Popen(
                [sys.executable, "-c", _SERVER, str(theirs.fileno()), _HOME],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                env=self._environment(),
                start_new_session=True,  # a Ctrl-C at the terminal is the runner's to handle
            )
        self._control: Connection = Connection(ours.detach())
        self._control.send(sys.path)

    def _environment(self) -> dict[str, str]:
        threads = str(max(1, default_workers() // self.slots))
        return {**dict.fromkeys(_THREADS, threads), "TF_CPP_MIN_LOG_LEVEL": "2", **os.environ}

    def _ask(self, word: str, about: str | bytes) -> bytes:
        """The server's answer; raise the error that it answers instead, and stop it when it cannot go on."""
        if self._server is None:
            self._start_server()
        try:
            self._control.send((word, about))
            if not self._control.poll(STARTUP_SECONDS):
                raise EOFError
            answer, error = self._control.recv()
        except (EOFError, OSError):
            log = self._log_tail()
            self.stop()
            raise ExecutorError(f"the process that forks the runs did not get ready; its last words: {log}") from None
        if error is not None:
            self.stop()
            raise error
        return answer  # type: ignore[no-any-return]

    def _log_tail(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "(none)"

    def _pass_on(self, name: str, pipe: Connection) -> None:
        try:
            while pipe.poll():
                said = pipe.recv()
                if isinstance(said, int):
                    self._pids[name] = said
                else:
                    self._on_report(name, *said)
        except (EOFError, OSError):
            pipe.close()

    def _ended(self) -> list[Ended]:
        ended = []
        try:
            while self._control.poll():
                name, status = self._control.recv()
                ended.append(self._end(name, _death(status)))
        except (EOFError, OSError):
            for name in list(self._running):
                self._kill(name)
                ended.append(self._end(name, "the process that forks the runs died"))
            self.stop()
        return ended

    def _kill(self, name: str) -> None:
        """Kill a run that its server left behind, and wait until it has let go of its files."""
        pipe = self._running[name]
        self._pass_on(name, pipe)
        if name in self._pids:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._pids[name], signal.SIGKILL)
        while not pipe.closed and pipe.poll(STOP_SECONDS):
            self._pass_on(name, pipe)

    def _end(self, name: str, death: str) -> Ended:
        pipe = self._running.pop(name)
        self._pids.pop(name, None)
        if not pipe.closed:
            self._pass_on(name, pipe)
            pipe.close()
        return Ended(name, death)


def _death(status: int) -> str:
    """How a process died by its exit status (as in `subprocess`: negative for a signal); empty for 0."""
    if status == 0:
        return ""
    if status > 0:
        return f"its process exited with code {status} before the run had ended"
    try:
        return f"its process was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"its process was killed by signal {-status}"
