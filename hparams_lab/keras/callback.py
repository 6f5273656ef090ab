"""`RunCallback`: what a `model.fit` reports, epoch by epoch, into a run."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from types import FrameType
from typing import Any

from hparams_lab.core.errors import MissingExtraError
from hparams_lab.run.run import Run

try:
    import keras
except ModuleNotFoundError as error:
    if error.name not in ("keras", "tensorflow", "jax", "torch"):
        raise
    raise MissingExtraError.of(f"Keras (or its backend, {error.name})", "tensorflow") from error

if int(keras.__version__.partition(".")[0]) < 3:
    raise MissingExtraError.of(f"Keras 3 (here is {keras.__version__}, which is too old)", "tensorflow")


BEST_EPOCH = "best_epoch"
"""The tag of the epoch whose weights were restored."""

FRAMES = 10
"""So far up is Keras's list of callbacks, which calls one of them."""


class RunCallback(keras.callbacks.Callback):
    """Logs what a `model.fit` reports.

    Each epoch's metrics stand at the step "epochs trained", 1 after the first. Validation metrics, `val_loss` to Keras,
    become `val/loss`, which TensorBoard groups in one card. Where the run holds some already, resumed or trained by an
    earlier fit, steps go on behind those.

    Where `EarlyStopping(restore_best_weights=True)` brings back the weights of an earlier epoch, that epoch's metrics
    are logged again one step behind the last, so that the run ends on them, and `best_epoch` says which it was.

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
        self._batches_before = 0
        self._began = 0.0
        self._beside: Sequence[Any] = ()
        self._before: int | None = None  # epochs that the run held before this fit; None until one is over
        self._epochs: dict[int, tuple[int, dict[str, float]]] = {}  # by Keras's number, the step and metrics of each

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Begin to count anew."""
        self._beside = _callbacks_with(self, sys._getframe(1))
        self._before, self._epochs = None, {}
        if self._batch_every:
            steps = _largest(self._run.last_steps, lambda tag: tag.startswith("batch/"))
            self._batches_before = max(self._batches_before, steps - self._batches)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Note the time."""
        self._began = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Log the epoch."""
        metrics = self._run.numbers_of.among({self._tag(name): value for name, value in (logs or {}).items()})
        if self._before is None:
            self._before = self._epochs_before(epoch, metrics)
        step = epoch + 1 + self._before
        self._epochs[epoch] = step, metrics
        self._run.log({**metrics, **self._extra()}, step=step)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """End on the epoch whose weights are restored."""
        kept = _restored(self._beside)
        if kept in self._epochs:
            step, metrics = self._epochs[kept]
            last, _ = self._epochs[max(self._epochs)]
            self._run.log({**(metrics if step < last else {}), self._best_epoch: step}, step=last + 1)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Log the batch, if it is one that was asked for."""
        self._batches += 1
        if self._batch_every and self._batches % self._batch_every == 0:
            metrics = {f"batch/{name}": value for name, value in (logs or {}).items()}
            self._run.log(self._run.numbers_of.among(metrics), step=self._batches + self._batches_before)

    _best_epoch = BEST_EPOCH

    def _epochs_before(self, epoch: int, tags: Iterable[str]) -> int:
        """What to add to Keras's number of an epoch, so that the steps of these tags go on."""
        return max(0, _largest(self._run.last_steps, {*tags}.__contains__) - epoch)

    def _extra(self) -> dict[str, float]:
        if not self._extras:
            return {}
        rate = self._learning_rate()
        seconds = {"epoch/seconds": time.perf_counter() - self._began}
        return seconds if rate is None else {**seconds, "epoch/learning_rate": rate}

    def _tag(self, name: str) -> str:
        return tag_of(name) if name.startswith("val_") else self._training_tag(name)

    def _learning_rate(self) -> float | None:
        """The optimizer's learning rate now, schedules included; None for a model without one."""
        rate = getattr(getattr(self.model, "optimizer", None), "learning_rate", None)
        return None if rate is None else float(keras.ops.convert_to_numpy(rate))


def tag_of(name: str) -> str:
    """The tag of a Keras log: `val_loss` is `val/loss`, anything else as it is."""
    return f"val/{name[4:]}" if name.startswith("val_") else name


def _largest(steps: dict[str, int], counts: Callable[[str], bool]) -> int:
    """The largest step of the tags that count; 0 without one."""
    return max((step for tag, step in steps.items() if counts(tag)), default=0)


def _callbacks_with(callback: Any, frame: FrameType | None) -> Sequence[Any]:
    """The callbacks of the fit that calls this one: Keras does not tell a callback, so its list is looked up there."""
    for _ in range(FRAMES):
        found = frame and frame.f_locals.get("self")
        if isinstance(found, keras.callbacks.CallbackList) and callback in found.callbacks:
            return tuple(found.callbacks)
        frame = frame and frame.f_back
    return ()


def _restored(callbacks: Iterable[Any]) -> int | None:
    """The epoch, counted from 0, whose weights an `EarlyStopping` restores; that of the last one, which wins."""
    keeping = [one for one in callbacks if getattr(one, "restore_best_weights", False)]
    kept = [one.best_epoch for one in keeping if getattr(one, "best_weights", None) is not None]
    return kept[-1] if kept else None
