"""`SearchLog`, the log directory of another library's search, and `run.amend`, what is added to a run that ended."""

import multiprocessing
import pickle
import re

import numpy as np
import pytest
from counted import at_most
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard_client import Client, session, values

import hparams_lab as lab
from hparams_lab.board.server import Board
from hparams_lab.core.errors import LogDirError, OwnedError, UsageError
from hparams_lab.core.outcome import Outcome
from hparams_lab.integrations.search_log import SearchLog, not_lost, run_name
from hparams_lab.logdir.doctor.examine import examine
from hparams_lab.logdir.run_reader import event_files
from hparams_lab.run.amend import add_image, add_outcome, add_scalars

SPACE = lab.Experiment(
    [lab.HParam("units", lab.Discrete([8, 16])), lab.HParam("solver", lab.Discrete(["adam", None]))],
    [lab.Metric("val/accuracy", goal="max"), lab.Metric("rank", goal="min")],
)
VALUES = {"units": 16, "solver": None}


@pytest.fixture
def log(tmp_path):
    log = SearchLog.open(tmp_path / "grid", "GridSearchCV")
    yield log
    log.close()


@pytest.fixture
def run_dir(log):
    """The directory of a run that has ended."""
    log.declare(SPACE)
    with log.start(run_name(3, "fold", 1), VALUES) as run:
        run.log({"val/accuracy": 0.5, "epoch/loss": 0.1}, step=7)
    return run.dir


def of_a_worker(log, fold):
    with log.start(run_name(0, "fold", fold), VALUES) as run:
        run.log({"val/accuracy": fold / 10})


def test_who_shows_a_run_is_told_what_made_the_search(log, lines_of):
    log.declare(SPACE)
    with log.start("run-0000", VALUES, provenance=False) as run:
        run.log({"val/accuracy": 0.5})
    said = " ".join(lines_of("show", log.paths.root, "best"))
    assert "pytest" in said
    assert "the program that made the sweep, all of it" in said


def test_runs_of_workers_are_one_trial(log):
    log.declare(SPACE)
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=of_a_worker, args=(log, fold)) for fold in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    (trial,) = lab.read(log.paths.root).trials
    assert [run.name for run in trial.runs] == ["run-0000-fold-0", "run-0000-fold-1"]
    assert dict(trial.hparams) == VALUES
    assert trial.metrics["val/accuracy"] == pytest.approx(0.05)
    assert examine(log.paths.root).ailments == ()


def test_a_declaration_grows(log):
    log.declare(SPACE)
    wider = lab.Experiment([*SPACE.hparams, lab.HParam("rate", lab.RealInterval(0.0, 1.0))], SPACE.metrics)
    log.declare(wider)
    with log.start("run-0000", {**VALUES, "rate": 0.5}):
        pass
    found = lab.read(log.paths.root)
    assert found.experiment == wider
    assert [*found.trials[0].hparams.values()] == [16, None, 0.5]
    assert len([*log.paths.experiments.glob("*/events*")]) == 1


def test_what_is_the_same_is_declared_once(log):
    log.declare(SPACE)
    before = log.paths.sweep_json.stat().st_mtime_ns
    log.declare(SPACE)
    assert log.paths.sweep_json.stat().st_mtime_ns == before


def test_a_name_that_is_taken_gets_a_number(log):
    log.declare(SPACE)
    names = []
    for _ in range(3):
        with log.start("run-0002", VALUES) as run:
            names.append(run.name)
    assert names == ["run-0002", "run-0002-2", "run-0002-3"]


def test_a_run_before_the_declaration_is_refused(log):
    with pytest.raises(UsageError, match=r"declare\(experiment\) comes first"):
        log.start("run-0000", {})
    assert not [*log.paths.root.glob("run-*")]


def test_one_owner(log):
    with pytest.raises(OwnedError, match="is being logged into by this very process"):
        SearchLog.open(log.paths.root, "GridSearchCV")
    log.close()
    SearchLog.open(log.paths.root, "GridSearchCV").close()


def test_a_copy_owns_nothing(log):
    pickle.loads(pickle.dumps(log)).close()
    with pytest.raises(OwnedError):
        SearchLog.open(log.paths.root, "GridSearchCV")


def test_what_holds_something_else_is_refused_and_left_alone(log, run_dir, tmp_path, lines_of):
    log.close()
    before = sorted(map(str, log.paths.root.rglob("*")))
    otherwise = "give another log directory, or fresh=True moves it aside"
    for by, goes_on in [("GridSearchCV", False), ("Hyperband", True)]:
        with pytest.raises(LogDirError, match=f"holds a search by GridSearchCV already; {otherwise}$"):
            SearchLog.open(log.paths.root, by, goes_on=goes_on)
    said = lines_of("run", "digits", "--logdir", log.paths.root, refused=True)
    assert said.endswith("holds a search by GridSearchCV already; choose another --logdir, or --fresh moves it aside")
    with lab.start_run(tmp_path / "loop", hparams=VALUES):
        pass
    with pytest.raises(LogDirError, match=f"holds runs that no sweep made; {otherwise}$"):
        SearchLog.open(tmp_path / "loop", "GridSearchCV", goes_on=True)
    assert sorted(map(str, log.paths.root.rglob("*"))) == before


