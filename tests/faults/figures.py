"""Prints the table of the fault suite from its figures: `python figures.py FILE`, a line of JSON for each row."""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path
from typing import Any


def measured_in_words(measured: dict[str, Any]) -> str:
    """The numbers in a line: what should be zero and is, together."""
    none = [name for name, value in measured.items() if value == 0 and type(value) is int]
    some = [f"{name} {value}" for name, value in measured.items() if name not in none]
    return "; ".join([*([f"0 {', '.join(none)}"] if none else []), *some])


def table(lines: list[dict[str, Any]]) -> list[str]:
    """The rows as a Markdown table."""
    cells = [("fault", "asked", "measured", "held"), ("---",) * 4]
    cells += [
        (line["row"], line["asked"], measured_in_words(line["measured"]), "yes" if line["held"] else "NO")
        for line in lines
    ]
    return [f"| {' | '.join(text.replace('|', '/') for text in row)} |" for row in cells]


def machine() -> str:
    """This machine, in a line."""
    model = next(
        (line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "CPU"
    )
    kilobytes = next((int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    return (
        f"{os.cpu_count()} cores ({model}), {kilobytes / 2**20:.0f} GB, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}"
    )


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


if __name__ == "__main__":
    said = [json.loads(line) for line in _lines(sys.argv[1])]
    print(f"\nOn {machine()}:\n", *table(said), sep="\n")
