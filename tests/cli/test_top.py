"""`hparams-lab top`: the order, the columns, what is refused, the terminal's width, and its speed."""

import json
import re
import subprocess
import sys

import pytest

import hparams_lab as lab
from hparams_lab.cli.leaderboard import Asked, Leaderboard, the_same
from hparams_lab.cli.ranking import Rule
from hparams_lab.cli.table import Cell, Column, fitted
from hparams_lab.core.names import cut, width_of
from hparams_lab.core.present import sparkline, visible

SPACE = [
    lab.HParam("lr", lab.Discrete([0.1, 0.01, 0.001])),
    lab.HParam("opt", lab.Discrete(["adam", "sgd"])),
    lab.HParam("units", lab.Discrete([16])),
]
EXPERIMENT = lab.Experiment(SPACE, [lab.Metric("accuracy", display_name="Accuracy"), lab.Metric("loss")])


def train(run):
    """Accuracy peaks in the middle of the run; with SGD and the highest rate it fails, with the lowest it diverges."""
    lr, sgd = run.hparams["lr"], run.hparams["opt"] == "sgd"
    for step, share in enumerate([0.5, 1.0, 0.75], 1):
        run.log({"accuracy": share * (1 - lr) / (1 + sgd), "loss": lr / share, "speed": 100.0 * lr}, step=step)
    if sgd and lr == 0.1:
        raise ValueError("broken\x1b[2J")
    return {"accuracy": float("nan")} if sgd and lr == 0.001 else {}


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """A sweep of six trials: four complete, one fails, one diverges."""
    logdir = tmp_path_factory.mktemp("top") / "logs"
    lab.run_sweep(EXPERIMENT, train, logdir=logdir, executor="inline")
    return logdir


@pytest.fixture
def top(lines_of, logs):
    """`top(arguments..., logdir=...)` is the lines that it prints; with `refused=True` its one line of error."""

    def call(*arguments, logdir=logs, refused=False):
        return lines_of("top", logdir, *arguments, refused=refused)

    return call


def cells(lines):
    return [re.split(r" {2,}", line.strip()) for line in lines]


def strict(lines):
    return [json.loads(line, parse_constant=pytest.fail) for line in lines]


def test_the_table(top):
    same, head, *rows, counts = cells(top())
    assert same == ["the same for all: units=16"]
    assert head == ["rank", "trial", "lr", "opt", "Accuracy", "loss", "time", "outcome"]
    assert [[*row[:6], row[-1]] for row in rows] == [
        ["1", "run-0004", "0.001", "adam", "0.7492", "0.001333", "completed"],
        ["2", "run-0002", "0.01", "adam", "0.7425", "0.01333", "completed"],
        ["3", "run-0000", "0.1", "adam", "0.675", "0.1333", "completed"],
        ["4", "run-0003", "0.01", "sgd", "0.3712", "0.01333", "completed"],
        ["-", "run-0001", "0.1", "sgd", "0.3375", "0.1333", "failed"],
        ["-", "run-0005", "0.001", "sgd", "nan", "0.001333", "diverged"],
    ]
    assert all(re.fullmatch(r"\d+\.\d s", row[6]) for row in rows)
    assert counts == ["6 runs, 6 trials: 4 completed, 1 diverged, 1 failed"]


def test_by_metric_goal_and_n(top):
    assert cells(top("--by", "best"))[3][:5] == ["1", "run-0004", "0.001", "adam", "0.999"]
    assert top("--by", "best")[1] == "metrics are the best of each run"
    assert cells(top("--by", "mean-of-last-2", "--n", "1"))[3][4] == f"{0.999 * 0.875:.4g}"
    by_loss = cells(top("--metric", "loss", "--n", "2"))
    assert (by_loss[1][4:6], [row[1] for row in by_loss[2:4]]) == (["loss", "Accuracy"], ["run-0004", "run-0002"])
    assert by_loss[-1] == ["6 runs, 6 trials: 4 completed, 1 diverged, 1 failed; 2 shown, --n 6 for all"]
    assert [row[1] for row in cells(top("--metric", "loss", "--max"))[2:4]] == ["run-0000", "run-0002"]
    assert cells(top("--metric", "speed", "--min"))[1][4] == "speed"


def test_best_of_a_metric_without_a_direction_is_its_last(tmp_path, top):
    with lab.start_run(tmp_path, hparams={"x": 1}, provenance=False) as run:
        run.log_columns({"loss": [3.0, 1.0, 2.0], "speed": [3.0, 9.0, 2.0]}, [1, 2, 3])
    row = cells(top("--by", "best", logdir=tmp_path))[2]
    assert row[:5] == ["1", run.name, "1", "1", "2"]


