"""The report: what it says, what its plots hold, and the command."""

from __future__ import annotations

import html
import json
import math
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hparams_lab as lab
from hparams_lab.analysis.report import facts, plots
from hparams_lab.analysis.report.axis import Axis, Range
from hparams_lab.analysis.report.curves import curves, thinned
from hparams_lab.analysis.report.pair import pair
from hparams_lab.analysis.report.parallel import parallel
from hparams_lab.analysis.report.sections import report
from hparams_lab.analysis.report.study import Study
from hparams_lab.analysis.report.text import as_html, as_html_block, as_label, as_script_data
from hparams_lab.cli.leaderboard import Asked, Leaderboard
from hparams_lab.cli.ranking import Rule
from hparams_lab.cli.standing import going as going_of
from hparams_lab.core.curve import Scalars
from hparams_lab.core.outcome import Outcome
from hparams_lab.core.results import Results, RunResult
from hparams_lab.core.trial import HParams

EXPERIMENT = lab.Experiment(
    [lab.HParam("rate", lab.RealInterval(1e-4, 1.0, scale="log")), lab.HParam("kind", lab.Discrete(["b", "a", None]))],
    [lab.Metric("accuracy", display_name="Accuracy"), lab.Metric("loss")],
    "accuracy",
)


def run(number: int, hparams: dict[str, Any], value: float | None, outcome: Outcome = Outcome.COMPLETED, **more: Any):
    """A run as the reader tells it, with the metric `accuracy` unless `value` is None."""
    curve = more.pop("curve", [] if value is None else [value])
    steps = np.arange(1, len(curve) + 1)
    columns = {"accuracy": Scalars(steps, steps * 1.0, np.array(curve, float))} if len(curve) else {}
    metrics = {} if value is None else {"accuracy": value}
    values = HParams(hparams)
    return RunResult(
        f"run-{number:04}", Path(f"run-{number:04}"), str(hash(values)), values, outcome, more.pop("reason", ""),
        100.0 + number, 101.0 + number, metrics, columns, **more,
    )  # fmt: skip


def study_of(*runs: RunResult, declared: lab.Experiment | None = None, **options: Any) -> Study:
    return Study.of(Results.of(declared, runs), "sweep", **options)


def text_of(page: str) -> str:
    """What a page's HTML says, its scripts and data left out."""
    bare = re.sub(r"<(script|style)\b.*?</\1>", " ", page, flags=re.S)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", bare)).split())


def said_by(study: Study) -> str:
    return text_of(report(study).html("window.Plotly = {};"))


# ---------------------------------------------------------------------------------------------------------- the words


def test_texts_are_escaped_for_where_they_stand():
    assert as_html("<i>\u200f" + "x" * 400) == rf"<bdi>&lt;i&gt;\u200f{'x' * 296}… (404 characters)</bdi>"
    assert as_html_block("a\n\t<b>\u202e") == "a\n    &lt;b&gt;\\u202e"
    assert as_label("<b>%{y}&") == "&lt;b&gt;%&#123;y}&amp;"
    data = as_script_data({"</script>": [math.nan, "<!--\u2028"]})
    assert not set("<>\u2028") & set(data)
    assert json.loads(data) == {"</script>": [None, "<!--\u2028"]}


def test_the_best_comes_first_and_how_sure_that_is():
    runs = [run(n, {"rate": rate}, value) for n, (rate, value) in enumerate([(0.1, 0.5), (0.2, 0.9), (0.3, 0.8)])]
    said = said_by(study_of(*runs))
    assert "Best trial 0.9 accuracy of run-0001 , the highest of 3 ranked trials rate = 0.2" in said
    assert "The second, run-0002 , has 0.8: 0.1 behind." in said
    assert "Each trial ran once, so how much of this is chance is not known" in said
    assert "0.5 accuracy of run-0000 , the lowest of 3" in said_by(study_of(*runs, goal="min"))


@pytest.mark.parametrize(
    ("second", "verdict"),
    [(0.81, "0.4 standard errors: too close to call"), (0.5, "standard errors: the best is clearly ahead")],
)
def test_repeats_tell_whether_the_gap_is_more_than_chance(second, verdict):
    # the spread is 0.03 over three runs of each, its standard error 0.0245, and the gap 0.01 or 0.32
    pairs = [({"rate": 1}, 0.82), ({"rate": 2}, second)]
    runs = [
        run(3 * n + k, hparams, mean + by)
        for n, (hparams, mean) in enumerate(pairs)
        for k, by in enumerate([-0.03, 0, 0.03])
    ]
    said = said_by(study_of(*runs))
    assert "0.82 ± 0.03 over 3 runs" in said
    assert verdict in said
    assert ("2 of 2 trials are as good within 2 standard errors" in said) is (second == 0.81)


