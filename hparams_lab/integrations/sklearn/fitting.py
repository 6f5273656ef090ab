"""What a fit of a Keras estimator needs besides its data: a compiled model, callbacks of its own, a seed, outputs."""

from __future__ import annotations

import contextlib
import copy
import logging
import numbers
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state, validation

from hparams_lab.core.errors import UsageError
from hparams_lab.core.measured import as_float
from hparams_lab.integrations.search_log import not_lost
from hparams_lab.integrations.sklearn.build_function import DivergedError, EstimatorError
from hparams_lab.integrations.sklearn.current import EPOCH, current_run
from hparams_lab.keras.callback import BEST_EPOCH, RunCallback
from hparams_lab.run.run import Run

EVALUATION_BATCH = 1024
"""Outputs are computed of at least so many examples at once: it changes nothing but the time."""

_SEEDED = threading.RLock()


class FitHistory(dict[str, list[Any]]):
    """What a fit reported: a list per metric, with a float per epoch; with an array where it is no single number.

    Attributes:
      epoch: the epochs, from 0.
    """

    def __init__(self, trained: Any) -> None:
        super().__init__({name: [*map(_plain, values)] for name, values in trained.history.items()})
        self.epoch: list[int] = [*trained.epoch]

    def __reduce__(self) -> Any:
        return _history, ({**self}, self.epoch)

    @property
    def history(self) -> dict[str, list[Any]]:
        """Itself: for whoever takes it for the History of Keras."""
        return self


def _plain(value: Any) -> Any:
    """A metric's value: a float, or an array for one that is no single number, such as a score of each class."""
    try:
        return as_float("", value)
    except UsageError:
        return np.asarray(keras.ops.convert_to_numpy(value))


def _history(values: dict[str, list[Any]], epoch: list[int]) -> FitHistory:
    history = FitHistory.__new__(FitHistory)
    history.update(values)
    history.epoch = epoch
    return history


class EpochCurves(RunCallback):
    """Logs a fit's epochs as `epoch/loss`, `epoch/val_loss`: apart from the score of a fold.

    Numbers, that is, and arrays of a few; and where they cannot be logged, that is said once, and the fit goes on.
    """

    _best_epoch = EPOCH + BEST_EPOCH

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self._is_lost = False

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Begin to count."""
        self._harmless("what the epochs", super().on_train_begin, logs)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Log the epoch."""
        self._harmless(f"what epoch {epoch + 1} and those behind it", super().on_epoch_end, epoch, logs)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """End on the epoch whose weights are restored."""
        self._harmless("which epoch was kept, as the callbacks", super().on_train_end, logs)

    def _harmless(self, what: str, hook: Callable[..., None], *told: Any) -> None:
        """Call a hook, unless one failed before; where it fails that is said."""
        if not self._is_lost:
            self._is_lost = True
            with not_lost(f"{what} of {self._run.name} reported", stacklevel=5):
                hook(*told)
                self._is_lost = False

    def _tag(self, name: str) -> str:
        return EPOCH + name


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse what `model.fit` would not take, or silently misread. Raises EstimatorError."""
    for name in ("epochs", "batch_size"):
        value = options[name]
        if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
            raise EstimatorError(f"{name} is {value!r}; wanted an int of 1 or more")
    split = options["validation_split"]
    if isinstance(split, bool) or not isinstance(split, numbers.Real) or not 0 <= float(split) < 1:
        raise EstimatorError(f"validation_split is {split!r}; wanted a share from 0 to below 1")


def checked_model(model: Any) -> Any:
    """What build returned. Raises EstimatorError when it is no compiled model."""
    if not isinstance(model, keras.Model):
        raise EstimatorError(f"build() returned {type(model).__name__}; wanted a compiled keras.Model")
    if not model.compiled or not model.loss:
        lacks = "a model that is not compiled" if not model.compiled else "a model that is compiled without a loss"
        raise EstimatorError(f"build() returned {lacks}; call model.compile(optimizer, loss) before you return it")
    return model


def width_of(model: Any, X: NDArray[Any]) -> int:
    """How many outputs a model has of an example. Raises EstimatorError when they are no vector."""
    shape = getattr(model, "output_shape", None) if model.built else None
    if shape is None:
        shape = getattr(model(X[:1]), "shape", None)
    if shape is None or isinstance(shape, (dict, list)) or len(shape) != 2 or not isinstance(shape[1], int):
        raise EstimatorError(f"build()'s model has outputs of the shape {shape}; wanted (examples, outputs)")
    return shape[1]


def outputs_of(model: Any, X: NDArray[Any], batch_size: int) -> NDArray[Any]:
    """What the model gives for the examples, (examples, outputs). Raises DivergedError where it gives NaN."""
    with quiet():
        outputs: NDArray[Any] = model.predict(X, batch_size=max(batch_size, EVALUATION_BATCH), verbose=0)
    if np.isnan(outputs).any():
        raise DivergedError("the model gives NaN: its training diverged; try a smaller learning rate")
    return outputs


def fit_callbacks(given: Any) -> list[Any]:
    """Callbacks for one fit: copies of those given, or what a function makes; and one for the run that is logged.

    A run has the curves of the first fit within it: an estimator that is made of several would begin them again.
    """
    run = current_run()
    return [*_made(given), *([EpochCurves(run)] if run is not None and not _has_curves(run) else [])]


def _has_curves(run: Run) -> bool:
    with not_lost(f"what the epochs of {run.name} report"):
        return any(tag.startswith(EPOCH) for tag in run.metrics)
    return True


def _made(given: Any) -> list[Any]:
    if given is None:
        return []
    if isinstance(given, (list, tuple)):
        return [callback for one in given for callback in _made(one)]
    if callable(given):
        return _made(given())
    if not isinstance(given, keras.callbacks.Callback):
        raise EstimatorError(
            f"callbacks has a {type(given).__name__}; wanted callbacks of Keras, or a function that makes them"
        )
    try:
        return [copy.deepcopy(given)]
    except Exception as error:
        raise EstimatorError(
            f"{type(given).__name__} cannot be copied for each fit ({error}); give a function: callbacks=lambda: [...]"
        ) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without TensorFlow's warning that a function is traced again and again: every model of a search is a new one."""

    def wanted(record: logging.LogRecord) -> bool:
        return "triggered tf.function retracing" not in record.getMessage()

    logger = logging.getLogger("tensorflow")
    logger.addFilter(wanted)
    try:
        yield
    finally:
        logger.removeFilter(wanted)


@contextlib.contextmanager
def seeded(random_state: Any) -> Iterator[None]:
    """Keras's random numbers begin at this seed; with None, nothing is done.

    They are the process's, so one thread at a time; those of Python and NumPy are as before afterwards.
    """
    if random_state is None:
        yield
        return
    with _SEEDED:
        python, numpy = random.getstate(), np.random.get_state()
        whole = isinstance(random_state, numbers.Integral)
        seed = int(random_state) if whole else check_random_state(random_state).randint(2**31 - 1)
        keras.utils.set_random_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def validate_data(estimator: Any, *arrays: Any, **options: Any) -> Any:
    """The arrays, checked and noted as scikit-learn does it; before its version 1.6 that was a method."""
    if hasattr(validation, "validate_data"):
        return validation.validate_data(estimator, *arrays, **options)
    return estimator._validate_data(*arrays, **options)
