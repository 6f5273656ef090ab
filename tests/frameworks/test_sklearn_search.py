"""scikit-learn's searches, logged: real searches over quick estimators on the digits."""

import json
import os
import pickle
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

# ruff: noqa: E402  what needs scikit-learn is imported behind this
sklearn = pytest.importorskip("sklearn")

import joblib
from scipy import stats
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_diabetes, load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import Ridge
from sklearn.metrics import f1_score, log_loss, make_scorer
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    HalvingRandomSearchCV,
    RandomizedSearchCV,
    ShuffleSplit,
    _search,
    _validation,
    cross_val_score,
)
from sklearn.model_selection._search import BaseSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from tensorboard_client import Client, eventually, values

import hparams_lab as lab
from hparams_lab.board import Board
from hparams_lab.errors import LogDirError, MissingExtraError, UsageError
from hparams_lab.integrations.sklearn import HParamsCallback, log_search
from hparams_lab.integrations.sklearn.current import current_run
from hparams_lab.results import Outcome
from hparams_lab.space import Discrete, IntInterval, RealInterval

X, Y = (part[:300] for part in load_digits(return_X_y=True))
GRID = {"max_depth": [2, 5, None], "min_samples_leaf": [1, 3]}
HAS_CALLBACKS = hasattr(GridSearchCV, "set_callbacks")
BACKENDS = [None, "loky", "threading", "multiprocessing"]


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


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_grid_search_is_trials_and_folds(tmp_path, backend):
    search = tree_search(n_jobs=None if backend is None else 2)
    assert log_search(search, tmp_path / "grid") is search
    with joblib.parallel_config(backend=backend) if backend else joblib.parallel_config():
        assert search.fit(X, Y) is search
    found = check_record(tmp_path / "grid", search)
    assert [dict(trial.hparams) for trial in found.trials] == search.cv_results_["params"]
    assert found.objective == "val/accuracy"
    assert dict(found.best().hparams) == search.best_params_
    assert found.experiment.name == "GridSearchCV of DecisionTreeClassifier"
    assert {hparam.name: hparam.domain for hparam in found.experiment.hparams} == {
        "max_depth": Discrete([2, 5, None]),
        "min_samples_leaf": Discrete([1, 3]),
    }
    assert json.loads((tmp_path / "grid/sweep.json").read_text())["by"] == "GridSearchCV"


def test_the_search_is_as_it_would_be_without(tmp_path):
    plain = tree_search().fit(X, Y)
    logged = log_search(tree_search(), tmp_path / "grid").fit(X, Y)
    assert vars(logged).keys() - vars(plain).keys() == {"_skl_callbacks" if HAS_CALLBACKS else "fit"}
    for name, column in plain.cv_results_.items():
        if "time" not in name:
            np.testing.assert_array_equal(np.ma.filled(logged.cv_results_[name], -1), np.ma.filled(column, -1))
    assert {type(parameters) for parameters in logged.cv_results_["params"]} == {dict}
    assert type(logged.best_params_) is dict
    assert pickle.loads(pickle.dumps(logged)).best_params_ == plain.best_params_
    assert pickle.loads(pickle.dumps(logged.best_estimator_)).get_params() == plain.best_estimator_.get_params()
    assert b"hparams_lab" not in pickle.dumps(logged.best_estimator_)
    assert _search._fit_and_score is _validation._fit_and_score
    assert [path.name for path in tmp_path.iterdir()] == ["grid"]


def test_a_search_that_is_fitted_again_logs_beside(tmp_path):
    search = log_search(tree_search(), tmp_path / "grid").fit(X, Y)
    again = search.set_params(param_grid={"max_depth": [4]}).fit(X, Y)
    check_record(tmp_path / "grid-1", again)
    assert [len(lab.read(tmp_path / name).trials) for name in ("grid", "grid-1")] == [6, 1]
    assert {path.name for path in tmp_path.iterdir()} == {"grid", "grid-1"}


def test_a_search_that_is_to_be_logged_can_be_pickled(tmp_path):
    copy = pickle.loads(pickle.dumps(log_search(tree_search(), tmp_path / "grid")))
    copy.fit(X, Y)
    check_record(tmp_path / "grid-1", copy)


