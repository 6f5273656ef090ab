"""What is logged, on its way through buffers and threads into the file: its order, and when it is written."""

import re
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from read_back import read_back, steps_of
from tensorboard_client import eventually

from hparams_lab.core.errors import LogDirError, UsageError
from hparams_lab.core.outcome import Outcome
from hparams_lab.events.write import event_log
from hparams_lab.events.write.event_log import FULL_BYTES, OVERFULL, Signature
from hparams_lab.events.write.ticker import TICK_SECONDS
from hparams_lab.logdir.run_reader import event_files, read_run
from hparams_lab.run.start import start_run


@pytest.fixture
def run(tmp_path):
    run = start_run(tmp_path, hparams={"x": 1}, name="x", provenance=False)
    yield run
    run.finish()


def test_a_tag_that_is_logged_with_different_others_keeps_its_order(run, tmp_path):
    sets = [("a", "both"), ("both", "b"), ("both",), ("b", "both", "c")]
    for step in range(2000):
        run.log({tag: step + place for place, tag in enumerate(sets[step % 4 if step % 10 else 0])}, step=step)
        if step in (3, 700, 710):
            run.flush()
    run.finish()
    columns = read_back(tmp_path).columns
    assert columns["both"].steps.tolist() == list(range(2000))
    assert (np.diff(columns["both"].wall_times) >= 0).all()
    for tag, column in columns.items():
        places = [sets[step % 4 if step % 10 else 0].index(tag) for step in column.steps.tolist()]
        assert (column.values - column.steps).tolist() == places


def test_the_order_is_kept_while_another_thread_drains(run, tmp_path):
    over = threading.Event()

    def drain():
        while not over.is_set():
            run._events.drain()

    thread = threading.Thread(target=drain)
    thread.start()
    for step in range(50_000):
        run.log({"loss": step, "ab"[step % 2]: 0}, step)
    over.set()
    thread.join()
    run.finish()
    assert steps_of(tmp_path) == list(range(50_000))


def test_columns_come_after_what_was_logged_before(run, tmp_path):
    run.log({"loss": 0.5, "other": 1}, step=1)
    run.log_columns({"loss": [0.25, 0.125]})
    run.log("loss", 0.0625)
    assert run.metrics == {"loss": 0.0625, "other": 1}
    run.finish()
    assert steps_of(tmp_path) == [1, 2, 3, 4]


def test_steps_that_go_back_are_kept_and_told_of_once(tmp_path):
    for number, flush in enumerate([False, True]):
        run = start_run(tmp_path, hparams={"x": 1}, name=str(number), provenance=False)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for step in [5, 3, 4, 2, 2]:
                run.log({"loss": step, "other": 0}, step)
                if flush:
                    run.flush()
            run.finish()
        (told,) = caught
        assert str(told.message).startswith(f"run '{number}': the steps of 'loss' go back; all points are kept, but ")
        assert read_run(run.dir, run.name).columns["loss"].steps.tolist() == [5, 3, 4, 2, 2]


def test_a_warning_that_is_an_error_loses_nothing(run, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run.log("loss", 1, 5)
        run.log("loss", 1, 4)
        run.log("other", 1, 6)
        with pytest.raises(UserWarning, match="the steps of 'loss' go back"):
            run.flush()
        run.finish()
    assert (steps_of(tmp_path), steps_of(tmp_path, "other")) == ([5, 4], [6])


def test_written_within_two_seconds_without_a_further_call(run, tmp_path):
    run.log({"loss": 0.5}, step=7)
    run.text("note", "words")
    assert steps_of(tmp_path) == []
    eventually(lambda: steps_of(tmp_path), [7].__eq__)
    assert TICK_SECONDS <= 1.0, "it is looked for what is old so often, and nothing waits longer than twice that"
    assert read_back(tmp_path).texts == {"note": "words"}
    assert read_back(tmp_path).outcome is Outcome.RUNNING


def test_written_by_size_before_it_is_old(run):
    (file,) = event_files(run.dir)
    before = file.stat().st_size
    for _ in range(FULL_BYTES // 20 + 10):
        run.log("loss", 0.5)
    assert run._events._thread is not None  # woken by what was logged last
    eventually(lambda: file.stat().st_size > before + 1000, seconds=10)


def test_eight_threads_lose_nothing(run, tmp_path):
    def work(name):
        for step in range(10_000):
            run.log({name: step, "all": step}, step=step)

    threads = [threading.Thread(target=work, args=(str(number),)) for number in range(8)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the steps of "all" go back
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        run.finish()
    columns = read_back(tmp_path).columns
    for number in range(8):
        assert columns[str(number)].steps.tolist() == list(range(10_000))
        assert columns[str(number)].values.tolist() == list(range(10_000))
    assert np.bincount(columns["all"].steps).tolist() == [8] * 10_000


def test_what_does_not_fit_is_dropped_and_counted_when_asked_to(tmp_path, monkeypatch):
    monkeypatch.setattr(event_log, "FULL_BYTES", 2000)
    run = start_run(tmp_path, hparams={"x": 1}, name="x", provenance=False, when_full="drop")
    assert run.dropped == 0
    with run._events._drain_lock:  # as a disk would that takes its time
        run._events._thread = threading.main_thread()
        for _ in range(5000):
            run.log("loss", 0.5)
        kept = len(run._events.signature(("loss",)).rows)
    assert kept == OVERFULL * Signature.of(("loss",)).full
    assert run.dropped == 5000 - kept
    run.finish()
    assert len(steps_of(tmp_path)) == kept


def test_a_run_that_is_over_or_was_never_there(run):
    run.finish()
    with pytest.raises(UsageError, match=r"^run 'x' is finished; "):
        run.log("loss", 1)
    with pytest.raises(LogDirError, match=re.escape(" cannot be written: No such file or directory; choose another")):
        type(run).__mro__[1](Path("/no/such"), "x", run.hparams)


def test_summary_values_are_checked_when_they_are_set(tmp_path):
    with start_run(tmp_path, hparams={"x": 1}, provenance=False) as run:
        run.log("loss", 0.5)
        with pytest.raises(UsageError, match=r"^metric 'best' is 'high' \(str\); wanted a single number$"):
            run.summary["best"] = "high"
        with pytest.raises(UsageError, match=r"^metric 'best' is None \(NoneType\); wanted a single number$"):
            run.summary.update(best=None)
        run.summary["best"] = 0.25
    assert read_run(run.dir, run.name).metrics == {"loss": 0.5, "best": 0.25}


def test_a_run_that_is_closing_takes_nothing_more(tmp_path):
    run = start_run(tmp_path, hparams={"x": 1}, provenance=False)
    run.log("loss", 0.5)
    run._events.close()  # as in the middle of another thread's finish
    for _ in range(2):
        with pytest.raises(UsageError, match=r" is finished; log before run\.finish\(\)"):
            run.log("loss", 0.25)
    run._events.add_columns("loss", np.arange(1), np.ones(1))
    assert read_run(run.dir, run.name).scalars("loss").values.tolist() == [0.5]
    run._over = True
