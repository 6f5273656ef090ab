"""`Leaderboard`: ranked trials as lines for a terminal of some width, or as JSON."""

from __future__ import annotations

import functools
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from hparams_lab.analysis.filter import MISSING, Condition
from hparams_lab.cli.ranking import FIELDS, Name, Names, Ranking, comma_separated
from hparams_lab.cli.table import UNLIMITED, Cell, Column, fitted, outcome_cell
from hparams_lab.core.findings import Kind, said_of_mixed
from hparams_lab.core.names import common_part, cut, width_of
from hparams_lab.core.present import Counts, counted, mean_in_words, run_as_json, said_with, some, time_taken, visible
from hparams_lab.core.ranked_by import why_unranked
from hparams_lab.core.results import Results, TrialResult
from hparams_lab.core.scalar import telling
from hparams_lab.core.values import Value, format_value, told_apart
from hparams_lab.events.read.instead import in_words, instead_of

LOGGED_SHOWN = 4
"""So many metrics are shown where none is declared."""
LONGEST_PAIR = 100
LONGEST_SAME = 200
"""So many characters has a line of what is the same for all trials, where no terminal limits it."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What of the trials is to be shown: those for which `where` holds, at most `count`, in these columns."""

    where: Condition | None = None
    count: int | None = None
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """A trial and its rank among all trials; None when it is only listed."""

    rank: int | None
    trial: TrialResult


