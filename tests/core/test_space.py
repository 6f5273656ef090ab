"""Domains and hparams: what they hold, how they are spaced and drawn, and what TensorBoard reads of them."""

import math
import random
import sys

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tensorboard.plugins.hparams import api_pb2, summary_v2

from hparams_lab.core.declared import Declared
from hparams_lab.core.domains import Discrete, domain_from_json
from hparams_lab.core.errors import DeclarationError, HParamValueError
from hparams_lab.core.experiment import Experiment, Metric
from hparams_lab.core.hparam import HParam, adopt_hparam
from hparams_lab.core.intervals import IntInterval, RealInterval
from hparams_lab.logdir.declaration import experiment_message

FLOAT, BOOL, STRING = api_pb2.DATA_TYPE_FLOAT64, api_pb2.DATA_TYPE_BOOL, api_pb2.DATA_TYPE_STRING
DOMAINS = [
    Discrete([32, 16, 8]),
    Discrete([0.5, 1]),
    Discrete(["relu", None, "tanh"]),
    Discrete([True, False]),
    IntInterval(1, 10, step=4),
    IntInterval(1, 1000, scale="log"),
    RealInterval(1e-3, 1e-1, scale="log"),
    RealInterval(0, 2 / 3, step=1 / 3),
    RealInterval(1 / 3, 1 / 3, scale="log"),
]


def info_of(hparam):
    """What is written of an hparam for TensorBoard."""
    return experiment_message(Experiment([hparam], [Metric("acc")])).hparam_infos[0]


@pytest.mark.parametrize(
    ("domain", "dtype", "values"),
    [
        (Discrete([32, 16]), FLOAT, [32, 16]),
        (Discrete(["sgd", "adam"]), STRING, ["sgd", "adam"]),
        (Discrete([True, False]), BOOL, [True, False]),
        (Discrete([16, None]), STRING, ["16", "None"]),
        (Discrete([f"v{i}" for i in range(12)]), STRING, [f"v{i}" for i in range(12)]),
        (Discrete(range(9)), FLOAT, list(range(9))),
    ],
    ids=str,
)
def test_discrete_for_tensorboard(domain, dtype, values):
    info = info_of(HParam("x", domain, display_name="X", description="what it is"))
    assert (info.name, info.display_name, info.description) == ("x", "X", "what it is")
    assert (info.type, list(info.domain_discrete)) == (dtype, values)
    restored = Declared.of(Experiment([HParam("x", domain)], [Metric("accuracy")])).restored
    assert all(restored("x", domain.stored(value)) == value for value in domain.values)


@pytest.mark.parametrize(
    ("domain", "ends"),
    [
        (RealInterval(1e-3, 1, scale="log"), (1e-3, 1)),
        (Discrete([5, *range(20, 11, -1)]), (5, 20)),
    ],
    ids=str,
)
def test_interval_for_tensorboard(domain, ends):
    info = info_of(HParam("x", domain))
    assert info.type == FLOAT
    assert (info.domain_interval.min_value, info.domain_interval.max_value) == ends
    assert info.WhichOneof("domain") == "domain_interval"


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (summary_v2.Discrete([2, 1]), Discrete([1, 2])),
        (summary_v2.IntInterval(1, 9), IntInterval(1, 9)),
        (summary_v2.RealInterval(0.5, 1.0), RealInterval(0.5, 1)),
    ],
    ids=str,
)
def test_tensorboards_hparam_becomes_ours(theirs, ours):
    adopted = adopt_hparam(summary_v2.HParam("x", theirs, display_name="X", description="why"))
    assert adopted == HParam("x", ours, "X", "why")
    again = adopted.to_tensorboard()
    assert type(again.domain) is type(theirs)
    assert adopt_hparam(again) == adopted


@pytest.mark.parametrize("domain", DOMAINS, ids=str)
def test_domain_survives_json_and_draws_what_it_holds(domain):
    assert domain_from_json(domain.to_json()) == domain
    rng = random.Random(0)
    drawn = [domain.sample_uniform(rng) for _ in range(200)]
    assert all(domain.cast("x", value) == value for value in [*drawn, *domain.points(5)])
    if domain.size is not None:
        assert len(domain.every()) == domain.size
        assert set(drawn) <= set(domain.every())
        assert domain.size > 10 or set(drawn) == set(domain.every())


