"""`Facts`: what the event files of one directory say, as it comes: session start and end, texts, points."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo

from hparams_lab.core.curve import Scalars, Thin
from hparams_lab.events.format import summaries
from hparams_lab.events.format.event_file import is_own
from hparams_lab.events.format.final import FINAL_TAG, Final, finals_of
from hparams_lab.events.format.stored import contradict
from hparams_lab.events.read.restarts import before, without_overtaken

_OUR_ID = re.compile("[0-9a-f]{16}")
"""Our trials' ids, as `values.trial_id` makes them."""


def is_of_ours(name: str, start: SessionStartInfo) -> bool:
    """Whether a session is a run of ours: the name of its event file or the id of its trial says so."""
    return is_own(name) or _OUR_ID.fullmatch(start.group_name) is not None


class Facts:
    """A sink for `Scanner`.

    TensorBoard keeps the first start and the first end of a session that it sees; so does this. `thin` is what to keep
    of a tag's points.
    """

    def __init__(self, thin: Thin | None = None) -> None:
        self.start: SessionStartInfo | None = None
        self.others: list[SessionStartInfo] = []  # later starts in the same file that contradict it
        self.end: SessionEndInfo | None = None
        self.end_at = 0  # where its record is
        self.experiment: Any = None
        self.texts: dict[str, str] = {}
        self.finals: dict[str, Final] = {}
        self.restarts: list[int] = []  # the steps at which a session began
        self.overtaken: dict[str, int] = {}  # by tag, how many points a restart left out
        self._thin = thin
        self._earlier: list[dict[str, Scalars]] = []  # the points before each restart
        self._parts: dict[str, list[Scalars]] = {}
        self._loose: list[tuple[Sequence[str], int, float, Sequence[float]]] = []

    def take_point(self, tags: Sequence[str], step: int, wall_time: float, values: Sequence[float]) -> None:
        """The values of one event."""
        self._loose.append((tags, step, wall_time, values))

    def take_points(self, tag: str, points: Scalars) -> None:
        """Many points of a tag, after those taken before."""
        if self._loose:
            self._settle()
        self._add(tag, points)

    def take_columns(self, columns: dict[str, Scalars]) -> None:
        """All points of each tag, before there are any."""
        thin = self._thin
        self._parts = {tag: [points if thin is None else thin(points)] for tag, points in columns.items()}

    def take_value(self, value: Summary.Value, offset: int) -> None:
        """A value that is no scalar. Raises BadSummary when its message is none."""
        if not value.HasField("metadata"):
            return
        data = summaries.checked_plugin_data(value)
        if data is None:
            if value.tag == FINAL_TAG:
                self.finals.update(finals_of(value))
            elif (text := summaries.text_of(value)) is not None:
                self.texts[value.tag] = text
            return
        self.take_message(data, offset)

    def take_restart(self, step: int) -> None:
        """A session begins, the first of a training or after a restart, with events from `step` on."""
        columns = self._current()
        if self.restarts:
            self._earlier = [{tag: before(points, step) for tag, points in one.items()} for one in self._earlier]
            columns = {tag: before(points, step) for tag, points in columns.items()}
        self.restarts.append(step)
        if columns:
            self._earlier.append(columns)
            self._parts = {}

    @property
    def was_restarted(self) -> bool:
        """Whether a session began behind points of the same file."""
        return bool(self._earlier)

    def take_message(self, data: HParamsPluginData, offset: int) -> None:
        """A message of the HParams plugin, in the record at `offset`."""
        kind = data.WhichOneof("data")
        if kind == "session_start_info":
            if self.start is None:
                self.start = data.session_start_info
            elif contradict(self.start, data.session_start_info):
                self.others.append(data.session_start_info)
        elif kind == "session_end_info" and self.end is None:
            self.end, self.end_at = data.session_end_info, offset
        elif kind == "experiment" and self.experiment is None:
            self.experiment = data.experiment

    def is_own(self, name: str) -> bool:
        """Whether these are the facts of a run of ours, in a file of that name."""
        return self.start is not None and is_of_ours(name, self.start)

    def columns(self) -> dict[str, Scalars]:
        """The points of each tag, in the order in which the tags were first logged."""
        current = self._current()
        if not self._earlier:
            return current
        found: dict[str, Scalars] = {}
        for columns in (*self._earlier, current):
            for tag, points in columns.items():
                kept = [before(found[tag], int(points.steps.min()))] if tag in found and len(points.steps) else []
                found[tag] = _joined([*kept, points])
        return {tag: points for tag, points in found.items() if len(points.steps)}  # a restart may leave none

    def _current(self) -> dict[str, Scalars]:
        """The points since the last restart."""
        self._settle()
        for parts in self._parts.values():
            if len(parts) > 1:
                parts[:] = [_joined(parts)]
        return {tag: parts[0] for tag, parts in self._parts.items()}

    def _add(self, tag: str, points: Scalars) -> None:
        parts = self._parts.setdefault(tag, [])
        parts.append(points)
        if self._thin is not None:
            parts[:] = [self._thin(_joined(parts))]

    def _settle(self) -> None:
        """Make arrays of the points that came one by one."""
        if not self._loose:
            return
        loose, self._loose = self._loose, []
        rows = [
            (tag, step, wall_time, value)
            for tags, step, wall_time, values in loose
            for tag, value in zip(tags, values, strict=True)
        ]
        tags, steps, wall_times, values = zip(*rows, strict=True)
        points = Scalars(np.array(steps, np.int64), np.array(wall_times), np.array(values, np.float64))
        if len(set(tags)) == len(tags):
            for place, tag in enumerate(tags):
                self._add(tag, points.taken(slice(place, place + 1)))
            return
        places: dict[str, list[int]] = {}
        for place, tag in enumerate(tags):
            places.setdefault(tag, []).append(place)
        for tag, which in places.items():
            self._add(tag, points.taken(np.array(which)))


