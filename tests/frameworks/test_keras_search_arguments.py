"""What a search hands to a Keras estimator: NumPy's scalars as parameters, and arguments of `fit`."""

import re
from collections import namedtuple

import keras
import numpy as np
import pytest
import sklearn
from scipy.stats import loguniform, randint, uniform
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import hparams_lab as lab
from hparams_lab.integrations.sklearn import KerasClassifier, KerasRegressor

X = np.random.default_rng(0).normal(size=(24, 3))
SUMS = X.sum(axis=1)
SIGNS = np.where(SUMS > 0, "up", "down")
Sizes = namedtuple("Sizes", "first second")
TWO, SEVEN, RATE = np.int64(2), np.int64(7), np.float32(0.01)


def build(units=TWO, rate=RATE):
    model = keras.Sequential([keras.layers.Dense(units), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(rate), "mse", run_eagerly=True)
    return model


def build_classes(units=2):
    model = keras.Sequential([keras.layers.Dense(units), keras.layers.Dense(2, "softmax")])
    model.compile("adam", "sparse_categorical_crossentropy", run_eagerly=True)
    return model


class Seen(BaseException):
    """What a build function got; nothing is trained."""


def look(value, other=SEVEN):
    raise Seen(value, other)


def got(value):
    with pytest.raises(Seen) as seen:
        KerasRegressor(look, value=value).fit(X, SUMS)
    return seen.value.args


def types(value):
    if isinstance(value, dict):
        return [*map(types, value), *map(types, value.values())]
    return [*map(types, value)] if isinstance(value, (list, tuple, set)) else type(value)


# Parameters


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        (np.int64(37), 37),
        (np.uint8(5), 5),
        (np.float32(0.1), 0.1),
        (np.float64(1e-3), 1e-3),
        (np.bool_(True), True),
        (np.str_("relu"), "relu"),
        (np.array(3), 3),
        (np.array("adam"), "adam"),
        ((np.int64(8), np.int64(4)), (8, 4)),
        ([np.int32(8), [np.float32(0.5)]], [8, [0.5]]),
        ({np.str_("units"): np.int64(8)}, {"units": 8}),
        (Sizes(np.int64(8), 4), Sizes(8, 4)),
        (randint(1, 100).rvs(random_state=0), 45),
        (randint(1, 100).rvs(size=2, random_state=0)[0], 45),
        (None, None),
    ],
)
def test_build_gets_plain_python(given, plain):
    found, default = got(given)
    assert (found, types(found), type(found)) == (plain, types(plain), type(plain))
    assert (default, type(default)) == (7, int)


def test_what_is_no_scalar_reaches_build_as_it_is():
    table = np.eye(2)
    initializer = keras.initializers.Zeros()
    assert got(table)[0] is table
    assert got([initializer])[0][0] is initializer
    for distribution in (uniform(0, 1), loguniform(1e-3, 1)):
        assert type(got(distribution.rvs(random_state=0))[0]) is float


def test_a_clone_keeps_the_very_parameters():
    units = np.int64(5)
    estimator = clone(KerasRegressor(build, units=units, epochs=np.int64(2)))
    found = estimator.get_params()
    assert (found["units"], type(found["units"]), type(found["epochs"])) == (5, np.int64, np.int64)
    assert (found["rate"], type(found["rate"])) == (RATE, type(RATE))
    assert estimator.fit(X, SUMS).epoch_ == 2


def test_a_search_over_numpys_numbers():
    steps = make_pipeline(StandardScaler(), KerasClassifier(build_classes, random_state=0))
    space = {"kerasclassifier__units": np.arange(1, 5), "kerasclassifier__batch_size": np.array([8, 12])}
    search = RandomizedSearchCV(steps, space, n_iter=2, cv=2, random_state=0, error_score="raise").fit(X, SIGNS)
    assert search.best_estimator_[-1].model_.layers[0].units == search.best_params_["kerasclassifier__units"]
    numbers = {"units": randint(1, 5), "epochs": randint(1, 3), "validation_split": uniform(0.1, 0.2)}
    RandomizedSearchCV(KerasRegressor(build), numbers, n_iter=1, cv=2, random_state=0, error_score="raise").fit(X, SUMS)


# Arguments of a fit


