"""The log directories that `reading.py` has everyone read, and what is in them."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Column = tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]
"""Steps, wall times and values."""


class Found(NamedTuple):
    """What was read: columns of points, and the hparams of each run."""

    columns: list[Column]
    hparams: list[dict[str, Any]]


Totals = dict[str, float]


def totals(found: Found) -> Totals:
    """Figures that are the same only if the same points and hparams were found, in whatever order."""
    steps, walls, values = (np.concatenate(parts).astype(np.float64) for parts in zip(*found.columns, strict=True))
    numbers = [value for run in found.hparams for value in run.values() if not isinstance(value, str)]
    sums = {"steps": steps, "walls": walls, "values": values, "hparams": numbers}
    sums |= {"steps x values": steps * values, "walls x values": walls * values}
    # fsum is exact, so that the order does not matter.
    return {"points": len(steps), "runs": len(found.hparams), **{name: math.fsum(all) for name, all in sums.items()}}


class Run(NamedTuple):
    """What is logged in a run: the points in the order of writing, and the hparams."""

    tags: Sequence[str]
    which: NDArray[np.int64]  # of the tags, for each point
    steps: NDArray[np.int64]
    walls: NDArray[np.float64]
    values: NDArray[np.float64]  # multiples of 1/1024, which 32 bits hold
    hparams: dict[str, Any]


def some_run(seed: int, tags: Sequence[str], which: NDArray[np.int64], steps: NDArray[np.int64]) -> Run:
    """A run with values, times and hparams drawn at random."""
    rng = np.random.default_rng(seed)
    walls = 1.7e9 + np.cumsum(rng.uniform(0.001, 0.01, len(which)))
    hparams = {"units": float(rng.choice([16, 32, 64])), "lr": rng.uniform(1e-4, 1e-1), "optimizer": "adam"}
    return Run(tags, which, steps, walls, rng.integers(1, 1 << 14, len(which)) / 1024, hparams)


def looped(seed: int, tags: Sequence[str], steps: int) -> Run:
    """As a training loop logs: every tag in every step."""
    which, each = np.tile(np.arange(len(tags)), steps), np.repeat(np.arange(1, steps + 1), len(tags))
    return some_run(seed, tags, which, each)


def irregular(points: int) -> Run:
    """Tags of many lengths in no order; the steps of each rise by gaps at random."""
    rng = np.random.default_rng(0)
    tags = [f"{'layer/' * (number % 7)}metric-{'x' * number}" for number in range(20)]
    which = rng.integers(0, len(tags), points)
    gaps, steps = rng.integers(1, 200, points), np.empty(points, np.int64)
    for number in range(len(tags)):
        steps[which == number] = np.cumsum(gaps[which == number])
    return some_run(1, tags, which, steps)


# Written as TensorFlow's and PyTorch's writers do, record by record.

Split = tuple[bytes, bytes]
"""The bytes of a summary around its value."""


def tensor_summary(tag: str) -> Split:
    """As `tf.summary.scalar` of TensorFlow 2 has it."""
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto

    plugin = SummaryMetadata.PluginData(plugin_name="scalars")
    tensor = TensorProto(dtype=1, tensor_shape=TensorShapeProto(), tensor_content=b"HERE")
    value = Summary.Value(tag=tag, tensor=tensor, metadata=SummaryMetadata(plugin_data=plugin))
    return split(Summary(value=[value]))


def simple_summary(tag: str) -> Split:
    """As PyTorch, tensorboardX and TensorFlow 1 have it."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    (here,) = struct.unpack("<f", b"HERE")
    return split(Summary(value=[Summary.Value(tag=tag, simple_value=here)]))


def split(summary: Any) -> Split:
    from tensorboard.compat.proto.event_pb2 import Event

    before, _, after = Event(summary=summary).SerializeToString().partition(b"HERE")
    return before, after


def varint(number: int) -> bytes:
    digits = bytearray()
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*digits, number])


