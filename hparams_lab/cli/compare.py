"""`hparams-lab compare`."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from hparams_lab.analysis.filter import MISSING
from hparams_lab.cli.again import provenance_of
from hparams_lab.cli.grouping import group_option
from hparams_lab.cli.leaderboard import value_texts
from hparams_lab.cli.paths import PATH
from hparams_lab.cli.ranking import Ranking, Rule, find_run, find_trial, ranking_options
from hparams_lab.cli.table import Cell, Column, echo, fitted, outcome_cell, terminal_width
from hparams_lab.core.errors import UsageError
from hparams_lab.core.names import common_part, cut_apart
from hparams_lab.core.present import dump, mean_in_words, runs_in_words, some, time_taken, visible
from hparams_lab.core.results import RunResult, TrialResult
from hparams_lab.core.varying import varying
from hparams_lab.logdir.reader import GroupBy, read
from hparams_lab.storage.paths import local

CLEAR = 2.0
"""A difference of means is clear when it is more than so many of its standard errors."""
LONGEST_LABEL = 32
"""A name is cut to no less at the head of its column, where it may stand in several lines."""
VERDICTS = {"better": "green", "worse": "red", "unclear": "yellow"}
NOT_COMPARED = ("command",)
"""Of the provenance, what is another for every run."""


@click.command(short_help="Show in what trials differ.")
@click.argument("logdir", type=PATH)
@click.argument("names", metavar="A B...", nargs=-1)
@ranking_options
@group_option
@click.option("--all", "everything", is_flag=True, help="Show what is the same as well.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def command(
    logdir: Path, names: tuple[str, ...], rule: Rule, group_by: GroupBy, everything: bool, as_json: bool
) -> None:
    """Show in what trials of LOGDIR differ: in values, in metrics, and where they came from.

    A and B are runs as `show` takes them: a name, a rank such as '#1', `best`, a trial's id. DIRECTORY:RUN names one
    elsewhere. Each metric is compared with the first trial's: better or worse; unclear when both have several runs and
    the difference is within twice its standard error.

    \b
    Examples:
      hparams-lab compare logs/digits best run-0003
      hparams-lab compare logs/digits '#1' '#2' '#3' --metric loss --by best
      hparams-lab compare logs/first:best logs/second:best --all
      hparams-lab compare lightning_logs '#1' '#2' --group-by hparams
    """
    compared = Comparison(chosen(logdir, names, rule, group_by), everything)
    for line in [dump(compared.as_json())] if as_json else compared.lines(terminal_width()):
        echo(line)


@dataclass(frozen=True, slots=True)
class Chosen:
    """A trial, what to call it, and the ranking in which its numbers are read."""

    label: str
    logdir: Path
    trial: TrialResult
    ranking: Ranking

    def mean(self, tag: str) -> float | None:
        """The number of a metric; None without one."""
        return self.ranking.mean(self.trial, tag)

    def spread(self, tag: str) -> float | None:
        """Its standard deviation over the runs; None for one run."""
        return self.ranking.spread(self.trial, tag)


def chosen(logdir: Path, names: Sequence[str], rule: Rule, group_by: GroupBy = "group") -> list[Chosen]:
    """The trials that were named. Raises UsageError for fewer than two."""
    ranking_of = functools.cache(lambda root: rule.over(read(root, thin=rule.by.thin, group_by=group_by)))
    first = _elsewhere(str(logdir))
    named = [*([str(logdir)] if first else []), *names]
    if len(named) < 2:
        raise UsageError(
            f"{len(named)} trial{' was' if named else 's were'} named; wanted two or more: "
            "hparams-lab compare LOGDIR A B, or LOGDIR:A OTHER:B"
        )
    found = [_found(None if first else logdir, name, ranking_of) for name in named]
    return _told_apart(found, named)


def _elsewhere(name: str) -> tuple[Path, str] | None:
    """The directory and the run of DIRECTORY:RUN; None when a name is something else."""
    directory, colon, run = name.rpartition(":")
    if not colon or not run or os.path.isdir(name) or not local(directory).is_dir():
        return None
    return local(directory), run


def _found(logdir: Path | None, name: str, ranking_of: Callable[[Path], Ranking]) -> _Found:
    there = _elsewhere(name)
    if logdir is not None and not (there and not _is_run(ranking_of(logdir), name)):
        there = logdir, name
    if there is None:
        raise UsageError(f"{name!r} is no DIRECTORY:RUN, such as logs/first:best; name each trial like that, or none")
    ranking = ranking_of(there[0])
    if there[1] == name and os.path.isdir(name) and not _is_below(Path(name), there[0]):
        raise UsageError(f"{name!r} is another directory; name a trial in it, such as {name.rstrip('/')}:best")
    trial = find_trial(ranking, there[1], there[0])
    return _Found(there[0], trial, find_run(trial, there[1], there[0]), ranking)


def _is_below(path: Path, root: Path) -> bool:
    return root.resolve() in path.resolve().parents


def _is_run(ranking: Ranking, name: str) -> bool:
    return any(run.name == name for run in ranking.results.runs)


@dataclass(frozen=True, slots=True)
class _Found:
    root: Path
    trial: TrialResult
    run: RunResult | None
    ranking: Ranking

    def alone(self) -> _Found:
        """The run that was named, as a trial of one run."""
        return self if self.run is None else replace(self, trial=replace(self.trial, runs=(self.run,)))

    @property
    def runs(self) -> tuple[tuple[str, ...], ...]:
        return tuple((os.path.realpath(run.dir), *run.files) for run in self.trial.runs)


def _told_apart(found: Sequence[_Found], names: Sequence[str]) -> list[Chosen]:
    """The trials with labels; runs of one trial are compared as they are."""
    trials = [one.runs for one in found]
    found = [one.alone() if trials.count(one.runs) > 1 else one for one in found]
    for place, one in enumerate(found):
        for other, name in zip(found[:place], names, strict=False):
            if one.runs == other.runs:
                raise UsageError(f"{name!r} and {names[place]!r} are the same trial; name others")
    roots = {one.root for one in found}
    short = [f"{one.root.name}:{one.trial.name}" if len(roots) > 1 else one.trial.name for one in found]
    labels = [label if short.count(label) == 1 else f"{one.root}:{one.trial.name}"
              for label, one in zip(short, found, strict=True)]  # fmt: skip
    return [Chosen(label, one.root, one.trial, one.ranking) for label, one in zip(labels, found, strict=True)]


@dataclass(frozen=True, slots=True)
class Fact:
    """A line of the comparison: what it is about, a text for each trial, and whether they differ."""

    name: str
    cells: tuple[Cell, ...]
    differs: bool


class Comparison:
    """Trials beside each other, the first of which the others are compared with."""

    def __init__(self, trials: Sequence[Chosen], everything: bool = False) -> None:
        self._trials = trials
        self._first = trials[0]
        self._everything = everything

    def lines(self, width: int) -> Iterator[str]:
        """What differs, in a table of a column for each trial; values only where the differences have no room."""
        rest = {"hparams": self._hparams(), "metrics": [], "runs": self._runs(), "provenance": self._provenance()}
        common, labels = self._labels(width)
        for with_differences in (True, False):
            sections = rest | {"metrics": self._metrics(with_differences)}
            table, hidden = fitted(self._columns(sections, labels), width)
            if not hidden:
                break
        if any(fact.differs or self._everything for facts in sections.values() for fact in facts):
            if common:
                yield click.style(f"runs in {visible(common)}", dim=True)
            yield from table.lines
        if hidden:
            yield click.style(f"no room for {some(hidden)}: widen the terminal, or --json", dim=True)
        yield click.style(self._the_same(sections), dim=True)

    def _labels(self, width: int) -> tuple[str, list[str]]:
        """What the names of all trials begin with, and what is left of each, as short as the width asks for."""
        all_names = [trial.name for trial in self._first.ranking.trials]
        is_one = len({one.logdir for one in self._trials}) == 1
        common = common_part(all_names) if is_one else ""
        labels = [visible(one.label.removeprefix(common)) for one in self._trials]
        return common, cut_apart(labels, max(LONGEST_LABEL, width // (len(labels) + 1)))

    def _columns(self, sections: Mapping[str, Sequence[Fact]], labels: Sequence[str]) -> list[Column]:
        """The names of the facts, and a column for each trial."""
        nothing = tuple(Cell("") for _ in self._trials)
        rows: list[tuple[Cell, ...]] = []
        for title, facts in sections.items():
            shown = [fact for fact in facts if fact.differs or self._everything]
            if shown:
                rows += [(Cell(""), *nothing)] if rows else []
                rows += [(Cell(title, dim=True), *nothing), *((Cell(f"  {one.name}"), *one.cells) for one in shown)]
        heads = ["", *labels]
        return [Column(head, [row[i] for row in rows], expendable=max(0, i - 2)) for i, head in enumerate(heads)]

    def _the_same(self, sections: Mapping[str, Sequence[Fact]]) -> str:
        same = {title: sum(not fact.differs for fact in facts) for title, facts in sections.items() if title != "runs"}
        if all(not fact.differs for facts in sections.values() for fact in facts):
            return "nothing differs"
        words = {"hparams": "hparam", "metrics": "metric", "provenance": "line of the provenance"}
        said = [f"{count} {_plural(words[title], count)}" for title, count in same.items() if count]
        hint = "" if self._everything else " (--all shows them)"
        return f"the same: {', '.join(said)}{hint}" if said else "all differs"

    def _hparams(self) -> list[Fact]:
        names = dict.fromkeys(name for one in self._trials for name in one.trial.hparams)
        return [self._values(name, [one.trial.hparams.get(name, MISSING) for one in self._trials]) for name in names]

    def _values(self, name: str, values: Sequence[Any]) -> Fact:
        named = [{} if value is MISSING else {name: value} for value in values]
        return Fact(name, tuple(map(Cell, value_texts(values))), bool(varying(named)[0]))

    def _tags(self) -> list[str]:
        tags = dict.fromkeys(tag for one in self._trials for tag in one.trial.metrics)
        return sorted(tags, key=lambda tag: tag != self._first.ranking.tag)

    def _metrics(self, with_differences: bool) -> list[Fact]:
        tags = self._tags()
        widths = [max((len(_mean(one, tag)) for tag in tags), default=0) for one in self._trials]
        widths = widths if with_differences else [0] * len(widths)
        return [self._metric(tag, widths) for tag in tags]

    def _metric(self, tag: str, widths: Sequence[int]) -> Fact:
        means = {repr(one.mean(tag)) for one in self._trials}
        spreads = {repr(one.spread(tag)) for one in self._trials if len(one.trial.runs_with(tag)) > 1}
        differs = len(means) > 1 or len(spreads) > 1
        goal = self._first.ranking.goal_of(tag)
        name = f"{tag} ({goal})" if goal else tag
        return Fact(name, tuple(map(self._number, self._trials, [tag] * len(widths), widths)), differs)

    def _number(self, one: Chosen, tag: str, width: int) -> Cell:
        """A metric and its difference from the first trial's; without a width its colour alone tells."""
        text = _mean(one, tag)
        found = difference(self._first, one, tag)
        if one is self._first or found is None or not found.by:
            return Cell(text)
        colour = VERDICTS.get(found.verdict)
        if not width:
            return Cell(text, colour)
        said = f"{found.by:+.3g} {found.verdict}".rstrip()
        return Cell(f"{text:{width}}  {said}", ansi=f"{text:{width}}  {click.style(said, colour)}")

    def _runs(self) -> list[Fact]:
        trials = [one.trial for one in self._trials]
        outcomes = tuple(outcome_cell(trial.outcome) for trial in trials)
        runs = [runs_in_words(trial, self._first.ranking.tag) for trial in trials]
        facts = {"time": [time_taken(trial.seconds) for trial in trials], "runs": runs}
        plain = [Fact(name, tuple(map(Cell, texts)), len(set(texts)) > 1) for name, texts in facts.items()]
        return [Fact("outcome", outcomes, len(set(outcomes)) > 1), *plain]

    def _provenance(self) -> list[Fact]:
        found = [provenance_of(one.trial.runs[0]) for one in self._trials]
        names = dict.fromkeys(name for facts in found for name in facts if name not in NOT_COMPARED)
        return [self._values(name, [facts.get(name, MISSING) for facts in found]) for name in names]

    def as_json(self) -> dict[str, Any]:
        """Everything as plain JSON; what differs and what does not."""
        hparams = {fact.name: fact.differs for fact in self._hparams()}
        return {
            "trials": [_trial_as_json(one) for one in self._trials],
            "hparams": {name: {"differs": differs, "values": [one.trial.hparams.get(name) for one in self._trials]}
                        for name, differs in hparams.items()},
            "metrics": {tag: self._metric_as_json(tag) for tag in self._tags()},
        }  # fmt: skip

    def _metric_as_json(self, tag: str) -> dict[str, Any]:
        found = [difference(self._first, one, tag) for one in self._trials]
        return {
            "goal": self._first.ranking.goal_of(tag),
            "values": [
                {"mean": one.mean(tag), "spread": one.spread(tag), "runs_with_metric": len(one.trial.runs_with(tag))}
                for one in self._trials
            ],
            "differences": [one and {"difference": one.by, "verdict": one.verdict or None} for one in found],
        }


