"""A log directory read back, and its `sweep.json`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hparams_lab.curve import Thin
from hparams_lab.declared import Declared
from hparams_lab.errors import LogDirError
from hparams_lab.events.reader import read_run
from hparams_lab.events.writer import sync_directory
from hparams_lab.findings import Finding
from hparams_lab.paths import LogDirPaths
from hparams_lab.results import Results


def read(logdir: str | os.PathLike[str], *, thin: Thin | None = None) -> Results:
    """Everything that a log directory holds.

    Args:
      logdir: a directory that a sweep, runs, or another tool logged to; several sweeps may be below it.
      thin: what to keep of each tag's points, such as `curve.extremes`; all when left out.

    Raises LogDirError when there is no such directory, or nothing in it that a run wrote.
    """
    return LogDirReader(logdir, thin).read()


class LogDirReader:
    """Reads a log directory again and again; each time only what is new.

    Args: as for `read`.
    """

    def __init__(self, logdir: str | os.PathLike[str], thin: Thin | None = None) -> None:
        self._paths = LogDirPaths(Path(logdir))
        self._thin = thin

    def read(self) -> Results:
        """What the directory holds now. Raises LogDirError as `read` does."""
        paths = self._paths
        if not paths.root.is_dir():
            kind = "is a file" if paths.root.exists() else "does not exist"
            raise LogDirError(
                f"the log directory {paths.root} {kind}; name a directory that a sweep or run was logged to"
            )
        declared = declared_in(paths)
        findings: list[Finding] = []
        found = (read_run(directory, paths.name_of(directory), declared, findings) for directory in paths.run_dirs())
        runs = tuple(run for run in found if run is not None)
        if not runs and declared is None:
            raise LogDirError(
                f"{paths.root} holds no runs (no event file with hparams in it or below); is it the right one?"
            )
        return Results(declared, runs, findings=tuple(findings))


def declared_in(paths: LogDirPaths) -> Declared | None:
    """What `sweep.json` declares, types and all; None without one.

    Raises LogDirError when it tells something else.
    """
    sweep = load_sweep(paths)
    if not sweep or "experiment" not in sweep:
        return None
    try:
        return Declared(sweep["experiment"])
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
