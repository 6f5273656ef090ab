"""How long until the first line: our command line and library against TensorBoard's own HParams API.

scripts/bench startup
"""

from __future__ import annotations

import argparse
import sys

from _bench import in_turn, show, wall_time

STATEMENTS = {
    "python -c pass": "pass",
    "import numpy": "import numpy",
    "import hparams_lab": "import hparams_lab",
    "from hparams_lab import start_run": "from hparams_lab import start_run",
    "from hparams_lab import HParam, Experiment": "from hparams_lab import HParam, Experiment",
    "from tensorboard.plugins.hparams import api": "from tensorboard.plugins.hparams import api; api.HParam",
}


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


if __name__ == "__main__":
    main()
