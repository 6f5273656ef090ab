"""What a tuner's trials came to: metrics that are arrays, and trials that tie. Models are tiny and eager."""

import keras
import numpy as np
import pytest

# ruff: noqa: E402  what needs keras-tuner is imported behind this
keras_tuner = pytest.importorskip("keras_tuner")

import hparams_lab as lab
from hparams_lab.core.outcome import Outcome
from hparams_lab.integrations.keras_tuner import log_to

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # keras-tuner's own

X = np.random.default_rng(0).normal(size=(8, 2)).astype("float32")
Y = np.eye(2)[(X[:, 0] > 0).astype(int)]


def build(hp):
    model = keras.Sequential([keras.layers.Dense(hp.Int("units", 2, 9)), keras.layers.Dense(2, "softmax")])
    metrics = [keras.metrics.F1Score(average=None), keras.metrics.R2Score(name="r2")]
    model.compile("sgd", "categorical_crossentropy", metrics=metrics, run_eagerly=True)
    return model


class Scores(keras.callbacks.Callback):
    """Reports these scores, trial by trial; keras-tuner copies callbacks, but not this one."""

    def __init__(self, scores):
        super().__init__()
        self.scores = list(scores)

    def __deepcopy__(self, memo):
        return self

    def on_epoch_end(self, epoch, logs=None):
        logs["val_score"] = np.array([self.scores.pop(0)])


def searched(folder, direction, scores, **options):
    goal = keras_tuner.Objective("val_score", direction)
    options = {"max_trials": len(scores), "seed": 0, "directory": folder / "tuner", **options}
    tuner = log_to(keras_tuner.RandomSearch(build, goal, **options), folder / "logs")
    data = {"validation_data": (X, Y), "batch_size": 8, "epochs": 1, "verbose": 0}
    tuner.search(X, Y, callbacks=[Scores(scores)], **data)
    return tuner, lab.read(folder / "logs")


@pytest.mark.parametrize(
    ("direction", "scores", "ranked"), [("max", [0.1, 0.7, 0.7], [1, 2, 0]), ("min", [2, 2], [0, 1])]
)
def test_of_trials_that_tie_the_tuners_first_is_the_best(tmp_path, direction, scores, ranked):
    tuner, found = searched(tmp_path, direction, scores)
    order = [int(trial.trial_id) for trial in tuner.oracle.get_best_trials(3)]
    assert [int(trial.name[4:8]) for trial in found.top()] == order == ranked
    assert found.best().metrics["val/score"] == pytest.approx(scores[ranked[0]])


def test_arrays_are_numbers_or_a_tag_for_each_element(tmp_path):
    """Warnings are errors, and an array ended the log of a whole search."""
    _, found = searched(tmp_path, "max", [0.5])
    (run,) = found.runs
    assert run.outcome is Outcome.COMPLETED
    assert run.metrics["val/score"] == 0.5  # an array of one number
    tags = {f"{place}/{name}" for place in ("train", "val") for name in ("loss", "r2", "f1_score/0", "f1_score/1")}
    assert run.metrics.keys() == {*tags, "val/score", "best_epoch"}
    assert {metric.tag for metric in found.experiment.metrics} >= {*tags}
