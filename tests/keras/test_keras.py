"""Keras domains and `RunCallback`: one real sweep, small, and what goes wrong. Keras itself runs in other processes.

This process must not import Keras or scikit-learn: every fork server that it starts later would import them too.
"""

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest

import hparams_lab as lab
from hparams_lab.core.errors import DataError
from hparams_lab.core.outcome import Outcome
from hparams_lab.targets.builtin import mnist

pytestmark = pytest.mark.skipif(
    not all(map(find_spec, ("keras", "tensorflow", "sklearn"))), reason="needs Keras, TensorFlow and scikit-learn"
)

NET = """
import hparams_lab as lab

EXPERIMENT = lab.Experiment(
    [lab.HParam("units", lab.Discrete([8, 16])), lab.HParam("epochs", lab.Discrete([2]))], [lab.Metric("accuracy")]
)

def build_model(hparams):
    import keras
    model = keras.Sequential([keras.layers.Dense(hparams["units"], "relu"), keras.layers.Dense(10, "softmax")])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model

def load_data():
    from sklearn.datasets import load_digits
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype("float32")
    return (images[:400], labels[:400]), (images[400:500], labels[400:500]), (images[500:700], labels[500:700])
"""

# What needs Keras at hand, in one process: it is slow to import.
SCRIPT = """
import json
import keras
import hparams_lab as lab
import net
from hparams_lab.core.errors import DataError
from hparams_lab.keras import RunCallback

def silent(event): ...

def sweep(name, text):
    with open(f"{name}.py", "w") as file:
        file.write("from net import *\\n" + text)
    try:
        return lab.run_sweep(f"./{name}.py", logdir=f"logs/{name}", executor="inline", trials=1, observe=silent)
    except DataError as error:
        return str(error)

test = net.load_data()[-1]
model = keras.models.load_model("logs/net/run-0001/model.keras")
found = {"evaluated": model.evaluate(*test, verbose=0, return_dict=True)["accuracy"], "refused": {}}
sweep("again", "")
sweep("no_model", "def build_model(hparams): return 3")
sweep("own_options", '''
import keras
def fit_options(hparams): return {"epochs": 1, "callbacks": [keras.callbacks.TerminateOnNaN()]}
def final_metrics(logs): return {"accuracy": logs["accuracy"] / 2}
''')
wrong = {"array": "test[0]", "pair": "(test,)", "none": "None", "uneven": "(test, (test[0], test[1][:9]))"}
for name, data in wrong.items():
    found["refused"][name] = sweep(name, f"test = load_data()[-1]\\ndef load_data(): return {data}")
with lab.start_run("logs/own", hparams={"units": 8}) as run:
    model = net.build_model(run.hparams)
    model.fit(*test, epochs=3, verbose=0, validation_data=test, callbacks=[RunCallback(run)])
print(json.dumps(found))
"""

# What comes after a training, and goes wrong; one run each, in one process.
AFTERWARDS = """
import json
import lab_domains
import hparams_lab as lab
from hparams_lab.targets.load import load_domain
from hparams_lab.sweep.events import SweepNote

notes = {}
for name, text in lab_domains.TEXTS.items():
    with open(f"{name}.py", "w") as file:
        file.write("from net import *\\nimport keras\\n" + text)
    events = []
    domain = load_domain(f"./{name}.py", save_model=name in lab_domains.SAVED)
    lab.run_sweep(domain, logdir=f"logs/{name}", executor="inline", trials=1, observe=events.append)
    notes[name] = [event.text for event in events if isinstance(event, SweepNote)]
print(json.dumps(notes))
"""

