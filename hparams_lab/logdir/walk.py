"""`walk`: the directories of a log directory that hold event files, and which of them are one run.

Links are not followed out of the directory; a link to a directory inside of it would read the same runs twice.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from hparams_lab.core.findings import Finding, Kind
from hparams_lab.logdir.halves import Tags, halves_of, sibling_of
from hparams_lab.storage.file_names import is_event_file
from hparams_lab.storage.paths import EXPERIMENT, lies_in, natural

SWEEP_JSON = "sweep.json"

UNFINISHED = (".pruned-", ".merging-")
"""What a directory's name begins with while it is deleted or made; a kill may leave it so."""


@dataclass(slots=True)
class Folder:
    """A directory with event files: its path, its name below the root ("" for the root), and the files' names."""

    path: str
    name: str
    files: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Tree:
    """What is below a root: the directories with event files in natural order (run-2 before run-10), those with a
    `sweep.json` or an experiment of their own, and links that lead out."""

    folders: list[Folder]
    sweeps: set[str]
    findings: list[Finding]


def walk(root: str) -> Tree:
    """Look through a directory."""
    tree = Tree([], set(), [])
    inside = os.path.realpath(root)
    waiting = [("", root)]
    while waiting:
        name, path = waiting.pop()
        try:
            entries = os.scandir(path)
        except OSError as error:
            tree.findings.append(Finding(path, 0, Kind.UNREADABLE, f"it cannot be opened: {error.strerror}", 0))
            continue
        with entries:
            _look(tree, Folder(path, name), entries, waiting, inside)
    tree.folders.sort(key=lambda folder: natural(folder.name))
    return tree


def _look(
    tree: Tree, folder: Folder, entries: Iterable[os.DirEntry[str]], waiting: list[tuple[str, str]], inside: str
) -> None:
    """Look through one directory: its event files into the tree, its directories among those that wait."""
    for entry in entries:
        name = entry.name
        if name.startswith(UNFINISHED):
            continue
        is_link = entry.is_symlink()
        if is_link and not lies_in(os.path.realpath(entry.path), inside):
            if is_event_file(name) or name == SWEEP_JSON or _is_directory(entry):
                reason = "a link out of the log directory, which is not followed"
                tree.findings.append(Finding(entry.path, 0, Kind.SYMLINK, reason, 0))
        elif name == SWEEP_JSON:
            tree.sweeps.add(folder.name)
        elif _is_directory(entry):
            if name == EXPERIMENT:
                tree.sweeps.add(folder.name)
            if not is_link:
                waiting.append((f"{folder.name}/{name}" if folder.name else name, entry.path))
        elif is_event_file(name):
            folder.files.append(name)
    if folder.files:
        tree.folders.append(folder)


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def run_folders(root: str) -> list[Folder]:
    """The directories with event files below a root, but for its experiment's."""
    return [folder for folder in walk(root).folders if not is_experiment(folder.name)]


def above_of(name: str) -> Iterator[str]:
    """The names of the directories that hold the one of this name, the nearest first, the root ("") last."""
    while name:
        name = name.rpartition("/")[0]
        yield name


def is_experiment(name: str) -> bool:
    """Whether a directory is there for an Experiment summary."""
    return EXPERIMENT in name.split("/")


def owners_of(
    names: Collection[str],
    sessions: Collection[str],
    is_ours: Callable[[str], bool] = lambda name: False,
    tags: Tags = lambda name: (),
    shared: Collection[str] = (),
) -> dict[str, tuple[str, str]]:
    """The directories that belong to a run that has another: to which, and what goes before their tags.

    Args:
      names: all directories with event files. sessions: those of them with a session.
      is_ours: whether the session of that name is a run of ours. tags: of the scalars in a directory.
      shared: those with several sessions.

    What is below a run of ours belongs to it, but for other runs of ours. Elsewhere those without a session do that are
    below one with a session (`validation/`). PyTorch writes hyperparameters into a directory below the one of the
    scalars: where there is one such, the scalars are its own, and so is what else is below them. Without any session
    the halves of a run belong to the directory that holds them, which may have no event files: see `halves`.
    """
    starts = set(sessions)
    nested = {name for name in sessions if any(above in starts for above in above_of(name))}
    starts -= {name for name in nested if not is_ours(name) and any(map(is_ours, starts.intersection(above_of(name))))}
    if len(starts) == len(names):
        return {}
    others = sorted(set(names) - starts, key=lambda name: (name.count("/"), natural(name)))  # what is above comes first
    others = [name for name in others if not is_experiment(name)]
    owners = _around_sessions(others, starts, shared)
    bare = [name for name in others if name not in owners]
    apart = sorted(starts - {name for name in starts if is_ours(name)}) if bare else []
    for name in bare:
        beside = sibling_of(name, apart)
        if beside is not None:
            owners[name] = beside, f"{name.rpartition('/')[2]}/"
    sweeps = {above for name in starts for above in above_of(name)} if bare else set()
    return owners | halves_of([name for name in bare if name not in owners], tags, sweeps)


def _around_sessions(
    others: Sequence[str], starts: Collection[str], shared: Collection[str]
) -> dict[str, tuple[str, str]]:
    """Of directories without a session, those that belong to one above or below."""
    below: dict[str, list[str]] = {}
    for name in starts:
        for above in above_of(name):
            below.setdefault(above, []).extend([name] * (2 if name in shared else 1))
    owners: dict[str, tuple[str, str]] = {}
    for name in others:
        owner = next((above for above in above_of(name) if above in starts or above in owners), None)
        if len(below.get(name, ())) == 1 and owner not in starts:
            owners[name] = below[name][0], ""
        elif owner is not None:
            first, prefix = owners.get(owner, (owner, ""))
            owners[name] = first, f"{prefix}{name[len(owner) :].lstrip('/')}/"
    return owners