class Leaderboard:
    """The trials asked for, in their order. Raises UsageError for a name that nothing has."""

    def __init__(self, ranking: Ranking, asked: Asked, logdir: Path) -> None:
        self.ranking = ranking
        self._logdir = logdir
        self._names = Names(ranking.results)
        self._asked = [self._names.find(name, "--columns") for name in self._columns_of(asked)]
        rows = [Row(ranking.rank(place), trial) for place, trial in enumerate(ranking.trials)]
        self._matching = [row for row in rows if self._is_wanted(row.trial, asked.where)] if asked.where else rows
        self.rows = self._matching[: asked.count]

    def _columns_of(self, asked: Asked) -> list[str]:
        return comma_separated(asked.columns, [*self._names.hparams, *self._names.metrics])

    def _is_wanted(self, trial: TrialResult, where: Condition) -> bool:
        found = {one.name: self._names.find(one.name, "--where") for one in where.comparisons()}
        return where.holds(lambda name: found[name].of(trial, self.ranking))

    def as_json(self) -> Iterator[dict[str, Any]]:
        """Each trial as plain JSON, the best first."""
        for row in self.rows:
            yield self._row_as_json(row)

    def _row_as_json(self, row: Row) -> dict[str, Any]:
        trial, ranking = row.trial, self.ranking
        return {
            "rank": row.rank,
            "trial": trial.id,
            "sweep": trial.sweep,
            "outcome": str(trial.outcome),
            "objective": self._objective_as_json(trial),
            "hparams": dict(trial.hparams),
            "metrics": trial.metrics,
            "seconds": trial.seconds,
            "runs_with_metric": 0 if ranking.tag is None else len(trial.runs_with(ranking.tag)),
            "runs": [run_as_json(run) for run in trial.runs],
        }

    def _objective_as_json(self, trial: TrialResult) -> dict[str, Any] | None:
        """The metric that ranks, why, and the trial's number; where several may rank, which; None where none does."""
        ranking, choice = self.ranking, self.ranking.choice
        if ranking.tag is None:
            why = why_unranked(self.results, choice)
            return {"metric": None, "why": why, "candidates": [*choice.others]} if choice.others else None
        return {
            "metric": ranking.tag,
            "goal": ranking.goal,
            "by": str(ranking.by),
            "mean": ranking.mean(trial, ranking.tag),
            "spread": ranking.spread(trial, ranking.tag),
            **({"why": ", ".join(choice.why)} if choice.why else {}),
        }

    @property
    def results(self) -> Results:
        """Everything that the directory holds."""
        return self.ranking.results

    def lines(self, width: int, height: int = UNLIMITED) -> list[str]:
        """What is the same for all trials, the table, and what is to be said of it, in at most so many lines."""
        varying, same = self._varying()
        above = [*self._above(same, width)]
        rows = self.rows
        while True:
            table, hidden = fitted(self._columns(varying, rows), width)
            below = [*self._below(hidden, len(rows), width)]
            excess = len(above) + len(table.lines) + len(below) - height
            if excess <= 0 or not rows:
                return [*above, *table.lines, *below]
            rows = rows[:-excess]

    def _varying(self) -> tuple[list[str], Mapping[str, Value]]:
        runs = tuple(run for row in self._matching for run in row.trial.runs)
        return replace(self.ranking.results, runs=runs).varying()

    def _above(self, same: Mapping[str, Value], width: int) -> Iterator[str]:
        yield from doubt(self.ranking.results)
        if same and not self._asked:
            head, shown = the_same(same, min(width, LONGEST_SAME))
            yield click.style(head, dim=True) + shown
        if self._common:
            yield click.style(f"runs in {visible(self._common)}", dim=True)
        if self.ranking.by.rule != "last":
            yield click.style(f"metrics are the {self.ranking.by} of each run", dim=True)

    def _columns(self, varying: list[str], rows: Sequence[Row]) -> list[Column]:
        """Rank, trial, what varies, the metric that ranks, the others, time, and the outcome where it varies."""
        ranks = ["-" if row.rank is None else str(row.rank) for row in rows]
        trials = [row.trial for row in rows]
        all_names = [self._called(trial) for trial in self.ranking.trials]
        first = [
            Column("rank", ranks, right=True),
            Column("trial", [self._called(trial) for trial in trials], names=all_names),
        ]
        if self._asked:
            named = [one for one in self._asked if (one.kind, one.name) not in (("field", "trial"), ("field", "run"))]
            return first + [self._column(one, place, trials) for place, one in enumerate(named, 1)]
        return first + [self._column(one, weight, trials) for one, weight in self._chosen(varying)]

    def _chosen(self, varying: list[str]) -> Iterator[tuple[Name, int]]:
        """The columns shown unasked, and how soon each gives way."""
        metrics = self._metrics()
        if self._is_of_several_sweeps():
            yield Name("field", "sweep"), 0
        if any(len(row.trial.runs) > 1 for row in self._matching):
            some_lack_it = any(" of " in self.ranking.runs_of(row.trial) for row in self._matching)
            yield Name("field", "runs"), 0 if some_lack_it else 5000
        yield from ((Name("hparam", name), place) for place, name in enumerate(varying, 1))
        yield from ((Name("metric", tag), 100 * place) for place, tag in enumerate(metrics))
        yield Name("field", "seconds"), 10_000
        if len({row.trial.outcome for row in self._matching}) > 1:
            yield Name("field", "outcome"), 0

    def _called(self, trial: TrialResult) -> str:
        """The name of a trial in the table, without what is said elsewhere."""
        return trial.name.removeprefix(f"{trial.sweep}/" if self._tells_sweep else self._common)

    @functools.cached_property
    def _tells_sweep(self) -> bool:
        """Whether a column tells the sweep of each trial, which its name does not repeat."""
        return not self._asked and self._is_of_several_sweeps()

    @functools.cached_property
    def _common(self) -> str:
        """What the names of all trials begin with; that is said above the table."""
        return "" if self._tells_sweep else common_part([trial.name for trial in self.ranking.trials])

    def _is_of_several_sweeps(self) -> bool:
        return len({row.trial.sweep for row in self._matching}) > 1

    def _metrics(self) -> list[str]:
        """The metrics shown unasked: the one that ranks, and those declared, or some that were logged."""
        results, tag = self.ranking.results, self.ranking.tag
        declared = [tag for one in (results.declared, *results.sweeps.values()) if one for tag in one.metrics]
        shown = telling(declared or sorted(results.tags), results.runs)
        return [*dict.fromkeys([*([] if tag is None else [tag]), *(shown if declared else shown[:LOGGED_SHOWN])])]

    def _column(self, asked: Name, expendable: int, trials: Sequence[TrialResult]) -> Column:
        if asked.kind == "metric":
            head = self.ranking.results.title(asked.name)
            return Column(head, [self._number(trial, asked.name) for trial in trials], expendable, right=True)
        if asked.kind == "hparam":
            values = [asked.of(trial, self.ranking) for trial in trials]
            return Column(asked.name, value_texts(values), expendable)
        if asked.name == "outcome":
            return Column("outcome", [outcome_cell(trial.outcome) for trial in trials], expendable)
        if asked.name == "seconds":
            return Column("time", [time_taken(trial.seconds) for trial in trials], expendable, right=True)
        if asked.name == "runs":
            return Column("runs", [self.ranking.runs_of(trial) for trial in trials], expendable)
        return Column(asked.name, [str(FIELDS[asked.name](trial)) for trial in trials], expendable)

    def _number(self, trial: TrialResult, tag: str) -> Cell:
        mean = self.ranking.mean(trial, tag)
        if mean is None:
            return Cell("-")
        spread = self.ranking.spread(trial, tag) or None  # a rank, say, is the same in all runs: no spread to show
        return Cell(mean_in_words(mean, spread), bold=tag == self.ranking.tag)

    def _below(self, hidden: Sequence[str], shown: int, width: int) -> Iterator[str]:
        trials, matching = self.ranking.trials, self._matching
        among = f"{len(matching)} of {said_with(len(trials), 'trial')}"
        among = among if len(matching) < len(trials) else str(Counts.of(self.results))
        more = f"; {shown} shown, --n {len(matching)} for all" if len(matching) > shown else ""
        counts = counted(Counter(row.trial.outcome for row in matching))
        said = f"{among}{': ' * bool(counts)}{counts}{more}"
        rule = self.ranking.in_words(width)
        lines = [f"{said}; {rule}"] if rule.endswith(" first") else [said, rule]
        yield from (click.style(line, dim=True) for line in lines if line)
        if hidden:
            yield click.style(f"no room for {some(hidden)}: widen the terminal, or --columns, --json", dim=True)
        yield from damage(self.ranking.results, self._logdir)


