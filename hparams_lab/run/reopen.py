"""`reopened`: what is needed to go on with a run that was left or has ended, at its end or at a checkpoint's step."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from tensorboard.compat.proto.event_pb2 import Event

from hparams_lab.core.curve import Scalars
from hparams_lab.core.results import RunResult
from hparams_lab.core.scalar import SYSTEM_PREFIX
from hparams_lab.events.format.event_file import file_name, restart_event
from hparams_lab.events.format.final import narrowed
from hparams_lab.events.format.record import OVERHEAD, read_records
from hparams_lab.events.format.summaries import HPARAMS_PLUGIN
from hparams_lab.events.read.layouts import Layouts
from hparams_lab.events.write.writer import EventFileWriter
from hparams_lab.logdir.run_reader import own_file, read_file, without_ending
from hparams_lab.storage import disk
from hparams_lab.storage.paths import writing

_NOTHING: Mapping[str, tuple[int, float]] = {}

_UNFINISHED = ".going-on-"
"""What the name of a file begins with while it is written; a kill may leave it so, and nobody reads it."""


class Reopened(NamedTuple):
    """A run that is gone on with."""

    writer: EventFileWriter
    step: int = -1  # the last one that was logged; -1 without any
    last: Mapping[str, tuple[int, float]] = _NOTHING  # of each tag, the step and value of its last point
    started: float | None = None  # seconds since 1970; None for a run that begins now

    def seconds_before(self, now: float) -> float:
        """How long ago the run began, and no less than its last sample of the system says."""
        sampled = [step + 1 for tag, (step, _) in self.last.items() if not _has_steps(tag)]
        return max(0.0, now - (self.started or now), *sampled)


def reopened(directory: Path, before: RunResult, after: int | None = None) -> Reopened:
    """Open a run's event file behind what was logged. An end that it has is taken back.

    Args:
      before: the run as its directory tells it.
      after: the step of a checkpoint. What was logged at larger steps is dropped; the samples of the system, which are
        logged by seconds, stay.

    Raises LogDirError while another process writes it or when it cannot be written, EventFileError when it is broken in
    the middle.
    """
    with writing(directory):
        writer = EventFileWriter.append(own_file(directory))
        try:
            own = read_file(writer.path).columns()  # not what another writer logged beside it
            kept = without_ending(writer.path.read_bytes())
            writer = _cut(writer, kept if after is None else b"".join(_logged_until(kept, after)))
            if after is not None:
                writer.write(restart_event(after + 1, time.time()))
        except BaseException:
            writer.abandon()
            raise
    columns = {tag: _until(points, tag, after) for tag, points in own.items()}
    last = {tag: _last(points, before.metrics.get(tag)) for tag, points in columns.items() if len(points.steps)}
    step = max((int(columns[tag].steps.max()) for tag in last if _has_steps(tag)), default=-1)
    return Reopened(writer, step if after is None else after, last, before.started)


def _cut(writer: EventFileWriter, kept: bytes) -> EventFileWriter:
    """The writer of a file with what is kept of it.

    TensorBoard keeps a file open while the run goes on, so that it would not see one written anew under its old name.
    """
    if not writer.path.read_bytes().startswith(kept):
        return _written_anew(writer, kept)
    writer.truncate(len(kept))
    return writer


def _logged_until(data: bytes, last: int) -> Iterator[bytes]:
    """The records of a file but for those of larger steps."""
    layouts = Layouts()
    for offset, payload in read_records(data):
        found = layouts.read(payload)
        if found is not None:
            stays = found[1][0] <= last or not any(map(_has_steps, found[0].tags))
        else:
            event = Event.FromString(payload)
            plugins = [value.metadata.plugin_data.plugin_name for value in event.summary.value]
            stays = event.step <= last or HPARAMS_PLUGIN in plugins
        if stays:
            yield data[offset : offset + len(payload) + OVERHEAD]


def _written_anew(writer: EventFileWriter, data: bytes) -> EventFileWriter:
    """A writer at the end of a new file that holds `data` and stands, whole, in the place of the old one."""
    old = writer.path
    path = old.with_name(file_name())
    hidden = old.with_name(f"{_UNFINISHED}{os.getpid()}")
    try:
        disk.save(hidden, data)
        disk.rename(hidden, path)
    finally:
        disk.remove(hidden)
    fresh = EventFileWriter.append(path)
    writer.abandon()
    disk.remove(old)
    return fresh


def _until(points: Scalars, tag: str, last: int | None) -> Scalars:
    return points if last is None or not _has_steps(tag) else points.taken((points.steps <= last).nonzero()[0])


def _has_steps(tag: str) -> bool:
    """Whether it is logged by steps: the system's samples are by seconds."""
    return not tag.startswith(SYSTEM_PREFIX)


def _last(points: Scalars, final: float | None) -> tuple[int, float]:
    """The step and value of the last point; in 64 bits where that was the run's final one."""
    value = float(points.values[-1])
    return int(points.steps[-1]), value if final is None or narrowed(final) != value else final
