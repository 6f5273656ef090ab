"""The HParams tab as a person sees it: TensorBoard by `Board`, in a headless Chromium.

The picture of the README is made from a sweep of the digits:
HPARAMS_LAB_TAB=logs/digits HPARAMS_LAB_PICTURE=docs/hparams-tab.png pytest tests/board/test_tab.py -k picture
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tab_page import ARGUMENTS, EVERYTHING, PRESS, TABLE
from tensorboard_client import eventually, quick_sweep

import hparams_lab as lab
from hparams_lab.board.server import Board
from hparams_lab.events.format.final import narrowed

webdriver = pytest.importorskip("selenium.webdriver", reason="the browser is driven by selenium")

COLUMNS = ["hpdropout", "hplayer", "learning_rate", "num_units", "optimizer", "HPaccuracy", "HPloss", "HPmse"]

# How many lines and points a plot shows.
MARKS = (
    EVERYTHING
    + """
  const [plot] = all(arguments[0]).filter(plot => plot.offsetParent);
  return plot ? plot.shadowRoot.querySelectorAll('svg path, svg circle').length : 0;
"""
)


@pytest.fixture(scope="module")
def logdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    given = os.environ.get("HPARAMS_LAB_TAB")
    if given:
        return Path(given)
    made = tmp_path_factory.mktemp("tab") / "digits"
    quick_sweep(made)
    return made


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    chromium = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("no chromium and chromedriver on the PATH (Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in [*ARGUMENTS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(argument)
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        # 1400 x 900 points of the picture at a zoom of 70 %, where every column fits
        screen = {"width": 2000, "height": 1286, "deviceScaleFactor": 0.7, "mobile": False}
        opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        yield opened
    finally:
        opened.quit()


@pytest.fixture(scope="module")
def board(logdir: Path) -> Iterator[Board]:
    with Board(logdir, 0) as board:
        yield board


@pytest.fixture
def tab(logdir: Path, board: Board, browser: Any) -> Any:
    """The browser, once the table is there in full."""
    browser.get("about:blank")
    browser.get(board.url)
    rows_once(browser, lambda rows: len(rows) == len(lab.read(logdir).trials))
    return browser


def rows_once(tab: Any, are_right: Callable[[list[list[str]]], bool]) -> list[list[str]]:
    table = eventually(lambda: tab.execute_script(TABLE), lambda table: table and are_right(table["body"]))
    return table["body"]


def in_column(rows: list[list[str]], title: str) -> list[str]:
    return [row[2 + COLUMNS.index(title)] for row in rows]


def as_shown(number: float) -> str:
    """A number as the tab writes it: five significant digits, zeros too."""
    return f"{narrowed(number):#.5g}"


def test_a_row_for_every_trial_and_a_column_for_all_that_varies(tab: Any, logdir: Path) -> None:
    trials = {trial.id: trial for trial in lab.read(logdir).trials}
    table = tab.execute_script(TABLE)
    assert table["head"] == [["Trial ID", "Show Metrics", *COLUMNS]]
    assert {row[0] for row in table["body"]} == set(trials)
    for row in table["body"]:
        hparams, metrics = trials[row[0]].hparams, trials[row[0]].metrics
        told = {"hplayer": str(hparams["hplayer"]).lower(), "optimizer": hparams["optimizer"]}
        numbers = {"hpdropout", "learning_rate", "num_units"}
        told |= {name: as_shown(hparams[name]) for name in numbers}
        told |= {title: as_shown(metrics[title.lower()]) for title in COLUMNS[5:]}
        assert dict(zip(COLUMNS, row[2:], strict=False)) == told


def test_the_best_trial_is_on_top_of_the_sorted_table_in_the_picture(tab: Any, logdir: Path, tmp_path: Path) -> None:
    ranked = [as_shown(trial.metrics["hpaccuracy"]) for trial in lab.read(logdir).top()]
    tab.execute_script(PRESS, "paper-item", "HPaccuracy")
    tab.execute_script(PRESS, "paper-item", "Descending")
    rows_once(tab, lambda rows: in_column(rows, "HPaccuracy") == ranked)
    picture = Path(os.environ.get("HPARAMS_LAB_PICTURE") or tmp_path / "hparams-tab.png")
    assert tab.save_screenshot(str(picture))
    assert picture.read_bytes()[16:24] == (1400).to_bytes(4, "big") + (900).to_bytes(4, "big")
    assert picture.stat().st_size < 300_000


def test_unchecking_a_value_hides_its_rows(tab: Any, logdir: Path) -> None:
    others = [trial for trial in lab.read(logdir).trials if trial.hparams["optimizer"] != "sgd"]
    tab.execute_script(PRESS, "paper-checkbox", "sgd")
    rows = rows_once(tab, lambda rows: len(rows) == len(others))
    assert set(in_column(rows, "optimizer")) == {"adam"}


def test_the_other_views_draw_every_trial_and_the_browser_has_nothing_to_complain_of(tab: Any, logdir: Path) -> None:
    trials = len(lab.read(logdir).trials)
    for view, plot in ("PARALLEL COORDINATES", "parallel-coords"), ("SCATTER PLOT MATRIX", "scatter-plot-matrix"):
        tab.execute_script(PRESS, "paper-tab", f"{view} VIEW")
        eventually(
            lambda plot=plot: tab.execute_script(MARKS, f"tf-hparams-{plot}-plot"), lambda marks: marks >= trials
        )
    assert [entry["message"] for entry in tab.get_log("browser") if entry["level"] == "SEVERE"] == []
