"""`SweepLoop`: the trials that are not done, each handed to the executor, watched, and read back when it is over."""

from __future__ import annotations

import functools
import os
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hparams_lab.core.declared import Declared
from hparams_lab.core.errors import MissingMetricError, UnsavedError
from hparams_lab.core.outcome import Outcome
from hparams_lab.core.present import in_units
from hparams_lab.core.results import RunResult, TrialResult
from hparams_lab.core.trial import RunSpec
from hparams_lab.executors import Executor, Job
from hparams_lab.executors.job import missing_metric, notes_of
from hparams_lab.executors.protocol import Ended
from hparams_lab.logdir.run_reader import event_files, read_run
from hparams_lab.run.attempts import ATTEMPTS_TAG, Attempt, attempts_markdown
from hparams_lab.run.outcome_records import end_left_run
from hparams_lab.run.run import Run
from hparams_lab.storage import disk
from hparams_lab.storage.paths import OUTPUT_LOG, LogDirPaths, writing
from hparams_lab.sweep.events import RunEnded, RunReported, RunRetried, RunStarted, SweepEvent, SweepNote, SweepStopping
from hparams_lab.sweep.plan import Plan
from hparams_lab.sweep.resume import Found, clear, sync_run, wait_until_let_go
from hparams_lab.sweep.signals import StopRequests
from hparams_lab.sweep.to_do import ToDo

POLL_SECONDS = 0.1
LOST_AT_MOST = 3
"""So often a run is done again that was lost with its server or node."""

STOP_SECONDS = 3.0
"""What runs that are stopped have to be gone."""


@dataclass
class _UnderWay:
    """A run that was handed to the executor; `stopped`: the outcome of one that is cancelled, and why."""

    job: Job
    since: float
    stopped: tuple[Outcome, str] | None = None


