"""`hparams-lab top`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from hparams_lab.cli.table import Column, fitted
from hparams_lab.events.logdir import read
from hparams_lab.results import Outcome, Results, TrialResult, is_ranked
from hparams_lab.values import format_value
from hparams_lab.words import COLOURS, dump, run_as_json


@click.command(short_help="Show the leaderboard of a log directory.")
@click.argument("logdir", type=click.Path(path_type=Path))
@click.option(
    "--n", "count", type=click.IntRange(min=1), default=20, show_default=True, help="How many trials to show."
)
@click.option("--metric", help="The metric to rank by.  [default: the objective]")
@click.option("--max", "goal", flag_value="max", help="More of the metric is better.")
@click.option("--min", "goal", flag_value="min", help="Less of the metric is better.")
@click.option("--json", "as_json", is_flag=True, help="Print each trial as a line of JSON, the best first.")
def command(logdir: Path, count: int, metric: str | None, goal: Any, as_json: bool) -> None:
    """Rank the trials of LOGDIR, best first.

    What is the same for all trials stands in one line above the table.

    \b
    Examples:
      hparams-lab top logs/digits
      hparams-lab top logs/digits --metric hploss --n 5
      hparams-lab top logs/digits --json | head -1
    """
    results = read(logdir)
    tag = metric or results.objective
    ranked = results.top(None, metric, goal)
    if as_json:
        for rank, trial in enumerate(ranked[:count], 1):
            click.echo(dump(_trial_as_json(rank, trial, tag)))
    else:
        _show(results, ranked[:count], tag)


def _trial_as_json(rank: int, trial: TrialResult, tag: str) -> dict[str, object]:
    return {
        "rank": rank if is_ranked(trial, tag) else None,
        "trial": trial.id,
        "outcome": str(trial.outcome),
        "hparams": dict(trial.hparams),
        "metrics": trial.metrics,
        "seconds": trial.seconds,
        "runs": [run_as_json(run) for run in trial.runs],
    }


def _show(results: Results, trials: list[TrialResult], tag: str) -> None:
    console = Console()
    varying, same = varying_hparams(results.trials)
    if same:
        console.print(Text.assemble(("the same for all: ", "dim"), "  ".join(f"{k}={v}" for k, v in same.items())))
    table, hidden = fitted(_columns(results, trials, tag, varying), console.width)
    console.print(table)
    console.print(Text(_footer(results, len(trials), hidden), "dim"))


def _columns(results: Results, trials: list[TrialResult], tag: str, varying: list[str]) -> list[Column]:
    """Rank, run, the metric that ranks, what varies, the other metrics, time, and the outcome where it varies."""
    titles = _metric_titles(results, tag)
    ranks = [str(rank) if is_ranked(trial, tag) else "-" for rank, trial in enumerate(trials, 1)]
    columns = [Column("rank", ranks, right=True), Column("run", [trial.name for trial in trials])]
    for place, (metric, title) in enumerate(titles.items()):
        columns.append(
            Column(title, [_number(trial, metric, tag) for trial in trials], expendable=100 * place, right=True)
        )
    for place, name in enumerate(varying, 1):
        columns.append(Column(name, [format_value(trial.hparams.get(name, "-")) for trial in trials], expendable=place))
    times = ["-" if trial.seconds is None else f"{trial.seconds:.1f} s" for trial in trials]
    columns.append(Column("time", times, expendable=10_000, right=True))
    if len({trial.outcome for trial in results.trials}) > 1:
        columns.append(Column("outcome", [Text(str(t.outcome), COLOURS.get(t.outcome, "red")) for t in trials]))
    return columns


def _number(trial: TrialResult, metric: str, ranking: str) -> Text:
    value = trial.metrics.get(metric)
    return Text("-" if value is None else f"{value:.4g}", "bold" if metric == ranking else "")


def varying_hparams(trials: tuple[TrialResult, ...]) -> tuple[list[str], dict[str, str]]:
    """The hparams that vary over the trials, and the others with their one value."""
    names = list(dict.fromkeys(name for trial in trials for name in trial.hparams))
    seen = {name: {format_value(trial.hparams.get(name, "-")) for trial in trials} for name in names}
    same = {name: min(seen[name]) for name in names if len(seen[name]) == 1 and len(trials) > 1}
    return [name for name in names if name not in same], same


def _metric_titles(results: Results, tag: str) -> dict[str, str]:
    """The metrics to show by tag, the one that ranks first."""
    declared = {m: results.declared.title(m) for m in results.declared.metrics} if results.declared else {}
    logged = {tag: tag for tag in sorted({tag for run in results.runs for tag in run.metrics})[:4]}
    return {tag: declared.get(tag, tag)} | (declared or logged)


def _footer(results: Results, shown: int, hidden: list[str]) -> str:
    outcomes = [trial.outcome for trial in results.trials]
    said = [f"{outcomes.count(outcome)} {outcome}" for outcome in Outcome if outcome in outcomes]
    more = f"; {shown} shown, --n {len(outcomes)} for all" if len(outcomes) > shown else ""
    left_out = f"\nno room for {', '.join(hidden)}: widen the terminal, or --json" if hidden else ""
    return f"{len(outcomes)} trials: {', '.join(said)}{more}{left_out}"
