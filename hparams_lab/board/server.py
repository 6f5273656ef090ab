"""`Board`: a TensorBoard server over a log directory, on this machine only.

Its process does not import TensorFlow, which it does not need to read event files (about 1 s to start instead of 10),
and may open as many files as the system allows: TensorBoard keeps every event file open. It ends with the process that
started it, whatever ends that one: its standard input is a pipe from there, and closes.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hparams_lab.core.errors import ExecutorError, UsageError
from hparams_lab.storage.paths import local

HOST = "127.0.0.1"
STARTUP_SECONDS = 60.0

_SERVER = """
import sys
sys.path = [entry for entry in sys.path if entry]  # not from the working directory
import os, signal, threading, types
def end_with_parent():
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
sys.modules["tensorboard.compat.notf"] = types.ModuleType("tensorboard.compat.notf")
from tensorboard.main import run_main
if sys.argv[1] == "-":  # the log directory comes when it is known
    said = b""
    while not said.endswith(bytes(1)):
        more = os.read(0, 1)
        if not more:
            sys.exit()
        said += more
    sys.argv[1] = "--logdir=" + os.fsdecode(said[:-1])
threading.Thread(target=end_with_parent, daemon=True).start()
run_main()
"""


class Board:
    """A running TensorBoard, as a context manager.

    Args:
      logdir: what to show, or a function that says so, which is called while the server starts.
      port: where to listen; 0 takes any free port.
      options: more of TensorBoard's own, such as `--load_fast=false`.
      host: the address to listen at; anything but this machine's own lets others read the logs.

    Raises UsageError when the port is taken, ExecutorError when TensorBoard does not start.
    """

    def __init__(
        self,
        logdir: Path | Callable[[], Path],
        port: int = 6006,
        options: Sequence[str] = (),
        host: str = HOST,
    ) -> None:
        self._logdir = logdir if callable(logdir) else None
        shown = "-" if callable(logdir) else f"--logdir={local(logdir).absolute()}"
        self._command = [sys.executable, "-c", _SERVER, shown, "--host", host, "--port", str(port), *options]
        self._port = port
        self._host = host
        self.url = ""

    def __enter__(self) -> Board:
        self._log = tempfile.TemporaryFile()  # without a name, so that nothing is left of it
        with raised_file_limit():
            self._server = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=self._log, stderr=self._log, start_new_session=True
            )
        try:
            if self._logdir is not None:
                self._say(self._logdir())
            self.url = self._address() + "#hparams"
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: Any) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._server.pid, signal.SIGTERM)
        try:
            self._server.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(self._server.pid, signal.SIGKILL)
            self._server.wait()
        if self._server.stdin:
            self._server.stdin.close()
        self._log.close()

    def _say(self, logdir: Path) -> None:
        """Tell the server what to show."""
        assert self._server.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it ended already: its last words say why
            self._server.stdin.write(os.fsencode(logdir.absolute()) + b"\0")
            self._server.stdin.flush()

    def wait(self) -> None:
        """Wait until the server ends; Ctrl-C is the way to stop it."""
        self._server.wait()

    def _said(self) -> str:
        """What the server has printed."""
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), size, 0).decode(errors="replace")  # the server writes where it was

    def _address(self) -> str:
        """The address that the server prints once it listens."""
        deadline = time.monotonic() + STARTUP_SECONDS
        while time.monotonic() < deadline:
            said = self._said()
            found = re.search(r"at (http://\S+)\s", said)
            if found:
                return found[1]
            if self._server.poll() is not None:
                break
            time.sleep(0.05)
        if "already in use" in said or "could not bind" in said:
            raise UsageError(f"port {self._port} is taken; choose another with --port, 0 for any free one")
        if "unknown host" in said.lower() or "cannot assign" in said.lower():
            raise UsageError(f"this machine has no address {self._host!r}; leave --host out for {HOST}")
        last = said.strip().splitlines()[-1:] or ["nothing"]
        raise ExecutorError(f"TensorBoard did not start; its last words: {last[0]}")


@contextlib.contextmanager
def raised_file_limit() -> Any:
    """As many open files as the system allows, for what is started meanwhile."""
    try:
        import resource
    except ImportError:  # Windows
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS says "unlimited" and means less
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
