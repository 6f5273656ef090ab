"""`importance`: which hyperparameters matter for a metric, and how sure that is.

Forests of regression trees learn the metric from the hparams, each on a bootstrap sample of the trials. On the trials
that a forest has not seen, the values of one hparam at a time are drawn anew, and the loss that this costs is what the
hparam is worth to it: permutation importance (Breiman 2001, https://doi.org/10.1023/A:1010933404324). For a forest that
knows the function it is in proportion to the hparam's total effect: the variance that is left when all others are
known, interactions included (Saltelli 2010, https://doi.org/10.1016/j.cpc.2009.09.018).

A share is that worth, scaled so that the shares of one forest add up to the part of the metric's variance that it
predicts. They sum to at most 1; what is missing to 1 is what no hparam explains: chance, or too few trials. Told are
the mean over the forests and the range of nine tenths of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hparams_lab.core.curve import By
from hparams_lab.core.errors import MissingExtraError
from hparams_lab.core.results import Results, TrialResult
from hparams_lab.core.scalar import Goal, checked_goal
from hparams_lab.core.trial import HParams
from hparams_lab.core.values import Value, key_of
from hparams_lab.core.varying import varying

Floats: TypeAlias = NDArray[np.float64]
Places: TypeAlias = NDArray[np.int64]

FORESTS, TREES = 24, 20
FEWEST_TRIALS = 10
"""With fewer there are too few that a forest has not seen."""
MOST_TRIALS = 500
"""Each forest sees so many at most: more would take longer and tell no more about what matters."""
DRAWS = 400
"""About so many values of each hparam are drawn anew for each forest."""
LARGEST_LEAF = 3
"""A leaf holds so many trials where there are many, and one where there are few."""
CERTAIN = 1.7
"""By so many standard errors the forests must beat the mean."""
MOST_CHOICES = 32
"""A column of strings with more is encoded by their order, as it can tell little anyway."""


@dataclass(frozen=True, slots=True)
class Importance:
    """The share of an hparam in the metric's variance: its mean, and the range of nine tenths of the forests."""

    name: str
    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Importances:
    """What the hparams that vary are worth, the one that matters most first.

    `enough` tells whether that can be told from these trials, `reason` in one line why not. `score` is the R2 of the
    forests on trials that they have not seen: 1 is perfect, 0 no better than the mean, NaN with too few to measure.
    `n` trials were used; `left_out` did not complete with a finite value of `metric`.
    """

    rows: tuple[Importance, ...]
    enough: bool
    reason: str
    score: float
    n: int
    left_out: int
    metric: str


def importance(
    results: Results, metric: str | None = None, goal: Goal | None = None, by: str | By = "last", seed: int = 0
) -> Importances:
    """Which hyperparameters matter, by the permutation importance of forests.

    Args:
      results: what `read` found. Repeats of a trial count by their mean, weighed by their number.
      metric: a tag; the objective when left out.
      goal: "max" or "min", for `by="best"`; the metric's own when left out.
      by: the number of each run that counts: "last", "best" or "mean-of-last-N".
      seed: 0 or more; the same seed gives the same numbers.

    Raises UsageError for a metric that no run logged, and MissingExtraError without scikit-learn.
    """
    by, tag = By.of(by), results.tag_of(metric)
    goal = checked_goal(goal) or (results.goal(tag) if by.rule == "best" else "max")
    every = results.contenders()
    left_out = {id(trial) for trial in results.order(tag, goal, by, every)[1]}
    trials = [trial for trial in every if id(trial) not in left_out]
    runs = [len(trial.runs_with(tag)) for trial in trials]
    values = np.array([trial.mean(tag, by, goal) for trial in trials])
    found = _Trials.of(trials, values, runs, _log_scaled(results))
    counts = (len(trials), len(left_out), tag)
    reason = _why_too_few(found, tag)
    if reason:
        unknown = tuple(Importance(column.name, 0.0, 0.0, 1.0) for column in found.columns)
        return Importances(unknown, False, reason, math.nan, *counts)
    worth = _measured(found, np.random.default_rng(seed))
    reason = worth.why_not_enough()
    return Importances(worth.rows(found.columns), not reason, reason, worth.score, *counts)


