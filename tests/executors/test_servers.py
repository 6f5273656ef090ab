"""The ends of a fork server, and what must not be one: real servers, killed, left alone, refused their forks."""

import contextlib
import errno
import multiprocessing
import operator
import os
import signal
import subprocess
import sys
import threading
import time
from multiprocessing import Pipe, shared_memory
from pathlib import Path

import cloudpickle
import pytest

import hparams_lab as lab
from hparams_lab.core.errors import ExecutorError
from hparams_lab.core.trial import RunSpec, Trial
from hparams_lab.executors import Resources, make_executor, process, server
from hparams_lab.executors import ray as ray_executor
from hparams_lab.executors.keeper import descendants
from hparams_lab.executors.protocol import Ended, Job, Setup
from hparams_lab.executors.server import ServerHandle
from hparams_lab.logdir.run_reader import read_run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")

HANGS = 90.0
"""Seconds that only what waits in vain takes."""
HUNG = "a fork hung: something ran while the domain was loaded"
EXPERIMENT = lab.Experiment([lab.HParam("x", lab.Discrete([1, 2, 3, 4]))], [lab.Metric("loss")])


def trains(run):
    return {"loss": 0.5}


class Target:
    """A train function; loading it first calls `loading` in the server."""

    preload = ()

    def __init__(self, train, loading=None):
        self.train, self.loading = train, loading

    def load(self):
        if self.loading is not None:
            self.loading()
        return self.train


def setup_of(train, loading=None):
    return Setup(Target(train, loading), EXPERIMENT)


def job_in(root, index):
    spec = RunSpec.of(Trial.of(index, {"x": index}), sweep_seed=7)
    (root / spec.name).mkdir()
    return Job(spec, root / spec.name)


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def eventually(holds, seconds=20.0):
    end = time.monotonic() + seconds
    while not (found := holds()) and time.monotonic() < end:
        time.sleep(0.01)
    return found


def ends(executor, count):
    """The next ends of runs by name."""
    found = []
    end = time.monotonic() + 20
    while len(found) < count and time.monotonic() < end:
        found += executor.wait(0.1)
    return {ended.name: ended for ended in found}


@contextlib.contextmanager
def started(setup, workers=1):
    executor = make_executor("process", Resources(workers=workers, gpus="none"))
    try:
        executor.start(setup, lambda *_: None)
        yield executor
    finally:
        executor.stop()


@contextlib.contextmanager
def serving(setup):
    """A server that is ready: the handle, and the process ids of its keeper and of itself."""
    handle = ServerHandle({}, lambda: False)
    try:
        handle.begin_start(cloudpickle.dumps(setup), None, None)
        handle.answer()
        keeper = handle._process.pid
        (pid,) = descendants(keeper)
        yield handle, keeper, pid
    finally:
        handle.close()


@contextlib.contextmanager
def forked():
    """A fork of this process that does nothing, with a copy of all that is open."""
    pid = os.fork()
    if pid == 0:
        while True:
            signal.pause()
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@pytest.mark.parametrize("ask", ["describe", "start"])
def test_a_server_that_dies_before_it_has_heard_all_leaves_its_last_words(ask, tmp_path):
    """More than the socket holds: who sends it is still at it when the server is gone."""
    handle = ServerHandle({"PYTHONHOME": str(tmp_path)}, lambda: False)
    large = 10_000_000
    said = r"^the process that forks the runs did not get ready; its last words: (?!\(none\)).+"
    with pytest.raises(ExecutorError, match=said):
        handle.describe("x" * large) if ask == "describe" else handle.begin_start(bytes(large), None, None)
    assert handle.control is None


