"""Other loggers in and below a run's directory: TensorFlow's, PyTorch's, Lightning's. The run stays what it is."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from other_writer import other
from tensorboard_client import Client, session, values

import hparams_lab as lab
from hparams_lab.board.server import Board
from hparams_lab.board.view import View
from hparams_lab.core.outcome import Outcome
from hparams_lab.events.format import summaries
from hparams_lab.events.format.event_file import OWN, version_event
from hparams_lab.events.write.writer import EventFileWriter
from hparams_lab.logdir.doctor.examine import examine
from hparams_lab.logdir.merge import merge
from hparams_lab.storage.file_names import is_event_file


def start(logdir: Path, rate: float) -> lab.Run:
    return lab.start_run(logdir, hparams={"rate": rate}, provenance=False)


def test_no_other_writer_makes_the_name_of_our_file(tmp_path):
    """Theirs is `events.out.tfevents.<seconds>.<host>.<pid>.<number>`, with or without an end of its own."""
    with start(tmp_path, 0.1) as run:
        run.log({"loss": 0.5}, step=0)
        run.flush()
        (file,) = run.dir.iterdir()
        theirs = re.sub(r"hparams_lab\.", "", file.name)
        for name in (theirs, f"{theirs}.suffix", f"{theirs}.v2", theirs.rpartition(".")[0]):
            (run.dir / name).write_bytes(version_event(1.0))
            assert name < file.name
        run.log({"loss": 0.25}, step=1)
    assert is_event_file(file.name)
    (found,) = lab.read(tmp_path).runs
    assert found.outcome is Outcome.COMPLETED
    assert found.scalars("loss").values.tolist() == [0.5, 0.25]


def test_a_name_of_ours_that_is_taken_is_not_opened(tmp_path):
    """Containers share a host's name, and the numbers of their processes."""
    first = EventFileWriter.create(tmp_path, now=1.5)
    name, _, number = first.path.name.rpartition(".")
    taken = tmp_path / f"{name}.{int(number) + 1}"
    taken.write_bytes(b"another's")
    second = EventFileWriter.create(tmp_path, now=1.5)
    for writer in (first, second):
        writer.close()
    assert taken.read_bytes() == b"another's"
    assert len({first.path, second.path, taken}) == 3


@pytest.mark.parametrize("at", [1.6e9, 9.9e9])
@pytest.mark.parametrize("steps", [range(3), range(100, 103)])
def test_of_a_tag_that_two_logged_ours_counts(tmp_path, at, steps):
    """Whenever the other logged it, and at whichever steps; what only the other logged is the run's."""
    with start(tmp_path, 0.1) as run:
        other(run.dir, {"loss": [(step, 0.01) for step in steps], "more": [(0, 7.0)]}, at=at)
        for step in range(5):
            run.log({"loss": 1.0 - step / 8}, step=step)
    (found,) = lab.read(tmp_path).runs
    assert found.metrics == {"loss": 0.5, "more": 7.0}
    assert list(found.metrics) == ["loss", "more"]
    assert found.scalars("loss").steps.tolist() == [0, 1, 2, 3, 4]


def test_what_another_says_of_hparams_in_the_directory_of_a_run_is_not_heard(tmp_path):
    """`add_hparams(run_name=".")`: its file sorts before ours, and TensorBoard keeps the first."""
    with start(tmp_path, 0.1) as run:
        other(run.dir, {"hp_metric": [(0, -1.0)]}, {"rate": 5.0, "momentum": 0.9})
        run.log({"loss": 0.5})
        run.flush()
        assert lab.read(tmp_path).runs[0].outcome is Outcome.RUNNING
    results = lab.read(tmp_path)
    (found,) = results.runs
    assert (dict(found.hparams), found.trial_id, found.outcome) == ({"rate": 0.1}, run.trial_id, Outcome.COMPLETED)
    assert list(results.declared.hparams) == ["rate"]
    assert list(results.declared.metrics) == ["loss"]


