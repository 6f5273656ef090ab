"""A sweep of four trials killed at every durable operation, by a hook and by the system's calls: all resumable."""

import re
import shutil
import subprocess
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest

from faults.harness import FULL, Faults, Sweep, random_of, scaled

TRIALS, AT_ONCE = 4, 2
POINTS_OF_STRACE = scaled(40, 4)
SOME = 8  # operations of each kind of kill, scaled down

# Counts the operations of all processes together by the length of a file, each process appending to it on its own.
COUNTING = """
import os, signal
from hparams_lab.storage import disk

def _count(operation, what):
    fd = os.open(os.environ["COUNTED"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(fd, b".")
    number = os.lseek(fd, 0, os.SEEK_CUR)
    os.close(fd)
    if number == int(os.environ["KILL_AT"]):
        what = os.readlink(f"/proc/self/fd/{what}") if isinstance(what, int) else what
        with open(os.environ["COUNTED"] + ".killed", "w") as file:
            file.write(f"{operation} {what}")
        if os.environ["KILL"] == "all":
            os.kill(int(os.environ["RUNNER"]), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

if "KILL_AT" in os.environ:
    os.environ.setdefault("RUNNER", str(os.getpid()))
    disk.before = _count
"""
DRIVER = (
    COUNTING
    + """
import sys
from hparams_lab.cli.main import main
main(sys.argv[1:])
"""
)


def sweep_in(directory):
    """A sweep whose processes count their operations when they are asked to."""
    sweep = Sweep(directory, TRIALS, seconds=0.02, more=COUNTING, options=["--retries", "1"])
    (directory / "driver.py").write_text(DRIVER)
    return sweep


def started(sweep, kill_at, kill):
    """A runner in which the operation of that number (none for 0) kills its process, or all."""
    environment = {"COUNTED": str(sweep.directory / "counted"), "KILL_AT": str(kill_at), "KILL": kill}
    return sweep.start(program=["driver.py"], environment=environment)


def killed_at(directory, kill_at, kill):
    """A sweep killed at an operation and resumed: what does not hold, and which operation it was; empty for none."""
    with sweep_in(directory / f"{kill}-{kill_at}") as sweep:
        runner = started(sweep, kill_at, kill)
        sweep.settle(runner, 60)
        killed = sweep.directory / "counted.killed"
        sweep.complete()
        faults = sweep.faults()
        where = killed.read_text() if killed.exists() else ""
        return named(faults, f"{kill} killed at operation {kill_at}, {where}"), where


def named(faults, where):
    """The faults, each with where they come from."""
    return Faults(*([f"{where}: {line}" for line in lines] for lines in faults.by_kind.values()))


def count_operations(directory):
    """How many operations there are when nothing is killed."""
    with sweep_in(directory / "counting") as sweep:
        runner = started(sweep, 0, "none")
        sweep.settle(runner, 60)
        assert runner.process.returncode == 0, runner.errors
        faults = sweep.faults()
        assert not faults, faults.by_kind
        return (sweep.directory / "counted").stat().st_size


@pytest.mark.slow
@pytest.mark.parametrize("kill", ["one", "all"])
def test_a_kill_at_any_durable_operation_is_resumable(kill, tmp_path, figure):
    total = count_operations(tmp_path)
    assert total > 10 * TRIALS  # each run makes a directory and a file, writes, waits for both
    points = range(1, total + 1) if FULL else sorted(random_of("operations", kill).sample(range(1, total + 1), SOME))
    figures = figure(
        f"SIGKILL at {'every' if FULL else 'some'} durable operation of a {TRIALS}-trial sweep,"
        f" of {'its process' if kill == 'one' else 'runner and process at once'}",
        "all resumable",
        operations=total,
    )
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = [*pool.map(lambda number: killed_at(tmp_path, number, kill), points)]
    faults = sum((faults for faults, _ in found), Faults())
    where = [where for _, where in found if where]
    figures.update(faults.counts, kills=len(where))
    assert not faults, f"{faults.by_kind} in {tmp_path}"
    assert len(where) >= 0.8 * len(points)  # a run's background thread may have written a little less
    assert len({text.split()[0] for text in where}) >= (5 if FULL else 2)


CALLS = (
    *("openat", "write", "fsync", "fdatasync", "rename", "renameat", "renameat2"),
    *("mkdir", "mkdirat", "unlink", "unlinkat", "rmdir", "ftruncate"),
)


class Call(NamedTuple):
    """A call of the system that returned."""

    name: str
    number: int  # among those of its name in its process
    arguments: str
    result: str


