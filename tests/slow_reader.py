"""A slow, simple reader, against which the fast one is compared: a record at a time, each through protobuf.

It shares no code with the package. What it does is the definition of what must be read of damaged bytes:
- a bad payload checksum loses that record, a bad or wild length loses the rest of the file, half a record is torn;
- a record that protobuf refuses is no event; a tensor whose shape and bytes contradict each other is a bad tensor.
"""

from __future__ import annotations

import functools
import math
import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import google_crc32c
import numpy as np
from google.protobuf.message import DecodeError
from tensorboard.compat.proto import types_pb2
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionStartInfo

from hparams_lab.core.curve import Thin
from hparams_lab.core.findings import Finding, Kind
from hparams_lab.core.outcome import Outcome
from hparams_lab.core.results import RunResult, Scalars

LARGEST = 2**31 - 1
NUMBERS = {
    types_pb2.DT_FLOAT: ("<f4", "float_val"),
    types_pb2.DT_DOUBLE: ("<f8", "double_val"),
    types_pb2.DT_INT8: ("i1", "int_val"),
    types_pb2.DT_INT16: ("<i2", "int_val"),
    types_pb2.DT_INT32: ("<i4", "int_val"),
    types_pb2.DT_UINT8: ("u1", "int_val"),
    types_pb2.DT_UINT16: ("<u2", "int_val"),
    types_pb2.DT_INT64: ("<i8", "int64_val"),
    types_pb2.DT_UINT32: ("<u4", "uint32_val"),
    types_pb2.DT_UINT64: ("<u8", "uint64_val"),
    types_pb2.DT_BOOL: ("?", "bool_val"),
    types_pb2.DT_HALF: ("<f2", "half_val"),
    types_pb2.DT_BFLOAT16: ("<u2", "half_val"),
}


class Damage(NamedTuple):
    """What is wrong, where, and how many bytes are lost by it (None where that is a matter of taste)."""

    offset: int
    kind: Kind
    bytes_lost: int | None = None


def masked(data: bytes) -> int:
    """The checksum of a record's parts."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32


def records(data: bytes, damages: list[Damage]) -> Iterator[tuple[int, bytes]]:
    """The whole records as (offset, payload)."""
    at = 0
    while at < len(data):
        left = len(data) - at
        if left < 12:
            return damages.append(Damage(at, Kind.TORN, left))
        length, crc = struct.unpack_from("<QI", data, at)
        if crc != masked(data[at : at + 8]):
            return damages.append(Damage(at, Kind.BAD_LENGTH, left))
        if length > LARGEST:
            return damages.append(Damage(at, Kind.WILD_LENGTH, left))
        if length + 16 > left:
            return damages.append(Damage(at, Kind.TORN, left))
        payload = data[at + 12 : at + 12 + length]
        if struct.unpack_from("<I", data, at + 12 + length)[0] == masked(payload):
            yield at, payload
        else:
            damages.append(Damage(at, Kind.BAD_CHECKSUM, length + 16))
        at += length + 16


class Read(NamedTuple):
    """What one event holds."""

    step: int
    wall_time: float
    scalars: tuple[tuple[str, float], ...]
    texts: tuple[tuple[str, str], ...]
    sessions: tuple[HParamsPluginData, ...]
    damage: Kind | None


@functools.lru_cache(maxsize=100_000)
def decoded(payload: bytes) -> Read:
    """An event, decoded once (the mutants of a file share nearly all of their records)."""
    try:
        event = Event.FromString(payload)
    except DecodeError:
        return Read(0, 0.0, (), (), (), Kind.NOT_AN_EVENT)
    found: dict[str, list[Any]] = {"scalar": [], "text": [], "session": [], "damage": []}
    for value in event.summary.value:
        kind, what = meaning(value)
        if kind in ("scalar", "text"):
            found[kind].append((value.tag, what))
        elif kind:
            found[kind].append(what)
    damage = found["damage"][0] if found["damage"] else None
    parts = (tuple(found[kind]) for kind in ("scalar", "text", "session"))
    return Read(event.step, event.wall_time, *parts, damage)


def meaning(value: Summary.Value) -> tuple[str, Any]:
    """What a summary value is: a session's message, a text, a scalar, damaged, or nothing ("") that is read."""
    plugin = value.metadata.plugin_data
    if plugin.plugin_name == "hparams":
        try:
            return "session", HParamsPluginData.FromString(plugin.content)
        except DecodeError:
            return "damage", Kind.NOT_AN_EVENT
    if plugin.plugin_name == "text":
        texts = value.tensor.string_val
        return ("text", bytes(texts[0]).decode("utf-8", "replace")) if texts else ("", None)
    if value.WhichOneof("value") == "simple_value":
        return "scalar", value.simple_value
    if value.WhichOneof("value") == "tensor":
        return number_of(value.tensor)
    return "", None


