"""What `board` shows of several directories and of hostile ones: a `View`, in a real TensorBoard."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile_dirs import mixed
from sick_logs import SICK, TWO, VERSION, experiment, interval, point, run, start, wild_header, write
from tensorboard_client import Client, eventually, values
from tiers import one_quick

import hparams_lab as lab
from hparams_lab.board.server import Board
from hparams_lab.board.view import PREFIX, View
from hparams_lab.cli.board import is_loopback
from hparams_lab.cli.main import main
from hparams_lab.core.errors import LogDirError
from hparams_lab.events.read.instead import in_words
from hparams_lab.logdir.declaration import current_declaration
from hparams_lab.storage.paths import LogDirPaths
from hparams_lab.storage.scratch import scratch


@contextlib.contextmanager
def shown(view: View, loader: str = "true") -> Iterator[Client]:
    with Board(view.logdir, 0, [f"--load_fast={loader}", "--reload_interval=1"]) as board:
        yield Client(board.url)


@contextlib.contextmanager
def command(
    *arguments: object, end: int = signal.SIGTERM, temporary: Path | None = None
) -> Iterator[tuple[str, list[str]]]:
    """`hparams-lab board` as a process: the address, and all lines until then. A signal ends it."""
    called = [sys.executable, "-u", "-m", "hparams_lab", "board", *map(str, arguments), "--port", "0"]
    environment = os.environ | ({"TMPDIR": str(temporary)} if temporary else {})
    with subprocess.Popen(
        called, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            said = []
            for line in process.stdout:
                said.append(line.rstrip("\n"))
                if found := re.search(r"HParams tab: (http://\S+)", line):
                    break
            assert found, said
            yield found[1], said
        finally:
            process.send_signal(end)
            assert process.wait(20) == -end


@pytest.mark.slow
def test_every_good_run_between_hostile_ones_is_in_the_board(tmp_path: Path) -> None:
    good = mixed(tmp_path / "mixed")
    with command(tmp_path / "mixed") as (address, said):
        client = Client(address)
        eventually(lambda: [name for name in good if name not in there(client)], lambda missing: not missing)
        assert said[0] == "withheld from TensorBoard, which would not survive them:"
        assert any("length-2" in line and "the server would ask for the memory" in line for line in said)
        assert f"hparams-lab doctor {tmp_path / 'mixed'} tells more, and mends it with --repair" in said


def there(client: Client) -> set[str]:
    """The groups that have their accuracy."""
    with contextlib.suppress(AssertionError, OSError):
        return {group["name"] for group in client.groups() if "accuracy" in values(group)}
    return set()


@pytest.mark.parametrize("name", ["not an event", "odd-scalar"])
def test_the_slow_loader_gets_still_less(tmp_path: Path, name: str) -> None:
    files = {"not an event": lambda: TWO | {"0": run(9, b"\4" + bytes(7) + b"x" * 12)}} | SICK
    root = write(tmp_path, files[name]())
    if name == "not an event":
        from hparams_lab.events.format.record import frame

        (root / "0").joinpath(next((root / "0").iterdir()).name).write_bytes(VERSION + frame(b"\xff" * 4) + run(9))
    assert View([root]).withheld == {}
    with View([root], slow_loader=True) as view, shown(view, "false") as client:
        assert len(view.withheld) == 1
        eventually(lambda: there(client) == {"group-16", "group-32"})


def test_a_directory_that_is_fine_is_shown_as_it_is(tmp_path: Path) -> None:
    root = write(tmp_path, TWO | SICK["torn"]() | SICK["corrupt"]())
    with View([root]) as view:
        assert (view.logdir, view.withheld, view.trials) == (root, {}, 4)


def test_several_directories_have_one_experiment(tmp_path: Path) -> None:
    for name, hparam in (("one", "units"), ("two", "rate")):
        files = {"": VERSION + experiment([interval(hparam, 0, 64)], f"accuracy-{name}")}
        data = VERSION + start({hparam: 0.5}, name) + point(1, 0.5, f"accuracy-{name}")
        write(tmp_path / name / "logs", files | {"run-0000": data})
    roots = [tmp_path / "one/logs", tmp_path / "two/logs", tmp_path / "one/logs"]
    with View(roots) as view, shown(view) as client:
        assert view.trials == 2
        groups = eventually(client.groups, lambda found: len(found) == 2 and all(map(values, found)))
        assert {group["sessions"][0]["name"] for group in groups} == {"logs/run-0000", "logs-2/run-0000"}
        assert client.columns().keys() == {"units", "rate"}
        assert {tag for group in groups for tag in values(group)} == {"accuracy-one", "accuracy-two"}
    assert not view.logdir.exists() or view.logdir in roots


@pytest.mark.parametrize("loader", one_quick(["true", "false"]), ids=["rust", "python"])
def test_a_view_follows_what_is_new_and_withholds_what_is_hostile(tmp_path: Path, loader: str) -> None:
    root, other = write(tmp_path / "one", SICK["wild-length"]()), write(tmp_path / "two", TWO)
    hostile = tmp_path / "one/x/events.out.tfevents.1700000000.host.1.0"
    with View([root, other], loader == "false") as view, shown(view, loader) as client:
        assert list(view.withheld) == [str(hostile)]
        eventually(lambda: there(client) == {"group-16", "group-32"})
        write(root, {"later-bad": run(60, wild_header(2**50))})
        with lab.start_run(other, hparams={"units": 5, "depth": 3}, name="later", provenance=False) as one:
            one.log({"accuracy": 0.5}, step=1)
            one.flush()
            eventually(lambda: client.points("two/later", "accuracy") if one.trial_id in there(client) else [])
            one.log({"accuracy": 0.75}, step=2)
            one.flush()
            eventually(lambda: [value for _, _, value in client.points("two/later", "accuracy")] == [0.5, 0.75])
        eventually(lambda: "depth" in client.columns())
        assert "later-bad" in " ".join(eventually(lambda: list(view.withheld), lambda found: len(found) == 2))
        assert len(there(client)) == 3
    assert not view.logdir.exists()


def test_a_link_to_a_directory_does_not_bring_back_what_is_withheld(tmp_path: Path) -> None:
    root = write(tmp_path / "logs", SICK["wild-length"]())
    (root / "a/again").symlink_to("..", target_is_directory=True)
    with View([root]) as view:
        assert not (view.logdir / "a/again").exists()
        assert (view.logdir / "a").is_dir()


@pytest.mark.parametrize("name", ["wild-length", "huge-step", "broken-hparams"])
def test_what_kills_the_tab_is_withheld(tmp_path: Path, name: str) -> None:
    with View([write(tmp_path, SICK[name]())]) as view:
        assert len(view.withheld) == 1
        assert view.trials == 2
        assert len(list(view.logdir.rglob("*tfevents*"))) == 1


@pytest.mark.parametrize(
    ("host", "is_one"), [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("box", False)]
)
def test_what_is_this_machine(host: str, is_one: bool) -> None:
    assert is_loopback(host) is is_one


def test_what_is_left_in_the_temporary_directory_is_swept_away(tmp_path: Path) -> None:
    root, temporary = write(tmp_path / "logs", SICK["wild-length"]()), tmp_path / "temporary"
    temporary.mkdir()
    (temporary / f"{PREFIX}link").symlink_to(root)
    with command(root, end=signal.SIGTERM, temporary=temporary):
        ours = seen(temporary)
        assert len(ours) == 1
    assert seen(temporary) == set()  # nothing, the server's log neither
    with command(root, end=signal.SIGHUP, temporary=temporary):
        pass
    assert seen(temporary) == set()
    with command(root, end=signal.SIGKILL, temporary=temporary):
        killed = seen(temporary)
    assert seen(temporary) == killed != set()
    with scratch(temporary, PREFIX) as mine:
        assert seen(temporary) == {mine.name}
        with scratch(temporary, PREFIX) as other:  # of an owner who is there
            assert seen(temporary) == {mine.name, other.name}
    assert (root / "x").is_dir()


def seen(temporary: Path) -> set[str]:
    """What is in it but the link, and the directory in which every TensorBoard puts its address."""
    return {path.name for path in temporary.iterdir() if not path.is_symlink()} - {".tensorboard-info"}


def test_another_host_is_warned_of(tmp_path: Path) -> None:
    with command(write(tmp_path, TWO), "--host", "0.0.0.0") as (_, said):
        assert said[0] == "warning: listening at 0.0.0.0; whoever reaches this machine can read the logs"
        assert said[1].startswith("2 runs, 2 trials; TensorBoard's HParams tab: http://")


def test_what_cannot_be_shown_is_said_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(LogDirError, match="does not exist"):
        View([tmp_path / "nowhere"])
    with pytest.raises(SystemExit) as exit:
        main(["board", str(write(tmp_path, TWO)), "--port", "0", "--host", "203.0.113.7"])
    assert exit.value.code == 2
    said = capsys.readouterr().err.splitlines()
    assert said[1:] == ["error: this machine has no address '203.0.113.7'; leave --host out for 127.0.0.1"]


def test_what_stands_in_the_place_of_event_files_is_said(tmp_path):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    write(tmp_path, {"a": run(16), "b": pointer, "c": pointer})
    said = "2 files: a Git LFS pointer in the place of an event file (fetch the content: git lfs pull)"
    assert [*in_words(View([tmp_path]).instead)] == [said]


def test_metrics_that_all_directories_log_are_declared_though_none_says_so(tmp_path):
    for place, tag in (("one", "f1"), ("two", "auc")):  # each declares, and logs, another one
        files = {"": VERSION + experiment([interval("units", 1, 64)], tag)}
        runs = {name: run(16, point(1, 0.5, tag), point(1, 0.5, "loss")) for name in ("a", "b")}
        write(tmp_path / place, files | runs)
    with View([tmp_path / "one", tmp_path / "two"]) as view:
        message = current_declaration(LogDirPaths(view.logdir))
    assert message is not None
    assert {"f1", "auc", "loss", "accuracy"} == {info.name.tag for info in message.metric_infos}
