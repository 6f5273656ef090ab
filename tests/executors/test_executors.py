"""Executors: one suite that each of them passes, then what only processes can promise."""

import os
import random
import signal
import sys
import threading
import time
import types
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

import hparams_lab as lab
from hparams_lab.core.errors import DomainLoadError, ExecutorError, MissingMetricError, UsageError
from hparams_lab.core.outcome import Outcome
from hparams_lab.core.trial import derive_seed
from hparams_lab.executors import NAMES, Resources, make_executor, process
from hparams_lab.sweep.events import RunReported, SweepNote


def completes(run):
    run.log({"loss": 0.5}, step=1)
    run.log({"loss": 0.25}, step=2)
    return {"accuracy": 0.75}


def raises(run):
    run.log({"loss": 0.5}, step=1)
    raise ValueError("boom\nin two lines")


def prints(run):
    print("to standard output")
    print("to standard error \udcff 試", file=sys.stderr)
    return {"accuracy": 0.5}


def draws(run):
    return {"accuracy": random.random(), "of_numpy": np.random.random(), "seed": run.seed % 1000}


def prunes(run):
    raise lab.Pruned("hopeless")


def leaves_a_child(run):
    if os.fork():
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


WAYS = {
    "completes": completes,
    "raises": raises,
    "prints": prints,
    "draws": draws,
    "prunes": prunes,
    "diverges": lambda run: {"accuracy": float("nan")},
    "logs it only": lambda run: run.log("accuracy", 0.125, step=3),
    "sys.exit()": lambda run: sys.exit(),
    "sys.exit(3)": lambda run: sys.exit(3),
}
DEATHS = {
    "killed": lambda run: os.kill(os.getpid(), signal.SIGKILL),
    "segfault": lambda run: os.kill(os.getpid(), signal.SIGSEGV),
    "out with 0": lambda run: os._exit(0),
    "out with 3": lambda run: os._exit(3),
    "killed, its child lives": leaves_a_child,
    "lives": completes,
}


def train(run):
    return {**WAYS, **DEATHS}[run.hparams["way"]](run)


def experiment(*ways):
    return lab.Experiment([lab.HParam("way", lab.Discrete(ways))], [lab.Metric("accuracy")])


class Swept:
    """A sweep over `ways`: the runs by way, and what was reported of each."""

    def __init__(self, logdir, ways, **options):
        self.reports = defaultdict(list)
        results = lab.run_sweep(experiment(*ways), train, logdir=logdir, seed=5, observe=self.observe, **options)
        self.runs = {run.hparams["way"]: run for run in results.runs}

    def observe(self, event):
        if isinstance(event, RunReported):
            self.reports[event.name].append((event.step, event.metrics))

    def log_of(self, way):
        return (self.runs[way].dir / "output.log").read_text(encoding="utf-8")


@pytest.fixture(scope="module", params=NAMES)
def executor(request):
    return request.param


@pytest.fixture(scope="module")
def swept(executor, tmp_path_factory):
    return Swept(tmp_path_factory.mktemp(executor), WAYS, executor=executor, workers=2)


RETURNED = [
    ({"loss": 1.0}, r"^train\(\) neither returned nor logged the metric 'accuracy' \(it had loss\); return it"),
    (None, r"^train\(\) neither returned .* 'accuracy' \(it had none\); return it, or take it out of the exp"),
    (0.5, r"^train\(\) returned float; wanted its final metrics as a dict, or nothing"),
]
"""What is no result, and what is said of it."""


class TestEveryExecutor:
    """The conformance suite."""

    @pytest.mark.parametrize(
        ("way", "outcome", "reason"),
        [
            ("completes", Outcome.COMPLETED, ""),
            ("prints", Outcome.COMPLETED, ""),
            ("logs it only", Outcome.COMPLETED, ""),
            ("raises", Outcome.FAILED, "ValueError: boom in two lines"),
            ("prunes", Outcome.PRUNED, "Pruned: hopeless"),
            ("diverges", Outcome.DIVERGED, "the objective 'accuracy' is nan"),
            ("sys.exit()", Outcome.CRASHED, "train() left by sys.exit(None)"),
            ("sys.exit(3)", Outcome.CRASHED, "train() left by sys.exit(3)"),
        ],
    )
    def test_how_a_run_ends_is_data(self, swept, way, outcome, reason):
        run = swept.runs[way]
        assert (run.outcome, run.reason, run.is_over) == (outcome, reason, True)

    def test_what_was_logged_and_returned(self, swept):
        run = swept.runs["completes"]
        assert run.metrics == {"loss": 0.25, "accuracy": 0.75}
        assert (run.scalars("loss").steps.tolist(), run.scalars("loss").values.tolist()) == ([1, 2], [0.5, 0.25])
        assert run.scalars("accuracy").steps.tolist() == [2]
        assert swept.runs["logs it only"].metrics == {"accuracy": 0.125}

    def test_an_exception_keeps_its_traceback_and_what_was_logged_before(self, swept):
        run = swept.runs["raises"]
        assert run.metrics == {"loss": 0.5}
        for text in (run.texts["run/outcome"], swept.log_of("raises")):
            assert "Traceback (most recent call last)" in text
            assert f'{Path(__file__).name}", line' in text
            assert "ValueError: boom\nin two lines" in text

    def test_prints_go_to_the_output_log(self, swept, capfd):
        assert swept.log_of("prints") == "to standard output\nto standard error \\udcff 試\n"
        assert swept.log_of("completes") == ""
        assert capfd.readouterr() == ("", "")

    def test_reports_arrive(self, swept):
        assert swept.reports[swept.runs["completes"].name][0] == (1, {"loss": 0.5})
        assert swept.reports[swept.runs["raises"].name] == [(1, {"loss": 0.5})]

    def test_seeds_are_the_same_everywhere(self, swept):
        run = swept.runs["draws"]
        seed = derive_seed(5, run.trial_id)
        of_numpy = np.random.RandomState(seed).random_sample()
        expected = {"accuracy": random.Random(seed).random(), "of_numpy": of_numpy, "seed": seed % 1000}
        assert run.metrics == expected

    @pytest.mark.parametrize(
        ("name", "returned", "message"),
        [
            (name, returned, message)
            for name in NAMES
            for returned, message in RETURNED
            if name != "ray" or returned is None  # whose start takes seconds
        ],
    )
    def test_a_declared_metric_that_is_not_there_ends_the_sweep(self, name, tmp_path, returned, message):
        with pytest.raises(MissingMetricError, match=message):
            lab.run_sweep(experiment("a", "b"), lambda run: returned, logdir=tmp_path, executor=name, workers=1)
        assert [run.outcome for run in lab.read(tmp_path).runs] == [Outcome.FAILED]


