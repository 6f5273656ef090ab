"""Everyone who reads event files, prepared for `reading.py`.

A contender's function imports what it needs and returns the one that reads a log directory: to columns of steps, wall
times and values, and to hparams. The raw ones return only how many bytes they saw.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import struct
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from _bench import peak_memory, without_tensorflow
from _reading_data import Found, columns_of, event_files

Read = Callable[[str], "Found | int"]
"""Given a log directory, what is in it, or how many bytes of event files."""


class Contender(NamedTuple):
    """Someone who reads.

    Attributes:
      prepare: imports, and returns what reads a log directory.
      package: what it needs, as pip calls it; modules: as Python does.
      slow: whether a long run takes it half a minute.
      checks: whether it verifies the checksum of each record.
    """

    prepare: Callable[[], Read]
    package: str = "hparams-lab"
    modules: tuple[str, ...] = ("hparams_lab",)
    slow: bool = False
    checks: bool = True


def ours() -> Read:
    import hparams_lab

    return lambda logdir: in_results(hparams_lab.read(logdir))


def in_results(results: Any) -> Found:
    """What our reader read."""
    columns = [(c.steps, c.wall_times, c.values) for run in results.runs for c in run.columns.values()]
    return Found(columns, [dict(run.hparams) for run in results.runs])


# TensorBoard's.


def accumulator_alone() -> Read:
    without_tensorflow()
    return accumulator()


def accumulator_on_tensorflow() -> Read:
    import tensorflow

    assert tensorflow.io
    return accumulator()


def accumulator() -> Read:
    return lambda logdir: accumulated(accumulators(logdir))


def accumulators(logdir: str) -> list[Any]:
    """One for each directory, which keeps everything."""
    from tensorboard.backend.event_processing import event_accumulator as tensorboard

    everything = tensorboard.STORE_EVERYTHING_SIZE_GUIDANCE
    folders = [os.path.dirname(files[0]) for files in event_files(logdir)]
    return [tensorboard.EventAccumulator(folder, everything).Reload() for folder in folders]


def accumulated(accumulators: Iterable[Any]) -> Found:
    """What they hold."""
    from tensorboard.util.tensor_util import make_ndarray

    def points(loaded: Any) -> Iterator[list[tuple[int, float, float]]]:
        tags = loaded.Tags()
        for tag in tags["scalars"]:
            yield [(event.step, event.wall_time, event.value) for event in loaded.Scalars(tag)]
        for tag in tags["tensors"]:
            if loaded.SummaryMetadata(tag).plugin_data.plugin_name == "scalars":
                events = loaded.Tensors(tag)
                yield [(event.step, event.wall_time, make_ndarray(event.tensor_proto).item()) for event in events]

    found = Found([], [])
    for loaded in accumulators:
        found.columns.extend(columns_of(points(loaded)))
        with contextlib.suppress(KeyError):
            found.hparams.extend(hparams_in(loaded.PluginTagToContent("hparams").values()))
    return found


def hparams_in(contents: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """The hparams of the session starts among messages of the HParams plugin."""
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    for content in contents:
        data = HParamsPluginData.FromString(content)
        if data.HasField("session_start_info"):
            values = data.session_start_info.hparams.items()
            yield {name: getattr(value, value.WhichOneof("kind")) for name, value in values}


def data_server() -> Read:
    import grpc
    from tensorboard.data.proto import data_provider_pb2 as wire
    from tensorboard.data.proto.data_provider_pb2_grpc import TensorBoardDataProviderStub

    scalars = wire.ReadScalarsRequest(
        plugin_filter=wire.PluginFilter(plugin_name="scalars"), downsample=wire.Downsample(num_points=2**31 - 1)
    )
    starts = wire.ListTensorsRequest(plugin_filter=wire.PluginFilter(plugin_name="hparams"))
    size = [("grpc.max_receive_message_length", 2**31 - 1)]

    def read(logdir: str) -> Found:
        with served(logdir) as port, grpc.insecure_channel(f"localhost:{port}", options=size) as channel:
            stub = TensorBoardDataProviderStub(channel)
            data = [tag.data for run in stub.ReadScalars(scalars).runs for tag in run.tags]
            columns = [(np.array(d.step), np.array(d.wall_time), np.array(d.value)) for d in data]
            tags = (tag for run in stub.ListTensors(starts).runs for tag in run.tags)
            return Found(columns, list(hparams_in(tag.metadata.summary_metadata.plugin_data.content for tag in tags)))

    return read


server_peaks: list[float] = []
"""The peak memory in megabytes of each server that was started here."""


@contextlib.contextmanager
def served(logdir: str) -> Iterator[int]:
    """The port of a data server that has loaded everything, started as TensorBoard starts it, asked to keep all."""
    import tensorboard_data_server

    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "port"
        command = [tensorboard_data_server.server_binary(), f"--logdir={logdir}", "--reload=5", "--port=0"]
        command += [f"--port-file={file}", "--samples-per-plugin=scalars=all", "--die-after-stdin", "--verbose"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
            said = server.stderr or ()
            if not any("Finished load cycle" in line for line in said):
                raise RuntimeError("the data server did not load the directory")
            while not file.exists() or not file.read_text().endswith("\n"):
                time.sleep(0.001)
            yield int(file.read_text())
            server_peaks.append(peak_memory(server.pid))
            server.terminate()


# One event after the other.


def protobuf_loop() -> Read:
    without_tensorflow()
    return lambda logdir: together(looped(logdir))


def looped(logdir: str, check: bool = True) -> list[Lists]:
    """The lists of each file."""
    from tensorboard.compat.proto.event_pb2 import Event

    files = itertools.chain.from_iterable(event_files(logdir))
    return [listed(map(Event.FromString, records(file, check))) for file in files]


def summary_iterator() -> Read:
    import tensorflow

    iterator = tensorflow.compat.v1.train.summary_iterator
    return lambda logdir: together(listed(iterator(file)) for files in event_files(logdir) for file in files)


Lists = tuple[dict[str, list[tuple[int, float, float]]], list[bytes]]
"""Points by tag, and messages of the HParams plugin."""


def listed(events: Iterable[Any]) -> Lists:
    """What the events of a file hold."""
    points, contents, unpack = defaultdict(list), [], struct.Struct("<f").unpack
    for event in events:
        for value in event.summary.value:
            kind = value.WhichOneof("value")
            if kind == "simple_value":
                points[value.tag].append((event.step, event.wall_time, value.simple_value))
            elif value.metadata.plugin_data.plugin_name == "scalars":
                content = value.tensor.tensor_content
                (number,) = unpack(content) if content else value.tensor.float_val
                points[value.tag].append((event.step, event.wall_time, number))
            elif value.metadata.plugin_data.plugin_name == "hparams":
                contents.append(value.metadata.plugin_data.content)
    return points, contents


def together(files: Iterable[Lists]) -> Found:
    """The lists of one file after the other, a file being a run."""
    found = Found([], [])
    for points, contents in files:
        found.columns.extend(columns_of(points.values()))
        found.hparams.extend(hparams_in(contents))
    return found


def records(file: str, check: bool = True) -> Iterator[bytes]:
    """The payloads of the whole records of a file, each verified by its checksums, which are computed in C."""
    from google_crc32c import value as crc32c

    data = Path(file).read_bytes()
    header, footer, offset = struct.Struct("<QI"), struct.Struct("<I"), 0
    while offset + 12 <= len(data):
        length, length_crc = header.unpack_from(data, offset)
        begin = offset + 12
        offset = begin + length + 4
        if offset > len(data):
            return  # the writer was killed
        payload = data[begin : offset - 4]
        if not check:
            yield payload
            continue
        (payload_crc,) = footer.unpack_from(data, offset - 4)
        for covered, masked in ((data[begin - 12 : begin - 4], length_crc), (payload, payload_crc)):
            crc = crc32c(covered)
            if ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF != masked:
                raise RuntimeError(f"a checksum of {file} fails")
        yield payload


# Other packages.


def tbparse() -> Read:
    import tensorflow
    from tbparse import SummaryReader

    assert tensorflow.io
    kinds = {"scalars", "tensors", "hparams"}

    def read(logdir: str) -> Found:
        reader = SummaryReader(logdir, extra_columns={"dir_name", "wall_time"}, event_types=kinds)
        columns = []
        for frame in (reader.scalars, reader.tensors):
            if len(frame):
                columns.append((frame["step"].to_numpy(), frame["wall_time"].to_numpy(), frame["value"].to_numpy()))
        frame = reader.hparams
        runs = frame.groupby("dir_name")[["tag", "value"]]
        return Found(columns, [dict(run.itertuples(index=False)) for _, run in runs])

    return read


def tuff_bird() -> Read:
    from tuffbird.board.store import Store  # `tuffbird.load` reads by it, but does not tell the wall times

    def read(logdir: str) -> Found:
        store = Store(logdir)
        store.scan()
        runs = store.runs.values()
        points = (points for run in runs for points in run.scalars.values())
        columns = [(steps, walls, values) for steps, values, walls in columns_of(points)]
        return Found(columns, [run.hparams for run in runs if run.hparams])

    return read


# No values at all: what no reader can go below.


def raw_walk() -> Read:
    return lambda logdir: sum(len(r) + 16 for files in event_files(logdir) for file in files for r in records(file))


def raw_bytes() -> Read:
    from google_crc32c import value as crc32c

    def read(logdir: str) -> int:
        count = 0
        for files in event_files(logdir):
            for file in files:
                data = Path(file).read_bytes()
                crc32c(data)
                count += len(data)
        return count

    return read


TB = ("tensorboard", ("tensorboard",))
TF = ("tensorflow-cpu", ("tensorflow",))
OURS = "lab.read"
ACCUMULATOR, SERVER, LOOP = "EventAccumulator", "Rust data server", "protobuf loop, CRC in C"
WALK, RAW = "raw: walk, CRC of each record", "raw: one CRC of each file"
READERS = {
    OURS: Contender(ours),
    f"{ACCUMULATOR}, without TensorFlow": Contender(accumulator_alone, *TB, slow=True),
    f"{ACCUMULATOR}, with TensorFlow": Contender(accumulator_on_tensorflow, *TF, slow=True),
    SERVER: Contender(data_server, "tensorboard-data-server", ("tensorboard_data_server", "grpc"), checks=False),
    "TensorFlow's summary_iterator": Contender(summary_iterator, *TF),
    "tbparse, with TensorFlow": Contender(tbparse, "tbparse tensorflow-cpu", ("tbparse", "tensorflow"), slow=True),
    "tuff-bird": Contender(tuff_bird, "tuff-bird", ("tuffbird",), slow=True),
    LOOP: Contender(protobuf_loop, *TB),
    WALK: Contender(raw_walk),
    RAW: Contender(raw_bytes, checks=False),
}
