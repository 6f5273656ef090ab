"""`RunCallback`: what a `model.fit` reports, epoch by epoch, into a run."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from hparams_lab.errors import MissingExtraError
from hparams_lab.logger import Run

try:
    import keras
except ModuleNotFoundError as error:
    if error.name not in ("keras", "tensorflow", "jax", "torch"):
        raise
    raise MissingExtraError.of(f"Keras (or its backend, {error.name})", "tensorflow") from error

if int(keras.__version__.partition(".")[0]) < 3:
    raise MissingExtraError.of(f"Keras 3 (here is {keras.__version__}, which is too old)", "tensorflow")


class RunCallback(keras.callbacks.Callback):
    """Logs what a `model.fit` reports.

    Each epoch's metrics stand at the step "epochs trained", 1 after the first. Validation metrics, `val_loss` to Keras,
    become `val/loss`, which TensorBoard groups in one card.

    Args:
      run: the run to log into, from `start_run` or the runner.
      batch_every: log the metrics of every so many training batches too, as `batch/loss` at the step "batches
        trained"; 0 for none.
      extras: log `epoch/learning_rate` and `epoch/seconds` of each epoch too.
      training_tag: the tag of a training metric, by its name; the name itself when left out.
    """

    def __init__(
        self, run: Run, batch_every: int = 0, extras: bool = False, training_tag: Callable[[str], str] = str
    ) -> None:
        super().__init__()
        self._run = run
        self._batch_every = batch_every
        self._extras = extras
        self._training_tag = training_tag
        self._batches = 0
        self._began = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Note the time."""
        self._began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Log the epoch."""
        found = {self._tag(name): value for name, value in (logs or {}).items()}
        if self._extras:
            found["epoch/seconds"] = time.perf_counter() - self._began
            if (rate := self._learning_rate()) is not None:
                found["epoch/learning_rate"] = rate
        self._run.log(found, step=epoch + 1)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Log the batch, if it is one that was asked for."""
        self._batches += 1
        if self._batch_every and self._batches % self._batch_every == 0:
            self._run.log({f"batch/{name}": value for name, value in (logs or {}).items()}, step=self._batches)

    def _tag(self, name: str) -> str:
        return tag_of(name) if name.startswith("val_") else self._training_tag(name)

    def _learning_rate(self) -> float | None:
        """The optimizer's learning rate now, schedules included; None for a model without one."""
        rate = getattr(getattr(self.model, "optimizer", None), "learning_rate", None)
        return None if rate is None else float(keras.ops.convert_to_numpy(rate))


def tag_of(name: str) -> str:
    """The tag of a Keras log: `val_loss` is `val/loss`, anything else as it is."""
    return f"val/{name[4:]}" if name.startswith("val_") else name
