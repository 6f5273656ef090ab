"""Objects as text: what an object is and how it is configured, the same at each start, apart where they differ."""

import collections
import dataclasses
import datetime
import decimal
import enum
import functools
import logging
import math
import os
import pathlib
import re
import subprocess
import sys
import threading
import typing
import warnings

import numpy as np
import pytest

import hparams_lab as lab
from hparams_lab.core.described import MOST_ELEMENTS, as_text


class Optimizer(enum.Enum):
    ADAM = "adam"
    SGD = 2


class Flags(enum.Flag):
    A = 1
    B = 2


class Word(str, enum.Enum):
    ADAM = "adam"


@dataclasses.dataclass
class Config:
    lr: float
    layers: list = dataclasses.field(repr=False)


class Pair(typing.NamedTuple):
    first: object
    second: object


class Plain:
    def __init__(self, **values):
        vars(self).update(values)

    def method(self, x):
        return x

    @classmethod
    def made(cls):
        return cls()


class Slots:
    __slots__ = ("_b", "a")

    def __init__(self, a):
        self.a, self._b = a, 2


class Quiet:
    """An object that says less than it is."""

    def __init__(self, rate):
        self.rate = rate

    def __repr__(self):
        return "<Quiet>"


def scale(x):
    return x


def scaled(rate):
    def schedule(epoch):
        return rate * epoch

    return schedule


TWICE = lambda x, by=2: by * x  # noqa: E731
KNOT = Plain(x=1)
KNOT.me = [KNOT]

SAID = [
    (Optimizer.ADAM, "adam"),
    (Optimizer.SGD, "SGD"),
    (Word.ADAM, "adam"),
    (pathlib.PurePosixPath("/data"), "/data"),
    (math.inf, "inf"),
    (-math.inf, "-inf"),
    (math.nan, "nan"),
    (2**63 - 1, "9223372036854775807"),
    (-(2**53) - 1, "-9007199254740993"),
    (np.float32("inf"), "inf"),
    (np.float32(0.1), np.float32(0.1)),
    (True, True),
    (None, None),
    ("\ud800x", "\\ud800x"),
    (datetime.date(2026, 1, 2), "2026-01-02"),
    (decimal.Decimal("0.10"), "0.10"),
    (dict, "dict"),
    (scale, "scale"),
    (math, "math"),
    (np.tanh, "tanh"),
    (math.sqrt, "sqrt"),
    (np.dtype("f4"), "float32"),
    (np.float32, "float32"),
    ([1, "a"], '[1, "a"]'),
    ({"b": 1, "a": None}, '{"a": null, "b": 1}'),
    ({"o": Optimizer.ADAM, "p": [pathlib.PurePosixPath("/d")], "f": scale}, '{"f": "scale", "o": "adam", "p": ["/d"]}'),
    ({"lr": np.float32(0.1), 2: np.arange(2)}, '{"2": [0, 1], "lr": 0.1}'),
    ([math.inf, 2**70], "[Infinity, 1180591620717411303424]"),
    ({"b", "a", 1}, "{'a', 'b', 1}"),
    ({"s": frozenset([3, 1])}, '{"s": "{1, 3}"}'),
    (np.array([0.1, 9], np.float32), "[0.1, 9.0]"),
    (np.eye(2, dtype=int), "[[1, 0], [0, 1]]"),
    (Config(0.1, [1, Optimizer.ADAM]), "Config(layers=[1, 'adam'], lr=0.1)"),
    (Pair(0.1, scale), "Pair(first=0.1, second=scale)"),
    (Plain(lr=0.1, path=pathlib.PurePosixPath("/d")), "Plain(lr=0.1, path='/d')"),
    (Plain(), "Plain()"),
    (Slots(1), "Slots(_b=2, a=1)"),
    (Quiet(0.1), "Quiet(rate=0.1)"),
    (Plain(a=1).method, "Plain(a=1).method"),
    (Plain.made, "Plain.made"),
    (functools.partial(scale, 1, b=Config(0.1, []), a=2), "partial(scale, 1, a=2, b=Config(layers=[], lr=0.1))"),
    (TWICE, "lambda x, by=2: by * x [by=2]"),
    (functools.lru_cache(scale), "scale"),
    (collections.deque([1, 2]), "deque([1, 2])"),
    (range(3), "range(0, 3)"),
    (b"x", "b'x'"),
    (KNOT, "Plain(me=[...], x=1)"),
    (Plain(log=logging.getLogger("a.b"), lock=threading.Lock()), "Plain(lock=lock(), log=Logger(a.b))"),
    (Plain(kind=Quiet, of=math), "Plain(kind=Quiet, of=math)"),
    (list[int], "list[int]"),
    (typing.Optional[int], "typing.Optional[int]"),  # noqa: UP045
]


