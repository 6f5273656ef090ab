"""Final values keep 64 bits: in the run's own file, beside the points of 32 bits that TensorBoard shows."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from other_writer import other

import hparams_lab as lab
from hparams_lab.core.outcome import Outcome
from hparams_lab.events.format import summaries
from hparams_lab.events.format.final import FINAL_TAG, final_values, finals_of, narrowed
from hparams_lab.events.write.writer import EventFileWriter
from hparams_lab.integrations.search_log import SearchLog
from hparams_lab.logdir.run_reader import own_file
from hparams_lab.run.amend import add_outcome, add_scalars

VALUES = [-1234567.12, -1234567.15, 1e-50, 0.99999999, 16777217.0, 1 / 3, -1e300, 5e-324, 0.1, 1.0, 0.0, 1e300]
SPACE = lab.Experiment([lab.HParam("x", lab.Discrete([1, 2, 3]))], metrics=[lab.Metric("loss", goal="min")])


def logged(logdir: Path, loss: float, name: str | None = None, resume: bool = False, x: int = 1) -> Path:
    with lab.start_run(logdir, hparams={"x": x}, name=name, resume=resume, provenance=False) as run:
        run.log({"loss": loss}, step=3)
    return run.dir


def loss_of(logdir: Path) -> float:
    return lab.read(logdir).runs[0].metrics["loss"]


@pytest.mark.parametrize("value", [*VALUES, math.nan, math.inf, -math.inf])
def test_what_was_logged_last_is_read_back(tmp_path, value):
    logged(tmp_path, value)
    np.testing.assert_equal(loss_of(tmp_path), value)
    with np.errstate(over="ignore"):
        np.testing.assert_equal(lab.read(tmp_path).runs[0].scalars("loss").values[-1], float(np.float32(value)))


def test_many_runs_of_one_size_are_read_at_once(tmp_path):
    """As `read_alike` does it."""
    for at, value in enumerate(VALUES * 2):
        logged(tmp_path, value, x=at)
    assert [run.metrics["loss"] for run in lab.read(tmp_path).runs] == VALUES * 2


def test_ranks_means_and_tables_are_of_64_bits(tmp_path):
    losses = {1: (-1234567.12, 2.0), 2: (-1234567.15, 2.0), 3: (-1234567.13, 2.0)}
    for x, values in losses.items():
        for value in values:
            logged(tmp_path, value, x=x)
    results = lab.read(tmp_path)
    assert [trial.hparams["x"] for trial in results.top(goal="min", metric="loss")] == [2, 3, 1]
    assert results.best("loss", "min").metrics["loss"] == (-1234567.15 + 2.0) / 2
    assert results.best("loss", "max").mean("loss") == (-1234567.12 + 2.0) / 2
    table = tmp_path / "runs.csv"
    command = [sys.executable, "-m", "hparams_lab", "export", str(tmp_path), "-o", str(table)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [*csv.DictReader(table.read_text().splitlines())]
    (column,) = (name for name in rows[0] if name.endswith("loss"))
    assert [float(row[column]) for row in rows] == [value for values in losses.values() for value in values]


def test_what_a_sweep_yields_is_what_is_read_later(tmp_path):
    def train(run):
        run.log({"loss": 1.0}, step=1)
        return {"loss": VALUES[run.hparams["x"] - 1]}

    results = lab.run_sweep(SPACE, train, logdir=tmp_path, executor="inline", observe=lambda event: None)
    assert [run.metrics["loss"] for run in results.runs] == VALUES[:3]
    assert results.best().hparams["x"] == 2
    assert lab.read(tmp_path).runs == results.runs


def test_a_search_of_another_library(tmp_path):
    log = SearchLog.open(tmp_path, "a search")
    log.declare(SPACE)
    log.start("run-0000", {"x": 1}, provenance=False).finish({"loss": -1234567.12})
    log.close()
    assert loss_of(tmp_path) == -1234567.12


@pytest.mark.parametrize("later", [0.1 + 1e-12, float(np.float32(0.1)), 0.25])
def test_what_comes_later_counts(tmp_path, later):
    """A value that 32 bits do not tell from the one before, and one that they hold."""
    run = logged(tmp_path, 0.1)
    add_scalars(run, {"loss": later, "rank": 1 / 3})
    assert lab.read(tmp_path).runs[0].metrics == {"loss": later, "rank": 1 / 3}


@pytest.mark.parametrize("later", [0.25, float(np.float32(0.1))])
def test_a_point_without_a_record_counts(tmp_path, later):
    """As an older version adds it, behind the end."""
    run = logged(tmp_path, 0.1)
    time.sleep(0.001)
    writer = EventFileWriter.append(own_file(run))
    writer.add(summaries.scalars({"loss": later}), step=3)
    writer.close()
    assert loss_of(tmp_path) == later


def test_what_another_writer_logs_takes_nothing_from_it(tmp_path):
    run = logged(tmp_path, 0.1)
    other(run, {"loss": [(9, 7.0)], "more": [(0, 0.25)]}, at=9.9e9)
    other(run / "tb", {"loss": [(9, 7.0)]})
    assert lab.read(tmp_path).runs[0].metrics == {"loss": 0.1, "more": 0.25, "tb/loss": 7.0}


def test_a_run_that_is_gone_on_with(tmp_path):
    run = logged(tmp_path, 0.1, "a")
    add_outcome(run, Outcome.PRUNED, "slow")
    add_scalars(run, {"rank": 1 / 3})
    with lab.start_run(tmp_path, hparams={"x": 1}, name="a", resume=True, provenance=False) as again:
        assert again.metrics == {"loss": 0.1, "rank": 1 / 3}
        again.log({"loss": float(np.float32(0.1))}, step=3)
        again.flush()
        assert loss_of(tmp_path) == float(np.float32(0.1))
    assert lab.read(tmp_path).runs[0].metrics == {"loss": float(np.float32(0.1)), "rank": 1 / 3}
    data = own_file(run).read_bytes()
    assert data.count(summaries.SESSION_END_TAG.encode()) == 1
    logged(tmp_path, 0.7, "a", resume=True)
    assert lab.read(tmp_path).runs[0].metrics == {"loss": 0.7, "rank": 1 / 3}


def test_a_log_that_is_followed(tmp_path):
    reader = lab.LogDirReader(tmp_path)
    with lab.start_run(tmp_path, hparams={"x": 1}, provenance=False) as run:
        run.log({"loss": 0.1})
        run.flush()
        assert reader.read().runs[0].metrics == {"loss": float(np.float32(0.1))}
    assert reader.read().runs[0].metrics == {"loss": 0.1}


def test_nothing_is_written_where_32_bits_hold_all(tmp_path):
    run = logged(tmp_path, 0.25)
    assert FINAL_TAG.encode() not in own_file(run).read_bytes()
    assert final_values({"a": 1.0, "b": math.nan, "c": math.inf, "d": -0.0}, 1.0) is None
    assert (narrowed(1e300), narrowed(-1e300)) == (math.inf, -math.inf)


def test_the_record_is_json_that_tensorboards_text_plugin_passes_over():
    from tensorboard.plugins.text.metadata import parse_plugin_metadata

    (value,) = final_values({"a|b": 0.1, "c": 1.0}, 2.5).value
    assert parse_plugin_metadata(value.metadata.plugin_data.content).version == 0
    content = value.metadata.plugin_data.content
    assert json.loads(content[content.index(b"{") :]) == {"version": 1, "time": 2.5, "values": {"a|b": 0.1, "c": 1.0}}
    assert finals_of(value) == {"a|b": (0.1, 2.5), "c": (1.0, 2.5)}
    sizes = {final_values({"a": one, "b": 0.1}, at).ByteSize() for one in VALUES for at in (2.5, 1.7e9 / 3)}
    assert len(sizes) == 1  # so that files of one size are read at once


@pytest.mark.parametrize(
    "record",
    [
        b"", b"{", b"[]", b"null", b"{}", b'{"time": 1, "values": 3}', b'{"time": "x", "values": {}}', b"\xff\xff",
        b'{"time": 1, "values": {"a": "1", "b": null, "c": true, "d": [1]}}', b"[" * 5000,
        b'{"time": 1, "values": {"a": 1' + b"0" * 400 + b"}}",
    ],
)  # fmt: skip
def test_a_record_that_is_none_says_nothing(record):
    (value,) = final_values({"a": 0.1}, 2.5).value
    length = len(record)
    head = bytes([length]) if length < 128 else bytes([length & 127 | 128, length >> 7])
    value.metadata.plugin_data.content = b"\x7a" + head + record
    assert finals_of(value) == {}
    value.metadata.plugin_data.content = b"\x7a\xff"
    assert finals_of(value) == {}