def number_of(tensor: TensorProto) -> tuple[str, Any]:
    """The number of a tensor without dimensions, or that its shape and bytes contradict each other."""
    if tensor.dtype not in NUMBERS:
        return "", None
    dims = [dim.size for dim in tensor.tensor_shape.dim]
    dtype, name = NUMBERS[tensor.dtype]
    values, content, count = getattr(tensor, name), tensor.tensor_content, math.prod(dims)
    fits = min(dims, default=0) >= 0 and count <= LARGEST and len(values) <= count
    if not fits or (content and len(content) != count * np.dtype(dtype).itemsize):
        return "damage", Kind.BAD_TENSOR
    if dims:
        return "", None
    if tensor.dtype in (types_pb2.DT_HALF, types_pb2.DT_BFLOAT16):
        content = content or struct.pack("<H", (values[0] if values else 0) & 0xFFFF)
    if tensor.dtype == types_pb2.DT_BFLOAT16:  # the upper half of a float
        content, dtype = b"\0\0" + content, "<f4"
    return "scalar", float(np.frombuffer(content, dtype)[0] if content else values[0] if values else 0.0)


@dataclass
class Slow:
    """A run as the slow reader has it."""

    start: SessionStartInfo | None = None
    status: int | None = None
    end: float = 0.0
    columns: dict[str, list[tuple[int, float, float]]] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    damages: list[Damage] = field(default_factory=list)
    since: dict[str, int] = field(default_factory=dict)  # the event that has a tag first
    events: int = 0

    @property
    def hparams(self) -> dict[str, Any]:
        """The values of its start."""
        found = {} if self.start is None else self.start.hparams
        return {name: plain(value) for name, value in found.items()}

    @property
    def may_be_unknown(self) -> bool:
        """Whether the end may tell nothing: another tool may write it before its training, unless that failed."""
        is_ours = self.start is not None and re.fullmatch("[0-9a-f]{16}", self.start.group_name)
        has_times = self.start is not None and bool(self.start.start_time_secs and self.end)
        return self.outcome is not Outcome.FAILED and not (is_ours and has_times)

    @property
    def outcome(self) -> Outcome:
        """How the run ended, as nobody holds its file."""
        if self.start is None:
            return Outcome.UNKNOWN
        if self.status is None:  # other writers' runs often have no end, however they ended
            return Outcome.INTERRUPTED if len(self.start.group_name) == 16 else Outcome.UNKNOWN
        word = self.texts.get("run/outcome", "").split("\n")[0].split(": ")[0]
        if word in [outcome.value for outcome in Outcome]:
            return Outcome(word)
        return {1: Outcome.COMPLETED, 2: Outcome.FAILED}.get(self.status, Outcome.INTERRUPTED)


def slow_read(*files: bytes) -> Slow:
    """The run whose event files hold these bytes."""
    run = Slow()
    for data in files:
        for offset, payload in records(data, run.damages):
            _take(run, offset, decoded(payload))
    return run


