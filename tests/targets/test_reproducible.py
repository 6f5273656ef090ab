"""On CPU a sweep's numbers are the same to the last digit, however it is run: real Keras, in real processes.

The network is one whose numbers change with the threads that TensorFlow uses: with 1, 2 and 4 of them it trains to
three different ones.
"""

import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

import hparams_lab as lab
from hparams_lab.core.errors import HParamsLabError

pytestmark = pytest.mark.skipif(
    not all(map(find_spec, ("tensorflow", "sklearn"))),
    reason="needs TensorFlow and scikit-learn (pip install 'hparams-lab[tensorflow,sklearn]')",
)

PATIENCE = 240.0
TRIALS = 4
DOMAIN = """
import hparams_lab as lab
from hparams_lab.targets.builtin.digits import load_data

EXPERIMENT = lab.Experiment(
    [lab.HParam("filters", lab.Discrete([8, 24])), lab.HParam("rate", lab.Discrete([0.001, 0.01]))],
    [lab.Metric("accuracy", goal="max")],
    "accuracy",
)


def build_model(hparams):
    import keras

    layers = [
        keras.layers.Reshape((8, 8, 1)),
        keras.layers.Conv2D(hparams["filters"], 3, activation="relu"),
        keras.layers.BatchNormalization(),
        keras.layers.Flatten(),
        keras.layers.Dropout(0.2),
        keras.layers.Dense(10, activation="softmax"),
    ]
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.Adam(hparams["rate"]), "categorical_crossentropy", metrics=["accuracy"])
    return model


def fit_options(hparams):
    return {"epochs": 2, "batch_size": 256}
"""
SWEEP = """
import json, sys
import hparams_lab as lab

domain, logdir, options = sys.argv[1:]
lab.run_sweep(domain, logdir=logdir, observe=lambda event: None, **json.loads(options))
"""


@pytest.fixture(scope="module")
def begin(tmp_path_factory):
    """`begin(logdir, ...)`: a process that sweeps, with these options of `run_sweep`."""
    home = tmp_path_factory.mktemp("domain")
    (home / "network.py").write_text(DOMAIN)

    def call(logdir, hash_seed="0", **options):
        environment = {
            name: value for name, value in os.environ.items() if "THREADS" not in name and name != "NPROC"
        } | {"PYTHONPATH": str(Path(lab.__file__).parents[1]), "PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-c", SWEEP, str(home / "network.py"), str(logdir), json.dumps(options)]
        return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)

    return call


@pytest.fixture(scope="module")
def sweep(begin):
    """`sweep(logdir, ...)`: the numbers of a whole sweep by trial, in the order of the trials."""

    def call(logdir, **options):
        with begin(logdir, **options) as process:
            _, errors = process.communicate(timeout=PATIENCE)
            assert process.returncode == 0, errors
        return numbers_of(logdir)

    return call


def numbers_of(logdir):
    """Every number that was logged, by trial and tag, to the last digit."""
    runs = lab.read(logdir).runs
    assert [str(run.outcome) for run in runs] == ["completed"] * TRIALS
    return {
        run.trial_id: {tag: [value.hex() for value in run.scalars(tag).values.tolist()] for tag in run.metrics}
        for run in runs
    }


@pytest.fixture(scope="module")
def numbers(sweep, tmp_path_factory):
    """Those of a sweep whose runs go one after the other, a process each."""
    found = sweep(tmp_path_factory.mktemp("alone"), workers=1)
    assert len(found) == TRIALS
    assert len({json.dumps(each) for each in found.values()}) == TRIALS
    return found


@pytest.mark.slow
def test_neither_order_nor_workers_nor_the_hash_seed_matter(sweep, numbers, tmp_path):
    found = sweep(tmp_path, workers=2, strategy="random", trials=TRIALS, hash_seed="7")
    assert found == numbers
    assert list(found) != list(numbers)  # in another order


@pytest.mark.slow
def test_where_a_run_trains_does_not_matter(sweep, numbers, tmp_path):
    assert sweep(tmp_path, executor="inline") == numbers


def over_in(logdir):
    try:
        return sum(run.is_over for run in lab.read(logdir).runs)
    except HParamsLabError:
        return 0  # there is nothing in it yet


@pytest.mark.slow
def test_a_kill_on_the_way_does_not_matter(begin, sweep, numbers, tmp_path):
    with begin(tmp_path, workers=2) as process:
        deadline = time.monotonic() + PATIENCE
        while not over_in(tmp_path):
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert over_in(tmp_path) < TRIALS
    assert sweep(tmp_path, workers=2) == numbers


DRAWS = """
import random, sys
from hparams_lab.targets.seeding import seed_everything

def draw():
    import numpy as np, tensorflow as tf, keras, torch
    return [random.random(), np.random.random(), tf.random.uniform([1]).numpy()[0], float(keras.random.uniform([1])[0]),
            torch.rand(1).item()]

for seed in map(int, sys.argv[1:]):
    seed_everything(seed)
    print(*draw())
"""


def drawn(*seeds):
    """What each generator gives after each of these seeds; the frameworks are imported after the first."""
    environment = {**os.environ, "PYTHONPATH": str(Path(lab.__file__).parents[1])}
    command = [sys.executable, "-c", DRAWS, *map(str, seeds)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return [line.split() for line in ran.stdout.splitlines()]


@pytest.mark.slow
def test_a_seed_covers_every_framework_whenever_it_is_imported():
    if find_spec("torch") is None:
        pytest.skip("needs PyTorch (pip install 'hparams-lab[torch]')")
    first, second = drawn(5, 6), drawn(5, 6)
    assert first == second
    assert not {*first[0]} & {*first[1]}
