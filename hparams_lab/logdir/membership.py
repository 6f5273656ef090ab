"""What of a log directory is whose: the directories with event files of each run, as the reader puts them together."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from hparams_lab.core.results import RunResult
from hparams_lab.logdir.walk import Folder, above_of, owners_of, walk


@dataclass(frozen=True, slots=True)
class Owned:
    """A run and its directories with event files: its own first, then those without a session that belong to it.

    `name` is its directory's below the root ("" for the root). `is_alone` is False where other runs have files in its
    directories: then only its event files are its own, and it and its folders are named as if it had its own.
    """

    run: RunResult
    name: str
    folders: tuple[Folder, ...]
    is_alone: bool = True


def owned(root: str | os.PathLike[str], runs: Iterable[RunResult]) -> list[Owned]:
    """The runs that were read from `root`, in their order, each with its directories."""
    top = os.path.normpath(root)
    folders = {folder.name: folder for folder in walk(top).folders}
    by_name: dict[str, list[RunResult]] = {}
    for run in runs:
        by_name.setdefault(name_below(root, run), []).append(run)
    sessions = {name for name, there in by_name.items() if any(run.is_session for run in there)}
    parts = {name: [folders.get(name) or Folder(os.path.normpath(f"{top}/{name}"), name)] for name in by_name}
    shared = {name for name, there in by_name.items() if len(there) > 1}
    owners = owners_of(folders, sessions, tags=lambda name: _tags(name, by_name), shared=shared)
    for name, (owner, _) in owners.items():
        if name not in by_name and owner in parts:
            parts[owner].append(folders[name])
    parts = {name: there for name, there in parts.items() if any(folder.files for folder in there)}
    found = {id(run): one for name, there in parts.items() for run, one in _each(name, by_name[name], there)}
    return [found[id(run)] for there in by_name.values() for run in there if id(run) in found]


def _tags(name: str, by_name: Mapping[str, Sequence[RunResult]]) -> list[str]:
    """The tags of a directory, as the run that it belongs to has them."""
    owner = next((above for above in (name, *above_of(name)) if above in by_name), None)
    if owner is None:
        return []
    prefix = "" if owner == name else f"{name[len(owner) :].lstrip('/')}/"
    return [tag.removeprefix(prefix) for run in by_name[owner] for tag in run.metrics if tag.startswith(prefix)]


def _each(name: str, runs: Sequence[RunResult], folders: Sequence[Folder]) -> Iterator[tuple[RunResult, Owned]]:
    """The runs of one directory, each with its own files of it; what is below is divided as the reader divides it."""
    if len(runs) == 1 and not runs[0].files:
        yield runs[0], Owned(runs[0], name, tuple(folders))
        return
    for place, run in enumerate(runs):
        called = name if place == 0 else run.name
        mine = [_only(folder, called + folder.name[len(name) :], run) for folder in folders]
        yield run, Owned(run, called, tuple(folder for folder in mine if folder.files), is_alone=False)


def _only(folder: Folder, called: str, run: RunResult) -> Folder:
    """Of a directory, the files of one run."""
    below = os.path.relpath(folder.path, run.path)
    return Folder(folder.path, called, [f for f in folder.files if os.path.normpath(f"{below}/{f}") in run.files])


def name_below(root: str | os.PathLike[str], run: RunResult) -> str:
    """A run's directory below the root; "" for the root itself."""
    name = os.path.relpath(run.path, os.path.normpath(root)).replace(os.sep, "/")
    return "" if name == "." else name
