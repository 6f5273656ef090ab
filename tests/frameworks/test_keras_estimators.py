"""`KerasClassifier` and `KerasRegressor`: what scikit-learn asks, and what a Keras model wants as data."""

import copy
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import sklearn
from joblib import parallel_backend
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.datasets import load_diabetes, load_digits
from sklearn.model_selection import GridSearchCV, StratifiedKFold, check_cv, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks
from tiers import one_quick

import hparams_lab as lab
from hparams_lab.integrations.sklearn import KerasClassifier, KerasRegressor
from hparams_lab.integrations.sklearn.current import current_run, logging_into

keras.utils.disable_interactive_logging()

DIGITS, LABELS = load_digits(return_X_y=True)
DIGITS, LABELS = DIGITS[:300] / 16, LABELS[:300]
THREES = np.where(LABELS == 3, "three", "other")


def network(width, last, loss, units=8, rate=0.05, shape=(64,), **options):
    layers = [keras.layers.Dense(units, "relu"), keras.layers.Dense(width, last)]
    model = keras.Sequential([keras.Input(shape), keras.layers.Flatten(), *layers])
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"], **options)
    return model


def build(units=8, activation="softmax", rate=0.05):
    return network(10, activation, "sparse_categorical_crossentropy", units, rate)


def build_binary(units=8, last="sigmoid", loss="binary_crossentropy", rate=0.05):
    return network(1, last, loss, units, rate)


def build_regression(y, units=8):
    model = keras.Sequential([keras.layers.Dense(units, "relu"), keras.layers.Dense(y.shape[1])])
    model.compile(keras.optimizers.Adam(0.05), "mse")
    return model


@pytest.fixture(scope="module")
def fitted():
    return KerasClassifier(build, epochs=8, random_state=0, validation_split=0.1).fit(DIGITS, LABELS)


# Parameters


def test_the_parameters_are_builds_and_ours():
    assert KerasClassifier(build, units=16, epochs=3).get_params() == {
        "units": 16, "activation": "softmax", "rate": 0.05, "build": build, "epochs": 3, "batch_size": 32,
        "validation_split": 0.0, "callbacks": None, "class_weight": None, "verbose": 0, "random_state": None,
        "warm_start": False,
    }  # fmt: skip


def test_parameters_are_set_by_name():
    estimator = KerasClassifier(build, units=16)
    assert estimator.set_params(units=4, epochs=7) is estimator
    assert (estimator.get_params()["units"], estimator.epochs) == (4, 7)
    assert make_pipeline(StandardScaler(), estimator).set_params(kerasclassifier__units=5)
    assert estimator.get_params()["units"] == 5
    assert "units=5" in repr(estimator)


def test_a_name_that_is_no_parameter_sets_nothing():
    estimator = KerasClassifier(build, units=16)
    words = r"^no parameter is called 'unit'; did you mean units\? \(of build: units, activation, rate\)$"
    with pytest.raises(ValueError, match=words):
        estimator.set_params(epochs=5, unit=3)
    with pytest.raises(lab.HParamsLabError, match=words):
        KerasClassifier(build, unit=3)
    assert (estimator.epochs, estimator.get_params()["units"]) == (1, 16)


def test_another_build_takes_the_values_it_knows():
    estimator = KerasClassifier(build, units=16, activation="relu").set_params(build=build_binary, loss="hinge")
    assert {**estimator.get_params(), "build": 0}.items() >= {"units": 16, "last": "sigmoid", "loss": "hinge"}.items()
    assert "activation" not in estimator.get_params()


