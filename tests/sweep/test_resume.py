"""A runner that comes to a directory: nothing that was finished is touched, and nothing that was not counts as done."""

import contextlib
import os
import shutil
import signal

import pytest

import hparams_lab as lab
from hparams_lab.core.errors import LogDirError
from hparams_lab.core.outcome import Outcome
from hparams_lab.run.attempts import Attempt, attempts_in, attempts_markdown
from hparams_lab.storage.paths import LogDirPaths
from hparams_lab.sweep.events import RunEnded, SweepNote
from hparams_lab.sweep.resume import scan
from hparams_lab.sweep.signals import StopRequests

EXPERIMENT = lab.Experiment([lab.HParam("x", lab.Discrete([1, 2, 3, 4]))], [lab.Metric("accuracy")])


def train(run):
    (run.dir / "model.bin").write_text(str(run.hparams["x"]))
    return {"accuracy": run.hparams["x"] / 8}


def sweep(logdir, train=train, **options):
    events = []
    lab.run_sweep(EXPERIMENT, train, logdir=logdir, executor="inline", observe=events.append, **options)
    return events


def trained(events):
    return [event.result.name for event in events if isinstance(event, RunEnded)]


def models(logdir):
    return {str(path.relative_to(logdir)): path.read_text() for path in sorted(logdir.rglob("model.bin"))}


@pytest.fixture
def logdir(tmp_path):
    sweep(tmp_path / "logs")
    return tmp_path / "logs"


def test_a_copy_of_a_run_costs_neither(logdir):
    shutil.copytree(logdir / "run-0003", logdir / "run-0100")
    before = models(logdir)
    assert trained(sweep(logdir)) == []
    assert models(logdir) == before


def test_a_run_logged_by_hand_costs_no_other(logdir):
    with lab.start_run(logdir, hparams={"x": 4}) as run:
        run.log({"accuracy": 1.0}, step=1)
    before = models(logdir)
    assert trained(sweep(logdir)) == []
    assert models(logdir) == before
    assert run.dir.is_dir()


def test_a_run_that_does_not_say_what_it_is_is_kept_and_told(logdir):
    (file,) = (logdir / "run-0001").glob("events*")
    broken = bytearray(file.read_bytes())
    broken[70] ^= 1  # in the session start, the second record
    file.write_bytes(broken)
    events = sweep(logdir)
    assert trained(events) == ["run-0001"]
    assert [event.text for event in events if isinstance(event, SweepNote)] == [
        "run-0001 is damaged where it says what it is a run of; it is kept as run-0001/damaged-1 and done again"
    ]
    (kept,) = (logdir / "run-0001/damaged-1").glob("events*")
    assert (kept.read_bytes(), (logdir / "run-0001/damaged-1/model.bin").read_text()) == (broken, "2")
    assert [(run.name, run.outcome) for run in lab.read(logdir).runs] == [
        (f"run-{number:04d}", Outcome.COMPLETED) for number in range(4)
    ]
    assert [type(event).__name__ for event in sweep(logdir)] == ["SweepStarted", "SweepEnded"]


def test_a_run_that_cannot_be_read_is_not_done_again(logdir, not_root):
    (file,) = (logdir / "run-0001").glob("events*")
    for path in (logdir, *logdir.rglob("*")):
        path.chmod(0o777)
    file.chmod(0)
    with not_root(), pytest.raises(LogDirError, match=r"events.* cannot be read: .*; see to it, and start again$"):
        scan(LogDirPaths(logdir), EXPERIMENT)
    assert models(logdir).keys() == {f"run-{number:04d}/model.bin" for number in range(4)}


def test_what_was_killed_before_it_said_anything_is_removed(logdir):
    (logdir / "run-0009").mkdir()
    (logdir / "run-0009/output.log").touch()
    (logdir / ".sweep.json.0123456789abcdef").touch()
    (logdir / ".sweep.json.mine").mkdir()
    assert trained(sweep(logdir)) == []
    assert sorted(os.listdir(logdir)) == [
        *(".lock", ".lock-runs", ".sweep.json.mine", "_experiment"),
        *(f"run-{number:04d}" for number in range(4)),
        "sweep.json",
    ]


def test_a_new_directory_without_locks(tmp_path):
    assert len(trained(sweep(tmp_path / "new/logs", lock=False))) == 4
    assert not (tmp_path / "new/logs/.lock").exists()


def crashes(run):
    raise SystemExit(3)