@pytest.mark.parametrize(
    ("name", "asked_for", "message"),
    [
        ("ray-tune", {}, r"^there is no executor 'ray-tune'; there are process, inline, ray"),
        ("process", {"workers": 0}, r"^--workers is 0; wanted at least 1"),
        ("inline", {"workers": -1}, r"^--workers is -1; wanted at least 1"),
        ("inline", {"cpus_per_run": -1}, r"^--cpus-per-run is -1; wanted a number above 0"),
        ("inline", {"runs_per_gpu": 0}, r"^--runs-per-gpu is 0; wanted at least 1"),
        ("inline", {"runs_per_gpu": 2}, r"^--runs-per-gpu needs a process per run, and this is the inline executor"),
    ],
)
def test_executors_that_cannot_be(name, asked_for, message):
    with pytest.raises(UsageError, match=message):
        make_executor(name, Resources(**asked_for))


@pytest.fixture(scope="module")
def deaths(tmp_path_factory):
    return Swept(tmp_path_factory.mktemp("deaths"), DEATHS, executor="process", workers=2).runs


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        ("killed", "its process was killed by SIGKILL"),
        ("killed, its child lives", "its process was killed by SIGKILL"),
        ("segfault", "its process was killed by SIGSEGV"),
        ("out with 0", "its process ended without a word"),
        ("out with 3", "its process exited with code 3 before the run had ended"),
    ],
)
def test_the_death_of_a_process_is_its_runs_alone(deaths, way, reason):
    assert (deaths[way].outcome, deaths[way].reason, deaths[way].is_over) == (Outcome.CRASHED, reason, True)
    assert deaths["lives"].outcome is Outcome.COMPLETED


def test_a_train_that_cannot_travel(tmp_path):
    lock = threading.Lock()
    with pytest.raises(UsageError, match=r"^train cannot be sent to another process \(.*lock.*\); give it less to ca"):
        lab.run_sweep(experiment("a"), lambda run: lock, logdir=tmp_path / "logs", executor="process")
    assert not (tmp_path / "logs").exists()


def test_a_train_that_cannot_be_loaded_there(tmp_path, monkeypatch):
    module = types.ModuleType("only_here")
    exec("def train(run): return {'accuracy': 1.0}", module.__dict__)
    monkeypatch.setitem(sys.modules, "only_here", module)
    with pytest.raises(DomainLoadError, match=r"^the train function could not be loaded in another .* 'only_here'"):
        lab.run_sweep(experiment("a"), module.train, logdir=tmp_path / "logs", executor="process")
    assert not (tmp_path / "logs").exists()


def test_a_server_that_does_not_get_ready(tmp_path):
    class Fatal:
        def __reduce__(self):
            return os._exit, (3,)

    with pytest.raises(ExecutorError, match=r"^the process that forks the runs did not get ready; its last words: "):
        lab.run_sweep(experiment("a"), Fatal(), logdir=tmp_path / "logs", executor="process")
    assert not (tmp_path / "logs").exists()


USED_FRAMEWORK = """
import keras
import numpy as np
import hparams_lab as lab

NORMALIZED = keras.layers.Normalization()
NORMALIZED.adapt(np.ones((8, 2)))  # it runs where the module is imported: no fork survives that
EXPERIMENT = lab.Experiment([lab.HParam("x", lab.Discrete([1, 2]))], [lab.Metric("loss")])


def load_data():
    return (np.ones((8, 2)), np.ones((8, 4))), (np.ones((8, 2)), np.ones((8, 4)))


def build_model(hparams):
    model = keras.Sequential([keras.layers.Dense(4)])
    model.compile("sgd", "mse")
    return model
"""


@pytest.mark.slow
def test_a_module_that_ran_its_framework_gets_fresh_interpreters_and_no_fork(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "READY_SECONDS", 600.0)
    (tmp_path / "used.py").write_text(USED_FRAMEWORK)
    said = []
    options = {"logdir": tmp_path / "logs", "executor": "process", "workers": 1, "timeout": 120}
    runs = lab.run_sweep(str(tmp_path / "used.py"), observe=said.append, **options).runs
    assert [run.outcome for run in runs] == [Outcome.COMPLETED] * 2
    (note,) = (event.text for event in said if isinstance(event, SweepNote))
    assert note.startswith("TensorFlow ran while the domain was loaded, and a fork would hang; each run gets a fresh ")
    assert not list(tmp_path.glob("logs/run-*/output-1.log"))