VALIDATED = 'EXPERIMENT = lab.Experiment(EXPERIMENT.hparams, [lab.Metric("val/accuracy"), lab.Metric("val/loss")])\n'
NARROW_TEST = "old = load_data\ndef load_data(): return *old()[:2], (old()[2][0][:, :9], old()[2][1])\n"
TEXTS = {
    "unsavable": """
class Scale(keras.layers.Layer):
    def __init__(self, how):
        super().__init__()
        self.how = how
    def call(self, x):
        return self.how(x)
usual = build_model
def build_model(hparams):
    model = usual(hparams)
    found = keras.Sequential([Scale(lambda x: 2 * x), *model.layers])
    found.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return found
""",
    "refuses": """
class Net(keras.Sequential):
    def save(self, *args, **kwargs):
        raise MemoryError("too large")
usual = build_model
def build_model(hparams):
    found = Net(usual(hparams).layers)
    found.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return found
""",
    "not_evaluated": VALIDATED + NARROW_TEST,
    "not_judged": NARROW_TEST,
    "final_metrics_raise": VALIDATED + "def final_metrics(logs): return {'accuracy': logs['acc']}",
    "restored": VALIDATED
    + """
class Last(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if epoch > 1:  # far away from what was learned
            self.model.set_weights([0 * weights for weights in self.model.get_weights()])
            logs |= dict(val_loss=9.0, val_accuracy=0.0)
data = load_data()
def load_data(): return data[:2]
def fit_options(hparams):
    stop = keras.callbacks.EarlyStopping(patience=2, restore_best_weights=True)
    return {"epochs": 5, "callbacks": [Last(), stop]}
""",
}


