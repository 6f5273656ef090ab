"""Every code block of the docs is run: Python in a subprocess, shell commands in order, in one directory."""

import importlib.util
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tensorboard_client import Client

import hparams_lab as lab
from hparams_lab.board.server import Board
from hparams_lab.board.view import View
from hparams_lab.core.outcome import Outcome
from hparams_lab.core.results import is_ranked
from hparams_lab.events.format import summaries
from hparams_lab.run.outcome_records import ending
from hparams_lab.storage.paths import LogDirPaths
from hparams_lab.sweep.resume import scan

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
PYTHON = [text for language, text in BLOCKS if language == "python"]
SHELL = [line for language, text in BLOCKS if language == "bash" for line in text.splitlines()]
MODEL = next(text for text in PYTHON if "build_model" in text)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Where a reader of the README sits, mymodel.py in place."""
    directory = tmp_path_factory.mktemp("readme")
    (directory / "mymodel.py").write_text(MODEL, encoding="utf-8")
    return directory


def environment():
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def run(command, cwd):
    return subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=300)


def test_the_readme_has_blocks_of_these_languages_only():
    assert {language for language, _ in BLOCKS} == {"python", "bash"}
    assert len(MODEL.strip().splitlines()) <= 25


LOGGING = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs/logging.md").read_text(encoding="utf-8"), re.M | re.S)


@pytest.mark.parametrize(
    "text",
    [text if text.startswith("import hparams_lab") else pytest.param(text, marks=pytest.mark.slow) for text in LOGGING],
    ids=lambda text: re.search(r'start_run\("logs/(\w+)"', text)[1],
)
def test_logging_blocks_run(text, home):
    framework = re.match(r"import (\w+)", text)[1]
    if importlib.util.find_spec(framework) is None:
        pytest.skip(f"{framework} is not installed (pip install 'hparams-lab[{framework}]')")
    done = run([sys.executable, "-W", "error::UserWarning", "-c", text], home)
    assert done.returncode == 0, done.stderr
    logdir = home / re.search(r'start_run\("(logs/\w+)"', text)[1]
    results = lab.read(logdir)
    assert [str(run.outcome) for run in results.runs] == ["completed"]
    assert results.runs[0].metrics


READING = re.findall(r"^```(\w+)\n(.*?)^```$", (ROOT / "docs/reading.md").read_text(encoding="utf-8"), re.M | re.S)


@pytest.mark.slow
def test_reading_blocks_run_in_order(tmp_path):
    for language, text in READING:
        if language == "python":
            done = run([sys.executable, "-W", "error::UserWarning", "-c", text], tmp_path)
            assert done.returncode == 0, done.stderr
        for line in text.splitlines() if language == "bash" else ():
            assert_line_runs(line, tmp_path)
    assert (tmp_path / "hill.html").stat().st_size > 1e6
    assert len(lab.read(tmp_path / "logs/both").runs) == 40


RUNNING = re.findall(r"^```(\w+)\n(.*?)^```$", (ROOT / "docs/running.md").read_text(encoding="utf-8"), re.M | re.S)


def test_running_blocks_run_in_order(tmp_path):
    (tmp_path / "climb.py").write_text(next(text for _, text in RUNNING if "def train" in text), encoding="utf-8")
    said = []
    for language, text in RUNNING:
        if language == "python":
            done = run([sys.executable, "-W", "error::UserWarning", "-c", text], tmp_path)
            assert done.returncode == 0, done.stderr
            said.append(done.stdout)
        for line in text.splitlines() if language == "bash" else ():
            said.append(assert_line_runs(line, tmp_path))
    assert sum("all 4 runs were done before; nothing to train" in text for text in said) == 1
    assert sum("6 runs into logs/climb, 4 done before" in text for text in said) == 1
    assert {path.name for path in (tmp_path / "logs").iterdir()} == {"climb", "climb.old-1", "python"}
    sweep = json.loads(said[-2].splitlines()[-1])["sweep"]
    assert (sweep["runs"], sweep["outcomes"]) == (4, {"completed": 4})
    assert len(re.findall(r"^run-\d{4} completed", said[-1], re.MULTILINE)) == 4


WAYS = re.findall(r"^```(\w+)\n(.*?)^```$", (ROOT / "docs/three-ways.md").read_text(encoding="utf-8"), re.M | re.S)


@pytest.mark.slow
def test_the_model_is_tuned_three_ways_and_all_are_compared(tmp_path):
    for package, extra in (("keras", "tensorflow"), ("sklearn", "sklearn"), ("keras_tuner", "keras-tuner")):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed (pip install 'hparams-lab[{extra}]')")
    said = []
    for language, text in WAYS:
        if language == "python":
            (tmp_path / re.match(r"# (\w+\.py)\n", text)[1]).write_text(text, encoding="utf-8")
        for line in text.splitlines() if language == "bash" else ():
            said.append(assert_line_runs(line, tmp_path))
    _, grid, tuner, top, _ = said
    assert "'units': 64" in grid
    assert "'units': " in tuner
    ranked = [line.split()[1].split("/")[0] for line in top.splitlines() if re.match(r" +\d+ ", line)]
    shown = next(text for language, text in WAYS if language == "text").splitlines()
    assert sorted(ranked) == ["hparams-lab"] * 4 + ["keras-tuner"] * 4 + ["scikit-learn"] * 4
    assert [line.split() for line in shown[:2]] == [line.split() for line in top.splitlines()[:2]]
    results = lab.read(tmp_path / "logs")
    assert results.best().metrics["val/accuracy"] > 0.9
    with View([tmp_path / "logs"]) as view, Board(view.logdir, 0) as board:
        rows = Client(board.url).loaded(groups=12, metrics=12, tag="val/accuracy")
        assert {column["name"] for column in Client(board.url).columns().values()} == {"units", "learning_rate"}
    assert sorted(len(row["sessions"]) for row in rows) == [1] * 8 + [3] * 4


OUTCOMES = re.findall(
    r"^\| ([a-z ]+) \| .* \| (SUCCESS|FAILURE|UNKNOWN) \| (yes|no) \| (.*) \|$",
    (ROOT / "docs/running.md").read_text(encoding="utf-8"),
    re.MULTILINE,
)


def test_every_outcome_is_what_the_table_says(tmp_path):
    outcomes = [Outcome(word) for word, *_ in OUTCOMES]
    assert {*outcomes} == {*Outcome} - {Outcome.UNKNOWN}
    experiment = lab.Experiment([lab.HParam("x", lab.Discrete([*range(len(outcomes))]))], [lab.Metric("y", goal="max")])
    for number, outcome in enumerate(outcomes):
        run = lab.start_run(tmp_path, hparams={"x": number}, experiment=experiment, name=f"run-{number:04d}")
        if outcome is not Outcome.RUNNING:
            run.finish({"y": 1.0}, outcome)
    runs = lab.read(tmp_path).trials
    assert [one.outcome for one in runs] == outcomes
    assert [is_ranked(one, "y") for one in runs] == [ranked == "yes" for _, _, ranked, _ in OUTCOMES]
    run.finish({"y": 1.0}, Outcome.INTERRUPTED)  # it was the one that is running: resuming would wait for it
    found = (scan(LogDirPaths(tmp_path), experiment, retry).done for retry in (False, True))
    done, done_then = ({run.trial_id for run in runs} for runs in found)
    for one, (word, status, _, again) in zip(runs, OUTCOMES, strict=True):
        if word != "running":
            assert ending(Outcome(word), "", "", 0.0)[-1] == summaries.session_end(getattr(summaries, status), 0.0)
            found = "no" if one.id in done_then else "with `--retry-failed`" if one.id in done else "yes"
            assert again == found, word


@pytest.mark.parametrize("text", [text for text in PYTHON if text is not MODEL])
def test_python_blocks_run(text, home):
    done = run([sys.executable, "-W", "error::UserWarning", "-c", text], home)
    assert done.returncode == 0, done.stderr
    assert "{" in done.stdout  # each prints the best trial's hparams


@pytest.mark.slow
def test_shell_blocks_run_in_order(home):
    for line in SHELL:
        if not line.startswith("scripts/"):
            assert_line_runs(line, home)


def assert_line_runs(line, cwd):
    if " board " in line:
        assert "#hparams" in board_until_it_listens([*shlex.split(line), "--port", "0"], cwd)
        return
    done = run(shlex.split(line), cwd)
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def board_until_it_listens(command, cwd):
    """The board's output until it says the address; then Ctrl-C, which is a clean end."""
    with subprocess.Popen(command, cwd=cwd, env=environment(), stdout=subprocess.PIPE, text=True) as board:
        timer = threading.Timer(60, board.kill)
        timer.start()
        said = board.stdout.readline() + board.stdout.readline()
        board.send_signal(signal.SIGINT)
        assert board.wait(30) == 0
        timer.cancel()
    return said


@pytest.mark.slow
def test_the_two_scripts_are_there_and_run(tmp_path):
    assert [line for line in SHELL if line.startswith("scripts/")] == ["scripts/run_sweep", "scripts/test"]
    done = run([ROOT / "scripts/run_sweep", "--trials", "2", "--logdir", tmp_path / "digits"], ROOT)
    assert done.returncode == 0, done.stderr
    assert "Best: run-000" in done.stdout
    assert "hparams-lab board" in done.stdout
    done = run([ROOT / "scripts/test", "--all", "--collect-only", "-q", __file__], ROOT)
    assert "test_the_two_scripts_are_there_and_run" in done.stdout


def test_links_in_the_docs_lead_somewhere():
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for link in re.findall(r"\]\((?!http)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
