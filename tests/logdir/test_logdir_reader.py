"""`LogDirReader`: read again and again, a directory is what reading it anew says, and only what is new is read."""

from __future__ import annotations

import math
import os
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from mutants import END, VERSION, event, good, number, start
from sick_logs import SECOND, hparams_record
from slow_reader import differences, slow_read
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo

from hparams_lab.core.curve import By, extremes
from hparams_lab.core.errors import LogDirError
from hparams_lab.core.results import Results
from hparams_lab.events.format import summaries
from hparams_lab.logdir.reader import LogDirReader, read

NAME = "events.out.tfevents.1.host.7.0"
LATER = "events.out.tfevents.2.host.7.1"
"""Two files of one process."""


def points(tag: str, steps: range) -> bytes:
    return b"".join(event([number(tag, step / 3)], step, step) for step in steps)


def put(directory: Path, data: bytes, name: str = NAME) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_bytes(data)


def more(directory: Path, data: bytes, name: str = NAME) -> None:
    with open(directory / name, "ab") as file:
        file.write(data)


def told(results: Results) -> list[object]:
    """All that results say, for comparison."""
    runs = [
        (repr(run), {tag: [column.tolist() for column in points] for tag, points in run.columns.items()}, run.texts)
        for run in results.runs
    ]
    return [repr(runs), list(map(str, results.findings)), dict(results.sweeps), results.declared]


def same(reader: LogDirReader, root: Path) -> Results:
    """What the reader says, which is what a new one says."""
    found = reader.read()
    assert told(found) == told(read(root))
    return found


@pytest.fixture
def root(tmp_path):
    for at in range(3):
        put(tmp_path / f"run-{at}", VERSION + start(f"{at}") + points("loss", range(5 + at)) + END)
    return tmp_path


def test_nothing_changed_nothing_made(root):
    reader = LogDirReader(root)
    first, second = reader.read(), reader.read()
    assert all(one is other for one, other in zip(first.runs, second.runs, strict=True))


def test_only_what_changed_is_made_anew(root):
    reader = LogDirReader(root)
    first = reader.read()
    more(root / "run-1", points("val", range(3)))
    second = same(reader, root)
    assert [one is other for one, other in zip(first.runs, second.runs, strict=True)] == [True, False, True]
    assert second.runs[1].scalars("val").steps.tolist() == [0, 1, 2]


def test_a_run_more_a_run_less(root):
    reader = LogDirReader(root)
    first = reader.read()
    put(root / "run-10", VERSION + start("10") + points("loss", range(2)))
    shutil.rmtree(root / "run-1")
    second = same(reader, root)
    assert [run.name for run in second.runs] == ["run-0", "run-2", "run-10"]
    assert second.runs[0] is first.runs[0]
    for name in ("run-0", "run-2", "run-10"):
        shutil.rmtree(root / name)
    with pytest.raises(LogDirError, match="holds no runs"):
        reader.read()
    put(root / "run-0", VERSION + start("0") + points("loss", range(9)))
    assert len(same(reader, root).runs[0].scalars("loss").steps) == 9


@pytest.mark.parametrize("size", ["shorter", "same", "longer"])
def test_a_file_that_is_replaced(root, size):
    reader = LogDirReader(root)
    reader.read()
    rows = {"shorter": range(1), "same": range(100, 106), "longer": range(50, 90)}[size]
    other = root / "other"
    other.write_bytes(VERSION + start("9") + points("loss", rows) + END)
    os.replace(other, root / "run-1" / NAME)
    assert same(reader, root).runs[1].scalars("loss").steps.tolist() == list(rows)


def test_a_file_that_is_cut_and_grows_again(root):
    reader, path = LogDirReader(root), root / "run-1" / NAME
    reader.read()
    whole = path.read_bytes()
    for size in (200, 150, len(whole), 0, len(whole)):
        path.write_bytes(whole[:size])
        same(reader, root)


