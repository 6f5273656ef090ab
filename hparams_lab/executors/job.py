"""`Job`: one run to do, and `perform`, which does it in whatever process it is called.

The run logs into its own event file and ends it, whatever the train function does; only a death of the process leaves
it without an end.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from hparams_lab.ending import outcome_of
from hparams_lab.errors import MissingMetricError
from hparams_lab.experiment import Experiment
from hparams_lab.logger import Run
from hparams_lab.provenance import PROVENANCE_TAG
from hparams_lab.results import Outcome, RunResult
from hparams_lab.trial import RunSpec

REPORT_SECONDS = 0.1
Report = Callable[[int, Mapping[str, float]], None]
Train = Callable[[Run], Mapping[str, Any] | None]


class Target(Protocol):
    """What is trained, in a form that can go to another process."""

    def load(self) -> Train:
        """The train function. Imports what it needs; raises DomainLoadError."""

    @property
    def preload(self) -> tuple[str, ...]:
        """Modules worth importing once, before processes are forked for the runs."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What all jobs of a sweep share."""

    target: Target
    experiment: Experiment
    provenance: str = ""  # Markdown: where the sweep came from


@dataclass(frozen=True, slots=True)
class Job:
    """One run to do, in a directory that exists."""

    spec: RunSpec
    directory: Path

    @property
    def name(self) -> str:
        """The run's name."""
        return self.spec.name


@dataclass(frozen=True, slots=True)
class Ended:
    """A job that is over. `death` says how its process died; empty when it ended by itself."""

    name: str
    death: str = ""


class _ReportingRun(Run):
    """A run that tells the runner what it logs, some times a second."""

    def __init__(self, *args: Any, report: Report | None, **more: Any) -> None:
        super().__init__(*args, **more)
        self._report = report
        self._next_report = 0.0

    def log(self, metrics: Mapping[str, Any] | str, value: Any = None, step: int | None = None) -> None:
        """As `Run.log`, and report."""
        super().log(metrics, value, step)
        if self._report is not None and time.monotonic() >= self._next_report:
            self._next_report = time.monotonic() + REPORT_SECONDS
            mapping = {metrics: value} if isinstance(metrics, str) else metrics
            self._report(self._step, {tag: float(value) for tag, value in mapping.items()})


def check(train: Train) -> None:
    """Raise what would keep every run from training, such as missing data, where the train function can tell."""
    can_train = getattr(train, "check", None)
    if can_train is not None:
        can_train()


def perform(train: Train, setup: Setup, job: Job, report: Report | None = None) -> None:
    """Train one run and end it: completed, or failed with the traceback as text.

    KeyboardInterrupt is passed on after the run was ended as interrupted; SystemExit counts as a crash.
    """
    seed_everything(job.spec.seed)
    run = _ReportingRun(
        job.directory,
        job.name,
        job.spec.trial.hparams,
        trial=job.spec.trial.id,
        experiment=setup.experiment,
        seed=job.spec.seed,
        report=report,
    )
    try:
        if setup.provenance:
            run.text(PROVENANCE_TAG, setup.provenance, step=0)
        returned = train(run)
        returned = {} if returned is None else returned
        _check_metrics(run, returned, setup.experiment)
        run.finish(returned)
    except BaseException as error:
        outcome, reason, details = outcome_of(error)
        if isinstance(error, SystemExit):
            outcome, reason = Outcome.CRASHED, f"train() left by sys.exit({error.code!r})"
        print(details or reason, file=sys.stderr)
        run.finish({}, outcome, reason, details)
        if outcome is Outcome.INTERRUPTED:
            raise


def missing_metric(result: RunResult) -> str:
    """What `MissingMetricError` said, if it ended the run; empty otherwise. Once `train` is mended it is run again."""
    kind, _, said = result.reason.partition(": ")
    return said if kind == MissingMetricError.__name__ else ""


def seed_everything(seed: int) -> None:
    """Seed Python's and NumPy's global generators; frameworks are seeded by who uses them."""
    random.seed(seed)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(seed)


def _check_metrics(run: Run, returned: Any, experiment: Experiment) -> None:
    if not isinstance(returned, Mapping):
        raise MissingMetricError(
            f"train() returned {type(returned).__name__}; wanted its final metrics as a dict, or nothing"
        )
    had = {*run.metrics, *returned}
    missing = [metric.tag for metric in experiment.metrics if metric.tag not in had]
    if missing:
        raise MissingMetricError(
            f"train() neither returned nor logged the metric {missing[0]!r} "
            f"(it had {', '.join(sorted(had)) or 'none'}); "
            "return it, or take it out of the experiment's metrics"
        )
