"""`start_run` and `Run`: what a training loop logs is what its directory tells."""

import math
import re
import subprocess
import sys

import numpy as np
import pytest
from tensorboard.plugins.hparams.summary_v2 import HParam as TheirHParam

from hparams_lab.core.domains import Discrete
from hparams_lab.core.errors import Pruned, UsageError
from hparams_lab.core.experiment import Experiment, Metric
from hparams_lab.core.hparam import HParam
from hparams_lab.core.outcome import Outcome
from hparams_lab.core.values import trial_id
from hparams_lab.events.format import summaries
from hparams_lab.events.format.event_file import read_events
from hparams_lab.logdir.declaration import current_declaration
from hparams_lab.logdir.reader import read
from hparams_lab.logdir.run_reader import OUTCOME_TAG, event_files
from hparams_lab.logdir.sweep_json import declared_in
from hparams_lab.run.provenance import PROVENANCE_TAG, provenance_markdown
from hparams_lab.run.start import start_run
from hparams_lab.storage.paths import LogDirPaths

UNITS = HParam("units", Discrete([16, 32]))
EXPERIMENT = Experiment([UNITS], [Metric("accuracy")])


@pytest.fixture
def run(tmp_path):
    run = start_run(tmp_path, hparams={"x": 1}, name="x")
    yield run
    run.finish()


def read_back(run):
    return {found.name: found for found in read(run.dir.parents[run.name.count("/")]).runs}[run.name]


def in_the_file(run):
    """The tags in the order of writing, session statuses in place of their tags."""
    (file,) = event_files(run.dir)
    values = [value for event in read_events(file.read_bytes()) for value in event.summary.value]
    plugins = [(value.tag, summaries.plugin_data(value)) for value in values]
    return [data.session_end_info.status if tag == summaries.SESSION_END_TAG else tag for tag, data in plugins]


def test_a_loop_of_ones_own(weird_tmp_path):
    with start_run(weird_tmp_path / "new", hparams={"units": 32, "lr": 0.01, "act": None}) as run:
        assert (run.name, run.dir, run.hparams["units"]) == ("run-0000", weird_tmp_path / "new/run-0000", 32)
        run.log({"loss": 0.5, "val/loss": 1}, step=1)
        run.log("loss", 0.25, step=2)
        run.log({"loss": 0.125}, 4)
        run.log({"loss": 0.0625})
        run.text("note", "**why**", step=3)
        assert run.metrics == {"loss": 0.0625, "val/loss": 1.0}
    found = read_back(run)
    assert dict(found.hparams) == {"units": 32, "lr": 0.01, "act": "None"}
    assert found.trial_id == trial_id({"units": 32, "lr": 0.01, "act": None})
    assert (found.outcome, found.reason, found.texts) == (
        Outcome.COMPLETED,
        "",
        {"note": "**why**", PROVENANCE_TAG: provenance_markdown()},
    )
    assert found.scalars("loss").steps.tolist() == [1, 2, 4, 5]
    assert found.scalars("loss").values.tolist() == [0.5, 0.25, 0.125, 0.0625]
    assert found.started <= found.scalars("loss").wall_times[0] <= found.ended
    assert in_the_file(run)[0] == summaries.SESSION_START_TAG
    assert in_the_file(run)[-1] == summaries.SUCCESS
    declared = current_declaration(LogDirPaths(weird_tmp_path / "new"))
    assert {info.name for info in declared.hparam_infos} == {"units", "lr", "act"}
    assert [info.name.tag for info in declared.metric_infos] == ["loss", "val/loss"]


@pytest.mark.parametrize(
    ("error", "outcome", "status", "reason"),
    [
        (None, Outcome.COMPLETED, summaries.SUCCESS, ""),
        (ValueError("no\n  good: at all"), Outcome.FAILED, summaries.FAILURE, "ValueError: no good: at all"),
        (MemoryError(), Outcome.OUT_OF_MEMORY, summaries.FAILURE, "MemoryError"),
        (KeyboardInterrupt(), Outcome.INTERRUPTED, summaries.UNKNOWN, "KeyboardInterrupt"),
        (SystemExit(3), Outcome.INTERRUPTED, summaries.UNKNOWN, "SystemExit: 3"),
        (Pruned("worse"), Outcome.PRUNED, summaries.SUCCESS, "Pruned: worse"),
    ],
    ids=repr,
)
def test_how_the_block_ends_is_the_outcome(tmp_path, error, outcome, status, reason):
    caught = None
    try:
        with start_run(tmp_path, hparams={"x": 1}) as run:
            run.log({"loss": 0.5})
            if error is not None:
                raise error
    except BaseException as passed_on:
        caught = passed_on
    assert caught is error
    found = read_back(run)
    assert (found.outcome, found.reason, found.metrics) == (outcome, reason, {"loss": 0.5})
    assert in_the_file(run)[-1] == status
    details = found.texts.get(OUTCOME_TAG, "")
    assert ("Traceback (most recent call last):\n" in details) == (outcome in (Outcome.FAILED, Outcome.OUT_OF_MEMORY))


