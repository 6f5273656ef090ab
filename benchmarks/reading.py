"""What reading costs: a log directory to columns and hparams, in time and memory, beside whoever else reads it.

    scripts/bench reading
    scripts/bench reading short long --only Rust,EventAccumulator

Every contender runs in a process of its own, in which it first reads a few points that are not counted; Python's start
and the imports are not in the times, the start of TensorBoard's data server is. In the first round what was read is
compared with what was written: every point, its time, every hparam. Of contenders whose package is missing a line says
which would bring it. Then what is built on it: `top`, and reading a directory again that grew a little.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import itertools
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from _bench import in_turn, in_turn_columns, peak_memory, show, show_columns, wall_time, without_tensorflow
from _readers import (
    ACCUMULATOR,
    OURS,
    READERS,
    SERVER,
    Contender,
    protobuf_loop,
    server_peaks,
)
from _reading_data import DATASETS, LONG_TAG, Found, Totals, looped, make, totals, with_simple_values, with_tensors

MEMORY = "/dev/shm"
ROOM = 1 << 30
"""Bytes that the log directories and what is copied of them may need."""


class Asked(NamedTuple):
    """How good ours is to be: the prototype's seconds on the machine of the first figures, and times others."""

    seconds: float
    times: dict[str, float]
    megabytes: float | None = None


SLACK = 1.4
"""Ours may take so many times what the prototype did."""
ASKED = {
    "short": Asked(0.032, {SERVER: 3.5}),
    "long": Asked(0.107, {SERVER: 20, ACCUMULATOR: 200}, 141),
    "many": Asked(0.155, {}),
    "irregular": Asked(0.139, {}),
}
TOP_ASKED = {1_000: 0.5, 10_000: 3.0}
"""Seconds that `top` may take for so many runs, start-up included."""

# In a contender's process.


def measured(name: str, warm_up: str, logdir: str, truth: Totals) -> list[float]:
    """Seconds, megabytes at most of all processes, and those of a server among them."""
    read = READERS[name].prepare()
    read(warm_up)
    server_peaks.clear()
    began = time.perf_counter()
    found = read(logdir)
    seconds = time.perf_counter() - began
    server = max(server_peaks, default=0.0)
    memory = peak_memory() + server
    expect(name, found, truth)
    return [seconds, memory, server]


def expect(name: str, found: Found | int, truth: Totals) -> None:
    """End the program unless that is what was written. With no truth, it was compared before."""
    if not truth:
        return
    figures = totals(found) if isinstance(found, Found) else {"bytes": found}
    wrong = {what: (figure, truth[what]) for what, figure in figures.items() if figure != truth[what]}
    if wrong:
        sys.exit(f"{name} read something else than was written (read, written): {wrong}")


def top_memory(logdir: str) -> list[float]:
    """Megabytes at most of `hparams-lab top`."""
    from hparams_lab.cli.main import main as hparams_lab

    with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.suppress(SystemExit):
        hparams_lab(["top", logdir, "--metric", LONG_TAG, "--min"])
    assert "run-00000" in said.getvalue()
    return [peak_memory()]


def growing(logdir: str, rounds: int) -> list[float]:
    """Seconds to read a directory again after 10 points were logged in one run, and to read it anew."""
    import hparams_lab as lab
    from hparams_lab.logdir.reader import LogDirReader

    reader, seconds = LogDirReader(logdir), []
    before = values_in(reader.read())
    with lab.start_run(logdir, hparams={"units": 16}, name="growing", provenance=False) as run:
        for number in range(1, rounds + 2):
            for _ in range(10):
                run.log("loss", number)
            run.flush()
            again, anew = timed(reader.read), timed(lambda: lab.read(logdir))
            assert values_in(again[1]) == values_in(anew[1]) == {**before, "growing": 5.0 * number * (number + 1)}
            seconds.append((again[0], anew[0]))
    return [statistics.median(column) for column in zip(*seconds[1:], strict=True)]


def values_in(results: Any) -> dict[str, float]:
    """By run, the sum of the losses."""
    return {run.name: run.scalars("loss").values.sum() for run in results.runs}


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    result = call()
    return time.perf_counter() - began, result


