"""Sixty and more hostile strings as the names and the values of hparams: swept, read back, shown, resumed.

Nothing is written outside the log directory, and nothing is lost; what may not be is refused in one line.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

import hparams_lab as lab

ASKED = "nothing written outside the log directory, nothing lost"
LONG = 100_000
ZALGO = "z" + "".join(map(chr, range(0x300, 0x330)))
HOSTILE = [
    # paths
    *("../", "..", ".", "../../escape", "/escape", "a/b/c", "a\\b", "..\\..\\escape", "~", "~root/x", "file:///etc"),
    *("CON", "NUL.txt", "a:b", "run-0000", "_experiment", "sweep.json", ".lock", "events.out.tfevents.1"),
    # what ends a string, a line, a field
    *("\0", "a\0b", "\n", "a\nb", "\r\n", "a\rb", "a\tb", "a\vb\fc", "\u2028", "a\u2029b", "\x85", " ", "", "  a  "),
    *('"', "'", "`", "a,b", "a;b", "a=b", "a|b", "| --- |", "a:b:c", "[red]a[/red]", "```"),
    # what a shell, a spreadsheet, a browser, a formatter would run
    *("=cmd|' /C calc'!A0", "=1+1", "+1", "-1", "@SUM(1)", "$(touch escape)", "`touch escape`", "; touch escape"),
    *("${HOME}", "%s%n%p", "{0}", "{x.__class__}", "<script>alert(1)</script>", "<img src=x onerror=alert(1)>"),
    *("[a](javascript:alert(1))", "__proto__", "constructor", "__class__", "--workers", "-rf", "*", "?"),
    # what looks like another value, or another column
    *("None", "null", "true", "NaN", "inf", "1", "1e999", "0x10", "outcome", "trial", "accuracy", "run/outcome"),
    # odd characters
    *("\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\x9b31m", "\x7f\x08\x08", "\u202etxt.exe", "\u200f\u200e", "\ufeff"),
    *("\ud800", "a\udfffb", "😀", "👩\u200d👩\u200d👧", "e\u0301", "é", ZALGO, "\U0010ffff", "\ufffe", "\u200b"),
    # long ones
    *("x" * 5000, "é" * 5000, "a b " * 1250, "y" * LONG),
]

DOMAIN = """
import json, pathlib
import hparams_lab as lab

NAMES, VALUES = json.loads(pathlib.Path(__file__).with_name("hostile.json").read_text())
FIRST = lab.HParam("x", lab.Discrete(VALUES))
EXPERIMENT = lab.Experiment([FIRST, *(lab.HParam(name, lab.Discrete([1])) for name in NAMES)], [lab.Metric("accuracy")])

def train(run):
    print(dict(run.hparams))
    run.text("seen", json.dumps(dict(run.hparams)))
    return {"accuracy": VALUES.index(run.hparams["x"])}
"""


def named(name):
    return lab.HParam(name, lab.Discrete([1, 2]))


def valued(value):
    return lab.HParam("x", lab.Discrete(["first", value]))


def refused(declare, text):
    """Why it may not be declared, in one line; empty when it may."""
    try:
        declare(text)
    except lab.HParamsLabError as error:
        return one_line(error)
    return ""


def one_line(error):
    """What it says, which is one line that does not steer a terminal."""
    assert str(error).isprintable(), repr(error)
    return str(error)


ALLOWED_NAMES = [text for text in HOSTILE if not refused(named, text)]
ALLOWED_VALUES = [text for text in HOSTILE if not refused(valued, text)]


def listing(root: Path) -> dict[str, bytes]:
    """Every file below, with its bytes, and every directory."""
    return {str(path.relative_to(root)): path.read_bytes() if path.is_file() else b"" for path in root.rglob("*")}


class Place:
    """A directory with a sweep's two levels down, and what else is there."""

    def __init__(self, root: Path) -> None:
        self.root, self.home = root, root / "up/home"
        self.logdir = self.home / "logs/sweep"
        self.logdir.parent.mkdir(parents=True)
        (self.home / "domain.py").write_text(DOMAIN)

    def hold(self, names: list[str], values: list[str]) -> None:
        (self.home / "hostile.json").write_text(json.dumps([names, values]))

    def outside(self) -> dict[str, bytes]:
        """All that is there but the log directory."""
        inside = str(self.logdir.relative_to(self.root))
        return {name: data for name, data in listing(self.root).items() if not name.startswith(inside)}

    def run(self, *more: str) -> subprocess.CompletedProcess[str]:
        """`hparams-lab run`, in a process of its own."""
        said = [sys.executable, "-m", "hparams_lab", "run", "domain.py", "--logdir", "logs/sweep", *more]
        env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run(said, cwd=self.home, env=env, capture_output=True, text=True, timeout=300)


@pytest.fixture
def place(tmp_path) -> Place:
    return Place(tmp_path)


def made(place: Place) -> set[str]:
    """What is in the log directory that is neither the sweep's nor a run's."""
    names = {path.name for path in place.logdir.iterdir() if not path.name.startswith("run-")}
    return names - {"sweep.json", "_experiment", ".lock", ".lock-runs"}


def steers(line: str) -> bool:
    """Whether something in it would steer a terminal; what joins words and emoji may be there."""
    kinds = {unicodedata.category(char) for char in line if char not in "\u200c\u200d"}
    return not kinds.isdisjoint({"Cc", "Cf", "Cs", "Zl", "Zp"})


