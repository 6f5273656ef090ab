"""Logs that other libraries wrote (`tests/data/make_logs.py`), read by us and by TensorBoard."""

import functools
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams.api_pb2 import ListSessionGroupsRequest, Status
from tensorboard.plugins.hparams.backend_context import Context
from tensorboard.plugins.hparams.list_session_groups import Handler
from tensorboard.util import tensor_util

import hparams_lab as lab

DATA = Path(__file__).parents[1] / "data"
NAMES = sorted(path.name for path in DATA.iterdir() if path.is_dir() and any(path.rglob("*tfevents*")))
SLOW, FAST = ([2.0 ** -(step * rate * 10) for step in range(5)] for rate in (0.01, 0.1))
"""The losses that the makers log."""


@functools.cache
def read(name):
    return lab.read(DATA / name)


def runs(name):
    """The runs with hyperparameters by their learning rate: the slower learner first."""
    return sorted((run for run in read(name).runs if run.hparams), key=lambda run: run.hparams["rate"])


def check_curves(name, tag, steps=range(5)):
    """Each of the runs learned as it was told to."""
    for run, expected in zip(runs(name), (SLOW, FAST), strict=False):
        points = run.scalars(tag)
        assert points.steps.tolist() == list(steps)
        np.testing.assert_array_equal(points.values, np.float32(expected))
        assert np.all(np.diff(points.wall_times) >= 0)
        assert abs(points.wall_times - run.scalars(tag).wall_times[0]).max() < 60


def test_the_logs_are_there_and_small():
    assert NAMES == [
        "guild", "hparams_lab", "keras", "keras_tuner", "ray_tune", "tensorboard_writer", "tensorboardx", "tensorflow",
        "torch",
    ]  # fmt: skip
    files = [path for path in DATA.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert sum(path.stat().st_size for path in files) < 400_000
    for path in files:
        assert not re.search(rb"/(tmp|root|work|home)/", path.read_bytes()), path
    kinds = {path.relative_to(DATA).parts[0] for path in files if "tfevents" not in path.name}
    assert kinds == {"make_logs.py", "README.md"}


@pytest.mark.parametrize("name", NAMES)
def test_no_log_has_anything_wrong_with_it(name):
    assert read(name).findings == ()


def test_tensorflow():
    found = read("tensorflow")
    declared = found.declared
    assert {name: hparam["domain"] for name, hparam in declared.hparams.items()} == {
        "rate": {"kind": "RealInterval", "min": 0.001, "max": 1.0, "scale": "linear", "step": None},
        "units": {"kind": "discrete", "values": [8, 16], "dtype": "int"},
        "bias": {"kind": "discrete", "values": [False, True], "dtype": "bool"},
    }
    assert declared.hparams["rate"]["display_name"] == "learning rate"
    assert list(declared.metrics) == ["loss", "test/accuracy"]
    assert (declared.title("loss"), declared.objective) == ("Loss", None)
    assert [run.name for run in found.runs] == ["run-0", "run-1"]
    assert [dict(run.hparams) for run in found.runs] == [
        {"rate": 0.01, "units": 8, "bias": False},
        {"rate": 0.1, "units": 16, "bias": True},
    ]
    assert [type(value) for value in found.runs[0].hparams.values()] == [float, int, bool]
    check_curves("tensorflow", "loss")
    assert found.runs[0].texts == {"note": "step 4"}
    assert all("weights" not in run.columns for run in found.runs)  # a histogram
    assert found.runs[0].ended is None


def test_tensors_of_every_type_are_numbers():
    for run, losses in zip(runs("tensorflow"), (SLOW, FAST), strict=True):
        exact = np.float32(10) * np.float32(losses)
        expected = {"float16": exact.astype(np.float16), "float64": exact, "bfloat16": _bfloat16(exact)}
        expected |= {dtype: exact.astype(np.int64) for dtype in ("int32", "int64", "uint8")}
        assert {tag for tag in run.columns if tag.startswith("as/")} == {f"as/{dtype}" for dtype in expected}
        for dtype, values in expected.items():
            np.testing.assert_array_equal(run.scalars(f"as/{dtype}").values, values.astype(np.float64), err_msg=dtype)


def _bfloat16(values):
    """Rounded to the upper half of the bits, ties to even."""
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16 << 16).view(np.float32)


