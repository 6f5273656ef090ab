"""`Axis`: where a value of an hparam stands between 0 and 1, whatever its type; `Range`: what a metric's axis shows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hparams_lab.analysis.report.study import Study
from hparams_lab.analysis.report.text import as_label
from hparams_lab.core.results import TrialResult
from hparams_lab.core.values import format_value
from hparams_lab.storage.paths import natural

MOST_TICKS = 6
MOST_CATEGORIES = 10
MARGIN = 0.16
"""How far below 0 the values stand that are no number on an axis of numbers."""
LOG_FROM = 100.0
"""Positive numbers whose largest is so many times the smallest, most of them small, stand on a logarithmic axis."""
NOT_SET = "(not set)"


@dataclass(frozen=True, slots=True)
class Axis:
    """The axis of an hparam: a place for each of its values, and ticks as (place, label).

    `few` tells that it has so few values that they can be told one by one; `numbers` that all of them are numbers.
    """

    name: str
    places: Mapping[str, float]
    ticks: tuple[tuple[float, str], ...]
    numbers: bool
    few: bool
    log: bool = False
    ends: tuple[float, float] = (-0.06, 1.06)

    @classmethod
    def of(cls, study: Study, name: str) -> Axis:
        """The axis of an hparam of all trials."""
        values = {key_of(point.trial, name): point.trial.hparams.get(name) for point in study.points}
        measured = {key: _number(value) for key, value in values.items()}
        numbers = {key: number for key, number in measured.items() if math.isfinite(number)}
        others = [key for key in values if key not in numbers]
        domain = study.domain(name)
        if _can_be_measured(list(numbers.values())) and len(others) <= 2:
            return _numeric(name, numbers, others, domain)
        return _categorical(name, values, domain)

    def place(self, trial: TrialResult) -> float:
        """Where a trial stands."""
        return self.places[key_of(trial, self.name)]

    def counted(self) -> Axis:
        """The same values at 0, 1, 2 and so on, all of them told: the axis of a table's cells."""
        keys = sorted(self.places, key=self.places.__getitem__)
        ticks = tuple((float(n), as_label(key, 16)) for n, key in enumerate(keys))
        places = {key: float(n) for n, key in enumerate(keys)}
        return Axis(self.name, places, ticks, False, True, ends=(-0.5, len(keys) - 0.5))

    @property
    def layout(self) -> dict[str, Any]:
        """The axis as plotly's layout has it."""
        places = [place for place, _ in self.ticks]
        return {
            "title": {"text": as_label(self.name, 28) + (" (log)" if self.log else "")},
            "tickmode": "array", "tickvals": places, "ticktext": [label for _, label in self.ticks],
            "range": [*self.ends], "zeroline": False, "automargin": True,
            "ticklabeloverflow": "allow",
        }  # fmt: skip


def _can_be_measured(numbers: Sequence[float]) -> bool:
    """Whether numbers span what a double can tell and hold."""
    return len(numbers) > 1 and 1e-300 < max(numbers) - min(numbers) < math.inf


def key_of(trial: TrialResult, name: str) -> str:
    """What tells the values of an hparam apart on its axis."""
    return format_value(trial.hparams[name]) if name in trial.hparams else NOT_SET


