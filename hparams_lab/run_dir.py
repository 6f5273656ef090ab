"""Run directories: a new one that no other run has, or one that is gone on with."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from hparams_lab.errors import LogDirError
from hparams_lab.paths import EXPERIMENT, LogDirPaths, writing

IfExists = Literal["error", "number"]

_next: dict[Path, int] = {}
"""By log directory, the number that was free last: the next `run-0000` is looked for from there."""


def make_run_dir(paths: LogDirPaths, name: str | None, if_exists: IfExists = "error") -> str:
    """Make a directory for a run; its name.

    Args:
      name: what to call it; the next free `run-0000` when left out.
      if_exists: what to do about a name that is taken: "error", or "number" for `name-2`, `name-3`, ...

    Raises LogDirError.
    """
    with writing(paths.root):
        try:
            return _next_dir(paths) if name is None else _named_dir(paths, name, if_exists)
        except FileNotFoundError:
            paths.root.mkdir(parents=True, exist_ok=True)
            return _next_dir(paths) if name is None else _named_dir(paths, name, if_exists)


def checked_run_name(paths: LogDirPaths, name: str) -> str:
    """`name` in its plain form, if it stays below the log directory. Raises LogDirError."""
    plain = Path(os.path.normpath(name))
    if not name or plain.is_absolute() or plain.drive or plain.parts[:1] in [(), ("..",)] or "\0" in name:
        raise LogDirError(f"the run's name {name!r} leaves the log directory {paths.root}; give a plain name")
    if plain.parts[0] in (EXPERIMENT, "sweep.json"):
        raise LogDirError(f"the run's name {name!r} is kept for the log directory's own; give another name")
    return plain.as_posix()


def _named_dir(paths: LogDirPaths, name: str, if_exists: IfExists) -> str:
    plain = checked_run_name(paths, name)
    if not paths.root.is_dir():
        raise FileNotFoundError
    number = 1
    while True:
        numbered = plain if number == 1 else f"{plain}-{number}"
        try:
            paths.run(numbered).mkdir(parents=True)
        except FileExistsError:
            if if_exists == "error":
                raise LogDirError(
                    f"run {name!r} is in {paths.root} already; give another name or none, if_exists='number', "
                    "or resume=True to go on with it"
                ) from None
            number += 1
        else:
            return numbered


def _next_dir(paths: LogDirPaths) -> str:
    number = _next.pop(paths.root, None)
    if number is None:
        number = _first_free(paths)
    while True:
        try:
            os.mkdir(f"{paths.root}/run-{number:04d}")
        except FileExistsError:
            number += 1
        else:
            _next[paths.root] = number + 1
            return f"run-{number:04d}"


def _first_free(paths: LogDirPaths) -> int:
    """One more than the largest number of a `run-0000` or `run-0000-fold-1`."""
    names = [entry.name for entry in os.scandir(paths.root) if entry.name.startswith("run-")]
    numbers = [name[4:].partition("-")[0] for name in names]
    return max((int(number) for number in numbers if number.isdecimal()), default=-1) + 1
