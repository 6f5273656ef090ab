"""`hparams-lab show`: how a trial is named, all that is shown of it, and the command that runs it again."""

import functools
import json
import os
import re
import shlex
import subprocess
import sys

import pytest

import hparams_lab as lab
from hparams_lab.cli.log_tail import log_tail
from hparams_lab.cli.main import main
from hparams_lab.core.outcome import Outcome
from hparams_lab.run.attempts import ATTEMPTS_TAG, Attempt, attempts_markdown

DOMAIN = """
import hparams_lab as lab
EXPERIMENT = lab.Experiment(
    [lab.HParam("lr", lab.RealInterval(1e-4, 1e-1, scale="log")), lab.HParam("depth", lab.Discrete([None, 2])),
     lab.HParam("opt", lab.Discrete(["adam", "s g,d", "it's"])), lab.HParam("fast", lab.Discrete([True, False])),
     lab.HParam("momentum", lab.RealInterval(0.0, 1.0), active_when={"opt": "s g,d"})],
    [lab.Metric("accuracy"), lab.Metric("loss")])
def train(run):
    lr = run.hparams["lr"]
    for step in range(1, 11):
        run.log({"loss": lr / step, "accuracy": 1 - lr / step}, step=step)
    print("trained")
    if run.hparams["opt"] == "it's":
        raise ValueError("broken\\x1b[2J")
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A directory with a domain, and its sweep in logs/tuning."""
    home = tmp_path_factory.mktemp("show")
    (home / "tuning.py").write_text(DOMAIN)
    options = ["--strategy", "random", "--trials", "20", "--seed", "7", "--workers", "2"]
    command = [sys.executable, "-m", "hparams_lab", "run", "./tuning.py", *options]
    assert subprocess.run(command, cwd=home, capture_output=True).returncode == 1  # some runs fail
    return home


@pytest.fixture
def logs(home, monkeypatch):
    monkeypatch.chdir(home)
    return home / "logs/tuning"


@pytest.fixture
def show(lines_of):
    """`show(logdir, RUN, ...)` is the lines that it prints; with `refused=True` its one line of error."""
    return functools.partial(lines_of, "show")


def found(show, *arguments):
    (line,) = show(*arguments, "--json")
    return json.loads(line, parse_constant=pytest.fail)


def failed(logs):
    return next(run for run in lab.read(logs).runs if run.outcome == "failed")


def test_a_trial_by_rank_name_path_and_id(show, logs):
    ranked = [trial for trial in lab.read(logs).top() if trial.outcome == "completed"]
    assert found(show, logs, "best")["trial"] == ranked[0].id
    assert found(show, logs, "#2")["trial"] == found(show, logs, "2")["trial"] == ranked[1].id
    assert found(show, logs, ranked[2].id[:6])["trial"] == found(show, logs, ranked[2].id)["trial"] == ranked[2].id
    for name in ("run-0003", "run-0003/", logs / "run-0003", "logs/tuning/run-0003"):
        assert found(show, logs, name)["runs"][0]["run"] == "run-0003"
    worst = found(show, logs, "#1", "--metric", "loss", "--max")
    assert worst["metrics"]["loss"] == max(trial.metrics["loss"] for trial in ranked)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("run-003", "no run or trial of logs/tuning is 'run-003'; did you mean run-00"),
        ("#99", "there is no rank 99; the ranks are 1 to "),
        ("#0", "there is no rank 0; the ranks are 1 to "),
        ("bset", "no run or trial of logs/tuning is 'bset'; there are run-0000, "),
    ],
)
def test_what_is_refused(show, logs, name, message):
    assert show("logs/tuning", name, refused=True).startswith(message)


def test_nothing_is_best_where_nothing_completed(show, tmp_path):
    run = lab.start_run(tmp_path, hparams={"x": 1}, provenance=False)
    run.log({"loss": 1.0}, step=1)
    run.finish(outcome="failed")
    assert show(tmp_path, "best", refused=True) == "no trial completed, so none is best; name a run"
    assert show(tmp_path, "#1", refused=True) == "there is no rank 1; the ranks are none"


