"""`hparams-lab top`."""

from __future__ import annotations

from pathlib import Path

import click

from hparams_lab.cli.leaderboard import Asked, Leaderboard
from hparams_lab.cli.ranking import Rule, ranking_options
from hparams_lab.cli.table import echo, terminal_width
from hparams_lab.errors import UsageError
from hparams_lab.events.logdir import LogDirReader
from hparams_lab.where import parse_where
from hparams_lab.words import dump

SHOWN = 20
"""So many trials are shown unasked."""


@click.command(short_help="Show the leaderboard of a log directory.")
@click.argument("logdir", type=click.Path(path_type=Path))
@click.option("--n", "count", type=int, help=f"How many trials to show.  [default: {SHOWN}; all with --json]")
@ranking_options
@click.option("--where", metavar="CONDITION", help="Only these trials, such as 'lr < 0.01 and optimizer = adam'.")
@click.option("--columns", multiple=True, metavar="A,B,C", help="These columns, in this order.")
@click.option("--json", "as_json", is_flag=True, help="Print each trial as a line of JSON, the best first.")
@click.option("--watch", "watching", is_flag=True, help="Show the table again as runs go on, until Ctrl-C.")
def command(
    logdir: Path,
    rule: Rule,
    count: int | None,
    where: str | None,
    columns: tuple[str, ...],
    as_json: bool,
    watching: bool,
) -> None:
    """Rank the trials of LOGDIR, best first.

    What is the same for all trials stands in one line above the table. A metric of a trial of several runs is their
    mean, with the standard deviation.

    \b
    CONDITION compares hparams, metrics, outcome, seconds, run, sweep:
      lr < 0.01        < <= > >= = !=, and ~ for "contains"; a value that a trial lacks compares false
      opt in (adam, sgd) and not outcome = failed         and, or, not, parentheses
      `my rate` >= 1e-3 or "val loss" < 0.5               quotes for names with spaces
      metric:loss < 1                                     hparam: or metric: where both have the name

    COLUMNS are names of hparams and metrics, and runs, seconds, outcome, reason, sweep, id.

    \b
    Examples:
      hparams-lab top logs/digits
      hparams-lab top logs/digits --metric loss --by best --n 5
      hparams-lab top logs/digits --where 'learning_rate <= 0.01 and num_units in (16, 32)'
      hparams-lab top logs/digits --columns learning_rate,accuracy,outcome,reason
      hparams-lab top logs/digits --watch
      hparams-lab top logs/digits --json | head -1
    """
    if count is not None and count < 1:
        raise UsageError(f"--n is {count}; wanted at least 1")
    if as_json and (columns or watching):
        raise UsageError(f"--json and {'--watch' if watching else '--columns'} do not go together; leave one out")
    asked = Asked(parse_where(where) if where is not None else None, count or (None if as_json else SHOWN), columns)
    reader = LogDirReader(logdir, thin=rule.by.thin)
    if watching:
        from hparams_lab.cli.watch import watch

        watch(lambda: Leaderboard(rule.over(reader.read()), asked, logdir))
        return
    board = Leaderboard(rule.over(reader.read()), asked, logdir)
    for line in map(dump, board.as_json()) if as_json else board.lines(terminal_width()):
        echo(line)
