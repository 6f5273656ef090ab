"""`read_long`: a long event, value by value, in little more memory than its bytes.

Protobuf makes an object of each of the values of an event, which of a million values is a hundred times their bytes.
Here what is before a value's number is looked up, and its number kept in four bytes; protobuf reads what is new.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary

from hparams_lab.curve import Scalars
from hparams_lab.events.wire import skipped, varint

LONG = 1 << 16
"""An event of more bytes is long."""

_SUMMARY, _VALUE, _SIMPLE = 0x2A, 0x0A, 0x15
_KNOWN = 1000


def read_long(payload: bytes | bytearray) -> tuple[list[tuple[str, Scalars]], list[Summary.Value], Event]:
    """Points by tag, the values that are none, and the event without its values.

    Raises ValueError or IndexError when protobuf refuses it, wherever that is.
    """
    event, ranges = _head(payload)
    points: dict[str, bytearray] = {}
    others = []
    tags: dict[bytes, str] = {}
    view = memoryview(payload)
    for begin, end in ranges:
        for at, stop in _fields(payload, begin, end):
            head = bytes(view[at : stop - 4]) if stop - at <= LONG else b""
            tag = tags.get(head)
            if tag is None:
                value = _parsed(Summary.Value, view[at:stop])
                if head != Summary.Value(tag=value.tag[:LONG], simple_value=0.0).SerializeToString()[:-4]:
                    if value.HasField("metadata") or value.WhichOneof("value"):
                        others.append(value)
                    continue
                tag = value.tag
                if len(tags) < _KNOWN:
                    tags[head] = tag
            points.setdefault(tag, bytearray()).extend(view[stop - 4 : stop])
    return [(tag, _column(event, data)) for tag, data in points.items()], others, event


def _column(event: Event, data: bytearray) -> Scalars:
    """The values of a tag, all of the event's step and time."""
    values = np.frombuffer(data, "<f4").astype(np.float64)
    steps = np.full(len(values), event.step, np.int64)
    return Scalars(steps, np.full(len(values), event.wall_time), values)


def _head(payload: bytes | bytearray) -> tuple[Event, list[tuple[int, int]]]:
    """The event without its summaries, and where those are."""
    rest, ranges, at = bytearray(), [], 0
    while at < len(payload):
        first = at
        key, begin, at = skipped(payload, first)
        if at > len(payload):
            raise ValueError("it ends in the midst of a field")
        if key == _SUMMARY:
            ranges.append((begin, at))
        else:
            rest += payload[first:at]
    event: Event = _parsed(Event, rest)
    return event, ranges


def _fields(payload: bytes | bytearray, at: int, end: int) -> Iterator[tuple[int, int]]:
    """Where the values of a summary begin and end."""
    while at < end:
        if payload[at] != _VALUE:
            raise ValueError("a summary holds something else than values")
        at += 1
        length = payload[at] if at < end else 0
        if length < 0x80:
            at += 1
        else:
            length, at = varint(payload, at)
        if at + length > end:
            raise ValueError("it ends in the midst of a value")
        if length:
            yield at, at + length
        at += length


def _parsed(kind: Any, data: bytearray | memoryview) -> Any:
    try:
        return kind.FromString(bytes(data))
    except Exception as error:  # protobuf's DecodeError has no stable home across its versions
        raise ValueError(str(error)) from None