VALUES = [1, 0.5, True, np.float32(0.5), np.int64(3), np.bool_(True), np.array(0.25), math.nan, math.inf, -math.inf]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values(run, value):
    run.log({"x": value})
    run.finish()
    assert read_back(run).metrics == pytest.approx({"x": float(value)}, nan_ok=True)


def test_logging_brings_in_no_framework():
    script = (
        "import sys, tempfile\nfrom hparams_lab import read, start_run\n"
        "with tempfile.TemporaryDirectory() as logs:\n"
        "    with start_run(logs, hparams={'x': 1}) as run: run.log({'loss': 0.5})\n"
        "    assert read(logs).runs\n"
        "assert not {'tensorflow', 'torch', 'jax', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True)


@pytest.mark.parametrize(
    ("log", "message"),
    [
        (lambda run: run.log("x", "0.5"), r"metric 'x' is '0.5' (str); wanted a single number"),
        (lambda run: run.log("x", b"1"), r"metric 'x' is b'1' (bytes); wanted a single number"),
        (lambda run: run.log({"x": None}), r"metric 'x' is None (NoneType); wanted a single number"),
        (lambda run: run.log("x", 1j), r"metric 'x' is 1j (complex); wanted a single number"),
        (lambda run: run.log("x", 10**400), f"metric 'x' is 1{'0' * 56}... (int); wanted a single number"),
        (lambda run: run.log("x", 1, step=-1), "step is -1; wanted a whole number from 0 to 2**31-1, which is what"),
        (lambda run: run.log("x", 1, step=2**31), "step is 2147483648; wanted a whole number"),
        (lambda run: run.log("x", 1, step=1.5), "step is 1.5; wanted a whole number"),
        (lambda run: run.log("x", 1, step=True), "step is True; wanted a whole number"),
        (lambda run: run.text("x", "words", step=-1), "step is -1; wanted a whole number"),
        (lambda run: run.log({"": 1}), "a metric has the name '' (str); wanted a string that is not empty"),
        (lambda run: run.log({3: 1}), "a metric has the name 3 (int); wanted a string that is not empty"),
        (lambda run: run.finish({"x": "1"}), "metric 'x' is '1' (str); wanted a single number"),
    ],
)
def test_what_cannot_be_logged(run, log, message):
    with pytest.raises(UsageError, match=f"^{re.escape(message)}") as caught:
        log(run)
    assert "\n" not in str(caught.value)
    run.log({"y": 1}, step=np.int64(2**31 - 1))
    with pytest.raises(UsageError, match=r"^step is 2147483648; "):
        run.log({"y": 1})
    run.finish()
    assert read_back(run).metrics == {"y": 1.0}


def test_final_metrics_are_last_and_written_once(run):
    run.log({"accuracy": 0.5, "loss": 1.0}, step=1)
    run.log({"loss": 0.5}, step=2)
    run.finish({"accuracy": 0.75, "loss": 0.5, "f1": 1})
    run.finish({"accuracy": 0.0}, Outcome.FAILED)
    assert run.is_over
    found = read_back(run)
    assert {tag: (list(column.steps), list(column.values)) for tag, column in found.columns.items()} == {
        "accuracy": ([1, 2], [0.5, 0.75]),
        "loss": ([1, 2], [1.0, 0.5]),
        "f1": ([2], [1.0]),
    }
    assert in_the_file(run)[-3:] == ["accuracy", "f1", summaries.SUCCESS]
    for log in (lambda: run.log({"x": 1}), lambda: run.text("x", "y"), run.flush):
        with pytest.raises(UsageError, match=r"^run 'x' is finished; log before run.finish\(\) or the end of its with"):
            log()


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_diverged_when_the_objective_does_not_count(tmp_path, value):
    with start_run(tmp_path, hparams={UNITS: 16}, experiment=EXPERIMENT) as run:
        run.log({"loss": 0.5} if value is None else {"accuracy": value})
    found = read_back(run)
    assert (found.outcome, found.reason) == (Outcome.DIVERGED, f"the objective 'accuracy' is {value or math.nan}")
    assert in_the_file(run)[-1] == summaries.FAILURE


def test_hparams_by_object_and_by_name(tmp_path):
    theirs = TheirHParam("rate")
    run = start_run(tmp_path, hparams={UNITS: np.int64(16), theirs: np.float32(0.1), "b": True}, trial_id="mine")
    run.finish()
    assert [run.hparams[key] for key in (UNITS, "units", theirs, "b")] == [16, 16, 0.1, True]
    assert (read_back(run).hparams["rate"], read_back(run).trial_id) == (0.1, "mine")
    with start_run(tmp_path, hparams={UNITS: 32}, experiment=EXPERIMENT) as other:
        other.log({"accuracy": 0.5})
    assert declared_in(LogDirPaths(tmp_path)).experiment == EXPERIMENT
    assert [trial.hparams["units"] for trial in read(tmp_path).trials] == [16, 32]