# In the process that compares them.


def in_own_process(kind: str, *arguments: object) -> list[float]:
    """The figures of this script's function of that name, called in another process."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    command = [sys.executable, __file__, "--child", json.dumps([kind, *arguments])]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


CHILDREN = {function.__name__: function for function in (measured, top_memory, growing)}


def compare_readers(name: str, root: Path, options: argparse.Namespace) -> None:
    """Have everyone read one dataset, and print it."""
    logdir, warm_up = root / name, root / "warm-up"
    with_tensors(looped(0, ["warm-up"], 3), warm_up, 0)
    with_simple_values(looped(1, ["warm-up"], 3), warm_up, 1)
    dataset = DATASETS[name]
    runs, points = dataset.scaled(options.scale)
    truth = make(dataset, logdir, runs, points)
    truth = {**totals(protobuf_loop()(str(logdir))), **truth}  # of our own runs, the times are first known from there
    title = f"{dataset.title.format(runs=runs, points=points)} ({truth['bytes'] / 1e6:.3g} MB)"
    rows = figures_of(str(warm_up), str(logdir), truth, options)
    show_columns(
        title, ["s", "peak MB"], {who: row[:2] for who, row in rows.items()}, OURS, notes_on(name, rows, options)
    )


def figures_of(warm_up: str, logdir: str, truth: Totals, options: argparse.Namespace) -> dict[str, list[float]]:
    """By contender its median figures; of the slow ones of fewer rounds."""

    def measure_of(name: str) -> Callable[[], list[float]]:
        checks: Iterator[Totals] = itertools.chain([truth], itertools.repeat({}))

        def measure() -> list[float]:
            try:
                return in_own_process("measured", name, warm_up, logdir, next(checks))
            except SystemExit as error:
                if name == OURS:
                    raise
                print(f"{name} is left out: {str(error).splitlines()[-1]}", flush=True)
                return [math.nan] * 3

        return measure

    measures = {name: measure_of(name) for name, who in READERS.items() if is_wanted(name, who, options.only)}
    found: dict[str, list[float]] = {}
    for slow, rounds in ((False, options.rounds), (True, min(options.rounds, options.slow_rounds))):
        some = {name: measure for name, measure in measures.items() if READERS[name].slow is slow}
        found |= in_turn_columns(some, rounds)
    return {name: found[name] for name in measures if not math.isnan(found[name][0])}


def is_wanted(name: str, contender: Contender, only: str) -> bool:
    """Whether it was asked for and is installed; ours always."""
    if name != OURS and not any(part.strip() in name for part in only.split(",")):
        return False
    if all(map(importlib.util.find_spec, contender.modules)):
        return True
    print(f"without {name}: pip install {contender.package}")
    return False


def notes_on(name: str, rows: dict[str, list[float]], options: argparse.Namespace) -> Iterator[str]:
    """What was asked, beside what it is."""
    yield "peak MB: of the whole process, with Python and what was imported"
    unchecked = [who for who in rows if not READERS[who].checks and who != OURS]
    if unchecked:
        yield f"not verifying each record's checksum, as is their way: {'; '.join(unchecked)}"
    if SERVER in rows:
        yield f"{SERVER}: until all is had, its start included; {rows[SERVER][2]:.0f} MB are the server's"
    asked, (seconds, megabytes, *_) = ASKED.get(name), rows[OURS]
    if asked is None:
        return
    for part, times in asked.times.items():
        for who in (who for who in rows if who.startswith(part)):
            yield verdict(
                f"{times:g} times as fast as {who}", f"{rows[who][0] / seconds:.1f}", rows[who][0] >= times * seconds
            )
    if options.scale == 1:
        most = SLACK * asked.seconds
        yield verdict(f"at most {most:.3f} s, {SLACK} times the prototype's", f"{seconds:.3f} s", seconds <= most)
        if asked.megabytes:
            most = SLACK * asked.megabytes
            yield verdict(
                f"at most {most:.0f} MB, {SLACK} times the prototype's", f"{megabytes:.0f} MB", megabytes <= most
            )


def verdict(asked: str, figure: str, reached: bool) -> str:
    return f"asked: {asked}: {figure}{'' if reached else ', NOT REACHED'}"


def compare_top(root: Path, options: argparse.Namespace) -> None:
    """`top` of many short runs, and of one long run."""
    command = [sys.executable, "-m", "hparams_lab"]
    commands = {0: [*command, "--help"]}
    for asked in TOP_ASKED:
        runs = round(asked * options.scale)
        make(DATASETS["short"], root / f"{runs}-runs", runs, 3)
        commands[asked] = [*command, "top", str(root / f"{runs}-runs"), "--metric", "loss", "--min"]
    figures = in_turn({runs: lambda words=words: wall_time(words) for runs, words in commands.items()}, options.rounds)
    names = {runs: f"top of {round(runs * options.scale):,} runs" if runs else "hparams-lab --help" for runs in figures}
    notes = [
        verdict(f"{names[runs]} in at most {most} s", f"{figures[runs]:.2f} s", figures[runs] <= most)
        for runs, most in TOP_ASKED.items()
        if options.scale == 1
    ]
    shown = {names[runs]: seconds for runs, seconds in figures.items()}
    show("hparams-lab top, start-up included", "s", shown, names[1_000], notes)
    compare_top_memory(root, options)


def compare_top_memory(root: Path, options: argparse.Namespace) -> None:
    measures = {}
    for points in (10, round(1_000_000 * options.scale)):
        name = f"one run of {points:,} points"
        truth = make(DATASETS["long"], root / name, 1, points)
        measures[f"{name}, {truth['bytes'] / 1e6:.3g} MB"] = lambda name=name: in_own_process(
            "top_memory", str(root / name)
        )[0]
    figures = in_turn(measures, options.rounds)
    few, many = figures.values()
    notes = [f"asked: bounded by the points that are kept, not by the file: {many - few:.1f} MB more"]
    show("hparams-lab top, memory (pages of a mapped file count)", "peak MB", figures, next(iter(figures)), notes)


def compare_growing(root: Path, options: argparse.Namespace) -> None:
    """Reading again after a little was logged."""
    runs = round(1_000 * options.scale)
    make(DATASETS["short"], root / "growing", runs, 3)
    again, anew = in_own_process("growing", str(root / "growing"), options.rounds)
    names = [f"LogDirReader.read() after 10 points more in one of {runs + 1:,} runs", "lab.read anew"]
    show("A directory that grows", "s", dict(zip(names, (again, anew), strict=True)), names[0])


COMPARISONS = {
    **{name: lambda root, options, name=name: compare_readers(name, root, options) for name in DATASETS},
    "top": compare_top,
    "growing": compare_growing,
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", metavar="WHAT", help=f"of {', '.join(COMPARISONS)}; all when left out")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--slow-rounds", type=int, default=1, help="of those that take half a minute for a long run")
    parser.add_argument("--only", default="", metavar="PART,...", help="besides ours, those with it in their name")
    parser.add_argument("--quick", action="store_true", help="a tenth of the sizes, one round")
    parser.add_argument("--dir", help=f"where to write; {MEMORY} by default, if it has room")
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        kind, *arguments = options.child
        print(json.dumps(CHILDREN[kind](*arguments)))
        return
    if unknown := set(options.what) - set(COMPARISONS):
        parser.error(f"no {', '.join(sorted(unknown))} is compared; there are {', '.join(COMPARISONS)}")
    options.scale, options.rounds = (0.1, 1) if options.quick else (1, options.rounds)
    without_tensorflow()
    for name in options.what or COMPARISONS:
        with tempfile.TemporaryDirectory(dir=options.dir or roomy_memory()) as root:
            COMPARISONS[name](Path(root), options)


def roomy_memory() -> str | None:
    """The file system in memory, where there is one with room."""
    return MEMORY if os.path.isdir(MEMORY) and shutil.disk_usage(MEMORY).free > ROOM else None


if __name__ == "__main__":
    main()
