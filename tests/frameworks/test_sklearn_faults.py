"""A logged search when something goes wrong: with the log, with the fit before, with what the search is made of."""

import os
import shutil
import subprocess
import sys
import threading
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn")

import joblib
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import load_digits
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import LogisticRegressionCV, RidgeCV
from sklearn.metrics import f1_score, make_scorer
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, ShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier
from tensorboard_client import eventually

import hparams_lab as lab
from hparams_lab.core.errors import LogDirError, UsageError
from hparams_lab.core.outcome import Outcome
from hparams_lab.integrations import search_log
from hparams_lab.integrations.sklearn import log_search
from hparams_lab.integrations.sklearn.scores import scores_of

X, Y = (part[:300] for part in load_digits(return_X_y=True))


class Tree(ClassifierMixin, BaseEstimator):
    """A tree that does something when it is fitted for the fourth time in a search."""

    fits = 0
    hook = staticmethod(lambda: None)

    def __init__(self, depth=2):
        self.depth = depth

    def fit(self, X, y):
        Tree.fits += 1
        if Tree.fits == 4:
            Tree.hook()
        self.tree_ = DecisionTreeClassifier(max_depth=self.depth, random_state=0).fit(X, y)
        self.classes_ = self.tree_.classes_
        return self

    def predict(self, X):
        return self.tree_.predict(X)


@pytest.fixture
def in_the_fourth_fit(monkeypatch):
    def put(hook):
        monkeypatch.setattr(Tree, "fits", 0)
        monkeypatch.setattr(Tree, "hook", staticmethod(hook))

    return put


def depths(kind=GridSearchCV, estimator=None, **options):
    return kind(estimator or Tree(), {"depth": [2, 4, 6]}, **{"cv": 3, **options})


def check_as_unlogged(search):
    """It found what the same search finds when nobody logs it."""
    plain = clone(search)
    if hasattr(plain, "set_callbacks"):
        plain.set_callbacks()
    plain.fit(X, Y)
    assert search.cv_results_.keys() == plain.cv_results_.keys()
    for name, column in plain.cv_results_.items():
        if "time" not in name:
            np.testing.assert_array_equal(np.ma.filled(search.cv_results_[name], -1), np.ma.filled(column, -1))
    assert search.best_params_ == plain.best_params_
    assert search.predict(X).tolist() == plain.predict(X).tolist()


# ---- a log that cannot be written


@pytest.mark.parametrize("kind", [GridSearchCV, HalvingGridSearchCV])
@pytest.mark.parametrize("becomes", ["nothing", "a file"])
def test_a_log_that_goes_in_mid_search_costs_nothing_but_a_warning(tmp_path, in_the_fourth_fit, kind, becomes):
    def goes():
        shutil.rmtree(tmp_path / "logs")
        if becomes == "a file":
            (tmp_path / "logs").touch()

    options = {"factor": 2, "random_state": 0, "min_resources": 100} if kind is HalvingGridSearchCV else {}
    search = log_search(depths(kind, **options), tmp_path / "logs")
    in_the_fourth_fit(goes)
    with pytest.warns(UserWarning, match="is not in the log: "):
        search.fit(X, Y)
    in_the_fourth_fit(lambda: None)
    check_as_unlogged(search)
    if becomes == "nothing":
        assert not (tmp_path / "logs").exists()


