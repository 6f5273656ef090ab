"""Crafted hostile messages in records that are whole: protobuf bombs, odd tags and steps, tensors, sessions."""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Mapping, Sequence

from google.protobuf.struct_pb2 import Value
from hostile import CRAFTED, TAIL, Crafted, crafted, loss
from mutants import SECOND, VERSION, event, number, record, tensor, told
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.types_pb2 import DT_FLOAT, DT_STRING
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from hparams_lab.core.findings import Kind
from hparams_lab.events.format import summaries

FOUR = struct.pack("<f", 1.5)


@crafted(Kind.NOT_AN_EVENT)
def no_protobuf() -> bytes:
    return record(b"\xff\xff\xff")


@crafted(Kind.NOT_AN_EVENT)
def cut_protobuf() -> bytes:
    return record(event([number("loss", 9.0)])[12:-7])


def delimited(key: int, content: bytes) -> bytes:
    """A length-delimited protobuf field of a small number."""
    size, digits = len(content), []
    while size > 0x7F:
        digits.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([key << 3 | 2, *digits, size]) + content


def nested(keys: Sequence[int], deep: int) -> bytes:
    """Messages within messages."""
    made = b""
    for level in range(deep):
        made = delimited(keys[level % len(keys)], made)
    return made


@crafted(Kind.NOT_AN_EVENT)
def nested_tensors() -> bytes:
    return record(delimited(5, delimited(1, delimited(8, nested([3, 15], 6000)))))  # variant_val, tensors


@crafted()
def fields_in_odd_places() -> bytes:
    again = b"\x10\x05\x10\x87\x80\x00"  # the step twice, the second time longer than it need be
    value = delimited(1, b"odd") + b"\x15" + struct.pack("<f", 0.5)
    unknown = b"\xa0\x06\x07\xa3\x06\xa4\x06"
    return record(delimited(5, delimited(1, value)) + unknown + again + b"\x09" + struct.pack("<d", SECOND))


@crafted(also={"m": 1_000_000})
def million_values() -> bytes:
    value = delimited(1, delimited(1, b"m") + b"\x15" + struct.pack("<f", 0.5))
    return record(delimited(5, value * 1_000_000))


@crafted(Kind.NOT_AN_EVENT)
def long_event_that_is_cut() -> bytes:
    value = delimited(1, b"m") + b"\x15" + struct.pack("<f", 0.5)
    return record(delimited(5, delimited(1, value) * 10_000 + b"\x0a\x20" + value))


@crafted(Kind.NOT_AN_EVENT, also={"long": 599})
def step_without_its_end_in_a_long_loop() -> bytes:
    """A record like its neighbours, whose checksum is right, but whose step goes on into the next field."""
    rows = [event([number("long", at)], 1 + at % 100, at) for at in range(600)]
    payload = bytearray(rows[300][12:-4])
    payload[10] |= 0x80
    rows[300] = record(bytes(payload))
    return b"".join(rows)


@crafted()
def million_values_of_nothing() -> bytes:
    return record(delimited(5, b"\x0a\x00" * 1_000_000))


@crafted(also={"t9999": 1})
def many_tags() -> bytes:
    return b"".join(event([number(f"t{tag}", tag)], tag, tag) for tag in range(10_000))


# Tags, steps and times.


@crafted(also={"x" * 10_000_000: 1})
def tag_of_10_mb() -> bytes:
    return event([number("x" * 10_000_000, 0.5)], 3)


@crafted(also={"a\0b": 1, "": 1, "../../etc/passwd": 1})
def tags_that_are_odd() -> bytes:
    return event([number(tag, 0.5) for tag in ("a\0b", "", "../../etc/passwd")], 3)


@crafted(Kind.NOT_AN_EVENT)
def tag_that_is_no_text() -> bytes:
    payload = event([number("xyz", 0.5)])[12:-4]
    return record(payload.replace(b"xyz", b"\xff\xfez"))


@crafted(also={"far": 4})
def steps_beyond_all_bounds() -> bytes:
    steps = (-1, -(2**63), 2**63 - 1, 2**31)
    return b"".join(event([number("far", 0.5)], step) for step in steps)


@crafted(also={"when": 3})
def times_that_are_none() -> bytes:
    return b"".join(event([number("when", 0.5)], 1, now) for now in (float("nan"), float("inf"), float("-inf")))


