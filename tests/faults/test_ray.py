"""Ray on this machine: workers, nodes and drivers killed while `hparams-lab run --executor ray` goes on.

The cluster has a head without CPUs, which cannot be lost, and nodes with one CPU each (further raylets), which can.
"""

import contextlib
import importlib.util
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from pathlib import Path

import pytest
from clusters import above, closed, is_there, silent
from tiers import one_quick

from faults.harness import Sweep, allowed, marked, random_of, scaled, wait_until

pytestmark = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs Ray")

TRIALS, SECONDS = scaled(30, 8), 0.6
ASKED = "0 lost, 0 finished twice, 0 without a terminal state"

# A cluster that adds a node for each line that it reads, and says which process that is.
CLUSTER = """
import sys
from ray.cluster_utils import Cluster

quiet = {"include_dashboard": False, "temp_dir": sys.argv[1]}
soon = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 3}
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "_system_config": soon, **quiet})
print(cluster.address, flush=True)
for line in sys.stdin:
    node = cluster.add_node(num_cpus=1, **quiet)
    print(node.all_processes["raylet"][0].process.pid, flush=True)
"""

# Trials do not end while there is a file of this name.
GATE = """
def during(run, x):
    while (HERE / "gate").exists():
        time.sleep(0.01)
"""


class Cluster:
    """Ray on this machine, that asks for a token."""

    def __init__(self, said):
        self.marker = uuid.uuid4().hex
        self.environment = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        self._files = tempfile.TemporaryDirectory(prefix="lab-", dir="/tmp", ignore_cleanup_errors=True)
        Path(self._files.name, "ray").mkdir()  # where it notes its address; /tmp/ray is that of another
        self._said = open(said, "wb")  # noqa: SIM115 - closed in close()
        self._process = subprocess.Popen(
            [sys.executable, "-c", CLUSTER, self._files.name],
            env={**os.environ, **self.environment, "MARKER": self.marker, "RAY_TMPDIR": self._files.name},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
        )
        self.address = self._process.stdout.readline().strip()
        self.nodes = []

    def has_nodes(self, count):
        """See that so many nodes are alive; whoever of them was killed is replaced."""
        self.nodes = [pid for pid in self.nodes if is_there(pid)]
        while len(self.nodes) < count:
            self._process.stdin.write("another\n")
            self._process.stdin.flush()
            self.nodes.append(int(self._process.stdout.readline()))
        return self

    def close(self):
        """Kill all of it: what Ray's processes have made of their environments does not hide those below them."""
        left = {pid for root in marked(self.marker) for pid in (root, *below(root))}
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.communicate()
        self._said.close()
        assert wait_until(lambda: not any(map(is_there, left)), 60)
        self._files.cleanup()


def below(pid):
    """The processes below one."""
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in (thread / "children").read_text().split():
                yield int(child)
                yield from below(int(child))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    made = Cluster(tmp_path_factory.mktemp("cluster") / "said")
    yield made
    made.close()


@pytest.fixture
def swept(cluster, tmp_path, monkeypatch):
    """A sweep on a cluster of two nodes."""
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    cluster.has_nodes(2)
    options = ["--executor", "ray", "--ray-address", cluster.address]
    with Sweep(tmp_path / "sweep", TRIALS, SECONDS, GATE, options=options) as sweep:
        yield sweep


def node_of(pid):
    return next((one for one, name in above(pid) if "raylet/raylet" in name), None)


def worker_of(pid):
    return next(one for one, name in above(pid) if name.startswith("ray::"))


def has_begun(sweep, runner, count):
    """Wait until so many runs have begun."""
    assert wait_until(lambda: runner.is_over or sweep.begun() >= count, 60)
    assert not runner.is_over, runner.errors


def one_under_way(sweep, but=()):
    """The name and the process of a run that has just begun, so that it does not end before it can be killed."""
    seen = {*sweep.under_way()}

    def found():
        return [(name, pid) for pid, name in sweep.under_way().items() if pid not in seen and name not in but]

    assert wait_until(found, 60)
    return found()[0]


def kill_with_all_below(top):
    """Kill a process as the death of its machine does, and wait until it is gone."""
    for pid in [top, *below(top)]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert wait_until(lambda: not is_there(top), 60)


def done_again(sweep):
    """The runs that were begun more than once; each says so."""
    begun = Counter(entry.name for entry in sweep.ledger if entry.word == "begin")
    again = {name for name, times in begun.items() if times > 1}
    assert again == {run.name for run in sweep.read().runs if "run/attempts" in run.texts}
    return again


def reasons(runner):
    """Why runs were done again, as the runner said."""
    found = re.findall(r"^run-\d+ interrupted: (.*); trying again, attempt 2$", runner.out, re.MULTILINE)
    assert found, runner.out
    return {*found}


