"""What is left when something ends a sweep from outside: nothing that runs, and everything that was finished."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

import hparams_lab as lab
from hparams_lab.core.outcome import Outcome

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes by /proc")

WAITING = """
import os, pathlib, subprocess, time
import hparams_lab as lab

EXPERIMENT = lab.Experiment([lab.HParam("x", lab.Discrete([1, 2, 3]))], [lab.Metric("accuracy")])
HERE = pathlib.Path(__file__).parent

def train(run):
    with open(HERE / "trained", "a") as file:
        file.write(run.name + "\\n")
    child = subprocess.Popen(["sleep", "60"])
    end = time.monotonic() + 60
    while not (HERE / "go").exists() and time.monotonic() < end:
        time.sleep(0.02)
    child.kill()
    child.wait()
    return {"accuracy": run.hparams["x"]}
"""


def wait_until(holds, seconds=30.0):
    """Whether `holds()` comes true in time."""
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.02)
    return holds()


class Sweep:
    """`hparams-lab run waiting.py` in a directory: its runs wait for the file `go`."""

    def __init__(self, directory):
        self.directory, self.marker = directory, uuid.uuid4().hex
        (directory / "waiting.py").write_text(WAITING)

    def start(self, workers):
        command = [sys.executable, "-m", "hparams_lab", "run", "waiting.py", "--workers", str(workers)]
        environment = {**os.environ, "MARKER": self.marker}
        return subprocess.Popen(command, cwd=self.directory, env=environment, stdout=subprocess.PIPE, text=True)

    def go(self):
        (self.directory / "go").touch()

    @property
    def trained(self):
        """The runs whose training has begun, in that order."""
        file = self.directory / "trained"
        return file.read_text().split() if file.exists() else []

    @property
    def outcomes(self):
        return {run.name: str(run.outcome) for run in lab.read(self.directory / "logs/waiting").runs}

    @property
    def processes(self):
        """The processes that came of it, by what is in their environment; a zombie has none."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if self.marker.encode() in (process / "environ").read_bytes():
                    found.append(int(process.name))
        return found


@pytest.fixture
def sweep(tmp_path):
    sweep = Sweep(tmp_path)
    yield sweep
    for pid in sweep.processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def finish(runner):
    """The exit code and what was printed."""
    said, _ = runner.communicate(timeout=30)
    return runner.returncode, said


def completes_on_resuming(sweep):
    """The same command does what is left."""
    sweep.go()
    assert finish(sweep.start(workers=2))[0] == 0
    assert sweep.outcomes == dict.fromkeys(["run-0000", "run-0001", "run-0002"], "completed")
    assert wait_until(lambda: not sweep.processes)


def test_one_interrupt_lets_the_running_finish(sweep):
    runner = sweep.start(workers=2)
    assert wait_until(lambda: len(sweep.trained) == 2)
    assert set(sweep.outcomes.values()) == {"running"}
    runner.send_signal(signal.SIGINT)
    sweep.go()
    code, said = finish(runner)
    assert (code, sorted(sweep.trained)) == (130, ["run-0000", "run-0001"])
    assert "stopped: 2 of 3 runs are done; the same command goes on from here" in said
    assert set(sweep.outcomes.values()) == {"completed"}
    completes_on_resuming(sweep)
    assert sorted(sweep.trained) == ["run-0000", "run-0001", "run-0002"]


def test_two_interrupts_stop_at_once(sweep):
    runner = sweep.start(workers=1)
    assert wait_until(lambda: sweep.trained)
    runner.send_signal(signal.SIGINT)
    assert not wait_until(lambda: runner.poll() is not None, 0.5)
    runner.send_signal(signal.SIGINT)
    if not wait_until(lambda: runner.poll() is not None):
        runner.send_signal(signal.SIGINT)  # on a busy machine two signals may have been one to the runner
    assert finish(runner)[0] == 130
    assert wait_until(lambda: not sweep.processes)
    assert sweep.outcomes == {"run-0000": "interrupted"}
    completes_on_resuming(sweep)
    assert sorted(sweep.trained) == ["run-0000", "run-0000", "run-0001", "run-0002"]


