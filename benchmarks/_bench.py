"""What the benchmarks share: contenders measured in turn, medians, ratios, one table, and what machine it was."""

from __future__ import annotations

import os
import sys

# What is here comes last: `logging` is the standard library's, not logging.py.
sys.path.sort(key=os.path.dirname(os.path.realpath(__file__)).__eq__)

import contextlib
import platform
import statistics
import subprocess
import time
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

# Modules are compiled once, when they are first used; a benchmark is of what comes after.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

ROOT = Path(__file__).resolve().parents[1]


def machine() -> str:
    """Cores, memory, system and Python, in one line."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, {system}"


def in_turn(contenders: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """The median of each contender's figures: every round takes all of them, one after the other."""
    measures = {name: lambda measure=measure: (measure(),) for name, measure in contenders.items()}
    return {name: figure for name, (figure,) in in_turn_columns(measures, rounds).items()}


def in_turn_columns(contenders: Mapping[str, Callable[[], Sequence[float]]], rounds: int) -> dict[str, list[float]]:
    """As `in_turn`, where a measurement is several figures; the median of each."""
    figures: dict[str, list[Sequence[float]]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name, measure in contenders.items():
            print(f"round {number + 1} of {rounds}: {name}", file=sys.stderr, flush=True)
            figures[name].append(measure())
    return {name: [statistics.median(column) for column in zip(*found, strict=True)] for name, found in figures.items()}


def wall_time(command: Sequence[str]) -> float:
    """Seconds that a command takes; it must succeed."""
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began


def show(title: str, unit: str, figures: Mapping[str, float], ours: str, notes: Sequence[str] = ()) -> None:
    """Print the figures with their ratios to ours."""
    show_columns(title, [unit], {name: [figure] for name, figure in figures.items()}, ours, notes)


def show_columns(
    title: str, units: Sequence[str], rows: Mapping[str, Sequence[float]], ours: str, notes: Sequence[str] = ()
) -> None:
    """Print rows of several figures, one for each unit, with their ratios to ours."""
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for unit in units:
        table.add_column(unit, justify="right")
        table.add_column("times ours", justify="right")
    for name, figures in rows.items():
        cells = [(f"{figure:.4g}", f"{figure / our:.2f}") for figure, our in zip(figures, rows[ours], strict=True)]
        table.add_row(name, *(cell for pair in cells for cell in pair))
    console = Console(width=110)
    console.print(table)
    for note in (*notes, machine()):
        console.print(note)


def without_tensorflow() -> None:
    """Have TensorBoard's own code read and write files by itself, as where TensorFlow is not installed."""
    sys.modules["tensorboard.compat.notf"] = types.ModuleType("tensorboard.compat.notf")


def peak_memory(pid: int | str = "self") -> float:
    """The most memory that a process had, in megabytes; of others, 0 where the system does not tell."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024 / 1e6
    if pid != "self":
        return 0.0
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
