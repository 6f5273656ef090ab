"""How a sweep stands, told from its files: `top --json`, and `top --watch` into a pipe and on a real terminal."""

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

import hparams_lab as lab
from hparams_lab.core.names import cut
from hparams_lab.logdir.sweep_json import load_sweep, save_sweep
from hparams_lab.storage.ownership import owned
from hparams_lab.storage.paths import LogDirPaths

EXPERIMENT = lab.Experiment(
    [lab.HParam("x", lab.Discrete([*range(1, 7)])), lab.HParam("epochs", lab.Discrete([10]))], [lab.Metric("loss")]
)


def train(run):
    """The smaller x the better; 2 fails and 3 runs out of memory."""
    x = run.hparams["x"]
    run.log({"loss": float(x)}, step=1)
    if x == 2:
        raise ValueError("broken")
    if x == 3:
        run.set_status("out of memory", "it asked for more than 1 GB")


@pytest.fixture
def logs(tmp_path):
    """A sweep of six runs of which four are done, two of those broken."""
    logdir = tmp_path / "logs"
    lab.run_sweep(EXPERIMENT, train, logdir=logdir, executor="inline", trials=4, observe=lambda event: None)
    paths = LogDirPaths(logdir)
    save_sweep(paths, {**load_sweep(paths), "runs": 6})
    return logdir


@contextlib.contextmanager
def going_on(logs, x=5, step=3):
    """A run of the sweep under way, at a step, with tags whose steps are batches."""
    run = lab.start_run(
        logs, hparams={"x": x, "epochs": 10}, name=f"run-{x - 1:04d}", experiment=EXPERIMENT, provenance=False
    )
    run.log({"batch/loss": 9.0}, step=70 * step)
    run.log({"loss": 0.5, "speed": 2.0}, step=step)
    run.flush()
    yield run
    run.finish()


def state(lines_of, logs):
    return json.loads(lines_of("top", logs, "--json")[-1], parse_constant=pytest.fail)["sweep"]


def test_a_sweep_that_nobody_works_at(lines_of, logs):
    found = state(lines_of, logs)
    assert found == {
        "runs": 6, "done": 4, "running": 0, "waiting": 2, "failed": 2, "seconds_left": None, "under_way": [],
        "outcomes": {"completed": 2, "failed": 1, "out of memory": 1}, "owner": None,
        "best": {"run": "run-0000", "metric": "loss", "value": 1.0, "hparams": {"x": 1, "epochs": 10}},
    }  # fmt: skip


def test_a_sweep_under_way(lines_of, logs):
    with owned(logs) as ownership, going_on(logs):
        ownership.announce()
        found = state(lines_of, logs)
    assert (found["done"], found["running"], found["waiting"], found["failed"]) == (4, 1, 1, 2)
    (run,) = found["under_way"]
    assert (run["run"], run["step"], run["epochs"]) == ("run-0004", 3, 10)
    assert [*run["metrics"].items()] == [("loss", 0.5), ("batch/loss", 9.0), ("speed", 2.0)]
    assert 0 <= run["seconds"] < 60
    assert (found["owner"]["pid"], found["owner"]["since"] > 0) == (os.getpid(), True)
    assert 0 <= found["seconds_left"] < 60
    assert found["best"]["run"] == "run-0000"


def test_an_interrupted_run_of_a_sweep_waits_to_be_run_again(lines_of, logs):
    with going_on(logs) as run:
        run.finish(outcome="interrupted")
    found = state(lines_of, logs)
    assert (found["done"], found["running"], found["waiting"]) == (4, 0, 2)


def test_new_outcomes_are_found_by_their_names(lines_of, logs):
    for condition in ("outcome = 'out of memory'", 'outcome in (crashed, "timed out", "out of memory")'):
        (row,) = map(json.loads, lines_of("top", logs, "--json", "--where", condition))
        assert (row["trial"], row["outcome"]) == (row["runs"][0]["trial"], "out of memory")
    said = lines_of("top", logs, "--where", "outcome = out of memory", refused=True)
    assert said.startswith("--where has at column 15 'of' where 'and', 'or' or the end belongs: ")
    assert lines_of("top", logs)[-1] == "4 runs, 4 trials: 2 completed, 1 failed, 1 out of memory"


def test_without_a_sweep_there_is_no_word_of_one(lines_of, tmp_path):
    with lab.start_run(tmp_path, hparams={"x": 1}, provenance=False) as run:
        run.log({"loss": 1.0}, step=1)
    assert len(lines_of("top", tmp_path, "--json")) == 1


def test_several_sweeps_are_told_of_together(lines_of, logs):
    lab.run_sweep(EXPERIMENT, train, logdir=logs.parent / "b", executor="inline", observe=lambda event: None)
    found = state(lines_of, logs.parent)
    assert (found["runs"], found["done"], found["waiting"]) == (12, 10, 2)
    with lab.start_run(logs.parent / "alone", hparams={"x": 1}, provenance=False) as run:
        run.log({"loss": 1.0}, step=1)
    assert state(lines_of, logs.parent)["runs"] is None  # of that one nobody knows