def test_where(top):
    *_, failed, counts = top("--where", "lr >= 0.01 and not outcome = completed")
    assert (cells([failed])[0][:6], counts) == (
        ["-", "run-0001", "0.1", "sgd", "16", "0.3375"],
        "1 of 6 trials: 1 failed",
    )
    same, _, second, fourth, _ = cells(top("--where", "lr = 0.01 and Accuracy > 0.1 and seconds < 60"))
    assert same == ["the same for all: lr=0.01", "units=16"]
    assert (second[:3], fourth[:3]) == (["2", "run-0002", "adam"], ["4", "run-0003", "sgd"])
    assert [row["rank"] for row in strict(top("--json", "--where", "run ~ 000 and metric:loss < 0.1"))] == [
        1,
        2,
        4,
        None,
    ]
    assert top("--where", "lr > 1")[-1] == "0 of 6 trials"


@pytest.mark.parametrize(
    ("count", "width", "wanted"),
    [
        (2, 80, "the same for all: h0=0  h1=1"),
        (60, 34, "the same for all: 60 hparams (--json)"),
        (60, 60, "the same for all: h0=0  h1=1  h2=2  and 57 more (--json)"),
        (6, 60, "the same for all: h0=0  h1=1  h2=2  h3=3  h4=4  h5=5"),
        (1, 10, "the same for all: 1 hparam (--json)"),
    ],
)
def test_what_is_the_same_for_all_is_counted_and_fits_the_terminal(count, width, wanted):
    assert "".join(the_same({f"h{number}": number for number in range(count)}, width)) == wanted


def test_five_thousand_hparams_that_are_the_same_are_one_line(tmp_path, top):
    same = {f"labels/item/{number}": "x" * 300 for number in range(5000)}
    for number in range(2):
        with lab.start_run(tmp_path, hparams={"lr": number, **same}, provenance=False) as run:
            run.log({"loss": 1.0}, step=1)
    first, *_ = top(logdir=tmp_path)
    assert len(first) <= 200
    assert first.endswith("more (--json)")
    assert len(strict(top("--json", logdir=tmp_path))[0]["hparams"]) == 5001


def test_columns(top):
    head, first, *_ = cells(top("--columns", "reason, loss,opt", "--columns", "id,runs"))
    assert head == ["rank", "trial", "reason", "loss", "opt", "id", "runs"]
    assert first[2:4] == ["0.001333", "adam"]
    assert len(first[4]) == 16
    lines = top("--columns", "reason,outcome,trial")
    assert cells(lines)[5] == ["-", "run-0001", r"ValueError: broken\x1b[2J", "failed"]


def test_json(top):
    *rows, state = strict(top("--json", "--by", "best"))
    assert len(rows) == 6
    assert state["sweep"]["best"] == {
        "run": "run-0004", "metric": "accuracy", "value": pytest.approx(0.999), "hparams": rows[0]["hparams"],
    }  # fmt: skip
    best = rows[0]
    assert (best["rank"], best["outcome"], best["hparams"]) == (
        1,
        "completed",
        {"lr": 0.001, "opt": "adam", "units": 16},
    )
    assert best["objective"] == {
        "metric": "accuracy", "goal": "max", "by": "best", "mean": pytest.approx(0.999), "spread": None,
    }  # fmt: skip
    assert (best["runs"][0]["run"], best["sweep"]) == ("run-0004", "")
    assert (rows[5]["rank"], rows[5]["objective"]["mean"]) == (None, pytest.approx(0.4995))
    assert len(top("--json", "--n", "2")) == 2  # without the sweep, where only some of the trials are asked for
    assert len(top("--json", "--where", "lr > 0")) == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--n", "0"], "--n is 0; wanted at least 1"),
        (["--n", "-3"], "--n is -3; wanted at least 1"),
        (["--metric", "acuracy"], "no run logged the metric 'acuracy'; did you mean accuracy?"),
        (["--metric", "speed"], "whether more or less of 'speed' is better is not declared; say --max or --min"),
        (["--min", "--max"], "--max and --min were both given; say one of them"),
        (["--by", "first"], "by is 'first'; wanted last, best or mean-of-last-N, such as mean-of-last-5"),
        (["--columns", "lr,los"], "--columns names 'los', which no trial has; did you mean loss?"),
        (["--where", "lo < 1"], "--where names 'lo', which no trial has; did you mean loss?"),
        (["--where", "lr <"], "--where has at column 5 the end where a value belongs: lr <^; for example"),
        (["--json", "--watch"], "--json and --watch do not go together; leave one out"),
        (["--json", "--columns", "lr"], "--json and --columns do not go together; leave one out"),
    ],
)
def test_what_is_refused(top, arguments, message):
    assert top(*arguments, refused=True).startswith(message)