def test_the_same_search_may_go_on(log, run_dir):
    log.close()
    again = SearchLog.open(log.paths.root, "GridSearchCV", goes_on=True)
    again.declare(SPACE)
    with again.start("run-0004", VALUES):
        pass
    again.close()
    assert [run.name for run in lab.read(log.paths.root).runs] == ["run-0003-fold-1", "run-0004"]


def test_fresh_moves_what_is_there_aside(log, run_dir):
    log.close()
    SearchLog.open(log.paths.root, "RandomizedSearchCV", fresh=True).close()
    aside = log.paths.root.with_name("grid.old-1")
    assert [run.name for run in lab.read(aside).runs] == ["run-0003-fold-1"]
    assert not [*log.paths.root.glob("run-*")]


def test_fresh_from_inside_is_refused(log, run_dir, monkeypatch):
    log.close()
    monkeypatch.chdir(run_dir)
    with pytest.raises(LogDirError, match=r"^fresh=True cannot move .* aside from inside of it"):
        SearchLog.open(log.paths.root, "GridSearchCV", fresh=True)


def test_scalars_after_the_end_count(log, run_dir):
    add_scalars(run_dir, {"rank": 1, "mean_test_score": np.float32(0.5)})
    (run,) = lab.read(log.paths.root).runs
    assert (run.outcome, run.metrics["rank"], run.metrics["mean_test_score"]) == ("completed", 1.0, 0.5)
    assert run.scalars("rank").steps.tolist() == [7]
    assert examine(log.paths.root).ailments == ()


def test_tensorboard_takes_scalars_after_the_end(log, run_dir):
    add_scalars(run_dir, {"rank": 4})
    log.close()
    with Board(log.paths.root, 0) as board:
        (group,) = Client(board.url).loaded(1, 1, "rank")
    assert session(group)["status"] == "STATUS_SUCCESS"
    assert values(group) == {"rank": 4.0, "val/accuracy": 0.5}


def test_an_image_after_the_end(run_dir):
    add_image(run_dir, "predictions", np.zeros((4, 4, 3), np.uint8))
    (file,) = event_files(run_dir)
    values = [(value.tag, event.step) for event in EventFileLoader(str(file)).Load() for value in event.summary.value]
    assert values[-1] == ("predictions", 7)


def test_a_run_that_worked_may_have_been_pruned(log, run_dir):
    add_outcome(run_dir, Outcome.PRUNED, "left out after iteration 0")
    (run,) = lab.read(log.paths.root).runs
    assert (run.outcome, run.reason) == (Outcome.PRUNED, "left out after iteration 0")
    assert lab.read(log.paths.root).best() is None
    with pytest.raises(UsageError, match="failed does not go with the status SUCCESS"):
        add_outcome(run_dir, Outcome.FAILED, "")


@pytest.mark.parametrize(
    ("error", "said"), [(LogDirError("the disk is full"), "the disk is full"), (OSError(5, "no"), "OSError(5, 'no')")]
)
def test_what_cannot_be_logged_is_a_warning(error, said):
    with pytest.warns(UserWarning, match=f"^a fold is not in the log: {re.escape(said)}$"), not_lost("a fold"):
        raise error
    with pytest.raises(KeyboardInterrupt), not_lost("a fold"):
        raise KeyboardInterrupt


def test_the_systems_samples_are_no_steps(log, tmp_path):
    with lab.start_run(tmp_path / "loop", hparams={"x": 1}) as run:
        run.log({"loss": 0.5}, step=2)
        run._began -= 1000
        run.log_aside({"sys/cpu": 50.0})
    add_scalars(run.dir, {"rank": 1})
    assert lab.read(tmp_path / "loop").runs[0].scalars("rank").steps.tolist() == [2]


def test_what_cannot_be_added_is_refused(log, run_dir):
    with pytest.raises(UsageError, match="'rank' is 'first'"):
        add_scalars(run_dir, {"rank": "first"})
    with pytest.raises(LogDirError, match="holds no run"):
        add_scalars(log.paths.root / "run-0009", {"rank": 1})
    with log.start("run-0005", VALUES) as run, pytest.raises(LogDirError, match="is being written by another process"):
        add_scalars(run.dir, {"rank": 1})


def test_adding_again_and_again_takes_no_more_each_time(run_dir):
    for number in range(20):
        with at_most(calls=5000):
            add_scalars(run_dir, {"rank": number}, fsync=False)
