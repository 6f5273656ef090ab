"""Facts: what the event files of a log directory hold, each read once, whoever wrote it."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams.plugin_data_pb2 import SessionEndInfo, SessionStartInfo

from hparams_lab.core.curve import Scalars
from hparams_lab.core.errors import LogDirError
from hparams_lab.core.findings import Finding, Kind
from hparams_lab.events.format import summaries
from hparams_lab.events.format.event_file import is_own
from hparams_lab.events.format.record import HEADER_SIZE, OVERHEAD
from hparams_lab.events.read.collector import is_of_ours
from hparams_lab.events.read.cursor import Cursor
from hparams_lab.events.read.instead import NO_RECORD, UNKNOWN, Instead, instead_of_events, without_events
from hparams_lab.events.read.layouts import Layouts
from hparams_lab.events.read.scan import Scanner
from hparams_lab.logdir.doctor.salvage import contents, events, records
from hparams_lab.logdir.doctor.swapped import swapped_tags
from hparams_lab.logdir.hints import no_directory
from hparams_lab.logdir.sessions import writer_of
from hparams_lab.logdir.walk import above_of, owners_of, walk
from hparams_lab.storage.locks import is_held
from hparams_lab.storage.paths import EXPERIMENT

SMALLEST_STEP, LARGEST_STEP = -(2**31), 2**31 - 1
"""The steps that TensorBoard's HParams tab can answer with."""

WILD = 2**24
"""TensorBoard asks for the memory of a record at once, and the memory is touched."""

_OURS = re.compile(rf"(?:(.*)/)?{EXPERIMENT}/\d+")


@dataclass(slots=True)
class FileFacts:
    """What one event file holds; a sink of the scanner.

    `is_guest` is whether another logger wrote hparams into or below a run of ours: they are left out here.
    `steps` are the last steps of its tags, `back` where a tag's steps go back first: from which step to which;
    `swapped` the same where only neighbours are out of order. `first` and `last` are the times of its points, `told` is
    the latest that a session says of itself. `was_restarted` is whether a session began behind points.
    """

    path: Path
    name: str
    findings: list[Finding] = field(default_factory=list)
    is_held: bool = False
    written: float = 0.0
    size: int = 0
    experiments: list[api_pb2.Experiment] = field(default_factory=list)
    starts: list[SessionStartInfo] = field(default_factory=list)
    ends: list[SessionEndInfo] = field(default_factory=list)
    misfits: list[str] = field(default_factory=list)
    odd_scalars: list[str] = field(default_factory=list)
    tags: dict[str, int] = field(default_factory=dict)
    is_guest: bool = False
    steps: dict[str, int] = field(default_factory=dict)
    back: dict[str, tuple[int, int]] = field(default_factory=dict)
    swapped: dict[str, tuple[int, int]] = field(default_factory=dict)
    was_restarted: bool = False
    instead: Instead | None = None
    wild_steps: int = 0
    missing: int = 0
    first: float = float("inf")
    last: float = float("-inf")
    told: float = 0.0

    @property
    def writer(self) -> str:
        """The host and process that wrote the file, as its name tells; the name where it does not."""
        return writer_of(self.path.name)

    @property
    def is_own(self) -> bool:
        """Whether it holds a run of ours."""
        return any(is_of_ours(self.path.name, start) for start in self.starts)

    @property
    def says_hparams(self) -> bool:
        """Whether it holds a session or an Experiment summary."""
        return bool(self.experiments or self.starts or self.ends)

    def be_guest(self, is_held: bool) -> None:
        """Leave out what it says of hparams: it is another logger's, in or below a run of ours.

        It may go on as long as that run: not every logger locks what it writes.
        """
        self.is_guest = self.says_hparams
        self.is_held |= is_held
        self.experiments, self.starts, self.ends = [], [], []

    @property
    def claims_too_much(self) -> bool:
        """Whether a record claims so many bytes more than the file has that asking for them is the end of a server."""
        return self.missing > WILD or self.has(Kind.WILD_LENGTH)

    @property
    def lost(self) -> int:
        """How many of its bytes cannot be read."""
        return sum(finding.bytes_lost for finding in self.findings)

    def has(self, *kinds: Kind) -> bool:
        """Whether one of these is wrong with it."""
        return any(finding.kind in kinds for finding in self.findings)

    def take_point(self, tags: Sequence[str], step: int, wall_time: float, values: Sequence[float]) -> None:
        """The scanner's: the scalars of one event."""
        for tag in tags:
            self.tags[tag] = self.tags.get(tag, 0) + 1
            self._step(tag, step, step)
        if not SMALLEST_STEP <= step <= LARGEST_STEP:
            self.wild_steps += 1
        if wall_time < self.first:
            self.first = wall_time
        if wall_time > self.last:
            self.last = wall_time

    def take_points(self, tag: str, points: Scalars) -> None:
        """The scanner's: many points of a tag."""
        self.tags[tag] = self.tags.get(tag, 0) + len(points.steps)
        back = np.flatnonzero(points.steps[1:] < points.steps[:-1])
        if len(back):
            self.back.setdefault(tag, (int(points.steps[back[0]]), int(points.steps[back[0] + 1])))
        self._step(tag, int(points.steps[0]), int(points.steps[-1]))
        low, high = int(points.steps.min()), int(points.steps.max())
        if low < SMALLEST_STEP or high > LARGEST_STEP:
            self.wild_steps += int(((points.steps < SMALLEST_STEP) | (points.steps > LARGEST_STEP)).sum())
        self.first = min(self.first, float(points.wall_times.min()))
        self.last = max(self.last, float(points.wall_times.max()))

    def take_restart(self, step: int) -> None:
        """A restart: its steps may begin again."""
        self.was_restarted |= bool(self.steps)
        self.steps = {}

    def take_value(self, value: Summary.Value, offset: int) -> None:
        """The scanner's: a value that is no scalar."""
        plugin = value.metadata.plugin_data.plugin_name
        if plugin == "scalars":
            self.odd_scalars.append(value.tag)
        if plugin != summaries.HPARAMS_PLUGIN:
            return
        if misfit := misfit_of(value):
            self.misfits.append(misfit)
            return
        data = summaries.plugin_data(value)
        assert data is not None
        if data.HasField("experiment"):
            self.experiments.append(data.experiment)
        elif data.HasField("session_start_info"):
            self.starts.append(data.session_start_info)
            self.told = max(self.told, data.session_start_info.start_time_secs)
        else:
            self.ends.append(data.session_end_info)
            self.told = max(self.told, data.session_end_info.end_time_secs)

    def _step(self, tag: str, first: int, last: int) -> None:
        """Note whether a tag's steps go back from those before to the `first` of these."""
        before = self.steps.get(tag, first)
        if first < before:
            self.back.setdefault(tag, (before, first))
        self.steps[tag] = last



