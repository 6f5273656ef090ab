"""`top --watch`: how a sweep stands, and its leaderboard, as runs go on, until Ctrl-C.

On a terminal it is refreshed in place; elsewhere it is printed anew when a run begins or ends.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import click

from hparams_lab.cli.leaderboard import Leaderboard
from hparams_lab.cli.standing import State
from hparams_lab.cli.table import echo, terminal_size, terminal_width
from hparams_lab.core.names import cut
from hparams_lab.core.present import in_units, visible
from hparams_lab.sweep.progress import lines as drawn
from hparams_lab.sweep.progress.standing import Standing

SECONDS = 1.0
"""Between two looks; longer where a look takes long."""
RUNNING_SHARE = 3
"""The runs under way take no more than one of so many rows of a terminal."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Nothing is there to be shown yet, and why."""

    why: str


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look at a directory found."""

    board: Leaderboard
    state: State


Look = Callable[[], Seen | Waiting]


def watch(look: Look, pause: Callable[[float], None] = time.sleep) -> None:
    """Show what `look` finds again and again, until Ctrl-C, which is how it ends."""
    show = _watch_in_place if sys.stdout.isatty() else _watch_in_lines
    with contextlib.suppress(KeyboardInterrupt):
        show(_looks(look, pause))


def _looks(look: Look, pause: Callable[[float], None]) -> Iterator[Seen | Waiting]:
    while True:
        started = time.monotonic()
        yield look()
        pause(max(SECONDS, 4 * (time.monotonic() - started)))


def _watch_in_place(looks: Iterator[Seen | Waiting]) -> None:
    """On the terminal's other screen; the last state stays on the first one."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    seen = next(looks)
    try:
        with Live(console=Console(), screen=True, auto_refresh=False) as live:
            while True:
                lines = _screen(seen, *terminal_size())
                live.update(Text.from_ansi("\n".join(lines), no_wrap=True), refresh=True)
                seen = next(looks)
    finally:
        if isinstance(seen, Seen):
            for line in [summary(seen.state), *seen.board.lines(terminal_width())]:
                echo(line)


def _screen(seen: Seen | Waiting, columns: int, height: int) -> list[str]:
    end = click.style("Ctrl-C ends", dim=True)
    if isinstance(seen, Waiting):
        return [cut(f"waiting: {seen.why}", columns), end]
    lines = [*status(seen.state, time.time(), columns, height // RUNNING_SHARE), ""]
    return [*lines, *seen.board.lines(columns, height - len(lines) - 1), end]


def _watch_in_lines(looks: Iterator[Seen | Waiting]) -> None:
    before: object = None
    for seen in looks:
        if isinstance(seen, Waiting):
            now: object = "waiting"
            said = [f"waiting: {seen.why}"]
        else:
            now = [(run.name, run.outcome) for run in seen.board.results.runs], seen.state.owner
            said = [summary(seen.state), *seen.board.lines(terminal_width())]
        if now != before:
            echo("\n".join([*([""] if before else []), *said]))
            sys.stdout.flush()
            before = now


def status(state: State, now: float, width: int, most: int) -> Iterator[str]:
    """The bar, the counts, the best so far, and at most so many lines for the runs under way, each as it fits."""
    standing = state.standing
    found = [drawn.bar(standing, width, _times(state, now)), [*drawn.counts(standing), *_at_work(state)]]
    for line in [*found, *drawn.best_so_far(standing), *drawn.running(standing, width, max(1, most))]:
        yield drawn.rendered(line, width)


def _times(state: State, now: float) -> str:
    since = state.owner.since if state.owner else None
    taken = in_units(max(0.0, now - since)) if since else ""
    return f"{taken}  {drawn.left(state.standing)}".strip()


def _at_work(state: State) -> Iterator[drawn.Piece]:
    """Who runs the sweep, or that nobody does although there is something to do."""
    owner, standing = state.owner, state.standing
    if owner is not None:
        who = [*([f"pid {owner.pid}"] if owner.pid else []), *([f"on {visible(owner.host)}"] if owner.host else [])]
        yield drawn.Piece(f"  runner: {' '.join(who) or 'at work'}", dim=True)
    elif standing.waiting:
        yield drawn.Piece("  no runner is at work", "yellow")


def summary(state: State) -> str:
    """How the sweep stands, in one line."""
    standing = state.standing
    parts = [f"{_done(standing)} done", f"{len(standing.running)} running"]
    parts += [f"{standing.waiting} waiting"] if standing.waiting is not None else []
    told = "".join(piece.text for piece in _at_work(state)).strip() if state.owner is None else ""
    more = [one for one in (drawn.left(standing), told) if one]
    return click.style("; ".join([", ".join([*parts, f"{standing.failed} failed"]), *more]), bold=True)


def _done(standing: Standing) -> str:
    return f"{standing.done} of {standing.runs} runs" if standing.runs is not None else f"{standing.done} runs"
