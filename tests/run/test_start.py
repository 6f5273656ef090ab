"""`start_run`: going on with runs, names, what columns become, runs that nobody finished, many processes at once."""

import os
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from hparams_lab.core.domains import Discrete
from hparams_lab.core.errors import HParamValueError, LogDirError, UsageError
from hparams_lab.core.experiment import Experiment, Metric
from hparams_lab.core.hparam import HParam
from hparams_lab.core.intervals import RealInterval
from hparams_lab.core.outcome import Outcome
from hparams_lab.events.format import summaries
from hparams_lab.events.format.event_file import read_events, summary_event
from hparams_lab.logdir.declaration import current_declaration
from hparams_lab.logdir.reader import read
from hparams_lab.logdir.run_reader import event_files, read_run
from hparams_lab.run.start import start_run
from hparams_lab.storage.paths import LogDirPaths
from hparams_lab.targets.builtin import classifier

posix = pytest.mark.skipif(os.name == "nt", reason="Windows has neither flock nor SIGKILL")
PREAMBLE = "import os, sys, time\nfrom hparams_lab.run.start import start_run\n"


def start(directory, name=None, hparams=None, **more):
    return start_run(directory, hparams={"x": 1} if hparams is None else hparams, name=name, provenance=False, **more)


def python(script, directory, *more):
    command = [sys.executable, "-c", PREAMBLE + script, str(directory), *map(str, more)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def read_back(directory, name="x"):
    findings = []
    found = read_run(directory / name, name, findings=findings)
    assert findings == []
    return found


def columns(directory):
    """The declared hparams: of numbers the interval, of others the values."""
    found = {}
    for info in current_declaration(LogDirPaths(directory)).hparam_infos:
        interval = info.domain_interval
        discrete = [summaries.plain_value(value) for value in info.domain_discrete.values]
        found[info.name] = discrete or (interval.min_value, interval.max_value)
    return found


@posix
@pytest.mark.parametrize("torn", [0, 1, 30])
def test_goes_on_after_a_kill_behind_the_last_whole_record(tmp_path, torn):
    script = (
        "run = start_run(sys.argv[1], hparams={'x': 1}, name='x', provenance=False)\n"
        "for step in range(100): run.log('loss', step)\n"
        "run.flush(); print('flushed', flush=True); time.sleep(60)"
    )
    with python(script, tmp_path) as process:
        assert process.stdout.readline() == "flushed\n"
        with pytest.raises(LogDirError, match=r" is being written by another process; wait for it to end$"):
            start(tmp_path, "x", resume=True)
        process.send_signal(signal.SIGKILL)
    (file,) = event_files(tmp_path / "x")
    with file.open("ab") as end:
        end.write(summary_event(summaries.scalars({"loss": 7.0}), 100, 1.0)[:torn])
    with start(tmp_path, "x", resume=True) as run:
        run.log("loss", 100)
    found = read_back(tmp_path)
    assert event_files(tmp_path / "x") == [file]
    assert found.columns["loss"].steps.tolist() == found.columns["loss"].values.tolist() == list(range(101))
    assert found.outcome is Outcome.COMPLETED


@pytest.mark.parametrize("outcome", [Outcome.COMPLETED, Outcome.FAILED])
def test_goes_on_after_the_end_and_replaces_it(tmp_path, outcome):
    run = start(tmp_path, "x", trial_id="mine")
    run.log({"loss": 0.5}, step=3)
    run.finish({"acc": 1}, outcome, "why")
    run = start(tmp_path, "x", resume=True)
    assert (run.trial_id, run.name) == ("mine", "x")
    run.log({"loss": 0.25})
    run.finish(None, Outcome.PRUNED, "worse")
    found = read_back(tmp_path)
    assert (found.outcome, found.reason, found.columns["loss"].steps.tolist()) == (Outcome.PRUNED, "worse", [3, 4])
    (file,) = event_files(run.dir)
    tags = [value.tag for event in read_events(file.read_bytes()) for value in event.summary.value]
    assert (tags.count(summaries.SESSION_START_TAG), tags.count(summaries.SESSION_END_TAG)) == (1, 1)


@pytest.mark.parametrize("value", [1.0, 1, 0.1, True, None, "text", "1", np.float32(0.1), 2.0**53, 1e300, -0.0])
@pytest.mark.parametrize("before", [[], ["text"]], ids=["alone", "in a column of strings"])
def test_goes_on_with_the_same_values_however_they_are_stored(tmp_path, value, before):
    for other in before:
        start(tmp_path, hparams={"value": other}).finish()
    for resume in (False, True):
        start(tmp_path, "x", {"value": value}, resume=resume).finish()
    with pytest.raises(LogDirError, match=r"^run 'x' has the hparams {'value': .*}, not {'value': 17}; start another"):
        start(tmp_path, "x", {"value": 17}, resume=True)


def test_goes_on_in_a_declared_experiment_with_the_same_values(tmp_path):
    experiment = Experiment([HParam("rate", RealInterval(0, 2)), HParam("act", Discrete(["a", None]))], [Metric("acc")])
    for resume, hparams in [(False, {"rate": 1.0, "act": None}), (True, {"rate": 1, "act": None})]:
        start(tmp_path, "x", hparams, resume=resume, experiment=experiment).finish({"acc": 1})
    start(tmp_path, "x", {"rate": 1, "act": None}, resume=True).finish()
    with pytest.raises(LogDirError, match=r"^run 'x' has the hparams {'rate': 1.0, 'act': None}, not {'rate': 0.5, "):
        start(tmp_path, "x", {"rate": 0.5, "act": None}, resume=True, experiment=experiment)


def test_what_cannot_be_gone_on_with(tmp_path):
    with pytest.raises(LogDirError, match=r"^resume=True goes on with a run by its name; give name=\.\.\.$"):
        start(tmp_path, resume=True)
    (tmp_path / "empty").mkdir()
    with pytest.raises(LogDirError, match=r"/empty holds no run to go on with; give another name, or resume=False$"):
        start(tmp_path, "empty", resume=True)
    with start(tmp_path, "new", resume=True) as run:
        assert run.name == "new"


def test_names_that_are_taken(tmp_path):
    names = [start(tmp_path, "a/b", if_exists="number") for _ in range(3)]
    assert [run.name for run in names] == ["a/b", "a/b-2", "a/b-3"]
    wanted = f"run 'a/b' is in {tmp_path} already; give another name or none, if_exists='number', or resume=True to go"
    with pytest.raises(LogDirError, match=f"^{re.escape(wanted)} on with it$"):
        start(tmp_path, "a/b")
    for run in names:
        run.finish()


def test_options_that_are_not_there(tmp_path):
    with pytest.raises(UsageError, match=r"^if_exists is 'overwrite'; wanted one of 'error', 'number'$"):
        start(tmp_path / "logs", "x", if_exists="overwrite")
    with pytest.raises(UsageError, match=r"^when_full is 'dorp'; wanted one of 'block', 'drop'$"):
        start(tmp_path / "logs", when_full="dorp")
    assert not (tmp_path / "logs").exists()


def test_objects_as_text(tmp_path):
    values = {"list": [1, "a"], "dict": {"b": 1, "a": None}, "type": dict, "call": classifier.experiment, "x": 0.5}
    with start(tmp_path, "x", values, hparams_as_text=True) as run:
        wanted = {"list": '[1, "a"]', "dict": '{"a": null, "b": 1}', "type": "dict", "call": "experiment", "x": 0.5}
        assert dict(run.hparams) == wanted
    assert dict(read_back(tmp_path).hparams) == wanted
    with pytest.raises(HParamValueError, match=r"^hparam 'list' is \[1, 'a'\] \(list\); wanted a bool, a number, "):
        start(tmp_path, "y", values)
    with pytest.raises(HParamValueError, match=r"^hparams are \[1\] \(list\); wanted values by name$"):
        start(tmp_path, "y", [1])
    with pytest.raises(HParamValueError, match=r"^an hparam has the name 3 \(int\); wanted a string or an HParam$"):
        start(tmp_path, "y", {3: 1})


def test_columns_are_the_union_of_what_the_runs_had(tmp_path):
    for hparams in [{"lr": 0.1, "on": True, "act": "relu"}, {"lr": 2, "act": None, "new": 3}, {"act": 7, "lr": 1.0}]:
        start(tmp_path, hparams=hparams).finish({"loss": 1, f"m{len(hparams)}": 1})
    assert columns(tmp_path) == {"lr": (0.1, 2), "on": [True], "act": ["7", "None", "relu"], "new": (3, 3)}
    message = current_declaration(LogDirPaths(tmp_path))
    assert [info.name.tag for info in message.metric_infos] == ["loss", "m3", "m2"]
    assert [dict(run.hparams) for run in read(tmp_path).runs][1:] == [
        {"lr": 2, "act": "None", "new": 3},
        {"act": "7", "lr": 1},
    ]


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (0.5, "auto", "hparam 'x' is 'auto' (str), the runs before have numbers"),
        (0.5, None, "hparam 'x' is None (NoneType), the runs before have numbers"),
        (16, True, "hparam 'x' is True (bool), the runs before have numbers"),
        (True, 1, "hparam 'x' is 1 (int), the runs before have True or False"),
    ],
)
def test_mixed_types_are_refused(tmp_path, before, after, message):
    start(tmp_path, hparams={"x": before}).finish()
    more = "; a column of the tab has one type: log it under another name, or into another directory"
    with pytest.raises(HParamValueError, match=f"^{re.escape(message + more)}$"):
        start(tmp_path, hparams={"x": after})
    assert [run.name for run in read(tmp_path).runs] == ["run-0000"]


