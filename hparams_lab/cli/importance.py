"""`hparams-lab importance`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from hparams_lab.analysis.importance import Importance, Importances, importance
from hparams_lab.cli.grouping import group_option
from hparams_lab.cli.leaderboard import doubt
from hparams_lab.cli.paths import PATH
from hparams_lab.cli.ranking import Rule, ranking_options
from hparams_lab.cli.table import GAP, Column, echo, fitted
from hparams_lab.core.present import Counts, dump
from hparams_lab.logdir.reader import GroupBy, read

WIDEST_BAR, NARROWEST_BAR = 40, 10


@click.command(short_help="Tell which hyperparameters matter.")
@click.argument("logdir", type=PATH)
@partial(ranking_options, metric_is="The metric to explain.", goal_counts="; counts with --by best.")
@group_option
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def command(logdir: Path, rule: Rule, group_by: GroupBy, as_json: bool) -> None:
    """Tell which hyperparameters of LOGDIR matter for a metric, and how sure that is.

    A share is the part of the metric's variance that an hparam explains on trials which a random forest has not seen,
    interactions included. The range holds nine tenths of the forests. What is missing to 100 % is explained by none:
    chance, or too few trials.

    \b
    Examples:
      hparams-lab importance logs/digits
      hparams-lab importance logs/digits --metric hploss --by best
      hparams-lab importance logs/digits --json
      hparams-lab importance lightning_logs --group-by hparams
    """
    results = read(logdir, thin=rule.by.thin, group_by=group_by)
    found = importance(results, rule.metric, rule.goal, rule.by)
    why = "" if rule.metric else ", ".join(results.choice.why)
    if as_json:
        click.echo(dump(_as_json(found, Counts.of(results)) | ({"why": why} if why else {})))
    else:
        for line in doubt(results):
            echo(line)
        _show(found, Counts.of(results), f"{found.metric}: {why} (--metric)" if why else "")


def _as_json(found: Importances, counts: Counts) -> dict[str, object]:
    rows = [{"hparam": row.name, "share": row.mean, "low": row.low, "high": row.high} for row in found.rows]
    numbers = {"score": found.score, "trials": found.n, "left_out": found.left_out}
    more = {**numbers, "counts": counts.as_json(), "hparams": rows}
    return {"metric": found.metric, "enough": found.enough, "reason": found.reason or None, **more}


def _show(found: Importances, counts: Counts, why: str) -> None:
    console = Console()
    if found.rows:
        plain = console.options.ascii_only
        columns = [
            Column("hparam", [Text(row.name) for row in found.rows]),
            Column("share", [f"{row.mean:.0%}" for row in found.rows], right=True),
            Column("range", [f"{row.low:.0%} to {row.high:.0%}" for row in found.rows], expendable=1),
        ]
        room = console.width - sum(column.width + GAP for column in columns)
        bars = [_bar(row, max(NARROWEST_BAR, min(WIDEST_BAR, room)), plain) for row in found.rows]
        table, _ = fitted([*columns, Column("", bars, expendable=2)], console.width)
        console.print(table)
    console.print(Text(verdict(found), "" if found.enough else "yellow"))
    console.print(Text(_footer(found, counts), "dim"))
    if why:
        console.print(Text(why, "dim"))


def _bar(row: Importance, width: int, plain: bool) -> Text:
    """The share as a bar: full as far as is sure, lighter where the range begins, faint where it ends."""
    low, mean, high = (round(width * min(max(part, 0.0), 1.0)) for part in (row.low, row.mean, row.high))
    full, light, faint = "#=-" if plain else "█▓░"
    return Text.assemble((full * low, "cyan"), (light * (mean - low), "cyan"), (faint * (high - mean), "cyan"))


def verdict(found: Importances) -> str:
    """What to make of it, in a line."""
    if not found.enough:
        return f"cannot tell what matters for {found.metric}: {found.reason}"
    first, *others = found.rows
    rivals = [row.name for row in others if row.mean >= first.low or row.high >= first.mean]
    if rivals:
        said = f"{first.name} seems to matter most for {found.metric}, but {_listed(rivals)} may matter as much"
    else:
        said = f"{first.name} matters most for {found.metric}: {first.mean:.0%} of its variance"
    idle = [row.name for row in others if row.high < 0.05]
    return said + (f"; {_listed(idle)} hardly matter{'s' * (len(idle) == 1)}" if idle else "")


def _listed(names: list[str]) -> str:
    shown = names if len(names) <= 4 else [*names[:3], f"{len(names) - 3} more"]
    return " and ".join(filter(None, [", ".join(shown[:-1]), shown[-1]]))


def _footer(found: Importances, counts: Counts) -> str:
    without = counts.trials - found.n
    left_out = f"; {without:,} left out, not completed or without {found.metric}" if without else ""
    unexplained = f"; {max(0.0, 1 - found.score):.0%} is explained by no hparam" if found.enough else ""
    return f"{counts}{left_out}{unexplained}"
