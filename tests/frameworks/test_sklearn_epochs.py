"""Epochs and the refit of a logged search; searches in searches, and side by side."""

import os
import subprocess
import sys
import threading
from importlib.util import find_spec

import numpy as np
import pytest

# ruff: noqa: E402  what needs scikit-learn is imported behind this
sklearn = pytest.importorskip("sklearn")

from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import (
    GridSearchCV,
    _search,
    _validation,
    cross_val_score,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from sklearn_searches import HAS_CALLBACKS, X, Y, check_record, tree_search

import hparams_lab as lab
from hparams_lab.core.errors import UsageError
from hparams_lab.integrations.sklearn import HParamsCallback, log_search
from hparams_lab.integrations.sklearn.current import current_run


class Keeps(ClassifierMixin, BaseEstimator):
    """Keeps its epochs as Keras's own estimators do, and logs them as ours do when `logs` is true."""

    def __init__(self, epochs=2, logs=False):
        self.epochs = epochs
        self.logs = logs

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.tree_ = DecisionTreeClassifier(max_depth=self.epochs, random_state=0).fit(X, y)
        self.history_ = {"loss": [1 / (epoch + 1) for epoch in range(self.epochs)], "params": "none"}
        run = current_run()
        if self.logs and run is not None:
            for step, loss in enumerate(self.history_["loss"], 1):
                run.log({"epoch/loss": 2 * loss}, step)
        return self

    def predict(self, X):
        return self.tree_.predict(X)


@pytest.mark.parametrize("jobs", [None, 2])
@pytest.mark.parametrize("logs", [False, True])
@pytest.mark.parametrize("is_step", [False, True])
def test_epochs_are_curves_of_the_folds_and_of_the_refit(tmp_path, jobs, logs, is_step):
    estimator = make_pipeline(StandardScaler(), Keeps(logs=logs)) if is_step else Keeps(logs=logs)
    grid = {"keeps__epochs" if is_step else "epochs": [5, 3]}
    search = log_search(GridSearchCV(estimator, grid, cv=2, n_jobs=jobs), tmp_path / "keeps").fit(X, Y)
    found = check_record(tmp_path / "keeps", search)
    first = 2.0 if logs else 1.0
    for trial, epochs in zip(found.trials, [5, 3], strict=True):
        for run in trial.runs:
            curve = run.scalars("epoch/loss")
            assert curve.steps.tolist() == [*range(1, epochs + 1)]
            assert curve.values.tolist() == pytest.approx([first / step for step in range(1, epochs + 1)])
            assert run.scalars("val/accuracy").steps.tolist() == [epochs]
    best = found.best()
    curve = best.runs[0].scalars("refit/epoch/loss")
    assert curve.values[0] == first
    assert len(curve.steps) == search.best_params_[next(iter(grid))]
    assert best.runs[0].metrics["refit/fit_time"] == pytest.approx(search.refit_time_)
    assert not any(tag.startswith("refit/") for run in best.runs[1:] for tag in run.metrics)
    assert [path.parent.name for path in tmp_path.glob("keeps/*/refit")] == [best.name]


@pytest.mark.skipif(not all(map(find_spec, ("keras", "tensorflow"))), reason="needs Keras and TensorFlow")
def test_a_keras_classifier_has_its_epochs(tmp_path):
    script = """
import keras
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from hparams_lab.integrations.sklearn import KerasClassifier, log_search

def build(units=8):
    net = keras.Sequential([keras.Input((64,)), keras.layers.Dense(units, "relu"), keras.layers.Dense(10, "softmax")])
    net.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return net

X, y = (part[:300] for part in load_digits(return_X_y=True))
pipeline = make_pipeline(StandardScaler(), KerasClassifier(build, epochs=3, batch_size=32, random_state=0))
search = GridSearchCV(pipeline, {"kerasclassifier__units": [4, 16]}, cv=2)
log_search(search, "keras").fit(X, y)
"""
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, check=True, capture_output=True)
    found = lab.read(tmp_path / "keras")
    assert len(found.runs) == 4
    for run in found.runs:
        assert run.scalars("epoch/loss").steps.tolist() == [1, 2, 3]
        assert run.scalars("epoch/accuracy").steps.tolist() == [1, 2, 3]
    best = found.best().runs[0]
    assert best.metrics["refit"] == 1
    assert best.scalars("refit/epoch/loss").steps.tolist() == [1, 2, 3]


# ---- searches in searches, and side by side


def test_a_search_within_a_logged_one_logs_nothing_of_its_own(tmp_path):
    inner = GridSearchCV(Keeps(logs=True), {"epochs": [2, 6]}, cv=2)
    search = log_search(GridSearchCV(inner, {"estimator__logs": [True]}, cv=2), tmp_path / "outer").fit(X, Y)
    found = check_record(tmp_path / "outer", search)
    assert len(found.runs) == 2
    for run in found.runs:  # the curve is that of the inner refit
        assert run.scalars("epoch/loss").steps.tolist() == [*range(1, 7)]


@pytest.mark.skipif(not HAS_CALLBACKS, reason="clones keep callbacks from scikit-learn 1.9 on")
@pytest.mark.parametrize("jobs", [None, 2])
def test_each_fit_of_a_nested_search_has_a_directory_beside(tmp_path, jobs):
    search = log_search(tree_search({"max_depth": [2, 5]}, cv=2), tmp_path / "nested")
    scores = cross_val_score(search, X, Y, cv=3, n_jobs=jobs)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["nested-1", "nested-2", "nested-3"]
    assert np.isfinite(scores).all()
    assert [len(lab.read(path).runs) for path in tmp_path.iterdir()] == [4, 4, 4]
    search.fit(X, Y)
    check_record(tmp_path / "nested", search)


@pytest.mark.skipif(not HAS_CALLBACKS, reason="scikit-learn has callbacks from 1.9 on")
def test_the_callback_is_set_as_scikit_learn_sets_them(tmp_path):
    search = tree_search().set_callbacks(HParamsCallback(tmp_path / "grid"))
    check_record(tmp_path / "grid", search.fit(X, Y))
    search.fit(X, Y)
    check_record(tmp_path / "grid-1", search)
    check_record(tmp_path / "grid-2", search.fit(X, Y))
    assert len(lab.read(tmp_path / "grid").runs) == 18
    logged = tree_search().set_callbacks(HParamsCallback(tmp_path / "other"))
    with pytest.raises(UsageError, match=rf"^this GridSearchCV is logged already, into {tmp_path / 'other'}; "):
        log_search(logged, tmp_path / "third")


@pytest.mark.skipif(not HAS_CALLBACKS, reason="scikit-learn has callbacks from 1.9 on")
def test_other_callbacks_stay(tmp_path):
    from sklearn.callback import ScoringMonitor

    other = ScoringMonitor(scoring="accuracy")
    search = log_search(tree_search(n_jobs=2).set_callbacks(other), tmp_path / "grid").fit(X, Y)
    check_record(tmp_path / "grid", search)
    assert search._skl_callbacks[0] is other


def test_two_searches_at_once_in_two_threads(tmp_path):
    searches = [log_search(tree_search({"max_depth": [2, 3, 4]}), tmp_path / name) for name in "ab"]
    plain = tree_search({"max_depth": [2, 3, 4]})
    threads = [threading.Thread(target=search.fit, args=(X, Y)) for search in [*searches, plain]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for search, name in zip(searches, "ab", strict=True):
        check_record(tmp_path / name, search)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    assert _search._fit_and_score is _validation._fit_and_score
