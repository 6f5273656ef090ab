"""Durable operations: what they do, in which order, and what is left when a process is killed before one of them."""

import errno
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from hparams_lab.core.errors import LogDirError, UnsavedError
from hparams_lab.core.outcome import Outcome
from hparams_lab.logdir.reader import read
from hparams_lab.logdir.run_reader import event_files, read_run
from hparams_lab.run.start import start_run
from hparams_lab.storage import disk


@pytest.fixture
def before(monkeypatch):
    """`before(call)` has it called before each operation; told are (operation, name of what is changed)."""

    def hook(call):
        def tell(operation, what):
            call(operation, what if isinstance(what, int) else os.path.basename(what))

        monkeypatch.setattr(disk, "before", tell)

    return hook


@pytest.fixture
def told(before):
    """The operations so far."""
    operations = []
    before(lambda *operation: operations.append(operation))
    return operations


class Killed(BaseException):
    """In place of a kill: nothing of ours catches it."""


def killed_at(before, number):
    """From now on, all ends before the operation of that number, counted from 0."""
    left = iter(range(number))

    def count(*_):
        if next(left, None) is None:
            raise Killed

    before(count)


# The operations


def test_each_operation_is_told_before_it_is_done(tmp_path, told):
    fd = disk.create(tmp_path / "a")
    assert disk.write(fd, b"12345") == 5
    disk.truncate(fd, 3)
    disk.sync(fd)
    os.close(fd)
    disk.make_directory(tmp_path / "d")
    disk.replace(tmp_path / "a", tmp_path / "b")
    disk.rename(tmp_path / "b", tmp_path / "c")
    disk.sync_directory(tmp_path)
    assert (tmp_path / "c").read_bytes() == b"123"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["c", "d"]
    disk.remove(tmp_path / "c")
    disk.remove(tmp_path / "c")
    disk.remove_tree(tmp_path / "d")
    assert [*tmp_path.iterdir()] == []
    opened = [("create", "a"), ("write", fd), ("truncate", fd), ("sync", fd)]
    moved = [("make_directory", "d"), ("replace", "b"), ("rename", "b"), ("sync_directory", tmp_path.name)]
    assert told == [*opened, *moved, ("remove", "c"), ("remove", "c"), ("remove", "d")]


@pytest.mark.parametrize(
    "operation",
    [
        lambda folder: disk.create(folder / "new"),
        lambda folder: disk.write(os.open(folder / "file", os.O_WRONLY), b"other"),
        lambda folder: disk.truncate(os.open(folder / "file", os.O_WRONLY), 0),
        lambda folder: disk.make_directory(folder / "new"),
        lambda folder: disk.make_directories(folder / "new" / "newer"),
        lambda folder: disk.replace(folder / "file", folder / "new"),
        lambda folder: disk.rename(folder / "file", folder / "new"),
        lambda folder: disk.remove(folder / "file"),
        lambda folder: disk.remove_tree(folder),
        lambda folder: disk.save(folder / "file", b"other"),
    ],
)
def test_killed_before_it_nothing_is_done(tmp_path, before, operation):
    (tmp_path / "file").write_bytes(b"bytes")
    killed_at(before, 0)
    with pytest.raises(Killed):
        operation(tmp_path)
    assert [(entry.name, entry.read_bytes()) for entry in tmp_path.iterdir()] == [("file", b"bytes")]