@pytest.mark.parametrize(
    ("domain", "count", "points"),
    [
        (Discrete([32, 16, 8]), 1, (32, 16, 8)),
        (RealInterval(0, 1), 1, (0.0,)),
        (RealInterval(0, 1), 5, (0.0, 0.25, 0.5, 0.75, 1.0)),
        (RealInterval(1e-4, 1, scale="log"), 5, (1e-4, 1e-3, 1e-2, 1e-1, 1.0)),
        (RealInterval(0, 1, step=0.3), 2, (0.0, 0.9)),
        (RealInterval(0, 0.3, step=0.1), 9, (0.0, 0.1, 0.2, 0.3)),
        (IntInterval(1, 3), 9, (1, 2, 3)),
        (IntInterval(1, 1000, scale="log"), 4, (1, 10, 100, 1000)),
        (IntInterval(8, 64, step=24), 2, (8, 56)),
    ],
    ids=str,
)
def test_points(domain, count, points):
    assert domain.points(count) == points


def test_a_step_reaches_the_end_however_many_there_are():
    assert IntInterval(0, 3 * 10**15, step=3).points(2)[-1] == 3 * 10**15
    assert IntInterval(0, 3 * 10**15 + 1, step=3)._steps == 10**15


@pytest.mark.parametrize("domain", [IntInterval(1, 10_000, scale="log"), RealInterval(1, 1e4, scale="log")], ids=str)
def test_log_draws_are_even_over_the_decades(domain):
    rng = random.Random(1)
    decades = [math.floor(math.log10(domain.sample_uniform(rng))) for _ in range(4000)]
    for decade in (1, 2, 3):
        assert 800 < decades.count(decade) < 1200


def test_log_draws_of_integers_give_each_the_width_from_half_below_to_half_above():
    rng = random.Random(1)
    drawn = [IntInterval(1, 4, scale="log").sample_uniform(rng) for _ in range(4000)]
    shares = [math.log((n + 0.5) / (n - 0.5)) / math.log(9) for n in (1, 2, 3, 4)]
    assert [drawn.count(n) / 4000 for n in (1, 2, 3, 4)] == pytest.approx(shares, abs=0.02)


@pytest.mark.parametrize("domain", [IntInterval(0, 4), IntInterval(0, 8, step=2), RealInterval(0, 1, step=0.25)])
def test_linear_draws_are_even_over_the_values_ends_included(domain):
    rng = random.Random(1)
    drawn = [domain.sample_uniform(rng) for _ in range(5000)]
    assert all(850 < drawn.count(value) < 1150 for value in domain.every())


HUGE = sys.float_info.max


@pytest.mark.parametrize(
    "domain",
    [
        RealInterval(-1e308, 1e308),
        RealInterval(-HUGE, HUGE),
        RealInterval(-HUGE, HUGE, step=1e307),
        RealInterval(-1e308, 1e308, step=1.5e308),
        RealInterval(-HUGE, HUGE, step=5e292),
        RealInterval(5e-324, HUGE, scale="log"),
    ],
    ids=str,
)
def test_intervals_wider_than_the_largest_number_are_drawn_from_evenly(domain):
    rng = random.Random(0)
    drawn = [domain.sample_uniform(rng) for _ in range(1000)]
    middle = 0.0 if domain.scale == "linear" else 1e-8
    assert 400 < sum(value < middle for value in drawn) < 600
    assert [domain.cast("x", value) for value in (*drawn, *domain.points(5))]
    assert len(set(drawn)) == domain.size if (domain.size or 1000) < 100 else len(set(drawn)) > 990
    assert len(domain.points(5)) == min(domain.size or 5, 5)
    if domain.size is not None:
        assert domain.min_value <= domain.every()[-1] <= domain.max_value


@pytest.mark.parametrize(("lo", "hi", "step"), [(0, 1e308, 1e-10), (-1e308, 1e308, 1.0), (0, 1, 5e-324)])
def test_more_steps_than_can_be_counted_are_refused(lo, hi, step):
    with pytest.raises(DeclarationError, match=r"^RealInterval has step .*, of which more than 2\*\*62 fit; give a"):
        RealInterval(lo, hi, step=step)


