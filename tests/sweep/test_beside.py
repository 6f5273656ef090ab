"""Runs that someone logs beside a sweep: a sweep clears what is its own, and touches nothing else."""

import json
import os
import shutil

import pytest

import hparams_lab as lab
from hparams_lab.core.errors import LogDirError
from hparams_lab.core.outcome import Outcome
from hparams_lab.logdir.declaration import current_declaration
from hparams_lab.storage.paths import LogDirPaths
from hparams_lab.sweep.events import RunEnded, RunStarted

EXPERIMENT = lab.Experiment([lab.HParam("x", lab.Discrete([1, 2, 3, 4]))], [lab.Metric("accuracy")])
NAMES = [f"run-{number:04d}" for number in range(4)]


def train(run):
    (run.dir / "model.bin").write_text(str(run.hparams["x"]))
    return {"accuracy": run.hparams["x"] / 8}


def sweep(logdir, train=train, experiment=EXPERIMENT, observe=None, **options):
    events = []

    def each(event):
        events.append(event)
        if observe is not None:
            observe(event)

    lab.run_sweep(experiment, train, logdir=logdir, executor="inline", observe=each, **options)
    return [event.result.name for event in events if isinstance(event, RunEnded)]


def by_hand(logdir, outcome=Outcome.COMPLETED, **hparams):
    run = lab.start_run(logdir, hparams=hparams or {"x": 4}, provenance=False)
    run.log({"accuracy": 1.0}, step=1)
    (run.dir / "notes.txt").write_text("mine")
    run.finish(outcome=outcome)
    return run


def contents(*directories):
    paths = (path for directory in directories for path in [directory, *sorted(directory.rglob("*"))])
    return {path: path.is_file() and path.read_bytes() for path in paths}


def test_three_runs_that_are_started_while_a_sweep_is_at_work_are_kept(tmp_path):
    """Before its first run, between two, and inside of one; of a trial that the sweep has, and of one that failed."""
    runs = []

    def observe(event):
        if isinstance(event, RunStarted) and event.spec.name in NAMES[:2]:
            runs.append(by_hand(tmp_path, Outcome.FAILED))

    def trains(run):
        if run.name == "run-0002":
            runs.append(by_hand(tmp_path, x=7, other="text"))
        return train(run)

    trains.__name__ = "train"
    assert sweep(tmp_path, trains, observe=observe) == NAMES
    assert [run.name for run in runs] == ["manual-0000", "manual-0001", "manual-0002"]
    before = contents(*(run.dir for run in runs))
    assert sweep(tmp_path, retry_failed=True) == []
    assert contents(*(run.dir for run in runs)) == before
    assert [run.name for run in lab.read(tmp_path).runs] == [*(run.name for run in runs), *NAMES]
    columns = [info.name for info in current_declaration(LogDirPaths(tmp_path)).hparam_infos]
    assert columns == ["x", "other"]


def test_before_a_sweep_has_anything_in_its_directory(tmp_path):
    """While the runner gets ready, only its lock is there."""
    made = []

    class Getting:
        __name__ = "train"
        __call__ = staticmethod(train)

        def check(self):
            made.append(by_hand(tmp_path / "logs"))

    assert sweep(tmp_path / "logs", Getting()) == NAMES
    assert [run.name for run in made] == ["manual-0000"]
    assert (made[0].dir / "notes.txt").read_text() == "mine"


def test_after_a_sweep_extended_resumed_and_moved_aside(tmp_path):
    logdir = tmp_path / "logs"
    sweep(logdir, trials=2)
    runs = [by_hand(logdir), by_hand(logdir, Outcome.INTERRUPTED, x=3)]
    runs.append(lab.start_run(logdir, hparams={"x": 4}, fsync=False))
    runs[-1].log({"accuracy": 0.5}, step=1)
    runs[-1].flush()
    before = contents(*(run.dir for run in runs))
    wider = lab.Experiment([lab.HParam("x", lab.Discrete([1, 2, 3, 4, 5]))], EXPERIMENT.metrics)
    assert sweep(logdir) == NAMES[2:]
    assert sweep(logdir, experiment=wider, extend=True) == ["run-0004"]
    assert contents(*(run.dir for run in runs)) == before
    sweep(logdir, fresh=True, trials=1)
    old = tmp_path / "logs.old-1"
    assert sorted(os.listdir(old)) == sorted(
        ["_experiment", "manual-0000", "manual-0001", "manual-0002", *NAMES, "run-0004", "sweep.json"]
    )
    runs[-1].log({"new": 0.5}, step=2)
    runs[-1].finish()
    assert lab.read(old).runs[2].metrics == {"accuracy": 0.5, "new": 0.5}
    assert [info.name.tag for info in current_declaration(LogDirPaths(logdir)).metric_infos] == ["accuracy"]


