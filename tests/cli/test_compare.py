"""`hparams-lab compare`: what differs, by how much and whether that is better, in one directory and across several."""

import functools
import json

import pytest

import hparams_lab as lab
from hparams_lab.core.names import width_of


def log(logdir, name, hparams, metrics, **options):
    with lab.start_run(logdir, hparams=hparams, name=name, provenance=False, **options) as run:
        run.log(metrics, step=1)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Runs in `first` (one trial of three runs, one of two, two of one) and in `second`."""
    home = tmp_path_factory.mktemp("compare")
    for repeat, loss in enumerate([0.10, 0.12, 0.14]):
        log(home / "first", f"a-{repeat}", {"lr": 0.1, "opt": "adam"}, {"loss": loss, "acc": 0.9, "speed": 10})
    for repeat, loss in enumerate([0.13, 0.15]):
        log(home / "first", f"b-{repeat}", {"lr": 0.01, "opt": "adam"}, {"loss": loss, "acc": 0.8, "speed": 20})
    log(home / "first", "c", {"lr": 0.001, "opt": "adam"}, {"loss": 0.5, "acc": 0.95, "speed": 10})
    log(home / "first", "close", {"lr": 0.0010000001, "opt": "adam"}, {"loss": 0.5, "acc": 0.95, "speed": 10})
    log(home / "second", "c", {"lr": 0.001, "units": 3}, {"loss": 0.4, "auc": 0.5, "acc": float("nan")})
    log(home / "second", "d", {"lr": 1, "units": 3}, {"loss": 0.7})
    return home


@pytest.fixture
def compare(lines_of, home, monkeypatch):
    """`compare(arguments...)` is the lines that it prints; with `refused=True` its one line of error."""
    monkeypatch.chdir(home)
    return functools.partial(lines_of, "compare")


METRIC = ["--metric", "loss"]


def without_times(lines):
    """The lines without those on how long the runs took, which is another every time."""
    return [" ".join(line.split()) for line in lines if not line.startswith("  time ")]


def test_what_differs(compare):
    assert without_times(compare("first", "best", "c", *METRIC)) == [
        "a-0 c",
        "hparams",
        "lr 0.1 0.001",
        "",
        "metrics",
        "loss (min) 0.12 ±0.02 0.5 +0.38 worse",
        "acc (max) 0.9 ±0 0.95 +0.05 better",
        "",
        "runs",
        "runs 3 1",
        "the same: 1 hparam, 1 metric (--all shows them)",
    ]


def test_all_shows_what_is_the_same(compare):
    lines = without_times(compare("first", "best", "c", "--all", *METRIC))
    assert "opt adam adam" in lines
    assert "speed 10 ±0 10" in lines
    assert "outcome completed completed" in lines
    assert lines[-1] == "the same: 1 hparam, 1 metric"


def test_several_runs_on_both_sides_tell_when_it_is_unclear(compare):
    lines = without_times(compare("first", "a-0", "b-0", *METRIC))
    assert "loss (min) 0.12 ±0.02 0.14 ±0.014 +0.02 unclear" in lines
    assert "acc (max) 0.9 ±0 0.8 ±0 -0.1 worse" in lines
    assert "speed 10 ±0 20 ±0 +10" in lines  # nobody says which is better


def test_several_directories(compare):
    lines = without_times(compare("first:c", "second:best", "--all", *METRIC))
    assert lines[:5] == ["first:c second:c", "hparams", "lr 0.001 0.001", "opt adam -", "units - 3"]
    assert "loss (min) 0.5 0.4 -0.1 better" in lines
    assert "acc (max) 0.95 nan" in lines
    assert "auc (max) - 0.5" in lines
    same = compare("first", "c", "second:best", "--all", *METRIC)
    assert without_times(same) == lines
    assert without_times(compare("first", "first/c", "second:c", "--all", *METRIC)) == lines


def test_trials_of_several_directories_are_told_apart(compare):
    assert compare("first:close", "second:d", *METRIC)[0].split() == ["first:close", "second:d"]


def test_another_spread_is_a_difference(compare, tmp_path):
    for name, losses in [("x", [1.0, 3.0]), ("y", [0.0, 4.0])]:
        for repeat, loss in enumerate(losses):
            log(tmp_path, f"{name}-{repeat}", {"name": name}, {"loss": loss})
    assert "loss (min) 2 ±1.4 2 ±2.8" in without_times(compare(str(tmp_path), "x-0", "y-0"))


def test_runs_of_one_trial(compare):
    lines = without_times(compare("first", "a-0", "a-2", *METRIC))
    assert lines[:3] == ["a-0 a-2", "metrics", "loss (min) 0.1 0.14 +0.04 worse"]
    assert lines[-1] == "the same: 2 hparams, 2 metrics (--all shows them)"


def test_values_that_look_alike_are_shown_in_full(compare):
    lines = without_times(compare("first", "c", "close", *METRIC))
    assert lines[2] == "lr 0.001 0.0010000001"


def test_more_than_two(compare):
    lines = without_times(compare("first", "#1", "#2", "#3", *METRIC))
    assert lines[0] == "a-0 b-0 c"
    assert "loss (min) 0.12 ±0.02 0.14 ±0.014 +0.02 unclear 0.5 +0.38 worse" in lines


def test_differences_give_way_before_trials_do(compare, monkeypatch):
    names = ["a-0", "b-0", "c", "close"]
    monkeypatch.setenv("COLUMNS", "70")
    lines = compare("first", *names, *METRIC)
    assert max(map(width_of, lines[:-1])) <= 70
    assert lines[0].split() == names
    assert not any("worse" in line for line in lines)
    monkeypatch.setenv("COLUMNS", "30")
    assert compare("first", *names, *METRIC)[-2].startswith("no room for close, c: widen the terminal, or --json")


def test_provenance_differs(compare, home, tmp_path):
    for name, commit in [("x", "aaaa"), ("y", "bbbb")]:
        with lab.start_run(tmp_path, hparams={"name": name}, name=name, provenance=False) as run:
            run.log({"loss": 1.0}, step=1)
            rows = f"| | |\n| --- | --- |\n| command | python {name}.py |\n| git commit | {commit} |\n| host | h |"
            run.text("run/provenance", rows, step=0)
    lines = without_times(compare(str(tmp_path), "x", "y"))
    assert lines[-3:-1] == ["provenance", "git commit aaaa bbbb"]
    assert lines[-1] == "the same: 1 metric, 1 line of the provenance (--all shows them)"


def test_json(compare):
    (line,) = compare("first", "a-0", "c", "--json", *METRIC)
    found = json.loads(line, parse_constant=pytest.fail)
    assert [one["runs"] for one in found["trials"]] == [["a-0", "a-1", "a-2"], ["c"]]
    assert found["hparams"]["lr"] == {"differs": True, "values": [0.1, 0.001]}
    assert found["hparams"]["opt"] == {"differs": False, "values": ["adam", "adam"]}
    loss = found["metrics"]["loss"]
    assert (loss["goal"], loss["values"][0]["spread"]) == ("min", pytest.approx(0.02))
    assert loss["differences"][1] == {"difference": pytest.approx(0.38), "verdict": "worse"}
    assert found["metrics"]["speed"]["differences"][1] == {"difference": 0.0, "verdict": None}


def test_by_best(compare, tmp_path):
    for name, losses in [("x", [0.2, 0.1, 0.9]), ("y", [0.5, 0.3, 0.3])]:
        with lab.start_run(tmp_path, hparams={"name": name}, name=name, provenance=False) as run:
            run.log_columns({"loss": losses})
    assert "loss (min) 0.1 0.3 +0.2 worse" in without_times(compare(str(tmp_path), "x", "y", "--by", "best"))
    assert "loss (min) 0.9 0.3 -0.6 better" in without_times(compare(str(tmp_path), "x", "y"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["first"], "0 trials were named; wanted two or more: hparams-lab compare LOGDIR A B, or LOGDIR:A OTHER:B"),
        (["first", "best"], "1 trial was named; wanted two or more: "),
        (["first:best"], "1 trial was named; wanted two or more: "),
        (["first", "best", "#1"], "'best' and '#1' are the same trial; name others"),
        (["first", "c", "first:c"], "'c' and 'first:c' are the same trial; name others"),
        (["first", "c", "clsoe"], "no run or trial of first is 'clsoe'; did you mean close"),
        (["first", "c", "second"], "'second' is another directory; name a trial in it, such as second:best"),
        (["first:c", "d"], "'d' is no DIRECTORY:RUN, such as logs/first:best; "),
        (["first", "c", "third:d"], "no run or trial of first is 'third:d'; "),
        (["first", "c", "second:e"], "no run or trial of second is 'e'; there are c, d "),
        (["third", "c", "d"], "the log directory third does not exist; "),
    ],
)
def test_what_is_refused(compare, arguments, message):
    assert compare(*arguments, *METRIC, refused=True).startswith(message)
