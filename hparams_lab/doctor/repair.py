"""`repair`: a log directory mended, into a copy or in place with a backup."""

from __future__ import annotations

import itertools
import os
import shutil
import stat
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hparams_lab.doctor.cures import Change, changes
from hparams_lab.doctor.tree import Tree
from hparams_lab.errors import LogDirError
from hparams_lab.findings import Finding
from hparams_lab.paths import writing

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
    output = Path(os.path.abspath(output))
    if output.resolve().is_relative_to(tree.root.resolve()):
        raise LogDirError(f"the copy {output} would be inside of {tree.root}; choose a directory beside it")
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise LogDirError(f"{output} is there already; choose another --output, or move it aside")
    partial = output.with_name(f".{output.name}.{os.getpid()}")
    lost: list[Finding] = []
    with writing(output):
        try:
            copy_tree(tree.root, partial)
            changed = _apply(partial, changes(tree, time.time() if now is None else now, lost))
            os.replace(partial, output)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    return Repaired(output, None, changed, tuple(lost))


def repair_in_place(tree: Tree, now: float | None = None) -> Repaired:
    """Mend the directory itself; the files as they were go into a directory beside it.

    Raises LogDirError while a run is going on.
    """
    now = time.time() if now is None else now
    _refuse_running(tree, now)
    root = Path(os.path.abspath(tree.root)).resolve()
    numbered = (root.with_name(f"{root.name}.backup-{number}") for number in itertools.count(1))
    backup = next(path for path in numbered if not path.exists())
    lost: list[Finding] = []
    with writing(root):
        changed = _apply(root, changes(tree, now, lost), backup)
    return Repaired(tree.root, backup if backup.exists() else None, changed, tuple(lost))


def _refuse_running(tree: Tree, now: float) -> None:
    held = [run.name for run in tree.runs if run.is_held]
    fresh = [
        run.name for run in tree.sessions if not run.has_end and now - max(f.written for f in run.files) < QUIET_SECONDS
    ]
    if held or fresh:
        name, why = (held[0], "is running") if held else (fresh[0], "has no end and was written a moment ago")
        more = f" (and {len(held or fresh) - 1} more)" if len(held or fresh) > 1 else ""
        raise LogDirError(f"run {name!r}{more} {why}; wait for it to end, or mend a copy with --output DIR")


def copy_tree(root: Path, target: Path) -> None:
    """Copy a directory: its files, and its links as links; pipes and other special files are left out."""
    for folder, children, files in os.walk(root):
        here = target / Path(folder).relative_to(root)
        here.mkdir(parents=True)
        for name in [*files, *(child for child in children if Path(folder, child).is_symlink())]:
            source = Path(folder, name)
            if source.is_symlink() or (stat.S_ISREG(source.lstat().st_mode) and os.access(source, os.R_OK)):
                shutil.copy2(source, here / name, follow_symlinks=False)


def _apply(root: Path, todo: Iterable[Change], backup: Path | None = None) -> tuple[str, ...]:
    """Make the changes, each file whole by a rename, the old one moved into the backup first."""
    changed = []
    for change in todo:
        path = root / change.path
        changed.append(change.path)
        if change.data is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh = path.with_name(f".{os.getpid()}.mending")
            fresh.write_bytes(change.data)
        if backup is not None and path.exists():
            (backup / change.path).parent.mkdir(parents=True, exist_ok=True)
            if change.data is None:
                os.rename(path, backup / change.path)
            else:
                shutil.copy2(path, backup / change.path)
        if change.data is not None:
            os.replace(fresh, path)
        else:
            path.unlink(missing_ok=True)
            _drop_empty(path.parent, root)
    return tuple(changed)


def _drop_empty(directory: Path, root: Path) -> None:
    """Take away a directory in which no file is left, and those above it."""
    while directory != root and not any(directory.iterdir()):
        directory.rmdir()
        directory = directory.parent
