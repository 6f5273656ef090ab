"""`export`: numbers keep their digits, texts are no formulas, files are whole or not there."""

import csv
import io
import json
import math
import os
import subprocess
import sys

import numpy as np
import openpyxl
import pandas as pd
import pytest

import hparams_lab as lab
from hparams_lab.analysis.export import FORMATS, appearing, csv_cell, export, json_cell
from hparams_lab.analysis.export.sheet import MOST_ROWS
from hparams_lab.cli.main import main
from hparams_lab.core.errors import UsageError
from hparams_lab.core.tables import Column, Table

TEXTS = [
    "=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "plain", 'a "b", c', "two\nlines", "back\rwards", "", "#N/A",
    "#REF!", "ünï→試", "'quoted", " =1", "100%", "%s", "nan",
]  # fmt: skip
NUMBERS = [0.1, -0.1, 1e-300, -2.2250738585072014e-308, 1 / 3, 2.0, math.nan, math.inf, -math.inf, 5e-324]
FORMULAS = ("=", "+", "-", "@", "\t", "\r")


def column_table(cells, kind=None, name="x"):
    """One column, and one beside it that is never empty."""
    return Table((Column.of(name, cells, kind), Column.of("row", range(len(cells)))))


def read_csv(path):
    """A CSV file as a frame; numbers by Python's conversion, for pandas's may be off in the last digit."""
    return pd.read_csv(path, dtype=str, keep_default_na=False).apply(number_or_text)


def number_or_text(column):
    try:
        return column.map(float)
    except ValueError:
        return column


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """A directory with two trials of two runs, and hostile names and values."""
    logdir = tmp_path_factory.mktemp("logged") / "mine"
    for units, act in ((8, "=cmd()"), (16, None)):
        for repeat in range(2):
            with lab.start_run(
                logdir, hparams={"units": units, "rate": -units / 7, "act": act, "-x": True}, provenance=False
            ) as run:
                for step in range(3):
                    run.log({"loss": 1 / (units + step + repeat), "=acc": float("nan")}, step=step)
    return logdir