def _take(run: Slow, offset: int, event: Read) -> None:
    """The first start and the first end count, and the last of a tag's texts."""
    if event.damage:
        run.damages.append(Damage(offset, event.damage))
    run.events += 1
    for tag, value in event.scalars:
        run.since.setdefault(tag, run.events)
        run.columns.setdefault(tag, []).append((event.step, event.wall_time, value))
    run.texts.update(event.texts)
    for session in event.sessions:
        if session.HasField("session_start_info") and run.start is None:
            run.start = session.session_start_info
        elif session.HasField("session_end_info") and run.status is None:
            run.status, run.end = session.session_end_info.status, session.session_end_info.end_time_secs


def plain(value: Any) -> Any:
    """A value of a session start: an integer where it has no fraction, text where it is not finite."""
    kind = value.WhichOneof("kind")
    if kind not in ("number_value", "string_value", "bool_value"):
        return None
    found = getattr(value, kind)
    if kind == "number_value" and not math.isfinite(found):
        return str(found)
    return int(found) if kind == "number_value" and found.is_integer() and abs(found) <= 2**53 else found


def whole(points: Scalars) -> Scalars:
    """All points."""
    return points


def differences(slow: Slow, run: RunResult | None, findings: Iterable[Finding] = (), thin: Thin = whole) -> list[str]:
    """In what the fast reader's run and findings differ from the slow one's, in words; nothing is right."""
    found = [Damage(one.offset, one.kind, one.bytes_lost) for one in findings if one.kind is not Kind.MIXED]
    wrong = [f"finding {one} is too much" for one in found if not any(_same(damage, one) for damage in slow.damages)]
    wrong += [f"{damage} was not found" for damage in slow.damages if not any(_same(damage, one) for one in found)]
    if len(set(found)) < len(found):
        wrong.append(f"found more than once: {found}")
    if run is None:
        return wrong + ["the run is not there"] * bool(slow.start is not None or slow.columns)
    if slow.start is not None and dict(run.hparams) != slow.hparams:
        wrong.append(f"hparams are {dict(run.hparams)}, not {slow.hparams}")
    if slow.start is not None and slow.start.group_name not in ("", run.trial_id):
        wrong.append(f"the trial is {run.trial_id!r}, not {slow.start.group_name!r}")
    if run.outcome is not slow.outcome and not (run.outcome is Outcome.UNKNOWN and slow.may_be_unknown):
        wrong.append(f"the outcome is {run.outcome}, not {slow.outcome}")
    if dict(run.texts) != slow.texts:
        wrong.append(f"texts are {run.texts}, not {slow.texts}")
    return wrong + _other_columns(slow, run, thin)


def _same(damage: Damage, found: Damage) -> bool:
    """The same place and kind, and as many bytes lost where the framing tells how many."""
    return damage[:2] == found[:2] and damage.bytes_lost in (None, found.bytes_lost)


def _other_columns(slow: Slow, run: RunResult, thin: Thin) -> list[str]:
    """The tags come in the order of the events that have them first; those of one event in any order."""
    wrong = []
    order = [slow.since.get(tag, 0) for tag in run.columns]
    if run.columns.keys() != slow.columns.keys() or order != sorted(order):
        wrong.append(f"tags are {list(run.columns)}, not {list(slow.columns)}"[:500])
    for tag in slow.columns.keys() & run.columns.keys():
        rows, column = slow.columns[tag], run.columns[tag]
        if thin is whole and list(zip(*(part.tolist() for part in column), strict=True)) == rows:
            if run.metrics.get(tag) != rows[-1][2]:
                wrong.append(f"the metric {tag!r} is {run.metrics.get(tag)}, not {rows[-1][2]}")
            continue
        wanted = thin(Scalars(*map(np.array, zip(*rows, strict=True))))
        for name, one, other in zip(Scalars._fields, column, wanted, strict=True):
            if not np.array_equal(one, other, equal_nan=name != "steps"):
                wrong.append(f"{name} of {tag!r} are {one}, not {other}"[:500])
        if not np.array_equal(run.metrics.get(tag), wanted.values[-1], equal_nan=True):
            wrong.append(f"the metric {tag!r} is {run.metrics.get(tag)}, not {wanted.values[-1]}")
    return wrong