def test_a_new_directorys_entry_is_waited_for(weird_tmp_path, told, monkeypatch):
    monkeypatch.chdir(weird_tmp_path)
    disk.make_directory("a", sync=True)
    assert told == [("make_directory", "a"), ("sync_directory", weird_tmp_path.name)]
    told.clear()
    disk.make_directories("a/b/c")
    disk.make_directories("a/b/c")
    assert told == [("make_directory", "b"), ("sync_directory", "a"), ("make_directory", "c"), ("sync_directory", "b")]
    (weird_tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        disk.make_directories("file")


# A directory that is removed


@pytest.fixture
def run_with_more(tmp_path):
    """The directory of a run with all that may be beside its event file."""
    with start_run(tmp_path / "logs", hparams={"x": 1}, name="run", provenance=False) as run:
        run.log("loss", 0.5)
    (run.dir / "a fold").mkdir()
    shutil.copy(event_files(run.dir)[0], run.dir / "a fold")
    for name in ("output.log", "a first file", "model.keras"):
        (run.dir / name).write_text(name)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept").touch()
    (run.dir / "link").symlink_to(tmp_path / "elsewhere")
    return run.dir


def test_what_a_kill_leaves_of_a_directory_is_no_run(run_with_more, before, tmp_path):
    for number in range(100):
        copy = tmp_path / f"copy-{number}"
        shutil.copytree(run_with_more, copy, symlinks=True)
        killed_at(before, number)
        try:
            disk.remove_tree(copy)
        except Killed:
            found = read_run(copy, "run")
            assert (found is None) == (number > 0), number
            killed_at(before, 100)
            disk.remove_tree(copy)
        else:
            break
    assert number == 8  # two event files, three others, a link, two directories
    assert not copy.exists()
    assert (tmp_path / "elsewhere" / "kept").exists()


def test_a_link_to_a_directory_is_removed_itself(run_with_more):
    disk.remove_tree(run_with_more / "link")
    assert not (run_with_more / "link").is_symlink()
    assert [entry.name for entry in (run_with_more.parents[1] / "elsewhere").iterdir()] == ["kept"]


# A file that is saved


@pytest.mark.parametrize("error", [Killed(), OSError(errno.ENOSPC, "No space left on device")])
def test_a_file_is_saved_whole_or_not_at_all(tmp_path, before, error):
    seen = []

    def fail(*operation):
        seen.append(operation)
        if len(seen) > number:
            raise error

    for number in range(100):
        (tmp_path / "file").write_bytes(b"before")
        seen.clear()
        before(fail)
        try:
            disk.save(tmp_path / "file", b"after")
        except (Killed, OSError):
            replaced = seen[number][0] == "sync_directory"
            assert (tmp_path / "file").read_bytes() == (b"after" if replaced else b"before")
        else:
            break
    assert [operation for operation, _ in seen] == ["create", "write", "sync", "replace", "sync_directory"]


def test_nothing_is_left_of_a_file_that_cannot_be_saved(tmp_path, before):
    def refuse(operation, _):
        if operation == "sync":
            raise OSError(errno.EIO, "Input/output error")

    before(refuse)
    with pytest.raises(OSError, match="Input/output error"):
        disk.save(tmp_path / "file", b"after")
    assert [*tmp_path.iterdir()] == []


def test_threads_save_one_file_at_once(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        for saved in [pool.submit(disk.save, tmp_path / "file", bytes([65 + n]) * 50_000) for n in range(64)]:
            saved.result()
    assert len({*(tmp_path / "file").read_bytes()}) == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_runs_end_is_waited_for_with_its_directory(tmp_path, told):
    run = start_run(tmp_path, hparams={"x": 1}, name="x", provenance=False)
    run.log("loss", 0.5)
    run.flush()
    told.clear()
    run.finish()
    (write, fd), *more = told[:3]
    assert (write, more) == ("write", [("sync", fd), ("sync_directory", "x")])


def test_the_next_experiment_is_on_the_disk_before_the_last_one_goes(tmp_path, told):
    for x in (1, 2):
        told.clear()
        start_run(tmp_path, hparams={"x": x}, name=str(x), provenance=False).finish()
    here = [operation for operation in told if operation[1] in ("_experiment", "1", "2")]
    made, file, folder, *dropped = here
    assert (made, file) == (("make_directory", "2"), ("sync_directory", "2"))
    assert folder == ("sync_directory", "_experiment")
    assert dropped[0] == ("remove", "1")


# What is said


@pytest.mark.parametrize(
    ("number", "kind", "way_out"),
    [
        (errno.ENOSPC, UnsavedError, "make room on the disk, and start again"),
        (errno.EDQUOT, UnsavedError, "make room in the quota, and start again"),
        (errno.EIO, UnsavedError, "see to the disk, and start again"),
        (errno.EACCES, LogDirError, "choose another log directory"),
        (errno.EROFS, LogDirError, "choose another log directory"),
    ],
)
def test_what_a_refusal_says(number, kind, way_out):
    refused = disk.refusal("logs", OSError(number, os.strerror(number)))
    assert (type(refused), str(refused)) == (kind, f"logs cannot be written: {os.strerror(number)}; {way_out}")


# Killed in earnest

KILLS = """
import os, signal, sys
from hparams_lab.storage import disk
from hparams_lab.logdir.sweep_json import save_sweep
from hparams_lab.storage.paths import LogDirPaths
from pathlib import Path
from hparams_lab.run.start import start_run

def work(root):
    for x in range(2):
        with start_run(root, hparams={"x": x}, provenance=False) as run:
            for step in range(3): run.log("loss", step / 2)
    save_sweep(LogDirPaths(Path(root)), {"seed": 1})

def kill_at(number):
    count = 0
    def before(operation, what):
        nonlocal count
        if count == number: os.kill(os.getpid(), signal.SIGKILL)
        count += 1
    disk.before = before

for number in range(200):
    if (child := os.fork()) == 0:
        kill_at(number)
        work(f"{sys.argv[1]}/{number}")
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        break
print(number)
"""


@pytest.mark.skipif(os.name == "nt", reason="kills and forks as POSIX has them")
def test_killed_at_every_operation_of_two_runs(tmp_path):
    """All can be read, an end is there or not, and the next run finds its place."""
    done = subprocess.run([sys.executable, "-c", KILLS, tmp_path], capture_output=True, text=True, timeout=120)
    assert done.stderr == ""
    last = int(done.stdout)
    assert last >= 25
    ended = []
    for number in range(last + 1):
        root = tmp_path / str(number)
        with start_run(root, hparams={"x": 2}, provenance=False) as run:
            run.log("loss", 2.5)
        found = read(root)
        assert found.findings == ()
        *before, after = found.runs
        assert after.metrics == {"loss": 2.5}
        assert len([*(root / "_experiment").glob("[0-9]*")]) == 1
        assert {run.outcome for run in before} <= {Outcome.COMPLETED, Outcome.INTERRUPTED}
        completed = [run for run in before if run.outcome is Outcome.COMPLETED]
        assert all(run.scalars("loss").values.tolist() == [0, 0.5, 1] for run in completed)
        ended.append(len(completed))
    assert ended == sorted(ended)
    assert {*ended} == {0, 1, 2}
