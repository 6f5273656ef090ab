"""What reading costs where logs are not regular: as tools write them, and any directory that is named.

    scripts/bench real_logs
    scripts/bench real_logs --only PyTorch,Keras
    scripts/bench real_logs /data/logs/one /data/logs/another --json figures.json

Every reader has a process of its own, in which it has imported what it needs and read a few points; they take turns.
What is counted is the reading of a whole directory: to columns by ours, to its events by EventAccumulator, to lists by
the loops. The first time what was read is compared: the points of all are the same, but for those that a restart
overtakes, which are counted. At last what a small directory costs as a whole process.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib.util
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from _bench import in_turn, machine, show, wall_time, without_tensorflow
from _readers import accumulated, accumulators, in_results, looped, together
from _reading_data import Found, event_files
from _real_writers import WRITERS
from rich.console import Console
from rich.table import Table

LONG_ENOUGH = 0.2
"""Seconds after which a directory is not read again in the same turn."""

OURS, ACCUMULATOR, ALONE = "lab.read", "EventAccumulator", "EventAccumulator, no TensorFlow"
LOOP, UNCHECKED = "protobuf loop", "protobuf loop, no checksums"
ASKED = {
    "39 scalars a step": {ACCUMULATOR: 30, LOOP: 8},
    "39 scalars, 1 histogram": {ACCUMULATOR: 20, LOOP: 8},
    "39 scalars, 2 histograms": {ACCUMULATOR: 15, LOOP: 8},
}
ASKED_OF_ALL, ASKED_FROM, ASKED_TOGETHER = 1, (1_000, 2), 10
"""Times EventAccumulator for any directory, for one of so many points, for all that are named together."""


class Reader(NamedTuple):
    """Someone who reads a directory: what is counted, and what then tells what was read; what it needs."""

    read: Callable[[str], Any]
    found: Callable[[Any], Found]
    modules: tuple[str, ...] = ()


def ours(logdir: str) -> Any:
    import hparams_lab

    return hparams_lab.read(logdir)


READERS = {
    OURS: Reader(ours, in_results),
    ACCUMULATOR: Reader(accumulators, accumulated, ("tensorflow",)),
    ALONE: Reader(accumulators, accumulated),
    LOOP: Reader(looped, together),
    UNCHECKED: Reader(lambda logdir: looped(logdir, check=False), together),
}

# In a reader's process.


def serve(name: str, warm_up: str) -> None:
    """Read the directories that are asked for, a line each, and answer with a line each."""
    reader = READERS[name]
    for module in reader.modules:
        importlib.import_module(module)
    if not reader.modules:
        without_tensorflow()
    reader.read(warm_up)
    for line in sys.stdin:
        logdir, file = json.loads(line)
        try:
            answer = {"file": save(reader.found(reader.read(logdir)), file)} if file else measured(reader, logdir)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


def measured(reader: Reader, logdir: str) -> dict[str, float]:
    """Seconds of the clock and of the processor: the medians of as many readings as there is time for."""
    figures: list[tuple[float, float]] = []
    began = time.perf_counter()
    while not figures or (time.perf_counter() - began < LONG_ENOUGH and len(figures) < 20):
        gc.collect()
        wall, cpu = time.perf_counter(), time.process_time()
        read = reader.read(logdir)
        figures.append((time.perf_counter() - wall, time.process_time() - cpu))
        del read
    wall, cpu = (statistics.median(column) for column in zip(*figures, strict=True))
    return {"wall": wall, "cpu": cpu}


def save(found: Found, file: str) -> str:
    """Save a number for each point, which is the same only for the same step, time and value."""
    if found.columns:
        steps, walls, values = (np.concatenate(parts) for parts in zip(*found.columns, strict=True))
    else:
        steps, walls, values = (np.zeros(0) for _ in range(3))
    values = np.where(np.isnan(values), np.nan, values + 0.0)
    numbers = np.zeros(len(steps), np.uint64)
    for column in (steps.astype(np.int64), walls.astype(np.float64), values.astype(np.float64)):
        numbers = (numbers ^ column.view(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        numbers ^= numbers >> np.uint64(29)
    np.save(file, np.sort(numbers))
    return file


# In the process that compares them.


class Peer:
    """A reader's process."""

    def __init__(self, name: str, warm_up: Path) -> None:
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
        command = [sys.executable, __file__, "--serve", name, str(warm_up)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, env=environment
        )

    def ask(self, logdir: Path, file: str = "") -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps([str(logdir), file]), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())


