"""scikit-learn: Keras models as its estimators, and its searches in the HParams tab.

    KerasClassifier, KerasRegressor    a build function's arguments, epochs and batch size as parameters to search
    log_search, HParamsCallback        a grid, random or halving search over any estimator, logged as a sweep

Needs scikit-learn 1.5 or later (the `sklearn` extra); Keras only for its two estimators.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from hparams_lab.core.errors import MissingExtraError

try:
    import sklearn
except ModuleNotFoundError as error:
    if error.name != "sklearn":
        raise
    raise MissingExtraError.of("scikit-learn", "sklearn") from error

if TYPE_CHECKING:
    from hparams_lab.integrations.sklearn.estimators import KerasClassifier as KerasClassifier
    from hparams_lab.integrations.sklearn.estimators import KerasRegressor as KerasRegressor
    from hparams_lab.integrations.sklearn.search import HParamsCallback as HParamsCallback
    from hparams_lab.integrations.sklearn.search import log_search as log_search

__all__ = ["HParamsCallback", "KerasClassifier", "KerasRegressor", "log_search"]

_MODULES = {
    "HParamsCallback": "search",
    "KerasClassifier": "estimators",
    "KerasRegressor": "estimators",
    "log_search": "search",
}


SCIKIT_LEARN = "scikit-learn>=1.5,<1.10"
"""Those whose searches `log_search` knows from inside. The estimators take later ones too."""


def _check(package: str, version: str, lowest: tuple[int, int], below: int) -> None:
    """Refuse a version that this was not made for. Raises MissingExtraError."""
    if not lowest <= tuple(map(int, version.split(".")[:2])) < (below, 0):
        wanted = "{}.{}".format(*lowest)
        raise MissingExtraError(
            f"{package} {version} is installed, and hparams_lab works with {wanted} and later, below {below}; "
            f"bring one with: pip install '{package}>={wanted},<{below}'"
        )


if tuple(map(int, sklearn.__version__.split(".")[:2])) < (1, 5):
    raise MissingExtraError(
        f"scikit-learn {sklearn.__version__} is too old; bring a later one with: pip install '{SCIKIT_LEARN}'"
    )


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if _MODULES[name] == "estimators":
        importlib.import_module("hparams_lab.keras.callback")  # says what is missing where Keras is
        _check("keras", importlib.import_module("keras").__version__, (3, 12), 4)
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
