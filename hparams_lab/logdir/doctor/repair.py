"""`repair`: a log directory mended, into a copy or in place with a backup."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import stat
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hparams_lab.core.errors import LogDirError
from hparams_lab.core.findings import Finding, Kind
from hparams_lab.logdir.doctor.cures import Change, changes
from hparams_lab.logdir.doctor.examine import diagnosis_of
from hparams_lab.logdir.doctor.tree import Tree
from hparams_lab.storage.locks import lock_if_free
from hparams_lab.storage.paths import local, writing
from hparams_lab.storage.scratch import MAKING, opened_directory, scratch

MOST_PASSES = 4
"""A change may bring to light something else to mend, no more often than that."""

QUIET_SECONDS = 60.0
"""A run without an end that was written less than this ago may be going on, even where nothing is locked."""


@dataclass(frozen=True, slots=True)
class Repaired:
    """What a repair did.

    `root` is the mended directory, `backup` where the files are that were changed in place (None for a copy),
    `changed` the files that differ, `lost` what could not be read and is in the original only.
    """

    root: Path
    backup: Path | None
    changed: tuple[str, ...]
    lost: tuple[Finding, ...]


def repair_into(tree: Tree, output: Path, now: float | None = None) -> Repaired:
    """Mend a copy, which appears whole or not at all. Raises LogDirError when `output` is there, or in the original."""
    output = Path(os.path.abspath(local(output)))
    if output.resolve().is_relative_to(tree.root.resolve()):
        raise LogDirError(f"the copy {output} would be inside of {tree.root}; choose a directory beside it")
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise LogDirError(f"{output} is there already; choose another --output, or move it aside")
    lost: list[Finding] = []
    with writing(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        with scratch(output.parent, MAKING) as hidden:
            copy = hidden / "copy"
            lost += copy_tree(tree.root, copy)
            changed = _mended(tree, copy, time.time() if now is None else now, lost)
            os.replace(copy, output)
    return Repaired(output, None, changed, tuple(lost))


def repair_in_place(tree: Tree, now: float | None = None) -> Repaired:
    """Mend the directory itself; the files as they were go into a directory beside it.

    Raises LogDirError while a run is going on, and when the directory is another since `tree` was read.
    """
    now = time.time() if now is None else now
    root = Path(os.path.abspath(tree.root)).resolve()
    lost: list[Finding] = []
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, fd := opened_directory(root))
        if not lock_if_free(fd):
            raise LogDirError(f"{root} is being mended by another process; wait for it to end")
        _refuse_running(tree, now)
        _refuse_changed(tree)
        backup = _new_backup(root)
        try:
            changed = _mended(tree, root, now, lost, backup)
        except OSError as error:
            raise LogDirError(_half_done(root, backup, error)) from None
        finally:
            _drop_empty(backup, backup.parent)
    return Repaired(tree.root, backup if backup.exists() else None, changed, tuple(lost))


def _new_backup(root: Path) -> Path:
    """A new directory beside the root, which nobody else has."""
    for number in itertools.count(1):
        backup = root.with_name(f"{root.name}.backup-{number}")
        with writing(root.parent), contextlib.suppress(FileExistsError):
            backup.mkdir()
            return backup
    raise AssertionError


def _half_done(root: Path, backup: Path, error: OSError) -> str:
    done = any(path.is_file() for path in backup.rglob("*"))
    left = f"the files that were mended until then are, as they were, in {backup}" if done else "nothing is changed"
    return f"{error.filename or root} cannot be mended: {error.strerror}; {left}; mend a copy with --output DIR"


def _refuse_changed(tree: Tree) -> None:
    """Refuse a directory whose files are others than those that were looked at: another repair, or a run, was here."""
    for _, file in tree.files:
        if not file.has(Kind.UNREADABLE) and not (file.path.exists() and file.path.stat().st_mtime == file.written):
            raise LogDirError(f"{file.path} was changed meanwhile; look again with hparams-lab doctor {tree.root}")


def _refuse_running(tree: Tree, now: float) -> None:
    held = [run.name for run in tree.runs if run.is_held]
    fresh = [
        run.name for run in tree.sessions if not run.has_end and now - max(f.written for f in run.files) < QUIET_SECONDS
    ]
    if held or fresh:
        name, why = (held[0], "is running") if held else (fresh[0], "has no end and was written a moment ago")
        more = f" (and {len(held or fresh) - 1} more)" if len(held or fresh) > 1 else ""
        raise LogDirError(f"run {name!r}{more} {why}; wait for it to end, or mend a copy with --output DIR")


def copy_tree(root: Path, target: Path) -> list[Finding]:
    """Copy a directory: its files, and its links as links; what is left out: pipes, and what may not be read."""
    left: list[Finding] = []

    def closed(error: OSError) -> None:
        file = Path(error.filename).relative_to(root).as_posix()
        left.append(Finding(file, 0, Kind.UNREADABLE, f"it cannot be opened: {error.strerror}", 0))

    for folder, children, files in os.walk(root, onerror=closed):
        here = target / Path(folder).relative_to(root)
        here.mkdir(parents=True)
        for name in [*files, *(child for child in children if Path(folder, child).is_symlink())]:
            source = Path(folder, name)
            with contextlib.suppress(FileNotFoundError):  # gone meanwhile: a run goes on
                if why := _why_left(source):
                    file = source.relative_to(root).as_posix()
                    left.append(Finding(file, 0, Kind.UNREADABLE, why, source.lstat().st_size))
                else:
                    shutil.copy2(source, here / name, follow_symlinks=False)
    return left


def _why_left(source: Path) -> str:
    """Why a file cannot be copied; empty when it can."""
    mode = source.lstat().st_mode
    if stat.S_ISLNK(mode):
        return ""
    if not stat.S_ISREG(mode):
        return "it is no regular file"
    return "" if os.access(source, os.R_OK) else "it may not be read"


def _mended(tree: Tree, root: Path, now: float, lost: list[Finding], backup: Path | None = None) -> tuple[str, ...]:
    """Mend `root`, which holds what `tree` tells, until nothing is left to mend; the paths of what differs.

    What one change brings to light, such as the values of a second writer, is mended by the next. A copy of a run that
    goes on is left as it is: in the copy nobody holds it.
    """
    were = {file.name for _, file in tree.files}
    changed = dict.fromkeys(_apply(root, changes(tree, now, lost), backup))
    for _ in range(MOST_PASSES):
        if any(run.is_held for run in tree.runs):
            break
        mended = Tree(root)
        if not diagnosis_of(mended).is_repairable:
            break
        changed |= dict.fromkeys(_apply(root, changes(mended, now, []), backup))
    return tuple(path for path in changed if path in were or (root / path).exists())


def _apply(root: Path, todo: Iterable[Change], backup: Path | None = None) -> tuple[str, ...]:
    """Make the changes; their paths."""
    changed = []
    for change in todo:
        with _locked(root / change.path):
            _make(root, change, backup)
        changed.append(change.path)
    return tuple(changed)


def _make(root: Path, change: Change, backup: Path | None) -> None:
    """Make a change: the file whole by a rename, the old one in the backup first."""
    path = root / change.path
    if change.data is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _written_whole(path) as fresh:
            fresh.write_bytes(change.data)
            if path.exists():
                shutil.copymode(path, fresh)
            _keep(path, backup and backup / change.path)
    else:
        _keep(path, backup and backup / change.path)
        path.unlink(missing_ok=True)
        _drop_empty(path.parent, root)


def _keep(path: Path, kept: Path | None) -> None:
    """Copy a file into the backup, if there is one of either; whole, so that what is there is as it was."""
    if kept is not None and path.exists() and not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with _written_whole(kept) as fresh:
            shutil.copy2(path, fresh)


@contextlib.contextmanager
def _written_whole(path: Path) -> Iterator[Path]:
    """A file to write that stands at `path` afterwards; nothing of it is left when that fails."""
    fresh = path.with_name(f".{os.getpid()}.mending")
    try:
        yield fresh
        os.replace(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a file's lock, so that nobody goes on with the run while it is mended. Raises LogDirError if one does."""
    if not path.exists():
        yield
        return
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        if not lock_if_free(fd):
            raise LogDirError(f"{path} was begun to be written meanwhile; wait for it to end, and mend then")
        yield
    finally:
        os.close(fd)


def _drop_empty(directory: Path, root: Path) -> None:
    """Take away a directory in which no file is left, and those above it."""
    while directory != root and not any(directory.iterdir()):
        directory.rmdir()
        directory = directory.parent
