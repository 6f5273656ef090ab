"""Trials that fail in every way: the others are not touched, each is told by what it was, and nothing of it stays."""

import os
import time
from collections import defaultdict
from pathlib import Path

import pytest

from faults.harness import Sweep, scaled, sessions, wait_until
from hparams_lab.logdir.run_reader import event_files

EACH = scaled(5, 1)
OUTCOMES = {
    "killed": "crashed",
    "segmentation fault": "crashed",
    "exit": "crashed",
    "exception": "failed",
    "hang": "timed out",
    "stubborn": "timed out",
    "memory": "out of memory",
    "memory error": "out of memory",
}
TRIALS = 5 * EACH * len(OUTCOMES)
FAULTY = (
    f"""
import ctypes, resource
KINDS = {[*OUTCOMES]}
"""
    + """
def during(run, x):
    if x % 5:
        return
    kind = KINDS[x // 5 % len(KINDS)]
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    subprocess.Popen(["sleep", "300"])
    subprocess.Popen(["sleep", "300"], start_new_session=True)
    if kind == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif kind == "segmentation fault":
        ctypes.string_at(0)
    elif kind == "exit":
        os._exit(0)
    elif kind == "exception":
        raise ValueError(f"no good: {x}")
    elif kind in ("hang", "stubborn"):
        if kind == "stubborn":
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
        while True:
            time.sleep(1)
    elif kind == "memory":
        kept = bytearray(2**29)  # 512 MB, of 256 that it may have
        kept[::4096] = bytes(len(kept[::4096]))  # where only what is used counts
        time.sleep(60)
    elif kind == "memory error":
        raise MemoryError
"""
)


def kind_of(x):
    """How trial x fails; empty for a good one."""
    return [*OUTCOMES][x // 5 % len(OUTCOMES)] if x % 5 == 0 else ""


def parents():
    """The parent of every process, zombies too."""
    found = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            found[int(name)] = int(Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    return found


def descriptors(pid):
    """How many a process has open."""
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0


class Watch:
    """The processes that live through the whole sweep, and the children and descriptors that each had, as time went."""

    def __init__(self, sweep, runner):
        self.sweep, self.runner = sweep, runner
        self.children, self.descriptors = defaultdict(list), defaultdict(list)

    def until_it_is_over(self):
        """Look every now and then, from the first trial on."""
        assert wait_until(lambda: self.runner.is_over or self.sweep.begun())
        while not self.runner.is_over:
            of, runs = parents(), {entry.pid for entry in self.sweep.ledger}
            for pid in {self.runner.pid, *self.sweep.processes} & set(of) - runs:
                self.children[pid].append(sum(parent == pid for parent in of.values()))
                self.descriptors[pid].append(descriptors(pid))
            time.sleep(0.05)

    def grown(self, counts):
        """By how much the least that a process had grew, from the first third of the time to the last.

        What is left over is there for good; the most depends on which runs happened to be under way at once.
        """
        looks = len(counts[self.runner.pid])
        lasting = [seen for seen in counts.values() if len(seen) > 0.9 * looks]
        third = looks // 3
        return max(min(seen[-third:]) - min(seen[:third]) for seen in lasting)


@pytest.mark.slow
def test_the_good_trials_finish_and_each_faulty_one_is_told_by_what_it_was(tmp_path, figure):
    figures = figure(
        f"{TRIALS} trials, 20 % faulty: {', '.join(OUTCOMES)}",
        f"the {4 * TRIALS // 5} good finish, every outcome named right, no child or descriptor left",
    )
    expect = {x: OUTCOMES[kind_of(x)] for x in range(TRIALS) if kind_of(x)}
    limits = ["--timeout", "4s", "--memory", "256MB"]
    with Sweep(tmp_path / "sweep", TRIALS, more=FAULTY, options=limits, expect=expect) as sweep:
        runner = sweep.start()
        watch = Watch(sweep, runner)
        watch.until_it_is_over()
        code = runner.end()
        sweep.settle(runner)
        faults, runs = sweep.faults(), sweep.read().runs
        said = {run.hparams["x"]: str(run.outcome) for run in runs}
        named = sum(said.get(x) == outcome for x, outcome in expect.items())
        statuses = {run.name: (str(run.outcome), sessions(event_files(run.dir)[0])[1]) for run in runs}
        odd = {name: found for name, found in statuses.items() if (found[1] == [1]) != (found[0] == "completed")}
        figures.update(faults.counts, good=sum(said.get(x) == "completed" for x in range(TRIALS) if not kind_of(x)))
        figures.update({"named right": f"{named} of {len(expect)}", "status odd": len(odd)})
        figures["children more"], figures["descriptors more"] = map(watch.grown, (watch.children, watch.descriptors))
        assert not faults, f"{faults.by_kind} in {tmp_path}"
        assert not odd
        assert code == 1
        assert figures["children more"] <= 1
        assert figures["descriptors more"] <= 3
        sweep.complete(codes=[1])  # what failed is done
        assert sweep.begun() == TRIALS
        assert not sweep.faults(), sweep.faults().by_kind


ATTEMPTS = """
import resource

def during(run, x):
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    before = sum(line.split()[0] == run.name and line.split()[3] == "begin" for line in open(HERE / "ledger")) - 1
    print(f"attempt {before + 1} of x = {x}", flush=True)
    if x == 1:
        raise ValueError("it always fails")
    if (x == 2 and before < 1) or (x == 3 and before < 2) or x == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    if x == 5:
        time.sleep(300)
    if x == 6:
        raise MemoryError
    if x == 7 and before < 1:
        os._exit(0)
"""


def test_only_crashes_are_tried_again_and_the_attempts_are_recorded(tmp_path, figure):
    figures = figure("--retries 2", "crashes are tried again, exceptions and limits are not; the attempts are recorded")
    expect = {1: "failed", 4: "crashed", 5: "timed out", 6: "out of memory"}
    options = ["--retries", "2", "--timeout", "4s"]
    with Sweep(tmp_path / "sweep", 9, more=ATTEMPTS, options=options, expect=expect) as sweep:
        sweep.complete(codes=[1])
        attempts = {0: 1, 1: 1, 2: 2, 3: 3, 4: 3, 5: 1, 6: 1, 7: 2, 8: 1}
        runs = {run.hparams["x"]: run for run in sweep.read().runs}
        begun = [entry.name for entry in sweep.ledger if entry.word == "begin"]
        assert {x: begun.count(run.name) for x, run in runs.items()} == attempts
        for x, run in runs.items():
            outputs = [f"output-{number}.log" for number in range(1, attempts[x])]
            assert sorted(path.name for path in run.dir.glob("output*.log")) == [*outputs, "output.log"]
            for number, name in enumerate([*outputs, "output.log"], 1):
                assert f"attempt {number} of x = {x}" in (run.dir / name).read_text()
            recorded = run.texts.get("run/attempts", "")
            assert [name for name in outputs if name not in recorded] == []
            assert recorded.count("crashed") == len(outputs), recorded
            assert bool(recorded) == bool(outputs)
        faults = sweep.faults()
        figures.update(faults.counts, attempts=len(begun))
        assert not faults, faults.by_kind