def test_data_and_our_own_names_are_no_parameters_of_build():
    asked = {}

    def curious(X, y, units, epochs=99):
        asked.update(X=X.shape, y=y.shape, units=units, epochs=epochs)
        return build()

    estimator = KerasClassifier(curious)
    assert {"X", "y", "units"} & estimator.get_params().keys() == set()
    assert estimator.get_params()["epochs"] == 1
    with pytest.raises(ValueError, match=r"^build\(\) needs 'units', which has no default; give it: units=\.\.\.$"):
        estimator.fit(DIGITS, LABELS)
    estimator.set_params(units=5, epochs=2).fit(DIGITS, LABELS)
    assert asked == {"X": (300, 64), "y": (300, 10), "units": 5, "epochs": 2}


def test_a_clone_is_exact():
    stop = keras.callbacks.EarlyStopping(patience=3)
    estimator = KerasClassifier(build, units=16, epochs=3, callbacks=[stop], class_weight={0: 2.0}, warm_start=True)
    found = clone(estimator).get_params()
    assert found.pop("callbacks")[0].patience == 3
    assert found == {name: value for name, value in estimator.get_params().items() if name != "callbacks"}


# The checks of scikit-learn


def build_for_checks(X, y, classes=True):
    model = keras.Sequential([
        keras.Input(X.shape[1:], dtype="float64"),
        keras.layers.Dense(4, "tanh", dtype="float64"),  # double: the checks compare to 1e-7
        keras.layers.Dense(y.shape[1], "softmax" if classes else None, dtype="float64"),
    ])  # fmt: skip
    loss = "categorical_crossentropy" if classes else "mse"
    model.compile(
        keras.optimizers.SGD(0.5 if classes else 0.01), loss, run_eagerly=True
    )  # tracing takes longer than four epochs
    return model


CHECKED = (
    KerasClassifier(build_for_checks, epochs=4, batch_size=512),
    KerasRegressor(build_for_checks, epochs=4, batch_size=512, classes=False),
)
CANNOT = (
    "Keras divides a batch's loss by its examples, not by their weights: one of weight 0 counts, one of 2 is no two"
)
CANNOT_PASS = {
    "check_sample_weight_equivalence_on_dense_data": CANNOT,
    "check_sample_weight_equivalence": CANNOT,  # so called in scikit-learn 1.6
    "check_sample_weights_invariance(kind=zeros)": CANNOT,  # and in 1.5
}


def checks():
    for estimator in CHECKED:
        if hasattr(estimator_checks, "estimator_checks_generator"):
            found = estimator_checks.estimator_checks_generator(estimator)
        else:
            found = estimator_checks.check_estimator(estimator, generate_only=True)
        for index, (checked, check) in enumerate(found):
            options = ",".join(f"{name}={value}" for name, value in check.keywords.items())
            name = check.func.__name__ + (f"({options})" if options else "")
            marks = [pytest.mark.xfail(reason=CANNOT_PASS[name], strict=True)] if name in CANNOT_PASS else []
            is_quick = isinstance(estimator, KerasRegressor) and index % 4 == 0
            marks += [] if is_quick else [pytest.mark.slow]
            yield pytest.param(checked, check, id=f"{type(estimator).__name__}-{index}-{name}", marks=marks)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")  # so says scikit-learn 1.5
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")  # the check's own NaN
@pytest.mark.parametrize(("estimator", "check"), [*checks()])
def test_the_checks_of_scikit_learn_hold(estimator, check):
    check(estimator)


# Losses, outputs, labels


@pytest.mark.parametrize(
    ("width", "last", "loss"),
    one_quick([
        (10, "softmax", "sparse_categorical_crossentropy"),
        (10, "softmax", "categorical_crossentropy"),
        (10, None, keras.losses.SparseCategoricalCrossentropy(from_logits=True)),
        (10, None, keras.losses.CategoricalCrossentropy(from_logits=True)),
        (10, "sigmoid", keras.losses.binary_crossentropy),
        (12, "softmax", "sparse_categorical_crossentropy"),
    ]),
)  # fmt: skip
def test_every_loss_gets_the_targets_that_it_wants(width, last, loss):
    """Ten digits by their names, which are no numbers."""
    names = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])[LABELS]
    estimator = KerasClassifier(lambda: network(width, last, loss), epochs=12, random_state=0).fit(DIGITS, names)
    assert estimator.classes_.tolist() == sorted({*names})
    assert estimator.score(DIGITS, names) > 0.85
    assert estimator.history_["accuracy"][-1] > 0.8  # Keras's own metric reads the targets alike
    found = estimator.predict_proba(DIGITS)
    assert found.shape == (300, 10)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-12)
    assert (estimator.classes_[found.argmax(axis=1)] == estimator.predict(DIGITS)).all()