def test_a_name_that_is_an_hparam_and_a_metric(tmp_path, top):
    for value in (1, 2):
        with lab.start_run(tmp_path, hparams={"loss": value, "run": "mine"}, provenance=False) as run:
            run.log({"loss": 10.0 * value, "hparam:odd": 1}, step=1)
    said = top("--where", "loss < 2", logdir=tmp_path, refused=True)
    assert said == "--where names 'loss', an hparam and a metric; say hparam:loss or metric:loss"
    for condition, count in [("hparam:loss < 2", 1), ("metric:loss < 2", 0), ('metric:"loss" < 12', 1)]:
        assert len(top("--json", "--where", condition, logdir=tmp_path)) == count
    assert len(top("--json", "--where", "hparam:odd = 1 and run = mine", logdir=tmp_path)) == 2


def test_without_any_metric_the_trials_are_listed(tmp_path, top):
    with pytest.raises(OSError, match="disk"), lab.start_run(tmp_path, hparams={"x": 1}, provenance=False):
        raise OSError("disk")
    _, row, counts = cells(top(logdir=tmp_path))
    assert (row[0], row[2], counts) == ("-", "1", ["1 run, 1 trial: 1 failed"])
    assert strict(top("--json", logdir=tmp_path))[0]["objective"] is None


def test_several_runs_of_a_trial(tmp_path, top):
    for rate in (0.1, 0.2):
        for repeat in range(3):
            with lab.start_run(tmp_path, hparams={"lr": rate}, name=f"{rate}-{repeat}", provenance=False) as run:
                run.log({"loss": rate + repeat / 100}, step=1)
    head, first, second, _ = cells(top(logdir=tmp_path))
    assert head == ["rank", "trial", "runs", "lr", "loss", "time"]
    assert first[:5] == ["1", "0.1-0", "3", "0.1", "0.11 ±0.01"]
    assert second[4] == "0.21 ±0.01"
    found = strict(top("--json", "--where", "runs = 3 and loss > 0.2", logdir=tmp_path))
    assert [row["objective"]["spread"] for row in found] == [pytest.approx(0.01)]


def test_several_sweeps_have_a_column(tmp_path, top, capsys):
    for name in ("first", "second"):
        lab.run_sweep(EXPERIMENT, train, logdir=tmp_path / name, executor="inline")
    capsys.readouterr()
    head, first, second, *_ = cells(top("--n", "2", logdir=tmp_path))[1:]
    assert head[:4] == ["rank", "trial", "sweep", "lr"]
    assert (first[1:3], second[1:3]) == (["run-0004", "first"], ["run-0004", "second"])
    assert cells(top("--columns", "lr", "--where", "sweep = second", logdir=tmp_path))[1][1] == "second/run-0004"


