"""Sweeps of a program's own functions: what its runs spawn finds them in the program, as everywhere."""

import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import hparams_lab as lab
from hparams_lab.core.outcome import Outcome
from hparams_lab.executors import again

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="runs begin in this process, whose program is pytest")

SCRIPT = """
import functools, pickle, subprocess, sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
import hparams_lab as lab

class Model:
    weight = 3.0

def worker(model):
    return model.weight

def train(run, scale=1.0):
    how = run.hparams["how"]
    if how == "pickle":
        found = pickle.loads(pickle.dumps(Model())).weight
    elif how == "again":
        found = subprocess.run([sys.executable, *sys.argv], check=True)
    else:
        with ProcessPoolExecutor(1, get_context(how)) as pool:
            found = pool.submit(worker, Model()).result()
    return {"loss": found * scale}

def sweep(train, name, values, **options):
    experiment = lab.Experiment([lab.HParam("how", lab.Discrete(values))], metrics=[lab.Metric("loss", goal="min")])
    lab.run_sweep(experiment, train, logdir=name, observe=lambda event: None, **options)
"""
GUARDED = """
if __name__ == "__main__":
    sweep(train, "function", ["spawn", "forkserver", "pickle", "again"])
    sweep(functools.partial(train, scale=2.0), "partial", ["spawn"], workers=1)
"""
NOT_GUARDED = """
sweep(train, "logs", ["spawn"])
"""


def ran(folder, code):
    (folder / "program.py").write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(Path(lab.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_a_process_that_is_spawned_finds_what_the_program_defines(tmp_path):
    """Also what a run pickles is the program's; only a command line is none, and that is said."""
    ran(tmp_path, SCRIPT + GUARDED)
    found = {run.hparams["how"]: run for run in lab.read(tmp_path / "function").runs}
    completed = {how: run.metrics["loss"] for how, run in found.items() if run.outcome is Outcome.COMPLETED}
    assert completed == {"spawn": 3.0, "forkserver": 3.0, "pickle": 3.0}
    assert found["again"].outcome is Outcome.FAILED
    assert again.WORDS in (found["again"].dir / "output.log").read_text()
    (partial,) = lab.read(tmp_path / "partial").runs
    assert partial.metrics == {"loss": 6.0}


def test_a_program_without_a_guard_begins_no_other_sweep(tmp_path):
    ran(tmp_path, SCRIPT + NOT_GUARDED)
    (run,) = lab.read(tmp_path / "logs").runs
    assert run.outcome is Outcome.FAILED
    said = (run.dir / "output.log").read_text()
    assert "run_sweep is called while a process of a run imports this program; put the call under if __name__" in said


def test_a_run_that_dies_for_its_command_line_says_so(tmp_path):
    """As PyTorch Lightning kills it, when the process that it starts again ends."""

    def train(run):
        subprocess.run([sys.executable, os.path.abspath(sys.argv[0]), *sys.argv[1:]])
        os.kill(os.getpid(), 9)

    experiment = lab.Experiment([lab.HParam("x", lab.Discrete([1]))], metrics=[lab.Metric("loss", goal="min")])
    (run,) = lab.run_sweep(experiment, train, logdir=tmp_path, executor="process", observe=lambda event: None).runs
    assert (run.outcome, run.reason) == (Outcome.CRASHED, again.WORDS)


@pytest.mark.parametrize("send", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_run_is_not_sent_to_another_process(tmp_path, send):
    with lab.start_run(tmp_path, hparams={"x": 1}) as run:
        with pytest.raises(lab.UsageError, match=r"^run 'run-0000' cannot be sent to another process or copied"):
            send(run)
        run.log({"loss": 1.0})
    assert lab.read(tmp_path).best("loss").metrics == {"loss": 1.0}