def test_the_tries_that_were_left_are_left_when_it_goes_on(tmp_path):
    """A crash, and a runner that is stopped before it tried again."""
    sweep(tmp_path, crashes, trials=1)
    again = sweep(tmp_path, crashes, trials=1, retries=2)
    assert [type(event).__name__ for event in again].count("RunRetried") == 1
    (run,) = lab.read(tmp_path).runs
    assert run.outcome is Outcome.CRASHED
    assert [one.outcome for one in attempts_in(run.texts["run/attempts"])] == [Outcome.CRASHED] * 2
    assert trained(sweep(tmp_path, crashes, trials=1, retries=2)) == []


def stopped_twice(run):
    run.log({"accuracy": 0.5}, step=1)
    try:
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.raise_signal(signal.SIGTERM)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no SIGTERM that a handler sees")
def test_a_run_that_is_stopped_twice_is_not_completed(tmp_path):
    caught = []
    before = signal.signal(signal.SIGTERM, lambda *_: caught.append("SIGTERM"))
    try:
        with pytest.raises(KeyboardInterrupt):
            sweep(tmp_path, stopped_twice)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert caught == ["SIGTERM"]  # the program's own handler has it once the sweep is cleared up
    assert [run.outcome for run in lab.read(tmp_path).runs] == [Outcome.INTERRUPTED]
    assert scan(LogDirPaths(tmp_path), EXPERIMENT).done == []


def test_requests_to_stop():
    stop = StopRequests()
    assert (stop.asked(), stop.at_once, stop.signal, stop.exit_code) == (False, False, 0, 130)
    stop.note(signal.SIGINT)
    assert (stop.asked(), stop.at_once, stop.name, stop.exit_code) == (True, False, "SIGINT", 130)
    stop.raising = True
    with pytest.raises(KeyboardInterrupt):
        stop.note(signal.SIGTERM)
    stop.note(signal.SIGINT)  # raises once
    assert (stop.at_once, stop.name, stop.exit_code) == (True, "SIGTERM", 143)


def lets_it_through(stop):
    stop.note(signal.SIGTERM)


def keeps_it_to_itself(stop):
    with contextlib.suppress(KeyboardInterrupt):
        stop.note(signal.SIGINT)


def makes_another_error_of_it(stop):
    try:
        stop.note(signal.SIGINT)
    except KeyboardInterrupt:
        raise ImportError("a half-imported framework") from None


@pytest.mark.parametrize("importing", [lets_it_through, keeps_it_to_itself, makes_another_error_of_it])
def test_the_first_request_ends_what_gets_ready_here(importing):
    stop = StopRequests()
    with pytest.raises(KeyboardInterrupt), stop.getting_ready(here=True):
        importing(stop)
    stop.note(signal.SIGINT)  # raises no more
    with pytest.raises(KeyboardInterrupt), stop.getting_ready(here=True):
        pytest.fail("it came before")
    with stop.getting_ready(here=False):  # there somebody looks
        stop.note(signal.SIGINT)


def test_attempts_are_read_as_they_were_written():
    attempts = (Attempt(Outcome.CRASHED, "a | b\nc", "output-1.log"), Attempt(Outcome.TIMED_OUT, "", ""))
    assert attempts_in(attempts_markdown(attempts)) == (
        Attempt(Outcome.CRASHED, "a | b c", "output-1.log"),
        Attempt(Outcome.TIMED_OUT, "", ""),
    )


def metric_once_in_a_while(run):
    return {"accuracy": 1.0} if run.hparams["x"] != 3 else {"loss": 1.0}


def test_a_metric_that_one_run_lacks_is_a_failed_run(tmp_path):
    assert trained(sweep(tmp_path, metric_once_in_a_while)) == [f"run-{number:04d}" for number in range(4)]
    assert [str(run.outcome) for run in lab.read(tmp_path).runs] == ["completed", "completed", "failed", "completed"]
    assert trained(sweep(tmp_path, metric_once_in_a_while)) == []


def test_a_run_may_go_wherever_it_likes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def goes(run):
        os.chdir("/")
        return {"accuracy": 1.0}

    for executor in ("inline", "process"):
        lab.run_sweep(EXPERIMENT, goes, logdir=executor, executor=executor, workers=1, observe=lambda event: None)
        assert [run.outcome for run in lab.read(tmp_path / executor).runs] == [Outcome.COMPLETED] * 4
