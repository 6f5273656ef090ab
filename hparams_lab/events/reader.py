"""`read_run`: a run's directory back into a `RunResult`.

What the runner yields live has come through here too, so live and later are the same.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.plugins.hparams.plugin_data_pb2 import SessionEndInfo, SessionStartInfo

from hparams_lab.declared import Declared
from hparams_lab.events import summaries
from hparams_lab.events.event_file import is_event_file, read_events
from hparams_lab.events.record import OVERHEAD, frame, read_records
from hparams_lab.findings import Finding
from hparams_lab.locks import is_held
from hparams_lab.results import Outcome, RunResult, Scalars
from hparams_lab.trial import HParams
from hparams_lab.values import Value, trial_id

OUTCOME_TAG = "run/outcome"
"""A text whose first line is "<outcome>: <reason>", written where the session's status says too little."""

_BY_STATUS = {summaries.SUCCESS: Outcome.COMPLETED, summaries.FAILURE: Outcome.FAILED}


@dataclass
class _Facts:
    """What the events of a run say, as they come."""

    start: SessionStartInfo | None = None
    end: SessionEndInfo | None = None
    texts: dict[str, str] = field(default_factory=dict)
    points: dict[str, list[tuple[int, float, float]]] = field(default_factory=lambda: defaultdict(list))

    def take(self, event: Event) -> None:
        for value in event.summary.value:
            data = summaries.plugin_data(value)
            if data is not None:
                self._take_session(data)
            elif (text := summaries.text_of(value)) is not None:
                self.texts[value.tag] = text
            elif (number := summaries.scalar_of(value)) is not None:
                self.points[value.tag].append((event.step, event.wall_time, number))

    def _take_session(self, data: object) -> None:
        """TensorBoard keeps the first start and the first end that it sees; so does this."""
        kind = data.WhichOneof("data")  # type: ignore[attr-defined]
        if kind == "session_start_info" and self.start is None:
            self.start = data.session_start_info  # type: ignore[attr-defined]
        elif kind == "session_end_info" and self.end is None:
            self.end = data.session_end_info  # type: ignore[attr-defined]


def end_of_logged(data: bytes) -> int:
    """Where in a run's file what it logged ends: before its outcome and session end, if they are the last there."""
    end = 0
    for offset, payload in read_records(data):
        if not _is_ending(payload):
            end = offset + len(payload) + OVERHEAD
    return end


def _is_ending(payload: bytes) -> bool:
    tags = [value.tag for event in read_events(frame(payload)) for value in event.summary.value]
    return tags in ([OUTCOME_TAG], [summaries.SESSION_END_TAG])


def event_files(directory: Path) -> list[Path]:
    """The event files of a directory in the order in which TensorBoard reads them."""
    return [directory / name for name in sorted(os.listdir(directory)) if is_event_file(name)]


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
    files = event_files(directory)
    facts = _facts(files, findings)
    goes_on = facts.end is None and any(is_held(file) for file in files)
    if facts.end is None and not goes_on:
        facts = _facts(files, None)  # it may have ended after it was read and before its lock was asked for
    if facts.start is None:
        return None
    outcome, reason = (Outcome.RUNNING, "") if goes_on else _outcome(facts)
    columns = {tag: _column(points) for tag, points in facts.points.items()}
    hparams = _hparams(facts.start, declared)
    return RunResult(
        name=name,
        dir=directory,
        trial_id=facts.start.group_name or trial_id(hparams),
        hparams=HParams(hparams),
        outcome=outcome,
        reason=reason,
        started=facts.start.start_time_secs,
        ended=facts.end.end_time_secs if facts.end else None,
        metrics={tag: float(column.values[-1]) for tag, column in columns.items()},
        columns=columns,
        texts=facts.texts,
    )


def _facts(files: Iterable[Path], findings: list[Finding] | None) -> _Facts:
    facts = _Facts()
    for file in files:
        for event in read_events(file.read_bytes(), findings, str(file)):
            facts.take(event)
    return facts


def _outcome(facts: _Facts) -> tuple[Outcome, str]:
    word, _, reason = facts.texts.get(OUTCOME_TAG, "").partition("\n")[0].partition(": ")
    if facts.end is None:
        return Outcome.INTERRUPTED, "left without an end"
    if word in {outcome.value for outcome in Outcome}:
        return Outcome(word), reason
    return _BY_STATUS.get(facts.end.status, Outcome.INTERRUPTED), ""


def _column(points: list[tuple[int, float, float]]) -> Scalars:
    steps, wall_times, values = zip(*points, strict=True)
    return Scalars(np.array(steps, np.int64), np.array(wall_times, np.float64), np.array(values, np.float64))


def _hparams(start: SessionStartInfo, declared: Declared | None) -> dict[str, Value]:
    """The values, in declaration order and of their declared types where they are declared."""
    found = {name: summaries.plain_value(value) for name, value in start.hparams.items()}
    if declared is None:
        return dict(sorted(found.items()))
    ordered = [name for name in declared.hparams if name in found]
    ordered += sorted(name for name in found if name not in declared.hparams)
    return {name: declared.restored(name, found[name]) for name in ordered}
