"""`IntInterval` and `RealInterval`: numbers between two ends, by a scale, in steps where there are any.

What the domains share is here too: equality by what they hold, and TensorBoard's form.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from types import ModuleType
from typing import Any, Literal, TypeAlias

from hparams_lab.core.errors import DeclarationError, HParamValueError
from hparams_lab.core.tensorboard_types import tensorboard_domain
from hparams_lab.core.values import Value, cast_number, format_value

Rng: TypeAlias = random.Random | ModuleType
Scale = Literal["linear", "log"]


def tidy(number: float) -> float:
    """`number` without the dust of binary arithmetic: 12 significant digits."""
    return float(f"{number:.12g}")


class DomainValue:
    """Equality and hash by class and `repr`, which says all there is to say; and TensorBoard's form."""

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    def to_tensorboard(self) -> Any:
        """TensorBoard's own domain of that name, for its `hp` API."""
        return tensorboard_domain(self)


class _Interval(DomainValue):
    """What the two intervals share. Values are `lo + k * step` where there is a step."""

    dtype: type
    _min_value: Any
    _max_value: Any

    @property
    def min_value(self) -> Any:
        """The lower end, as declared."""
        return self._min_value

    @property
    def max_value(self) -> Any:
        """The upper end, as declared."""
        return self._max_value

    def _declare(self, lo: Any, hi: Any, scale: Scale, step: Any) -> None:
        kind = type(self).__name__
        self._min_value, self._max_value = _bound(kind, lo, self.dtype), _bound(kind, hi, self.dtype)
        self.scale: Scale = scale
        self.step = None if step is None else _bound(kind, step, self.dtype)
        if self._min_value > self._max_value:
            raise DeclarationError(f"{kind} has min {lo!r} > max {hi!r}; give the smaller end first")
        if scale not in ("linear", "log"):
            raise DeclarationError(f"{kind} has scale {scale!r}; wanted 'linear' or 'log'")
        if scale == "log" and self._min_value <= 0:
            raise DeclarationError(f"{kind} has a log scale from {lo!r}; a log scale needs both ends above zero")
        if self.step is not None and self.step <= 0:
            raise DeclarationError(f"{kind} has step {step!r}; wanted a step above zero")
        if self.step is not None and not self._in_steps(self._max_value) < 2.0**62:  # as a sequence counts
            raise DeclarationError(f"{kind} has step {step!r}, of which more than 2**62 fit; give a larger one")

    def __str__(self) -> str:
        step = "" if self.step is None else f" step {format_value(self.step)}"
        log = " log" if self.scale == "log" else ""
        return f"[{format_value(self._min_value)}, {format_value(self._max_value)}]{step}{log}"

    def __repr__(self) -> str:
        more = "" if self.scale == "linear" else f", scale={self.scale!r}"
        more += "" if self.step is None else f", step={self.step!r}"
        return f"{type(self).__name__}({self._min_value!r}, {self._max_value!r}{more})"

    def cast(self, name: str, value: Any) -> Value:
        """`value` as a number of this interval, or HParamValueError."""
        plain: Any = cast_number(name, value, self.dtype)
        if not self._min_value <= plain <= self._max_value:
            raise HParamValueError(f"hparam {name!r} is {plain!r}; its domain is {self}")
        if self.step is not None and not math.isclose(plain, self._snap(plain), rel_tol=1e-9, abs_tol=1e-12):
            raise HParamValueError(f"hparam {name!r} is {plain!r}, off the steps of its domain {self}")
        return plain  # type: ignore[no-any-return]

    def points(self, count: int) -> tuple[Value, ...]:
        """The two ends and `count - 2` points between them, even or even in the logarithm, without duplicates.

        One point is the lower end.
        """
        lo, hi = self._min_value, self._last
        if count == 1:
            return (lo,)
        between = (self._at(i / (count - 1), lo, hi) for i in range(1, count - 1))
        return tuple(dict.fromkeys([lo, *(self._snap(point) for point in between), hi]))

    def sample_uniform(self, rng: Rng = random) -> Any:
        """One value, uniform by scale and step."""
        if self.step is not None and self.scale == "linear":
            return self._snap(self._after(rng.randrange(self._steps + 1)))
        return self._snap(self._at(rng.random(), *self._drawing_ends()))

    def stored(self, value: Value) -> bool | float | str:
        """`value` as TensorBoard holds it."""
        assert value is not None
        return value

    def to_json(self) -> dict[str, Any]:
        """The domain as plain JSON, for `domain_from_json`."""
        ends = {"min": self._min_value, "max": self._max_value}
        return {"kind": type(self).__name__, **ends, "scale": self.scale, "step": self.step}

    @property
    def _steps(self) -> int:
        """How many whole steps fit."""
        return math.floor(self._in_steps(self._max_value) * (1 + 1e-12) + 1e-9)

    def _after(self, steps: int) -> float:
        """The point so many steps from the lower end."""
        step = self.step or 0
        try:
            point: float = self._min_value + steps * step
        except OverflowError:  # of a step count that no float holds
            point = math.inf
        if math.isinf(point):
            point = (self._min_value / step + steps) * step
        return min(max(point, self._min_value), self._max_value) if math.isinf(point) else point

    def _in_steps(self, point: float) -> float:
        """How many steps `point` is from the lower end."""
        low, step = float(self._min_value), float(self.step or 0)
        span = point - low
        return span / step if math.isfinite(span) else point / step - low / step  # wider than the largest number

    @property
    def _last(self) -> Any:
        """The largest value: `hi`, or the last step below it."""
        return self._max_value if self.step is None else self._snap(self._max_value)

    def _at(self, fraction: float, lo: float, hi: float) -> float:
        """The point `fraction` of the way (0 to 1) from `lo` to `hi` by the scale."""
        if self.scale == "log":
            return math.exp(math.log(lo) + fraction * (math.log(hi) - math.log(lo)))
        if math.isinf(hi - lo):  # wider than the largest number
            return float(lo * (1 - fraction) + hi * fraction)
        return float(lo + fraction * (hi - lo))

    def _drawing_ends(self) -> tuple[float, float]:
        """Between what draws are made, before they are rounded to a value."""
        return self._min_value, self._last

    def _snap(self, point: float) -> Any:
        """The value of the interval nearest to `point`."""
        lo, hi = self._min_value, self._max_value
        if self.step is not None:
            point = self._after(min(round(self._in_steps(point)), self._steps))
        return min(max(self._convert_point(min(max(point, lo), hi)), lo), hi)

    def _convert_point(self, point: float) -> Any:
        raise NotImplementedError


