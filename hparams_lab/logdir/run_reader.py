"""`read_run`: a run's directory back into a `RunResult`; `RunReader`: the same again and again, each time what is new.

What the runner yields live has come through here too, so live and later are the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tensorboard.plugins.hparams.plugin_data_pb2 import SessionStartInfo

from hparams_lab.core.curve import Scalars, Thin
from hparams_lab.core.declared import Declared
from hparams_lab.core.errors import LogDirError
from hparams_lab.core.findings import Finding, Kind
from hparams_lab.core.outcome import Outcome
from hparams_lab.core.results import RunResult
from hparams_lab.core.trial import HParams
from hparams_lab.core.values import Value, lone_id
from hparams_lab.events.format import summaries
from hparams_lab.events.format.event_file import is_own, read_events
from hparams_lab.events.format.final import FINAL_TAG, last_values
from hparams_lab.events.format.record import OVERHEAD, frame, read_records
from hparams_lab.events.read.collector import Facts, joined
from hparams_lab.events.read.cursor import Cursor
from hparams_lab.events.read.layouts import Layouts
from hparams_lab.events.read.span import span_of, written_at
from hparams_lab.logdir.sessions import Written, sessions_of, whose, written
from hparams_lab.storage.file_names import is_event_file
from hparams_lab.storage.locks import is_held

OUTCOME_TAG = "run/outcome"
"""A text whose first line is "<outcome>: <reason>", written where the session's status says too little."""

_BY_STATUS = {summaries.SUCCESS: Outcome.COMPLETED, summaries.FAILURE: Outcome.FAILED}
_BY_WORD = {outcome.value: outcome for outcome in Outcome}

OUR_ID_DIGITS = 16
"""How long our trials' ids are; TensorFlow's own are longer, and its runs often have no end, however they ended."""


def without_ending(data: bytes) -> bytes:
    """What is logged in a run's file: all but its final values, outcome and end, also where more was added behind."""
    kept, begin, end = [], 0, 0
    for offset, payload in read_records(data):
        if _is_ending(payload):
            kept.append(data[begin:offset])
            begin = offset + len(payload) + OVERHEAD
        end = offset + len(payload) + OVERHEAD
    return b"".join([*kept, data[begin:end]])


def _is_ending(payload: bytes) -> bool:
    tags = [value.tag for event in read_events(frame(payload)) for value in event.summary.value]
    return tags in ([FINAL_TAG], [OUTCOME_TAG], [summaries.SESSION_END_TAG])


def event_files(directory: Path) -> list[Path]:
    """The event files of a directory in the order in which TensorBoard reads them.

    Raises LogDirError where that may not be looked into.
    """
    try:
        names = sorted(os.listdir(directory))
    except PermissionError as error:
        raise LogDirError(f"{directory} cannot be read: {error.strerror}; have its owner open it to you") from None
    return [directory / name for name in names if is_event_file(name)]


def own_file(directory: Path) -> Path:
    """The event file of the run in a directory, in which another writer may log, too.

    Raises LogDirError when there is none.
    """
    files = event_files(directory) if directory.is_dir() else []
    if not files:
        raise LogDirError(f"{directory} holds no run; name the directory of one")
    own = [file for file in files if is_own(file.name)]
    if not own and len(files) > 1:  # of an older version
        own = [file for file in files if read_file(file).start is not None]
    return (own or files)[-1]


def read_file(path: Path) -> Facts:
    """What one event file says."""
    facts = Facts()
    Cursor(str(path), Layouts(), facts, []).read_new()
    return facts


def read_run(
    directory: Path, name: str, declared: Declared | None = None, findings: list[Finding] | None = None
) -> RunResult | None:
    """The run in `directory`; None when it holds no session start (it is not a run, or only just begins).

    Args:
      directory: where the event files are.
      name: what to call the run.
      declared: gives the values their declared types.
      findings: what is wrong with the files is appended.
    """
    reader = RunReader(str(directory), Layouts())
    reader.read_new([file.name for file in event_files(directory)])
    if findings is not None:
        findings += reader.findings
    return reader.run(name, declared)


class _Part(NamedTuple):
    """One file: where its reading stands, what it says, and what is wrong with it."""

    cursor: Cursor
    facts: Facts
    findings: list[Finding]

    @classmethod
    def of(cls, path: str, layouts: Layouts, facts: Facts) -> _Part:
        findings: list[Finding] = []
        return cls(Cursor(path, layouts, facts, findings), facts, findings)


