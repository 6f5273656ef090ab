"""`doctor --repair`: what a real TensorBoard shows of each ailment, and of the mended directory; nothing is lost."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sick_logs import END, NAME, SECOND_WRITER, SICK, TWO, VERSION, point, run, sick, wild_header, write
from tensorboard_client import Client, eventually, session, values

import hparams_lab as lab
from hparams_lab.board.server import Board, raised_file_limit
from hparams_lab.cli.main import main
from hparams_lab.core.errors import LogDirError
from hparams_lab.core.outcome import Outcome
from hparams_lab.events.write.writer import EventFileWriter
from hparams_lab.logdir.doctor.cures import Change
from hparams_lab.logdir.doctor.examine import examine
from hparams_lab.logdir.doctor.repair import _apply, repair_in_place, repair_into
from hparams_lab.logdir.doctor.salvage import contents as mapped
from hparams_lab.logdir.doctor.salvage import events
from hparams_lab.logdir.doctor.tree import Tree
from hparams_lab.storage.locks import lock_if_free

LATER = 4e9
"""A time at which no run looks as if it were written just now."""


def column(client: Client, name: str) -> dict[str, Any]:
    return client.columns().get(name, {})


def by_run(client: Client) -> dict[str, dict[str, Any]]:
    """The groups by the names of their sessions."""
    return {one["name"]: group for group in client.groups() for one in group["sessions"]}


def answers(client: Client, *columns: dict[str, Any]) -> bool:
    try:
        return bool(client.groups(*columns))
    except AssertionError:
        return False


def accuracies(client: Client, name: str) -> list[float]:
    with contextlib.suppress(AssertionError):
        return [value for _, _, value in client.points(name, "accuracy")]
    return []


# By ailment: what is true of a TensorBoard over the mended directory, and of none over the sick one.
SHOWN: dict[str, Callable[[Client], bool]] = {
    "several-experiments": lambda client: {"units", "depth"} <= client.columns().keys(),
    "undeclared-metric": lambda client: all("accuracy" in values(group) for group in client.groups()),
    "several-sweeps": lambda client: {"units", "rate"} <= client.columns().keys(),
    "domain": lambda client: column(client, "units").get("domainInterval", {}).get("minValue") == 16,
    "undeclared-hparam": lambda client: "depth" in client.columns(),
    "mixed-types": lambda client: answers(client, {"hparam": "rate", "order": "ORDER_ASC"}),
    "left-without-end": lambda client: session(by_run(client)["l"]).get("endTimeSecs", 0) > 0,
    "split-groups": lambda client: by_run(client)["s"]["name"] == by_run(client)["t"]["name"],
    "two-writers": lambda client: by_run(client).get("w-writer-2", {}).get("hparams", {}).get("units") == 64,
    "corrupt": lambda client: accuracies(client, "k") == [0.25, 0.5, 0.75],
    "steps-back": lambda client: accuracies(client, "b2") == [0.25, 0.5, 0.75, 0.875],
    "wild-length": lambda client: accuracies(client, "x") == [0.25, 0.5, 0.75],
    "huge-step": lambda client: answers(client),
    "broken-hparams": lambda client: answers(client),
}
# What TensorBoard shows right: a torn end is lost either way; it guesses the columns of two runs; its fast loader
# leaves out a scalar that is none.
SHOWN_EITHER_WAY = {"torn", "no-experiment", "odd-scalar"}
# Those that one TensorBoard can show at once; each of the last kills it, or its tab.
TOGETHER = [["undeclared-metric", "several-experiments"], ["several-sweeps"], [*SHOWN][3:-3]]
DEADLY = [*SHOWN][-3:]


def is_shown(check: Callable[[Client], bool], client: Client) -> bool:
    try:
        return check(client)
    except (AssertionError, KeyError, OSError):
        return False


@contextlib.contextmanager
def boards(*roots: Path) -> Iterator[list[Client | None]]:
    """A TensorBoard over each directory, all at once; None where it dies of it."""

    def started(root: Path) -> Client | None:
        try:
            return Client(stack.enter_context(Board(root, 0, ["--reload_interval=1"])).url)
        except lab.HParamsLabError:
            return None

    with contextlib.ExitStack() as stack:
        with raised_file_limit(), ThreadPoolExecutor(len(roots)) as pool:  # the limit once, not by each thread
            clients = [*pool.map(started, roots)]
        yield clients


def test_every_ailment_that_tensorboard_shows_is_looked_at() -> None:
    assert SHOWN.keys() | SHOWN_EITHER_WAY == SICK.keys()


def all_right(names: list[str], client: Client) -> bool:
    return all(is_shown(SHOWN[name], client) for name in names)


@pytest.mark.parametrize("names", TOGETHER, ids=lambda names: names[0])
def test_tensorboard_shows_it_wrong_before_and_right_after(tmp_path: Path, names: list[str]) -> None:
    root = sick(tmp_path, *names)
    repair_into(Tree(root), tmp_path / "mended", LATER)
    with boards(root, tmp_path / "mended") as (before, after):
        assert before is not None
        assert after is not None
        eventually(lambda: all_right(names, after))
        runs = len(Tree(root).sessions)
        assert len(eventually(lambda: by_run(before), lambda found: len(found) == runs)) <= len(by_run(after))
        assert [name for name in names if is_shown(SHOWN[name], before)] == []


def test_tensorboard_dies_before_and_shows_all_after(tmp_path: Path) -> None:
    roots = [sick(tmp_path, name) for name in DEADLY]
    everything = sick(tmp_path / "all", *DEADLY)
    repair_into(Tree(everything), tmp_path / "mended", LATER)
    with boards(*roots, tmp_path / "mended") as (*before, after):
        assert after is not None
        eventually(lambda: all_right(DEADLY, after))
        assert set(by_run(after)) == {"a", "b", "x", "h", "y"}
        dead = [
            client is None or not is_shown(SHOWN[name], client) for name, client in zip(DEADLY, before, strict=True)
        ]
        assert dead == [True, True, True]


@pytest.mark.parametrize("name", SICK)
@pytest.mark.parametrize("place", ["copy", "in place"])
def test_a_mended_directory_is_healthy_and_has_every_point(tmp_path: Path, name: str, place: str) -> None:
    root = sick(tmp_path, name)
    before, held = contents(root), points(root)
    tree = Tree(root)
    done = repair_in_place(tree, LATER) if place == "in place" else repair_into(tree, tmp_path / "mended", LATER)
    assert examine(done.root).ailments == ()
    assert sorted(points(done.root)) == sorted(held)
    kept = contents(root) if done.backup is None else contents(root) | contents(done.backup)
    assert {path: kept[path] for path in before} == before
    after = contents(done.root)
    assert set(done.changed) == {path for path in {*before, *after} if before.get(path) != after.get(path)}


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def points(root: Path) -> list[float]:
    """The values of every scalar that the doctor can read, damage or none."""
    found = []
    for path in root.rglob("*tfevents*"):
        with mapped(path) as data:
            found += [
                value.simple_value
                for _, event in events(data, [])
                for value in event.summary.value
                if value.WhichOneof("value") == "simple_value"
            ]
    return found


def test_what_cannot_be_read_is_told_and_stays_in_the_original(tmp_path: Path) -> None:
    root = write(tmp_path / "sick", TWO | {"c": run(48, b"\1" * 40, point(3, 0.75), wild_header(2**60), point(4, 1.0))})
    done = repair_into(Tree(root), tmp_path / "mended", LATER)
    assert [(finding.file, finding.bytes_lost) for finding in done.lost] == [(f"c/{NAME}", 40), (f"c/{NAME}", 12)]
    assert sorted(points(done.root)) == [0.25, 0.25, 0.25, 0.5, 0.5, 0.5, 0.75, 1.0]


def test_a_healthy_directory_is_left_as_it_is(tmp_path: Path) -> None:
    root = write(tmp_path / "fine", TWO)
    before = contents(root)
    done = repair_in_place(Tree(root), LATER)
    assert (done.changed, done.backup, contents(root)) == ((), None, before)
    assert contents(repair_into(Tree(root), tmp_path / "copy", LATER).root) == before


def test_a_run_of_ours_that_was_left_is_still_interrupted_to_the_reader(tmp_path: Path) -> None:
    with lab.start_run(tmp_path / "logs", hparams={"units": 16}, provenance=False) as one:
        one.log({"accuracy": 0.5}, step=1)
    (file,) = (tmp_path / "logs/run-0000").glob("*tfevents*")
    file.write_bytes(file.read_bytes().removesuffix(_last_record(file)))
    (before,) = lab.read(tmp_path / "logs").runs
    repair_in_place(Tree(tmp_path / "logs"), LATER)
    (after,) = lab.read(tmp_path / "logs").runs
    assert (before.outcome, before.ended) == (Outcome.INTERRUPTED, None)
    assert (after.outcome, after.reason) == (Outcome.INTERRUPTED, "left without an end")
    assert after.ended is not None
    assert after.ended == pytest.approx(before.columns["accuracy"].wall_times[-1])


def _last_record(file: Path) -> bytes:
    with mapped(file) as data:
        size = [len(payload) + 16 for payload, _ in events(data, [])][-1]
    return file.read_bytes()[-size:]


def test_steps_begin_at_0_or_are_numbered(tmp_path: Path) -> None:
    now = 1_700_000_000_000
    root = write(
        tmp_path / "sick",
        TWO
        | {"c": run(48)[: len(VERSION)] + b"".join(point(now + step, 0.5) for step in (0, 10, 20))}
        | {"d": run(60, point(2**40, 0.75), point(2**41, 0.875))},
    )
    done = repair_into(Tree(root), tmp_path / "mended", LATER)
    found = {path: _steps(done.root / path / NAME) for path in ("a", "c", "d")}
    assert found == {"a": [1, 2], "c": [0, 10, 20], "d": [0, 1, 2, 3]}


def _steps(file: Path) -> list[int]:
    with mapped(file) as data:
        return [event.step for _, event in events(data, []) for value in event.summary.value if value.tag == "accuracy"]


def test_the_values_of_a_second_writer_without_any_are_those_of_the_first_as_mended(tmp_path: Path) -> None:
    second = VERSION + point(1, 0.75) + point(2, 0.75)
    files = SICK["mixed-types"]() | {"w": run(48, rate=0.5), f"w:{SECOND_WRITER}": second}
    done = repair_into(Tree(write(tmp_path / "sick", files)), tmp_path / "mended", LATER)
    starts = {one.name: one.start for one in Tree(done.root).sessions}
    assert starts["w-writer-2"] == starts["w"]
    assert starts["w"] is not None
    assert starts["w"].hparams["rate"].string_value == "0.5"


@pytest.fixture
def going(tmp_path: Path) -> Iterator[Path]:
    """A directory with a run that goes on, and an ailment."""
    root = sick(tmp_path, "mixed-types")
    with lab.start_run(root, hparams={"units": 5, "rate": 0.25}, name="going", provenance=False) as one:
        one.log({"accuracy": 0.5}, step=1)
        one.flush()
        yield root


def test_a_run_that_goes_on_is_not_touched(going: Path, tmp_path: Path) -> None:
    before = contents(going)
    with pytest.raises(LogDirError, match="run 'going' is running; wait for it to end, or mend a copy"):
        repair_in_place(Tree(going), LATER)
    done = repair_into(Tree(going), tmp_path / "mended", LATER)
    assert contents(going) == before
    (file,) = (path for path in before if path.startswith("going/"))
    assert contents(done.root)[file] == before[file]


def test_a_run_that_was_written_just_now_is_not_mended_in_place(tmp_path: Path) -> None:
    root = sick(tmp_path, "left-without-end")
    with pytest.raises(LogDirError, match="run 'l' has no end and was written a moment ago; wait for it to end"):
        repair_in_place(Tree(root))
    for path in root.rglob("*tfevents*"):
        os.utime(path, (1e9, 1e9))
    assert repair_in_place(Tree(root)).changed == (f"l/{NAME}",)


def command(*arguments: object) -> int:
    with pytest.raises(SystemExit) as exit:
        main(["doctor", *map(str, arguments)])
    return int(exit.value.code or 0)


def test_the_command_mends_a_copy_or_in_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = sick(tmp_path, "mixed-types")
    before = contents(root)
    assert command(root, "--repair", "--output", tmp_path / "mended") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert said.startswith(f"{tmp_path / 'mended'}: ")
    assert "mended: mixed-types" in said
    assert contents(root) == before
    assert command(root, "--repair", "--in-place", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["mended"], found["healthy"], found["lost"]) == (["mixed-types"], True, [])
    assert found["backup"] == f"{root}.backup-1"
    assert before.items() >= contents(Path(found["backup"])).items()
    assert runs_of(root) == runs_of(tmp_path / "mended") != {}


def runs_of(root: Path) -> dict[str, bytes]:
    return {path: data for path, data in contents(root).items() if not path.startswith("_experiment/")}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--repair"], "a repair is --repair with --output DIR (a copy), or --repair with --in-place"),
        (["--in-place"], "a repair is --repair with --output DIR (a copy), or --repair with --in-place"),
        (["--repair", "--in-place", "--output", "x"], "a repair is --repair with --output DIR (a copy)"),
        (["--repair", "--output", "sick/inside"], "would be inside of"),
        (["--repair", "--output", "there"], "is there already; choose another --output, or move it aside"),
    ],
)
def test_bad_usage_is_said_in_a_line_and_changes_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "there", TWO)
    write(tmp_path / "sick", SICK["torn"]())
    before = contents(tmp_path)
    assert command("sick", *arguments) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert message in said.err
    assert contents(tmp_path) == before


def test_a_copy_that_fails_leaves_nothing(tmp_path: Path) -> None:
    root = sick(tmp_path, "torn")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LogDirError, match="cannot be written"):
        repair_into(Tree(root), tmp_path / "file" / "mended", LATER)
    assert {path.name for path in tmp_path.iterdir()} == {"torn", "file"}


def test_odd_names_are_mended_too(weird_tmp_path: Path) -> None:
    root = write(weird_tmp_path / "[red] logs\n", TWO | {"[c] ;'\n": run(48, end=END + point(3, 0.75)[:-9])})
    (root / "[c] ;'\n" / "output.log").write_text("hello")
    done = repair_into(Tree(root), weird_tmp_path / "mended ünï", LATER)
    assert examine(done.root).ailments == ()
    assert (done.root / "[c] ;'\n" / "output.log").read_text() == "hello"


def test_a_directory_that_was_mended_meanwhile_is_not_mended_again(tmp_path: Path) -> None:
    root = sick(tmp_path, "left-without-end")
    one, other = Tree(root), Tree(root)
    os.utime(root / "l" / NAME, (1e9, 1e9))
    with pytest.raises(LogDirError, match=r"was changed meanwhile; look again with hparams-lab doctor"):
        repair_in_place(other, LATER)
    one = Tree(root)
    repair_in_place(one, LATER)
    mended = contents(tmp_path)
    with pytest.raises(LogDirError, match="was changed meanwhile"):
        repair_in_place(one, LATER)
    assert contents(tmp_path) == mended


def test_a_directory_is_mended_by_one_at_a_time(tmp_path: Path) -> None:
    root = sick(tmp_path, "torn")
    before = contents(tmp_path)
    fd = os.open(root, os.O_RDONLY)
    try:
        assert lock_if_free(fd)
        with pytest.raises(LogDirError, match="is being mended by another process; wait for it to end"):
            repair_in_place(Tree(root), LATER)
    finally:
        os.close(fd)
    assert contents(tmp_path) == before


def test_a_run_that_is_gone_on_with_while_it_is_mended_stays(tmp_path: Path) -> None:
    root = sick(tmp_path, "left-without-end")
    file = root / "l" / NAME
    before = file.read_bytes()
    writer = EventFileWriter.append(file)
    with pytest.raises(LogDirError, match="begun to be written meanwhile"):
        _apply(root, [Change(f"l/{NAME}", b"")])
    writer.close()
    assert file.read_bytes() == before


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
def test_what_is_not_copied_is_told_and_not_called_mended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = sick(tmp_path, "torn")
    os.mkfifo(root / "a/tfevents.pipe")
    assert command(root, "--repair", "--output", tmp_path / "mended", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["mended"] == ["torn"]
    assert [lost["file"] for lost in found["lost"]] == ["a/tfevents.pipe", f"e/{NAME}"]


def test_what_a_kill_left_of_a_copy_is_swept_away_and_passed_over(tmp_path: Path) -> None:
    root = sick(tmp_path, "torn")
    code = (
        "import os, sys; from pathlib import Path; from hparams_lab.logdir.doctor import repair; "
        "from hparams_lab.logdir.doctor.tree import Tree; repair._apply = lambda *all: os.kill(os.getpid(), 9); "
        "repair.repair_into(Tree(Path(sys.argv[1])), Path(sys.argv[2]))"
    )
    done = subprocess.run([sys.executable, "-c", code, root, tmp_path / "mended"], check=False)
    assert done.returncode == -9
    (left,) = (path for path in tmp_path.iterdir() if path != root)
    assert any(left.rglob("*tfevents*"))
    assert [run.name for run in lab.read(tmp_path).runs] == ["torn/a", "torn/b", "torn/e"]
    repair_into(Tree(root), tmp_path / "mended", LATER)
    assert {path.name for path in tmp_path.iterdir()} == {"torn", "mended"}


def test_a_full_disk_leaves_each_file_as_it_was_or_mended(tmp_path: Path) -> None:
    root = write(tmp_path / "sick", TWO | {name: run(48, end=b"") for name in ("c", "d", "e")})
    (root / "d" / NAME).write_bytes((root / "d" / NAME).read_bytes() + point(1, 0.5) * 200)
    before = contents(root)
    code = (  # a file may be so long, and no longer: what a full disk does at the same place
        "import resource, signal, sys; from hparams_lab.logdir.doctor.repair import repair_in_place;"
        "from pathlib import Path; from hparams_lab.logdir.doctor.tree import Tree; tree = Tree(Path(sys.argv[1]));"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000));"
        "repair_in_place(tree, 4e9)"
    )
    done = subprocess.run([sys.executable, "-c", code, root], capture_output=True, text=True, check=False)
    backup = tmp_path / "sick.backup-1"
    said = done.stderr.splitlines()[-1]
    assert f"the files that were mended until then are, as they were, in {backup}; mend a copy with" in said
    after = contents(root)
    assert {path for path in before if after[path] != before[path]} == contents(backup).keys() == {f"c/{NAME}"}
    assert contents(backup).items() <= before.items()
    assert after.keys() == before.keys()
