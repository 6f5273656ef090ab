"""Directories that are halves of one run, and those that only look so."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path

import pytest
from mutants import VERSION, event, number
from sick_logs import start

from hparams_lab.cli.main import main
from hparams_lab.logdir.merge import merge
from hparams_lab.logdir.prune import Criteria, plan_prune
from hparams_lab.logdir.prune.removal import prune
from hparams_lab.logdir.reader import LogDirReader, read

NAME = "events.out.tfevents.1700000000.host.1.0"


def write(directory: Path, values: Mapping[str, float], records: bytes = b"") -> None:
    directory.mkdir(parents=True, exist_ok=True)
    points = b"".join(event([number(tag, value)], 1, 1) for tag, value in values.items())
    (directory / NAME).write_bytes(VERSION + records + points)


def made(root: Path, directories: Mapping[str, Collection[str]]) -> dict[str, list[str]]:
    """The runs of a directory that holds these, each with its tags, and the tags of each run, the root's as "."."""
    for name, tags in directories.items():
        write(root / name, dict.fromkeys(tags, 0.5))
    return {"." if run.name == root.name else run.name: sorted(run.metrics) for run in read(root).runs}


ONE = {
    "Keras": (
        {"run0/train": ["epoch_loss"], "run0/validation": ["epoch_loss"]},
        {"run0": ["train/epoch_loss", "validation/epoch_loss"]},
    ),
    "Keras, deep": (
        {"exp/seed0/train": ["a"], "exp/seed0/validation": ["a"], "exp/seed1/train": ["a"], "exp/seed1/validation": []},
        {"exp/seed0": ["train/a", "validation/a"], "exp/seed1": ["train/a"]},
    ),
    "the root": ({"train": ["loss"], "test": ["loss"]}, {".": ["test/loss", "train/loss"]}),
    "other words": ({"r/Training": ["a"], "r/dev": ["a"], "q/train": ["a"], "q/val": ["a"]},
                    {"q": ["train/a", "val/a"], "r": ["Training/a", "dev/a"]}),
    "three, and what the guide puts beside them": (
        {"r/train": ["a"], "r/val": ["a"], "r/test": ["a"], "r/metrics": ["lr"], "r/other": ["a"]},
        {"r": ["metrics/lr", "test/a", "train/a", "val/a"], "r/other": ["a"]},
    ),
    "sets": ({"r/train_set": ["a"], "r/test-data": ["a"]}, {"r": ["test-data/a", "train_set/a"]}),
    "a writer for each": (
        {"r/train_loss": ["loss"], "r/val_loss": ["loss"], "r/val_acc": ["acc"]},
        {"r": ["train_loss/loss", "val_acc/acc", "val_loss/loss"]},
    ),
    "Estimator": (
        {"model": ["loss"], "model/eval": ["loss"], "model/eval_holdout": ["loss"]},
        {"model": ["eval/loss", "eval_holdout/loss", "loss"]},
    ),
    "object detection": (
        {"m/train": ["loss"], "m/eval_0": ["mAP"], "m/eval_1": ["mAP"]},
        {"m": ["eval_0/mAP", "eval_1/mAP", "train/loss"]},
    ),
    "a test below scalars": ({"model": ["loss"], "model/test": ["loss"]}, {"model": ["loss", "test/loss"]}),
    "add_scalars": (
        {"r": [], "r/loss_train": ["loss"], "r/loss_val": ["loss"], "r/A_b_x": ["A/b"], "r/A_b_y": ["A/b"]},
        {"r": ["A_b_x/A/b", "A_b_y/A/b", "loss_train/loss", "loss_val/loss"]},
    ),
    "add_scalars of the root": (
        {".": ["lr"], "Loss_train": ["Loss"], "Loss_test": ["Loss"]},
        {".": ["Loss_test/Loss", "Loss_train/Loss", "lr"]},
    ),
    "add_scalars of which the writer's file is lost": (
        {"r/loss_train": ["loss"], "r/loss_val": ["loss"]}, {"r": ["loss_train/loss", "loss_val/loss"]},
    ),
    "add_scalars of tensorboardX": (
        {"r": [], "r/data/loss/train": ["data/loss"], "r/data/loss/val": ["data/loss"]},
        {"r": ["data/loss/train/data/loss", "data/loss/val/data/loss"]},
    ),
    "add_scalars within a half": (
        {"r/train": ["a"], "r/val": ["a"], "r/val/loss_x": ["loss"]},
        {"r": ["train/a", "val/a", "val/loss_x/loss"]},
    ),
}  # fmt: skip

APART: dict[str, dict[str, Collection[str]]] = {
    "tests by number": {"test": ["a"], "test1": ["a"], "test2": ["a"]},
    "tests by number below one word": {"train/run1": ["a"], "train/run2": ["a"], "test/run1": ["a"]},
    "words and values": {"train_lr0.01": ["a"], "train_lr0.1": ["a"], "test_run": ["a"], "eval-runs/1": ["a"]},
    "trainings by number": {"train_1": ["a"], "train_2": ["a"], "val_1": ["a"], "val_2": ["a"]},
    "trainings only": {"r/train": ["a"], "s/train": ["a"]},
    "held out only": {"r/validation": ["a"], "r/test": ["a"]},
    "models of several tags": {"vgg_train": ["a", "b"], "vgg_val": ["a", "b"], "resnet_train": ["a", "b"]},
    "models of one tag": {"vgg_train": ["loss"], "vgg_val": ["loss"], "resnet_train": ["loss"]},
    "runs below stray scalars": {".": ["a"], "run1": ["a"], "run2": ["a"], "eval_lr0.01": ["a"], "training-2": ["a"]},
    "words within words": {"retrain": ["a"], "latest": ["a"], "evaluate-me": ["a"], "trainer": ["a"], "evals": ["a"]},
    "words with more": {"train_loss_fn": ["a"], "val_loss_fn": ["a"], "train_adam": ["a"], "val_adam": ["a"]},
}


