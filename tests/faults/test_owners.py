"""Several runners at once in one log directory, and a runner that takes over from one that was killed."""

import re
import signal
import socket
import time

import pytest
from tiers import one_quick

from faults.harness import Faults, Sweep, allowed, random_of, scaled, wait_until

RACES, TAKEOVERS = scaled(50, 4), scaled(20, 2)
TAKEOVER_SECONDS = allowed(5.0)

WAITING = """
def during(run, x):
    end = time.monotonic() + 60
    while not (HERE / "go").exists() and time.monotonic() < end:
        time.sleep(0.01)
"""


def wrong_with(refused, winner):
    """What is wrong with how a runner was refused."""
    code, said = refused.process.returncode, refused.errors
    if code != 2:
        yield f"it ended with {code}: {refused.out[-300:]}{said[-300:]}"
    if said.count("\n") != 1 or not said.startswith("error: "):
        yield f"it did not say one line: {said!r}"
    for what, wanted in {"host": socket.gethostname(), "pid": rf"\b{winner.pid}\b", "since": "since .*[0-9]"}.items():
        if not re.search(wanted, said):
            yield f"it does not name the {what}: {said!r}"


def race(directory, number):
    """So many runners at once in one directory; only one may train. What does not hold, and how many were refused."""
    with Sweep(directory / f"race-{number}", 6, more=WAITING) as sweep:
        runners = [sweep.start() for _ in range(2 + number % 2)]
        wait_until(lambda: sum(runner.is_over for runner in runners) >= len(runners) - 1, 20)
        (sweep.directory / "go").touch()
        for runner in runners:
            runner.end(60)
        winners = [runner for runner in runners if runner.process.returncode == 0]
        if len(winners) != 1:
            return sweep.faults(), [f"{len(winners)} of {len(runners)} worked, in {sweep.directory}"], 0
        refused = [runner for runner in runners if runner is not winners[0]]
        wrong = [line for runner in refused for line in wrong_with(runner, winners[0])]
        sweep.settle(winners[0])
        begun = [entry.name for entry in sweep.ledger if entry.word == "begin"]
        wrong += [f"{name} was begun twice" for name in set(begun) if begun.count(name) > 1]
        return sweep.faults(), wrong, len(refused)


@pytest.mark.slow
def test_of_runners_that_race_for_a_directory_one_works(tmp_path, figure):
    figures = figure(
        f"2 and 3 runners at once on one directory, {RACES} races",
        "0 duplicates; the others are told host, pid and since when, exit code 2",
    )
    found = [race(tmp_path, number) for number in range(RACES)]
    faults = sum((faults for faults, _, _ in found), Faults())
    wrong = [line for _, lines, _ in found for line in lines]
    figures.update(faults.counts, refused=sum(refused for _, _, refused in found), wrong=len(wrong))
    assert not wrong, "\n".join(wrong)
    assert not faults, f"{faults.by_kind} in {tmp_path}"


STUBBORN = """
def during(run, x):
    if not (HERE / "go").exists():
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        subprocess.Popen(["sleep", "300"])
        subprocess.Popen(["sleep", "300"], start_new_session=True)
        time.sleep(300)
"""


def take_over(directory, number):
    """A runner is killed, and the next started at once: how long until that one trains, and what does not hold."""
    rng = random_of("take over", number)
    with Sweep(directory / f"takeover-{number}", 6, more=STUBBORN if number % 2 else "") as sweep:
        killed = sweep.start()
        assert wait_until(lambda: sweep.begun() >= sweep.workers)
        time.sleep(rng.uniform(0, 0.1))
        (sweep.directory / "go").touch()
        killed.send(signal.SIGKILL)
        began, begun = time.monotonic(), sweep.begun()
        following = sweep.start()
        assert wait_until(lambda: following.is_over or sweep.begun() > begun)
        seconds = time.monotonic() - began
        wrong = [] if following.end(60) == 0 else [f"it ended with {following.process.returncode}: {following.errors}"]
        killed.end()
        sweep.settle(following)
        return sweep.faults(), wrong, seconds


@pytest.mark.slow
def test_the_lock_of_a_killed_runner_is_free_at_once(tmp_path, figure):
    figures = figure(f"a stale lock after SIGKILL, {TAKEOVERS} times", "0 duplicates; takeover within 5 s")
    found = [take_over(tmp_path, number) for number in range(TAKEOVERS)]
    faults = sum((faults for faults, _, _ in found), Faults())
    wrong = [line for _, lines, _ in found for line in lines]
    slowest = max(seconds for _, _, seconds in found)
    figures.update(faults.counts, wrong=len(wrong))
    figures["slowest takeover, s"] = round(slowest, 2)
    assert not wrong, "\n".join(wrong)
    assert not faults, f"{faults.by_kind} in {tmp_path}"
    assert slowest <= TAKEOVER_SECONDS


@pytest.mark.parametrize("option", one_quick(["--fresh", "--retry-failed", "--extend"]))
def test_a_directory_in_use_is_left_alone(option, tmp_path):
    with Sweep(tmp_path / "sweep", 4, more=WAITING) as sweep:
        owner = sweep.start()
        assert wait_until(lambda: sweep.begun() >= 2)
        there = sorted(path.name for path in sweep.directory.iterdir())
        refused = sweep.start(option)
        refused.end(30)
        assert [*wrong_with(refused, owner)] == []
        assert [name for name in there if not (sweep.directory / name).exists()] == []
        assert not owner.is_over
        (sweep.directory / "go").touch()
        assert owner.end(60) == 0
        sweep.settle(owner)
        faults = sweep.faults()
        assert not faults, faults.by_kind
        assert sorted(path.name for path in sweep.directory.glob("logs*")) == ["logs"]