def two_runs(logdir: Path) -> Path:
    """Two runs, each with loggers below it as Lightning, `add_hparams`, Keras and TensorFlow leave them."""
    for rate in (0.1, 0.2):
        with start(logdir, rate) as run:
            other(run.dir / "lightning_logs/version_0", {"loss": [(0, 0.01)]}, {"rate": rate, "depth": 3.0})
            other(run.dir / "tb", {"loss": [(0, 0.01)]})
            other(run.dir / "tb/1700000000.5", {"hp_metric": [(0, -1.0)]}, {"rate": rate})
            other(run.dir / "train", {"epoch_loss": [(0, 0.02)]})
            other(run.dir / "keras", {}, {"rate": rate})
            run.log({"loss": rate})
    return logdir


BELOW = {
    "lightning_logs/version_0/loss": pytest.approx(0.01),
    "tb/loss": pytest.approx(0.01),
    "tb/1700000000.5/hp_metric": -1.0,
    "train/epoch_loss": pytest.approx(0.02),
}


def test_what_is_below_a_run_belongs_to_it(tmp_path):
    results = lab.read(two_runs(tmp_path))
    assert [run.name for run in results.runs] == ["run-0000", "run-0001"]
    assert [dict(trial.hparams) for trial in results.trials] == [{"rate": 0.1}, {"rate": 0.2}]
    assert results.best("loss").name == "run-0000"
    assert results.runs[0].metrics == {"loss": pytest.approx(0.1), **BELOW}
    assert next(iter(results.runs[0].metrics)) == "loss"
    assert (list(results.declared.hparams), list(results.declared.metrics)) == (["rate"], ["loss"])


def test_a_run_of_ours_below_another_is_one(tmp_path):
    for name in ("a", "a/b"):
        with lab.start_run(tmp_path, hparams={"rate": 0.1}, name=name, provenance=False) as run:
            run.log({"loss": 0.5})
    with lab.start_run(run.dir / "inner", hparams={"rate": 0.3}, provenance=False) as inner:
        inner.log({"loss": 0.25})
    other(run.dir / "x", {"loss": [(0, 0.01)]}, {"rate": 9.0})
    assert [run.name for run in lab.read(tmp_path).runs] == ["a", "a/b", "a/b/inner/run-0000"]


def test_a_run_of_an_older_version_is_ours_by_its_trial(tmp_path):
    """Its file is named as those of other writers are."""
    two_runs(tmp_path)
    for file in [*tmp_path.rglob(f"{OWN}*")]:
        file.rename(file.with_name(file.name.replace("hparams_lab.", "")))
    found = [run.metrics for run in lab.read(tmp_path).runs]
    assert found == [{"loss": pytest.approx(rate), **BELOW} for rate in (0.1, 0.2)]
    run = lab.read(tmp_path).runs[0]
    theirs = other(run.dir, {"loss": [(0, 9.0)]}, at=9.9e9)
    before = theirs.read_bytes()
    with lab.start_run(tmp_path, hparams={"rate": 0.1}, name=run.name, resume=True, provenance=False) as again:
        again.log({"loss": 0.05})
    assert theirs.read_bytes() == before
    assert lab.read(tmp_path).runs[0].metrics["loss"] == pytest.approx(0.05)


def test_a_run_that_others_come_to_is_read_again(tmp_path):
    """Live: each read says what a new one says."""
    reader = lab.LogDirReader(tmp_path)
    with start(tmp_path, 0.1) as run:
        run.log({"loss": 0.5})
        run.flush()
        assert reader.read().runs[0].metrics == {"loss": 0.5}
        other(run.dir / "tb", {"loss": [(0, 0.25)]}, {"rate": 0.1})
        assert [one.metrics for one in reader.read().runs] == [{"loss": 0.5, "tb/loss": 0.25}]
        other(run.dir, {"more": [(0, 2.0)]}, {"rate": 7.0})
        assert [one.metrics for one in reader.read().runs] == [{"loss": 0.5, "more": 2.0, "tb/loss": 0.25}]
        shutil.rmtree(run.dir / "tb")
        assert [one.metrics for one in reader.read().runs] == [{"loss": 0.5, "more": 2.0}]