class RunReader:
    """The event files of one directory.

    Args:
      directory: where they are.
      layouts: what is known of records.
      thin: what to keep of a tag's points.
    """

    def __init__(self, directory: str, layouts: Layouts, thin: Thin | None = None) -> None:
        self.directory = directory
        self._layouts = layouts
        self._thin = thin
        self._parts: dict[str, _Part] = {}
        self._joined: Facts | None = None
        self._apart: tuple[RunReader, ...] | None = None
        self._lent: SessionStartInfo | None = None
        self._goes_on = False
        self.files: tuple[str, ...] = ()  # which of the directory's are read, where that is not all
        self._thins_late = False  # where a restart may drop points: the others are needed until then

    @property
    def facts(self) -> Facts:
        """What the files say, joined."""
        if self._joined is None:
            parts = [(is_own(name) or part.facts.is_own(name), part.facts) for name, part in self._parts.items()]
            alone = len(parts) == 1 and not self._thins_late and self._lent is None
            self._joined = parts[0][1] if alone else joined(parts, self._thin)
            self._joined.start = self._joined.start or self._lent
        return self._joined

    @property
    def apart(self) -> tuple[RunReader, ...]:
        """The sessions in the directory, each with its own files; only this one where all files are of one.

        A session without values of its own has those of the first, as `doctor --repair` gives them to it.
        """
        if self._apart is None:
            self._apart = ()
            if len(self._parts) > 1 and not self.is_own:
                self._apart = tuple(self._split(sessions_of(self.written)))
        return self._apart or (self,)

    def _split(self, sessions: Sequence[Sequence[int]]) -> Iterable[RunReader]:
        names = [*self._parts]
        found = [self._only([names[place] for place in places]) for places in sessions if len(sessions) > 1]
        for one in found[1:]:
            one._lent = found[0].facts.start
        return found

    @property
    def written(self) -> list[Written]:
        """What each file tells of whose it is."""
        return [written(name, part.facts) for name, part in self._parts.items()]

    def shared_out(self, sessions: Sequence[RunReader]) -> list[RunReader]:
        """What of this directory belongs to each session of the one above: those of a file's process, or its time."""
        above = [one.written for one in sessions]
        owners = {file.name: whose(file, above) for file in self.written}
        return [self._only([name for name, owner in owners.items() if owner == n]) for n in range(len(sessions))]

    def paths_from(self, directory: str) -> list[str]:
        """The files that are read, as seen from another directory."""
        return [os.path.relpath(f"{self.directory}/{name}", directory) for name in self._parts]

    def _only(self, names: Sequence[str]) -> RunReader:
        """A reader of some of the files, with what is read of them so far."""
        one = RunReader(self.directory, self._layouts, self._thin)
        one.files = tuple(names)
        one._parts = {name: self._parts[name] for name in names}
        one._thins_late = self._thins_late
        one._goes_on = self._goes_on and any(is_held(f"{self.directory}/{name}") for name in names)
        return one

    @property
    def is_own(self) -> bool:
        """Whether the run is one of ours."""
        return any(part.facts.is_own(name) for name, part in self._parts.items())

    @property
    def findings(self) -> list[Finding]:
        """What is wrong with the files, a torn end included unless somebody writes them."""
        found = [finding for part in self._parts.values() for finding in part.findings]
        for one in self.apart if self._parts else ():
            if one.facts.overtaken:
                found.append(_overtaken(f"{self.directory}/{list(one._parts)[-1]}", one.facts.overtaken))
        for name, part in self._parts.items():
            if part.facts.others and not part.facts.is_own(name):
                found.append(_mixed(f"{self.directory}/{name}", part.facts))
        if self._goes_on:
            return found
        return found + [part.cursor.torn for part in self._parts.values() if part.cursor.torn is not None]

    @property
    def goes_on(self) -> bool:
        """Whether a process holds one of the files."""
        return self._goes_on

    def skip(self, name: str, facts: Facts, size: int, inode: int) -> None:
        """Go on behind what the only file says, which was read to `size` in another way."""
        self._parts = {name: _Part.of(f"{self.directory}/{name}", self._layouts, facts)}
        self._parts[name].cursor.skip(size, inode)
        if facts.end is None:
            self.read_new([name])

    def read_new(self, names: Iterable[str]) -> bool:
        """Read what is new in the files of these names; whether anything is."""
        names = sorted(names)
        try:
            changed = self._read(names)
            if all(one.facts.end is not None for one in self.apart):
                held = False
            else:
                held = any(is_held(f"{self.directory}/{name}") for name in names)
                if not held:  # it may have ended after it was read and before its lock was asked for
                    changed |= self._read(names)
        except BaseException:
            self._parts, self._joined, self._apart = {}, None, None  # how far it came is not known
            raise
        changed |= held is not self._goes_on
        if held is not self._goes_on:
            self._apart = None
        self._goes_on = held
        return changed

    def _read(self, names: list[str]) -> bool:
        """Read each file from where it was left; from its beginning where it was cut or replaced."""
        changed = self._parts.keys() != set(names)
        before, self._parts = self._parts, {}
        if self._thin is not None and len(names) > 1 and not self._thins_late:
            before, self._thins_late = {}, True
        for name in names:
            part = before.get(name) or self._part(name)
            found = part.cursor.read_new()
            if found is None:
                part = self._part(name)
                part.cursor.read_new()
                found = True
            self._parts[name] = part
            changed |= found
            if part.facts.was_restarted and self._thin is not None and not self._thins_late:
                self._parts, self._thins_late = {}, True
                return self._read(names)
        if changed:
            self._joined = self._apart = None
        return changed

    def _part(self, name: str) -> _Part:
        return _Part.of(f"{self.directory}/{name}", self._layouts, Facts(None if self._thins_late else self._thin))

    def run(
        self,
        name: str,
        declared: Declared | None = None,
        sweep: str = "",
        below: Mapping[str, Scalars] | None = None,
        texts: Mapping[str, str] | None = None,
    ) -> RunResult | None:
        """The run; None without a session start, unless it has points that nobody else claims.

        Args: below: the points of directories that belong to the run, by tag.
        """
        facts = self.facts
        if facts.start is None:
            return None
        own = columns = facts.columns()
        if below:
            columns = {**columns, **below, **(columns if self.is_own else {})}
        hparams = HParams.of_plain(_hparams(facts.start.hparams, declared))
        span = span_of(facts.start, facts.end, self._end_written(), self.is_own, columns.values())
        outcome, reason = (Outcome.RUNNING, "") if self._goes_on else _outcome(facts, self.is_own, span.is_told)
        return RunResult(
            name=name,
            path=self.directory,
            trial_id=facts.start.group_name or lone_id(name),
            hparams=hparams,
            outcome=outcome,
            reason=reason,
            started=span.started,
            ended=None if self._goes_on else span.ended,
            metrics=last_values(columns, own, facts.finals),
            columns=columns,
            texts={**facts.texts, **texts} if texts else facts.texts,
            sweep=sweep,
        )

    def _end_written(self) -> float:
        """When the end was written, where it has no time of its own; 0 where that is not known."""
        end = self.facts.end
        if end is None or end.end_time_secs:
            return 0.0
        places = ((name, part.facts.end_at) for name, part in self._parts.items() if part.facts.end is end)
        return next((written_at(f"{self.directory}/{name}", at) for name, at in places), 0.0)

    def bare_run(
        self,
        name: str,
        sweep: str = "",
        below: Mapping[str, Scalars] | None = None,
        texts: Mapping[str, str] | None = None,
    ) -> RunResult | None:
        """The points as a run without hyperparameters; None when there are none."""
        columns = {**self.facts.columns(), **(below or {})}
        if not columns:
            return None
        times = [column.wall_times for column in columns.values()]
        return RunResult(
            name=name,
            path=self.directory,
            trial_id=lone_id(name),
            hparams=HParams({}),
            outcome=Outcome.RUNNING if self._goes_on else Outcome.UNKNOWN,
            reason="",
            started=float(min(column[0] for column in times)),
            ended=None if self._goes_on else float(max(column[-1] for column in times)),
            metrics={tag: column.values.item(-1) for tag, column in columns.items()},
            columns=columns,
            texts={**self.facts.texts, **texts} if texts else self.facts.texts,
            sweep=sweep,
            is_session=False,
        )