@pytest.mark.parametrize(("value", "wanted"), SAID, ids=[f"{number}" for number in range(len(SAID))])
def test_what_an_object_is_and_how_it_is_configured(value, wanted):
    assert as_text(value, pytest.fail) == wanted


def test_lists_and_dicts_that_hold_themselves_end():
    ring, knot = [1], {"a": 1}
    ring.append(ring)
    knot["self"] = knot
    assert (as_text(ring), as_text(knot)) == ('[1, "..."]', '{"a": 1, "self": "..."}')


APART = [
    [scaled(0.1), scaled(0.2)],
    [lambda x: x, lambda x: 2 * x],  # in one line, too
    [functools.partial(scale, rate=rate) for rate in (0.1, 0.2)],
    [lambda e, rate=rate: rate * e for rate in (0.1, 0.2)],
    [Plain(inner=Plain(a=Plain(rate=rate))) for rate in (0.1, 0.2)],
    [Quiet(0.1), Quiet(0.2)],
    [Plain(rate=rate).method for rate in (0.1, 0.2)],
    [Config(0.1, [64] * 60 + [last]) for last in (1, 2)],
    [np.array([0.1] * 40 + [last]) for last in (1, 2)],
    [np.array([0.1] * MOST_ELEMENTS + [last]) for last in (1, 2)],
    [Pair(scaled(rate), scaled(0.1)) for rate in (0.1, 0.2)],
    [{"deep": {"deeper": [scaled(rate)]}} for rate in (0.1, 0.2)],
    [collections.OrderedDict(f=Quiet(rate)) for rate in (0.1, 0.2)],
    [pathlib.Path("/data" * 30) / name for name in ("a", "b")],
    [Flags.A, Flags.A | Flags.B],
    [{1: 2, "f": scale}, {2: 2, "f": scale}],
]


@pytest.mark.parametrize("values", APART, ids=[f"{number}" for number in range(len(APART))])
def test_what_differs_is_told_apart_and_again_the_same(values):
    texts = [as_text(value, pytest.fail) for value in values]
    assert len({*texts}) == len(values)
    assert [as_text(value, pytest.fail) for value in values] == texts
    assert "0x" not in "".join(texts)


def test_the_text_is_the_same_at_another_start():
    script = (
        "import json, test_described as t\n"
        "from hparams_lab.core.described import as_text\n"
        "print(json.dumps([as_text(value) for value, _ in t.SAID] + [as_text(v) for vs in t.APART for v in vs], "
        "default=str))"
    )
    here = pathlib.Path(__file__).parent
    said = [
        subprocess.run(
            [sys.executable, "-c", script], env={**os.environ, "PYTHONHASHSEED": seed}, cwd=here, check=True,
            capture_output=True, text=True,
        ).stdout
        for seed in ("1", "2")
    ]  # fmt: skip
    assert said[0] == said[1]


@pytest.mark.parametrize("value", [object(), threading.Lock(), (number for number in "ab"), Plain(lock=object())])
def test_what_cannot_be_told_apart_is_said_once(tmp_path, value):
    name = f"x{id(value)}"
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(2):
            run = lab.start_run(tmp_path, hparams={name: value}, hparams_as_text=True, provenance=False)
            run.finish()
    assert len(told) == 1
    assert re.match(rf"hparam '{name}': \w+ does not say how it is configured, so two that ", str(told[0].message))
    assert "0x" not in run.hparams[name]
    assert len(lab.read(tmp_path).trials) == 1


def test_two_functions_of_one_name_are_said_to_be_one():
    told = []

    def made(source):
        exec(source, space := {"__name__": "notebook"})
        return space["activation"]

    first, second = made("def activation(x): return x"), made("def activation(x): return -x")
    assert [as_text(first, told.append), as_text(first, told.append), told] == ["activation", "activation", []]
    as_text(second, told.append)
    assert told == ["there are two functions that are called activation"]


def test_large_objects_end():
    told = []
    deep = Plain()
    for _ in range(200):
        deep = Plain(inner=deep)
    assert "..." in as_text(deep, told.append)
    assert "..." in as_text(Plain(many=[Plain(x=number) for number in range(30_000)]), told.append)
    assert told == ["Plain is too large to be told whole"] * 2


def test_each_configuration_is_a_trial(tmp_path):
    for values in APART:
        for value in values:
            lab.start_run(tmp_path, hparams={"x": value}, hparams_as_text=True, provenance=False).finish({"loss": 1})
    found = lab.read(tmp_path).trials
    assert len(found) == sum(map(len, APART))
    assert max(len(trial.hparams["x"]) for trial in found) > 200