def test_ties_the_edge_of_a_range_and_a_lone_trial_are_told():
    tied = [run(n, {"rate": 10.0**-n, "kind": "a"}, min(0.9, 1 - n / 10)) for n in range(4)]
    said = facts.how_sure(study_of(*tied, declared=EXPERIMENT))
    assert said[0] == "2 trials tie for the best; the one that was read first is shown."
    assert said[1].startswith("<bdi>rate</bdi> = <bdi>1</bdi> is the end of its range")
    assert len(facts.how_sure(study_of(*tied))) == 1, "a range that nobody declared has no end"
    lone = facts.how_sure(study_of(tied[0], run(5, {"rate": 2}, None, Outcome.FAILED)))
    assert lone == ["Only one trial is ranked; 1 other is not, so there is nothing to compare it with."]


def test_failures_stand_together_by_their_cause_with_what_only_they_have():
    reasons = ["OOM: 12 GB at 0x7fa8 in /home/a/train.py", "OOM: 1.5e3 GB at 0x11 in /srv/train.py"]
    failed = [
        run(n, {"kind": "big", "n": n, "seed": 1}, None, Outcome.FAILED, reason=said) for n, said in enumerate(reasons)
    ]
    crash = run(7, {"kind": "small", "n": 7, "seed": 1}, None, Outcome.CRASHED, reason="signal 9")
    first, second = facts.failures(study_of(*failed, crash, run(8, {"kind": "small", "n": 8, "seed": 2}, 1.0)))
    assert (first.outcome, first.cause, len(first.runs)) == (Outcome.FAILED, "OOM: N GB at 0x… in …/train.py", 2)
    assert first.common == {"kind": "big"}
    assert (second.outcome, second.cause, second.common) == (Outcome.CRASHED, "signal N", {})
    said = said_by(study_of(*failed, crash))
    assert "No answer yet No trial completed" in said
    assert (
        "failed 2 OOM: N GB at 0x… in …/train.py kind = big run-0000 OOM: 12 GB at 0x7fa8 in /home/a/train.py" in said
    )


# ---------------------------------------------------------------------------------------------------------- the plots


def test_values_of_any_type_have_their_place_on_an_axis():
    kinds = ["b", "a", None, "a"]
    runs = [run(n, {"rate": 10.0**-n, "kind": kinds[n]} | ({"late": n} if n else {}), n / 4) for n in range(4)]
    study = study_of(*runs, declared=EXPERIMENT)
    rate, kind, late = (Axis.of(study, name) for name in ("rate", "kind", "late"))
    trials = [point.trial for point in study.points]
    assert [rate.place(trial) for trial in trials] == pytest.approx([1, 2 / 3, 1 / 3, 0])
    assert [label for _, label in rate.ticks] == ["0.001", "0.01", "0.1", "1"]
    assert [kind.place(trial) for trial in trials] == [0, 0.5, 1, 0.5], "in the declared order"
    assert late.place(trials[0]) < 0 < late.place(trials[2]) < late.place(trials[3])
    assert late.ticks[0][1] == "(not set)"
    assert late.counted().ticks == ((0, "(not set)"), (1, "1"), (2, "2"), (3, "3"))


@pytest.mark.parametrize(
    "values", [[1e308, -1e308], [5e-324, 0.0], [2.0, 2.0], [-(2**53), 2**53], [True, 1], ["", None]]
)
def test_values_at_the_ends_of_what_is_possible_make_a_plot(values):
    study = study_of(*[run(n, {"x": value, "n": n}, float(n)) for n, value in enumerate(values)])
    shown = report(study)
    assert all(math.isfinite(Axis.of(study, "n").place(point.trial)) for point in study.points)
    assert [plot.name for plot in shown.plots][:2] == ["parallel", "history"]
    as_script_data([plot.figure for plot in shown.plots])


def test_outliers_do_not_squeeze_the_others():
    near = [0.5 + n / 100 for n in range(20)]
    span = Range.of([*near, -1e9, math.nan])
    assert (span.log, span.beyond) == (False, 1)
    assert -1 < span.low < 0.5 < 0.69 < span.high < 1
    assert "1 trial far beyond the others" in span.remark()
    falling = Range.of([10.0**-n for n in range(8)])
    assert falling.log
    assert falling.place(1e-3) == pytest.approx(4 / 7, abs=0.05)