@pytest.mark.parametrize("layout", ["several", "mixed", "tensors"])
def test_a_growing_file_is_at_each_size_what_reading_anew_says(tmp_path, layout):
    put(tmp_path / "other", VERSION + start("other") + END)
    put(tmp_path / "run", b"")
    reader = LogDirReader(tmp_path)
    data = b"".join(good(layout, 8))
    for size in range(len(data)):
        more(tmp_path / "run", data[size : size + 1])
        if size % 5 == 0 or size > len(data) - 80:
            results = same(reader, tmp_path)
            run = next((run for run in results.runs if run.name == "run"), None)
            assert differences(slow_read(data[: size + 1]), run, results.findings) == []


def test_several_files_of_a_directory(tmp_path):
    put(tmp_path, VERSION + start("0") + points("loss", range(3)))
    reader = LogDirReader(tmp_path)
    assert reader.read().runs[0].scalars("loss").steps.tolist() == [0, 1, 2]
    put(tmp_path, VERSION + points("loss", range(3, 5)), LATER)
    assert same(reader, tmp_path).runs[0].scalars("loss").steps.tolist() == [0, 1, 2, 3, 4]
    more(tmp_path, points("loss", range(5, 6)) + END, LATER)
    assert same(reader, tmp_path).runs[0].scalars("loss").steps.tolist() == [0, 1, 2, 3, 4, 5]
    put(tmp_path, VERSION + points("loss", range(90, 92)), "events.out.tfevents.0.host.7.0")
    assert same(reader, tmp_path).runs[0].scalars("loss").steps.tolist() == [0, 1, 2, 3, 4, 5, 90, 91]  # by time
    (tmp_path / NAME).unlink()
    same(reader, tmp_path)


def test_the_first_of_two_files_grows(tmp_path):
    """The order of the points is that of writing, whenever they were read, and by whatever name."""
    put(tmp_path, VERSION + start("0") + points("loss", range(3)))
    put(tmp_path, VERSION + points("loss", range(10, 13)), LATER)
    reader = LogDirReader(tmp_path)
    reader.read()
    more(tmp_path, points("loss", range(3, 5)))
    assert same(reader, tmp_path).runs[0].metrics == {"loss": pytest.approx(4)}
    more(tmp_path, points("loss", range(15, 18)))
    found = same(reader, tmp_path).runs[0]
    assert found.metrics == {"loss": pytest.approx(17 / 3)}
    assert found.scalars("loss").steps.tolist() == [0, 1, 2, 3, 4, 10, 11, 12, 15, 16, 17]


def test_of_two_files_one_that_says_nothing_stays(tmp_path):
    put(tmp_path / "run", b"")
    put(tmp_path / "run", VERSION + start("0") + points("loss", range(3)), LATER)
    put(tmp_path / "other", VERSION + start("1") + END)
    reader = LogDirReader(tmp_path)
    assert len(reader.read().runs) == 2
    (tmp_path / "run" / LATER).unlink()
    assert [run.name for run in same(reader, tmp_path).runs] == ["other"]


def test_a_sub_run_that_comes_grows_and_goes(root):
    reader = LogDirReader(root)
    reader.read()
    put(root / "run-1/validation", VERSION + points("loss", range(2)))
    assert len(same(reader, root).runs[1].scalars("validation/loss").steps) == 2
    more(root / "run-1/validation", points("loss", range(3)))
    assert len(same(reader, root).runs[1].scalars("validation/loss").steps) == 5
    shutil.rmtree(root / "run-1/validation")
    assert list(same(reader, root).runs[1].metrics) == ["loss"]