def test_a_random_search_has_the_distributions_as_domains(tmp_path):
    space = {"C": stats.loguniform(1e-3, 1e2), "degree": stats.randint(2, 5), "kernel": ["rbf", "poly"]}
    search = log_search(RandomizedSearchCV(SVC(), space, n_iter=5, cv=2, random_state=0), tmp_path / "random")
    found = check_record(tmp_path / "random", search.fit(X, Y))
    assert {hparam.name: hparam.domain for hparam in found.experiment.hparams} == {
        "C": RealInterval(1e-3, 1e2, scale="log"),
        "degree": IntInterval(2, 4),
        "kernel": Discrete(["rbf", "poly"]),
    }
    assert [trial.hparams["C"] for trial in found.trials] == [row["C"] for row in search.cv_results_["params"]]


@pytest.mark.parametrize("kind", [HalvingGridSearchCV, HalvingRandomSearchCV])
def test_a_halving_search_has_a_trial_for_each_row_with_its_resources(tmp_path, kind):
    space = {"max_depth": [2, 4, 6, 8], "min_samples_leaf": [1, 4]}
    search = log_search(kind(DecisionTreeClassifier(), space, cv=2, random_state=0, factor=2), tmp_path / "halving")
    results = search.fit(X, Y).cv_results_
    last = max(results["iter"])
    found = check_record(tmp_path / "halving", search, pruned=int(sum(results["iter"] < last)))
    assert last > 1
    best = found.best()
    assert {name: best.hparams[name] for name in search.best_params_} == search.best_params_
    assert best.hparams["iter"] == last
    for row, trial in enumerate(found.trials):
        this = results["iter"][row]
        went_on = [results["params"][other] for other in np.flatnonzero(results["iter"] == this + 1)]
        whether = f"went on in iteration {this + 1}"
        if results["params"][row] not in went_on:
            whether = f"left out after iteration {this}"
        assert {run.reason for run in trial.runs} == {"" if this == last else whether}
    assert [(trial.hparams["iter"], trial.hparams["n_resources"]) for trial in found.trials] == [
        *zip(results["iter"], results["n_resources"], strict=True)
    ]
    domains = {hparam.name: hparam.domain for hparam in found.experiment.hparams}
    assert domains["iter"] == Discrete(dict.fromkeys(results["iter"]))
    assert domains["n_resources"] == Discrete(dict.fromkeys(results["n_resources"]))
    assert domains["max_depth"] == Discrete([2, 4, 6, 8])


def test_the_resource_of_a_halving_search_can_be_a_parameter(tmp_path):
    search = HalvingGridSearchCV(
        RandomForestClassifier(random_state=0),
        {"max_depth": [2, 6]},
        cv=2,
        resource="n_estimators",
        max_resources=8,
        min_resources=4,
        factor=2,
    )
    rows = log_search(search, tmp_path / "halving").fit(X, Y).cv_results_["params"]
    found = check_record(tmp_path / "halving", search, pruned=sum(row["n_estimators"] < 8 for row in rows))
    reasons = [trial.runs[0].reason for trial in found.trials]
    assert sorted(reasons) == ["", "left out after iteration 0", "went on in iteration 1"]
    assert [trial.hparams["n_estimators"] for trial in found.trials] == [row["n_estimators"] for row in rows]


class Hill(BaseSearchCV):
    """A search as others write them: it tries on from where the best was."""

    def __init__(self, estimator, *, cv=None):
        super().__init__(estimator, cv=cv)

    def _run_search(self, evaluate_candidates):
        results = evaluate_candidates([{"max_depth": 2}, {"max_depth": 3}])
        best = results["params"][int(np.argmin(results["rank_test_score"]))]
        evaluate_candidates([{"max_depth": best["max_depth"] + 2}])