def test_all_of_a_trial(show, logs):
    trial = lab.read(logs).best()
    lines = show(logs, "best")
    completed = sum(one.outcome == "completed" for one in lab.read(logs).trials)
    assert lines[0] == f"{trial.name}  completed  rank 1 of {completed} by accuracy  trial {trial.id}"
    rows = [line.split() for line in lines]
    assert ["lr", repr(trial.hparams["lr"])] in rows
    assert ["opt", *trial.hparams["opt"].split()] in rows
    loss, accuracy = (trial.metrics[tag] for tag in ("loss", "accuracy"))
    first = loss * 10
    assert [
        "loss",
        "█▄▃▂▂▂▁▁▁▁",
        "10",
        f"{first:.4g}",
        f"{loss:.4g}",
        f"{loss:.4g}",
        "(10)",
        f"{first:.4g}",
        "(1)",
    ] in rows
    assert next(row for row in rows if row[:1] == ["accuracy"])[4] == f"{accuracy:.4g}"
    assert f"  the end of {logs / trial.name / 'output.log'}:" in lines
    assert "    trained" in lines
    assert any(row[:2] == ["git", "commit"] for row in rows)


def test_a_failure(show, logs):
    run = failed(logs)
    lines = show(logs, run.name)
    assert lines[0].startswith(f"{run.name}  failed  not ranked  trial {run.trial_id}")
    assert r"  ValueError: broken\x1b[2J" in lines
    assert "    Traceback (most recent call last):" in lines
    assert sum("Traceback" in line for line in lines) == 1  # the log's copy of it is left out
    assert lines[lines.index(f"  the end of {logs / run.name / 'output.log'}:") + 1] == "    trained"
    assert all(line.isprintable() for line in lines)
    (one,) = found(show, logs, run.name)["runs"]
    assert one["traceback"].endswith("ValueError: broken\x1b[2J")
    assert one["reason"] == "ValueError: broken\x1b[2J"
    assert one["log"][-1] == "ValueError: broken"


def test_as_json(show, logs):
    one = found(show, logs, "best")
    curve = one["runs"][0]["curves"]["loss"]
    assert (one["rank"], one["outcome"], one["sweep"], one["spread"]["loss"]) == (1, "completed", "", None)
    assert (curve["points"], curve["min_step"], curve["max_step"]) == (10, 10, 1)
    assert curve["first"] == curve["max"] == pytest.approx(one["hparams"]["lr"])
    assert one["runs"][0]["provenance"]["hparams-lab"] == lab.__version__


def test_again_trains_the_same_trial(show, logs):
    """Every command is run: the same id, the same numbers, in a directory of its own."""
    trials = lab.read(logs).trials
    assert {trial.hparams["depth"] for trial in trials} == {None, 2}
    assert {(trial.hparams["opt"], "momentum" in trial.hparams) for trial in trials} == {
        ("adam", False), ("s g,d", True), ("it's", False),
    }  # fmt: skip
    for trial in trials:
        command = shlex.split(found(show, logs, trial.name)["again"]["command"])
        assert command[:3] == ["hparams-lab", "run", "./tuning.py"]
        assert command[-4:] == ["--seed", "7", "--logdir", f"{logs}-{trial.name}"]
        with pytest.raises(SystemExit):
            main([*command[1:], "--executor", "inline"])
        (again,) = lab.read(command[-1]).trials
        assert (again.id, dict(again.hparams), again.metrics) == (trial.id, dict(trial.hparams), trial.metrics)


def test_again_where_it_cannot_be_told(show, tmp_path):
    space = lab.Experiment([lab.HParam("x", lab.Discrete([1, 2]))], [lab.Metric("loss")])
    lab.run_sweep(space, lambda run: {"loss": 1.0}, logdir=tmp_path / "sweep", executor="inline")
    again = found(show, tmp_path / "sweep", "best")["again"]
    assert "pytest" in again["command"]
    assert again["note"].startswith("the program that made the sweep, all of it")
    with lab.start_run(tmp_path / "bare", hparams={"x": 1}, provenance=False) as run:
        run.log({"loss": 1.0}, step=1)
    again = found(show, tmp_path / "bare", "best")["again"]
    assert again == {"command": None, "note": "not known: the run has no record of the command that started it"}
    with lab.start_run(tmp_path / "script", hparams={"x": 1}) as run:
        run.log({"loss": 1.0}, step=1)
    assert found(show, tmp_path / "script", "best")["again"]["note"].startswith("the program that logged the run")