def strace(trace, *options):
    """The command before a command whose calls are traced. With --seccomp-bpf strace 6.1 would inject nothing."""
    return ["strace", "-f", "-q", "-y", "-s", "200", "-o", str(trace), *options]


def can_trace():
    """Whether there is an strace, and it may."""
    command = ["strace", "-f", "-o", "/dev/null", "-e", "trace=write", "true"]
    return shutil.which("strace") is not None and subprocess.run(command, capture_output=True).returncode == 0


needs_strace = pytest.mark.skipif(not can_trace(), reason="needs strace, and the right to trace")


def traced(sweep):
    """The calls of a sweep that is let finish, in the order in which they returned."""
    trace = sweep.directory / "trace"
    runner = sweep.start(wrapper=strace(trace, "-e", f"trace={','.join(f'?{call}' for call in CALLS)}"))
    sweep.settle(runner, 60)
    assert runner.process.returncode == 0, runner.errors
    numbers, pending = Counter(), {}
    for line in trace.read_text(errors="replace").splitlines():
        if match := re.match(r"(\d+) +(\w+)\((.*?)(?:\) += (.*)| <unfinished \.\.\.>)$", line):
            pid, name, arguments, result = match.groups()
            numbers[pid, name] += 1
            pending[pid] = Call(name, numbers[pid, name], arguments, result)
        elif match := re.match(r"(\d+) +<\.\.\. (\w+) resumed>.*\) += (.*)$", line):
            pid, _, result = match.groups()
            pending[pid] = pending[pid]._replace(result=result)
        else:
            continue
        if pending[pid].result is not None:
            yield pending.pop(pid)


def writing_calls(sweep):
    """The calls that write in the log directory: (name, its number among those of that name in its process)."""
    calls = [call for call in traced(sweep) if str(sweep.logdir) in call.arguments]
    return [(call.name, call.number) for call in calls if call.name != "openat" or "O_CREAT" in call.arguments]


@needs_strace
def test_a_run_is_on_the_disk_before_it_is_reported(tmp_path):
    with Sweep(tmp_path / "traced", TRIALS, seconds=0.02) as sweep:
        calls = [*traced(sweep)]
        for number in range(TRIALS):
            folder = f"{sweep.logdir}/run-{number:04}"
            in_its_file = [i for i, call in enumerate(calls) if f"<{folder}/ev" in call.arguments]
            reported = min(i for i, call in enumerate(calls) if f"run-{number:04} completed" in call.arguments)
            made = max(i for i, call in enumerate(calls) if call.name == "mkdir" and f'"{folder}"' in call.arguments)
            written = max(i for i in in_its_file if calls[i].name == "write")
            what = {f"<{folder}/ev": written, f"<{folder}>": min(in_its_file), f"<{sweep.logdir}>": made}
            for path, since in what.items():
                waits = [i for i in range(since, reported) if calls[i].name == "fsync" and path in calls[i].arguments]
                assert waits, f"run-{number:04} was reported before the disk had {path}"


def killed_at_call(directory, index, call, number):
    """A sweep whose processes are killed at that call, resumed: what does not hold, and whether any was killed."""
    with Sweep(directory / f"call-{index}", TRIALS, seconds=0.02) as sweep:
        sweep.again = {"crashed"}
        trace = sweep.directory / "trace"
        options = ["-e", f"trace={call}", "-e", f"inject={call}:signal=SIGKILL:when={number}"]
        sweep.settle(sweep.start(wrapper=strace(trace, *options)), 60)
        killed = "killed by SIGKILL" in trace.read_text(errors="replace")
        sweep.complete("--retry-failed")
        return named(sweep.faults(), f"killed at {call} number {number}"), killed


@pytest.mark.slow
@needs_strace
def test_a_kill_at_any_call_that_writes_is_resumable(tmp_path, figure):
    with Sweep(tmp_path / "traced", TRIALS, seconds=0.02) as sweep:
        calls = sorted(set(writing_calls(sweep)))
    assert {call for call, _ in calls} >= {"openat", "write", "fsync", "mkdir"}
    step = len(calls) / POINTS_OF_STRACE
    points = [calls[int(index * step)] for index in range(POINTS_OF_STRACE)]
    figures = figure(f"SIGKILL at {len(points)} points by strace", "all resumable")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = [*pool.map(lambda point: killed_at_call(tmp_path, point[0], *point[1]), enumerate(points))]
    faults = sum((faults for faults, _ in found), Faults())
    figures.update(faults.counts, kills=sum(killed for _, killed in found))
    assert not faults, f"{faults.by_kind} in {tmp_path}"
    assert figures["kills"] >= 0.8 * len(points)
