"""A log directory as one sweep's: refused when it holds something else, prepared, and what is done in it."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hparams_lab.declared import Declared
from hparams_lab.errors import LogDirError
from hparams_lab.events.declaration import declare, experiment_message
from hparams_lab.events.logdir import load_sweep, save_sweep
from hparams_lab.events.reader import read_run
from hparams_lab.events.tree import run_folders
from hparams_lab.executors.job import missing_metric
from hparams_lab.experiment import Experiment
from hparams_lab.paths import LogDirPaths, writing
from hparams_lab.plan import Plan
from hparams_lab.provenance import git_state, versions
from hparams_lab.results import Outcome, RunResult


def check_directory(paths: LogDirPaths, plan: Plan, fresh: bool) -> None:
    """Refuse a directory that holds something else, before anything is started."""
    root = paths.root
    if root.exists() and not root.is_dir():
        raise LogDirError(f"the log directory {root} is a file; name a directory")
    nearest = next(folder for folder in (root, *root.absolute().parents) if folder.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise LogDirError(f"the log directory {root} cannot be written; choose another")
    if fresh or not root.exists():
        return
    sweep = load_sweep(paths)
    if sweep is None:
        if run_folders(str(root)) or any(root.glob("*/sweep.json")):
            raise LogDirError(
                f"{root} holds runs that no sweep made; choose another --logdir, or --fresh moves it aside"
            )
        return
    if difference := difference_from(sweep, plan):
        raise LogDirError(
            f"{root} holds another sweep ({difference}); choose another --logdir, or --fresh moves it aside"
        )


def difference_from(sweep: Mapping[str, Any], plan: Plan) -> str:
    """How the sweep of a `sweep.json` is another than the planned one, in words; empty when it is the same."""
    asked = plan.identity()
    differing = [key for key in asked if sweep.get(key) != asked[key]]
    return _difference(differing[0], sweep, asked) if differing else ""


def _difference(key: str, sweep: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    """What differs, in words short enough for a line."""
    if key != "experiment" or not isinstance(sweep.get(key), dict):
        return f"{key} is {sweep.get(key)!r} there, {asked[key]!r} here"
    there = {hparam["name"]: hparam for hparam in sweep[key]["hparams"]}
    here = {hparam["name"]: hparam for hparam in asked[key]["hparams"]}
    changed = [name for name in {**there, **here} if there.get(name) != here.get(name)]
    return f"hparam {changed[0]!r} is declared otherwise" if changed else "its metrics or objective are others"


def prepare(paths: LogDirPaths, plan: Plan, fresh: bool) -> None:
    """Make the directory this sweep's. Raises LogDirError."""
    with writing(paths.root):
        if fresh and paths.root.exists() and any(paths.root.iterdir()):
            paths.root.rename(_free_name(paths.root))
        paths.root.mkdir(parents=True, exist_ok=True)
        if load_sweep(paths) is None:
            save_sweep(paths, {**plan.identity(), "trials": plan.trials, **_circumstances()})
        declare(paths, experiment_message(plan.domain.experiment), combine=lambda old, new: new)


def _free_name(root: Path) -> Path:
    """Where to move a directory that is in the way: beside it, with the next free number."""
    numbered = (root.with_name(f"{root.name}.old-{number}") for number in itertools.count(1))
    return next(path for path in numbered if not path.exists())


def _circumstances() -> dict[str, Any]:
    git = git_state()
    return {"created": time.time(), "versions": versions(installed=True), "git_commit": git[0] if git else None}


def done_runs(paths: LogDirPaths, experiment: Experiment, retry_failed: bool) -> dict[str, RunResult]:
    """The runs that need not be done again, by name."""
    if not paths.sweep_json.exists():
        return {}
    again = {Outcome.FAILED, Outcome.CRASHED} if retry_failed else set()
    declared = Declared.of(experiment)
    found = (read_run(Path(folder.path), folder.name, declared) for folder in run_folders(str(paths.root)))
    over = (run for run in found if run is not None and run.is_over)
    return {run.name: run for run in over if run.outcome not in again and not missing_metric(run)}
