"""Restarts and halves as TensorFlow, Keras and PyTorch write them, read as TensorBoard's default loader shows them."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest
from tensorboard_client import eventually
from test_restarts import fast, steps

from hparams_lab.board.server import Board
from hparams_lab.core.curve import By, extremes
from hparams_lab.logdir.reader import read

pytestmark = pytest.mark.slow

TENSORFLOW = """
import sys, keras, numpy, tensorflow as tf
one = tf.compat.v1
root = sys.argv[1]
AGAIN = {"twice": [range(10), range(5, 8)], "thrice": [range(10), range(5, 20), range(12, 15)]}
for name, stretches in AGAIN.items():
    for number, stretch in enumerate(stretches):
        with tf.Graph().as_default():
            writer = one.summary.FileWriter(f"{root}/restarts/session-{name}", filename_suffix=f".{number}")
            writer.add_session_log(one.SessionLog(status=one.SessionLog.START), stretch[0])
            for step in stretch:
                writer.add_summary(one.Summary(value=[one.Summary.Value(tag="loss", simple_value=step)]), step)
            writer.close()
    for number, stretch in enumerate(stretches):
        writer = tf.summary.create_file_writer(f"{root}/restarts/eager-{name}", filename_suffix=f".{number}.v2")
        with writer.as_default():
            for step in stretch:
                tf.summary.scalar("loss", step, step)
        writer.close()
for run in range(2):
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    data = numpy.ones((8, 3))
    callback = keras.callbacks.TensorBoard(f"{root}/halves/keras-{run}")
    model.fit(data, data[:, :1], validation_split=0.5, epochs=2, verbose=0, callbacks=[callback])
"""
TORCH = """
import sys
from torch.utils.tensorboard import SummaryWriter
root = sys.argv[1]
for number, stretch in enumerate([range(10), range(5, 8)]):
    more = {"purge_step": stretch[0]} if number else {}
    writer = SummaryWriter(f"{root}/restarts/torch", filename_suffix=f".{number}", **more)
    for step in stretch:
        writer.add_scalar("loss", step, step)
    writer.close()
writer = SummaryWriter(f"{root}/halves/torch")
for step in range(3):
    writer.add_scalars("Loss", {"train": step, "val": step}, step)
    writer.add_scalar("rate", 0.5, step)
writer.close()
"""


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    if not importlib.util.find_spec("tensorflow"):
        pytest.skip("tensorflow is not installed (pip install 'hparams-lab[tensorflow]')")
    root = tmp_path_factory.mktemp("logs")
    programs = {"tensorflow": TENSORFLOW, "torch": TORCH}
    for package, program in programs.items():
        if importlib.util.find_spec(package):
            environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
            subprocess.run([sys.executable, "-c", program, str(root)], check=True, env=environment)
    return root


def test_restarts_are_read_as_the_default_loader_shows_them(logs):
    whole, thinned = read(logs / "restarts"), read(logs / "restarts", thin=extremes)
    with Board(logs / "restarts", 0, ["--load_fast=true"]) as board:
        for run, thin in zip(whole.runs, thinned.runs, strict=True):
            assert len(run.scalars("loss").steps) in (8, 15)
            eventually(lambda run=run: fast(board.url, run.name, "loss"), steps(run)["loss"].__eq__)
            assert thin.value("loss", By.of("best"), "max") == run.scalars("loss").values.max()


def test_halves_are_one_run(logs):
    found = {run.name: {*run.metrics} for run in read(logs / "halves").runs}
    torch = found.pop("torch", None)
    assert found.keys() == {"keras-0", "keras-1"}
    assert all({"train/epoch_loss", "validation/epoch_loss"} <= tags for tags in found.values())
    assert torch in (None, {"rate", "Loss_train/Loss", "Loss_val/Loss"})