@pytest.fixture
def lab_command(capsysbinary, tmp_path, monkeypatch):
    """`lab_command(arguments)` is the exit code, the standard output and the standard error."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        with pytest.raises(SystemExit) as exit:
            main(["export", *map(str, arguments)])
        return exit.value.code, *(said.decode() for said in capsysbinary.readouterr())

    return call


def test_texts_are_no_formulas_in_csv(tmp_path):
    export([column_table(TEXTS)], tmp_path / "texts.csv")
    with open(tmp_path / "texts.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["x", "row"]
    assert [row[0] for row in rows[1:]] == [f"'{t}" if t.startswith(FORMULAS) else t for t in TEXTS]
    assert not any(cell.startswith(FORMULAS) for row in rows for cell in row)


def test_names_are_no_formulas_either(tmp_path):
    export([column_table([1], name="=cmd|'/C calc'!A0")], tmp_path / "names.csv")
    assert (tmp_path / "names.csv").read_text() == "'=cmd|'/C calc'!A0,row\n1,0\n"
    export([column_table([1], name="=1+1")], tmp_path / "names.xlsx")
    (head, *_), _ = openpyxl.load_workbook(tmp_path / "names.xlsx").active.iter_rows()
    assert (head.data_type, head.value) == ("s", "=1+1")


def test_texts_are_texts_in_excel(tmp_path):
    export([column_table([*TEXTS, "bad\x00\x1b", "x" * 40_000])], tmp_path / "texts.xlsx")
    cells = [row[0] for row in openpyxl.load_workbook(tmp_path / "texts.xlsx").active.iter_rows(min_row=2)]
    assert {cell.data_type for cell in cells if cell.value is not None} == {"s"}
    assert [cell.value or "" for cell in cells[:-2]] == TEXTS
    assert (cells[-2].value, len(cells[-1].value)) == ("bad\ufffd\ufffd", 32_767)


@pytest.mark.parametrize("end", [".csv", ".xlsx", ".parquet"])
def test_numbers_come_back_with_every_digit(tmp_path, end):
    read = {".csv": read_csv, ".xlsx": pd.read_excel, ".parquet": pd.read_parquet}[end]
    export([column_table(NUMBERS), column_table(NUMBERS)], tmp_path / f"numbers{end}")
    found = read(tmp_path / f"numbers{end}")["x"]
    assert found.dtype == "float64"
    assert list(map(repr, found.tolist())) == list(map(repr, NUMBERS * 2))


@pytest.mark.parametrize("end", [".json", ".jsonl"])
def test_json_is_strict(tmp_path, end):
    export([column_table([*NUMBERS, *TEXTS, None, True, 2**53], name='a "%s" =b')], tmp_path / f"all{end}")
    said = (tmp_path / f"all{end}").read_text(encoding="utf-8")
    rows = json.loads(said, parse_constant=pytest.fail) if end == ".json" else list(map(strict, said.split("\n")[:-1]))
    finite = [number if math.isfinite(number) else None for number in NUMBERS]
    assert [row['a "%s" =b'] for row in rows] == [*finite, *TEXTS, None, True, 2**53]
    assert [row["row"] for row in rows] == list(range(len(rows)))


def strict(line):
    return json.loads(line, parse_constant=pytest.fail)


@pytest.mark.parametrize("cell", [1, 1.0, True, "1"])
def test_cells_that_are_equal_in_python_are_told_apart(cell):
    assert [json_cell(each) for each in (1, 1.0, True, "1", cell)][-1] == json.dumps(cell)
    assert [csv_cell(each) for each in (1, 1.0, True, "1", cell)][-1] == str(cell)


@pytest.mark.parametrize("end", FORMATS)
def test_no_rows_are_a_file_too(tmp_path, end):
    assert export([column_table([])], tmp_path / f"none{end}") == 0
    read = {".csv": pd.read_csv, ".json": pd.read_json, ".parquet": pd.read_parquet, ".xlsx": pd.read_excel}
    if end == ".jsonl":
        assert (tmp_path / "none.jsonl").read_bytes() == b""
    else:
        assert len(read[end](tmp_path / f"none{end}")) == 0


def test_runs_in_every_format(logged, lab_command, tmp_path):
    frame = lab.read(logged).to_pandas()
    for end in FORMATS:
        assert lab_command(logged, "-o", f"runs{end}") == (0, f"runs{end}: 4 runs\n", "")
    assert {*frame.columns[-6:]} == {"-x", "act", "rate", "units", "loss", "=acc"}
    found = {
        ".json": pd.read_json(tmp_path / "runs.json", precise_float=True),
        ".jsonl": pd.read_json(tmp_path / "runs.jsonl", lines=True, precise_float=True),
        ".parquet": pd.read_parquet(tmp_path / "runs.parquet"),
        ".xlsx": pd.read_excel(tmp_path / "runs.xlsx", keep_default_na=False),
        ".csv": read_csv(tmp_path / "runs.csv"),
    }
    for end, read in found.items():
        heads = [f"'{name}" if name[0] in "=-" and end == ".csv" else name for name in frame.columns]
        assert read.columns.tolist() == heads, end
        assert read["units"].tolist() == [8, 8, 16, 16]
        assert read["rate"].tolist() == frame["rate"].tolist()
        assert read["loss"].tolist() == frame["loss"].tolist()
        assert read["act"].tolist() == (["'=cmd()"] if end == ".csv" else ["=cmd()"]) * 2 + ["None"] * 2
        times = pd.to_datetime(read["started"], utc=True).astype("datetime64[ms, UTC]")
        apart = (times - frame["started"]).abs().max()
        assert apart <= pd.Timedelta(1, "ms"), end
    assert [found[end]["-x"].dtype for end in (".xlsx", ".json", ".parquet")] == [bool] * 3
    assert pd.read_parquet(tmp_path / "runs.parquet")["started"].tolist() == frame["started"].tolist()


def test_trials(logged, lab_command, tmp_path):
    assert lab_command(logged, "-o", "trials.jsonl", "--trials") == (0, "trials.jsonl: 2 trials\n", "")
    rows = list(map(strict, (tmp_path / "trials.jsonl").read_text().splitlines()))
    first = lab.read(logged).trials[0]
    assert rows[0]["n"] == 2
    assert (rows[0]["loss"], rows[0]["loss.spread"]) == (first.mean("loss"), first.spread("loss"))


def test_points(logged, lab_command, tmp_path):
    """Every point, not only those that are kept for ranking."""
    assert lab_command(logged, "-o", "points.csv", "--scalars") == (0, "points.csv: 24 points\n", "")
    frame = read_csv(tmp_path / "points.csv")
    run = lab.read(logged).runs[1]
    mine = frame[(frame["run"] == run.name) & (frame["tag"] == "loss")]
    assert mine["value"].tolist() == run.scalars("loss").values.tolist()
    assert mine["wall_time"].tolist() == run.scalars("loss").wall_times.tolist()
    assert mine["step"].tolist() == [0, 1, 2]


def test_to_the_screen(logged, lab_command):
    code, said, errors = lab_command(logged, "-o", "-")
    assert (code, errors, said.splitlines()[0][:17]) == (0, "", "run,trial,outcome")
    assert len(list(csv.reader(io.StringIO(said)))) == 5
    assert len(strict(lab_command(logged, "-o", "-", "--format", "json")[1])) == 4
    assert len(lab_command(logged, "-o", "-", "--format", "jsonl", "--scalars")[1].splitlines()) == 24


def test_some_trials(logged, lab_command):
    code, said, _ = lab_command(logged, "-o", "-", "--format", "jsonl", "--where", "units > 8")
    assert (code, [strict(line)["units"] for line in said.splitlines()]) == (0, [16, 16])
    assert len(lab_command(logged, "-o", "-", "--scalars", "--where", "units > 8")[1].splitlines()) == 13
    assert lab_command(logged, "-o", "-", "--where", "unit > 8")[0] == 2


def test_a_file_that_is_there_is_kept(logged, lab_command, tmp_path):
    (tmp_path / "kept.csv").write_text("mine")
    said = "error: kept.csv is there already; --force replaces it\n"
    assert lab_command(logged, "-o", "kept.csv") == (2, "", said)
    assert (tmp_path / "kept.csv").read_text() == "mine"
    assert lab_command(logged, "-o", "kept.csv", "--force")[0] == 0
    assert (tmp_path / "kept.csv").read_text().startswith("run,")
    assert os.listdir(tmp_path) == ["kept.csv"]


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("runs.doc", "runs.doc does not say what to write; end it with one of .csv, .json, .jsonl, .parquet, .xlsx"),
        ("runs", "runs does not say what to write; end it with one of .csv, .json, .jsonl, .parquet, .xlsx"),
        ("no/runs.csv", "no/runs.csv cannot be written: there is no directory no; make it, or name another"),
        ("folder.csv", "folder.csv is a directory; name a file in it"),
    ],
)
def test_a_file_that_cannot_be(logged, lab_command, tmp_path, output, said):
    (tmp_path / "folder.csv").mkdir()
    assert lab_command(logged, "-o", output) == (2, "", f"error: {said}\n")
    assert os.listdir(tmp_path) == ["folder.csv"]


@pytest.mark.skipif(
    not os.path.isdir("/proc"), reason="needs a directory that nobody can write, the superuser included"
)
def test_a_directory_that_cannot_be_written(logged, lab_command):
    code, said, errors = lab_command(logged, "-o", "/proc/runs.csv")
    assert (code, said) == (2, "")
    assert errors.startswith("error: /proc/runs.csv cannot be written: ")
    assert errors.count("\n") == 1


def test_what_is_asked_wrongly_writes_nothing(logged, lab_command, tmp_path):
    assert lab_command(tmp_path / "none", "-o", "runs.csv")[0] == 2
    assert lab_command(logged)[0] == 2
    assert lab_command(logged, "-o", "-", "--format", "parquet")[0] == 2
    assert os.listdir(tmp_path) == []


def test_a_failure_in_the_midst_leaves_the_file_before(tmp_path):
    (tmp_path / "kept.csv").write_text("mine")

    def tables():
        yield column_table(list(range(50_000)))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        export(tables(), tmp_path / "kept.csv", force=True)
    assert (tmp_path / "kept.csv").read_text() == "mine"
    assert os.listdir(tmp_path) == ["kept.csv"]


def test_a_file_appears_whole(tmp_path):
    with appearing(tmp_path / "whole.csv", force=False) as file:
        file.write(b"half")
        file.flush()
        assert not (tmp_path / "whole.csv").exists()
    assert (tmp_path / "whole.csv").read_bytes() == b"half"


def test_more_rows_than_a_sheet_has(tmp_path):
    points = Table((Column("value", np.zeros(MOST_ROWS), "float"),))
    with pytest.raises(UsageError) as caught:
        export([points], tmp_path / "points.xlsx")
    assert str(caught.value) == (
        "an Excel sheet has 1,048,576 rows and 16,384 columns, and these are at least 1,048,577 and 1; "
        "write .csv or .parquet"
    )
    assert os.listdir(tmp_path) == []


def test_odd_directories(logged, lab_command, weird_tmp_path):
    assert lab_command(logged, "-o", weird_tmp_path / "runs.csv")[0] == 0
    assert (weird_tmp_path / "runs.csv").read_text().count("\n") == 5


def test_a_missing_package_is_one_line(logged, tmp_path):
    hide = "import sys; sys.modules['pyarrow'] = None; from hparams_lab.cli.main import main; "
    command = f"{hide}main(['export', {str(logged)!r}, '-o', 'runs.parquet'])"
    done = subprocess.run([sys.executable, "-c", command], cwd=tmp_path, capture_output=True, text=True)
    wanted = "error: pyarrow is not installed; bring it with: pip install 'hparams-lab[parquet]'\n"
    assert (done.returncode, done.stderr, os.listdir(tmp_path)) == (2, wanted, [])


def test_the_others_need_no_package(logged, tmp_path):
    code = (
        "import sys; sys.modules.update(pandas=None, pyarrow=None, openpyxl=None)\n"
        "from hparams_lab.cli.main import main\n"
        f"main(['export', {str(logged)!r}, '-o', sys.argv[1], '--scalars'])"
    )
    for output, lines in (("-", 25), ("points.xlsx", 1)):
        done = subprocess.run([sys.executable, "-c", code, output], cwd=tmp_path, capture_output=True, text=True)
        assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", lines)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
def test_what_is_no_file_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "link.csv").symlink_to("pipe.csv")
    for name in ("pipe.csv", "link.csv"):
        with pytest.raises(UsageError, match="is a device or a pipe, which cannot be replaced; name a file"):
            export([column_table([1])], tmp_path / name, force=True)
    assert (tmp_path / "pipe.csv").is_fifo()
    assert {path.name for path in tmp_path.iterdir()} == {"pipe.csv", "link.csv"}


def test_two_files_at_once_in_a_directory_are_both_whole(tmp_path):
    with appearing(tmp_path / "one", False) as one, appearing(tmp_path / "two", False) as two:
        one.write(b"1")
        two.write(b"2")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"one": b"1", "two": b"2"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--trials", "--scalars"], "--trials and --scalars were both given; say one of them"),
        (["--format", "json"], "--format is for -o - only, and -o {out} says its format itself; leave --format out"),
    ],
)
def test_options_that_contradict_each_other(options, said, tmp_path, lab_command):
    out = tmp_path / "out.csv"
    code, _, errors = lab_command(tmp_path, "-o", out, *options)
    assert (code, errors, out.exists()) == (2, f"error: {said.format(out=out)}\n", False)
