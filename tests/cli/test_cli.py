"""The command line: what it prints, its exit codes, and one line for each thing that was asked wrongly."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from counted import at_most

import hparams_lab as lab
from hparams_lab.cli.main import COMMANDS

HEAD = """
import hparams_lab as lab
from hparams_lab import Discrete, Experiment, HParam, IntInterval, Metric, RealInterval
"""
DECLARED = "EXPERIMENT = Experiment([HParam('units', Discrete([8, 16])), HParam('rate', RealInterval(0.1, 0.2))], "
GOOD = f"""{HEAD}{DECLARED}[Metric('accuracy'), Metric('loss')])
def train(run):
    run.log({{"loss": 0.5}}, step=1)
    if run.hparams["units"] == BROKEN:
        raise ValueError("broken")
    return {{"accuracy": run.hparams["units"] / 32 if run.hparams["rate"] > 0.1 else float("nan")}}
"""
TUNING = f"BROKEN = 0\n{GOOD}"
BROKEN = f"BROKEN = 16\n{GOOD}"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """In a directory with a good domain, `tuning.py`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "tuning.py").write_text(TUNING)
    return tmp_path


def strict(text):
    """The JSON of each line, NaN and Infinity refused."""
    return [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]


def paths(root):
    return {path for path in root.rglob("*") if "__pycache__" not in path.parts}


def test_help_lists_every_command(lab_command):
    code, said, _ = lab_command("--help")
    assert code == 0
    for name, summary in COMMANDS.items():
        assert f"  {name} " in said
        assert summary in " ".join(said.split())
    assert "\n  Examples:\n    hparams-lab run digits " in said
    assert lab_command("--version") == (0, f"hparams-lab, version {lab.__version__}\n", "")
    assert (lab_command("-h"), lab_command()[::2]) == ((0, said, ""), (2, said))


def test_every_path_may_begin_at_home_or_be_a_file_url(lab_command, here, monkeypatch):
    home = here / "home dir"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    (here / "tuning.py").rename(home / "tuning.py")
    url = (home / "logs").as_uri()
    for told in (
        ("run", "~/tuning.py", "--logdir", "~/logs", "--executor", "inline", "--set", "units=8"),
        ("plan", f"{home.as_uri()}/tuning.py", "--logdir", url),
        ("top", "~/logs"),
        ("show", url, "best"),
        ("compare", "~/logs", "run-0000", "run-0001"),
        ("compare", "~/logs:run-0000", f"{url}:run-0001"),
        ("export", "~/logs", "-o", "~/runs.csv"),
        ("export", url, "-o", f"{home.as_uri()}/trials.json", "--trials"),
        ("report", "~/logs", "-o", "~/report.html"),
        ("doctor", "~/logs"),
        ("merge", "~/logs", str(here / "other"), "-o", f"{home.as_uri()}/both"),
        ("prune", "~/both", "--failed", "--archive", "~/archive", "--yes"),
    ):
        if told[0] == "merge":
            lab.start_run(here / "other", hparams={"units": 16, "rate": 0.1}).finish({"accuracy": 0.5})
        code, _, error = lab_command(*told)
        assert (code, error) in ((0, ""), (1, "")), told
    made = {"tuning.py", "logs", "runs.csv", "trials.json", "report.html", "both"}
    assert {path.name for path in home.iterdir()} - {"__pycache__"} >= made
    assert {path.name for path in here.iterdir()} == {"home dir", "other"}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_url_is_one_line_and_nothing_is_made(lab_command, here, command):
    before = paths(here)
    more = {
        "run": [("tuning.py", "--logdir", "gs://b/x"), ("gs://b/tuning.py",), ("tuning.py", "--data", "s3://b/x.npz")],
        "plan": [("tuning.py", "--logdir", "gs://b/x"), ("gs://b/tuning.py",)],
        "show": [("gs://b/x", "best")],
        "compare": [("gs://b/x", "best", "run-1"), ("gs://b/x:best", "gs://b/y:best")],
        "export": [("gs://b/x", "-o", "x.csv"), (".", "-o", "gs://b/x.csv")],
        "merge": [("gs://b/x", "y", "-o", "z"), ("x", "y", "-o", "gs://b/z")],
        "report": [("gs://b/x",), (".", "-o", "gs://b/x.html"), (".", "--png", "gs://b")],
        "doctor": [("gs://b/x",), (".", "--output", "gs://b/x")],
        "prune": [("gs://b/x", "--failed"), (".", "--archive", "gs://b", "--failed")],
    }
    for arguments in more.get(command, [("gs://b/x",)]):
        code, said, error = lab_command(command, *arguments)
        assert (code, said, len(error.splitlines())) == (2, "", 1), arguments
        assert " is a URL, where nothing can be read or written yet; give a path on this machine" in error
    assert paths(here) == before


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_examples(lab_command, command):
    code, said, _ = lab_command(command, "--help")
    assert code == 0
    assert f"\n  Examples:\n    hparams-lab {command} " in said
    assert said.startswith(f"Usage: hparams-lab {command} [OPTIONS] ")


