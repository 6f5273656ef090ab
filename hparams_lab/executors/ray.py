"""`RayExecutor`: runs on the machines of a Ray cluster, or on a Ray of their own on this one.

    this process --- control socket --- driver --- Ray --- a task per run --- `ProcessExecutor` there

The driver (`ray_driver`) is a process of its own, the only one here that imports Ray: a cluster that does not answer
or goes away costs that process and not this one, and Ray's signal handlers and what its C++ prints stay there. What a
task (`ray_task`) does is what `ProcessExecutor` does on this machine: a run is a fork of a server that has imported the
framework, with the same limits, and the same words for how it ended.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import os
import pickle
import re
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.reduction import send_handle
from pathlib import Path
from typing import Any

import cloudpickle

from hparams_lab.core.errors import ExecutorError, MissingExtraError, UsageError
from hparams_lab.executors.devices import check_numbers, shares
from hparams_lab.executors.forkserver import HOME
from hparams_lab.executors.keeper import hang_up
from hparams_lab.executors.protocol import Asked, Ended, Job, OnReport, Resources, Setup, default_workers
from hparams_lab.executors.ray_address import no_answer, not_joined
from hparams_lab.executors.ray_protocol import OwnRay
from hparams_lab.storage.scratch import scratch
from hparams_lab.targets.load import Description

STARTUP_SECONDS = 300.0
STOP_SECONDS = 4.0
END_SECONDS = 10.0
POLL_SECONDS = 0.1

PROBE_SECONDS = 8.5
"""What an address has to answer."""

JOIN_SECONDS = 15.0
"""What a cluster that answered has to let us in."""

_DRIVER = """
import sys
sys.path = [entry for entry in sys.path if entry] + sys.argv[3:]
from hparams_lab.executors.keeper import keep
keep(int(sys.argv[1]), int(sys.argv[2]))
from hparams_lab.executors.ray_address import enter
enter(int(sys.argv[1]))
"""

# Characters of the directory for temporary files, so that Ray's sockets below it have paths of at most 107.
_LONGEST = 25


class RayExecutor:
    """Trains as many runs at once as the cluster has room for, or `workers`.

    Raises UsageError for resources that cannot be, MissingExtraError without Ray.
    """

    trains_here = False

    def __init__(self, resources: Resources, asked_to_stop: Asked) -> None:
        if importlib.util.find_spec("ray") is None:
            raise MissingExtraError.of("Ray", "ray")
        self._resources, self._asked_to_stop = resources, asked_to_stop
        self._environment = {"RAY_USAGE_STATS_ENABLED": "0", "TF_CPP_MIN_LOG_LEVEL": "2"}
        self._own: OwnRay | None = None
        self._files = contextlib.ExitStack()
        self._joined = False  # a cluster that goes on without us
        self._running: set[str] = set()
        self._driver: subprocess.Popen[bytes] | None = None
        self.slots = resources.workers or 1
        self.hold: int | None = None  # a descriptor that the driver keeps
        self.notes: list[str] = []
        self._noted: set[str] = set()  # each worker says them
        if resources.ray_address is None:
            self._share_this_machine()
        else:
            _check_for_cluster(resources)

    def describe(self, source: str) -> Description:
        """What a domain module declares, imported in a task."""
        return pickle.loads(self._ask("describe", source))  # type: ignore[no-any-return]

    def start(self, setup: Setup, on_report: OnReport) -> None:
        """Have a task import what the runs need, and check that they can train."""
        self._on_report = on_report
        try:
            self._setup = cloudpickle.dumps(setup)
        except Exception as error:
            raise UsageError(
                f"train cannot be sent to another process ({error}); give it less to carry, or use executor='inline'"
            ) from None
        self._ask("start", self._setup)

    def submit(self, job: Job) -> None:
        """Begin a task for the job."""
        if self._driver is None:  # it died, and took its runs along; the next ones get another
            self._ask("start", self._setup)
        self._running.add(job.name)
        self._say("run", job)

    def wait(self, seconds: float) -> list[Ended]:
        """Pass reports on and collect the ends, for at most so long or until something ended."""
        if self._driver is None:
            time.sleep(seconds)
            return []
        ended: list[Ended] = []
        until = time.monotonic() + seconds
        try:
            while self._control.poll(0 if ended else max(0.0, until - time.monotonic())):
                word, *about = self._control.recv()
                ended += self._heard(word, *about)
                if time.monotonic() > until:
                    break
        except (EOFError, OSError):
            ended += [Ended(name, "the process that speaks to Ray died", lost=True) for name in self._running]
            self._running.clear()
            self.stop()
        return ended

    def cancel(self, name: str) -> None:
        """Have the run's task stop it, as `ProcessExecutor` does; a task that does not is killed with what it has."""
        self._say("cancel", name)

    def stop(self) -> None:
        """Stop what is running, disconnect from the cluster, and end a Ray of our own with all its processes."""
        driver, self._driver = self._driver, None
        if driver is None:
            return
        if self._joined:  # else its end is the end of all there is
            self._say("stop", None)
            with contextlib.suppress(subprocess.TimeoutExpired):
                driver.wait(STOP_SECONDS)
        self._joined = False
        hang_up(self._control, self._runner)
        try:
            driver.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            driver.kill()
            driver.wait()
        self._files.close()
        self._running.clear()

    def _share_this_machine(self) -> None:
        """A Ray of our own has room for what `ProcessExecutor` would run at once, on the same GPUs."""
        found = shares(self._resources)
        self.slots = sum(share.slots for share in found)
        gpus = [share.environment["CUDA_VISIBLE_DEVICES"] for share in found if share.label != "cpu"]
        if gpus:
            self._environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
        cpus = max(default_workers(), math.ceil(self.slots * (self._resources.cpus_per_run or 1)))
        self._own = OwnRay(cpus, len(gpus))
        # Who is not told this token can do nothing with the ports that Ray opens on all addresses.
        self._environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}

    def _heard(self, word: str, *about: Any) -> list[Ended]:
        if word == "slots":
            (self.slots,) = about
        elif word == "report":
            self._on_report(*about)
        elif word == "note":
            (note,) = about
            if note not in self._noted:
                self._noted.add(note)
                self.notes.append(note)
        elif word == "error":
            raise about[0]
        elif word == "ended":
            (ended,) = about
            self._running.discard(ended.name)
            return [ended]
        return []

    def _say(self, word: str, about: object) -> None:
        with contextlib.suppress(OSError):  # the driver is gone; `wait` finds out and says so
            self._control.send((word, about))

    def _ask(self, word: str, about: str | bytes) -> Any:
        """What the driver answers; raise the error that it answers instead, and stop what was started."""
        try:
            if self._driver is None:
                self._start_driver()
            self._say(word, about)
            if word == "start":
                self._hand_over()
            return self._answer(STARTUP_SECONDS)
        except BaseException:
            self.stop()
            raise

    def _hand_over(self) -> None:
        self._say("hold", self.hold is not None)
        if self.hold is not None:
            with contextlib.suppress(OSError):
                send_handle(self._control, self.hold, self._driver.pid)  # type: ignore[union-attr]

    def _answer(self, seconds: float) -> Any:
        until = time.monotonic() + seconds
        try:
            while time.monotonic() < until:
                if self._asked_to_stop():
                    raise KeyboardInterrupt
                while self._control.poll(POLL_SECONDS):
                    word, *about = self._control.recv()
                    if word == "answer":
                        return about[0]
                    self._heard(word, *about)
        except (EOFError, OSError):
            pass
        raise ExecutorError(f"Ray did not get ready; its last words: {self._last_words()}")

    def _start_driver(self) -> None:
        ours, theirs = socket.socketpair()
        self._runner = os.getpid()
        self._log = self._files.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        own = self._own and self._own._replace(directory=str(self._files.enter_context(_scratch())))
        with theirs:
            self._driver = subprocess.Popen(
                [sys.executable, "-c", _DRIVER, str(theirs.fileno()), str(os.getpid()), HOME],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                env={**os.environ, **self._environment},
                start_new_session=True,  # a Ctrl-C at the terminal is the runner's to handle
            )
        self._control: Connection = Connection(ours.detach())
        with contextlib.suppress(OSError):  # it died; `_answer` finds out and says so
            self._control.send((sys.path, self._resources, own))
        address = self._resources.ray_address
        self._step(PROBE_SECONDS, no_answer)
        self._answer(STARTUP_SECONDS)  # Ray is imported, which takes what it takes
        self._step(PROBE_SECONDS if address == "auto" else JOIN_SECONDS, not_joined)
        self._joined = address is not None

    def _step(self, seconds: float, error: Callable[[str, str], UsageError]) -> None:
        """Wait for the driver to come on, on its way to a cluster; on that to a Ray of our own there is no hurry."""
        address = self._resources.ray_address
        try:
            self._answer(STARTUP_SECONDS if address is None else seconds)
        except ExecutorError:
            if address is None:
                raise
            raise error(address, self._last_words()) from None

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode("utf-8", "replace").strip().splitlines()
        return re.sub(r"^\[.*?\] \S+:\d+: ", "", lines[-1]) if lines else "nothing"


def _scratch() -> contextlib.AbstractContextManager[Path]:
    """A directory for Ray's files and sockets, whose paths may not be long; one that was left is swept away."""
    usual = Path(tempfile.gettempdir())
    return scratch(usual if len(str(usual)) <= _LONGEST else Path("/tmp"), "lab-ray-")


def _check_for_cluster(resources: Resources) -> None:
    check_numbers(resources)
    if resources.gpus not in (None, "all", "none"):
        raise UsageError(
            f"--gpus {resources.gpus} names GPUs of one machine; with --ray-address say --gpus all or none"
        )
