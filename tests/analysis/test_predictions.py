"""The picture of what the best model predicts: how it is drawn, who gets it, and that nothing depends on it.

Keras itself runs in other processes, as in test_keras.py.
"""

import dataclasses
import errno
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard_client import eventually, plain_tensorboard, processes
from tiers import one_quick

import hparams_lab as lab
from hparams_lab.analysis.predictions.best import picture_best
from hparams_lab.analysis.predictions.predict_process import ask
from hparams_lab.core.errors import UsageError
from hparams_lab.events.format.record import frame, read_records
from hparams_lab.keras.no_images import NoAnswersError, NoImagesError
from hparams_lab.keras.predictions import CELL, COLUMNS, RIGHT, WRONG, as_images, draw, prediction_picture
from hparams_lab.logdir.doctor.examine import examine
from hparams_lab.logdir.run_reader import event_files
from hparams_lab.storage import disk
from hparams_lab.storage.file_names import is_event_file
from hparams_lab.sweep.events import PictureStarted, SweepNote, SweepStarted
from hparams_lab.sweep.plan import Plan
from hparams_lab.sweep.progress.lines import rendered
from hparams_lab.sweep.progress.live import LiveView
from hparams_lab.sweep.signals import StopRequests
from hparams_lab.targets.load import load_domain

# ------------------------------------------------------------------------------------------------------- the picture

IMAGES = np.arange(12, dtype=np.uint8)[:, None, None] * np.ones((8, 8), np.uint8) * 20  # each has a shade of its own


def cells(picture):
    """The places of a picture of two rows, in order."""
    middle = picture.shape[0] // 2
    rows = picture[:middle], picture[middle:]
    return [row[:, place * CELL : (place + 1) * CELL] for row in rows for place in range(COLUMNS)]


def has(pixels, colour):
    return bool((pixels == colour).all(axis=-1).any())


