"""`KerasClassifier` and `KerasRegressor`: a function that builds a Keras model, as an estimator whose parameters are
the function's arguments and those of `model.fit`.

They are `keras.wrappers.SKLearnClassifier` and `SKLearnRegressor` to whoever asks, with what a search needs: parameters
by name, probabilities, targets as the loss wants them, images and several outputs, and fits that can be repeated.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils._metadata_requests import RequestMethod
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from hparams_lab.integrations.sklearn import targets
from hparams_lab.integrations.sklearn.build_function import (
    DATA,
    REQUIRED,
    EstimatorError,
    call,
    defaults_of,
    given_of,
    parameters_of,
    plain,
)
from hparams_lab.integrations.sklearn.fit_arguments import KNOWN, check_pair, taken
from hparams_lab.integrations.sklearn.fitting import (
    FitHistory,
    check_options,
    checked_model,
    fit_callbacks,
    outputs_of,
    quiet,
    seeded,
    validate_data,
    width_of,
)

Array = NDArray[Any]


class _KerasEstimator:
    """What both have in common: parameters, the fit, raw outputs. Mixed in before a class of `keras.wrappers`.

    `keras.wrappers` keeps the build function as `model` and its arguments as `model_kwargs`; so does this.
    """

    model: Callable[..., Any]
    model_kwargs: dict[str, Any]
    model_: Any
    history_: FitHistory
    input_shape_: tuple[int, ...]

    # In place of those of keras.wrappers: one forgets parameters, the other asks for what `score` gets.
    __sklearn_clone__ = BaseEstimator.__sklearn_clone__
    set_fit_request = RequestMethod("fit", ["sample_weight", "validation_data"])
    __metadata_request__fit = dict.fromkeys(KNOWN)
    _required_parameters = ("build",)  # so that the checks of scikit-learn before 1.6 make none without

    def _take(self, build: Callable[..., Any], arguments: Mapping[str, Any], **options: Any) -> None:
        """Keep the parameters that the constructor was given."""
        given = given_of(build, arguments, self._own_names())
        super().__init__(model=build, model_kwargs=given, warm_start=options.pop("warm_start"))  # type: ignore[call-arg]
        for name, value in options.items():
            setattr(self, name, value)

    @property
    def build(self) -> Callable[..., Any]:
        """The function that builds the model."""
        return self.model

    @property
    def epoch_(self) -> int:
        """How many epochs the last fit took; fewer than `epochs` where a callback stopped it."""
        check_is_fitted(self)
        return len(self.history_.epoch)

    @classmethod
    def _own_names(cls) -> list[str]:
        """The parameters that are not build's, in the order of the constructor."""
        parameters = inspect.signature(cls.__init__).parameters.values()
        return [each.name for each in parameters if each.name != "self" and each.kind is not each.VAR_KEYWORD]

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters by name: build's arguments (those without a value are left out), then the estimator's own."""
        ours = self._own_names()
        arguments = {**(parameters_of(self.model, ours) or {}), **self.model_kwargs}
        known = {name: value for name, value in arguments.items() if value is not REQUIRED}
        return {**known, **{name: getattr(self, name) for name in ours}}

    def set_params(self, **params: Any) -> Any:
        """Set parameters by name, and return the estimator.

        With another `build`, arguments that it does not take are dropped. Raises EstimatorError, a ValueError, for a
        name that is none, and then nothing is set.
        """
        ours = self._own_names()
        build = params.get("build", self.model)
        taken = parameters_of(build, ours)
        arguments = {name: value for name, value in self.model_kwargs.items() if taken is None or name in taken}
        arguments.update((name, value) for name, value in params.items() if name not in ours)
        self.model_kwargs = given_of(build, arguments, ours)
        self.model = build
        for name in [name for name in ours if name in params and name != "build"]:
            setattr(self, name, params[name])
        return self

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        validation_data: tuple[Any, ...] | None = None,
        **arguments: Any,
    ) -> Any:
        """Build a model and train it.

        Args:
          X: (examples, features), or with more dimensions, as images (examples, height, width). Finite numbers.
          y: a class label per example; for a regressor numbers, (examples,) or (examples, outputs).
          sample_weight: (examples,).
          validation_data: (X, y) or (X, y, sample_weight) to evaluate after each epoch, in place of
            `validation_split`.
          **arguments: for this fit only: `epochs`, `batch_size`, `validation_split`, `callbacks`, `verbose` and a
            classifier's `class_weight` in place of the parameters; others of `model.fit`, such as `shuffle`.

        Returns the estimator. Raises EstimatorError, a ValueError, for data, parameters, arguments or a model that do
        not fit.
        """
        own, passed_on = taken(self.get_params(), arguments)
        check_options(own)
        defaults_of(self.model)
        goes_on = bool(own["warm_start"]) and hasattr(self, "model_")
        X, read = self._read(X, y, goes_on)
        weights = self._weights(X, read, sample_weight, own.get("class_weight"))
        with quiet(), seeded(own["random_state"]):
            model = self.model_ if goes_on else checked_model(call(self.model, {**own, **self._data(X, read)}))
            width = width_of(model, X)
            trained = model.fit(
                X,
                self._targets(model, read, width),
                sample_weight=weights,
                validation_data=self._validation(model, validation_data, width),
                validation_split=0.0 if validation_data is not None else own["validation_split"],
                callbacks=fit_callbacks(own["callbacks"]),
                **passed_on,
            )
        self.model_, self.history_ = model, FitHistory(trained)
        return self

    def _read(self, X: Any, y: Any, goes_on: bool) -> tuple[Array, Array]:
        """The arrays of a fit: the inputs, and the targets as `_read_targets` makes them."""
        X, y = validate_data(self, X, y, reset=not goes_on, allow_nd=True, **self._reading)
        if goes_on:
            self._check_shape(X)
        self.input_shape_ = X.shape[1:]
        return X, self._read_targets(y, goes_on)

    def _data(self, X: Array, read: Array) -> dict[str, Array]:
        """What build gets as `X` and `y`."""
        wants = defaults_of(self.model)
        return {name: X if name == "X" else self._shown_targets(read) for name in DATA if name in wants}

    def _weights(self, X: Array, read: Array, sample_weight: Any, class_weight: Any) -> Array | None:
        return None if sample_weight is None else _check_sample_weight(sample_weight, X)

    def _validation(self, model: Any, given: tuple[Any, ...] | None, width: int) -> tuple[Any, ...] | None:
        if given is None:
            return None
        check_pair(given)
        X, y = validate_data(self, given[0], given[1], reset=False, allow_nd=True, **self._reading)
        self._check_shape(X)
        return (X, self._targets(model, self._read_targets(y, True), width), *given[2:])

    def _check_shape(self, X: Array) -> None:
        if X.shape[1:] != self.input_shape_:
            raise EstimatorError(f"X has examples of shape {X.shape[1:]}; the model was fitted to {self.input_shape_}")

    def _outputs(self, X: Any) -> Array:
        """What the model gives, (examples, outputs). Raises EstimatorError where it gives NaN."""
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, allow_nd=True)
        self._check_shape(X)
        return outputs_of(self.model_, X, plain(self.get_params()["batch_size"]))

    def _more_tags(self) -> dict[str, Any]:  # before scikit-learn 1.6
        return {"non_deterministic": False}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        tags.non_deterministic = False  # with a `random_state`
        return tags

    _reading: Mapping[str, Any] = {}

    def _read_targets(self, y: Array, goes_on: bool) -> Array:
        raise NotImplementedError

    def _shown_targets(self, read: Array) -> Array:
        raise NotImplementedError

    def _targets(self, model: Any, read: Array, width: int) -> Array:
        raise NotImplementedError


class KerasClassifier(_KerasEstimator, keras.wrappers.SKLearnClassifier):
    """A Keras model as a classifier of scikit-learn.

        def build(units=32, learning_rate=1e-3):
            model = keras.Sequential([keras.layers.Dense(units, "relu"), keras.layers.Dense(10, "softmax")])
            model.compile(keras.optimizers.Adam(learning_rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
            return model

        GridSearchCV(KerasClassifier(build), {"units": [8, 16], "batch_size": [32, 64], "epochs": [10, 20]}, cv=5)

    Args:
      build: returns a compiled `keras.Model` with an output per class, or one output for two classes. Its arguments are
        parameters; those called `X` and `y` get the data (y one-hot), those called as one below get its value.
      epochs: how often the examples are gone through, at least 1.
      batch_size: examples a step, at least 1.
      validation_split: the share of the examples, the last ones, to hold out and evaluate after each epoch; from 0
        to below 1.
      callbacks: a callback of Keras or several, of which every fit gets a copy; or a function that makes them.
      class_weight: weights by label, "balanced", or None.
      verbose: what a fit prints, as in `model.fit`.
      random_state: an int makes fits alike. Keras has one source of randomness, so fits in threads wait for each other.
      warm_start: a further fit goes on with the model of the last.
      **arguments: build's.

    The loss says how the labels, of any type, reach the model: as class indices to a sparse loss, as 0 and 1 to a
    single output, as one-hot to others. With `from_logits=True`, probabilities are made of the outputs.

    Attributes:
      model_: the trained model.
      history_: a list per metric, with a value per epoch: `history_["val_loss"][-1]`.
      classes_: the labels, sorted, in the order of the columns of `predict_proba`.
      n_features_in_, feature_names_in_: as everywhere in scikit-learn; `input_shape_`: the shape of one example.
      epoch_: how many epochs were trained.
    """

    classes_: Array

    def __init__(
        self,
        build: Callable[..., Any],
        *,
        epochs: int = 1,
        batch_size: int = 32,
        validation_split: float = 0.0,
        callbacks: Any = None,
        class_weight: Mapping[Any, float] | str | None = None,
        verbose: int | str = 0,
        random_state: Any = None,
        warm_start: bool = False,
        **arguments: Any,
    ) -> None:
        self._take(
            build,
            arguments,
            epochs=epochs,
            batch_size=batch_size,
            validation_split=validation_split,
            callbacks=callbacks,
            class_weight=class_weight,
            verbose=verbose,
            random_state=random_state,
            warm_start=warm_start,
        )

    @property
    def decision_function(self) -> Any:
        """There is none: `predict_proba` ranks. That of `keras.wrappers` gives what no scorer of scikit-learn takes."""
        raise AttributeError("KerasClassifier has no decision_function; use predict_proba")

    def predict(self, X: ArrayLike) -> Array:
        """The most probable label of each example. Raises EstimatorError where the model diverged to NaN."""
        outputs = self._outputs(X)
        labels: Array = self.classes_[targets.decided(self.model_.loss, outputs, len(self.classes_))]
        return labels

    def predict_proba(self, X: ArrayLike) -> Array:
        """The probabilities of the labels, (examples, classes), each row with the sum 1.

        Raises EstimatorError where the outputs are no probabilities, as those of a linear last layer.
        """
        outputs = self._outputs(X)
        return targets.probabilities(self.model_.loss, outputs, len(self.classes_))

    def _read_targets(self, y: Array, goes_on: bool) -> Array:
        """Class indices (examples,)."""
        check_classification_targets(y)
        found, indices = np.unique(y, return_inverse=True)
        if goes_on:
            if not np.isin(found, self.classes_).all():
                raise EstimatorError(f"y has classes besides those that were fitted: {self.classes_.tolist()}")
            return np.searchsorted(self.classes_, y)
        if len(found) < 2:
            raise EstimatorError(
                f"y has one class, {found.tolist()[0]!r}; a classifier can't train with fewer than two"
            )
        self.classes_ = found
        return indices

    def _shown_targets(self, read: Array) -> Array:
        return targets.one_hot(read, len(self.classes_))

    def _targets(self, model: Any, read: Array, width: int) -> Array:
        targets.check_width(width, len(self.classes_))
        return targets.encoded(model.loss, read, width)

    def _read(self, X: Any, y: Any, goes_on: bool) -> tuple[Array, Array]:
        if y is not None and type_of_target(y).startswith("multilabel"):
            raise EstimatorError(
                f"y has the shape {np.shape(y)}; wanted a label per example, as y.argmax(axis=1) gives"
            )
        return super()._read(X, y, goes_on)

    def _weights(self, X: Array, read: Array, sample_weight: Any, class_weight: Any) -> Array | None:
        weights = super()._weights(X, read, sample_weight, class_weight)
        if class_weight is None:
            return weights
        by_class: Array = compute_sample_weight(class_weight, self.classes_[read])
        return by_class if weights is None else weights * by_class


class KerasRegressor(_KerasEstimator, keras.wrappers.SKLearnRegressor):
    """A Keras model as a regressor of scikit-learn.

        GridSearchCV(KerasRegressor(build, epochs=50), {"units": [8, 16], "learning_rate": [1e-3, 1e-2]})

    Args:
      build: returns a compiled `keras.Model` with an output per column of y. Its arguments are parameters; those called
        `X` and `y` get the data (y as a column where it has one dimension), those called as one below get its value.

    The other arguments and the attributes are those of `KerasClassifier`, without `class_weight` and `classes_`.
    """

    _reading = {"multi_output": True, "y_numeric": True}  # noqa: RUF012

    def __init__(
        self,
        build: Callable[..., Any],
        *,
        epochs: int = 1,
        batch_size: int = 32,
        validation_split: float = 0.0,
        callbacks: Any = None,
        verbose: int | str = 0,
        random_state: Any = None,
        warm_start: bool = False,
        **arguments: Any,
    ) -> None:
        self._take(
            build,
            arguments,
            epochs=epochs,
            batch_size=batch_size,
            validation_split=validation_split,
            callbacks=callbacks,
            verbose=verbose,
            random_state=random_state,
            warm_start=warm_start,
        )

    def predict(self, X: ArrayLike) -> Array:
        """Float64 (examples,) or (examples, outputs), as y was. Raises EstimatorError where the model gives NaN."""
        outputs = self._outputs(X).astype("float64")
        return outputs[:, 0] if self._columns is None else outputs

    def _read_targets(self, y: Array, goes_on: bool) -> Array:
        """Floats (examples, outputs)."""
        self._columns = None if y.ndim == 1 else y.shape[1]
        return y.astype(keras.config.floatx()).reshape(len(y), -1)

    def _shown_targets(self, read: Array) -> Array:
        return read

    def _targets(self, model: Any, read: Array, width: int) -> Array:
        if width != read.shape[1]:
            raise EstimatorError(
                f"build()'s model has {width} output{'s' * (width != 1)} and y has {read.shape[1]}; "
                "end it with an output per column of y"
            )
        return read

    def _more_tags(self) -> dict[str, Any]:  # before scikit-learn 1.6
        return {**super()._more_tags(), "multioutput": True}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
