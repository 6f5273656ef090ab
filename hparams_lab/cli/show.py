"""`hparams-lab show`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from hparams_lab.cli.again import Again, again, for_a_shell, provenance_of
from hparams_lab.cli.grouping import group_option
from hparams_lab.cli.leaderboard import damage, doubt
from hparams_lab.cli.log_tail import log_tail
from hparams_lab.cli.paths import PATH
from hparams_lab.cli.ranking import Ranking, Rule, find_run, find_trial, ranking_options
from hparams_lab.cli.standing import going
from hparams_lab.cli.table import GAP, Cell, Column, echo, fitted, outcome_cell, ramp, terminal_width
from hparams_lab.core.curve import Scalars
from hparams_lab.core.names import cut, width_of
from hparams_lab.core.outcome import Outcome
from hparams_lab.core.present import (
    COLOURS,
    dump,
    mean_in_words,
    run_as_json,
    runs_in_words,
    sparkline,
    step_in_words,
    time_taken,
    visible,
)
from hparams_lab.core.results import RunResult, TrialResult
from hparams_lab.core.values import Value
from hparams_lab.executors.job import notes_of
from hparams_lab.logdir.reader import GroupBy, read
from hparams_lab.logdir.run_reader import OUTCOME_TAG
from hparams_lab.run.attempts import ATTEMPTS_TAG, Attempt, attempts_in
from hparams_lab.run.provenance import PROVENANCE_TAG
from hparams_lab.storage.paths import OUTPUT_LOG
from hparams_lab.sweep.progress.standing import Going

LOG_LINES = 20
TRACEBACK_LINES = 40
WIDEST_CURVE, NARROWEST_CURVE = 40, 8


@click.command(short_help="Show everything of one trial.")
@click.argument("logdir", type=PATH)
@click.argument("name", metavar="RUN")
@ranking_options
@group_option
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def command(logdir: Path, name: str, rule: Rule, group_by: GroupBy, as_json: bool) -> None:
    """Show everything of one trial of LOGDIR: values, runs, curves, how it ended, and how to run it again.

    RUN is a run's name or path, a rank such as '#1', `best`, or the first digits of a trial's id.

    \b
    Examples:
      hparams-lab show logs/digits best
      hparams-lab show logs/digits run-0003
      hparams-lab show logs/digits '#2' --metric loss --by best
      hparams-lab show logs/digits best --json
      hparams-lab show lightning_logs version_2 --group-by hparams
    """
    ranking = rule.over(read(logdir, thin=rule.by.thin, group_by=group_by))
    trial = find_trial(ranking, name, logdir)
    named = find_run(trial, name, logdir)
    whole = with_curves(logdir, trial)
    rank = ranking.rank(ranking.trials.index(trial))
    shown = Shown(ranking, whole, rank, named, logdir, again(logdir, trial, ranking.results), time.time())
    for line in [dump(shown.as_json())] if as_json else shown.lines(terminal_width()):
        echo(line)


@dataclass(frozen=True, slots=True)
class Shown:
    """A trial with the points of its runs; `named` is the run that was asked for, None for the whole trial."""

    ranking: Ranking
    trial: TrialResult
    rank: int | None
    named: RunResult | None
    logdir: Path
    again: Again
    now: float

    def as_json(self) -> dict[str, Any]:
        """Everything as plain JSON."""
        return {
            "trial": self.trial.id,
            "rank": self.rank,
            "sweep": self.trial.sweep,
            "outcome": str(self.trial.outcome),
            "hparams": dict(self.trial.hparams),
            "metrics": self.trial.metrics,
            "spread": {tag: self.trial.spread(tag) for tag in self.trial.metrics},
            "runs_with_metric": {tag: len(self.trial.runs_with(tag)) for tag in self.trial.metrics},
            "seconds": self.trial.seconds,
            "runs": [self._run_as_json(run) for run in self.trial.runs],
            "again": {"command": self.again.command, "note": self.again.note},
        }

    def _run_as_json(self, run: RunResult) -> dict[str, Any]:
        log = run.dir / OUTPUT_LOG
        return {
            **run_as_json(run),
            "dir": str(run.dir),
            **({"files": [*run.files]} if run.files else {}),
            "started": run.started,
            "ended": run.ended,
            "now": self._going(run).as_json() if run.outcome is Outcome.RUNNING else None,
            "attempts": [
                {"attempt": number, "outcome": str(one.outcome), "reason": one.reason, "log": one.log or None}
                for number, one in enumerate(attempts_of(run), 1)
            ],
            "curves": {tag: Curve.of(points).as_json() for tag, points in run.columns.items() if len(points.steps)},
            "traceback": traceback_of(run) or None,
            "notes": notes_of(run),
            "log": log_tail(run.dir, LOG_LINES),
            "log_file": str(log) if log.is_file() else None,
            "provenance": provenance_of(run),
        }

    def _going(self, run: RunResult) -> Going:
        return going(run, self.ranking.results, self.now, self.ranking.tag)

    def lines(self, width: int) -> Iterator[str]:
        """Everything in lines for a person."""
        yield from doubt(self.ranking.results)
        yield self._head()
        yield from _titled("hparams", _pairs({name: _exact(value) for name, value in self.trial.hparams.items()}))
        if len(self.trial.runs) > 1:
            yield from _titled(f"metrics, mean ± standard deviation of {len(self.trial.runs)} runs", self._means())
        for run in self.trial.runs:
            if self.named is None or run.name == self.named.name:
                yield from self._run_lines(run, width)
        others = [run.name for run in self.trial.runs if self.named is not None and run.name != self.named.name]
        if others:
            yield from ["", click.style(visible(f"other runs of the trial: {', '.join(others)}"), dim=True)]
        yield from _titled("provenance", _pairs(provenance_of(self.trial.runs[0])))
        yield from _titled(f"run again ({self.again.note})", [for_a_shell(self.again.command or "-")])
        rule = self.ranking.in_words(width)
        if self.ranking.choice.why or self.ranking.tag is None:
            yield from ["", click.style(rule, dim=True)] if rule else []
        yield from damage(self.ranking.results, self.logdir)

    def _head(self) -> str:
        trial, tag = self.trial, self.ranking.tag
        name = click.style(visible(self.named.name if self.named else trial.name), bold=True)
        ranked = self.ranking.ranked
        place = f"rank {self.rank} of {ranked} by {visible(tag)}{self._over()}" if self.rank else "not ranked"
        return f"{name}  {outcome_cell(trial.outcome)}  {place}  trial {visible(trial.id)}"

    def _means(self) -> Iterator[str]:
        means = {tag: self._mean(tag, mean) for tag, mean in self.trial.metrics.items()}
        return _pairs(means)

    def _mean(self, tag: str, mean: float) -> str:
        there = runs_in_words(self.trial, tag)
        of_some = f"  in {there} runs" if " of " in there else ""
        return mean_in_words(mean, self.trial.spread(tag) or None) + of_some

    def _over(self) -> str:
        """Over how many runs the trial is ranked, where that is not all of them."""
        there = self.ranking.runs_of(self.trial)
        return f" over {there} runs" if " of " in there else ""

    def _run_lines(self, run: RunResult, width: int) -> Iterator[str]:
        started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(run.started))
        facts = f"{outcome_cell(run.outcome)}  {self._taken(run)}  since {started}  {visible(_place(run))}"
        yield from _titled(visible(run.name), [facts])
        yield from (f"  {line}" for line in self._curves(run, width - 2))
        if run.reason:
            yield from ["", f"  {click.style(visible(run.reason), fg=COLOURS.get(run.outcome, 'red'))}"]
        yield from _attempts(run, width)
        trace = traceback_of(run)
        yield from _long(trace.splitlines(), TRACEBACK_LINES)
        yield from _end_of_log(run, trace)
        for tag, text in run.texts.items():
            if tag not in (OUTCOME_TAG, PROVENANCE_TAG, ATTEMPTS_TAG):
                yield f"  {click.style(visible(tag), dim=True)}  {visible(cut(text, 200))}"

    def _taken(self, run: RunResult) -> str:
        """How long it took; of a run that goes on, how far it is too."""
        if run.outcome is not Outcome.RUNNING:
            return time_taken(run.seconds)
        so_far = self._going(run)
        return f"{step_in_words(so_far.step, so_far.epochs)}  {time_taken(so_far.seconds)} so far"

    def _curves(self, run: RunResult, width: int) -> tuple[str, ...]:
        tags = sorted(run.columns, key=lambda tag: tag != self.ranking.tag)
        curves = {tag: run.scalars(tag) for tag in tags if len(run.scalars(tag).values)}
        if not curves:
            return ("no metric was logged",)
        numbers = [Curve.of(points) for points in curves.values()]
        columns = [
            Column("metric", [Cell(tag, bold=tag == self.ranking.tag) for tag in curves]),
            Column("points", [str(curve.points) for curve in numbers], expendable=3, right=True),
            Column("first", [f"{curve.first:.4g}" for curve in numbers], expendable=4, right=True),
            Column("last", [f"{curve.last:.4g}" for curve in numbers], right=True),
            Column("min (step)", [curve.at(curve.low) for curve in numbers], expendable=1, right=True),
            Column("max (step)", [curve.at(curve.high) for curve in numbers], expendable=1, right=True),
        ]
        room = width - sum(column.width + GAP for column in columns)
        spark = max(NARROWEST_CURVE, min(WIDEST_CURVE, room))
        lines = [sparkline(points.values, spark, ramp()) for points in curves.values()]
        table, _ = fitted([columns[0], Column("curve", lines, expendable=2), *columns[1:]], width)
        return table.lines


@dataclass(frozen=True, slots=True)
class Curve:
    """A curve in numbers: how many points, the first and last, and the lowest and highest finite ones with steps."""

    points: int
    first: float
    last: float
    low: tuple[float, int] | None
    high: tuple[float, int] | None

    @classmethod
    def of(cls, points: Scalars) -> Curve:
        """The numbers of at least one point."""
        values, steps = points.values, points.steps
        finite = np.flatnonzero(np.isfinite(values))
        ends = [finite[values[finite].argmin()], finite[values[finite].argmax()]] if len(finite) else []
        low, high = [(float(values[end]), int(steps[end])) for end in ends] or (None, None)
        return cls(len(values), float(values[0]), float(values[-1]), low, high)

    def at(self, end: tuple[float, int] | None) -> str:
        """The lowest or highest in words."""
        return "-" if end is None else f"{end[0]:.4g} ({end[1]})"

    def as_json(self) -> dict[str, Any]:
        """The numbers by name."""
        low, high = self.low or (None, None), self.high or (None, None)
        ends = {"min": low[0], "min_step": low[1], "max": high[0], "max_step": high[1]}
        return {"points": self.points, "first": self.first, "last": self.last, **ends}


def attempts_of(run: RunResult) -> tuple[Attempt, ...]:
    """The tries of a run before the one that it tells of, the first first."""
    return attempts_in(run.texts.get(ATTEMPTS_TAG, ""))


def traceback_of(run: RunResult) -> str:
    """The traceback of a run that failed; empty without one."""
    return run.texts.get(OUTCOME_TAG, "").partition("\n\n```\n")[2].rpartition("\n```")[0].strip()


def with_curves(logdir: Path, trial: TrialResult) -> TrialResult:
    """The trial with all points of its runs, which are read again by themselves."""
    runs = []
    for run in trial.runs:
        found = next((one for one in read(run.dir).runs if _is_same(one, run)), run)
        if found.columns.keys() != run.columns.keys():  # its points lie elsewhere too, as PyTorch puts them
            found = next((one for one in read(logdir).runs if one.name == run.name), run)
        runs.append(replace(run, columns=found.columns))
    return replace(trial, runs=tuple(runs))


def _place(run: RunResult) -> str:
    """Its directory, and which of its files where another run has some too."""
    return f"{run.dir} ({', '.join(run.files)})" if run.files else str(run.dir)


def _is_same(one: RunResult, other: RunResult) -> bool:
    return one.files == other.files and one.dir.resolve() == other.dir.resolve()


def _end_of_log(run: RunResult, trace: str) -> Iterator[str]:
    """What it printed last, and where the rest is; a run that printed nothing says so where it did not complete."""
    log, tail = run.dir / OUTPUT_LOG, log_tail(run.dir, LOG_LINES, without=trace)
    if tail:
        yield from ["", click.style(f"  the end of {visible(log)}:", dim=True), *(f"    {line}" for line in tail)]
    elif log.is_file() and run.outcome is not Outcome.COMPLETED:
        yield from ["", click.style(f"  nothing is in {visible(log)}", dim=True)]


def _attempts(run: RunResult, width: int) -> Iterator[str]:
    """The attempts before this one, in a table."""
    found = attempts_of(run)
    if found:
        logs = [visible(run.dir / one.log) if one.log else "-" for one in found]
        columns = [
            Column("attempt", [str(number) for number in range(1, len(found) + 1)], right=True),
            Column("outcome", [outcome_cell(one.outcome) for one in found]),
            Column("reason", [one.reason for one in found], expendable=1),
            Column("log", logs, expendable=2),
        ]
        table, _ = fitted(columns, width - 2)
        yield from ["", click.style("  earlier attempts:", dim=True), *(f"  {line}" for line in table.lines)]


def _titled(title: str, lines: Iterable[str]) -> Iterator[str]:
    """A title and the lines below it, unless there is none."""
    found = [f"  {line}" for line in lines]
    if found:
        yield from ["", click.style(title, bold=True), *found]


def _pairs(found: Mapping[str, str]) -> Iterator[str]:
    """Names and what they are, in two columns."""
    longest = max((width_of(visible(name)) for name in found), default=0)
    for name, text in found.items():
        yield f"{visible(name)}{' ' * (longest - width_of(visible(name)))}  {visible(text)}"


def _long(lines: Sequence[str], most: int) -> Iterator[str]:
    """The end of a text, and how much of it was left out."""
    if len(lines) > most:
        yield click.style(f"    ... {len(lines) - most} lines more, with --json", dim=True)
    yield from (f"    {visible(line)}" for line in lines[-most:])


def _exact(value: Value) -> str:
    """A value with all its digits."""
    return repr(value) if isinstance(value, float) else str(value)
