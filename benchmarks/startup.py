"""How long until it is there: our command line, library and board against TensorBoard's own HParams API and server.

scripts/bench startup
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _bench import in_turn, show, wall_time

from hparams_lab.board.server import Board

STATEMENTS = {
    "python -c pass": "pass",
    "import numpy": "import numpy",
    "import hparams_lab": "import hparams_lab",
    "from hparams_lab import start_run": "from hparams_lab import start_run",
    "from hparams_lab import HParam, Experiment": "from hparams_lab import HParam, Experiment",
    "from tensorboard.plugins.hparams import api": "from tensorboard.plugins.hparams import api; api.HParam",
}


def board_seconds() -> float:
    """Until `hparams-lab board` listens."""
    with tempfile.TemporaryDirectory() as logdir:
        began = time.perf_counter()
        with Board(Path(logdir), port=0):
            return time.perf_counter() - began


def tensorboard_seconds() -> float:
    """Until TensorBoard as it is installed listens."""
    with tempfile.TemporaryDirectory() as logdir:
        command = [sys.executable, "-m", "tensorboard.main", "--logdir", logdir, "--port", "0", "--host", "127.0.0.1"]
        began = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as server:
            assert server.stderr is not None
            next(line for line in server.stderr if " at http://" in line)
            seconds = time.perf_counter() - began
            server.terminate()
    return seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    commands = {name: [sys.executable, "-c", statement] for name, statement in STATEMENTS.items()}
    ours = "hparams-lab --help"
    commands = {ours: [sys.executable, "-m", "hparams_lab", "--help"], **commands}
    figures = in_turn({name: lambda command=command: wall_time(command) for name, command in commands.items()}, rounds)
    show("Start-up, wall time", "s", figures, ours)
    servers = {"hparams-lab board": board_seconds, "tensorboard": tensorboard_seconds}
    show("A server that listens, wall time", "s", in_turn(servers, rounds), "hparams-lab board")


if __name__ == "__main__":
    main()
