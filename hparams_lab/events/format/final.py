"""The final values of a run in 64 bits, beside the points of 32 bits that TensorBoard shows.

They stand in a text summary, whose Markdown is for the Text tab and is never parsed. What a machine reads back is one
JSON record in its plugin data: `{"version": 1, "time": ..., "values": {tag: value}}`, if there is a value that 32 bits
do not hold. Its numbers are of one width: the files of a sweep are of one size, and read at once. To TensorBoard it is
a field of `TextPluginData` that it does not know (number 15), and passes over.
Source: https://github.com/tensorflow/tensorboard/blob/2.21.0/tensorboard/plugins/text/plugin_data.proto
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

from tensorboard.compat.proto.summary_pb2 import Summary

from hparams_lab.core.curve import Scalars
from hparams_lab.events.format import summaries
from hparams_lab.events.format.varints import varint

FINAL_TAG = "run/final"
"""The text that carries the record."""

_VERSION = 1
_WIDTH = 24  # of the longest number: -2.2250738585072014e-308
_KEY = 0x7A  # field 15, length-delimited
_FLOAT = struct.Struct("<f")


class Final(NamedTuple):
    """A final value and when it was written, in seconds since 1970."""

    value: float
    time: float

    def is_of(self, points: Scalars) -> bool:
        """Whether it is the last point of a curve: none came after it, and it is the same in 32 bits."""
        return points.wall_times.item(-1) <= self.time and points.values.item(-1) == narrowed(self.value)


def narrowed(value: float) -> float:
    """The value in 32 bits."""
    try:
        return float(_FLOAT.unpack(_FLOAT.pack(value))[0])
    except OverflowError:
        return math.copysign(math.inf, value)


def final_values(values: Mapping[str, float], now: float) -> Summary | None:
    """The record of final values by tag; None where 32 bits hold all of them."""
    finite = {tag: float(value) for tag, value in values.items() if math.isfinite(value)}
    if all(narrowed(value) == value for value in finite.values()):
        return None
    body = ", ".join(f"{json.dumps(tag)}: {value!r:>{_WIDTH}}" for tag, value in finite.items())
    said = f'{{"version": {_VERSION}, "time": {float(now)!r:>{_WIDTH}}, "values": {{{body}}}}}'
    record = said.encode("ascii")
    rows = "".join(f"| {tag} | {value!r:>{_WIDTH}} |\n" for tag, value in finite.items())
    summary = summaries.text(FINAL_TAG, f"| metric | final value |\n| :-- | --: |\n{rows}")
    summary.value[0].metadata.plugin_data.content = bytes([_KEY]) + _varint(len(record)) + record
    return summary


def finals_of(value: Summary.Value) -> dict[str, Final]:
    """The final values that a summary value carries, by tag; none for another, and for what is no such record."""
    content = value.metadata.plugin_data.content
    if value.tag != FINAL_TAG or not content or content[0] != _KEY:
        return {}
    try:
        length, begin = varint(content, 1)
        record: Any = json.loads(content[begin : begin + length].decode())
        time, values = float(record["time"]), record["values"].items()
        return {tag: Final(float(number), time) for tag, number in values if type(number) in (int, float)}
    except (AttributeError, IndexError, KeyError, OverflowError, RecursionError, TypeError, ValueError):
        return {}


def last_values(
    columns: Mapping[str, Scalars], own: Mapping[str, Scalars], finals: Mapping[str, Final]
) -> dict[str, float]:
    """The last values by tag, in 64 bits where those of the run's own columns are known."""
    metrics = {tag: column.values.item(-1) for tag, column in columns.items()}
    for tag, final in finals.items():
        column = own.get(tag)
        if column is not None and columns[tag] is column and final.is_of(column):
            metrics[tag] = final.value
    return metrics


def _varint(number: int) -> bytes:
    parts = []
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])
