"""Which directories are a run, what belongs to it, and which sweep it is of; links and odd names."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from mutants import END, VERSION, event, number, start, told
from tensorboard.plugins.hparams import api_pb2

from hparams_lab.core.errors import LogDirError, UsageError
from hparams_lab.core.experiment import Experiment, Metric
from hparams_lab.core.findings import Kind
from hparams_lab.core.hparam import HParam
from hparams_lab.core.intervals import IntInterval
from hparams_lab.core.outcome import Outcome
from hparams_lab.events.format import summaries
from hparams_lab.logdir.declaration import observed_message
from hparams_lab.logdir.reader import read
from hparams_lab.logdir.walk import above_of, walk

NAME = "events.out.tfevents.1.host"
LOSS = VERSION + event([number("loss", 0.5)], 1, 1)
SESSION = VERSION + start("t") + END


def put(directory: Path, *data: bytes) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / NAME).write_bytes(b"".join(data))


def names(root) -> list[str]:
    return [run.name for run in read(root).runs]


def tags(root) -> dict[str, list[str]]:
    return {run.name: list(run.metrics) for run in read(root).runs}


def experiment(metric: str, goal: str = "max") -> Experiment:
    return Experiment([HParam("units", IntInterval(1, 99))], [Metric(metric, goal=goal)])


def summary(metric: str) -> bytes:
    """A foreign Experiment summary."""
    info = api_pb2.MetricInfo(name=api_pb2.MetricName(tag=metric))
    return VERSION + told(summaries.experiment([], [info], 1.0))


def sweep_json(directory: Path, of: Experiment) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "sweep.json").write_text(json.dumps({"experiment": of.to_json()}))


@pytest.mark.parametrize("below", ["validation", "train/deep/er"])
def test_directories_below_a_session_are_its(tmp_path, below):
    put(tmp_path / "run", SESSION, event([number("loss", 1)]))
    put(tmp_path / "run" / below, LOSS)
    assert tags(tmp_path) == {"run": ["loss", f"{below}/loss"]}


def test_a_session_below_a_session_is_a_run(tmp_path):
    put(tmp_path / "run", SESSION)
    put(tmp_path / "run/inner", SESSION)
    put(tmp_path / "run/inner/validation", LOSS)
    assert tags(tmp_path) == {"run": [], "run/inner": ["validation/loss"]}


def test_pytorch_one_session_below_its_points(tmp_path):
    put(tmp_path / "run", LOSS)
    put(tmp_path / "run/1700000000.5", SESSION)
    (run,) = read(tmp_path).runs
    assert (run.name, run.metrics, run.outcome) == ("run/1700000000.5", {"loss": 0.5}, Outcome.COMPLETED)


def test_two_sessions_below_points_share_nothing(tmp_path):
    put(tmp_path / "run", LOSS)
    put(tmp_path / "run/1", SESSION)
    put(tmp_path / "run/2", SESSION)
    assert tags(tmp_path) == {"run": ["loss"], "run/1": [], "run/2": []}


def test_points_without_hparams_are_a_run_whose_outcome_nobody_tells(tmp_path):
    put(tmp_path / "a", LOSS)
    put(tmp_path / "b/deep", LOSS)
    results = read(tmp_path)
    assert [run.outcome for run in results.runs] == [Outcome.UNKNOWN] * 2
    assert [dict(run.hparams) for run in results.runs] == [{}, {}]
    assert len(results.trials) == 2
    assert results.best("loss", "min").name == "a"


def test_several_sweeps_of_several_kinds(tmp_path):
    sweep_json(tmp_path / "a", experiment("accuracy"))
    put(tmp_path / "a/_experiment/1", summary("accuracy"))
    put(tmp_path / "a/run-0", SESSION, event([number("accuracy", 0.5), number("loss", 1)]))
    put(tmp_path / "b/c/_experiment/1", summary("loss"))
    put(tmp_path / "b/c/run-0", SESSION, event([number("loss", 0.25)]))
    put(tmp_path / "d", summary("loss"))
    put(tmp_path / "d/run-0", SESSION, event([number("loss", 0.125)]))
    results = read(tmp_path)
    assert [(run.name, run.sweep) for run in results.runs] == [
        ("a/run-0", "a"), ("b/c/run-0", "b/c"), ("d/run-0", "d"),
    ]  # fmt: skip
    assert {name: (list(found.metrics), found.objective) for name, found in results.sweeps.items()} == {
        "a": (["accuracy"], "accuracy"), "b/c": (["loss"], None), "d": (["loss"], None),
    }  # fmt: skip
    assert (results.declared, results.experiment, results.objective) == (None, None, "loss")
    assert [trial.sweep for trial in results.top()] == ["d", "b/c", "a"]
    assert len(results.trials) == 3  # the same trial of three sweeps


def test_sweeps_that_declare_the_same_declare_it_together(tmp_path):
    for name in ("a", "b"):
        sweep_json(tmp_path / name, experiment("accuracy"))
        put(tmp_path / name / "run-0", SESSION, event([number("accuracy", 0.5)]))
    results = read(tmp_path)
    assert results.declared.objective == "accuracy"
    assert list(results.sweeps) == ["a", "b"]


def test_different_objectives_and_no_metric_in_common(tmp_path):
    for name, metric in (("a", "accuracy"), ("b", "loss")):
        sweep_json(tmp_path / name, experiment(metric, "min" if metric == "loss" else "max"))
        put(tmp_path / name / "run-0", SESSION, event([number(metric, 0.5)]))
    results = read(tmp_path)
    assert (results.declared, results.objective, results.goal("loss")) == (None, "accuracy", "min")
    assert [trial.sweep for trial in results.top()] == ["a", "b"]


def test_a_foreign_experiment_in_the_root(tmp_path):
    put(tmp_path, summary("loss"))
    put(tmp_path / "x/run", SESSION, event([number("loss", 0.25)]))
    results = read(tmp_path)
    assert (list(results.declared.metrics), list(results.sweeps)) == (["loss"], [""])
    assert [(run.name, run.sweep) for run in results.runs] == [("x/run", "")]


def test_natural_order(tmp_path):
    for name in ("run-10", "run-9", "run-1b", "run-01", "a", "run-2/x10", "run-2/x9"):
        put(tmp_path / name, SESSION)
    assert names(tmp_path) == ["a", "run-1b", "run-01", "run-2/x9", "run-2/x10", "run-9", "run-10"] or names(
        tmp_path
    ) == ["a", "run-01", "run-1b", "run-2/x9", "run-2/x10", "run-9", "run-10"]


def test_odd_names(weird_tmp_path):
    odd = ["\u202e right to left", "a\nb", "..hidden", "-rf", "ü" * 100, "²", "٣"]
    for name in odd:
        put(weird_tmp_path / name, SESSION)
    assert sorted(names(weird_tmp_path)) == sorted(odd)
    assert all((run.dir / NAME).is_file() for run in read(weird_tmp_path).runs)


def test_a_name_that_is_no_utf8(tmp_path):
    odd = os.path.join(os.fsencode(tmp_path), b"\xff\xfe")
    try:
        os.mkdir(odd)
    except OSError:
        pytest.skip("the file system wants UTF-8")
    with open(os.path.join(odd, NAME.encode()), "wb") as file:
        file.write(SESSION)
    assert [os.fsencode(name) for name in names(tmp_path)] == [b"\xff\xfe"]


def test_ways_to_name_the_root(tmp_path, monkeypatch):
    root = tmp_path / "logs"
    put(root / "run", LOSS)
    put(root, SESSION)
    (tmp_path / "link").symlink_to(root)
    monkeypatch.chdir(root)
    ways = [".", "./", "../logs", root, f"{root}/", f"{root}//run/..", str(root)]
    assert [names(way) for way in ways] == [["logs"]] * len(ways)
    assert names(tmp_path / "link") == ["link"]
    assert list(read(".").runs[0].metrics) == ["run/loss"]
    assert read(".").runs[0].dir.resolve() == root.resolve()


def test_links(tmp_path):
    root = tmp_path / "logs"
    put(root / "run", SESSION)
    put(tmp_path / "outside", SESSION)
    put(tmp_path / "logs2", SESSION)  # its name begins like the root's
    (root / "again").symlink_to(root / "run")
    (root / "loop").symlink_to(root)
    (root / "itself").symlink_to(root / "itself")
    (root / "nowhere").symlink_to(tmp_path / "nothing")
    (root / "out").symlink_to(tmp_path / "outside")
    (root / "out2").symlink_to(tmp_path / "logs2")
    (root / "run" / "tfevents.out").symlink_to(tmp_path / "outside" / NAME)
    results = read(root)
    assert [run.name for run in results.runs] == ["run"]
    assert sorted((finding.file, finding.kind) for finding in results.findings) == [
        (str(root / "out"), Kind.SYMLINK), (str(root / "out2"), Kind.SYMLINK),
        (str(root / "run" / "tfevents.out"), Kind.SYMLINK),
    ]  # fmt: skip


def test_a_sweep_json_that_leads_out_is_not_read(tmp_path):
    root = tmp_path / "logs"
    put(root / "run", SESSION)
    put(root / "_experiment/1", summary("loss"))
    (tmp_path / "secret.json").write_text(json.dumps({"experiment": experiment("secret").to_json()}))
    (root / "sweep.json").symlink_to(tmp_path / "secret.json")
    assert list(read(root).declared.metrics) == ["loss"]


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="Windows has other permissions")
def test_a_directory_that_may_not_be_read(tmp_path, not_root):
    put(tmp_path / "run", SESSION)
    put(tmp_path / "closed", SESSION)
    (tmp_path / "closed").chmod(0)
    try:
        with not_root():
            results = read(tmp_path)
    finally:
        (tmp_path / "closed").chmod(0o700)
    assert [run.name for run in results.runs] == ["run"]
    assert [finding.kind for finding in results.findings] == [Kind.UNREADABLE]


def test_walk_and_above():
    assert list(above_of("a/b/c")) == ["a/b", "a", ""]
    assert list(above_of("")) == []
    assert [finding.kind for finding in walk("/nowhere/at/all").findings] == [Kind.UNREADABLE]


def test_what_read_says_of_what_is_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "digits", SESSION)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    for name, words in {
        "digit": "the log directory digit does not exist; did you mean digits?",
        "digit/": "the log directory digit does not exist; did you mean digits?",
        "zzz": "the log directory zzz does not exist; name a directory",
        "no/such": "the log directory no/such does not exist",
        "file": "is a file",
        "empty": "empty holds no runs: no file with 'tfevents' in its name and hparams or scalars, there or below; "
        "the nearest that has some is digits",
    }.items():
        with pytest.raises(LogDirError) as caught:
            read(name)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)


def test_the_nearest_that_has_some_is_another(tmp_path):
    put(tmp_path / "a", VERSION)
    with pytest.raises(LogDirError) as caught:
        read(tmp_path / "a")
    assert "the nearest that has some" not in str(caught.value)


def test_an_unknown_metric(tmp_path):
    put(tmp_path / "run", LOSS)
    with pytest.raises(UsageError, match="did you mean loss"):
        read(tmp_path).top(metric="los")


def test_an_experiment_beside_the_runs_is_theirs(tmp_path):
    """As in TensorBoard, which takes the one Experiment of a tree wherever it is."""
    message = observed_message({"units": 16}, ["loss"])
    beside = told(summaries.experiment(message.hparam_infos, message.metric_infos, 0.0, "theirs"))
    for name, data in [("config", VERSION + beside), ("run-0", VERSION + start("0") + END)]:
        (tmp_path / name).mkdir()
        (tmp_path / name / NAME).write_bytes(data)
    results = read(tmp_path)
    assert [(run.name, run.sweep) for run in results.runs] == [("run-0", "")]
    assert results.declared.name == "theirs"