def _mean(one: Chosen, tag: str) -> str:
    mean = one.mean(tag)
    return "-" if mean is None else mean_in_words(mean, one.spread(tag))


@dataclass(frozen=True, slots=True)
class Difference:
    """By how much a metric is another than the first trial's, and what is to be thought of it."""

    by: float
    verdict: str


def difference(first: Chosen, other: Chosen, tag: str) -> Difference | None:
    """How a metric of a trial differs from the first one's; None where one has no finite number."""
    there, here = first.mean(tag), other.mean(tag)
    if there is None or here is None or not math.isfinite(here - there):
        return None
    by = here - there
    goal = first.ranking.goal_of(tag)
    if not by or goal is None:
        return Difference(by, "")
    if _is_unclear(by, first, other, tag):
        return Difference(by, "unclear")
    return Difference(by, "better" if (by > 0) is (goal == "max") else "worse")


def _is_unclear(by: float, first: Chosen, other: Chosen, tag: str) -> bool:
    """Whether chance may explain a difference: for runs enough on both sides to tell."""
    spreads = [(one.spread(tag), len(one.trial.runs_with(tag))) for one in (first, other)]
    variances = [spread**2 / count for spread, count in spreads if spread is not None]
    return len(variances) == 2 and abs(by) <= CLEAR * math.sqrt(sum(variances))


def _plural(word: str, count: int) -> str:
    return word if count == 1 else word.replace("line", "lines") if " " in word else f"{word}s"


def _trial_as_json(one: Chosen) -> dict[str, Any]:
    return {
        "logdir": str(one.logdir),
        "trial": one.trial.id,
        "runs": [run.name for run in one.trial.runs],
        "outcome": str(one.trial.outcome),
        "seconds": one.trial.seconds,
        "hparams": dict(one.trial.hparams),
        "metrics": one.trial.metrics,
        "provenance": provenance_of(one.trial.runs[0]),
    }
