"""Where runs are made and found again: their names and order, and what is refused before anything is written."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hparams_lab.errors import HParamValueError, LogDirError
from hparams_lab.events.logdir import read
from hparams_lab.experiment import Experiment, Metric
from hparams_lab.hparam import HParam
from hparams_lab.paths import natural
from hparams_lab.space import Discrete
from hparams_lab.start import start_run

EXPERIMENT = Experiment([HParam("units", Discrete([16, 32]))], [Metric("accuracy")])


@given(st.lists(st.text("a1²③٣-/") | st.text()))
def test_natural_order_takes_any_names(names):
    assert sorted(sorted(names, key=natural)) == sorted(names)


def test_natural_order_reads_numbers():
    assert sorted(["run-11", "run-2", "run-0010-fold-10", "run-0010-fold-9"], key=natural) == [
        "run-2",
        "run-0010-fold-9",
        "run-0010-fold-10",
        "run-11",
    ]


def test_runs_are_read_in_natural_order_below_any_directory(weird_tmp_path):
    for name in ("run-10", "run-2", "deep/er/run-1", "試²", "sp ace\n'"):
        start_run(weird_tmp_path, hparams={"x": 1}, name=name).finish({"loss": 0.5})
    results = read(weird_tmp_path)
    assert [run.name for run in results.runs] == ["deep/er/run-1", "run-2", "run-10", "sp ace\n'", "試²"]
    assert all(run.dir == weird_tmp_path / run.name and run.metrics == {"loss": 0.5} for run in results.runs)
    (alone,) = read(weird_tmp_path / "run-2").runs
    assert alone.name == "run-2"


@pytest.mark.parametrize("name", ["..", ".", "", "a/..", "../x", "a/../../x", "/tmp/x", "a\0b"])
def test_names_that_leave_the_directory(tmp_path, name):
    with pytest.raises(LogDirError, match=r"^the run's name .* leaves the log directory .*; give a plain name$"):
        start_run(tmp_path / "logs", hparams={}, name=name)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("name", ["_experiment", "_experiment/7", "./sweep.json"])
def test_names_that_are_kept(tmp_path, name):
    with pytest.raises(
        LogDirError, match=r"^the run's name .* is kept for the log directory's own; give another name$"
    ):
        start_run(tmp_path, hparams={}, name=name)


def test_names_are_made_plain_and_taken_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = re.escape(str(tmp_path))
    for name, plain in [("a", "a"), ("./b//c", "b/c"), ("no/../d", "d"), (" ü\n'", " ü\n'")]:
        start_run(".", hparams={}, name=name).finish()
        assert plain in [run.name for run in read(".").runs]
        assert (tmp_path / plain).is_dir()
        with pytest.raises(LogDirError, match=rf"^run .* is in {root} already; give another name or none, if_e"):
            start_run(".", hparams={}, name=name)


@pytest.mark.parametrize(
    ("taken", "name"),
    [([], "run-0000"), (["run-0007-fold-1", "run-²", "run-x"], "run-0008"), (["run-9999", "run-10000"], "run-10001")],
)
def test_the_next_free_name(tmp_path, taken, name):
    for other in taken:
        (tmp_path / other).mkdir()
    start_run(tmp_path, hparams={}).finish()
    assert (tmp_path / name).is_dir()


def test_a_log_directory_that_cannot_be(tmp_path):
    (tmp_path / "file").touch()
    for logdir in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(LogDirError, match=r" cannot be written: .*; choose another log directory$"):
            start_run(logdir, hparams={})


@pytest.mark.parametrize(
    ("hparams", "experiment", "message"),
    [
        ({"x": [1]}, None, r"hparam 'x' is \[1\] \(list\); wanted a bool, a number, a string or None"),
        ({"x": math.nan}, None, "hparam 'x' is nan, which TensorBoard drops; give a finite number"),
        ({"": 1}, None, "an hparam has an empty name; give each a name"),
        ({"units": 17}, EXPERIMENT, "hparam 'units' is 17; its domain is"),
        ({"x": 1}, EXPERIMENT, "hparam 'x' is not declared; the experiment has units"),
    ],
)
def test_hparams_that_do_not_fit_leave_nothing_behind(tmp_path, hparams, experiment, message):
    with pytest.raises(HParamValueError, match=f"^{message}"):
        start_run(tmp_path / "logs", hparams=hparams, experiment=experiment)
    assert not (tmp_path / "logs").exists()
