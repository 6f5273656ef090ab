"""What of a log directory is whose: the directories with event files of each run, as the reader puts them together."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

from hparams_lab.events.tree import Folder, owners_of, walk
from hparams_lab.results import RunResult


@dataclass(frozen=True, slots=True)
class Owned:
    """A run and its directories with event files: its own first, then those without a session that belong to it."""

    run: RunResult
    folders: tuple[Folder, ...]


def owned(root: str | os.PathLike[str], runs: Iterable[RunResult]) -> list[Owned]:
    """The runs that were read from `root`, in their order, each with its directories."""
    folders = {folder.name: folder for folder in walk(os.path.normpath(root)).folders}
    by_name = {name_below(root, run): run for run in runs}
    sessions = {name for name, run in by_name.items() if run.is_session}
    parts: dict[str, list[Folder]] = {name: [folders[name]] for name in by_name if name in folders}
    for name, (owner, _) in owners_of(folders, sessions).items():
        if name not in by_name:
            parts[owner].append(folders[name])
    return [Owned(by_name[name], tuple(found)) for name, found in parts.items()]


def name_below(root: str | os.PathLike[str], run: RunResult) -> str:
    """A run's directory below the root; "" for the root itself."""
    name = os.path.relpath(run.path, os.path.normpath(root)).replace(os.sep, "/")
    return "" if name == "." else name
