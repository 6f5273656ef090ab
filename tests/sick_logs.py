"""Log directories with one ailment each, made of real bytes, for the tests of the doctor."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionStartInfo

from hparams_lab.events.format import summaries
from hparams_lab.events.format.crc import masked_crc32c
from hparams_lab.events.format.event_file import summary_event, version_event
from hparams_lab.events.format.record import frame

SECOND = 1.7e9
VERSION = version_event(SECOND)
END = summary_event(summaries.session_end(summaries.SUCCESS, SECOND + 60), 0, SECOND + 60)
NAME = "events.out.tfevents.1700000000.host.1.0"
SECOND_WRITER = "events.out.tfevents.1700000001.host.2.0"


def start(hparams: Mapping[str, Any], group: str = "") -> bytes:
    """A session start; values may be lists and None, which TensorBoard's own API lets through."""
    info = SessionStartInfo(group_name=group, start_time_secs=SECOND)
    for name, value in hparams.items():
        if isinstance(value, list):
            info.hparams[name].list_value.extend(value)
        elif value is None:
            info.hparams[name].null_value = 0  # type: ignore[assignment]
        elif isinstance(value, bool):
            info.hparams[name].bool_value = value
        elif isinstance(value, str):
            info.hparams[name].string_value = value
        else:
            info.hparams[name].number_value = value
    return hparams_record(summaries.SESSION_START_TAG, HParamsPluginData(session_start_info=info).SerializeToString())


def hparams_record(tag: str, content: bytes) -> bytes:
    """A record of the HParams plugin with any content."""
    data = SummaryMetadata.PluginData(plugin_name=summaries.HPARAMS_PLUGIN, content=content)
    value = Summary.Value(tag=tag, metadata=SummaryMetadata(plugin_data=data), tensor=TensorProto())
    return summary_event(Summary(value=[value]), 0, SECOND)


def experiment(hparams: Iterable[api_pb2.HParamInfo], *tags: str) -> bytes:
    """An Experiment summary."""
    metrics = [api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag)) for tag in tags]
    return summary_event(summaries.experiment(hparams, metrics, SECOND), 0, SECOND)


def interval(name: str, low: float, high: float) -> api_pb2.HParamInfo:
    """A column of numbers."""
    info = api_pb2.HParamInfo(name=name, type=api_pb2.DATA_TYPE_FLOAT64)
    info.domain_interval.min_value, info.domain_interval.max_value = low, high
    return info


def point(step: int, value: float, tag: str = "accuracy", at: float = SECOND) -> bytes:
    """A scalar, at any step."""
    event = Event(wall_time=at + step % 100, step=step, summary=summaries.scalars({tag: value}))
    return frame(event.SerializeToString())


def wild_header(length: int) -> bytes:
    """A record's header that claims `length` bytes, with the right checksum."""
    head = struct.pack("<Q", length)
    return head + struct.pack("<I", masked_crc32c(head))


def text_as_scalar() -> bytes:
    """A scalar that holds a text."""
    data = SummaryMetadata.PluginData(plugin_name="scalars")
    tensor = TensorProto(dtype=DT_STRING, string_val=[b"x"])
    metadata = SummaryMetadata(plugin_data=data, data_class=1)
    return summary_event(Summary(value=[Summary.Value(tag="accuracy", metadata=metadata, tensor=tensor)]), 9, SECOND)


def run(units: Any, *more: bytes, group: str = "", end: bytes = END, **hparams: Any) -> bytes:
    """The file of a run: two points of accuracy, then `more`."""
    named = group or f"group-{units}"
    return b"".join([VERSION, start({"units": units, **hparams}, named), point(1, 0.25), point(2, 0.5), *more, end])


def write(root: Path, files: Mapping[str, bytes]) -> Path:
    """Write event files, by the directories they are in (`a/b`, or `a:name` for another name)."""
    for place, data in files.items():
        directory, _, name = place.partition(":")
        (root / directory).mkdir(parents=True, exist_ok=True)
        (root / directory / (name or NAME)).write_bytes(data)
    return root


DECLARED = {"": VERSION + experiment([interval("units", 1, 64), interval("rate", 0, 1)], "accuracy")}
GOOD = {"a": run(16), "b": run(32)}
TWO = DECLARED | GOOD

SICK: dict[str, Callable[[], Mapping[str, bytes]]] = {
    "several-experiments": lambda: TWO | {"c": run(48, experiment([interval("depth", 0, 1)], "loss"))},
    "several-sweeps": lambda: {
        f"{sweep}/{place}": data
        for sweep, name in (("one", "units"), ("two", "rate"))
        for place, data in {
            "_experiment/1": VERSION + experiment([interval(name, 0, 64)], "accuracy"),
            "run-0000": VERSION + start({name: 0.5}, sweep) + point(1, 0.5) + END,
        }.items()
    },
    "no-experiment": lambda: GOOD,
    "undeclared-metric": lambda: {"": VERSION + experiment([interval("units", 1, 64)], "f1")} | GOOD,
    "domain": lambda: (
        GOOD | {"": VERSION + experiment([api_pb2.HParamInfo(name="units"), interval("rate", 0, 1)], "accuracy")}
    ),
    "undeclared-hparam": lambda: TWO | {"d": run(48, depth=0.5)},
    "mixed-types": lambda: (
        TWO | {"m": run(40, rate="auto"), "n": run(41, rate=None), "o": run(42, rate=[8, 16]), "p": run(43, rate=0.5)}
    ),
    "left-without-end": lambda: TWO | {"l": run(44, end=b"")},
    "split-groups": lambda: (
        TWO | {"s": run(48, rate=0.1, group="x"), "t": run(48.0, rate=0.10000000149011612, group="y")}
    ),
    "two-writers": lambda: (
        TWO | {"w": run(48, point(50, 0.75), group="w"), f"w:{SECOND_WRITER}": run(64, point(51, 0.875), group="v")}
    ),
    "corrupt": lambda: TWO | {"k": run(45, b"\1" * 40, point(3, 0.75))},
    "torn": lambda: TWO | {"e": run(46, end=END + point(3, 0.75)[:-9])},
    "steps-back": lambda: TWO | {"b2": run(53, point(1, 0.75), point(2, 0.875))},
    "wild-length": lambda: TWO | {"x": run(47, wild_header(2**60), point(3, 0.75))},
    "huge-step": lambda: TWO | {"h": run(50, point(2**31, 0.75))},
    "broken-hparams": lambda: TWO | {"y": run(51, hparams_record(summaries.SESSION_END_TAG, b"\xff\xff"))},
    "odd-scalar": lambda: TWO | {"z": run(52, text_as_scalar())},
}
"""By the name of an ailment, the files of a directory that has it and no other."""


def sick(root: Path, *names: str) -> Path:
    """A directory with these ailments, which takes its name, and its experiment, from the first."""
    for name in reversed(names):
        write(root / names[0], SICK[name]())
    return root / names[0]
