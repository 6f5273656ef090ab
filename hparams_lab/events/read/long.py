"""`read_long`: a long event, value by value, in little more memory than its bytes.

Protobuf makes an object of each of the values of an event, which of a million values is a hundred times their bytes.
Here a value of the tag before is four bytes more, and protobuf reads the others one by one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary

from hparams_lab.core.curve import Scalars
from hparams_lab.events.format.varints import skipped, varint

LONG = 1 << 16
"""An event of more bytes is long."""

ODD = 1 << 20
"""A longer event is read value by value or not at all."""

_SUMMARY, _VALUE = 0x2A, 0x0A


def read_long(payload: bytes | bytearray) -> tuple[list[tuple[str, Scalars]], list[Summary.Value], Event]:
    """Points by tag, the values that are none, and the event (perhaps without its values).

    Raises ValueError, IndexError or protobuf's DecodeError when it is none.
    """
    try:
        return _value_by_value(payload)
    except (IndexError, ValueError):  # something odd, which protobuf may read all the same
        if len(payload) > ODD:
            raise
        event = Event.FromString(bytes(payload))
        return [], [*event.summary.value], event


def _value_by_value(payload: bytes | bytearray) -> tuple[list[tuple[str, Scalars]], list[Summary.Value], Event]:
    event, ranges = _head(payload)
    points: dict[str, bytearray] = {}
    others: list[Summary.Value] = []
    for at, end in ranges:
        head, numbers = b"", bytearray()
        while at < end:
            stop = at + len(head) + 4
            if head and stop <= end and payload.startswith(head, at):  # the same tag again
                numbers += payload[stop - 4 : stop]
            else:
                begin, stop = _field(payload, at, end)
                if begin == stop:
                    at = stop
                    continue
                value = _parsed(Summary.Value, payload[begin:stop])
                head = _head_of(value, payload, at, stop)
                if head:
                    numbers = points.setdefault(value.tag, bytearray())
                    numbers += payload[stop - 4 : stop]
                elif value.HasField("metadata") or value.WhichOneof("value"):
                    others.append(value)
            at = stop
    return [(tag, _column(event, data)) for tag, data in points.items()], others, event


def _head_of(value: Summary.Value, payload: bytes | bytearray, at: int, stop: int) -> bytes:
    """What stands before the number of a value that is a tag and a number and nothing else; empty for another."""
    if value.WhichOneof("value") != "simple_value" or len(value.tag) > LONG:
        return b""
    plain = Summary(value=[Summary.Value(tag=value.tag, simple_value=0.0)]).SerializeToString()[:-4]
    return plain if len(plain) + 4 == stop - at and payload.startswith(plain, at) else b""


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


def _field(payload: bytes | bytearray, at: int, end: int) -> tuple[int, int]:
    """Where the value that stands there begins and ends."""
    if payload[at] != _VALUE:
        raise ValueError("a summary holds something else than values")
    length, begin = varint(payload, at + 1)
    if begin + length > end:
        raise ValueError("it ends in the midst of a value")
    return begin, begin + length


def _parsed(kind: Any, data: bytes | bytearray) -> Any:
    try:
        return kind.FromString(bytes(data))
    except Exception as error:  # protobuf's DecodeError has no stable home across its versions
        raise ValueError(str(error)) from None