def shade(cell):
    """What the image in a place is filled with."""
    return int(cell[30, CELL // 2, 0])


def test_right_answers_are_green_and_wrong_ones_red_and_tell_what_it_is():
    labels = np.arange(12) % 10
    predicted = np.where(np.arange(12) % 3 == 0, (labels + 1) % 10, labels)
    picture = prediction_picture(IMAGES, labels, predicted)
    assert (picture.dtype, picture.shape[1:]) == (np.uint8, (350, 3))
    drawn = draw(12)
    assert sorted({*drawn}) == sorted(drawn)
    assert [shade(cell) for cell in cells(picture)] == [20 * which for which in drawn]
    for cell, which in zip(cells(picture), drawn, strict=True):
        is_wrong = which % 3 == 0
        assert (has(cell, WRONG), has(cell, RIGHT)) == (is_wrong, not is_wrong)


def test_the_mark_and_the_words_tell_without_the_colours():
    def caption(label, predicted):
        picture = prediction_picture(IMAGES[:1], [label], [predicted])
        dark = (picture[75:, :CELL].min(axis=-1) < 128).astype(int)
        assert dark.any()
        return dark

    right, wrong = caption(3, 3), caption(5, 3)
    columns = [np.flatnonzero(found.any(axis=0)) for found in (right, wrong)]
    assert len(columns[1]) > len(columns[0]) + 10, "what it is of stands there too"
    marks = [found[:, column[0] : column[0] + 9] for found, column in zip((right, wrong), columns, strict=True)]
    assert (marks[0] != marks[1]).sum() > 15, "a tick is no cross"
    assert (caption(6, 3) != wrong).any(), "5 and 6 differ"


def test_the_seed_fixes_which_images_are_drawn():
    once, again, other = (
        prediction_picture(IMAGES, np.zeros(12), np.zeros(12), count=5, seed=seed) for seed in (1, 1, 2)
    )
    assert (once == again).all()
    assert (once != other).any()


@pytest.mark.parametrize(("count", "rows"), [(1, 1), (5, 1), (6, 2), (12, 3), (99, 3)], ids=lambda number: str(number))
def test_rows_of_five(count, rows):
    one = prediction_picture(IMAGES, np.zeros(12), np.zeros(12), count=1).shape[0]
    assert round(prediction_picture(IMAGES, np.zeros(12), np.zeros(12), count=count).shape[0] / one) == rows


@pytest.mark.parametrize(
    ("shape", "shown"),
    [
        ((8, 8), (64, 64)),
        ((64,), (64, 64)),
        ((28, 28, 1), (56, 56)),
        ((32, 32, 3), (64, 64)),
        ((20, 10), (60, 30)),
        ((200, 100, 3), (64, 32)),
        ((1, 1), (64, 64)),
    ],
)
def test_images_of_any_size_are_as_large_as_they_may_be(shape, shown):
    picture = prediction_picture(np.zeros((1, *shape)), [1], [1])
    black = (picture == 0).all(axis=-1)
    height, width = (np.ptp(found) + 1 for found in np.nonzero(black))
    assert (height, width) == shown


def test_pixels_stay_squares():
    chess = np.indices((8, 8)).sum(axis=0) % 2
    picture = prediction_picture(chess[None], [1], [1])
    top, left = (found.min() for found in np.nonzero((picture == 0).all(axis=-1)))
    assert (picture[top : top + 64, left : left + 64, 0] == np.kron(chess, np.ones((8, 8))) * 255).all()


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        (np.array([0.0, 0.5, 1.0]), [0, 128, 255]),
        (np.array([0, 128, 255], np.uint8), [0, 128, 255]),
        (np.array([0, 3, 100], np.uint8), [0, 3, 100]),
        (np.array([0.0, 8.0, 16.0]), [0, 128, 255]),
        (np.array([-2.0, 0.0, 2.0]), [0, 128, 255]),
        (np.array([0, 1, 1]), [0, 255, 255]),
        (np.array([False, True, True]), [0, 255, 255]),
        (np.array([0.25, 0.25, 0.5], np.float16), [64, 64, 128]),
        (np.array([5.0, 5.0, 5.0]) * -1, [0, 0, 0]),
    ],
)
def test_any_range_becomes_shades(values, shown):
    images = as_images(values[:, None, None] * np.ones((8, 8), values.dtype), "the images")
    assert images.dtype == np.uint8
    assert images[:, 0, 0].tolist() == shown


def test_one_hot_labels_and_scores_are_classes():
    labels, scores = np.arange(12) % 4, np.eye(4)[np.arange(12) % 3] * 0.6 + 0.1
    expected = prediction_picture(IMAGES, labels, np.arange(12) % 3)
    assert (prediction_picture(IMAGES, np.eye(4)[labels], scores) == expected).all()
    assert (prediction_picture(IMAGES, [*labels], [*map(float, np.arange(12) % 3)]) == expected).all()
    chances = np.linspace(0, 1, 12)[:, None]
    assert (
        prediction_picture(IMAGES, labels % 2, chances) == prediction_picture(IMAGES, labels % 2, chances > 0.5)
    ).all()


