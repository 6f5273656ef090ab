"""`hparams-lab run`."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

import click

from hparams_lab.cli.options import PlanBy, sweep_options
from hparams_lab.executors import NAMES as EXECUTORS
from hparams_lab.executors import executor_of
from hparams_lab.plan import Plan
from hparams_lab.progress import progress
from hparams_lab.results import Outcome
from hparams_lab.runner import sweep
from hparams_lab.sweep_events import SweepEnded
from hparams_lab.words import in_words, metrics_in_words

BROKEN = (Outcome.FAILED, Outcome.CRASHED)


@click.command(short_help="Sweep a domain: train every trial and log it.")
@sweep_options
@click.option("--workers", type=int, help="Runs at the same time.  [default: the number of cores]")
@click.option(
    "--executor", type=click.Choice(EXECUTORS), help="A process per run, or all in this one.  [default: process]"
)
@click.option("--save-model", is_flag=True, help="Keep each run's model as model.keras (Keras domains).")
@click.option("--fresh", is_flag=True, help="Move what is in the log directory aside first; nothing is deleted.")
@click.option("--retry-failed", is_flag=True, help="Run the failed and crashed runs again.")
@click.option("--json", "as_json", is_flag=True, help="Print each event as a line of JSON.")
def command(
    plan_by: PlanBy,
    logdir: Path,
    workers: int | None,
    executor: str | None,
    fresh: bool,
    retry_failed: bool,
    as_json: bool,
) -> int:
    """Train every trial of DOMAIN and log it.

    DOMAIN is a built-in name (digits, mnist), a module, or the path of a .py file with an EXPERIMENT and a train(run)
    or, for Keras, build_model(hparams) and load_data().

    The same command again goes on where it stopped. Ctrl-C lets the running runs finish, a second one stops them.
    The exit code is 1 when a run failed, 130 after Ctrl-C.

    \b
    Examples:
      hparams-lab run digits
      hparams-lab run mnist --data mnist.npz --workers 2
      hparams-lab run digits --strategy random --trials 20
      hparams-lab run digits --set learning_rate=1e-4..1e-1:log --points 4
      hparams-lab run mymodel.py --set units=8,16 --logdir logs/first
    """
    ended = None
    with executor_of(executor, workers) as where, progress(as_json) as tell:
        plan = plan_by(where.describe)
        for event in sweep(plan, logdir, where, fresh=fresh, retry_failed=retry_failed):
            tell(event)
            ended = event if isinstance(event, SweepEnded) else ended
    assert ended is not None
    if not as_json:
        _say_what_came_of_it(ended, plan, logdir)
    if ended.interrupted:
        return 130
    return int(any(run.outcome in BROKEN for run in ended.results.runs))


def _say_what_came_of_it(ended: SweepEnded, plan: Plan, logdir: Path) -> None:
    results = ended.results
    best = results.best()
    broken = [run.name for run in results.runs if run.outcome in BROKEN]
    click.echo()
    if ended.interrupted:
        click.echo("Stopped. The same command goes on from here.")
    if broken:
        click.echo(
            f"{len(broken)} of {len(results.runs)} runs failed ({', '.join(broken[:3])}"
            f"{', ...' if len(broken) > 3 else ''}); see their output.log, and --retry-failed."
        )
    if best is None:
        outcomes = [str(run.outcome) for run in results.runs]
        counts = ", ".join(f"{outcomes.count(outcome)} {outcome}" for outcome in dict.fromkeys(outcomes))
        click.echo(f"No run completed ({counts or 'none was begun'}), so none is best.")
    else:
        tags = [metric.tag for metric in plan.domain.experiment.metrics]
        click.secho(f"Best: {best.name}  {metrics_in_words(best.metrics, tags)}", bold=True)
        click.echo(f"      {in_words(best.hparams, plan.domain.experiment)}")
    click.echo(f"Leaderboard:    {program()} top {shlex.quote(str(logdir))}")
    click.echo(f"TensorBoard:    {program()} board {shlex.quote(str(logdir))}")


def program() -> str:
    """How this program was called, so that the next command can be copied."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return "python -m hparams_lab"
    found = shutil.which(called.name)
    return called.name if found and Path(found).resolve() == called.resolve() else os.path.relpath(called)
