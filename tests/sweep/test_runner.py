"""The runner: one directory, one sweep, nothing lost and nothing done twice. `run_sweep` mostly, in this process."""

import json
import random
import time

import pytest

import hparams_lab as lab
from hparams_lab.core.errors import LogDirError, UsageError
from hparams_lab.core.outcome import Outcome
from hparams_lab.logdir.declaration import current_declaration
from hparams_lab.storage.paths import LogDirPaths
from hparams_lab.sweep.events import RunEnded, RunStarted, SweepEnded, SweepStarted

UNITS = lab.HParam("units", lab.Discrete([8, 16]))
RATE = lab.HParam("rate", lab.RealInterval(1e-3, 1e-1, scale="log"))
EXPERIMENT = lab.Experiment([UNITS, RATE], [lab.Metric("loss"), lab.Metric("accuracy")], objective="accuracy")


def train(run):
    run.log({"loss": 0.5, "accuracy": 0.125}, step=1)
    run.log({"loss": 0.25}, step=2)
    return {"accuracy": run.hparams["units"] / 32 + random.random() / 8}


class Counted:
    """`train`, which notes the runs that it trains; the broken ones fail."""

    __name__ = "train"

    def __init__(self, *broken):
        self.trained, self.broken = [], broken

    def __call__(self, run):
        self.trained.append(run.name)
        if run.name in self.broken:
            raise ValueError("broken")
        return train(run)


def sweep(logdir, train=train, experiment=EXPERIMENT, **options):
    """A sweep in this process, its events kept."""
    events = []
    options = {"executor": "inline", "observe": events.append, **options}
    lab.run_sweep(experiment, train, logdir=logdir, **options)
    return events


def tree(root):
    """Every path below `root`, with what the files hold; but for the owner's locks, which are moved with nobody."""
    paths = (path for path in sorted(root.rglob("*")) if path not in (root / ".lock", root / ".lock-runs"))
    return {path.relative_to(root): path.is_file() and path.read_bytes() for path in paths}


def test_the_events_of_a_sweep(tmp_path):
    events = sweep(tmp_path / "logs", trials=2)
    kept = [event for event in events if type(event).__name__ != "RunReported"]
    assert [type(event) for event in kept] == [SweepStarted, *[RunStarted, RunEnded] * 2, SweepEnded]
    assert (kept[0].logdir, kept[0].total, kept[0].done, kept[0].experiment) == (tmp_path / "logs", 2, (), EXPERIMENT)
    assert [event.spec.name for event in kept[1:-1:2]] == ["run-0000", "run-0001"]
    assert not kept[-1].interrupted


@pytest.mark.parametrize("options", [{"executor": "inline"}, {"executor": "process", "workers": 2}])
def test_live_results_are_what_is_read_later(weird_tmp_path, options):
    events = sweep(weird_tmp_path, **options)
    live = sorted((event.result for event in events if isinstance(event, RunEnded)), key=lambda run: run.name)
    results, read = events[-1].results, lab.read(weird_tmp_path)
    assert list(read.runs) == list(results.runs) == live
    assert read == results
    for one, other in zip(live, read.runs, strict=True):
        assert one.columns.keys() == other.columns.keys() == {"loss", "accuracy"}
        for tag in one.columns:
            assert all((a == b).all() for a, b in zip(one.scalars(tag), other.scalars(tag), strict=True))
    assert [run.hparams["units"] for run in read.runs] == [8, 8, 16, 16]
    assert read.best().hparams["units"] == 16


def test_one_experiment_summary_with_the_objective_first(tmp_path):
    for _ in range(2):
        sweep(tmp_path)
        assert [path.name for path in (tmp_path / "_experiment").iterdir() if path.name != ".lock"] == ["1"]
        assert len([*tmp_path.glob("_experiment/1/*tfevents*")]) == 1
    message = current_declaration(LogDirPaths(tmp_path))
    assert [info.name for info in message.hparam_infos] == ["units", "rate"]
    assert [info.name.tag for info in message.metric_infos] == ["accuracy", "loss"]


