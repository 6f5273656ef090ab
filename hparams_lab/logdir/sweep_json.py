"""`sweep.json`: what a directory's sweep was asked for, and what it declares, types and all."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from typing import Any

from hparams_lab.core.declared import Declared
from hparams_lab.core.errors import LogDirError
from hparams_lab.storage import disk
from hparams_lab.storage.paths import LogDirPaths

BY = "by"
"""What `sweep.json` calls the search of another library that filled the directory."""


def declared_in(paths: LogDirPaths) -> Declared | None:
    """What `sweep.json` declares, types and all; None without one.

    Raises LogDirError when it tells something else.
    """
    sweep = load_sweep(paths)
    if not sweep or "experiment" not in sweep:
        return None
    try:
        return Declared(sweep["experiment"])
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise _unreadable(paths, f"its experiment is none: {error!r}") from None


def load_sweep(paths: LogDirPaths) -> dict[str, Any] | None:
    """What `sweep.json` holds; None when there is none. Raises LogDirError when it is not JSON."""
    try:
        if stat.S_ISFIFO(os.stat(paths.sweep_json).st_mode):  # which would wait for a writer
            raise OSError("it is no file")
        found: dict[str, Any] = json.loads(paths.sweep_json.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, OSError, RecursionError) as error:
        raise _unreadable(paths, error) from None
    if not isinstance(found, dict):
        raise _unreadable(paths, f"it holds a {type(found).__name__}")
    return found


def is_of_search(paths: LogDirPaths) -> bool:
    """Whether a sweep of ours or another library's search fills the directory, and not runs that anyone starts.

    Raises LogDirError when `sweep.json` is not JSON.
    """
    return not {"domain", BY}.isdisjoint(load_sweep(paths) or ())


def _unreadable(paths: LogDirPaths, why: object) -> LogDirError:
    return LogDirError(f"{paths.sweep_json} cannot be read ({why}); restore it or move the directory aside")


def save_sweep(paths: LogDirPaths, sweep: Mapping[str, Any]) -> None:
    """Write `sweep.json` whole or not at all; it is on the disk when this returns. Raises LogDirError."""
    text = json.dumps(sweep, indent=2, ensure_ascii=False) + "\n"
    try:
        disk.save(paths.sweep_json, text.encode())
    except OSError as error:
        raise disk.refusal(paths.sweep_json, error) from None
