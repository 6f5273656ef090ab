"""Real Keras trainings whose runner is killed, and begun again: nothing lost or done twice, no flushed epoch lost."""

import signal
import time
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest

from faults.harness import Faults, Sweep, random_of, scaled, wait_until

pytestmark = pytest.mark.skipif(find_spec("tensorflow") is None, reason="trains with TensorFlow")

SWEEPS, TRIALS, KILLS = scaled(10, 1), scaled(6, 3), 2
DRAINED = 1.5
"""What was logged so many seconds ago is on its way into the file, whether it was flushed or not."""

COMMON = """
import os, pathlib, time
import keras, numpy
import hparams_lab as lab
from hparams_lab.core.values import trial_id

HERE = pathlib.Path(__file__).parent
EXPERIMENT = lab.Experiment([lab.HParam("x", lab.IntInterval(0, {last}))], [lab.Metric("accuracy")])

def append(name, line):
    file = os.open(HERE / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(file, (line + "\\n").encode())
    os.close(file)

class Note(keras.callbacks.Callback):
    def __init__(self, x, run=None):
        super().__init__()
        self.x, self.run = x, run

    def note(self, word):
        append("ledger", f"run-{{self.x:04d}} {{trial_id({{'x': self.x}})}} {{os.getpid()}} {{word}}")

    def on_train_begin(self, logs=None):
        self.note("begin")

    def on_epoch_end(self, epoch, logs=None):
        if self.run is not None:
            self.run.flush()
        append("epochs", f"{{self.x}} {{epoch + 1}} {{time.monotonic()}} {{logs['loss']!r}}")
        time.sleep({pause})

    def on_train_end(self, logs=None):
        self.note("end")

def load_data():
    numbers = numpy.random.default_rng(0)
    images, digits = numbers.random((384, 64), "float32"), numbers.integers(0, 10, 384)
    images[numpy.arange(384), digits] += 2
    return (images[:256], digits[:256]), (images[256:], digits[256:])

def build_model(hparams):
    model = keras.Sequential([keras.layers.Dense(8 + hparams["x"], "relu"), keras.layers.Dense(10, "softmax")])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model
"""
OF_KERAS = """
def fit_options(hparams):
    return {{"epochs": {epochs}, "batch_size": 64, "callbacks": [Note(hparams["x"])]}}
"""
BY_HAND = """
def train(run):
    from hparams_lab.keras import RunCallback
    keras.utils.set_random_seed(run.seed)
    (inputs, digits), test = load_data()
    model = build_model(run.hparams)
    callbacks = [RunCallback(run, training_tag=lambda name: f"train/{{name}}"), Note(run.hparams["x"], run)]
    model.fit(inputs, digits, batch_size=64, epochs={epochs}, verbose=0, callbacks=callbacks)
    return {{"accuracy": model.evaluate(*test, verbose=0)[1]}}
"""


class Epoch(NamedTuple):
    """An epoch of trial x, over at a time of the clock that never goes back."""

    x: int
    epoch: int
    when: float
    loss: float


class KerasSweep(Sweep):
    """A sweep of Keras models: fitted by the toolkit, their epochs written by the clock; or by hand, each flushed.

    Args: directory: its own. flushes: whether each epoch is flushed.
    """

    def __init__(self, directory: Path, flushes: bool) -> None:
        self.flushes, self.epochs = flushes, 8 if flushes else 18
        text = COMMON + (BY_HAND if flushes else OF_KERAS)
        module = text.format(last=TRIALS - 1, epochs=self.epochs, pause=0.1)
        super().__init__(directory, TRIALS, module=module)
        self.any_outcome = {f"run-{number:04d}" for number in range(TRIALS)}  # it knows the fake trials' values only

    def faults(self):
        """As `Sweep.faults`, but for what TensorFlow leaves among the temporary files when it is killed."""
        found = super().faults()
        found.strays = [path for path in found.strays if "/tmp/__autograph_generated_file" not in path]
        return found

    @property
    def noted(self):
        """The epochs that trainings went through."""
        file = self.directory / "epochs"
        lines = file.read_text().splitlines() if file.exists() else []
        rows = (line.split() for line in lines)
        return [Epoch(int(x), int(epoch), float(when), float(loss)) for x, epoch, when, loss in rows]

    def kill(self, rng):
        """Start it, kill the runner amid the epochs; how many of these had to be kept, and were."""
        runner, before = self.start(), len(self.noted)
        wanted = before + rng.randint(2, self.epochs * 2)
        assert wait_until(lambda: runner.is_over or len(self.noted) >= wanted, 120), runner.errors
        time.sleep(rng.uniform(0, 0.1))  # the moment is the point
        killed = time.monotonic()
        runner.send(signal.SIGKILL)
        self.settle(runner)
        assert runner.process.returncode == -signal.SIGKILL, (runner.process.returncode, runner.errors)
        return self.check_epochs([one for one in self.noted[before:] if self.flushes or one.when < killed - DRAINED])

    def check_epochs(self, kept):
        """These epochs are in the files; how many there are."""
        runs = {run.hparams["x"]: run for run in self.read().runs}
        for one in kept:
            points = runs[one.x].scalars("train/loss") if one.x in runs else None
            read = dict(zip(points.steps.tolist(), points.values.tolist(), strict=True)) if points else {}
            assert read.get(one.epoch) == pytest.approx(one.loss, rel=1e-6), (one, read)
        return len(kept)

    def check_done(self):
        """Every run completed, with each epoch once; what was begun twice gave the same numbers, to the last digit."""
        for run in self.read().runs:
            assert str(run.outcome) == "completed", (run.name, run.reason)
            assert run.scalars("train/loss").steps.tolist() == [*range(1, self.epochs + 1)], run.name
            assert 0 <= run.metrics["accuracy"] <= 1
        losses = {}
        for one in self.noted:
            losses.setdefault((one.x, one.epoch), set()).add(one.loss)
        assert {epoch: found for epoch, found in losses.items() if len(found) > 1} == {}
        assert len(losses) == TRIALS * self.epochs


def killed_and_resumed(directory, number):
    """A sweep that was killed so many times: what does not hold, and the epochs that had to be kept."""
    rng = random_of("keras", number)
    with KerasSweep(directory / str(number), flushes=number % 2 == 0) as sweep:
        kept = sum(sweep.kill(rng) for _ in range(KILLS))
        sweep.complete()
        sweep.check_done()
        return sweep.faults(), kept


@pytest.mark.slow
def test_killed_keras_sweeps_lose_nothing_and_no_flushed_epoch(tmp_path, figure):
    figures = figure(
        f"real Keras: {SWEEPS} sweeps x {TRIALS} trials, {SWEEPS * KILLS} kills",
        "0 lost, 0 finished twice, 0 without a terminal state, no flushed epoch lost",
    )
    found = [killed_and_resumed(tmp_path, number) for number in range(SWEEPS)]
    faults = sum((faults for faults, _ in found), Faults())
    figures.update(faults.counts)
    figures["epochs that had to be kept, and were"] = sum(kept for _, kept in found)
    assert not faults, faults.by_kind
    assert figures["epochs that had to be kept, and were"] >= SWEEPS * KILLS
