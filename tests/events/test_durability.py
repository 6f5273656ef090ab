"""What was logged, when its process is killed, forks or forgets it, when the disk is full; and in how much memory."""

import gc
import os
import re
import signal
import subprocess
import sys

import pytest
from read_back import read_back, steps_of
from tensorboard_client import eventually

from hparams_lab.core.errors import UsageError
from hparams_lab.core.outcome import Outcome
from hparams_lab.events.format import summaries
from hparams_lab.events.format.event_file import read_events
from hparams_lab.logdir.reader import read
from hparams_lab.logdir.run_reader import event_files, read_run
from hparams_lab.run.outcome_records import end_left_run
from hparams_lab.run.start import start_run

posix = pytest.mark.skipif(os.name == "nt", reason="signals, forks and limits as POSIX has them")
PREAMBLE = """
import os, resource, signal, subprocess, sys, threading, time
from hparams_lab.core.errors import *
from hparams_lab.run.start import start_run
def start(**more): return start_run(sys.argv[1], hparams={"x": 1}, name="x", provenance=False, **more)
"""


def python(script, directory, *options):
    """A process of its own, which may `start()` the run "x" in the directory."""
    command = [sys.executable, *options, "-c", PREAMBLE + script, str(directory)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def said(script, directory, *options):
    """What it prints. It ends well, and says nothing on stderr."""
    out, err = python(script, directory, *options).communicate(timeout=60)
    assert err == ""
    return out


@posix
def test_a_kill_loses_nothing_that_was_flushed(tmp_path):
    script = (
        "run = start()\n"
        "for step in range(5000): run.log({'loss': step, 'other': 1.0}, step)\n"
        "run.flush(); run.log('loss', 1.0, 5000); print('flushed', flush=True); time.sleep(60)"
    )
    with python(script, tmp_path) as process:
        assert process.stdout.readline() == "flushed\n"
        process.send_signal(signal.SIGKILL)
    assert steps_of(tmp_path)[:5000] == list(range(5000))
    assert steps_of(tmp_path, "other") == list(range(5000))
    assert read_back(tmp_path).outcome is Outcome.INTERRUPTED


@posix
def test_after_a_fork_the_run_is_the_parents(tmp_path):
    out = said(
        "run = start(); run.log('loss', 1.0)\n"
        "if (child := os.fork()) == 0:\n"
        "    for call in (lambda: run.log('loss', 2.0), lambda: run.text('a', 'b'), run.flush):\n"
        "        try: call()\n"
        "        except UsageError as error: print(error)\n"
        "    run.finish()\n"
        "    with start_run(sys.argv[1], hparams={'x': 2}, name='y') as own: own.log('loss', 3.0); time.sleep(1.5)\n"
        "    sys.exit()\n"
        "os.waitpid(child, 0)\n"
        "run.log('loss', 4.0); run.finish()",
        tmp_path,
        "-W",
        "ignore:This process:DeprecationWarning",  # Python 3.12 on: other threads are about
    )
    message = "run 'x' belongs to the process that started it; after a fork, start a run of its own\n"
    assert out == 3 * message
    assert (steps_of(tmp_path), read_back(tmp_path).outcome) == ([0, 1], Outcome.COMPLETED)
    assert read_run(tmp_path / "y", "y").metrics == {"loss": 3.0}


@pytest.mark.parametrize(
    ("ends", "outcome", "reason"),
    [("", Outcome.COMPLETED, ""), ("raise ValueError('why')", Outcome.FAILED, "ValueError: why")],
)
def test_forgotten_runs_are_given_an_end_also_where_one_of_them_cannot(tmp_path, ends, outcome, reason):
    script = (
        "import shutil\n"
        "runs = [start_run(f'{sys.argv[1]}/{d}', hparams={'x': 1}, provenance=False) for d in range(3)]\n"
        "for run in runs: run.log('loss', 0.5)\n"
        "shutil.rmtree(runs[1].dir)\n"
    )
    _, err = python(script + ends, tmp_path).communicate(timeout=60)
    assert re.search(r"^hparams_lab: .*/1/run-0000/.* cannot be written: No such file or directory; see to", err, re.M)
    for place in ("0", "2"):
        (found,) = read(tmp_path / place).runs
        assert (found.outcome, found.reason, found.metrics) == (outcome, reason, {"loss": 0.5})


@pytest.mark.parametrize("collect", [gc.collect, lambda: None], ids=["here", "while its thread writes"])
def test_a_run_that_is_garbage_is_given_an_end(tmp_path, collect):
    run = start_run(tmp_path, hparams={"x": 1}, name="x", provenance=False)
    run.text_later("collected", lambda: str(gc.collect() * 0))
    run.log("loss", 0.5)
    run.summary["cycle"] = 1
    run.at_finish(run.flush)  # holds itself
    del run
    collect()
    eventually(lambda: read_back(tmp_path).ended, seconds=20)
    assert (read_back(tmp_path).outcome, read_back(tmp_path).metrics) == (Outcome.COMPLETED, {"loss": 0.5, "cycle": 1})


def test_millions_of_scalars_in_bounded_memory(tmp_path):
    out = said(
        "run = start()\n"
        "for step in range(100_000): run.log('loss', 0.5)\n"
        "run.flush(); before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for step in range(2_000_000): run.log({'loss': 0.5})\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)\n"
        "run.finish()",
        tmp_path,
    )
    assert int(out) < 150  # MiB; the rows of all are about 140, their records 95
    (file,) = event_files(tmp_path / "x")
    record = file.stat().st_size / 2_100_000
    assert 40 < record < 60


FULL_DISK = """
def attempt(call):
    try: call()
    except LogDirError as error: print(error)
    else: print("ok")
run = start(when_full="block"); run.log("loss", 0.5); run.flush()
fill()
for _ in range(3000): run.log("loss", 0.5)
attempt(run.flush)
attempt(lambda: run.log("loss", 0.5) or run.flush())
attempt(run.finish)
print(run.is_over)
make_space()
run.log("loss", 0.25)
run.finish()
print(run.is_over)
"""
LIMIT = """
fsize = lambda limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
fill = lambda: fsize(50_000)
make_space = lambda: fsize(resource.RLIM_INFINITY)
"""
TMPFS = """
fill = lambda: None
make_space = lambda: subprocess.run(["mount", "-o", "remount,size=10m", sys.argv[1]], check=True)
"""


@pytest.fixture
def small_disk(tmp_path):
    """64 KiB of file system, where we may mount one."""
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tmp_path]
    mounted = subprocess.run(command, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no tmpfs may be mounted here: {' '.join(mounted.stderr.split())}")
    yield tmp_path
    subprocess.run(["umount", "-l", tmp_path], check=True)


def check_full_disk(directory, disk, why, way_out):
    first, second, third, is_over, after = said(disk + FULL_DISK, directory).splitlines()
    (file,) = event_files(directory / "x")
    wanted = f"{file} cannot be written: {why}; {way_out}: what was logged is kept and tried again"
    assert [first, second, third, is_over, after] == [wanted, wanted, wanted, "False", "True"]
    assert steps_of(directory) == list(range(len(steps_of(directory))))
    assert len(steps_of(directory)) in (3002, 3003)
    assert (read_back(directory).outcome, read_back(directory).metrics["loss"]) == (Outcome.COMPLETED, 0.25)
    values = [value for event in read_events(file.read_bytes()) for value in event.summary.value]
    assert [value.tag for value in values].count(summaries.SESSION_END_TAG) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
def test_a_full_disk_keeps_what_was_logged(small_disk):
    check_full_disk(small_disk, TMPFS, "No space left on device", "make room on the disk")


@posix
def test_a_file_too_large_keeps_what_was_logged(tmp_path):
    check_full_disk(tmp_path, LIMIT, "File too large", "raise the limit of a file's size (ulimit -f)")


@posix
def test_an_end_that_does_not_fit_is_not_there_at_any_byte(tmp_path):
    """The file may not grow beyond each of the bytes of its end; then it may, and the run is finished."""
    out = said(
        "from hparams_lab.logdir.run_reader import read_run\n"
        "fsize = lambda limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))\n"
        "def finish(run):\n"
        "    try: run.finish({}, 'failed', 'why')\n"
        "    except UnsavedError: return False\n"
        "    return True\n"
        "for number in range(1000):\n"
        "    run = start_run(sys.argv[1], hparams={'x': 1}, name=f'{number}', provenance=False)\n"
        "    run.log('loss', 0.5); run.flush()\n"
        "    path = run._events.path; size = path.stat().st_size\n"
        "    fsize(size + number); done = finish(run); fsize(resource.RLIM_INFINITY)\n"
        "    if done: break\n"
        "    found = read_run(run.dir, run.name)\n"
        "    assert (found.ended, path.stat().st_size) == (None, size), number\n"
        "    run.log('loss', 0.25)\n"
        "    assert finish(run)\n"
        "print(number)",
        tmp_path,
    )
    runs = read(tmp_path).runs
    assert len(runs) == int(out) + 1 > 100
    assert all((run.outcome, run.reason) == (Outcome.FAILED, "why") for run in runs)
    assert all(run.scalars("loss").values.tolist() == [0.5, 0.25] for run in runs[:-1])
    for run in runs:
        (file,) = event_files(tmp_path / run.name)
        findings = []
        tags = [value.tag for event in read_events(file.read_bytes(), findings) for value in event.summary.value]
        assert (tags[-2:], tags.count(summaries.SESSION_END_TAG), findings) == (ENDING, 1, [])


ENDING = ["run/outcome", summaries.SESSION_END_TAG]


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
@pytest.mark.parametrize("kibibytes", range(4, 56, 4))
def test_a_disk_of_any_size_that_grows_keeps_what_was_logged_in_order(small_disk, kibibytes):
    """Full in the declaration, in the start, in what is logged, or in the end: the same process goes on."""
    out = said(
        "def size(is_now): subprocess.run(['mount', '-o', f'remount,size={is_now}', sys.argv[1]], check=True)\n"
        "def grow(): size('10m'); grown.append(1)\n"
        "grown = []\n"
        "def insist(call):\n"
        "    try: return call()\n"
        "    except UnsavedError: grow()\n"
        "    return call()\n"
        f"size('{kibibytes}k')\n"
        "run = insist(lambda: start(if_exists='number'))\n"
        "for step in range(400):\n"
        "    insist(lambda: run.log({'loss': step, 'other': 1}, step)); insist(run.flush)\n"
        "insist(run.finish); insist(run.finish)\n"
        "print(run.name, len(grown))",
        small_disk,
    )
    name, grown = out.split()
    findings = []
    found = read_run(small_disk / name, name, findings=findings)
    assert (found.outcome, findings) == (Outcome.COMPLETED, [])
    assert found.columns["loss"].steps.tolist() == found.columns["other"].steps.tolist() == list(range(400))
    assert grown == "1" if kibibytes < 40 else grown in "01"


@posix
def test_what_was_written_after_all_is_no_error(tmp_path):
    """The thread could not write; the next time it could, and nobody is told of what was mended."""
    out = said(
        "fsize = lambda limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))\n"
        "run = start(); run.log('loss', 0.5); run.flush()\n"
        "fsize(10); run.log('loss', 0.25); run._events.drain(); fsize(resource.RLIM_INFINITY)\n"
        "run.finish(); print(run.is_over)",
        tmp_path,
    )
    assert out == "True\n"
    assert steps_of(tmp_path) == [0, 1]


@posix
def test_a_run_that_is_left_has_all_but_an_end_and_another_gives_it_one(tmp_path):
    run = start_run(tmp_path, hparams={"x": 1}, name="x", provenance=False)
    called = []
    run.at_finish(lambda: called.append(run.is_over))
    run.log("loss", 0.5)
    run.leave()
    run.leave()
    run.finish()
    assert (run.is_over, called) == (True, [False])
    with pytest.raises(UsageError, match=r"^run 'x' is finished; "):
        run.log("loss", 0.25)
    assert (read_back(tmp_path).outcome, read_back(tmp_path).metrics) == (Outcome.INTERRUPTED, {"loss": 0.5})
    end_left_run(run.dir, Outcome.TIMED_OUT, "after 1 s")
    assert (read_back(tmp_path).outcome, read_back(tmp_path).reason) == (Outcome.TIMED_OUT, "after 1 s")


@posix
def test_a_run_is_left_also_where_it_cannot_be_written(tmp_path):
    out = said(
        "from hparams_lab.storage.locks import is_held\n"
        "run = start(); run.log('loss', 0.5); run.flush()\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10, resource.RLIM_INFINITY)); run.log('loss', 0.25)\n"
        "try: run.leave()\n"
        "except UnsavedError as error: print(error)\n"
        "print(run.is_over, is_held(run._events.path)); run.finish()",
        tmp_path,
    )
    (file,) = event_files(tmp_path / "x")
    assert out.startswith(f"{file} cannot be written: File too large; ")
    assert out.endswith("\nTrue False\n")
    assert steps_of(tmp_path) == [0]