def test_names_of_classes_and_long_ones():
    names = ["cat", "dog", "a very long name of a class", "crème brûlée", "試験"]
    plain = ["cat", "dog", "a very long name of a class", "creme brulee", "4"]
    labels, predicted = np.arange(5), np.array([0, 2, 2, 1, 4])
    one = prediction_picture(IMAGES[:5], labels, predicted, names=names)
    assert (one == prediction_picture(IMAGES[:5], labels, predicted, names=plain)).all()
    assert one.shape[0] > prediction_picture(IMAGES[:5], labels, predicted).shape[0], "two lines"
    beyond = one[:, CELL * 5 :], one[75:, :3]
    assert not beyond[0].size
    assert (beyond[1] == 255).all()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((IMAGES, [1] * 11, [1] * 12), "there are 12 images, 11 labels and 12 predictions; give one of each"),
        ((IMAGES[:0], [], []), "there are 0 images, 0 labels and 0 predictions; give one of each"),
        ((1, 2, 3), "there are 0 images, 0 labels and 0 predictions; give one of each"),
        ((IMAGES, [1] * 12, [1] * 12, 0), "count is 0; wanted a whole number from 1"),
        ((np.zeros((2, 5)), [1, 1], [1, 1]), "the images, float64 of shape (2, 5), do not look like images; wanted"),
        ((np.zeros((2, 8, 8, 2)), [1, 1], [1, 1]), "the images, float64 of shape (2, 8, 8, 2), do not look like"),
        ((np.array(["a", "b"]), [1, 1], [1, 1]), "the images, <U1 of shape (2,), do not look like images; wanted"),
        ((np.full((1, 8, 8), np.nan), [1], [1]), "the images hold NaN or infinity, so they do not look like images"),
        ((IMAGES[:2], [1.5, 7], [1, 1]), "the labels are numbers and no classes; wanted (n,) whole numbers or (n, cl"),
        ((IMAGES[:2], ["a", "b"], [1, 1]), "the labels, <U1 of shape (2,), are no classes; wanted (n,) whole numbers"),
        ((IMAGES[:1], [1], np.zeros((1, 2, 3))), "the predictions, float64 of shape (1, 2, 3), are no classes; want"),
        ((IMAGES[:1], [1], [np.nan]), "the predictions are numbers and no classes; wanted (n,) whole numbers or"),
        ((IMAGES[:1], [2], [1], 1, 0, ["a", "b"]), "class 2 has no name: names has 2; give one for each class"),
    ],
)
def test_what_cannot_be_pictured_is_refused_in_a_line(arguments, said):
    with pytest.raises(UsageError) as refused:
        prediction_picture(*arguments)
    assert str(refused.value).startswith(said)
    assert "\n" not in str(refused.value)


# ------------------------------------------------------------------------------------------------- a model is asked

SLOW = """
import pathlib, time
def load_data():
    pathlib.Path({begun!r}).touch()
    time.sleep(600)
"""


@pytest.fixture
def slow(tmp_path):
    """A domain whose data take ten minutes, and the file that it makes when it begins to load them."""
    domain, begun = tmp_path / "slow.py", tmp_path / "begun"
    domain.write_text(SLOW.format(begun=str(begun)))
    return domain, begun


def test_a_model_that_takes_too_long_is_given_up(slow, tmp_path):
    with pytest.raises(NoAnswersError, match=r"^the model took more than 0\.3 s to load and predict$"):
        ask(str(slow[0]), None, tmp_path / "model.keras", seconds=0.3)
    assert not processes(str(slow[0]))


def test_nobody_waits_for_a_model_once_asked_to_stop(slow, tmp_path):
    assert ask(str(slow[0]), None, tmp_path / "model.keras", asked_to_stop=slow[1].exists) is None
    assert not processes(str(slow[0]))


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="processes are listed by Linux's /proc")
def test_the_process_ends_with_the_one_that_asked(slow, tmp_path):
    script = "import sys, pathlib; from hparams_lab.analysis.predictions.predict_process import ask; "
    script += "ask(sys.argv[1], None, pathlib.Path('none'))"
    with subprocess.Popen([sys.executable, "-c", script, str(slow[0])]) as asks:
        eventually(slow[1].exists)
        assert len(processes(str(slow[0]))) == 2
        asks.kill()
    eventually(lambda: processes(str(slow[0])), lambda left: not left)


