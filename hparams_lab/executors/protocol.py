"""What a runner and an executor say to each other: `Executor`, `Resources`, `Setup`, `Job` and `Ended`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from hparams_lab.core.experiment import Experiment
from hparams_lab.core.outcome import Outcome
from hparams_lab.core.trial import RunSpec
from hparams_lab.run.attempts import Attempt
from hparams_lab.targets.protocol import Target

if TYPE_CHECKING:
    from hparams_lab.targets.load import Description

OnReport = Callable[[str, int, Mapping[str, float]], None]
Report = Callable[[int, Mapping[str, float]], None]


@dataclass(frozen=True, slots=True)
class Setup:
    """What all jobs of a sweep share."""

    target: Target
    experiment: Experiment
    provenance: str = ""  # Markdown: where the sweep came from


@dataclass(frozen=True, slots=True)
class Job:
    """One run to do, in a directory that exists and has no event file."""

    spec: RunSpec
    directory: Path
    attempts: tuple[Attempt, ...] = ()

    @property
    def name(self) -> str:
        """The run's name."""
        return self.spec.name


@dataclass(frozen=True, slots=True)
class Ended:
    """A job that is over. What is said here counts only for a run whose process left it without an end.

    Attributes:
      name: the run's name.
      death: how its process died; empty when it ended by itself.
      outcome: what such a run is: crashed, or out of memory.
      lost: whether it died with what carried it (its server, its node), so that it is to be run again.
      unsaved: why it could not be written, as on a full disk; empty when it could.
    """

    name: str
    death: str = ""
    outcome: Outcome = Outcome.CRASHED
    lost: bool = False
    unsaved: str = ""


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


def default_workers() -> int:
    """As many as there are cores for this process."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
