"""Disks that fill up, and disks that fail: no finished run is lost, and nothing is said to be saved that is not.

Small file systems of many sizes, really full, then grown. And every write and every wait for the disk of a sweep made
to fail: by a library between the processes and the system, which counts the calls on files of the log directory over
all processes; and by strace in the system's place.
"""

import contextlib
import errno
import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import hparams_lab as lab
from faults.harness import FULL, Faults, Sweep, random_of, scaled, wait_until
from hparams_lab.core.findings import Kind
from hparams_lab.core.results import Results

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="mounts, preloads and traces as Linux does")

ASKED = "0 finished runs lost, nothing unreadable, a failed fsync never reported as saved"
PAGE = 4096  # what a tmpfs gives out at once
TALKING = """
def during(run, x):
    for line in range(60):
        print(f"{run.name} {line} " + "." * 80)
"""
AT_ONCE = 2


class DiskSweep(Sweep):
    """A sweep whose log directory may have nothing in it yet."""

    def read(self):
        try:
            return super().read()
        except lab.HParamsLabError:
            if any(self.logdir.glob("run-*")):
                raise
            return Results(None, ())

    def ended(self, runner):
        """The runner, once it and all its processes are gone."""
        runner.end(60)
        self._wait_until_gone()
        return runner

    def refused(self, runner):
        """Why it stopped, which it says in one line."""
        said = runner.process.returncode, runner.errors[-1000:] or runner.out[-1000:]
        assert said[0] == 2, said
        assert re.fullmatch(r"error: [^\n]+\n", runner.errors), said
        return runner.errors

    def check_reported(self, runner):
        """The runs that it said are completed are so, by what is read; nothing else is damaged. Their names."""
        results = self.read()
        completed = {run.name for run in results.runs if str(run.outcome) == "completed"}
        over = {str(run.path) for run in results.runs if run.is_over}
        torn = [one for one in results.findings if one.kind is Kind.TORN and os.path.dirname(one.file) not in over]
        assert [one for one in results.findings if one not in torn] == []
        assert reported(runner) <= completed, (reported(runner) - completed, runner.out)
        return reported(runner)


def reported(runner):
    """The runs that a runner said are completed."""
    events = [json.loads(line) for line in runner.out.splitlines() if line.endswith("}")]
    return {event["run"] for event in events if event["event"] == "run_ended" and event["outcome"] == "completed"}


# A file system that is full.


def mount(where, *options):
    return subprocess.run(["mount", *options, str(where)], capture_output=True, text=True)


@contextlib.contextmanager
def file_system(where, size):
    """A file system of so many bytes."""
    where.mkdir()
    done = mount(where, "-t", "tmpfs", "-o", f"size={size}", "none")
    if done.returncode:
        pytest.skip(f"mounting a file system takes rights: {done.stderr.strip()}")
    try:
        yield where
    finally:
        subprocess.run(["umount", "-l", where], check=True)


def filled_and_grown(directory, pages):
    """A sweep on a disk too small, then large enough: what does not hold, the runs done before, why it stopped."""
    directory = directory / f"{pages}-pages"
    directory.mkdir()
    disk = directory / "disk"
    with (
        file_system(disk, pages * PAGE),
        DiskSweep(directory, trials=10, seconds=0.02, more=TALKING, logdir=disk / "logs", options=["--json"]) as sweep,
    ):
        runner = sweep.start()
        sweep.settle(runner)
        why = sweep.refused(runner)
        done = sweep.check_reported(runner)
        again = sweep.start()  # no better, and no worse
        sweep.settle(again)
        sweep.refused(again)
        sweep.check_reported(again)
        assert mount(disk, "-o", "remount,size=64m").returncode == 0
        sweep.complete()
        return sweep.faults(), done, why


