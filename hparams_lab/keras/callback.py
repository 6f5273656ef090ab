"""`RunCallback`: what a `model.fit` reports, epoch by epoch, into a run."""

from __future__ import annotations

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
    """Logs each epoch's metrics at the step "epochs trained": 1 after the first.

    Validation metrics, `val_loss` to Keras, become `val/loss`, which TensorBoard groups in one card.

    Args:
      run: the run to log into, from `start_run` or the runner.
    """

    def __init__(self, run: Run) -> None:
        super().__init__()
        self._run = run

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Log the epoch."""
        self._run.log({tag_of(name): value for name, value in (logs or {}).items()}, step=epoch + 1)


def tag_of(name: str) -> str:
    """The tag of a Keras log: `val_loss` is `val/loss`, anything else as it is."""
    return f"val/{name[4:]}" if name.startswith("val_") else name
