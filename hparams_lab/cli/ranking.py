"""How trials are ranked and told apart: the options and names that `top`, `show` and `compare` share."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from hparams_lab.analysis.filter import MISSING
from hparams_lab.core.curve import LAST, By
from hparams_lab.core.errors import UsageError, nearest
from hparams_lab.core.names import common_part, cut_as
from hparams_lab.core.present import runs_in_words, visible
from hparams_lab.core.ranked_by import ranked_by_within, why_unranked
from hparams_lab.core.ranking_metric import Choice
from hparams_lab.core.results import Results, RunResult, TrialResult
from hparams_lab.core.scalar import Goal
from hparams_lab.core.values import Value

SHORTEST_ID = 4
"""A trial is told by at least so many digits of its id."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What trials are ranked by, as it was asked for: a metric (None: the objective), its goal, the number of a run."""

    metric: str | None = None
    goal: Goal | None = None
    by: By = LAST

    def over(self, results: Results) -> Ranking:
        """The ranking of these results; without a rank where no metric was asked for and none is known to rank.

        Raises UsageError for an unknown metric, or one that was asked for and whose better direction nobody says.
        """
        choice = results.choice if self.metric is None else Choice(results.tag_of(self.metric))
        goal = self.goal or (results.goal_of(choice.tag) if choice.tag is not None else None)
        if choice.tag is None or (goal is None and self.metric is None):
            return Ranking(results, None, "max", self.by, results.trials, 0, choice)
        if goal is None:
            raise UsageError(why_unranked(results, choice))
        ranked, others = results.order(choice.tag, goal, self.by)
        return Ranking(results, choice.tag, goal, self.by, (*ranked, *others), len(ranked), choice)


NO_CHOICE = Choice(None)


@dataclass(frozen=True, slots=True)
class Ranking:
    """Trials in their order, the first `ranked` with a rank.

    `tag` is None where no metric is known to rank, and so no trial has a rank; `choice` is why the metric ranks.
    """

    results: Results
    tag: str | None
    goal: Goal
    by: By
    trials: tuple[TrialResult, ...]
    ranked: int
    choice: Choice = NO_CHOICE

    def in_words(self, width: int) -> str:
        """What ranks the trials and why, in a line that fits; empty where an objective is declared."""
        if self.tag is None:
            why = why_unranked(self.results, self.choice)
            return f"ranked by none: {visible(why)}" if why else ""
        if self.results.declared is not None and self.results.declared.objective:
            return ""
        return visible(ranked_by_within(width, self.results, self.choice, self.goal))

    def rank(self, place: int) -> int | None:
        """The rank of the trial at a place (from 0); None for one that is only listed."""
        return place + 1 if place < self.ranked else None

    def goal_of(self, tag: str) -> Goal | None:
        """Which way a metric is better; None where nobody says."""
        if tag == self.tag:
            return self.goal
        return self.results.goal_of(tag)

    def _how(self, tag: str) -> tuple[By, Goal]:
        """How a metric's number is found: the last one where nobody says which is best."""
        goal = self.goal_of(tag)
        return (LAST if goal is None and self.by.rule == "best" else self.by), goal or "max"

    def mean(self, trial: TrialResult, tag: str) -> float | None:
        """The mean of a metric's number over the runs that have the metric; None when none has."""
        if not trial.runs_with(tag):
            return None
        return trial.mean(tag, *self._how(tag))

    def spread(self, trial: TrialResult, tag: str) -> float | None:
        """The standard deviation over those runs; None for one run."""
        return trial.spread(tag, *self._how(tag))

    def runs_of(self, trial: TrialResult) -> str:
        """How many runs a trial has, "2 of 3" where only some have the metric that ranks."""
        return runs_in_words(trial, self.tag)


