"""A thousand trials that take no time: nothing lost, and what the runner takes for itself."""

import time
from pathlib import Path

from faults.harness import Sweep, allowed, scaled, wait_until

TRIALS = scaled(1000, 200)
GROWN, OVERHEAD, SCAN = 50 * 2**20, allowed(0.050), allowed(2.0)
CALLS = 200
"""Reads and writes of the runner for a trial, at most. It takes about 60."""


def resident(pid):
    """The resident bytes of a process; 0 when it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:")), 0)


def calls(pid):
    """How often a process has read and written so far; 0 when it is gone."""
    try:
        counts = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    except OSError:
        return 0
    return int(counts["syscr"]) + int(counts["syscw"])


def test_a_thousand_trials_are_kept_and_cost_little(tmp_path, figure):
    figures = figure(
        f"{TRIALS} trials of 0 ms", "0 lost; runner grows < 50 MB; overhead <= 50 ms a trial; resume scan <= 2 s"
    )
    with Sweep(tmp_path / "sweep", TRIALS, seconds=0) as sweep:
        runner = sweep.start()
        assert wait_until(lambda: sweep.begun() or runner.is_over)
        began, sizes, called, begun = time.monotonic(), [resident(runner.pid)], calls(runner.pid), sweep.begun()
        each = 0.0
        while not runner.is_over:
            sizes.append(resident(runner.pid))
            if (more := calls(runner.pid) - called) > 0 and sweep.begun() > begun + TRIALS // 2:
                each = more / (sweep.begun() - begun)
            time.sleep(0.05)
        seconds = time.monotonic() - began
        assert runner.end() == 0, runner.errors
        sweep.settle(runner)
        again = sweep.start()
        assert again.end() == 0, again.errors
        scan = time.monotonic() - again.began
        faults = sweep.faults()
        figures.update(faults.counts)
        figures["runner grew by, MB"] = round((max(sizes) - sizes[0]) / 2**20, 1)
        figures["overhead a trial, ms"] = round(1000 * seconds / TRIALS, 1)
        figures["reads and writes a trial"] = round(each)
        figures["resume, from start to exit, s"] = round(scan, 2)
        assert not faults, f"{faults.by_kind} in {tmp_path}"
        assert sweep.begun() == TRIALS
        assert max(sizes) - sizes[0] < GROWN
        assert 0 < each < CALLS
        assert seconds / TRIALS <= OVERHEAD
        assert scan <= SCAN