@contextlib.contextmanager
def peers_of(warm_up: Path) -> Iterator[dict[str, Peer]]:
    """The processes of all readers that are installed."""
    peers = {}
    try:
        for name, reader in READERS.items():
            if all(map(importlib.util.find_spec, reader.modules)):
                peers[name] = Peer(name, warm_up)
            else:
                print(f"without {name}: pip install tensorflow-cpu")
        yield peers
    finally:
        for peer in peers.values():
            peer.process.communicate()


class Row(NamedTuple):
    """A directory: its event files, bytes and points, how many more a restart overtakes, and the figures by reader."""

    name: str
    files: int
    size: int
    points: int
    overtaken: int
    figures: dict[str, dict[str, float]]


def compared(name: str, logdir: Path, peers: dict[str, Peer], rounds: int, scratch: Path) -> Row:
    """Have everyone read a directory in turn. Ends the program where ours read a point that another did not."""
    found = {}
    for who, peer in peers.items():
        answer = peer.ask(logdir, str(scratch / f"{len(found)}.npy"))
        if "error" in answer:
            print(f"{name} without {who}: {answer['error']}")
        else:
            found[who] = np.load(answer["file"])
    if OURS not in found:
        sys.exit(f"{name} cannot be read")
    most = max(found.values(), key=len)
    for who, numbers in found.items():
        if too_many(numbers, most):
            sys.exit(f"{name}: {who} read points that {UNCHECKED} did not")
    turns: dict[str, list[dict[str, float]]] = {who: [] for who in found}
    for number, who in itertools.product(range(rounds), found):
        print(f"{name}, round {number + 1} of {rounds}: {who}", file=sys.stderr, flush=True)
        turns[who].append(peers[who].ask(logdir))
    figures = {
        who: {kind: statistics.median(figure[kind] for figure in some) for kind in ("wall", "cpu")}
        for who, some in turns.items()
    }
    files = list(itertools.chain.from_iterable(event_files(str(logdir))))
    size = sum(map(os.path.getsize, files))
    return Row(name, len(files), size, len(found[OURS]), len(most) - len(found[OURS]), figures)


def too_many(some: Any, most: Any) -> int:
    """How many of the sorted numbers are not among the others, each as often as it is there."""
    there, counts = np.unique(most, return_counts=True)
    numbers, times = np.unique(some, return_counts=True)
    places = np.minimum(np.searchsorted(there, numbers), max(0, len(there) - 1))
    if not len(there):
        return len(numbers)
    return int(np.count_nonzero((there[places] != numbers) | (counts[places] < times)))


def table(title: str, kind: str, rows: Sequence[Row]) -> Table:
    """The milliseconds of everyone, and how many times ours."""
    shown = Table(title=title, title_justify="left")
    shown.add_column("")
    for name in ("files", "points", "ours, ms"):
        shown.add_column(name, justify="right")
    others = [who for who in READERS if who != OURS and any(who in row.figures for row in rows)]
    for who in others:
        shown.add_column(who, justify="right")
    for row in rows:
        own = row.figures[OURS][kind]
        cells = [row.figures[who][kind] if who in row.figures else None for who in others]
        told = ["" if other is None else f"{1e3 * other:,.4g} ({other / own:.3g}x)" for other in cells]
        shown.add_row(row.name, f"{row.files:,}", f"{row.points:,}", f"{1e3 * own:,.4g}", *told)
    return shown


def all_of(rows: Sequence[Row]) -> Row:
    """All directories together."""
    everyone = set.intersection(*(set(row.figures) for row in rows))
    figures = {
        who: {kind: sum(row.figures[who][kind] for row in rows) for kind in ("wall", "cpu")}
        for who in READERS
        if who in everyone
    }
    sums = (sum(column) for column in zip(*(row[1:5] for row in rows), strict=True))
    return Row("all of these", *sums, figures)


