"""Results as tables: names and types of columns, what pandas and Arrow make of them, the table of a notebook."""

import itertools
import math
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from counted import at_most

import hparams_lab as lab
from hparams_lab.core.curve import Scalars
from hparams_lab.core.outcome import Outcome
from hparams_lab.core.results import Results, RunResult
from hparams_lab.core.tables import Column, kind_of, point_tables, runs_table, times, trials_table
from hparams_lab.core.tables.notebook import to_html
from hparams_lab.core.trial import HParams
from hparams_lab.core.values import trial_id

FIXED = ["run", "trial", "outcome", "reason", "started", "ended", "seconds"]


def run_result(number, hparams, curves=None, sweep="", **more):
    """A run with these hparams, and curves by tag."""
    points = {
        tag: Scalars(np.arange(len(values)), 100.0 + np.arange(len(values)), np.array(values, float))
        for tag, values in (curves or {}).items()
    }
    told = {"outcome": Outcome.COMPLETED, "reason": "", "started": 1_700_000_000.25, "ended": 1_700_000_002.75, **more}
    return RunResult(
        name=f"run-{number:04d}",
        path=f"run-{number:04d}",
        trial_id=trial_id(hparams),
        hparams=HParams(hparams),
        metrics={tag: float(column.values[-1]) for tag, column in points.items()},
        columns=points,
        sweep=sweep,
        **told,
    )


RESULTS = Results(
    None,
    (
        run_result(0, {"units": 8, "rate": 0.1, "act": "relu", "bias": True}, {"loss": [3, 0.1], "acc": [0.5]}),
        run_result(1, {"units": 8, "rate": 0.1, "act": "relu", "bias": True}, {"loss": [3, 0.3], "acc": [0.7]}),
        run_result(2, {"units": 16, "rate": 2, "act": None}, {"loss": [math.nan]}, outcome=Outcome.DIVERGED),
        run_result(3, {"bias": False}, outcome=Outcome.RUNNING, ended=None),
    ),
)


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """A directory that runs were logged to."""
    logdir = tmp_path_factory.mktemp("logged") / "mine"
    for units in (8, 16):
        with lab.start_run(logdir, hparams={"units": units, "rate": 0.1 * units}, provenance=False) as run:
            for step in range(3):
                run.log({"loss": 1 / (units + step)}, step=step)
    with pytest.raises(ValueError, match="boom"), lab.start_run(logdir, hparams={"units": 4}, provenance=False):
        raise ValueError("boom")
    return logdir


def test_a_row_per_run_as_a_frame():
    frame = RESULTS.to_pandas()
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == {
        "run": "string", "trial": "string", "outcome": "string", "reason": "string",
        "started": "datetime64[us, UTC]", "ended": "datetime64[us, UTC]", "seconds": "float64",
        "units": "Int64", "rate": "float64", "act": "string", "bias": "boolean", "loss": "float64", "acc": "float64",
    }  # fmt: skip
    assert frame["units"].tolist() == [8, 8, 16, pd.NA]
    assert frame["bias"].tolist() == [True, True, pd.NA, False]
    assert frame["act"].tolist() == ["relu", "relu", pd.NA, pd.NA]
    assert frame["rate"].tolist()[:3] == [0.1, 0.1, 2.0]
    assert frame["loss"][:2].tolist() == [0.1, 0.3]
    assert frame["started"][0] == pd.Timestamp("2023-11-14 22:13:20.250", tz="UTC")
    assert frame["seconds"][0] == 2.5
    assert (frame["ended"][3] is pd.NaT, math.isnan(frame["seconds"][3])) == (True, True)
    assert frame["outcome"].tolist() == ["completed", "completed", "diverged", "running"]