def python(*arguments, cwd):
    ran = subprocess.run([sys.executable, *arguments], cwd=cwd, env={**os.environ}, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """The log directories of a sweep by the command line, a process per run, and of all that `SCRIPT` does."""
    folder = tmp_path_factory.mktemp("keras")
    (folder / "net.py").write_text(NET)
    python("-m", "hparams_lab", "run", "net.py", "--save-model", "--seed", "0", cwd=folder)
    (folder / "script.py").write_text(SCRIPT)
    found = python("script.py", cwd=folder).splitlines()[-1]
    (folder / "logs/found.json").write_text(found)
    return folder / "logs"


@pytest.fixture(scope="module")
def afterwards(tmp_path_factory):
    """What the sweeps of `AFTERWARDS` noted, by name; their log directories."""
    folder = tmp_path_factory.mktemp("afterwards")
    (folder / "net.py").write_text(NET)
    (folder / "lab_domains.py").write_text(f"TEXTS, SAVED = {TEXTS!r}, ('unsavable', 'refuses', 'not_judged')")
    (folder / "script.py").write_text(AFTERWARDS)
    return json.loads(python("script.py", cwd=folder).splitlines()[-1]), folder / "logs"


@pytest.fixture
def found(logs):
    return json.loads((logs / "found.json").read_text())


def test_epochs_and_final_metrics(logs):
    runs = lab.read(logs / "net").runs
    assert [(run.hparams["units"], run.outcome, run.reason) for run in runs] == [
        (8, Outcome.COMPLETED, ""),
        (16, Outcome.COMPLETED, ""),
    ]
    for run in runs:
        of_epochs = {f"{kind}/{name}" for kind in ("train", "val") for name in ("accuracy", "loss")}
        assert run.metrics.keys() == {"accuracy", "loss"} | of_epochs
        assert all(run.scalars(tag).steps.tolist() == [1, 2] for tag in of_epochs)
        assert [run.scalars(tag).steps.tolist() for tag in ("accuracy", "loss")] == [[2], [2]]  # on the test data
        assert run.scalars("train/loss").values[1] < run.scalars("train/loss").values[0]


def test_a_saved_model_is_the_one_that_was_judged(logs, found):
    other, judged = (run.metrics["accuracy"] for run in lab.read(logs / "net").runs)
    assert found["evaluated"] == pytest.approx(judged, abs=1e-6)
    assert other != judged
    assert not [*logs.glob("again/*/model.keras")]


def test_same_seed_same_numbers_in_every_process(logs):
    once, again = lab.read(logs / "net").runs[0], lab.read(logs / "again").runs[0]
    assert (once.hparams, once.metrics) == (again.hparams, pytest.approx(dict(again.metrics), rel=1e-6))
    assert once.scalars("loss").values.tolist() == pytest.approx(again.scalars("loss").values.tolist(), rel=1e-6)


def test_a_model_that_is_none_is_a_failed_run(logs):
    (run,) = lab.read(logs / "no_model").runs
    assert run.outcome is Outcome.FAILED
    assert run.reason == "DomainLoadError: build_model() returned int; wanted a compiled keras.Model"


def test_fit_options_and_final_metrics_of_the_domain(logs):
    for run in lab.read(logs / "own_options").runs:
        assert run.scalars("val/loss").steps.tolist() == [1]
        assert run.metrics["accuracy"] <= 0.5


WRONG = "load_data() returned something else than (x_train, y_train), (x_test, y_test); return such pairs"


def test_data_of_the_wrong_form_are_refused_before_anything_is_written(logs, found):
    uneven = "load_data() returned 200 inputs with 9 targets; give one target each"
    assert found["refused"] == {"array": WRONG, "pair": WRONG, "none": WRONG, "uneven": uneven}
    assert not {path.name for path in logs.iterdir()} & found["refused"].keys()


def test_the_callback_in_a_loop_of_ones_own(logs):
    (run,) = lab.read(logs / "own").runs
    assert run.outcome is Outcome.COMPLETED
    assert run.metrics.keys() == {"accuracy", "loss", "val/accuracy", "val/loss"}
    assert run.scalars("loss").steps.tolist() == [1, 2, 3]


LOST = "its model was not kept: "


@pytest.mark.parametrize(
    ("name", "why"), [("unsavable", "NotImplementedError: "), ("refuses", "MemoryError: too large")]
)
def test_a_model_that_cannot_be_saved_costs_a_line_and_not_the_run(afterwards, name, why):
    notes, logs = afterwards
    (run,) = lab.read(logs / name).runs
    assert (run.outcome, run.reason) == (Outcome.COMPLETED, "")
    assert {"accuracy", "loss", "val/loss"} <= run.metrics.keys()
    assert not [path for path in run.dir.iterdir() if "model" in path.name]
    said = run.texts["run/note/model"]
    assert said.startswith(LOST + why)
    assert len(said) < 350
    picture = "no picture of what run-0000, the best, predicts: it kept no model.keras"
    assert notes[name] == [f"run-0000: {said}", picture]
    shown = python("-m", "hparams_lab", "show", str(logs / name), "best", cwd=logs)
    assert LOST in shown
    as_json = json.loads(python("-m", "hparams_lab", "show", str(logs / name), "best", "--json", cwd=logs))
    assert as_json["runs"][0]["notes"] == [said]


def test_an_evaluation_that_fails_leaves_what_the_epochs_told(afterwards):
    notes, logs = afterwards
    for name in ("not_evaluated", "final_metrics_raise"):
        (run,) = lab.read(logs / name).runs
        assert (run.outcome, run.scalars("val/accuracy").steps.tolist()) == (Outcome.COMPLETED, [1, 2])
        (note,) = notes[name]
        assert note.startswith("run-0000: its final metrics are missing: ")
    (judged,) = lab.read(logs / "not_judged").runs
    assert (judged.outcome, judged.scalars("val/loss").steps.tolist()) == (Outcome.FAILED, [1, 2])
    assert (judged.dir / "model.keras").is_file()


def test_a_run_is_judged_by_the_weights_that_were_restored(afterwards):
    notes, logs = afterwards
    (run,) = lab.read(logs / "restored").runs
    assert run.scalars("val/loss").steps.tolist() == [1, 2, 3, 4, 5]
    assert run.metrics["best_epoch"] == 2
    assert run.metrics["val/loss"] == pytest.approx(run.metrics["loss"], rel=1e-5)  # of the model that was kept
    assert run.metrics["val/accuracy"] == pytest.approx(run.metrics["accuracy"], abs=1e-6)
    assert run.metrics["train/loss"] == run.scalars("train/loss").values[1]
    assert notes["restored"] == []


def arrays(**changed):
    """A small data file of MNIST's form: 20 images to train, 10 to test."""
    rng = np.random.default_rng(0)
    good = {
        "x_train": rng.integers(0, 256, (20, 28, 28), np.uint8),
        "y_train": np.arange(20) % 10,
        "x_test": rng.integers(0, 256, (10, 28, 28), np.uint8),
        "y_test": np.arange(10),
    }
    return {name: array for name, array in {**good, **changed}.items() if array is not None}


def test_mnist_from_a_file(tmp_path):
    np.savez(tmp_path / "small.npz", **arrays(more=np.zeros(3)))
    (x_train, y_train), (x_test, y_test) = mnist.load_data(str(tmp_path / "small.npz"))
    assert (x_train.shape, y_train.shape, x_test.shape, y_test.shape) == ((20, 784), (20, 10), (10, 784), (10, 10))
    assert (x_train.min(), x_train.max(), x_train.dtype) == (0, 1, np.float32)
    assert (y_test == np.eye(10)).all()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"y_test": None}, r"has no array 'y_test'; wanted x_train, y_train, x_test, y_test$"),
        ({"x_train": np.zeros((20, 784))}, r"has x_train of shape \(20, 784\); wanted \('?n'?, 28, 28\)$"),
        ({"y_train": np.zeros((20, 10))}, r"has y_train of shape \(20, 10\); wanted \(n,\)$"),
        ({"y_train": np.arange(9)}, r"has 20 train images and 9 labels; wanted one each$"),
        (
            {"x_test": np.zeros((0, 28, 28)), "y_test": np.arange(0)},
            r"has 0 test images and 0 labels; wanted one each$",
        ),
        ({"y_test": np.arange(10) + 1}, r"has labels in y_test that are not the integers 0 to 9$"),
        ({"y_test": np.linspace(0, 9, 10)}, r"has labels in y_test that are not the integers 0 to 9$"),
    ],
)
def test_mnist_from_a_file_that_does_not_fit(tmp_path, changed, message):
    np.savez(tmp_path / "small.npz", **arrays(**changed))
    with pytest.raises(DataError, match=rf"^the data file /.*/small.npz {message}"):
        mnist.load_data(str(tmp_path / "small.npz"))


