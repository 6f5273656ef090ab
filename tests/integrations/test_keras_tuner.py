"""keras-tuner's searches in the tab: real ones, small, on digits. Keras itself runs in other processes.

Quick ones are in tests/frameworks. This process must not import Keras: every fork server that it starts later would
import it too.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from keras_tuner_scripts import GATED, QUICK, SEARCHES, TROUBLE
from tensorboard_client import Client, eventually, plain_tensorboard

import hparams_lab as lab
from hparams_lab.core.outcome import Outcome

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(map(find_spec, ("keras_tuner", "tensorflow", "sklearn"))),
        reason="needs keras-tuner, TensorFlow, sklearn (pip install 'hparams-lab[keras-tuner,tensorflow,sklearn]')",
    ),
]


def start(script, folder, backend, *arguments):
    (folder / "script.py").write_text(script)
    environment = {**os.environ, "PYTHONPATH": str(Path(lab.__file__).parents[1]), "KERAS_BACKEND": backend}
    with open(folder / "said", "w") as said:
        return subprocess.Popen(
            [sys.executable, "script.py", *arguments], cwd=folder, env=environment, stdout=said, stderr=said
        )


@pytest.fixture(scope="module")
def searches(tmp_path_factory):
    """The folder in which all searches ran, and what keras-tuner said of them."""
    folder = tmp_path_factory.mktemp("searches")
    process = start(SEARCHES, folder, "tensorflow")
    assert process.wait(300) == 0, (folder / "said").read_text()[-3000:]
    return folder, json.loads((folder / "found.json").read_text())


def read(searches, name):
    folder, found = searches
    return lab.read(folder / "logs" / name), found.get(name)


def test_executions_are_runs_of_one_trial_each_judged_by_its_best_epoch(searches):
    results, told = read(searches, "random")
    assert [run.name for run in results.runs] == [f"run-{n:04d}-execution-{k}" for n in (0, 1) for k in (1, 2)]
    assert len(results.trials) == 2
    assert (results.experiment.objective, results.experiment.objective_metric.goal) == ("val/accuracy", "max")
    for trial, (status, score, _) in zip(results.trials, told.values(), strict=True):
        assert (trial.outcome, status) == (Outcome.COMPLETED, "COMPLETED")
        assert trial.mean("val/accuracy") == pytest.approx(score, abs=1e-6)
    for run in results.runs:
        points = run.scalars("val/accuracy")
        assert [*points.steps[:2]] == [1, 2]
        assert run.metrics["val/accuracy"] == points.values.max()
        assert run.metrics["best_epoch"] == 1 + points.values.argmax()
        assert len({*points.steps}) == len(points.steps)  # TensorBoard's fast loader shows one point a step
        assert len(points.steps) == 2 + (points.values[1] < points.values[0])
        assert {"train/loss", "train/accuracy", "val/loss"} < run.metrics.keys()


def test_values_are_those_that_are_active_also_what_fit_asks_for(searches):
    results, told = read(searches, "random")
    hparams = {hparam.name: hparam for hparam in results.experiment.hparams}
    assert [*hparams] == ["kind", "deep", "depth", "units", "rate", "batch"]
    assert str(hparams["units"].domain) == "[4, 16] step 4"
    assert hparams["depth"].active_when == {"kind": ("b",), "deep": (True,)}
    for trial, (_, _, chosen) in zip(results.trials, told.values(), strict=True):
        assert dict(trial.hparams) == chosen
        assert results.experiment.check(trial.hparams)
    rest = ("units", "rate", "batch")
    assert {tuple(trial.hparams) for trial in results.trials} == {
        ("kind", "deep", *rest),
        ("kind", "deep", "depth", *rest),
    }


def test_a_promoted_trial_goes_on_in_its_run(searches):
    results, told = read(searches, "hyperband")
    _, found = searches
    promoted = {chosen["tuner/trial_id"]: score for _, score, chosen in told.values() if "tuner/trial_id" in chosen}
    assert promoted
    assert len(results.runs) == len(results.trials) == len(told) - len(promoted)
    assert {run.outcome for run in results.runs} == {Outcome.COMPLETED}
    for run in results.runs:
        ident = run.name[4:]
        scores = [told[ident][1], *([promoted[ident]] if ident in promoted else [])]
        assert run.metrics["val/accuracy"] == pytest.approx(max(scores), abs=1e-6)
        assert sorted({*run.scalars("train/loss").steps}) == [*range(1, int(run.metrics["epochs"]) + 1)]
        assert (run.metrics["round"], ident in promoted) in [(0, False), (1, True)]
        assert not any(name.startswith("tuner/") for name in run.hparams)
    (kept,) = (f"run-{ident}" for ident in promoted)
    looks = found["hyperband looks"]
    assert looks[2] == dict.fromkeys(["run-0000", "run-0001", "run-0002"], "running")  # each may still be promoted
    assert looks[3] == looks[4] == {**dict.fromkeys(looks[2], "completed"), kept: "running"}
    assert looks[5][kept] == "completed"
    ended = {run.metrics["epochs"] for run in results.runs}
    assert ended == {1, 3}
    assert results.best().mean("val/accuracy") == pytest.approx(found["hyperband best"], abs=1e-6)


def test_statuses_are_true(searches):
    results, told = read(searches, "faulty")
    by_what = {run.hparams["what"]: run for run in results.runs}
    assert {what: run.outcome.value for what, run in by_what.items()} == {
        "good": "completed", "nan": "diverged", "build": "failed", "big": "failed",
    }  # fmt: skip
    assert by_what["build"].reason == "ValueError: no such layer"
    assert "Traceback" in by_what["build"].texts["run/outcome"]
    assert by_what["big"].reason.startswith("FailedTrialError: Oversized model")
    assert np.isnan(by_what["nan"].metrics["val/loss"])
    assert sorted(status for status, _, _ in told.values()) == ["COMPLETED", "FAILED", "FAILED", "FAILED"]
    assert str(results.experiment.hparam("units").domain) == "{4}"
    lost, _ = read(searches, "lost")
    (run,) = lost.runs
    assert (run.outcome, run.reason) == (Outcome.DIVERGED, "'val/loss' is nan at the epoch that counts, 1")
    assert np.isfinite(run.metrics["val/accuracy"])


def test_a_retry_that_works_out_takes_the_place_of_what_failed(searches):
    results, told = read(searches, "flaky")
    (run,) = results.runs
    assert (run.name, run.outcome, told["0"][0]) == ("run-0000", Outcome.COMPLETED, "COMPLETED")
    assert "| 1 | failed | OSError: not now |" in run.texts["run/attempts"]


def test_a_run_trial_of_ones_own(searches):
    results, told = read(searches, "box")
    assert [run.name for run in results.runs] == [f"run-000{n}" for n in range(4)]
    assert [hparam.name for hparam in results.experiment.hparams] == ["x", "more"]
    assert results.experiment.objective_metric.goal == "min"
    for run, (_, score, chosen) in zip(results.runs, told.values(), strict=True):
        assert run.metrics == {"default_objective": pytest.approx(score, rel=1e-6)}
        assert dict(run.hparams) == chosen


def test_several_objectives_are_judged_by_their_sum(searches):
    results, told = read(searches, "several")
    assert results.experiment.objective == "multi_objective"
    for run, (_, score, chosen) in zip(results.runs, told.values(), strict=True):
        assert run.metrics["multi_objective"] == pytest.approx(score, abs=1e-6)
        difference = run.scalars("val/loss").values - run.scalars("val/accuracy").values
        assert run.scalars("multi_objective").values[:2] == pytest.approx(difference, abs=1e-6)
        assert run.hparams["batch"] == chosen["batch"]


def test_folds_are_runs_of_one_trial(searches):
    results, told = read(searches, "folds")
    assert [run.name for run in results.runs] == [f"run-{n:04d}-fold-{k}" for n in (0, 1) for k in (1, 2, 3)]
    for trial, (_, score, _) in zip(results.trials, told.values(), strict=True):
        assert trial.mean("val/score") == pytest.approx(score)
        assert len({run.metrics["val/score"] for run in trial.runs}) > 1
        assert all(run.metrics["accuracy_score"] == run.metrics["val/score"] for run in trial.runs)


def test_what_ends_a_search_ends_its_runs(searches):
    results, told = read(searches, "stopped")
    assert told is not None
    assert [run.outcome for run in results.runs] == [Outcome.COMPLETED, Outcome.INTERRUPTED]
    assert results.runs[1].reason == "KeyboardInterrupt"
    assert results.runs[1].ended is not None
    results, told = read(searches, "fatal")
    (run,) = results.runs
    assert (run.outcome, run.reason) == (Outcome.FAILED, f"FatalTypeError: {' '.join(told.split())}")


def test_what_cannot_be_logged_is_refused_in_a_line(searches):
    _, found = searches
    refused = found["refused"]
    assert refused.pop("new is still") is False
    wanted = {
        "no tuner": "UsageError: log_to() got <function build at",
        "a class": "(a class; make the tuner first); wanted a keras_tuner tuner",
        "twice": "UsageError: this tuner is logged already; call log_to() once",
        "ran already": "UsageError: this tuner has run 2 trials already that are not in",
        "ran already, fresh": "UsageError: fresh=True would move the log of the 2 trials aside",
        "something else": "holds runs that no sweep made; give another log directory, or fresh=True moves it aside",
        "another search": "holds a search by keras-tuner RandomSearch already; give another log directory, or fresh",
        "inside the project": "which overwrite=True deletes; choose another",
        "around the project": "UsageError: fresh=True would move the tuner's project",
        "several": "UsageError: this SklearnTuner has several objectives (a, b), and is judged by one",
        "unholdable": "DeclarationError: hparam 'size' of the tuner cannot be logged: IntInterval has the bound",
        "behind": "write class Behind(HParamsMixin, RandomSearch)",
        "distributed": "UsageError: KERASTUNER_ORACLE_IP is set: the trials are run by several processes",
        "old": "MissingExtraError: keras-tuner 1.4.5 is too old; hparams_lab logs the searches of keras-tuner>=",
        "changed": "MissingExtraError: keras-tuner 1.5.0 has changed inside; hparams_lab logs",
        "newer": "MissingExtraError: keras-tuner 2.0.0 is newer than what was tried; hparams_lab logs",
    }
    assert refused.keys() == wanted.keys()
    for what, line in refused.items():
        assert wanted[what] in line
        assert "\n" not in line


@pytest.fixture(scope="module")
def trouble(tmp_path_factory):
    """As `searches`, of those in which something goes wrong."""
    folder = tmp_path_factory.mktemp("trouble")
    process = start(TROUBLE, folder, QUICK)
    assert process.wait(300) == 0, (folder / "said").read_text()[-3000:]
    return folder, json.loads((folder / "found.json").read_text())


def test_a_log_directory_that_is_lost_changes_nothing_of_the_search(trouble):
    folder, found = trouble
    assert found["lost"] == found["unlogged"]
    assert {status for status, _, _ in found["lost"][0].values()} == {"COMPLETED"}
    assert found["unlogged said"] == []
    (line,) = found["lost said"]
    assert line.startswith(f"the rest of this search is not in the log {folder / 'logs' / 'lost'}: ")
    assert line.endswith("; the search itself goes on")


def test_a_full_disk_changes_nothing_of_the_search(trouble):
    results, told = read(trouble, "full")
    _, found = trouble
    assert told == found["full unlogged"]
    (line,) = found["full said"]
    assert "the rest of this search is not in the log" in line
    assert "File too large" in line
    assert [run.outcome for run in results.runs] == [Outcome.COMPLETED, Outcome.INTERRUPTED]
    assert results.runs[0].metrics["val/accuracy"] == pytest.approx(told[0]["0"][1], abs=1e-6)


def test_types_that_one_column_cannot_hold_are_text(trouble):
    for name, hparam in (("late", "y"), ("mixed", "size")):
        results, (told, trained_with) = read(trouble, name)
        (line,) = trouble[1][f"{name} said"]
        assert line.startswith(f"{hparam!r} of the tuner is declared several times, with types that one column")
        pairs = zip(results.runs, trained_with, strict=True)
        values = [(run.hparams.get(hparam), chosen[hparam]) for run, chosen in pairs if hparam in chosen]
        assert len(values) > 2
        assert [str(value) for value, _ in values] == [str(value) for _, value in values]
        domain = results.experiment.hparam(hparam).domain
        assert domain.dtype is str
        assert {str(value) for value, _ in values} <= {*domain.every()}
        assert {status for status, _, _ in told.values()} == {"COMPLETED"}
        assert {run.outcome for run in results.runs} == {Outcome.COMPLETED}
    late = [run.hparams["y"] for run in read(trouble, "late")[0].runs if "y" in run.hparams]
    assert {type(value) for value in late[1:]} == {str}  # the first began when it was a number


def test_a_directory_is_held_while_a_search_goes_on(trouble):
    results, told = read(trouble, "cell")
    _, found = trouble
    assert found["cell is still"] is False
    assert "cell is being logged into by this very process" in found["cell meanwhile"].replace("OwnedError: ", "", 1)
    assert "holds a search by keras-tuner Plain already; give another" in found["cell is filled"]
    assert (found["cell first"], len(told)) == ({}, 4)
    assert found["cell goes on"] == [True, 0]
    assert len(results.runs) == 5


def test_the_value_that_counts_behind_the_last_epoch_is_taken_for_no_epoch(trouble):
    first, restored, second, again, third = trouble[1]["behind"]
    assert first == [[1, 2, 3, 4], [0.25, 0.75, 0.5, 0.75]]
    assert (restored, again) == ([3, 2, 0.75], [4, 2, 0.75])
    assert second == [[1, 2, 3, 4, 5], [0.25, 0.75, 0.5, 0.625, 0.75]]
    assert third == [[1, 2, 3, 4, 5, 6], [0.25, 0.75, 0.5, 0.625, 0.625, 0.75]]


def test_tensorboard_shows_all_of_it(searches, tmp_path):
    folder, _ = searches
    with plain_tensorboard(folder / "logs" / "faulty", tmp_path / "said") as url:
        client = Client(url)
        groups = client.loaded(4, 2, "val/loss")
        columns = client.columns()
        assert columns["what"]["domainDiscrete"] == ["good", "nan", "build", "big"]
        metrics = [info["name"]["tag"] for info in client.experiment()["metricInfos"]]
        assert metrics[0] == "val/loss"
        statuses = {group["hparams"]["what"]: group["sessions"][0]["status"] for group in groups}
        assert statuses == {
            "good": "STATUS_SUCCESS", "nan": "STATUS_FAILURE", "build": "STATUS_FAILURE", "big": "STATUS_FAILURE",
        }  # fmt: skip


@contextlib.contextmanager
def waiting_to_be_killed(folder, epoch):
    """A search that is killed when the block ends, in which it waits at the end of an epoch."""
    with start(GATED, folder, QUICK, str(epoch)) as process:
        try:
            eventually(lambda: (folder / f"waiting{epoch}").exists() or process.poll() is not None, seconds=120)
            assert process.poll() is None, (folder / "said").read_text()[-3000:]
            yield
        finally:
            process.send_signal(signal.SIGKILL)


def test_a_killed_search_is_live_and_goes_on_in_a_reloaded_tuner(tmp_path):
    logs = tmp_path / "logs"
    with waiting_to_be_killed(tmp_path, 0):  # before keras-tuner has anything to reload
        pass
    assert [run.outcome for run in lab.read(logs).runs] == [Outcome.INTERRUPTED]

    with waiting_to_be_killed(tmp_path, 2), plain_tensorboard(logs, tmp_path / "board") as url:
        runs = lab.read(logs).runs
        (live,) = [run.name for run in runs if run.outcome is Outcome.RUNNING]  # promoted; the others cannot be
        assert {run.outcome for run in runs if run.name != live} == {Outcome.COMPLETED}
        assert "interrupted | its search was stopped or killed" in runs[0].texts["run/attempts"]
        eventually(lambda: {run.name: run for run in lab.read(logs).runs}[live].metrics["train/loss"])
        groups = Client(url).loaded(len(runs), len(runs), "val/accuracy")
        statuses = {group["sessions"][0]["name"]: group["sessions"][0].get("status") for group in groups}
        assert statuses.pop(live) in (None, "STATUS_UNKNOWN", "STATUS_RUNNING")
        assert {*statuses.values()} == {"STATUS_SUCCESS"}
        eventually(lambda: Client(url).points(live, "train/loss"), lambda points: len(points) == 2)
    before = {run.name: run for run in lab.read(logs).runs}
    assert before[live].outcome is Outcome.INTERRUPTED

    assert start(GATED, tmp_path, QUICK, "9").wait(120) == 0, (tmp_path / "said").read_text()[-3000:]
    results, told = lab.read(logs), json.loads((tmp_path / "found.json").read_text())
    assert {run.outcome for run in results.runs} == {Outcome.COMPLETED}
    after = {run.name: run for run in results.runs}
    assert all(after[name] == run for name, run in before.items() if name != live)
    assert [*after[live].scalars("train/loss").steps] == [1, 2, 3]
    assert {name[4:] for name in after} == {ident for ident, one in told.items() if "tuner/trial_id" not in one[2]}
    assert results.best().mean("val/accuracy") == pytest.approx(max(one[1] for one in told.values()), abs=1e-6)