def test_runs_of_a_trial(show, tmp_path):
    for repeat in range(3):
        with lab.start_run(tmp_path, hparams={"lr": 0.1}, name=f"repeat-{repeat}", provenance=False) as run:
            run.log({"loss": repeat / 100}, step=1)
    lines = show(tmp_path, "best")
    assert "metrics, mean ± standard deviation of 3 runs" in lines
    assert "  loss  0.01 ±0.01" in lines
    assert [line for line in lines if line.startswith("repeat-")][1:] == ["repeat-0", "repeat-1", "repeat-2"]
    lines = show(tmp_path, "repeat-1")
    assert lines[0].startswith("repeat-1  completed  rank 1 of 1 by loss")
    assert "other runs of the trial: repeat-0, repeat-2" in lines
    assert len(found(show, tmp_path, "repeat-1")["runs"]) == 3


def test_several_sweeps(show, tmp_path):
    space = lab.Experiment([lab.HParam("x", lab.Discrete([1, 2]))], [lab.Metric("loss")])
    for name in "ab":
        lab.run_sweep(space, lambda run: {"loss": 1.0}, logdir=tmp_path / name, executor="inline")
    said = show(tmp_path, "run-0001", refused=True)
    assert said == "'run-0001' may be any of 2 trials (a/run-0001, b/run-0001); say more of it"
    assert found(show, tmp_path, "b/run-0001")["sweep"] == "b"


def test_an_ascii_terminal_gets_ascii(logs, home):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "COLUMNS": "80"}
    ran = subprocess.run(
        [sys.executable, "-m", "hparams_lab", "show", logs, "best"], env=environment, capture_output=True, check=True
    )
    curve = next(line.split()[1] for line in ran.stdout.decode("ascii").splitlines() if line.startswith("  loss "))
    assert curve == "^.._____"
    table = [line for line in ran.stdout.decode().splitlines() if line.startswith(("  metric ", "  loss "))]
    assert max(map(len, table)) <= 80


def test_the_end_of_a_log(tmp_path):
    log = tmp_path / "output.log"
    assert log_tail(tmp_path, 3) == []
    log.write_bytes(b"x" * 100_000 + b"\nepoch 1\repoch 2\r\n\x1b[32mgreen\x1b[0m\tdone \xff\x07\n\n\n")
    assert log_tail(tmp_path, 2) == ["epoch 2", "green    done \ufffd\\x07"]
    log.unlink()
    log.symlink_to("/etc/passwd")
    assert log_tail(tmp_path, 3) == []
    log.unlink()
    os.mkfifo(log)
    assert log_tail(tmp_path, 3) == []


# --- what did not work, and what goes on ----------------------------------------------------------------------------

BROKEN = {
    "failed": "raise ValueError('broken')",
    "crashed": "os.kill(os.getpid(), signal.SIGSEGV)",
    "out of memory": "raise MemoryError('no room')",
    "timed out": "time.sleep(600)",
}
FAULTS = """
import os, signal, time
import hparams_lab as lab
EXPERIMENT = lab.Experiment([lab.HParam("fault", lab.Discrete(BROKEN))], [lab.Metric("loss")])
def train(run):
    run.log({"loss": 1.0}, step=1)
    run.flush()
    print("about to break", flush=True)
    FAULTS
"""


@pytest.fixture(scope="module")
def broken_logs(tmp_path_factory):
    """A sweep whose four runs end in the four ways of a run that did not work, the crashed one tried twice."""
    home = tmp_path_factory.mktemp("broken")
    faults = "".join(f"\n    if run.hparams['fault'] == {name!r}: {what}" for name, what in BROKEN.items())
    (home / "faults.py").write_text(FAULTS.replace("BROKEN", repr([*BROKEN])).replace("    FAULTS", faults))
    lab.run_sweep(
        str(home / "faults.py"), logdir=home / "logs", workers=4, timeout=3, retries=1, observe=lambda event: None
    )
    return home / "logs"


def of(show, logs, fault):
    name = next(run.name for run in lab.read(logs).runs if run.hparams["fault"] == fault)
    return show(logs, name), found(show, logs, name)["runs"][0]