def test_mnist_from_what_is_no_data_file(tmp_path):
    with pytest.raises(
        DataError, match=r"^the data file .*/none.npz does not exist; give a file with --data mnist.npz"
    ):
        mnist.load_data(str(tmp_path / "none.npz"))
    (tmp_path / "text.npz").write_text("text")
    with pytest.raises(DataError, match=r"^the data file .*/text.npz cannot be read as .npz \(.*\); give a file with"):
        mnist.load_data(str(tmp_path / "text.npz"))


def test_a_data_file_that_does_not_fit_is_one_line(tmp_path):
    np.savez(tmp_path / "small.npz", **arrays(y_test=None))
    command = [sys.executable, "-m", "hparams_lab", "run", "mnist", "--data", "small.npz"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (2, "", 1)
    assert ran.stderr.startswith("error: the data file ")
    assert "has no array 'y_test'; wanted x_train, y_train, x_test, y_test" in ran.stderr
    assert not (tmp_path / "logs").exists()


@pytest.mark.skipif(find_spec("jax") is None, reason="needs JAX (pip install 'hparams-lab[jax]')")
def test_another_backend_brings_no_tensorflow(tmp_path):
    text = """
import sys
import keras
import numpy as np
import hparams_lab as lab
from hparams_lab.keras import RunCallback

with lab.start_run("logs", hparams={"units": 4}) as run:
    model = keras.Sequential([keras.layers.Dense(run.hparams["units"]), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x, y = np.ones((8, 2)), np.ones((8, 1))
    model.fit(x, y, epochs=2, batch_size=4, verbose=0, callbacks=[RunCallback(run, batch_every=1, extras=True)])
assert keras.backend.backend() == "jax" and "tensorflow" not in sys.modules
"""
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    ran = subprocess.run([sys.executable, "-c", text], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    (run,) = lab.read(tmp_path / "logs").runs
    assert run.scalars("batch/loss").steps.tolist() == [1, 2, 3, 4]
    assert set(run.metrics) == {"loss", "batch/loss", "epoch/seconds", "epoch/learning_rate"}


def test_the_real_mnist(mnist_npz, tmp_path):
    command = [sys.executable, "-m", "hparams_lab", "run", "mnist", "--data", str(mnist_npz), "--set", "hpepoch=1"]
    narrowed = ["--set", "num_units=32", "--set", "learning_rate=0.01", "--set", "optimizer=adam", "--trials", "1"]
    ran = subprocess.run([*command, *narrowed], cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    best = lab.read(tmp_path / "logs/mnist").best()
    assert best.metrics["hpaccuracy"] > 0.93
    assert best.metrics["hpaccuracy"] == best.metrics["val/accuracy"]
    assert best.metrics["hpmse"] < 0.02
