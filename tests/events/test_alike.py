"""`read_alike`: directories of many short runs hold what each of them says when it is read by itself."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mutants import END, VERSION, event, number, record, start, told
from slow_reader import differences, slow_read
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary

from hparams_lab.core.curve import extremes
from hparams_lab.core.findings import Kind
from hparams_lab.core.outcome import Outcome
from hparams_lab.core.results import Results
from hparams_lab.events.format import summaries
from hparams_lab.events.read.batch import FEWEST, LONGEST_FILE, read_alike
from hparams_lab.events.read.layouts import Layouts
from hparams_lab.events.read.together import FEWEST_FILES
from hparams_lab.logdir.reader import LogDirReader, read
from hparams_lab.logdir.run_reader import RunReader

NAME = "events.out.tfevents.1.host"
TEXT = told(summaries.text("note", "why"))


def one(at: int, points: int = 3, middle: bytes = TEXT, end: bytes = END) -> bytes:
    """The file of a run; all of so many points are of one size."""
    rows = [
        event([number("loss", at + step / 7), number("accuracy", -at)], step, at + step / 3) for step in range(points)
    ]
    return b"".join([VERSION, start(f"{at:016d}"), *rows, middle, event([number("loss", at)], 90, at), end])


def write(root: Path, files: list[bytes]) -> None:
    for at, data in enumerate(files):
        (root / f"run-{at}").mkdir()
        (root / f"run-{at}" / NAME).write_bytes(data)


def singly(root: Path, name: str, thin=None):
    """A run and its findings, read by itself."""
    reader = RunReader(str(root / name), Layouts(), thin)
    reader.read_new([NAME])
    return reader.run(name) or reader.bare_run(name), reader.findings


def same(run, other) -> bool:
    """Whether two runs are equal in all, their points and texts too."""
    if run is None or other is None:
        return run is other
    alike = list(run.columns) == list(other.columns) and run.texts == other.texts
    for tag in run.columns:
        for column, wanted in zip(run.columns[tag], other.columns[tag], strict=True):
            alike = alike and column.dtype == wanted.dtype and np.array_equal(column, wanted, equal_nan=True)
    return alike and repr(run) == repr(other)


def check(root: Path, files: list[bytes], results: Results, thin=None) -> None:
    """Each run is what it is by itself, and what the slow reader makes of it."""
    found, findings = {run.name: run for run in results.runs}, []
    for at, data in enumerate(files):
        alone, wrong = singly(root, f"run-{at}", thin)
        findings += wrong
        assert same(found.pop(f"run-{at}", None), alone), at
        if thin is None and alone is not None and alone.outcome is not Outcome.RUNNING:
            assert differences(slow_read(data), alone, wrong) == []
    assert not found
    assert sorted(map(str, results.findings)) == sorted(map(str, findings))


def taken(root: Path, files: list[bytes]) -> int:
    """How many of the runs are read together."""
    return len(read_alike([str(root / f"run-{at}" / NAME) for at in range(len(files))], Layouts()))


@pytest.mark.parametrize("count", [1, 5, FEWEST - 1, FEWEST, 100, 600])
@pytest.mark.parametrize("thin", [None, extremes], ids=["all", "extremes"])
def test_runs_of_one_size(tmp_path, count, thin):
    files = [one(at) for at in range(count)]
    write(tmp_path, files)
    check(tmp_path, files, read(tmp_path, thin=thin), thin)
    assert taken(tmp_path, files) == (count if count >= FEWEST_FILES else 0)


@pytest.mark.parametrize("count", [5, 8, 100])
def test_runs_of_many_sizes(tmp_path, count):
    files = [one(at, at % 5) for at in range(count)]
    write(tmp_path, files)
    check(tmp_path, files, read(tmp_path))


def _replaced(data: bytes, before: bytes, after: bytes) -> bytes:
    assert len(before) == len(after)
    assert before in data
    return data.replace(before, after)


def _flipped(at: int) -> Callable[[bytes], bytes]:
    def flip(data: bytes) -> bytes:
        changed = bytearray(data)
        changed[at] ^= 1
        return bytes(changed)

    return flip


ROWS = [event([number("loss", 7 + step / 7), number("accuracy", -7)], step, 7 + step / 3) for step in range(3)]
OTHER_TAGS = [event([number("lass", step), number("accuracy", 1)], step, 7 + step / 3) for step in range(3)]
SWAPPED = [event([number("accuracy", step), number("loss", 1)], step, 7 + step / 3) for step in range(3)]
LONG_STEP = [event([number(tag, 7), number("accuracy", 1)], 200, 7) for tag in ("l", "los", "los")]
IMAGE = Summary.Value(tag="n", image=Summary.Image(encoded_image_string=b"?"))

FAILED = told(summaries.session_end(summaries.FAILURE, 1_700_000_060.0), now=60)

# What another run of the same size may be; made of the bytes of run 7.
STRANGERS: dict[str, Callable[[bytes], bytes]] = {
    "torn": lambda data: data[:-1],
    "empty": lambda data: b"",
    "zeros": lambda data: bytes(len(data)),
    "zeros at its end": lambda data: data[:-40] + bytes(40),
    "a length that is wrong": _flipped(len(VERSION)),
    "a length's checksum": _flipped(len(VERSION) + 9),
    "a checksum of points": _flipped(-len(END) - 2),
    "a point": _flipped(len(VERSION) + len(start(f"{7:016d}")) + 30),
    "its start": _flipped(len(VERSION) + 60),
    "its end": _flipped(-20),
    "its text": lambda data: _replaced(data, b"why", b"who"),
    "its version": _flipped(25),
    "other tags": lambda data: _replaced(data, b"".join(ROWS), b"".join(OTHER_TAGS)),
    "tags in another order": lambda data: _replaced(data, b"".join(ROWS), b"".join(SWAPPED)),
    "a longer step": lambda data: _replaced(data, b"".join(ROWS), b"".join(LONG_STEP)),
    "records in another order": lambda data: _replaced(data, TEXT + _last(data), _last(data) + TEXT),
    "a text of the same size": lambda data: _replaced(data, TEXT, told(summaries.text("note", "odd"))),
    "another text's name": lambda data: _replaced(data, TEXT, told(summaries.text("nope", "why"))),
    "no event": lambda data: _replaced(data, TEXT, record(b"\xff" * (len(TEXT) - 16))),
    "an image in place of the text": lambda data: _replaced(data, TEXT, _padded(IMAGE, len(TEXT))),
    "a scalar in place of the text": lambda data: _replaced(data, TEXT, _padded(number("n", 0.25), len(TEXT))),
    "no message of the plugin": lambda data: _restarted(data, b"\xff"),
    "half a message of the plugin": lambda data: _restarted(data, b""),
    "another plugin": lambda data: _restarted(data, b"", "hparamz"),
    "a start of another trial": lambda data: _replaced_start(data, start("other" * 3 + "!")),
    "a failure": lambda data: data[: -len(END)] + FAILED,
    "two starts": lambda data: _replaced(data, VERSION + start(f"{7:016d}"), start(f"{7:016d}") + VERSION),
}  # fmt: skip


def _last(data: bytes) -> bytes:
    return event([number("loss", 7)], 90, 7)


def _padded(value: Summary.Value, size: int) -> bytes:
    """An event of a record of so many bytes."""
    for more in range(size):
        value.tag = "n" + "." * more
        if len(found := event([value])) == size:
            return found
    raise AssertionError("no such size")


def _restarted(data: bytes, content: bytes, name: str = "hparams") -> bytes:
    """Another message in the place of the session's start."""
    found = Event.FromString(start(f"{7:016d}")[12:-4])
    plugin = found.summary.value[0].metadata.plugin_data
    plugin.plugin_name = name
    plugin.content = content + plugin.content[len(content) :] if content else plugin.content[:-1] + b"\xff"
    return _replaced_start(data, record(found.SerializeToString()))


