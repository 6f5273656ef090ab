"""What does a build function take, and what of that is a parameter?

def build(units=32, learning_rate=1e-3): ...       both are
def build(X, y, units=32): ...                     X and y are the data, as `keras.wrappers` gives them
def build(units, epochs): ...                      `epochs` is the estimator's own, which build gets to know
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

from hparams_lab.core.errors import UsageError, nearest
from hparams_lab.core.values import unwrap

DATA = ("X", "y")
"""Arguments of these names get the data."""

REQUIRED = inspect.Parameter.empty
"""The default of an argument that has none."""

_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class EstimatorError(UsageError, ValueError):
    """What an estimator was given does not fit; a ValueError, as scikit-learn raises."""


class DivergedError(EstimatorError):
    """A model gives NaN: its training diverged."""


def defaults_of(build: Callable[..., Any]) -> dict[str, Any]:
    """The arguments of a build function by name, each with its default or REQUIRED.

    Raises EstimatorError when it is no function, or takes what has no name.
    """
    if not callable(build) or hasattr(build, "predict"):
        raise EstimatorError(f"build is {_shown(build)}; wanted a function that returns a compiled keras.Model")
    try:
        parameters = inspect.signature(build).parameters.values()
    except (TypeError, ValueError) as error:
        raise EstimatorError(
            f"build is {_shown(build)}, whose arguments Python does not tell; wrap it in a def"
        ) from error
    for parameter in parameters:
        if parameter.kind not in _BY_NAME:
            raise EstimatorError(
                f"build() takes {_written(parameter)}; wanted arguments with names, each a parameter: "
                "def build(units=32, learning_rate=1e-3)"
            )
    return {parameter.name: parameter.default for parameter in parameters}


def given_of(build: Any, arguments: Mapping[str, Any], ours: Collection[str]) -> dict[str, Any]:
    """Those values that differ from build's defaults. Raises EstimatorError for a name that is no parameter.

    With a build that is no function every name is taken: as scikit-learn wants it, a fit refuses it.
    """
    defaults = parameters_of(build, ours)
    if defaults is None:
        return {**arguments}
    if unknown := [name for name in arguments if name not in defaults]:
        raise EstimatorError(
            f"no parameter is called {unknown[0]!r}; {nearest(unknown[0], [*defaults, *ours])} "
            f"(of {getattr(build, '__name__', 'build')}: {', '.join(defaults) or 'none'})"
        )
    return {name: value for name, value in arguments.items() if value is not defaults[name]}


def parameters_of(build: Any, ours: Collection[str]) -> dict[str, Any] | None:
    """The arguments that are parameters: neither the data nor among `ours`. None when build cannot be used."""
    try:
        found = defaults_of(build)
    except EstimatorError:
        return None
    return {name: default for name, default in found.items() if name not in (*DATA, *ours)}


def call(build: Callable[..., Any], values: Mapping[str, Any]) -> Any:
    """What build makes of those values that it asks for, as plain Python: Keras takes no `np.int64` for units.

    Raises EstimatorError when one that it needs is missing.
    """
    wanted = defaults_of(build)
    arguments = {name: values[name] if name in DATA else plain(values[name]) for name in wanted if name in values}
    if missing := [name for name, default in wanted.items() if name not in arguments and default is REQUIRED]:
        raise EstimatorError(f"build() needs {missing[0]!r}, which has no default; give it: {missing[0]}=...")
    return build(**arguments)


def plain(value: Any) -> Any:
    """A value with plain Python in place of NumPy's scalars and 0-d arrays, also inside of lists, tuples and dicts.

    Anything else is given back as it is, arrays included.
    """
    kind = type(value)
    if kind is dict:
        return {plain(key): plain(inner) for key, inner in value.items()}
    if kind in (list, tuple, set, frozenset):
        return kind(map(plain, value))
    if isinstance(value, tuple) and hasattr(value, "_fields"):  # a namedtuple
        return kind(*map(plain, value))
    return unwrap(value)


def _written(parameter: inspect.Parameter) -> str:
    only = parameter.kind is inspect.Parameter.POSITIONAL_ONLY
    return f"{parameter.name!r} by its position only" if only else str(parameter).partition(":")[0]


def _shown(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
