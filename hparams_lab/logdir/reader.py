"""A log directory read back, and its `sweep.json`."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from hparams_lab.core.curve import Thin
from hparams_lab.core.declared import Declared
from hparams_lab.core.errors import LogDirError, UsageError
from hparams_lab.core.findings import Finding, Kind
from hparams_lab.core.results import Results, RunResult
from hparams_lab.events.format.stored import values_key
from hparams_lab.events.read.batch import read_alike
from hparams_lab.events.read.instead import instead_of
from hparams_lab.events.read.layouts import Layouts
from hparams_lab.logdir.declaration import ExperimentMessage, declared_by, union
from hparams_lab.logdir.hints import no_directory, no_runs
from hparams_lab.logdir.run_reader import RunReader
from hparams_lab.logdir.sessions import names_of
from hparams_lab.logdir.sweep_json import declared_in
from hparams_lab.logdir.walk import Tree, above_of, is_experiment, owners_of, walk
from hparams_lab.storage.paths import LogDirPaths, local, natural

GroupBy: TypeAlias = Literal["group", "hparams"]
"""Which runs are one trial."""


def read(logdir: str | os.PathLike[str], *, thin: Thin | None = None, group_by: GroupBy = "group") -> Results:
    """Everything that a log directory holds.

    Args:
      logdir: a directory that a sweep, runs, or another tool logged to; several sweeps may be below it.
      thin: what to keep of each tag's points, such as `curve.extremes`; all when left out.
      group_by: which runs of a sweep are one trial: "group", those of one session group as in TensorBoard, where a run
        without a group name is a trial of its own; or "hparams", those with equal values (16 is 16.0).

    Raises LogDirError when there is no such directory, or nothing in it that a run wrote; UsageError for another
    `group_by`.
    """
    return LogDirReader(logdir, thin, group_by).read()


class LogDirReader:
    """Reads a log directory again and again; each time only what is new.

    Args: as for `read`.
    """

    def __init__(
        self, logdir: str | os.PathLike[str], thin: Thin | None = None, group_by: GroupBy = "group"
    ) -> None:
        if group_by not in get_args(GroupBy):
            raise UsageError(f"group_by is {group_by!r}; wanted one of {', '.join(map(repr, get_args(GroupBy)))}")
        self._root = os.path.normpath(local(logdir))
        self._thin = thin
        self._by_values = group_by == "hparams"
        self._layouts = Layouts()
        self._readers: dict[str, RunReader] = {}
        self._runs: dict[str, tuple[RunResult, ...]] = {}
        self._sweeps: dict[str, Declared | None] = {}
        self._owners: Mapping[str, tuple[str, str]] = {}
        self._changed: set[str] = set()  # since the runs were last made; a read that raises leaves it for the next

    def read(self) -> Results:
        """What the directory holds now. Raises LogDirError as `read` does."""
        if not os.path.isdir(self._root):
            raise LogDirError(no_directory(self._root))
        with _without_collection():
            return self._read()

    def _read(self) -> Results:
        tree = walk(self._root)
        self._read_files(tree)
        owners = self._owned()
        sweeps = self._declared(tree, owners)
        if sweeps != self._sweeps:
            self._runs = {}  # values may have other types now
        self._sweeps = sweeps
        runs = tuple(self._read_runs(owners))
        findings = [*tree.findings, *(finding for reader in self._readers.values() for finding in reader.findings)]
        declared = _common(sweeps, runs)
        if not runs and declared is None and all(instead_of(finding) is not None for finding in findings):
            raise LogDirError(no_runs(self._root, findings))
        there = {name: found for name, found in sweeps.items() if found is not None}
        return Results(declared, runs, there, tuple(findings))

    def _read_files(self, tree: Tree) -> None:
        """Read what is new in each directory."""
        known, readers = self._readers, dict[str, RunReader]()
        single = [folder for folder in tree.folders if folder.name not in known and len(folder.files) == 1]
        alike = read_alike([f"{folder.path}/{folder.files[0]}" for folder in single], self._layouts, self._thin)
        for folder in tree.folders:
            name, files = folder.name, folder.files
            reader = readers[name] = known.get(name) or RunReader(folder.path, self._layouts, self._thin)
            found = alike.get(f"{folder.path}/{files[0]}")
            if name not in known:
                self._changed.add(name)
            if found is not None:
                reader.skip(files[0], *found)
            elif reader.read_new(files):
                self._changed.add(name)
        self._readers = readers

    def _owned(self) -> dict[str, tuple[str, str]]:
        """The directories that belong to a run, as `owners_of` has it."""
        sessions = [name for name, reader in self._readers.items() if reader.facts.start is not None]
        readers = self._readers
        shared = {name for name in sessions if len(readers[name].apart) > 1}
        return owners_of(
            readers, sessions, lambda name: readers[name].is_own, lambda name: readers[name].facts.columns(), shared
        )

    def _declared(self, tree: Tree, owners: Mapping[str, tuple[str, str]]) -> dict[str, Declared | None]:
        """The sweeps' directories, and what each declares: its `sweep.json`, else all Experiment summaries in it.

        What another logger declares below a run of ours is no sweep's.
        """
        inside = {name for name, (owner, _) in owners.items() if owner in self._readers and self._readers[owner].is_own}
        readers = {name: reader for name, reader in self._readers.items() if name not in inside}
        roots = tree.sweeps | {*_foreign_sweeps(readers)}
        messages: dict[str, list[ExperimentMessage]] = {}
        for name, reader in readers.items():
            message = reader.facts.experiment
            if message is not None:
                messages.setdefault(_sweep_of(name, roots), []).append(message)
        found: dict[str, Declared | None] = {}
        for sweep in sorted({*roots, *messages}, key=natural):
            stored = self._stored(sweep, tree)
            found[sweep] = stored or (declared_by(union(*messages[sweep])) if sweep in messages else None)
        return found

    def _stored(self, sweep: str, tree: Tree) -> Declared | None:
        """What a `sweep.json` declares. One that cannot be read is an error at the root, and a finding below it."""
        paths = LogDirPaths(Path(self._root, sweep))
        if any(finding.file == str(paths.sweep_json) for finding in tree.findings):
            return None  # a link that leads out
        try:
            return declared_in(paths)
        except LogDirError as error:
            if not sweep:
                raise
            tree.findings.append(Finding(str(paths.sweep_json), 0, Kind.UNREADABLE, str(error), 0))
            return None

    def _read_runs(self, owners: Mapping[str, tuple[str, str]]) -> Iterator[RunResult]:
        """The runs in order; those of which nothing changed are the same objects as before."""
        changed = self._changed
        changed.update([*self._owners_changed(owners, changed)])
        self._owners = owners
        parts: dict[str, list[tuple[str, RunReader]]] = {}
        for name, (owner, prefix) in owners.items():
            parts.setdefault(owner, []).append((prefix, self._readers[name]))
        before, self._runs = self._runs, {}
        taken = set(self._readers)
        for name in self._of_runs(owners):
            runs = () if name in changed else before.get(name, ())
            if len(runs) != 1:  # of several, the names depend on the other directories'
                runs = tuple(self._read_sessions(name, parts.get(name, ()), taken))
            self._runs[name] = runs
            yield from runs
        changed.clear()

    def _of_runs(self, owners: Mapping[str, tuple[str, str]]) -> Iterator[str]:
        """The directories of runs; one that only holds the halves of a run comes in the place of its first half."""
        halved: set[str] = set()
        for name in self._readers:
            owner = owners[name][0] if name in owners else name
            if owner not in self._readers and owner not in halved:
                halved.add(owner)
                yield owner
            elif owner == name and not is_experiment(name):
                yield name

    def _owners_changed(self, owners: Mapping[str, tuple[str, str]], changed: set[str]) -> Iterator[str]:
        """The runs that have other directories below them than before, or of which one of those changed."""
        for name, owner in owners.items():
            if name in changed or owner != self._owners.get(name):
                yield owner[0]
        for name, owner in self._owners.items():
            if owner != owners.get(name):
                yield owner[0]

    def _read_sessions(
        self, name: str, parts: Sequence[tuple[str, RunReader]], taken: set[str]
    ) -> Iterator[RunResult]:
        """The run of a directory and of those that belong to it, each with what goes before its tags.

        Where two sessions are in the directory, there is a run of each, called as `doctor --repair` would call its
        directory.
        """
        sweep = _sweep_of(name, self._sweeps)
        reader = self._readers.get(name)
        if reader is None:
            reader = RunReader(os.path.normpath(f"{self._root}/{name}"), self._layouts, self._thin)
        sessions = reader.apart
        names = names_of(name, len(sessions), taken)
        shares = [share for prefix, reader in parts for share in _shares(prefix, reader, sessions)]
        for place, (reader, called) in enumerate(zip(sessions, names, strict=True)):
            shown = called or os.path.basename(os.path.abspath(self._root))
            own = [(prefix, share[place].facts) for prefix, share in shares]
            below = {prefix + tag: points for prefix, facts in own for tag, points in facts.columns().items()}
            texts = {prefix + tag: text for prefix, facts in own for tag, text in facts.texts.items()}
            run = reader.run(shown, self._sweeps.get(sweep), sweep, below, texts)
            run = run or reader.bare_run(shown, sweep, below, texts)
            if run is not None and len(sessions) > 1:
                shared = [file for _, share in shares for file in share[place].paths_from(reader.directory)]
                run = replace(run, files=(*reader.files, *shared))
            if run is not None and run.hparams and self._by_values:
                run = replace(run, trial_id=values_key(run.hparams))
            if run is not None:
                yield run


def _shares(
    prefix: str, reader: RunReader, sessions: Sequence[RunReader]
) -> Iterator[tuple[str, Sequence[RunReader]]]:
    """What each session has of a directory below it, with what goes before its tags: two writers there stay two."""
    if len(sessions) > 1:
        yield prefix, reader.shared_out(sessions)
        return
    writers = reader.apart
    for name, writer in zip(names_of(prefix.rstrip("/"), len(writers), set()), writers, strict=True):
        yield f"{name}/" if name else "", [writer]


def _foreign_sweeps(readers: Mapping[str, RunReader]) -> Iterator[str]:
    """Where another tool wrote an Experiment summary: its directory, or the one above where no run is below it."""
    sessions = [name for name, reader in readers.items() if reader.facts.start is not None]
    inhabited = {above for name in sessions for above in above_of(name)}
    for name, reader in readers.items():
        if reader.facts.experiment is not None and reader.facts.start is None and not is_experiment(name):
            yield name if name in inhabited else name.rpartition("/")[0]


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
    """Put off the search for cycles while many objects are made that stay; there are none among them."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _sweep_of(name: str, sweeps: Collection[str]) -> str:
    """The sweep that a directory belongs to: the nearest above it, or itself; the root's where there is none."""
    if not sweeps or (len(sweeps) == 1 and "" in sweeps):
        return ""
    return next((above for above in (name, *above_of(name)) if above in sweeps), "")


def _common(sweeps: Mapping[str, Declared | None], runs: Iterable[RunResult]) -> Declared | None:
    """What is declared for all runs; None when sweeps declare different things."""
    used = {run.sweep for run in runs} or set(sweeps)
    found = [sweeps.get(sweep) for sweep in sorted(used)]
    return found[0] if found and all(other == found[0] for other in found) else None
