"""The `--where` grammar: what it means, what it refuses and where, and that nothing else can come of any text."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hparams_lab.analysis.filter import DEEPEST, MISSING, parse_where, quoted_at
from hparams_lab.core.errors import UsageError

TRIAL = {
    "lr": 0.01,
    "units": 16,
    "opt": "adam",
    "text": "16",
    "nesterov": True,
    "decay": None,
    "as text": "None",
    "val/loss": 0.25,
    "my rate": 3.0,
    "nan": math.nan,
    "narrow": 0.009999999776482582,  # what 0.01 is in 32 bits
    "and": 1,
    'a"b': 2,
    "sixth": 1 / 6,
}


def holds(text):
    return parse_where(text).holds(lambda name: TRIAL.get(name, MISSING))


@pytest.mark.parametrize(
    "text",
    [
        "lr < 0.02",
        "lr <= 0.01",
        "lr >= 1e-2",
        "lr > .001",
        "lr = 0.01",
        "lr==0.01",
        "lr != 0.02",
        "units > -3 and units < +17",
        "units = 16.0",
        "text = 16",
        "opt = adam",
        "opt = 'adam'",
        'opt = "adam"',
        "opt != sgd",
        "opt ~ da",
        "val/loss ~ 25",
        "nesterov = true",
        "nesterov = True",
        "nesterov != false",
        "decay = none",
        "as_text = none or `as text` = none",
        '"my rate" > 2',
        "`my rate` > 2 AND 'my rate' < 4",
        "`and` = 1",
        r'"a\"b" = 2',
        "opt in (sgd, adam)",
        "lr in (0.01)",
        "opt not in (sgd, rmsprop)",
        "not opt = sgd",
        "not not opt = adam",
        "opt = sgd or lr = 0.01 and units = 16",
        "(opt = adam or lr = 1) and units = 16",
        "not (opt = sgd and lr = 0.01)",
        "nan = nan",
        "lr != nan",
        "units < inf",
        "narrow = 0.01",
        "narrow >= 0.01",
        "sixth = 0.166667",
        "\n lr\t<1 ",
    ],
)
def test_what_holds(text):
    assert holds(text)


@pytest.mark.parametrize(
    "text",
    [
        "lr < 0.01",
        "lr > 0.01",
        "narrow < 0.01",
        "units = 17",
        "units = adam",
        "opt = Adam",
        "opt < 3",
        "nesterov < 3",
        "nesterov = 1",
        "text < 20",
        "decay = 0",
        "nan < 1",
        "nan >= nan",
        "nan != nan",
        "lr <= nan",
        "opt in (sgd, rmsprop)",
        "opt not in (sgd, adam)",
        "opt = adam and lr = 1",
        "not opt = adam",
        "opt = sgd or lr = 0.01 and units = 17",
        "(opt = adam or lr = 0.01) and units = 17",
        "sixth = 0.166668",
    ],
)
def test_what_does_not_hold(text):
    assert not holds(text)


@pytest.mark.parametrize("text", ["gone < 1", "gone = 1", "gone != 1", "gone ~ 1", "gone in (1)", "gone not in (1)"])
def test_what_is_missing_compares_false(text):
    assert not holds(text)
    assert holds(f"not {text}")


def test_integers_are_told_apart_beyond_the_digits_shown():
    value = parse_where("n = 1234567")
    assert value.holds({"n": 1234567.0}.get)
    assert not value.holds({"n": 1234568.0}.get)
    assert parse_where("n > 1234567").holds({"n": 1234568.0}.get)


@pytest.mark.parametrize(
    ("text", "column", "what"),
    [
        ("", 1, "the end where a name belongs: ^;"),
        ("lr", 3, "the end where one of < <= > >= = != ~ in belongs: lr^;"),
        ("lr <", 5, "the end where a value belongs: lr <^;"),
        ("lr << 1", 5, "'<' where a value belongs: lr <^< 1;"),
        ("lr < fast", 6, "'fast' after '<', which compares numbers: lr < ^fast;"),
        ("0.1 < lr", 1, "the number 0.1 where a name belongs (the name comes first): ^0.1 < lr;"),
        ("lr < 1 units > 2", 8, "'units' where 'and', 'or' or the end belongs: lr < 1 ^units > 2;"),
        ("(lr < 1", 8, "the end where ')' belongs: (lr < 1^;"),
        ("lr < 1)", 7, "')' where 'and', 'or' or the end belongs: lr < 1^);"),
        ("lr in 1", 7, "'1' where '(' belongs: lr in ^1;"),
        ("lr in (1 2)", 10, "'2' where ')' belongs: lr in (1 ^2);"),
        ("lr in ()", 8, "')' where a value belongs: lr in (^);"),
        ("lr not 3", 8, "'3' where 'in' belongs: lr not ^3;"),
        ("and lr < 1", 1, "'and' where a name belongs: ^and lr < 1;"),
        ("lr ! 3", 4, "'!', which means nothing here: lr ^! 3;"),
        ("opt = 'adam", 7, "a quote that is not closed: opt = ^'adam;"),
        ("lr < 1 and", 11, "the end where a name belongs: lr < 1 and^;"),
        ("opt = a \x1b[2J", 9, "'\\x1b[2J' where 'and', 'or' or the end belongs: opt = a ^\\x1b[2J;"),
    ],
)
def test_what_is_refused_says_where(text, column, what):
    with pytest.raises(UsageError) as error:
        parse_where(text)
    said = str(error.value)
    assert said.startswith(f"--where has at column {column} {what}")
    assert said.endswith("for example --where 'lr < 0.01 and optimizer in (adam, sgd)'")
    assert said.isprintable()


def test_nesting_has_a_bottom():
    fits, deeper = "(" * (DEEPEST - 1), "(" * DEEPEST
    assert holds(f"{fits}lr = 0.01{')' * len(fits)}")
    for text in (f"{deeper}lr = 0.01{')' * len(deeper)}", "(" * 100_000, "not " * 100_000):
        with pytest.raises(UsageError, match="more than 50 parentheses or 'not' within each other"):
            parse_where(text)


def test_long_conditions_are_quick():
    text = " or ".join(["lr = 1"] * 20_000)
    assert not holds(text)
    assert holds(f"{text} or units = 16")


def test_a_long_text_is_quoted_around_the_place():
    said = quoted_at("x" * 100 + "!" + "y" * 100, 100)
    assert said == f"...{'x' * 30}^!{'y' * 29}..."


@given(st.text(alphabet="lr units<>=!~(),`'\"\\andotin0.1e-\n\x00é", max_size=40))
def test_any_text_is_a_condition_or_is_refused_in_one_line(text):
    try:
        condition = parse_where(text)
    except UsageError as error:
        assert str(error).isprintable()  # noqa: PT017
    else:
        assert condition.holds(lambda name: MISSING) in (True, False)


NAMES = st.sampled_from(["a", "b", "val/loss", "odd name"])
SIGNS = {"<": lambda x, y: x < y, "<=": lambda x, y: x <= y, ">": lambda x, y: x > y, ">=": lambda x, y: x >= y,
         "=": lambda x, y: x == y, "!=": lambda x, y: x != y}  # fmt: skip
LEAVES = st.tuples(NAMES, st.sampled_from([*SIGNS]), st.integers(-2, 2))
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.tuples(st.just("not"), inner)
        | st.tuples(st.sampled_from(["and", "or"]), st.lists(inner, min_size=2, max_size=3))
    ),
    max_leaves=8,
)


def written(tree, within=""):
    """A tree as a person writes it, with no more parentheses than it needs."""
    if tree[0] == "not":
        return f"not {written(tree[1], 'not')}"
    if tree[0] in ("and", "or"):
        text = f" {tree[0]} ".join(written(part, tree[0]) for part in tree[1])
        return f"({text})" if within == "not" or (within == "and" and tree[0] == "or") or within == tree[0] else text
    name, sign, value = tree
    return f"`{name}` {sign} {value}"


def meant(tree, values):
    if tree[0] == "not":
        return not meant(tree[1], values)
    if tree[0] in ("and", "or"):
        return (all if tree[0] == "and" else any)(meant(part, values) for part in tree[1])
    name, sign, value = tree
    return SIGNS[sign](values[name], value)


@given(TREES, st.tuples(*[st.integers(-2, 2)] * 4))
def test_a_condition_means_what_python_would_mean(tree, numbers):
    values = dict(zip(["a", "b", "val/loss", "odd name"], numbers, strict=True))
    assert parse_where(written(tree)).holds(values.get) is meant(tree, values)
