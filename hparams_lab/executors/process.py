"""`ProcessExecutor`: a process per run, forked from a server that has imported the framework once.

    this process --- control socket --- fork server --- fork ---> a run
         `------------- a pipe per run, for its reports -------------'

A crash, a leak or a hang touches one run only, and a run costs a fork instead of the seconds that importing a framework
takes. There is one server per accelerator, which sees no other (`devices`). A server (`forkserver`, `keeper`) ends with
this process, whatever ends it, and its runs with it.

Where something has run in the server that forks do not survive (`forking`), its runs get interpreters of their own. A
fork that does not say in time that it can train hangs all the same; its job, and all later ones, get an interpreter of
their own. So do the later ones where its time is over before that. Why runs do is said once, in `notes`.
"""

from __future__ import annotations

import contextlib
import signal
import time
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait

import cloudpickle

from hparams_lab.core.errors import UsageError
from hparams_lab.core.outcome import Outcome
from hparams_lab.executors import again
from hparams_lab.executors.devices import Share, shares
from hparams_lab.executors.forking import FRESH, WAY_OUT
from hparams_lab.executors.memory import check_limit
from hparams_lab.executors.protocol import Asked, Ended, Job, OnReport, Resources, Setup
from hparams_lab.executors.server import Exit, ServerHandle
from hparams_lab.storage.paths import OUTPUT_LOG
from hparams_lab.targets.load import Description

READY_SECONDS = 20.0
"""A fork has so long to say that it can train."""

DOUBT_SECONDS = 5.0
"""A fork that is stopped, as for its time, and was not ready by then is taken for one that hangs."""

GRACE_SECONDS = 1.5
"""Between SIGTERM and SIGKILL."""


@dataclass
class _Lane:
    """A server, and the share of the machine that its runs have."""

    share: Share
    server: ServerHandle
    forks_hang: bool = False


@dataclass
class _Running:
    """A job under way."""

    job: Job
    lane: _Lane
    pipe: Connection
    ready_by: float | None  # None once it is ready, or where nothing hangs on it
    kill_at: float | None = None
    unsaved: str = ""
    was_ready: bool = False
    replace: bool = field(default=False)