def ranking_options(
    command: Callable[..., Any], metric_is: str = "The metric to rank by.", goal_counts: str = "."
) -> Callable[..., Any]:
    """`--metric`, `--min`, `--max` and `--by`; the command gets them as `rule`."""

    @click.option("--metric", help=f"{metric_is}  [default: the objective]")
    @click.option("--max", "more", is_flag=True, help=f"More of the metric is better{goal_counts}")
    @click.option("--min", "less", is_flag=True, help=f"Less of the metric is better{goal_counts}")
    @click.option(
        "--by",
        default="last",
        show_default=True,
        metavar="RULE",
        help="The number of a run that counts: last, best or mean-of-last-N.",
    )
    @functools.wraps(command)
    def wrapped(metric: str | None, more: bool, less: bool, by: str, **others: Any) -> Any:
        if more and less:
            raise UsageError("--max and --min were both given; say one of them")
        goal: Goal | None = "max" if more else "min" if less else None
        return command(rule=Rule(metric, goal, By.of(by)), **others)

    return wrapped


FIELDS: dict[str, Callable[[TrialResult], Value]] = {
    "trial": lambda trial: trial.name,
    "run": lambda trial: trial.name,
    "id": lambda trial: trial.id,
    "sweep": lambda trial: trial.sweep,
    "runs": lambda trial: len(trial.runs),
    "seconds": lambda trial: trial.seconds,
    "outcome": lambda trial: str(trial.outcome),
    "reason": lambda trial: next((run.reason for run in trial.runs if run.reason), ""),
}
"""What every trial has, by the names that `--where` and `--columns` know."""


@dataclass(frozen=True, slots=True)
class Name:
    """What a name stands for: an "hparam", a "metric" or a "field"."""

    kind: str
    name: str

    def of(self, trial: TrialResult, ranking: Ranking) -> Any:
        """Its value for a trial; `MISSING` when the trial has none."""
        if self.kind == "hparam":
            return trial.hparams.get(self.name, MISSING)
        if self.kind == "metric":
            mean = ranking.mean(trial, self.name)
            return MISSING if mean is None else mean
        value = FIELDS[self.name](trial)
        return MISSING if value is None else value


class Names:
    """The names that may be asked for in some results."""

    def __init__(self, results: Results) -> None:
        declared = [one for one in (results.declared, *results.sweeps.values()) if one]
        self.hparams = [*dict.fromkeys(n for d in declared for n in d.hparams)]
        self.hparams += sorted({n for run in results.runs for n in run.hparams} - {*self.hparams})
        self._titles = {results.title(tag): tag for tag in results.tags}
        self.metrics = [*dict.fromkeys([*(n for d in declared for n in d.metrics), *results.tags])]

    def find(self, text: str, option: str) -> Name:
        """What `text` stands for. Raises UsageError with the nearest names, or with the two that it may mean."""
        kind, _, rest = text.partition(":")
        name = rest if kind in ("hparam", "metric") else text
        kinds = {"hparam": self.hparams, "metric": self.metrics}
        found = [Name(k, n) for k, names in kinds.items() for n in names if text in (n, visible(n))]
        if not found and name is not text:
            found = [Name(kind, n) for n in kinds[kind] if name in (n, visible(n))]
        if len({one.kind for one in found}) > 1:
            raise UsageError(f"{option} names {text!r}, an hparam and a metric; say hparam:{text} or metric:{text}")
        if found:
            return found[0]
        if text in FIELDS:
            return Name("field", text)
        if text in self._titles:
            return Name("metric", self._titles[text])
        known = [visible(name) for name in dict.fromkeys([*self.hparams, *self.metrics, *FIELDS])]
        raise UsageError(f"{option} names {text!r}, which no trial has; {nearest(text, known)}")


def comma_separated(texts: Sequence[str], known: Sequence[str]) -> list[str]:
    """The names in texts such as `a,b`; one that is itself a name, commas and all, is that name."""
    split = ([text] if text in known else text.split(",") for text in texts)
    return [name.strip() for names in split for name in names if name.strip()]


