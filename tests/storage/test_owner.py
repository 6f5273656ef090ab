"""One owner per log directory, shown with real processes: they are killed, they race, their children outlive them."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import hparams_lab as lab
from hparams_lab.core.errors import LogDirError, OwnedError
from hparams_lab.storage.locks import take
from hparams_lab.storage.ownership import Owner, current_owner, move_aside, owned

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such locks")
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")

HELD = """
import os, subprocess, sys
from pathlib import Path
from hparams_lab.storage.ownership import owned
with owned(Path(sys.argv[1])) as ownership:
    {then}
    print("has it", flush=True)
    sys.stdin.read()
"""
ANNOUNCED = "ownership.announce()"
WITH_A_CHILD = """
    child = subprocess.Popen([{sleeper!r}, "60"], pass_fds=[ownership.runs_fd], stdin=subprocess.DEVNULL)
    print(child.pid, flush=True)
"""
FORKED = """
    child = os.fork()
    if child == 0:
        os.closerange(0, 3)
        while True: __import__("time").sleep(60)
    print(child, flush=True)
"""


@contextlib.contextmanager
def owner(root, then=ANNOUNCED):
    """Another process that owns a directory, once it does."""
    command = [sys.executable, "-c", HELD.format(then=then), str(root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            said = [line.strip() for line in iter(process.stdout.readline, "has it\n") if line or pytest.fail("died")]
            process.said = said
            yield process
        finally:
            process.kill()


def eventually(holds, seconds=20.0):
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.01)
    return holds()


def is_alive(pid):
    """Whether a process runs; one that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def tree(root):
    return {path.relative_to(root): path.is_file() and path.read_bytes() for path in sorted(root.rglob("*"))}


def refused(root):
    """What a second runner is told, which leaves everything as it is."""
    before = tree(root)
    with pytest.raises(OwnedError) as error, owned(root):
        pass
    assert tree(root) == before
    return str(error.value)


def test_the_file_says_who_owns_it_while_it_is_owned(tmp_path):
    began = time.time()
    with owned(tmp_path) as ownership:
        ownership.announce()
        said = json.loads((tmp_path / ".lock").read_text())
        assert (said["host"], said["pid"]) == (socket.gethostname(), os.getpid())
        assert said.keys() == {"host", "pid", "since", "command"}
        assert began <= said["since"] <= time.time()
        assert current_owner(tmp_path) == Owner(**said)
    assert tree(tmp_path) == {Path(".lock"): b"", Path(".lock-runs"): b""}
    assert current_owner(tmp_path) is None


def test_who_is_second_is_told_who_is_first(weird_tmp_path):
    with owner(weird_tmp_path) as first:
        who = rf"\(host {socket.gethostname()}, pid {first.pid}, since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d, \d+ s ago\)"
        ways = rf"wait for it, stop it with `kill {first.pid}`, or choose another --logdir"
        wanted = rf"{re.escape(str(weird_tmp_path))} is being swept by another runner {who}; {ways}"
        assert re.fullmatch(wanted, refused(weird_tmp_path))
        assert current_owner(weird_tmp_path).pid == first.pid
        first.stdin.close()
        assert first.wait(20) == 0
    with owned(weird_tmp_path):
        pass


def test_an_owner_of_another_machine_is_not_to_be_killed_here(tmp_path):
    with owner(tmp_path, then="") as first:
        (tmp_path / ".lock").write_text(json.dumps({"host": "\x1b[31mfar", "pid": first.pid, "since": 0.0}))
        said = refused(tmp_path)
        assert "(host \\x1b[31mfar, pid " in said
        assert "kill" not in said


@pytest.mark.parametrize(
    "nonsense", ["", "{", "[]", '{"pid": -1, "host": 3, "since": NaN}', '{"since": 1e300}', "\0" * 9]
)
def test_nonsense_in_the_file_is_no_trouble(tmp_path, nonsense):
    with owner(tmp_path, then=""):
        (tmp_path / ".lock").write_text(nonsense)
        assert re.search(r" is being swept by another runner( \(host .*\))?; wait for it, ", refused(tmp_path))


NO_OWNERS = [
    '{"pid": -1, "host": HOST}',
    '{"pid": true, "host": HOST}',
    '{"since": 1e300}',
    '{"since": NaN}',
    '{"pid": 0}',
]


@pytest.mark.parametrize("nonsense", NO_OWNERS)
def test_nonsense_is_not_told_where_the_kernel_does_not_know_either(tmp_path, monkeypatch, nonsense):
    """As on a network's file system. `kill -1` would be the end of everything."""
    monkeypatch.setattr("hparams_lab.storage.ownership._holder_of", lambda path: None)
    with owner(tmp_path, then=""):
        (tmp_path / ".lock").write_text(nonsense.replace("HOST", json.dumps(socket.gethostname())))
        said = refused(tmp_path)
        assert re.search(r" is being swept by another runner( \(host [^,]*\))?; wait for it, or choose", said)


