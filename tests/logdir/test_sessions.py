"""Two sessions in one directory are read apart, as `doctor --repair` splits them."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from mutants import VERSION, event, number
from sick_logs import start
from tensorboard_client import Client, eventually, values

from hparams_lab.board.server import Board
from hparams_lab.board.view import View
from hparams_lab.cli.main import main
from hparams_lab.core.curve import extremes
from hparams_lab.core.errors import LogDirError
from hparams_lab.core.findings import Kind
from hparams_lab.core.results import Results
from hparams_lab.logdir.doctor.examine import diagnosis_of
from hparams_lab.logdir.doctor.repair import repair_into
from hparams_lab.logdir.doctor.tree import Tree
from hparams_lab.logdir.membership import owned
from hparams_lab.logdir.merge import merge
from hparams_lab.logdir.reader import LogDirReader, read


def write(
    directory: Path,
    process: int,
    values: list[float],
    hparams: Mapping[str, Any] | None = None,
    at: float = 0,
    number_of_file: int = 0,
    tag: str = "val_loss",
) -> Path:
    """An event file of a process, with a point a second from the time `at` on."""
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / f"events.out.tfevents.{1_700_000_000 + at:.0f}.host.{process}.{number_of_file}"
    session = b"" if hparams is None else start(hparams)
    records = [event([number(tag, value)], step, at + step) for step, value in enumerate(values)]
    file.write_bytes(b"".join([VERSION, session, *records]))
    return file


def told(results: Results) -> dict[str, tuple[dict[str, Any], list[float]]]:
    return {run.name: (dict(run.hparams), run.scalars("val_loss").values.round(3).tolist()) for run in results.runs}


A, B = {"units": 20}, {"units": 12}

DIRECTORIES: dict[str, tuple[list[tuple[Any, ...]], dict[str, tuple[dict[str, Any], list[float]]]]] = {
    "used again": (
        [(1, [0.9, 0.2], A, 0), (2, [0.8, 0.1], B, 1000)],
        {"v": (A, [0.9, 0.2]), "v-writer-2": (B, [0.8, 0.1])},
    ),
    "used again by one process": (
        [(1, [0.9, 0.2], A, 0, 0), (1, [0.8, 0.1], B, 1000, 1)],
        {"v": (A, [0.9, 0.2]), "v-writer-2": (B, [0.8, 0.1])},
    ),
    "used three times, and gone on with": (
        [(1, [0.9], A, 0), (2, [0.8, 0.7], B, 100), (3, [0.6], {"units": 9}, 200), (4, [0.5, 0.4], B, 300)],
        {"v": (A, [0.9]), "v-writer-2": (B, [0.5, 0.4]), "v-writer-3": ({"units": 9}, [0.6])},
    ),
    "the same values again": ([(1, [0.9, 0.2], A, 0), (2, [0.8], A, 1000)], {"v": (A, [0.8])}),
    "gone on with without values": ([(1, [0.9], A, 0), (2, [0.7], B, 100), (3, [0.5], None, 200)],
                                    {"v": (A, [0.9]), "v-writer-2": (B, [0.5])}),
    "a file of values beside one of points": ([(1, [], A, 0, 0), (1, [0.9], None, 0, 1)], {"v": (A, [0.9])}),
    "two such pairs": (
        [(1, [], A, 0, 0), (1, [0.9], None, 0, 1), (2, [], B, 100, 0), (2, [0.8], None, 100, 1)],
        {"v": (A, [0.9]), "v-writer-2": (B, [0.8])},
    ),
    "at one time": (
        [(1, [0.9, 0.8, 0.7], A, 0), (2, [0.6, 0.5, 0.4], B, 1)],
        {"v": (A, [0.9, 0.8, 0.7]), "v-writer-2": (B, [0.6, 0.5, 0.4])},
    ),
    "at one time, with the same values": (
        [(1, [0.9, 0.8, 0.7], A, 0), (2, [0.6, 0.5, 0.4], A, 1)],
        {"v": (A, [0.9, 0.8, 0.7]), "v-writer-2": (A, [0.6, 0.5, 0.4])},
    ),
    "at one time, the values of one": (
        [(1, [0.9, 0.8, 0.7], A, 0), (2, [0.6, 0.5, 0.4], None, 1)],
        {"v": (A, [0.9, 0.8, 0.7]), "v-writer-2": (A, [0.6, 0.5, 0.4])},
    ),
    "at one time, without values": (
        [(1, [0.9, 0.8, 0.7], None, 0), (2, [0.6, 0.5, 0.4], None, 1)],
        {"v": ({}, [0.9, 0.8, 0.7]), "v-writer-2": ({}, [0.6, 0.5, 0.4])},
    ),
    "16 is 16.0": ([(1, [0.9], {"x": 16}, 0), (2, [0.8], {"x": 16.0}, 100)], {"v": ({"x": 16}, [0.8])}),
    "without values of its own": (
        [(1, [0.9], {}, 0), (2, [0.8], A, 100)],
        {"v": ({}, [0.9]), "v-writer-2": (A, [0.8])},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DIRECTORIES)
@pytest.mark.parametrize("thin", [None, extremes])
def test_each_session_has_its_own_values_and_points(tmp_path, name, thin):
    written, wanted = DIRECTORIES[name]
    for each in written:
        write(tmp_path / "logs/v", *each)
    found = told(read(tmp_path / "logs", thin=thin))
    assert {run: (values, points[-1]) for run, (values, points) in found.items()} == {
        run: (values, points[-1]) for run, (values, points) in wanted.items()
    }
    assert {run.dir for run in read(tmp_path / "logs").runs} == {tmp_path / "logs/v"}
    if thin is None:
        assert found == wanted
        repair_into(Tree(tmp_path / "logs"), tmp_path / "mended")
        assert told(read(tmp_path / "mended")) == wanted


@pytest.mark.parametrize("name", DIRECTORIES)
def test_a_second_file_that_comes_later_parts_the_run(tmp_path, name):
    written, wanted = DIRECTORIES[name]
    reader = LogDirReader(tmp_path)
    for each in written:
        write(tmp_path / "v", *each)
        assert told(reader.read()) == told(read(tmp_path))
    assert told(reader.read()) == wanted


def test_the_root_itself_and_names_that_are_taken(tmp_path):
    for where in (".", "run", "run-writer-2"):
        write(tmp_path / "logs" / where, 1, [0.5], A)
        write(tmp_path / "logs" / where, 2, [0.25], B, 100)
    expected = {
        "logs": (A, [0.5]), "run-writer-3": (B, [0.25]), "run": (A, [0.5]), "run-writer-4": (B, [0.25]),
        "run-writer-2": (A, [0.5]), "run-writer-2-writer-2": (B, [0.25]),
    }  # fmt: skip
    assert told(read(tmp_path / "logs")) == expected
    repair_into(Tree(tmp_path / "logs"), tmp_path / "mended")
    assert told(read(tmp_path / "mended")) == {("mended" if n == "logs" else n): run for n, run in expected.items()}


@pytest.mark.parametrize("processes", [(1, 2), (1, 1)])
def test_what_is_below_belongs_to_the_session_of_its_process_or_time(tmp_path, processes):
    for number_of_file, (process, hparams, at) in enumerate(zip(processes, (A, B), (0, 100), strict=True)):
        write(tmp_path / "logs/v", process, [], hparams, at, number_of_file)
        write(tmp_path / "logs/v/validation", process, [at + 1, at + 2], None, at, number_of_file + 5)
    repair_into(Tree(tmp_path / "logs"), tmp_path / "mended")
    for root in (tmp_path / "logs", tmp_path / "mended"):
        found = {run.name: (dict(run.hparams), dict(run.metrics)) for run in read(root).runs}
        assert found == {"v": (A, {"validation/val_loss": 2}), "v-writer-2": (B, {"validation/val_loss": 102})}
    assert diagnosis_of(Tree(tmp_path / "mended")).is_repairable is False


def test_two_writers_below_a_session_stay_two(tmp_path):
    write(tmp_path / "v", 1, [0.5], A)
    for process in (1, 2):
        write(tmp_path / "v/validation", process, [0.1 * process, 0.2, 0.3], None, process)
    (run,) = read(tmp_path).runs
    assert run.scalars("validation/val_loss").values.round(3).tolist() == [0.1, 0.2, 0.3]
    assert run.scalars("validation-writer-2/val_loss").values.round(3).tolist() == [0.2, 0.2, 0.3]


@pytest.mark.parametrize("seed", range(5))
def test_any_directory_reads_as_what_it_is_mended_to(tmp_path, seed):
    """Also as it grows; and no file is of two runs."""
    draw = random.Random(seed)
    for number_of_directory in range(12):
        root, mended = tmp_path / f"{number_of_directory}/logs", tmp_path / f"{number_of_directory}/mended/logs"
        reader = LogDirReader(root)
        for number_of_file in range(draw.randrange(1, 6)):
            where = draw.choice(["v", "v", "v", "v/validation", "w", "run"])
            hparams = None if "/" in where else draw.choice([None, None, A, B, {"units": 3, "layers": 1}, {}])
            values = [round(draw.random(), 2) for _ in range(draw.randrange(hparams is None, 4))]
            at, tag = draw.choice([0, 1, 100, 200]), draw.choice(["val_loss", "loss"])
            write(root / where, draw.choice([1, 1, 2, 3]), values, hparams, at, number_of_file, tag)
            with contextlib.suppress(LogDirError):  # nothing was logged yet
                assert everything(reader.read()) == everything(read(root))
        with contextlib.suppress(LogDirError):
            found = read(root)
            repair_into(Tree(root), mended)
            assert everything(found) == everything(read(mended)), sorted(root.rglob("*tfevents*"))
            assert not diagnosis_of(Tree(mended)).is_repairable
            files = [f"{at.path}/{name}" for one in owned(root, found.runs) for at in one.folders for name in at.files]
            assert len(files) == len({*files})


def everything(results: Results) -> dict[str, Any]:
    return {
        run.name: (dict(run.hparams), {tag: points.values.tolist() for tag, points in run.columns.items()})
        for run in results.runs
    }


def test_what_one_file_does_not_tell_apart_is_said(tmp_path):
    file = write(tmp_path / "v", 1, [0.5], A)
    file.write_bytes(file.read_bytes() + start(A) + start({"layers": 2}) + start({**A, "rate": 0.5}))
    assert read(tmp_path).findings == ()
    assert "mixed-sessions" not in [one.name for one in diagnosis_of(Tree(tmp_path)).ailments]
    file.write_bytes(file.read_bytes() + start(B))
    (finding,) = read(tmp_path).findings
    assert "mixed-sessions" in [one.name for one in diagnosis_of(Tree(tmp_path)).ailments]
    assert (finding.kind, finding.file) == (Kind.MIXED, str(file))
    assert "2 sessions of different values" in finding.reason


# What is made of them.


@pytest.fixture
def used_again(tmp_path):
    """A directory with two sessions, what is below each, and a file of neither; a run of its own."""
    for process, hparams, at in ((1, A, 0), (2, B, 100)):
        write(tmp_path / "logs/v", process, [0.9 + at, 0.2 + at, 0.4 + at], hparams, at)
        write(tmp_path / "logs/v/validation", process, [0.5 + at], None, at)
    (tmp_path / "logs/v/hparams.yaml").write_text("{}")
    write(tmp_path / "logs/other", 3, [7.0], {"units": 1}, 500)
    return tmp_path / "logs"


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    with pytest.raises(SystemExit) as ended:
        main([*map(str, arguments), "--metric", "val_loss", "--min"])
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_show_and_compare_take_a_session_by_its_name(used_again, capsys):
    shown = json.loads(said(capsys, "show", used_again, "v-writer-2", "--json"))
    assert shown["hparams"] == B
    name = "events.out.tfevents.1700000100.host.2.0"
    assert shown["runs"][0]["files"] == [name, f"validation/{name}"]
    assert f"{used_again}/v ({name}, validation/{name})" in said(capsys, "show", used_again, "v-writer-2")
    assert [run["curves"]["val_loss"]["min"] for run in shown["runs"]] == [pytest.approx(100.2)]
    assert [run["curves"]["validation/val_loss"]["last"] for run in shown["runs"]] == [100.5]
    compared = json.loads(said(capsys, "compare", used_again, "v", "v-writer-2", "--json"))
    assert compared["hparams"]["units"]["values"] == [20, 12]
    rows = said(capsys, "top", used_again).splitlines()
    assert [row.split()[1] for row in rows if row.split()[0].isdecimal()][:3] == ["v", "other", "v-writer-2"]


@pytest.mark.parametrize(("kept", "left"), [(2, ["v", "other"]), (1, ["v"])])
def test_prune_takes_of_a_shared_directory_a_sessions_files_only(used_again, capsys, kept, left):
    out = said(capsys, "prune", used_again, "--keep-best", kept, "--yes")
    assert ("of v-writer-2 the event files only: another run is in the same directory" in out) is True
    assert [run.name for run in read(used_again).runs] == sorted(left)
    assert (used_again / "v/hparams.yaml").exists()
    files = sorted(str(path.relative_to(used_again / "v")) for path in (used_again / "v").rglob("*tfevents*"))
    name = "events.out.tfevents.1700000000.host.1.0"
    assert files == [name, f"validation/{name}"]


def test_merge_gives_each_session_a_directory(used_again, tmp_path):
    write(tmp_path / "more/x", 9, [0.1], {"units": 5})
    merge([used_again, tmp_path / "more"], tmp_path / "merged")
    merged = read(tmp_path / "merged").runs
    wanted = [*read(used_again).runs, *read(tmp_path / "more").runs]
    assert {run.name: (run.hparams, run.metrics) for run in merged} == {
        run.name: (run.hparams, run.metrics) for run in wanted
    }
    assert [run.dir.name for run in merged] == ["other", "v", "v-writer-2", "x"]


def test_the_board_shows_each_session(used_again):
    write(used_again / "w", 1, [0.9, 0.8, 0.7], A)
    write(used_again / "w", 2, [0.6, 0.5, 0.4], None, 1)
    with View([used_again]) as view, Board(view.logdir, 0, ["--load_fast=true"]) as board:
        client = Client(board.url)
        assert view.trials == 5
        groups = eventually(client.groups, lambda found: len(found) == 5 and all(map(values, found)))
    shown = {}
    for group in groups:
        metrics = {
            f"{metric['name'].get('group', '')}/{metric['name']['tag']}".lstrip("/"): metric["value"]
            for metric in group["metricValues"]
        }
        shown[group["sessions"][0]["name"]] = group["hparams"], metrics
    assert shown == {run.name: (dict(run.hparams), dict(run.metrics)) for run in read(used_again).runs}
    assert shown.keys() == {"v", "v-writer-2", "other", "w", "w-writer-2"}


def test_what_cannot_be_read_apart_stands_at_the_head(tmp_path, capsys):
    file = write(tmp_path / "logs/v", 1, [0.5], A)
    file.write_bytes(file.read_bytes() + start(B))
    write(tmp_path / "logs/w", 1, [0.25], A)
    warning = f"{file} holds 2 sessions of different values, which cannot be read apart"
    for command in (["top"], ["show", "v"], ["importance"]):
        out = said(capsys, command[0], tmp_path / "logs", *command[1:])
        assert out.startswith(warning)
        assert "damaged" not in out
    pytest.importorskip("plotly")
    said(capsys, "report", tmp_path / "logs", "--output", tmp_path / "r.html")
    assert warning in (tmp_path / "r.html").read_text(encoding="utf-8")
