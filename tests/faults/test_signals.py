"""Ctrl-C once and twice, SIGTERM, SIGHUP, at any moment: the exit code, how soon, and nothing left behind."""

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
from tiers import one_quick

from faults.harness import Faults, Sweep, allowed, random_of, scaled, wait_until

TIMES = scaled(20, 4)
TRIALS = 8
SECONDS = allowed(5.0)
AT_ONCE = 2

STUBBORN = """
def during(run, x):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    subprocess.Popen(["sleep", "300"])
    end = time.monotonic() + 300
    while not (HERE / "go").exists() and time.monotonic() < end:
        time.sleep(0.02)
"""
STARTING, GETTING_READY, RUNNING, STUBBORNLY = "starting", "getting ready", "running", "ignoring signals"
CODES = {"SIGINT once": 130, "SIGINT twice": 130, "SIGTERM": 143, "SIGHUP": 129}


@dataclass
class Found:
    """What came of one round."""

    faults: Faults
    wrong: list[str]
    seconds: float
    slowest_end: float


def arrive(sweep, runner, moment, rng):
    """Wait until the moment has come."""
    if moment == STARTING:
        time.sleep(rng.uniform(0, 0.4))
    elif moment == GETTING_READY:
        assert wait_until(lambda: runner.is_over or len(sweep.processes) > 1)
        time.sleep(rng.uniform(0, 0.3))
    else:
        wanted = rng.randint(1, TRIALS // 2) if moment == RUNNING else sweep.workers
        assert wait_until(lambda: runner.is_over or sweep.begun() >= wanted)
        time.sleep(rng.uniform(0, 0.05))


def signalled(directory, what, number):
    """One round: begin, signal, look, go on to the end."""
    rng = random_of("signals", what, number)
    moment = (STARTING, GETTING_READY, RUNNING, RUNNING if what == "SIGINT once" else STUBBORNLY)[number % 4]
    more = STUBBORN if moment == STUBBORNLY else ""
    wrong = []
    seconds = 0.5 if what == "SIGINT twice" and number % 8 < 4 else 0.05  # else all may be over between the two
    with Sweep(directory / f"{what.replace(' ', '-')}-{number}", TRIALS, seconds, more) as sweep:
        runner = sweep.start()
        arrive(sweep, runner, moment, rng)
        sent = time.monotonic()
        runner.send(signal.Signals[what.split()[0]])
        if what == "SIGINT twice":
            wait_until(lambda: runner.is_over or "waiting for" in runner.out, 0.3)
            time.sleep(rng.uniform(0.02, 0.1))
            sent = time.monotonic()
            runner.send(signal.SIGINT)
        in_time = wait_until(lambda: runner.is_over, SECONDS)
        seconds = time.monotonic() - sent
        if not in_time:
            wrong.append(f"it is still there after {SECONDS:.0f} s")
            sweep.kill_all()
        sweep.settle(runner)
        wrong += odd_of(sweep, runner, what, moment) if in_time else []
        (sweep.directory / "go").touch()
        begun = sweep.ledger
        sweep.complete()
        if what == "SIGINT once":
            wrong += [f"{e.name} was let finish, and is begun again" for e in sweep.ledger[len(begun) :] if e in begun]
        where = f"{what}, {moment}, round {number} in {sweep.directory}: "
        return Found(sweep.faults(), [where + line for line in wrong], seconds, sweep.slowest_end)


def odd_of(sweep, runner, what, moment):
    """What is odd about the end: the exit code, what was said, the runs' outcomes."""
    code = runner.process.returncode
    outcomes = {str(run.outcome) for run in sweep.read().runs} if sweep.begun() else set()
    codes = {CODES[what]}
    if moment == STARTING:  # before there is a handler the system ends the program, or Python's own start fails
        codes |= {128 - CODES[what]} if "hparams_lab/" in runner.errors else {128 - CODES[what], 1}
    if outcomes == {"completed"} and what == "SIGINT twice":  # the second came when all had been let finish
        codes.add(-signal.SIGINT)
    if sweep.begun() == TRIALS and outcomes == {"completed"}:  # all was done when the signal came
        codes.add(0)
    if code not in codes:
        yield f"it ended with {code}, said {runner.errors[-300:]!r}"
    if moment != STARTING and "Traceback" in runner.errors:
        yield f"it said {runner.errors[-300:]!r}"
    if extra := outcomes - ({"completed"} if what == "SIGINT once" else {"completed", "interrupted"}):
        yield f"runs are {', '.join(extra)}"
    if what == "SIGINT once" and sweep.under_way():
        yield f"{sweep.under_way()} were not let finish"


@pytest.mark.parametrize("what", one_quick(CODES))
def test_a_signal_ends_the_sweep_in_time_and_leaves_nothing_behind(what, tmp_path, figure):
    figures = figure(
        f"{what}: {TIMES} times, each 4th while it starts, gets ready, trains, and trains what ignores signals",
        f"exit code {CODES[what]}, at most 5 s, no child after 2 s, resumable",
    )
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = [*pool.map(lambda number: signalled(tmp_path, what, number), range(TIMES))]
    faults = sum((one.faults for one in found), Faults())
    wrong = [line for one in found for line in one.wrong]
    figures.update(faults.counts, wrong=len(wrong))
    figures["slowest exit, s"] = round(max(one.seconds for one in found), 2)
    figures["slowest end of the last process, s"] = round(max(one.slowest_end for one in found), 2)
    assert not wrong, "\n".join(wrong)
    assert not faults, f"{faults.by_kind} in {tmp_path}"