def test_keras_sub_runs_belong_to_the_run_above():
    found = runs("keras")
    assert [(run.name, run.trial_id, run.outcome) for run in found] == [
        ("run-0", "trial-0", "completed"),
        ("run-1", "trial-1", "completed"),
    ]
    assert [dict(run.hparams) for run in found] == [{"optimizer": "sgd", "rate": rate} for rate in (0.01, 0.1)]
    for run in found:
        assert sorted(run.columns) == [
            "train/epoch_learning_rate", "train/epoch_loss", "validation/epoch_loss",
            "validation/evaluation_loss_vs_iterations",
        ]  # fmt: skip
        assert run.scalars("validation/epoch_loss").steps.tolist() == [0, 1, 2]
        # it validates on what it trains on: what an epoch ends with, the next begins with
        train, validation = (run.scalars(f"{part}/epoch_loss").values for part in ("train", "validation"))
        np.testing.assert_allclose(train[1:], validation[:-1], rtol=1e-6)
        assert run.started < run.scalars("train/epoch_loss").wall_times[0] < run.ended
    assert read("keras").best("validation/epoch_loss", "min").hparams["rate"] == 0.1


def test_keras_tuner_trials_have_an_execution_each_run():
    found = read("keras_tuner")
    assert [trial.id for trial in found.trials] == ["0", "1"]
    assert [[run.name for run in trial.runs] for trial in found.trials] == [
        [f"{trial}/execution{execution}" for execution in (0, 1)] for trial in (0, 1)
    ]
    for trial in found.trials:
        assert {name: type(value) for name, value in trial.hparams.items()} == {
            "bias": bool, "kind": str, "rate": float, "units": int,
        }  # fmt: skip
        assert trial.hparams["kind"] == "line"
        logged = trial.runs[0].metrics["train/epoch_learning_rate"]
        assert logged == pytest.approx(trial.hparams["rate"], rel=1e-6)
        assert trial.spread("validation/epoch_loss") == pytest.approx(0, abs=1e-6)
        assert trial.outcome == "completed"


@pytest.mark.parametrize("name", ["torch", "tensorboardx"])
def test_add_hparams_and_the_curves_above_it_are_one_run(name):
    found = runs(name)
    assert [run.outcome for run in found] == ["completed", "completed"]
    booleans = (0, 1) if name == "torch" else (False, True)  # PyTorch writes them as numbers
    for run, rate, bias, losses in zip(found, (0.01, 0.1), booleans, (SLOW, FAST), strict=True):
        assert dict(run.hparams) == {"rate": rate, "units": 8, "bias": bias, "kind": "x"}
        assert type(run.hparams["bias"]) is type(bias)
        np.testing.assert_array_equal(run.scalars("loss/train").values, np.float32(losses))
        assert run.metrics["hparam/loss"] == np.float32(losses[-1])
    assert list(read(name).declared.metrics) == ["hparam/loss"]
    assert set(read(name).declared.hparams) == {"rate", "units", "bias", "kind"}


@pytest.mark.parametrize(("name", "prefix"), [("torch", "split_"), ("tensorboardx", "split/")])
def test_add_scalars_has_directories_that_belong_to_the_run_too(name, prefix):
    assert len(read(name).runs) == 2
    for run, losses in zip(runs(name), (SLOW, FAST), strict=True):
        for part, times in (("a", 1), ("b", 2)):
            points = run.scalars(f"{prefix}{part}/split")
            np.testing.assert_array_equal(points.values, times * np.float32(losses))


@pytest.mark.parametrize("name", ["torch", "tensorboardx"])
def test_texts_above_add_hparams_are_the_runs(name):
    assert [[*run.texts.values()] for run in runs(name)] == [["done"]] * 2


