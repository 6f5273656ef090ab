"""`Scalars`, the points of a tag as arrays; `By`, the number a curve is judged by; `Thin`, what is kept of it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hparams_lab.core.errors import UsageError
from hparams_lab.core.scalar import Goal


class Scalars(NamedTuple):
    """The points of one tag in the order of writing: three arrays of one length."""

    steps: NDArray[np.int64]
    wall_times: NDArray[np.float64]  # seconds since 1970
    values: NDArray[np.float64]

    def taken(self, which: slice | NDArray[np.int64]) -> Scalars:
        """Some of the points, in the order asked for."""
        steps, wall_times, values = self
        return Scalars(steps[which], wall_times[which], values[which])


NO_SCALARS = Scalars(np.empty(0, np.int64), np.empty(0, np.float64), np.empty(0, np.float64))

Thin: TypeAlias = Callable[[Scalars], Scalars]
"""What to keep of a tag's points. It is applied piece by piece while a file is read, so that memory is bounded by what
is kept: what it makes of its own result and the points after it must be what it makes of all of them."""


def extremes(points: Scalars) -> Scalars:
    """The first point, the smallest value, the largest, and the last point, in the order of writing.

    Enough for last and best, and for when a run began and ended that another tool logged.
    """
    if len(points.values) < 2:
        return points
    finite = np.isfinite(points.values)
    if not finite.any():
        return points.taken(np.array([0, len(finite) - 1]))
    low = np.argmin(np.where(finite, points.values, np.inf))
    high = np.argmax(np.where(finite, points.values, -np.inf))
    return points.taken(np.array(sorted({0, int(low), int(high), len(finite) - 1})))


@dataclass(frozen=True, slots=True)
class By:
    """Which number of a curve its run is judged by: the last, the best, or the mean of the last `count`."""

    rule: str = "last"
    count: int = 1

    @classmethod
    def of(cls, text: str | By) -> By:
        """`last`, `best` or `mean-of-last-N`. Raises UsageError."""
        if isinstance(text, By):
            return text
        found = re.fullmatch(r"(last|best|mean)(?:-of-last-([1-9]\d{0,8}))?", text)
        if not found or (found[1] == "mean") is not bool(found[2]):
            raise UsageError(f"by is {text!r}; wanted last, best or mean-of-last-N, such as mean-of-last-5")
        return cls(found[1], int(found[2] or 1))

    def __str__(self) -> str:
        return f"mean-of-last-{self.count}" if self.rule == "mean" else self.rule

    def value(self, points: Scalars, goal: Goal) -> float:
        """The number; NaN when there is no point, or for best no finite one."""
        values = points.values[-self.count :] if self.rule == "mean" else points.values
        if self.rule == "best":
            values = values[np.isfinite(values)]
        if not len(values):
            return math.nan
        if self.rule == "best":
            return float(values.max() if goal == "max" else values.min()) + 0.0  # -0.0 is 0.0
        return float(values.mean() if self.rule == "mean" else values[-1])

    def _last(self, points: Scalars) -> Scalars:
        """The first point and the last ones, copied, so that the others are not kept for their sake."""
        size = len(points.values)
        last = np.arange(max(0, size - self.count), size)
        return points.taken(np.concatenate([[0], last]) if size > self.count else last)

    @property
    def thin(self) -> Thin:
        """What must be kept of a curve to answer."""
        if self.rule == "mean":
            return self._last
        return extremes


LAST = By()