@dataclass(slots=True)
class RunFacts:
    """What one directory with event files holds: to TensorBoard a run, and a session when it has a session start."""

    name: str
    directory: Path
    files: list[FileFacts]

    @property
    def start(self) -> SessionStartInfo | None:
        """The session start that TensorBoard keeps: the first."""
        return next((start for file in self.files for start in file.starts), None)

    @property
    def has_end(self) -> bool:
        """Whether there is a session end."""
        return any(file.ends for file in self.files)

    @property
    def is_held(self) -> bool:
        """Whether a process writes it."""
        return any(file.is_held for file in self.files)

    @property
    def tags(self) -> set[str]:
        """The scalars' tags."""
        return {tag for file in self.files for tag in file.tags}

    @property
    def last(self) -> float:
        """When the last event was written; 0 without one."""
        return max((max(file.last, file.told) for file in self.files), default=0.0)


class Tree:
    """What a log directory holds.

    Raises LogDirError when it is none, or holds no event file.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise LogDirError(no_directory(str(root)))
        self.root = root
        found, layouts = walk(str(root)), Layouts()
        self.findings = found.findings
        self._sweeps = found.sweeps
        self.runs = [
            RunFacts(folder.name, Path(folder.path), [facts_of(folder.path, name, folder.name, layouts)
                                                      for name in sorted(folder.files)])
            for folder in found.folders
        ]  # fmt: skip
        self._inside = self._find_guests()
        if not self.runs and not self.findings:
            raise LogDirError(f"{root} holds no event file (none with tfevents in its name); is it the right one?")

    def _find_guests(self) -> set[str]:
        """The directories that belong to a run of ours, and are none. What another logger says there makes no run."""
        ours = {run.name for run in self.runs if any(file.is_own for file in run.files)}
        sessions = [run.name for run in self.runs if run.start is not None]
        owners = owners_of([run.name for run in self.runs], sessions, ours.__contains__)
        inside = {name for name, (owner, _) in owners.items() if owner in ours}
        held = {run.name for run in self.runs if run.is_held}
        for run in self.runs:
            for file in run.files:
                if run.name in inside or (run.name in ours and not is_own(file.path.name) and not file.is_own):
                    file.be_guest((owners[run.name][0] if run.name in inside else run.name) in held)
        return inside

    @property
    def files(self) -> Iterator[tuple[RunFacts, FileFacts]]:
        """Every event file with its run."""
        return ((run, file) for run in self.runs for file in run.files)

    @cached_property
    def guests(self) -> list[FileFacts]:
        """The files in which another logger wrote hparams into or below a run of ours."""
        return [file for _, file in self.files if file.is_guest]

    @cached_property
    def sessions(self) -> list[RunFacts]:
        """The runs that TensorBoard's HParams tab takes for sessions."""
        return [run for run in self.runs if run.start is not None]

    @cached_property
    def experiments(self) -> list[tuple[RunFacts, FileFacts, api_pb2.Experiment]]:
        """Every Experiment summary, our own place for it first."""
        found = [(run, file, message) for run, file in self.files for message in file.experiments]
        return sorted(found, key=lambda one: (_OURS.fullmatch(one[0].name) is None, one[0].name.count("/")))

    @cached_property
    def sweeps(self) -> list[str]:
        """The directories with a `sweep.json` or an experiment of ours, by their names below the root, "" for it."""
        ours = {found[1] or "" for run, _, _ in self.experiments if (found := _OURS.fullmatch(run.name))}
        return sorted(ours | {name for name in self._sweeps if (self.root / name / "sweep.json").is_file()})

    @cached_property
    def metrics(self) -> Mapping[tuple[str, str], set[str]]:
        """The metrics that sessions have, as (group, tag), with the sessions: a sub-run's name is its group."""
        names = {run.name for run in self.sessions}
        found: dict[tuple[str, str], set[str]] = {}
        for run in self.runs:
            session, group = _session_of(run.name, names)
            for tag in run.tags if session is not None and run.name not in self._inside else ():
                found.setdefault((group, tag), set()).add(session or "")
        return found


