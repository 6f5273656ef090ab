"""`hparams-lab top`."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hparams_lab.events.logdir import read
from hparams_lab.progress import COLOURS, dump, run_as_json
from hparams_lab.results import Outcome, Results, TrialResult, is_ranked
from hparams_lab.values import format_value


@click.command(short_help="Show the leaderboard of a log directory.")
@click.argument("logdir", type=click.Path(path_type=Path))
@click.option(
    "--n", "count", type=click.IntRange(min=1), default=20, show_default=True, help="How many trials to show."
)
@click.option("--metric", help="The metric to rank by.  [default: the objective]")
@click.option("--max", "goal", flag_value="max", help="More of the metric is better.")
@click.option("--min", "goal", flag_value="min", help="Less of the metric is better.")
@click.option("--json", "as_json", is_flag=True, help="Print each trial as a line of JSON, the best first.")
def command(logdir: Path, count: int, metric: str | None, goal: str | None, as_json: bool) -> None:
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
    ranked = results.top(None, metric, goal)  # type: ignore[arg-type]
    if as_json:
        for rank, trial in enumerate(ranked[:count], 1):
            click.echo(dump(_trial_as_json(rank, trial, tag)))
        return
    _show(results, ranked[:count], tag, len(ranked))


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


def _show(results: Results, trials: list[TrialResult], tag: str, total: int) -> None:
    console = Console()
    varying, same = _columns(results)
    if same:
        console.print(Text.assemble(("the same for all: ", "dim"), "  ".join(f"{k}={v}" for k, v in same.items())))
    titles = _metric_titles(results, tag)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("rank", justify="right")
    table.add_column("run", no_wrap=True)
    for title in titles.values():
        table.add_column(title, justify="right")
    for name in varying:
        table.add_column(name)
    table.add_column("time", justify="right")
    table.add_column("outcome", no_wrap=True)
    for rank, trial in enumerate(trials, 1):
        table.add_row(*_row(rank, trial, tag, titles, varying))
    console.print(table)
    counts = {outcome: sum(trial.outcome is outcome for trial in results.trials) for outcome in Outcome}
    said = ", ".join(f"{number} {outcome}" for outcome, number in counts.items() if number)
    more = f"; {len(trials)} shown, --n {total} for all" if total > len(trials) else ""
    console.print(Text(f"{total} trials: {said}{more}", "dim"))


def _row(rank: int, trial: TrialResult, tag: str, titles: dict[str, str], varying: list[str]) -> list[Text | str]:
    ranked = is_ranked(trial, tag)
    metrics = [
        Text(f"{trial.metrics[t]:.4g}" if t in trial.metrics else "-", "bold" if t == tag else "") for t in titles
    ]
    values = [Text(format_value(trial.hparams[name]) if name in trial.hparams else "-") for name in varying]
    outcome = Text(str(trial.outcome), COLOURS.get(trial.outcome, "red"))
    time = "-" if trial.seconds is None else f"{trial.seconds:.1f} s"
    return [str(rank) if ranked else "-", Text(trial.name), *metrics, *values, time, outcome]


def _columns(results: Results) -> tuple[list[str], dict[str, str]]:
    """The hparams that vary, and the others with their one value."""
    names = list(dict.fromkeys(name for trial in results.trials for name in trial.hparams))
    seen = {name: {format_value(trial.hparams.get(name, "-")) for trial in results.trials} for name in names}
    same = {name: seen[name].copy().pop() for name in names if len(seen[name]) == 1 and len(results.trials) > 1}
    return [name for name in names if name not in same], same


def _metric_titles(results: Results, tag: str) -> dict[str, str]:
    """The metrics to show by tag, the one that ranks first."""
    declared = {m.tag: m.title for m in results.experiment.metrics} if results.experiment else {}
    logged = {tag for run in results.runs for tag in run.metrics}
    return {tag: declared.get(tag, tag)} | (declared or {name: name for name in sorted(logged)[:4]})
