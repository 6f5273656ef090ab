"""`hparams-lab export`."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import click

from hparams_lab.analysis.export import FORMATS, check_target, export, format_of
from hparams_lab.analysis.filter import parse_where
from hparams_lab.cli.grouping import group_option
from hparams_lab.cli.leaderboard import Asked, Leaderboard
from hparams_lab.cli.paths import PATH
from hparams_lab.cli.ranking import Ranking
from hparams_lab.core.curve import LAST, extremes
from hparams_lab.core.errors import UsageError
from hparams_lab.core.results import Results, TrialResult
from hparams_lab.core.scalar import is_placeholder
from hparams_lab.core.tables import Table, logged_tags, point_tables, runs_table, trials_table
from hparams_lab.logdir.reader import GroupBy, read
from hparams_lab.storage.paths import local

STREAMS = [name.removeprefix(".") for name, known in FORMATS.items() if known.is_text]


@click.command(short_help="Write trials, runs or points to a file of another format.")
@click.argument("logdir", type=PATH)
@click.option(
    "-o", "output", required=True, metavar="FILE", help="The file; its end says the format. - for the screen."
)
@click.option("--trials", "by_trial", is_flag=True, help="One row per trial: means over its runs, and their spread.")
@click.option("--scalars", "by_point", is_flag=True, help="One row per point of every metric.")
@click.option(
    "--format", "named", type=click.Choice(STREAMS), help="The format of -o -.  [default: csv]"
)
@click.option("--where", metavar="CONDITION", help="Only these trials, such as 'lr < 0.01 and optimizer = adam'.")
@group_option
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
def command(
    logdir: Path,
    output: str,
    by_trial: bool,
    by_point: bool,
    named: str | None,
    where: str | None,
    group_by: GroupBy,
    force: bool,
) -> None:
    """Write what is in LOGDIR to a .csv, .json, .jsonl, .parquet or .xlsx file: one row per run.

    A column is called what it holds: an hparam's name, a metric's tag (its last value). Numbers keep all their digits.

    \b
    Examples:
      hparams-lab export logs/digits -o digits.csv
      hparams-lab export logs/digits -o digits.xlsx --trials
      hparams-lab export logs/digits -o points.parquet --scalars --where 'num_units = 32'
      hparams-lab export logs/digits -o - --format jsonl | head -1
      hparams-lab export lightning_logs -o trials.csv --trials --group-by hparams
    """
    if by_trial and by_point:
        raise UsageError("--trials and --scalars were both given; say one of them")
    rows = "trials" if by_trial else "scalars" if by_point else None
    path = local(output, UsageError)
    if output != "-":
        if named:
            raise UsageError(f"--format is for -o - only, and -o {output} says its format itself; leave --format out")
        format_of(path).check()
        check_target(path, force)
    results = read(logdir, thin=None if rows == "scalars" else extremes, group_by=group_by)
    tables = tables_of(results, rows, matching(results, where, logdir) if where else None)
    if output == "-":
        stdout = sys.stdout.buffer
        FORMATS[f".{named or 'csv'}"].write(tables, stdout)
        stdout.flush()
        return
    count = export(tables, path, force=force)
    click.echo(f"{output}: {count:,} {_noun(rows, count)}")


def matching(results: Results, where: str, logdir: Path) -> list[TrialResult]:
    """The trials for which a condition holds, in their order. Raises UsageError for one that is none."""
    in_order = Ranking(results, None, "max", LAST, results.trials, 0)
    return [row.trial for row in Leaderboard(in_order, Asked(where=parse_where(where)), logdir).rows]


def tables_of(results: Results, rows: str | None, trials: list[TrialResult] | None) -> Iterable[Table]:
    """The tables with a row per run, trial or point, of these trials (None: of all)."""
    if rows == "scalars":
        return point_tables(results, trials)
    tags = [tag for tag in logged_tags(results) if not is_placeholder(tag, results.runs)]
    return [(trials_table if rows == "trials" else runs_table)(results, trials, tags)]


def _noun(rows: str | None, count: int) -> str:
    noun = {"trials": "trial", "scalars": "point"}.get(rows or "", "run")
    return noun if count == 1 else f"{noun}s"