@pytest.mark.parametrize("by", [1, 3])
def test_what_another_process_declares_or_deletes_is_seen(tmp_path, by):
    """By as many runs, so that what is there again looks as it did before."""
    logdir = tmp_path / "logs"
    other = "for n in range(int(sys.argv[2])): start_run(sys.argv[1], hparams={'y': n}, provenance=False).finish()"
    start(logdir, "before").finish({"loss": 1})
    assert python(other, logdir, by).communicate() == ("", "")
    start(logdir, "after").finish({"loss": 1})
    assert columns(logdir) == {"x": (1, 1), "y": (0, by - 1)}
    shutil.rmtree(logdir)
    start(logdir, "anew").finish()
    assert columns(logdir) == {"x": (1, 1)}
    shutil.rmtree(logdir)
    assert python(other, logdir, by).communicate() == ("", "")
    start(logdir, "again").finish({"loss": 1})
    assert columns(logdir) == {"y": (0, by - 1), "x": (1, 1)}
    assert [info.name.tag for info in current_declaration(LogDirPaths(logdir)).metric_infos] == ["loss"]


def test_a_program_that_changes_its_directory(tmp_path, monkeypatch):
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        monkeypatch.chdir(tmp_path / place)
        run = start("logs", hparams={place: 1})
        run.log("loss", 0.5)
        monkeypatch.chdir(tmp_path)
        run.finish()
        assert columns(tmp_path / place / "logs") == {place: (1, 1)}
        assert read_run(run.dir, "x").outcome is Outcome.COMPLETED


def test_ten_processes_at_once(tmp_path):
    script = (
        "own = int(sys.argv[2])\n"
        "for n in range(3):\n"
        "    with start_run(sys.argv[1], hparams={'x': own, f'own{own}': n}, provenance=False) as run:\n"
        "        run.log({'loss': own, f'metric{own}': 1})\n"
    )
    processes = [python(script, tmp_path / "new", own) for own in range(10)]
    assert [process.communicate(timeout=60) for process in processes] == [("", "")] * 10
    runs = read(tmp_path / "new").runs
    assert [run.name for run in runs] == [f"run-{number:04d}" for number in range(30)]
    assert sorted(run.hparams["x"] for run in runs) == sorted(3 * list(range(10)))
    assert columns(tmp_path / "new") == {"x": (0, 9)} | {f"own{own}": (0, 2) for own in range(10)}
    metrics = {info.name.tag for info in current_declaration(LogDirPaths(tmp_path / "new")).metric_infos}
    assert metrics == {"loss"} | {f"metric{own}" for own in range(10)}