def test_a_killed_runner_leaves_no_process_and_is_resumed(sweep):
    runner = sweep.start(workers=2)
    assert wait_until(
        lambda: len(sweep.trained) == 2 and len(sweep.processes) == 7
    )  # runner, keeper, server, 2 runs, 2 sleeps
    runner.kill()
    finish(runner)
    assert wait_until(lambda: not sweep.processes)
    assert set(sweep.outcomes.values()) == {"interrupted"}
    completes_on_resuming(sweep)
    assert sorted(sweep.trained) == ["run-0000", "run-0000", "run-0001", "run-0001", "run-0002"]


def kills_the_server_once(run):
    subprocess.Popen(["sleep", "60"])
    if run.hparams["x"] == 2:
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
    return {"accuracy": 1.0}


def test_the_death_of_the_server_costs_what_was_running(sweep, monkeypatch):
    monkeypatch.setenv("MARKER", sweep.marker)
    experiment = lab.Experiment([lab.HParam("x", lab.Discrete([1, 2, 3]))], [lab.Metric("accuracy")])
    options = {"logdir": sweep.directory, "executor": "process", "workers": 1, "observe": lambda event: None}
    runs = lab.run_sweep(experiment, kills_the_server_once, **options).runs
    assert [run.outcome for run in runs] == [Outcome.COMPLETED, Outcome.CRASHED, Outcome.COMPLETED]
    assert runs[1].reason == "the process that forks the runs died"
    assert wait_until(lambda: not sweep.processes)


PROGRAM = """
import sys, time
import hparams_lab as lab

def train(run):
    (run.dir.parents[1] / "begun").touch()
    time.sleep(60)

if __name__ == "__main__":
    experiment = lab.Experiment([lab.HParam("x", lab.Discrete([1]))], [lab.Metric("accuracy")])
    try:
        lab.run_sweep(experiment, train, logdir=sys.argv[1] + "/logs", executor=sys.argv[2])
    except KeyboardInterrupt:
        sys.exit(7)
"""


@pytest.mark.parametrize("executor", ["process", "inline"])
@pytest.mark.parametrize(("signals", "code"), [(["SIGINT"] * 2, 7), (["SIGTERM"], -signal.SIGTERM)])
def test_a_program_gets_the_signal_that_stopped_its_sweep(tmp_path, executor, signals, code):
    """After the sweep has cleared up: what the program, or the system, does about the signal is as without a sweep."""
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, tmp_path / "program.py", tmp_path, executor]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as program:
        assert wait_until((tmp_path / "begun").exists)
        for name in signals:
            program.send_signal(getattr(signal, name))
            wait_until(lambda: program.poll() is not None, 0.5)  # two at once may be one to the program
        assert program.wait(60) == code
    assert [run.outcome for run in lab.read(tmp_path / "logs").runs] == [Outcome.INTERRUPTED]


IMPORTING = """
import pathlib, time
(pathlib.Path(__file__).parent / "begun").touch()
time.sleep(60)
"""


@pytest.mark.parametrize("executor", ["process", "inline"])
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_while_it_gets_ready_the_first_signal_ends_it_and_nothing_is_written(tmp_path, executor, name, code):
    (tmp_path / "importing.py").write_text(IMPORTING)
    command = [sys.executable, "-m", "hparams_lab", "run", "importing.py", "--executor", executor]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as runner:
        assert wait_until((tmp_path / "begun").exists)
        runner.send_signal(getattr(signal, name))
        _, said = runner.communicate(timeout=60)
    assert (runner.returncode, said) == (code, f"stopped by {name}; the same command goes on from here\n")
    assert not (tmp_path / "logs").exists()


def test_ctrl_c_again_and_again_until_it_is_gone_is_one_exit_code(tmp_path):
    (tmp_path / "importing.py").write_text(IMPORTING)
    command = [sys.executable, "-m", "hparams_lab", "run", "importing.py"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE) as runner:
        assert wait_until((tmp_path / "begun").exists)
        assert wait_until(lambda: runner.poll() is not None or runner.send_signal(signal.SIGINT), 60)
    assert runner.returncode == 130
