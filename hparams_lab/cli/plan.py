"""`hparams-lab plan`."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from hparams_lab.cli.options import PlanBy, sweep_options
from hparams_lab.core.errors import LogDirError
from hparams_lab.core.outcome import Outcome
from hparams_lab.core.present import dump, in_units
from hparams_lab.core.trial import Trial
from hparams_lab.core.values import format_value
from hparams_lab.executors import Resources
from hparams_lab.executors.devices import check_numbers, shares
from hparams_lab.logdir.reader import read
from hparams_lab.run.run_dir import is_manual
from hparams_lab.storage.paths import LogDirPaths
from hparams_lab.sweep.directory import check_directory
from hparams_lab.sweep.plan import Plan
from hparams_lab.sweep.strategies import grid
from hparams_lab.targets.load import describe

SHOWN = 3

LISTED = 1_000_000
"""The largest grid with constraints whose trials are listed to be counted."""


@click.command(short_help="Show what a sweep would do, without doing it.")
@sweep_options
@click.option("--workers", type=int, help="Runs at the same time.  [default: the number of cores]")
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
def command(plan_by: PlanBy, logdir: Path, workers: int | None, as_json: bool) -> None:
    """Show the number of trials and runs of a sweep, its first and last trials, and how long it will take.

    The time is known once a run of it is in the log directory. Where `run` would refuse that, the last line says why.

    \b
    Examples:
      hparams-lab plan mnist
      hparams-lab plan mnist --points 5
      hparams-lab plan mymodel.py --strategy random --trials 20
    """
    resources = Resources(workers=workers)
    check_numbers(resources)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # a domain may import TensorFlow, which talks
    plan = plan_by(describe)
    first = list(itertools.islice(plan.suggestions([]), SHOWN))
    total = plan.count(LISTED)
    last = _last(plan, total, len(first))
    slots = sum(share.slots for share in shares(resources))
    refusal = _refusal(plan, logdir)
    seconds, done = (None, 0) if refusal else _measured(logdir, total, slots)
    if as_json:
        found = {"trials": total, "runs": total, "done": done, "seconds_left": seconds, "refused": refusal or None}
        shown = {"first": [dict(trial.hparams) for trial in first], "last": [dict(trial.hparams) for trial in last]}
        click.echo(dump({**found, **shown}))
        return
    _show(plan, first, last, total)
    if total is not None:
        click.echo(f"{total:,} trials, {total:,} runs (one each){f', {done:,} done' if done else ''}")
    click.echo(f"`run` would refuse: {refusal}" if refusal else _in_time(seconds, slots))


def _last(plan: Plan, total: int | None, shown: int) -> list[Trial]:
    """The last trials, where they can be had without drawing all that come before."""
    if total is None or total <= shown:
        return []
    count = min(SHOWN, total - shown)
    everything = total == dataclasses.replace(plan, trials=None).count(LISTED)
    if plan.strategy == "grid" and everything:
        experiment = plan.domain.experiment
        backwards = itertools.islice(grid(experiment, points=plan.points, backwards=True), count)
        return [Trial.of(total - 1 - i, experiment.check(one.hparams)) for i, one in enumerate(backwards)][::-1]
    if total > 100_000:
        return []
    return list(itertools.islice(plan.suggestions([]), total - count, None))


def _refusal(plan: Plan, logdir: Path) -> str:
    """Why `run` would not take the log directory: it holds another sweep, or cannot be written. Empty when it would."""
    try:
        check_directory(LogDirPaths(logdir), plan, fresh=False)
    except LogDirError as error:
        return str(error)
    return ""


def _measured(logdir: Path, total: int | None, workers: int) -> tuple[float | None, int]:
    """The seconds left by the mean time of the runs done (None: nothing measured), and how many are done."""
    try:
        runs = [run for run in read(logdir).runs if run.is_over and not is_manual(run.name)]
    except LogDirError:
        return None, 0
    times = [run.seconds for run in runs if run.seconds is not None and run.outcome is Outcome.COMPLETED]
    if not times or total is None:
        return None, len(runs)
    return sum(times) / len(times) * max(0, total - len(runs)) / workers, len(runs)


def _show(plan: Plan, first: list[Trial], last: list[Trial], total: int | None) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    names = [hparam.name for hparam in plan.domain.experiment.hparams]
    for name in ("trial", *names):
        table.add_column(name, overflow="fold")
    for trial in first:
        table.add_row(*_row(trial, names))
    if total is None or total > len(first) + len(last):
        table.add_row("...")
    for trial in last:
        table.add_row(*_row(trial, names))
    Console().print(table)


def _row(trial: Trial, names: Iterable[str]) -> list[str]:
    values: dict[str, Any] = dict(trial.hparams)
    return [str(trial.index), *(format_value(values[name]) if name in values else "-" for name in names)]


def _in_time(seconds: float | None, workers: int) -> str:
    if seconds is None:
        return "time: not known before a run has finished"
    return f"time left: about {in_units(seconds)} with {workers} workers, by the runs done so far"