@pytest.mark.parametrize(
    ("code", "kind", "said"),
    [
        ("", NoImagesError, "the domain has no load_data(), so there are no test images"),
        ("load_data = lambda: 3", NoAnswersError, "load_data() returned something else than (x_train, y_train), "),
        ("load_data = lambda: 1 / 0", NoAnswersError, "the model cannot predict here: ZeroDivisionError: division by"),
        ("import os\nos._exit(3)", NoAnswersError, "the model cannot predict here: exit code 3"),
        (
            "import os, sys\nos.write(2, b'one\\ntwo\\n\\n')\nos._exit(3)",
            NoAnswersError,
            "the model cannot predict here: two",
        ),
        ("import no_such_module", NoAnswersError, "domain '{}' imports 'no_such_module', which is not installed"),
        ("load_data = lambda: [([[1]], [1])] * 2", NoImagesError, "the test inputs are not an array of images"),
        (
            "import numpy as np\nload_data = lambda: [(np.zeros((9, 5)), np.zeros(9))] * 2",
            NoImagesError,
            "the test inputs, float64 of shape (9, 5), do not look like images; wanted",
        ),
        (
            "import numpy as np\nload_data = lambda: [(np.zeros((9, 8, 8)), np.linspace(0, 9, 9))] * 2",
            NoImagesError,
            "the test targets are numbers and no classes; wanted",
        ),
    ],
    ids=lambda given: None if isinstance(given, str) else given.__name__,
)
def test_why_there_are_no_answers(code, kind, said, tmp_path):
    domain = tmp_path / "domain.py"
    domain.write_text(code)
    with pytest.raises(NoAnswersError) as why:
        ask(str(domain), None, tmp_path / "model.keras")
    assert type(why.value) is kind
    assert str(why.value).startswith(said.format(domain))
    assert "\n" not in str(why.value)


# ------------------------------------------------------------------------------------------------------- in a sweep

NET = """
import pathlib, time
import hparams_lab as lab

EXPERIMENT = lab.Experiment(
    [lab.HParam("units", lab.Discrete([1, 2])), lab.HParam("epochs", lab.Discrete([2]))], [lab.Metric("accuracy")]
)
HERE = pathlib.Path(__file__).parent

def build_model(hparams):
    import keras
    model = keras.Sequential([keras.layers.Dense(hparams["units"], "relu"), keras.layers.Dense(10, "softmax")])
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model

def load_data():
    from sklearn.datasets import load_digits
    if (HERE / "broken").exists():
        raise OSError("the disk with the digits\\nis gone")
    if (HERE / "slow").exists():
        (HERE / "begun").touch()
        time.sleep(600)
    images, labels = load_digits(return_X_y=True)
    images = images[:, :(5 if (HERE / "tables").exists() else 64)] / 16
    return (images[:1000], labels[:1000]), (images[1000:], labels[1000:])
"""
RUN = ["run", "net.py", "--save-model", "--seed", "1"]
needs_keras = pytest.mark.skipif(
    not all(map(find_spec, ("keras", "tensorflow", "sklearn"))), reason="needs Keras, TensorFlow and scikit-learn"
)


def hparams_lab(*arguments, cwd):
    command = [sys.executable, "-m", "hparams_lab", *arguments]
    ran = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    return ran.returncode, ran.stdout, ran.stderr


