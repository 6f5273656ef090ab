"""`mnist`: a small network on 70,000 handwritten digits of 28 x 28 pixels; 60,000 to train, 10,000 to test.

The end points of the intervals make 32 trials. The data are `keras.datasets.mnist` (downloaded once), or a file:
`hparams-lab run mnist --data mnist.npz`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hparams_lab.core.errors import DataError
from hparams_lab.targets.builtin.classifier import Data, as_data, build_model, experiment, final_metrics, fit_options

__all__ = ["EXPERIMENT", "build_model", "final_metrics", "fit_options", "load_data"]

EXPERIMENT = experiment("mnist", epochs=5, batch=128)

ARRAYS = {"x_train": (None, 28, 28), "y_train": (None,), "x_test": (None, 28, 28), "y_test": (None,)}
"""The arrays of the data file and their shapes, None for any length."""

WAYS_OUT = (
    "give a file with --data mnist.npz (arrays x_train, y_train, x_test, y_test), go online once for "
    "keras.datasets.mnist to download it, or run the digits domain, whose data are embedded"
)


def load_data(data: str | None = None) -> Data:
    """The images divided by 255 and flattened to 784, the labels one-hot. Raises DataError."""
    arrays = _from_file(data) if data else _from_keras()
    return as_data(arrays["x_train"], arrays["y_train"], arrays["x_test"], arrays["y_test"], brightest=255)


def _from_file(path: str) -> Mapping[str, Any]:
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files if name in ARRAYS}
    except FileNotFoundError:
        raise DataError(f"the data file {path} does not exist; {WAYS_OUT}") from None
    except Exception as error:  # zipfile, zlib and NumPy each have their own ways to refuse a broken file
        raise DataError(f"the data file {path} cannot be read as .npz ({error}); {WAYS_OUT}") from None
    _check_arrays(path, arrays)
    return arrays


def _check_arrays(path: str, arrays: Mapping[str, Any]) -> None:
    missing = [name for name in ARRAYS if name not in arrays]
    if missing:
        raise DataError(f"the data file {path} has no array {missing[0]!r}; wanted {', '.join(ARRAYS)}")
    for name, shape in ARRAYS.items():
        found = arrays[name].shape
        if len(found) != len(shape) or found[1:] != shape[1:]:
            wanted = ("n", *shape[1:]) if len(shape) > 1 else "(n,)"
            raise DataError(f"the data file {path} has {name} of shape {found}; wanted {wanted}")
    for part in ("train", "test"):
        images, labels = arrays[f"x_{part}"], arrays[f"y_{part}"]
        if len(images) != len(labels) or not len(images):
            raise DataError(
                f"the data file {path} has {len(images)} {part} images and {len(labels)} labels; wanted one each"
            )
        if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() > 9:
            raise DataError(f"the data file {path} has labels in y_{part} that are not the integers 0 to 9")


def _from_keras() -> Mapping[str, Any]:
    import keras

    try:
        (x_train, y_train), (x_test, y_test) = keras.datasets.mnist.load_data()
    except Exception as error:  # urllib's errors reach here wrapped in a bare Exception by Keras
        said = " ".join(str(error).split())
        raise DataError(f"MNIST could not be downloaded ({said}); {WAYS_OUT}") from None
    return {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}
