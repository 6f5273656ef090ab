"""Where runs are made and found again: their names and order, and what is refused before anything is written."""

import getpass
import math
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hparams_lab.core.domains import Discrete
from hparams_lab.core.errors import HParamValueError, LogDirError
from hparams_lab.core.experiment import Experiment, Metric
from hparams_lab.core.hparam import HParam
from hparams_lab.integrations.search_log import SearchLog
from hparams_lab.logdir.doctor.examine import examine
from hparams_lab.logdir.merge import merge
from hparams_lab.logdir.reader import LogDirReader, read
from hparams_lab.run.start import start_run
from hparams_lab.storage.paths import local, natural
from hparams_lab.sweep.runner import run_sweep

HOME_AND_FILES = {
    "~": "{home}",
    "~/x": "{home}/x",
    Path("~/x"): "{home}/x",
    f"~{getpass.getuser()}/x": "{user}/x",
    "file:///tmp/a%20b/%7E": "/tmp/a b/~",
    "file://localhost/tmp/x": "/tmp/x",
    "FILE:/tmp/x": "/tmp/x",
    Path("file:///tmp/x"): "/tmp/x",
    "file:///tmp/%ff": os.fsdecode(b"/tmp/\xff"),
    b"/tmp/\xff": os.fsdecode(b"/tmp/\xff"),
    "file:///": "/",
    "a:b": "a:b",
    "a/gs://b": "a/gs:/b",
    "C:\\logs": "C:\\logs",
    "C:/logs": "C:/logs",
    "x~": "x~",
    "logs/~": "logs/~",
    "gs:/b": "gs:/b",
    "": ".",
}
URLS = ["gs://b/x", "s3://b", "hdfs://h:9000/x", "memory://", "HTTP://h/x", "az://c/x", "dbfs+v2://x", Path("gs://b/x")]
NOT_HERE = {
    **dict.fromkeys(URLS, "is a URL, where nothing can be read or written yet; give a path on this machine$"),
    "file://server/x": "names the machine 'server'; give a path on this machine, as in file:///home/me/logs$",
    "file://": "has no path; give a path on this machine, as in ",
    "~no-such-user/x": "begins with ~no-such-user, whose home directory is not known; ./~no-such-user/x is a path of ",
    "a\0b": "holds a null character, which no path has; give another$",
    "file:///%00": "holds a null character, ",
}


@pytest.mark.parametrize(("given", "wanted"), HOME_AND_FILES.items(), ids=map(str, HOME_AND_FILES))
def test_a_path_as_a_person_gives_it(tmp_path, monkeypatch, given, wanted):
    monkeypatch.setenv("HOME", str(tmp_path))
    wanted = Path(wanted.format(home=tmp_path, user=os.path.expanduser(f"~{getpass.getuser()}")))
    found = local(given)
    assert os.path.abspath(found) == os.path.abspath(wanted)
    assert local(found) == found


@pytest.mark.parametrize(("given", "message"), NOT_HERE.items(), ids=map(repr, NOT_HERE))
def test_a_path_that_is_not_on_this_machine(tmp_path, monkeypatch, given, message):
    monkeypatch.chdir(tmp_path)
    for take in (
        local,
        read,
        LogDirReader,
        lambda logdir: start_run(logdir, hparams={"units": 16}),
        lambda logdir: run_sweep(EXPERIMENT, lambda run: {"accuracy": 1}, logdir=logdir, executor="inline"),
        lambda logdir: SearchLog.open(logdir, "me"),
        lambda logdir: merge(["a", logdir], "c"),
        lambda logdir: merge(["a", "b"], logdir),
        examine,
    ):
        with pytest.raises(LogDirError, match=message) as caught:
            take(given)
        assert "\n" not in str(caught.value)
    assert [*tmp_path.iterdir()] == []


def test_a_directory_that_is_called_like_a_home_or_a_url(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("./~", "./gs:/b", "./~me"):
        assert local(local(name)) == local(name) == tmp_path / name
        start_run(name, hparams={"units": 16}).finish()
        assert len(read(name).runs) == len(read(local(name)).runs) == 1
    assert local("~me") == tmp_path / "~me"  # which is there, and no user


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