FULL = """
import resource, signal, sys, warnings
sys.path.insert(0, sys.argv[1])
from test_sklearn_faults import X, Y, Tree, check_as_unlogged, depths
from hparams_lab.integrations.sklearn import log_search

def full():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))

Tree.hook = staticmethod(full)
search = log_search(depths(), "logs")
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    search.fit(X, Y)
check_as_unlogged(search)
assert any("is not in the log: " in str(warning.message) for warning in said), said
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits are of POSIX")
def test_a_full_disk_costs_nothing_but_a_warning(tmp_path):
    path = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1])])
    script = [sys.executable, "-c", FULL.replace("sys.argv[1]", "sys.argv[1].split(__import__('os').pathsep)[0]"), path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([path, os.environ.get("PYTHONPATH", "")])}
    ran = subprocess.run(script, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert (ran.returncode, ran.stderr) == (0, "")


class Sulks(Tree):
    """Its history cannot be looked at."""

    @property
    def history_(self):
        raise RuntimeError("not now")


def test_a_history_that_raises_costs_nothing_but_itself(tmp_path):
    search = log_search(depths(estimator=Sulks()), tmp_path / "logs")
    with pytest.warns(UserWarning, match=r"epochs of run-.*-fold-.* reported is not in the log: .*'not now'"):
        search.fit(X, Y)
    check_as_unlogged(search)
    found = lab.read(tmp_path / "logs")
    assert [run.outcome for run in found.runs] == [Outcome.COMPLETED] * 9
    assert [run.metrics["val/accuracy"] for run in found.trials[1].runs] == pytest.approx(
        [search.cv_results_[f"split{fold}_test_score"][1] for fold in range(3)]
    )
    assert found.best().metrics["refit"] == 1
    assert found.best().runs[0].metrics["refit/fit_time"] == pytest.approx(search.refit_time_)


class Unspeakable:
    def __repr__(self):
        raise RuntimeError("no words")


class Takes(Tree):
    def __init__(self, depth=2, thing=None):
        super().__init__(depth)
        self.thing = thing


def test_an_object_without_words_is_its_class_and_configuration(tmp_path):
    search = log_search(GridSearchCV(Takes(), {"thing": [None, Unspeakable()]}, cv=2), tmp_path / "logs")
    with pytest.warns(UserWarning, match=r"logged as text: thing$"):
        search.fit(X, Y)
    assert [trial.hparams["thing"] for trial in lab.read(tmp_path / "logs").trials] == ["None", "Unspeakable()"]


# ---- a fit after one that did not come to its end


def test_a_fit_after_one_that_was_interrupted_is_not_silently_unlogged(tmp_path, in_the_fourth_fit):
    def stop():
        raise KeyboardInterrupt

    search = log_search(depths(), tmp_path / "logs")
    in_the_fourth_fit(stop)
    with pytest.raises(KeyboardInterrupt):
        search.fit(X, Y)
    with pytest.raises(LogDirError, match=r"a search by GridSearchCV already; .*fresh=True"):
        search.fit(X, Y)
    shutil.rmtree(tmp_path / "logs")
    search.fit(X, Y)
    assert len(lab.read(tmp_path / "logs").runs) == 9
    search.fit(X, Y)  # that is logged beside
    assert sorted(path.name for path in tmp_path.iterdir()) == ["logs", "logs-1"]
    assert len(lab.read(tmp_path / "logs-1").runs) == 9


def test_a_search_whose_directory_was_taken_can_be_logged_elsewhere(tmp_path):
    search = log_search(depths(), tmp_path / "taken")
    log_search(depths(), tmp_path / "taken").fit(X, Y)
    with pytest.raises(LogDirError, match="a search by GridSearchCV already"):
        log_search(depths(), tmp_path / "taken")
    with pytest.raises(UsageError, match="is logged already"):
        log_search(search, tmp_path / "other")
    with pytest.raises(LogDirError, match="a search by GridSearchCV already"):
        search.fit(X, Y)
    log_search(search, tmp_path / "other").fit(X, Y)
    assert len(lab.read(tmp_path / "other").runs) == 9
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "taken"]


class Late(Tree):
    """Fails once a run of another thread is being made."""

    def __init__(self, depth=2, made="", is_late=False):
        super().__init__(depth)
        self.made = made
        self.is_late = is_late

    def fit(self, X, y):
        if self.is_late:
            eventually(Path(self.made).exists)
            raise ValueError("too late")
        return super().fit(X, y)


def test_a_run_that_another_thread_is_making_stays(tmp_path, monkeypatch):
    stored, ended = search_log.stored_values, threading.Event()

    def slowly(hparams, experiment):  # between the directory and its first file
        if not hparams["is_late"]:
            (tmp_path / "made").touch()
            assert ended.wait(60)
        return stored(hparams, experiment)

    monkeypatch.setattr(search_log, "stored_values", slowly)
    grid = {"is_late": [False, True], "made": [str(tmp_path / "made")]}
    once = ShuffleSplit(1, random_state=0)
    search = log_search(GridSearchCV(Late(), grid, cv=once, error_score="raise", n_jobs=2), tmp_path / "logs")
    with joblib.parallel_config(backend="threading"), pytest.raises(ValueError, match="too late"):
        search.fit(X, Y)
    ended.set()
    eventually(
        lambda: [(run.name, run.outcome) for run in lab.read(tmp_path / "logs").runs],
        lambda runs: runs == [("run-0000-fold-0", Outcome.COMPLETED), ("run-0001-fold-0", Outcome.FAILED)],
    )


# ---- scores


def test_a_named_score_that_a_function_does_not_return(tmp_path):
    def scores(estimator, X, y):
        return {"hits": float(np.mean(estimator.predict(X) == y)), "misses": 0.0}

    search = log_search(depths(scoring=scores, refit=False), tmp_path / "logs", objective="hit")
    with pytest.warns(UserWarning, match=r"returned hits, misses; trials are ranked by hits; .* objective='misses'$"):
        search.fit(X, Y)
    named = log_search(depths(scoring=scores, refit=False), tmp_path / "named", objective="misses")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        named.fit(X, Y)
    assert [lab.read(tmp_path / name).objective for name in ("logs", "named")] == ["val/hits", "val/misses"]


@pytest.mark.parametrize(
    ("estimator", "name"),
    [
        (LogisticRegressionCV(scoring="neg_log_loss"), "neg_log_loss"),
        (make_pipeline(LogisticRegressionCV(scoring="f1_macro")), "f1_macro"),
        (LogisticRegressionCV(), "accuracy"),
        (LogisticRegressionCV(scoring=make_scorer(f1_score, average="macro")), "f1_score"),
        (depths(scoring="f1_macro"), "f1_macro"),
        (depths(scoring=["accuracy", "f1_macro"], refit="f1_macro"), "f1_macro"),
        (depths(estimator=LogisticRegressionCV(scoring="f1_macro")), "f1_macro"),
        (depths(), "accuracy"),
        (HistGradientBoostingClassifier(), "accuracy"),  # its `scoring` says when to stop
        (RidgeCV(scoring="neg_mean_squared_error"), "r2"),
    ],
)
def test_the_name_of_what_an_estimator_scores_by_itself(estimator, name):
    assert scores_of(GridSearchCV(estimator, {})).tag == f"val/{name}"


# ---- Keras

KERAS = """
import warnings
import keras, numpy as np
from sklearn.datasets import load_digits
from sklearn.ensemble import BaggingClassifier
from sklearn.model_selection import GridSearchCV
import hparams_lab as lab
from hparams_lab.integrations.sklearn import KerasClassifier, log_search
from hparams_lab.integrations.sklearn.current import current_run

