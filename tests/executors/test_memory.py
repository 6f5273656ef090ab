"""The memory of a run is limited for real: forked children that allocate, by a control group and by their own limit."""

import contextlib
import errno
import faulthandler
import mmap
import os
import pickle
import signal
import subprocess
import sys
import time
import types
import warnings
from importlib.util import find_spec
from pathlib import Path

import pytest

import hparams_lab as lab
from hparams_lab.core.errors import UsageError
from hparams_lab.core.outcome import Outcome
from hparams_lab.executors import memory
from hparams_lab.executors.memory import MemoryLimit, check_limit, oom_kills, prefer_to_be_killed
from hparams_lab.run.outcome_records import outcome_of

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux limits memory")

MB = 10**6
LIMIT = 100 * MB
REFUSED = 42
PATIENCE = 20.0
WAYS = {"group": True, "own": False}


@pytest.fixture(params=WAYS)
def limit(request):
    """A limit in each of the two ways."""
    yield from made(request.param)


@pytest.fixture
def group():
    """A limit by a control group."""
    yield from made("group")


@pytest.fixture
def own():
    """A limit of each process."""
    yield from made("own")


def made(way):
    found = MemoryLimit.make("run-0000", LIMIT, by_group=WAYS[way])
    if way == "group" and not found.by_group:
        pytest.skip("no control group can be made here")
    yield found
    found.close()


def forked(limit, work):
    """The exit status (negative: the signal) of a child under the limit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads of NumPy's; the child uses none
        pid = os.fork()
    if pid == 0:
        code = 1
        faulthandler.disable()
        try:
            limit.enter()
            work()
            code = 0
        except MemoryError:
            code = REFUSED
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def take(size):
    """Memory that is written to, a bit at a time. It is new: `malloc` would first give what was freed before."""
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    try:
        pieces = [mmap.mmap(-1, MB, private) for _ in range(size // MB)]
    except OSError as error:
        raise MemoryError(error) from None
    for piece in pieces:
        piece[:] = b"x" * MB
    return pieces


def left():
    """The groups of ours that are there."""
    home = memory._own_group()
    return {path.name for path in home[0].glob("hparams-lab-*")} if home else set()


def alive(pid):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def eventually(holds):
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_run_below_its_limit_is_left_alone(limit):
    assert forked(limit, lambda: take(LIMIT // 2)) == 0
    assert not limit.was_exceeded()


def test_a_run_that_takes_too_much_is_killed_in_a_group(group):
    assert forked(group, lambda: take(LIMIT * 3 // 2)) == -signal.SIGKILL
    assert group.was_exceeded()


def test_a_run_that_takes_too_much_is_refused_by_its_own_limit(own):
    assert forked(own, lambda: take(LIMIT * 3 // 2)) == REFUSED
    assert forked(own, lambda: bytearray(20 * LIMIT)) == REFUSED
    assert forked(own, lambda: take(LIMIT // 2)) == 0


def test_an_old_kernel_limits_what_is_reserved_too(own, monkeypatch):
    for release, is_kept in {
        "2.6.32-754": False,
        "4.4.0": False,
        "4.7.0-rc1": True,
        "6.18": True,
        "odd": False,
    }.items():
        monkeypatch.setattr(os, "uname", lambda release=release: types.SimpleNamespace(release=release))
        assert memory._data_limit_is_kept() == is_kept
    assert forked(own, lambda: exec(RESERVES)) == 1
    assert forked(own, lambda: take(LIMIT * 10)) == REFUSED
    assert forked(own, lambda: take(LIMIT // 2)) == 0


RESERVES = "import mmap; mmap.mmap(-1, 2**36, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, 0)"  # 64 GiB, no access


def test_what_is_only_reserved_is_not_counted(limit):
    assert forked(limit, lambda: exec(RESERVES)) == 0


def test_what_the_process_had_before_is_not_counted(limit):
    had = take(LIMIT * 2)
    assert forked(limit, lambda: take(LIMIT // 2)) == 0
    assert len(had)


def with_a_child():
    """Two processes at once that take more than the limit together, neither of them alone."""
    reading, writing = os.pipe()
    pid = os.fork()
    mine = take(LIMIT * 3 // 5)
    if pid == 0:
        os.write(writing, b"!")
        signal.pause()
    os.close(writing)
    other_has_it = os.read(reading, 1) == b"!"  # or it is gone
    os.kill(pid, signal.SIGKILL)
    os._exit(0 if mine and other_has_it else 3)


def test_what_a_run_starts_counts_in_a_group(group):
    forked(group, with_a_child)  # the kernel takes one of the two, which may have been done by then
    assert group.was_exceeded()


def test_each_process_has_its_own_limit_without_a_group(own):
    assert forked(own, with_a_child) == 0
    more = memory._data_now("VmData") + 2 * LIMIT  # the limit that the program inherits counts what this one has
    takes = f"import sys\ntry: bytearray({more})\nexcept MemoryError: sys.exit({REFUSED})"
    assert forked(own, lambda: os.execv(sys.executable, [sys.executable, "-c", takes])) == REFUSED


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_another_death_is_not_for_want_of_memory(limit, number):
    assert forked(limit, lambda: os.kill(os.getpid(), number)) == -number
    assert not limit.was_exceeded()


ABORTS = """
import ctypes
take = ctypes.CDLL("libstdc++.so.6")["_Znwm"]  # operator new, whose exception nobody catches
take.argtypes, take.restype = [ctypes.c_size_t], ctypes.c_void_p
while True:
    take(10**7)
