"""Names of runs in tables: what all begin with is said once, and no two look the same."""

from __future__ import annotations

import json
import random
from pathlib import Path

import click
import pytest
from mutants import VERSION, event, number, start

from hparams_lab.cli.main import main
from hparams_lab.cli.table import Column, fitted
from hparams_lab.core.names import common_part, cut_apart, cut_as, width_of
from hparams_lab.logdir.reader import read
from hparams_lab.sweep.progress.lines import running
from hparams_lab.sweep.progress.standing import Going, Standing

TUNED = [
    f"PPO_CartPole-v0_1a2b3_{at:05d}_{at}_lr={rate},gamma={gamma}_2021-01-01_12-0{at % 10}-00"
    for at, (rate, gamma) in enumerate((rate, gamma) for rate in (0.1, 0.01, 0.001) for gamma in (0.9, 0.99, 0.999, 1))
]
SETS = {
    "Ray's": TUNED,
    "Ray's, by values only": [f"PPO_CartPole-v0_lr={rate}_2021-01-01" for rate in ("0.1", "0.10", "0.01", "1e-1")],
    "one within another": ["a" * 30, "a" * 31, "a" * 32, "b" * 31],
    "the ends alike": [f"{'x' * 30}{at}{'y' * 30}" for at in range(30)],
    "a sweep of sweeps": [f"study-{at}/seed-{seed}/lightning_logs/version_0" for at in "ab" for seed in range(3)],
    "wide letters": [f"実験{'漢字' * 12}{at}{'漢字' * 12}" for at in range(12)],
    "short": ["a", "b", ""],
}


@pytest.mark.parametrize("width", [8, 12, 24, 33, 66, 200])
@pytest.mark.parametrize("name", SETS)
def test_no_two_look_the_same_and_each_is_found_by_what_is_shown(name, width):
    shown = cut_apart(SETS[name], width)
    assert len(set(shown)) == len(shown)
    assert max(map(width_of, shown)) <= width
    for text, whole in zip(shown, SETS[name], strict=True):
        assert text == whole or cut_as(text, SETS[name]) == [whole]


def test_any_names_are_told_apart():
    draw = random.Random(1)
    for _ in range(2000):
        letters, longest = draw.choice(["ab", "ab_-/.", "a0123_", "ä漢_a"]), draw.choice([6, 30, 60])
        around = "".join(draw.choices(letters, k=draw.randrange(20)))
        middles = {"".join(draw.choices(letters, k=draw.randrange(longest))) for _ in range(draw.randrange(1, 9))}
        names, width = [f"{around}{middle}{around}" for middle in sorted(middles)], draw.randrange(4, 40)
        shown = cut_apart(names, width)
        assert len(set(shown)) == len(names), (names, width)
        assert max(map(width_of, shown)) <= width, (names, width)


@pytest.mark.parametrize(
    ("names", "common"),
    [
        (["lightning_logs/version_0", "lightning_logs/version_1"], "lightning_logs/"),
        (["a/b/c", "a/b/d/e"], "a/b/"),
        (["a/b", "a/b/c"], "a/"),
        (["a", "a/b"], ""),
        (["run-1", "run-2"], ""),
        (["a/b"], ""),
        (["a/b", "a/b"], ""),
        ([], ""),
    ],
)
def test_what_all_names_begin_with(names, common):
    assert common_part(names) == common


def test_runs_under_way_do_not_look_the_same():
    standing = Standing(12, {}, tuple(Going(name, 1.0) for name in TUNED), None, None)
    shown = ["".join(piece.text for piece in line) for line in running(standing, 80, 20)]
    assert len({line.split()[0] for line in shown}) == 12


def test_what_the_other_columns_leave_is_for_names():
    """Where there is no room the names give way first, to a third of the width, then the columns that may."""
    columns = [Column("trial", TUNED, names=()), Column("x", ["1" * 20] * 12, 1), Column("y", ["2" * 20] * 12, 2)]
    for width in (66, 80, 100, 200):
        table, hidden = fitted(columns, width)
        assert hidden == (["y"] if width < 80 else [])
        lines = [line.split()[0] for line in table.lines[1:]]
        assert len(set(lines)) == 12
        widest = max(width_of(click.unstyle(line)) for line in table.lines)
        assert widest == (width if width < 112 else 44 + max(map(len, TUNED)))