class ProcessExecutor:
    """Trains runs in processes of their own, as many at once as `resources` say or the machine has.

    Raises UsageError for resources that do not fit.
    """

    trains_here = False

    def __init__(self, resources: Resources, asked_to_stop: Asked) -> None:
        check_limit(resources.memory)
        self._lanes = [_Lane(share, ServerHandle(share.environment, asked_to_stop)) for share in shares(resources)]
        self.slots = sum(lane.share.slots for lane in self._lanes)
        self._memory = resources.memory
        self._running: dict[str, _Running] = {}
        self.hold: int | None = None
        self.notes: list[str] = []

    def describe(self, source: str) -> Description:
        """What a domain module declares, imported in a server and not here: the runner stays small."""
        found: Description = self._lanes[0].server.describe(source)
        return found

    def start(self, setup: Setup, on_report: OnReport) -> None:
        """Have the servers import what the runs need, and check that they can train."""
        self._on_report = on_report
        try:
            self._setup = cloudpickle.dumps(setup)
        except Exception as error:
            raise UsageError(
                f"train cannot be sent to another process ({error}); give it less to carry, or use executor='inline'"
            ) from None
        self._start(self._lanes)

    def submit(self, job: Job) -> None:
        """Have a server begin a process for the job."""
        self._submit(job, self._free_lane())

    def wait(self, seconds: float) -> list[Ended]:
        """Pass reports on and collect the ends, for at most so long or until something ended."""
        if not self._running:
            return []
        pipes = [running.pipe for running in self._running.values() if not running.pipe.closed]
        controls = [lane.server.control for lane in self._lanes if lane.server.control is not None]
        ready = wait([*controls, *pipes], max(0.0, min(seconds, self._until_next_deadline())))
        for name, running in self._running.items():
            if running.pipe in ready:
                self._take(name, running)
        ended = [end for lane in self._lanes if lane.server.control in ready for end in self._ended(lane)]
        self._keep_deadlines()
        return ended

    def cancel(self, name: str) -> None:
        """SIGTERM to all processes of the run now, SIGKILL soon."""
        running = self._running.get(name)
        if running is not None and running.kill_at is None:
            now = time.monotonic()
            if running.ready_by is not None and now >= running.ready_by - READY_SECONDS + DOUBT_SECONDS:
                self._begin_anew(running.lane)
            running.kill_at = now + GRACE_SECONDS
            self._signal(running, signal.SIGTERM)

    def stop(self) -> None:
        """Close the servers, which kills their runs."""
        for lane in self._lanes:
            lane.server.close()
        for running in self._running.values():
            running.pipe.close()
        self._running.clear()

    def _start(self, lanes: list[_Lane]) -> None:
        for lane in lanes:
            lane.server.begin_start(self._setup, self._memory, self.hold)
        for lane in lanes:
            if why := lane.server.answer():
                self._begin_anew(lane, f"{why}, and a fork would hang")

    def _begin_anew(self, lane: _Lane, why: str = "a fork hung: something ran while the domain was loaded") -> None:
        """Have the lane's later runs get interpreters of their own, and say so once."""
        if not any(each.forks_hang for each in self._lanes):
            self.notes.append(f"{why}; {FRESH}; {WAY_OUT}")
        lane.forks_hang = True

    def _free_lane(self) -> _Lane:
        """The lane with the most free slots."""
        taken = [id(running.lane) for running in self._running.values()]
        return max(self._lanes, key=lambda lane: lane.share.slots - taken.count(id(lane)))

    def _submit(self, job: Job, lane: _Lane) -> None:
        if lane.server.control is None:  # it died, and took its runs along; the next ones get another
            self._start([lane])
        ours, theirs = Pipe()
        ready_by = None if lane.forks_hang else time.monotonic() + READY_SECONDS
        self._running[job.name] = _Running(job, lane, ours, ready_by)
        with theirs, contextlib.suppress(OSError):  # the server is gone; `wait` finds out and says so
            lane.server.run(job, theirs, anew=lane.forks_hang)

    def _until_next_deadline(self) -> float:
        deadlines = [
            at for running in self._running.values() for at in (running.ready_by, running.kill_at) if at is not None
        ]
        return min(deadlines, default=float("inf")) - time.monotonic()

    def _keep_deadlines(self) -> None:
        """Kill what was asked to stop and did not, and forks that hang."""
        now = time.monotonic()
        for running in self._running.values():
            if running.kill_at is not None and now >= running.kill_at:
                running.kill_at = now + GRACE_SECONDS
                self._signal(running, signal.SIGKILL)
            elif running.ready_by is not None and now >= running.ready_by:
                running.ready_by = None
                running.replace = True
                self._begin_anew(running.lane)
                self._signal(running, signal.SIGKILL)

    def _signal(self, running: _Running, number: int) -> None:
        with contextlib.suppress(OSError):  # the server is gone, and the run with it
            running.lane.server.signal(running.job.name, number)

    def _take(self, name: str, running: _Running) -> None:
        """What a run said."""
        try:
            while running.pipe.poll():
                word, *said = running.pipe.recv()
                if word == "report":
                    self._on_report(name, *said)
                elif word == "unsaved":
                    (running.unsaved,) = said
                running.ready_by = None
                running.was_ready = True
        except (EOFError, OSError):
            running.pipe.close()

    def _ended(self, lane: _Lane) -> list[Ended]:
        """The ends that a server tells; its own is that of all its runs."""
        exits = lane.server.exits()
        if exits is not None:
            ended = [self._end(exit) for exit in exits]
            return [end for end in ended if end is not None]
        lane.server.close()
        names = [name for name, running in self._running.items() if running.lane is lane]
        for name in names:
            self._let_go(name)
        return [Ended(name, "the process that forks the runs died", lost=True) for name in names]

    def _end(self, exit: Exit) -> Ended | None:
        running = self._let_go(exit.name)
        if running.replace and running.kill_at is None:
            if not running.was_ready:
                self._submit(running.job, running.lane)
                return None
            if exit.code == -signal.SIGKILL:  # it was slow, and there may be files of it
                return Ended(exit.name, "its fork hung", lost=True)
        if exit.out_of_memory:
            limit = f" (--memory {self._memory / 1e6:g}MB)" if self._memory else ""
            return Ended(exit.name, f"it ran out of memory{limit} and was killed", Outcome.OUT_OF_MEMORY)
        death = _death(exit.code)
        if death and again.said_in(running.job.directory / OUTPUT_LOG):
            death = again.WORDS
        return Ended(exit.name, death, unsaved=running.unsaved)

    def _let_go(self, name: str) -> _Running:
        running = self._running.pop(name)
        if not running.pipe.closed:
            self._take(name, running)
            running.pipe.close()
        return running


def _death(code: int) -> str:
    """How a process died by its exit status (as in `subprocess`: negative for a signal); empty for 0."""
    if code == 0:
        return ""
    number = -code if code < 0 else code - 128
    if code > 0 and number != signal.SIGTERM:
        return f"its process exited with code {code} before the run had ended"
    try:
        return f"its process was killed by {signal.Signals(number).name}"
    except ValueError:
        return f"its process was killed by signal {number}"
