"""The runner: strategy -> trials -> runs -> executor -> results, in one log directory.

`sweep` is the machine: a generator of events. `run_sweep` drives it for a library's user and gives back the `Results`.
What was done before, by the files in the directory, is skipped (`resume`); everything the runner tells about a run it
has read back from that run's own files (`scheduler`).
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

from hparams_lab.core.errors import LogDirError, UsageError
from hparams_lab.core.experiment import Experiment
from hparams_lab.core.results import Results, RunResult
from hparams_lab.executors import Executor, Resources, Setup, executor_of
from hparams_lab.executors.limits import checked_bytes, checked_seconds
from hparams_lab.logdir.reader import read
from hparams_lab.run.provenance import provenance_markdown
from hparams_lab.storage.ownership import LOCK, Ownership, owned
from hparams_lab.storage.paths import LogDirPaths, local
from hparams_lab.sweep.directory import check_directory, check_in_advance, prepare, source_note
from hparams_lab.sweep.events import Observer, SweepEnded, SweepEvent, SweepNote, SweepStarted
from hparams_lab.sweep.plan import Plan
from hparams_lab.sweep.progress.output import occupy_standard_descriptors
from hparams_lab.sweep.resume import KEPT, Found, scan
from hparams_lab.sweep.scheduler import SweepLoop
from hparams_lab.sweep.signals import StopRequests, stop_requests
from hparams_lab.sweep.to_do import done_of
from hparams_lab.targets.load import Domain, function_domain, load_domain
from hparams_lab.targets.protocol import Train

After = Callable[[Plan, Results, StopRequests], Generator[SweepEvent, None, str | None]]
"""What a domain does with the results while the directory is still owned: the run that it added to, or None."""


@dataclass(frozen=True, slots=True)
class Handling:
    """How a sweep treats its runs and its directory; see `run_sweep`."""

    timeout: float | None = None
    retries: int = 0
    fresh: bool = False
    extend: bool = False
    retry_failed: bool = False
    lock: bool = True

    def __post_init__(self) -> None:
        if self.retries < 0:
            raise UsageError(f"--retries is {self.retries}; wanted 0 or more")
        if self.fresh and self.extend:
            raise UsageError("--fresh and --extend are both given; extend what is there, or begin afresh")


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
    timeout: float | str | None = None,
    memory: int | str | None = None,
    retries: int = 0,
    gpus: str | None = None,
    runs_per_gpu: int = 1,
    ray_address: str | None = None,
    cpus_per_run: float | None = None,
    fresh: bool = False,
    extend: bool = False,
    retry_failed: bool = False,
    lock: bool = True,
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
      workers: runs at the same time; what the machine has room for when left out.
      executor: "process" (each run in its own), "inline" (in this one, one after the other) or "ray".
      timeout: seconds that a run may take, or "5m"; then it is stopped.
      memory: bytes that a run may take, or "2GB"; one that wants more is killed.
      retries: how often a run whose process died is tried again. An exception is not: it would come again.
      gpus: "all", "none" or indices ("0,1"); each run sees one. All that there are when left out.
      runs_per_gpu: runs that share a GPU.
      ray_address: a Ray cluster's "host:port", or "auto"; Ray is started on this machine when left out.
      cpus_per_run: CPU cores, and so threads, of each run; 1 when left out. On a GPU the cores are divided.
      fresh: move what is in `logdir` aside first; nothing is deleted.
      extend: add hparams, values or trials to the sweep that `logdir` holds.
      retry_failed: run those again that failed, crashed, timed out or ran out of memory.
      lock: False on a file system without locks, where nobody else works in `logdir`.
      observe: called with every `SweepEvent`; progress on a terminal when left out.

    Ctrl-C once lets what is running finish, twice stops it (KeyboardInterrupt); SIGTERM and SIGHUP stop at once, and
    are then sent to the program again, as it was prepared for them.

    Raises UsageError, DomainLoadError, DataError or LogDirError before anything is trained or written, OwnedError while
    another runner works in `logdir`, UnsavedError when its disk is full, and MissingMetricError when the train function
    leaves out a declared metric.
    """
    _check_is_a_program()
    occupy_standard_descriptors()
    root = local(logdir)
    seconds = None if timeout is None else checked_seconds(timeout)
    handling = Handling(seconds, retries, fresh, extend, retry_failed, lock)
    size = checked_bytes(memory) if memory is not None else None
    resources = Resources(workers, gpus, runs_per_gpu, size, ray_address, cpus_per_run)
    results = None
    with (
        stop_requests() as stop,
        contextlib.suppress(KeyboardInterrupt),
        executor_of(executor, resources, stop.asked) as where,
        _observer(observe) as tell,
    ):
        check_handling(where, handling)
        with stop.getting_ready(where.trains_here):
            plan = Plan(_as_domain(domain, train, where), strategy, points, trials, seed)
        for event in sweep(plan, root, where, handling, stop):
            tell(event)
            results = event.results if isinstance(event, SweepEnded) else results
    if results is None or stop.at_once:  # as the program was prepared for it
        signal.raise_signal(stop.signal or signal.SIGINT)
    if results is None:
        raise KeyboardInterrupt
    return results


