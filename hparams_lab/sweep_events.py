"""What happens in a sweep, event by event, for whoever shows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from hparams_lab.experiment import Experiment
from hparams_lab.results import Results, RunResult
from hparams_lab.trial import RunSpec


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
class SweepStopping:
    """Ctrl-C was pressed: nothing new is begun, and the `running` runs may finish."""

    running: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SweepEnded:
    """Nothing is left to do, or the sweep was told to stop."""

    results: Results
    seconds: float
    interrupted: bool


SweepEvent: TypeAlias = SweepStarted | RunStarted | RunReported | RunEnded | SweepStopping | SweepEnded
Observer = Callable[[SweepEvent], None]
