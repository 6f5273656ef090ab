"""`ServerHandle`: the runner's end of one fork server (`forkserver`, kept by `keeper`)."""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from multiprocessing.connection import Connection
from multiprocessing.reduction import send_handle
from typing import Any, NamedTuple

from hparams_lab.core.errors import ExecutorError
from hparams_lab.executors.forkserver import HOME
from hparams_lab.executors.keeper import hang_up
from hparams_lab.executors.protocol import Asked, Job

STARTUP_SECONDS = 300.0
STOP_SECONDS = 5.0
LOOK_SECONDS = 0.1

# The server, without the working directory on its path until it has imported what is ours: there may be a logging.py.
_SERVER = """
import sys
sys.path = [entry for entry in sys.path if entry] + sys.argv[3:]
from hparams_lab.executors.keeper import keep
keeper = keep(int(sys.argv[1]), int(sys.argv[2]))
from hparams_lab.executors.forkserver import main
main(int(sys.argv[1]), keeper)
"""


# What a server has unless the caller has set it. A set of strings has the same order in every run.
_DEFAULTS = {"TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONHASHSEED": "0"}


class Exit(NamedTuple):
    """The end of a run's process: its exit status (negative for a signal), and whether it died for want of memory."""

    name: str
    code: int
    out_of_memory: bool


class ServerHandle:
    """One fork server: started when it is first asked something, gone when it is closed or the runner is.

    Args:
      environment: variables that it has, and its runs.
      asked_to_stop: looked at while it gets ready.
    """

    def __init__(self, environment: Mapping[str, str], asked_to_stop: Asked) -> None:
        self._environment = environment
        self._asked_to_stop = asked_to_stop
        self._process: subprocess.Popen[bytes] | None = None
        self.control: Connection | None = None

    def describe(self, source: str) -> Any:
        """What a domain module declares, imported there. Raises as `answer` does."""
        with self._failing_in_words():
            self._send("describe", source)
        return pickle.loads(self.answer())

    def begin_start(self, pickled_setup: bytes, memory: int | None, hold: int | None) -> None:
        """Have it import what the runs need; `answer` waits for it. `hold` is a descriptor that its processes keep.

        Raises ExecutorError when it died.
        """
        with self._failing_in_words():
            self._send("start", (pickled_setup, memory, hold is not None))
            if hold is not None:
                self._hand_over(hold)

    def run(self, job: Job, pipe: Connection, anew: bool) -> None:
        """Have it begin a process for the job: a fork, or an interpreter of its own. Raises OSError when it is gone."""
        self._send("run anew" if anew else "run", job)
        self._hand_over(pipe.fileno())

    def signal(self, name: str, number: int) -> None:
        """Signal all processes of a run. Raises OSError when the server is gone."""
        self._send("signal", (name, number))

    def exits(self) -> list[Exit] | None:
        """The processes that ended since it was last asked; None when the server itself is gone, and all with it."""
        assert self.control is not None
        found: list[Exit] = []
        try:
            while self.control.poll():
                found.append(Exit(*self.control.recv()))
        except (EOFError, OSError):
            return found or None  # where something was found, it is asked again
        return found

    def close(self) -> None:
        """Close the control socket, which ends the server and all its runs; kill it when it does not."""
        process, self._process = self._process, None
        if process is None:
            return
        assert self.control is not None
        hang_up(self.control, self._runner)
        self.control = None
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._log.close()

    def answer(self) -> Any:
        """What it answers. Raises the error that it answers instead, ExecutorError, or KeyboardInterrupt."""
        with self._failing_in_words():
            answer, error = self._received()
        if error is not None:
            self.close()
            raise error
        return answer

    @contextlib.contextmanager
    def _failing_in_words(self) -> Iterator[None]:
        """Turn the end of a server that gets ready into ExecutorError, with its last words."""
        try:
            yield
        except (EOFError, OSError) as error:
            if self._process is None:
                self._log.close()
                raise ExecutorError(f"the process that forks the runs could not be started: {error}") from None
            log = self._log_tail()
            self.close()
            raise ExecutorError(f"the process that forks the runs did not get ready; its last words: {log}") from None

    def _send(self, word: str, about: Any) -> None:
        """Send a message; a server that is not there is started first."""
        if self._process is None:
            self._start()
        assert self.control is not None
        # not `send`: an error there keeps a buffer of io's, whose end in a cycle is an error of its own, or worse
        self.control.send_bytes(pickle.dumps((word, about)))

    def _received(self) -> Any:
        assert self.control is not None
        end = time.monotonic() + STARTUP_SECONDS
        while not self.control.poll(LOOK_SECONDS):
            if self._asked_to_stop():
                self.close()
                raise KeyboardInterrupt
            if time.monotonic() > end:
                raise EOFError
        return self.control.recv()

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        self._runner = os.getpid()
        with ours, theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _SERVER, str(theirs.fileno()), str(os.getpid()), HOME],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                env={**_DEFAULTS, **os.environ, **self._environment},
                start_new_session=True,  # a Ctrl-C at the terminal is the runner's to handle
            )
            self.control = Connection(ours.detach())
        self.control.send(sys.path)

    def _hand_over(self, descriptor: int) -> None:
        assert self.control is not None
        assert self._process is not None
        send_handle(self.control, descriptor, self._process.pid)

    def _log_tail(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "(none)"
