"""What came of it: `RunResult`, `TrialResult`, `Results`, and the ranking of trials.

These are facts read back from event files; the runner yields the same types live.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from hparams_lab.errors import UsageError
from hparams_lab.scalar import Goal, goal_of_tag
from hparams_lab.trial import HParams

if TYPE_CHECKING:
    from hparams_lab.experiment import Experiment


class Outcome(str, enum.Enum):
    """How a run stands or ended."""

    COMPLETED = "completed"  # ended by itself, with a finite objective
    DIVERGED = "diverged"  # ended by itself, the objective NaN or infinite
    FAILED = "failed"  # the train function raised
    CRASHED = "crashed"  # the process died
    PRUNED = "pruned"  # stopped early because it was not worth going on
    INTERRUPTED = "interrupted"  # stopped from outside, or left without an end
    RUNNING = "running"  # a process holds its event file

    def __str__(self) -> str:
        return self.value


class Scalars(NamedTuple):
    """The points of one tag in the order of writing: three arrays of one length."""

    steps: NDArray[np.int64]
    wall_times: NDArray[np.float64]  # seconds since 1970
    values: NDArray[np.float64]


NO_SCALARS = Scalars(np.empty(0, np.int64), np.empty(0, np.float64), np.empty(0, np.float64))


@dataclass(frozen=True, slots=True)
class RunResult:
    """One run as its directory tells it.

    `metrics` holds the last value of every tag; `started` and `ended` are seconds since 1970, `ended` None while there
    is no end; `reason` says in one line why a run did not complete, empty otherwise; `texts` are the texts by tag.
    """

    name: str
    dir: Path
    trial_id: str
    hparams: HParams
    outcome: Outcome
    reason: str
    started: float
    ended: float | None
    metrics: Mapping[str, float]
    columns: Mapping[str, Scalars] = field(default_factory=dict, compare=False, repr=False)
    texts: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    def scalars(self, tag: str) -> Scalars:
        """The points of a tag; three empty arrays when it was never logged."""
        return self.columns.get(tag, NO_SCALARS)

    @property
    def seconds(self) -> float | None:
        """How long the run took; None without an end."""
        return None if self.ended is None else max(0.0, self.ended - self.started)

    @property
    def is_over(self) -> bool:
        """Whether the run has an end on disk."""
        return self.outcome not in (Outcome.RUNNING, Outcome.INTERRUPTED)


# Of a trial's runs, the one that says most about it comes first.
_WORST_FIRST = tuple(
    Outcome[name] for name in ["RUNNING", "CRASHED", "FAILED", "DIVERGED", "INTERRUPTED", "PRUNED", "COMPLETED"]
)


@dataclass(frozen=True, slots=True)
class TrialResult:
    """A trial and its runs."""

    id: str
    hparams: HParams
    runs: tuple[RunResult, ...]

    @property
    def name(self) -> str:
        """The name of its first run, which is what a person looks for on disk."""
        return self.runs[0].name

    @property
    def outcome(self) -> Outcome:
        """COMPLETED when every run is, else the gravest of its runs' outcomes."""
        return min((run.outcome for run in self.runs), key=_WORST_FIRST.index)

    @property
    def metrics(self) -> dict[str, float]:
        """The mean over the runs of each metric that all of them have."""
        tags = [tag for tag in self.runs[0].metrics if all(tag in run.metrics for run in self.runs)]
        return {tag: sum(run.metrics[tag] for run in self.runs) / len(self.runs) for tag in tags}

    @property
    def seconds(self) -> float | None:
        """The time of its runs together; None while one has no end."""
        times = [run.seconds for run in self.runs]
        return None if None in times else sum(time or 0.0 for time in times)


@dataclass(frozen=True, slots=True)
class Results:
    """The runs of a log directory and the experiment that it declares (None when it declares none)."""

    experiment: Experiment | None
    runs: tuple[RunResult, ...]

    @property
    def trials(self) -> tuple[TrialResult, ...]:
        """The trials, in the order of their first runs."""
        return tuple(group_trials(self.runs))

    def top(self, n: int | None = None, metric: str | None = None, goal: Goal | None = None) -> list[TrialResult]:
        """The trials by rank: completed ones by the metric, then the others in order.

        Args:
          n: at most so many; None for all.
          metric: a tag; the objective when left out.
          goal: "max" or "min"; the metric's own when left out.

        Raises UsageError for a metric that no run logged, or whose direction is not known.
        """
        tag = metric or self.objective
        known = {known for run in self.runs for known in run.metrics}
        if self.runs and metric is not None and metric not in known:
            raise UsageError(f"no run logged the metric {metric!r}; there are {', '.join(sorted(known)) or 'none'}")
        return rank(self.trials, tag, goal or self._goal(tag))[:n]

    def best(self, metric: str | None = None, goal: Goal | None = None) -> TrialResult | None:
        """The best completed trial; None without one."""
        first = self.top(1, metric, goal)
        return first[0] if first and is_ranked(first[0], metric or self.objective) else None

    def __iter__(self) -> Iterator[TrialResult]:
        return iter(self.trials)

    def __len__(self) -> int:
        return len(self.trials)

    @property
    def objective(self) -> str:
        """The tag that trials are ranked by: the declared objective, else a metric whose direction its name tells.

        Raises UsageError when there is none.
        """
        if self.experiment is not None:
            return self.experiment.objective
        logged = dict.fromkeys(tag for run in self.runs for tag in run.metrics)
        telling = [tag for tag in logged if goal_of_tag(tag)]
        if not telling:
            raise UsageError(
                f"no objective is declared; name the metric to rank by: {', '.join(logged) or 'none logged'}"
            )
        return telling[0]

    def _goal(self, tag: str) -> Goal:
        declared = [metric.goal for metric in self.experiment.metrics if metric.tag == tag] if self.experiment else []
        goal = (declared[0] if declared else None) or goal_of_tag(tag)
        if goal is None:
            raise UsageError(f"whether more or less of {tag!r} is better is not declared; say goal='max' or goal='min'")
        return goal


def group_trials(runs: Iterable[RunResult]) -> Iterator[TrialResult]:
    """Runs of the same trial id together, in the order of their first."""
    groups: dict[str, list[RunResult]] = {}
    for run in runs:
        groups.setdefault(run.trial_id, []).append(run)
    for trial_id, members in groups.items():
        yield TrialResult(trial_id, members[0].hparams, tuple(members))


def is_ranked(trial: TrialResult, tag: str) -> bool:
    """Whether a trial may stand in the order: all runs completed, the metric there and finite."""
    return trial.outcome is Outcome.COMPLETED and math.isfinite(trial.metrics.get(tag, math.nan))


def rank(trials: Sequence[TrialResult], tag: str, goal: Goal) -> list[TrialResult]:
    """The ranked trials, best first (ties keep their order), then the others."""
    ranked = [trial for trial in trials if is_ranked(trial, tag)]
    sign = -1.0 if goal == "max" else 1.0
    ranked.sort(key=lambda trial: sign * trial.metrics[tag])
    return ranked + [trial for trial in trials if not is_ranked(trial, tag)]