def _check_is_a_program() -> None:
    """Raise where a process that was spawned only imports the program: it would begin the sweep again."""
    processes = sys.modules.get("multiprocessing.process")
    if processes is not None and getattr(processes.current_process(), "_inheriting", False):
        raise UsageError(
            "run_sweep is called while a process of a run imports this program; put the call under "
            "if __name__ == '__main__':"
        )


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
    from hparams_lab.sweep.progress import progress

    return progress()


def sweep(
    plan: Plan,
    logdir: Path,
    executor: Executor,
    handling: Handling | None = None,
    stop: StopRequests | None = None,
) -> Iterator[SweepEvent]:
    """Do what is planned and not done yet, event by event. See `run_sweep` for the errors.

    The caller stops the executor, at the last event or after an error.
    """
    handling, stop = handling or Handling(), stop or StopRequests()
    paths = LogDirPaths(logdir)
    began = time.monotonic()
    check_handling(executor, handling)
    _check_trials(plan)
    try:
        check_directory(paths, plan, handling.fresh, handling.extend)
    except LogDirError:
        check_in_advance(logdir)  # another runner may be writing what is not whole yet
        raise
    with owned(logdir, handling.lock) as ownership:
        check_directory(paths, plan, handling.fresh, handling.extend)  # nobody changes it now
        was_killed = handling.lock and (logdir / LOCK).exists() and (logdir / LOCK).stat().st_size > 0
        if paths.sweep_json.exists():
            ownership.announce()
        found = Found()
        if not handling.fresh:
            found = scan(paths, plan.domain.experiment, handling.retry_failed, handling.retries, was_killed)
        yield from _notes(paths, plan, found, handling)
        loop = SweepLoop(plan, paths, executor, found, stop, handling.timeout, handling.retries)
        if loop.has_work():
            with stop.getting_ready(executor.trains_here):
                _start(loop, ownership)
        ownership.announce()
        aside = prepare(paths, plan, handling.fresh, handling.extend, found.others)
        if aside is not None:
            yield SweepNote(f"what {logdir} held is in {aside} now")
        yield SweepStarted(logdir, plan.size, done_of(plan, found), plan.domain.experiment)
        yield from loop.run()
        executor.stop()  # before others may own the directory
        results = Results.of(plan.domain.experiment, _read(logdir))
        seconds = time.monotonic() - began
        pictured = (yield from _after(plan.domain)(plan, results, stop)) if plan.domain.after else None
    yield SweepEnded(results, seconds, stop.asked(), stop.signal, pictured)


def check_handling(executor: Executor, handling: Handling) -> None:
    """Refuse what the executor cannot do. Raises UsageError."""
    if handling.timeout is not None and executor.trains_here:
        raise UsageError("--timeout needs a process per run: a run in this process cannot be stopped; leave one out")


def _check_trials(plan: Plan) -> None:
    """Refuse a plan that has none. Raises UsageError."""
    if next(plan.suggestions([]), None) is None:
        why = "every point of the space breaks a constraint"
        if next(plan.drawn([]), plan) is None:
            why = "it waits for a result before its first trial"
        raise UsageError(f"the strategy has no trial: {why}")


def _notes(paths: LogDirPaths, plan: Plan, found: Found, handling: Handling) -> Iterator[SweepNote]:
    if not handling.fresh and (note := source_note(paths, plan)):
        yield SweepNote(note)
    for name in found.damaged:
        yield SweepNote(
            f"{name} is damaged where it says what it is a run of; it is kept as {name}/{KEPT}1 and done again"
        )
    if found.ended:
        several = f"{len(found.ended)} runs that an earlier runner left are" if len(found.ended) > 1 else ""
        yield SweepNote(f"{several or f'{found.ended[0]}, which an earlier runner left, is'} done again")


def _start(loop: SweepLoop, ownership: Ownership) -> None:
    """Have the executor get ready."""
    experiment = loop.plan.domain.experiment
    bare = Experiment.from_json(experiment.to_json())  # constraints are functions, and may not travel
    loop.executor.hold = ownership.runs_fd
    setup = Setup(loop.plan.domain.target, bare, provenance_markdown(installed=True))
    loop.executor.start(setup, loop.report)


def _after(domain: Domain) -> After:
    module, _, name = (domain.after or "").partition(":")
    after: After = getattr(importlib.import_module(module), name)
    return after


def _read(logdir: Path) -> tuple[RunResult, ...]:
    try:
        return read(logdir).runs
    except LogDirError:  # nothing was begun
        return ()
