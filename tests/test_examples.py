"""The examples with --quick, as a user starts them: what they print, and what they leave in the log directory."""

import ast
import importlib.util
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event
from tiers import one_quick

import hparams_lab as lab
from hparams_lab.core.outcome import Outcome
from hparams_lab.events.format.record import read_records
from hparams_lab.storage.file_names import is_event_file

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def skip_without(package, extra):
    """Skip where a package is not installed. It is not imported here: fork servers would have it from this process."""
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed (pip install 'hparams-lab[{extra}]')", allow_module_level=True)


skip_without("keras", "tensorflow")
skip_without("sklearn", "sklearn")


def start(name, *arguments, cwd):
    """An example, in a process of its own."""
    command = [sys.executable, EXAMPLES / name, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(EXAMPLES.parent)}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600)


def said_by(name, *arguments, cwd):
    done = start(name, *arguments, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout


def pictures(run):
    """The images of a run by tag."""
    found = {}
    for file in run.dir.iterdir():
        for _, record in read_records(file.read_bytes()) if is_event_file(file.name) else ():
            for value in Event.FromString(record).summary.value:
                if value.HasField("image"):
                    found[value.tag] = Image.open(io.BytesIO(value.image.encoded_image_string))
    return found


def assert_only_the_best_has_its_picture(results):
    pictured = {run.name: found for run in results.runs if (found := pictures(run))}
    ((name, found),) = pictured.items()
    assert name in [run.name for run in results.best().runs]
    assert set(found) == {"predictions"}
    assert found["predictions"].width == 350
    assert len(np.unique(np.asarray(found["predictions"]).reshape(-1, 3), axis=0)) > 10


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("examples")


@pytest.fixture(scope="module")
def grid(home):
    return said_by("grid_search.py", "--quick", cwd=home)


@pytest.mark.slow
def test_the_grid_search_prints_its_best_and_how_that_was_trained(grid):
    assert float(re.search(r"^best_score_: (\S+),", grid, re.MULTILINE)[1]) > 0.85
    epochs = re.findall(r"^  epoch +(\d+)  loss (\S+)  accuracy (\S+)$", grid, re.MULTILINE)
    assert [int(epoch) for epoch, _, _ in epochs] == [*range(1, 9)]
    assert float(epochs[-1][1]) < float(epochs[0][1])
    assert float(re.search(r"^accuracy on the test images: (\S+)$", grid, re.MULTILINE)[1]) > 0.85


@pytest.mark.slow
def test_the_grid_search_is_a_directory_of_trials_and_folds(grid, home):
    results = lab.read(home / "logs/grid_search")
    assert [len(trial.runs) for trial in results.trials] == [5, 5, 5, 5]
    assert {run.outcome for run in results.runs} == {Outcome.COMPLETED}
    best = results.best()
    assert f"best_score_: {best.mean('val/accuracy'):.4f}," in grid
    assert ast.literal_eval(re.search(r"^best_params_: (.*)$", grid, re.MULTILINE)[1]) == dict(best.hparams)
    assert [len(run.scalars("epoch/loss").values) for run in best.runs] == [8] * 5
    assert_only_the_best_has_its_picture(results)


SEARCHES = {"RandomSearch": ([2, 2, 2], 5), "Hyperband": ([1] * 5, 3), "BayesianOptimization": ([1] * 3, 5)}
"""The runs of each trial, and the epochs that the best is trained for. Hyperband promotes one of six."""


@pytest.fixture(scope="module")
def tuners(home):
    skip_without("keras_tuner", "keras-tuner")
    return said_by("keras_tuner_search.py", "--quick", cwd=home)


@pytest.mark.slow
def test_the_tuners_print_their_best(tuners):
    found = re.findall(r"^(\w+): accuracy (\S+), loss \S+ on the test images$", tuners, re.MULTILINE)
    assert [name for name, _ in found] == [*SEARCHES]
    assert all(float(accuracy) > 0.7 for _, accuracy in found), found


@pytest.mark.slow
@pytest.mark.parametrize("name", SEARCHES)
def test_each_tuner_has_a_directory_of_its_trials(tuners, home, name):
    runs, epochs = SEARCHES[name]
    results = lab.read(home / "logs/keras_tuner" / name)
    assert [len(trial.runs) for trial in results.trials] == runs
    assert {run.outcome for run in results.runs} == {Outcome.COMPLETED}
    best = results.best()
    said = re.search(rf"^{name}: .*\n  val/accuracy (\S+) with (.*)$", tuners, re.MULTILINE)
    assert said[1] == f"{best.mean('val/accuracy'):.4f}"
    assert ast.literal_eval(said[2]) == dict(best.hparams)
    assert best.runs[0].scalars("train/loss").steps.max() == epochs
    assert_only_the_best_has_its_picture(results)


@pytest.mark.parametrize("name", one_quick(["grid_search.py", "keras_tuner_search.py"]))
def test_data_that_are_not_there_are_one_clear_line(tmp_path, name):
    if "tuner" in name:
        skip_without("keras_tuner", "keras-tuner")
    done = start(name, "--data", "nowhere.npz", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: the data file nowhere.npz does not exist; give a file with")
    assert [*tmp_path.iterdir()] == []
