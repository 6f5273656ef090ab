"""Options that more than one command takes: what is swept, and how."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import click

from hparams_lab.cli.paths import PATH
from hparams_lab.core.errors import UsageError
from hparams_lab.sweep.plan import Plan, check_numbers
from hparams_lab.sweep.strategies import NAMES as STRATEGIES
from hparams_lab.targets.load import Describe, load_domain, name_of_domain
from hparams_lab.targets.overrides import split_setting

PlanBy: TypeAlias = Callable[[Describe], Plan]


def sweep_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """DOMAIN and the options that make a plan.

    The command gets `logdir`, and `plan_by`, which makes the `Plan` with a way to describe the domain.
    """

    @click.argument("domain")
    @click.option("--logdir", type=PATH, help="The sweep's directory.  [default: logs/DOMAIN]")
    @click.option("--strategy", type=click.Choice(STRATEGIES), default="grid", show_default=True, help="How to search.")
    @click.option(
        "--points", type=int, default=2, show_default=True, help="Values per interval in a grid; 2: its ends."
    )
    @click.option(
        "--trials", type=int, help="At most so many trials.  [default: all; random needs it in an infinite space]"
    )
    @click.option("--seed", type=int, default=0, show_default=True, help="Fixes the trials and their random numbers.")
    @click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="NAME=VALUES",
        help="Another domain for an hparam: units=8,16 or lr=1e-4..1e-1:log. May be given again.",
    )
    @click.option("--data", type=PATH, help="A file for the domain's load_data, such as mnist.npz.")
    @functools.wraps(command)
    def wrapped(
        domain: str,
        logdir: Path | None,
        strategy: str,
        points: int,
        trials: int | None,
        seed: int,
        settings: tuple[str, ...],
        data: Path | None,
        **more: Any,
    ) -> Any:
        save_model = more.pop("save_model", False)
        check_numbers(points, trials)
        for setting in settings:
            split_setting(setting)
        if data is not None and not data.exists():
            raise UsageError(f"--data is {data}, which is not there; name a file that is")

        def plan_by(describe: Describe) -> Plan:
            file = None if data is None else str(data)
            loaded = load_domain(domain, settings=settings, data=file, save_model=save_model, describe=describe)
            return Plan(loaded, strategy, points, trials, seed)

        return command(plan_by=plan_by, logdir=logdir or Path("logs") / name_of_domain(domain), **more)

    return wrapped