def _session_of(name: str, sessions: set[str]) -> tuple[str | None, str]:
    """The session that a run's scalars count for, and their group there."""
    for parent in (name, *above_of(name)):
        if parent in sessions:
            return parent, name[len(parent) :].lstrip("/")
    return None, ""


def facts_of(directory: str, file: str, run: str, layouts: Layouts) -> FileFacts:
    """What an event file holds. One that is no regular file is not opened."""
    path = f"{directory}/{file}"
    facts = FileFacts(Path(path), f"{run}/{file}" if run else file)
    try:
        found = os.stat(path)
        facts.written, facts.size = found.st_mtime, found.st_size
        if stat.S_ISREG(found.st_mode):
            facts.is_held = is_held(path)
    except OSError:
        pass  # the cursor says what is the matter
    cursor = Cursor(path, layouts, facts, facts.findings)
    cursor.read_new()
    if facts.size and not cursor.offset and not facts.has(Kind.UNREADABLE):  # not even a first record
        facts.instead = instead_of_events(facts.path)
        if facts.instead is not None:
            return facts
    if cursor.torn is not None:
        facts.missing = _missing(path, cursor.torn)
    if not facts.is_held and cursor.offset < cursor.size and not facts.has(Kind.UNREADABLE):
        _read_behind_damage(cursor, facts, layouts)
    if facts.findings and not facts.is_held and not facts.has(Kind.UNREADABLE):
        facts.instead = _found_instead(cursor, facts)
    if facts.back:
        swapped = swapped_tags(facts.path, facts.back)
        facts.swapped = {tag: at for tag, at in facts.back.items() if tag in swapped}
        facts.back = {tag: at for tag, at in facts.back.items() if tag not in swapped}
    return facts


def _read_behind_damage(cursor: Cursor, facts: FileFacts, layouts: Layouts) -> None:
    """Read the whole records behind the damage at which the reading ended; what is lost becomes findings."""
    if cursor.torn is None:
        facts.findings.pop()  # found again, with how much is lost
    scanner = Scanner(cursor.path, layouts, facts, facts.findings)
    with contents(facts.path) as data:
        for offset, payload in records(data, facts.findings, cursor.path, begin=cursor.offset):
            scanner.take(payload, offset)


def _found_instead(cursor: Cursor, facts: FileFacts) -> Instead | None:
    """What a file is in which no whole event is; None where there is one, and for one that must be mended anyway."""
    if facts.claims_too_much:
        return None
    with contents(facts.path) as data:
        if next(events(data, []), None) is not None:
            return None
    found = without_events(facts.path)
    return NO_RECORD if found is UNKNOWN and cursor.torn is not None and not cursor.torn.offset else found


def _missing(path: str, torn: Finding) -> int:
    """How many bytes the last record lacks, as it claims."""
    with open(path, "rb") as file:
        file.seek(torn.offset)
        header = file.read(HEADER_SIZE)
    return int.from_bytes(header[:8], "little") + OVERHEAD - torn.bytes_lost if len(header) == HEADER_SIZE else 0


_HOLDS = {
    summaries.EXPERIMENT_TAG: "experiment",
    summaries.SESSION_START_TAG: "session_start_info",
    summaries.SESSION_END_TAG: "session_end_info",
}


def misfit_of(value: Summary.Value) -> str:
    """What is wrong with an hparams message, so that the tab answers 400 or 500; empty when it is right or is none."""
    if value.metadata.plugin_data.plugin_name != summaries.HPARAMS_PLUGIN:
        return ""
    data = summaries.plugin_data(value)
    if data is None:
        return f"{value.tag} holds no message of the HParams plugin"
    if data.version != 0:
        return f"{value.tag} is of version {data.version}, and there is only 0"
    kind = data.WhichOneof("data")
    if kind is None or _HOLDS.get(value.tag, kind) != kind:
        return f"{value.tag} holds {kind or 'nothing'}"
    return ""
