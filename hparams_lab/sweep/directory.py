"""A log directory as one sweep's: refused when it holds something else, prepared, and what is done in it."""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hparams_lab.core.diff import differences, in_a_line
from hparams_lab.core.errors import LogDirError, OwnedError, UsageError
from hparams_lab.core.results import RunResult
from hparams_lab.logdir.declaration import declare, experiment_message, observed_message, union
from hparams_lab.logdir.sweep_json import BY, load_sweep, save_sweep
from hparams_lab.logdir.walk import run_folders
from hparams_lab.run.provenance import git_state, versions
from hparams_lab.storage import disk
from hparams_lab.storage.ownership import LOCK, LOCK_RUNS, NEW, current_owner, move_aside, owner_in_words
from hparams_lab.storage.paths import LogDirPaths, writing
from hparams_lab.sweep.plan import Plan
from hparams_lab.targets.load import FunctionTarget


def check_directory(paths: LogDirPaths, plan: Plan, fresh: bool, extend: bool = False) -> None:
    """Refuse a directory that holds something else, or cannot be written, before anything is started.

    With `fresh` what it holds does not matter; with `extend` it may be a sweep that the plan only adds to.
    Raises LogDirError, and UsageError for both at once.
    """
    if fresh and extend:
        raise UsageError("--fresh and --extend are both given; extend what is there, or begin afresh")
    root = paths.root
    with writing(root):
        _check_disk(root)
    if fresh:
        check_not_inside(root, "--fresh")
    if fresh or not root.exists():
        return
    sweep = load_sweep(paths)
    if sweep is None or BY in sweep:
        check_unused(paths, OTHERWISE)
        return
    changes = differences(sweep, plan.identity())
    others = [change for change in changes if not change.extends]
    if extend and others:
        raise LogDirError(f"--extend only adds to {root}, and this is another sweep: {in_a_line(others)}; {OTHERWISE}")
    if changes and not extend:
        ways = OTHERWISE if others else OTHERWISE.replace("or ", "--extend adds to it, or ")
        raise LogDirError(f"{root} holds another sweep: {in_a_line(changes)}; {ways}")


def check_not_inside(root: Path, option: str) -> None:
    """Refuse to move a directory aside that the program stands in. Raises LogDirError."""
    if _is_used(root) and Path.cwd().is_relative_to(os.path.realpath(root)):
        raise LogDirError(f"{option} cannot move {root} aside from inside of it; start from another directory")


def check_unused(paths: LogDirPaths, otherwise: str) -> None:
    """Refuse a directory that holds runs, or a sweep, or cannot be written. `otherwise` is the way out, in words.

    Raises LogDirError.
    """
    with writing(paths.root):
        _check_disk(paths.root)
    sweep = load_sweep(paths) if paths.root.exists() else None
    if sweep is not None:
        raise LogDirError(f"{paths.root} holds {_what(sweep)} already; {otherwise}")
    if paths.root.exists() and (run_folders(str(paths.root)) or any(paths.root.glob("*/sweep.json"))):
        raise LogDirError(f"{paths.root} holds runs that no sweep made; {otherwise}")


def _what(sweep: Mapping[str, Any]) -> str:
    return f"a search by {sweep[BY]}" if isinstance(sweep.get(BY), str) else "a sweep"


def check_in_advance(root: Path) -> None:
    """Refuse what can be refused before the domain is imported, which may take its time. Raises LogDirError."""
    with writing(root):
        _check_disk(root)
    owner = current_owner(root)
    if owner is not None:
        raise OwnedError(owner_in_words(root, owner, time.time()))


OTHERWISE = "choose another --logdir, or --fresh moves it aside"


def _check_disk(root: Path) -> None:
    """Refuse a directory that cannot be written."""
    if root.exists() and not root.is_dir():
        raise LogDirError(f"the log directory {root} is a file; name a directory")
    if root.is_symlink() and not root.exists():
        raise LogDirError(f"the log directory {root} is a link to {os.readlink(root)}, which is not there; make that")
    nearest = next(folder for folder in (root, *root.absolute().parents) if folder.exists())
    if nearest.is_dir() and hasattr(os, "statvfs"):
        disk = os.statvfs(nearest)
        if disk.f_flag & os.ST_RDONLY:
            raise LogDirError(f"the log directory {root} is on a file system that is read-only; choose another")
        free = disk.f_bfree if os.geteuid() == 0 else disk.f_bavail
        if disk.f_blocks and not free:
            raise LogDirError(f"the log directory {root} is on a disk that is full; make room there, or choose another")
    effective = os.access in os.supports_effective_ids
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK, effective_ids=effective):
        raise LogDirError(f"the log directory {root} cannot be written; choose another")