def joined(parts: Sequence[tuple[bool, Facts]], thin: Thin | None = None) -> Facts:
    """What several files of a directory say together.

    Args:
      parts: the facts of each in the order of the files' names, and whether the file is ours.
      thin: what to keep of a tag's points.

    Where ours has a session, a tag or a text, it alone counts. The points of a tag of several files are in the order of
    writing.
    """
    own = [facts for is_own, facts in parts if is_own]
    others = [facts for is_own, facts in parts if not is_own]
    found = Facts(thin)
    sessions = [facts for facts in own if facts.start is not None] or [*own, *others]
    found.start, found.end, found.experiment = (
        next((value for facts in sessions if (value := getattr(facts, name)) is not None), None)
        for name in ("start", "end", "experiment")
    )
    for facts in (*others, *own):
        found.texts.update(facts.texts)
        found.finals.update(facts.finals)
    ours = _by_tag(own, found.overtaken)
    found.take_columns(ours | _by_tag(others, found.overtaken) | ours)
    return found


def _by_tag(parts: Sequence[Facts], overtaken: dict[str, int]) -> dict[str, Scalars]:
    """The points of each tag of several files in the order of writing, without those that a restart overtook."""
    columns: dict[str, list[Scalars]] = {}
    for place, facts in enumerate(parts):
        later = [one.restarts for one in parts[place + 1 :] if one.restarts and facts.restarts]
        for tag, points in facts.columns().items():
            columns.setdefault(tag, []).append(points)
            if later:
                columns[tag][-1] = before(points, min(map(min, later)))
                _note(overtaken, tag, len(points.steps) - len(columns[tag][-1].steps))
    found = {}
    for tag, pieces in columns.items():
        kept = without_overtaken(pieces) if len(pieces) > 1 else pieces
        _note(overtaken, tag, sum(len(piece.steps) for piece in pieces) - sum(len(piece.steps) for piece in kept))
        found[tag] = _in_order([piece for piece in kept if len(piece.steps)] or kept[:1])
    return {tag: points for tag, points in found.items() if len(points.steps)}


def _note(overtaken: dict[str, int], tag: str, count: int) -> None:
    if count:
        overtaken[tag] = overtaken.get(tag, 0) + count


def _in_order(parts: list[Scalars]) -> Scalars:
    """Points of one tag by the time of writing, those of each part in their order."""
    if len(parts) == 1:
        return parts[0]
    order = np.argsort(np.concatenate([np.fmax.accumulate(part.wall_times) for part in parts]), kind="stable")
    return _joined(parts).taken(order)


def _joined(parts: list[Scalars]) -> Scalars:
    if len(parts) == 1:
        return parts[0]
    return Scalars(*(np.concatenate(column) for column in zip(*parts, strict=True)))
