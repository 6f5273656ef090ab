"""What came of it: `RunResult`, `TrialResult`, `Results`, and the ranking of trials.

These are facts read back from event files; the runner yields the same types live.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hparams_lab.core.curve import LAST, NO_SCALARS, By
from hparams_lab.core.curve import Scalars as Scalars
from hparams_lab.core.declared import Declared
from hparams_lab.core.direction import goal_of_tag, told_by
from hparams_lab.core.errors import UsageError, nearest
from hparams_lab.core.findings import Finding
from hparams_lab.core.outcome import Outcome
from hparams_lab.core.ranking_metric import Choice, choose, shared_tags
from hparams_lab.core.scalar import Goal, checked_goal, telling
from hparams_lab.core.trial import HParams
from hparams_lab.core.values import Value, short
from hparams_lab.core.varying import varying

if TYPE_CHECKING:
    from hparams_lab.core.experiment import Experiment


CHOSEN = "refit"
"""The metric that is 1 for the trial that a search chose itself and trained again, as scikit-learn's do."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """One run as its directory tells it.

    `metrics` holds the last value of every tag; `started` and `ended` are seconds since 1970, `ended` None while there
    is no end; `reason` says in one line why a run did not complete, empty otherwise; `texts` are the texts by tag.
    `trial_id` is the name of its session group; a run without one is a trial of its own, as TensorBoard has it, and
    its id is made of its name. `is_session` tells whether a session start was logged: a row of TensorBoard's tab.
    `files` are its event files, from its directory, where that holds those of another run too; empty elsewhere.
    """

    name: str
    path: str | Path
    trial_id: str
    hparams: HParams
    outcome: Outcome
    reason: str
    started: float
    ended: float | None
    metrics: Mapping[str, float]
    columns: Mapping[str, Scalars] = field(default_factory=dict, compare=False, repr=False)
    texts: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    sweep: str = ""
    is_session: bool = True
    files: tuple[str, ...] = field(default=(), compare=False, repr=False)

    @property
    def dir(self) -> Path:
        """Its directory."""
        return Path(self.path)

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
        return self.outcome not in (Outcome.RUNNING, Outcome.INTERRUPTED, Outcome.UNKNOWN)

    def value(self, tag: str, by: By, goal: Goal) -> float:
        """The number that a metric of the run is judged by; NaN when it was never logged."""
        if by.rule == "last":
            return self.metrics.get(tag, math.nan)
        return by.value(self.scalars(tag), goal)


# Of a trial's runs, the one that says most about it comes first.
_WORST_FIRST = tuple(
    Outcome[name]
    for name in [
        *("RUNNING", "CRASHED", "OUT_OF_MEMORY", "TIMED_OUT", "FAILED", "DIVERGED"),
        *("INTERRUPTED", "PRUNED", "UNKNOWN", "COMPLETED"),
    ]
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
    def sweep(self) -> str:
        """The directory of its sweep below the one that was read."""
        return self.runs[0].sweep

    @property
    def metrics(self) -> dict[str, float]:
        """Each metric's mean over the runs that have it."""
        if len(self.runs) == 1:
            return dict(self.runs[0].metrics)
        values: dict[str, list[float]] = {}
        for run in self.runs:
            for tag, value in run.metrics.items():
                values.setdefault(tag, []).append(value)
        return {tag: sum(found) / len(found) for tag, found in values.items()}

    def runs_with(self, tag: str) -> tuple[RunResult, ...]:
        """The runs that have a metric: another one may have died before its first validation."""
        return tuple(run for run in self.runs if tag in run.metrics)

    def mean(self, tag: str, by: By = LAST, goal: Goal = "max") -> float:
        """The mean, over the runs that have the metric, of the number that each is judged by; NaN without one."""
        values = self._values(tag, by, goal)
        return sum(values) / len(values) if values else math.nan

    def spread(self, tag: str, by: By = LAST, goal: Goal = "max") -> float | None:
        """The sample standard deviation over those runs of that number; None for fewer than two."""
        values = self._values(tag, by, goal)
        if len(values) < 2:
            return None
        return statistics.stdev(values) if all(map(math.isfinite, values)) else math.nan

    def _values(self, tag: str, by: By, goal: Goal) -> list[float]:
        return [run.value(tag, by, goal) for run in self.runs if tag in run.metrics]

    @property
    def seconds(self) -> float | None:
        """The time of its runs together; None while one has no end."""
        times = [run.seconds for run in self.runs]
        return None if None in times else sum(time or 0.0 for time in times)


