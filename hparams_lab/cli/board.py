"""`hparams-lab board`."""

from __future__ import annotations

import contextlib
from pathlib import Path

import click

from hparams_lab.board import Board
from hparams_lab.events.logdir import read


@click.command(short_help="Open a log directory in TensorBoard's HParams tab.")
@click.argument("logdir", type=click.Path(path_type=Path))
@click.option("--port", type=click.IntRange(0, 65535), default=6006, show_default=True, help="0 takes any free port.")
@click.option("--open", "open_browser", is_flag=True, help="Open the tab in a browser.")
def command(logdir: Path, port: int, open_browser: bool) -> None:
    """Start TensorBoard over LOGDIR on 127.0.0.1 and print the address of its HParams tab. Ctrl-C stops it.

    \b
    Examples:
      hparams-lab board logs/digits
      hparams-lab board logs/digits --port 0 --open
    """
    results = read(logdir)
    with Board(logdir, port) as board, contextlib.suppress(KeyboardInterrupt):
        click.echo(f"{len(results.trials)} trials in TensorBoard's HParams tab: {board.url}")
        click.echo("Ctrl-C stops it.")
        if open_browser:
            click.launch(board.url)
        board.wait()