def test_sweep_json_is_what_was_asked_for(tmp_path):
    sweep(tmp_path, strategy="random", trials=3, seed=7)
    found = json.loads((tmp_path / "sweep.json").read_text())
    assert found["experiment"] == EXPERIMENT.to_json()
    asked = {"domain": "train", "data": None, "strategy": "random", "points": None, "trials": 3, "seed": 7}
    assert {key: found[key] for key in asked} == asked
    assert found["versions"]["hparams-lab"] == lab.__version__
    assert abs(found["created"] - time.time()) < 60
    assert found["git_commit"] is None or len(found["git_commit"]) == 40


def test_the_same_again_repeats_nothing(tmp_path):
    train = Counted()
    sweep(tmp_path, train)
    before = tree(tmp_path)
    events = sweep(tmp_path, train)
    assert train.trained == ["run-0000", "run-0001", "run-0002", "run-0003"]
    assert tree(tmp_path) == before
    assert [type(event) for event in events] == [SweepStarted, SweepEnded]
    assert [run.name for run in events[0].done] == train.trained
    assert events[-1].results == lab.read(tmp_path)


@pytest.mark.parametrize("options", [{"strategy": "grid"}, {"strategy": "random", "seed": 3}])
def test_more_trials_extend_a_sweep(tmp_path, options):
    train = Counted()
    sweep(tmp_path / "bit by bit", train, trials=1, **options)
    sweep(tmp_path / "bit by bit", train, trials=4, **options)
    assert train.trained == ["run-0000", "run-0001", "run-0002", "run-0003"]
    sweep(tmp_path / "at once", trials=4, **options)
    assert facts(tmp_path / "bit by bit") == facts(tmp_path / "at once")


def test_a_run_that_is_deleted_is_run_again(tmp_path):
    sweep(tmp_path)
    before = facts(tmp_path)
    for path in (tmp_path / "run-0002").iterdir():
        path.unlink()
    (tmp_path / "run-0002").rmdir()
    train = Counted()
    sweep(tmp_path, train)
    assert (train.trained, facts(tmp_path)) == (["run-0002"], before)


def test_retry_failed(tmp_path):
    sweep(tmp_path, broken := Counted("run-0001"))
    sweep(tmp_path, broken)
    assert broken.trained == ["run-0000", "run-0001", "run-0002", "run-0003"]
    sweep(tmp_path, mended := Counted(), retry_failed=True)
    assert mended.trained == ["run-0001"]
    assert [run.outcome for run in lab.read(tmp_path).runs] == [Outcome.COMPLETED] * 4
    assert (tmp_path / "run-0001/output.log").read_text() == ""


def test_fresh_moves_aside_and_deletes_nothing(tmp_path):
    logdir = tmp_path / "logs"
    contents = []
    for seed in range(3):
        sweep(logdir, train := Counted(), seed=seed, fresh=True)
        assert len(train.trained) == 4
        contents.append(tree(logdir))
    assert [tree(logdir.with_name(name)) for name in ("logs.old-1", "logs.old-2", "logs")] == contents
    assert (logdir / ".lock").exists()


def facts(logdir):
    """What is the same whenever and wherever a sweep is done."""
    runs = lab.read(logdir).runs
    return [(run.name, run.trial_id, run.hparams, run.outcome, run.metrics) for run in runs]


def test_same_seed_same_numbers(tmp_path):
    options = {"strategy": "random", "trials": 4}
    sweep(tmp_path / "inline", seed=1, **options)
    for workers in (1, 2):
        sweep(tmp_path / str(workers), seed=1, executor="process", workers=workers, **options)
        assert facts(tmp_path / str(workers)) == facts(tmp_path / "inline")
    sweep(tmp_path / "other", seed=2, **options)
    assert facts(tmp_path / "other") != facts(tmp_path / "inline")


