"""What to say of a log directory that is none, and which one may have been meant."""

from __future__ import annotations

import contextlib
import difflib
import itertools
import os

from hparams_lab.events.event_file import is_event_file
from hparams_lab.paths import lies_in

_MOST = 1000
"""So many directories are looked through."""


def no_directory(root: str) -> str:
    """Of a path that is no directory."""
    if os.path.exists(root):
        return f"the log directory {root} is a file; name a directory that a sweep or run was logged to"
    beside, name = os.path.split(root)
    names: list[str] = []
    with contextlib.suppress(OSError):
        names = os.listdir(beside or ".")
    close = difflib.get_close_matches(name, names, n=1)
    meant = f"did you mean {os.path.join(beside, close[0])}?" if close else ""
    return f"the log directory {root} does not exist; {meant or 'name a directory that a sweep or run was logged to'}"


def no_runs(root: str) -> str:
    """Of a directory without runs: what was looked for, and where there is some."""
    inside = os.path.abspath(root)
    around = itertools.islice(os.walk(os.path.dirname(inside)), _MOST)
    others = (folder for folder, _, files in around if any(map(is_event_file, files)))
    found = next((folder for folder in others if not lies_in(folder, inside)), None)
    hint = f"; the nearest that has some is {os.path.relpath(found)}" if found else "; is it the right one?"
    return f"{root} holds no runs: no file with 'tfevents' in its name and hparams or scalars, there or below{hint}"