def source_note(paths: LogDirPaths, plan: Plan) -> str:
    """What a person should know when what is trained is another than when the sweep began; empty when it is not.

    A domain with a VERSION tells its changes by that. A function is compared by its bytecode, which is another in each
    version of Python.
    """
    sweep, domain = load_sweep(paths) or {}, plan.domain
    if domain.version is not None or None in (sweep.get("source"), domain.source) or sweep["source"] == domain.source:
        return ""
    way_out = "set VERSION in it to keep results of different versions apart"
    if isinstance(domain.target, FunctionTarget):
        before = str((sweep.get("versions") or {}).get("python", ""))
        if before.split(".")[:2] != [*map(str, sys.version_info[:2])]:
            return ""
        way_out = "choose another log directory, or fresh=True, to keep results of different versions apart"
    return f"{domain.identity['domain']} has changed since this sweep began; {way_out}"


def prepare(
    paths: LogDirPaths, plan: Plan, fresh: bool, extend: bool = False, others: Sequence[RunResult] = ()
) -> Path | None:
    """Make the directory this sweep's, which `check_directory` has let pass. Raises LogDirError.

    `others` are the runs that someone logged beside the sweep, whose columns the summary keeps. Returns where what the
    directory held was moved to, if it was.

    A process killed between any two steps does no harm. Before the rename nothing was done; after it there is no
    directory, or an empty one. A new `sweep.json` without an Experiment summary gets one when the sweep goes on. An
    extended summary beside the old `sweep.json` is that of `sweep.json` again when the old sweep goes on, and is
    completed by the same --extend; no run has begun by then. Each file is there whole or not at all.
    """
    with writing(paths.root):
        aside = set_aside(paths.root) if fresh else None
        disk.make_directories(paths.root)
        stored = load_sweep(paths)
        sweep = _new_sweep(plan) if stored is None else _as_asked(stored, plan, extend)
        if stored is None:
            save_sweep(paths, sweep)
        message = experiment_message(plan.domain.experiment)
        for run in others:
            message = union(message, observed_message(run.hparams, run.metrics))
        declare(paths, message, combine=lambda old, new: new)
        if stored not in (None, sweep):
            save_sweep(paths, sweep)
    return aside


def set_aside(root: Path) -> Path | None:
    """Move what an owned directory holds to a name beside it, and tell which; None when it holds nothing."""
    if not _is_used(root):
        return None
    root = Path(os.path.realpath(root))
    aside = _free_name(root)
    move_aside(root, aside)
    return aside


def _is_used(root: Path) -> bool:
    """Whether there is something in a directory but for its locks."""
    return root.is_dir() and not {*os.listdir(root)} <= {LOCK, LOCK_RUNS, NEW}


def _free_name(root: Path) -> Path:
    """Where to move a directory that is in the way: beside it, with the next free number."""
    numbered = (root.with_name(f"{root.name}.old-{number}") for number in itertools.count(1))
    return next(path for path in numbered if not os.path.lexists(path))


def _new_sweep(plan: Plan) -> dict[str, Any]:
    """What `sweep.json` is to say of a sweep that begins."""
    git = git_state()
    circumstances = {"versions": versions(installed=True), "git_commit": git[0] if git else None}
    return {
        **plan.identity(),
        **_how_many(plan),
        "source": plan.domain.source,
        "created": time.time(),
        **circumstances,
    }


def _how_many(plan: Plan) -> dict[str, Any]:
    """How many trials were asked for, and how many runs that makes; None where only the strategy knows."""
    return {"trials": plan.trials, "runs": plan.size}


def _as_asked(stored: Mapping[str, Any], plan: Plan, extend: bool) -> dict[str, Any]:
    """What `sweep.json` is to say of a sweep that goes on: how many now, and how it was extended."""
    changes = differences(stored, plan.identity()) if extend else []
    if not changes:
        return {**stored, **_how_many(plan)}
    extended = [*(stored.get("extended") or []), {"when": time.time(), "changes": [*map(str, changes)]}]
    return {**stored, **plan.identity(), **_how_many(plan), "extended": extended}