@pytest.mark.slow
def test_runs_of_workers_that_are_killed_are_done_again(swept, figure):
    kills = scaled(5, 1)
    figures = figure(f"Ray: {kills} workers killed in a sweep of {TRIALS}", ASKED)
    rng, killed = random_of("ray", "workers"), []
    runner = swept.start()
    for wanted in sorted(rng.sample(range(2, TRIALS - 2), kills)):
        has_begun(swept, runner, wanted)
        time.sleep(rng.uniform(0, SECONDS / 2))
        name, pid = one_under_way(swept, but=killed)
        os.kill(worker_of(pid), signal.SIGKILL)
        killed.append(name)
        assert wait_until(lambda pid=pid: not is_there(pid), 60)
    assert runner.end(180) == 0, runner.errors
    swept.settle(runner)
    faults, again = swept.faults(), done_again(swept)
    figures.update(faults.counts, killed=len(killed), **{"done again": len(again)})
    assert not faults, f"{faults.by_kind} in {swept.directory}"
    assert again
    assert again <= {*killed}
    assert reasons(runner) == {"Ray's worker that carried it died, or its node"}


@pytest.mark.slow
def test_runs_of_a_node_that_is_killed_are_done_again_and_another_is_made_use_of(cluster, swept, figure):
    figures = figure(f"Ray: a node killed in a sweep of {TRIALS}, and another begun", ASKED)
    gate = swept.directory / "gate"
    gate.touch()
    runner = swept.start()
    has_begun(swept, runner, 2)
    pid, lost = swept.under_way().popitem()
    kill_with_all_below(node_of(pid))
    cluster.has_nodes(2)
    has_begun(swept, runner, 3)
    assert node_of(swept.ledger[-1].pid) == cluster.nodes[-1]
    gate.unlink()
    assert runner.end(180) == 0, runner.errors
    swept.settle(runner)
    faults, again = swept.faults(), done_again(swept)
    figures.update(faults.counts, **{"done again": len(again)})
    assert not faults, f"{faults.by_kind} in {swept.directory}"
    assert again == {lost}
    assert reasons(runner) <= {"Ray's worker that carried it died, or its node", "the node that it ran on was lost"}


@pytest.mark.slow
def test_a_runner_that_is_killed_goes_on_where_it_was(swept, figure):
    kills = scaled(5, 1)
    figures = figure(f"Ray: the driver killed {kills} times in a sweep of {TRIALS}, and resumed", ASKED)
    rng = random_of("ray", "driver")
    killed, slowest = 0, 0.0
    while killed < kills:
        killed += swept.kill_at_random(rng, start_up=4, jitter=SECONDS, parts=kills - killed)
        began = time.monotonic()
        begun = [entry.pid for entry in swept.ledger]
        gone = wait_until(lambda begun=begun: not any(map(is_there, begun)), allowed(2.0))
        assert gone, "runs go on without their runner"
        slowest = max(slowest, time.monotonic() - began)
    swept.complete()
    faults = swept.faults()
    figures.update(faults.counts, kills=killed, **{"slowest end of a run in the cluster, s": round(slowest, 2)})
    assert not faults, f"{faults.by_kind} in {swept.directory}"


@pytest.mark.slow
def test_a_stopped_sweep_leaves_no_run_in_the_cluster(swept):
    runner = swept.start()
    has_begun(swept, runner, 2)
    runner.send(signal.SIGTERM)
    assert runner.end(allowed(5.0)) == 143
    assert not any(is_there(entry.pid) for entry in swept.ledger)
    swept.settle(runner)
    swept.complete()
    faults = swept.faults()
    assert not faults, f"{faults.by_kind} in {swept.directory}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ["--cpus-per-run", "64"],
            "no node of the Ray cluster has the 64 CPUs that a run asks for; the largest has 1 CPUs",
        ),
        (["--gpus", "all"], "--gpus all: no node of the Ray cluster has a GPU; leave it out, or say --gpus none"),
    ],
)
def test_what_the_cluster_does_not_have_is_said(swept, options, said):
    runner = swept.start(*options)
    assert runner.end(60) == 2
    assert runner.errors.startswith(f"error: {said}")
    assert runner.errors.count("\n") == 1
    assert not swept.logdir.exists()


@pytest.mark.parametrize("place", one_quick([closed, silent]))
def test_an_address_without_a_cluster_is_one_line(place, tmp_path):
    with (
        place() as address,
        Sweep(tmp_path / "sweep", options=["--executor", "ray", "--ray-address", address]) as sweep,
    ):
        runner = sweep.start()
        assert runner.end(allowed(10.0)) == 2
        assert runner.errors.startswith(f"error: no Ray cluster answers at --ray-address {address} (")
        assert (runner.errors.count("\n"), runner.out) == (1, "")
        assert (sweep.processes, sweep.logdir.exists()) == ([], False)