def test_what_is_announced_replaces_what_was_left(tmp_path):
    (tmp_path / ".lock").write_text("x" * 3000)
    with owned(tmp_path) as ownership:
        ownership.announce()
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()


def test_a_lock_file_that_another_was_quicker_to_lock_is_left_alone(tmp_path, monkeypatch):
    with contextlib.ExitStack() as others:

        def too_late(fd, tries=20):
            others.enter_context(owner(tmp_path))
            return take(fd, tries)

        monkeypatch.setattr("hparams_lab.storage.ownership.take", too_late)
        with pytest.raises(OwnedError), owned(tmp_path):
            pass
        assert current_owner(tmp_path).pid != os.getpid()


def test_a_directory_that_goes_before_it_is_locked_is_made_again(tmp_path, monkeypatch):
    gone = []

    def remove(operation, path):
        if operation == "create" and not gone:
            gone.append(path)
            (tmp_path / "logs").rmdir()

    monkeypatch.setattr("hparams_lab.storage.disk.before", remove)
    with owned(tmp_path / "logs"):
        assert current_owner(tmp_path / "logs").pid == os.getpid()
    assert (len(gone), tree(tmp_path)) == (1, {})


@ON_LINUX
def test_what_a_killed_owner_left_is_not_told_of_the_next(tmp_path):
    """The next one holds the lock and has not said so yet: `kill` must not name a process of others."""
    (tmp_path / ".lock").write_text(json.dumps({"host": socket.gethostname(), "pid": 99999, "since": 0.0}))
    with owner(tmp_path, then="") as second:
        assert current_owner(tmp_path) == Owner(socket.gethostname(), second.pid)
        assert f"(host {socket.gethostname()}, pid {second.pid});" in refused(tmp_path)


def test_a_killed_owner_is_free_at_once(tmp_path):
    for _ in range(5):
        with owner(tmp_path) as first:
            first.kill()
            first.wait()
            with owned(tmp_path, patience=0) as ownership:
                ownership.announce()
                assert current_owner(tmp_path).pid == os.getpid()


def test_a_fork_neither_keeps_nor_ends_what_its_parent_owns(tmp_path):
    with owned(tmp_path) as ownership:
        ownership.announce()
        if (child := os.fork()) == 0:
            ownership.release()
            os._exit(0)
        os.waitpid(child, 0)
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()
        assert "is being swept" in subprocess_refused(tmp_path)


def subprocess_refused(root):
    """What a runner in another process is told."""
    code = HELD.format(then=ANNOUNCED)
    ran = subprocess.run([sys.executable, "-c", code, str(root)], capture_output=True, text=True, input="")
    assert ran.returncode == 1
    return ran.stderr.splitlines()[-1]


@ON_LINUX
def test_the_next_owner_waits_for_the_processes_of_a_killed_one(tmp_path):
    with owner(tmp_path, then=ANNOUNCED + WITH_A_CHILD.format(sleeper=shutil.which("sleep"))) as first:
        child = int(first.said[0])
        first.kill()
        first.wait()
        try:
            assert eventually(lambda: current_owner(tmp_path) is None)  # its own lock: no child has it
            with owner_in_the_background(tmp_path) as second:
                assert current_owner(tmp_path).pid == second.pid
                assert second.poll() is None
                os.kill(child, signal.SIGKILL)
                assert second.stdout.readline() == "has it\n"
                assert not is_alive(child)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)


@ON_LINUX
def test_the_next_owner_does_not_wait_for_forks_of_a_killed_one(tmp_path):
    """What the sweep starts gets the descriptor handed; a fork of the runner is a thing of the user's program."""
    with owner(tmp_path, then=ANNOUNCED + FORKED) as first:
        fork = int(first.said[0])
        first.kill()
        first.wait()
        try:
            with owned(tmp_path, patience=0):
                assert is_alive(fork)
        finally:
            os.kill(fork, signal.SIGKILL)