"""


def test_an_allocation_that_fails_in_cplusplus_is_told_by_the_last_words(own, tmp_path):
    log = tmp_path / "output.log"

    def aborts():
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT), 2)
        exec(ABORTS)

    pytest.importorskip("ctypes").CDLL("libstdc++.so.6")
    assert forked(own, aborts) == -signal.SIGABRT
    assert own.was_exceeded(log.read_text())
    assert not own.was_exceeded()
    assert not own.was_exceeded("Segmentation fault")


def test_a_group_is_gone_when_it_is_closed(group):
    (name,) = [name for name in left() if name.startswith(f"hparams-lab-{os.getpid()}-")]
    assert name.endswith("-run-0000")
    forked(group, lambda: take(LIMIT * 3 // 2))
    group.close()
    assert name not in left()
    group.close()


def test_a_limit_goes_to_another_interpreter(limit):
    takes = f"import sys; x = [bytearray(b'x') * {MB} for _ in range({LIMIT * 3 // 2 // MB})]"
    code = f"import pickle, sys; pickle.load(sys.stdin.buffer).enter()\n{takes}"
    environment = {**os.environ, "PYTHONPATH": str(Path(lab.__file__).parents[1])}
    ran = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(limit), env=environment, capture_output=True, check=False
    )
    assert ran.returncode == (-signal.SIGKILL if limit.by_group else 1)
    assert limit.was_exceeded(ran.stderr.decode())
    assert limit.was_exceeded() == limit.by_group


def test_what_a_run_leaves_behind_is_killed_with_its_group(group, tmp_path):
    noted = tmp_path / "pid"

    def leaves_a_process():
        if os.fork() == 0:
            os.setsid()
            noted.write_text(str(os.getpid()))
            signal.pause()
        eventually(lambda: noted.exists() and noted.read_text())

    assert forked(group, leaves_a_process) == 0
    pid = int(noted.read_text())
    assert alive(pid)
    group.close()
    assert not alive(pid)


@contextlib.contextmanager
def another_runner():
    """A process with a group, in which nobody is; its name."""
    code = (
        "from hparams_lab.executors.memory import MemoryLimit\n"
        f"limit = MemoryLimit.make('another', {LIMIT})\n"
        "print(limit._group.name, flush=True)\n"
        "input()"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(lab.__file__).parents[1])}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def test_the_groups_of_a_killed_runner_are_removed_by_the_next(group):
    with another_runner() as (process, name):
        MemoryLimit.make("while it lives", LIMIT).close()
        assert name in left()
        process.kill()
        process.wait()
        assert name in left()
        MemoryLimit.make("later", LIMIT).close()
        assert name not in left()


def test_a_group_that_is_gone_leaves_each_process_its_own_limit(group):
    group._group.rmdir()
    assert forked(group, lambda: take(LIMIT * 3 // 2)) == REFUSED
    assert not group.was_exceeded()


def test_a_group_without_a_memory_controller_is_not_used(tmp_path, monkeypatch):
    for version in (memory._V1, memory._V2):
        monkeypatch.setattr(memory, "_home", lambda version=version: (tmp_path, version))
        found = MemoryLimit.make("run-0000", LIMIT)
        assert not found.by_group
        assert [*tmp_path.iterdir()] == []
        assert forked(found, lambda: take(LIMIT * 3 // 2)) == REFUSED


def test_where_groups_are_not_writable_each_process_has_its_own_limit(not_root, tmp_path):
    with not_root():
        assert forked(MemoryLimit.make("run-0000", LIMIT), lambda: take(LIMIT * 3 // 2)) == REFUSED


def test_a_group_is_found_wherever_its_root_is_mounted(tmp_path):
    (tmp_path / "jobs/7").mkdir(parents=True)
    below = memory._below
    assert below(str(tmp_path), "/", "/jobs/7") == tmp_path / "jobs/7"
    assert below(str(tmp_path), "/docker/abc", "/docker/abc/jobs") == tmp_path / "jobs"
    assert below(str(tmp_path), "/docker/abc", "/docker/abc") == tmp_path
    assert below(str(tmp_path), "/", "/") == tmp_path
    assert below(str(tmp_path), "/docker/abc", "/docker/abcd") is None
    assert below(str(tmp_path), "/", "/../jobs") is None  # of another name space
    assert below(str(tmp_path), "/", "/elsewhere") is None
    assert below(str(tmp_path), "/", "") is None


def test_kills_of_the_kernel_are_counted(group):
    def a_child_of_it_takes_too_much():
        before = oom_kills()
        pid = os.fork()
        if pid == 0:
            prefer_to_be_killed()
            take(LIMIT * 3 // 2)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        os._exit(0 if (os.waitstatus_to_exitcode(status), oom_kills() - before) == (-signal.SIGKILL, 1) else 3)

    before = oom_kills()
    assert forked(group, a_child_of_it_takes_too_much) == 0
    assert oom_kills() == before  # it was in another group


def test_kills_are_counted_in_the_kernels_files(tmp_path):
    (tmp_path / "memory.events").write_text("max 12\noom 2\noom_kill 7\noom_group_kill 1\n")
    assert [memory.kills_in(tmp_path / name) for name in ("memory.events", "no such file")] == [7, 0]


def test_a_run_is_killed_before_its_runner():
    score = Path("/proc/self/oom_score_adj")
    before = int(score.read_text())

    def check():
        prefer_to_be_killed()
        assert int(score.read_text()) == min(1000, before + memory.MORE_READILY)
        for _ in range(3):
            prefer_to_be_killed()
        assert int(score.read_text()) == 1000

    assert forked(MemoryLimit.make("run-0000", LIMIT, by_group=False), check) == 0
    assert int(score.read_text()) == before


def test_where_memory_cannot_be_limited_that_is_said(tmp_path, monkeypatch):
    check_limit(LIMIT)
    monkeypatch.setattr(memory, "_PROC", tmp_path)
    check_limit(None)
    with pytest.raises(UsageError, match=r"^--memory needs Linux, and this is linux; leave it out$"):
        check_limit(LIMIT)
    assert forked(MemoryLimit.make("run-0000", LIMIT), lambda: None) == 0
    assert oom_kills() == 0
    prefer_to_be_killed()


GRAPH = "tensorflow.function(lambda: tensorflow.reduce_sum(tensorflow.random.uniform([2**25, 2**25])))()"
TOO_MUCH = {
    "mmap": {"bytearray(2**60)": "MemoryError", "mmap.mmap(-1, 2**60)": "OSError"},
    "numpy": {"numpy.zeros(2**55)": "MemoryError"},
    "tensorflow": {"tensorflow.zeros([2**50])": "ResourceExhaustedError", GRAPH: "ResourceExhaustedError"},
    "torch": {
        "torch.empty(10**15)": "RuntimeError",
        "(_ for _ in ()).throw(torch.cuda.OutOfMemoryError('on a GPU'))": "OutOfMemoryError",
    },
    "jax": {"jax.numpy.zeros((2**25, 2**25)).block_until_ready()": "JaxRuntimeError"},
}
REFUSES = """
import {package}
from hparams_lab.run.outcome_records import outcome_of