def find_trial(ranking: Ranking, text: str, logdir: Path) -> TrialResult:
    """The trial that a person means: by a run's name or path, a rank, `best`, the beginning of the trial's id, or a
    directory that holds a part of it.

    Raises UsageError when there is none, or more than one.
    """
    name = _below(logdir, text)
    ways = (_named(ranking, name), _ranked(ranking, text), _identified(ranking, text))
    for found in (*ways, _shown_as(ranking, text), _ending(ranking, name), _around(ranking, logdir / name, logdir)):
        if len(found) > 1:
            names = ", ".join(visible(trial.name) for trial in found[:4]) + ", ..." * (len(found) > 4)
            raise UsageError(f"{text!r} may be any of {len(found)} trials ({names}); say more of it")
        if found:
            return found[0]
    known = [visible(run.name) for run in ranking.results.runs]
    said = nearest(text, known)
    raise UsageError(f"no run or trial of {logdir} is {text!r}; {said} (or best, a rank such as '#1', a trial's id)")


def find_run(trial: TrialResult, text: str, logdir: Path) -> RunResult | None:
    """The run of a trial that a person named; None when it was told by something else."""
    name = _below(logdir, text)
    found = [run for run in trial.runs if name in (run.name, visible(run.name))]
    found = found or [run for run in trial.runs if run.name.endswith(f"/{name}")]
    return found[0] if len(found) == 1 else None


def _below(logdir: Path, text: str) -> str:
    """The name of a run that is given by its path, as a shell completes it; other names as they are."""
    plain = text.rstrip("/" + os.sep) or text
    path = os.path.expanduser(plain)
    if os.path.isdir(path):
        relative = os.path.relpath(os.path.realpath(path), os.path.realpath(logdir))
        if relative.partition(os.sep)[0] not in (os.pardir, os.curdir):
            return Path(relative).as_posix()
    return plain


def _named(ranking: Ranking, name: str) -> list[TrialResult]:
    trials = ranking.trials
    return [trial for trial in trials if any(name in (run.name, visible(run.name)) for run in trial.runs)]


def _ranked(ranking: Ranking, text: str) -> list[TrialResult]:
    number = "1" if text == "best" else text.removeprefix("#")
    if not re.fullmatch(r"\d{1,9}", number) or (text == number and _identified(ranking, text)):
        return []
    ranks = ranking.ranked
    if ranking.tag is None and number != text:
        why = why_unranked(ranking.results, ranking.choice) or "no run logged a metric"
        raise UsageError(f"no trial has a rank: {why}")
    if text == "best" and not ranks:
        raise UsageError("no trial completed, so none is best; name a run")
    if not 1 <= int(number) <= ranks:
        if text == number:
            return []
        raise UsageError(f"there is no rank {number}; the ranks are {f'1 to {ranks}' if ranks else 'none'}")
    return [ranking.trials[int(number) - 1]]


def _identified(ranking: Ranking, text: str) -> list[TrialResult]:
    return [trial for trial in ranking.trials if len(text) >= SHORTEST_ID and trial.id.startswith(text)]


def _shown_as(ranking: Ranking, text: str) -> list[TrialResult]:
    """The trials that a table shows under that name: without what all names begin with, or cut."""
    trials = ranking.trials
    common = common_part([trial.name for trial in trials])
    named = _named(ranking, common + text) if common else []
    text = text if "…" in text else text.replace("?", "…")  # of a terminal that has no ellipsis
    if named or "…" not in text:
        return named
    for shown in ([visible(trial.name.removeprefix(common)) for trial in trials], [visible(t.name) for t in trials]):
        if found := cut_as(text, shown):
            return [trial for trial, name in zip(trials, shown, strict=True) if name in found]
    return []


def _ending(ranking: Ranking, name: str) -> list[TrialResult]:
    return [trial for trial in ranking.trials if any(run.name.endswith(f"/{name}") for run in trial.runs)]


def _around(ranking: Ranking, path: Path, logdir: Path) -> list[TrialResult]:
    """The trials of the nearest run above a directory, such as a half of it, else of those below."""
    here = path.resolve()
    if not here.is_dir() or logdir.resolve() not in here.parents:
        return []
    runs = {id(trial): [run.dir.resolve() for run in trial.runs] for trial in ranking.trials}
    above = [place for places in runs.values() for place in places if place == here or place in here.parents]
    if above:
        nearest_one = max(above, key=lambda place: len(place.parts))
        return [trial for trial in ranking.trials if nearest_one in runs[id(trial)]]
    return [trial for trial in ranking.trials if any(here in place.parents for place in runs[id(trial)])]
