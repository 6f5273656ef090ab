"""Values: NumPy out, one canonical form, ids from it, literals in."""

import enum
import json
import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hparams_lab.core.domains import Discrete
from hparams_lab.core.errors import HParamValueError, UsageError
from hparams_lab.core.hparam import HParam
from hparams_lab.core.intervals import IntInterval
from hparams_lab.core.trial import HParams, RunSpec, Trial, derive_seed
from hparams_lab.core.values import canonical, checked, format_value, key_of, parse_literal, trial_id, unwrap

INTEGERS = st.integers(-(2**53), 2**53)
VALUES = st.none() | st.booleans() | INTEGERS | st.floats(allow_nan=False, allow_infinity=False) | st.text()


class Optimizer(str, enum.Enum):
    ADAM = "adam"


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (np.int64(16), 16),
        (np.uint8(16), 16),
        (np.array(16), 16),
        (np.float32(0.1), 0.1),
        (np.float16(0.1), 0.1),
        (np.array(0.1, np.float32), 0.1),
        (np.float64(0.1), 0.1),
        (np.bool_(True), True),
        (np.str_("adam"), "adam"),
        (Optimizer.ADAM, "adam"),
        (None, None),
    ],
)
def test_checked_gives_plain_python(value, plain):
    found = checked("x", value)
    assert found == plain
    assert type(found) is type(plain)


def test_unwrap_leaves_arrays_and_not_a_number_alone():
    array = np.zeros(3)
    assert unwrap(array) is array
    assert math.isnan(unwrap(np.float32("nan")))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1, 2], r"hparam 'x' is \[1, 2\] \(list\); wanted a bool, a number, a string or None"),
        (np.zeros(2), r"hparam 'x' is array\(\[0., 0.\]\) \(ndarray\); wanted a bool"),
        (b"adam", r"hparam 'x' is b'adam' \(bytes\); wanted"),
        (float("nan"), "hparam 'x' is nan, which TensorBoard drops; give a finite number"),
        (np.float32("-inf"), "hparam 'x' is -inf, which TensorBoard drops"),
        (2**53 + 1, "hparam 'x' is 9007199254740993, beyond 2.*53 .*; give it as a string"),
    ],
)
def test_checked_refuses_what_tensorboard_cannot_hold(value, message):
    with pytest.raises(HParamValueError, match=f"^{message}") as caught:
        checked("x", value)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("same", [16.0, np.int64(16), np.float32(16)])
def test_one_number_has_one_id(same):
    assert trial_id({"units": checked("units", same)}) == trial_id({"units": 16})


@pytest.mark.parametrize(("one", "other"), [(True, 1), (False, 0), ("1", 1), (None, "None"), (0.1, 0.10000001)])
def test_different_values_have_different_ids(one, other):
    assert trial_id({"x": one}) != trial_id({"x": other})


def test_id_is_known_and_ignores_the_order_of_names():
    """The id names directories' groups on disk: it may not change between versions."""
    assert trial_id({"units": 16, "lr": 0.1, "opt": "ädam"}) == "7d0edebfa4460c97"
    assert trial_id({"lr": 0.1, "opt": "ädam", "units": 16.0}) == "7d0edebfa4460c97"
    assert trial_id({"x": np.float32(0.1).item()}) != trial_id({"x": checked("x", np.float32(0.1))})


@settings(deadline=None)
@given(VALUES)
def test_canonical_form_survives_json_and_is_its_own(value):
    form = canonical(value)
    assert form == value
    assert canonical(form) is form
    assert canonical(json.loads(json.dumps(form))) == form
    assert trial_id({"x": value}) == trial_id({"x": form})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("16", 16),
        (" -1 ", -1),
        ("1e-3", 1e-3),
        ("true", True),
        ("False", False),
        ("None", None),
        ("null", None),
        ("adam", "adam"),
        ("'16'", "16"),
        ("''", ""),
        ("__import__('os')", "__import__('os')"),
        ("((((" * 99, "((((" * 99),
    ],
)
def test_parse_literal(text, value):
    found = parse_literal(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("  ", r"an empty value; wanted .* \('' for the empty string\)"),
        ("[1, 2]", r"'\[1, 2\]' is a list; wanted a single number"),
        ("2j", "'2j' is a complex; wanted a single number"),
    ],
)
def test_parse_literal_refuses(text, message):
    with pytest.raises(UsageError, match=f"^{message}"):
        parse_literal(text)


@settings(deadline=None)
@given(st.booleans() | INTEGERS | st.floats(allow_nan=False, allow_infinity=False) | st.text())
def test_parse_literal_reads_every_repr(value):
    assert parse_literal(repr(value)) == value


@pytest.mark.parametrize(("value", "text"), [(0.1 + 0.2, "0.3"), (1e-5, "1e-05"), (16.0, "16"), (True, "True")])
def test_format_value(value, text):
    assert format_value(value) == text


def test_hparams_are_read_by_name_or_object():
    units = HParam("units", IntInterval(1, 9))
    hparams = HParams({units: 4, "lr": 0.1})
    assert hparams[units] == hparams["units"] == 4
    assert units in hparams
    assert "momentum" not in hparams
    assert list(hparams) == ["units", "lr"]
    assert pickle.loads(pickle.dumps(hparams)) == hparams == {"units": 4, "lr": 0.1}
    assert len({hparams, HParams({"lr": 0.1, "units": 4.0})}) == 1
    with pytest.raises(KeyError, match="'momentum' is not an hparam of this trial; it has units, lr"):
        hparams["momentum"]


def test_run_of_a_trial_is_named_by_its_place_and_seeded_by_its_id():
    trial = Trial.of(7, {"units": 4})
    spec = RunSpec.of(trial, sweep_seed=1)
    assert (trial.id, spec.name) == (trial_id({"units": 4}), "run-0007")
    assert spec.seed == RunSpec.of(Trial.of(8, {"units": 4.0}), 1).seed
    assert spec.seed != RunSpec.of(trial, 2).seed


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers() | st.text()))
def test_derived_seeds_fit_every_framework(parts):
    assert 0 <= derive_seed(*parts) < 2**31


@pytest.mark.parametrize("one", [True, 1, 1.0, np.int64(1), np.float32(1), "1", 0, False, None, "None", math.nan, 0.1])
@pytest.mark.parametrize("other", [True, 1, 1.0, np.int64(1), np.bool_(True), 0, False, -0.0, None, math.nan, 0.1])
def test_equal_hparams_have_equal_hashes(one, other):
    """And are equal to a dict of the same values, in both orders; True is not 1, in any place."""
    first, second = HParams({"a": one, "b": 2}), HParams({"b": 2.0, "a": other})
    assert (first == second) is (key_of(one) == key_of(other)) is (hash(first) == hash(second))
    assert (first == {"a": other, "b": 2}) is ({"b": 2, "a": other} == first) is (first == second)
    assert len({first, second}) == 2 - (first == second)


def test_hparams_are_compared_with_mappings_only():
    assert HParams({}) == {}
    assert HParams({"a": 1}) not in ({"a": 1, "b": 1}, {"b": 1}, 1, [("a", 1)])
    assert HParams({"a": np.float32(0.1)}) == {HParam("a", Discrete([0.1])): 0.1}
