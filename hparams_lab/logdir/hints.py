"""What to say of a log directory that is none, and which one may have been meant."""

from __future__ import annotations

import contextlib
import difflib
import itertools
import os
from collections.abc import Iterable

from hparams_lab.core.findings import Finding
from hparams_lab.events.read.instead import in_words, instead_of
from hparams_lab.storage.file_names import is_event_file
from hparams_lab.storage.paths import lies_in

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


def no_runs(root: str, findings: Iterable[Finding] = ()) -> str:
    """Of a directory without runs: what was looked for, what is there in its place, and where there is some."""
    stead = [instead for finding in findings if (instead := instead_of(finding)) is not None]
    if stead:
        return f"{root} holds no runs; {'; '.join(in_words(stead))}"
    empty = _empty_files(root)
    if empty:
        said = f"{empty:,} event files have" if empty > 1 else "the event file has"
        return f"{root} holds no runs: {said} nothing in {'them' if empty > 1 else 'it'}; bring back a copy"
    inside = os.path.abspath(root)
    around = itertools.islice(os.walk(os.path.dirname(inside)), _MOST)
    others = (folder for folder, _, files in around if any(map(is_event_file, files)))
    found = next((folder for folder in others if not lies_in(folder, inside)), None)
    hint = f"; the nearest that has some is {os.path.relpath(found)}" if found else "; is it the right one?"
    return f"{root} holds no runs: no file with 'tfevents' in its name and hparams or scalars, there or below{hint}"


def _empty_files(root: str) -> int:
    """How many event files there are, if all have no bytes."""
    files = [os.path.join(folder, name) for folder, _, names in os.walk(root) for name in names if is_event_file(name)]
    return len(files) if not any(os.path.getsize(file) for file in files if os.path.exists(file)) else 0
