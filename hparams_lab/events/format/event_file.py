"""Event files: their names, and the `Event` messages that their records hold.

Other writers name a file `events.out.tfevents.<seconds>.<host>.<pid>.<number>`, and open it over one of that name. Ours
has `hparams_lab.` before the seconds: no other writer makes that name, and it sorts behind theirs. TensorBoard takes
any name with "tfevents" in it and reads the files of a directory in the order of their names, so that where another
writer logs a tag of ours, the last point is ours. The first event tells the version.
Source: https://github.com/tensorflow/tensorboard/blob/2.21.0/tensorboard/compat/proto/event.proto
"""

from __future__ import annotations

import functools
import itertools
import os
import re
import socket
import time
from collections.abc import Iterator

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary

from hparams_lab.core.findings import Finding, Kind
from hparams_lab.events.format.record import frame, read_records

VERSION = "brain.Event:2"
OWN = "events.out.tfevents.hparams_lab."
"""How the names of our event files begin. Older versions of ours named them as others do."""

_counter = itertools.count()


def file_name(now: float | None = None, host: str | None = None, pid: int | None = None) -> str:
    """A name for a new event file, different at each call of a process."""
    seconds = int(time.time() if now is None else now)
    host = _this_host() if host is None else re.sub(r"[^\w.-]", "_", host)
    return f"{OWN}{seconds:010d}.{host}.{os.getpid() if pid is None else pid}.{next(_counter)}"


@functools.cache
def _this_host() -> str:
    return re.sub(r"[^\w.-]", "_", socket.gethostname())


def is_own(name: str) -> bool:
    """Whether hparams_lab made the event file of that name."""
    return name.startswith(OWN)


def version_event(now: float) -> bytes:
    """The record that a file begins with."""
    return frame(Event(wall_time=now, file_version=VERSION).SerializeToString())


def summary_event(summary: Summary, step: int, now: float) -> bytes:
    """`summary` as a record. `step` may be 0 to 2**31-1 (see `scalar.checked_step`), `now` seconds since 1970."""
    return frame(Event(wall_time=now, step=step, summary=summary).SerializeToString())


def restart_event(step: int, now: float) -> bytes:
    """The record by which TensorFlow says that a training goes on, the next event being of `step`.

    Source: https://github.com/tensorflow/tensorboard/blob/2.21.0/tensorboard/compat/proto/event.proto
    """
    return frame(Event(wall_time=now, step=step, session_log=SessionLog(status=SessionLog.START)).SerializeToString())


def read_events(data: bytes, findings: list[Finding] | None = None, file: str = "") -> Iterator[Event]:
    """The events of an event file's bytes; what is not one becomes a finding."""
    findings = [] if findings is None else findings
    for offset, payload in read_records(data, findings, file):
        try:
            yield Event.FromString(payload)
        except Exception as error:  # protobuf's DecodeError has no stable home across its versions
            findings.append(
                Finding(file, offset, Kind.NOT_AN_EVENT, f"a record is not an Event ({error})", len(payload))
            )