def test_the_doctor_counts_runs_as_reading_does_and_repairs_what_the_tab_shows(tmp_path):
    two_runs(tmp_path)
    other(tmp_path / "run-0000", {}, {"rate": 5.0})
    (found,) = examine(tmp_path).ailments
    assert (found.name, len(found.files)) == ("other-logger", 7)
    before = [run.metrics for run in lab.read(tmp_path).runs]
    done = subprocess.run(
        [sys.executable, "-m", "hparams_lab", "doctor", str(tmp_path), "--repair", "--in-place"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert examine(tmp_path).ailments == ()
    assert [run.metrics for run in lab.read(tmp_path).runs] == before


def test_prune_and_merge_take_a_run_with_what_is_below_it(tmp_path):
    two_runs(tmp_path / "one")
    two_runs(tmp_path / "two")
    merge([tmp_path / "one", tmp_path / "two"], tmp_path / "all")
    assert [run.metrics for run in lab.read(tmp_path / "all").runs] == [
        {"loss": pytest.approx(rate), **BELOW} for rate in (0.1, 0.2, 0.1, 0.2)
    ]
    assert list(lab.read(tmp_path / "all").declared.hparams) == ["rate"]
    command = [sys.executable, "-m", "hparams_lab", "prune", str(tmp_path / "one"), "--keep-best", "1", "--yes"]
    done = subprocess.run([*command, "--metric", "loss", "--min"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "one/run-0001").exists()
    assert [run.metrics for run in lab.read(tmp_path / "one").runs] == [{"loss": pytest.approx(0.1), **BELOW}]


def test_the_board_shows_a_row_for_each_trial(tmp_path):
    with View([two_runs(tmp_path)]) as view:
        assert view.trials == 2
        found = b"".join(file.read_bytes() for file in view.logdir.rglob("*tfevents*"))
        names = [path.name for path in view.logdir.iterdir()]
    assert found.count(summaries.SESSION_START_TAG.encode()) == 2
    assert names


def test_tensorboards_default_loader_ends_on_our_value(tmp_path):
    """Another writer's points of our tag: with an earlier or a later file, at smaller, the same or larger steps."""
    cases = [(at, steps) for at in (1.6e9, None, 9.9e9) for steps in ((0, 1), (4, 5), (900, 901))]
    for number, (at, steps) in enumerate(cases):
        with start(tmp_path, number) as run:
            other(run.dir, {"loss": [(step, 0.01) for step in steps]}, at=at)
            for step in range(5):
                run.log({"loss": number + 1.0 - step / 8}, step=step)
    with Board(tmp_path, 0) as board:
        groups = Client(board.url).loaded(groups=len(cases), metrics=len(cases), tag="loss")
    assert {session(group)["name"]: values(group)["loss"] for group in groups} == {
        run.name: run.metrics["loss"] for run in lab.read(tmp_path).runs
    }
    assert {run.metrics["loss"] for run in lab.read(tmp_path).runs} == {number + 0.5 for number in range(len(cases))}


TORCH = """
import json, sys, torch.utils.tensorboard, hparams_lab as lab
with lab.start_run(sys.argv[1], hparams={"lr": 0.1}, provenance=False) as run:
    writer = torch.utils.tensorboard.SummaryWriter(str(run.dir))
    for step in range(20):
        run.log({"loss": 1 / (step + 1)}, step=step)
        writer.add_scalar("loss", 0.0, step)
    writer.add_hparams({"lr": 9.0}, {"loss": 0.0}, run_name=".")
    writer.add_hparams({"lr": 9.0}, {"loss": 0.0})
    writer.close()
found = lab.read(sys.argv[1]).runs
print(json.dumps([[one.name, str(one.outcome), dict(one.hparams), len(one.scalars("loss").steps)] for one in found]))
"""


def test_torchs_summary_writer(tmp_path):
    pytest.importorskip("torch", reason="torch is not installed (pip install 'hparams-lab[torch]')")
    done = subprocess.run([sys.executable, "-c", TORCH, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [["run-0000", "completed", {"lr": 0.1}, 20]]
