"""What goes wrong in a logged search, and what log_search refuses."""

import threading

import numpy as np
import pytest

# ruff: noqa: E402  what needs scikit-learn is imported behind this
sklearn = pytest.importorskip("sklearn")

import joblib
from sklearn.metrics import make_scorer
from sklearn.model_selection import (
    GridSearchCV,
    ShuffleSplit,
    _search,
    _validation,
)
from sklearn.tree import DecisionTreeClassifier
from sklearn_searches import Odd, X, Y, check_record, tree_search
from tensorboard_client import eventually

import hparams_lab as lab
from hparams_lab.core.domains import Discrete
from hparams_lab.core.errors import LogDirError, MissingExtraError, UsageError
from hparams_lab.core.outcome import Outcome
from hparams_lab.integrations.sklearn import log_search


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
