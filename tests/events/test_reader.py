"""A run's directory read back: our own files, TensorFlow's, torn ones, several, and what is no run."""

import signal
import subprocess
import sys

import numpy as np
import pytest

from hparams_lab.core.declared import Declared
from hparams_lab.core.domains import Discrete
from hparams_lab.core.errors import LogDirError
from hparams_lab.core.experiment import Experiment, Metric
from hparams_lab.core.findings import Finding, Kind
from hparams_lab.core.hparam import HParam
from hparams_lab.core.intervals import IntInterval, RealInterval
from hparams_lab.core.outcome import Outcome
from hparams_lab.core.values import trial_id
from hparams_lab.events.format import summaries
from hparams_lab.events.format.event_file import file_name, summary_event, version_event
from hparams_lab.events.format.record import whole_length
from hparams_lab.logdir.run_reader import OUTCOME_TAG, event_files, read_run
from hparams_lab.run.outcome_records import end_left_run
from hparams_lab.run.start import start_run

EXPERIMENT = Experiment(
    [
        HParam("rate", RealInterval(0, 2)),
        HParam("units", Discrete([16, 32])),
        HParam("optimizer", Discrete(["adam", None])),
        HParam("width", Discrete([1, None])),
        HParam("depth", IntInterval(1, 4)),
    ],
    [Metric("accuracy")],
)
STORED = {"optimizer": "None", "units": 16, "rate": 1, "width": "1", "other": 2.5, "depth": 4}
START = summaries.session_start(STORED, "abc", 10.0)


def write(directory, *records):
    """An event file of `records`: summaries, or (summary, step, time)."""
    path = directory / file_name(1.0)
    rows = [record if isinstance(record, tuple) else (record, 0, 1.0) for record in records]
    path.write_bytes(version_event(1.0) + b"".join(summary_event(*row) for row in rows))
    return path


def loss(value, step, now=1.0):
    return summaries.scalars({"loss": value}), step, now


def test_a_whole_run(tmp_path):
    words = summaries.text("note", "**why**")
    accuracy = summaries.scalars({"accuracy": 0.75, "loss": float("nan")}), 3, 7.0
    write(tmp_path, START, loss(0.5, 1, 5.0), words, loss(0.25, 2, 6.0), accuracy, summaries.session_end(1, 20.0))
    run = read_run(tmp_path, "run-0000")
    assert (run.name, run.dir, run.trial_id) == ("run-0000", tmp_path, "abc")
    assert (run.outcome, run.reason, run.started, run.ended) == (Outcome.COMPLETED, "", 10.0, 20.0)
    assert run.metrics == pytest.approx({"loss": float("nan"), "accuracy": 0.75}, nan_ok=True)
    assert list(run.metrics) == ["loss", "accuracy"]
    assert run.texts == {"note": "**why**"}
    column = run.scalars("loss")
    assert [array.dtype for array in column] == [np.int64, np.float64, np.float64]
    assert column.steps.tolist() == [1, 2, 3]
    assert column.wall_times.tolist() == [5.0, 6.0, 7.0]
    np.testing.assert_equal(column.values, [0.5, 0.25, np.nan])


def test_types_are_the_declared_ones(tmp_path):
    write(tmp_path, START)
    hparams = read_run(tmp_path, "x", Declared.of(EXPERIMENT)).hparams
    assert dict(hparams) == {"rate": 1.0, "units": 16, "optimizer": None, "width": 1, "depth": 4, "other": 2.5}
    assert list(hparams) == ["rate", "units", "optimizer", "width", "depth", "other"]
    assert [type(value) for value in hparams.values()] == [float, int, type(None), int, int, float]


def test_types_without_a_declaration_or_under_another(tmp_path):
    write(tmp_path, START)
    assert dict(read_run(tmp_path, "x").hparams) == {**STORED, "width": "1"}
    changed = Experiment([HParam("optimizer", IntInterval(1, 9))], EXPERIMENT.metrics)
    assert read_run(tmp_path, "x", Declared.of(changed)).hparams["optimizer"] == "None"


