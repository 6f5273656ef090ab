"""The value of a metric as numbers: one number for one element, `tag/0`, `tag/1`, ... for several."""

from __future__ import annotations

import contextlib
import warnings
from collections import UserDict
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

from hparams_lab.core.errors import UsageError
from hparams_lab.core.scalar import checked_tag
from hparams_lab.core.tensors import SymbolicError, detached, inner, is_symbolic, listed, only, shape_of, size_of
from hparams_lab.core.values import short
from hparams_lab.core.warned import warn_caller

MOST_ELEMENTS = 32
"""An array of more elements is no metric: each would be a curve, and a column in the HParams tab."""

LeaveOut = Callable[[str, str], None]
"""Told the tag of a metric that is left out, and why."""


class LeftOut:
    """A `LeaveOut` that warns, once for each tag."""

    def __init__(self, where: str = "") -> None:
        self._where = f"{where}: " if where else ""
        self._told: set[str] = set()

    def __call__(self, tag: str, why: str) -> None:
        """Warn."""
        if tag not in self._told:
            self._told.add(tag)
            warn_caller(f"{self._where}metric {tag!r} {why}; it is left out")


class Intake:
    """Makes numbers of what one run is given, with one warning for what is left out.

    Attributes:
      several: the tags that came as arrays or mappings, so that they have no value of their own.
      leave_out: warns of a metric that is left out, once for each.
    """

    def __init__(self, run: str, objective: str | None = None) -> None:
        self.several: set[str] = set()
        self.leave_out = LeftOut(f"run {run!r}")
        self._run = run
        self._objective = objective

    def __call__(self, values: Mapping[str, Any]) -> dict[str, float]:
        """As `numbers_of`. Raises UsageError."""
        found = numbers_of(values, self.leave_out)
        self.note({tag for tag in values if tag not in found})
        return found

    def among(self, values: Mapping[str, Any]) -> dict[str, float]:
        """As `numbers_among`: for what a framework reports, which is no reason to stop it."""
        found = numbers_among(values, self.leave_out)
        self.note({tag for tag, value in values.items() if tag not in found and has_elements(value)})
        return found

    def note(self, several: set[str]) -> None:
        """Note the tags that have no value of their own."""
        new = several - self.several
        self.several |= new
        if self._objective is not None and self._objective in new:
            warn_caller(f"run {self._run!r}: {unranked(self._objective)}")


def unranked(objective: str) -> str:
    """Why an objective that is an array does not count."""
    return f"the objective {objective!r} is an array, which cannot rank trials; log one number for it, such as its mean"


class Summary(UserDict[str, float]):
    """Final values by tag, made numbers when they are set."""

    def __init__(self, numbers: Intake) -> None:
        self._numbers = numbers
        super().__init__()

    def __setitem__(self, tag: str, value: Any) -> None:
        self.data.update(self._numbers({tag: value}))


def numbers_of(values: Mapping[str, Any], leave_out: LeaveOut) -> dict[str, float]:
    """Metrics as numbers by tag, in their order.

    Args:
      values: by tag. One element of whatever shape (a number, a tensor, a list of one) is that number. An array or a
        list of 2 to 32 is a tag for each, `f1/0`, `f1/1`, ..., with an index for each axis that is longer than 1. A
        mapping is a tag for each key, `val/loss`.
      leave_out: called for arrays that are empty, longer, or hold what is no number.

    Raises UsageError for a value that is neither a number nor an array, a symbolic tensor, and a tag that cannot be.
    """
    found: dict[str, float] = {}
    for tag, value in values.items():
        checked_tag(tag)
        if has_elements(value):
            found |= _elements(tag, value, leave_out)
        else:
            found[tag] = as_float(tag, value)
    return found


def numbers_among(values: Mapping[str, Any], leave_out: LeaveOut) -> dict[str, float]:
    """As `numbers_of`, of those that are numbers: a metric of a framework may also be a text or an object."""
    found: dict[str, float] = {}
    for tag, value in values.items():
        with contextlib.suppress(UsageError):
            found |= numbers_of({tag: value}, leave_out)
    return found


def as_float(tag: str, value: Any) -> float:
    """`value` as a float: numbers, bools, tensors of one element of any framework. Raises UsageError."""
    if is_symbolic(value):
        raise SymbolicError(f"metric {tag!r}", value)
    shape = shape_of(value)
    if not isinstance(value, (str, bytes)) and (not shape or size_of(shape) == 1):
        with contextlib.suppress(Exception):  # each framework has errors of its own
            return float(only(listed(value)) if shape else detached(value))
    of_shape = "" if shape is None else f" of shape {shape}"
    raise UsageError(f"metric {tag!r} is {short(value)} ({type(value).__name__}{of_shape}); wanted a single number")


def has_elements(value: Any) -> bool:
    """Whether `value` is an array, a list or a mapping, and not a single value."""
    return isinstance(value, (list, tuple, Mapping)) or (bool(shape_of(value)) and not is_symbolic(value))


def is_quick(value: Any) -> bool:
    """Whether `float` takes it without a word: a tensor with a graph, or an array of one element, may warn."""
    tensor = inner(value)
    return not getattr(tensor, "requires_grad", False) and not has_elements(tensor)


# `Run.log` hands most values to `float` unseen. Of a tensor with a graph, torch says this once.
warnings.filterwarnings("ignore", "Converting a tensor with requires_grad=True", UserWarning, r"hparams_lab\.")


def _elements(tag: str, value: Any, leave_out: LeaveOut) -> dict[str, float]:
    try:
        pairs = [*islice(_walked(tag, value), MOST_ELEMENTS + 1)]
        found = {checked_tag(name): as_float(name, number) for name, number in pairs}
    except SymbolicError:
        raise
    except Exception:
        leave_out(tag, f"is {_kind(value)} that does not hold numbers alone")
        return {}
    if not 0 < len(pairs) <= MOST_ELEMENTS:
        count = f"with more than {MOST_ELEMENTS}" if pairs else "without"
        leave_out(tag, f"is {_kind(value)} {count} elements")
        return {}
    return found


def _walked(tag: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The elements, each with its tag; one more than there may be for a large tensor, which is not copied for it."""
    shape = shape_of(value)
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _walked(f"{tag}/{key}", part)
    elif isinstance(value, (list, tuple)):
        for index, part in enumerate(value):
            yield from _walked(tag if len(value) == 1 else f"{tag}/{index}", part)
    elif shape and not is_symbolic(value):
        size = size_of(shape)
        yield from _walked(tag, [0] * (MOST_ELEMENTS + 1) if size and size > MOST_ELEMENTS else listed(value))
    else:
        yield tag, value


def _kind(value: Any) -> str:
    shape = shape_of(value)
    return f"a {type(value).__name__}" + (f" of shape {shape}" if shape else "")


def warn_of_steps_back(run: str, tag: str) -> None:
    """What a run is told once, whether its steps go back in one process or when it is resumed."""
    warnings.warn(
        f"run {run!r}: the steps of {tag!r} go back; all points are kept, but TensorBoard's default loader "
        "drops earlier ones with a larger step",
        stacklevel=2,
    )