def _number(value: object) -> float:
    """A value as a number; NaN for what is none."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan


def _numeric(name: str, numbers: Mapping[str, float], others: Sequence[str], domain: Mapping[str, Any]) -> Axis:
    low, high = min(numbers.values()), max(numbers.values())
    crowded = np.median(list(numbers.values())) < high / 10
    log = low > 0 and (domain.get("scale") == "log" or (high / low >= LOG_FROM and bool(crowded)))
    start, stop = (math.log10(low), math.log10(high)) if log else (low, high)

    def place(number: float) -> float:
        return ((math.log10(number) if log else number) - start) / (stop - start)

    places = {key: place(number) for key, number in numbers.items()}
    aside = {key: -MARGIN * n for n, key in enumerate(others, 1)}
    few = len(set(numbers.values())) <= MOST_TICKS
    marks = sorted(set(numbers.values())) if few else nice(low, high, log)
    ticks = _apart([(place(mark), format_value(mark)) for mark in marks])
    told = [(where, as_label(key, 12)) for key, where in aside.items()]
    ends = (-MARGIN * len(others) - 0.06, 1.06)
    return Axis(name, places | aside, tuple(told + ticks), not others, few, log, ends)


def _categorical(name: str, values: Mapping[str, Any], domain: Mapping[str, Any]) -> Axis:
    """Strings and bools in their declared order, else in their natural one."""
    declared = [format_value(value) for value in domain.get("values", ())]
    order = {key: place for place, key in enumerate(declared)}
    keys = sorted(values, key=lambda key: (order.get(key, len(order)), key == NOT_SET, natural(key)))
    places = {key: n / (len(keys) - 1) if len(keys) > 1 else 0.5 for n, key in enumerate(keys)}
    every = -(-len(keys) // MOST_CATEGORIES)
    ticks = tuple((places[key], as_label(key, 16)) for key in keys[::every])
    return Axis(name, places, ticks, False, len(keys) <= MOST_CATEGORIES)


def nice(low: float, high: float, log: bool = False) -> list[float]:
    """Round numbers between two numbers: powers of ten where there are two of them, else 1, 2 or 5 times one."""
    if log:
        powers = [10.0**n for n in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)]
        if len(powers) >= 2:
            return powers[:: -(-len(powers) // MOST_TICKS)]
        return [low, math.sqrt(low * high), high]
    rough = (high - low) / (MOST_TICKS - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    return [n * step for n in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _apart(ticks: list[tuple[float, str]]) -> list[tuple[float, str]]:
    """The ticks whose labels would not lie upon each other; the last one stays."""
    kept: list[tuple[float, str]] = []
    for tick in sorted(ticks, reverse=True):
        if not kept or kept[-1][0] - tick[0] >= 0.1:
            kept.append(tick)
    return kept[::-1]


@dataclass(frozen=True, slots=True)
class Range:
    """What an axis of numbers shows: its ends, whether it is logarithmic, how many of the numbers lie beyond it."""

    low: float
    high: float
    log: bool
    beyond: int

    @classmethod
    def of(cls, numbers: Sequence[float]) -> Range:
        """The range in which most of the finite numbers can be told apart."""
        found = np.array([number for number in numbers if math.isfinite(number)])
        if not len(found):
            return cls(0.0, 1.0, False, 0)
        found = np.clip(found, -1e300, 1e300)
        low, high = float(found.min()), float(found.max())
        if low > 0 and high / low >= 1000 and np.median(found) < high / 30:
            return cls(low / 1.2, high * 1.2, True, 0)
        quarter, three = (float(q) for q in np.quantile(found, [0.25, 0.75]))
        far = 4 * (three - quarter)  # beyond it is what Tukey calls far out, and a little more
        if far > 0:
            low, high = max(low, quarter - far), min(high, three + far)
        room = 0.05 * (high - low) or abs(high) * 0.01 or 1.0
        return cls(low - room, high + room, False, int(((found < low) | (found > high)).sum()))

    @property
    def layout(self) -> dict[str, Any]:
        """The range as plotly's layout of an axis has it."""
        ends = [math.log10(self.low), math.log10(self.high)] if self.log else [self.low, self.high]
        return {"type": "log" if self.log else "linear", "range": ends, "automargin": True, "zeroline": False}

    def place(self, number: float) -> float:
        """Where a number stands between the ends, 0 to 1; at an end when it is beyond."""
        low, high, at = self.low, self.high, min(max(number, self.low), self.high)
        if self.log:
            low, high, at = math.log10(low), math.log10(high), math.log10(at)
        return (at - low) / (high - low)

    def remark(self, what: str = "trial") -> str:
        """What the reader must know of it; empty when all is shown."""
        few = f"{self.beyond:,} {what}{'' if self.beyond == 1 else 's'}"
        return f"{few} far beyond the others left out of the axis." if self.beyond else ""
