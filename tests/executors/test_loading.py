"""What a domain module draws and starts where it is imported, in real processes: alike everywhere, and no run hangs."""

import random
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import hparams_lab as lab
from hparams_lab.core.outcome import Outcome
from hparams_lab.executors import process
from hparams_lab.sweep.events import RunStarted, SweepNote
from hparams_lab.targets.load import load_domain
from hparams_lab.targets.seeding import loading_alike, seed_everything
from tests.tiers import slow

DRAWS = """
import random
import numpy as np
import hparams_lab as lab
import drawn_beside

EXPERIMENT = lab.Experiment([lab.HParam("x", lab.Discrete([1, 2, 3]))], [lab.Metric("python", goal="min")])
PYTHON, NUMPY = random.random(), float(np.random.standard_normal())


def train(run):
    return {"python": PYTHON, "numpy": NUMPY, "beside": drawn_beside.VALUE, "own": random.random()}
"""


def draws_in(folder):
    (folder / "drawn_beside.py").write_text("import random\nVALUE = random.gauss(0, 1)\n")
    (folder / "draws.py").write_text(DRAWS)
    return str(folder / "draws.py")


def swept(domain, logdir, **options):
    """What the runs measured, each once, and what was said of the sweep."""
    said = []
    results = lab.run_sweep(domain, logdir=logdir, observe=said.append, **options)
    assert [run.outcome for run in results.runs] == [Outcome.COMPLETED] * len(results.runs)
    notes = [event.text for event in said if isinstance(event, SweepNote)]
    return [dict(run.metrics) for run in results.runs], notes


def in_a_program(code, folder):
    """What a Python program prints that imports nothing but what it says."""
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, timeout=120)
    return done.stdout


def drawn(runs):
    return {(run["python"], run["numpy"], run["beside"]) for run in runs}


def test_what_a_module_draws_is_the_same_in_forks_fresh_interpreters_inline_and_after_a_resume(tmp_path, monkeypatch):
    source = draws_in(tmp_path)
    forked, _ = swept(source, tmp_path / "forked", trials=1, workers=1)
    resumed, _ = swept(source, tmp_path / "forked", extend=True, trials=3, workers=1)
    assert len(resumed) == 3
    inline = f"""
        import random, sys
        random.seed(5)
        import hparams_lab as lab
        runs = lab.run_sweep({source!r}, logdir="inline", executor="inline", observe=lambda event: None).runs
        print([dict(run.metrics) for run in runs])
    """
    here = eval(in_a_program(inline, tmp_path))
    monkeypatch.setattr(process._Lane, "__init__", _begin_anew(process._Lane.__init__))
    fresh, _ = swept(source, tmp_path / "fresh", workers=1)
    assert len(drawn([*forked, *resumed, *here, *fresh])) == 1
    own = [{run["own"] for run in runs} for runs in (resumed, here, fresh)]
    assert own[0] == own[1] == own[2]
    assert len(own[0]) == 3  # the runs' own numbers are of their own seeds


def _begin_anew(made):
    def make(lane, *args, **options):
        made(lane, *args, **options)
        lane.forks_hang = True

    return make


def test_what_the_module_of_a_function_draws_is_the_same_in_a_fork_and_in_a_fresh_interpreter(tmp_path):
    """The module is imported where the function is unpickled."""
    draws_in(tmp_path)
    program = """
        import sys
        sys.path.insert(0, ".")
        import draws, hparams_lab as lab
        from hparams_lab.executors import process
        for name in ("forked", "fresh"):
            made = process._Lane.__init__
            def make(lane, *args, **options):
                made(lane, *args, **options)
                lane.forks_hang = name == "fresh"
            process._Lane.__init__ = make
            runs = lab.run_sweep(draws.EXPERIMENT, draws.train, logdir=name, trials=1, observe=lambda event: None).runs
            print(dict(runs[0].metrics))
            process._Lane.__init__ = made
    """
    forked, fresh = map(eval, in_a_program(program, tmp_path).splitlines())
    assert forked == fresh


@slow
def test_what_a_module_draws_is_the_same_with_ray(tmp_path):
    pytest.importorskip("ray")
    source = draws_in(tmp_path)
    forked, _ = swept(source, tmp_path / "forked", workers=1, trials=1)
    with_ray, _ = swept(source, tmp_path / "ray", workers=1, trials=1, executor="ray")
    assert forked == with_ray


def test_loading_a_domain_leaves_the_callers_generators_alone(tmp_path, monkeypatch):
    source = draws_in(tmp_path)
    random.seed(1)
    np.random.seed(1)
    wanted = random.random(), np.random.random()
    random.seed(1)
    np.random.seed(1)
    load_domain(source)
    monkeypatch.delitem(sys.modules, "drawn_beside")
    assert (random.random(), np.random.random()) == wanted