def test_any_search_made_like_them_is_logged(tmp_path):
    search = log_search(Hill(DecisionTreeClassifier(random_state=0), cv=2), tmp_path / "hill").fit(X, Y)
    found = check_record(tmp_path / "hill", search)
    depths = [row["max_depth"] for row in search.cv_results_["params"]]
    assert [trial.hparams["max_depth"] for trial in found.trials] == depths
    assert found.experiment.hparam("max_depth").domain == Discrete(depths)


def test_parameters_that_some_grids_lack_are_absent(tmp_path):
    grids = [{"svc__kernel": ["linear"], "svc__C": [1, 10]}, {"svc__kernel": ["rbf"], "svc__gamma": [0.01]}]
    search = GridSearchCV(make_pipeline(StandardScaler(), SVC()), grids, cv=2)
    found = check_record(tmp_path / "grids", log_search(search, tmp_path / "grids").fit(X, Y))
    assert [dict(trial.hparams) for trial in found.trials] == search.cv_results_["params"]
    assert found.experiment.name == "GridSearchCV of SVC"


def test_a_search_without_parameters(tmp_path):
    found = check_record(tmp_path / "none", log_search(tree_search({}), tmp_path / "none").fit(X, Y))
    assert [dict(trial.hparams) for trial in found.trials] == [{"estimator": "DecisionTreeClassifier"}]


def test_a_candidate_that_is_drawn_twice_is_two_trials(tmp_path):
    search = RandomizedSearchCV(DecisionTreeClassifier(), {"max_depth": stats.randint(2, 4)}, n_iter=5, cv=2)
    found = check_record(tmp_path / "twice", log_search(search, tmp_path / "twice").fit(X, Y))
    assert len({trial.id for trial in found.trials}) == 5
    assert {trial.hparams["max_depth"] for trial in found.trials} <= {2, 3}


def test_objects_are_text_and_that_is_said_once(tmp_path):
    pipeline = make_pipeline(StandardScaler(), DecisionTreeClassifier())
    grid = {
        "standardscaler": [StandardScaler(with_mean=False), "passthrough"],
        "decisiontreeclassifier__max_depth": [2],
    }
    search = log_search(GridSearchCV(pipeline, grid, cv=2, n_jobs=2), tmp_path / "objects")
    with pytest.warns(UserWarning, match=r"values are logged as text: standardscaler$") as said:
        search.fit(X, Y)
    assert len([warning for warning in said if "as text" in str(warning.message)]) == 1
    found = lab.read(tmp_path / "objects")
    assert {trial.hparams["standardscaler"] for trial in found.trials} == {
        "StandardScaler(with_mean=False)",
        "passthrough",
    }
    assert isinstance(search.cv_results_["params"][0]["standardscaler"], StandardScaler)


# ---- scores


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


# ---- what goes wrong


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


@pytest.mark.parametrize("jobs", [None, 2])
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::sklearn.exceptions.FitFailedWarning")
def test_a_fold_that_does_not_work_says_why(tmp_path, jobs):
    grid = {"how": ["well", "raises", "cannot", "diverges"]}
    log_search(GridSearchCV(Odd(), grid, cv=2, n_jobs=jobs), tmp_path / "odd").fit(X, Y)
    found = lab.read(tmp_path / "odd")
    assert [(trial.outcome, trial.runs[1].reason) for trial in found.trials] == [
        (Outcome.COMPLETED, ""),
        (Outcome.FAILED, "ValueError: no such thing as a line"),
        (Outcome.FAILED, "RuntimeError: cannot predict"),
        (Outcome.DIVERGED, "the score 'val/accuracy' is nan"),
    ]
    well, raises, cannot, diverges = (trial.runs[0] for trial in found.trials)
    assert "ValueError: no such thing" in raises.texts["run/outcome"]
    assert "Traceback" in cannot.texts["run/outcome"]
    assert "val/accuracy" not in {*raises.metrics, *cannot.metrics}
    assert np.isnan(diverges.metrics["val/accuracy"])
    assert well.metrics["rank_test_score"] == 1
    assert raises.metrics["rank_test_score"] == 2
    assert "mean_test_score" not in raises.metrics
    assert well.metrics["refit"] == 1


