"""A metric that is an array: one element is a number, several are a tag each, and neither ends a training."""

import importlib.util
import math
import subprocess
import sys
import warnings

import numpy as np
import pytest

import hparams_lab as lab
from hparams_lab.core.errors import MissingMetricError, UsageError
from hparams_lab.core.measured import LeftOut, numbers_among, numbers_of
from hparams_lab.run.amend import add_scalars

LOST = []  # two that hold themselves
LOST.append(LOST)
KNOT = {}
KNOT["x"] = KNOT

ONE = [np.ones(1), np.ones((1, 1)), np.float32([1]), [1], (1.0,), [[True]], [np.ones(1)], np.ones((1, 1, 1), np.int8)]
SEVERAL = [
    (np.array([0.5, 0.25]), {"x/0": 0.5, "x/1": 0.25}),
    ([0.5, np.float32(0.25)], {"x/0": 0.5, "x/1": 0.25}),
    (np.array([[0.5], [0.25]]), {"x/0": 0.5, "x/1": 0.25}),
    (np.array([[0.5, 0.25]]), {"x/0": 0.5, "x/1": 0.25}),
    (np.array([True, False]), {"x/0": 1.0, "x/1": 0.0}),
    (np.arange(4.0).reshape(2, 2), {"x/0/0": 0.0, "x/0/1": 1.0, "x/1/0": 2.0, "x/1/1": 3.0}),
    ([1, [2, 3]], {"x/0": 1.0, "x/1/0": 2.0, "x/1/1": 3.0}),
    ({"a": 1, 2: {"b": np.ones(1)}}, {"x/a": 1.0, "x/2/b": 1.0}),
    (np.array([1, 2], object), {"x/0": 1.0, "x/1": 2.0}),
    (np.arange(32), {f"x/{index}": float(index) for index in range(32)}),
]
NONE = [
    (np.ones(33), r"is a ndarray of shape \(33,\) with more than 32 elements"),
    (np.ones((1000, 1000)), r"is a ndarray of shape \(1000, 1000\) with more than 32 elements"),
    ([0.5] * 33, "is a list with more than 32 elements"),
    ([], "is a list without elements"),
    ({}, "is a dict without elements"),
    (np.empty((2, 0)), r"is a ndarray of shape \(2, 0\) without elements"),
    (["a", "b"], "is a list that does not hold numbers alone"),
    ([0.5, None], "is a list that does not hold numbers alone"),
    (np.array([1j, 2j]), r"is a ndarray of shape \(2,\) that does not hold numbers alone"),
    (np.array(["2026"], "M8[Y]"), r"is a ndarray of shape \(1,\) that does not hold numbers alone"),
    (LOST, "is a list that does not hold numbers alone"),
    (KNOT, "is a dict that does not hold numbers alone"),
]


@pytest.mark.parametrize("value", ONE, ids=repr)
def test_one_element_is_a_number(value):
    assert numbers_of({"x": value}, pytest.fail) == {"x": 1.0}


@pytest.mark.parametrize(("value", "wanted"), SEVERAL, ids=[str(number) for number in range(len(SEVERAL))])
def test_several_elements_are_a_tag_each(value, wanted):
    assert numbers_of({"y": math.inf, "x": value}, pytest.fail) == {"y": math.inf, **wanted}


@pytest.mark.parametrize(("value", "why"), NONE, ids=[why for _, why in NONE])
def test_what_is_left_out_is_told_once(tmp_path, value, why):
    leave_out = LeftOut("here")
    with pytest.warns(UserWarning, match=rf"^here: metric 'x' {why}; it is left out$") as told:
        assert numbers_of({"x": value, "y": 1}, leave_out) == numbers_of({"x": value, "y": 1}, leave_out) == {"y": 1.0}
    assert len(told) == 1


def test_of_a_frameworks_metrics_what_is_no_number_is_passed_over():
    given = {"loss": 0.5, "name": "x", "image": None, "f1": np.array([0.5, 0.25]), "": 1}
    assert numbers_among(given, pytest.fail) == {"loss": 0.5, "f1/0": 0.5, "f1/1": 0.25}


def test_an_array_wherever_a_run_takes_a_metric(tmp_path):
    with lab.start_run(tmp_path, hparams={"x": 1}, provenance=False) as run:
        run.log({"loss": np.ones(1), "f1": np.array([0.5, 0.25])}, step=3)
        run.log({"loss": np.ones((1, 1)), "f1": [0.5, 0.75]})
        run.log("f1", [0.5, 1.0])
        run.log_columns({"curve": np.arange(6).reshape(2, 3), "thin": np.ones((2, 1)), "one": np.ones(2)})
        run.summary["best"] = [3]
        run.summary.update(matrix=np.eye(2), big=1)
        with pytest.warns(UserWarning, match=r"^run 'run-0000': metric 'wide' is a ndarray of shape \(33,\) with more"):
            run.log({"wide": np.ones(33)})
        with pytest.warns(UserWarning, match=r"^run 'run-0000': metric 'flat' has 40 elements at each step, and not 1"):
            run.log_columns({"flat": np.ones((2, 40)), "one": np.ones(2)})
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            run.log({"wide": np.ones(33), "loss": 0.5})
            run.finish({"loss": np.array([[0.25]]), "auc": (0.5, 0.75), "wide": np.ones(33)})
    add_scalars(run.dir, {"rank": [1], "later": [2, 3]})
    found = lab.read(tmp_path).runs[0]
    assert (found.outcome, found.scalars("f1/1").values.tolist(), found.scalars("f1/1").steps.tolist()) == (
        "completed", [0.25, 0.75, 1.0], [3, 4, 5],
    )  # fmt: skip
    assert found.metrics == {
        "loss": 0.25, "f1/0": 0.5, "f1/1": 1.0, "curve/0": 3.0, "curve/1": 4.0, "curve/2": 5.0, "thin": 1.0, "one": 1.0,
        "best": 3.0, "matrix/0/0": 1.0, "matrix/0/1": 0.0, "matrix/1/0": 0.0, "matrix/1/1": 1.0, "big": 1.0,
        "auc/0": 0.5, "auc/1": 0.75, "rank": 1.0, "later/0": 2.0, "later/1": 3.0,
    }  # fmt: skip