def the_same(values: Mapping[str, Value], width: int) -> tuple[str, str]:
    """What is the same for all trials, in a line: its head, and as many values as fit; how many more there are."""
    pairs = [cut(visible(f"{name}={format_value(value)}"), LONGEST_PAIR) for name, value in values.items()]
    head = "the same for all: "
    if width_of(head + "  ".join(pairs)) <= width:
        return head, "  ".join(pairs)
    for count in range(min(len(pairs) - 1, width // 4), 0, -1):  # a pair has two characters, and a gap
        more = f"  and {len(pairs) - count:,} more (--json)"
        shown = "  ".join(pairs[:count])
        if width_of(f"{head}{shown}{more}") <= width:
            return head, shown + more
    return head, f"{len(pairs):,} hparam{'s' * (len(pairs) > 1)} (--json)"


def value_texts(values: Sequence[Any]) -> list[str]:
    """The values of an hparam, a dash where a trial has none."""
    texts = iter(told_apart([value for value in values if value is not MISSING]))
    return ["-" if value is MISSING else next(texts) for value in values]


def doubt(results: Results) -> Iterator[str]:
    """A line ahead of everything where a run may have the values of another."""
    if said := said_of_mixed(results.findings):
        yield click.style(visible(said), fg="yellow")


def damage(results: Results, logdir: Path) -> Iterator[str]:
    """A line that leads to the doctor, when some file is damaged, and one of what a restart left out."""
    again = [finding for finding in results.findings if finding.kind is Kind.OVERTAKEN]
    if again:
        said = f"in {len(again)} run{'s' * (len(again) > 1)} {again[0].reason}"
        yield click.style(visible(said), fg="yellow")
    harmless = (Kind.OVERTAKEN, Kind.MIXED)
    files = {finding.file: instead_of(finding) for finding in results.findings if finding.kind not in harmless}
    lines = [*in_words(instead for instead in files.values() if instead is not None)]
    damaged = sum(instead is None for instead in files.values())
    if damaged:
        command = f"hparams-lab doctor {visible(shlex.quote(str(logdir)))}"
        lines.append(f"{damaged} damaged file{'s' * (damaged > 1)}: {command}")
    yield from (click.style(line, fg="yellow") for line in lines)
