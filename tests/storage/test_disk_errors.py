"""Every write and every wait for the disk refused by the system, one after the other: strace injects the errors."""

import os
import shutil
import subprocess
import sys

import pytest

from hparams_lab.core.findings import Kind
from hparams_lab.core.outcome import Outcome
from hparams_lab.events.write.writer import EventFileWriter
from hparams_lab.logdir.reader import read
from hparams_lab.logdir.run_reader import event_files, read_run
from hparams_lab.run.start import start_run

TRACED = """
import os, sys
import hparams_lab as lab
from hparams_lab.core.errors import HParamsLabError
from hparams_lab.logdir.run_reader import read_run
from hparams_lab.run.start import start_run
from pathlib import Path

SPENT = 100
EXPERIMENT = lab.Experiment([lab.HParam("x", lab.Discrete([1, 2]))], [lab.Metric("loss", goal="min")], "loss")

def told(call, *arguments, **more):
    try:
        call(*arguments, **more)
    except HParamsLabError as error:
        return f"{type(error).__name__}: {error}"
    return "ok"

def work(root):
    runs = []
    options = {"name": "x", "experiment": EXPERIMENT, "provenance": False}
    yield told(lambda: runs.append(start_run(root, hparams={"x": 1}, **options)))
    if runs:
        yield told(lambda: [runs[0].log("loss", step / 2, step) for step in range(3)] and runs[0].flush())
        yield told(runs[0].finish)
        found = read_run(Path(root) / "x", "x")
        yield "ended" if found is not None and found.ended is not None else "not ended"
        yield told(runs[0].finish)

def spend(call, count):
    fd = os.open(f"{sys.argv[1]}/spent", os.O_WRONLY | os.O_CREAT)
    for _ in range(count):
        os.fsync(fd) if call == "fsync" else os.write(fd, b"")

for number in range(1, int(sys.argv[3]) + 1):
    if (child := os.fork()) == 0:
        spend(sys.argv[2], SPENT - number)
        said = os.open(f"{sys.argv[1]}/{number}.txt", os.O_WRONLY | os.O_CREAT)
        place = 0
        for line in work(f"{sys.argv[1]}/{number}"):
            place += os.pwrite(said, f"{line}\\n".encode(), place)
        os._exit(0)
    os.waitpid(child, 0)
"""
"""Forks that have the call of each number fail: strace counts a process's calls, of which so many are spent before."""

MOST = 16


@pytest.fixture(scope="session")
def strace():
    """`strace(options, command)`: the command with errors injected, where one may trace."""

    def run(options, command):
        return subprocess.run(["strace", "-qq", "-o", os.devnull, *options, *command], capture_output=True, text=True)

    if shutil.which("strace") is None:
        pytest.skip("there is no strace")
    if tried := run(["-e", "trace=none"], ["true"]).stderr:
        pytest.skip(f"strace may not trace here: {tried.splitlines()[0]}")
    return run


@pytest.fixture
def with_errors(strace, tmp_path):
    """`with_errors(call, error, from_then_on)`: what was told with each of the call's times failing."""

    def run(call, error, from_then_on):
        inject = f"inject={call}:error={error}:when=100{'+' if from_then_on else ''}"
        script = [sys.executable, "-c", TRACED, tmp_path, call, str(MOST)]
        done = strace(["-f", "-e", f"trace={call}", "-e", inject], script)
        assert (done.returncode, done.stderr) == (0, "")
        return {tmp_path / str(n): (tmp_path / f"{n}.txt").read_text().splitlines() for n in range(1, MOST + 1)}

    return run


WORDS = {"ENOSPC": "No space left on device; make room on the disk", "EIO": "Input/output error; see to the disk"}


def usable_again(root):
    """Whatever was refused: the next run finds a directory in order."""
    with start_run(root, hparams={"x": 2}, name="next", provenance=False) as run:
        run.log("loss", 2.5)
    found = read(root)
    assert found.runs[[run.name for run in found.runs].index("next")].outcome is Outcome.COMPLETED
    assert {finding.kind for finding in found.findings} <= {Kind.TORN}
    assert len([*(root / "_experiment").glob("[0-9]*")]) == 1


