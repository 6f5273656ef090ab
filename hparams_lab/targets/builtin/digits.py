"""`digits`: the network of `mnist` on the 1,797 handwritten digits of 8 x 8 pixels that scikit-learn carries.

No network and no file is needed; 32 trials take a minute or two on two cores. A fifth of the images is kept for
testing.
"""

from __future__ import annotations

from hparams_lab.core.errors import MissingExtraError
from hparams_lab.targets.builtin.classifier import Data, as_data, build_model, experiment, final_metrics, fit_options

__all__ = ["EXPERIMENT", "build_model", "final_metrics", "fit_options", "load_data"]

EXPERIMENT = experiment("digits", epochs=15, batch=32)


def load_data() -> Data:
    """The images divided by 16 and flattened to 64, the labels one-hot. Raises MissingExtraError."""
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ModuleNotFoundError:
        raise MissingExtraError.of("scikit-learn, which carries the digits,", "sklearn") from None
    images, labels = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(images, labels, test_size=0.2, random_state=0, stratify=labels)
    return as_data(x_train, y_train, x_test, y_test, brightest=16)
