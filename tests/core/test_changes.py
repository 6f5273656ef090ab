"""What differs between a `sweep.json` and what is asked, in words, and which of it only adds."""

import json

import pytest

import hparams_lab as lab
from hparams_lab.core.diff import SHOWN, Change, differences, in_a_line
from hparams_lab.sweep.plan import Plan
from hparams_lab.targets.load import Domain, FunctionTarget

UNITS = lab.HParam("units", lab.Discrete([8, 16]))
RATE = lab.HParam("rate", lab.RealInterval(1e-3, 1e-1, scale="log"))
LOSS, ACCURACY = lab.Metric("loss"), lab.Metric("accuracy")


def identity(hparams=(UNITS, RATE), metrics=(LOSS, ACCURACY), objective="accuracy", domain=None, version=None, **more):
    """What a plan is known by, as it comes back from a file."""
    data, name, constraints = more.pop("data", None), more.pop("name", None), more.pop("constraints", ())
    experiment = lab.Experiment(hparams, metrics, objective, name=name, constraints=constraints)
    made = Domain("tuning", experiment, FunctionTarget(len), {"domain": domain or "tuning.py", "data": data}, version)
    return json.loads(json.dumps(Plan(made, **more).identity()))


def changes(old=None, new=None):
    return differences(identity(**(old or {})), identity(**(new or {})))


def the_change(old=None, new=None):
    [change] = changes(old, new)
    return str(change), change.extends


def of_domain(old, new):
    """How an hparam of these domains changed."""
    said, extends = the_change({"hparams": [lab.HParam("x", old)]}, {"hparams": [lab.HParam("x", new)]})
    return said.removeprefix("hparam x: "), extends


def test_nothing_differs():
    assert changes() == []
    old = identity()
    del old["version"]  # written before there were any
    assert differences(old | {"trials": 3, "created": 1.0, "source": "abc"}, identity()) == []


@pytest.mark.parametrize(
    ("old", "new", "said", "extends"),
    [
        ({}, {"seed": 1}, "seed: 0 -> 1", False),
        ({}, {"domain": "other.py"}, "domain: tuning.py -> other.py", False),
        ({"data": "a.npz"}, {}, "data: a.npz -> none", False),
        ({}, {"version": 2}, "version: none -> 2", False),
        ({"version": 1}, {"version": "1b"}, "version: 1 -> 1b", False),
        ({}, {"strategy": "random"}, "strategy: grid -> random", True),
        ({}, {"points": 3}, "points: 2 -> 3", True),
        ({}, {"objective": "loss"}, "objective: accuracy -> loss", False),
        ({}, {"name": "nets"}, "name: none -> nets", True),
        ({}, {"constraints": [len]}, "constraints: none -> len", False),
        ({}, {"hparams": [RATE, UNITS]}, "hparams: in another order", True),
        ({}, {"hparams": [UNITS]}, "hparam rate: removed", False),
        ({"hparams": [UNITS]}, {}, "hparam rate: added", True),
        ({}, {"metrics": [ACCURACY]}, "metric loss: removed", False),
        ({}, {"metrics": [LOSS, ACCURACY, lab.Metric("f1")]}, "metric f1: added", True),
        ({}, {"metrics": [ACCURACY, LOSS]}, "metrics: in another order", True),
        ({}, {"metrics": [lab.Metric("loss", goal="max"), ACCURACY]}, "metric loss: goal min -> max", False),
        ({}, {"metrics": [lab.Metric("loss", "Loss"), ACCURACY]}, "metric loss: described otherwise", True),
        (
            {},
            {"hparams": [lab.HParam("units", UNITS.domain, description="width"), RATE]},
            "hparam units: described otherwise",
            True,
        ),
    ],
)
def test_each_thing_that_differs(old, new, said, extends):
    assert the_change(old, new) == (said, extends)


def test_a_version_in_digits_is_the_number():
    assert changes({"version": 1}, {"version": "1"}) == []


@pytest.mark.parametrize(
    ("old", "new", "said", "extends"),
    [
        ([8, 16], [8, 16, 32], "8, 16 -> 8, 16, 32", True),
        ([8, 16], [32, 16, 8], "8, 16 -> 32, 16, 8", True),
        ([8, 16], [16, 8], "8, 16 -> 16, 8", True),
        ([8, 16], [8], "8, 16 -> 8", False),
        ([8, 16], [8, 32], "8, 16 -> 8, 32", False),
        ([8, 16], [8.0, 16.0, 0.5], "8, 16 (int) -> 8, 16, 0.5 (float)", False),
        ([1], ["1"], "1 (int) -> 1 (str)", False),
        ([0, 1], [False, True], "0, 1 (int) -> False, True (bool)", False),
        ([8, 16], [8, 16, None], "8, 16 -> 8, 16, None", False),  # its column would be one of texts
        (["sgd"], ["sgd", None], "sgd -> sgd, None", True),
        ([None, 8], [None, 8, 16], "None, 8 -> None, 8, 16", True),
        ([0.1234567], [0.1234568], "0.1234567 -> 0.1234568", False),
        ([""], ["", "a\nb\x1b"], "'' -> '', a\\nb\\x1b", True),
        (list(range(30)), list(range(1, 31)), "30 -> 30 values (new: 30, gone: 0)", False),
        (list(range(30)), list(range(29, -1, -1)), "30 -> 30 values (in another order)", True),
        ([1], list(range(1, 99)), "1 -> 98 values (new: 2, 3, 4, ... (97 values))", True),
        (
            ["x" * 50],
            ["y" * 50],
            "xxxxxxxxxxxxxxxxxxxxx... -> yyyyyyyyyyyyyyyyyyyyy...",
            False,
        ),
    ],
)
def test_values(old, new, said, extends):
    assert of_domain(lab.Discrete(old), lab.Discrete(new)) == (said, extends)


