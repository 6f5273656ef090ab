"""`span_of`: from when to when a session went on, and whether its own end tells.

hparams_lab writes the end last, with its time. Others do not: PyTorch's `add_hparams`, Lightning and Stable Baselines 3
write start and end in one go, the end as SUCCESS without a time, often before the training.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tensorboard.plugins.hparams.plugin_data_pb2 import SessionEndInfo, SessionStartInfo

from hparams_lab.core.curve import Scalars
from hparams_lab.events.format.record import HEADER_SIZE

MOMENT = 1.0
"""In seconds: the first values of metrics and the hyperparameters are logged in less."""


@dataclass(frozen=True, slots=True)
class Span:
    """When a session started and ended, in seconds since 1970: `ended` is None while it is not known.

    `is_told` says whether its end was written when it ended; otherwise `ended` is the time of its last point.
    """

    started: float
    ended: float | None
    is_told: bool


def span_of(
    start: SessionStartInfo, end: SessionEndInfo | None, written: float, is_own: bool, columns: Iterable[Scalars]
) -> Span:
    """The span of a session.

    Args:
      written: when the record with the end was written, in seconds since 1970; 0 where it does not say.
      is_own: whether it is a run of ours.
      columns: the points of each tag.
    """
    if start.start_time_secs and (end is None or (is_own and end.end_time_secs)):
        return Span(start.start_time_secs, end.end_time_secs if end else None, True)
    ends = ((column.wall_times.item(0), column.wall_times.item(-1)) for column in columns if len(column.steps))
    times = [pair for pair in ends if all(map(math.isfinite, pair))]
    known = [time for pair in times for time in pair if time]
    first, last = min(known, default=0.0), max(known, default=None)
    started = start.start_time_secs or first
    if end is None:
        return Span(started, None, True)
    if last is not None and started > last:  # the session was written when all was over
        started = first
    if end.end_time_secs and end.end_time_secs >= started and not _goes_on(end.end_time_secs, times):
        return Span(started, end.end_time_secs, True)
    if end.end_time_secs:
        return Span(started, last, False)
    if not written:  # Guild, which tells the truth, but no times
        return Span(started, last, bool(start.start_time_secs))
    is_told = _trained(written, times) and not _goes_on(written, times) and not _begins(written, times)
    return Span(started, last, is_told)


def _goes_on(end: float, times: Sequence[tuple[float, float]]) -> bool:
    """Whether the training was logged behind the end: all of it, or more of most curves that had begun before.

    What only comes at last, such as the score of an evaluation, is no training.

    Args: times: of the first and last point of each curve.
    """
    begun = [last > end for first, last in times if first < end]
    return 2 * sum(begun) > len(begun) if begun else bool(times)


def _trained(end: float, times: Sequence[tuple[float, float]]) -> bool:
    """Whether there was a training before the end: a curve of several points, or more than a moment.

    A first value of each metric, which Lightning logs with the hyperparameters, is none.
    """
    return any(first < end and (first < min(last, end) or end - first > MOMENT) for first, last in times)


def _begins(end: float, times: Sequence[tuple[float, float]]) -> bool:
    """Whether the training began about the end: it is near the first point, and most curves begin behind it.

    Lightning logs its placeholder before the hyperparameters.
    """
    first, last = min(pair[0] for pair in times), max(pair[1] for pair in times)
    return last - end > end - first and 2 * sum(pair[0] >= end for pair in times) >= len(times)


def written_at(file: str, offset: int) -> float:
    """When the record at this place of a file was written, in seconds since 1970; 0 where it does not say."""
    try:
        with open(file, "rb") as opened:
            opened.seek(offset + HEADER_SIZE)
            found = opened.read(9)
    except OSError:
        return 0.0
    return float(struct.unpack("<d", found[1:])[0]) if found[:1] == b"\x09" and len(found) == 9 else 0.0
