"""`Study`: the trials of a log directory in order and by rank, which all parts of a report look at."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from hparams_lab.core.curve import By
from hparams_lab.core.present import said_with as said_with
from hparams_lab.core.ranked_by import ranked_by, why_unranked
from hparams_lab.core.ranking_metric import Choice
from hparams_lab.core.results import Results, TrialResult
from hparams_lab.core.scalar import Goal, checked_goal
from hparams_lab.core.values import Value


@dataclass(frozen=True, slots=True)
class Point:
    """A trial among the others: its place in time (from 1), its rank (from 1; None without), its number (or NaN)."""

    trial: TrialResult
    place: int
    rank: int | None
    value: float


@dataclass(frozen=True, slots=True)
class Study:
    """What a report is about.

    `tag` is the metric that ranks, None when none does; `choice` says why. `points` are all trials by time, `ranked`
    those that have a rank, best first; `varying` are the hparams that vary and `same` the others.
    """

    name: str
    results: Results
    tag: str | None
    goal: Goal
    by: By
    points: tuple[Point, ...]
    ranked: tuple[Point, ...]
    varying: tuple[str, ...]
    same: Mapping[str, Value]
    choice: Choice

    @classmethod
    def of(
        cls, results: Results, name: str, metric: str | None = None, goal: Goal | None = None, by: str | By = "last"
    ) -> Study:
        """The study of what was read. Raises UsageError for a metric or rule that cannot be, as `Results.top` does."""
        by, goal = By.of(by), checked_goal(goal)
        choice = Choice(results.tag_of(metric)) if metric else results.choice
        tag = choice.tag
        if tag is not None and goal is None:
            goal = results.goal(tag) if metric else results.goal_of(tag)
        tag, goal = (tag, goal) if goal else (None, "max")
        points = _points(results, tag, goal, by)
        ranked = sorted((p for p in points if p.rank is not None), key=lambda point: point.rank or 0)
        varying, same = results.varying()
        return cls(name, results, tag, goal, by, tuple(points), tuple(ranked), tuple(varying), same, choice)

    @property
    def title(self) -> str:
        """What the metric is called."""
        return self.results.title(self.tag) if self.tag else "the objective"

    @property
    def why(self) -> str:
        """What ranks and why, or why nothing does; empty where somebody said what ranks, or nothing was logged."""
        if self.tag is None:
            return why_unranked(self.results, self.choice)
        said = self.choice.why and not (self.results.declared and self.results.declared.objective)
        return ranked_by(self.results, self.choice, self.goal) if said else ""

    @property
    def best(self) -> Point | None:
        """The best trial; None without one."""
        return self.ranked[0] if self.ranked else None

    def spread(self, point: Point) -> float | None:
        """The standard deviation over a trial's runs; None for a single run."""
        return point.trial.spread(self.tag, self.by, self.goal) if self.tag else None

    def runs(self, point: Point) -> int:
        """How many of a trial's runs have the metric."""
        return len(point.trial.runs_with(self.tag)) if self.tag else 0

    def domain(self, name: str) -> Mapping[str, Any]:
        """The declared domain of an hparam, as `Experiment.to_json` has it; empty without."""
        declared = (self.results.declared, *self.results.sweeps.values())
        domains = (each.hparams.get(name, {}).get("domain") for each in declared if each)
        return next((domain for domain in domains if domain), {})

    def asked_domain(self, name: str) -> Mapping[str, Any]:
        """The same where a person declared it; of runs on their own it is only what was tried."""
        declared = (each for each in (self.results.declared, *self.results.sweeps.values()) if each and each.objective)
        return next((each.hparams[name].get("domain") or {} for each in declared if name in each.hparams), {})

    def is_better(self, one: float, other: float) -> bool:
        """Whether a number of the metric is better than another."""
        return one > other if self.goal == "max" else one < other


def _points(results: Results, tag: str | None, goal: Goal, by: By) -> list[Point]:
    """The trials in the order of their start, each with its rank."""
    trials = results.trials
    among = {id(trial) for trial in results.contenders(trials)}
    values = [trial.mean(tag, by, goal) if tag and id(trial) in among else math.nan for trial in trials]
    ranked = results.order(tag, goal, by, trials)[0] if tag else []
    ranks = {id(trial): rank for rank, trial in enumerate(ranked, 1)}
    in_time = sorted(range(len(trials)), key=lambda n: min(run.started for run in trials[n].runs))
    return [Point(trials[n], place, ranks.get(id(trials[n])), values[n]) for place, n in enumerate(in_time, 1)]


Ranked = TypeVar("Ranked")


def spaced(found: Sequence[Ranked], most: int) -> list[Ranked]:
    """At most so many of what is ranked: the best as a quarter of them, and of the rest every n-th."""
    if len(found) <= most:
        return list(found)
    first = most // 4
    rest, count = found[first:], most - first
    return [*found[:first], *(rest[n * len(rest) // count] for n in range(count))]


def shade(rank: int, count: int) -> float:
    """A rank as a number from 1 (the best) to 0 (the worst)."""
    return 1.0 - (rank - 1) / max(count - 1, 1)


def listed(names: Iterable[str], most: int = 8) -> str:
    """Names in a row, the last ones counted only."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