@pytest.mark.parametrize(
    ("status", "text", "outcome", "reason"),
    [
        (summaries.SUCCESS, None, Outcome.COMPLETED, ""),
        (summaries.FAILURE, None, Outcome.FAILED, ""),
        (summaries.UNKNOWN, None, Outcome.INTERRUPTED, ""),
        (summaries.SUCCESS, "pruned: worse: by far", Outcome.PRUNED, "worse: by far"),
        (summaries.FAILURE, "diverged: the loss is nan\n\n```\nmore\n```", Outcome.DIVERGED, "the loss is nan"),
        (summaries.FAILURE, "crashed: killed by SIGKILL", Outcome.CRASHED, "killed by SIGKILL"),
        (summaries.SUCCESS, "what somebody else wrote", Outcome.COMPLETED, ""),
        (None, None, Outcome.UNKNOWN, ""),
    ],
)
def test_outcomes(tmp_path, status, text, outcome, reason):
    told = [summaries.text(OUTCOME_TAG, text)] if text else []
    end = [summaries.session_end(status, 2.0)] if status is not None else []
    write(tmp_path, START, *told, *end)
    run = read_run(tmp_path, "x")
    assert (run.outcome, run.reason, run.ended) == (outcome, reason, 2.0 if end else None)


def test_the_first_start_and_end_count_as_in_tensorboard(tmp_path):
    later = summaries.session_start({"units": 32}, "later", 11.0)
    write(tmp_path, START, later, summaries.session_end(2, 20.0), summaries.session_end(1, 30.0))
    run = read_run(tmp_path, "x")
    assert (run.trial_id, run.started, run.ended, run.outcome) == ("abc", 10.0, 20.0, Outcome.FAILED)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no flock")
def test_running_while_its_process_holds_the_file_then_interrupted(tmp_path):
    script = (
        "import sys, time\nfrom hparams_lab.run.start import start_run\n"
        "run = start_run(sys.argv[1], hparams={'x': 1}, name='x'); print(flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        run = read_run(tmp_path / "x", "x")
        assert (run.outcome, run.reason, run.ended, run.seconds) == (Outcome.RUNNING, "", None, None)
        process.send_signal(signal.SIGKILL)
    run = read_run(tmp_path / "x", "x")
    assert (run.outcome, run.reason, dict(run.hparams)) == (Outcome.INTERRUPTED, "left without an end", {"x": 1})


def test_torn_and_broken_files_tell_what_they_can(tmp_path):
    path = write(tmp_path, START, loss(0.5, 1), loss(0.25, 2))
    whole, findings = path.read_bytes(), []
    path.write_bytes(whole[:-1])
    assert read_run(tmp_path, "x", findings=findings).scalars("loss").values.tolist() == [0.5]
    end = whole_length(whole[:-1])
    assert findings == [Finding(str(path), end, Kind.TORN, "the last record is not whole", len(whole) - 1 - end)]
    findings.clear()
    path.write_bytes(whole[:-1] + b"?" + whole[len(version_event(1.0)) :])
    assert read_run(tmp_path, "x", findings=findings).scalars("loss").values.tolist() == [0.5, 0.5, 0.25]
    assert [finding.reason for finding in findings] == ["a record's checksum fails"]


def test_event_files_of_a_directory_are_one_run_in_the_order_of_their_names(tmp_path):
    (tmp_path / "output.log").write_bytes(b"not an event file")
    for step in (7, 2, 9, 1, 5, 3, 8, 4, 6):
        write(tmp_path, START, loss(0.5, step)).rename(tmp_path / f"events.out.tfevents.{step}")
    assert [file.name[-1] for file in event_files(tmp_path)] == list("123456789")
    assert read_run(tmp_path, "x").scalars("loss").steps.tolist() == list(range(1, 10))


def test_without_a_session_start_it_is_no_run(tmp_path):
    assert read_run(tmp_path, "x") is None
    write(tmp_path, loss(0.5, 1), summaries.session_end(1, 2.0))
    assert read_run(tmp_path, "x") is None


def test_without_a_group_a_run_is_a_trial_of_its_own(tmp_path):
    write(tmp_path, summaries.session_start({"units": 16.0, "rate": float("nan")}, "", 1.0))
    first, again, other = (read_run(tmp_path, name) for name in ("x", "x", "y"))
    assert first.trial_id == again.trial_id != other.trial_id
    assert first.trial_id != trial_id({"units": 16, "rate": "nan"})


def test_a_left_run_is_given_an_end(tmp_path):
    run = start_run(tmp_path, hparams={"x": 1}, provenance=False)
    run.log({"loss": 0.5})
    with pytest.raises(LogDirError, match=r" is being written by another process; wait for it to end$"):
        end_left_run(run.dir, Outcome.CRASHED, "process 7 died")
    run.flush()
    run._events.abandon()
    end_left_run(run.dir, Outcome.CRASHED, "process 7 died")
    found = read_run(run.dir, run.name)
    assert (found.outcome, found.reason, found.metrics) == (Outcome.CRASHED, "process 7 died", {"loss": 0.5})
