"""Every command counts the same runs, trials and sessions of a log directory, in the same words."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from sick_logs import SECOND_WRITER, VERSION, point, run, start, write

import hparams_lab as lab
from hparams_lab.board.view import View
from hparams_lab.cli.board import what_is_shown
from hparams_lab.cli.main import main
from hparams_lab.core.present import Counts

COUNTS = re.compile(
    r"([\d,]+) runs?(?:, | in )([\d,]+) trials?(?:, (?:([\d,]+) sessions?|(no hyperparameters)))?"
)


def session(value: float, *points: bytes) -> bytes:
    """A run as Lightning and PyTorch begin one: without a group name."""
    return VERSION + start({"lr": value}) + b"".join(points)


EXPERIMENT = lab.Experiment([lab.HParam("lr", lab.Discrete([0.1, 0.2]))], [lab.Metric("val_loss", goal="min")])


def train(run: lab.Run) -> dict[str, float]:
    return {"val_loss": run.hparams["lr"]}


def repeated(root: Path) -> None:
    lab.run_sweep(EXPERIMENT, train, logdir=root, executor="inline", observe=lambda event: None)
    for _ in range(3):
        with lab.start_run(root, hparams={"lr": 0.1}, experiment=EXPERIMENT, provenance=False) as run:
            run.log({"val_loss": 0.5})


LOSS = point(9, 0.5, "val_loss")
LOGS: dict[str, tuple[Callable[[Path], object], Counts, int]] = {
    "versions with the same values": (
        lambda root: write(root, {f"version_{n}": session(0.1, *([LOSS] if n != 1 else [])) for n in range(3)}),
        Counts(3, 3, 3), 3,
    ),
    "two sessions in one directory": (
        lambda root: write(root, {"a": session(1, LOSS), f"a:{SECOND_WRITER}": session(2, LOSS), "b": session(3)}),
        Counts(3, 3, 3), 3,
    ),
    "halves without hparams": (
        lambda root: write(root, {f"run{n}/{half}": VERSION + LOSS for n in range(2) for half in ("train", "eval")}),
        Counts(2, 2, 0), 0,
    ),
    "halves below a session": (
        lambda root: write(root, {"r": session(0.1), "r/train": VERSION + LOSS, "r/validation": VERSION + LOSS}),
        Counts(1, 1, 1), 1,
    ),
    "curves without hparams": (
        lambda root: write(root, {f"run{n}": VERSION + LOSS for n in range(3)}), Counts(3, 3, 0), 0,
    ),
    "runs and curves": (
        lambda root: write(root, {"curves": VERSION + LOSS, "a": session(0.1, LOSS), "b": session(0.2, LOSS)}),
        Counts(3, 3, 2), 2,
    ),
    "add_hparams below its curves": (
        lambda root: write(root, {"run": VERSION + LOSS, "run/17.1": session(0.1, point(0, 0.5, "hparam/loss"))}),
        Counts(1, 1, 1), 1,
    ),
    "add_hparams twice below its curves": (
        lambda root: write(root, {"run": VERSION + LOSS, "run/1": session(0.1, LOSS), "run/2": session(0.2, LOSS)}),
        Counts(3, 3, 2), 2,
    ),
    "groups": (
        lambda root: write(root, {name: run(16, LOSS, group=name[0]) for name in ("a1", "a2", "b1")}),
        Counts(3, 2, 3), 2,
    ),
    "a sweep, and more runs of its first trial": (
        repeated, Counts(5, 2, 5), 2,
    ),
}  # fmt: skip


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def run(*args: object) -> str:
        with pytest.raises(SystemExit) as left:
            main([*map(str, args)])
        said = capsys.readouterr()
        assert left.value.code in ((0, 1) if args[0] == "doctor" else (0,)), said.err
        return " ".join(said.out.split())

    return run


def counts_in(said: str) -> Counts:
    """What a command says that there is."""
    (found,) = {match.groups() for match in COUNTS.finditer(said)}
    runs, trials, sessions, without = found
    return Counts(int(runs), int(trials), 0 if without else int(sessions or runs))


@pytest.mark.parametrize("name", LOGS)
def test_all_count_the_same(name: str, tmp_path: Path, call: Callable[..., str]) -> None:
    make, counts, rows = LOGS[name]
    make(tmp_path / "logs")
    logs = tmp_path / "logs"
    by = ("--metric", next(tag for tag in lab.read(logs).tags if tag.endswith("loss")), "--min")
    page = tmp_path / "report.html"
    said = {
        "top": call("top", logs, *by),
        "importance": call("importance", logs, *by),
        "doctor": call("doctor", logs).partition(" Mend ")[0].partition(" warning")[0].partition(" error")[0],
        "report": call("report", logs, *by, "-o", page),
        "its page": page.read_text().partition("</h1>")[2].partition(" · ")[0],
        "board": what_is_shown(View([logs])),
    }
    assert {command: counts_in(one) for command, one in said.items()} == dict.fromkeys(said, counts)
    assert Counts.of(lab.read(logs)) == counts
    found = json.loads(call("doctor", logs, "--json"))
    assert {one: found[one] for one in ("runs", "trials", "sessions")} == counts.as_json()
    assert json.loads(call("importance", logs, *by, "--json"))["counts"] == counts.as_json()
    assert View([logs]).trials == rows
    assert (f"{rows} row" in said["board"]) is (rows != counts.trials)


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        (Counts(3, 1, 3), "3 runs in 1 trial"), (Counts(1, 1, 1), "1 run, 1 trial"),
        (Counts(2, 2, 0), "2 runs, 2 trials, no hyperparameters"), (Counts(3, 2, 1), "3 runs in 2 trials, 1 session"),
        (Counts(4000, 4000, 1200), "4,000 runs, 4,000 trials, 1,200 sessions"), (Counts(0, 0, 0), "0 runs, 0 trials"),
    ],
)  # fmt: skip
def test_the_words(counts: Counts, said: str) -> None:
    assert str(counts) == said


def test_a_directory_that_is_not_read_is_counted_by_the_doctor_alone(tmp_path: Path, call: Callable[..., str]) -> None:
    write(tmp_path, {"a": run(16, LOSS), "b": run(17, LOSS)})
    (tmp_path / "sweep.json").write_text("[")
    assert counts_in(call("doctor", tmp_path)) == Counts(2, 2, 2)
