"""The report in a headless Chromium: nothing that somebody logged does anything there, and the plots are drawn."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from tensorboard_client import eventually

import hparams_lab as lab
from hparams_lab.cli.main import main
from hparams_lab.core.present import visible

HOSTILE = [
    "<script>alert(1)</script>",
    "</script><script>alert(2)</script>",
    'it\'s "quoted" `too`',
    "two\nlines",
    "\u202egnirts\u200f",
    "{{7*7}} %{y} ${x}",
    "<img src=x onerror=alert(3)>",
    "<b>bold</b>",
    "<a href='javascript:alert(4)'>x</a>",
    "&lt;i&gt; &amp;",
    "\x1b[31mred",
    "<!-- $\\alpha$",
    "//evil.example/x.js",
    "שלום",
]


def made(logdir: Path | str, page: Path | str, *options: str) -> None:
    """Write a report by the command."""
    with pytest.raises(SystemExit) as exit:
        main(["report", str(logdir), "-o", str(page), *options])
    assert exit.value.code == 0


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A headless Chromium that keeps its console and its requests, and leaves a dialog open for the test to see."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="the browser is driven by selenium")
    chromium = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("no chromium and chromedriver on the PATH (Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    options.unhandled_prompt_behavior = "ignore"
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    quiet = ("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run")
    profile = f"--user-data-dir={tmp_path_factory.mktemp('profile')}"
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", *quiet, profile):
        options.add_argument(argument)
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield opened
    finally:
        opened.quit()


class Page:
    """A report in the browser, all of its plots drawn."""

    def __init__(self, browser: Any, path: Path, width: int = 1000) -> None:
        self.browser = browser
        browser.get("about:blank")
        for log in ("browser", "performance"):
            browser.get_log(log)
        # so high that all plots are in view, which is when they are drawn
        screen = {"width": width, "height": 12_000, "deviceScaleFactor": 1, "mobile": width < 600}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        browser.get(path.as_uri())
        waiting = "return [...document.querySelectorAll('.plot')].filter(p => !p.querySelector('.main-svg')).length"
        eventually(lambda: browser.execute_script(waiting) == 0, seconds=20)

    def ask(self, script: str, *arguments: Any) -> Any:
        return self.browser.execute_script(f"return {script}", *arguments)

    def events(self, method: str) -> list[Any]:
        """What the browser tells of itself: the parameters of all events of a kind."""
        told = [json.loads(entry["message"])["message"] for entry in self.browser.get_log("performance")]
        self.told = [*getattr(self, "told", []), *told]
        return [event["params"] for event in self.told if event["method"] == method]

    @property
    def requests(self) -> list[str]:
        """The addresses that the page asked for, other than the page itself and what its own bytes hold."""
        addresses = [event["request"]["url"] for event in self.events("Network.requestWillBeSent")]
        return [address for address in addresses[1:] if not address.startswith(("data:image/png;base64,", "chrome"))]

    @property
    def complaints(self) -> list[str]:
        """Errors and warnings of the console, a violated policy among them."""
        return [entry["message"] for entry in self.browser.get_log("browser")]


def hostile_sweep(logdir: Path) -> None:
    for n, text in enumerate(HOSTILE):
        error = ValueError(f"{text} broke") if n in (0, 1, 4) else None
        hparams = {"choice": text, HOSTILE[n % 7]: n / 3, HOSTILE[7 + n % 4]: n % 5}
        with lab.start_run(logdir, hparams=hparams, name=f"r{n}", provenance=False) as run:
            for step in (1, 2):
                run.log({"accuracy": n / 20 * step, "loss</script><script>alert(5)</script>": 1 / step}, step=step)
            if error:
                run.set_status("failed", str(error))


def test_hostile_names_and_values_are_text_and_nothing_else(browser, tmp_path):
    logdir = tmp_path / "<img src=x onerror=alert(6)>"
    hostile_sweep(logdir)
    made(logdir, tmp_path / "report.html")
    page = Page(browser, tmp_path / "report.html")
    page.ask("document.querySelectorAll('details').forEach(details => { details.open = true; })")
    said = page.ask("document.body.innerText")
    told = page.ask("[...document.querySelectorAll('h1, table')].map(part => part.textContent).join(' ')")
    for text in [*HOSTILE, logdir.name, "loss</script><script>alert(5)</script>"]:
        assert visible(text) in told
    assert not re.search("[\u202e\u200f\x1b]", said)
    assert "<script>alert(N)</script> broke" in said
    assert "<script>alert(1)</script> broke" in said
    for plots in ("#plot-parallel", ".grid .plot"):
        drawn = page.ask(
            "[...document.querySelectorAll(arguments[0] + ' text')].map(plot => plot.textContent).join(' ')", plots
        )
        for name in HOSTILE[:11]:
            ends = [name] if len(name) <= 28 else [name[:14], name[-13:]]  # a plot has room for these
            assert all(visible(end) in drawn for end in ends)
    assert page.ask("performance.getEntriesByType('resource').filter(e => !e.name.startsWith('data:')).length") == 0


def test_a_tapped_line_stands_out_and_another_metric_is_drawn(browser, tmp_path):
    for n in range(6):
        with lab.start_run(tmp_path / "logs", hparams={"units": n, "rate": n / 7}, provenance=False) as run:
            run.log_columns({"accuracy": [n / 20, n / 10], "loss": [1.0, 0.5]}, steps=[1, 2])
    made(tmp_path / "logs", tmp_path / "report.html")
    page = Page(browser, tmp_path / "report.html")
    assert page.ask("document.getElementById('chosen').textContent").startswith("run-0005: accuracy 0.5, ")
    mark = page.ask("document.querySelector('#plot-parallel .trace path.point')")
    pointer = pytest.importorskip("selenium.webdriver").ActionChains(browser)
    pointer.move_to_element(mark).perform()
    hovered = eventually(
        lambda: page.ask("document.querySelector('#plot-parallel .hovertext')?.textContent"), seconds=9
    )
    assert hovered.startswith("run-0000: accuracy 0")
    pointer.click().perform()
    eventually(
        lambda: page.ask("document.getElementById('chosen').textContent").startswith("run-0000: accuracy 0, "),
        seconds=9,
    )
    buttons = page.ask("[...document.querySelectorAll('.modebar-btn')].map(button => button.dataset.title)")
    assert len(buttons) >= 8
    assert {*buttons} <= {"Download plot as a PNG", "Zoom", "Pan", "Reset axes"}, "none sends the data anywhere"
    line = page.ask("document.getElementById('plot-parallel').data.at(-1)")
    assert (line["name"], line["y"]) == ("chosen", [0, 1, 2])
    assert line["x"][0] == pytest.approx(0, abs=0.02)
    page.ask("(s => { s.value = 'curves-1'; s.dispatchEvent(new Event('change')); })(document.querySelector('select'))")
    title = "document.querySelector('#plot-curves-0 .ytitle').textContent"
    eventually(lambda: page.ask(title) == "loss")
    assert (page.requests, page.complaints) == ([], [])


def test_a_phone_shows_the_page_without_scrolling_sideways(browser, tmp_path):
    for n in range(12):
        hparams = {"a_rather_long_name_of_an_hparam": n, "kind": "ab"[n % 2] * 30}
        with lab.start_run(tmp_path / "logs", hparams=hparams, provenance=False) as run:
            run.log_columns({"accuracy": [n / 20, n / 12]}, steps=[1, 2])
            if n == 3:
                run.set_status("failed", "x" * 300)
    made(tmp_path / "logs", tmp_path / "report.html")
    page = Page(browser, tmp_path / "report.html", width=390)
    assert page.ask("document.documentElement.scrollWidth") == 390
    assert page.ask("document.querySelectorAll('.plot .main-svg').length") >= 3 * 6
    wide = "[...document.querySelectorAll('.plot .main-svg')].map(svg => svg.getBoundingClientRect().right)"
    assert max(page.ask(wide)) <= 390
    shown = "[...document.querySelectorAll('#plot-slice-1 .xtick text')].filter(text => text.checkVisibility()).length"
    assert page.ask(shown) == 2, "the labels of both values"
    assert page.ask("document.querySelector('h2').getBoundingClientRect().bottom") < 200
    assert (page.requests, page.complaints) == ([], [])


# ---------------------------------------------------------------------------------------------------- the predictions

SHAPES = """
import keras, numpy as np
import hparams_lab as lab