@dataclass(frozen=True, slots=True)
class Results:
    """The runs of a log directory and what it declares.

    `declared` is None when it declares nothing; `sweeps` are the declarations of the sweeps below the directory, by
    their directories; `findings` is what is wrong with the files.
    """

    declared: Declared | None
    runs: tuple[RunResult, ...]
    sweeps: Mapping[str, Declared] = field(default_factory=dict, compare=False)
    findings: tuple[Finding, ...] = field(default=(), compare=False)

    @classmethod
    def of(cls, experiment: Experiment | None, runs: Iterable[RunResult]) -> Results:
        """The runs of an experiment."""
        return cls(Declared.of(experiment) if experiment else None, tuple(runs))

    @property
    def experiment(self) -> Experiment | None:
        """The declared experiment; None when there is none, or several sweeps with different ones."""
        return self.declared.experiment if self.declared else None

    @property
    def trials(self) -> tuple[TrialResult, ...]:
        """The trials, in the order of their first runs."""
        return tuple(group_trials(self.runs))

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags that runs logged, in the order of the first to log each."""
        return tuple(dict.fromkeys(tag for run in self.runs for tag in run.metrics))

    def top(
        self,
        n: int | None = None,
        metric: str | None = None,
        goal: Goal | None = None,
        by: str | By = "last",
        trials: Sequence[TrialResult] | None = None,
    ) -> list[TrialResult]:
        """The trials by rank: completed ones by the metric, then the others in order.

        Args:
          n: at most so many, 0 or more; None for all.
          metric: a tag or a title; the objective when left out.
          goal: "max" or "min"; the metric's own when left out.
          by: the number of each run that counts: "last", "best" or "mean-of-last-N".
          trials: only these; all when left out.

        Raises UsageError for a metric that no run logged or whose direction is not known, and where none is to rank by.
        """
        if n is not None and (type(n) is not int or n < 0):
            raise UsageError(f"n is {short(n)}; wanted how many trials, a whole number from 0, or None for all")
        return [*itertools.chain(*self._ordered(metric, goal, by, trials))][:n]

    def best(self, metric: str | None = None, goal: Goal | None = None, by: str | By = "last") -> TrialResult | None:
        """The best completed trial; None without one. The arguments are those of `top`."""
        return next(iter(self._ordered(metric, goal, by)[0]), None)

    def _ordered(
        self, metric: str | None, goal: Goal | None, by: str | By, trials: Sequence[TrialResult] | None = None
    ) -> tuple[list[TrialResult], list[TrialResult]]:
        tag = self.tag_of(metric)
        return self.order(tag, checked_goal(goal) or self.goal(tag), By.of(by), trials)

    def order(
        self, tag: str, goal: Goal, by: By = LAST, trials: Sequence[TrialResult] | None = None
    ) -> tuple[list[TrialResult], list[TrialResult]]:
        """The trials that have a rank by a metric, best first (ties keep their order), and the others in order.

        By the objective, the trial that a search chose itself is the first of that search: where several tie, and where
        it chose by a rule of its own.
        """
        every = self.trials if trials is None else trials
        ranked = [trial for trial in self.contenders(every) if is_ranked(trial, tag, by)]
        sign = -1.0 if goal == "max" else 1.0
        values = {id(trial): sign * trial.mean(tag, by, goal) for trial in ranked}
        least = _least_by_sweep(ranked, values)
        chosen = [trial for trial in ranked if by == LAST and self._is_chosen(trial, tag, goal)]
        places = {key: (value, 1) for key, value in values.items()}
        places |= {id(trial): (least[trial.sweep], 0) for trial in chosen}
        ranked.sort(key=lambda trial: places[id(trial)])
        return ranked, [trial for trial in every if id(trial) not in values]

    def _is_chosen(self, trial: TrialResult, tag: str, goal: Goal) -> bool:
        """Whether its search chose a trial by this metric."""
        declared = self.sweeps.get(trial.sweep, self.declared)
        if declared is None or declared.objective != tag or declared.goal(tag) != goal:
            return False
        return CHOSEN in declared.metrics and all(run.metrics.get(CHOSEN) == 1 for run in trial.runs)

    def contenders(self, trials: Iterable[TrialResult] | None = None) -> list[TrialResult]:
        """Those of the trials that can have a rank.

        Where some run has hparams, a trial without any is none: it holds the curves of a study, or those that another
        tool logged beside the runs.
        """
        searched = any(run.hparams for run in self.runs)
        return [trial for trial in (self.trials if trials is None else trials) if trial.hparams or not searched]

    def __iter__(self) -> Iterator[TrialResult]:
        return iter(self.trials)

    def __len__(self) -> int:
        return len(self.trials)

    @property
    def is_objective_sure(self) -> bool:
        """Whether the objective is declared, or the only metric that was logged."""
        tag, declared = self.choice.tag, {each.objective for each in (self.declared, *self.sweeps.values()) if each}
        return tag in declared - {None} or telling(self.tags, self.runs) == [tag]

    @property
    def objective(self) -> str:
        """The tag that trials are ranked by: the declared objective, else the metric that `ranking_metric` chooses.

        Of several sweeps it is one that all have. Raises UsageError for none, and for several that are equally likely.
        """
        if (found := self.choice).tag is None:
            raise UsageError(found.way_out(telling(self.tags, self.runs)))
        return found.tag

    @property
    def choice(self) -> Choice:
        """Which metric ranks, why, and what else there is."""
        if self.declared is not None and self.declared.objective:
            return Choice(self.declared.objective)
        runs, objectives = self.searched(), [declared.objective for declared in self.sweeps.values()]
        said = [tag for tag in objectives if tag]
        tags = shared_tags([*said, *self.tags], ((run.sweep, run.metrics) for run in runs))
        if len({*objectives}) == 1 and said and said[0] == tags[0]:
            return Choice(tags[0])
        known, counts = [tag for tag in tags if self.goal_of(tag)], Counter(tag for run in runs for tag in run.metrics)
        return choose(known, counts, len(runs), said or self._declared_tags())

    def searched(self) -> Sequence[RunResult]:
        """The runs that have hparams; all where none has."""
        return [run for run in self.runs if run.hparams] or self.runs

    def tag_of(self, metric: str | None) -> str:
        """The tag of a metric, given by tag or title; that of the objective when none is given.

        Raises UsageError with the nearest names for one that no run logged, and where there is no objective.
        """
        if metric is None:
            return self.objective
        tags = self.tags
        if metric not in tags:
            metric = next((tag for tag in self._declared_tags() if self.title(tag) == metric), metric)
        if self.runs and metric not in tags:
            raise UsageError(f"no run logged the metric {metric!r}; {nearest(metric, tags)}")
        return metric

    def _declared_tags(self) -> Iterator[str]:
        return (tag for declared in (self.declared, *self.sweeps.values()) if declared for tag in declared.metrics)

    def is_goal_sure(self, tag: str) -> bool:
        """Whether the better direction of a metric is declared, or known by every word of its tag."""
        declared = (each for each in (self.declared, *self.sweeps.values()) if each)
        return any(each.metrics.get(tag, {}).get("goal") for each in declared) or told_by(tag).is_plain

    def goal(self, tag: str) -> Goal:
        """Whether more or less of a metric is better. Raises UsageError when nobody says."""
        goal = self.goal_of(tag)
        if goal is None:
            raise UsageError(f"whether more or less of {tag!r} is better is not declared; say goal='max' or goal='min'")
        return goal

    def goal_of(self, tag: str) -> Goal | None:
        """Whether more or less of a metric is better; None when neither a declaration nor its words say."""
        said = [declared.goal(tag) for declared in (self.declared, *self.sweeps.values()) if declared]
        return next((goal for goal in said if goal), None) or goal_of_tag(tag)

    def title(self, tag: str) -> str:
        """What a table's head calls a metric."""
        titles = (declared.title(tag) for declared in (self.declared, *self.sweeps.values()) if declared)
        return next((title for title in titles if title != tag), tag)

    def varying(self) -> tuple[list[str], dict[str, Value]]:
        """The names of the hparams that vary over the trials (or that some lack), and the others with their value."""
        return varying([trial.hparams for trial in self.contenders()])

    def to_pandas(self, scalars: bool = False) -> Any:
        """A `pandas.DataFrame` with a row per run, or per point; see `hparams_lab.core.tables` for its columns."""
        from hparams_lab.core.tables.frames import to_pandas

        return to_pandas(self, scalars)

    def to_arrow(self, scalars: bool = False) -> Any:
        """A `pyarrow.Table` with a row per run, or per point; see `hparams_lab.core.tables` for its columns."""
        from hparams_lab.core.tables.frames import to_arrow

        return to_arrow(self, scalars)

    def _repr_html_(self) -> str:
        from hparams_lab.core.tables.notebook import to_html

        return to_html(self)


def group_trials(runs: Iterable[RunResult]) -> Iterator[TrialResult]:
    """Runs of the same trial of a sweep together, in the order of their first."""
    groups: dict[tuple[str, str], list[RunResult]] = {}
    for run in runs:
        groups.setdefault((run.sweep, run.trial_id), []).append(run)
    for (_, trial_id), members in groups.items():
        yield TrialResult(trial_id, members[0].hparams, tuple(members))


def _least_by_sweep(trials: Iterable[TrialResult], values: Mapping[int, float]) -> dict[str, float]:
    """The least of the trials' values, in each sweep."""
    found: dict[str, float] = {}
    for trial in trials:
        found[trial.sweep] = min(values[id(trial)], found.get(trial.sweep, math.inf))
    return found


def is_ranked(trial: TrialResult, tag: str, by: By = LAST) -> bool:
    """Whether a trial may stand in the order: no run failed, and the metric is finite in those that have it."""
    fine = trial.outcome is Outcome.COMPLETED or trial.outcome is Outcome.UNKNOWN
    return fine and math.isfinite(trial.mean(tag, by))