@pytest.mark.parametrize("name", ["run-0000/mine", "./run-0009/a/b", "run-0001-fold-0/mine"])
def test_a_name_inside_of_a_run_of_the_sweep_is_refused(tmp_path, name):
    sweep(tmp_path, trials=1)
    before = contents(tmp_path)
    for options in ({}, {"if_exists": "number"}, {"resume": True}):
        with pytest.raises(LogDirError, match=r"^the run's name .* is inside of a run of the sweep in"):
            lab.start_run(tmp_path, hparams={"x": 1}, name=name, **options)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["run-0001", "run-0002", "run-mine"])
def test_a_name_that_is_asked_for_is_passed_over(tmp_path, name):
    sweep(tmp_path, trials=1)
    with lab.start_run(tmp_path, hparams={"x": 9}, name=name, provenance=False) as run:
        run.log({"accuracy": 1.0}, step=1)
    before = contents(run.dir)
    assert len(sweep(tmp_path)) == 3
    assert sweep(tmp_path) == []
    assert contents(run.dir) == before


def test_a_directory_that_is_no_sweeps_has_its_names_as_ever(tmp_path):
    assert [by_hand(tmp_path).name, by_hand(tmp_path).name] == NAMES[:2]
    with lab.start_run(tmp_path, hparams={"x": 1}, name="run-0007", experiment=EXPERIMENT) as run:
        run.log({"accuracy": 1.0}, step=1)
    assert by_hand(tmp_path).name == "run-0002"


def of_another_tool(directory):
    directory.mkdir()
    (directory / "checkpoint.pt").write_bytes(b"weights")


def being_begun(directory):
    """As a `SummaryWriter` has it before its first flush."""
    directory.mkdir()
    (directory / "events.out.tfevents.1700000000.host.1.0").touch()


def with_its_output(directory):
    directory.mkdir()
    (directory / "output.log").write_text("epoch 1")


def damaged(directory):
    directory.mkdir()
    (directory / "events.out.tfevents.1700000000.host.1.0").write_bytes(b"not an event at all")


def linked(directory):
    of_another_tool(directory.parent.parent / "elsewhere")
    directory.symlink_to(directory.parent.parent / "elsewhere")


def a_file(directory):
    directory.write_text("a file")


def by_an_older_version(directory):
    """A run of the sweep's own trial that someone logged by hand, and that failed."""
    run = by_hand(directory.parent / "other", Outcome.FAILED, x=3)
    shutil.move(run.dir, directory)
    shutil.rmtree(directory.parent / "other")


def by_hand_and_not_over(directory):
    run = lab.start_run(directory.parent / "other", hparams={"x": 3}, provenance=False)
    run.log({"accuracy": 1.0}, step=1)
    run.leave()
    shutil.move(run.dir, directory)
    shutil.rmtree(directory.parent / "other")


FOREIGN = [
    of_another_tool, being_begun, with_its_output, damaged, linked, a_file, by_an_older_version, by_hand_and_not_over,
]  # fmt: skip


@pytest.mark.parametrize("make", FOREIGN)
@pytest.mark.parametrize("when", ["before it goes on", "while it is at work"])
def test_what_happens_to_be_called_as_a_run_is_stays_as_it_is(tmp_path, make, when):
    logdir = tmp_path / "logs"
    sweep(logdir, trials=1)
    foreign = logdir / "run-0002"

    def observe(event):
        if isinstance(event, RunStarted) and event.spec.name == "run-0001":
            make(foreign)

    if when == "before it goes on":
        make(foreign)
    before = contents(foreign) if foreign.exists() else None
    trained = sweep(logdir, observe=observe if before is None else None, retry_failed=True)
    assert trained == ["run-0001", "run-0003", "run-0004"]
    before = before or contents(foreign)
    assert sweep(logdir, retry_failed=True) == []
    assert contents(foreign) == before
    mine = [run for run in lab.read(logdir).runs if run.name != "run-0002" and (run.dir / "output.log").exists()]
    assert [run.hparams["x"] for run in mine] == [1, 2, 3, 4]


def test_it_is_none_of_those_that_the_sweep_has_done(tmp_path, lab_command):
    domain = tmp_path / "tuning.py"
    domain.write_text(
        "import hparams_lab as lab\n"
        "EXPERIMENT = lab.Experiment([lab.HParam('x', lab.Discrete([1, 2, 3]))], [lab.Metric('loss')])\n"
        "def train(run): return {'loss': 1.0}\n"
    )
    logdir = tmp_path / "logs"
    code, _, errors = lab_command("run", domain, "--logdir", logdir, "--trials", 2, "--executor", "inline")
    assert (code, errors) == (0, "")
    by_hand(logdir, x=1)
    code, said, _ = lab_command("plan", domain, "--logdir", logdir, "--json")
    assert (code, json.loads(said)["done"]) == (0, 2)