@pytest.mark.parametrize("name", ["ray_tune", "tensorboardx", "torch"])
def test_where_no_times_are_told_those_of_the_points_are_the_runs(name):
    for run in runs(name):
        times = np.concatenate([points.wall_times for points in run.columns.values()])
        assert run.started == times.min() > 1.7e9
        assert run.ended == times.max()
        assert 0 < run.seconds < 60


def test_guild_tells_no_times_but_when_it_prepared_a_run():
    for run in runs("guild"):
        assert run.started > 1.7e9
        assert (run.ended, run.seconds) == (None, None)


def test_a_log_whose_writer_knows_no_end_is_unknown_and_ranked():
    found = read("tensorflow")
    assert [run.outcome for run in found.runs] == ["unknown", "unknown"]
    assert found.best("loss").hparams["rate"] == 0.1


def test_ray_tune():
    found = read("ray_tune")
    assert [dict(run.hparams) for run in runs("ray_tune")] == [{"rate": 0.01}, {"rate": 0.1}]
    assert [run.outcome for run in found.runs] == ["completed"] * 2
    check_curves("ray_tune", "ray/tune/loss", range(1, 6))
    assert "ray/tune/loss" in found.declared.metrics
    assert found.best("ray/tune/loss", "min").hparams["rate"] == 0.1


def test_guild_says_of_each_run_all_that_it_knows_of_all():
    found = read("guild")
    assert [run.outcome for run in runs("guild")] == ["completed", "completed", "failed"]
    assert set(found.declared.hparams) == {"bias", "kind", "rate", "sourcecode", "units"}
    assert found.declared.hparams["bias"]["domain"] == {"kind": "discrete", "values": [False, True], "dtype": "bool"}
    values = [{name: run.hparams[name] for name in ("bias", "kind", "rate", "units")} for run in runs("guild")]
    assert values == [
        {"bias": False, "kind": "x", "rate": 0.01, "units": 8},
        {"bias": True, "kind": "x", "rate": 0.1, "units": 8},
        {"bias": True, "kind": "x", "rate": 1.0, "units": 8},
    ]
    check_curves("guild", "loss")
    assert all(run.metrics["time"] > 0 for run in found.runs)  # from a third file
    assert [trial.hparams["rate"] for trial in found.top(metric="loss")] == [0.1, 0.01, 1.0]


def test_curves_without_hparams_are_runs():
    found = read("tensorboard_writer")
    assert (found.declared, found.sweeps) == (None, {})
    assert [(run.name, dict(run.hparams), run.outcome) for run in found.runs] == [
        ("run-0", {}, "unknown"),
        ("run-1", {}, "unknown"),
    ]
    assert len({run.trial_id for run in found.runs}) == len(found.trials) == 2
    for run, losses in zip(found.runs, (SLOW, FAST), strict=True):
        np.testing.assert_array_equal(run.scalars("loss").values, np.float32(losses))
        assert run.seconds < 60
    assert found.best("loss").name == "run-1"


def test_our_own():
    found = runs("hparams_lab")
    assert [(run.name, run.outcome, run.reason) for run in found] == [
        ("run-0000", "completed", ""),
        ("run-0001", "pruned", "worse than the first"),
    ]
    assert [run.hparams["kind"] for run in found] == ["x", "None"]  # what None was is in sweep.json, which is not here
    check_curves("hparams_lab", "loss")


def test_all_of_them_under_one_root():
    found = lab.read(DATA)
    assert found.declared is None
    assert found.experiment is None
    by_name = {run.name: run for run in found.runs}
    for name in NAMES:
        for run in read(name).runs:
            same = by_name.pop(f"{name}/{run.name}")
            assert dict(same.hparams) == dict(run.hparams)
            assert (same.outcome, dict(same.metrics)) == (run.outcome, dict(run.metrics))
    assert by_name == {}
    assert {"tensorflow", "hparams_lab"} <= found.sweeps.keys()
    assert list(found.sweeps["tensorflow"].hparams) == ["rate", "units", "bias"]
    assert {run.sweep for run in found.runs if run.name.startswith("tensorflow/")} == {"tensorflow"}