def test_run_tells_of_each_run_and_the_best(lab_command):
    code, said, errors = lab_command("run tuning.py --executor inline")
    lines = said.splitlines()
    assert (code, errors, lines[0]) == (0, "", "4 runs into logs/tuning")
    assert lines[1].startswith("[1/4] run-0000 diverged ")
    assert lines[2].startswith("[2/4] run-0001 completed ")
    assert lines[2].endswith(" s  accuracy 0.25  loss 0.5  (units=8  rate=0.2)")
    assert "Best: run-0003  accuracy 0.5  loss 0.5\n      units=16  rate=0.2" in said
    assert "Leaderboard:    python -m hparams_lab top logs/tuning\n" in said
    code, said, _ = lab_command("run tuning.py --executor inline")
    assert (code, said.splitlines()[0]) == (0, "4 runs into logs/tuning, 4 done before")
    assert "4 trials, 4 runs (one each), 4 done\n" in lab_command("plan tuning.py")[1]


def test_a_failed_run_is_exit_code_1(lab_command, here):
    (here / "tuning.py").write_text(BROKEN)
    code, said, _ = lab_command("run tuning.py --executor inline --logdir logs/b")
    assert code == 1
    assert "run-0002 failed 0.0 s  ValueError: broken  (units=16  rate=0.1)" in said
    assert "2 of 4 runs failed (run-0002, run-0003); see `" in said
    assert " show logs/b run-0002`, and --retry-failed." in said


def test_run_as_json(lab_command):
    code, said, errors = lab_command("run tuning.py --json --executor inline --set units=8 --seed 3")
    events = strict(said)
    assert (code, errors, events[0]["event"], events[-1]["event"]) == (0, "", "sweep_started", "sweep_ended")
    ended = [event for event in events if event["event"] == "run_ended"]
    assert [(one["run"], one["outcome"], one["metrics"]["accuracy"]) for one in ended] == [
        ("run-0000", "diverged", None),
        ("run-0001", "completed", 0.25),
    ]
    assert events[-1]["best"]["hparams"] == {"units": 8, "rate": 0.2}
    assert events[-1]["outcomes"] == {"diverged": 1, "completed": 1}


def test_plan_writes_nothing(lab_command, here):
    before = paths(here)
    code, said, errors = lab_command("plan tuning.py --points 3")
    assert (code, errors, paths(here)) == (0, "", before)
    rows = [" ".join(line.split()) for line in said.splitlines()]
    assert rows[:4] == ["trial units rate", "0 8 0.1", "1 8 0.15", "2 8 0.2"]
    assert "6 trials, 6 runs (one each)" in said
    (found,) = strict(lab_command("plan tuning.py --json --strategy random --trials 4")[1])
    assert (found["trials"], found["done"], len(found["first"]), len(found["last"])) == (4, 0, 3, 1)


def test_plan_of_a_million_million_trials_is_instant(lab_command, here):
    hparams = ", ".join(f"HParam('h{i}', Discrete(range(100)))" for i in range(6))
    (here / "huge.py").write_text(
        f"{HEAD}EXPERIMENT = Experiment([{hparams}], [Metric('loss')])\ndef train(run): ...\n"
    )
    with at_most(calls=10**6):
        assert "1,000,000,000,000 trials" in lab_command("plan huge.py")[1]
    with at_most(calls=10**6):
        assert strict(lab_command("plan huge.py --json --strategy random")[1])[0]["trials"] == 10**12


def domain(hparam="HParam('x', Discrete([1]))", metrics="[Metric('accuracy')]", body="return {'accuracy': 1.0}"):
    return f"{HEAD}EXPERIMENT = Experiment([{hparam}], {metrics})\ndef train(run):\n    {body}\n"


BAD = {
    "Discrete([]) has no value to choose": domain("HParam('x', Discrete([]))"),
    "have the name 'x' twice": domain("HParam('x', Discrete([1])), HParam('x', Discrete([2]))"),
    "RealInterval has min 2 > max 1": domain("HParam('x', RealInterval(2, 1))"),
    "IntInterval has a log scale from 0": domain("HParam('x', IntInterval(0, 9, scale='log'))"),
    "Discrete has values of mixed types": domain("HParam('x', Discrete([1, True, 'a']))"),
    "the objective 'auc' is not among the metrics (loss)": domain(metrics="[Metric('loss')], 'auc'"),
    "domain 'bad.py' has no EXPERIMENT": "def train(run): ...\n",
    "domain 'bad.py' has a syntax error": "def train(run:\n",
    "domain 'bad.py' failed to import: KeyError: 'a\\nb'": "{}['a\\nb']\n",
}


