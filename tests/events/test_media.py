"""Images, figures, histograms, whole curves: in the file, refused where they cannot be, and in a real TensorBoard."""

from __future__ import annotations

import io
import json
import re
import urllib.parse
import urllib.request

import numpy as np
import pytest
from PIL import Image
from tensorboard_client import Client, eventually

from hparams_lab.board.server import Board
from hparams_lab.core.errors import UsageError
from hparams_lab.events.format import media
from hparams_lab.events.format.event_file import read_events
from hparams_lab.logdir.run_reader import event_files, read_run
from hparams_lab.run.start import start_run

RANDOM = np.random.default_rng(7)


@pytest.fixture
def run(tmp_path):
    run = start_run(tmp_path, hparams={"x": 1}, name="x", provenance=False)
    yield run
    run.finish()


def logged(run, tag):
    """The steps and summary values of a tag, from the file."""
    run.flush()
    events = [event for file in event_files(run.dir) for event in read_events(file.read_bytes())]
    return [(event.step, value) for event in events for value in event.summary.value if value.tag == tag]


@pytest.mark.parametrize("channels", [(), (1,), (3,), (4,)])
@pytest.mark.parametrize("kind", [np.uint8, np.float16, np.float32, np.float64])
def test_images(run, channels, kind):
    wanted = RANDOM.integers(0, 256, (5, 7, *channels)).astype(np.uint8)
    run.log("loss", 1, step=3)
    run.image("image", wanted if kind is np.uint8 else (wanted / 255).astype(kind))
    run.image("image", wanted.tolist() if kind is np.float64 else wanted, step=9) if kind is np.uint8 else None
    step, value = logged(run, "image")[0]
    assert (step, value.image.height, value.image.width) == (3, 5, 7)
    assert value.image.colorspace == (channels or (1,))[0]
    with Image.open(io.BytesIO(value.image.encoded_image_string)) as image:
        assert image.format == "PNG"
        np.testing.assert_array_equal(np.asarray(image), wanted.squeeze(2) if channels == (1,) else wanted)


def test_figures(run):
    plt = pytest.importorskip("matplotlib.pyplot")
    figure, axes = plt.subplots(figsize=(3, 2), dpi=50)
    axes.plot([1, 2])
    run.figure("kept", figure, close=False)
    assert plt.fignum_exists(figure.number)
    run.figure("closed", figure, step=4)
    assert not plt.fignum_exists(figure.number)
    for tag, step in [("kept", 0), ("closed", 4)]:
        ((at, value),) = logged(run, tag)
        with Image.open(io.BytesIO(value.image.encoded_image_string)) as image:
            assert (at, image.size) == (step, (value.image.width, value.image.height)) == (step, (150, 100))


def test_histograms(run):
    values = np.concatenate([RANDOM.normal(size=(50, 19)), [[np.nan] * 19, [np.inf] * 19]])
    run.histogram("weights", values, step=2, bins=10)
    ((step, value),) = logged(run, "weights")
    counts, edges = np.histogram(values[:50], bins=10)
    assert (step, value.histo.num, list(value.histo.bucket)) == (2, 950, counts.tolist())
    assert (value.histo.min, list(value.histo.bucket_limit)) == (edges[0], edges[1:].tolist())
    assert value.histo.sum == pytest.approx(values[:50].sum())
    assert value.histo.sum_squares == pytest.approx((values[:50] ** 2).sum())


ODD = [[], [np.nan], [1.0, 1.0], [1.0, np.nextafter(1.0, 2)], [-1e308, 1e308], [5e-324, 0], [True, False, True], 7]


@pytest.mark.parametrize("values", ODD, ids=repr)
def test_every_distribution_has_a_histogram(run, values):
    run.histogram("odd", values)
    ((_, value),) = logged(run, "odd")
    assert sum(value.histo.bucket) == value.histo.num == np.isfinite(values).sum()
    assert len(value.histo.bucket) == len(value.histo.bucket_limit) > 0


def test_columns(run):
    run.log_columns({"loss": [1, 2.5, np.nan], "acc": np.array([True, False, True])})
    run.log_columns({"loss": np.float32([1, 2])}, steps=np.uint16([7, 9]))
    run.log_columns({})
    run.log_columns({"none": []}, steps=[])
    run.log("loss", 0)
    run.finish()
    columns = read_run(run.dir, "x").columns
    assert columns["loss"].steps.tolist() == [0, 1, 2, 7, 9, 10]
    np.testing.assert_equal(columns["loss"].values, [1, 2.5, np.nan, 1, 2, 0])
    assert (columns["acc"].values.tolist(), list(columns)) == ([1, 0, 1], ["loss", "acc"])
    with pytest.raises(UsageError, match=r"^run 'x' is finished; "):
        run.log_columns({"loss": [1]})


NO_PIXELS = "image 'i' has pixels of type {}; wanted uint8, or floats in [0, 1]"
NO_IMAGE = "image 'i' has the shape {}; wanted (height, width) or (height, width, 1, 3 or 4)"


