"""`Declared`: what a directory declares, from the JSON of an experiment."""

from __future__ import annotations

import pytest

from hparams_lab.core.declared import Declared
from hparams_lab.core.domains import Discrete
from hparams_lab.core.experiment import Experiment, Metric
from hparams_lab.core.hparam import HParam
from hparams_lab.core.intervals import IntInterval, RealInterval

EXPERIMENT = Experiment(
    [
        HParam("units", IntInterval(16, 32)), HParam("rate", RealInterval(0.1, 1)),
        HParam("optimizer", Discrete(["adam", None])), HParam("bias", Discrete([True, False])),
        HParam("fixed", Discrete([3])), HParam("point", RealInterval(2, 2)), HParam("width", Discrete([1, None])),
    ],
    [Metric("score", goal="min", display_name="Score"), Metric("val/loss")],
    objective="score",
    name="digits",
)  # fmt: skip


@pytest.fixture
def declared():
    return Declared(EXPERIMENT.to_json())


def test_it_is_the_experiment(declared):
    assert (declared.name, declared.objective) == ("digits", "score")
    assert list(declared.hparams) == [hparam.name for hparam in EXPERIMENT.hparams]
    assert list(declared.metrics) == ["score", "val/loss"]
    assert declared.experiment.to_json() == EXPERIMENT.to_json()
    assert declared == Declared.of(EXPERIMENT)
    assert hash(declared) == hash(Declared.of(EXPERIMENT))
    assert declared != Declared({**EXPERIMENT.to_json(), "name": "other"})
    assert declared != EXPERIMENT.to_json()
    assert Declared.of(EXPERIMENT).experiment is EXPERIMENT
    assert "objective='score'" in repr(declared)


def test_goals_and_titles(declared):
    assert [declared.goal(tag) for tag in ("score", "val/loss", "accuracy", "zzz")] == ["min", "min", "max", None]
    assert [declared.title(tag) for tag in ("score", "val/loss", "zzz")] == ["Score", "val/loss", "zzz"]


def test_what_can_have_one_value_only(declared):
    assert [name for name in [*declared.hparams, "unknown"] if declared.is_fixed(name)] == ["fixed", "point"]


@pytest.mark.parametrize(
    ("name", "stored", "restored"),
    [
        ("units", 16.0, 16), ("rate", 1, 1.0), ("optimizer", "None", None), ("optimizer", "adam", "adam"),
        ("optimizer", "sgd", "sgd"), ("bias", True, True), ("width", "1", 1), ("width", "None", None),
        ("units", "wide", "wide"), ("unknown", 2.0, 2.0), ("units", None, None), ("units", 16.5, 16.5),
    ],
)  # fmt: skip
def test_values_are_of_their_types_again(declared, name, stored, restored):
    found = declared.restored(name, stored)
    assert (found, type(found)) == (restored, type(restored))
    assert Declared(EXPERIMENT.to_json(), typed=False).restored(name, stored) is stored


@pytest.mark.parametrize(
    "json",
    [
        {}, {"hparams": [], "metrics": []}, {"hparams": 1, "metrics": [], "objective": None},
        {"hparams": [{}], "metrics": [], "objective": None}, {"hparams": ["a"], "metrics": [], "objective": None},
        {"hparams": [{"name": "a", "domain": {"kind": "?"}}], "metrics": [], "objective": None},
        {"hparams": [{"name": "a", "domain": {"kind": "discrete"}}], "metrics": [], "objective": None},
        {"hparams": [{"name": "a", "domain": 5}], "metrics": [], "objective": None},
    ],
)  # fmt: skip
def test_what_declares_nothing(json):
    with pytest.raises((AttributeError, KeyError, TypeError, ValueError)):
        Declared(json)


def test_without_an_objective_the_metric_that_ranks_is_the_experiments():
    declared = Declared({**EXPERIMENT.to_json(), "objective": None})
    assert (declared.objective, declared.experiment.objective) == (None, "val/loss")
    assert Declared({"hparams": [], "metrics": [{"tag": "zzz"}], "objective": None}).experiment is None
