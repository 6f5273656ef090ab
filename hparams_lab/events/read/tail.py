"""Where the whole records of a file end, and what a writer that goes on needs to know; read in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tensorboard.compat.proto.summary_pb2 import Summary

from hparams_lab.core.curve import Scalars
from hparams_lab.core.errors import EventFileError, LogDirError
from hparams_lab.core.findings import Finding, Kind
from hparams_lab.core.scalar import SYSTEM_PREFIX
from hparams_lab.events.format import summaries
from hparams_lab.events.read.cursor import Cursor
from hparams_lab.events.read.layouts import Layouts

_BLOCK = 1 << 16


class Tail(NamedTuple):
    """What a writer that goes on with a file needs to know of it."""

    whole: int  # bytes: what comes behind is torn, or broken to the file's end
    has_end: bool
    last_step: int  # of what was logged by steps, so not the samples of the system; 0 without any


def tail_of(path: str) -> Tail:
    """The tail of the event file at `path`. Raises LogDirError when it cannot be read to its end.

    Zeros to the end of the file are no records: a power cut leaves them where a file had grown and was not written.
    Raises EventFileError for another broken length, behind which there may be more that is whole.
    """
    findings: list[Finding] = []
    ends = _Ends()
    cursor = Cursor(path, Layouts(), ends, findings)
    cursor.read_new()
    whole = cursor.offset
    for finding in sorted(findings, key=lambda finding: -finding.offset):
        if finding.kind is Kind.UNREADABLE:
            raise LogDirError(f"{path}: {finding.reason}; see to the disk, and start again")
        if finding.kind in (Kind.BAD_LENGTH, Kind.WILD_LENGTH):
            if _is_nothing_from(path, finding.offset):
                whole = finding.offset
                continue
            raise EventFileError(
                f"{path} is broken at byte {finding.offset}; bring back what is behind by hparams-lab doctor --repair"
            )
        if finding.kind is Kind.BAD_CHECKSUM and finding.offset + finding.bytes_lost == whole:
            whole = finding.offset
    return Tail(whole, ends.found, ends.last_step)


def _is_nothing_from(path: str, offset: int) -> bool:
    """Whether all that comes from there on is zeros: a file that a power cut left longer than what was written."""
    with open(path, "rb") as file:
        file.seek(offset)
        return not any(block.strip(b"\0") for block in iter(lambda: file.read(_BLOCK), b""))


class _Ends:
    """A sink for `Scanner` that looks for a session's end, and for the last step."""

    found = False
    last_step = 0

    def take_point(self, tags: Sequence[str], step: int, wall_time: float, values: Sequence[float]) -> None:
        """The step."""
        if step > self.last_step and not all(tag.startswith(SYSTEM_PREFIX) for tag in tags):
            self.last_step = step

    def take_points(self, tag: str, points: Scalars) -> None:
        """The last step of a tag."""
        if len(points.steps) and not tag.startswith(SYSTEM_PREFIX):
            self.last_step = max(self.last_step, int(points.steps.max()))

    def take_restart(self, step: int) -> None:
        """A restart: the steps before it count too."""

    def take_value(self, value: Summary.Value, offset: int) -> None:
        """Whether it is the end. Raises BadSummary as `Sink` may."""
        data = summaries.checked_plugin_data(value)
        self.found |= data is not None and data.HasField("session_end_info")