@pytest.mark.parametrize(
    ("width", "last", "loss"),
    one_quick([
        (1, "sigmoid", "binary_crossentropy"),
        (1, None, keras.losses.BinaryCrossentropy(from_logits=True)),
        (2, "softmax", "sparse_categorical_crossentropy"),
        (2, "softmax", "categorical_crossentropy"),
    ]),
)  # fmt: skip
def test_two_classes_may_have_one_output_or_two(width, last, loss):
    estimator = KerasClassifier(lambda: network(width, last, loss), epochs=8, random_state=0)
    scores = cross_validate(estimator, DIGITS, THREES, cv=2, scoring=["roc_auc", "neg_log_loss", "accuracy"])
    assert scores["test_roc_auc"].min() > 0.97
    assert scores["test_neg_log_loss"].min() > -0.25
    assert scores["test_accuracy"].min() > 0.93


def test_a_hinge_tells_classes_and_no_probabilities():
    estimator = KerasClassifier(build_binary, last="tanh", loss="hinge", rate=0.01, epochs=12, random_state=0)
    halves = np.where(LABELS < 5, "low", "high")
    assert estimator.fit(DIGITS, halves).score(DIGITS, halves) > 0.8
    with pytest.raises(ValueError, match=r"^the model's outputs lie in -.* and are no probabilities; .*"):
        estimator.predict_proba(DIGITS)


def test_scorers_of_several_classes(fitted):
    search = GridSearchCV(fitted, {"units": [8]}, cv=2, scoring=["roc_auc_ovr", "neg_log_loss"], refit=False)
    found = search.fit(DIGITS, LABELS).cv_results_
    assert found["mean_test_roc_auc_ovr"][0] > 0.95
    assert found["mean_test_neg_log_loss"][0] > -1.2
    assert not hasattr(fitted, "decision_function")


def test_images_go_in_as_they_are():
    images = (DIGITS.reshape(-1, 8, 8) * 255).astype("uint8")

    def convolve(filters=4):
        layers = [keras.layers.Rescaling(1 / 255), keras.layers.Conv2D(filters, 3, activation="relu")]
        model = keras.Sequential(
            [keras.Input((8, 8)), keras.layers.Reshape((8, 8, 1)), *layers, keras.layers.Flatten()]
        )
        model.add(keras.layers.Dense(10, "softmax"))
        model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
        return model

    estimator = KerasClassifier(convolve, epochs=10, random_state=0).fit(images, LABELS)
    assert (estimator.input_shape_, estimator.score(images, LABELS) > 0.8) == ((8, 8), True)
    with pytest.raises(ValueError, match=r"^X has examples of shape \(8, 9\); the model was fitted to \(8, 8\)$"):
        estimator.predict(np.zeros((3, 8, 9)))


def test_a_regressor_of_one_number_and_of_several():
    X, y = load_diabetes(return_X_y=True)
    X, y = X * 20, (y - y.mean()) / y.std()
    one = KerasRegressor(build_regression, epochs=10, random_state=0).fit(X, y)
    assert (one.predict(X).shape, one.score(X, y) > 0.4, is_regressor(one)) == ((442,), True, True)
    both = KerasRegressor(build_regression, epochs=10, random_state=0).fit(X, np.stack([y, -y], 1))
    assert (both.predict(X).shape, both.score(X, np.stack([y, -y], 1)) > 0.4) == ((442, 2), True)


