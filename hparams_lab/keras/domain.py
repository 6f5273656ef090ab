"""`KerasTraining`: fit, evaluate and keep the model of a Keras domain.

The domain gives `build_model(hparams)`, a compiled model, and `load_data()`, pairs of arrays: `(x_train, y_train),
(x_test, y_test)`, or three pairs with validation data in the middle. It may give

    fit_options(hparams)     arguments of `model.fit`; else the hparams `epochs` and `batch_size`, where there are such
    final_metrics(logs)      the experiment's metrics from what `model.evaluate` returned; else the same names

Each epoch's training and validation metrics are logged (`loss`, `val/loss`, ...), then the metrics on the last pair of
the data, which no training has seen.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from hparams_lab.core.errors import DataError, DomainLoadError
from hparams_lab.core.trial import HParams
from hparams_lab.executors.job import NOTES, is_full_disk, note_of
from hparams_lab.run.run import Run
from hparams_lab.storage import disk
from hparams_lab.storage.paths import MODEL
from hparams_lab.targets.seeding import loading_alike

EVALUATION_BATCH = 1024
"""Evaluation takes at least so many examples at once: their order and number change nothing but the time."""


class KerasTraining:
    """The train function of a Keras domain.

    Args:
      module: the domain module.
      data: a file for its `load_data`.
      save_model: whether to keep the trained model as `model.keras` in the run's directory.
    """

    def __init__(self, module: ModuleType, data: str | None = None, save_model: bool = False) -> None:
        self._module = module
        self._data_file = data
        self._save_model = save_model
        self._data: tuple[Any, ...] | None = None
        self._trained: Any = None

    def check(self) -> None:
        """Load the data. Raises DataError when they are missing or have the wrong form."""
        self.data()

    def data(self) -> tuple[Any, ...]:
        """The pairs of arrays, loaded once."""
        if self._data is None:
            load_data = self._module.load_data
            takes_file = bool(inspect.signature(load_data).parameters)
            with loading_alike():
                self._data = _checked(load_data(self._data_file) if takes_file else load_data())
        return self._data

    def __call__(self, run: Run) -> Mapping[str, float]:
        """Train one run and return its final metrics."""
        self._trained = None
        import keras

        from hparams_lab.keras import RunCallback

        data = self.data()
        keras.utils.set_random_seed(run.seed or 0)
        model = self._module.build_model(run.hparams)
        if not isinstance(model, keras.Model):
            raise DomainLoadError(f"build_model() returned {type(model).__name__}; wanted a compiled keras.Model")
        options = {"verbose": 0, "validation_data": data[1], **self._fit_options(run.hparams)}
        batch = max(options.get("batch_size") or 0, EVALUATION_BATCH)
        callbacks = [RunCallback(run, training_tag=self._training_tag), *options.pop("callbacks", [])]
        model.fit(*data[0], callbacks=callbacks, validation_batch_size=batch, **options)
        self._trained = model
        try:
            return self._final_metrics(model.evaluate(*data[-1], batch_size=batch, verbose=0, return_dict=True))
        except Exception as error:  # the training need not be lost for that
            needed = {metric.tag for metric in self._module.EXPERIMENT.metrics} - run.metrics.keys()
            if needed or is_full_disk(error):
                raise
            run.text(f"{NOTES}evaluation", note_of("its final metrics are missing", error))
            return {}

    def keep(self, run: Run) -> None:
        """Keep the model that was trained last in the run's directory, whole or not at all, if it is to be kept.

        Raises whatever Keras does with a model that it cannot save.
        """
        if self._save_model and self._trained is not None:
            part = run.dir / f".part-{MODEL}"
            try:
                self._trained.save(part)
                disk.replace(part, run.dir / MODEL)
            finally:
                disk.remove(part)

    def _training_tag(self, name: str) -> str:
        """The tag of an epoch's training metric: another than that of the final metric, which the run is judged by."""
        judged = {metric.tag for metric in self._module.EXPERIMENT.metrics}
        return name if hasattr(self._module, "final_metrics") and name not in judged else f"train/{name}"

    def _fit_options(self, hparams: HParams) -> dict[str, Any]:
        if hasattr(self._module, "fit_options"):
            return dict(self._module.fit_options(hparams))
        return {name: hparams[name] for name in ("epochs", "batch_size") if name in hparams}

    def _final_metrics(self, logs: Mapping[str, float]) -> Mapping[str, float]:
        if hasattr(self._module, "final_metrics"):
            found: Mapping[str, float] = self._module.final_metrics(logs)
            return found
        return logs


def _checked(data: Any) -> tuple[Any, ...]:
    """Two or three pairs whose arrays have as many inputs as targets."""
    pairs = tuple(data) if isinstance(data, (tuple, list)) else ()
    if len(pairs) not in (2, 3) or any(not isinstance(pair, (tuple, list)) or len(pair) != 2 for pair in pairs):
        raise DataError(
            "load_data() returned something else than (x_train, y_train), (x_test, y_test); return such pairs"
        )
    for x, y in pairs:
        if hasattr(x, "shape") and hasattr(y, "shape") and x.shape[0] != y.shape[0]:
            raise DataError(f"load_data() returned {x.shape[0]} inputs with {y.shape[0]} targets; give one target each")
    return pairs