for takes in {all_take!r}:
    try:
        eval(takes)
    except Exception as error:
        outcome, reason, details = outcome_of(error)
        print(outcome, reason.split(":")[0], details.startswith("Traceback"), sep=" | ")
"""


def test_a_run_that_fails_since_its_helper_was_killed_for_its_memory_is_out_of_memory(group, tmp_path):
    """As where a DataLoader's worker is: the run's own process has room, and only sees it die."""
    experiment = lab.Experiment([lab.HParam("helped", lab.Discrete([True, False]))], [lab.Metric("loss")])
    too_much = f"kept = bytearray({3 * LIMIT}); kept[::4096] = bytes(len(kept[::4096]))"

    def train(run):
        command = too_much if run.hparams["helped"] else "raise SystemExit(3)"
        subprocess.run([sys.executable, "-c", command], check=True)
        return {"loss": 0.5}

    runs = lab.run_sweep(experiment, train, logdir=tmp_path, workers=1, memory=LIMIT, observe=lambda event: None).runs
    assert [run.outcome for run in runs] == [Outcome.OUT_OF_MEMORY, Outcome.FAILED]


@pytest.mark.parametrize(
    "package",
    ["mmap", "numpy", *(pytest.param(name, marks=pytest.mark.slow) for name in ("tensorflow", "torch", "jax"))],
)
def test_an_allocation_that_is_refused_at_once_is_out_of_memory(package):
    """In a process of its own, so that frameworks do not meet in this one."""
    if find_spec(package) is None:
        pytest.skip(f"needs {package} (pip install 'hparams-lab[{package}]')")
    code = REFUSES.format(package=package, all_take=[*TOO_MUCH[package]])
    environment = {**os.environ, "PYTHONPATH": str(Path(lab.__file__).parents[1]), "JAX_PLATFORMS": "cpu"}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    told = [f"out of memory | {raised} | True" for raised in TOO_MUCH[package].values()]
    assert ran.stdout.splitlines() == told, ran.stderr


@pytest.mark.parametrize(
    ("error", "is_so"),
    [
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("CUDA out of memory"), False),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (type("ResourceExhaustedError", (Exception,), {"__module__": "my.tensorflow"})(), False),
        (type("Full", (MemoryError,), {})(), True),
    ],
    ids=repr,
)
def test_errors_for_want_of_memory(error, is_so):
    assert outcome_of(error)[0] is (Outcome.OUT_OF_MEMORY if is_so else Outcome.FAILED)
