"""Fixtures that more than one test file uses."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

# Before anything imports TensorFlow: quiet, and on the CPU, where the same seed gives the same numbers.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

# A shell's background jobs ignore Ctrl-C, and so would every process that a test starts, were this not said.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def mnist_npz() -> Path:
    """The real MNIST, as Keras keeps it: `x_train`, `y_train`, `x_test`, `y_test`."""
    checkout = Path(__file__).resolve().parents[1]
    beside, cached = checkout.parent / "shared/data/mnist.npz", Path.home() / ".keras/datasets/mnist.npz"
    named = os.environ.get("HPARAMS_LAB_MNIST")
    for candidate in [Path(named)] if named else [beside, cached]:
        if candidate.is_file():
            return candidate
    pytest.skip(f"no MNIST: not in $HPARAMS_LAB_MNIST ({named or 'unset'}), {beside} or {cached}")


@pytest.fixture
def weird_tmp_path(tmp_path: Path) -> Path:
    """A directory whose name breaks what does not quote: a leading dash, spaces, quotes, a newline, unicode, `..`."""
    path = tmp_path / '-- it\'s "odd"\n$HOME..%20 ünï→試'
    path.mkdir()
    return path
