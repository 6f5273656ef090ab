"""Where a run came from and how its machine was: what is told, what never is, and what is said without psutil."""

import os
import re
import socket
import subprocess
import sys
import time
import types

import numpy as np
import pytest
from tensorboard_client import eventually

from hparams_lab.core.outcome import Outcome
from hparams_lab.logdir.reader import read
from hparams_lab.logdir.run_reader import read_run
from hparams_lab.run.provenance import PROVENANCE_TAG, provenance, provenance_markdown, versions
from hparams_lab.run.start import start_run
from hparams_lab.run.system import SystemSampler

SCRIPT = (
    "import sys\nfrom hparams_lab.run.start import start_run\n"
    "with start_run(sys.argv[1], hparams={'x': 1}, name='x') as run: run.log('loss', 0.5)\n"
)
SYSTEM = ["sys/cpu_percent", "sys/memory_percent", "sys/process_memory_gib"]


def told(directory, cwd=None, env=None, more=()):
    """What a run of another process tells of itself, by name."""
    command = [sys.executable, "-c", SCRIPT, str(directory), *more]
    subprocess.run(command, check=True, cwd=cwd, env={**os.environ, **(env or {})}, timeout=60)
    return rows_of(read_run(directory / "x", "x").texts[PROVENANCE_TAG])


def rows_of(markdown):
    head, line, *rows = markdown.split("\n")
    assert (head, line) == ("| | |", "| --- | --- |")
    return dict(re.fullmatch(r"\| (.*?) \| (.*) \|", row).groups() for row in rows)


def git(directory, *arguments):
    said = ["-c", "user.name=n", "-c", "user.email=e@x", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *said, *arguments], cwd=directory, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_the_table(tmp_path):
    found = told(tmp_path / "logs", more=["a b", "pi|pe"])
    assert found["command"].startswith(f"{sys.executable} -c ")
    assert found["command"].endswith(r"/logs 'a b' 'pi\|pe'")
    assert found["host"] == socket.gethostname()
    assert found["python"] == "{}.{}.{}".format(*sys.version_info[:3])
    assert found["numpy"] == np.__version__
    assert found["devices"].strip()
    assert list(found)[:6] == ["command", "git commit", "host", "system", "devices", "python"]
    assert not {"tensorflow", "torch", "jax"} & set(found)  # which the process has not imported


def test_nothing_of_the_environment_is_told(tmp_path):
    secrets = {"WANDB_API_KEY": "s3cr3t-value", "HOME": str(tmp_path), "MY_TOKEN": "another-s3cr3t"}
    told(tmp_path / "logs", env=secrets)
    data = b"".join(file.read_bytes() for file in (tmp_path / "logs").rglob("*tfevents*"))
    assert b"s3cr3t" not in data
    assert not any(name.encode() in data for name in ("WANDB_API_KEY", "MY_TOKEN"))


