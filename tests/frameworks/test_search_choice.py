"""`best()` of a search's log is the one that the library itself chose: where several tie, and by a rule of its own."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV

import hparams_lab as lab
from hparams_lab.integrations.sklearn import log_search

X = np.arange(30.0)[:, None]
Y = np.arange(30) % 2


class Scores(ClassifierMixin, BaseEstimator):
    """Its score in each fold is what its parameters say, as text, whatever the data."""

    def __init__(self, folds="0.5", other=0.0, samples=1):
        self.folds, self.other, self.samples = folds, other, samples

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.fold_ = int(X[0, 0] == 0)  # the first fold holds the first example out
        return self

    def predict(self, X):
        return np.zeros(len(X))

    def score(self, X, y):
        folds = [float(one) for one in self.folds.split()]
        return folds[self.fold_ % len(folds)]


def value(estimator, X, y):
    return {"main": estimator.score(X, y), "other": estimator.other}


TIES = ["0.5", "0.7 0.8", "0.8 0.7", "0.75"]
NEAR = ["0.30000000000000004", "0.3", "0.1"]  # one in 32 bits, two in 64


def logged(search, folder):
    log_search(search, folder, objective="main" if search.scoring is value else None).fit(X, Y)
    return lab.read(folder)


def row_of(trial):
    return int(trial.name[4:8])


@pytest.mark.parametrize("folds", [TIES, TIES[::-1], NEAR, NEAR[::-1], ["0.5"] * 3])
def test_a_tie_is_broken_as_scikit_learn_breaks_it(tmp_path, folds):
    search = GridSearchCV(Scores(), {"folds": folds, "other": [0.0]}, cv=2)
    found = logged(search, tmp_path / "logs")
    assert row_of(found.best()) == row_of(found.top()[0]) == search.best_index_
    assert found.best().runs[0].metrics["refit"] == 1


def test_a_rule_of_ones_own_and_one_of_several_scores_choose(tmp_path):
    def least_other(results):
        return int(np.argmin(results["mean_test_other"]))

    for name, refit in (("rule", least_other), ("other", "main")):
        grid = {"folds": ["0.9", "0.8", "0.9", "0.1"], "other": [0.3, 0.2]}
        search = GridSearchCV(Scores(), grid, cv=2, scoring=value, refit=refit)
        found = logged(search, tmp_path / name)
        assert row_of(found.best()) == search.best_index_
        assert row_of(found.best("val/main")) == search.best_index_
        assert row_of(found.best("val/other")) == 0  # by another metric, by that alone
        assert row_of(found.top(goal="min")[0]) == 6
    both = lab.read(tmp_path)
    assert both.best().sweep == "other"
    assert [trial.sweep for trial in both.top()[:4]].count("other") >= 2


def test_a_halving_search_chooses_in_its_last_iteration(tmp_path):
    grid = {"folds": ["0.5", "0.6", "0.7", "0.70"], "other": [0.0, 1.0]}
    search = HalvingGridSearchCV(
        Scores(), grid, cv=2, factor=2, resource="samples", max_resources=4, min_resources=1, random_state=0
    )
    found = logged(search, tmp_path / "logs")
    assert row_of(found.best()) == search.best_index_
    assert float(found.best().hparams["folds"]) == 0.7