def test_a_second_session_takes_the_points_from_the_first(tmp_path):
    """PyTorch: of one session the points above are its own, of two they are nobody's."""
    put(tmp_path / "run", VERSION + points("loss", range(3)))
    reader = LogDirReader(tmp_path)
    assert [run.name for run in same(reader, tmp_path).runs] == ["run"]
    put(tmp_path / "run/1", VERSION + start("1") + END)
    assert [(run.name, list(run.metrics)) for run in same(reader, tmp_path).runs] == [("run/1", ["loss"])]
    put(tmp_path / "run/2", VERSION + start("2") + END)
    found = [(run.name, list(run.metrics)) for run in same(reader, tmp_path).runs]
    assert found == [("run", ["loss"]), ("run/1", []), ("run/2", [])]
    shutil.rmtree(tmp_path / "run/1")
    assert [(run.name, list(run.metrics)) for run in same(reader, tmp_path).runs] == [("run/2", ["loss"])]


def test_a_session_that_begins_above_points_owns_them(tmp_path):
    put(tmp_path / "run/validation", VERSION + points("loss", range(3)))
    put(tmp_path / "run", VERSION)
    reader = LogDirReader(tmp_path)
    assert [run.name for run in same(reader, tmp_path).runs] == ["run/validation"]
    more(tmp_path / "run", start("1"))
    assert [(run.name, list(run.metrics)) for run in same(reader, tmp_path).runs] == [("run", ["validation/loss"])]


def _bytes_read() -> int:
    with open("/proc/self/io", "rb") as file:
        return int(file.read().split()[1])


def test_only_new_bytes_are_read(tmp_path):
    """The kernel counts what a process reads."""
    if not os.path.exists("/proc/self/io"):
        pytest.skip("needs /proc/self/io")
    size = 0
    for at in range(60):
        data = VERSION + start(f"{at:02d}") + points("loss", range(40 if at < 50 else 3000)) + END * (at % 2)
        put(tmp_path / f"run-{at}", data)
        size += len(data)
    reader = LogDirReader(tmp_path)
    counts = []
    for _ in range(3):
        before = _bytes_read()
        reader.read()
        counts.append(_bytes_read() - before)
        if len(counts) == 2:
            more(tmp_path / "run-7", points("loss", range(100)))
            more(tmp_path / "run-57", points("loss", range(50)))
    new = len(points("loss", range(100)) + points("loss", range(50)))
    assert size <= counts[0] < size * 1.5  # what is short and not like others is read twice
    assert counts[1] < 1000
    assert new <= counts[2] < new + 1000


# Thin


@pytest.mark.parametrize("by", ["last", "best", "mean-of-last-1", "mean-of-last-5", "mean-of-last-999"])
def test_what_is_kept_answers_what_all_points_do(tmp_path, by):
    for layout in ("loop", "irregular", "several", "one_tag", "mixed"):
        put(tmp_path / layout, b"".join(good(layout, 3000)))
    put(tmp_path / "nan", points("loss", range(3)) + event([number("loss", float("nan"))] * 2, 9))
    by = By.of(by)
    whole, thin = read(tmp_path), read(tmp_path, thin=by.thin)
    for run, thinned in zip(whole.runs, thin.runs, strict=True):
        assert list(run.columns) == list(thinned.columns)
        np.testing.assert_array_equal([*run.metrics.values()], [*thinned.metrics.values()])
        for tag in run.columns:
            for goal in ("max", "min"):
                np.testing.assert_array_equal(run.value(tag, by, goal), thinned.value(tag, by, goal))
            assert len(thinned.scalars(tag).values) <= max(4, 1 + by.count)


@pytest.mark.parametrize("thin", [extremes, By.of("mean-of-last-5").thin], ids=["extremes", "mean"])
def test_what_is_kept_of_a_growing_file_is_what_is_kept_of_all(tmp_path, thin):
    data = b"".join(good("irregular", 400))
    put(tmp_path, b"")
    reader, at = LogDirReader(tmp_path, thin), 0
    for size in (1, 700, 5000, 3, 9000, len(data)):
        more(tmp_path, data[at : at + size])
        at += size
        assert told(reader.read()) == told(read(tmp_path, thin=thin))
    assert differences(slow_read(data), reader.read().runs[0], thin=thin) == []


