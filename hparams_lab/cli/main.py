"""`hparams-lab`: the group of commands, and how errors look.

What the user did wrong is one line on standard error and exit code 2; `--debug` shows the traceback as well. A bug of
ours keeps its traceback. Ctrl-C is 130.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from typing import Any

import click

from hparams_lab import __version__
from hparams_lab.core.errors import HParamsLabError

COMMANDS = {
    "run": "Sweep a domain: train every trial and log it.",
    "plan": "Show what a sweep would do, without doing it.",
    "top": "Show the leaderboard of a log directory.",
    "show": "Show everything of one trial.",
    "compare": "Show in what trials differ.",
    "export": "Write trials, runs or points to a file of another format.",
    "importance": "Tell which hyperparameters matter.",
    "report": "Write a report as one HTML file.",
    "board": "Open a log directory in TensorBoard's HParams tab.",
    "doctor": "Tell what is wrong with a log directory, and mend it.",
    "prune": "Delete or archive failed runs, or all but the best.",
    "merge": "Put several log directories into one.",
}


class LazyGroup(click.Group):
    """Finds a command in the module of its name, so that `--help` imports nothing that it does not show."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order in which a newcomer needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name."""
        if cmd_name not in COMMANDS:
            return None
        with _interrupts_at_once():
            command: click.Command = importlib.import_module(f"hparams_lab.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with their first lines, from here."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="hparams-lab")
@click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error; may stand anywhere.")
def cli() -> None:
    """Tune hyperparameters and see every result in TensorBoard's HParams tab.

    \b
    Examples:
      hparams-lab run digits                    32 small networks, logged to logs/digits
      hparams-lab top logs/digits               which were best
      hparams-lab board logs/digits             the same in TensorBoard
      hparams-lab run mymodel.py --set units=8,16,32
    """


@contextlib.contextmanager
def _interrupts_at_once() -> Iterator[None]:
    """End by Ctrl-C as by any signal: nothing has begun, and what is being imported may make another error of it."""
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def main(args: list[str] | None = None) -> Any:
    """Run the command line and exit."""
    given = sys.argv[1:] if args is None else args
    arguments = [argument for argument in given if argument != "--debug"]
    try:
        sys.exit(cli.main(args=arguments, prog_name="hparams-lab", standalone_mode=False) or 0)
    except HParamsLabError as error:
        if arguments != given:
            traceback.print_exc()
        _fail(" ".join(str(error).split()), 2)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        _fail("interrupted", 130)
    except BrokenPipeError:  # such as `hparams-lab top logs | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def _fail(message: str, code: int) -> None:
    from hparams_lab.core.present import visible  # names that a file holds may have control characters in them

    message = visible(message)
    click.secho("error: ", nl=False, err=True, fg="red")
    click.echo(message, err=True)
    sys.exit(code)
