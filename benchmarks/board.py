"""Many runs in the HParams tab: our layout and settings against the usual ones.

Measured from the start of the server: until all session groups are listed with their metrics, and the time of a page
of 100 of them. A table that is not whole when the time is up takes for ever.

scripts/bench board --runs 1000
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from _bench import in_turn_columns, show_columns
from _board_logs import write_ours, write_usual

from hparams_lab.board.server import Board
from hparams_lab.board.view import View

STATUSES = ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"]
PAGE = 100
LAYOUTS = {"ours": write_ours, "usual": write_usual}


def ask(address: str, timeout: float, route: str = "session_groups") -> dict[str, Any]:
    """A page of session groups, as the tab asks for it."""
    request = {"allowedStatuses": STATUSES, "sliceSize": PAGE, "startIndex": 0}
    head = {"Content-Type": "application/json"}
    asked = urllib.request.Request(f"{address}data/plugin/hparams/{route}", json.dumps(request).encode(), head)
    with urllib.request.urlopen(asked, timeout=timeout) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def is_whole(found: dict[str, Any], runs: int) -> bool:
    """Whether every run is listed, those on the page with their metrics."""
    groups = found.get("sessionGroups", [])
    return int(found.get("totalSize", 0)) == runs and all(group.get("metricValues") for group in groups)


@contextlib.contextmanager
def our_server(logdir: Path) -> Iterator[str]:
    """As `hparams-lab board` starts it."""
    with contextlib.ExitStack() as stack:
        yield stack.enter_context(Board(lambda: stack.enter_context(View([logdir])).logdir, 0)).url.partition("#")[0]


@contextlib.contextmanager
def usual_server(logdir: Path) -> Iterator[str]:
    """As anybody starts it."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logdir), "--port", "0", "--host", "127.0.0.1"]
    with (
        tempfile.NamedTemporaryFile("w") as log,
        subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            cwd=logdir,  # not here, where logging.py is
        ) as server,
    ):
        try:
            while not (found := re.search(r"at (http://\S+)\s", Path(log.name).read_text(errors="replace"))):
                assert server.poll() is None, Path(log.name).read_text(errors="replace")
                time.sleep(0.05)
            yield found[1]
        finally:
            server.terminate()


SERVERS = {"hparams-lab board": our_server, "tensorboard": usual_server}


def measure(server: str, logdir: Path, runs: int, limit: float) -> tuple[float, float]:
    """Seconds until the table is whole, and of a page once it is."""
    began = time.perf_counter()
    with SERVERS[server](logdir) as address:
        while True:
            left = limit - (time.perf_counter() - began)
            if left <= 0:
                return math.inf, math.inf
            with contextlib.suppress(urllib.error.URLError, TimeoutError, ConnectionError):
                if is_whole(ask(address, left), runs):
                    break
            time.sleep(0.1)
        listed = time.perf_counter() - began
        return listed, statistics.median(page_seconds(address) for _ in range(3))


def page_seconds(address: str) -> float:
    """How long the tab waits for a page."""
    began = time.perf_counter()
    ask(address, 300)
    return time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--limit", type=float, default=300.0, help="seconds after which a table counts as never whole")
    parser.add_argument("--rounds", type=int, default=1)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for layout, write in LAYOUTS.items():
            write(Path(folder, layout), asked.runs)
        contenders = {
            f"{layout} layout, {server}": partial(measure, server, Path(folder, layout), asked.runs, asked.limit)
            for layout in LAYOUTS
            for server in SERVERS
        }
        figures = in_turn_columns(contenders, asked.rounds)
    units = ["all listed, s", f"page of {PAGE}, s"]
    never = f"inf: not all runs were listed with their metrics after {asked.limit:.0f} s"
    show_columns(f"{asked.runs:,} runs in the HParams tab", units, figures, next(iter(figures)), [never])


if __name__ == "__main__":
    main()
