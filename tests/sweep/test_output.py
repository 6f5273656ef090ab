"""Standard output that fails while a sweep goes on: the sweep ends as it would have, and all is in its directory."""

import io
import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import hparams_lab as lab
from hparams_lab.sweep.events import SweepNote
from hparams_lab.sweep.progress import progress
from hparams_lab.sweep.progress.output import write_line

DOMAIN = """
import pathlib, time
import hparams_lab as lab

EXPERIMENT = lab.Experiment([lab.HParam("x", lab.Discrete([1, 2, 3]))], [lab.Metric("accuracy")])
HERE = pathlib.Path(__file__).parent

def train(run):
    (HERE / f"{run.name}.begun").touch()
    end = time.monotonic() + 60
    while not (HERE / "go").exists() and time.monotonic() < end:
        time.sleep(0.02)
    if (HERE / "broken").exists():
        raise ValueError("a snowman \\u2603 and a smile \\U0001f600")
    return {"accuracy": run.hparams["x"]}
"""
GONE = "standard output takes no more ({}); the sweep goes on, and what comes of it is in the log directory\n"
full_device = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")


@pytest.fixture
def start(tmp_path):
    """`start(arguments...)` begins a sweep of three runs, which wait for the file `go`; it is ended with the test."""
    (tmp_path / "domain.py").write_text(DOMAIN)
    started = []

    def begin(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, shell_first=":", **more):
        command = [sys.executable, "-m", "hparams_lab", "run", "domain.py", *arguments]
        command = ["sh", "-c", f'{shell_first}; exec "$@"', "sh", *command]
        environment = {**os.environ, **more}
        started.append(subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=stdout, stderr=stderr))
        return started[-1]

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def outcomes(directory):
    return [str(run.outcome) for run in lab.read(directory / "logs/domain").runs]


def wait_until_two_have_begun(directory, seconds=60):
    end = time.monotonic() + seconds
    while len([*directory.glob("*.begun")]) < 2:
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("arguments", [(), ("--json",), ("--executor", "inline")])
def test_a_reader_that_goes_after_the_first_line_ends_nothing(start, tmp_path, arguments):
    process = start(*arguments)
    assert b"3" in process.stdout.readline()
    process.stdout.close()
    (tmp_path / "go").touch()
    errors = process.stderr.read().decode()
    assert (process.wait(60), errors) == (0, GONE.format("Broken pipe"))
    assert outcomes(tmp_path) == ["completed"] * 3


@pytest.mark.parametrize(
    ("signal_number", "code", "ended"), [(signal.SIGINT, 130, "completed"), (signal.SIGTERM, 143, "interrupted")]
)
def test_a_signal_that_ends_the_reader_too_does_what_it_does(start, tmp_path, signal_number, code, ended):
    process = start("--workers", "2")
    process.stdout.readline()
    wait_until_two_have_begun(tmp_path)
    process.stdout.close()
    process.send_signal(signal_number)
    assert process.stderr.readline().decode() == GONE.format("Broken pipe")  # that it stops could not be said
    if signal_number == signal.SIGINT:
        (tmp_path / "go").touch()
    assert (process.stderr.read(), process.wait(60)) == (b"", code)
    assert outcomes(tmp_path) == [ended] * 2


def test_a_terminal_that_goes_ends_nothing(start, tmp_path):
    ours, theirs = pty.openpty()
    process = start(stdout=theirs, TERM="xterm")
    os.close(theirs)
    os.read(ours, 1)
    os.close(ours)
    (tmp_path / "go").touch()
    errors = process.stderr.read().decode()
    assert (process.wait(60), errors) == (0, GONE.format("Input/output error"))
    assert outcomes(tmp_path) == ["completed"] * 3


def test_with_failed_runs_the_exit_code_stays_1(start, tmp_path):
    (tmp_path / "broken").touch()
    process = start()
    process.stdout.readline()
    process.stdout.close()
    (tmp_path / "go").touch()
    process.stderr.read()
    assert (process.wait(60), outcomes(tmp_path)) == (1, ["failed"] * 3)


@full_device
@pytest.mark.parametrize("arguments", [(), ("--json",)])
def test_output_on_a_full_disk_ends_nothing(start, tmp_path, arguments):
    (tmp_path / "go").touch()
    with open("/dev/full", "wb") as full:
        process = start(*arguments, stdout=full)
        errors = process.stderr.read().decode()
        assert (process.wait(60), errors) == (0, GONE.format("No space left on device"))
        assert outcomes(tmp_path) == ["completed"] * 3
        again = start(*arguments, stdout=full, stderr=full)  # nowhere to say even that
        assert again.wait(60) == 0


@pytest.mark.parametrize("closed", ["1>&-", "2>&-", "1>&- 2>&-", "0<&- 1>&- 2>&-"])
def test_what_was_closed_from_the_start(start, tmp_path, closed):
    (tmp_path / "go").touch()
    process = start(shell_first=f"exec {closed}")
    said, errors = process.communicate(timeout=60)
    assert (errors, process.returncode, b"3 of 3 runs done" in said) == (b"", 0, "1>" not in closed)
    assert outcomes(tmp_path) == ["completed"] * 3


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_what_the_encoding_lacks_is_escaped(start, tmp_path, encoding):
    for name in ("go", "broken"):
        (tmp_path / name).touch()
    said, errors = start(PYTHONIOENCODING=encoding).communicate(timeout=120)
    assert errors == b""
    assert said.count(rb"a snowman \u2603 and a smile \U0001f600") == 3
    said, errors = start("--json", "--retry-failed", PYTHONIOENCODING=encoding).communicate(timeout=120)
    events = [json.loads(line) for line in said.splitlines()]
    reasons = [event["reason"] for event in events if event["event"] == "run_ended"]
    assert (len(reasons), errors) == (3, b"")
    assert all("a snowman \u2603 and a smile \U0001f600" in reason for reason in reasons)
    assert outcomes(tmp_path) == ["failed"] * 3


@full_device
def test_a_full_file_takes_no_more_and_leaves_no_descriptor_open():
    before = len(os.listdir("/proc/self/fd"))
    with open("/dev/full", "w") as full:
        write_line(full, "lost")
        assert os.fstat(full.fileno()).st_rdev == os.stat(os.devnull).st_rdev
        write_line(full, "lost too")
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("as_json", [False, True])
def test_a_closed_file_is_passed_over(as_json, monkeypatch, capfd):
    file = io.TextIOWrapper(io.BytesIO())
    file.close()
    for there in (file, None):
        monkeypatch.setattr(sys, "stdout", there)
        with progress(as_json) as tell:
            tell(SweepNote("unheard"))
            tell(SweepNote("unheard"))
    assert capfd.readouterr().err == ""