# Tensors.


def shaped(dims: Sequence[int], content: bytes = b"", values: Sequence[float] = (), dtype: int = DT_FLOAT) -> bytes:
    """An event with a tensor of that shape, and these bytes or values."""
    found = TensorProto(dtype=dtype, tensor_content=content, float_val=values)
    found.tensor_shape.SetInParent()
    for size in dims:
        found.tensor_shape.dim.add(size=size)
    return event([Summary.Value(tag="tensor", tensor=found)], 2)


CONTRADICTIONS: dict[str, Callable[[], bytes]] = {
    "tensor-of-2-40": functools.partial(shaped, [2**40], FOUR),
    "tensor-of-negative-size": functools.partial(shaped, [-1], FOUR),
    "tensor-of-negative-sizes": functools.partial(shaped, [-2, -2], FOUR * 4),
    "tensor-whose-size-overflows-to-0": functools.partial(shaped, [2**32, 2**32], FOUR),
    "tensor-whose-size-overflows-to-1": functools.partial(shaped, [7, pow(7, -1, 2**64)], FOUR),
    "tensor-that-is-short": functools.partial(shaped, [], FOUR[:3]),
    "tensor-that-is-long": functools.partial(shaped, [], FOUR * 2),
    "tensor-of-2-that-has-1": functools.partial(shaped, [2], FOUR),
    "tensor-of-nothing-that-has-1": functools.partial(shaped, [0], FOUR),
}
for name, make in CONTRADICTIONS.items():
    CRAFTED[name] = Crafted(name, make, Kind.BAD_TENSOR, 10, False, {}, 1)


@crafted()
def tensor_of_an_unknown_type() -> bytes:
    return shaped([], FOUR, dtype=99)


@crafted()
def tensor_of_text_for_a_number() -> bytes:
    found = tensor("loss/text", 0.5, metadata=True)
    found.tensor.CopyFrom(TensorProto(dtype=DT_STRING, string_val=[b"0.5"]))
    return event([found])


# Sessions.


def session(content: bytes) -> bytes:
    """An event of the HParams plugin with that message."""
    plugin = SummaryMetadata.PluginData(plugin_name="hparams", content=content)
    return event([Summary.Value(tag=summaries.SESSION_START_TAG, metadata=SummaryMetadata(plugin_data=plugin))])


def alone(values: Mapping[str, Value], name: str) -> bytes:
    """A whole file whose session starts with these values."""
    content = HParamsPluginData()
    content.session_start_info.group_name = name
    content.session_start_info.start_time_secs = SECOND
    for key, value in values.items():
        content.session_start_info.hparams[key].CopyFrom(value)
    return VERSION + session(content.SerializeToString()) + loss(range(5)) + TAIL


@crafted(Kind.NOT_AN_EVENT)
def session_that_is_no_protobuf() -> bytes:
    return session(b"\xff\xff")


@crafted(Kind.NOT_AN_EVENT)
def session_nested_deep() -> bytes:
    value = nested([6, 1], 10_000)  # ListValue.values, Value.list_value
    entry = delimited(1, b"x") + delimited(2, delimited(6, value))
    return session(delimited(3, delimited(1, entry)))


@crafted()
def session_started_again() -> bytes:
    return told(summaries.session_start({"units": 99.0}, "another", 5.0)) * 3


@crafted(whole=True)
def session_of_odd_values() -> bytes:
    values = {name: Value(number_value=float(name)) for name in ("nan", "inf", "-inf", "1e308", "5e-324")}
    values |= {"": Value(string_value="no name"), "null": Value(null_value=0), "nothing": Value()}
    values |= {"a\0b\n\u202e": Value(string_value="<script>alert(1)</script>"), "long": Value(string_value="y" * 10**6)}
    values["list"], values["struct"] = Value(), Value()
    values["list"].list_value.extend([1, [2, [3]]])
    values["struct"].struct_value["x"] = {"y": [None]}
    return alone(values, "session-of-odd-values")


@crafted(whole=True)
def session_of_20_000_values() -> bytes:
    return alone({f"h{at}": Value(number_value=at) for at in range(20_000)}, "session-of-20-000-values")


@crafted()
def session_of_an_unknown_status() -> bytes:
    return told(summaries.session_start({}, "later", 5.0)) + session(b"\x08\x00")
