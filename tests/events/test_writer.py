"""The writer of an event file, in real processes: what is on disk after a flush, a kill, a fork, a full disk."""

import errno
import os
import re
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from hparams_lab.core.errors import LogDirError
from hparams_lab.events.format import summaries
from hparams_lab.events.format.event_file import read_events, summary_event
from hparams_lab.events.format.summaries import scalars
from hparams_lab.events.write.writer import EventFileWriter
from hparams_lab.storage import disk
from hparams_lab.storage.locks import held, is_held

needs_flock = pytest.mark.skipif(os.name == "nt", reason="Windows has no flock")
PREAMBLE = """
import os, signal, sys, time
from pathlib import Path
from hparams_lab.events.format.summaries import scalars
from hparams_lab.events.write.writer import EventFileWriter
writer = EventFileWriter.create(Path(sys.argv[1]))
"""


def start(script, directory):
    """A process of its own with a `writer` to a new file in `directory`."""
    command = [sys.executable, "-W", "error", "-c", PREAMBLE + script, str(directory)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def steps(path, findings=None):
    """The steps of the scalars in a file."""
    return [event.step for event in read_events(path.read_bytes(), findings) if event.summary.value]


def only_file(directory):
    (path,) = directory.iterdir()
    return path


@pytest.fixture
def writer(tmp_path):
    writer = EventFileWriter.create(tmp_path, now=1.5)
    yield writer
    writer.close()


def test_begins_with_the_version_and_ends_with_all_that_was_added(writer):
    writer.add(scalars({"loss": 0.5}), step=3, now=2.5)
    writer.close()
    writer.close()
    version, point = read_events(writer.path.read_bytes())
    assert (version.file_version, version.wall_time) == ("brain.Event:2", 1.5)
    assert (point.step, point.wall_time, point.summary.value[0].tag) == (3, 2.5, "loss")


def test_a_directory_that_cannot_be_written(tmp_path):
    with pytest.raises(LogDirError, match=re.escape(f"{tmp_path / 'gone'} cannot be written: No such file")):
        EventFileWriter.create(tmp_path / "gone")


def test_what_is_added_waits_for_a_flush_and_what_is_written_does_not(writer):
    writer.add(scalars({"loss": 0.5}), step=1)
    assert writer.path.stat().st_size == 0
    writer.flush()
    assert steps(writer.path) == [1]
    writer.add(scalars({"loss": 0.5}), step=2)
    writer.write(summary_event(scalars({"loss": 0.5}), 3, 1.0) + summary_event(scalars({"loss": 0.5}), 4, 1.0))
    assert steps(writer.path) == [1, 2, 3, 4]


def test_truncate_then_go_on(writer):
    writer.write(summary_event(scalars({"loss": 0.5}), 1, 1.0))
    size = writer.path.stat().st_size
    writer.write(summary_event(scalars({"loss": 0.5}), 2, 1.0))
    writer.truncate(size)
    writer.write(summary_event(scalars({"loss": 0.5}), 3, 1.0))
    assert steps(writer.path) == [1, 3]


def test_an_abandoned_writer_writes_nothing(writer):
    writer.add(scalars({"loss": 0.5}), step=1)
    writer.abandon()
    writer.abandon()
    writer.close()
    assert writer.path.read_bytes() == b""
    assert not is_held(writer.path)


def test_closing_that_fails_leaves_the_file_open_to_be_closed_again(writer, tmp_path):
    """Here the directory is gone for a moment: its entry cannot be waited for."""
    writer.add(scalars({"loss": 0.5}), step=1)
    moved = tmp_path.with_name("moved")
    tmp_path.rename(moved)
    with pytest.raises(FileNotFoundError):
        writer.close()
    moved.rename(tmp_path)
    writer.add(scalars({"loss": 0.5}), step=2)
    writer.close()
    assert steps(writer.path) == [1, 2]


@pytest.mark.parametrize("fsync", [True, False])
def test_close_with_and_without_waiting_for_the_disk(tmp_path, fsync):
    writer = EventFileWriter.create(tmp_path)
    writer.add(scalars({"loss": 0.5}), step=1)
    writer.close(fsync)
    assert steps(writer.path) == [1]


@needs_flock
def test_what_was_flushed_survives_a_kill_and_the_lock_does_not(tmp_path):
    process = start(
        "for step in range(1, 101): writer.add(scalars({'loss': 1.0}), step)\n"
        "writer.flush()\n"
        "writer.add(scalars({'loss': 1.0}), 101)\n"
        "print('flushed', flush=True); time.sleep(60)",
        tmp_path,
    )
    with process:
        assert process.stdout.readline() == "flushed\n"
        path = only_file(tmp_path)
        assert is_held(path)
        with pytest.raises(LogDirError, match=r" is being written by another process; wait for it to end$"):
            EventFileWriter.append(path)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert not is_held(path)
    assert steps(path) == list(range(1, 101))


@needs_flock
def test_what_a_forked_child_logs_is_not_written_twice(tmp_path):
    process = start(
        "writer.add(scalars({'loss': 1.0}), 1)\n"
        "if (child := os.fork()) == 0:\n"
        "    writer.add(scalars({'loss': 1.0}), 2); writer.flush(); writer.close(); sys.exit()\n"
        "os.waitpid(child, 0)\n"
        "writer.add(scalars({'loss': 1.0}), 3); writer.close()",
        tmp_path,
    )
    process.communicate()
    findings = []
    assert steps(only_file(tmp_path), findings) == [1, 3]
    assert findings == []


@needs_flock
def test_a_full_disk_tears_no_record(tmp_path):
    process = start(
        "import resource\n"
        "writer.add(scalars({'loss': 1.0}), 1); writer.flush()\n"
        "limit = writer.path.stat().st_size + 10\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))\n"
        "writer.add(scalars({'loss': 1.0}), 2)\n"
        "try: writer.flush()\n"
        "except OSError as error: print(error.strerror, writer.path.stat().st_size == limit)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n"
        "writer.add(scalars({'loss': 1.0}), 3); writer.close()",
        tmp_path,
    )
    assert process.communicate()[0] == "File too large True\n"
    findings = []
    assert steps(only_file(tmp_path), findings) == [1, 2, 3]
    assert findings == []


@pytest.mark.parametrize("torn", [0, 1, 11, 12, 20, -1])
def test_append_cuts_the_torn_tail(writer, torn):
    writer.add(scalars({"loss": 0.5}), 1)
    writer.close()
    whole = writer.path.read_bytes()
    writer.path.write_bytes(whole + summary_event(scalars({"loss": 0.5}), 2, 0.0)[:torn])
    again = EventFileWriter.append(writer.path)
    assert writer.path.read_bytes() == whole
    again.add(scalars({"loss": 0.5}), 3)
    again.close()
    assert steps(writer.path) == [1, 3]


@pytest.mark.parametrize("bad", [[3], [2, 3], [1]], ids=["the last", "the last two", "one in the middle"])
def test_append_cuts_what_is_broken_to_the_end_only(writer, bad):
    points = [summary_event(scalars({"loss": 0.5}), step, 0.0) for step in (1, 2, 3)]
    for step in bad:
        points[step - 1] = points[step - 1][:-1] + bytes([points[step - 1][-1] ^ 1])
    writer.write(b"".join(points))
    writer.close()
    again = EventFileWriter.append(writer.path)
    again.add(scalars({"loss": 0.5}), 4)
    again.close()
    findings = []
    assert steps(writer.path, findings) == [step for step in (1, 2, 3, 4) if step not in bad]
    assert len(findings) == (bad == [1])


def test_append_cuts_zeros_that_a_power_cut_left(writer):
    writer.add(scalars({"loss": 0.5}), 1)
    writer.close()
    whole = writer.path.read_bytes()
    writer.path.write_bytes(whole + bytes(5000))
    EventFileWriter.append(writer.path).close()
    assert writer.path.read_bytes() == whole


def test_append_tells_whether_there_is_an_end(writer):
    writer.add(scalars({summaries.SESSION_END_TAG: 0.5}), 1)  # a tag alone is none
    writer.add(summaries.session_start({"x": 1}, "id", 1.0))
    writer.close()
    again = EventFileWriter.append(writer.path)
    assert not again.has_end
    again.add(summaries.session_end(summaries.SUCCESS, 1.0))
    again.close()
    again = EventFileWriter.append(writer.path)
    assert again.has_end
    again.truncate(writer.path.stat().st_size - 1)
    again.close()
    again = EventFileWriter.append(writer.path)
    assert not again.has_end
    again.close()


@pytest.mark.parametrize("kind", ["many records", "one record"])
def test_append_takes_little_memory_whatever_the_file(writer, kind):
    if kind == "many records":
        piece = b"".join(summary_event(scalars({"loss": 0.5}), step, 1.0) for step in range(1, 20_001))
    else:
        piece = summary_event(summaries.text("long", "x" * 1_000_000), 1, 1.0)
    for _ in range(64_000_000 // len(piece)):
        writer.write(piece)
    writer.write(piece[:-1])
    writer.close()
    size = writer.path.stat().st_size
    tracemalloc.start()
    again = EventFileWriter.append(writer.path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    again.close()
    assert 0 < size - writer.path.stat().st_size <= len(piece)
    assert most < 24_000_000


def test_the_last_records_are_there_when_all_is_saved_or_not_at_all(writer, tmp_path):
    writer.add(scalars({"loss": 0.5}), step=1)
    last = summary_event(scalars({"loss": 0.5}), 3, 1.0)
    moved = tmp_path.with_name("moved")
    tmp_path.rename(moved)
    with pytest.raises(FileNotFoundError):
        writer.close(last=last)
    moved.rename(tmp_path)
    assert steps(writer.path) == []
    writer.add(scalars({"loss": 0.5}), step=2)
    writer.close(last=last)
    writer.close(last=last)
    assert steps(writer.path) == [1, 2, 3]


def test_after_a_wait_for_the_disk_that_failed_all_is_taken_back_and_refused(tmp_path, monkeypatch):
    """As the system answers it; in `test_disk_errors.py` it does."""

    def refuse(operation, _):
        if operation == "sync":
            raise OSError(errno.EIO, "Input/output error")

    writer = EventFileWriter.create(tmp_path)
    writer.add(scalars({"loss": 0.5}), step=1)
    writer.flush()
    writer.add(scalars({"loss": 0.5}), step=2)
    monkeypatch.setattr(disk, "before", refuse)
    with pytest.raises(OSError, match="Input/output error"):
        writer.close(last=summary_event(scalars({"loss": 0.5}), 3, 1.0))
    assert steps(writer.path) == [1]
    monkeypatch.setattr(disk, "before", None)
    for call in (writer.close, writer.flush, lambda: writer.write(b"")):
        with pytest.raises(OSError, match="Input/output error"):
            call()
    assert (steps(writer.path), writer.is_lost) == ([1], True)
    writer.abandon()


@needs_flock
def test_a_forked_child_that_closes_adds_and_cuts_nothing(tmp_path):
    process = start(
        "writer.add(scalars({'loss': 1.0}), 1); writer.flush()\n"
        "if (child := os.fork()) == 0:\n"
        "    writer.close(last=b'the parent has one'); os._exit(0)\n"
        "os.waitpid(child, 0)\n"
        "writer.add(scalars({'loss': 1.0}), 2); writer.close()",
        tmp_path,
    )
    process.communicate()
    findings = []
    assert steps(only_file(tmp_path), findings) == [1, 2]
    assert findings == []


@needs_flock
def test_the_lock_is_there_from_create_or_append_to_close(writer):
    path = writer.path
    assert is_held(path)
    writer.close()
    assert not is_held(path)
    again = EventFileWriter.append(path)
    assert is_held(path)
    again.close()
    assert not is_held(path)


@needs_flock
def test_who_only_looks_takes_no_lock_from_the_writer(tmp_path):
    """A reader that asks `is_held` in the instant of creation must not cost the run its lock."""
    import fcntl

    with open(tmp_path / "events.out.tfevents.1", "wb") as reading:
        fcntl.flock(reading, fcntl.LOCK_SH)
        process = start(
            "fd = os.open(writer.path.parent / 'events.out.tfevents.1', os.O_RDWR)\n"
            "print('waits', flush=True); EventFileWriter(Path(), fd); print('held', flush=True); time.sleep(60)",
            tmp_path,
        )
        assert process.stdout.readline() == "waits\n"
    with process:
        assert process.stdout.readline() == "held\n"
        assert is_held(Path(reading.name))
        process.kill()


@needs_flock
def test_held_makes_its_file_and_lets_go(tmp_path):
    lock = tmp_path / "new" / ".lock"
    with held(lock):
        assert is_held(lock)
    assert not is_held(lock)
