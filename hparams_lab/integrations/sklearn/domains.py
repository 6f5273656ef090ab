"""A search's parameters as columns: the domain of each, from its list or distribution; its values, as text if need be.

    {"C": loguniform(1e-3, 10), "kernel": ["rbf", None], "layers": [(32,), (64, 64)]}

is C in [0.001, 10] on a log scale, kernel in {rbf, None}, and layers in {"[32]", "[64, 64]"}: TensorBoard holds
numbers, bools and strings, one type in a column.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from hparams_lab.core.described import Tell, as_text, tell_alike
from hparams_lab.core.domains import Discrete, Domain
from hparams_lab.core.errors import DeclarationError
from hparams_lab.core.hparam import HParam
from hparams_lab.core.intervals import IntInterval, RealInterval, Scale
from hparams_lab.core.values import Value, checked, unwrap

_LOG_DISTRIBUTIONS = ("loguniform", "reciprocal")

_Ends: TypeAlias = "tuple[Any, Any, bool, Scale]"
"""The least and the largest value, whether they are whole numbers, and the scale."""


@dataclass(frozen=True, slots=True)
class Column:
    """How the values of a parameter stand in TensorBoard.

    Attributes:
      domain: what they range over.
      is_text: whether each is its text, since they have no one type that TensorBoard holds.
      was_object: whether some are no number, bool or string at all: lists, objects, infinities.
    """

    domain: Domain
    is_text: bool = False
    was_object: bool = False

    def value(self, name: str, given: Any) -> Value:
        """A value of the parameter as it is logged."""
        if self.is_text:
            return _text(given, functools.partial(tell_alike, name))
        return self.domain.cast(name, given) if isinstance(self.domain, Discrete) else checked(name, given)


def columns_of(spaces: Iterable[Mapping[str, Any]], candidates: Iterable[Mapping[str, Any]]) -> dict[str, Column]:
    """The columns of a search, by parameter.

    Args:
      spaces: the grids or distributions that it was given: each parameter's list of values or distribution.
      candidates: those that were made of them, which may hold more.
    """
    lists: dict[str, list[Any]] = {}
    distributions: dict[str, list[Any]] = {}
    for space in spaces:
        for name, choice in space.items():
            if hasattr(choice, "rvs"):
                distributions.setdefault(name, []).append(choice)
            lists.setdefault(name, []).extend([] if hasattr(choice, "rvs") else choice)
    drawn: dict[str, list[Any]] = {}
    for candidate in candidates:
        for name, value in candidate.items():
            drawn.setdefault(name, []).append(value)
    found = {
        name: _column(lists.get(name, []), distributions.get(name, []), drawn.get(name, []))
        for name in dict.fromkeys([*lists, *drawn])
    }
    return {name: column for name, column in found.items() if column}


def hparams_of(columns: Mapping[str, Column]) -> list[HParam]:
    """The columns, declared."""
    return [HParam(name, column.domain) for name, column in columns.items()]


def _column(listed: Sequence[Any], distributions: Sequence[Any], drawn: Sequence[Any]) -> Column | None:
    """The column of a parameter with these values and distributions, of which these candidates were drawn.

    None when nothing is known of it: a distribution without ends of which nothing was drawn.
    """
    ends = [ends for ends in map(_support, distributions) if ends]
    some = [*listed, *drawn]
    if some and not (distributions and all(map(_is_number, some))):
        return _discrete(some)
    if some and (listed or len(ends) < len(distributions)):
        plain = [unwrap(value) for value in some]
        ends.append((min(plain), max(plain), all(isinstance(value, int) for value in plain), "linear"))
    return Column(_interval(ends)) if ends else None


def _interval(ends: Sequence[_Ends]) -> Domain:
    """The interval that holds all of these."""
    lo, hi = min(end[0] for end in ends), max(end[1] for end in ends)
    scale: Scale = "log" if all(end[3] == "log" for end in ends) else "linear"
    return IntInterval(lo, hi, scale) if all(end[2] for end in ends) else RealInterval(float(lo), float(hi), scale)


def _support(distribution: Any) -> _Ends | None:
    """The ends of a SciPy distribution; None when it has none, or is another kind of object with `rvs`."""
    try:
        lo, hi = map(float, distribution.support())
    except (AttributeError, TypeError, ValueError):
        return None
    if not (math.isfinite(lo) and math.isfinite(hi) and lo <= hi):
        return None
    if hasattr(distribution, "pmf"):
        return int(lo), int(hi), True, "linear"
    is_log = getattr(getattr(distribution, "dist", distribution), "name", "") in _LOG_DISTRIBUTIONS
    return lo, hi, False, "log" if is_log and lo > 0 else "linear"


def _discrete(values: Sequence[Any]) -> Column:
    """A fixed set of values, in order and each once: as they are, or as text where they have no one type."""
    plain = [unwrap(value) for value in values]
    was_object = not all(map(_is_held, plain))
    types = {type(value) for value in plain if value is not None}
    if not was_object and (len(types) <= 1 or types == {int, float}):
        dtype = float if types == {int, float} else next(iter(types), str)
        typed = [value if value is None else dtype(value) for value in plain]
        try:
            return Column(Discrete(dict.fromkeys(typed), dtype))
        except DeclarationError:  # such as None beside "None"
            pass
    return Column(Discrete(dict.fromkeys(map(_text, values)), str), is_text=True, was_object=was_object)


def _is_held(plain: Any) -> bool:
    """Whether TensorBoard can hold a value."""
    try:
        checked("value", plain)
    except Exception:  # besides ours, that of a `repr` which fails
        return False
    return True


def _is_number(value: Any) -> bool:
    plain = unwrap(value)
    return isinstance(plain, (int, float)) and not isinstance(plain, bool) and _is_held(plain)


def _text(value: Any, tell: Tell = lambda why: None) -> str:
    """A value in words: JSON where it has it. The name of its type where it cannot say what it is."""
    try:
        said = str(as_text(value, tell))
    except Exception:
        said = type(value).__name__
    return said.encode("utf-8", "backslashreplace").decode()