def test_a_framework_imported_while_something_is_loaded_in_a_run_has_the_runs_seed_after_it(tmp_path, monkeypatch):
    """As where a run of its own interpreter loads the data: PyTorch is seeded for them, and then for the run."""
    seeds = []
    for name in ("torch", "tensorflow"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    (tmp_path / "torch.py").write_text("seeds = []\nmanual_seed = seeds.append\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    state = random.getstate()
    try:
        seed_everything(7)
        with loading_alike():
            import torch

            seeds.extend(torch.seeds)
        assert (seeds, torch.seeds) == ([0], [0, 7])
    finally:
        random.setstate(state)
        sys.modules.pop("torch")


STARTS = {
    "a pool": """
from concurrent.futures import ThreadPoolExecutor
POOL = ThreadPoolExecutor(1)
POOL.submit(int).result()
def computed(): return POOL.submit(float, 1).result()
""",
    "a thread and its queues": """
import queue, threading
ASKED, ANSWERS = queue.Queue(), queue.Queue()
def answers():
    while True:
        ANSWERS.put(float(ASKED.get()))
threading.Thread(target=answers, daemon=True, name="answers").start()
def computed():
    ASKED.put(1)
    return ANSWERS.get()
""",
    "a thread that Python does not list": """
import _thread, queue
ASKED, ANSWERS = queue.Queue(), queue.Queue()
def answers():
    while True:
        ANSWERS.put(float(ASKED.get()))
_thread.start_new_thread(answers, ())
def computed():
    ASKED.put(1)
    return ANSWERS.get()
""",
}
HARMLESS = {
    "a pool of OpenBLAS": """
import numpy as np
ONES = np.ones((400, 400))
ONES @ ONES
def computed(): return float((ONES @ ONES)[0, 0]) / 400
""",
    "the thread of a progress bar": """
import threading
class TMonitor(threading.Thread):
    def run(self): threading.Event().wait()
TMonitor(daemon=True).start()
def computed(): return 1.0
""",
    "a thread that has ended": """
import threading
thread = threading.Thread(target=int)
thread.start()
thread.join()
def computed(): return 1.0
""",
}
DOMAIN = """
import os
import hparams_lab as lab
EXPERIMENT = lab.Experiment([lab.HParam("x", lab.Discrete([1, 2]))], [lab.Metric("one", goal="min")])
def train(run): return {"one": computed(), "parent": os.getppid(), "imported_by": IMPORTED_BY}
IMPORTED_BY = os.getpid()
"""


@pytest.fixture
def patient(monkeypatch):
    """What hangs is stopped for its time, long before a fork that hangs would be taken for one."""
    monkeypatch.setattr(process, "READY_SECONDS", 600.0)
    return {"timeout": 60, "workers": 1, "cpus_per_run": 2}


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
@pytest.mark.parametrize("started", STARTS)
def test_a_module_that_starts_a_thread_gets_no_fork_and_it_is_said_before_the_first_run(started, tmp_path, patient):
    (tmp_path / "starts.py").write_text(STARTS[started] + DOMAIN)
    events = []
    options = {"logdir": tmp_path / "logs", "observe": events.append, **patient}
    runs = lab.run_sweep(str(tmp_path / "starts.py"), **options).runs
    assert [run.metrics.get("one") for run in runs] == [1.0, 1.0]
    assert len({run.metrics["imported_by"] for run in runs}) == 2
    said = [number for number, event in enumerate(events) if isinstance(event, SweepNote)]
    begun = [number for number, event in enumerate(events) if isinstance(event, RunStarted)]
    assert len(said) == 1
    assert said[0] < begun[0]
    assert "while the domain was loaded, and a fork would hang; each run gets a fresh inter" in events[said[0]].text
    assert "move what computes at module level into train() or load_data()" in events[said[0]].text


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
@pytest.mark.parametrize("started", HARMLESS)
def test_threads_that_no_fork_misses_are_no_reason(started, tmp_path, patient):
    (tmp_path / "starts.py").write_text(HARMLESS[started] + DOMAIN)
    runs, notes = swept(str(tmp_path / "starts.py"), tmp_path / "logs", **patient)
    assert [run["one"] for run in runs] == [1.0, 1.0]
    assert len({run["imported_by"] for run in runs}) == 1
    assert notes == []


@slow
def test_with_ray_it_is_said_once_too(tmp_path, patient):
    pytest.importorskip("ray")
    (tmp_path / "starts.py").write_text(STARTS["a pool"] + DOMAIN)
    _, notes = swept(str(tmp_path / "starts.py"), tmp_path / "logs", executor="ray", timeout=60, workers=2)
    assert len(notes) == 1
    assert "a fork would hang" in notes[0]
