"""The picture of docs/three-ways.md: the HParams tab over the `logs` that the blocks of that page leave.

python tests/three_ways_picture.py logs docs/three-ways.png
"""

import shutil
import sys
import tempfile
from pathlib import Path

from selenium import webdriver
from tab_page import ARGUMENTS, PRESS, TABLE
from tensorboard_client import eventually

from hparams_lab.board.server import Board
from hparams_lab.board.view import View

TRIALS = 12
SCREEN = {"width": 1600, "height": 675, "deviceScaleFactor": 0.8, "mobile": False}  # 1280 x 540 points of the picture
COLUMNS = ["learning_rate", "units", "val/accuracy", "val/loss", "best_epoch", "rank_test_score"]
FIRST_SHOWN = [*COLUMNS[:4], "train/accuracy", "train/loss", "best_epoch"]


def show(browser, url):
    """The tab with these columns, the most accurate trial on top."""
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", SCREEN)
    browser.get(url)
    eventually(lambda: browser.execute_script(TABLE), lambda table: table and len(table["body"]) == TRIALS)
    for column in {*FIRST_SHOWN} ^ {*COLUMNS}:
        browser.execute_script(PRESS, "paper-checkbox", column)
    for choice in "val/accuracy", "Descending":
        browser.execute_script(PRESS, "paper-item", choice)
    place = 2 + COLUMNS.index("val/accuracy")

    def is_sorted(table):
        numbers = [row[place] for row in table["body"]]
        return table["head"][0][2:] == COLUMNS and numbers == sorted(numbers, reverse=True)

    eventually(lambda: browser.execute_script(TABLE), is_sorted)


def main(logdir, picture):
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as profile, View([Path(logdir)]) as view, Board(view.logdir, 0) as board:
        for argument in [*ARGUMENTS, f"--user-data-dir={profile}"]:
            options.add_argument(argument)
        browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
        try:
            show(browser, board.url)
            browser.save_screenshot(picture)
        finally:
            browser.quit()


if __name__ == "__main__":
    main(*sys.argv[1:])
