"""What a real TensorBoard makes of what we write, by both of its loaders."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from tensorboard_client import EXPERIMENT, Client, plain_tensorboard, quick_sweep, session, values

import hparams_lab as lab
from hparams_lab.board.server import Board
from hparams_lab.events.format.final import narrowed

VARYING = ["hpdropout", "hplayer", "learning_rate", "num_units", "optimizer"]
LOADERS = {"params": ["true", "false"], "ids": ["rust", "python"]}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    logdir = tmp_path_factory.mktemp("tensorboard") / "digits"
    assert len(quick_sweep(logdir).trials) == 32
    return logdir


@pytest.fixture(scope="module", **LOADERS)
def served(sweep: Path, request: pytest.FixtureRequest) -> Iterator[Client]:
    with Board(sweep, 0, [f"--load_fast={request.param}"]) as board:
        client = Client(board.url)
        client.loaded(groups=32, metrics=32)
        yield client


def check_groups(client: Client, logdir: Path) -> None:
    trials = {trial.id: trial for trial in lab.read(logdir).trials}
    groups = client.loaded(groups=len(trials), metrics=len(trials))
    assert {group["name"] for group in groups} == set(trials)
    for group in groups:
        trial = trials[group["name"]]
        assert group["hparams"] == dict(trial.hparams)
        assert {name: type(value) is bool for name, value in group["hparams"].items()} == {
            name: type(value) is bool for name, value in trial.hparams.items()
        }
        declared = [metric.tag for metric in EXPERIMENT.metrics]
        assert values(group) == {tag: narrowed(trial.metrics[tag]) for tag in declared}
        assert session(group)["name"] == trial.name
        assert session(group)["status"] == "STATUS_SUCCESS"
        assert session(group)["endTimeSecs"] == trial.runs[0].ended


def test_every_trial_is_a_row_with_its_values(served: Client, sweep: Path) -> None:
    check_groups(served, sweep)


def test_columns_are_the_declared_ones_with_what_varies_first(served: Client) -> None:
    columns = served.columns()
    assert list(columns) == [*VARYING, "hpbatch", "hpepoch"]
    assert {name for name, info in columns.items() if info["differs"]} == set(VARYING)
    assert columns["hpdropout"]["domainInterval"] == {"minValue": 0.1, "maxValue": 0.2}
    assert columns["learning_rate"]["domainInterval"] == {"minValue": 0.001, "maxValue": 0.01}
    assert columns["hplayer"]["domainDiscrete"] == [False, True]
    assert columns["num_units"]["domainDiscrete"] == [16, 32]
    assert columns["optimizer"]["domainDiscrete"] == ["adam", "sgd"]
    assert columns["num_units"]["description"] == "width of each hidden layer"


def test_metrics_have_the_objective_first_and_their_display_names(served: Client) -> None:
    experiment = served.experiment()
    metrics = [(info["name"]["tag"], info["displayName"]) for info in experiment["metricInfos"]]
    assert metrics == [("hpaccuracy", "HPaccuracy"), ("hploss", "HPloss"), ("hpmse", "HPmse")]
    assert experiment["name"] == "digits"


@pytest.mark.parametrize("name", [*VARYING, "hpbatch", "hpepoch"])
def test_sorting_by_an_hparam(served: Client, name: str) -> None:
    for order, backwards in ("ORDER_ASC", False), ("ORDER_DESC", True):
        found = [group["hparams"][name] for group in served.groups({"hparam": name, "order": order})]
        assert found == sorted(found, reverse=backwards)
        assert len(found) == 32


@pytest.mark.parametrize("tag", [metric.tag for metric in EXPERIMENT.metrics])
def test_sorting_and_filtering_by_a_metric(served: Client, sweep: Path, tag: str) -> None:
    ranked = [narrowed(trial.metrics[tag]) for trial in lab.read(sweep).top(metric=tag, goal="max")]
    column = {"metric": {"tag": tag, "group": ""}}
    assert [values(group)[tag] for group in served.groups(column | {"order": "ORDER_DESC"})] == ranked
    highest = {"filterInterval": {"minValue": ranked[9], "maxValue": ranked[0]}}
    assert [values(group)[tag] for group in served.groups(column | highest | {"order": "ORDER_DESC"})] == ranked[:10]


@pytest.mark.parametrize(
    ("name", "chosen", "rows"),
    [
        ("hplayer", {"filterDiscrete": [True]}, 16),
        ("num_units", {"filterDiscrete": [16]}, 16),
        ("num_units", {"filterDiscrete": [16, 32]}, 32),
        ("optimizer", {"filterDiscrete": ["adam"]}, 16),
        ("hpepoch", {"filterDiscrete": [15]}, 32),
        ("hpbatch", {"filterDiscrete": []}, 0),
        ("learning_rate", {"filterInterval": {"minValue": 0.005, "maxValue": "Infinity"}}, 16),
        ("hpdropout", {"filterInterval": {"minValue": 0.1, "maxValue": 0.2}}, 32),
    ],
)
def test_filtering_by_an_hparam(served: Client, name: str, chosen: dict[str, object], rows: int) -> None:
    assert len(served.groups({"hparam": name} | chosen)) == rows


def test_the_points_of_a_run(served: Client, sweep: Path) -> None:
    steps, times, logged = lab.read(sweep).runs[0].scalars("hpaccuracy")
    found = served.points("run-0000", "hpaccuracy")
    assert [(step, value) for _, step, value in found] == list(zip(steps.tolist(), logged.tolist(), strict=True))
    assert [time for time, _, _ in found] == pytest.approx(times.tolist(), abs=1e-3)


@pytest.mark.slow
def test_the_plain_executable_shows_the_same(sweep: Path, tmp_path: Path) -> None:
    with plain_tensorboard(sweep, tmp_path / "said.log") as address:
        check_groups(Client(address), sweep)


ODD = lab.Experiment(
    hparams=[
        lab.HParam("optimizer", lab.Discrete(["adam", "sgd"]), display_name="Optimizer"),
        lab.HParam("momentum", lab.RealInterval(0, 1), active_when={"optimizer": "sgd"}),
        lab.HParam("units", lab.Discrete(range(10, 110, 10))),
        lab.HParam("clip", lab.Discrete([None, 1.0, 5.0])),
    ],
    metrics=[lab.Metric("loss"), lab.Metric("accuracy")],
    objective="accuracy",
)
ENDS = {"good": "SUCCESS", "failed": "FAILURE", "diverged": "FAILURE", "interrupted": "UNKNOWN"}


def write_odd_runs(logdir: Path) -> None:
    """A run of each way to end, with hparams that TensorBoard cannot hold as they are."""
    errors = {"failed": ValueError("no such layer"), "interrupted": KeyboardInterrupt()}
    for number, name in enumerate(ENDS):
        more = {"optimizer": "sgd", "momentum": 0.5} if number % 2 else {"optimizer": "adam"}
        hparams = {"units": 10 * (number + 1), "clip": [None, 1.0][number % 2], **more}
        with (
            contextlib.suppress(ValueError, KeyboardInterrupt),
            lab.start_run(logdir, hparams=hparams, name=name, experiment=ODD) as run,
        ):
            run.log({"loss": 1.0, "accuracy": math.nan if name == "diverged" else number / 4}, step=1)
            if name in errors:
                raise errors[name]


@pytest.mark.parametrize("loader", LOADERS["params"], ids=LOADERS["ids"])
def test_odd_values_and_ends_in_an_odd_directory(loader: str, weird_tmp_path: Path) -> None:
    write_odd_runs(weird_tmp_path)
    with Board(weird_tmp_path, 0, [f"--load_fast={loader}"]) as board:
        client = Client(board.url)
        groups = {session(group)["name"]: group for group in client.loaded(4, 4, "accuracy")}
        assert {name: session(group)["status"] for name, group in groups.items()} == {
            name: f"STATUS_{status}" for name, status in ENDS.items()
        }
        assert math.isnan(values(groups["diverged"])["accuracy"])
        assert "momentum" not in groups["good"]["hparams"]
        assert groups["failed"]["hparams"] == {"optimizer": "sgd", "momentum": 0.5, "units": 20, "clip": "1.0"}
        assert groups["diverged"]["hparams"]["clip"] == "None"
        columns = client.columns()
        assert columns["optimizer"]["displayName"] == "Optimizer"
        assert columns["clip"]["domainDiscrete"] == ["None", "1.0", "5.0"]
        assert columns["units"]["domainInterval"] == {"minValue": 10, "maxValue": 100}
        few = {"filterInterval": {"minValue": 15, "maxValue": 35}}
        assert len(client.groups({"hparam": "units", "order": "ORDER_ASC"} | few)) == 2
        assert len(client.groups({"hparam": "clip", "filterDiscrete": ["None"]})) == 2
        for name in columns:
            assert len(client.groups({"hparam": name, "order": "ORDER_DESC"})) == 4
        for metric in client.experiment()["metricInfos"]:
            assert len(client.groups({"metric": metric["name"], "order": "ORDER_ASC"})) == 4