# Searches


def test_folds_are_stratified():
    assert is_classifier(KerasClassifier(build))
    assert isinstance(check_cv(3, LABELS, classifier=is_classifier(KerasClassifier(build))), StratifiedKFold)


@pytest.mark.slow
def test_a_search_finds_the_same_in_processes_and_threads():
    """`random_state` makes a fit repeatable wherever it is."""
    steps = make_pipeline(StandardScaler(), KerasClassifier(build, random_state=3, batch_size=64))
    grid = {"kerasclassifier__units": [2, 16], "kerasclassifier__epochs": [3]}
    scores = {}
    for backend in ("sequential", "threading", "loky"):
        with parallel_backend(backend):
            search = GridSearchCV(steps, grid, cv=2, n_jobs=None if backend == "sequential" else 2)
            scores[backend] = search.fit(DIGITS, LABELS).cv_results_["mean_test_score"].tolist()
            assert search.best_params_["kerasclassifier__units"] == 16
    assert scores["sequential"] == scores["threading"] == pytest.approx(scores["loky"], abs=0.02)


def test_folds_share_no_callback():
    """A stateful callback begins anew in every fit, and the one that was given is never used."""

    class Counts(keras.callbacks.Callback):
        epochs = 0

        def on_epoch_end(self, epoch, logs=None):
            self.epochs += 1
            logs["counted"] = float(self.epochs)

    given = Counts()
    estimator = KerasClassifier(build, epochs=2, callbacks=given)
    for each in (estimator, KerasClassifier(build, epochs=2, callbacks=lambda: [Counts()])):
        fits = cross_validate(each, DIGITS, LABELS, cv=2, return_estimator=True)["estimator"]
        assert [fit.history_["counted"] for fit in fits] == [[1.0, 2.0], [1.0, 2.0]]
    assert (given.epochs, hasattr(given, "_model")) == (0, given._model is None)


def test_early_stopping_ends_a_fit():
    stop = keras.callbacks.EarlyStopping("loss", min_delta=100, patience=1)
    assert KerasClassifier(build, epochs=9, callbacks=[stop]).fit(DIGITS, LABELS).epoch_ == 2


def test_a_fit_can_be_repeated_and_leaves_other_random_numbers_alone():
    np.random.seed(5)
    expected = np.random.rand()
    np.random.seed(5)
    fits = [KerasClassifier(build, random_state=7).fit(DIGITS, LABELS) for _ in range(2)]
    assert np.random.rand() == expected
    assert fits[0].history_ == fits[1].history_
    assert fits[0].history_ != KerasClassifier(build, random_state=8).fit(DIGITS, LABELS).history_


# Weights


def test_weights_of_examples_and_classes_count():
    only_threes = (THREES == "three").astype(float)
    options = {"epochs": 5, "random_state": 0}
    plain = KerasClassifier(build_binary, **options).fit(DIGITS, THREES, sample_weight=only_threes)
    assert {*plain.predict(DIGITS)} == {"three"}
    assert plain.score(DIGITS, THREES, sample_weight=only_threes) == 1.0
    weighed = KerasClassifier(build_binary, class_weight={"other": 0.0, "three": 1.0}, **options).fit(DIGITS, THREES)
    assert weighed.history_ == plain.history_


def test_metadata_routing_brings_weights_to_fit_and_score():
    weights = (THREES == "three").astype(float)
    with sklearn.config_context(enable_metadata_routing=True):
        estimator = KerasClassifier(build_binary, epochs=15, batch_size=8, random_state=0)
        estimator.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        found = cross_validate(estimator, DIGITS, THREES, cv=2, params={"sample_weight": weights})
    assert found["test_score"].tolist() == [1.0, 1.0]


# What is left of a fit


