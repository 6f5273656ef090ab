"""`hparams-lab top`."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hparams_lab.analysis.filter import parse_where
from hparams_lab.cli.grouping import group_option
from hparams_lab.cli.leaderboard import Asked, Leaderboard
from hparams_lab.cli.paths import PATH
from hparams_lab.cli.ranking import Rule, ranking_options
from hparams_lab.cli.table import echo, terminal_width
from hparams_lab.core.errors import LogDirError, UsageError
from hparams_lab.core.present import dump
from hparams_lab.logdir.reader import GroupBy, LogDirReader
from hparams_lab.logdir.walk import walk

if TYPE_CHECKING:
    from hparams_lab.cli.watch import Seen, Waiting

SHOWN = 20
"""So many trials are shown unasked."""


@click.command(short_help="Show the leaderboard of a log directory.")
@click.argument("logdir", type=PATH)
@click.option("--n", "count", type=int, help=f"How many trials to show.  [default: {SHOWN}; all with --json]")
@ranking_options
@group_option
@click.option("--where", metavar="CONDITION", help="Only these trials, such as 'lr < 0.01 and optimizer = adam'.")
@click.option("--columns", multiple=True, metavar="A,B,C", help="These columns, in this order.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print a line of JSON for each trial, the best first, then the sweep."
)
@click.option("--watch", "watching", is_flag=True, help="Show the table again as runs go on, until Ctrl-C.")
def command(
    logdir: Path,
    rule: Rule,
    group_by: GroupBy,
    count: int | None,
    where: str | None,
    columns: tuple[str, ...],
    as_json: bool,
    watching: bool,
) -> None:
    """Rank the trials of LOGDIR, best first.

    What is the same for all trials stands in one line above the table. A metric of a trial of several runs is their
    mean, with the standard deviation; where only some have it, theirs: "2 of 3" in the column of runs.

    --watch shows how the sweep stands above the table: runs done, running, waiting and failed, the time left, how far
    each run is. --json tells it in a last line, {"sweep": ...}, unless --where or --n asks for some of the trials only.

    \b
    CONDITION compares hparams, metrics, outcome, seconds, run, sweep:
      lr < 0.01        < <= > >= = !=, and ~ for "contains"; a value that a trial lacks compares false
      opt in (adam, sgd) and not outcome = failed         and, or, not, parentheses
      outcome in (crashed, "timed out", "out of memory")  quotes for values with spaces
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
      hparams-lab top lightning_logs --group-by hparams
      hparams-lab top logs/digits --json | head -1
    """
    if count is not None and count < 1:
        raise UsageError(f"--n is {count}; wanted at least 1")
    if as_json and (columns or watching):
        raise UsageError(f"--json and {'--watch' if watching else '--columns'} do not go together; leave one out")
    asked = Asked(parse_where(where) if where is not None else None, count or (None if as_json else SHOWN), columns)
    reader = LogDirReader(logdir, rule.by.thin, group_by)

    def look() -> Leaderboard:
        return Leaderboard(rule.over(reader.read()), asked, logdir)

    if watching:
        from hparams_lab.cli.watch import watch

        watch(lambda: _seen(look, logdir))
        return
    board = look()
    for line in map(dump, board.as_json()) if as_json else board.lines(terminal_width()):
        echo(line)
    if as_json and where is None and count is None:
        from hparams_lab.cli.standing import State

        state = State.of(board.ranking, logdir, time.time())
        if state.is_sweep:
            echo(dump(state.as_json()))


def _seen(look: Callable[[], Leaderboard], logdir: Path) -> Seen | Waiting:
    """What a look finds; a directory that is not there yet, or has nothing in it yet, is waited for."""
    from hparams_lab.cli.standing import State
    from hparams_lab.cli.watch import Seen, Waiting

    try:
        board = look()
    except LogDirError as error:
        if not logdir.exists() or (logdir.is_dir() and not walk(str(logdir)).folders):
            return Waiting(str(error))
        board = look()  # what was missing may be there by now
    return Seen(board, State.of(board.ranking, logdir, time.time()))