# --- what TensorBoard makes of the same files -------------------------------------------------------------------------


@functools.cache
def multiplexed(name):
    """TensorBoard's event multiplexer over a log; every point kept."""
    return EventMultiplexer(size_guidance={"tensors": 0}).AddRunsFromDirectory(str(DATA / name)).Reload()


def tensorboards_points(name):
    """(run, tag) to the steps, values and times that TensorBoard's loader has; the scalars that it can show."""
    loaded = multiplexed(name)
    for run in loaded.Runs():
        for tag, metadata in loaded.AllSummaryMetadata().get(run, {}).items():
            if metadata.plugin_data.plugin_name == "scalars" and tag not in NOT_TENSORBOARDS:
                events = loaded.Tensors(run, tag)
                yield (run, tag), [(e.step, tensor_util.make_ndarray(e.tensor_proto), e.wall_time) for e in events]


NOT_TENSORBOARDS = {"as/float64", "as/bfloat16"}
"""What TensorBoard drops, and what its `make_ndarray` cannot make."""


@pytest.mark.parametrize("name", NAMES)
def test_every_point_that_tensorboard_reads_is_read(name):
    ours = {
        (run.name, tag): [*zip(*points, strict=True)] for run in read(name).runs for tag, points in run.columns.items()
    }
    theirs = dict(tensorboards_points(name))
    assert theirs
    places = {place: where(ours, *place) for place in theirs}
    assert None not in places.values()
    for place, points in theirs.items():
        assert [(step, value) for step, _, value in ours[places[place]]] == [(s, float(v)) for s, v, _ in points]
        assert [time for _, time, _ in ours[places[place]]] == [time for _, _, time in points]
    assert {tag for _, tag in ours.keys() - {*places.values()}} <= NOT_TENSORBOARDS


def where(ours, run, tag):
    """The place among ours of a tag of a run of TensorBoard's.

    That is the run itself, or the one above it, or one below a directory above it (PyTorch's hyperparameters); from the
    directory that they share on, the path goes before the tag.
    """
    parts = run.split("/")
    for length in range(len(parts), 0, -1):
        shared, rest = "/".join(parts[:length]), "/".join([*parts[length:], tag])
        for name, known in ours:
            if known == rest and (name == shared or name.startswith(f"{shared}/")):
                return name, known
    return None


STATUS = {Status.Value("STATUS_SUCCESS"): {"completed", "pruned"}, Status.Value("STATUS_FAILURE"): {"failed"},
          Status.Value("STATUS_UNKNOWN"): {"unknown", "interrupted"}}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in NAMES if name != "tensorboard_writer"])
def test_hparams_and_outcomes_are_those_of_the_hparams_tab(name):
    context = Context(TBContext(data_provider=MultiplexerDataProvider(multiplexed(name), str(DATA / name))))
    request = ListSessionGroupsRequest(start_index=0, slice_size=100, allowed_statuses=[*STATUS])
    listed = Handler(RequestContext(), context, "", request).run()
    theirs = {}
    for group in listed.session_groups:
        hparams = {name: getattr(value, value.WhichOneof("kind")) for name, value in group.hparams.items()}
        theirs |= {session.name: (hparams, session.status) for session in group.sessions}
    ours = {run.name: run for run in read(name).runs if run.hparams}
    assert theirs.keys() == ours.keys()
    for session_name, (hparams, status) in theirs.items():
        assert dict(ours[session_name].hparams) == hparams
        assert ours[session_name].outcome.value in STATUS[status]


def test_the_maker_names_what_it_can_make():
    said = subprocess.run([sys.executable, DATA / "make_logs.py", "mlflow"], capture_output=True, text=True, timeout=60)
    assert said.returncode == 1
    assert said.stderr == f"no maker 'mlflow'; there are {', '.join(MAKERS)}\n"


MAKERS = (
    "tensorflow", "keras", "keras_tuner", "torch", "tensorboardx", "ray_tune", "tensorboard_writer", "hparams_lab",
    "guild",
)  # fmt: skip
