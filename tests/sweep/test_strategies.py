"""Strategies: one suite that each of them passes, then what is particular to each."""

import itertools
import math
import random
from pathlib import Path

import pytest
from counted import at_most

from hparams_lab.core.domains import Discrete
from hparams_lab.core.errors import UsageError
from hparams_lab.core.experiment import Experiment, Metric
from hparams_lab.core.hparam import HParam
from hparams_lab.core.intervals import IntInterval, RealInterval
from hparams_lab.core.outcome import Outcome
from hparams_lab.core.results import RunResult, TrialResult
from hparams_lab.core.trial import Trial
from hparams_lab.sweep.strategies import NAMES, grid, make_strategy
from hparams_lab.sweep.strategies.grid import grid_size
from hparams_lab.sweep.strategies.uniform import draw


def space(*hparams, constraints=()):
    return Experiment(hparams, [Metric("accuracy")], constraints=constraints)


def not_tiny(hparams):
    return hparams["units"] > 8


def small_sgd(hparams):
    return hparams["optimizer"] == "adam" or hparams["units"] < 32


UNITS = HParam("units", Discrete([32, 16, 8]))
OPTIMIZER = HParam("optimizer", Discrete(["sgd", "adam"]))
MOMENTUM = HParam("momentum", Discrete([0.0, None, 0.9]), active_when={"optimizer": "sgd"})
NESTEROV = HParam("nesterov", Discrete([True, False]), active_when={"momentum": 0.9})
FINITE = {
    "flat": (space(UNITS, OPTIMIZER), 6),
    "conditional": (space(UNITS, OPTIMIZER, MOMENTUM, NESTEROV), 3 * (1 + 1 + 1 + 2)),
    "constrained": (space(UNITS, OPTIMIZER, MOMENTUM, constraints=[not_tiny, small_sgd]), 1 + 1 + 3),
    "one": (space(HParam("x", Discrete(["only"]))), 1),
    "impossible": (space(UNITS, constraints=[lambda h: False]), 0),
}
INFINITE = space(
    HParam("rate", RealInterval(1e-4, 1e-1, scale="log")),
    OPTIMIZER,
    HParam("momentum", RealInterval(0, 1 / 3), active_when={"optimizer": "sgd"}),
    HParam("layers", IntInterval(1, 64, scale="log")),
    HParam("dropout", RealInterval(0, 0.5, step=0.1)),
)


def result_of(index, hparams):
    """A completed trial of these values, with a made-up metric that depends on them."""
    trial = Trial.of(index, hparams)
    metrics = {"accuracy": int(trial.id, 16) / 16**16}
    run = RunResult("run", Path("run"), trial.id, trial.hparams, Outcome.COMPLETED, "", 0.0, 1.0, metrics)
    return TrialResult(trial.id, trial.hparams, (run,))


def trials_of(name, experiment, n=None, seed=0):
    """The values that a strategy suggests, each tried before the next is asked for."""
    results, found = [], []
    for suggestion in make_strategy(name)(experiment, results, random.Random(seed)):
        if suggestion is not None:
            found.append(dict(suggestion.hparams))
            results.append(result_of(len(found), suggestion.hparams))
        if len(found) == n:
            break
    return found


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


class TestEveryStrategy:
    """The conformance suite."""

    @pytest.mark.parametrize("case", FINITE)
    def test_exhausts_a_finite_space_exactly(self, name, case):
        experiment, size = FINITE[case]
        found = trials_of(name, experiment)
        assert [experiment.check(hparams) for hparams in found] == found
        assert len({Trial.of(0, hparams).id for hparams in found}) == len(found) == size

    def test_suggests_what_the_experiment_holds_and_nothing_twice(self, name):
        found = trials_of(name, INFINITE, n=24)
        assert [INFINITE.check(hparams) for hparams in found] == found
        assert len({Trial.of(0, hparams).id for hparams in found}) == 24

    @pytest.mark.parametrize("experiment", [INFINITE, FINITE["conditional"][0]], ids=["infinite", "finite"])
    def test_same_seed_same_trials(self, name, experiment):
        once = trials_of(name, experiment, n=15, seed=3)
        random.seed(1)  # the module's own state is nobody's business
        assert trials_of(name, experiment, n=15, seed=3) == once

    def test_the_first_ten_of_a_million_million_come_at_once(self, name):
        huge = space(*(HParam(f"h{i}", Discrete(range(100))) for i in range(6)))
        assert huge.size == 10**12
        with at_most(calls=20_000):
            assert len(trials_of(name, huge, n=10)) == 10