def _overtaken(file: str, tags: Mapping[str, int]) -> Finding:
    count, most = sum(tags.values()), max(tags, key=lambda tag: tags[tag])
    more = f" and of {len(tags) - 1} more" * (len(tags) > 1)
    reason = f"the steps of {most!r}{more} begin again: {count:,} earlier points are left out, as TensorBoard does"
    return Finding(file, 0, Kind.OVERTAKEN, reason, 0)


def _mixed(file: str, facts: Facts) -> Finding:
    count = 1 + len(facts.others)
    reason = f"{count} sessions of different values, which cannot be read apart: the run has the values of the first"
    return Finding(file, 0, Kind.MIXED, reason, 0)


def _outcome(facts: Facts, is_own: bool, is_told: bool) -> tuple[Outcome, str]:
    """How a session ended, and why. An end that was written before the training tells nothing, but for a failure."""
    if facts.end is None:
        ours = facts.start is not None and len(facts.start.group_name) == OUR_ID_DIGITS
        return (Outcome.INTERRUPTED, "left without an end") if ours else (Outcome.UNKNOWN, "")
    if OUTCOME_TAG in facts.texts:
        word, _, reason = facts.texts[OUTCOME_TAG].partition("\n")[0].partition(": ")
        if word in _BY_WORD:
            return _BY_WORD[word], reason
    outcome = _BY_STATUS.get(facts.end.status, Outcome.INTERRUPTED if is_own else Outcome.UNKNOWN)
    return (outcome if is_told or outcome is Outcome.FAILED else Outcome.UNKNOWN), ""


def _hparams(stored: Mapping[str, Any], declared: Declared | None) -> dict[str, Value]:
    """The values, in declaration order and of their declared types where they are declared."""
    plain = summaries.plain_value
    found = {name: plain(stored[name]) for name in sorted(stored)}
    if declared is None:
        return found
    ordered = [name for name in declared.hparams if name in found]
    ordered += [name for name in found if name not in declared.hparams]
    return {name: declared.restored(name, found[name]) for name in ordered}