def _bound(kind: str, value: Any, dtype: type) -> Any:
    try:
        return cast_number("bound", value, dtype)
    except HParamValueError:
        wanted = "a whole number within 2**53" if dtype is int else "a finite number"
        raise DeclarationError(f"{kind} has the bound {value!r}; wanted {wanted}") from None


class IntInterval(_Interval):
    """Every integer from `lo` to `hi`, both included.

    Args:
      lo, hi: whole numbers, `lo <= hi`.
      scale: "linear" or "log" (both ends above zero): how points are spaced and drawn.
      step: only `lo, lo + step, lo + 2 * step, ...` up to `hi`.

    Raises:
      DeclarationError: ends the wrong way round, not whole, or a log scale through zero.
    """

    dtype = int

    def __init__(self, lo: Any, hi: Any, scale: Scale = "linear", step: Any = None) -> None:
        self._declare(lo, hi, scale, step)

    @property
    def size(self) -> int:
        """How many values there are."""
        return len(self.every())

    def every(self) -> Sequence[int]:
        """Every value, as a range."""
        return range(self._min_value, self._max_value + 1, self.step or 1)

    def sample_uniform(self, rng: Rng = random) -> Any:
        """One value, uniform by scale and step."""
        if self.step is None and self.scale == "linear":
            return rng.randint(self._min_value, self._max_value)
        return super().sample_uniform(rng)

    @property
    def _steps(self) -> int:
        return len(self.every()) - 1

    def _drawing_ends(self) -> tuple[float, float]:
        half = (self.step or 1) / 2
        return max(self._min_value - half, self._min_value / 2), self._last + half

    def _convert_point(self, point: float) -> int:
        return round(point)


class RealInterval(_Interval):
    """Every real number from `lo` to `hi`, both included.

    Args:
      lo, hi: finite numbers, `lo <= hi`.
      scale: "linear" or "log" (both ends above zero): how points are spaced and drawn.
      step: only `lo, lo + step, lo + 2 * step, ...` up to `hi`.

    Raises:
      DeclarationError: ends the wrong way round, not finite, or a log scale through zero.
    """

    dtype = float

    def __init__(self, lo: Any, hi: Any, scale: Scale = "linear", step: Any = None) -> None:
        self._declare(lo, hi, scale, step)

    @property
    def size(self) -> int | None:
        """How many values there are; None for infinitely many."""
        if self._min_value == self._max_value:
            return 1
        return None if self.step is None else self._steps + 1

    def every(self) -> Sequence[float] | None:
        """Every value; None for infinitely many."""
        if self.size is None:
            return None
        return _Steps(self)

    def _convert_point(self, point: float) -> float:
        return tidy(point)


class _Steps(Sequence[float]):
    """The values of a `RealInterval` with a step, each made when it is asked for."""

    def __init__(self, interval: RealInterval) -> None:
        self._interval = interval

    def __len__(self) -> int:
        return self._interval.size or 0

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self._interval._snap(self._interval._after(range(len(self))[index]))