def _replaced_start(data: bytes, other: bytes) -> bytes:
    return _replaced(data, start(f"{7:016d}"), other)


@pytest.mark.parametrize("place", [0, 7, 19], ids=["first", "middle", "last"])
@pytest.mark.parametrize("name", STRANGERS)
def test_one_is_another_than_the_rest(tmp_path, name, place):
    files = [one(at) for at in range(20)]
    files[place] = STRANGERS[name](one(7))
    write(tmp_path, files)
    check(tmp_path, files, read(tmp_path))


@pytest.mark.parametrize("place", [0, 3])
def test_damage_at_every_place_of_one(tmp_path, place):
    """Of ten files one is damaged: it is read by itself, with the finding that it has there."""
    files = [one(at, 1) for at in range(10)]
    write(tmp_path, files)
    good, layouts = files[place], Layouts()
    for at in range(0, len(good), 3):
        damaged = _flipped(at)(good)
        (tmp_path / f"run-{place}" / NAME).write_bytes(damaged)
        found = read_alike([str(tmp_path / f"run-{number}" / NAME) for number in range(10)], layouts)
        assert str(tmp_path / f"run-{place}" / NAME) not in found
        run, wrong = singly(tmp_path, f"run-{place}")
        assert differences(slow_read(damaged), run, wrong) == []
    assert read(tmp_path).findings


