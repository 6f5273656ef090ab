"""The Ray executor, called directly: runs on a Ray of its own, and addresses at which none answers.

`test_executors.py` has what every executor does, `faults/test_ray.py` clusters whose parts are killed.
"""

import contextlib
import errno
import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest
from clusters import above, closed, is_there, listening, silent
from faults.harness import marked, wait_until

import hparams_lab as lab
from hparams_lab.core.errors import ExecutorError, LogDirError, MissingExtraError, UsageError
from hparams_lab.core.outcome import Outcome
from hparams_lab.core.trial import RunSpec, Trial
from hparams_lab.executors import Job, Resources, Setup, executor_of, make_executor
from hparams_lab.targets.load import function_domain

HAS_RAY = importlib.util.find_spec("ray") is not None
needs_ray = pytest.mark.skipif(not HAS_RAY, reason="needs Ray")


def completes(run):
    run.log({"loss": 0.5}, step=1)
    return {"accuracy": float(os.environ["OMP_NUM_THREADS"]), "parent": os.getppid()}


def waits(run):
    run.log({"loss": 0.5}, step=1)
    time.sleep(120)


def ignores_sigterm(run):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    waits(run)


def fills_the_disk(run):
    raise OSError(errno.ENOSPC, "No space left on device", "model.keras")


WAYS = {
    "completes": completes,
    "waits": waits,
    "ignores SIGTERM": ignores_sigterm,
    "no room": fills_the_disk,
    "killed": lambda run: os.kill(os.getpid(), signal.SIGKILL),
    "segfault": lambda run: os.kill(os.getpid(), signal.SIGSEGV),
    "out with 0": lambda run: os._exit(0),
    "out with 3": lambda run: os._exit(3),
}
EXPERIMENT = lab.Experiment(
    [lab.HParam("way", lab.Discrete([*WAYS])), lab.HParam("number", lab.IntInterval(0, 10_000))],
    [lab.Metric("accuracy")],
)


def train(run):
    (run.dir / "pid").write_text(str(os.getpid()))
    return WAYS[run.hparams["way"]](run)


class Direct:
    """An executor, and jobs for it."""

    def __init__(self, executor, directory):
        self.executor, self.directory = executor, directory
        self.reports, self.ended, self.number = [], {}, 0
        self.setup = Setup(function_domain(EXPERIMENT, train).target, EXPERIMENT)
        executor.start(self.setup, lambda *said: self.reports.append(said))

    def begin(self, way):
        """Submit a job."""
        spec = RunSpec.of(Trial.of(self.number, {"way": way, "number": self.number}), 5)
        self.number += 1
        job = Job(spec, self.directory / spec.name)
        job.directory.mkdir()
        self.executor.submit(job)
        return job

    def under_way(self, way):
        """Submit a job, and wait until it trains and has reported."""
        job = self.begin(way)
        assert wait_until(lambda: self.look() or any(name == job.name for name, *_ in self.reports), 60)
        return job, int((job.directory / "pid").read_text())

    def look(self, seconds=0.05):
        self.ended.update({ended.name: ended for ended in self.executor.wait(seconds)})

    def end(self, job, seconds=60):
        """How it ended."""
        assert wait_until(lambda: self.look() or job.name in self.ended, seconds)
        return self.ended[job.name]

    def result(self, job):
        return next(run for run in lab.read(self.directory).runs if run.name == job.name)


@pytest.fixture(scope="module")
def direct(tmp_path_factory):
    mark = f"MARK_{uuid.uuid4().hex}"
    os.environ[mark] = "1"
    with executor_of("ray", Resources(workers=2)) as executor:
        yield Direct(executor, tmp_path_factory.mktemp("ray"))
    del os.environ[mark]
    assert marked(mark) == []