def payloads(run: Run, summary: Callable[[str], Split]) -> Iterator[bytes]:
    """The events of a run: its version, its hparams, its points."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb

    yield Event(wall_time=1.7e9, file_version="brain.Event:2").SerializeToString()
    start = hparams_pb(run.hparams, start_time_secs=1.7e9)
    yield Event(wall_time=1.7e9, summary=start).SerializeToString()
    pack_time, pack_value = struct.Struct("<cd").pack, struct.Struct("<f").pack
    parts = [summary(tag) for tag in run.tags]
    columns = (column.tolist() for column in (run.which, run.steps, run.walls, run.values))
    for which, step, wall, value in zip(*columns, strict=True):
        before, after = parts[which]
        yield b"".join((pack_time(b"\x09", wall), b"\x10", varint(step), before, pack_value(value), after))


def write_records(run: Run, summary: Callable[[str], Split], directory: Path) -> None:
    from hparams_lab.events.format.record import frame

    directory.mkdir(parents=True)
    with open(directory / "events.out.tfevents.1700000000.host.1.0", "wb") as file:
        file.writelines(map(frame, payloads(run, summary)))


def with_tensors(run: Run, logdir: Path, number: int) -> None:
    write_records(run, tensor_summary, logdir / f"run-{number:05}")


def with_simple_values(run: Run, logdir: Path, number: int) -> None:
    write_records(run, simple_summary, logdir / f"run-{number:05}")


# Logged by ourselves.


def by_our_log(run: Run, logdir: Path, number: int) -> None:
    """A run whose tags are all logged in each step."""
    from hparams_lab import start_run

    rows = run.values.reshape(-1, len(run.tags)).tolist()
    with start_run(logdir, hparams=run.hparams, name=f"run-{number:05}", fsync=False, provenance=False) as ours:
        for step, row in enumerate(rows, 1):
            ours.log(dict(zip(run.tags, row, strict=True)), step)


def by_our_columns(run: Run, logdir: Path, number: int) -> None:
    from hparams_lab import start_run

    columns = dict(zip(run.tags, run.values.reshape(-1, len(run.tags)).T, strict=True))
    steps = range(1, 1 + len(run.values) // len(run.tags))
    with start_run(logdir, hparams=run.hparams, name=f"run-{number:05}", fsync=False, provenance=False) as ours:
        ours.log_columns(columns, steps)


class Dataset(NamedTuple):
    """A log directory to read.

    Attributes:
      title: what it is, of so many runs and points.
      sizes: the number of runs, and of points in each; the larger one is scaled.
      run: makes the run of a number with so many points.
      write: writes that run into a log directory.
    """

    title: str
    sizes: tuple[int, int]
    run: Callable[[int, int], Run]
    write: Callable[[Run, Path, int], None]

    def scaled(self, scale: float) -> tuple[int, int]:
        runs, points = self.sizes
        return (max(1, round(runs * scale)), points) if runs > 1 else (runs, max(10, round(points * scale)))


METRICS = ["loss", "accuracy", "seconds"]
LONG_TAG = "validation/loss"
LOOP_TAGS = ["train/loss", "train/accuracy", "validation/loss", "learning_rate"]
MANY_TAGS = [f"metric-{number}" for number in range(20)]
DATASETS = {
    "short": Dataset(
        "{runs:,} runs of {points} scalars, our own",
        (1_000, 3),
        lambda number, points: looped(number, METRICS, points // 3),
        by_our_log,
    ),
    "long": Dataset(
        "{runs} run of {points:,} points of one tag, as TensorFlow writes it",
        (1, 1_000_000),
        lambda number, points: looped(number, [LONG_TAG], points),
        with_tensors,
    ),
    "many": Dataset(
        "{runs} runs of {points:,} points, four tags in a loop, as TensorFlow writes them",
        (100, 10_000),
        lambda number, points: looped(number, LOOP_TAGS, points // 4),
        with_tensors,
    ),
    "irregular": Dataset(
        "{runs} run of {points:,} points, 20 tags in no order, as PyTorch would write it",
        (1, 300_000),
        lambda _, points: irregular(points),
        with_simple_values,
    ),
    "columns": Dataset(
        "{runs} run of {points:,} points of 20 tags, our own by log_columns",
        (1, 1_000_000),
        lambda number, points: looped(number, MANY_TAGS, points // 20),
        by_our_columns,
    ),
}


def make(dataset: Dataset, logdir: Path, runs: int, points: int) -> Totals:
    """Make a log directory; what is in it. The times of runs of our own are the clock's, and not told."""
    found = Found([], [])
    for number in range(runs):
        run = dataset.run(number, points)
        dataset.write(run, logdir, number)
        found.columns.append((run.steps, run.walls, run.values))
        found.hparams.append(run.hparams)
    ours = dataset.write in (by_our_log, by_our_columns)
    told = {name: figure for name, figure in totals(found).items() if not (ours and name.startswith("walls"))}
    return {**told, "bytes": sum(os.path.getsize(path) for files in event_files(str(logdir)) for path in files)}


def event_files(logdir: str) -> Iterator[list[str]]:
    """The event files of each directory in and below."""
    for directory, _, names in os.walk(logdir):
        files = sorted(os.path.join(directory, name) for name in names if "tfevents" in name)
        if files:
            yield files


def columns_of(points: Iterable[Sequence[tuple[int, float, float]]]) -> list[Column]:
    """Columns of lists of (step, wall time, value)."""
    made = []
    for series in points:
        steps, walls, values = zip(*series, strict=True)
        made.append((np.array(steps, np.int64), np.array(walls), np.array(values)))
    return made
