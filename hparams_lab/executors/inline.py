"""`InlineExecutor`: runs in this process, one after the other. For debugging, small functions and systems without fork.

What a run prints goes into its output.log, as under every executor.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from hparams_lab.core.errors import UnsavedError, UsageError
from hparams_lab.executors.devices import check_numbers, threads_environment
from hparams_lab.executors.job import check, perform
from hparams_lab.executors.protocol import Ended, Job, OnReport, Resources, Setup
from hparams_lab.storage.paths import OUTPUT_LOG
from hparams_lab.targets.load import Description, describe
from hparams_lab.targets.protocol import Train


class InlineExecutor:
    """Trains in `wait`, so that the caller sees a job begin before it is under way."""

    slots = 1
    trains_here = True

    def __init__(self, resources: Resources) -> None:
        check_numbers(resources)
        shared = resources.runs_per_gpu if resources.runs_per_gpu > 1 else None
        for option, said in (("--memory", resources.memory), ("--gpus", resources.gpus), ("--runs-per-gpu", shared)):
            if said is not None:
                raise UsageError(f"{option} needs a process per run, and this is the inline executor; leave one out")
        # as everywhere: what a framework computes depends on how many threads it has
        self._threads = threads_environment(max(1, int(resources.cpus_per_run or 1)))
        os.environ.update(self._threads)
        self.hold: int | None = None
        self.notes: list[str] = []
        self._jobs: list[Job] = []

    def describe(self, source: str) -> Description:
        """What a domain module declares."""
        return describe(source)

    def start(self, setup: Setup, on_report: OnReport) -> None:
        """Load the train function and check that it can train."""
        self._setup, self._on_report = setup, on_report
        self._train: Train = setup.target.load()
        check(self._train)

    def submit(self, job: Job) -> None:
        """Keep the job for `wait`."""
        self._jobs.append(job)

    def wait(self, seconds: float) -> list[Ended]:
        """Train what was submitted."""
        jobs, self._jobs = self._jobs, []
        return [self._perform(job) for job in jobs]

    def cancel(self, name: str) -> None:
        """A job that was not begun is forgotten; one that is under way goes on: it is this process."""
        self._jobs = [job for job in self._jobs if job.name != name]

    def stop(self) -> None:
        """Forget what was not begun, and have the caller's environment as it was."""
        self._jobs.clear()
        for name, value in self._threads.items():
            if os.environ.get(name) == value:  # else a run set another
                del os.environ[name]
        self._threads = {}

    def _perform(self, job: Job) -> Ended:
        with _captured(job.directory / OUTPUT_LOG), _back_to(os.getcwd()):
            try:
                perform(self._train, self._setup, job, lambda step, metrics: self._on_report(job.name, step, metrics))
            except UnsavedError as error:
                return Ended(job.name, unsaved=str(error))
        return Ended(job.name)


@contextlib.contextmanager
def _back_to(directory: str) -> Iterator[None]:
    """Have the working directory again, wherever a run went."""
    try:
        yield
    finally:
        os.chdir(directory)


@contextlib.contextmanager
def _captured(path: Path) -> Iterator[None]:
    with (
        open(path, "a", encoding="utf-8", errors="backslashreplace", buffering=1) as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        yield
