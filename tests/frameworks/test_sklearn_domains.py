"""Grids and distributions of scikit-learn as domains of ours."""

import numpy as np
import pytest

# ruff: noqa: E402  what needs scikit-learn is imported behind this
pytest.importorskip("sklearn")
stats = pytest.importorskip("scipy.stats")

from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import ParameterGrid, ParameterSampler
from sklearn.svm import SVC

from hparams_lab.core.domains import Discrete
from hparams_lab.core.experiment import Experiment, Metric
from hparams_lab.core.intervals import IntInterval, RealInterval
from hparams_lab.integrations.sklearn.domains import columns_of, hparams_of


def of_list(values):
    return columns_of([{"x": values}], ParameterGrid({"x": values}))["x"]


def of_distribution(distribution, draws=5):
    drawn = list(ParameterSampler({"x": distribution}, draws, random_state=0))
    return columns_of([{"x": distribution}], drawn)["x"], [row["x"] for row in drawn]


@pytest.mark.parametrize(
    ("values", "domain", "stored"),
    [
        ([3, 1, 2], Discrete([3, 1, 2]), [3, 1, 2]),
        ((0.5, 0.25), Discrete([0.5, 0.25]), [0.5, 0.25]),
        ([1, 0.5], Discrete([1.0, 0.5]), [1.0, 0.5]),
        (np.array([1, 2]), Discrete([1, 2]), [1, 2]),
        (np.array([0.1, 0.2], "float32"), Discrete([0.1, 0.2]), [0.1, 0.2]),
        ([True, False], Discrete([True, False]), [True, False]),
        (["rbf", "poly"], Discrete(["rbf", "poly"]), ["rbf", "poly"]),
        ([5, None], Discrete([5, None]), [5, None]),
        (["balanced", None], Discrete(["balanced", None]), ["balanced", None]),
        ([None], Discrete([None], dtype=str), [None]),
        ([1, 1, 2], Discrete([1, 2]), [1, 1, 2]),
        ([1, 1.0], Discrete([1.0]), [1.0, 1.0]),
        (["sqrt", 0.5, None], Discrete(["sqrt", "0.5", "None"]), ["sqrt", "0.5", "None"]),
        ([True, 5], Discrete(["True", "5"]), ["True", "5"]),
        ([True, 1], Discrete(["True", "1"]), ["True", "1"]),
        (["None", None], Discrete(["None"]), ["None", "None"]),
    ],
    ids=str,
)
def test_a_list_is_discrete_in_its_order(values, domain, stored):
    column = of_list(values)
    assert column.domain == domain
    assert [column.value("x", value) for value in values] == stored
    assert [*map(type, stored)] == [type(column.value("x", value)) for value in values]
    assert not column.was_object


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([(32,), (64, 64)], ["[32]", "[64, 64]"]),
        ([{0: 1}, None], ['{"0": 1}', "None"]),
        ([SVC(C=2.0), LogisticRegression()], ["SVC(C=2.0)", "LogisticRegression()"]),
        pytest.param([np.mean, np.median], ["mean", "median"], id="functions"),
        ([float("nan"), 0.0], ["nan", "0.0"]),
        ([1.0, float("inf")], ["1.0", "inf"]),
        ([2**60, 1], [str(2**60), "1"]),
        (["\ud800", "a"], ["\\ud800", "a"]),
        ([[1, 2], [1, 2]], ["[1, 2]", "[1, 2]"]),
    ],
    ids=str,
)
def test_what_tensorboard_cannot_hold_is_text(values, texts):
    column = of_list(values)
    assert [column.value("x", value) for value in values] == texts
    assert column.domain == Discrete(dict.fromkeys(texts))
    assert column.was_object