def test_the_history_marks_each_trial_and_follows_the_best():
    values = [0.5, 0.3, 0.8, 0.7, 0.9]
    runs = [run(n, {"x": n}, v, Outcome.PRUNED if n == 4 else Outcome.COMPLETED) for n, v in enumerate(values)]
    done, best, others = plots.history(study_of(*runs)).figure["data"]
    assert sorted(zip(done["x"], done["y"], strict=True)) == [(1, 0.5), (2, 0.3), (3, 0.8), (4, 0.7)]
    assert list(zip(best["x"], best["y"], strict=True)) == [(1, 0.5), (3, 0.8), (5, 0.8)]
    assert (others["x"], others["y"]) == ([5], [0.9])
    assert plots.history(study_of(*runs, goal="min")).figure["data"][1]["y"] == [0.5, 0.3, 0.3]


def test_the_two_that_matter_are_a_table_a_contour_or_the_trials():
    few = study_of(*[run(n, {"a": n % 2, "b": n // 2}, float(n)) for n in range(4)])
    heat = pair(few, "a", "b").figure["data"][0]
    assert (heat["type"], heat["z"]) == ("heatmap", [[0, 1], [2, 3]])
    many = study_of(*[run(n, {"a": n / 20, "b": (n * 7 % 20) / 20, "c": f"c{n}"}, n / 20) for n in range(20)])
    contour, _, star = pair(many, "a", "b").figure["data"]
    assert contour["type"] == "contour"
    assert contour["z"][10][-1] > 0.8 > 0.2 > contour["z"][10][0]
    assert (star["x"], star["y"]) == ([1.0], [13 / 19])
    assert pair(many, "a", "c").figure["data"][0]["type"] == "scatter"


def test_curves_are_thinned_without_losing_their_extremes_and_pruned_ones_are_marked():
    values = np.sin(np.arange(10_000) / 500)
    values[4321], values[77] = 9.0, np.nan
    thin = thinned(Scalars(np.arange(10_000), np.arange(10_000.0), values), 300)
    assert len(thin.values) <= 300
    assert {0, 4321, 9999} <= {*thin.steps.tolist()}
    runs = [run(0, {"x": 0}, 0.5, curve=[0.1, 0.5]), run(1, {"x": 1}, 0.2, Outcome.PRUNED, curve=[0.1, 0.2])]
    (shown,) = curves(study_of(*runs))
    (cross,) = [trace for trace in shown.figure["data"] if trace.get("marker", {}).get("symbol") == "x"]
    assert (cross["x"], cross["y"], cross["legendgroup"]) == ([2], [0.2], "pruned")
    assert "pruned runs end in an orange cross" in shown.caption


def test_a_run_of_unknown_outcome_is_not_called_completed():
    runs = [run(n, {"x": n}, n / 4, Outcome.UNKNOWN, curve=[0.0, n / 4]) for n in range(3)]
    (shown,) = curves(study_of(*runs))
    assert [trace["name"] for trace in shown.figure["data"] if "name" in trace] == ["best", "unknown"]
    assert not any("marker" in trace for trace in shown.figure["data"])


def test_of_many_values_the_first_are_shown_and_the_others_on_demand():
    many = study_of(*[run(n, {f"label{place}": place + n for place in range(300)}, n / 4) for n in range(2)])
    page = report(many).html("window.Plotly = {};")
    assert page.count("<li><bdi>label") == 300
    assert len(page.partition("<details><summary>280 more</summary>")[0].split("<li><bdi>label")) == 1 + 20


def test_ten_thousand_trials_make_a_page_that_can_be_read():
    rng = np.random.default_rng(0)
    hparams = [{f"h{k}": float(value) for k, value in enumerate(row)} for row in rng.random((10_000, 4))]
    ends = [Outcome.PRUNED if n % 3 == 1 else Outcome.COMPLETED for n in range(10_000)]
    study = study_of(*[run(n, h, h["h0"], ends[n], curve=[0.0] * 20 + [h["h0"]]) for n, h in enumerate(hparams)])
    (lines,) = curves(study)
    assert sum(trace["mode"] == "lines" and trace["x"] != [None] for trace in lines.figure["data"]) == 60
    assert "60 of 10,000 curves are shown: the best, 20 pruned ones and a sample of the rest." in lines.caption
    shown = parallel(study, study.varying)
    assert sum(x.count(None) for x in (trace["x"] for trace in shown.figure["data"])) == 200
    assert "200 of 6,667 ranked trials" in shown.caption
    made = [lines, shown, plots.history(study), *plots.slices(study, study.varying), pair(study, "h0", "h1")]
    assert len(as_script_data([plot.figure for plot in made])) < 3e6
    assert max(len(trace["x"]) for plot in made[2:] for trace in plot.figure["data"]) <= 1500


def test_plotly_knows_every_property_of_the_figures():
    graph_objects = pytest.importorskip("plotly.graph_objects", reason="the plots are plotly's")
    runs = [run(n, {"a": n % 3, "b": n / 20, "c": str(n % 2)}, n % 7, curve=[0.0, n % 7]) for n in range(20)]
    shown = report(study_of(*runs, run(20, {"a": 1, "b": 0.3}, 0.1, Outcome.PRUNED))).plots
    shown += [pair(study_of(*runs), *names) for names in ("ab", "ac", "bc")]
    for plot in shown:
        graph_objects.Figure(plot.figure)  # raises ValueError for what plotly would ignore
    kinds = {trace["type"] for plot in shown for trace in plot.figure["data"]}
    assert kinds <= {"scatter", "bar", "heatmap", "contour"}, "all of them drawn as SVG, without WebGL"


# -------------------------------------------------------------------------------------------------------- the command


def logged(logdir: Path, hparams: dict[str, Any], *values: float, error: BaseException | None = None) -> None:
    """A run of its own in a log directory."""
    try:
        with lab.start_run(logdir, hparams=hparams, provenance=False) as run:
            for step, value in enumerate(values, 1):
                run.log({"accuracy": value}, step=step)
            if error:
                raise error
    except type(error or KeyError()):
        pass


def test_the_command_writes_one_page_that_asks_for_nothing(lab_command, weird_tmp_path):
    logdir, page = weird_tmp_path / "logs", weird_tmp_path / "report.html"
    for n in range(3):
        logged(logdir, {"units": n}, n / 4)
    assert lab_command("report", logdir, "-o", page) == (0, f"{page}: 4.8 MB, 3 runs, 3 trials\n", "")
    text = page.read_text(encoding="utf-8")
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert re.fullmatch(
        r"default-src 'none'; script-src 'sha256-[\w+/=]+' 'sha256-[\w+/=]+'; style-src 'unsafe-inline'; "
        r"img-src data: blob:; base-uri 'none'; form-action 'none'",
        policy,
    )
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in text
    assert "Best trial 0.5 accuracy of run-0002" in text_of(text)
    assert {path.name for path in weird_tmp_path.iterdir()} == {"logs", "report.html"}


def test_what_exists_or_cannot_be_is_refused_in_a_line(lab_command, tmp_path):
    logdir, page = tmp_path / "logs", tmp_path / "report.html"
    logged(logdir, {"units": 1}, 0.5)
    page.write_text("mine")
    assert lab_command("report", logdir, "-o", page)[::2] == (
        2, f"error: {page} is there already; --force replaces it\n",
    )  # fmt: skip
    for arguments, said in {
        ("-o", tmp_path): "is a directory; name a file",
        ("-o", tmp_path / "no/such.html"): f"there is no directory {tmp_path / 'no'}",
        ("-o", tmp_path / "a.html", "--metric", "acuracy"): "did you mean accuracy?",
        ("-o", tmp_path / "a.html", "--by", "worst"): "wanted last, best or mean-of-last-N",
        ("-o", tmp_path / "a.html", "--png", page): "is a file; name a directory with --png",
    }.items():
        code, _, error = lab_command("report", logdir, *arguments)
        assert (code, error.count("\n")) == (2, 1)
        assert said in error
    assert {path.name for path in tmp_path.iterdir()} == {"logs", "report.html"}
    assert page.read_text() == "mine"
    assert lab_command("report", logdir, "-o", page, "--force")[0] == 0
    assert "Best trial" in page.read_text(encoding="utf-8")


def test_any_directory_makes_a_sensible_page(tmp_path):
    """One trial, none completed, no metric, no numbers, conditions, and two sweeps below one root."""
    logged(tmp_path / "one", {"a": 1}, 0.5)
    logged(tmp_path / "none", {"a": 1}, error=ValueError("no data"))
    for n in range(4):
        logged(tmp_path / "silent", {"a": n})
        logged(tmp_path / "words", {"a": "xy"[n % 2], "b": n < 2, "c": None}, n / 4)
        logged(tmp_path / "some", {"a": n} | ({"b": n} if n % 2 else {}), n / 4)
        logged(tmp_path / f"two/{'ab'[n % 2]}", {"a": n}, n / 4)
    said = {path.name: said_by(Study.of(lab.read(path), path.name)) for path in tmp_path.iterdir()}
    assert "Comparisons One ranked trial alone cannot be compared." in said["one"]
    assert "No answer yet" in said["none"]
    assert "failed 1 ValueError: no data" in said["none"]
    assert "No answer yet" in said["silent"]
    assert "Best trial 0.75 accuracy of run-0003" in said["words"]
    assert "a = y b = False The same for all: c = None" in said["words"]
    assert "Best trial 0.75" in said["some"]
    assert "Sweeps sweep trials best a 2 a/run-0001 : 0.5 b 2 b/run-0001 : 0.75" in said["two"]


def test_the_plots_as_pictures(lab_command, tmp_path, monkeypatch):
    pytest.importorskip("kaleido", reason="the pictures are drawn by kaleido")
    if not any(map(shutil.which, ("chromium", "google-chrome", "chrome"))):
        pytest.skip("no chromium on the PATH")
    for n in range(2):
        logged(tmp_path / "logs", {"<b>%{y}": n}, n / 4)
    asked = ["report", tmp_path / "logs", "-o", tmp_path / "report.html", "--png", tmp_path / "png"]
    code, said, _ = lab_command(*asked)
    assert (code, said.splitlines()[1]) == (0, f"{tmp_path / 'png'}: 3 pictures")
    pictures = {path.name: path.read_bytes() for path in (tmp_path / "png").iterdir()}
    assert set(pictures) == {"parallel.png", "history.png", "slice-0.png"}
    assert all(picture[:8] == b"\x89PNG\r\n\x1a\n" and len(picture) > 5000 for picture in pictures.values())
    code, _, error = lab_command(*asked[:3], tmp_path / "again.html", *asked[4:])
    assert (code, "parallel.png exists" in error) == (2, True)
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "no-chrome"))
    code, _, error = lab_command(*asked[:3], tmp_path / "again.html", "--png", tmp_path / "again")
    assert (code, error.count("\n"), "none was found; install chromium" in error) == (2, 1, True)
    assert {path.name for path in tmp_path.iterdir()} == {"logs", "report.html", "png"}


def test_a_missing_package_is_a_line_that_brings_it(lab_command, tmp_path, monkeypatch):
    logged(tmp_path / "logs", {"units": 1}, 0.5)
    asked = ["report", tmp_path / "logs", "-o", tmp_path / "report.html", "--png", tmp_path / "png"]
    for package in ("kaleido", "plotly"):
        monkeypatch.setitem(sys.modules, package, None)
        code, _, error = lab_command(*asked)
        assert code == 2
        assert error.startswith(f"error: {package}, which draws the p")
        assert error.endswith("bring it with: pip install 'hparams-lab[report]'\n")
    assert {path.name for path in tmp_path.iterdir()} == {"logs"}


def test_open_shows_the_page_in_the_browser(tmp_path):
    logged(tmp_path / "logs", {"units": 1}, 0.5)
    browser = tmp_path / "browser"
    browser.write_text(f"#!/bin/sh\necho \"$1\" > '{tmp_path}/asked'\n")
    browser.chmod(0o755)
    command = [sys.executable, "-m", "hparams_lab", "report", "logs", "--open"]
    subprocess.run(command, cwd=tmp_path, env={**os.environ, "BROWSER": f"{browser} %s"}, check=True)
    assert (tmp_path / "asked").read_text() == f"{(tmp_path / 'report.html').as_uri()}\n"


def test_samples_of_the_machine_are_neither_curves_nor_columns():
    steps = np.arange(1.0, 4.0)
    cpu = Scalars(np.arange(1, 4), steps, steps)
    one = run(0, {"rate": 0.1}, 0.5, curve=[0.4, 0.5])
    columns, metrics = {"sys/cpu_percent": cpu, **one.columns}, {"sys/cpu_percent": 3.0, **one.metrics}
    sampled = replace(one, columns=columns, metrics=metrics)
    study = study_of(sampled, run(1, {"rate": 0.2}, 0.4))
    assert [plot.heading for plot in curves(study)] == ["accuracy"]
    assert "sys/" not in said_by(study)
    assert "sys/" not in study.results._repr_html_()
    board = Leaderboard(Rule().over(study.results), Asked(), Path("logs"))
    assert "sys/" not in "".join(board.lines(200))
    going = going_of(replace(sampled, outcome=Outcome.RUNNING), study.results, 200.0, "accuracy")
    assert going.step == 2  # of its epochs, not of the seconds