@pytest.mark.parametrize("runs", [None, -1, True, "6", 10**30])
def test_whatever_sweep_json_says(lines_of, logs, runs):
    paths = LogDirPaths(logs)
    save_sweep(paths, {**load_sweep(paths), "runs": runs})
    found = state(lines_of, logs)
    assert (found["runs"], found["waiting"]) == ((10**30, 10**30 - 4) if runs == 10**30 else (None, None))


# --- watching -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def spawned(logdir, **options):
    """`top --watch` in a process of its own, which ends with the block."""
    command = [sys.executable, "-m", "hparams_lab", "top", str(logdir), "--watch"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "TERM": "xterm"}
    with subprocess.Popen(command, env=environment, **options) as watching:
        try:
            yield watching
        finally:
            watching.kill()


@contextlib.contextmanager
def on_a_terminal(logdir):
    """`top --watch` on a real terminal: the process, and what it wrote there so far."""
    ours, theirs = pty.openpty()
    said = bytearray()
    with spawned(logdir, stdout=theirs, stderr=theirs, stdin=theirs, start_new_session=True) as watching:
        os.close(theirs)
        reading = threading.Thread(target=collect, args=(ours, said))
        reading.start()
        yield watching, said
        watching.kill()
        reading.join()
    os.close(ours)


def collect(descriptor, said):
    """Append what comes until the other side is closed."""
    with contextlib.suppress(OSError):  # which is how Linux says so
        while more := os.read(descriptor, 4096):
            said += more


def until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_watching_into_a_pipe_prints_a_table_for_each_change(tmp_path):
    with lab.start_run(tmp_path, hparams={"x": 1}, name="one", provenance=False) as run:
        run.log({"loss": 1.0}, step=1)
    said = []
    with spawned(tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watching:
        reading = threading.Thread(target=lambda: said.extend(watching.stdout))
        reading.start()
        until(lambda: "1 run, 1 trial: 1 completed; ranked by loss, least first\n" in said)
        with lab.start_run(tmp_path, hparams={"x": 2}, name="two", provenance=False) as run:
            run.log({"loss": 0.5}, step=1)
            run.flush()
            until(lambda: "1 runs done, 1 running, 0 failed\n" in said)
        until(lambda: "2 runs, 2 trials: 2 completed; ranked by loss, least first\n" in said)
        watching.send_signal(signal.SIGINT)
        assert (watching.wait(20), watching.stderr.read()) == (0, "")
        reading.join()
    tables = "".join(said).split("\n\n")
    assert len(tables) == 3
    assert tables[2].splitlines()[2].split()[:4] == ["1", "two", "2", "0.5"]


def test_watching_a_sweep_on_a_terminal(logs):
    """In a real terminal: the other screen while it goes on, the last table on the first one, and exit code 0."""
    with going_on(logs) as run, on_a_terminal(logs) as (watching, said):
        with owned(logs) as ownership:
            ownership.announce()
            until(lambda: b"epoch 3/10" in said and b"runner: pid %d on " % os.getpid() in said)
            run.log({"loss": 0.25}, step=4)
            run.flush()
            until(lambda: b"epoch 4/10" in said)
        until(lambda: b"no runner is at work" in said)
        watching.send_signal(signal.SIGINT)
        assert watching.wait(20) == 0
        until(lambda: b"5 runs, 5 trials: " in said.partition(b"\x1b[?1049l")[2])
    on_the_other_screen, _, after = re.sub(r"\x1b\[\d+(;\d+)*m", "", said.decode()).partition("\x1b[?1049l")
    assert on_the_other_screen.startswith("\x1b[?1049h")
    for text in ("4/6 runs", "4 done", "1 running", "1 waiting", "2 failed", "best so far loss 1"):
        assert text in on_the_other_screen
    assert "4 of 6 runs done, 1 running, 1 waiting, 2 failed" in after
    assert "Traceback" not in after


@pytest.mark.parametrize("is_there", [False, True])
def test_a_directory_that_is_not_there_yet_is_waited_for(tmp_path, is_there):
    logs = tmp_path / "logs"
    if is_there:
        logs.mkdir()
    with on_a_terminal(logs) as (watching, said):
        until(lambda: b"waiting: " in said)
        lab.run_sweep(EXPERIMENT, train, logdir=logs, executor="inline", observe=lambda event: None)
        until(lambda: b"6/6 runs" in said)
        watching.send_signal(signal.SIGINT)
        assert watching.wait(20) == 0


def test_a_file_is_not_waited_for(lab_command, tmp_path):
    file = tmp_path / "logs"
    file.write_text("")
    code, said, errors = lab_command("top", file, "--watch")
    assert (code, said) == (2, "")
    assert errors.startswith(f"error: the log directory {file} is a file; ")


def test_waiting_into_a_pipe_is_told_once(tmp_path):
    with spawned(tmp_path / "logs", stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watching:
        first = watching.stdout.readline()
        assert first.startswith("waiting: the log directory ")
        lab.run_sweep(EXPERIMENT, train, logdir=tmp_path / "logs", executor="inline", observe=lambda event: None)
        second = [watching.stdout.readline() for _ in range(2)]
        assert second[0] == "\n"
        watching.send_signal(signal.SIGINT)
        assert watching.wait(20) == 0


def test_a_terminal_without_a_size_has_room():
    """Python 3.10 says 0 columns there."""
    assert [cut("a long line", width) for width in (-1, 0, 1, 5)] == ["", "", "…", "a …ne"]