@needs_ray
class TestOnARayOfItsOwn:
    @pytest.mark.parametrize(
        ("way", "death"),
        [
            ("killed", "its process was killed by SIGKILL"),
            ("segfault", "its process was killed by SIGSEGV"),
            ("out with 0", ""),
            ("out with 3", "its process exited with code 3 before the run had ended"),
        ],
    )
    def test_a_death_is_told_as_exactly_as_without_ray(self, direct, way, death):
        ended = direct.end(direct.begin(way))
        assert (ended.death, ended.outcome, ended.lost, ended.unsaved) == (death, Outcome.CRASHED, False, "")

    def test_a_run_is_a_fork_of_a_server_that_stays(self, direct):
        jobs = []
        for _ in range(5):
            jobs.append(direct.begin("completes"))
            assert direct.end(jobs[-1]).death == ""
        parents = {direct.result(job).metrics["parent"] for job in jobs}
        assert len(parents) <= direct.executor.slots == 2

    def test_a_run_has_as_many_threads_as_cpus(self, direct):
        job = direct.begin("completes")
        direct.end(job)
        assert direct.result(job).metrics["accuracy"] == 1

    @pytest.mark.parametrize("way", ["waits", "ignores SIGTERM"])
    def test_a_run_that_is_cancelled_is_gone(self, direct, way):
        job, pid = direct.under_way(way)
        direct.executor.cancel(job.name)
        ended = direct.end(job, 60)
        assert not is_there(pid)
        assert (ended.outcome, ended.lost, ended.unsaved) == (Outcome.CRASHED, False, "")
        assert direct.end(direct.begin("completes")).death == ""

    def test_a_full_disk_is_told(self, direct):
        ended = direct.end(direct.begin("no room"))
        assert ended.unsaved.startswith("model.keras cannot be written: No space left on device")

    def test_a_directory_that_the_node_does_not_have_is_an_error(self, direct):
        spec = RunSpec.of(Trial.of(0, {"way": "completes", "number": 0}), 5)
        direct.executor.submit(Job(spec, direct.directory / "elsewhere"))
        with pytest.raises(
            LogDirError, match=r"^the run's directory .*elsewhere is not there; wanted a log directory on"
        ):
            wait_until(direct.look, 30)
        assert direct.end(direct.begin("completes")).death == ""

    def test_a_stranger_without_the_token_is_not_let_in(self, direct, tmp_path):
        """Ray listens on all addresses."""
        job, pid = direct.under_way("waits")
        raylet = next(name for _, name in above(pid) if "raylet/raylet" in name)
        direct.executor.cancel(job.name)
        direct.end(job)
        address = re.search(r"--gcs-address=([\w.:]+)", raylet.replace("\0", "\n"))[1]
        script = f"import ray; ray.init({address!r}); print(ray.get(ray.remote(lambda: 'let in').remote()))"
        environment = {**os.environ, "RAY_AUTH_MODE": "disabled"}
        said = tmp_path / "said"
        with open(said, "wb") as out:
            stranger = subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=out, stderr=out)
        assert wait_until(lambda: "InvalidAuthToken" in said.read_text() or stranger.poll() is not None, 60)
        stranger.kill()
        stranger.wait()
        assert "InvalidAuthToken" in said.read_text()
        assert "let in" not in said.read_text()

    @pytest.mark.parametrize(
        ("what", "death"),
        [
            ("ray::", "Ray's worker that carried it died, or its node"),
            ("forks", "the process that forks the runs died"),
        ],
    )
    def test_a_run_whose_carrier_is_killed_is_lost(self, direct, what, death):
        job, pid = direct.under_way("waits")
        chain = list(above(pid))
        carrier = chain[0][0] if what == "forks" else next(one for one, name in chain if name.startswith(what))
        os.kill(carrier, signal.SIGKILL)
        ended = direct.end(job)
        assert (ended.death, ended.lost) == (death, True)
        assert wait_until(lambda: not is_there(pid), 60)
        assert direct.end(direct.begin("completes")).death == ""

    def test_runs_whose_driver_is_killed_are_lost_and_others_go_on(self, direct):
        jobs = [direct.under_way("waits") for _ in range(2)]
        driver = next(one for one, name in above(jobs[0][1]) if "ray_address" in name)
        os.kill(driver, signal.SIGKILL)
        for job, pid in jobs:
            ended = direct.end(job)
            assert (ended.death, ended.lost) == ("the process that speaks to Ray died", True)
            assert wait_until(lambda pid=pid: not is_there(pid), 60)
        assert direct.end(direct.begin("completes")).death == ""


SCRIPT = """
import os, sys, time
from pathlib import Path
from hparams_lab.executors import Job, Resources, Setup, executor_of
from hparams_lab.targets.load import load_domain
from hparams_lab.core.trial import RunSpec, Trial

with executor_of("ray", Resources(workers=1)) as executor:
    domain = load_domain("waiting.py", describe=executor.describe)
    executor.start(Setup(domain.target, domain.experiment), print)
    spec = RunSpec.of(Trial.of(0, {"x": 1}), 0)
    Path(spec.name).mkdir()
    executor.submit(Job(spec, Path(spec.name).absolute()))
    while not Path("trains").exists():
        executor.wait(0.1)
    began = time.monotonic()
print("stopped in", time.monotonic() - began)
print("imported", *sorted({"ray", "sklearn", "waiting"} & sys.modules.keys()))
"""
WAITING = """
import pathlib, time
import sklearn
import hparams_lab as lab
EXPERIMENT = lab.Experiment([lab.HParam("x", lab.Discrete([1]))], [lab.Metric("accuracy")])
def train(run):
    run.log("accuracy", 1, step=1)
    pathlib.Path("trains").touch()
    time.sleep(120)
"""