def test_a_searchs_fit_takes_what_all_books_give_it():
    search = GridSearchCV(KerasRegressor(build, epochs=9), {"units": [2]}, cv=2, error_score="raise")
    stop = keras.callbacks.EarlyStopping("loss", patience=0, min_delta=1e9)
    search.fit(X, SUMS, epochs=4, batch_size=12, callbacks=[stop], verbose=0, validation_split=0.5, shuffle=False)
    best = search.best_estimator_
    assert (best.epoch_, {*best.history_}) == (2, {"loss", "val_loss"})
    assert (best.epochs, best.batch_size, best.callbacks, best.get_params()["epochs"]) == (9, 32, None, 9)
    assert best.fit(X, SUMS).epoch_ == 9
    assert stop.model is None


def test_each_fit_of_each_fold_has_callbacks_of_its_own():
    class Counts(keras.callbacks.Callback):
        fits = 0

        def on_train_begin(self, logs=None):
            self.fits += 1

        def on_epoch_end(self, epoch, logs=None):
            logs["fits"] = float(self.fits)

    given = Counts()
    for callbacks in ([given], given, lambda: Counts()):
        found = cross_validate(
            KerasRegressor(build), X, SUMS, cv=2, params={"callbacks": callbacks, "epochs": 2}, return_estimator=True
        )
        assert [fit.history_["fits"] for fit in found["estimator"]] == [[1.0, 1.0], [1.0, 1.0]]
    assert given.fits == 0


def test_arguments_of_a_pipelines_step_and_of_a_weighed_class():
    steps = make_pipeline(StandardScaler(), KerasClassifier(build_classes, random_state=0))
    weights = {"up": 0.0, "down": 1.0}
    steps.fit(X, SIGNS, kerasclassifier__epochs=np.int64(2), kerasclassifier__class_weight=weights)
    assert steps[-1].epoch_ == 2
    once = steps[-1].history_["loss"]
    again = KerasClassifier(build_classes, random_state=0, class_weight=weights, epochs=2)
    assert make_pipeline(StandardScaler(), again).fit(X, SIGNS)[-1].history_["loss"] == once
    assert steps[-1].class_weight is None
    scores = cross_val_score(steps, X, SIGNS, cv=2, params={"kerasclassifier__epochs": 2}, error_score="raise")
    assert len(scores) == 2


def test_none_is_as_left_out_and_epochs_begin_where_they_are_told_to():
    estimator = KerasRegressor(build, epochs=2, batch_size=12)
    assert estimator.fit(X, SUMS, epochs=None, callbacks=None).epoch_ == 2
    assert estimator.fit(X, SUMS, epochs=5, initial_epoch=3, sample_weight=np.ones(24)).history_.epoch == [3, 4]


def test_a_build_that_wants_to_know_the_epochs_gets_those_of_the_fit():
    def curious(epochs=1):
        raise Seen(epochs)

    with pytest.raises(Seen) as seen:
        KerasRegressor(curious).fit(X, SUMS, epochs=5)
    assert seen.value.args == (5,)


def test_metadata_routing_brings_arguments_to_fit():
    with sklearn.config_context(enable_metadata_routing=True):
        asking = KerasRegressor(build).set_fit_request(epochs=True, callbacks=True, shuffle=False)
        search = GridSearchCV(make_pipeline(StandardScaler(), asking), {"kerasregressor__units": [2]}, cv=2)
        search.fit(X, SUMS, epochs=3, callbacks=[keras.callbacks.TerminateOnNaN()])
        assert search.best_estimator_[-1].epoch_ == 3
        with pytest.raises(ValueError, match=r"epochs.* are passed but are not explicitly set as requested"):
            GridSearchCV(KerasRegressor(build), {"units": [2]}, cv=2).fit(X, SUMS, epochs=3)


KNOWN = (
    "it takes sample_weight, validation_data, epochs, batch_size, verbose, validation_split, callbacks, shuffle, "
    "initial_epoch, steps_per_epoch, validation_steps, validation_batch_size, validation_freq"
)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"epoch": 2}, f"fit() takes no 'epoch'; {KNOWN}"),
        ({"class_weight": {0: 1}}, f"fit() takes no 'class_weight'; {KNOWN}"),
        ({"units": 2}, "fit() takes no 'units', which is a parameter; set it before: set_params(units=...)"),
        ({"epochs": 0}, "epochs is 0; wanted an int of 1 or more"),
        ({"validation_split": 2}, "validation_split is 2; wanted a share from 0 to below 1"),
        ({"callbacks": [3]}, "callbacks has a int; wanted callbacks of Keras, or a function that makes them"),
    ],
)
def test_an_argument_that_does_not_fit_is_one_line(arguments, words):
    with pytest.raises(lab.HParamsLabError, match=f"^{re.escape(words)}$"):
        KerasRegressor(build).fit(X, SUMS, **arguments)
