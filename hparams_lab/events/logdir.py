"""A log directory read back, and its `sweep.json`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hparams_lab.errors import LogDirError
from hparams_lab.events.reader import read_run
from hparams_lab.events.writer import sync_directory
from hparams_lab.paths import LogDirPaths
from hparams_lab.results import Results

if TYPE_CHECKING:
    from hparams_lab.experiment import Experiment


def read(logdir: str | os.PathLike[str]) -> Results:
    """Everything that a log directory holds.

    Raises LogDirError when there is no such directory, or nothing in it that a run wrote.
    """
    paths = LogDirPaths(Path(logdir))
    if not paths.root.is_dir():
        kind = "is a file" if paths.root.exists() else "does not exist"
        raise LogDirError(f"the log directory {paths.root} {kind}; name a directory that a sweep or run was logged to")
    experiment = declared_experiment(paths)
    found = (read_run(directory, paths.name_of(directory), experiment) for directory in paths.run_dirs())
    runs = tuple(run for run in found if run is not None)
    if not runs and experiment is None:
        raise LogDirError(
            f"{paths.root} holds no runs (no event file with hparams in it or below); is it the right one?"
        )
    return Results(experiment, runs)


def declared_experiment(paths: LogDirPaths) -> Experiment | None:
    """The experiment as `sweep.json` tells it, types and all; None without one.

    Raises LogDirError when it tells something else.
    """
    sweep = load_sweep(paths)
    if not sweep:
        return None
    from hparams_lab.experiment import Experiment  # brings TensorBoard's classes, which a bare log needs not

    try:
        return Experiment.from_json(sweep["experiment"]) if "experiment" in sweep else None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _unreadable(paths, f"its experiment is none: {error!r}") from None


def load_sweep(paths: LogDirPaths) -> dict[str, Any] | None:
    """What `sweep.json` holds; None when there is none. Raises LogDirError when it is not JSON."""
    try:
        found: dict[str, Any] = json.loads(paths.sweep_json.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, OSError) as error:
        raise _unreadable(paths, error) from None
    if not isinstance(found, dict):
        raise _unreadable(paths, f"it holds a {type(found).__name__}")
    return found


def _unreadable(paths: LogDirPaths, why: object) -> LogDirError:
    return LogDirError(f"{paths.sweep_json} cannot be read ({why}); restore it or move the directory aside")


def save_sweep(paths: LogDirPaths, sweep: Mapping[str, Any]) -> None:
    """Write `sweep.json` whole or not at all."""
    temporary = paths.root / f".sweep.json.{os.getpid()}"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(sweep, file, indent=2, ensure_ascii=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, paths.sweep_json)
    sync_directory(paths.root)
