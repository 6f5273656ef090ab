"""scikit-learn's scorers, as metrics of a logged search."""

import numpy as np
import pytest

# ruff: noqa: E402  what needs scikit-learn is imported behind this
sklearn = pytest.importorskip("sklearn")

from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge
from sklearn.metrics import f1_score, log_loss, make_scorer
from sklearn.model_selection import (
    GridSearchCV,
)
from sklearn_searches import X, Y, check_record, tree_search

import hparams_lab as lab
from hparams_lab.core.errors import UsageError
from hparams_lab.core.outcome import Outcome
from hparams_lab.integrations.sklearn import log_search


def metrics_of(logdir):
    return [(metric.tag, metric.goal) for metric in lab.read(logdir).experiment.metrics]


def test_metrics_are_declared_with_the_objective_first(tmp_path):
    search = log_search(tree_search(cv=2, return_train_score=True, refit=False), tmp_path / "one").fit(X, Y)
    assert metrics_of(tmp_path / "one") == [
        ("val/accuracy", "max"),
        ("train/accuracy", "max"),
        ("rank_test_score", "min"),
        ("std_test_score", "min"),
        ("mean_test_score", "max"),
        ("fit_time", "min"),
        ("score_time", "min"),
    ]
    found = lab.read(tmp_path / "one")
    seen = [run.metrics["train/accuracy"] for run in found.trials[3].runs]
    assert seen == pytest.approx([search.cv_results_[f"split{fold}_train_score"][3] for fold in range(2)])
    assert "refit" not in found.tags
    assert not [*tmp_path.glob("one/*/refit")]


@pytest.mark.parametrize("scoring", [["accuracy", "f1_macro"], {"accuracy": "accuracy", "f1_macro": "f1_macro"}])
def test_several_scorers_with_the_one_that_refit_names_first(tmp_path, scoring):
    search = log_search(tree_search(cv=2, scoring=scoring, refit="f1_macro"), tmp_path / "two").fit(X, Y)
    tags = [tag for tag, _ in metrics_of(tmp_path / "two")]
    assert tags[:2] == ["val/f1_macro", "val/accuracy"]
    assert {"mean_test_f1_macro", "std_test_accuracy", "rank_test_accuracy"} <= {*tags}
    found = lab.read(tmp_path / "two")
    for row, trial in enumerate(found.trials):
        for name in ("accuracy", "f1_macro"):
            mean = search.cv_results_[f"mean_test_{name}"][row]
            assert trial.metrics[f"val/{name}"] == pytest.approx(mean)
            assert trial.metrics[f"mean_test_{name}"] == pytest.approx(mean)
    assert found.objective == "val/f1_macro"


def test_several_scorers_without_a_refit_need_an_objective(tmp_path):
    def search():
        return tree_search(cv=2, scoring=["accuracy", "f1_macro"], refit=False)

    with pytest.raises(UsageError, match=r"2 scorers and refit=False.* name one: objective='accuracy'$"):
        log_search(search(), tmp_path / "two")
    with pytest.raises(UsageError, match=r"objective is 'f1', which is none of .*: accuracy, f1_macro$"):
        log_search(search(), tmp_path / "two", objective="f1")
    log_search(search(), tmp_path / "two", objective="f1_macro").fit(X, Y)
    found = lab.read(tmp_path / "two")
    assert found.objective == "val/f1_macro"
    assert {"mean_test_accuracy", "rank_test_f1_macro"} <= {*found.tags}


@pytest.mark.parametrize("scoring", [[], {}, 5])
def test_no_scorer_at_all(tmp_path, scoring):
    with pytest.raises(UsageError, match=r"^scoring is .*; wanted a scorer's name, a function, or several by name$"):
        log_search(tree_search(scoring=scoring), tmp_path / "none")
    assert not (tmp_path / "none").exists()


def two_scores(estimator, X, y):
    predicted = estimator.predict(X)
    return {"hits": float(np.mean(predicted == y)), "f1": f1_score(y, predicted, average="macro")}


@pytest.mark.parametrize(("refit", "objective"), [("f1", "f1"), (False, "hits")])
def test_a_function_that_returns_several_scores(tmp_path, refit, objective):
    search = log_search(tree_search(cv=2, scoring=two_scores, refit=refit), tmp_path / "two")
    if refit:
        search.fit(X, Y)
    else:
        with pytest.warns(UserWarning, match=r"scorer returned hits, f1; .* by hits; name another: objective='f1'$"):
            search.fit(X, Y)
    found = lab.read(tmp_path / "two")
    assert found.objective == f"val/{objective}"
    assert {run.outcome for run in found.runs} == {Outcome.COMPLETED}
    assert found.trials[2].metrics["mean_test_hits"] == pytest.approx(search.cv_results_["mean_test_hits"][2])
    declared = [metric.tag for metric in found.experiment.metrics]
    assert declared[0] == f"val/{objective}"
    assert {"val/hits", "val/f1", "rank_test_f1"} <= {*declared}


@pytest.mark.parametrize(
    ("scoring", "name"),
    [
        ("roc_auc_ovr", "roc_auc_ovr"),
        (make_scorer(f1_score, average="macro"), "f1_score"),
        (make_scorer(log_loss, greater_is_better=False, response_method="predict_proba"), "neg_log_loss"),
        (lambda estimator, X, y: estimator.score(X, y), "score"),
    ],
)
def test_the_name_of_a_scorer(tmp_path, scoring, name):
    search = tree_search({"max_depth": [5]}, cv=2, scoring=scoring)
    found = check_record(tmp_path / "one", log_search(search, tmp_path / "one").fit(X, Y))
    assert found.objective == f"val/{name}"


def test_a_regressor_has_r2(tmp_path):
    search = log_search(GridSearchCV(Ridge(), {"alpha": [0.1, 1]}, cv=2), tmp_path / "ridge")
    assert check_record(tmp_path / "ridge", search.fit(*load_diabetes(return_X_y=True))).objective == "val/r2"
