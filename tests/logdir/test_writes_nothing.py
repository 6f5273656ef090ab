"""No command but a repair in place, `prune --yes` and `merge` writes anything into or beside a log directory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TypeAlias

import pytest
from sick_logs import NAME, SECOND_WRITER, SICK, TWO, run, wild_header, write
from tiers import slow

import hparams_lab as lab
from hparams_lab.board.server import Board
from hparams_lab.board.view import View
from hparams_lab.cli.main import main

Listing: TypeAlias = "dict[str, tuple[int, int, int, bytes]]"
OUTPUT = "elsewhere"
READS = {
    "top": ["top", "LOGS"],
    "top --json": ["top", "LOGS", "--json", "--group-by", "hparams"],
    "show": ["show", "LOGS", "a"],
    "show best": ["show", "LOGS", "best", "--metric", "accuracy", "--max", "--json"],
    "compare": ["compare", "LOGS", "a", "b", "--all"],
    "export": ["export", "LOGS", "-o", f"{OUTPUT}/trials.csv"],
    "export JSON": ["export", "LOGS", "-o", f"{OUTPUT}/trials.jsonl"],
    "importance": ["importance", "LOGS", "--metric", "accuracy", "--max"],
    "report": ["report", "LOGS", "-o", f"{OUTPUT}/report.html"],
    "doctor": ["doctor", "LOGS"],
    "doctor --json": ["doctor", "LOGS", "--json"],
    "a copy": ["doctor", "LOGS", "--repair", "--output", f"{OUTPUT}/copy"],
    "prune": ["prune", "LOGS", "--failed"],
}


def listing(root: Path) -> Listing:
    """Everything below a directory: when it was written, its mode, its inode, and its bytes."""
    found = {}
    for path in [root, *root.rglob("*")]:
        stat = path.lstat()
        found[str(path)] = (stat.st_mtime_ns, stat.st_mode, stat.st_ino, path.read_bytes() if path.is_file() else b"")
    return found


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of a stranger's logs, with faults of several kinds, and a sweep of ours that was left."""
    logs = tmp_path / "place" / "logs"
    write(logs, TWO | {"c": run(1, wild_header(2**60)), "d": b"version https://git-lfs.github.com/spec/v1\n", "e": b""})
    write(logs, SICK["two-writers"]() | SICK["torn"]() | {f"left/{NAME}": run(48, end=b"")})
    with lab.start_run(logs / "ours", hparams={"units": 5}, provenance=False) as one:
        one.log({"accuracy": 0.5}, step=1)
    (logs / "train.py").write_text("raise SystemExit\n", encoding="utf-8")
    (tmp_path / OUTPUT).mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path / "place"


@pytest.mark.parametrize("name", READS)
def test_a_command_that_reads_writes_nothing(place: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = listing(place)
    with pytest.raises(SystemExit) as exit:
        main([str(place / "logs") if part == "LOGS" else part for part in READS[name]])
    assert exit.value.code in (0, None, 1), capsys.readouterr().err
    assert listing(place) == before


def test_watching_writes_nothing(place: Path) -> None:
    before = listing(place)
    command = [sys.executable, "-m", "hparams_lab", "top", str(place / "logs"), "--watch"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as watch:
        assert watch.stdout is not None
        assert watch.stdout.readline()
        watch.terminate()
    assert listing(place) == before


def test_reading_and_a_view_write_nothing(place: Path) -> None:
    before = listing(place)
    results = lab.read(place / "logs")
    assert results.runs[0].scalars("accuracy") is not None
    with View([place / "logs", place / "logs" / "ours"]) as view:
        assert view.withheld
    assert listing(place) == before


@slow
def test_tensorboard_writes_nothing(place: Path) -> None:
    before = listing(place)
    with View([place / "logs"]) as view, Board(view.logdir, 0, ["--reload_interval=1"]):
        pass
    assert listing(place) == before


def test_what_writes_is_seen_by_the_comparison(place: Path) -> None:
    """A byte, a time, a name beside it, and what the commands that may write do."""
    before = listing(place)
    (place / "logs" / "a" / SECOND_WRITER).write_bytes(b"")
    assert listing(place) != before
    (place / "logs" / "a" / SECOND_WRITER).unlink()
    assert listing(place) != before  # the directory's time
    before = listing(place)
    (place / "logs.lock").write_text("")
    assert listing(place) != before
