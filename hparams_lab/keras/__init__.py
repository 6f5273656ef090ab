"""Keras: `RunCallback` for any `model.fit`, and the training of Keras domains.

Needs Keras 3 on any backend; nothing here imports TensorFlow when the backend is another.
"""

from __future__ import annotations

from hparams_lab.errors import MissingExtraError

try:
    import keras as _keras
except ModuleNotFoundError as error:
    if error.name not in ("keras", "tensorflow", "jax", "torch"):
        raise
    raise MissingExtraError.of(f"Keras (or its backend, {error.name})", "tensorflow") from error

from hparams_lab.keras.callback import RunCallback

if int(_keras.__version__.partition(".")[0]) < 3:
    raise MissingExtraError.of(f"Keras 3 (here is {_keras.__version__}, which is too old)", "tensorflow")

__all__ = ["RunCallback"]