def test_a_fit_leaves_its_model_and_history(fitted):
    assert isinstance(fitted.model_, keras.Model)
    assert {*fitted.history_} == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert [type(value) for value in fitted.history_["val_loss"]] == [float] * 8
    assert fitted.history_.history["loss"] is fitted.history_["loss"]  # as Keras's History has it
    assert (fitted.epoch_, fitted.n_features_in_, fitted.classes_.tolist()) == (8, 64, [*range(10)])


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda fitted: pickle.loads(pickle.dumps(fitted))])
def test_a_fitted_estimator_can_be_copied(fitted, copied):
    other = copied(fitted)
    np.testing.assert_allclose(other.predict_proba(DIGITS), fitted.predict_proba(DIGITS), atol=1e-6)
    assert (other.history_, other.history_.epoch) == (fitted.history_, fitted.history_.epoch)
    assert other.get_params() == fitted.get_params()


def test_a_warm_start_goes_on():
    estimator = KerasClassifier(build, epochs=4, warm_start=True, random_state=0).fit(DIGITS, LABELS)
    first, model = estimator.history_["loss"], estimator.model_
    assert estimator.fit(DIGITS, LABELS).history_["loss"][0] < first[-1]
    assert estimator.model_ is model
    with pytest.raises(ValueError, match=r"^y has classes besides those that were fitted: \[0, 1, .*"):
        estimator.fit(DIGITS, LABELS + 1)


def test_validation_data_take_the_place_of_a_split():
    estimator = KerasClassifier(build_binary, epochs=2, validation_split=0.5, random_state=0)
    history = estimator.fit(DIGITS, THREES, validation_data=(DIGITS[:100], THREES[:100])).history_
    assert history["val_loss"][-1] == pytest.approx(
        estimator.model_.evaluate(DIGITS[:100], (THREES[:100] == "three").astype(float)[:, None], return_dict=True)[
            "loss"
        ],
        rel=1e-4,
    )


def test_epochs_are_curves_of_the_run_that_is_logged(tmp_path):
    estimator = KerasClassifier(build, epochs=3, validation_split=0.2)
    with lab.start_run(tmp_path / "logs", hparams={"units": 8}) as run, logging_into(run):
        assert current_run() is run
        estimator.fit(DIGITS, LABELS)
    assert current_run() is None
    history = {**estimator.history_}
    estimator.fit(DIGITS, LABELS)
    (read,) = lab.read(tmp_path / "logs").runs
    for name, values in history.items():
        found = read.scalars(f"epoch/{name}")
        assert found.steps.tolist() == [1, 2, 3]
        np.testing.assert_allclose(found.values, values, rtol=1e-6)
    assert {*history} == {"loss", "accuracy", "val_loss", "val_accuracy"}


# What does not fit


def with_rest(units=8, **rest):
    raise AssertionError("never called")


def by_position(units, /):
    raise AssertionError("never called")


def uncompiled():
    return keras.Sequential([keras.Input((64,)), keras.layers.Dense(10)])


class Holds(keras.callbacks.Callback):
    def __deepcopy__(self, memo):
        raise TypeError("it holds a file")