@pytest.mark.parametrize("name", ONE)
def test_halves_are_one_run(tmp_path, name):
    directories, wanted = ONE[name]
    assert made(tmp_path, directories) == wanted
    assert {str(run.dir) for run in read(tmp_path).runs} == {str(tmp_path / run) for run in wanted}


@pytest.mark.parametrize("name", APART)
def test_what_only_looks_so_is_not(tmp_path, name):
    assert made(tmp_path, APART[name]) == {run: sorted(tags) for run, tags in APART[name].items()}


@pytest.mark.parametrize("name", ONE)
def test_a_half_that_comes_later(tmp_path, name):
    directories, _ = ONE[name]
    reader = LogDirReader(tmp_path)
    for each, tags in sorted(directories.items(), reverse=True):
        write(tmp_path / each, dict.fromkeys(tags, 0.5))
        if any(directories[one] for one in directories if (tmp_path / one).exists()):
            assert repr(reader.read().runs) == repr(read(tmp_path).runs)


def test_a_half_with_a_session_takes_the_other(tmp_path):
    write(tmp_path / "r/train", {"loss": 1}, start({"units": 4}))
    write(tmp_path / "r/validation", {"loss": 2})
    write(tmp_path / "s/train", {"loss": 1}, start({"units": 4}))
    write(tmp_path / "s/validation", {"loss": 2}, start({"units": 4}))
    assert {run.name: dict(run.metrics) for run in read(tmp_path).runs} == {
        "r/train": {"loss": 1, "validation/loss": 2}, "s/train": {"loss": 1}, "s/validation": {"loss": 2},
    }  # fmt: skip


def test_a_directory_above_sessions_is_no_model(tmp_path):
    write(tmp_path, {"loss": 1})
    write(tmp_path / "train", {"loss": 1})
    for run in ("a", "b"):
        write(tmp_path / run, {"loss": 1}, start({"units": 4}))
    assert [run.name for run in read(tmp_path).runs] == [tmp_path.name, "a", "b", "train"]


# What is made of them.


@pytest.fixture
def keras(tmp_path):
    """Two runs, of which the first learns by heart."""
    for run, (train, held_out) in enumerate([(0.1, 0.6), (0.2, 0.3)]):
        write(tmp_path / f"logs/run{run}/train", {"epoch_loss": train})
        write(tmp_path / f"logs/run{run}/validation", {"epoch_loss": held_out})
        (tmp_path / f"logs/run{run}/model.keras").write_text("")
    return tmp_path / "logs"


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    with pytest.raises(SystemExit) as ended:
        main([*map(str, arguments)])
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_the_held_out_half_ranks(keras, capsys):
    rows = [json.loads(line) for line in said(capsys, "top", keras, "--json").splitlines()]
    assert [(row["runs"][0]["run"], row["objective"]["metric"]) for row in rows if "rank" in row] == [
        ("run1", "validation/epoch_loss"), ("run0", "validation/epoch_loss"),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["run1", "run1/validation", "run1/train/", "#1"])
def test_a_half_finds_its_run(keras, capsys, name):
    shown = json.loads(said(capsys, "show", keras, name, "--json"))
    assert [run["run"] for run in shown["runs"]] == ["run1"]
    assert {*shown["runs"][0]["curves"]} == {"train/epoch_loss", "validation/epoch_loss"}
    compared = json.loads(said(capsys, "compare", keras, name, "run0", "--json"))
    assert [trial["runs"] for trial in compared["trials"]] == [["run1"], ["run0"]]


def test_a_half_of_the_root_finds_it(tmp_path, capsys):
    made(tmp_path, ONE["the root"][0])
    for name in ("train", tmp_path / "test", tmp_path.name):
        shown = json.loads(said(capsys, "show", tmp_path, name, "--json"))
        assert [run["run"] for run in shown["runs"]] == [tmp_path.name]


def test_prune_takes_both_halves_and_what_is_beside_them(keras):
    plan = plan_prune(keras, read(keras), Criteria(keep_best=1, metric="validation/epoch_loss", goal="min"))
    prune(plan)
    assert sorted(path.name for path in keras.iterdir()) == ["run1"]


def test_merge_keeps_halves_together(keras, tmp_path):
    for name in ("one", "two"):
        made(tmp_path / name, ONE["the root"][0])
    merge([keras, tmp_path / "one", tmp_path / "two"], tmp_path / "merged")
    assert {run.name: sorted(run.metrics) for run in read(tmp_path / "merged").runs} == {
        "one": ["test/loss", "train/loss"],
        "two": ["test/loss", "train/loss"],
        "run0": ["train/epoch_loss", "validation/epoch_loss"],
        "run1": ["train/epoch_loss", "validation/epoch_loss"],
    }
    assert (tmp_path / "merged/run0/model.keras").exists()