@pytest.mark.parametrize("command", ["run", "plan"])
@pytest.mark.parametrize("message", BAD)
def test_bad_domains(lab_command, here, command, message):
    (here / "bad.py").write_text(BAD[message])
    refused(lab_command, here, f"{command} bad.py", message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("run nowhere", "there is no domain 'nowhere'; give digits, mnist, a module's name, or"),
        ("run nowhere.py", "there is no file 'nowhere.py' in "),
        ("run tuning.py --set unit=8", "--set names 'unit', which is not an hparam; did you mean 'units'?"),
        ("run tuning.py --set units=8.5", "--set units=8.5: "),
        ("run tuning.py --set units", "--set 'units' is not NAME=VALUES; for example --set units=8,16 or"),
        ("run tuning.py --workers 0", "--workers is 0; wanted at least 1"),
        ("run tuning.py --trials 0", "--trials is 0; wanted at least 1"),
        ("run tuning.py --points 0", "--points is 0; wanted at least 1"),
        ("plan tuning.py --trials 0", "--trials is 0; wanted at least 1"),
        ("run tuning.py --data tuning.py", "--data is for domains whose load_data(data) takes a file"),
        ("run nowhere --data x.npz", "--data is x.npz, which is not there; name a file that is"),
        ("run nowhere --set units", "--set 'units' is not NAME=VALUES; for example"),  # before there is a domain
        ("run nowhere --set =8", "--set '=8' is not NAME=VALUES; for example"),
        ("run tuning.py --logdir=", "--logdir is empty; name a path, or leave it out"),
        ("plan nowhere --data=", "--data is empty; name a path, or leave it out"),
        ("run tuning.py --logdir tuning.py", "the log directory tuning.py is a file; name a directory"),
        ("top logs", "the log directory logs does not exist; name a directory that a sweep or run was"),
        ("top tuning.py", "the log directory tuning.py is a file; name a directory that a sweep or run was"),
        ("top .", ". holds no runs: no file with 'tfevents' in its name and hparams or scalars, there or below"),
        ("board logs", "the log directory logs does not exist; name a directory that a sweep or run was"),
    ],
)
def test_bad_options(lab_command, here, arguments, message):
    refused(lab_command, here, arguments, message)


def refused(lab_command, here, arguments, message):
    """Exit code 2 and one line, nothing written; with --debug the traceback before it."""
    before = paths(here)
    code, said, errors = lab_command(arguments)
    assert (code, said, errors.count("\n"), paths(here)) == (2, "", 1, before)
    assert errors.startswith("error: ")
    assert message in errors
    code, said, errors = lab_command(f"{arguments} --debug")
    assert (code, said) == (2, "")
    assert errors.startswith("Traceback (most recent call last):")


@pytest.mark.parametrize("arguments", ["fly", "run", "run tuning.py --seed x", "run tuning.py --strategy x", "top"])
def test_usage_errors_are_clicks(lab_command, here, arguments):
    before = paths(here)
    code, said, errors = lab_command(arguments)
    assert (code, said, paths(here)) == (2, "", before)
    assert errors.startswith("Usage: hparams-lab ")
    assert "Error: " in errors


def test_another_sweeps_directory(lab_command, here):
    lab_command("run tuning.py --executor inline --trials 1")
    message = "logs/tuning holds another sweep: seed: 0 -> 1; choose another --logdir, or --fresh moves it"
    refused(lab_command, here, "run tuning.py --seed 1", message)
    assert lab_command("run tuning.py --executor inline --seed 1 --fresh")[0] == 0
    assert (here / "logs/tuning.old-1/sweep.json").exists()


def test_a_metric_that_never_comes(lab_command, here):
    (here / "bad.py").write_text(domain(body="return {'loss': 1.0}"))
    code, _, errors = lab_command("run bad.py --executor inline")
    assert (code, errors.count("\n")) == (2, 1)
    assert errors.startswith("error: train() neither returned nor logged the metric 'accuracy' (it had loss); ")


@pytest.mark.parametrize("command", [["hparams-lab"], [sys.executable, "-m", "hparams_lab"]])
def test_the_installed_command(here, command):
    """In a process of its own: the script beside the interpreter, and `python -m`."""
    command = [str(Path(sys.executable).with_name(command[0])), *command[1:]] if len(command) == 1 else command
    ran = subprocess.run([*command, "run", "tuning.py", "--logdir", "x"], cwd=here, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "Best: run-0003" in ran.stdout
    debug = subprocess.run([*command, "--debug", "top", "nowhere"], cwd=here, capture_output=True, text=True)
    assert debug.returncode == 2
    assert debug.stderr.startswith("Traceback (most recent call last):")
    assert "LogDirError: the log directory nowhere does not exist" in debug.stderr


def test_a_file_named_like_a_module_is_not_taken_for_it(here):
    (here / "logging.py").write_text("raise RuntimeError('not the standard library')\n")
    script = Path(sys.executable).with_name("hparams-lab")
    ran = subprocess.run([script, "run", "tuning.py", "--logdir", "x"], cwd=here, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")
