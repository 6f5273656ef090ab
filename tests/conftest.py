"""Fixtures that more than one test file uses."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before anything imports TensorFlow: quiet, and on the CPU, where the same seed gives the same numbers.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

# A shell's background jobs ignore Ctrl-C, and so would every process that a test starts, were this not said.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """What repeats at length what another test shows once is left out unless it is asked for."""
    parser.addoption("--all", action="store_true", help="run the slow tests too")


def is_quick(config: pytest.Config) -> bool:
    """Whether slow tests are left out: neither all are asked for, nor tests by their marks, nor one by its name."""
    return not (config.getoption("all") or config.getoption("markexpr") or any("::" in given for given in config.args))


def pytest_report_header(config: pytest.Config) -> str | None:
    """Says so above the tests."""
    return "without the slow tests; --all runs them too" if is_quick(config) else None


def pytest_configure(config: pytest.Config) -> None:
    """A worker of pytest-xdist is what the program that started it is: its arguments, its terminal."""
    given = getattr(config, "workerinput", {}).get("mainargv")
    if given:
        sys.argv = [*given]
        sys.orig_argv = [sys.executable, "-m", "pytest", *given[1:]]
        os.environ.pop("COLUMNS", None)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests that share a fixture of their module go to one worker: it would be set up once in each."""
    slow = [item for item in items if is_quick(config) and item.get_closest_marker("slow")]
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in {*slow}]
    if not hasattr(config, "workerinput"):
        return
    for item in items:
        known = getattr(item, "_fixtureinfo").name2fixturedefs.items()  # noqa: B009
        shared = sorted(name for name, found in known if found[-1].scope == "module")
        if shared:
            item.add_marker(pytest.mark.xdist_group(f"{item.path.name}-{'-'.join(shared)}"))


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
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A directory on another file system than `tmp_path`."""
    for place in ("/dev/shm", tempfile.gettempdir()):
        if os.path.isdir(place) and os.access(place, os.W_OK) and os.stat(place).st_dev != tmp_path.stat().st_dev:
            with tempfile.TemporaryDirectory(dir=place) as folder:
                yield Path(folder)
            return
    pytest.skip("needs two file systems; here /dev/shm and the temporary files lie on one")


@pytest.fixture
def weird_tmp_path(tmp_path: Path) -> Path:
    """A directory whose name breaks what does not quote: a leading dash, spaces, quotes, a newline, unicode, `..`."""
    path = tmp_path / '-- it\'s "odd"\n$HOME..%20 ünï→試'
    path.mkdir()
    return path


@pytest.fixture
def lab_command(capsys):
    """`lab_command(arguments...)`, one by one or in one text, runs `hparams-lab` here: exit code, output and errors."""
    from hparams_lab.cli.main import main

    def call(*arguments):
        given = arguments[0].split() if len(arguments) == 1 else [*map(str, arguments)]
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit:
            main(given)
        return exit.value.code, *capsys.readouterr()

    return call


@pytest.fixture
def call(lab_command):
    """`call(arguments...)` is what a command prints, which succeeds."""

    def run(*arguments):
        code, said, errors = lab_command(*arguments)
        assert code == 0, errors
        return said

    return run


@pytest.fixture
def lines_of(lab_command):
    """`lines_of(arguments...)` is the lines that a command prints; with `refused=True` its one line of error."""

    def call(*arguments, refused=False):
        code, said, errors = lab_command(*arguments)
        assert (code, bool(errors)) == (2 * refused, refused), errors
        if not refused:
            return said.splitlines()
        assert (said, errors.count("\n")) == ("", 1)
        return errors.removeprefix("error: ").rstrip("\n")

    return call


@pytest.fixture
def not_root(tmp_path):
    """`with not_root():` is somebody who may not read everything, also where the tests are root's."""

    @contextlib.contextmanager
    def as_nobody():
        if os.geteuid() != 0:
            yield
            return
        closed = {
            path: path.stat().st_mode for path in (tmp_path, *tmp_path.parents) if path.stat().st_mode & 0o55 != 0o55
        }
        for path, mode in closed.items():
            path.chmod(mode | 0o55)
        os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(0)
            for path, mode in closed.items():
                path.chmod(mode)

    return as_nobody
