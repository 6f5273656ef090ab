"""scikit-learn's searches, logged: real searches over quick estimators on the digits."""

import json
import pickle

import numpy as np
import pytest

# ruff: noqa: E402  what needs scikit-learn is imported behind this
sklearn = pytest.importorskip("sklearn")

import joblib
from scipy import stats
from sklearn.ensemble import RandomForestClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    HalvingRandomSearchCV,
    RandomizedSearchCV,
    _search,
    _validation,
)
from sklearn.model_selection._search import BaseSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from sklearn_searches import BACKENDS, HAS_CALLBACKS, Odd, X, Y, check_record, tree_search
from tensorboard_client import Client, values

import hparams_lab as lab
from hparams_lab.board.server import Board
from hparams_lab.core.domains import Discrete
from hparams_lab.core.intervals import IntInterval, RealInterval
from hparams_lab.integrations.sklearn import log_search


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
    trials = len(lab.read(logdir).trials)
    assert lines_of("doctor", logdir) == [f"{logdir}: 12 runs in {trials} trials, nothing is wrong"]
    assert "val/accuracy" in lines_of("top", logdir)[0]
