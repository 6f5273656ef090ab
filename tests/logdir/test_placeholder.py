"""Lightning's `hp_metric` is hidden where it is a placeholder, and a metric like others where someone logs it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from sick_logs import VERSION, experiment, interval, point, start, write

import hparams_lab as lab

UNSET = point(0, -1.0, "hp_metric")
LOSS = point(9, 0.5, "val_loss")


def versions(root: Path, *runs: list[bytes], metric: str = "hp_metric") -> Path:
    """A log by Lightning: each version declares `hp_metric` alone, whatever it logs."""
    begin = VERSION + experiment([interval("lr", 0, 9)], metric)
    return write(root, {f"version_{n}": begin + start({"lr": n}) + b"".join(of) for n, of in enumerate(runs)})


PLACEHOLDERS = {
    "-1 in every run": [[UNSET, LOSS], [UNSET, LOSS]],
    "again and again": [[UNSET, LOSS, point(5, -1.0, "hp_metric")], [UNSET, LOSS]],
    "in some runs": [[UNSET, LOSS], [LOSS]],
    "declared and never logged": [[LOSS], [LOSS]],
    "alone": [[UNSET], [UNSET]],
}


@pytest.mark.parametrize("kind", PLACEHOLDERS)
def test_a_placeholder_is_hidden_unless_it_is_asked_for(kind: str, tmp_path: Path, call: Callable[..., str]) -> None:
    logs, page = versions(tmp_path / "logs", *PLACEHOLDERS[kind]), tmp_path / "report.html"
    call("report", logs, "-o", page)
    html = page.read_text()
    table, shown = html[html.index("<h2>Trials") :].partition("</section>")[0], lab.read(logs)._repr_html_()
    for said in (call("top", logs), call("export", logs, "-o", "-"), call("export", logs, "-o", "-", "--trials")):
        assert "hp_metric" not in said
    assert "hp_metric" not in table + shown
    assert ("val_loss" in table) is (kind != "alone")
    logged = kind != "declared and never logged"
    asked = call("top", logs, "--columns", "lr,hp_metric").splitlines()
    assert asked[0].split() == ["rank", "trial", "lr", "hp_metric"]
    assert asked[1].split()[-1] == ("-1" if logged else "-")
    pytest.importorskip("pandas", reason="needs pandas")
    assert ("hp_metric" in lab.read(logs).to_pandas()) is logged


@pytest.mark.parametrize("tag", ["hp_metric", "tb/hp_metric"])
def test_one_that_is_logged_is_a_metric(tag: str, tmp_path: Path, call: Callable[..., str]) -> None:
    real = [point(0, -1.0, tag), LOSS, point(9, 0.75, tag)]
    logs = versions(tmp_path, [point(0, -1.0, tag), LOSS], real, [point(9, 0.5, tag)], metric=tag)
    assert "hp_" in call("top", logs)  # a long head has two lines
    assert tag in call("export", logs, "-o", "-").splitlines()[0]
    rows = [json.loads(line) for line in call("top", logs, "--metric", tag, "--max", "--json").splitlines()]
    assert [(row["rank"], row["objective"]["mean"]) for row in rows] == [(1, 0.75), (2, 0.5), (3, -1.0)]


def test_another_metric_of_minus_one_is_no_placeholder(tmp_path: Path, call: Callable[..., str]) -> None:
    logs = versions(tmp_path, [point(9, -1.0, "val_loss")], [point(9, -1.0, "val_loss")], metric="val_loss")
    assert "val_loss" in call("top", logs)
    assert "val_loss" in call("export", logs, "-o", "-")


def test_a_metric_that_no_run_has_is_hidden(tmp_path: Path, call: Callable[..., str]) -> None:
    """As Stable Baselines 3 declares them."""
    logs = versions(tmp_path / "logs", [LOSS], [LOSS], metric="rollout/ep_len_mean")
    assert "ep_len" not in call("top", logs)
    assert "ep_len" in call("top", logs, "--columns", "rollout/ep_len_mean")
    call("report", logs, "-o", tmp_path / "report.html")
    assert "ep_len" not in (tmp_path / "report.html").read_text().partition("<h2>Trials")[2].partition("</section>")[0]
    nothing = versions(tmp_path / "nothing", [], [], metric="loss")
    assert "loss" in call("top", nothing).splitlines()[0]