def refused(logdir, error, message, **options):
    """The sweep is refused with the message, before anything is trained or written."""
    before = tree(logdir.parent)
    with pytest.raises(error, match=message):
        sweep(logdir, counted := Counted(), **options)
    assert (tree(logdir.parent), counted.trained) == (before, [])


OTHERS = {
    "seed: 0 -> 1": {"seed": 1},
    "strategy: grid -> random": {"strategy": "random", "trials": 2},
    "points: 2 -> 3": {"points": 3},
    "hparam rate: removed; seed: 0 -> 2": {
        "experiment": lab.Experiment([UNITS], EXPERIMENT.metrics, "accuracy"),
        "seed": 2,
    },
    "objective: accuracy -> loss": {"experiment": lab.Experiment([UNITS, RATE], EXPERIMENT.metrics, "loss")},
}
ONLY_ADD = ("strategy", "points")


@pytest.mark.parametrize("difference", OTHERS)
def test_another_sweep_is_refused_with_what_differs(tmp_path, difference):
    sweep(tmp_path / "logs", trials=1)
    extend = "--extend adds to it, " if difference.startswith(ONLY_ADD) else ""
    ways = f"choose another --logdir, {extend}or --fresh moves it aside"
    message = rf"^.*/logs holds another sweep: {difference}; {ways}$"
    refused(tmp_path / "logs", LogDirError, message, **OTHERS[difference])


def test_directories_that_are_no_sweeps(tmp_path):
    with lab.start_run(tmp_path / "own", hparams={"units": 8}) as run:
        run.log({"accuracy": 1.0}, step=1)
    refused(tmp_path / "own", LogDirError, r"^.*/own holds runs that no sweep made; choose another --logdir, or --fre")
    sweep(tmp_path / "above/logs", trials=1)
    refused(tmp_path / "above", LogDirError, r"^.*/above holds runs that no sweep made; choose another --logdir")
    (tmp_path / "file").touch()
    refused(tmp_path / "file", LogDirError, r"^the log directory .*/file is a file; name a directory$")
    (tmp_path / "file").chmod(0o777)
    refused(tmp_path / "file/logs", LogDirError, r"^the log directory .*/file/logs cannot be written; choose another$")
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn/sweep.json").write_text("{")
    refused(tmp_path / "torn", LogDirError, r"^.*/torn/sweep.json cannot be read \(.*\); restore it or move the dir")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trials": 0}, r"^--trials is 0; wanted at least 1$"),
        ({"points": 0}, r"^--points is 0; wanted at least 1"),
        ({"workers": 0}, r"^--workers is 0; wanted at least 1$"),
        ({"strategy": "random"}, r"^strategy 'random' has no end in this space; say --trials N$"),
        ({"strategy": "anneal"}, r"^there is no strategy 'anneal'; there are grid, random"),
        ({"executor": "cloud"}, r"^there is no executor 'cloud'; there are process, inline"),
        (
            {"experiment": lab.Experiment([UNITS], [lab.Metric("accuracy")], constraints=[lambda hparams: False])},
            r"^the strategy has no trial: every point of the space breaks a constraint$",
        ),
    ],
)
def test_what_cannot_be_done_is_refused(tmp_path, options, message):
    refused(tmp_path / "logs", UsageError, message, **options)


def test_calls_that_do_not_fit(tmp_path):
    with pytest.raises(UsageError, match=r"^an Experiment needs a train function: run_sweep\(experiment, train, logd"):
        lab.run_sweep(EXPERIMENT, logdir=tmp_path)
    with pytest.raises(UsageError, match=r"^a domain has its own train function; give run_sweep either"):
        lab.run_sweep("digits", train, logdir=tmp_path)
    with pytest.raises(UsageError, match=r"^--timeout needs a process per run"):  # told before anything is imported
        lab.run_sweep("no_such_domain", logdir=tmp_path, executor="inline", timeout=3)
