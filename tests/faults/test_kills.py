"""The runner killed with SIGKILL at random moments, and begun again: nothing lost, nothing done twice."""

import contextlib
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from faults.harness import Faults, Sweep, random_of, scaled, wait_until

SWEEPS, TRIALS, KILLS = scaled(60, 2), 30, 5
AT_ONCE = 2


def killed_and_resumed(directory, number):
    """A sweep that was killed so many times: what does not hold, the kills, the slowest end of its processes."""
    rng = random_of("kills", number)
    kills = tries = 0
    with Sweep(directory / f"sweep-{number}", TRIALS) as sweep:
        while kills < KILLS and tries < 5 * KILLS:
            tries += 1
            kills += sweep.kill_at_random(rng, parts=KILLS - kills)
        sweep.complete()
        return sweep.faults(), kills, sweep.slowest_end


def test_a_runner_killed_at_random_loses_nothing_and_repeats_nothing(tmp_path, figure):
    figures = figure(
        f"SIGKILL of the runner at random: {SWEEPS} sweeps x {TRIALS} trials x {KILLS} kills",
        "0 lost, 0 finished twice, 0 without a terminal state",
    )
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = [*pool.map(lambda number: killed_and_resumed(tmp_path, number), range(SWEEPS))]
    faults = sum((faults for faults, _, _ in found), Faults())
    figures.update(faults.counts, kills=sum(kills for _, kills, _ in found))
    figures["slowest end of the last process, s"] = round(max(slowest for _, _, slowest in found), 2)
    assert not faults, f"{faults.by_kind} in {tmp_path}"
    assert figures["kills"] == SWEEPS * KILLS


OTHERS = scaled(20, 2)


def others_killed(directory, number):
    """A sweep some of whose processes, other than the runner, are killed: what does not hold, and the kills."""
    rng = random_of("others", number)
    with Sweep(directory / f"others-{number}", TRIALS, options=["--retries", "5"]) as sweep:
        runner, killed = sweep.start(), []
        for wanted in sorted(rng.sample(range(1, TRIALS - 2), 4)):
            assert wait_until(lambda wanted=wanted: runner.is_over or sweep.begun() >= wanted)
            time.sleep(rng.uniform(0, 0.05))
            if others := sorted({*sweep.processes} - {runner.pid}):
                victim = rng.choice(others)
                killed.append(victim)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
        sweep.settle(runner, 120)
        if runner.process.returncode not in (0, 1, 2):
            return Faults(unended=[f"{runner.process.returncode}: {runner.errors[-500:]}"]), len(killed)
        sweep.complete()
        return sweep.faults(), len(killed)


@pytest.mark.slow
def test_a_sweep_outlives_the_other_processes_of_it(tmp_path, figure):
    figures = figure(
        f"SIGKILL of the fork server, its keeper or a run at random: {OTHERS} sweeps x {TRIALS} trials x 4 kills",
        "as the first row (with --retries 5)",
    )
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = [*pool.map(lambda number: others_killed(tmp_path, number), range(OTHERS))]
    faults = sum((faults for faults, _ in found), Faults())
    figures.update(faults.counts, kills=sum(kills for _, kills in found))
    assert not faults, f"{faults.by_kind} in {tmp_path}"
    assert figures["kills"] >= 3 * OTHERS