def check_shown(lab_command, logdir: Path, trials: list[dict[str, object]]) -> None:
    """`top` shows every trial, in a line each, and nothing in it steers the terminal."""
    code, said, errors = lab_command("top", logdir, "--json")
    assert (code, errors, said[-1:]) == (0, "", "\n")
    rows = [json.loads(line) for line in said[:-1].split("\n")]
    assert [row["hparams"] for row in rows if "rank" in row] == trials
    lines = lab_command("top", logdir, "--n", 1000)[1].split("\n")
    assert all(not steers(line) for line in lines)
    assert sum(bool(re.match(r"\s*\d+\s+run-\d{4}\b", line)) for line in lines) == len(trials)


def check_done(place: Place, count: int) -> None:
    """The command again trains nothing and writes nothing but the lock."""
    before = listing(place.logdir)
    again = place.run("--json")
    assert (again.returncode, again.stderr) == (0, "")
    events = [json.loads(line) for line in again.stdout.split("\n")[:-1]]
    assert [event["event"] for event in events] == ["sweep_started", "sweep_ended"]
    assert (events[0]["done"], events[0]["runs"]) == (count, count)
    assert listing(place.logdir) == before


def test_there_are_sixty():
    assert len(set(HOSTILE)) == len(HOSTILE) >= 60
    assert len(ALLOWED_NAMES) >= 60
    assert len(ALLOWED_VALUES) >= 60


@pytest.mark.parametrize("declare", [named, valued])
def test_what_is_refused_is_what_cannot_be_kept(declare):
    cannot = {"\ud800", "a\udfffb"} | ({text for text in HOSTILE if not text.strip()} if declare is named else set())
    assert {text for text in HOSTILE if refused(declare, text)} == cannot


def test_values_are_kept(place, lab_command, figure):
    values = ALLOWED_VALUES
    figure(f"{len(HOSTILE)} hostile values of hparams", ASKED, kept=len(values), refused=len(HOSTILE) - len(values))
    place.hold([], values)
    before = place.outside()
    done = place.run()
    assert (done.returncode, done.stderr) == (0, "")
    assert place.outside() == before
    assert made(place) == set()
    runs = lab.read(place.logdir).runs
    assert [(dict(run.hparams), str(run.outcome)) for run in runs] == [({"x": value}, "completed") for value in values]
    assert [json.loads(run.texts["seen"]) for run in runs] == [{"x": value} for value in values]
    assert all(not steers(line) for line in done.stdout.split("\n"))
    assert sum(line.startswith("[") for line in done.stdout.split("\n")) == len(values)
    check_shown(lab_command, place.logdir, [{"x": value} for value in reversed(values)])
    check_done(place, len(values))
    assert place.outside() == before


def test_names_are_kept_together(place, lab_command, figure):
    kept = len(ALLOWED_NAMES)
    figure(f"{len(HOSTILE)} hostile names of hparams", ASKED, kept=kept, refused=len(HOSTILE) - kept)
    place.hold(ALLOWED_NAMES, ["a", "b"])
    before = place.outside()
    done = place.run()
    assert (done.returncode, done.stderr) == (0, "")
    assert place.outside() == before
    assert made(place) == set()
    wanted = [{"x": value, **dict.fromkeys(ALLOWED_NAMES, 1)} for value in ("a", "b")]
    runs = lab.read(place.logdir).runs
    assert [(dict(run.hparams), str(run.outcome)) for run in runs] == [(found, "completed") for found in wanted]
    assert [json.loads(run.texts["seen"]) for run in runs] == wanted
    check_shown(lab_command, place.logdir, wanted[::-1])
    check_done(place, 2)
    assert place.outside() == before


def test_each_name_alone_varies(place, lab_command):
    before = place.outside()
    for text in ALLOWED_NAMES:
        experiment = lab.Experiment([named(text)], [lab.Metric("score", goal="max")])

        def train(run):
            return {"score": run.hparams[text]}  # noqa: B023 - called in this turn

        options = {"executor": "inline", "observe": lambda event: None}
        logdir = place.logdir / str(ALLOWED_NAMES.index(text))
        runs = lab.run_sweep(experiment, train, logdir=logdir, **options).runs
        assert [(dict(run.hparams), run.metrics) for run in runs] == [({text: n}, {"score": n}) for n in (1, 2)]
        kept = listing(logdir)
        assert lab.run_sweep(experiment, train, logdir=logdir, **options).runs == runs
        assert listing(logdir) == kept
        check_shown(lab_command, logdir, [{text: 2}, {text: 1}])
    assert place.outside() == before


def test_runs_of_ones_own_keep_them(place, lab_command):
    before = place.outside()
    kept = []
    for text in HOSTILE:
        try:
            run = lab.start_run(place.logdir, hparams={text or "x": text}, provenance=False)
        except lab.HParamsLabError as error:
            one_line(error)
            continue
        with run:
            run.log("loss", 1.0)
        kept.append({text or "x": text})
    runs = lab.read(place.logdir).runs
    assert [(dict(run.hparams), str(run.outcome)) for run in runs] == [(found, "completed") for found in kept]
    assert len(kept) >= 60
    code, said, errors = lab_command("top", place.logdir)
    assert (code, errors) == (0, "")
    assert all(not steers(line) for line in said.split("\n"))
    assert place.outside() == before


@pytest.mark.parametrize("name", [text for text in HOSTILE if text not in ALLOWED_NAMES], ids=ascii)
def test_the_command_refuses_a_name_in_one_line(place, name):
    place.hold([name], ["a"])
    before = place.outside()
    done = place.run()
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("error: HParam has the name ")
    assert not place.logdir.exists()
    assert place.outside() == before
