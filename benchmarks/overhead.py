"""The toolkit's own cost per trial: a train function that returns at once, inline and through processes.

scripts/bench overhead
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time

from _bench import in_turn, show

import hparams_lab as lab

EXPERIMENT = lab.Experiment([lab.HParam("x", lab.IntInterval(1, 10**6))], [lab.Metric("accuracy")])


def train(run: lab.Run) -> dict[str, float]:
    """Return at once."""
    return {"accuracy": 1.0}


def sweep_seconds(executor: str, trials: int, parent: str | None) -> float:
    """The wall time of a sweep of so many trials into a new directory."""
    logdir = tempfile.mkdtemp(dir=parent)
    began = time.perf_counter()
    lab.run_sweep(
        EXPERIMENT,
        train,
        logdir=logdir,
        strategy="random",
        trials=trials,
        executor=executor,
        observe=lambda event: None,
    )
    seconds = time.perf_counter() - began
    shutil.rmtree(logdir)
    return seconds


def per_trial(executor: str, trials: int, parent: str | None) -> float:
    """Milliseconds per trial, the start of the sweep taken off."""
    return (sweep_seconds(executor, trials + 1, parent) - sweep_seconds(executor, 1, parent)) / trials * 1e3


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--dir", help="where to write; a temporary directory when left out")
    options = parser.parse_args()
    contenders = {
        name: lambda name=name: per_trial(name, options.trials, options.dir) for name in ("inline", "process")
    }
    figures = in_turn(contenders, options.rounds)
    show("Cost of a trial that returns at once", "ms a trial", figures, "inline", ["asked: inline 2, process 50"])


if __name__ == "__main__":
    main()