EXPERIMENT = lab.Experiment(
    [lab.HParam("units", lab.Discrete([1, 2]))], [lab.Metric("accuracy"), lab.Metric("f1", goal="max")], "accuracy"
)
UNRANKED = "the objective 'accuracy' is an array, which cannot rank trials; log one number for it, such as its mean"


def test_the_warning_stands_at_the_line_that_logged(tmp_path):
    run = lab.start_run(tmp_path, hparams={"x": 1}, provenance=False)
    wide = np.ones(33)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        run.log({"a": wide})
        run.log_columns({"b": np.ones((1, 33))})
        run.summary["c"] = wide
        run.finish({"d": wide})
        add_scalars(run.dir, {"e": wide, "f": 1})
    assert {warning.filename for warning in told} == {__file__}
    assert len({warning.lineno for warning in told}) == len(told) == 5


def test_a_declared_metric_may_be_an_array_and_an_objective_is_one_number(tmp_path):
    def train(run):
        run.log({"f1": [0.5, 0.25]})
        return {"accuracy": np.ones((1, 1))}

    results = lab.run_sweep(EXPERIMENT, train, logdir=tmp_path / "good", executor="inline")
    assert [run.metrics for run in results.runs] == [{"f1/0": 0.5, "f1/1": 0.25, "accuracy": 1.0}] * 2

    def train_badly(run):
        run.log({"accuracy": [0.5, 0.25], "f1": 1})

    with pytest.warns(UserWarning, match=UNRANKED), pytest.raises(MissingMetricError, match=f"^{UNRANKED}"):
        lab.run_sweep(EXPERIMENT, train_badly, logdir=tmp_path / "bad", executor="inline")

    run = lab.start_run(tmp_path / "own", hparams={"units": 1}, experiment=EXPERIMENT, provenance=False)
    with pytest.warns(UserWarning, match=f"^run 'run-0000': {UNRANKED}$"), run:
        run.log({"accuracy": [0.5, 0.25]})
    found = lab.read(tmp_path / "own").runs[0]
    assert (found.outcome, found.reason) == ("diverged", UNRANKED)


def test_tensors_of_torch(tmp_path):
    torch = pytest.importorskip("torch", reason="torch is tried where CI installs it")
    weights = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    run = lab.start_run(tmp_path, hparams={"x": 1}, provenance=False)
    with warnings.catch_warnings(record=True) as told, run:
        warnings.simplefilter("always")
        for _ in range(2):
            run.log({"loss": weights.sum(), "one": weights[:1], "half": torch.ones(2, dtype=torch.bfloat16)})
            run.log("w", weights)
        run.log("graph", weights.sum())
        run.log_columns({"losses": [weights.sum(), weights.sum()]})
    assert told == []
    wanted = {"loss": 3.0, "one": 1.0, "half/0": 1.0, "half/1": 1.0, "w/0": 1.0, "w/1": 2.0}
    wanted |= {"graph": 3.0, "losses": 3.0}
    assert lab.read(tmp_path).runs[0].metrics == wanted
    fresh = lab.start_run(tmp_path, hparams={"x": 1}, provenance=False)
    for traced in (torch.vmap, torch.fx.symbolic_trace):
        with pytest.raises(UsageError, match=r"^metric 'loss' is a symbolic tensor \(\w+\), which has no value"):
            traced(lambda x: fresh.log({"loss": x.mean()}))(torch.ones(2, 3))
    fresh.finish()


BY_JAX = """
import sys
import jax
import hparams_lab as lab
from hparams_lab.core.errors import UsageError

def refused(call, message):
    try:
        call()
    except UsageError as error:
        assert message in str(error) and "Tracer), which has no value" in str(error), error
    else:
        raise AssertionError(message)

def started(rate):
    return lab.start_run(sys.argv[1], hparams={"rate": rate}, provenance=False)

tenths = [jax.numpy.array(0.1, kind) for kind in ("float16", "bfloat16", "float32")]
assert len({started(rate).trial_id for rate in (0.1, *tenths)}) == 1
with started(0.2) as run:
    run.log({"a": jax.numpy.ones(()), "b": jax.numpy.ones((1, 1)), "c": jax.numpy.ones(2, "bfloat16")}, step=2)
    for value in (lambda x: x.mean(), lambda x: x):
        for traced in (jax.jit, jax.vmap, lambda call: jax.grad(lambda x: (call(x), x.sum())[1])):
            refused(lambda: traced(lambda x: run.log({"loss": value(x)}))(jax.numpy.ones(2)), "metric 'loss' is a sym")
    refused(lambda: jax.jit(lambda step: run.log("a", 1, step=step))(3), "step is a symbolic tensor")
    for step in (jax.numpy.int32(9), jax.numpy.array([9.0])):
        run.log("a", 1, step=step)
        assert run._step == 9
assert run.metrics == {"a": 1.0, "b": 1.0, "c/0": 1.0, "c/1": 1.0}
"""


def test_arrays_and_tracers_of_jax(tmp_path):
    """In a process of its own: where JAX has run, a fork warns."""
    if importlib.util.find_spec("jax") is None:
        pytest.skip("JAX is tried where CI installs it")
    subprocess.run([sys.executable, "-W", "error", "-c", BY_JAX, str(tmp_path)], check=True)