@pytest.mark.parametrize(
    ("build", "options", "y", "words"),
    [
        (with_rest, {}, LABELS, r"build() takes **rest; wanted arguments with names, each a parameter: def build(unit"),
        (by_position, {}, LABELS, "build() takes 'units' by its position only; wanted arguments with names, each a pa"),
        (None, {}, LABELS, "build is None; wanted a function that returns a compiled keras.Model"),
        (uncompiled, {}, LABELS, "build() returned a model that is not compiled; call model.compile(optimizer, loss) "),
        (lambda: 3, {}, LABELS, "build() returned int; wanted a compiled keras.Model"),
        (
            build_binary,
            {},
            LABELS,
            "build()'s model has 1 output and y has 10 classes; end it with an output per class",
        ),
        (
            build,
            {},
            np.eye(10)[LABELS],
            "y has the shape (300, 10); wanted a label per example, as y.argmax(axis=1) gi",
        ),
        (build, {}, LABELS * 0, "y has one class, 0; a classifier can't train with fewer than two"),
        (build, {"epochs": 0}, LABELS, "epochs is 0; wanted an int of 1 or more"),
        (build, {"batch_size": 2.5}, LABELS, "batch_size is 2.5; wanted an int of 1 or more"),
        (build, {"validation_split": 1}, LABELS, "validation_split is 1; wanted a share from 0 to below 1"),
        (build, {"callbacks": [3]}, LABELS, "callbacks has a int; wanted callbacks of Keras, or a function that makes"),
        (build, {"callbacks": Holds()}, LABELS, "Holds cannot be copied for each fit (it holds a file); give a functi"),
        (build, {"rate": float("inf")}, LABELS, "the model gives NaN: its training diverged; try a smaller learning "),
    ],
)
def test_what_does_not_fit_is_one_line(build, options, y, words):
    with pytest.raises(ValueError, match=f"^{re.escape(words)}") as caught:
        KerasClassifier(build, **options).fit(DIGITS, y).predict(DIGITS)
    assert isinstance(caught.value, lab.HParamsLabError)
    assert "\n" not in str(caught.value)


def test_a_regressors_outputs_are_as_many_as_its_targets():
    with pytest.raises(
        ValueError, match=r"^build\(\)'s model has 10 outputs and y has 1; end it with an output per col"
    ):
        KerasRegressor(build).fit(DIGITS, LABELS)


# Other surroundings


def error_of(code, **environment):
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}, timeout=120
    )
    return ran.returncode, (ran.stderr.splitlines() or [""])[-1]


@pytest.mark.parametrize(
    ("before", "words"),
    one_quick([
        ("sys.modules['sklearn'] = None", "scikit-learn is not installed; bring it with: pip install 'hparams-lab[sk"),
        (
            "import sklearn; sklearn.__version__ = '1.4.2'",
            "scikit-learn 1.4.2 is too old; bring a later one with: pip install 'scikit-learn>=1.5",
        ),
        ("sys.modules['keras'] = None", "Keras (or its backend, keras) is not installed; bring it with: pip install "),
        (
            "import keras; keras.__version__ = '3.11.3'",
            "keras 3.11.3 is installed, and hparams_lab works with 3.12 and",
        ),
    ]),
)  # fmt: skip
def test_a_package_that_is_missing_or_of_another_time_is_one_line(before, words):
    code, error = error_of(f"import sys; {before}; from hparams_lab.integrations.sklearn import KerasClassifier")
    assert (code, error.partition(": ")[2][: len(words)]) == (1, words)


def test_importing_the_package_does_not_import_keras():
    assert error_of("import sys, hparams_lab.integrations.sklearn as it; sys.exit('keras' in sys.modules)") == (0, "")


ON_JAX = """
import sys
sys.path[:0] = {folders!r}
import test_keras_estimators as tests
fits = [tests.KerasClassifier(tests.build, epochs=5, random_state=1).fit(tests.DIGITS, tests.LABELS) for _ in "ab"]
assert fits[0].history_ == fits[1].history_
assert fits[0].score(tests.DIGITS, tests.LABELS) > 0.7
two = tests.KerasClassifier(tests.build_binary, epochs=2).fit(tests.DIGITS, tests.THREES)
assert two.predict_proba(tests.DIGITS).shape == (300, 2)
one = tests.KerasRegressor(tests.build_regression).fit(tests.DIGITS, tests.LABELS)
assert one.predict(tests.DIGITS).shape == (300,)
assert tests.keras.backend.backend() == "jax"
"""


@pytest.mark.slow
def test_it_works_on_jax():
    pytest.importorskip("jax")
    here = Path(__file__).parent
    code, error = error_of(ON_JAX.format(folders=[str(here), str(here.parent)]), KERAS_BACKEND="jax")
    assert code == 0, error