@contextlib.contextmanager
def owner_in_the_background(root):
    command = [sys.executable, "-c", HELD.format(then=""), str(root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert eventually(lambda: current_owner(root) is not None)
            yield process
        finally:
            process.kill()


@ON_LINUX
def test_processes_that_do_not_go_are_named(tmp_path):
    with owner(tmp_path, then=ANNOUNCED + WITH_A_CHILD.format(sleeper=shutil.which("sleep"))) as first:
        child = int(first.said[0])
        first.kill()
        first.wait()
        try:
            before = tree(tmp_path)
            wanted = (
                rf"^process {child} of an earlier runner still works in {re.escape(str(tmp_path))}; wait for it, "
                rf"stop it with `kill -9 {child}`, or choose another --logdir$"
            )
            with pytest.raises(OwnedError, match=wanted), owned(tmp_path, patience=0.2):
                pass
            assert {**tree(tmp_path), Path(".lock"): before[Path(".lock")]} == before
        finally:
            os.kill(child, signal.SIGKILL)
    assert eventually(lambda: not is_alive(child))
    with owned(tmp_path):
        pass


RACING = """
import os, sys
from pathlib import Path
from hparams_lab.core.errors import OwnedError
from hparams_lab.storage.ownership import owned
print("ready", flush=True)
for line in sys.stdin:
    root, go = map(Path, line.split())
    while not go.exists(): pass
    try:
        with owned(root) as ownership:
            ownership.announce()
            os.close(os.open(root / "alone", os.O_CREAT | os.O_EXCL))
            print("has it", flush=True)
            sys.stdin.readline()
            os.unlink(root / "alone")
    except OwnedError as error:
        print(error, flush=True)
        sys.stdin.readline()
    print("out", flush=True)
"""


def test_what_an_owner_is_still_writing_is_not_taken_for_something_else(tmp_path):
    """A run and no sweep.json yet: whoever comes then is told of the owner, as before and after."""
    experiment = lab.Experiment([lab.HParam("x", lab.Discrete([1]))], [lab.Metric("loss")])
    lab.start_run(tmp_path, hparams={"x": 1}).finish()
    with owner(tmp_path) as first, pytest.raises(OwnedError, match=rf"\bpid {first.pid}\b"):
        lab.run_sweep(experiment, lambda run: {"loss": 1.0}, logdir=tmp_path, executor="inline")
    with pytest.raises(LogDirError, match="holds runs that no sweep made"):
        lab.run_sweep(experiment, lambda run: {"loss": 1.0}, logdir=tmp_path, executor="inline")


def test_of_three_runners_at_once_exactly_one_gets_it(tmp_path):
    """In a directory that none of them finds there, 20 times."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "bufsize": 1}
    with contextlib.ExitStack() as stack:
        racing = [
            stack.enter_context(subprocess.Popen([sys.executable, "-c", RACING], **pipes))  # ends with its input
            for _ in range(3)
        ]
        assert [process.stdout.readline() for process in racing] == ["ready\n"] * 3
        for number in range(20):
            root, go = tmp_path / f"{number}/logs", tmp_path / f"go-{number}"
            for process in racing:
                process.stdin.write(f"{root} {go}\n")
            go.touch()
            said = [process.stdout.readline() for process in racing]
            others = [line for line in said if f"{root} is being swept by another runner" in line]
            assert (said.count("has it\n"), len(others)) == (1, 2), said
            for process in racing:
                process.stdin.write("\n")
            assert [process.stdout.readline() for process in racing] == ["out\n"] * 3
            assert [path.name for path in sorted(root.iterdir())] == [".lock", ".lock-runs"]


def test_looking_does_not_keep_a_runner_from_starting(tmp_path):
    (tmp_path / ".lock").touch()
    look = "import sys\nfrom pathlib import Path\nfrom hparams_lab.storage.ownership import current_owner\n"
    look += "print(flush=True)\n"
    look += "while True: current_owner(Path(sys.argv[1]))"
    with subprocess.Popen([sys.executable, "-c", look, str(tmp_path)], stdout=subprocess.PIPE) as looking:
        try:
            looking.stdout.readline()
            for _ in range(200):
                with owned(tmp_path):
                    pass
        finally:
            looking.kill()


def test_what_is_not_announced_leaves_nothing(tmp_path):
    with owned(tmp_path / "a/b/c"):
        assert (tmp_path / "a/b/c/.lock").exists()
    assert tree(tmp_path) == {}
    (tmp_path / "theirs").write_text("as it was")
    (tmp_path / ".lock").write_text('{"pid": 3}')
    os.chmod(tmp_path / ".lock", 0o600)
    before = tree(tmp_path)
    with pytest.raises(LogDirError, match="another sweep"), owned(tmp_path):
        raise LogDirError("another sweep")
    assert {**tree(tmp_path), Path(".lock"): b""} == {**before, Path(".lock"): b""}


def test_a_directory_moved_aside_before_it_is_locked(tmp_path, monkeypatch):
    """Another moves it aside between the opening of the lock file and the lock: the lock is on what is there now."""
    root, aside = tmp_path / "logs", tmp_path / "logs.old-1"
    (root / "run-0000").mkdir(parents=True)

    def moved_and_taken(fd, tries=20):
        if not aside.exists():
            root.rename(aside)
        return take(fd, tries)

    monkeypatch.setattr("hparams_lab.storage.ownership.take", moved_and_taken)
    with owned(root) as ownership:
        ownership.announce()
        assert current_owner(root).pid == os.getpid()
        assert current_owner(aside) is None
        assert "is being swept" in subprocess_refused(root)


def test_moved_aside_it_is_owned_all_the_time(tmp_path):
    root, aside = tmp_path / "logs", tmp_path / "logs.old-1"
    with owned(root) as ownership:
        ownership.announce()
        (root / "run-0000").mkdir()
        move_aside(root, aside)
        assert tree(aside) == {Path("run-0000"): False}
        assert "is being swept" in subprocess_refused(root)
        assert json.loads((root / ".lock").read_text())["pid"] == os.getpid()
        with owned(aside):  # nobody's now
            pass
    assert tree(root) == {Path(".lock"): b"", Path(".lock-runs"): b""}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["logs", "logs.old-1"]


def test_who_is_quicker_while_it_is_moved_aside_has_it(tmp_path, monkeypatch):
    root, aside = tmp_path / "logs", tmp_path / "logs.old-1"
    with owned(root) as ownership, contextlib.ExitStack() as others:
        ownership.announce()
        (root / "run-0000").mkdir()

        def another(operation, path):
            if operation == "rename" and path.endswith("/.new"):
                others.enter_context(owner(root))

        monkeypatch.setattr("hparams_lab.storage.disk.before", another)
        with pytest.raises(OwnedError, match=rf"^{root} went to another runner; what it held is in {aside}; choose"):
            move_aside(root, aside)
        monkeypatch.undo()
        assert {path.name for path in aside.iterdir()} == {"run-0000", ".lock", ".lock-runs"}
        assert current_owner(root).pid != os.getpid()


def test_a_directory_that_may_not_be_written(tmp_path, not_root):
    (tmp_path / "logs").mkdir(mode=0o555)
    for root in (tmp_path / "logs", tmp_path / "logs/x/y"):
        said = rf"^{root} cannot be written: Permission denied; choose another log directory$"
        with not_root(), pytest.raises(LogDirError, match=said), owned(root):
            pass
    assert tree(tmp_path / "logs") == {}
    (tmp_path / "file").touch()
    with pytest.raises(LogDirError, match=r"/file cannot be written: "), owned(tmp_path / "file"):
        pass


def test_a_link_in_place_of_the_lock_file_is_not_followed(tmp_path):
    (tmp_path / "theirs").write_text("as it was")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/.lock").symlink_to(tmp_path / "theirs")
    with pytest.raises(LogDirError, match="cannot be written"), owned(tmp_path / "logs") as ownership:
        ownership.announce()
    assert (tmp_path / "theirs").read_text() == "as it was"


@ON_LINUX
@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
@pytest.mark.parametrize("errno", ["ENOLCK", "EOPNOTSUPP", "ENOSYS", "EINVAL"])
def test_a_file_system_without_locks(tmp_path, errno):
    ran = under_strace(f"flock:error={errno}", tmp_path / "logs", ANNOUNCED)
    wanted = r"LogDirError: .*/logs is on a file system without locks \(.+\), where two runners do not notice each .*"
    assert (ran.returncode, ran.stdout) == (1, "")
    assert re.search(rf"{wanted}; choose another --logdir, or --no-lock when nobody else works there\n$", ran.stderr)
    assert tree(tmp_path) == {}


@ON_LINUX
@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_without_locks_it_goes_on_when_told_to(tmp_path):
    code = HELD.replace("(Path(sys.argv[1]))", "(Path(sys.argv[1]), lock=False)")
    ran = under_strace("flock:error=ENOLCK", tmp_path / "logs", "print(ownership.runs_fd)", code)
    assert (ran.returncode, ran.stdout) == (0, "None\nhas it\n")
    assert tree(tmp_path) == {}
    with owned(tmp_path), owned(tmp_path, lock=False) as ownership:
        ownership.announce()


def under_strace(inject, root, then, code=HELD):
    command = ["strace", "-f", "-qq", "-o", os.devnull, "-e", f"inject={inject}", sys.executable, "-c"]
    ran = subprocess.run([*command, code.format(then=then), str(root)], capture_output=True, text=True, input="")
    if "ptrace" in ran.stderr:
        pytest.skip("may not trace here")
    return ran


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 64 KiB, real and full."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tmp_path], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("may not mount")
    try:
        with contextlib.suppress(OSError), open(tmp_path / "filler", "wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        yield tmp_path
    finally:
        subprocess.run(["umount", tmp_path], check=True)


@ON_LINUX
def test_a_full_disk(small_disk):
    before = tree(small_disk)
    said = r"/logs cannot be written: No space left on device; make room on the disk, and start again$"
    with pytest.raises(LogDirError, match=said), owned(small_disk / "logs") as ownership:
        ownership.announce()
    assert tree(small_disk) == before
    (small_disk / "filler").unlink()
    with owned(small_disk / "logs") as ownership:
        ownership.announce()
