"""Executors: where runs are trained.

An executor takes jobs (one run each) and gives back how each ended. The job logs into its own event file; over one
channel, owned by the executor, it reports (step, metrics) while it goes on. What a run achieved is not said here: it is
read from its files.

    executor.describe(source)          what a domain module declares, imported where the runs will be
    executor.start(setup, on_report)   get ready; raise what keeps any run from starting
    executor.submit(job)               begin a job; at most `slots` at once
    executor.wait(seconds)             the jobs that ended; reports go to `on_report` meanwhile
    executor.cancel(name)              stop a job: ask, then kill; `wait` tells its end
    executor.stop()                    kill what is still running and clean up
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from hparams_lab.errors import UsageError
from hparams_lab.executors.job import Ended, Job, Setup

if TYPE_CHECKING:
    from hparams_lab.domain import Description

OnReport = Callable[[str, int, Mapping[str, float]], None]
NAMES = ("process", "inline", "ray")

__all__ = ["NAMES", "Ended", "Executor", "Job", "OnReport", "Resources", "Setup", "executor_of", "make_executor"]


class Executor(Protocol):
    """Where runs are trained.

    Attributes:
      slots: so many jobs may be under way at once.
      trains_here: whether runs train in this process, where nothing stops them but an exception.
      hold: a descriptor that all processes of the sweep are to keep, if there is one; set before `start`.
      notes: what is worth knowing of how it trains, each in a line; who tells them takes them out.
    """

    slots: int
    trains_here: bool
    hold: int | None
    notes: list[str]

    def describe(self, source: str) -> Description:
        """What a domain module declares, imported where the runs will be. Raises DomainLoadError."""

    def start(self, setup: Setup, on_report: OnReport) -> None:
        """Get ready. Raises what keeps any run from starting: a domain that does not load, data that are missing."""

    def submit(self, job: Job) -> None:
        """Begin a job. At most `slots` are under way at once."""

    def wait(self, seconds: float) -> list[Ended]:
        """The jobs that ended, waiting at most so long for the first."""

    def cancel(self, name: str) -> None:
        """Stop a job: SIGTERM, and SIGKILL for all its processes when that is not enough. `wait` tells its end."""

    def stop(self) -> None:
        """Kill what is still running and clean up."""


@dataclass(frozen=True, slots=True)
class Resources:
    """What runs may use.

    Attributes:
      workers: runs at the same time; what the machine has when None.
      gpus: "all", "none" or indices ("0,1"); all that there are when None.
      runs_per_gpu: runs that share a GPU.
      memory: bytes that each run may take; no limit when None.
      ray_address: "host:port" of a Ray cluster, or "auto"; Ray is started on this machine when None.
      cpus_per_run: CPU cores, and so threads, of each run; 1 when None. What a framework computes on CPU depends on
        it in the last digits, and not on `workers`.
    """

    workers: int | None = None
    gpus: str | None = None
    runs_per_gpu: int = 1
    memory: int | None = None
    ray_address: str | None = None
    cpus_per_run: float | None = None


Asked = Callable[[], bool]
"""Whether somebody asked to stop: what takes long looks now and then, and raises KeyboardInterrupt."""


def _nobody() -> bool:
    return False


def default_workers() -> int:
    """As many as there are cores for this process."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextlib.contextmanager
def executor_of(
    name: str | None = None, resources: Resources | None = None, asked_to_stop: Asked = _nobody
) -> Iterator[Executor]:
    """`make_executor`, stopped at the end whatever happens."""
    executor = make_executor(name, resources, asked_to_stop)
    try:
        yield executor
    finally:
        executor.stop()


def make_executor(
    name: str | None = None, resources: Resources | None = None, asked_to_stop: Asked = _nobody
) -> Executor:
    """The executor of that name: "process" (the default where the system can fork), "inline" or "ray".

    Raises UsageError for an unknown name or resources that do not fit, MissingExtraError without Ray.
    """
    resources = resources or Resources()
    if resources.ray_address is not None and name != "ray":
        raise UsageError("--ray-address needs --executor ray; add it, or leave the address out")
    name = name or ("process" if hasattr(os, "fork") else "inline")
    if name == "inline":
        from hparams_lab.executors.inline import InlineExecutor

        return InlineExecutor(resources)
    if name == "process":
        from hparams_lab.executors.process import ProcessExecutor

        return ProcessExecutor(resources, asked_to_stop)
    if name == "ray":
        from hparams_lab.executors.ray import RayExecutor

        return RayExecutor(resources, asked_to_stop)
    raise UsageError(f"there is no executor {name!r}; there are {', '.join(NAMES)}")