@pytest.fixture(autouse=True)
def _own_path(monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A folder in which a small sweep was done, and one more beside it before its picture was there."""
    folder = tmp_path_factory.mktemp("swept")
    (folder / "net.py").write_text(NET)
    code, said, errors = hparams_lab(*RUN, cwd=folder)
    assert (code, errors) == (0, "")
    (folder / "said").write_text(said)
    return folder


@pytest.fixture
def undone(swept, tmp_path):
    """The same folder, as it was before the picture was made."""
    folder = tmp_path / "undone"
    shutil.copytree(swept, folder)
    file = event_files(folder / "logs/net" / best_of(folder).name)[-1]
    *records, picture = (record for _, record in read_records(Path(file).read_bytes()))
    assert b"predictions" in picture
    Path(file).write_bytes(b"".join(map(frame, records)))
    assert not pictures(folder, best_of(folder).name)
    return folder


def again(folder, *options):
    """The command once more: exit code, what it printed, its errors."""
    return hparams_lab(*RUN, *options, cwd=folder)


def best_of(folder):
    return lab.read(folder / "logs/net").best()


def pictures(folder, run):
    """The pictures in a run's event file, with their steps."""
    (file,) = event_files(folder / "logs/net" / run)
    events = [Event.FromString(record) for _, record in read_records(Path(file).read_bytes())]
    found = [(event.step, value) for event in events for value in event.summary.value if value.tag == "predictions"]
    return [(step, value.image) for step, value in found]


@needs_keras
def test_the_best_run_has_the_picture_and_the_last_lines_say_so(swept):
    best = best_of(swept).runs[0]
    other = next(run.name for run in lab.read(swept / "logs/net").runs if run.name != best.name)
    assert f"\nPredictions:    {best.name} in TensorBoard's Images tab\nLeaderboard: " in (swept / "said").read_text()
    ((step, picture),) = pictures(swept, best.name)
    assert (pictures(swept, other), step) == ([], 2)
    shown = np.asarray(Image.open(io.BytesIO(picture.encoded_image_string)))
    assert (picture.width, shown.shape[1:]) == (350, (350, 3))
    right = sum(has(cell, RIGHT) for cell in cells(shown))
    assert right + sum(has(cell, WRONG) for cell in cells(shown)) == 10
    assert 0 < right < 10, "two units know some digits, not all"


@needs_keras
def test_the_picture_is_the_models_answers(swept):
    best = best_of(swept).runs[0]
    answers = ask(str(swept / "net.py"), None, best.dir / "model.keras")
    ((_, picture),) = pictures(swept, best.name)
    assert (answers.picture == np.asarray(Image.open(io.BytesIO(picture.encoded_image_string)))).all()
    assert (answers.of, answers.images.shape) == (797, (10, 8, 8))
    assert 0 < answers.right == (answers.labels == answers.predicted).sum() < 10


@pytest.mark.slow
@needs_keras
def test_tensorboard_shows_it(swept, tmp_path):
    best = best_of(swept).name
    with plain_tensorboard(swept / "logs/net", tmp_path / "said") as address:

        def ask_for(route):
            with urllib.request.urlopen(f"{address}data/plugin/images/{route}", timeout=30) as answer:
                return answer.read()

        tags = eventually(lambda: json.loads(ask_for("tags")), lambda found: found.get(best))
        assert {run: [*tags[run]] for run in tags if tags[run]} == {best: ["predictions"]}
        (image,) = json.loads(ask_for(f"images?tag=predictions&run={best}&sample=0"))
        png = ask_for(f"individualImage?{image['query']}")
    ((_, picture),) = pictures(swept, best)
    assert (image["step"], png) == (2, picture.encoded_image_string)


LOADER = """
import sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
run = EventAccumulator(sys.argv[1])
run.Reload()
print(run.Tags()["images"], [(image.step, image.width) for image in run.Images("predictions")])
"""


@pytest.mark.slow
@needs_keras
def test_tensorboards_own_loader_reads_it(swept):
    """In another process, as it imports TensorFlow."""
    run = best_of(swept).runs[0].dir
    read = subprocess.run([sys.executable, "-c", LOADER, str(run)], capture_output=True, text=True, check=True)
    assert read.stdout == "['predictions'] [(2, 350)]\n"


@needs_keras
def test_the_run_reads_as_before_and_nothing_is_wrong_with_it(swept, undone):
    def found(folder):
        results = lab.read(folder / "logs/net")
        assert results.findings == ()
        return [
            (run.name, run.outcome, run.metrics, run.started, run.ended, run.texts, [*run.columns])
            for run in results.runs
        ]

    assert found(swept) == found(undone)
    assert examine(swept / "logs/net").ailments == examine(undone / "logs/net").ailments == ()


@pytest.mark.slow
@needs_keras
def test_the_same_command_makes_one_that_is_missing_and_no_second(undone):
    best = best_of(undone).name
    for events in (["sweep_started", "picture_started", "sweep_ended"], ["sweep_started", "sweep_ended"]):
        code, said, errors = again(undone, "--json")
        told = [json.loads(line) for line in said.splitlines()]
        assert (code, errors, [event["event"] for event in told]) == (0, "", events)
        assert {event["run"] for event in told if "run" in event} <= {best}
        assert told[-1]["pictured"] == best
        assert len(pictures(undone, best)) == 1


@pytest.mark.slow
@needs_keras
def test_a_run_that_becomes_the_best_gets_it_too(swept, tmp_path):
    folder = tmp_path / "folder"
    shutil.copytree(swept, folder)
    best = best_of(folder).name
    results = lab.read(folder / "logs/net")
    others = dataclasses.replace(results, runs=tuple(run for run in results.runs if run.name != best))
    for found, name in ((others, others.runs[0].name), (others, others.runs[0].name), (results, best)):
        assert pictured(folder, found) == (name, [])
        assert len(pictures(folder, name)) == 1


def pictured(folder, results):
    """What comes of `picture_best` in a sweep that ended with these results: the run with the picture, the notes."""
    plan = Plan(load_domain(str(folder / "net.py"), save_model=True), "grid", 2, None, 0)
    making, notes = picture_best(plan, results, StopRequests()), []
    while True:
        try:
            event = next(making)
        except StopIteration as end:
            return end.value, notes
        notes += [event.text] if isinstance(event, SweepNote) else []


WHY = {
    "the data": "OSError: the disk with the digits is gone; the same command tries again",
    "the model": r".*model\.keras.*; the same command tries again",
    "no model": r"it kept no model\.keras, as it was trained without --save-model",
    "the disk": r"cannot be written: No space left on device; make room on the disk, and start again",
}


@needs_keras
@pytest.mark.parametrize("what", one_quick(WHY))
def test_why_there_is_no_picture_is_one_line(what, undone, monkeypatch):
    best = best_of(undone).runs[0]
    if what == "the data":
        (undone / "broken").touch()
    elif what == "the model":
        (best.dir / "model.keras").write_bytes(b"torn")
    elif what == "no model":
        (best.dir / "model.keras").unlink()
    else:
        monkeypatch.setattr(disk, "write", refuse)
    run, (note,) = pictured(undone, lab.read(undone / "logs/net"))
    assert run is None
    assert re.fullmatch(rf"no picture of what {best.name}, the best, predicts: .*{WHY[what]}", note)
    assert not pictures(undone, best.name)


def refuse(fd, data):
    raise OSError(errno.ENOSPC, "No space left on device")


@needs_keras
def test_a_picture_that_fails_is_no_failed_sweep(undone):
    (undone / "broken").touch()
    code, said, errors = again(undone)
    assert (code, errors) == (0, "")
    (line,) = (line for line in said.splitlines() if re.search("picture|Predictions", line))
    assert line.startswith(f"no picture of what {best_of(undone).name}, the best, predicts: ")
    assert line.endswith(WHY["the data"])


@needs_keras
def test_a_domain_without_images_has_no_picture_and_no_word_of_it(undone):
    (undone / "tables").touch()
    assert pictured(undone, lab.read(undone / "logs/net")) == (None, [])


@needs_keras
def test_ctrl_c_ends_the_waiting_for_it(undone):
    (undone / "slow").touch()
    command = [sys.executable, "-m", "hparams_lab", *RUN]
    with subprocess.Popen(command, cwd=undone, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as asks:
        eventually((undone / "begun").exists)
        asks.send_signal(signal.SIGINT)
        said, errors = asks.communicate(timeout=60)  # not the ten minutes that the data take
    assert (asks.returncode, errors) == (130, "")
    assert not re.search("picture|Predictions", said)
    assert not processes(str(undone / "net.py"))
    assert not pictures(undone, best_of(undone).name)


def test_the_live_view_says_what_is_waited_for():
    experiment = lab.Experiment([lab.HParam("x", lab.Discrete([1]))], [lab.Metric("accuracy")])
    view = LiveView(io.StringIO())
    view.take(SweepStarted(Path("logs"), 1, (), experiment))
    view.take(PictureStarted("run-0000\x1b"))
    *_, last = [rendered(line, 80, styled=False) for line in view._lines(80, 20)]
    assert last == "asking the model of run-0000\\x1b about some test images"


def test_a_sweep_without_models_has_no_picture(tmp_path):
    experiment = lab.Experiment([lab.HParam("x", lab.Discrete([1]))], [lab.Metric("accuracy")])
    events = []
    lab.run_sweep(experiment, lambda run: {"accuracy": 1.0}, logdir=tmp_path, executor="inline", observe=events.append)
    assert events[-1].pictured is None
    assert [is_event_file(name) for name in os.listdir(tmp_path / "run-0000")].count(True) == 1
