"""`hparams-lab board`."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import click

from hparams_lab.board.server import HOST, Board
from hparams_lab.board.view import View
from hparams_lab.cli.paths import PATH
from hparams_lab.core.errors import LogDirError
from hparams_lab.core.present import said_with, visible
from hparams_lab.events.read.instead import in_words
from hparams_lab.logdir.hints import no_directory

SHOWN = 5


@click.command(short_help="Open a log directory in TensorBoard's HParams tab.")
@click.argument("logdirs", metavar="LOGDIR...", type=PATH, nargs=-1, required=True)
@click.option("--port", type=click.IntRange(0, 65535), default=6006, show_default=True, help="0 takes any free port.")
@click.option("--host", default=HOST, show_default=True, help="The address to listen at.")
@click.option("--open", "open_browser", is_flag=True, help="Open the tab in a browser.")
@click.option("--load-fast", type=click.Choice(["auto", "true", "false"]), default="auto", help="As TensorBoard's.")
def command(logdirs: tuple[Path, ...], port: int, host: str, open_browser: bool, load_fast: str) -> None:
    """Start TensorBoard over LOGDIR on this machine only and print the address of its HParams tab. Ctrl-C stops it.

    Several directories show side by side, with one experiment. Files that would kill the server are withheld; `doctor`
    tells more about them.

    \b
    Examples:
      hparams-lab board logs/digits
      hparams-lab board logs/digits logs/mnist --port 0 --open
    """
    for logdir in logdirs:
        if not logdir.is_dir():
            raise LogDirError(no_directory(str(logdir)))
    if not is_loopback(host):
        click.echo(f"warning: listening at {host}; whoever reaches this machine can read the logs", err=True)
    with ended_in_order(), contextlib.ExitStack() as stack:
        views: list[tuple[View, str]] = []

        def look() -> Path:
            view = stack.enter_context(View(logdirs, load_fast == "false"))
            views.append((view, what_is_shown(view)))  # while the server starts
            return view.logdir

        with contextlib.suppress(KeyboardInterrupt):
            board = stack.enter_context(Board(look, port, [f"--load_fast={load_fast}"], host))
            view, shown = views[0]
            _show_withheld(view, logdirs)
            for line in in_words(view.instead):
                click.echo(line, err=True)
            click.echo(f"{shown}: {board.url}")
            click.echo("Ctrl-C stops it.")
            if open_browser:
                click.launch(board.url)
            board.wait()


def what_is_shown(view: View) -> str:
    """What there is, and how many rows the tab has where those are not the trials."""
    counts, rows = view.counts, view.trials
    said = "" if rows == counts.trials else f"{said_with(rows, 'row')} in "
    return f"{counts}; {said}TensorBoard's HParams tab"


class _Ended(BaseException):
    """The process was asked to end."""


@contextlib.contextmanager
def ended_in_order() -> Iterator[None]:
    """Leave the block when the process is asked to end, so that nothing is left behind; then end as asked."""
    asked: list[int] = []

    def leave(number: int, frame: FrameType | None) -> None:
        if not asked:  # only once: what is being cleaned up goes on
            asked.append(number)
            raise _Ended

    names = ("SIGTERM", "SIGHUP")  # Windows has no SIGHUP, and with nohup it is ignored
    known = {number: signal.getsignal(number) for name in names if (number := getattr(signal, name, None))}
    taken = {number: before for number, before in known.items() if before is signal.SIG_DFL}
    for number in taken:
        signal.signal(number, leave)
    try:
        with contextlib.suppress(_Ended):
            yield
    finally:
        for number, before in taken.items():
            signal.signal(number, before)
    if asked:
        os.kill(os.getpid(), asked[0])


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _show_withheld(view: View, logdirs: tuple[Path, ...]) -> None:
    """Say what is not shown, and why."""
    if not view.withheld:
        return
    files = len(view.withheld)
    click.echo(f"withheld from TensorBoard, which would not survive {'it' if files == 1 else 'them'}:", err=True)
    for path, reason in list(view.withheld.items())[:SHOWN]:
        click.echo(f"  {visible(path)}: {visible(reason)}", err=True)
    if files > SHOWN:
        click.echo(f"  and {files - SHOWN} more", err=True)
    click.echo(f"hparams-lab doctor {visible(logdirs[0])} tells more, and mends it with --repair", err=True)
