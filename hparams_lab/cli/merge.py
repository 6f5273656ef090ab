"""`hparams-lab merge`."""

from __future__ import annotations

from pathlib import Path

import click

from hparams_lab.cli.paths import PATH
from hparams_lab.cli.table import echo
from hparams_lab.core.present import dump, visible
from hparams_lab.logdir.merge import Merged, merge


@click.command(short_help="Put several log directories into one.")
@click.argument("logdirs", nargs=-1, required=True, type=PATH, metavar="LOGDIR...")
@click.option("-o", "output", required=True, type=PATH, help="The new directory.")
@click.option("--link", is_flag=True, help="Give unchanged files a second name, which takes no room; do not copy them.")
@click.option("--as-text", is_flag=True, help="Make columns text that have numbers here and texts there.")
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON.")
def command(logdirs: tuple[Path, ...], output: Path, link: bool, as_text: bool, as_json: bool) -> None:
    """Put the runs of two or more log directories into a new one, under one experiment. They stay as they are.

    Where two have runs of the same name, the names begin with that of their directory. Runs of the same values become
    runs of one trial. With --link, a run that is gone on with changes in both places.

    \b
    Examples:
      hparams-lab merge logs/monday logs/tuesday -o logs/both
      hparams-lab merge logs/*/digits -o logs/all --link
    """
    done = merge(logdirs, output, link=link, as_text=as_text)
    if as_json:
        found = {"output": str(output), "runs": done.runs, "prefixes": done.prefixes, "as_text": list(done.as_text)}
        echo(dump(found))
    else:
        _show(done, output)


def _show(done: Merged, output: Path) -> None:
    for logdir, count in done.runs.items():
        prefix = done.prefixes.get(logdir)
        named = f", named {visible(prefix)}..." if prefix else ""
        echo(f"{visible(logdir)}: {count} {'run' if count == 1 else 'runs'}{named}")
    if done.as_text:
        echo(f"as text: {visible(', '.join(done.as_text))}")
    echo(f"{visible(output)}: {sum(done.runs.values())} runs")