def test_a_full_disk_stops_the_sweep_and_room_lets_it_go_on(tmp_path, figure):
    sizes = sorted({1 + 3 * number // 2 for number in range(20)})
    sizes = sizes if FULL else [1, *sorted(random_of("sizes").sample(sizes[1:], 2))]
    figures = figure(f"ENOSPC on {len(sizes)} sizes of tmpfs, then grown and resumed", ASKED)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = [*pool.map(lambda pages: filled_and_grown(tmp_path, pages), sizes)]
    faults = sum((faults for faults, _, _ in found), Faults())
    figures.update(faults.counts)
    figures["runs finished before the disk was full"] = sum(len(done) for _, done, _ in found)
    assert not faults, faults.by_kind
    assert all("No space left on device" in why for _, _, why in found), found
    assert any(done for _, done, _ in found)


# A disk that fails at one call, or from one call on.

SHIM = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int fails(const char *call, const char *path) {
    const char *root = getenv("FAULT_ROOT");
    char line[5000];
    if (!root || strncmp(path, root, strlen(root))) return 0;
    int fd = syscall(SYS_openat, AT_FDCWD, getenv("FAULT_COUNT"), O_WRONLY | O_CREAT | O_APPEND, 0644);
    syscall(SYS_write, fd, ".", 1);
    long number = syscall(SYS_lseek, fd, 0, SEEK_CUR), first = atol(getenv("FAULT_AT"));
    syscall(SYS_close, fd);
    if (first == 0 || number < first || (number > first && !getenv("FAULT_STAYS"))) return 0;
    fd = syscall(SYS_openat, AT_FDCWD, getenv("FAULT_LOG"), O_WRONLY | O_CREAT | O_APPEND, 0644);
    syscall(SYS_write, fd, line, snprintf(line, sizeof line, "%s %s\n", call, path));
    syscall(SYS_close, fd);
    errno = atoi(getenv("FAULT_ERRNO"));
    return 1;
}

static int fails_at(const char *call, int fd) {
    char link[40], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    long length = syscall(SYS_readlink, link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return fails(call, path);
}

ssize_t write(int fd, const void *data, size_t size) {
    return fails_at("write", fd) ? -1 : syscall(SYS_write, fd, data, size);
}
int fsync(int fd) { return fails_at("fsync", fd) ? -1 : syscall(SYS_fsync, fd); }
int fdatasync(int fd) { return fails_at("fsync", fd) ? -1 : syscall(SYS_fdatasync, fd); }
int mkdir(const char *path, mode_t mode) {
    return fails("mkdir", path) ? -1 : syscall(SYS_mkdirat, AT_FDCWD, path, mode);
}
int open64(const char *path, int flags, ...) {
    va_list more;
    va_start(more, flags);
    int mode = flags & O_CREAT ? va_arg(more, int) : 0;
    va_end(more);
    return (flags & O_CREAT) && fails("open", path) ? -1 : syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}
"""


def compiled(source, directory):
    """A library to be preloaded, which stands between processes and the system."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    (directory / "shim.c").write_text(source)
    command = [compiler, "-shared", "-fPIC", "-O1", "-w", "-o", directory / "shim.so", directory / "shim.c"]
    subprocess.run(command, check=True)
    return directory / "shim.so"


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    """The library that makes calls fail."""
    return compiled(SHIM, tmp_path_factory.mktemp("shim"))


class FailingSweep(DiskSweep):
    """A sweep of four trials in which calls are made to fail.

    Args: directory: its own. shim: the library. error: its name. stays: whether it fails from then on.
    """

    def __init__(self, directory, shim, error, stays):
        super().__init__(directory, trials=4, seconds=0.02, more=TALKING.replace("60", "2"), options=["--json"])
        self._environment = {
            "LD_PRELOAD": str(shim), "FAULT_ERRNO": str(getattr(errno, error)),
            "FAULT_ROOT": str(self.logdir.resolve()),
            "FAULT_COUNT": str(directory / "counted"), "FAULT_LOG": str(directory / "failed"),
        }  # fmt: skip
        if stays:
            self._environment["FAULT_STAYS"] = "1"

    def run_failing(self, at):
        """A runner, ended, in which the call of that number failed (none for 0)."""
        return self.ended(self.start(environment={**self._environment, "FAULT_AT": str(at)}))

    @property
    def failed(self):
        """The calls that failed: (call, path below the log directory)."""
        file = self.directory / "failed"
        lines = [line.split(" ", 1) for line in file.read_text().splitlines()] if file.exists() else []
        return [(call, os.path.relpath(path, self.logdir.resolve())) for call, path in lines]


def check_failed_and_resumed(sweep, runner, failed):
    """What holds of a sweep in which these calls failed, at once and when it is resumed; the faults."""
    unsaved = {path.split("/")[0] for call, path in failed if call == "fsync"}
    saved = sweep.check_reported(runner)
    assert not saved & unsaved, f"reported as saved: {saved & unsaved}"
    if runner.process.returncode == 0:  # it could be tried again
        assert runner.errors == ""
        assert len(saved) == sweep.trials, runner.out
        assert not unsaved
    else:
        sweep.refused(runner)
    before = {name: contents(sweep.logdir / name) for name in saved}
    begun = sum(entry.name in saved for entry in sweep.ledger)
    sweep.complete()
    assert {name: contents(sweep.logdir / name) for name in saved} == before
    assert sum(entry.name in saved for entry in sweep.ledger) == begun
    return sweep.faults()


def contents(directory: Path):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def failed_at(directory, shim, error, stays, at):
    """A sweep with a call that failed: what does not hold, and which call it was; empty for none."""
    with FailingSweep(directory / f"{error}-{at}", shim, error, stays) as sweep:
        runner = sweep.run_failing(at)
        failed = sweep.failed
        where = f"{error} at call {at}: {failed[:1]}"
        try:
            faults = check_failed_and_resumed(sweep, runner, failed)
        except AssertionError as broken:
            return Faults(lost=[f"{where}: {broken}"]), failed
        return Faults(*([f"{where}: {line}" for line in lines] for lines in faults.by_kind.values())), failed


@pytest.mark.slow
@pytest.mark.parametrize(("error", "stays"), [("EIO", False), ("ENOSPC", True)])
def test_a_disk_that_fails_at_any_call_loses_nothing_that_was_saved(tmp_path, figure, shim, error, stays):
    with FailingSweep(tmp_path / "counting", shim, error, stays) as sweep:
        runner = sweep.run_failing(0)
        assert runner.process.returncode == 0, runner.errors
        assert not sweep.faults()
        total = (tmp_path / "counting/counted").stat().st_size
    assert total > 10 * sweep.trials
    calls = range(1, total + 1) if FULL else sorted(random_of("calls", error).sample(range(1, total + 1), 6))
    figures = figure(f"{error} at {'each' if FULL else 'some'} write and fsync of a 4-trial sweep", ASKED)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = [*pool.map(lambda at: failed_at(tmp_path, shim, error, stays, at), calls)]
    faults = sum((faults for faults, _ in found), Faults())
    first = [failed[0][0] for _, failed in found if failed]
    figures.update(faults.counts, calls=total, failed={call: first.count(call) for call in sorted(set(first))})
    assert not faults, "\n".join(line for lines in faults.by_kind.values() for line in lines)
    assert len(first) >= 0.8 * len(calls)  # a run's background thread may have written a little less


# The same by the system's own hand: strace fails the wait of that number in each process that it traces.

HOLDING = """
def during(run, x):
    (HERE / "server").write_text(str(os.getppid()))
    end = time.monotonic() + 60
    while x == 0 and not (HERE / "go").exists() and time.monotonic() < end:
        time.sleep(0.01)
"""


def strace(trace, at):
    inject = f"inject=fsync,fdatasync:error=EIO:when={at}"
    traced = ["-e", "trace=fsync,fdatasync", "-e", "signal=none", "-e", inject]
    return ["strace", "-f", "-ff", "-q", "-y", "-o", str(trace), *traced]


def can_trace(directory):
    command = [*strace(directory / "can-trace", 1), "true"]
    return shutil.which("strace") is not None and subprocess.run(command, capture_output=True).returncode == 0


def traced_from_the_start(sweep, at):
    """A runner, ended, in all of whose processes that wait failed."""
    (sweep.directory / "go").touch()
    return sweep.ended(sweep.start(wrapper=strace(sweep.directory / "trace", at)))


def traced_in_its_runs(sweep, at):
    """A runner, ended, in whose runs that wait failed, from the second run on: its first waits to be let go."""
    runner, server = sweep.start(), sweep.directory / "server"
    assert wait_until(lambda: server.exists() and server.read_text()), runner.errors
    with subprocess.Popen([*strace(sweep.directory / "trace", at), "-p", server.read_text()]):
        status = Path(f"/proc/{server.read_text()}/status")
        assert wait_until(lambda: "TracerPid:\t0\n" not in status.read_text())
        (sweep.directory / "go").touch()
        return sweep.ended(runner)


def failed_by_strace(directory, start, at):
    """A sweep in whose processes a wait for the disk failed: what does not hold, and what they waited for."""
    with DiskSweep(directory / f"{start.__name__}-{at}", 4, 0.02, HOLDING, options=["--json"], workers=1) as sweep:
        runner = start(sweep, at)
        lines = [line for file in sweep.directory.glob("trace.*") for line in file.read_text().splitlines()]
        paths = [re.search(r"<(.*)>", line)[1] for line in lines if "(INJECTED)" in line]
        failed = [("fsync", os.path.relpath(path, sweep.logdir.resolve())) for path in paths]
        (sweep.directory / "go").touch()
        return check_failed_and_resumed(sweep, runner, failed), failed


@pytest.mark.slow
@pytest.mark.parametrize("start", [traced_from_the_start, traced_in_its_runs])
def test_a_wait_for_the_disk_that_the_system_fails_is_never_reported_as_saved(tmp_path, figure, start):
    if not can_trace(tmp_path):
        pytest.skip("needs strace, and the right to trace")
    where = "a run's process" if start is traced_in_its_runs else "each process"
    figures = figure(f"EIO at the Nth fsync of {where}, by strace", ASKED)
    found = []
    while not found or (found[-1][1] and len(found) < scaled(40, 2)):
        found.append(failed_by_strace(tmp_path, start, len(found) + 1))
    faults = sum((faults for faults, _ in found), Faults())
    paths = [path for _, failed in found for _, path in failed]
    figures.update(faults.counts, failed=len(paths))
    assert not faults, faults.by_kind
    assert len(paths) >= 2
    assert start is traced_from_the_start or all(path.startswith("run-") for path in paths), paths