def _log_scaled(results: Results) -> set[str]:
    """The hparams that are declared on a log scale."""
    declared = [each for each in (results.declared, *results.sweeps.values()) if each]
    hparams = [(name, hparam) for each in declared for name, hparam in each.hparams.items()]
    return {name for name, hparam in hparams if (hparam.get("domain") or {}).get("scale") == "log"}


@dataclass(frozen=True, slots=True)
class _Column:
    """An hparam that varies: for each trial its value in a row of numbers, and whether it may be drawn anew.

    It may not where the hparam has no value because another hparam's value does not call for it.
    """

    name: str
    encoded: Floats
    free: NDArray[np.bool_]

    def redrawn(self, which: Places, rng: np.random.Generator) -> Floats:
        """The rows of the trials `which`, each with the value of another trial that has one."""
        drawn = rng.choice(np.flatnonzero(self.free), len(which))
        return self.encoded[np.where(self.free[which], drawn, which)]


@dataclass(frozen=True, slots=True)
class _Trials:
    """The ranked trials as numbers: the hparams that vary, the metric, and how many runs it is the mean of."""

    columns: list[_Column]
    values: Floats
    weights: Floats

    @classmethod
    def of(
        cls, trials: Sequence[TrialResult], values: Floats, counts: Sequence[int], log_scaled: set[str]
    ) -> _Trials:
        hparams = [trial.hparams for trial in trials]
        columns = _columns(hparams, log_scaled)
        return cls(columns, values, np.array([float(count) for count in counts]))

    def matrix(self, which: Places) -> Floats:
        """The hparams of some trials, a row each."""
        return np.concatenate([column.encoded[which] for column in self.columns], axis=1)

    def redrawn(self, which: Places, rng: np.random.Generator) -> Iterator[Floats]:
        """For each hparam the trials `which`, several times over, with its values drawn anew."""
        many = np.tile(which, max(4, -(-DRAWS // len(which))))
        whole, start = self.matrix(many), 0
        for column in self.columns:
            drawn, stop = whole.copy(), start + column.encoded.shape[1]
            drawn[:, start:stop] = column.redrawn(many, rng)
            start = stop
            yield drawn


def _columns(hparams: Sequence[HParams], log_scaled: set[str]) -> list[_Column]:
    """The hparams that vary, encoded."""
    names = varying(hparams)[0]
    given = {name: [each.get(name) if name in each else _ABSENT for each in hparams] for name in names}
    keyed = {name: [key_of(value) for value in values] for name, values in given.items()}
    columns = []
    for name, values in given.items():
        absent = np.array([value is _ABSENT for value in values])
        others = [keys for other, keys in keyed.items() if other != name]
        free = ~absent if absent.any() and any(_follows(absent, keys) for keys in others) else np.ones_like(absent)
        if len({key for key, is_free in zip(keyed[name], free, strict=True) if is_free}) > 1:
            columns.append(_Column(name, _encoded(values, free, name in log_scaled), free))
    return columns


class _Absent:
    """In place of a value that a trial does not have; None is a value."""

    def __repr__(self) -> str:
        return "absent"


_ABSENT: Any = _Absent()


def _follows(absent: NDArray[np.bool_], keys: list[tuple[str, str]]) -> bool:
    """Whether each value of another hparam, which has few and is never absent, tells whether this one is absent."""
    told: dict[tuple[str, str], set[bool]] = {}
    for key, is_absent in zip(keys, absent.tolist(), strict=True):
        told.setdefault(key, set()).add(is_absent)
    is_told = all(len(found) == 1 for found in told.values())
    return is_told and key_of(_ABSENT) not in told and len(told) <= len(keys) / 2


def _encoded(values: list[Value], free: NDArray[np.bool_], log: bool) -> Floats:
    """The values as rows of numbers: numbers as one, of strings and bools one for each value.

    What may not be drawn anew gets a value in the middle, so that its absence tells the forest nothing which the hparam
    that it depends on does not.
    """
    some = [value for value, is_free in zip(values, free, strict=True) if is_free]
    kinds = {key_of(value)[0] for value in some} - {"NoneType", "_Absent"}
    if kinds and kinds <= {"int", "float"}:
        return _numbers(values, free, log)
    keys = [key_of(value) for value in values]
    known = sorted({key_of(value) for value in some})
    usual = max(known, key=[key_of(value) for value in some].count)
    places = np.array([known.index(key if is_free else usual) for key, is_free in zip(keys, free, strict=True)])
    if len(known) == 2 or len(known) > MOST_CHOICES:
        return np.asarray(places[:, None] / (len(known) - 1))
    return np.asarray(places[:, None] == np.arange(len(known)), np.float64)


def _numbers(values: list[Value], free: NDArray[np.bool_], log: bool) -> Floats:
    """Numbers between 0 and 1, infinities beyond them, and -1 for none, which is a value like another."""
    found = np.array([math.nan if value is None or value is _ABSENT else float(value) for value in values])
    finite = np.isfinite(found)
    if log and (found[finite] > 0).all():
        found[finite] = np.log(found[finite])
    low, high = (float(found[finite].min()), float(found[finite].max())) if finite.any() else (0.0, 1.0)
    with np.errstate(under="ignore"):  # halves, as the width of all doubles is none
        scaled = np.clip((found / 2 - low / 2) / ((high / 2 - low / 2) or 1.0), -0.5, 1.5)
    scaled[np.isnan(scaled)] = -1.0
    scaled[~free] = np.median(scaled[free])
    return np.asarray(scaled[:, None])


def _why_too_few(found: _Trials, tag: str) -> str:
    """Why no forest is worth growing; empty when one is."""
    count, hparams = len(found.values), len(found.columns)
    wanted = max(FEWEST_TRIALS, 2 * hparams)
    if count < 2:
        return f"{count or 'no'} trial is ranked; {wanted - count} more would be of use"
    if not hparams:
        return f"no hparam varies over the {count} ranked trials; other values would be of use, not more of these"
    if count < wanted:
        varying = f"{hparams} hparam{'s vary' if hparams > 1 else ' varies'}"
        return f"{varying} and {count} trials are ranked; {wanted - count} more would be of use"
    if np.ptp(found.values) == 0:
        return f"{tag} is {found.values[0]:.6g} in all {count} trials; nothing is there to explain"
    return ""


@dataclass(frozen=True, slots=True)
class _Worth:
    """What the forests found.

    `shares` by forest and hparam; `gains` by trial: by how much the squared loss of the forests that had not seen the
    trial is less than that of the mean; `score`: their R2.
    """

    shares: Floats
    gains: Floats
    score: float

    def rows(self, columns: list[_Column]) -> tuple[Importance, ...]:
        """The means and ranges, the greatest first; of equals the first one logged."""
        mean = self.shares.mean(axis=0)
        low, high = np.quantile(self.shares, [0.05, 0.95], axis=0)
        ranges = zip(columns, mean, np.minimum(low, mean), np.maximum(high, mean), strict=True)
        found = [Importance(column.name, *map(float, numbers)) for column, *numbers in ranges]
        return tuple(sorted(found, key=lambda row: -row.mean))

    def why_not_enough(self) -> str:
        """Why the forests do not tell; empty when they surely predict better than the mean."""
        count = len(self.gains)
        error = float(self.gains.std(ddof=1)) / math.sqrt(count)
        sure = float(self.gains.mean()) / error if error > 0 else 0.0
        if sure >= CERTAIN:
            return ""
        times = (CERTAIN / sure) ** 2 if sure > 0 else math.inf  # an error shrinks as the root of the trials
        more = math.ceil(count * (min(max(times, 1.2), 3.0) - 1))
        how = "hardly" if self.score > 0 else "no"
        return (
            f"forests predict the {count} trials {how} better than their mean does (R2 {self.score:.2f}); "
            f"{more} more would be of use, unless all is chance"
        )


def _measured(found: _Trials, rng: np.random.Generator) -> _Worth:
    """Forests grown on bootstrap samples of the trials, and asked about the others."""
    count = len(found.values)
    values = _without_outliers(found.values)
    losses, times, shares = np.zeros((2, count)), np.zeros(count), []
    for seen, unseen in _samples(count, rng):
        forest = _forest(found, values, seen, rng)
        mean = np.average(values[seen], weights=found.weights[seen])
        loss = (values[unseen] - np.stack([forest.predict(found.matrix(unseen)), np.full(len(unseen), mean)])) ** 2
        predicted = forest.predict(np.concatenate([*found.redrawn(unseen, rng)]))
        redrawn = (values[unseen] - predicted.reshape(len(found.columns), -1, len(unseen))) ** 2
        shares.append(_shares(redrawn.mean(axis=1), loss, found.weights[unseen]))
        losses[:, unseen] += loss
        times[unseen] += 1
    losses, weights = losses[:, times > 0] / times[times > 0], found.weights[times > 0]
    score = 1 - float(weights @ losses[0]) / float(weights @ losses[1])
    return _Worth(np.array(shares), weights / weights.mean() * (losses[1] - losses[0]), score)


def _shares(redrawn: Floats, loss: Floats, weights: Floats) -> Floats:
    """The shares by one forest: its loss with each hparam drawn anew, and its loss and the mean's as it is."""
    own, mean = loss @ weights
    worth = np.maximum(redrawn @ weights - own, 0.0)
    if worth.sum() <= 0 or own >= mean:
        return np.zeros_like(worth)
    return np.asarray(worth / worth.sum() * (1 - own / mean))


def _without_outliers(values: Floats) -> Floats:
    """The values between -1 and 1, those beyond Tukey's fences moved to them.

    Otherwise a single loss of 1e9 among losses of 1 would be all there is to explain.
    """
    low, high = np.quantile(values, [0.25, 0.75])
    far = 1.5 * (high - low)
    fenced = np.clip(values, low - far, high + far) if far > 0 else values
    return np.asarray((fenced - fenced.mean()) / np.ptp(fenced))


def _samples(count: int, rng: np.random.Generator) -> Iterator[tuple[Places, Places]]:
    """Bootstrap samples of the trials, each with the trials that are not in it."""
    for _ in range(FORESTS):
        seen = rng.integers(0, count, min(count, MOST_TRIALS))
        unseen = np.setdiff1d(np.arange(count), seen)
        yield seen, unseen if len(unseen) <= MOST_TRIALS else rng.choice(unseen, MOST_TRIALS, replace=False)


def _forest(found: _Trials, values: Floats, seen: Places, rng: np.random.Generator) -> Any:
    """A forest grown on the trials `seen`, of trees that split at random places.

    On few trials and noise these predict better than trees that split at the best (Geurts 2006,
    https://doi.org/10.1007/s10994-006-6226-1).
    """
    try:
        from sklearn.ensemble import ExtraTreesRegressor
    except ImportError:
        raise MissingExtraError.of("scikit-learn", "report") from None
    once, times = np.unique(seen, return_counts=True)
    leaf = max(1, min(LARGEST_LEAF, len(once) // 16))
    forest = ExtraTreesRegressor(TREES, min_samples_leaf=leaf, random_state=int(rng.integers(2**31)))
    return forest.fit(found.matrix(once), values[once], sample_weight=found.weights[once] * times)
