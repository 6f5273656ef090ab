"""Reads log directories in this process, watched: `python tests/watched.py DIRECTORY ...` prints a JSON line for each.

A line has the seconds it took, by how many bytes the peak of the memory grew, and what was found. A limit on the
process's memory makes an allocation of what a file claims an error instead of a promise.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

ALLOWED = 64 * 2**20
"""How many more bytes a hostile file may take."""

T = TypeVar("T")


class Watched(NamedTuple):
    """What a call took."""

    seconds: float  # of the processor: the machine may be busy with something else
    grown: int  # bytes, of the largest resident size over the one before


def _resident() -> tuple[int, int]:
    """The resident bytes of this process, now and at most since the last reset."""
    status = Path("/proc/self/status").read_text()
    kilobytes = {key: int(rest.split()[0]) for key, _, rest in (row.partition(":") for row in status.splitlines())
                 if key in ("VmRSS", "VmHWM")}  # fmt: skip
    return kilobytes["VmRSS"] * 1024, kilobytes["VmHWM"] * 1024


def can_watch() -> bool:
    """Whether this system tells a process its largest size since a moment (Linux)."""
    return os.access("/proc/self/clear_refs", os.W_OK)


def watched(call: Callable[[], T]) -> tuple[T, Watched]:
    """What a call gives, and what it took."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # forget the largest size so far
    before, _ = _resident()
    began = time.process_time()
    given = call()
    return given, Watched(time.process_time() - began, _resident()[1] - before)


def limited(more: int) -> None:
    """From here on this process may have at most so many bytes more of address space."""
    import resource

    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + more, size + more))


def warm_up() -> None:
    """Read good files of every layout, so that what is imported and remembered is there."""
    from mutants import LAYOUTS, good

    from hparams_lab.logdir.reader import read

    with tempfile.TemporaryDirectory() as folder:
        for layout in LAYOUTS:
            for points in (20, 3000):
                directory = Path(folder, f"{layout}-{points}")
                directory.mkdir()
                (directory / "events.out.tfevents.1").write_bytes(b"".join(good(layout, points)))
        read(folder)


def told(directory: str) -> dict[str, Any]:
    """What reading a directory gives, or which error."""
    from hparams_lab.core.errors import HParamsLabError
    from hparams_lab.logdir.reader import read

    try:
        results = read(directory)
    except HParamsLabError as error:
        return {"error": str(error)}
    except Exception as error:
        return {"crash": repr(error)}
    return {"runs": [run.name for run in results.runs], "kinds": [str(finding.kind) for finding in results.findings]}


def main(directories: list[str]) -> None:
    """Read each, and tell; each in a fork, so that none finds memory that another has left."""
    warm_up()
    limited(more=4 * ALLOWED)
    for directory in directories:
        child = os.fork()
        if not child:
            given, took = watched(lambda directory=directory: told(directory))
            print(json.dumps({"directory": directory, **took._asdict(), **given}), flush=True)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status:
            line = {"directory": directory, **Watched(0.0, 0)._asdict(), "crash": f"exit code {status}"}
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
