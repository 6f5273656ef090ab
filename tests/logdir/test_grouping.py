"""`--group-by hparams` and `read(group_by=...)`: runs with equal values are one trial, whatever their groups."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sick_logs import END, VERSION, point, start, write

import hparams_lab as lab
from hparams_lab.cli.main import main
from hparams_lab.core.errors import UsageError
from hparams_lab.logdir.reader import LogDirReader

NARROW = float(np.float32(0.1))


def session(hparams: dict[str, object], *points: tuple[str, float], group: str = "") -> bytes:
    """A run by Lightning: a start, and the last value of each metric."""
    return VERSION + start(hparams, group) + b"".join(point(9, value, tag) for tag, value in points)


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """Three runs of one set of values, the second of which died early, one of another, and curves without hparams."""
    val, train = "val_loss", "train_loss"
    return write(tmp_path / "logs", {
        "version_0": session({"lr": 0.1, "units": 16}, (train, 2.0), (val, 0.5)),
        "version_1": session({"lr": NARROW, "units": 16.0}, (train, 2.5)),
        "version_2": session({"units": 16, "lr": 0.1}, (train, 1.0), (val, 0.25)),
        "version_3": session({"lr": 0.2, "units": 16}, (train, 1.0), (val, 0.4), group="mine"),
        "curves_0": VERSION + point(9, 0.1, "val_loss"),
        "curves_1": VERSION + point(9, 0.1, "val_loss"),
    })  # fmt: skip


def names(results: lab.Results) -> list[list[str]]:
    return [[run.name for run in trial.runs] for trial in results.trials]


def test_runs_with_equal_values_are_one_trial(logs: Path) -> None:
    alone = [["curves_0"], ["curves_1"], ["version_0"], ["version_1"], ["version_2"], ["version_3"]]
    assert names(lab.read(logs)) == names(lab.read(logs, group_by="group")) == alone
    found = lab.read(logs, group_by="hparams")
    assert names(found) == [*alone[:2], ["version_0", "version_1", "version_2"], ["version_3"]]
    assert [trial.name for trial in found.top()][:2] == ["version_0", "version_3"]
    trial = found.best()
    assert trial.metrics == {"train_loss": pytest.approx(5.5 / 3), "val_loss": 0.375}
    assert {run.trial_id for run in trial.runs} == {trial.id}
    assert len({one.id for one in found.trials}) == 4


def test_a_reader_that_comes_back_keeps_the_grouping(logs: Path) -> None:
    reader = LogDirReader(logs, group_by="hparams")
    before = reader.read()
    write(logs, {"version_4": session({"lr": 0.2, "units": 16.0}, ("val_loss", 0.1))})
    after = reader.read()
    assert names(after)[-1] == ["version_3", "version_4"]
    assert after.trials[2].id == before.trials[2].id


def test_only_within_one_sweep(tmp_path: Path) -> None:
    for sweep in ("monday", "tuesday"):
        for _ in range(2):
            with lab.start_run(tmp_path / sweep, hparams={"x": 1}, provenance=False) as run:
                run.log({"loss": 0.5})
    assert names(lab.read(tmp_path, group_by="hparams")) == [
        [f"{sweep}/run-000{number}" for number in range(2)] for sweep in ("monday", "tuesday")
    ]


def test_each_command_groups(logs: Path, tmp_path: Path, call: Callable[..., str]) -> None:
    by = ("--metric", "val_loss", "--group-by", "hparams")
    table = call("top", logs, *by)
    assert "2 of 3" in table
    assert "0.375 ±0.18" in table
    first = json.loads(call("top", logs, *by, "--json").splitlines()[0])
    assert (first["runs_with_metric"], len(first["runs"]), first["objective"]["mean"]) == (2, 3, 0.375)
    shown = call("show", logs, "best", *by)
    assert "rank 1 of 2 by val_loss over 2 of 3 runs" in shown
    assert "0.375 ±0.18  in 2 of 3 runs" in shown
    compared = json.loads(call("compare", logs, "version_1", "version_3", *by, "--json"))
    assert [len(one["runs"]) for one in compared["trials"]] == [3, 1]
    assert [one["runs_with_metric"] for one in compared["metrics"]["val_loss"]["values"]] == [2, 1]
    assert json.loads(call("importance", logs, *by, "--json"))["trials"] == 2
    call("export", logs, "-o", tmp_path / "trials.json", "--trials", "--group-by", "hparams")
    rows = {row["run"]: row for row in json.loads((tmp_path / "trials.json").read_text())}
    assert len(rows) == 4
    assert [rows["version_0"][name] for name in ("n", "val_loss", "val_loss.n")] == [3, 0.375, 2]
    call("report", logs, "-o", tmp_path / "report.html", *by)
    assert "0.375 ± 0.1768 over 2 of 3 runs" in (tmp_path / "report.html").read_text()


def test_how_many_runs_have_the_metric_never_gives_way(
    tmp_path: Path, call: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    for number in range(4):
        hparams = {f"a_long_name_of_an_hparam_{n}": number // 2 for n in range(9)}
        write(tmp_path, {f"version_{number}": session(hparams, ("val_loss" if number else "train_loss", 0.5))})
    said = call("top", tmp_path, "--metric", "val_loss", "--group-by", "hparams")
    assert "runs" in said.splitlines()[0].split()
    assert "1 of 2" in said


def test_another_grouping_is_refused(logs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match=r"^group_by is 'values'; wanted one of 'group', 'hparams'$"):
        lab.read(logs, group_by="values")  # type: ignore[arg-type]
    with pytest.raises(SystemExit) as left:
        main(["top", str(logs), "--group-by", "values"])
    assert left.value.code == 2
    assert "'values' is not one of 'group', 'hparams'" in capsys.readouterr().err


def test_a_run_without_a_group_that_is_gone_on_with_keeps_its_trial(tmp_path: Path) -> None:
    write(tmp_path, {name: session({"x": 1}, ("loss", 0.5)) for name in ("a", "b")})
    before = lab.read(tmp_path)
    with lab.start_run(tmp_path, hparams={"x": 1}, name="a", resume=True, provenance=False) as run:
        run.log({"loss": 0.25}, step=10)
    after = lab.read(tmp_path)
    assert run.trial_id == before.runs[0].trial_id == after.runs[0].trial_id
    assert names(after) == [["a"], ["b"]]
    assert [str(one.outcome) for one in after.runs] == ["completed", "unknown"]


def test_a_sweep_does_not_take_the_run_of_another_tool_for_its_own(tmp_path: Path) -> None:
    """Not even one of the same name and values."""
    experiment = lab.Experiment([lab.HParam("x", lab.Discrete([1, 2]))], [lab.Metric("loss", goal="min")])
    trained = []

    def train(run: lab.Run) -> dict[str, float]:
        trained.append(run.hparams["x"])
        return {"loss": float(run.hparams["x"])}

    for _ in range(2):
        lab.run_sweep(experiment, train, logdir=tmp_path, executor="inline", observe=lambda event: None)
        write(tmp_path, {"run-0002": session({"x": 1}, ("loss", 9.0)) + END})
    assert trained == [1, 2]
    assert names(lab.read(tmp_path)) == [["run-0000"], ["run-0001"], ["run-0002"]]
