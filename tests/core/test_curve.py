"""`By`, `extremes`, and the ranking by them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hparams_lab.core.curve import NO_SCALARS, By, Scalars, extremes
from hparams_lab.core.errors import UsageError
from hparams_lab.core.outcome import Outcome
from hparams_lab.core.results import Results, RunResult, is_ranked
from hparams_lab.core.trial import HParams

NAN, INF = math.nan, math.inf
CURVES = st.lists(st.floats(width=32), max_size=30)
QUICK = settings(max_examples=150, deadline=None, derandomize=True)


def curve(values) -> Scalars:
    return Scalars(np.arange(len(values)), np.arange(len(values)) / 2, np.array(values, np.float64))


def joined(one: Scalars, other: Scalars) -> Scalars:
    return Scalars(*(np.concatenate(pair) for pair in zip(one, other, strict=True)))


@QUICK
@given(CURVES, CURVES, st.sampled_from(["last", "best", "mean-of-last-1", "mean-of-last-4"]))
def test_what_is_kept_piece_by_piece_is_what_is_kept_of_all(first, second, by):
    by = By.of(by)
    whole = curve([*first, *second])
    pieces = by.thin(joined(by.thin(curve(first)), whole.taken(slice(len(first), None))))
    for kept, wanted in zip(pieces, by.thin(whole), strict=True):
        np.testing.assert_array_equal(kept, wanted)
    for goal in ("max", "min"):
        np.testing.assert_equal(by.value(pieces, goal), by.value(whole, goal))


@QUICK
@given(CURVES)
def test_extremes(values):
    kept = extremes(curve(values)).values
    finite = [value for value in values if math.isfinite(value)]
    assert len(kept) <= 4
    if values:
        np.testing.assert_equal(kept[0], values[0])
        np.testing.assert_equal(kept[-1], values[-1])
    if finite:
        assert (min(finite), max(finite)) == (np.nanmin(kept[np.isfinite(kept)]), np.nanmax(kept[np.isfinite(kept)]))


@pytest.mark.parametrize(
    ("by", "goal", "values", "expected"),
    [
        ("last", "max", [1, 3, 2], 2), ("best", "max", [1, 3, 2], 3), ("best", "min", [1, 3, 2], 1),
        ("mean-of-last-2", "max", [1, 3, 2], 2.5), ("mean-of-last-9", "max", [1, 3, 2], 2),
        ("best", "max", [1, INF, NAN], 1), ("best", "min", [-INF, 4, NAN], 4), ("best", "max", [NAN], NAN),
        ("last", "max", [1, NAN], NAN), ("mean-of-last-2", "max", [NAN, 1, 1], 1),
        ("mean-of-last-3", "max", [NAN, 1, 1], NAN), ("last", "max", [], NAN), ("mean-of-last-2", "max", [], NAN),
    ],
)  # fmt: skip
def test_values(by, goal, values, expected):
    np.testing.assert_equal(By.of(by).value(curve(values), goal), expected)
    assert str(By.of(by)) == by
    assert By.of(By.of(by)) == By.of(by)


@pytest.mark.parametrize(
    "text", ["", "first", "mean", "mean-of-last-0", "mean-of-last--1", "best-of-last-3", "last-of-last-2", "last\n"]
)
def test_by_that_is_none(text):
    with pytest.raises(UsageError, match="wanted last, best or mean-of-last-N"):
        By.of(text)


def run(name, values, trial=None, outcome=Outcome.COMPLETED) -> RunResult:
    columns = {"acc": curve(values)} if values else {}
    metrics = {tag: float(points.values[-1]) for tag, points in columns.items()}
    trial = trial or name
    return RunResult(name, name, trial, HParams({"x": trial}), outcome, "", 0.0, 1.0, metrics, columns)


RESULTS = Results(
    None,
    (
        run("late", [0.1, 0.2, 0.8]), run("early", [0.9, 0.1, 0.1]), run("nan", [5, NAN]), run("inf", [4, INF]),
        run("failed", [9], outcome=Outcome.FAILED), run("unknown", [0.3, 0.3], outcome=Outcome.UNKNOWN),
        run("pair-0", [0.4], "pair"), run("pair-1", [0.6], "pair"), run("half-0", [0.9], "half"),
        run("half-1", [], "half"), run("nothing", []),
    ),
)  # fmt: skip


@pytest.mark.parametrize(
    ("by", "goal", "first"),
    [
        ("last", "max", ["half-0", "late", "pair-0", "unknown", "early"]),
        ("last", "min", ["early", "unknown", "pair-0", "late", "half-0"]),
        ("best", "max", ["nan", "inf", "early", "half-0", "late", "pair-0", "unknown"]),
        ("mean-of-last-2", "max", ["half-0", "late", "pair-0", "unknown", "early"]),
    ],
)
def test_ranks(by, goal, first):
    ranked = RESULTS.top(metric="acc", goal=goal, by=by)
    assert [trial.name for trial in ranked][: len(first)] == first
    assert RESULTS.best("acc", goal, by).name == first[0]
    assert len(ranked) == len(RESULTS.trials)
    assert not any(is_ranked(trial, "acc", By.of(by)) for trial in ranked[len(first) :])


def test_spread_and_mean_are_over_the_runs_that_have_the_metric():
    trials = {trial.id: trial for trial in RESULTS.trials}
    assert trials["pair"].mean("acc") == 0.5
    assert trials["pair"].spread("acc") == pytest.approx(0.1414213562)
    assert trials["late"].spread("acc") is None
    assert (trials["half"].mean("acc"), trials["half"].spread("acc")) == (0.9, None)
    assert math.isnan(trials["nothing"].mean("acc"))


def test_nothing_to_rank():
    assert Results(None, (run("nan", [NAN]),)).best("acc", "max") is None
    assert Results(None, ()).best("acc", "max") is None
    with pytest.raises(UsageError, match="say goal='max' or goal='min'"):
        Results(None, (RunResult("a", "a", "a", HParams({}), Outcome.COMPLETED, "", 0, 1, {"zzz": 1.0}),)).top(
            metric="zzz"
        )
    assert NO_SCALARS.taken(slice(-3, None)).values.size == 0