def notes_on(row: Row, named: bool) -> Iterator[str]:
    """What was asked and is not reached, and what a restart overtakes."""
    asked = dict(ASKED.get(row.name, {}))
    if named:
        asked[ACCUMULATOR] = ASKED_FROM[1] if row.points >= ASKED_FROM[0] else ASKED_OF_ALL
    for who, times in asked.items():
        if who in row.figures:
            reached = row.figures[who]["cpu"] / row.figures[OURS]["cpu"]
            verdict = "" if reached >= times else ", NOT REACHED"
            yield f"asked: {row.name}: {times} times as fast as {who}: {reached:.1f}{verdict}"
    if row.overtaken:
        yield f"{row.name}: {row.overtaken:,} points more are overtaken by a restart, and left out"


def whole_processes(logdir: Path, rounds: int) -> None:
    """What a directory costs with the start of Python and all imports."""
    load = "from tensorboard.backend.event_processing.event_accumulator import EventAccumulator as Loaded; Loaded"
    statements = {
        OURS: f"import hparams_lab; hparams_lab.read({str(logdir)!r})",
        ACCUMULATOR: f"{load}({str(logdir / 'run')!r}, {{'scalars': 0}}).Reload()",
        "hparams_lab.read, not called": "from hparams_lab import read",
    }
    measures = {
        name: lambda words=words: wall_time([sys.executable, "-c", words]) for name, words in statements.items()
    }
    show("A whole process that reads 1 run of 20 points, wall time", "s", in_turn(measures, rounds), OURS)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", type=Path, metavar="DIR", help="log directories, not those written here")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", metavar="PART,...", help="of those written here, with it in their name")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the figures to")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--write", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(*options.serve)
    elif options.write:
        WRITERS[options.write[0]].write(Path(options.write[1]))
    else:
        with tempfile.TemporaryDirectory() as scratch:
            compare(options, Path(scratch))


def compare(options: argparse.Namespace, scratch: Path) -> None:
    """Write what is to be read, have everyone read it, and print the figures."""
    warm_up = written("1 run of 20 points", scratch)
    named = {str(path.name or path): path for path in map(Path.absolute, options.paths)}
    console = Console(width=150)
    rows = []
    with peers_of(warm_up) as peers:
        for name in named or wanted(options.only):
            logdir = named.get(name) or written(name, scratch)
            rows.append(compared(name, logdir, peers, options.rounds, scratch))
    shown = [*rows, all_of(rows)] if len(rows) > 1 else rows
    for kind, title in (("cpu", "CPU time of the process"), ("wall", "Wall time")):
        console.print(table(f"Reading real logs. {title}, ms (times ours)", kind, shown))
    for note in itertools.chain.from_iterable(notes_on(row, bool(named)) for row in rows):
        console.print(note)
    if named and ACCUMULATOR in shown[-1].figures and len(rows) > 1:
        console.print(*notes_of_all(shown[-1]))
    console.print(machine())
    if not named:
        whole_processes(warm_up, options.rounds)
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), "rows": [row._asdict() for row in shown]}, indent=1))


def notes_of_all(row: Row) -> Iterator[str]:
    times = row.figures[ACCUMULATOR]["cpu"] / row.figures[OURS]["cpu"]
    verdict = "" if times >= ASKED_TOGETHER else ", NOT REACHED"
    yield f"asked: all together: {ASKED_TOGETHER} times as fast as {ACCUMULATOR}: {times:.1f}{verdict}"


def wanted(only: str) -> Iterator[str]:
    """The names of what can be written here, and was asked for."""
    for name, writer in WRITERS.items():
        if not any(part.strip() in name for part in only.split(",")):
            continue
        if all(map(importlib.util.find_spec, writer.modules)):
            yield name
        else:
            print(f"without {name}: pip install {writer.package}")


def written(name: str, scratch: Path) -> Path:
    """The directory of that name, written by another process."""
    logdir = scratch / "".join(letter if letter.isalnum() else "-" for letter in name)
    if not logdir.exists():
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
        command = [sys.executable, __file__, "--write", name, str(logdir)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode:
            sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return logdir


if __name__ == "__main__":
    main()