ENDS = st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)).map(sorted)


@settings(deadline=None)
@given(ends=ENDS, step=st.none() | st.floats(1e-3, 1e6), log=st.booleans(), seed=st.integers(0, 9))
def test_every_real_point_and_draw_is_in_its_interval(ends, step, log, seed):
    assume(not log or ends[0] > 1e-6)
    domain = RealInterval(*ends, scale="log" if log else "linear", step=step)
    for value in [*domain.points(7), domain.sample_uniform(random.Random(seed))]:
        assert domain.cast("x", value) == value


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Discrete([]), r"Discrete\(\[\]\) has no value to choose; give at least one that is not None"),
        (lambda: Discrete([16, 16.0]), "Discrete has the value 16.0 twice; name each once"),
        (lambda: Discrete([1, True]), r"Discrete has values of mixed types: 1 \(int\), True \(bool\); give one type"),
        (lambda: Discrete(["1"], dtype=int), "Discrete has '1' among values of type int; give one type"),
        (lambda: Discrete([1], dtype=list), "Discrete has dtype <class 'list'>; wanted bool, int, float or str"),
        (lambda: Discrete([math.nan]), "Discrete: hparam 'values' is nan, which TensorBoard drops"),
        (lambda: IntInterval(9, 1), "IntInterval has min 9 > max 1; give the smaller end first"),
        (lambda: IntInterval(1, 2.5), r"IntInterval has the bound 2.5; wanted a whole number within 2\*\*53"),
        (lambda: IntInterval(1, 1e300), "IntInterval has the bound 1e.300; wanted a whole number"),
        (lambda: IntInterval(1, 9, scale="cubic"), "IntInterval has scale 'cubic'; wanted 'linear' or 'log'"),
        (lambda: IntInterval(1, 9, step=0), "IntInterval has step 0; wanted a step above zero"),
        (lambda: RealInterval(0, 1, scale="log"), "RealInterval has a log scale from 0; .* both ends above zero"),
        (lambda: RealInterval(math.nan, 2), "RealInterval has the bound nan; wanted a finite number"),
        (lambda: HParam("", Discrete([1])), "HParam has the name ''; wanted a string that is not empty"),
        (lambda: HParam("\ud800", Discrete([1])), r"HParam has the name '\\ud800', which is not valid Unicode text"),
        (lambda: HParam("x", [1, 2]), r"hparam 'x' has the domain \[1, 2\]; wanted Discrete"),
        (lambda: HParam("x", Discrete([1]), active_when={"p": []}), "hparam 'x' is active for no value of 'p'; give"),
        (lambda: HParam("x", Discrete([1]), active_when={"p": math.nan}), "hparam 'x' has an active_when that can"),
        (lambda: adopt_hparam("x"), r"'x' is not an HParam; declare it as HParam\(name, domain\)"),
    ],
)
def test_bad_declarations(make, message):
    with pytest.raises(DeclarationError, match=f"^{message}") as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("domain", "value", "message"),
    [
        (Discrete([16, 32]), 64, r"hparam 'x' is 64; its domain is \{16, 32\}"),
        (Discrete([0, 1]), True, r"hparam 'x' is True \(bool\); wanted a whole number"),
        (Discrete([True, False]), 1, r"hparam 'x' is 1 \(int\); wanted True or False"),
        (IntInterval(1, 9), 2.5, r"hparam 'x' is 2.5 \(float\); wanted a whole number"),
        (IntInterval(1, 9, step=4), 4, r"hparam 'x' is 4, off the steps of its domain \[1, 9\] step 4"),
        (RealInterval(0.1, 1, scale="log"), 2, r"hparam 'x' is 2.0; its domain is \[0.1, 1\] log"),
        (RealInterval(0, 1), "0.5", r"hparam 'x' is '0.5' \(str\); wanted a number"),
    ],
    ids=str,
)
def test_values_outside_a_domain(domain, value, message):
    with pytest.raises(HParamValueError, match=f"^{message}"):
        HParam("x", domain).cast(value)