@pytest.mark.parametrize(
    ("old", "new", "said", "extends"),
    [
        (lab.RealInterval(0.1, 1), lab.RealInterval(0.01, 1), "[0.1, 1] -> [0.01, 1]", True),
        (lab.RealInterval(0.1, 1), lab.RealInterval(0.2, 2), "[0.1, 1] -> [0.2, 2]", False),
        (lab.RealInterval(0.1, 1), lab.RealInterval(0.1, 0.5), "[0.1, 1] -> [0.1, 0.5]", False),
        (lab.RealInterval(0.1, 1), lab.RealInterval(0.1, 1, scale="log"), "[0.1, 1] -> [0.1, 1] log", False),
        (lab.RealInterval(1, 9), lab.IntInterval(1, 9), "[1, 9] of real numbers -> [1, 9] of whole numbers", False),
        (lab.IntInterval(8, 16), lab.Discrete([8, 16]), "[8, 16] -> 8, 16", False),
        (lab.Discrete([8, 16]), lab.IntInterval(8, 16), "8, 16 -> [8, 16]", False),
        (lab.IntInterval(8, 16), lab.IntInterval(4, 32), "[8, 16] -> [4, 32]", True),
        (lab.IntInterval(8, 16, step=4), lab.IntInterval(4, 32, step=2), "[8, 16] step 4 -> [4, 32] step 2", True),
        (lab.IntInterval(8, 16, step=4), lab.IntInterval(8, 16), "[8, 16] step 4 -> [8, 16]", True),
        (lab.IntInterval(8, 16), lab.IntInterval(8, 16, step=4), "[8, 16] -> [8, 16] step 4", False),
        (lab.IntInterval(8, 16, step=4), lab.IntInterval(6, 16, step=4), "[8, 16] step 4 -> [6, 16] step 4", False),
        (lab.IntInterval(8, 16, step=4), lab.IntInterval(8, 16, step=3), "[8, 16] step 4 -> [8, 16] step 3", False),
        (lab.RealInterval(0, 1, step=0.2), lab.RealInterval(-1, 1, step=0.1),
         "[0, 1] step 0.2 -> [-1, 1] step 0.1", True),
        (lab.RealInterval(0, 1), lab.RealInterval(0, 1, step=0.1), "[0, 1] -> [0, 1] step 0.1", False),
        (lab.RealInterval(0, 1, step=0.1), lab.RealInterval(0, 1), "[0, 1] step 0.1 -> [0, 1]", True),
    ],
)  # fmt: skip
def test_intervals(old, new, said, extends):
    assert of_domain(old, new) == (said, extends)


@pytest.mark.parametrize(
    ("old", "new", "said", "extends"),
    [
        (["sgd"], ["sgd", "rms"], "with optimizer=sgd -> with optimizer=sgd, rms", True),
        (["sgd", "rms"], ["rms"], "with optimizer=sgd, rms -> with optimizer=rms", False),
        (["sgd"], None, "with optimizer=sgd -> always", True),
        (None, ["sgd"], "always -> with optimizer=sgd", False),
    ],
)
def test_conditions(old, new, said, extends):
    optimizer = lab.HParam("optimizer", lab.Discrete(["sgd", "rms", "adam"]))

    def momentum(wanted):
        return lab.HParam("momentum", lab.RealInterval(0, 1), active_when=wanted and {"optimizer": wanted})

    change = the_change({"hparams": [optimizer, momentum(old)]}, {"hparams": [optimizer, momentum(new)]})
    assert change == (f"hparam momentum: {said}", extends)


def test_several_at_once_in_the_order_of_the_declaration():
    found = changes({}, {"seed": 1, "hparams": [lab.HParam("units", lab.Discrete([8])), RATE], "version": "b"})
    assert in_a_line(found) == "version: none -> b; hparam units: 8, 16 -> 8; seed: 0 -> 1"
    wide = {"hparams": [UNITS, *(lab.HParam(f"x{n}", lab.Discrete([n])) for n in range(9))]}
    assert in_a_line(changes({"hparams": [UNITS]}, wide)).endswith("; hparam x5: added; and 3 more")
    assert len(in_a_line(changes({"hparams": [UNITS]}, wide)).split("; ")) == SHOWN + 1


def test_long_and_odd_names_are_one_short_line():
    name = "a\n\x1b[31m" + "long" * 2000
    said, _ = the_change({"hparams": [UNITS]}, {"hparams": [UNITS, lab.HParam(name, lab.Discrete([1]))]})
    assert said == "hparam a\\n\\x1b[31mlonglonglo...: added"


@pytest.mark.parametrize(
    "stored",
    [
        None, 3, {}, {"hparams": 3}, {"hparams": [3], "metrics": []}, {"hparams": [{"name": ["x"]}], "metrics": []},
        {"hparams": [{"name": "units", "domain": None}], "metrics": []},
        {"hparams": [{"name": "units", "domain": {"kind": "discrete", "dtype": "int"}}], "metrics": []},
        {"hparams": [{**RATE.to_json(), "domain": {**RATE.domain.to_json(), "min": "a"}}], "metrics": []},
    ],
)  # fmt: skip
def test_a_sweep_json_that_somebody_broke_is_another_sweep(stored):
    found = differences({**identity(), "experiment": stored}, identity())
    assert found == [Change("experiment", "declared otherwise", False)]
    assert not any(change.extends for change in differences({}, identity()))