X, y = (part[:200] for part in load_digits(return_X_y=True))

def build(rate=0.01):
    net = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10, "softmax")])
    f1 = keras.metrics.F1Score(average=None)
    net.compile(keras.optimizers.SGD(rate), "categorical_crossentropy", metrics=["accuracy", f1])
    return net

warnings.simplefilter("error")
ours = KerasClassifier(build, epochs=2)
search = log_search(GridSearchCV(ours, {"rate": [0.001]}, cv=2, error_score="raise"), "vector").fit(X, y)
history = search.best_estimator_.history_
assert [type(value) for value in history["loss"]] == [float] * 2
assert [value.shape for value in history["f1_score"]] == [(10,)] * 2
for run in lab.read("vector").runs:
    assert run.scalars("epoch/loss").steps.tolist() == [1, 2]
    assert "epoch/f1_score" not in run.metrics

bag = BaggingClassifier(ours, n_estimators=3, random_state=0)
log_search(GridSearchCV(bag, {"estimator__rate": [0.001]}, cv=2, error_score="raise"), "bag").fit(X, y)
for run in lab.read("bag").runs:
    assert run.scalars("epoch/loss").steps.tolist() == [1, 2]

warnings.simplefilter("ignore")
for scoring, refit in ((None, False), (["accuracy", "f1_macro"], "accuracy")):
    space = {"rate": [0.001, float("inf")]}
    name = f"diverges-{refit}"
    log_search(GridSearchCV(ours, space, cv=2, scoring=scoring, refit=refit), name).fit(X, y)
    fine, broken = lab.read(name).trials
    assert [str(run.outcome) for run in (*fine.runs, *broken.runs)] == ["completed"] * 2 + ["diverged"] * 2
    assert broken.runs[0].reason.startswith("DivergedError: the model gives NaN: "), broken.runs[0].reason
raises = GridSearchCV(ours, {"rate": [float("inf")]}, cv=2, error_score="raise")
try:
    log_search(raises, "raises").fit(X, y)
except ValueError:
    pass
(run,) = lab.read("raises").runs
assert str(run.outcome) == "diverged" and run.reason.startswith("DivergedError: "), run

class Ends(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        current_run().finish()

ours = KerasClassifier(build, epochs=3, callbacks=[Ends()])
search = log_search(GridSearchCV(ours, {"rate": [0.001]}, cv=2, error_score="raise", refit=False), "ended")
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    search.fit(X, y)
assert np.isfinite(search.cv_results_["mean_test_score"]).all()
lost = [str(one.message) for one in said if "epoch 1 and those behind it" in str(one.message)]
assert len(lost) == 2 and "run-0000-fold-0" in lost[0], [*map(str, said)]
"""


@pytest.mark.slow
@pytest.mark.skipif(not all(map(find_spec, ("keras", "tensorflow"))), reason="needs Keras and TensorFlow")
def test_keras_models_with_metrics_that_are_vectors_in_an_ensemble_and_diverging(tmp_path):
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    ran = subprocess.run(
        [sys.executable, "-c", KERAS], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
