"""The domains that hyperparameters range over: TensorBoard's, with what TensorBoard cannot say added.

`Discrete`, `IntInterval` and `RealInterval` are values of ours with TensorBoard's names and arguments. `adopt_domain`
turns TensorBoard's own objects into these, and `to_tensorboard` these into its. Added are `scale="log"`, `step=`, and
`None` among the values.

A domain answers: what is `value` here (`cast`), which are its `points(n)` for a grid, how many values it has and which
(`size`, `every`), one value at random (`sample_uniform`), and how TensorBoard holds a value (`stored`, `restored`).
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from hparams_lab.core.errors import DeclarationError, HParamValueError
from hparams_lab.core.intervals import DomainValue, IntInterval, RealInterval, Rng
from hparams_lab.core.tensorboard_types import class_of_tensorboard
from hparams_lab.core.values import Value, cast_number, checked, format_value


class Discrete(DomainValue):
    """A fixed set of values of one type, in the order given; `None` may be among them.

    Args:
      values: at least one `bool`, `int`, `float` or `str` (or NumPy scalar), without duplicates. Integers among
        floats become floats. With `None`, TensorBoard shows the column as strings, `None` as "None".
      dtype: the type of the values where it is not the first one's.

    Raises:
      DeclarationError: no values, a duplicate, mixed types.
    """

    def __init__(self, values: Iterable[Any], dtype: type | None = None) -> None:
        try:
            plain = [checked("values", value) for value in values]
        except HParamValueError as error:
            raise DeclarationError(f"Discrete: {error}") from None
        some = [value for value in plain if value is not None]
        if not plain or (not some and dtype is None):
            raise DeclarationError(f"Discrete({plain!r}) has no value to choose; give at least one that is not None")
        dtype = dtype or _common_type(some)
        if dtype not in (bool, int, float, str):
            raise DeclarationError(f"Discrete has dtype {dtype!r}; wanted bool, int, float or str")
        self._nullable = len(some) < len(plain)
        self._dtype = dtype
        self._values = [None if value is None else _declared(value, dtype) for value in plain]
        if len({str(value) for value in self._values}) < len(self._values):
            twice = next(value for value in self._values if self._values.count(value) > 1 or str(value) == "None")
            raise DeclarationError(f"Discrete has the value {twice!r} twice; name each once")

    def __str__(self) -> str:
        return "{" + ", ".join(format_value(value) for value in self._values) + "}"

    def __repr__(self) -> str:
        return f"Discrete({self._values!r})"

    @property
    def size(self) -> int:
        """How many values there are."""
        return len(self._values)

    def cast(self, name: str, value: Any) -> Value:
        """`value` as one of the values, or HParamValueError."""
        plain = None if value is None else cast_number(name, value, self._dtype)
        if plain in self._values:
            return plain
        raise HParamValueError(f"hparam {name!r} is {plain!r}; its domain is {self}")

    def points(self, count: int) -> tuple[Value, ...]:
        """Every value, whatever `count` says."""
        return tuple(self._values)

    def every(self) -> Sequence[Value]:
        """Every value."""
        return tuple(self._values)

    def stored(self, value: Value) -> bool | float | str:
        """`value` as TensorBoard holds it: a string when `None` is among the values (a column has one type)."""
        if self._nullable:
            return str(value)
        assert value is not None
        return value

    def sample_uniform(self, rng: Rng = random) -> Any:
        """One of the values, each as likely."""
        return rng.choice(self._values)

    @property
    def values(self) -> list[Value]:
        """The values in the order given."""
        return list(self._values)

    @property
    def dtype(self) -> type:
        """The type of the values: bool, int, float or str."""
        return self._dtype

    @property
    def min_value(self) -> Any:
        """The smallest value."""
        return min(value for value in self._values if value is not None)

    @property
    def max_value(self) -> Any:
        """The largest value."""
        return max(value for value in self._values if value is not None)

    def to_json(self) -> dict[str, Any]:
        """The domain as plain JSON, for `domain_from_json`."""
        return {"kind": "discrete", "values": list(self._values), "dtype": self._dtype.__name__}


def _common_type(values: list[Any]) -> type:
    """The one type of `values`, `float` for integers among floats; DeclarationError when they are mixed."""
    types = {type(value) for value in values}
    if types == {int, float}:
        return float
    if len(types) > 1:
        shown = ", ".join(f"{value!r} ({type(value).__name__})" for value in values)
        raise DeclarationError(f"Discrete has values of mixed types: {shown}; give one type (True is not 1)")
    return types.pop()


def _declared(value: Any, dtype: type) -> Value:
    try:
        return cast_number("values", value, dtype)
    except HParamValueError:
        raise DeclarationError(f"Discrete has {value!r} among values of type {dtype.__name__}; give one type") from None


Domain: TypeAlias = Discrete | IntInterval | RealInterval


def adopt_domain(name: str, domain: Any) -> Domain:
    """`domain` as one of ours; TensorBoard's own are taken over."""
    if isinstance(domain, (Discrete, IntInterval, RealInterval)):
        return domain
    kind = class_of_tensorboard(domain)
    if kind == "Discrete":
        return Discrete(domain.values, dtype=domain.dtype)
    if kind == "IntInterval":
        return IntInterval(domain.min_value, domain.max_value)
    if kind == "RealInterval":
        return RealInterval(domain.min_value, domain.max_value)
    raise DeclarationError(
        f"hparam {name!r} has the domain {domain!r}; "
        "wanted Discrete([...]), IntInterval(lo, hi) or RealInterval(lo, hi)"
    )


def domain_from_json(found: Mapping[str, Any]) -> Domain:
    """The domain that `to_json` wrote."""
    if found["kind"] == "discrete":
        return Discrete(found["values"], dtype={"bool": bool, "int": int, "float": float, "str": str}[found["dtype"]])
    kind = IntInterval if found["kind"] == "IntInterval" else RealInterval
    return kind(found["min"], found["max"], scale=found["scale"], step=found["step"])
