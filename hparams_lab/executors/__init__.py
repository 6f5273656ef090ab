"""Executors: where runs are trained.

An executor takes jobs (one run each) and gives back how each ended. The job logs into its own event file; over one
channel, owned by the executor, it reports (step, metrics) while it goes on. What a run achieved is not said here: it is
read from its files.

    executor.describe(source)          what a domain module declares, imported where the runs will be
    executor.start(setup, on_report)   get ready; raise what keeps any run from starting
    executor.submit(job)               begin a job; at most `slots` at once
    executor.wait(seconds)             the jobs that ended; reports go to `on_report` meanwhile
    executor.stop()                    kill what is still running and clean up
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Protocol

from hparams_lab.errors import UsageError
from hparams_lab.executors.job import Ended, Job, Setup

if TYPE_CHECKING:
    from hparams_lab.domain import Description

OnReport = Callable[[str, int, Mapping[str, float]], None]
NAMES = ("process", "inline")

__all__ = ["NAMES", "Ended", "Executor", "Job", "OnReport", "Setup", "executor_of", "make_executor"]


class Executor(Protocol):
    """Where runs are trained."""

    slots: int

    def describe(self, source: str) -> Description:
        """What a domain module declares, imported where the runs will be. Raises DomainLoadError."""

    def start(self, setup: Setup, on_report: OnReport) -> None:
        """Get ready. Raises what keeps any run from starting: a domain that does not load, data that are missing."""

    def submit(self, job: Job) -> None:
        """Begin a job. At most `slots` are under way at once."""

    def wait(self, seconds: float) -> list[Ended]:
        """The jobs that ended, waiting at most so long for the first."""

    def stop(self) -> None:
        """Kill what is still running and clean up."""


def default_workers() -> int:
    """As many as there are cores for this process."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextlib.contextmanager
def executor_of(name: str | None = None, workers: int | None = None) -> Iterator[Executor]:
    """`make_executor`, stopped at the end whatever happens."""
    executor = make_executor(name, workers)
    try:
        yield executor
    finally:
        executor.stop()


def make_executor(name: str | None = None, workers: int | None = None) -> Executor:
    """The executor of that name: "process" (the default where the system can fork) or "inline".

    Raises UsageError for an unknown name or a number of workers below 1.
    """
    if workers is not None and workers < 1:
        raise UsageError(f"--workers is {workers}; wanted at least 1")
    name = name or ("process" if hasattr(os, "fork") else "inline")
    if name == "inline":
        from hparams_lab.executors.inline import InlineExecutor

        return InlineExecutor()
    if name == "process":
        from hparams_lab.executors.process import ProcessExecutor

        return ProcessExecutor(workers or default_workers())
    raise UsageError(f"there is no executor {name!r}; there are {', '.join(NAMES)}")