@pytest.mark.parametrize("fault", BROKEN)
def test_each_way_of_not_working(show, broken_logs, fault):
    lines, one = of(show, broken_logs, fault)
    assert lines[0].split("  ")[1:3] == [fault, "not ranked"]
    assert (one["outcome"], one["now"]) == (fault, None)
    assert one["reason"]
    assert f"  {one['reason']}" in lines
    assert one["log_file"] == str(broken_logs / one["run"] / "output.log")
    assert f"  the end of {one['log_file']}:" in lines
    log = (broken_logs / one["run"] / "output.log").read_text()
    assert "about to break" in log
    assert any(log.splitlines()[-1].strip() in line for line in lines)
    if fault in ("crashed", "timed out"):  # where it was
        assert "most recent call first" in log


def test_the_attempts_before(show, broken_logs):
    lines, one = of(show, broken_logs, "crashed")
    (attempt,) = one["attempts"]
    assert (attempt["attempt"], attempt["outcome"]) == (1, "crashed")
    assert "SIGSEGV" in attempt["reason"]
    log = broken_logs / one["run"] / attempt["log"]
    assert "about to break" in log.read_text()
    head, row = lines[lines.index("  earlier attempts:") + 1 :][:2]
    assert head.split() == ["attempt", "outcome", "reason", "log"]
    assert row.split("  ")[-3:-1] == ["crashed", attempt["reason"]]
    assert row.endswith(attempt["log"])
    assert not any("run/attempts" in line for line in lines)
    assert of(show, broken_logs, "failed")[1]["attempts"] == []


@pytest.mark.parametrize("width", [40, 80])
def test_attempts_fit_the_terminal_and_steer_nothing(show, tmp_path, width, monkeypatch):
    tried = [Attempt(Outcome.CRASHED, f"a | b\n\x1b[2J{'x' * 300}", "output-1.log"), Attempt(Outcome.TIMED_OUT, "late")]
    with lab.start_run(tmp_path, hparams={"x": 1}, provenance=False) as run:
        run.text(ATTEMPTS_TAG, attempts_markdown(tried), step=0)
        run.log({"loss": 1.0}, step=1)
    monkeypatch.setenv("COLUMNS", str(width))
    lines = show(tmp_path, "best")
    table = lines[lines.index("  earlier attempts:") + 1 :][:3]
    assert [row.split()[:2] for row in table] == [["attempt", "outcome"], ["1", "crashed"], ["2", "timed"]]
    assert all(line.isprintable() and len(line) <= width for line in table)
    assert not any("run/attempts" in line for line in lines)
    one, two = found(show, tmp_path, "best")["runs"][0]["attempts"]
    assert one["reason"].startswith("a | b")
    assert (two["outcome"], two["log"]) == ("timed out", None)


def test_a_run_that_goes_on(show, tmp_path):
    run = lab.start_run(tmp_path, hparams={"x": 1, "epochs": 15}, name="mine", provenance=False)
    run.log({"loss": 1.0}, step=3)
    run.flush()
    lines = show(tmp_path, "mine")
    facts = next(line for line in lines if line.startswith("  running"))
    assert re.fullmatch(
        rf"  running  epoch 3/15  \d+\.\d s so far  since \d{{4}}-\d\d-\d\d [\d:]+  {tmp_path}/mine", facts
    )
    one = found(show, tmp_path, "mine")["runs"][0]
    assert (one["outcome"], one["ended"], one["now"]["step"], one["now"]["epochs"]) == ("running", None, 3, 15)
    run.finish()


def test_the_command_to_run_again_is_the_one_that_ran(tmp_path, show):
    """For JSON as it was, and on the screen as bash reads it back."""
    words = ["two  spaces", " at the ends ", "a\ttab", "line\nend", "a|b\\|c", "&#124;&amp;", "it's \x1b[2J", ""]
    (tmp_path / "loop.py").write_text(
        "import hparams_lab as lab\nwith lab.start_run('logs', hparams={'x': 1}) as run: run.log({'loss': 1.0})\n"
    )
    subprocess.run([sys.executable, "loop.py", *words], cwd=tmp_path, check=True)
    logs = tmp_path / "logs"
    assert shlex.split(found(show, logs, "best")["again"]["command"])[1:] == ["loop.py", *words]
    (command,) = (line for line in show(logs, "best")[-2:] if "loop.py" in line)
    told = subprocess.run(["bash", "-c", f"printf '%s\\0' {command}"], capture_output=True, text=True, check=True)
    assert told.stdout.split("\0")[1:-1] == ["loop.py", *words]
