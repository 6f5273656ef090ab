"""`top --watch`: the leaderboard as runs go on, until Ctrl-C.

On a terminal it is refreshed in place; elsewhere it is printed anew when a run begins or ends.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections.abc import Callable, Iterator

import click

from hparams_lab.cli.leaderboard import Leaderboard, counted
from hparams_lab.cli.table import UNLIMITED, cut, echo, terminal_width
from hparams_lab.results import Outcome, Results, RunResult
from hparams_lab.words import in_units, in_words, visible

SECONDS = 1.0
"""Between two looks; longer where a look takes long."""
RUNNING_SHOWN = 6
"""So many of the runs under way have a line."""


def watch(look: Callable[[], Leaderboard], pause: Callable[[float], None] = time.sleep) -> None:
    """Show what `look` finds again and again, until Ctrl-C, which is how it ends."""
    show = _watch_in_place if sys.stdout.isatty() else _watch_in_lines
    with contextlib.suppress(KeyboardInterrupt):
        show(_looks(look, pause))


def _looks(look: Callable[[], Leaderboard], pause: Callable[[float], None]) -> Iterator[Leaderboard]:
    while True:
        started = time.monotonic()
        yield look()
        pause(max(SECONDS, 4 * (time.monotonic() - started)))


def _watch_in_place(boards: Iterator[Leaderboard]) -> None:
    """On the terminal's other screen; the last state stays on the first one."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    board = next(boards)
    try:
        with Live(console=Console(), screen=True, auto_refresh=False) as live:
            while True:
                columns, height = shutil.get_terminal_size()
                lines = [*status(board.results, time.time(), columns), ""]
                lines += [*board.lines(columns, height - len(lines) - 1), click.style("Ctrl-C ends", dim=True)]
                live.update(Text.from_ansi("\n".join(lines), no_wrap=True), refresh=True)
                board = next(boards)
    finally:
        for line in board.lines(terminal_width()):
            echo(line)


def _watch_in_lines(boards: Iterator[Leaderboard]) -> None:
    seen = None
    for board in boards:
        runs = [(run.name, run.outcome) for run in board.results.runs]
        if runs != seen:
            head = [*([""] if seen else []), *status(board.results, time.time(), UNLIMITED, running_shown=0)]
            echo("\n".join([*head, *board.lines(terminal_width())]))
            sys.stdout.flush()
            seen = runs


def status(results: Results, now: float, width: int, running_shown: int = RUNNING_SHOWN) -> Iterator[str]:
    """How many runs are done, running and failed, and a line for each run under way."""
    outcomes = [run.outcome for run in results.runs]
    running = [run for run in results.runs if run.outcome is Outcome.RUNNING]
    done = len(outcomes) - len(running)
    others = counted([outcome for outcome in outcomes if outcome is not Outcome.RUNNING])
    head = f"{done} of {len(outcomes)} runs done{f' ({others})' if others else ''}, {len(running)} running"
    yield click.style(cut(head, width), bold=True)
    for run in running[:running_shown]:
        yield cut(_under_way(run, now), width)
    if len(running) > running_shown > 0:
        yield f"and {len(running) - running_shown} more"


def _under_way(run: RunResult, now: float) -> str:
    steps = [int(points.steps[-1]) for points in run.columns.values() if len(points.steps)]
    at = f"step {max(steps)}" if steps else "starting"
    return f"{visible(run.name)}  {at}  {in_units(max(0.0, now - run.started))}  {in_words(run.hparams)}"