@pytest.mark.slow
@needs_ray
def test_the_runner_imports_nothing_and_its_end_is_that_of_all(tmp_path):
    mark = f"MARK_{uuid.uuid4().hex}"
    (tmp_path / "waiting.py").write_text(WAITING)
    (tmp_path / "tmp").mkdir()
    environment = {**os.environ, mark: "1", "TMPDIR": str(tmp_path / "tmp")}
    command = [sys.executable, "-W", "error", "-c", SCRIPT]
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert (ran.returncode, ran.stderr) == (0, "")
    stopped, imported = ran.stdout.splitlines()[-2:]
    assert float(stopped.split()[-1]) < 60  # not the two minutes that the run takes
    assert imported == "imported"
    assert marked(mark) == []
    assert not [*(tmp_path / "tmp").iterdir()]


@needs_ray
def test_who_asks_to_stop_is_heard_while_ray_starts(monkeypatch):
    mark = f"MARK_{uuid.uuid4().hex}"
    monkeypatch.setenv(mark, "1")
    asked = threading.Event()

    def asked_to_stop():
        for pid in marked(mark):
            with contextlib.suppress(OSError):
                if "gcs_server" in Path(f"/proc/{pid}/cmdline").read_text():
                    asked.set()
        return asked.is_set()

    with pytest.raises(KeyboardInterrupt), executor_of("ray", Resources(workers=1), asked_to_stop) as executor:
        executor.describe("digits")
    assert marked(mark) == []


@contextlib.contextmanager
def unreachable():
    """What connects is not answered at all: the queue of the port is full."""
    with listening(backlog=0) as (address, server), contextlib.ExitStack() as stack:
        for _ in range(3):
            knocking = stack.enter_context(socket.socket())
            knocking.setblocking(False)
            knocking.connect_ex(server.getsockname())
        yield address


@contextlib.contextmanager
def web_server():
    with listening() as (address, server):

        def answer():
            with server.accept()[0] as asked:
                asked.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        answering = threading.Thread(target=answer)
        answering.start()
        yield address
        answering.join()


@needs_ray
@pytest.mark.parametrize(
    ("place", "said"),
    [
        (closed, "Connection refused"),
        (silent, "nothing within 4 s"),
        pytest.param(unreachable, "nothing within 4 s", marks=pytest.mark.slow),
        (web_server, "something there that is not Ray"),
    ],
)
def test_an_address_that_does_not_answer_is_an_error_soon(place, said, tmp_path, monkeypatch):
    mark = f"MARK_{uuid.uuid4().hex}"
    monkeypatch.setenv(mark, "1")
    with place() as address:
        began = time.monotonic()
        with pytest.raises(UsageError) as error:
            lab.run_sweep(EXPERIMENT, train, logdir=tmp_path / "logs", executor="ray", ray_address=address)
        assert time.monotonic() - began < 60  # Ray itself takes minutes
    assert str(error.value) == (
        f"no Ray cluster answers at --ray-address {address} ({said}); wanted HOST:PORT of one that runs (ray start "
        "--head prints it), or auto; leave it out for a Ray on this machine alone"
    )
    assert not (tmp_path / "logs").exists()
    assert marked(mark) == []


@needs_ray
@pytest.mark.parametrize(
    ("resources", "message"),
    [
        ({"ray_address": "here"}, r"^--ray-address is 'here'; wanted HOST:PORT, such as 10\.0\.0\.1:6379, or auto$"),
        ({"ray_address": "h:1", "gpus": "0,1"}, r"^--gpus 0,1 names GPUs of one machine; with --ray-address say"),
        ({"ray_address": "h:1", "cpus_per_run": float("nan")}, r"^--cpus-per-run is nan; wanted a number above 0$"),
        ({"ray_address": "h:1", "runs_per_gpu": 0}, r"^--runs-per-gpu is 0; wanted at least 1$"),
        ({"gpus": "7"}, r"^--gpus 7: there is no GPU 7; "),
    ],
)
def test_resources_that_cannot_be(resources, message):
    with pytest.raises(UsageError, match=message), executor_of("ray", Resources(**resources)) as executor:
        executor.describe("digits")


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        MissingExtraError, match=r"^Ray is not installed; bring it with: pip install 'hparams-lab\[ray\]'$"
    ):
        make_executor("ray", Resources())


@pytest.mark.slow
@needs_ray
def test_a_setup_that_kills_who_reads_it(tmp_path):
    class Fatal:
        def __reduce__(self):
            return os._exit, (3,)

    with pytest.raises(ExecutorError, match=r"^the process that forks the runs did not get ready; its last words: "):
        lab.run_sweep(EXPERIMENT, Fatal(), logdir=tmp_path / "logs", executor="ray")
    assert not (tmp_path / "logs").exists()
