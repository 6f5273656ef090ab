"""Times and sizes as a person writes them."""

import contextlib

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hparams_lab.cli.main import cli
from hparams_lab.cli.units import BYTES, SECONDS
from hparams_lab.core.errors import UsageError
from hparams_lab.executors.limits import LEAST_MEMORY, checked_bytes, checked_seconds

TIMES = {
    "90": 90,
    90: 90,
    0.5: 0.5,
    "0.5": 0.5,
    ".5": 0.5,
    "90s": 90,
    "1.5m": 90,
    "5m": 300,
    "2h": 7200,
    "1d": 86400,
    "1h30m": 5400,
    "1d2h3m4.5s": 86400 + 7200 + 184.5,
    " 1 h 30 m ": 5400,
    "2H": 7200,
}
SIZES = {
    "800000000": 8 * 10**8,
    8 * 10**8: 8 * 10**8,
    8e8: 8 * 10**8,
    "512MB": 512 * 10**6,
    "512mb": 512 * 10**6,
    "512M": 512 * 10**6,
    "512MiB": 2**29,
    "2GB": 2 * 10**9,
    "2 GB": 2 * 10**9,
    "1.5GiB": 3 * 2**29,
    "1TiB": 2**40,
    "20000kB": 2 * 10**7,
    "20000KiB": 20000 * 2**10,
    "20000000B": 2 * 10**7,
}
NO_TIME = ["", " ", "0", 0, "0s", "0h0m", -1, "-1", "-5m", "nan", "inf", float("nan"), float("inf"), "soon",
           "5 minutes", "5x", "m", "30m1h", "1d1d", "1e3", "1:30", "٣", "1_0", True, None, "5m;", "\n",
           10**400]  # fmt: skip
NO_SIZE = ["", "0", 0, "0GB", -1, "-2GB", "nan", "inf", float("nan"), float("inf"), "GB", "2XB", "two", "2GBs", "1e9",
           "2 G B", "٣GB", True, None, "2GB,", "99999999TB", 10**400]  # fmt: skip


@pytest.mark.parametrize("said", TIMES, ids=repr)
def test_times(said):
    assert checked_seconds(said) == TIMES[said]


@pytest.mark.parametrize("said", SIZES, ids=repr)
def test_sizes(said):
    assert checked_bytes(said) == SIZES[said]


@pytest.mark.parametrize("said", NO_TIME, ids=lambda said: repr(said)[:20])
def test_what_is_no_time_is_refused(said):
    with pytest.raises(UsageError) as refused:
        checked_seconds(said)
    assert str(refused.value) == f"--timeout is {said}; wanted a time above 0, such as 90s, 5m, 2h or 1h30m"


@pytest.mark.parametrize("said", NO_SIZE, ids=lambda said: repr(said)[:20])
def test_what_is_no_size_is_refused(said):
    with pytest.raises(UsageError) as refused:
        checked_bytes(said)
    assert str(refused.value) == f"--memory is {said}; wanted a size above 0, such as 512MB, 2GB or 1.5GiB"


@pytest.mark.parametrize(
    ("said", "more"), [("512", "; say 512MB if that is meant"), ("1kB", ""), ("16MB", ""), (4, ""), ("3", "")]
)
def test_a_size_for_no_run_is_refused(said, more):
    with pytest.raises(UsageError) as refused:
        checked_bytes(said)
    told = f"--memory is {said}, which is too little for any run; wanted at least 16MiB"
    assert str(refused.value) == told + more
    assert checked_bytes("16MiB") == LEAST_MEMORY


@given(st.text() | st.integers() | st.floats())
def test_anything_else_is_refused_in_the_same_way(said):
    for check in (checked_seconds, checked_bytes):
        with contextlib.suppress(UsageError):
            assert check(said) > 0


@pytest.fixture
def waits(monkeypatch):
    """A command of `hparams-lab` with both options; what it was given."""
    given = []

    @click.command()
    @click.option("--for", "seconds", type=SECONDS)
    @click.option("--with", "size", type=BYTES)
    def command(seconds, size):
        given.append((seconds, size))

    monkeypatch.setattr(type(cli), "get_command", lambda self, ctx, name: command)
    return given


def test_options_have_the_numbers(waits, lab_command):
    assert lab_command("wait --for 1h30m --with 2GB")[0] == 0
    assert lab_command("wait")[0] == 0
    assert waits == [(5400.0, 2 * 10**9), (None, None)]


def test_an_option_that_does_not_fit_is_one_line(waits, lines_of):
    assert lines_of("wait --for soon", refused=True) == (
        "--for is soon; wanted a time above 0, such as 90s, 5m, 2h or 1h30m"
    )
    assert lines_of("wait --with -2GB", refused=True) == (
        "--with is -2GB; wanted a size above 0, such as 512MB, 2GB or 1.5GiB"
    )
    assert waits == []