def test_the_git_commit_and_whether_there_are_changes(tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    git(work, "init", "-q")
    (work / "train.py").write_text("1")
    git(work, "add", "train.py")
    git(work, "commit", "-qm", "x")
    commit = git(work, "rev-parse", "HEAD")
    assert told(tmp_path / "clean", work)["git commit"] == commit
    (work / "new.txt").write_text("not tracked")
    assert told(tmp_path / "untracked", work)["git commit"] == commit
    (work / "train.py").write_text("2")
    assert told(tmp_path / "changed", work)["git commit"] == f"{commit} with changes"


def test_outside_of_git_or_without_it(tmp_path):
    apart = {"GIT_CEILING_DIRECTORIES": str(tmp_path)}
    assert told(tmp_path / "logs", tmp_path, apart)["git commit"] == "not in git"
    assert told(tmp_path / "more", tmp_path, {**apart, "PATH": ""})["git commit"] == "not in git"


def test_versions_are_of_what_is_imported_or_of_all_that_is_installed():
    some, every = versions(), versions(installed=True)
    assert some["numpy"] == every["numpy"] == np.__version__
    assert some.items() <= every.items()
    assert "tensorboard" in every
    assert rows_of(provenance_markdown()).keys() == provenance().keys()


def test_none_when_not_asked_for(tmp_path):
    with start_run(tmp_path, hparams={"x": 1}, name="x", provenance=False):
        pass
    assert read_run(tmp_path / "x", "x").texts == {}


@pytest.mark.parametrize("resumed", [False, True])
def test_system_metrics_leave_the_steps_alone(tmp_path, resumed):
    pytest.importorskip("psutil")
    if resumed:
        start_run(tmp_path, hparams={"x": 1}, name="x", system=True).finish({"loss": 1})
    run = start_run(tmp_path, hparams={"x": 1}, name="x", system=True, resume=resumed)
    for _ in range(3):
        run.log({"loss": 0.5})
    run.finish()
    found = read_run(tmp_path / "x", "x")
    assert [tag for tag in found.columns if tag != "loss"][:3] == SYSTEM
    assert found.columns["loss"].steps.tolist() == [0, 1, 2, 3][: 3 + resumed]
    assert all(0 <= value <= 100 for value in found.columns["sys/memory_percent"].values)
    assert 0 < found.metrics["sys/process_memory_gib"] < 100
    (same,) = read(tmp_path).runs
    assert same.outcome is Outcome.COMPLETED


def test_samples_are_taken_at_the_seconds_of_the_run_until_it_is_over(tmp_path):
    pytest.importorskip("psutil")
    run = start_run(tmp_path, hparams={"x": 1}, name="x", provenance=False)
    sampler = SystemSampler(run, seconds=0.02)
    eventually(lambda: "sys/cpu_percent" in run.metrics and len(sampler.sample()) >= 3)
    time.sleep(1.1)
    run.log("loss", 0.5)
    run.finish()
    sampler._thread.join(60)
    assert not sampler._thread.is_alive()
    columns = read_run(run.dir, "x").columns
    steps = columns["sys/cpu_percent"].steps
    assert len(steps) > 5
    assert (steps[0], steps[-1] >= 1, columns["loss"].steps.tolist()) == (0, True, [0])
    assert (np.diff(steps) >= 0).all()


class NVMLError(Exception):
    """As pynvml's."""


def a_machine_with_gpus():
    """pynvml where GPU 0 tells all, GPU 1 is split by MIG, GPU 2 is lost, and GPU 3 tells nothing."""

    def handle(number):
        if number == 2:
            raise NVMLError("GPU is lost")
        return number

    def told(number, known, **values):
        if number not in known:
            raise NVMLError("Not Supported")
        return types.SimpleNamespace(**values)

    return types.SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlDeviceGetCount=lambda: 4,
        nvmlDeviceGetHandleByIndex=handle,
        nvmlDeviceGetMemoryInfo=lambda number: told(number, {0, 1}, used=2**31),
        nvmlDeviceGetUtilizationRates=lambda number: told(number, {0}, gpu=50),
    )


def test_what_a_gpu_does_not_say_is_left_out_of_the_samples(tmp_path, monkeypatch):
    psutil = pytest.importorskip("psutil")
    monkeypatch.setitem(sys.modules, "pynvml", a_machine_with_gpus())
    with start_run(tmp_path, hparams={"x": 1}, name="x", provenance=False) as run:
        sampler = SystemSampler(run, seconds=0.01)
        monkeypatch.setattr(psutil, "virtual_memory", lambda: 1 / 0)
        eventually(lambda: "sys/cpu_percent" in run.metrics)
        assert sampler._thread.is_alive()
        sampler.stop()
    found = read_run(run.dir, "x").metrics
    assert {tag: value for tag, value in found.items() if "gpu" in tag} == {
        "sys/gpu0_percent": 50.0,
        "sys/gpu0_memory_gib": 2.0,
        "sys/gpu1_memory_gib": 2.0,
    }
    assert "sys/process_memory_gib" in found


def test_a_forgotten_run_is_ended_also_by_its_own_sampler(tmp_path):
    """The sampler may be the last to hold the run; it must not wait for itself."""
    pytest.importorskip("psutil")
    script = SCRIPT.replace("name='x'", "name='x', system=True").replace("with ", "run = ").replace(" as run: ", "\n")
    more = "import threading\nthread = threading.Thread(target=run._at_finish[0])\n"
    more += "run._at_finish[0].args[1].__self__._thread = "
    stop = "thread\nthread.start(); thread.join(); print('stopped')\n"
    command = [sys.executable, "-c", script + more + stop, str(tmp_path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("stopped\n", "")
    assert read_run(tmp_path / "x", "x").outcome is Outcome.COMPLETED


def test_without_psutil_the_line_that_brings_it(tmp_path):
    script = (
        "import sys\nsys.modules['psutil'] = None\nfrom hparams_lab.core.errors import MissingExtraError\n"
        "from hparams_lab.run.start import start_run\n"
        "try: start_run(sys.argv[1], hparams={'x': 1}, system=True)\n"
        "except MissingExtraError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=60)
    wanted = "psutil, which system metrics need, is not installed; bring it with: pip install 'hparams-lab[system]'\n"
    assert (done.stdout, done.stderr) == (wanted, "")
    assert list(tmp_path.iterdir()) == []
