"""`hparams-lab prune`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from hparams_lab.cli.paths import PATH
from hparams_lab.cli.ranking import Rule, ranking_options
from hparams_lab.cli.table import Cell, Column, echo, fitted, outcome_cell, terminal_width
from hparams_lab.core.present import dump, visible
from hparams_lab.logdir.prune import Criteria, Plan, Removal, plan_prune
from hparams_lab.logdir.prune.removal import check_archive, prune
from hparams_lab.logdir.reader import read

SHOWN = 50


@click.command(short_help="Delete or archive failed runs, or all but the best.")
@click.argument("logdir", type=PATH)
@click.option(
    "--failed", is_flag=True, help="The runs that failed, crashed, timed out, ran out of memory or were interrupted."
)
@click.option("--diverged", is_flag=True, help="The runs whose objective is NaN or infinite.")
@click.option("--keep-best", type=click.IntRange(min=1), metavar="N", help="All runs but those of the best N trials.")
@ranking_options
@click.option("--archive", type=PATH, metavar="DIR", help="Move them to DIR; do not delete.")
@click.option("--yes", is_flag=True, help="Do it. Without this, nothing is changed.")
@click.option("--json", "as_json", is_flag=True, help="Print what goes as JSON.")
def command(
    logdir: Path,
    failed: bool,
    diverged: bool,
    keep_best: int | None,
    rule: Rule,
    archive: Path | None,
    yes: bool,
    as_json: bool,
) -> None:
    """Say which runs of LOGDIR would go and how much room that makes, and with --yes delete them or move them away.

    Running runs stay. A sweep that is gone on with trains again what was deleted. What is archived reads like LOGDIR.

    \b
    Examples:
      hparams-lab prune logs/digits --failed
      hparams-lab prune logs/digits --failed --diverged --yes
      hparams-lab prune logs/digits --keep-best 10 --archive logs-old/digits --yes
    """
    criteria = Criteria(failed, diverged, keep_best, rule.metric, rule.goal, rule.by)
    plan = plan_prune(logdir, read(logdir, thin=rule.by.thin), criteria)
    if archive is not None:
        check_archive(plan, archive)
    gone = prune(plan, archive) if yes else []
    if as_json:
        echo(dump(_as_json(plan, gone, archive, yes)))
    else:
        _show(plan, gone, archive, yes)


def _as_json(plan: Plan, gone: list[Removal], archive: Path | None, yes: bool) -> dict[str, Any]:
    went = set(map(id, gone))
    runs = [
        {"run": each.run.name, "trial": each.run.trial_id, "outcome": str(each.run.outcome), "why": each.why,
         "bytes": each.size, "removed": id(each) in went}
        for each in plan.removals
    ]  # fmt: skip
    return {
        "done": yes,
        "archive": archive and str(archive),
        "runs": runs,
        "spared": [{"run": run.name, "why": why} for run, why in plan.spared],
        "kept": plan.kept,
        "leftovers": len(plan.leftovers),
        "bytes": plan.size,
    }


def _show(plan: Plan, gone: list[Removal], archive: Path | None, yes: bool) -> None:
    shown = plan.removals[:SHOWN]
    if shown:
        echo(fitted(_columns(shown), terminal_width())[0])
    if len(plan.removals) > SHOWN:
        echo(f"and {len(plan.removals) - SHOWN} more")
    for run, why in plan.spared:
        echo(f"spared: {visible(run.name)}, {why}")
    shared = [each.run for each in plan.removals if each.run.files]
    if shared:
        more = f" and of {runs_in_words(len(shared) - 1)} more" if len(shared) > 1 else ""
        echo(f"of {visible(shared[0].name)}{more} the event files only: another run is in the same directory")
    went = set(map(id, gone))
    for each in plan.removals if yes else ():
        if id(each) not in went:
            echo(f"spared: {visible(each.run.name)}, somebody began to write it")
    echo(_summary(plan, gone, archive, yes))


def _columns(removals: Sequence[Removal]) -> list[Column]:
    columns = [
        Column("run", [each.run.name for each in removals], names=()),
        Column("outcome", [outcome_cell(each.run.outcome) for each in removals], expendable=3),
        Column("size", [in_bytes(each.size) for each in removals], right=True),
    ]
    whys = ["" if each.why == str(each.run.outcome) else each.why for each in removals]
    for place, (head, texts) in enumerate({"why": whys, "reason": [each.run.reason for each in removals]}.items()):
        if any(texts):
            columns.append(Column(head, [Cell(text, dim=True) for text in texts], expendable=2 + 2 * place))
    return columns


def _summary(plan: Plan, gone: list[Removal], archive: Path | None, yes: bool) -> str:
    verb = f"moved to {archive}" if archive else "deleted"
    left = f", and what an earlier prune left ({len(plan.leftovers)})" if plan.leftovers else ""
    if not plan.removals and not plan.leftovers:
        return f"Nothing to go, {runs_in_words(plan.kept)} kept."
    if yes:
        size, kept = sum(each.size for each in gone), plan.kept + len(plan.removals) - len(gone)
        return f"{runs_in_words(len(gone))} {verb} ({in_bytes(size)}){left}, {kept} kept."
    count = runs_in_words(len(plan.removals))
    return f"{count} would be {verb} ({in_bytes(plan.size)}){left}, {plan.kept} kept. --yes does it."


def runs_in_words(count: int) -> str:
    """A number of runs."""
    return f"{count} run" if count == 1 else f"{count} runs"


def in_bytes(size: float) -> str:
    """A size as a person reads it: 512 B, 1.5 kB, 3.2 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