def test_the_parts_of_a_head_stay_in_its_column():
    heads = ["Environment/Cumulative Reward", "Policy Loss", "x" * 40, "a_b/c d"]
    table, _ = fitted([Column(head, ["1"]) for head in heads], 200)
    lines = [*map(click.unstyle, table.lines)]
    assert [line.split("  ")[0] for line in lines[:3]] == ["Environment/", "Cumulative", "Reward"]
    assert lines[0].split() == ["Environment/", "Policy", "x" * 16, "a_b/c", "d"]


# In commands.


@pytest.fixture
def tuned(tmp_path):
    for at, name in enumerate(TUNED):
        directory = tmp_path / "logs/ray_results/tune" / name
        directory.mkdir(parents=True)
        points = event([number("episode_reward_mean", float(at))], 1, 1)
        (directory / "events.out.tfevents.1.host").write_bytes(VERSION + points)
    return tmp_path / "logs"


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[str]:
    with pytest.raises(SystemExit) as ended:
        main([*map(str, arguments)])
    assert ended.value.code == 0
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_top_shows_names_that_show_and_compare_take(tuned, capsys, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    lines = said(capsys, "top", tuned)
    assert lines[0] == "runs in ray_results/tune/"
    shown = [line.split()[1] for line in lines if line.split()[0].isdecimal()][:12]
    assert len({*shown}) == 12
    assert (shown == TUNED[::-1]) is (width > 90)
    for text, name in zip(shown, TUNED[::-1], strict=True):
        found = json.loads(said(capsys, "show", tuned, text, "--json")[0])
        assert [run["run"] for run in found["runs"]] == [f"ray_results/tune/{name}"]
    compared = said(capsys, "compare", tuned, *shown[:2])
    assert compared[0] == "runs in ray_results/tune/"
    assert max(map(width_of, compared)) <= max(width, 80)
    found = json.loads(said(capsys, "compare", tuned, *shown[:2], "--json")[0])
    assert [trial["runs"] for trial in found["trials"]] == [[f"ray_results/tune/{name}"] for name in TUNED[:-3:-1]]


def test_a_terminal_without_an_ellipsis(tuned, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = next(line for line in said(capsys, "top", tuned) if "…" in line).split()[1]
    found = [json.loads(said(capsys, "show", tuned, one, "--json")[0]) for one in (text, text.replace("…", "?"))]
    assert found[0]["runs"] == found[1]["runs"]


def test_a_run_of_a_trial_of_several_by_its_short_name(tmp_path, capsys):
    for run in ("a", "b"):
        directory = tmp_path / "logs/study" / run
        directory.mkdir(parents=True)
        records = [VERSION, start("one"), event([number("loss", 1.0)], 1, 1)]
        (directory / "events.out.tfevents.1.host").write_bytes(b"".join(records))
    lines = said(capsys, "show", tmp_path / "logs", "b")
    assert lines[0].startswith("study/b")
    assert "other runs of the trial: study/a" in lines


def test_json_has_the_names_as_they_are(tuned, capsys):
    rows = [json.loads(line) for line in said(capsys, "top", tuned, "--json")]
    found = {run["run"] for row in rows if "rank" in row for run in row["runs"]}
    assert found == {run.name for run in read(tuned).runs}


def test_the_report_says_it_once(tuned, tmp_path, capsys):
    pytest.importorskip("plotly")
    said(capsys, "report", tuned, "--output", tmp_path / "r.html")
    page = Path(tmp_path / "r.html").read_text(encoding="utf-8")
    table = page[page.index("Trials</h2>") :]
    assert "Runs in <bdi>ray_results/tune/</bdi>." in table
    assert f"<bdi>{TUNED[0]}</bdi>" in table


def test_thousands_of_names_and_names_within_names_are_cut_at_once():
    for names in (["a_" * at + "b" for at in range(400)], [f"{'a' * 50}{at}{'b' * 50}" for at in range(3000)]):
        assert len(set(cut_apart(names, 20))) == len(names)
