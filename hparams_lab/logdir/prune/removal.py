"""How runs go: deleted, or moved into an archive that reads like the directory they were in.

A directory is renamed to `.pruned-...` beside it, then its event files are deleted, then the rest. So whoever kills
this leaves no run that is half there; what is left over goes the next time.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from hparams_lab.core.errors import LogDirError
from hparams_lab.core.results import RunResult
from hparams_lab.logdir.declaration import current_declaration, declare, observed_message, union
from hparams_lab.logdir.prune import PRUNED, Plan, Removal
from hparams_lab.logdir.sweep_json import load_sweep, save_sweep
from hparams_lab.storage.file_names import is_event_file
from hparams_lab.storage.locks import lock_if_free
from hparams_lab.storage.paths import LogDirPaths, local, writing

_numbers = itertools.count()


def prune(plan: Plan, archive: Path | None = None) -> list[Removal]:
    """Do it; what went. A run that somebody began to write meanwhile stays.

    Args: archive: a directory to move the runs to; they are deleted when left out.

    Raises LogDirError when the archive cannot be one, or files cannot be moved or deleted.
    """
    if archive is not None:
        archive = local(archive)
        check_archive(plan, archive)
    with writing(plan.root):
        for left in plan.leftovers:
            _delete_hidden(left)
        gone = [removal for removal in plan.removals if _removed(plan.root, removal, archive)]
    if archive is not None:
        _declare(plan.root, archive, [removal.run for removal in gone])
    return gone


def _removed(root: Path, removal: Removal, archive: Path | None) -> bool:
    """Delete or move a run, unless somebody writes it."""
    with contextlib.ExitStack() as stack:
        if not all(stack.enter_context(_locked(file)) for file in removal.event_files):
            return False
        for path in (*removal.files, *removal.trees):
            if archive is not None:
                _move(path, archive / path.relative_to(root))
            elif path in removal.trees:
                delete_tree(path)
            else:
                path.unlink()
    for path in (*removal.trees, *removal.files):
        _drop_empty(path.parent, root)
    return True


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[bool]:
    """Hold an event file's lock, so that nobody goes on with the run; False when somebody else has it."""
    if not file.is_file():  # a pipe, which would wait for a writer, or a link to nothing
        yield True
        return
    fd = os.open(file, os.O_RDONLY)
    try:
        yield lock_if_free(fd)
    finally:
        os.close(fd)


def delete_tree(tree: Path) -> None:
    """Delete a directory in such an order that no part of it is ever a run."""
    hidden = _hidden_beside(tree)
    tree.rename(hidden)
    _delete_hidden(hidden)


def _hidden_beside(path: Path) -> Path:
    """A name beside a path that nothing has: a process before this one may have had the same number."""
    names = (path.with_name(f"{PRUNED}{os.getpid()}-{number}") for number in _numbers)
    return next(name for name in names if not os.path.lexists(name))


def _delete_hidden(hidden: Path) -> None:
    """Delete a directory that is hidden: what would make it a run first."""
    for folder, _, names in os.walk(hidden):
        for name in filter(is_event_file, names):
            os.unlink(os.path.join(folder, name))
    shutil.rmtree(hidden)


def _drop_empty(folder: Path, root: Path) -> None:
    """Delete directories that hold nothing any more, up to the root."""
    with contextlib.suppress(OSError):  # it holds something
        while folder != root:
            folder.rmdir()
            folder = folder.parent


# --- the archive ----------------------------------------------------------------------------------------------------


def check_archive(plan: Plan, archive: Path) -> None:
    """Raise LogDirError when runs cannot be moved there."""
    here, there = Path(os.path.realpath(plan.root)), Path(os.path.realpath(archive))
    if here == there or here in there.parents or there in here.parents:
        raise LogDirError(f"the archive {archive} and {plan.root} are one in the other; name a directory beside it")
    if archive.exists() and not archive.is_dir():
        raise LogDirError(f"the archive {archive} is a file; name a directory")
    for path in _paths(plan.removals):
        taken = archive / path.relative_to(plan.root)
        if os.path.lexists(taken):
            raise LogDirError(f"the archive holds {taken} already; name another directory")


def _paths(removals: Iterable[Removal]) -> Iterator[Path]:
    return (path for removal in removals for path in (*removal.trees, *removal.files))


def _move(path: Path, target: Path) -> None:
    """Move a file or directory; across file systems it is whole there before it goes here."""
    with writing(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _move_far(path, target)


def _move_far(path: Path, target: Path) -> None:
    hidden = _hidden_beside(target)
    with writing(target.parent):
        if path.is_dir():
            shutil.copytree(path, hidden, symlinks=True)
        else:
            shutil.copy2(path, hidden)
        hidden.rename(target)
    if path.is_dir():
        delete_tree(path)
    else:
        path.unlink()


def _declare(root: Path, archive: Path, runs: list[RunResult]) -> None:
    """Let the archive declare what the directory does, sweep by sweep."""
    for sweep in dict.fromkeys(run.sweep for run in runs):
        here, there = LogDirPaths(root / sweep), LogDirPaths(archive / sweep)
        message = current_declaration(here)
        if message is None:
            for run in (run for run in runs if run.sweep == sweep):
                observed = observed_message(run.hparams, run.metrics)
                message = observed if message is None else union(message, observed)
        if message is not None:
            declare(there, message)
        stored = load_sweep(here)
        if stored is not None and not there.sweep_json.exists():
            save_sweep(there, stored)
