"""The MNIST sweep: `hparams-lab run mnist` against the same 32 trainings as a plain loop over TensorBoard's API.

Both are whole commands, from the start of the interpreter to the last byte written.

    scripts/bench sweep --data mnist.npz
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from _bench import ROOT, in_turn, show, wall_time

BEST: dict[str, list[float]] = {}


def plain_loop(data: str, logdir: str, trials: int) -> None:
    """What TensorBoard's tutorial teaches: loop, fit, evaluate, `tf.summary.scalar`, one process."""
    import numpy as np
    import tensorflow as tf
    from tensorboard.plugins.hparams import api as hp

    from hparams_lab.sweep.strategies import grid
    from hparams_lab.targets.builtin import mnist

    (x_train, y_train), (x_test, y_test) = mnist.load_data(data)
    with tf.summary.create_file_writer(logdir).as_default():
        hp.hparams_config(hparams=mnist.EXPERIMENT.hparams, metrics=mnist.EXPERIMENT.metrics)
    best = 0.0
    for number, suggestion in zip(range(trials), grid(mnist.EXPERIMENT), strict=False):
        hparams = dict(suggestion.hparams)
        with tf.summary.create_file_writer(f"{logdir}/run-{number}").as_default():
            hp.hparams(hparams)
            model = mnist.build_model(hparams)
            model.fit(x_train, y_train, verbose=0, **mnist.fit_options(hparams))
            logs = model.evaluate(x_test, y_test, verbose=0, return_dict=True)
            for tag, value in mnist.final_metrics(logs).items():
                tf.summary.scalar(tag, value, step=1)
            best = max(best, float(np.round(logs["accuracy"], 4)))
    Path(logdir, "best.json").write_text(json.dumps(best))


def measure_loop(data: str, trials: int) -> float:
    """Seconds of the plain loop."""
    with tempfile.TemporaryDirectory() as logdir:
        seconds = wall_time([sys.executable, __file__, "--data", data, "--loop-into", logdir, "--trials", str(trials)])
        BEST.setdefault("plain loop", []).append(json.loads(Path(logdir, "best.json").read_text()))
    return seconds


def measure_ours(data: str, trials: int, *more: str) -> float:
    """Seconds of `hparams-lab run`."""
    from hparams_lab import read

    with tempfile.TemporaryDirectory() as logdir:
        command = [sys.executable, "-m", "hparams_lab", "run", "mnist", "--data", data, "--logdir", logdir]
        seconds = wall_time([*command, "--trials", str(trials), *more])
        best = read(logdir).best()
        assert best is not None
        BEST.setdefault(" ".join(("ours", *more)), []).append(round(best.metrics["hpaccuracy"], 4))
    return seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", required=not (found := ROOT.parent / "shared/data/mnist.npz").exists(), default=str(found)
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=32)
    parser.add_argument("--one-worker", action="store_true", help="measure ours with one worker as well")
    parser.add_argument("--loop-into", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.loop_into:
        plain_loop(options.data, options.loop_into, options.trials)
        return
    contenders = {
        "hparams-lab run mnist": lambda: measure_ours(options.data, options.trials),
        "plain loop over TensorBoard's API": lambda: measure_loop(options.data, options.trials),
    }
    if options.one_worker:
        contenders["hparams-lab run mnist --workers 1"] = lambda: measure_ours(
            options.data, options.trials, "--workers", "1"
        )
    began = time.perf_counter()
    figures = in_turn(contenders, options.rounds)
    notes = [f"best accuracy of each round, {name}: {found}" for name, found in BEST.items()]
    notes.append(f"{options.trials} trainings, {options.rounds} rounds, {time.perf_counter() - began:.0f} s in all")
    show("The MNIST sweep, wall time", "s", figures, "hparams-lab run mnist", notes)


if __name__ == "__main__":
    main()