def test_damage_leads_to_the_doctor(tmp_path, top):
    for place in (0.5, 0.6):
        with lab.start_run(tmp_path / "my logs", hparams={"x": place}, provenance=False) as run:
            run.log_columns({"loss": [1.0] * 100}, range(100))
        file = next(run.dir.glob("*tfevents*"))
        data = bytearray(file.read_bytes())
        for at in (0.4, place):  # twice in one file, which is one damaged file
            data[int(len(data) * at)] ^= 255
        file.write_bytes(data)
    last = top(logdir=tmp_path / "my logs")[-1]
    assert last == f"2 damaged files: hparams-lab doctor '{tmp_path / 'my logs'}'"


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_lines_are_no_wider_than_the_terminal(tmp_path, top, width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    values = {f"hparam_{i}": 10.0**-i for i in range(8)} | {"long": "x" * 500, "wide": "試験" * 30}
    for value in (1, 2):
        hparams = {name: f"{one}{value}" for name, one in values.items()}
        with lab.start_run(tmp_path, hparams=hparams, name=f"{'run' * 20}{value}", provenance=False) as run:
            run.log({"loss": 1.0, "accuracy": 1.0}, step=1)
    *table, _, hidden = top(logdir=tmp_path)
    assert max(map(width_of, table)) <= width
    assert hidden.startswith("no room for ")
    assert hidden.endswith(": widen the terminal, or --columns, --json")
    monkeypatch.delenv("COLUMNS")
    assert f"{'run' * 20}1" in "".join(top(logdir=tmp_path))  # to a file or pipe: all of it


@pytest.mark.parametrize("height", [4, 5, 8, 100])
def test_lines_are_no_more_than_the_terminal_has(logs, height):
    lines = Leaderboard(Rule().over(lab.read(logs)), Asked(), logs).lines(80, height)
    rows = min(6, height - 3)
    assert len(lines) == rows + 3
    assert lines[-1].endswith(f"; {rows} shown, --n 6 for all\x1b[0m") is (rows < 6)


def test_the_metric_that_ranks_and_the_outcomes_stand_out(logs):
    lines = "\n".join(Leaderboard(Rule().over(lab.read(logs)), Asked(), logs).lines(80))
    assert "\x1b[1m0.7492\x1b[0m" in lines
    assert "\x1b[1m0.001333" not in lines
    assert "\x1b[33mdiverged\x1b[0m" in lines


def test_names_and_values_cannot_steer_the_terminal(tmp_path, top):
    odd = {"na\nme\x1b[2J": "\x1b]0;title\x07", "dir\u202e": "\r\u2028x", "more": "a"}
    for more in "ab":
        with lab.start_run(tmp_path, hparams=odd | {"more": more}, name="run \x1b[31m" + more, provenance=False) as run:
            run.log({"lo\x1bss": 1.0}, step=1)
    lines = top("--metric", "lo\x1bss", "--min", logdir=tmp_path)
    lines += top("--metric", "lo\x1bss", "--min", "--where", r"`na\\nme\\x1b[2J` ~ title", logdir=tmp_path)
    lines.append(top("--metric", "lo\x1bss", "--min", "--columns", "nothing like it", logdir=tmp_path, refused=True))
    assert all(line.isprintable() for line in lines)
    assert r"na\nme\x1b[2J=\x1b]0;title\x07  dir\u202e=\r\u2028x" in lines[0]


def test_visible_keeps_what_is_harmless():
    assert visible("試 café a\u200db [x] \\n") == "試 café a\u200db [x] \\n"
    assert visible("\ud800\x7f\x9b\U000e0001") == r"\ud800\x7f\x9b\U000e0001"


def test_the_pieces_of_a_table():
    assert cut("abcdefghij", 5) == "ab…ij"
    assert cut("試験試験試験", 7) == "試…験"
    table, hidden = fitted([Column("a_long_head", ["x"]), Column("b", [Cell("yy", "red")], 1, right=True)], 12)
    assert (table.lines, hidden) == (("\x1b[1ma_long_\x1b[0m", "\x1b[1mhead\x1b[0m", "x"), ["b"])


def test_sparklines():
    import numpy as np

    assert sparkline(np.array([0.0, 1, 2, 3, 4, 5, 6, 7])) == "▁▂▃▄▅▆▇█"
    assert sparkline(np.arange(1000.0), 8) == "▁▂▃▄▅▆▇█"
    assert sparkline(np.array([1.0, np.nan, np.inf, 2.0])) == "▁××█"
    assert sparkline(np.array([-1e308, 1e308])) == "▁█"
    assert (sparkline(np.array([np.nan] * 50), 4), sparkline(np.array([]))) == ("××××", "")
    assert sparkline(np.array([5.0, 5.0]), ramp="_^") == "__"


def test_it_imports_little(logs):
    script = (
        "import sys\nfrom hparams_lab.cli.main import main\n"
        "try: main(['top', sys.argv[1]])\nexcept SystemExit: pass\n"
        "found = {'rich.console', 'rich.table', 'hparams_lab.core.experiment', 'asyncio', 'pandas'} & {*sys.modules}\n"
        "print(*sorted(found))"
    )
    ran = subprocess.run([sys.executable, "-c", script, logs], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == ""


@pytest.mark.parametrize("command", ["top", "importance", "report", "prune", "show", "compare"])
def test_max_and_min_together_are_refused(command, tmp_path, lab_command):
    more = {"prune": ["--failed"], "show": ["best"], "compare": ["best", "run-1"]}.get(command, [])
    code, said, errors = lab_command(command, tmp_path, *more, "--max", "--min")
    assert (code, said, errors) == (2, "", "error: --max and --min were both given; say one of them\n")
    assert list(tmp_path.iterdir()) == []
