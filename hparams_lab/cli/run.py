"""`hparams-lab run`."""

from __future__ import annotations

import atexit
import os
import shlex
import shutil
import signal
import sys
from functools import partial
from pathlib import Path

import click

from hparams_lab.cli.options import PlanBy, sweep_options
from hparams_lab.cli.units import BYTES, SECONDS
from hparams_lab.core.present import BROKEN, in_words, metrics_in_words
from hparams_lab.executors import NAMES as EXECUTORS
from hparams_lab.executors import Resources, executor_of
from hparams_lab.sweep.directory import check_in_advance
from hparams_lab.sweep.events import SweepEnded
from hparams_lab.sweep.plan import Plan
from hparams_lab.sweep.progress import progress
from hparams_lab.sweep.progress.output import is_terminal, occupy_standard_descriptors, write_line
from hparams_lab.sweep.runner import Handling, check_handling, sweep
from hparams_lab.sweep.signals import StopRequests, stop_requests


@click.command(short_help="Sweep a domain: train every trial and log it.")
@sweep_options
@click.option("--workers", type=int, help="Runs at the same time.  [default: what the machine has room for]")
@click.option(
    "--executor", type=click.Choice(EXECUTORS), help="A process per run, all in this one, or Ray.  [default: process]"
)
@click.option("--timeout", type=SECONDS, help="A run that takes longer is stopped: 90s, 5m, 2h.")
@click.option("--memory", type=BYTES, help="A run that wants more is killed: 512MB, 2GB.")
@click.option("--retries", type=int, default=0, help="Try a run whose process died again, so often.")
@click.option("--gpus", metavar="all|0,1|none", help="The GPUs; each run sees one.  [default: all]")
@click.option("--runs-per-gpu", type=int, default=1, help="Runs that share a GPU.")
@click.option("--cpus-per-run", type=float, help="CPU cores, and so threads, of each run.  [default: 1]")
@click.option("--ray-address", metavar="HOST:PORT", help="A Ray cluster, or auto.  [default: one on this machine]")
@click.option(
    "--save-model", is_flag=True, help="Keep each run's model, and picture the best one's predictions (Keras domains)."
)
@click.option("--extend", is_flag=True, help="Add hparams, values or trials to the sweep in the log directory.")
@click.option("--fresh", is_flag=True, help="Move what is in the log directory aside first; nothing is deleted.")
@click.option("--retry-failed", is_flag=True, help="Run again what failed, crashed, timed out or ran out of memory.")
@click.option("--no-lock", is_flag=True, help="Work without locks, on a file system that has none.")
@click.option("--json", "as_json", is_flag=True, help="Print each event as a line of JSON.")
def command(
    plan_by: PlanBy,
    logdir: Path,
    executor: str | None,
    retries: int,
    timeout: float | None,
    fresh: bool,
    extend: bool,
    retry_failed: bool,
    no_lock: bool,
    as_json: bool,
    ray_address: str | None,
    **resources: int | str | float | None,
) -> int:
    """Train every trial of DOMAIN and log it.

    DOMAIN is a built-in name (digits, mnist), a module, or the path of a .py file with an EXPERIMENT and a train(run)
    or, for Keras, build_model(hparams) and load_data().

    The same command again goes on where it stopped, however it was stopped. Ctrl-C lets the running runs finish, a
    second one stops them, as SIGTERM and SIGHUP do at once. The exit code is 1 when a run failed, 130, 143 or 129 after
    Ctrl-C, SIGTERM or SIGHUP, and 2 when nothing can be done.

    \b
    Examples:
      hparams-lab run digits
      hparams-lab run mnist --data mnist.npz --workers 2
      hparams-lab run digits --strategy random --trials 20
      hparams-lab run digits --set learning_rate=1e-4..1e-1:log --points 4
      hparams-lab run mymodel.py --set units=8,16 --logdir logs/first
      hparams-lab run mymodel.py --timeout 10m --memory 4GB --retries 1
      hparams-lab run mymodel.py --set units=8,16,32 --logdir logs/first --extend
      hparams-lab run mymodel.py --executor ray --ray-address head:6379
    """
    occupy_standard_descriptors()
    handling = Handling(timeout, retries, fresh, extend, retry_failed, not no_lock)
    check_in_advance(logdir)
    given = Resources(ray_address=ray_address, **resources)  # type: ignore[arg-type]
    with stop_requests() as stop:
        try:
            with executor_of(executor, given, stop.asked) as where, progress(as_json) as tell:
                check_handling(where, handling)
                with stop.getting_ready(where.trains_here):
                    plan = plan_by(where.describe)
                ended = None
                for event in sweep(plan, logdir, where, handling, stop):
                    tell(event)
                    ended = event if isinstance(event, SweepEnded) else ended
        except KeyboardInterrupt:
            return _stopped(stop)
        assert ended is not None
        if not as_json:
            _say_what_came_of_it(ended, plan, logdir)
        if ended.interrupted:
            return _exit_code(stop)
    return int(any(run.outcome in BROKEN for run in ended.results.runs))


def _stopped(stop: StopRequests) -> int:
    """Say that the sweep was stopped before it had begun, or in a run of this very process."""
    write_line(sys.stderr, f"stopped by {stop.name}; the same command goes on from here")
    return _exit_code(stop)


def _exit_code(stop: StopRequests) -> int:
    """The exit code of a sweep that was stopped; one more Ctrl-C while Python ends is not to change it."""
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
    return stop.exit_code


def _say_what_came_of_it(ended: SweepEnded, plan: Plan, logdir: Path) -> None:
    say = partial(write_line, sys.stdout)
    results = ended.results
    best = results.best()
    broken = [run.name for run in results.runs if run.outcome in BROKEN]
    say("")
    if broken:
        say(
            f"{len(broken)} of {len(results.runs)} runs failed ({', '.join(broken[:3])}"
            f"{', ...' if len(broken) > 3 else ''}); see `{program()} show {shlex.quote(str(logdir))} {broken[0]}`, "
            "and --retry-failed."
        )
    if best is None:
        outcomes = [str(run.outcome) for run in results.runs]
        counts = ", ".join(f"{outcomes.count(outcome)} {outcome}" for outcome in dict.fromkeys(outcomes))
        say(f"No run completed ({counts or 'none was begun'}), so none is best.")
    else:
        tags = [metric.tag for metric in plan.domain.experiment.metrics]
        said = f"Best: {best.name}  {metrics_in_words(best.metrics, tags)}"
        say(click.style(said, bold=True) if is_terminal(sys.stdout) else said)
        say(f"      {in_words(best.hparams, plan.domain.experiment)}")
    if ended.pictured:
        say(f"Predictions:    {ended.pictured} in TensorBoard's Images tab")
    say(f"Leaderboard:    {program()} top {shlex.quote(str(logdir))}")
    say(f"TensorBoard:    {program()} board {shlex.quote(str(logdir))}")


def program() -> str:
    """How this program was called, so that the next command can be copied."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return "python -m hparams_lab"
    found = shutil.which(called.name)
    return called.name if found and Path(found).resolve() == called.resolve() else os.path.relpath(called)