def cannot_score(y, predicted):
    raise RuntimeError("cannot score")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_one_of_several_scorers_that_fails(tmp_path):
    scoring = {"odd": make_scorer(cannot_score), "accuracy": "accuracy"}
    search = log_search(tree_search(cv=2, scoring=scoring, refit="accuracy"), tmp_path / "two").fit(X, Y)
    for run in lab.read(tmp_path / "two").runs:
        assert (run.outcome, run.reason) == (Outcome.FAILED, "RuntimeError: cannot score")
        assert "val/odd" not in run.metrics
        assert "val/accuracy" in run.metrics
    assert np.isfinite(search.best_score_)


@pytest.mark.parametrize("backend", ["loky", "threading"])  # the pool of multiprocessing may hang when it is ended
def test_an_error_that_ends_the_search_leaves_no_run_without_an_end(tmp_path, backend):
    grid = {"how": ["waits", "late"], "where": [str(tmp_path)]}
    once = ShuffleSplit(1, random_state=0)
    search = log_search(GridSearchCV(Odd(), grid, cv=once, error_score="raise", n_jobs=2), tmp_path / "odd")
    with joblib.parallel_config(backend=backend), pytest.raises(ValueError, match="too late"):
        search.fit(X, Y)
    (tmp_path / "go").touch()  # a thread goes on until its fold is through
    waits, late = eventually(
        lambda: lab.read(tmp_path / "odd").runs, lambda runs: all(run.ended is not None for run in runs)
    )
    assert (late.outcome, late.reason) == (Outcome.FAILED, "ValueError: too late")
    assert waits.outcome is (Outcome.INTERRUPTED if backend == "loky" else Outcome.COMPLETED)
    assert "_run_search" not in vars(search)
    assert _search._fit_and_score is _validation._fit_and_score
    log_search(tree_search(cv=2), tmp_path / "odd", fresh=True).fit(X, Y)  # nobody owns the directory any more


def test_an_interruption(tmp_path):
    search = log_search(GridSearchCV(Odd(), {"how": ["well", "stops", "raises"]}, cv=2), tmp_path / "odd")
    with pytest.raises(KeyboardInterrupt):
        search.fit(X, Y)
    outcomes = [(run.name, run.outcome) for run in lab.read(tmp_path / "odd").runs]
    assert outcomes == [
        ("run-0000-fold-0", Outcome.COMPLETED),
        ("run-0000-fold-1", Outcome.COMPLETED),
        ("run-0001-fold-0", Outcome.INTERRUPTED),
    ]


@pytest.mark.parametrize("backend", [None, "loky"])
def test_it_is_written_while_the_search_goes_on(tmp_path, backend):
    grid = {"how": ["well", "waits"], "where": [str(tmp_path)]}
    search = log_search(GridSearchCV(Odd(), grid, cv=2, n_jobs=2 if backend else None), tmp_path / "slow")
    fitting = threading.Thread(target=search.fit, args=(X, Y))
    fitting.start()
    try:
        going = 2 if backend else 1

        def outcomes():
            try:
                return [run.outcome for run in lab.read(tmp_path / "slow").runs]
            except LogDirError:  # no run yet
                return []

        eventually(outcomes, lambda found: found == [Outcome.COMPLETED] * 2 + [Outcome.RUNNING] * going)
        assert lab.read(tmp_path / "slow").trials[0].metrics["val/accuracy"] > 0
        assert lab.read(tmp_path / "slow").experiment.hparam("how").domain == Discrete(["well", "waits"])
    finally:
        (tmp_path / "go").touch()
        fitting.join()
    check_record(tmp_path / "slow", search)


# ---- epochs and the refit


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
    assert not [tag for tag in best.metrics if tag.startswith("refit/")]
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
pipeline = make_pipeline(StandardScaler(), KerasClassifier(build, epochs=3, batch_size=32))
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


# ---- bad input


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (DecisionTreeClassifier(), "a DecisionTreeClassifier"),
        (GridSearchCV, "the class GridSearchCV"),
        (None, "a NoneType"),
    ],
)
def test_what_is_no_search(tmp_path, given, shown):
    with pytest.raises(UsageError, match=rf"^log_search got {shown}; wanted a search of scikit-learn.*$"):
        log_search(given, tmp_path / "logs")


