"""A log directory that is merged: its runs with their values as they are stored, and what it declares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from tensorboard.plugins.hparams.plugin_data_pb2 import SessionStartInfo

from hparams_lab.core.results import RunResult
from hparams_lab.core.values import Value
from hparams_lab.events.format import summaries
from hparams_lab.events.format.event_file import read_events
from hparams_lab.events.format.record import frame
from hparams_lab.events.read.collector import is_of_ours
from hparams_lab.logdir.declaration import ExperimentMessage
from hparams_lab.logdir.membership import Owned
from hparams_lab.logdir.merge.pieces import holds, pieces
from hparams_lab.logdir.sweep_json import load_sweep
from hparams_lab.logdir.walk import Folder, walk
from hparams_lab.storage.paths import LogDirPaths

Key: TypeAlias = tuple[str, str]
"""The label of a run's source and its name there."""


@dataclass(frozen=True, slots=True)
class Member:
    """A run: where it is, its name below its source ("" for the source itself), its values as they are stored.

    `group` is the trial that it says it is of: empty where it does not; `has_session` tells whether it says anything.
    """

    key: Key
    run: RunResult
    folders: tuple[Folder, ...]
    values: Mapping[str, Value]
    group: str
    has_session: bool

    @classmethod
    def of(cls, found: Owned, label: str) -> Member:
        """The run of these directories."""
        start = _session_start(found.folders[0])
        values = {} if start is None else {name: summaries.plain_value(each) for name, each in start.hparams.items()}
        group = "" if start is None else start.group_name
        key, said = (label, found.name), start is not None
        return cls(key, found.run, found.folders, dict(sorted(values.items())), group, said)


@dataclass(frozen=True, slots=True)
class Source:
    """A directory: its runs, the Experiment messages in it, and what its `sweep.json` files declare."""

    root: Path
    label: str
    members: tuple[Member, ...]
    messages: tuple[ExperimentMessage, ...]
    declared: tuple[Mapping[str, Any], ...]
    prefix: str = ""

    def with_prefix(self, prefix: str) -> Source:
        """The same, its runs called otherwise."""
        return replace(self, prefix=prefix)

    def new_name(self, name: str) -> str:
        """What a directory of it will be called; the directory itself as its label."""
        return f"{self.prefix}{name}" if name else self.label

    @property
    def is_part_of_a_run(self) -> bool:
        """Whether event files in it belong to a run with other directories."""
        return any(
            len(member.folders) > 1 and "" in {folder.name for folder in member.folders} for member in self.members
        )

    @property
    def tops(self) -> set[str]:
        """The names in the merged directory that its runs take."""
        names = (folder.name for member in self.members for folder in member.folders)
        return {self.new_name(name).split("/")[0] for name in names}


def described(root: Path, label: str, sweeps: Sequence[str], members: Sequence[Member]) -> Source:
    """A source with what is declared in it, but for what other loggers declare in or below a run of ours."""
    guests = {file for member in members for file in _guests(member.folders)}
    stored = (load_sweep(LogDirPaths(root / sweep)) for sweep in sweeps)
    declared = tuple(each["experiment"] for each in stored if each and isinstance(each.get("experiment"), dict))
    return Source(root, label, tuple(members), tuple(_messages(root, guests)), declared)


def _guests(folders: Sequence[Folder]) -> Iterator[Path]:
    """The files of other loggers in and below the directory of a run of ours."""
    own = _own_file(folders[0])
    for folder in folders if own else ():
        yield from (path for path in _paths(folder) if path != own)


def _own_file(folder: Folder) -> Path | None:
    """The file in which the directory's run of ours is; None where there is none."""
    found = (path for path in reversed(_paths(folder)) for start in _starts(path) if is_of_ours(path.name, start))
    return next(found, None)


def _paths(folder: Folder) -> list[Path]:
    return [Path(folder.path, file) for file in sorted(folder.files)]


def _messages(root: Path, guests: AbstractSet[Path]) -> Iterator[ExperimentMessage]:
    for folder in walk(str(root)).folders:
        for path in _paths(folder):
            found = _plugin_data(path, summaries.EXPERIMENT_TAG) if path not in guests else ()
            yield from (data.experiment for data in found if data.HasField("experiment"))


def _session_start(folder: Folder) -> SessionStartInfo | None:
    """The session start that counts: of a run of ours, else the first."""
    own = _own_file(folder)
    return next((start for path in ([own] if own else _paths(folder)) for start in _starts(path)), None)


def _starts(path: Path) -> Iterator[SessionStartInfo]:
    found = _plugin_data(path, summaries.SESSION_START_TAG)
    return (data.session_start_info for data in found if data.HasField("session_start_info"))


def _plugin_data(file: Path, tag: str) -> Iterator[Any]:
    """What a file holds for the HParams plugin under a tag; only the records with the tag in them are looked into."""
    if not holds(file, [tag.encode()]):
        return
    for _, payload in pieces(file):
        if tag.encode() in payload:
            for event in read_events(frame(payload)):
                yield from filter(None, map(summaries.plugin_data, event.summary.value))
