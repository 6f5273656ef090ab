"""`Board`: how it starts and stops TensorBoard, and that a TensorBoard that runs follows what is logged."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from tensorboard_client import Client, eventually, processes, session
from tiers import one_quick

import hparams_lab as lab
from hparams_lab.board.server import Board
from hparams_lab.core.errors import ExecutorError, UsageError

linux = pytest.mark.skipif(not Path("/proc/self/limits").exists(), reason="reads /proc, which only Linux has")


@pytest.fixture
def logdir(tmp_path: Path) -> Path:
    """A directory with one run of its own hparams, nothing declared."""
    with lab.start_run(tmp_path / "mine", hparams={"units": 16, "rate": 0.1, "layers": 2}) as run:
        run.log({"accuracy": 0.5}, step=1)
    return tmp_path / "mine"


def ended(logdir: Path) -> bool:
    return eventually(lambda: not processes(str(logdir)), seconds=20)


@pytest.mark.parametrize("loader", one_quick(["true", "false"]), ids=["rust", "python"])
def test_a_running_tensorboard_follows_new_runs_and_new_columns(logdir: Path, loader: str) -> None:
    with Board(logdir, 0, [f"--load_fast={loader}", "--reload_interval=1"]) as board:
        client = Client(board.url)
        client.loaded(1, 1, "accuracy")
        assert set(client.columns()) == {"units", "rate", "layers"}
        with lab.start_run(logdir, hparams={"units": 32, "rate": 0.1, "layers": 2, "optimizer": "sgd"}) as run:
            run.log({"accuracy": 0.75, "loss": 0.25}, step=1)
            (going,) = eventually(lambda: [group for group in client.groups() if len(group["hparams"]) == 4])
            assert session(going)["status"] == "STATUS_UNKNOWN"
        columns = eventually(client.columns, lambda found: "optimizer" in found)
        assert columns["units"]["domainInterval"] == {"minValue": 16, "maxValue": 32}
        assert columns["units"]["differs"]
        client.loaded(2, 1, "loss")
        client.loaded(2, 2, "accuracy")
        eventually(lambda: {session(group)["status"] for group in client.groups()} == {"STATUS_SUCCESS"})
        assert len(client.groups({"hparam": "optimizer", "order": "ORDER_ASC"})) == 2
        rows = client.groups({"hparam": "optimizer", "filterDiscrete": ["sgd"], "excludeMissingValues": True})
        assert [group["hparams"]["units"] for group in rows] == [32]
    assert [child.name for child in (logdir / "_experiment").iterdir() if child.name.isdigit()] != ["1"]


@linux
def test_nothing_is_left_of_a_board_that_was_left(logdir: Path) -> None:
    with Board(logdir, 0, ["--load_fast=true"]) as board:
        assert processes(str(logdir))
        with urllib.request.urlopen(board.url.partition("#")[0], timeout=30) as page:
            assert b"TensorBoard" in page.read()
    assert ended(logdir)


@linux
def test_nothing_is_left_when_the_block_raises(logdir: Path) -> None:
    with pytest.raises(ZeroDivisionError), Board(logdir, 0):
        raise ZeroDivisionError
    assert ended(logdir)


def test_two_boards_with_port_0_have_addresses_of_their_own(logdir: Path) -> None:
    with Board(logdir, 0) as one, Board(logdir, 0) as other:
        assert one.url != other.url
        assert one.url.startswith("http://127.0.0.1:")
        assert one.url.endswith("/#hparams")
        assert Client(one.url).loaded(1, 1, "accuracy") == Client(other.url).loaded(1, 1, "accuracy")


def test_a_taken_port_is_said_in_one_line(logdir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError) as caught, Board(logdir, port):
            pass
    assert str(caught.value) == f"port {port} is taken; choose another with --port, 0 for any free one"
    assert ended(logdir)


def test_an_option_that_tensorboard_does_not_have_is_said_in_one_line(logdir: Path) -> None:
    with pytest.raises(ExecutorError, match=r"TensorBoard did not start.*--no-such-option") as caught:
        Board(logdir, 0, ["--no-such-option"]).__enter__()
    assert "\n" not in str(caught.value)


def test_directories_named_like_an_option_beside_a_module_named_like_a_part_of_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "threading.py").write_text("raise SystemExit('not the real one')")
    for name in ("--reload", "~"):
        with lab.start_run(name, hparams={"units": 16}) as run:
            run.log({"accuracy": 0.5}, step=1)
        with Board(Path(name), 0) as board:
            Client(board.url).loaded(1, 1, "accuracy")


@linux
def test_tensorboard_may_open_as_many_files_as_the_system_allows(logdir: Path) -> None:
    before = soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 1000), hard))
    try:
        with Board(logdir, 0):
            limits = [Path(f"/proc/{pid}/limits").read_text() for pid in processes(str(logdir))]
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == min(soft, 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    opened = [line.split()[3:5] for text in limits for line in text.splitlines() if line.startswith("Max open files")]
    assert opened
    assert all(soft == hard for soft, hard in opened)


@linux
def test_the_command_takes_tensorboard_with_it_however_it_ends(logdir: Path) -> None:
    command = [sys.executable, "-m", "hparams_lab", "board", str(logdir), "--port", "0"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    ends = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL]
    with contextlib.ExitStack() as stack:
        started = [
            stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment))
            for _ in ends
        ]
        try:
            for process in started:
                assert process.stdout is not None
                assert process.stdout.readline().startswith("1 run, 1 trial; TensorBoard's HParams tab: http://127.0.0.1:")
                assert process.stdout.readline() == "Ctrl-C stops it.\n"
            for process, end in zip(started, ends, strict=True):
                process.send_signal(end)
            statuses = [process.wait(20) for process in started]
        finally:
            for process in started:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
    assert statuses == [0, -signal.SIGTERM, -signal.SIGHUP, -signal.SIGKILL]
    assert ended(logdir)