def test_unknown_strategy():
    with pytest.raises(UsageError, match=r"^there is no strategy 'anneal'; there are grid, random"):
        make_strategy("anneal")


def values(suggestions):
    return [tuple(suggestion.hparams.values()) for suggestion in suggestions]


def test_grid_is_the_product_in_declaration_order_the_last_fastest():
    layers = HParam("layers", IntInterval(1, 3))
    expected = list(itertools.product([32, 16, 8], ["sgd", "adam"], [1, 3]))
    assert values(grid(space(UNITS, OPTIMIZER, layers))) == expected


@pytest.mark.parametrize(
    ("points", "expected"),
    [(1, [1e-4]), (2, [1e-4, 1e-2]), (3, [1e-4, 1e-3, 1e-2])],
)
def test_points_of_an_interval_by_its_scale(points, expected):
    rate = space(HParam("rate", RealInterval(1e-4, 1e-2, scale="log")))
    assert values(make_strategy("grid", points=points)(rate, [], random.Random())) == [(value,) for value in expected]
    assert grid_size(rate, points=points) == points


def test_grid_without_points_is_every_value():
    finite = space(HParam("layers", IntInterval(1, 9, step=2)), HParam("rate", RealInterval(0, 0.3, step=0.1)))
    assert len(values(grid(finite, points=None))) == finite.size == 20


@pytest.mark.parametrize("experiment", [case for case, _ in FINITE.values()] + [INFINITE])
def test_backwards_is_the_grid_reversed(experiment):
    assert values(grid(experiment, backwards=True)) == values(grid(experiment))[::-1]


def test_backwards_starts_at_once():
    huge = space(*(HParam(f"h{i}", IntInterval(1, 10**12)) for i in range(3)))
    assert values(itertools.islice(grid(huge, points=None, backwards=True), 1)) == [(10**12,) * 3]


@pytest.mark.parametrize("case", FINITE)
def test_grid_size_is_the_number_of_its_trials(case):
    experiment, size = FINITE[case]
    assert grid_size(experiment) == size
    assert grid_size(INFINITE, points=3) == len(values(grid(INFINITE, points=3))) == 3 * (1 + 3) * 3 * 3


def test_grid_size_is_counted_not_listed():
    assert grid_size(space(*(HParam(f"h{i}", RealInterval(0, 1)) for i in range(60))), points=10) == 10**60


def test_grids_that_cannot_be():
    with pytest.raises(UsageError, match=r"^--points is 0; wanted at least 1 \(2 are the ends of an interval\)"):
        list(grid(INFINITE, points=0))
    with pytest.raises(UsageError, match=r"^hparam 'rate' has infinitely many values in \[0.0001, 0.1\] log; give --p"):
        list(grid(INFINITE, points=None))


def test_random_seeds_differ():
    assert trials_of("random", INFINITE, n=5, seed=1) != trials_of("random", INFINITE, n=5, seed=2)


def test_random_draws_are_uniform_by_scale():
    drawn = [draw(INFINITE, rng) for rng in [random.Random(0)] for _ in range(3000)]
    for decade in (-4, -3, -2):
        assert 850 < sum(math.floor(math.log10(hparams["rate"])) == decade for hparams in drawn) < 1150
    for dropout in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5):
        assert 400 < sum(hparams["dropout"] == dropout for hparams in drawn) < 600
    assert 1350 < sum("momentum" in hparams for hparams in drawn) < 1650


def test_random_exhausts_log_and_stepped_intervals():
    layers, rate = HParam("layers", IntInterval(1, 2000, scale="log")), HParam("rate", RealInterval(0, 0.3, step=0.1))
    found = trials_of("random", space(layers))
    assert sorted(hparams["layers"] for hparams in found) == list(range(1, 2001))
    assert trials_of("random", space(layers)) == found  # the rest that is listed is shuffled by the seed, too
    assert len(trials_of("random", space(rate, UNITS))) == 12


def test_random_says_when_constraints_let_nothing_through():
    with pytest.raises(UsageError, match=r"^of 1000 random draws in a row none was new and within .*; loosen them"):
        trials_of("random", space(*INFINITE.hparams, constraints=[lambda h: False]))
