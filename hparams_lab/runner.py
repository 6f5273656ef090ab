"""The runner: strategy -> trials -> runs -> executor -> results, in one log directory.

`sweep` is the machine: a generator of events. `run_sweep` drives it for a library's user and gives back the `Results`.
What was done before, by the files in the directory, is skipped; everything the runner tells about a run it has read
back from that run's own files.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hparams_lab.declared import Declared
from hparams_lab.domain import Domain, function_domain, load_domain
from hparams_lab.ending import end_left_run
from hparams_lab.errors import MissingMetricError, UsageError
from hparams_lab.events.logdir import read
from hparams_lab.events.reader import event_files, read_run
from hparams_lab.executors import Executor, Job, Setup, executor_of
from hparams_lab.executors.job import Ended, Train, missing_metric
from hparams_lab.experiment import Experiment
from hparams_lab.locks import is_held
from hparams_lab.logger import Run
from hparams_lab.paths import LogDirPaths, writing
from hparams_lab.plan import Plan
from hparams_lab.provenance import provenance_markdown
from hparams_lab.results import Outcome, Results, RunResult, TrialResult
from hparams_lab.sweep_dir import check_directory, done_runs, prepare
from hparams_lab.sweep_events import (
    Observer,
    RunEnded,
    RunReported,
    RunStarted,
    SweepEnded,
    SweepEvent,
    SweepStarted,
    SweepStopping,
)
from hparams_lab.trial import RunSpec

POLL_SECONDS = 0.25
LET_GO_SECONDS = 5.0


def run_sweep(
    domain: Domain | Experiment | str,
    train: Train | None = None,
    *,
    logdir: str | os.PathLike[str],
    strategy: str = "grid",
    points: int = 2,
    trials: int | None = None,
    seed: int = 0,
    workers: int | None = None,
    executor: str | None = None,
    fresh: bool = False,
    retry_failed: bool = False,
    observe: Observer | None = None,
) -> Results:
    """Sweep a space and read back the results. The same call again goes on where it stopped.

    Args:
      domain: an `Experiment` (with `train`), or a domain: "digits", a module's name, a `.py` file.
      train: a function of a `Run` that trains, logs and returns the final metrics.
      logdir: the sweep's directory, its only database. It holds one sweep.
      strategy: "grid" (every value of a `Discrete`, `points` of an interval) or "random".
      points: values per interval in a grid; 2 are its ends.
      trials: at most so many.
      seed: fixes the trials, and the random numbers of each run.
      workers: runs at the same time; the number of cores when left out.
      executor: "process" (each run in its own) or "inline" (in this one, one after the other).
      fresh: move what is in `logdir` aside first; nothing is deleted.
      retry_failed: run the failed and crashed ones again.
      observe: called with every `SweepEvent`; progress on a terminal when left out.

    Raises UsageError, DomainLoadError, DataError or LogDirError before anything is trained or written, and
    MissingMetricError when the train function leaves out a declared metric.
    """
    results = None
    with executor_of(executor, workers) as where, _observer(observe) as tell:
        plan = Plan(_as_domain(domain, train, where), strategy, points, trials, seed)
        for event in sweep(plan, Path(logdir), where, fresh=fresh, retry_failed=retry_failed):
            tell(event)
            results = event.results if isinstance(event, SweepEnded) else results
    assert results is not None
    return results


def _as_domain(domain: Domain | Experiment | str, train: Train | None, executor: Executor) -> Domain:
    if isinstance(domain, Experiment):
        if train is None:
            raise UsageError("an Experiment needs a train function: run_sweep(experiment, train, logdir=...)")
        return function_domain(domain, train)
    if train is not None:
        raise UsageError(
            "a domain has its own train function; give run_sweep either an Experiment and train, or a domain"
        )
    return load_domain(domain, describe=executor.describe) if isinstance(domain, str) else domain


def _observer(observe: Observer | None) -> contextlib.AbstractContextManager[Observer]:
    if observe is not None:
        return contextlib.nullcontext(observe)
    from hparams_lab.progress import progress

    return progress()


def sweep(
    plan: Plan, logdir: Path, executor: Executor, *, fresh: bool = False, retry_failed: bool = False
) -> Iterator[SweepEvent]:
    """Do what is planned and not done yet, event by event. See `run_sweep` for the arguments and errors.

    Whoever made the executor stops it, when the events are at their end or an error came.
    """
    paths = LogDirPaths(logdir)
    began = time.monotonic()
    check_directory(paths, plan, fresh)
    if next(plan.suggestions([]), None) is None:
        raise UsageError("the strategy has no trial: every point of the space breaks a constraint")
    done = {} if fresh else done_runs(paths, plan.domain.experiment, retry_failed)
    state = _State(plan, paths, executor, done)
    with _quiet_interrupts() as interrupts:
        if state.has_work():
            executor.start(
                Setup(plan.domain.target, state.bare_experiment(), provenance_markdown(installed=True)), state.report
            )
        prepare(paths, plan, fresh)
        yield SweepStarted(logdir, plan.size, tuple(done.values()), plan.domain.experiment)
        yield from state.run(interrupts)
    results = Results.of(plan.domain.experiment, read(logdir).runs)
    yield SweepEnded(results, time.monotonic() - began, bool(interrupts))


@dataclass
class _State:
    """A sweep under way."""

    plan: Plan
    paths: LogDirPaths
    executor: Executor
    done: dict[str, RunResult]
    results: list[TrialResult] = field(default_factory=list)
    reports: list[RunReported] = field(default_factory=list)
    running: dict[str, Job] = field(default_factory=dict)

    @functools.cached_property
    def declared(self) -> Declared:
        """What the runs are read back by."""
        return Declared.of(self.plan.domain.experiment)

    def has_work(self) -> bool:
        """Whether any trial is not done."""
        return next(self._to_do(), None) is not None

    def bare_experiment(self) -> Experiment:
        """The experiment without its constraints, which are functions and may not travel."""
        return Experiment.from_json(self.plan.domain.experiment.to_json())

    def report(self, name: str, step: int, metrics: Mapping[str, float]) -> None:
        """Keep what a run said until the next event is asked for."""
        self.reports.append(RunReported(name, step, metrics))

    def run(self, interrupts: list[int]) -> Iterator[SweepEvent]:
        """Fill the slots, wait, tell; after an interrupt only wait for what is running."""
        left = self._to_do()
        exhausted = told = False
        while self.running or not (exhausted or interrupts):
            while len(self.running) < self.executor.slots and not (exhausted or interrupts):
                spec = next(left, None)
                if spec is None:
                    exhausted = True
                else:
                    self._submit(spec)
                    yield RunStarted(spec)
            if interrupts and not told:
                told = True
                yield SweepStopping(tuple(self.running))
            ended = self.executor.wait(POLL_SECONDS)
            yield from self._reported()
            for one in ended:
                yield self._finish(one)

    def _to_do(self) -> Iterator[RunSpec]:
        for trial in self.plan.suggestions(self.results):
            spec = RunSpec.of(trial, self.plan.seed)
            if spec.name not in self.done:
                yield spec

    def _submit(self, spec: RunSpec) -> None:
        directory = self.paths.run(spec.name)
        with writing(self.paths.root):
            if directory.exists():  # an attempt that did not end, or one to be tried again
                shutil.rmtree(directory)
            directory.mkdir()
        job = Job(spec, directory)
        self.running[spec.name] = job
        self.executor.submit(job)

    def _reported(self) -> Iterator[RunReported]:
        reports, self.reports = self.reports, []
        yield from reports

    def _finish(self, ended: Ended) -> RunEnded:
        job = self.running.pop(ended.name)
        result = self._result(job, ended.death or "its process ended without a word")
        self.results.append(TrialResult(result.trial_id, result.hparams, (result,)))
        if said := missing_metric(result):
            raise MissingMetricError(said)
        return RunEnded(result)

    def _result(self, job: Job, death: str) -> RunResult:
        """What the run's directory says, after giving it an end if its process could not."""
        experiment = self.plan.domain.experiment
        result = read_run(job.directory, job.name, self.declared)
        if result is not None and result.ended is not None:
            return result
        if result is None:  # not even begun
            trial = job.spec.trial
            Run(job.directory, job.name, trial.hparams, trial=trial.id, experiment=experiment).finish(
                {}, Outcome.CRASHED, death
            )
        else:
            _wait_until_let_go(event_files(job.directory)[-1])
            end_left_run(job.directory, Outcome.CRASHED, death)
        result = read_run(job.directory, job.name, self.declared)
        assert result is not None
        return result


def _wait_until_let_go(file: Path) -> None:
    """Wait for the last of a run's processes, which was killed a moment ago, to be gone."""
    end = time.monotonic() + LET_GO_SECONDS
    while is_held(file) and time.monotonic() < end:
        time.sleep(0.01)


@contextlib.contextmanager
def _quiet_interrupts() -> Iterator[list[int]]:
    """A list that grows with each Ctrl-C. The first lets what is running finish; the second raises."""
    interrupts: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return

    def note(number: int, frame: object) -> None:
        interrupts.append(number)
        if len(interrupts) > 1:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, note)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, before)
