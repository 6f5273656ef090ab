"""What happens in a sweep, event by event, for whoever shows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from hparams_lab.core.results import Results, RunResult
from hparams_lab.core.trial import RunSpec

if TYPE_CHECKING:
    from hparams_lab.core.experiment import Experiment
    from hparams_lab.run.attempts import Attempt


@dataclass(frozen=True, slots=True)
class SweepStarted:
    """The directory is ready. `total` runs are asked for (None: not known before), `done` were done before."""

    logdir: Path
    total: int | None
    done: tuple[RunResult, ...]
    experiment: Experiment


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A run was handed to the executor."""

    spec: RunSpec


@dataclass(frozen=True, slots=True)
class RunReported:
    """A run logged something."""

    name: str
    step: int
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class RunEnded:
    """A run is over, and this is what its directory says."""

    result: RunResult


@dataclass(frozen=True, slots=True)
class RunRetried:
    """An attempt of a run crashed or was lost, and the run is done again; the attempts are counted from 1.

    `attempt` is the one that is over, `number` its number. `RunStarted` follows when the next one begins.
    """

    spec: RunSpec
    attempt: Attempt
    number: int


@dataclass(frozen=True, slots=True)
class SweepNote:
    """Something worth knowing that no other event tells, in one line. It may come before the sweep starts."""

    text: str


@dataclass(frozen=True, slots=True)
class PictureStarted:
    """All runs are over, and the model of the best, of that name, is asked about some test images."""

    name: str


@dataclass(frozen=True, slots=True)
class SweepStopping:
    """The sweep was told to stop, by the signal of that name: nothing new is begun.

    The `running` runs may finish, unless they are stopped `at_once`.
    """

    running: tuple[str, ...]
    signal_name: str = "SIGINT"
    at_once: bool = False


@dataclass(frozen=True, slots=True)
class SweepEnded:
    """Nothing is left to do, or the sweep was told to stop: by the signal of that number, 0 for none.

    `pictured` is the best run where it has a picture of its predictions.
    """

    results: Results
    seconds: float
    interrupted: bool
    signal: int = 0
    pictured: str | None = None


SweepEvent: TypeAlias = (
    SweepStarted
    | RunStarted
    | RunReported
    | RunEnded
    | RunRetried
    | SweepNote
    | PictureStarted
    | SweepStopping
    | SweepEnded
)
Observer = Callable[[SweepEvent], None]
