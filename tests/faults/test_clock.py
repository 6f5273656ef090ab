"""The clock of the machine set forward and back, also in mid-sweep, while runs go on: orders and durations stay right.

A library between the processes and the system adds to the time of day what a file says: setting it is as sudden as an
administrator's. What never goes back (CLOCK_MONOTONIC) is left alone, as it is then. (libfaketime would be at hand, but
Python's sleep fails below it once the clock goes back.)
"""

import json
import os
import re
import signal
import struct
import subprocess
import sys
import time

import pytest
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tiers import one_quick

import hparams_lab as lab
from faults.harness import POINTS, Faults, Sweep, scaled, wait_until
from faults.test_disk_full import compiled

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="preloads as Linux does")

SHIM = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile long *offset;

__attribute__((constructor)) static void find_offset(void) {
    int fd = open(getenv("CLOCK_OFFSET"), O_RDONLY);
    offset = mmap(0, sizeof *offset, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, clock, now);
    if (!failed && offset && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += *offset;
    return failed;
}
int gettimeofday(struct timeval *now, void *zone) {
    struct timespec found;
    clock_gettime(CLOCK_REALTIME, &found);
    now->tv_sec = found.tv_sec;
    now->tv_usec = found.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *now) {
    struct timespec found;
    clock_gettime(CLOCK_REALTIME, &found);
    if (now) *now = found.tv_sec;
    return found.tv_sec;
}
"""

YEAR = 365 * 24 * 3600
TRIALS, SECONDS = 12, 0.05
LONGEST = 600.0
"""No trial takes so many seconds, on a machine however busy; each jump is longer by far."""

WAITING = """
def during(run, x):
    if x in (3, 4):
        end = time.monotonic() + 60
        while not (HERE / "set").exists() and time.monotonic() < end:
            time.sleep(0.01)
    if x in (3, 10):
        run.flush()
        os.kill(os.getpid(), signal.SIGKILL)
"""


class ClockSweep(Sweep):
    """A sweep whose clock can be set. Trial 3, which waits for that, and trial 10 crash; 4 waits and completes."""

    def __init__(self, directory, shim):
        options = ["--timeout", "60s", "--json"]
        super().__init__(directory, TRIALS, SECONDS, WAITING, options=options, expect={3: "crashed", 10: "crashed"})
        self.file = directory / "clock"
        self.file.write_bytes(bytes(8))
        self.clock = {"LD_PRELOAD": str(shim), "CLOCK_OFFSET": str(self.file)}

    def set(self, offset):
        """Set its clock so many seconds from the right one."""
        with open(self.file, "r+b", buffering=0) as file:
            file.write(struct.pack("q", offset))

    def start(self, *options, **more):
        """As `Sweep.start`, by its clock."""
        return super().start(*options, environment=self.clock, **more)

    def go_on(self):
        """Tell the trials that wait that the clock was set."""
        (self.directory / "set").touch()


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    """The library that sets the clock; its clock is seen to be another."""
    shim, file = compiled(SHIM, tmp_path_factory.mktemp("shim")), tmp_path_factory.mktemp("clock") / "clock"
    file.write_bytes(struct.pack("q", -YEAR))
    environment = {**os.environ, "LD_PRELOAD": str(shim), "CLOCK_OFFSET": str(file)}
    said = subprocess.check_output([sys.executable, "-c", "import time; print(time.time())"], env=environment)
    assert abs(time.time() - YEAR - float(said)) < 60
    return shim


def swept(directory, shim, first, then, resumed):
    """A sweep begun by the first clock; set in mid-sweep; killed; and resumed by a third. The sweep and its faults."""
    with ClockSweep(directory, shim) as sweep:
        sweep.set(first)
        runner = sweep.start()
        assert wait_until(lambda: {"run-0003", "run-0004"} <= {*sweep.under_way().values()}), runner.errors
        sweep.set(then)
        check_state(sweep)
        check_refused(sweep, runner)
        sweep.go_on()
        assert wait_until(lambda: sweep.begun() >= 7), runner.errors
        check_state(sweep)
        runner.send(signal.SIGKILL)
        sweep.settle(runner)
        sweep.set(resumed)
        sweep.complete(codes=[1])
        return sweep, sweep.faults()


def lines_of_top(sweep):
    """What `top --json` prints, by the sweep's clock: how the sweep stands, and the trials."""
    command = [sys.executable, "-m", "hparams_lab", "top", str(sweep.logdir), "--json"]
    done = subprocess.run(command, env={**os.environ, **sweep.clock}, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return [row["sweep"] for row in rows if "rank" not in row], [row for row in rows if "rank" in row]


def check_state(sweep):
    """The time left, and that of what is under way, are sane while it goes on."""
    (state,), _ = lines_of_top(sweep)
    assert state["seconds_left"] is None or 0 <= state["seconds_left"] < 20 * LONGEST, state
    assert all(going["seconds"] >= 0 for going in state["under_way"]), state


def check_refused(sweep, owner):
    """A second runner is told who is there since when."""
    second = sweep.start()
    assert second.end(60) == 2
    assert re.fullmatch(r"error: [^\n]+\n", second.errors), second.errors
    assert f"pid {owner.pid}" in second.errors
    ago = re.search(r"since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d, (-?[\d.]+) (s|min|h) ago", second.errors)
    assert ago, second.errors
    assert float(ago[1]) >= 0


def check_order(sweep):
    """Runs in the order of their numbers, trials by their score, points by their steps, for us and for TensorBoard."""
    runs = lab.read(sweep.logdir).runs
    assert [run.name for run in runs] == [f"run-{number:04d}" for number in range(TRIALS)]
    _, rows = lines_of_top(sweep)
    ranked = [row["hparams"]["x"] for row in rows]
    assert ranked == [x for x in range(TRIALS) if x not in sweep.expect] + [*sweep.expect]
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(sweep.logdir)).Reload()
    for run in runs:
        steps = [event.step for event in multiplexer.Tensors(run.name, "loss")]
        assert steps == run.scalars("loss").steps.tolist() == list(range(POINTS)), run.name


def check_durations(sweep):
    """Of every run, and between its points; the longest."""
    runs = lab.read(sweep.logdir).runs
    for run in runs:
        assert run.started <= run.ended, (run.name, run.started, run.ended)
        assert SECONDS / 2 < run.seconds < LONGEST, (run.name, run.seconds)
        times = run.scalars("loss").wall_times.tolist()
        assert times == sorted(times), run.name
        assert run.started <= times[0] <= times[-1] <= run.ended, run.name
    return max(run.seconds for run in runs)


JUMPS = {
    "a year forward, and right again": (0, YEAR, 0),
    "a year forward for good": (0, YEAR, YEAR),
    "a year back in mid-sweep": (0, -YEAR, -YEAR),
    "a year ahead, then right": (YEAR, 0, 0),
    "an hour back, and another": (0, -3600, -7200),
    "two minutes back, and forth": (0, -120, 0),
}


@pytest.mark.parametrize("jump", one_quick(scaled([*JUMPS], [*JUMPS][:3])))
def test_a_clock_that_is_set_changes_no_order_and_no_duration(tmp_path, figure, shim, jump):
    figures = figure(f"clock set: {jump}", "order right, durations >= 0", sweeps=0)
    longest, faults = [], Faults()
    for number in range(scaled(3, 1)):
        sweep, found = swept(tmp_path / str(number), shim, *JUMPS[jump])
        faults += found
        check_order(sweep)
        longest.append(check_durations(sweep))
        figures["sweeps"] += 1
    figures.update(faults.counts, **{"longest run, s": round(max(longest), 2)})
    assert not faults, faults.by_kind