EXPERIMENT = lab.Experiment([lab.HParam("n", lab.Discrete([1]))], [lab.Metric("accuracy")], "accuracy")

open("loads", "w").close()

def load_data():
    classes = np.arange(12) % 3
    images = np.zeros((12, 8, 8), "float32")
    images[np.arange(12), classes] = 1.0  # the row that is bright is the class
    labels = np.where(np.arange(12) < 6, classes, (classes + 1) % 3)  # half of the labels are wrong
    return (images, labels), (images, labels)

def train(run):
    layer = keras.layers.Dense(3, use_bias=False)
    model = keras.Sequential([keras.Input((8, 8)), keras.layers.Flatten(), layer])
    layer.set_weights([np.kron(np.eye(8, 3), np.ones((8, 1)))])
    model.save(run.dir / "model.keras")
    return {"accuracy": 0.5}
"""


@pytest.mark.slow
def test_predictions_are_made_when_asked_for_and_wrong_ones_marked(tmp_path, monkeypatch):
    if find_spec("keras") is None:  # imported here, it would be in every fork server that is started later
        pytest.skip("the predictions are a Keras model's (pip install 'hparams-lab[tensorflow]')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    Path("shapes.py").write_text(SHAPES)
    with pytest.raises(SystemExit, match="0"):
        main(["run", "shapes.py"])  # in other processes: this one is not to import Keras
    Path("loads").unlink()
    made("logs/shapes", "report.html")
    assert not Path("loads").exists(), "nobody asked for the domain's code to run"
    assert "Not asked for: --predictions loads the domain" in Path("report.html").read_text()
    made("logs/shapes", "report.html", "--predictions", "--force")
    page = Path("report.html").read_text(encoding="utf-8")
    found = re.findall(
        r'<figure( class="wrong")?><img alt="test image of class (\d)"[^>]*><figcaption>(.*?)</fig', page
    )
    assert len(found) == 10
    for wrong, label, said in found:
        assert said == (f"✗ {(int(label) - 1) % 3}, is {label}" if wrong else f"✓ {label}")
    assert f"{sum(bool(wrong) for wrong, _, _ in found)} of them wrong (framed)" in page