def test_a_row_per_run_in_arrow():
    table = RESULTS.to_arrow()
    types = {field.name: field.type for field in table.schema}
    assert types["units"] == pa.int64()
    assert types["bias"] == pa.bool_()
    assert types["rate"] == types["seconds"] == pa.float64()
    assert types["act"] == types["reason"] == pa.string()
    assert types["started"] == pa.timestamp("us", tz="UTC")
    assert table["units"].to_pylist() == [8, 8, 16, None]
    assert table["ended"].null_count == 1
    loss = table["loss"].to_pylist()
    assert (loss[:2], math.isnan(loss[2]), loss[3]) == ([0.1, 0.3], True, None)  # diverged is not missing


def test_a_row_per_point():
    frame = RESULTS.to_pandas(scalars=True)
    assert frame.columns.tolist() == ["run", "tag", "step", "wall_time", "value"]
    assert [str(dtype) for dtype in frame.dtypes] == ["string", "string", "Int64", "float64", "float64"]
    assert frame.values.tolist()[:4] == [
        ["run-0000", "loss", 0, 100.0, 3.0],
        ["run-0000", "loss", 1, 101.0, 0.1],
        ["run-0000", "acc", 0, 100.0, 0.5],
        ["run-0001", "loss", 0, 100.0, 3.0],
    ]
    assert len(frame) == 7
    rows = [[each.as_py() for each in row] for row in zip(*RESULTS.to_arrow(scalars=True).columns, strict=True)]
    assert rows[:6] == frame.values.tolist()[:6]
    assert math.isnan(rows[6][4])


@pytest.mark.parametrize("piece", [1, 2, 3, 100, None])
def test_pieces_are_the_whole(piece):
    """Whatever their size, pieces hold each point once, in order, and are no longer than asked for."""
    tables = list(point_tables(RESULTS, piece=piece))
    columns = zip(*([column.plain() for column in table.columns] for table in tables), strict=True)
    joined = [[*itertools.chain(*cells)] for cells in columns]
    whole = next(point_tables(RESULTS, piece=None))
    assert str(joined) == str([column.plain() for column in whole.columns])
    assert piece is None or max(map(len, tables)) <= piece


def test_a_million_points_take_no_loop():
    curves = [Scalars(np.arange(10_000), np.arange(10_000) / 7, np.arange(10_000) / 3) for _ in range(100)]
    runs = [run_result(number, {"units": number}) for number in range(100)]
    for run, points in zip(runs, curves, strict=True):
        run.columns["loss"] = points
    results = Results(None, tuple(runs))
    for convert in (results.to_pandas, results.to_arrow):
        convert(scalars=True)
        with at_most(calls=20_000):
            found = convert(scalars=True)
        assert len(found) == 1_000_000
    assert results.to_pandas(scalars=True)["value"].to_numpy()[-10_000:].tolist() == curves[0].values.tolist()


def test_only_what_collides_is_prefixed():
    hparams = {"loss": 3, "outcome": "x", "units": 8, "hparam.loss": 1}
    results = Results(None, (run_result(0, hparams, {"loss": [0.5], "run": [1.0], "acc": [0.25]}),))
    frame = results.to_pandas()
    assert frame.columns.tolist() == [
        *FIXED, "hparam.hparam.loss", "hparam.outcome", "units", "hparam.loss", "metric.loss", "metric.run", "acc",
    ]  # fmt: skip
    assert frame.iloc[0, len(FIXED) :].tolist() == [3, "x", 8, 1, 0.5, 1.0, 0.25]
    assert frame["outcome"].tolist() == ["completed"]


def test_several_sweeps_have_a_column():
    results = Results(None, tuple(run_result(0, {"units": 8}, {"loss": [1]}, sweep=sweep) for sweep in ("a", "b")))
    assert results.to_pandas()["sweep"].tolist() == ["a", "b"]
    assert results.to_pandas(scalars=True)["sweep"].tolist() == ["a", "b"]
    assert trials_table(results).columns[0].plain() == ["a", "b"]


