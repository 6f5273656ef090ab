"""What a run of PyTorch imports: nothing that the fork server could have imported once."""

import pytest

import hparams_lab as lab

pytest.importorskip("torch", reason="needs PyTorch (pip install torch)")

DOMAIN = """
import sys
import threading
import torch
import hparams_lab as lab

EXPERIMENT = lab.Experiment([lab.HParam("lr", lab.Discrete([0.1, 0.2]))], [lab.Metric("imported", goal="min")])
NOISE = torch.randn(2)


def train(run):
    before = {*sys.modules}
    torch.optim.Adam(torch.nn.Linear(1, 1).parameters(), run.hparams["lr"])
    return {"imported": len(sys.modules.keys() - before), "noise": float(NOISE.sum()), "own": float(torch.randn(1))}
"""


def test_a_runs_first_optimizer_imports_nothing_and_what_a_module_drew_is_the_same_again(tmp_path):
    (tmp_path / "optimizes.py").write_text(DOMAIN)
    runs = [
        run
        for name in ("a", "b")
        for run in lab.run_sweep(
            str(tmp_path / "optimizes.py"), logdir=tmp_path / name, workers=1, observe=lambda event: None
        ).runs
    ]
    assert [run.metrics["imported"] for run in runs] == [0] * 4
    assert len({run.metrics["noise"] for run in runs}) == 1
    assert len({run.metrics["own"] for run in runs}) == 2