@pytest.mark.parametrize("by", ["best", "mean-of-last-5"])
@pytest.mark.parametrize(("runs", "tags", "rounds"), [(1, 30, 10_000), (40, 1, 20_000)])
def test_memory_is_that_of_the_points_asked_for(tmp_path, by, runs, tags, rounds):
    """Not of the files, of which there are 13 and 30 MB: what stays, and at most a few pieces meanwhile."""
    rows = [event([number(f"tag/{tag:02d}", tag)], 1, 1) for tag in range(tags)]
    data = b"".join(rows) * rounds
    put(tmp_path / "run-0", data)
    for at in range(1, runs):
        (tmp_path / f"run-{at}").mkdir()
        os.link(tmp_path / "run-0" / NAME, tmp_path / f"run-{at}" / NAME)
    put(tmp_path / "small", points("loss", range(200)))
    read(tmp_path / "small", thin=By.of(by).thin)  # what is made once
    tracemalloc.start()
    try:
        results = read(tmp_path, thin=By.of(by).thin)
        stays, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(results.runs) == runs + 1
    assert stays < 3_000_000
    assert most < 40_000_000


@pytest.mark.parametrize("by", ["last", "best", "mean-of-last-1", "mean-of-last-2", "mean-of-last-50"])
def test_when_a_run_of_another_tool_began_and_ended_is_in_what_is_kept(tmp_path, by):
    """Its points alone tell; the smallest, the largest and the last are not the first."""
    bare = [event([number("loss", value)], at, 100 + at) for at, value in enumerate([5, 9, 1, 4])]
    put(tmp_path / "bare", VERSION + b"".join(bare))
    no_times = HParamsPluginData(session_start_info=SessionStartInfo(group_name="g"))
    torch = [hparams_record(summaries.SESSION_START_TAG, no_times.SerializeToString())]
    torch += [event([number("loss", v)], at, 200 + at) for at, v in enumerate([5, math.nan, 1, 9, 4])]
    end = HParamsPluginData(session_end_info=SessionEndInfo(status=1))
    torch.append(hparams_record(summaries.SESSION_END_TAG, end.SerializeToString()))
    put(tmp_path / "torch", VERSION + b"".join(torch))
    for thin in (By.of(by).thin, extremes):
        found = {run.name: (run.started, run.ended) for run in read(tmp_path, thin=thin).runs}
        assert found == {"bare": (SECOND + 100, SECOND + 103), "torch": (SECOND + 200, SECOND + 204)}


def test_a_read_that_raised_leaves_nothing_stale(root):
    """A broken sweep.json: the next read says what a new reader says."""
    reader = LogDirReader(root)
    reader.read()
    more(root / "run-0", points("loss", range(7, 9)))
    (root / "sweep.json").write_text("{")
    with pytest.raises(LogDirError):
        reader.read()
    (root / "sweep.json").unlink()
    assert len(same(reader, root).runs[0].scalars("loss").steps) == 7


@pytest.mark.parametrize("where", ["Cursor.read_new", "RunReader.run", "LogDirReader._read_sessions", "Scanner.scan"])
@pytest.mark.parametrize("call", range(3))
def test_an_interruption_leaves_nothing_stale(root, monkeypatch, where, call):
    from hparams_lab.events.read import cursor, scan
    from hparams_lab.logdir import reader, run_reader

    reading = LogDirReader(root)
    reading.read()
    for at in range(3):
        more(root / f"run-{at}", points("loss", range(7, 9)))
    put(root / "run-1/validation", VERSION + points("loss", range(2)))
    kind, name = where.split(".")
    owner = next(vars(module)[kind] for module in (cursor, reader, scan, run_reader) if kind in vars(module))
    real, calls = getattr(owner, name), iter(range(100))

    def interrupted(*args):
        found = real(*args)
        if next(calls) == call:
            raise KeyboardInterrupt
        return found

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, interrupted)
        with pytest.raises(KeyboardInterrupt):
            reading.read()
    assert [len(run.scalars("loss").steps) for run in same(reading, root).runs] == [7, 8, 9]