def test_a_row_per_trial():
    table = {column.name: column.plain() for column in trials_table(RESULTS).columns}
    assert [*table] == [
        "trial", "run", "n", "outcome", "seconds", "units", "rate", "act", "bias", "loss", "loss.spread", "acc",
        "acc.spread",
    ]  # fmt: skip
    assert (table["n"], table["run"]) == ([2, 1, 1], ["run-0000", "run-0002", "run-0003"])
    assert table["seconds"] == [5.0, 2.5, None]
    assert table["loss"][0] == pytest.approx(0.2)
    assert table["loss.spread"] == [pytest.approx(0.1414, abs=1e-4), None, None]
    assert table["acc"] == [pytest.approx(0.6), None, None]


def test_a_metric_that_a_run_lacks_is_that_of_the_others():
    runs = (run_result(0, {"units": 8}, {"loss": [1], "acc": [1]}), run_result(1, {"units": 8}, {"loss": [2]}))
    table = {column.name: column.plain() for column in trials_table(Results(None, runs)).columns}
    assert (table["loss"], table["acc"], table["acc.spread"], table["acc.n"]) == ([1.5], [1.0], [None], [1])
    assert "loss.n" not in table  # all have it


def test_trials_of_one_run_have_no_spread():
    assert "loss.spread" not in trials_table(Results(None, RESULTS.runs[1:])).names


def test_some_trials_only():
    assert len(runs_table(RESULTS, RESULTS.trials[:1])) == 2
    assert len(trials_table(RESULTS, RESULTS.trials[1:])) == 2
    assert sum(map(len, point_tables(RESULTS, RESULTS.trials[1:]))) == 1
    assert runs_table(RESULTS, []).names == runs_table(RESULTS).names


def test_the_objective_comes_first(logged):
    space = lab.Experiment(
        [lab.HParam("b", lab.Discrete([1])), lab.HParam("a", lab.Discrete([None, "x"]))],
        [lab.Metric("loss", goal="min"), lab.Metric("accuracy", goal="max")],
        "accuracy",
    )
    run = run_result(0, {"b": 1, "a": None}, {"other": [1], "loss": [1], "accuracy": [1]})
    names = Results.of(space, [run]).to_pandas().columns.tolist()
    assert names == [*FIXED, "b", "a", "accuracy", "loss", "other"]


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        ([1, None, 2], "int"),
        ([1, 2.5], "float"),
        ([True, False, None], "bool"),
        ([True, 1], "text"),
        (["a", 1], "text"),
        ([None], "text"),
        ([], "text"),
    ],
)
def test_kinds(cells, kind):
    assert kind_of(cells) == kind


def test_mixed_types_are_text_in_frames_and_themselves_elsewhere():
    results = Results(None, tuple(run_result(number, {"x": x}) for number, x in enumerate([1, "a", True, 0.5, None])))
    assert results.to_pandas()["x"].tolist() == ["1", "a", "True", "0.5", pd.NA]
    assert results.to_arrow()["x"].to_pylist() == ["1", "a", "True", "0.5", None]
    assert runs_table(results).columns[-1].plain() == [1, "a", True, 0.5, None]


def test_times_that_are_none_are_missing():
    column = Column("started", [0.0, 1.5, math.nan, math.inf, -1.0, 1e300, None], "time")
    assert column.plain() == ["1970-01-01T00:00:00.000000Z", "1970-01-01T00:00:01.500000Z", *[None] * 5]
    assert times(column.cells).dtype == "datetime64[us]"


def test_names_that_are_no_text_are_shown_as_far_as_they_are():
    run = run_result(0, {"a\udcff": "b\ud800"}, {"t\udcff": [1.0]})
    results = Results(None, (run,))
    assert results.to_arrow().to_pylist()[0]["a?"] == "b?"
    assert results.to_arrow(scalars=True)["tag"].to_pylist() == ["t?"]


