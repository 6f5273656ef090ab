"""`EpochCallback`: what Keras reports while a tuner's trial is trained."""

from __future__ import annotations

from typing import Any

import keras

from hparams_lab.integrations.keras_tuner.record import TunerLog


class EpochCallback(keras.callbacks.Callback):
    """Tells a `TunerLog` the epochs. Copied deeply, as keras-tuner does for each training, it is the same one."""

    def __init__(self, log: TunerLog) -> None:
        super().__init__()
        self._log = log

    def __deepcopy__(self, memo: Any) -> EpochCallback:
        return self

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Start the run."""
        self._log.fit_begins()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Log the epoch."""
        self._log.epoch(epoch, logs or {})
