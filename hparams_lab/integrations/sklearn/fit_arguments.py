"""What `fit(X, y, epochs=2, callbacks=[...])` takes besides the data, for that fit only.

    search.fit(X, y, epochs=2, callbacks=[keras.callbacks.EarlyStopping("loss")])
    pipeline.fit(X, y, kerasclassifier__epochs=2)
    cross_val_score(estimator, X, y, params={"verbose": 1})
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hparams_lab.integrations.sklearn.build_function import EstimatorError, plain

IN_PLACE = ("epochs", "batch_size", "verbose", "validation_split", "callbacks", "class_weight")
"""Arguments that stand in for a parameter of the estimator."""

AS_THEY_ARE = IN_PLACE[:3]
"""Parameters that `model.fit` gets as they are."""

PASSED_ON = (
    "shuffle",
    "initial_epoch",
    "steps_per_epoch",
    "validation_steps",
    "validation_batch_size",
    "validation_freq",
)
"""Arguments that only `model.fit` knows."""

KNOWN = (*IN_PLACE, *PASSED_ON)


def taken(parameters: Mapping[str, Any], arguments: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parameters that a fit goes by, as plain Python, and those of `model.fit`.

    Args:
      parameters: the estimator's.
      arguments: of this fit; None is as left out.

    Raises EstimatorError for an argument that is neither.
    """
    in_place = [name for name in IN_PLACE if name in parameters]
    for name in arguments:
        _check_known(name, parameters, [*in_place, *PASSED_ON])
    given = {name: plain(value) for name, value in arguments.items() if value is not None}
    own = {name: given[name] if name in in_place and name in given else plain(parameters[name]) for name in parameters}
    more = {name: given[name] for name in PASSED_ON if name in given}
    return own, {**{name: own[name] for name in AS_THEY_ARE}, **more}


def check_pair(validation_data: Any) -> None:
    """Refuse what is no (X, y) or (X, y, sample_weight). Raises EstimatorError."""
    if not isinstance(validation_data, (tuple, list)) or len(validation_data) not in (2, 3):
        raise EstimatorError("validation_data is no pair; wanted (X, y) or (X, y, sample_weight)")


def _check_known(name: str, parameters: Mapping[str, Any], known: list[str]) -> None:
    if name in known:
        return
    if name in parameters:
        raise EstimatorError(f"fit() takes no {name!r}, which is a parameter; set it before: set_params({name}=...)")
    raise EstimatorError(f"fit() takes no {name!r}; it takes sample_weight, validation_data, {', '.join(known)}")