def test_nothing_is_a_table_too():
    empty = Results(None, ())
    assert empty.to_pandas().columns.tolist() == FIXED
    assert empty.to_arrow().num_rows == 0
    assert empty.to_pandas(scalars=True).shape == (0, 5)
    assert empty.to_arrow(scalars=True).num_rows == 0
    assert empty._repr_html_() == "<p>no trials yet</p>"


def test_read_from_a_directory(logged):
    frame = lab.read(logged).to_pandas()
    assert frame["units"].tolist() == [8, 16, 4]
    assert frame["reason"].tolist() == [pd.NA, pd.NA, "ValueError: boom"]
    assert frame["rate"].dtype == "float64"
    assert len(lab.read(logged).to_pandas(scalars=True)) == 6


def test_pandas_and_arrow_come_only_when_asked_for(tmp_path):
    script = (
        "import sys, hparams_lab as lab, hparams_lab.core.tables.frames, hparams_lab.core.tables.notebook\n"
        "with lab.start_run('logs', hparams={'units': 32}, provenance=False) as run: run.log({'loss': 0.5}, step=1)\n"
        "lab.read('logs')._repr_html_()\n"
        "assert not {'pandas', 'pyarrow'} & sys.modules.keys()\n"
        "sys.modules['pandas'] = sys.modules['pyarrow'] = None\n"
        "for convert in (lab.read('logs').to_pandas, lab.read('logs').to_arrow):\n"
        "    try: convert(scalars=True)\n"
        "    except lab.HParamsLabError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert (done.stderr, done.stdout.splitlines()) == (
        "",
        [
            f"{name} is not installed; bring it with: pip install 'hparams-lab[parquet]'"
            for name in ("pandas", "pyarrow")
        ],
    )


class Cells(HTMLParser):
    """The tags of a page, and the texts of its cells."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.texts = set(), []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.texts += [""] if tag in ("td", "th", "p") else []

    def handle_data(self, data):
        self.texts[-1] += data


def test_the_notebook_shows_the_best_first():
    page = Cells(to_html(Results(None, RESULTS.runs[:3])))
    rows = [page.texts[i : i + 9] for i in range(0, 27, 9)]
    assert rows[0] == ["rank", "run", "acc", "loss", "units", "rate", "act", "bias", "time"]
    assert page.texts[10:14] == ["1", "run-0000", "0.6 ± 0.14 (n=2)", "0.2 ± 0.14 (n=2)"]
    assert page.texts[20:22] == ["-", "run-0002"]
    assert page.texts[-1] == "3 runs in 2 trials: 1 completed, 1 diverged"


def test_the_notebook_shows_ten():
    runs = [run_result(number, {"units": number}, {"loss": [number]}) for number in range(12)]
    page = Cells(to_html(Results(None, tuple(runs))))
    assert page.texts[-1] == "12 runs, 12 trials: 12 completed; the first 10 are shown"
    assert len(page.texts) == 1 + 11 * 6


def test_the_notebook_shows_hostile_text_as_text():
    evil = "<script>alert(1)</script>\"'&"
    runs = (run_result(0, {evil: evil}, {evil: [1]}), run_result(1, {evil: 3}, {evil: [2]}))
    page = Cells(to_html(Results(None, runs)))
    assert page.tags == {"table", "thead", "tbody", "tr", "th", "td", "p"}
    assert page.texts.count(evil) == 3
    turned = (run_result(0, {"\u202ex": "\x1b[31m"}, {"loss": [1]}), run_result(1, {"\u202ex": "y"}, {"loss": [2]}))
    texts = Cells(to_html(Results(None, turned))).texts
    assert ("\\u202ex" in texts, "\\x1b[31m" in texts) == (True, True)


def test_without_a_ranking_the_notebook_shows_the_first():
    assert Cells(to_html(Results(None, (run_result(0, {"units": 8}, {"speed": [1]}),)))).texts[6:9] == [
        "-",
        "run-0000",
        "1",
    ]