def test_a_search_that_was_fitted_or_is_logged_already(tmp_path):
    search = tree_search(cv=2)
    log_search(search, tmp_path / "one")
    with pytest.raises(UsageError, match=rf"^this GridSearchCV is logged already, into {tmp_path / 'one'}; .*$"):
        log_search(search, tmp_path / "two")
    search.fit(X, Y)
    with pytest.raises(UsageError, match=r"^this GridSearchCV was fitted already; .* clone\(search\)$"):
        log_search(search, tmp_path / "two")


class Counts(DecisionTreeClassifier):
    fits = 0

    def fit(self, X, y, sample_weight=None, check_input=True):
        Counts.fits += 1
        return super().fit(X, y, sample_weight, check_input)


def test_a_directory_that_holds_something_else(tmp_path):
    log_search(tree_search(cv=2), tmp_path / "logs").fit(X, Y)
    search = GridSearchCV(Counts(), {"max_depth": [2]}, cv=2)
    with pytest.raises(LogDirError, match=r"holds a search by GridSearchCV already; .*fresh=True"):
        log_search(search, tmp_path / "logs").fit(X, Y)
    assert Counts.fits == 0
    assert len(lab.read(tmp_path / "logs").runs) == 12
    log_search(search, tmp_path / "logs", fresh=True).fit(X, Y)
    check_record(tmp_path / "logs", search)
    assert len(lab.read(tmp_path / "logs.old-1").runs) == 12


def test_a_scikit_learn_whose_inside_is_another(tmp_path, monkeypatch):
    def other(estimator, X, y, *, params):
        raise AssertionError

    monkeypatch.setattr(_validation, "_fit_and_score", other)
    with pytest.raises(
        MissingExtraError, match=rf"^scikit-learn {sklearn.__version__} .*: pip install \'scikit-learn>=1\.5,<1\.10\'$"
    ):
        log_search(tree_search(), tmp_path / "logs")
    monkeypatch.undo()
    monkeypatch.setattr(_search, "_fit_and_score", other)
    with pytest.raises(MissingExtraError, match=r"something replaced its parts"):
        log_search(tree_search(), tmp_path / "logs")
    assert not [*tmp_path.iterdir()]


# ---- in TensorBoard, and by our commands


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::sklearn.exceptions.FitFailedWarning")
def test_in_tensorboard(tmp_path, lines_of):
    logdir = tmp_path / "odd"
    space = {"how": ["well", "raises", "diverges"], "where": ["here", None]}
    search = log_search(GridSearchCV(Odd(), space, cv=2), logdir).fit(X, Y)
    with Board(logdir) as board:
        client = Client(board.url)
        groups = client.loaded(groups=6, metrics=6, tag="rank_test_score")
        columns = client.columns()
        experiment = client.experiment()
        runs = client.points("run-0000-fold-0", "val/accuracy")
    assert columns["how"]["domainDiscrete"] == ["well", "raises", "diverges"]
    assert columns["where"]["domainDiscrete"] == ["here", "None"]
    assert experiment["metricInfos"][0]["name"]["tag"] == "val/accuracy"
    by_how = {}
    for group in groups:
        by_how.setdefault(group["hparams"]["how"], []).append(group)
        assert len(group["sessions"]) == 2
    statuses = {how: {session["status"] for group in of for session in group["sessions"]} for how, of in by_how.items()}
    assert statuses == {"well": {"STATUS_SUCCESS"}, "raises": {"STATUS_FAILURE"}, "diverges": {"STATUS_FAILURE"}}
    mean = search.cv_results_["mean_test_score"][0]
    for group in by_how["well"]:
        assert values(group)["val/accuracy"] == pytest.approx(mean)
        assert values(group)["mean_test_score"] == pytest.approx(mean)
    assert len(runs) == 1
    assert lines_of("doctor", logdir) == [f"{logdir}: 12 runs, nothing is wrong"]
    assert "val/accuracy" in lines_of("top", logdir)[0]