@pytest.mark.parametrize(
    ("distribution", "domain"),
    [
        (stats.uniform(1, 4), RealInterval(1.0, 5.0)),
        (stats.uniform(), RealInterval(0.0, 1.0)),
        (stats.loguniform(1e-4, 1e-1), RealInterval(1e-4, 1e-1, scale="log")),
        (stats.reciprocal(1, 100), RealInterval(1.0, 100.0, scale="log")),
        (stats.loguniform(1, 2, loc=-1), RealInterval(0.0, 1.0)),
        (stats.randint(2, 10), IntInterval(2, 9)),
        (stats.binom(4, 0.5), IntInterval(0, 4)),
        (stats.beta(2, 3), RealInterval(0.0, 1.0)),
        (stats.truncnorm(-1, 1), RealInterval(-1.0, 1.0)),
    ],
    ids=lambda value: repr(value) if isinstance(value, (RealInterval, IntInterval)) else "",
)
def test_a_distribution_with_ends_is_its_interval(distribution, domain):
    column, drawn = of_distribution(distribution)
    assert column.domain == domain
    assert [column.domain.cast("x", value) for value in drawn] == [column.value("x", value) for value in drawn]


@pytest.mark.parametrize("distribution", [stats.norm(), stats.expon(scale=100), stats.poisson(7)])
def test_a_distribution_without_ends_is_the_interval_of_what_was_drawn(distribution):
    column, drawn = of_distribution(distribution, 20)
    kind = IntInterval if hasattr(distribution, "pmf") else RealInterval
    assert column.domain == kind(min(drawn), max(drawn))


class WholeLog:
    """A distribution as people write them: `rvs`, and nothing else."""

    def __init__(self, draw):
        self.draw = draw

    def rvs(self, random_state=None):
        return self.draw(random_state)


def test_other_distributions_are_what_was_drawn():
    column, drawn = of_distribution(WholeLog(lambda rng: 2 ** rng.randint(3, 9)))
    assert column.domain == IntInterval(min(drawn), max(drawn))
    column, drawn = of_distribution(WholeLog(lambda rng: rng.choice(["a", "b"])))
    assert column.domain == Discrete(dict.fromkeys(map(str, drawn)))
    column, drawn = of_distribution(WholeLog(lambda rng: tuple(rng.randint(1, 9, 2).tolist())))
    assert column.was_object
    assert column.value("x", (3, 4)) == "[3, 4]"


def test_several_grids_are_one_column_each_and_only_where_they_are():
    grids = [{"kernel": ["linear"], "C": [1, 10]}, {"kernel": ["rbf"], "C": [100], "gamma": [0.1, "scale"]}]
    columns = columns_of(grids, ParameterGrid(grids))
    assert {name: column.domain for name, column in columns.items()} == {
        "kernel": Discrete(["linear", "rbf"]),
        "C": Discrete([1, 10, 100]),
        "gamma": Discrete(["0.1", "scale"]),
    }


def test_several_distributions_are_one_interval():
    spaces = [{"C": stats.uniform(0, 1)}, {"C": stats.randint(3, 6)}, {"C": [9]}]
    assert columns_of(spaces, [{"C": 0.5}, {"C": 4}])["C"].domain == RealInterval(0.0, 9.0)
    logs = [{"C": stats.loguniform(1, 2)}, {"C": stats.loguniform(5, 6)}]
    assert columns_of(logs, [])["C"].domain == RealInterval(1.0, 6.0, scale="log")
    mixed = [{"gamma": stats.uniform(0, 1)}, {"gamma": ["scale", "auto"]}]
    assert columns_of(mixed, [{"gamma": 0.5}])["gamma"].domain == Discrete(["scale", "auto", "0.5"])


def test_a_distribution_of_which_nothing_is_known_yet_is_left_out():
    assert columns_of([{"C": stats.norm()}, {"D": [1]}], [{"D": 1}]).keys() == {"D"}


def test_candidates_of_no_grid_are_their_values():
    assert columns_of([], [{"iter": 0, "C": 1.5}, {"iter": 1, "C": 2}])["C"].domain == Discrete([1.5, 2.0])


def test_columns_are_hparams_in_order():
    hparams = hparams_of(columns_of([{"b": [1], "a": stats.uniform()}], [{"b": 1, "a": 0.5, "iter": 0}]))
    assert [hparam.name for hparam in hparams] == ["b", "a", "iter"]
    assert Experiment(hparams, [Metric("accuracy")]).size is None
