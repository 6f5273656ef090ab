"""Run directories: a new one that no other run has, or one that is gone on with.

A sweep names its runs itself, `run-0000` and so on, and clears the directory of one that it does again. A run that
someone starts beside it has a name that no sweep gives, unless another is asked for: the sweep then passes over that.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Literal

from hparams_lab.core.errors import LogDirError
from hparams_lab.logdir.sweep_json import is_of_search
from hparams_lab.storage.locks import is_held
from hparams_lab.storage.ownership import LOCK
from hparams_lab.storage.paths import EXPERIMENT, LogDirPaths, writing

IfExists = Literal["error", "number"]

RUN, MANUAL = "run-", "manual-"
"""How names begin that are given: of runs, and of those that are started beside a sweep's."""

_OF_A_SWEEP = re.compile(r"run-\d{4,}(-[a-z]+-\d+)?")

_next: dict[tuple[Path, str], int] = {}
"""By log directory and prefix, the number that was free last: the next `run-0000` is looked for from there."""

_swept: dict[Path, tuple[tuple[int, int], bool]] = {}
"""By log directory, its `sweep.json` as this process saw it last, and whether that is of a sweep."""


def make_run_dir(paths: LogDirPaths, name: str | None, if_exists: IfExists = "error") -> str:
    """Make a directory for a run; its name.

    Args:
      name: what to call it; when left out the next free `run-0000`, or `manual-0000` in a sweep's directory.
      if_exists: what to do about a name that is taken: "error", or "number" for `name-2`, `name-3`, ...

    Raises LogDirError.
    """
    with writing(paths.root):
        try:
            return _next_dir(paths) if name is None else _named_dir(paths, name, if_exists)
        except FileNotFoundError:
            paths.root.mkdir(parents=True, exist_ok=True)
            return _next_dir(paths) if name is None else _named_dir(paths, name, if_exists)


def is_swept(paths: LogDirPaths) -> bool:
    """Whether a sweep or a search gives the names in a log directory: it filled it, or works in it now."""
    return _holds_sweep(paths) or is_held(paths.root / LOCK)


def is_manual(name: str) -> bool:
    """Whether a run of that name was started beside a sweep, which did not plan it."""
    return name.rpartition("/")[2].startswith(MANUAL)


def check_not_of_sweep(paths: LogDirPaths, name: str) -> None:
    """Refuse a name inside the directory of a sweep's run, which goes when that is done again. Raises LogDirError."""
    above, _, inside = checked_run_name(paths, name).partition("/")
    if inside and _OF_A_SWEEP.fullmatch(above) and is_swept(paths):
        raise LogDirError(
            f"the run's name {name!r} is inside of a run of the sweep in {paths.root}, which clears that when it is "
            f"done again; give another name, or none for the next free '{MANUAL}0000'"
        )


def _holds_sweep(paths: LogDirPaths) -> bool:
    """Whether `sweep.json` is of a sweep or a search. One that cannot be read counts as such."""
    try:
        found = os.stat(paths.sweep_json)
    except OSError:
        return False
    stamp = (found.st_ino, found.st_mtime_ns)
    if paths.root not in _swept or _swept[paths.root][0] != stamp:
        of_search = True
        with contextlib.suppress(LogDirError):
            of_search = is_of_search(paths)
        _swept[paths.root] = (stamp, of_search)
    return _swept[paths.root][1]


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
    prefix = MANUAL if is_swept(paths) else RUN
    number = _next.pop((paths.root, prefix), None)
    if number is None:
        number = _first_free(paths, prefix)
    while True:
        try:
            os.mkdir(f"{paths.root}/{prefix}{number:04d}")
        except FileExistsError:
            number += 1
        else:
            _next[paths.root, prefix] = number + 1
            return f"{prefix}{number:04d}"


def _first_free(paths: LogDirPaths, prefix: str) -> int:
    """One more than the largest number of a `run-0000` or `run-0000-fold-1`."""
    names = [entry.name.removeprefix(prefix) for entry in os.scandir(paths.root) if entry.name.startswith(prefix)]
    numbers = [name.partition("-")[0] for name in names]
    return max((int(number) for number in numbers if number.isdecimal()), default=-1) + 1