@pytest.mark.parametrize(
    ("log", "message"),
    [
        *((lambda run, s=s: run.image("i", np.zeros(s)), NO_IMAGE.format(s)) for s in [(), (3,), (2, 2, 2), (0, 3)]),
        (lambda run: run.image("i", np.zeros((1, 2, 2, 3))), NO_IMAGE.format("(1, 2, 2, 3)")),
        (lambda run: run.image("i", [[0, 300]]), NO_PIXELS.format("int64 from 0 to 300")),
        (lambda run: run.image("i", [[0, 1.5]]), NO_PIXELS.format("float64 from 0.0 to 1.5")),
        (lambda run: run.image("i", [[-0.5, 1]]), NO_PIXELS.format("float64 from -0.5 to 1.0")),
        (lambda run: run.image("i", [[np.nan]]), NO_PIXELS.format("float64 from nan to nan")),
        (lambda run: run.image("i", [[True]]), NO_PIXELS.format("bool from True to True")),
        (lambda run: run.image("i", [["a"]]), "'i' is an array of <U1; wanted numbers"),
        (lambda run: run.image("", [[0]]), "a metric has the name '' (str); wanted a string that is not empty"),
        (lambda run: run.image("i", [[0.5]], step=-1), "step is -1; wanted a whole number from 0 to 2**31-1"),
        (lambda run: run.figure("f", 3), "figure 'f' is 3 (int); wanted a Matplotlib figure"),
        (lambda run: run.histogram("h", ["a"]), "'h' is an array of <U1; wanted numbers"),
        (lambda run: run.histogram("h", [1j]), "'h' is an array of complex128; wanted numbers"),
        (lambda run: run.histogram("h", [1], bins=0), "histogram 'h' has 0 bins; wanted a whole number from 1"),
        (lambda run: run.histogram("h", [1], bins=2.5), "histogram 'h' has 2.5 bins; wanted a whole number from 1"),
        (lambda run: run.log_columns({"c": ["1"]}), "'c' is an array of <U1; wanted numbers"),
        (lambda run: run.log_columns({"c": [None]}), "'c' is an array of object; wanted numbers"),
        (lambda run: run.log_columns({"c": np.array(["2026-01-01"], "M8[s]")}), "'c' is an array of datetime64[s]; w"),
        (lambda run: run.log_columns({3: [1]}), "a metric has the name 3 (int); wanted a string that is not empty"),
        (lambda run: run.log_columns({"c": [1, 2]}, [1]), "metric 'c' has 2 values for 1 steps; give one each"),
        (lambda run: run.log_columns({"c": [1, 2], "d": [1]}), "metric 'd' has 1 values for 2 steps; give one each"),
        (lambda run: run.log_columns({"c": [1]}, [0.5]), "steps are [0.5] of shape (1,); wanted whole numbers of"),
        (lambda run: run.log_columns({"c": [1]}, [True]), "steps are [True] of shape (1,); wanted whole numbers of"),
        (lambda run: run.log_columns({"c": [1]}, 3), "steps are 3 of shape (); wanted whole numbers of shape (n,)"),
        (lambda run: run.log_columns({"c": [1]}, [-1]), "a step is -1; wanted 0 to 2**31-1, which is what TensorBoard"),
        (lambda run: run.log_columns({"c": [1]}, [2**31]), "a step is 2147483648; wanted 0 to 2**31-1"),
        (lambda run: run.log([("a", 1)]), "log() got [('a', 1)]; wanted a mapping of values by name, or a name and a"),
    ],
)  # fmt: skip
def test_what_cannot_be_logged(run, log, message):
    with pytest.raises(UsageError, match=f"^{re.escape(message)}") as caught:
        log(run)
    assert "\n" not in str(caught.value)
    run.finish()
    assert read_run(run.dir, "x").columns == {}


def test_bytes_are_the_pixels_of_floats():
    wanted = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert media.image("i", wanted / 255) == media.image("i", wanted)


class Tabs(Client):
    """What TensorBoard's other tabs ask for."""

    def get(self, path, **asked):
        with urllib.request.urlopen(f"{self._root}data/plugin/{path}?{urllib.parse.urlencode(asked)}") as answer:
            return answer.read()

    def items(self, plugin, route, tag):
        """What the tab has of the run "x"; empty until it is loaded."""
        if tag not in json.loads(self.get(f"{plugin}/tags")).get("x", {}):
            return []
        return json.loads(self.get(f"{plugin}/{route}", run="x", tag=tag))


@pytest.mark.parametrize(("loader", "count"), [("true", 1_000_000), ("false", 20_000)], ids=["rust", "python"])
def test_in_tensorboard(run, loader, count):
    pixels = RANDOM.integers(0, 256, (6, 8, 3)).astype(np.uint8)
    curve = np.sin(np.linspace(0, 20, count))
    run.image("pictures/a", pixels, step=3)
    run.histogram("weights", np.repeat([0.0, 1.0, 2.0], [3, 2, 5]), step=4, bins=4)
    run.log_columns({"curve": curve})
    run.finish()
    with Board(run.dir.parent, 0, [f"--load_fast={loader}"]) as board:
        tabs = Tabs(board.url)
        (image,) = eventually(lambda: tabs.items("images", "images", "pictures/a"))
        assert image["step"] == 3
        with Image.open(io.BytesIO(tabs.get(f"images/individualImage?{image['query']}&"))) as shown:
            np.testing.assert_array_equal(np.asarray(shown), pixels)
        ((_, step, buckets),) = eventually(lambda: tabs.items("histograms", "histograms", "weights"))
        assert (step, sum(count for _, _, count in buckets)) == (4, 10)
        assert (buckets[0][0], buckets[-1][1]) == (0.0, 2.0)
        points = eventually(lambda: tabs.items("scalars", "scalars", "curve"), lambda p: p and p[-1][1] == count - 1)
        assert len(points) == 1000
        steps, shown = np.array([[step, value] for _, step, value in points]).T
        np.testing.assert_allclose(shown, curve[steps.astype(int)], atol=1e-6)
        assert np.diff(steps).min() > 0
        assert np.diff(steps).max() < count / 50  # a uniform sample keeps the shape
        (row,) = tabs.loaded(1, 1, "curve")
        (metric,) = (value for value in row["metricValues"] if value["name"]["tag"] == "curve")
        assert (metric["trainingStep"], metric["value"]) == (count - 1, pytest.approx(curve[-1], abs=1e-6))