@dataclass
class SweepLoop:
    """A sweep under way.

    Args:
      timeout: seconds that a run may take.
      retries: how often a run that crashed is tried again.
    """

    plan: Plan
    paths: LogDirPaths
    executor: Executor
    found: Found
    stop: StopRequests
    timeout: float | None = None
    retries: int = 0
    results: list[TrialResult] = field(default_factory=list)
    _reports: list[RunReported] = field(default_factory=list)
    _running: dict[str, _UnderWay] = field(default_factory=dict)
    _again: deque[RunSpec] = field(default_factory=deque)
    _crashes: Counter[str] = field(init=False)
    _to_do: ToDo = field(init=False)
    _losses: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._crashes = Counter(self.found.crashes)
        self._to_do = ToDo(self.plan, self.found, self.results)

    @functools.cached_property
    def declared(self) -> Declared:
        """What the runs are read back by."""
        return Declared.of(self.plan.domain.experiment)

    def has_work(self) -> bool:
        """Whether there is a run to do while none is under way."""
        return bool(self._again) or self._to_do.peek()

    def report(self, name: str, step: int, metrics: Mapping[str, float]) -> None:
        """Keep what a run said until the next event is asked for."""
        self._reports.append(RunReported(name, step, metrics))

    def run(self) -> Iterator[SweepEvent]:
        """Fill the slots, wait, tell; when asked to stop only wait for what is running, or stop that too."""
        told = False
        yield from self._notes()
        while self._running or not (self.stop.asked() or (self._to_do.is_over and not self.has_work())):
            while len(self._running) < self.executor.slots and not self.stop.asked():
                spec = self._again.popleft() if self._again else self._next()
                if spec is None:
                    break
                self._submit(spec)
                yield RunStarted(spec)
            if self.stop.at_once:
                yield SweepStopping(tuple(self._running), self.stop.name, at_once=True)
                yield from self._stop_all()
                return
            if self.stop.asked() and not told:
                told = True
                yield SweepStopping(tuple(self._running), self.stop.name)
            yield from self._wait(POLL_SECONDS)
            self._stop_what_takes_too_long()
        if self._to_do.note:
            yield SweepNote(self._to_do.note)
        if self._to_do.failure is not None:
            raise self._to_do.failure

    def _next(self) -> RunSpec | None:
        """The next run, its directory made; None when there is none, or none before another has ended."""
        one = self._to_do.next(busy=bool(self._running))
        if one is None:
            return None
        trial, repeat = one
        return RunSpec.of(trial, self.plan.seed, self.found.name_for(trial, repeat, self.paths), repeat)

    def _submit(self, spec: RunSpec) -> None:
        attempts = clear(self.paths, spec.name, self.declared)
        job = Job(spec, Path(os.path.abspath(self.paths.run(spec.name))), attempts)
        self._running[spec.name] = _UnderWay(job, time.monotonic())
        self.executor.submit(job)

    def _wait(self, seconds: float) -> Iterator[SweepEvent]:
        """What the runs report and how they end, within so long."""
        self.stop.raising = self.executor.trains_here
        try:
            ended = self.executor.wait(seconds)
        finally:
            self.stop.raising = False
        reports, self._reports = self._reports, []
        yield from reports
        yield from self._notes()
        for one in ended:
            event = self._finish(one)
            yield event
            if isinstance(event, RunEnded):
                yield from (SweepNote(f"{event.result.name}: {note}") for note in notes_of(event.result))

    def _notes(self) -> Iterator[SweepNote]:
        """What the executor has to say of how it trains."""
        while self.executor.notes:
            yield SweepNote(self.executor.notes.pop(0))

    def _stop_what_takes_too_long(self) -> None:
        if self.timeout is None:
            return
        now = time.monotonic()
        for name, one in self._running.items():
            if one.stopped is None and now - one.since >= self.timeout:
                one.stopped = (Outcome.TIMED_OUT, f"it took longer than {_in_seconds(self.timeout)} (--timeout)")
                self.executor.cancel(name)

    def _stop_all(self) -> Iterator[SweepEvent]:
        """Stop what is running, and give it an end: it is done again when the sweep goes on."""
        self._again.clear()
        for name, one in self._running.items():
            one.stopped = one.stopped or (Outcome.INTERRUPTED, f"the sweep was stopped by {self.stop.name}")
            self.executor.cancel(name)
        end = time.monotonic() + STOP_SECONDS
        while self._running and time.monotonic() < end:
            yield from self._wait(POLL_SECONDS)
        self.executor.stop()
        for name in list(self._running):
            yield self._finish(Ended(name))

    def _finish(self, ended: Ended) -> SweepEvent:
        one = self._running.pop(ended.name)
        result = self._read(ended.name)
        if ended.unsaved:
            raise self._unsaved(one.job, result, ended.unsaved)
        if result is None or result.ended is None:
            outcome, reason = one.stopped or (ended.outcome, ended.death or "its process ended without a word")
            if ended.lost and one.stopped is None and self._losses[ended.name] < LOST_AT_MOST:
                outcome = Outcome.INTERRUPTED
            result = self._ended(one, result, outcome, reason)
        elif ended.death or one.stopped:  # it may have been killed while it waited for the disk
            sync_run(self.paths.run(ended.name))
        if again := self._lost_or_crashed(one.job, ended.lost and one.stopped is None, result):
            return again
        self._learn(result)
        if (said := missing_metric(result)) and not self._works():
            raise MissingMetricError(said)
        return RunEnded(result)

    def _works(self) -> bool:
        """Whether any run completed: then what goes wrong is that of a run, and not of the whole sweep."""
        known = [*self.found.done, *(trial.runs[0] for trial in self.results)]
        return any(run.outcome is Outcome.COMPLETED for run in known)

    def _lost_or_crashed(self, job: Job, lost: bool, result: RunResult) -> RunRetried | None:
        """The event of a run that is to be done again, if it is."""
        lost = lost and result.outcome is not Outcome.COMPLETED
        crashed = result.outcome is Outcome.CRASHED and not lost
        tried, most = (self._crashes, self.retries) if crashed else (self._losses, LOST_AT_MOST)
        if not (crashed or lost) or tried[job.name] >= most or self.stop.at_once:
            return None
        tried[job.name] += 1
        self._again.append(job.spec)
        return RunRetried(job.spec, Attempt(result.outcome, result.reason), len(job.attempts) + 1)

    def _ended(self, one: _UnderWay, result: RunResult | None, outcome: Outcome, reason: str) -> RunResult:
        """What the run's directory says, once it has the end that its process could not give it.

        When that was, the clock that never goes back tells.
        """
        directory = self.paths.run(one.job.name)
        wait_until_let_go(directory)
        with writing(directory):
            if result is None:
                self._end_unbegun(one.job, outcome, reason)
            else:
                end_left_run(directory, outcome, reason, now=result.started + time.monotonic() - one.since)
        result = self._read(one.job.name)
        assert result is not None
        return result

    def _end_unbegun(self, job: Job, outcome: Outcome, reason: str) -> None:
        """Log a run that its process had not begun to log."""
        directory, trial = self.paths.run(job.name), job.spec.trial
        for file in event_files(directory):
            disk.remove(file)
        run = Run(directory, job.name, trial.hparams, trial=trial.id, experiment=self.plan.domain.experiment)
        if job.attempts:
            run.text(ATTEMPTS_TAG, attempts_markdown(job.attempts), step=0)
        (directory / OUTPUT_LOG).touch()  # it is the sweep's own
        run.finish({}, outcome, reason)

    def _read(self, name: str) -> RunResult | None:
        return read_run(self.paths.run(name), name, self.declared)

    def _unsaved(self, job: Job, result: RunResult | None, why: str) -> UnsavedError:
        """The error that ends the sweep. A run of which it is not known what the disk holds is no run."""
        if result is not None and result.ended is not None:
            for file in event_files(self.paths.run(job.name)):
                disk.remove(file)
        plain = why.removesuffix(": what was logged is kept and tried again").removesuffix(", and start again")
        return UnsavedError(f"{plain}, and the same command goes on")

    def _learn(self, result: RunResult) -> None:
        """Let the strategy see a result."""
        self.results.append(TrialResult(result.trial_id, result.hparams, (result,)))


def _in_seconds(seconds: float) -> str:
    return f"{seconds:g} s" if seconds < 60 else in_units(seconds)
