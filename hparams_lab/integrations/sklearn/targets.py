"""What does a model's loss want as targets, and what do its outputs say?

    loss                                   outputs    targets                 probabilities
    sparse_categorical_crossentropy, ...   k          class indices           the outputs
    any other                              k          one-hot                 the outputs
    any                                    1          0 and 1, in a column    1 - output, output

With `from_logits=True` the probabilities are softmax or sigmoid of the outputs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hparams_lab.integrations.sklearn.build_function import EstimatorError

Array = NDArray[Any]


def check_width(width: int, classes: int) -> None:
    """Refuse a model whose outputs cannot tell that many classes. Raises EstimatorError."""
    if width < classes and (width, classes) != (1, 2):
        raise EstimatorError(
            f"build()'s model has {width} output{'s' * (width != 1)} and y has {classes} classes; "
            "end it with an output per class"
        )


def encoded(loss: Any, indices: Array, width: int) -> Array:
    """Class indices (examples,) as the targets that the loss wants of a model with so many outputs."""
    if width == 1:
        return indices.astype("float32")[:, None]
    if "sparse" in _name(loss):
        return indices.astype("int32")
    return one_hot(indices, width)


def one_hot(indices: Array, width: int) -> Array:
    """Float32 (examples, width): 1 where the class is."""
    table = np.zeros((len(indices), width), "float32")
    table[np.arange(len(indices)), indices] = 1
    return table


def decided(loss: Any, outputs: Array, classes: int) -> Array:
    """The class index of each row of outputs (examples, width)."""
    if outputs.shape[1] > 1:
        best: Array = outputs[:, :classes].argmax(axis=1)
        return best
    signed = _from_logits(loss) or "hinge" in _name(loss)
    above: Array = outputs[:, 0] > (0.0 if signed else 0.5)
    return above.astype(int)


def probabilities(loss: Any, outputs: Array, classes: int) -> Array:
    """Float64 (examples, classes), each row with the sum 1. Raises EstimatorError for outputs that are none."""
    outputs = outputs.astype("float64")
    if _from_logits(loss):
        outputs = _sigmoid(outputs) if outputs.shape[1] == 1 or "binary" in _name(loss) else _softmax(outputs)
    if outputs.size and (outputs.min() < -1e-6 or outputs.max() > 1 + 1e-6):
        raise EstimatorError(
            f"the model's outputs lie in {outputs.min():.3g}..{outputs.max():.3g} and are no probabilities; "
            "end it with softmax or sigmoid, or compile it with a loss that has from_logits=True"
        )
    if outputs.shape[1] == 1:
        return np.hstack([1 - outputs, outputs])
    outputs = outputs[:, :classes]
    total = outputs.sum(axis=1, keepdims=True)
    shares: Array = np.divide(outputs, total, where=total > 0, out=np.full_like(outputs, 1 / classes))
    return shares


def _name(loss: Any) -> str:
    """The name of a loss, however it was given to `compile`: `sparsecategoricalcrossentropy`."""
    if isinstance(loss, dict):
        loss = [*loss.values()]
    if isinstance(loss, (list, tuple)) and loss:
        return _name(loss[0])
    name = loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)
    return str(name).replace("_", "").lower()


def _from_logits(loss: Any) -> bool:
    if isinstance(loss, (list, tuple, dict)) and loss:
        loss = next(iter(loss.values() if isinstance(loss, dict) else loss))
    return bool(getattr(loss, "from_logits", False))


def _sigmoid(values: Array) -> Array:
    return 0.5 * (1 + np.tanh(0.5 * values))


def _softmax(values: Array) -> Array:
    raised: Array = np.exp(values - values.max(axis=1, keepdims=True))
    shares: Array = raised / raised.sum(axis=1, keepdims=True)
    return shares
