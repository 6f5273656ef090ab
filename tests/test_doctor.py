"""`hparams-lab doctor`: each ailment is found, and a healthy directory has none."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hostile_dirs import mixed
from sick_logs import (
    END,
    NAME,
    SECOND,
    SECOND_WRITER,
    SICK,
    TWO,
    VERSION,
    experiment,
    point,
    run,
    sick,
    start,
    wild_header,
    write,
)
from tensorboard.plugins.hparams import api_pb2

import hparams_lab as lab
from hparams_lab.cli.main import main
from hparams_lab.doctor.ailment import Severity
from hparams_lab.doctor.examine import examine
from hparams_lab.doctor.repair import repair_in_place, repair_into
from hparams_lab.doctor.tree import Tree

Doctor = Callable[..., "Said"]
ERRORS = {
    "several-experiments", "several-sweeps", "undeclared-hparam", "undeclared-metric", "mixed-types", "two-writers",
    "corrupt", "wild-length", "huge-step", "broken-hparams", "odd-scalar", "steps-back",
}  # fmt: skip


@dataclass
class Said:
    """What a command said; `words` is its output with every stretch of spaces as one."""

    code: int
    output: str
    errors: str

    @property
    def words(self) -> str:
        return " ".join(self.output.split())


@pytest.fixture
def doctor(capsys: pytest.CaptureFixture[str]) -> Doctor:
    """`doctor(arguments)` runs the command."""

    def call(*arguments: object) -> Said:
        with pytest.raises(SystemExit) as exit:
            main(["doctor", *map(str, arguments)])
        return Said(int(exit.value.code or 0), *capsys.readouterr())

    return call


def names(root: Path) -> list[str]:
    return [ailment.name for ailment in examine(root).ailments]


@pytest.mark.parametrize("name", SICK)
def test_each_ailment_is_found_and_no_other(tmp_path: Path, name: str, doctor: Doctor) -> None:
    root = sick(tmp_path, name)
    (found,) = examine(root).ailments
    assert found.name == name
    assert found.severity is (Severity.ERROR if name in ERRORS else Severity.WARNING)
    assert all("\n" not in words and words for words in (found.what, found.effect, found.cure))
    assert all((root / file).exists() for file in found.files)
    assert doctor(root).code == (name in ERRORS)


def test_a_directory_of_a_healthy_tool_has_none(tmp_path: Path) -> None:
    diagnosis = examine(write(tmp_path, TWO))
    assert diagnosis.ailments == ()
    assert diagnosis.runs == 2


def test_our_own_directories_are_healthy(tmp_path: Path, doctor: Doctor) -> None:
    for units in (16, 32.0):
        with lab.start_run(tmp_path / "mine", hparams={"units": units, "rate": 0.1}, provenance=False) as one:
            one.log({"accuracy": 0.5}, step=1)
    experiment = lab.Experiment([lab.HParam("units", lab.Discrete([16, None]))], [lab.Metric("accuracy")])
    lab.run_sweep(experiment, _train, logdir=tmp_path / "sweep", executor="inline", observe=lambda event: None)
    assert names(tmp_path / "mine") == []
    assert names(tmp_path / "sweep") == []
    shown = doctor(tmp_path / "mine")
    assert shown.words.endswith("mine: 2 runs, nothing is wrong")
    assert shown.code == 0


def _train(run: lab.Run) -> dict[str, float]:
    run.log({"loss": 1.0}, step=1)
    return {"accuracy": 0.5}


def test_a_run_that_goes_on_is_no_ailment(tmp_path: Path, doctor: Doctor) -> None:
    with lab.start_run(tmp_path, hparams={"units": 16}, provenance=False) as going:
        going.log({"accuracy": 0.5}, step=1)
        going.flush()
        diagnosis = examine(tmp_path)
        assert diagnosis.running == ("run-0000",)
        assert diagnosis.ailments == ()
        assert "1 run (1 running)" in doctor(tmp_path).words


def test_files_of_one_process_and_of_a_later_one_are_no_two_writers(tmp_path: Path) -> None:
    later = VERSION + point(3, 0.75, at=SECOND + 1000) + END
    write(tmp_path, TWO | {"c": run(48, end=b""), "c:events.out.tfevents.1700001000.host.2.0": later})
    write(tmp_path, {"d": run(64, group="d"), "d:events.out.tfevents.1700000000.host.1.1": VERSION + point(3, 0.75)})
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "second",
    [
        VERSION + start({"units": 50}, "later"),
        VERSION + point(1, 0.75, at=SECOND + 0.5) + point(2, 0.75, at=SECOND + 0.5),
    ],
    ids=["other values", "the same tag at the same time"],
)
def test_either_makes_two_writers(tmp_path: Path, second: bytes) -> None:
    write(tmp_path, TWO | {"w": run(48), "w:events.out.tfevents.1700001000.host.2.0": second})
    assert names(tmp_path) == ["two-writers"]


def test_a_torn_record_that_claims_megabytes_is_a_wild_one(tmp_path: Path) -> None:
    write(tmp_path, TWO | {"x": run(48) + wild_header(2**26) + b"x"})
    assert names(tmp_path) == ["wild-length"]


def test_more_runs_than_files_may_be_open(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    write(tmp_path, TWO)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, before[1]))
    try:
        (found,) = examine(tmp_path).ailments
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert (found.name, found.severity, found.repairable) == ("many-files", Severity.WARNING, False)


def test_the_words_on_a_terminal(tmp_path: Path, doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(len(str(tmp_path)) + 80))  # no path is broken over two lines
    root = sick(tmp_path, "mixed-types")
    shown = doctor(root)
    assert shown.words.startswith(f"{root}: 6 runs, 1 error error mixed-types hparam 'rate' has strings in 1,")
    assert "TensorBoard shows: the table, until somebody sorts by this column: then an error" in shown.words
    assert "mended by: a column of strings" in shown.words
    assert shown.words.endswith(f"hparams-lab doctor {root} --repair --output DIR; or with --in-place")


def test_json_is_one_line_that_says_everything(tmp_path: Path, doctor: Doctor) -> None:
    root = sick(tmp_path, "torn")
    shown = doctor(root, "--json")
    found = json.loads(shown.output)
    assert shown.output.count("\n") == 1
    assert (found["logdir"], found["runs"], found["healthy"], found["running"]) == (str(root), 3, True, [])
    (ailment,) = found["ailments"]
    assert (ailment["name"], ailment["severity"], ailment["repairable"]) == ("torn", "warning", True)
    assert ailment["files"] == ["e/events.out.tfevents.1700000000.host.1.0"]


def test_names_with_brackets_and_newlines_are_shown_as_they_are(weird_tmp_path: Path, doctor: Doctor) -> None:
    root = write(weird_tmp_path / "[red]x[/red]", TWO | {"[bold]c\n": run("auto"), "d": run(9)})
    shown = doctor(root)
    assert "[red]x[/red]" in shown.output
    assert "[bold]c" in shown.output
    assert shown.code == 1


def test_a_directory_of_hostile_files_is_looked_through(tmp_path: Path) -> None:
    mixed(tmp_path / "mixed")
    found = {ailment.name: ailment for ailment in examine(tmp_path / "mixed").ailments}
    assert {"wild-length", "corrupt", "unreadable", "symlink", "torn"} <= found.keys()
    assert not any("-good/" in file for ailment in found.values() for file in ailment.files)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "does not exist; name a directory that a sweep or run was logged to"),
        (lambda path: path.write_text("x"), "is a file; name a directory that a sweep or run was logged to"),
        (lambda path: path.mkdir(), "holds no event file (none with tfevents in its name); is it the right one?"),
    ],
    ids=["missing", "file", "empty"],
)
def test_what_is_no_log_directory_is_said_in_a_line(tmp_path: Path, make: object, message: str, doctor: Doctor) -> None:
    make(tmp_path / "logs")  # type: ignore[operator]
    shown = doctor(tmp_path / "logs")
    assert shown.code == 2
    assert (shown.output, shown.errors.count("\n")) == ("", 1)
    assert message in shown.errors


def test_a_file_with_nothing_in_it_is_told(tmp_path, doctor):
    root = write(tmp_path / "logs", TWO | {"lost": b""})
    told = doctor(root)
    assert told.code == 0
    assert "1 file with nothing in it" in told.output
    assert "lost/" in told.output


INSTEAD = {
    b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n": "a Git LFS pointer",
    gzip.compress(run(16)): "compressed by gzip",
    b"\n<!DOCTYPE html><html></html>": "an HTML page",
    b"PK\x03\x04" + bytes(99): "a zip archive",
}


@pytest.mark.parametrize("data", INSTEAD, ids=INSTEAD.values())
def test_what_is_no_event_file_is_named_and_left_alone(tmp_path: Path, data: bytes) -> None:
    root = write(tmp_path / "logs", {"a": data, "b": run(16)})
    found = next(one for one in examine(root).ailments if one.name == "not-events")
    assert found.what == f"1 file: {INSTEAD[data]} in the place of an event file"
    assert not found.repairable
    assert "corrupt" not in names(root)
    repair_in_place(Tree(root), 4e9)
    assert (root / "a" / NAME).read_bytes() == data
    assert names(root) == ["not-events"]


def test_many_columns_without_a_domain_are_one_line(tmp_path: Path) -> None:
    infos = [api_pb2.HParamInfo(name=f"h{number}", type=api_pb2.DATA_TYPE_FLOAT64) for number in range(60)]
    values = {f"h{number}": 1.0 for number in range(60)}
    root = write(tmp_path, {"": VERSION + experiment(infos, "accuracy"), "a": run(16, **values)})
    (found,) = [one for one in examine(root).ailments if one.name == "domain"]
    assert found.what == "60 hparams have no domain: 'h0', 'h1', 'h2' and 57 more"


def test_scalars_without_hparams_are_not_called_nothing_wrong(tmp_path: Path) -> None:
    write(tmp_path, {"a": VERSION + point(1, 0.5), "b/c": VERSION + point(1, 0.5)})
    (found,) = examine(tmp_path).ailments
    assert (found.name, found.what) == ("no-hparams", "2 directories with scalars, and no hyperparameters")


def test_one_repair_leaves_nothing_for_a_second(tmp_path: Path) -> None:
    """The second writer of one directory has the values of another run: found once it has a directory of its own."""
    write(tmp_path / "logs", {"a": run(16), f"a:{SECOND_WRITER}": run(12, group="v"), "b": run(12), "c": run(True)})
    kept = {path: path.read_bytes() for path in (tmp_path / "logs").rglob("*tfevents*")}
    done = repair_into(Tree(tmp_path / "logs"), tmp_path / "mended", 4e9)
    assert not examine(done.root).ailments
    assert all((tmp_path / "mended" / name).exists() or (tmp_path / "logs" / name).exists() for name in done.changed)
    done = repair_in_place(Tree(tmp_path / "logs"), 4e9)
    assert not examine(done.root).ailments
    assert done.backup is not None
    for path, data in kept.items():
        backed = done.backup / path.relative_to(tmp_path / "logs")
        assert (backed if backed.exists() else path).read_bytes() == data