def test_two_kinds_of_one_size(tmp_path):
    files = [STRANGERS["other tags"](one(7)) if at % 2 else one(7) for at in range(30)]
    write(tmp_path, files)
    check(tmp_path, files, read(tmp_path))


def test_no_end_and_no_start_and_nothing_but_a_version(tmp_path):
    files = [one(at, end=b"") for at in range(10)] + [VERSION] * 10
    files += [event([number("loss", at)], at, at) for at in range(10)]
    write(tmp_path, files)
    results = read(tmp_path)
    check(tmp_path, files, results)
    assert [run.outcome for run in results.runs] == [Outcome.INTERRUPTED] * 10 + [Outcome.UNKNOWN] * 10


def test_a_tag_twice_in_an_event_and_in_many(tmp_path):
    rows = [b"".join(event([number("a", at), number("b", step), number("a", -at)], step) for step in range(3))
            for at in range(10)]  # fmt: skip
    files = [VERSION + start(f"{at}") + rows[at] + END for at in range(10)]
    write(tmp_path, files)
    assert taken(tmp_path, files) == 10
    check(tmp_path, files, read(tmp_path))


def test_runs_that_are_being_written(tmp_path):
    files = [one(at, end=b"") for at in range(12)]
    write(tmp_path, files)
    held = [os.open(tmp_path / f"run-{at}" / NAME, os.O_RDWR) for at in range(0, 12, 2)]
    for file in held:
        fcntl.flock(file, fcntl.LOCK_EX)
    reader = LogDirReader(tmp_path)
    outcomes = [run.outcome for run in reader.read().runs]
    assert outcomes == [Outcome.RUNNING, Outcome.INTERRUPTED] * 6
    check(tmp_path, files, read(tmp_path))
    for at in range(0, 12, 2):
        with open(tmp_path / f"run-{at}" / NAME, "ab") as file:
            file.write(END)
        files[at] += END
    for file in held:
        os.close(file)
    results = reader.read()
    assert [run.outcome for run in results.runs] == [Outcome.COMPLETED, Outcome.INTERRUPTED] * 6
    check(tmp_path, files, results)


def test_they_grow_afterwards(tmp_path):
    files = [one(at, end=b"") for at in range(20)]
    write(tmp_path, files)
    reader = LogDirReader(tmp_path)
    first = reader.read()
    more = event([number("loss", 0.5), number("new", 1)], 91, 5)
    for at in range(0, 20, 3):
        files[at] += more
        (tmp_path / f"run-{at}" / NAME).write_bytes(files[at])
    (tmp_path / "run-1" / NAME).write_bytes(one(1)[:-5])
    files[1] = one(1)[:-5]
    second = reader.read()
    check(tmp_path, files, second)
    assert [one is other for one, other in zip(first.runs, second.runs, strict=True)] == [
        at % 3 > 0 and at != 1 for at in range(20)
    ]
    assert [finding.kind for finding in second.findings] == [Kind.TORN]


def test_long_files_are_read_by_themselves(tmp_path):
    files = [one(at, 1200) for at in range(FEWEST_FILES + 2)]
    assert len(files[0]) > LONGEST_FILE
    write(tmp_path, files)
    assert taken(tmp_path, files) == 0
    check(tmp_path, files, read(tmp_path))


def test_what_cannot_be_opened_is_left_out(tmp_path):
    files = [one(at) for at in range(FEWEST)]
    write(tmp_path, files)
    os.mkfifo(tmp_path / "fifo")
    odd = [str(tmp_path / "fifo"), str(tmp_path / "not there"), str(tmp_path)]
    paths = [str(tmp_path / f"run-{at}" / NAME) for at in range(FEWEST)]
    assert read_alike([*odd, *paths], Layouts()).keys() == set(paths)


def test_a_message_that_stands_there_twice(tmp_path):
    """The bytes of the message are in the tag, too: what is read is the message."""

    def session(tag: str, status: int) -> bytes:
        found = Event.FromString(told(summaries.session_end(status, 2.0**40))[12:-4])
        found.summary.value[0].tag = tag
        return record(found.SerializeToString())

    content = Event.FromString(session("x", 1)[12:-4]).summary.value[0].metadata.plugin_data.content.decode()
    other = Event.FromString(session("x", 2)[12:-4]).summary.value[0].metadata.plugin_data.content.decode()
    files = [one(at, end=session(content if at == 0 else other, 1)) for at in range(10)]
    write(tmp_path, files)
    assert {run.outcome for run in read(tmp_path).runs} == {Outcome.COMPLETED}
