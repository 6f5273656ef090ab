"""JAX and PyTorch that ran where the domain was loaded: fresh interpreters at once, and a line that says so."""

import subprocess
import sys
import textwrap

import pytest

PROGRAM = """
import sys
import hparams_lab as lab
from hparams_lab.executors import process
from hparams_lab.sweep.events import SweepNote

process.READY_SECONDS = 600.0  # nothing waits until a fork has hung
EXPERIMENT = lab.Experiment([lab.HParam("x", lab.Discrete([0.5, 2.0]))], [lab.Metric("y", goal="min")])
said = []
options = {"logdir": "logs", "workers": 1, "cpus_per_run": 2, "timeout": 90, "observe": said.append}
"""
MODULE = """
import hparams_lab as lab
EXPERIMENT = lab.Experiment([lab.HParam("x", lab.Discrete([0.5, 2.0]))], [lab.Metric("y", goal="min")])
"""
OF_A_MODULE = 'results = lab.run_sweep("dom.py", **options)\n'
END = """
print(*[run.outcome.value for run in results.runs], *[event.text for event in said if isinstance(event, SweepNote)])
"""
JAX = "def train(run): return {'y': float((jax.numpy.ones(3) * run.hparams['x']).sum())}\n"
TORCH = "def train(run): return {'y': float((torch.ones(1 << 20) * run.hparams['x']).sum())}\n"
CLOSES = """
import jax
def made():
    weights = jax.numpy.ones(3)
    return lambda run: {"y": float((weights * run.hparams["x"]).sum())}
results = lab.run_sweep(EXPERIMENT, made(), **options)
"""
USES = {
    "a key": ("JAX ran", f"import jax\nKEY = jax.random.key(0)\n{JAX}", OF_A_MODULE),
    "the devices": ("JAX ran", f"import jax\nDEVICES = jax.devices()\n{JAX}", OF_A_MODULE),
    "a closure over an array": ("JAX ran", "", CLOSES),
    "a tensor": (
        "PyTorch started threads",
        f"import torch\nONES = torch.ones(1 << 20) * 2\nONES.sum()\n{TORCH}",
        OF_A_MODULE,
    ),
}


def outcome_of(module, sweep, folder):
    (folder / "dom.py").write_text(MODULE + module)
    (folder / "program.py").write_text(f"{PROGRAM}{textwrap.dedent(sweep)}{END}")
    command = [sys.executable, "program.py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
@pytest.mark.parametrize("use", USES)
def test_a_framework_that_ran_where_the_domain_was_loaded(use, tmp_path):
    who, module, sweep = USES[use]
    name = "torch" if "torch" in module else "jax"
    pytest.importorskip(name, reason=f"needs {name} (pip install {name})")
    said = outcome_of(module, sweep, tmp_path)
    start = f"completed completed {who} while the domain was loaded, and a fork would hang; each run gets a fresh"
    assert said.startswith(start)
    assert said.count("a fork would hang") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
@pytest.mark.parametrize("name", ["jax.numpy", "torch"])
def test_a_framework_that_was_only_imported_is_forked(name, tmp_path):
    pytest.importorskip(name, reason=f"needs {name}")
    module = f"import {name}\n{TORCH if name == 'torch' else JAX}"
    assert outcome_of(module, OF_A_MODULE, tmp_path) == "completed completed"