@pytest.mark.parametrize("from_then_on", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
def test_a_write_that_fails_is_told_and_tried_again(with_errors, error, from_then_on):
    refused_at = set()
    for root, said in with_errors("write", error, from_then_on).items():
        if len(said) == 1:
            assert said[0].startswith(f"UnsavedError: {root}/")
            assert said[0].endswith(f" cannot be written: {WORDS[error]}, and start again")
            refused_at.add("start")
            usable_again(root)
            continue
        (file,) = event_files(root / "x")
        wanted = f"UnsavedError: {file} cannot be written: {WORDS[error]}: what was logged is kept and tried again"
        start, flushed, finished, seen, finished_again = said
        assert {start, flushed, finished, finished_again} <= {"ok", wanted}
        assert seen == ("ended" if finished == "ok" else "not ended")
        refused_at |= {name for name, was in zip(("flush", "finish"), (flushed, finished), strict=True) if was != "ok"}
        if not from_then_on:
            assert finished_again == "ok"
        findings = []
        found = read_run(root / "x", "x", findings=findings)
        if finished_again == "ok":
            assert (found.outcome, findings) == (Outcome.COMPLETED, [])
            assert found.scalars("loss").values.tolist() == [0, 0.5, 1]
        else:
            assert found is None or found.outcome is Outcome.INTERRUPTED
        usable_again(root)
    assert refused_at == ({"start", "flush", "finish"} if from_then_on else {"start", "finish"})
    assert said == ["ok", "ok", "ok", "ended", "ok"]  # there were fewer writes than were tried


@pytest.mark.parametrize("from_then_on", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
def test_a_wait_for_the_disk_that_fails_is_never_a_run_saved(with_errors, error, from_then_on):
    refused_at = set()
    for root, said in with_errors("fsync", error, from_then_on).items():
        if len(said) == 1:
            assert said[0].startswith(f"UnsavedError: {root}/")
            refused_at.add("start")
        elif said[2] != "ok":
            (file,) = event_files(root / "x")
            lost = f"UnsavedError: {file} is not saved, its disk lost what was written: {WORDS[error]}, and do the run "
            assert said == ["ok", "ok", f"{lost}again", "not ended", f"{lost}again"]
            found = read_run(root / "x", "x", findings=(findings := []))
            assert (found.outcome, findings) == (Outcome.INTERRUPTED, [])
            assert found.scalars("loss").values.tolist() == [0, 0.5, 1]
            refused_at.add("finish")
        else:
            assert said == ["ok", "ok", "ok", "ended", "ok"]
        usable_again(root)
    assert refused_at == {"start", "finish"}
    assert said == ["ok", "ok", "ok", "ended", "ok"]


def test_where_directories_cannot_be_waited_for_runs_are_saved(strace, tmp_path):
    script = "import sys; from hparams_lab.storage import disk; disk.make_directory(sys.argv[1], sync=True)"
    for error, code in (("EINVAL", 0), ("EIO", 1)):
        options = ["-e", "trace=fsync", "-e", f"inject=fsync:error={error}"]
        assert strace(options, [sys.executable, "-c", script, tmp_path / error]).returncode == code


def test_a_file_that_cannot_be_read_is_not_cut(strace, tmp_path):
    with start_run(tmp_path, hparams={"x": 1}, name="x", provenance=False) as run:
        run.log("loss", 0.5)
    (file,) = event_files(run.dir)
    data = file.read_bytes()
    script = (
        "import sys; from pathlib import Path; from hparams_lab.events.write.writer import EventFileWriter\n"
        "try: EventFileWriter.append(Path(sys.argv[1]))\n"
        "except Exception as error: print(error)"
    )
    options = ["-P", file, "-e", "trace=read", "-e", "inject=read:error=EIO"]
    done = strace(options, [sys.executable, "-c", script, file])
    assert done.stdout == f"{file}: it cannot be read: Input/output error; see to the disk, and start again\n"
    assert file.read_bytes() == data
    EventFileWriter.append(file).close()
    assert file.read_bytes() == data
