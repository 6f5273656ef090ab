"""Quick searches over the digits, and what their records must say."""

from pathlib import Path

import numpy as np
import pytest

# ruff: noqa: E402  what needs scikit-learn is imported behind this
sklearn = pytest.importorskip("sklearn")

from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.tree import DecisionTreeClassifier
from tensorboard_client import eventually

import hparams_lab as lab
from hparams_lab.core.outcome import Outcome

X, Y = (part[:300] for part in load_digits(return_X_y=True))
GRID = {"max_depth": [2, 5, None], "min_samples_leaf": [1, 3]}
HAS_CALLBACKS = hasattr(GridSearchCV, "set_callbacks")
BACKENDS = [None, "loky", "threading", "multiprocessing"]


class Odd(ClassifierMixin, BaseEstimator):
    """Fails in fit or in predict, diverges, is stopped, or waits for a file to appear: as its parameter says."""

    def __init__(self, how="well", where=None):
        self.how = how
        self.where = where

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        if self.how == "raises":
            raise ValueError("no such thing\nas a line")
        if self.how == "stops":
            raise KeyboardInterrupt
        if self.how == "waits":
            Path(self.where, "waiting").touch()
            eventually(Path(self.where, "go").exists)
        if self.how == "late":
            eventually(Path(self.where, "waiting").exists)
            raise ValueError("too late")
        return self

    def predict(self, X):
        if self.how == "cannot":
            raise RuntimeError("cannot predict")
        return np.zeros(len(X))

    def score(self, X, y):
        return float("nan") if self.how == "diverges" else float(np.mean(self.predict(X) == y))


def tree_search(grid=GRID, **options):
    return GridSearchCV(DecisionTreeClassifier(random_state=0), grid, **{"cv": 3, **options})


def check_record(logdir, search, pruned=0):
    """The record of a search is what the search itself knows; so many of its first rows are of earlier iterations."""
    found = lab.read(logdir)
    results = search.cv_results_
    assert found.findings == ()
    assert [run.name for run in found.runs] == [
        f"run-{row:04d}-fold-{fold}" for row in range(len(results["params"])) for fold in range(search.n_splits_)
    ]
    assert len(found.trials) == len(results["params"])
    for row, trial in enumerate(found.trials):
        assert trial.outcome is (Outcome.PRUNED if row < pruned else Outcome.COMPLETED)
        for fold, run in enumerate(trial.runs):
            (tag,) = (tag for tag in run.metrics if tag.startswith("val/"))
            assert run.metrics[tag] == pytest.approx(results[f"split{fold}_test_score"][row], rel=1e-6)
            for name in ("mean_test_score", "std_test_score", "rank_test_score"):
                assert run.metrics[name] == pytest.approx(results[name][row], rel=1e-6)
            assert run.metrics["refit"] == (row == search.best_index_)
            assert run.hparams.keys() >= results["params"][row].keys()
        assert trial.metrics["fit_time"] == pytest.approx(results["mean_fit_time"][row], rel=1e-6)
        assert trial.metrics["score_time"] == pytest.approx(results["mean_score_time"][row], rel=1e-6)
    return found