def test_a_server_that_cannot_be_started(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(ExecutorError, match=r"^the process that forks the runs could not be started: .*/python'$"):
        ServerHandle({}, lambda: False).begin_start(b"", None, None)


def test_a_run_is_told_of_a_dead_server_by_oserror(tmp_path):
    with serving(setup_of(trains)) as (handle, keeper, _):
        os.kill(keeper, signal.SIGKILL)
        handle._process.wait()
        assert eventually(lambda: handle.exits() is None)
        with pytest.raises(OSError, match="Broken pipe"):
            handle.signal("run-0000", signal.SIGTERM)


def test_a_fork_of_the_runner_does_not_keep_a_server(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "STOP_SECONDS", HANGS)
    with serving(setup_of(trains)) as (handle, keeper, pid), forked():
        began = time.monotonic()
        handle.close()
        assert time.monotonic() - began < HANGS
        assert not is_alive(keeper)
        assert not is_alive(pid)


def test_a_fork_of_the_runner_does_not_end_its_server(tmp_path):
    """One that leaves the block of the sweep by an exception."""
    with serving(setup_of(trains)) as (handle, _, pid):
        child = os.fork()
        if child == 0:
            try:
                handle.close()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        ours, theirs = Pipe()
        with ours, theirs:
            handle.run(job_in(tmp_path, 1), theirs, anew=False)
            found = []
            assert eventually(lambda: found.extend(handle.exits() or []) or found)
        assert [(exit.name, exit.code) for exit in found] == [("run-0001", 0)]
        assert is_alive(pid)


@pytest.mark.slow
def test_a_fork_of_the_runner_does_not_keep_ray(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setattr(ray_executor, "END_SECONDS", HANGS)
    executor = make_executor("ray", Resources(workers=1, gpus="none"))
    try:
        executor.start(setup_of(trains), lambda *_: None)
        driver = executor._driver.pid
        below = descendants(driver)
        with forked():
            began = time.monotonic()
            executor.stop()
            assert time.monotonic() - began < HANGS
            assert not [pid for pid in (driver, *below) if is_alive(pid)]
    finally:
        executor.stop()


@pytest.mark.parametrize(("name", "call"), [("fork", 3), ("posix_spawn", 2)])
def test_a_process_that_cannot_be_begun_is_its_runs_trouble_alone(tmp_path, name, call):
    """The system refuses the second run, as at the limit of processes. The first fork is for `check`."""

    def refuse_one():
        begin, calls = getattr(os, name), []

        def refusing(*args, **options):
            calls.append(args)
            if len(calls) == call:
                raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            return begin(*args, **options)

        setattr(os, name, refusing)

    with started(setup_of(trains, refuse_one), workers=4) as executor:
        (lane,) = executor._lanes
        lane.forks_hang = name == "posix_spawn"
        jobs = [job_in(tmp_path, index) for index in range(4)]
        for job in jobs:
            executor.submit(job)
        death = "its process exited with code 71 before the run had ended"
        assert ends(executor, 4) == {job.name: Ended(job.name, death if job is jobs[1] else "") for job in jobs}
    log = (jobs[1].directory / "output.log").read_text()
    assert log == "no process could be begun for the run: [Errno 11] Resource temporarily unavailable\n"


def test_a_server_whose_keeper_was_killed_while_it_imported_ends(tmp_path):
    loading, go = tmp_path / "loading", tmp_path / "go"

    def load_slowly():
        loading.touch()
        while not go.exists():
            time.sleep(0.01)

    handle = ServerHandle({}, lambda: False)
    try:
        handle.begin_start(cloudpickle.dumps(setup_of(trains, load_slowly)), None, None)
        assert eventually(loading.exists)
        keeper = handle._process
        (pid,) = descendants(keeper.pid)
        keeper.kill()
        keeper.wait()
        go.touch()
        assert eventually(lambda: not is_alive(pid))
    finally:
        go.touch()
        handle.close()


def test_a_fork_that_is_ready_when_it_is_killed_for_hanging_is_lost(tmp_path, monkeypatch):
    """It may have begun its event file, so nothing else may train in its directory as it is."""
    monkeypatch.setattr(process, "READY_SECONDS", 0.0)
    job = job_in(tmp_path, 1)

    def trains_long(run):
        (run.dir / f"began-{os.getpid()}").touch()
        while True:
            time.sleep(60)

    with started(setup_of(trains_long)) as executor:
        signalled = executor._signal

        def signal_late(running, number):
            assert eventually(lambda: list(job.directory.glob("began-*")))
            signalled(running, number)

        monkeypatch.setattr(executor, "_signal", signal_late)
        executor.submit(job)
        executor._keep_deadlines()  # before its word is read
        assert ends(executor, 1) == {job.name: Ended(job.name, "its fork hung", lost=True)}
        assert len(list(job.directory.glob("began-*"))) == 1


def raises_when_a_child_dies(run):
    """As PyTorch does when a worker of a DataLoader dies; so many stacks make the handler of SIGTERM slow."""

    def deep(frames):
        return deep(frames - 1) if frames else time.sleep(1000)

    def died(*_):
        raise RuntimeError("a worker was killed by signal: Terminated")

    for _ in range(60):
        threading.Thread(target=deep, args=(90,), daemon=True).start()
    signal.signal(signal.SIGCHLD, died)
    workers = [subprocess.Popen(["sleep", "1000"]) for _ in range(2)]
    run.log({"loss": 1.0})
    run.flush()
    (run.dir / "began").touch()
    if run.hparams["x"] == 1:
        workers[0].wait()
        raise RuntimeError("a worker died")
    if run.hparams["x"] == 2:
        with contextlib.suppress(RuntimeError):
            workers[0].wait()
        return {"loss": 0.0}
    try:
        while True:
            time.sleep(0.01)
    finally:
        raise ValueError("nothing to clean up")


def test_what_a_run_raises_because_it_is_stopped_is_no_failure(tmp_path):
    with started(setup_of(raises_when_a_child_dies), workers=3) as executor:
        jobs = [job_in(tmp_path, index) for index in (1, 2, 3)]
        for job in jobs:
            executor.submit(job)
        assert eventually(lambda: all((job.directory / "began").exists() for job in jobs))
        for job in jobs:
            executor.cancel(job.name)
        death = "its process was killed by SIGTERM"
        assert ends(executor, 3) == {job.name: Ended(job.name, death) for job in jobs}
    for job in jobs:
        found = read_run(job.directory, job.name)
        assert (found.ended, found.metrics) == (None, {"loss": 1.0})


def test_after_a_fork_that_hung_until_it_was_stopped_no_other_is_made(tmp_path, monkeypatch):
    """As where a run has less time than a fork has to be ready."""
    monkeypatch.setattr(process, "DOUBT_SECONDS", 0.3)
    hang = tmp_path / "hang"

    def hangs_in_forks():
        os.register_at_fork(after_in_child=lambda: [time.sleep(0.01) for _ in iter(hang.exists, False)])

    first, second, third = (job_in(tmp_path, index) for index in (1, 2, 3))
    with started(setup_of(trains, hangs_in_forks)) as executor:
        executor.submit(first)
        executor.cancel(first.name)  # too early to tell
        assert ends(executor, 1).keys() == {first.name}
        hang.touch()
        executor.submit(second)
        assert executor.wait(process.DOUBT_SECONDS) == []
        executor.cancel(second.name)
        assert ends(executor, 1).keys() == {second.name}
        executor.submit(third)
        assert ends(executor, 1) == {third.name: Ended(third.name)}
        assert [note.partition(";")[0] for note in executor.notes] == [HUNG]


def test_forks_that_hang_are_replaced_by_fresh_interpreters_and_it_is_said_once(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "READY_SECONDS", 0.5)

    hang = tmp_path / "hang"

    def hangs_in_forks():
        os.register_at_fork(after_in_child=lambda: [time.sleep(0.01) for _ in iter(hang.exists, False)])

    jobs = [job_in(tmp_path, index) for index in (1, 2)]
    with started(setup_of(trains, hangs_in_forks), workers=2) as executor:
        hang.touch()
        for job in jobs:
            executor.submit(job)
        assert ends(executor, 2) == {job.name: Ended(job.name) for job in jobs}
        assert [note.partition(";")[0] for note in executor.notes] == [HUNG]


def test_what_loading_the_data_leaves_running_is_not_waited_for():
    def trains_with_helpers(run):
        return {"loss": 0.5}

    def leaves_a_helper():
        if os.fork() == 0:
            time.sleep(90)
            os._exit(0)

    trains_with_helpers.check = leaves_a_helper
    began = time.monotonic()
    with started(setup_of(trains_with_helpers)):
        assert time.monotonic() - began < 60


def leaves_semaphores(run):
    """With a spawned process that waits for it, a semaphore and shared memory by name, then what its trial says."""
    spawn = multiprocessing.get_context("spawn")
    semaphore, memory = spawn.Semaphore(0), shared_memory.SharedMemory(create=True, size=16)
    waiting = spawn.Process(target=operator.methodcaller("acquire"), args=(semaphore,), daemon=True)
    waiting.start()
    (run.dir / "names").write_text(f"sem.{semaphore._semlock.name[1:]} {memory.name.lstrip('/')} {waiting.pid}")
    if run.hparams["x"] == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if run.hparams["x"] == 2:
        os._exit(3)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(60)


def left_by(job):
    """What is left of a run that `leaves_semaphores`, once it has begun to."""
    names = job.directory / "names"
    assert eventually(lambda: names.exists() and len(names.read_text().split()) == 3)
    *files, waiting = names.read_text().split()
    return [name for name in files if Path("/dev/shm", name).exists()] + [waiting] * is_alive(waiting)


@pytest.mark.parametrize("memory", [None, 2**30])
def test_runs_that_are_killed_leave_no_semaphores(tmp_path, memory):
    """The resource tracker, which unlinks them, is killed last: it ends by itself before that."""
    executor = make_executor("process", Resources(workers=3, gpus="none", memory=memory))
    try:
        executor.start(setup_of(leaves_semaphores), lambda *_: None)
        jobs = [job_in(tmp_path, index) for index in (1, 2, 3)]
        for job in jobs:
            executor.submit(job)
        assert len(left_by(jobs[2])) == 3
        executor.cancel(jobs[2].name)
        assert ends(executor, 3).keys() == {job.name for job in jobs}
        assert eventually(lambda: not any(left_by(job) for job in jobs))
    finally:
        executor.stop()


@pytest.mark.parametrize("killed", ["runner", "keeper", "server"])
def test_a_server_that_is_killed_leaves_no_semaphores(tmp_path, killed):
    with serving(setup_of(leaves_semaphores)) as (handle, keeper, pid):
        job = job_in(tmp_path, 3)
        ours, theirs = Pipe()
        with ours, theirs:
            handle.run(job, theirs, anew=False)
            assert len(left_by(job)) == 3
            if killed == "runner":
                handle.close()  # what its end does, whatever it is
            else:
                os.kill({"keeper": keeper, "server": pid}[killed], signal.SIGKILL)
            assert eventually(lambda: not left_by(job))
