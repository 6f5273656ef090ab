"""`hparams-lab doctor`: each ailment is found, and a healthy directory has none."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import tarfile
import zipfile
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
    hparams_record,
    interval,
    point,
    run,
    sick,
    start,
    text_as_scalar,
    wild_header,
    write,
)
from tensorboard.plugins.hparams import api_pb2

import hparams_lab as lab
from hparams_lab.cli.main import main
from hparams_lab.core.errors import LogDirError
from hparams_lab.core.present import Counts
from hparams_lab.events.format.event_file import restart_event
from hparams_lab.events.format.record import frame
from hparams_lab.logdir.doctor.ailment import Severity
from hparams_lab.logdir.doctor.examine import examine
from hparams_lab.logdir.doctor.repair import repair_in_place, repair_into
from hparams_lab.logdir.doctor.tree import Tree

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
    assert diagnosis.counts == Counts(2, 2, 2)


def test_our_own_directories_are_healthy(tmp_path: Path, doctor: Doctor) -> None:
    for units in (16, 32.0):
        with lab.start_run(tmp_path / "mine", hparams={"units": units, "rate": 0.1}, provenance=False) as one:
            one.log({"accuracy": 0.5}, step=1)
    experiment = lab.Experiment([lab.HParam("units", lab.Discrete([16, None]))], [lab.Metric("accuracy")])
    lab.run_sweep(experiment, _train, logdir=tmp_path / "sweep", executor="inline", observe=lambda event: None)
    assert names(tmp_path / "mine") == []
    assert names(tmp_path / "sweep") == []
    shown = doctor(tmp_path / "mine")
    assert shown.words.endswith("mine: 2 runs, 2 trials, nothing is wrong")
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
        assert "1 run, 1 trial (1 running)" in doctor(tmp_path).words


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
    assert shown.words.startswith(f"{root}: 6 runs, 6 trials, 1 error error mixed-types hparam 'rate' has strings in 1")
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


def archive(kind: str) -> bytes:
    """A tar or zip archive of an event file; what is in it lies there as it is, and could be read."""
    made = io.BytesIO()
    if kind == "tar":
        with tarfile.open(fileobj=made, mode="w") as tar:
            member = tarfile.TarInfo("a/events.out.tfevents.1")
            member.size = len(run(16))
            tar.addfile(member, io.BytesIO(run(16)))
    else:
        with zipfile.ZipFile(made, "w") as zip:
            zip.writestr("a/events.out.tfevents.1", run(16))
    return made.getvalue()


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
INSTEAD = {
    "LFS": (LFS, "a Git LFS pointer", "git lfs pull"),
    "LFS by Windows": (b"\xef\xbb\xbf" + LFS.replace(b"\n", b"\r\n"), "a Git LFS pointer", "git lfs pull"),
    "annex": (b"/annex/objects/SHA256E-s1--0.1\n", "a git-annex pointer", "git annex get"),
    "DVC": (b"outs:\n- md5: 0\n  path: events\n", "a DVC pointer", "dvc pull"),
    "git-crypt": (b"\0GITCRYPT\0" + bytes(range(99)), "a file that git-crypt has locked", "git-crypt unlock"),
    "openssl": (b"Salted__" + bytes(range(99)), "an encrypted file", "decrypt it"),
    "gpg": (b"-----BEGIN PGP MESSAGE-----\n\nhQ==\n", "an encrypted file", "decrypt it"),
    "gzip": (gzip.compress(run(16)), "compressed data (gzip)", "gzip -dc FILE > NEW"),
    "xz": (lzma.compress(run(16)), "compressed data (xz)", "xz -dc FILE > NEW"),
    "bzip2": (bz2.compress(run(16)), "compressed data (bzip2)", "bzip2 -dc FILE > NEW"),
    "zstd": (b"\x28\xb5\x2f\xfd" + bytes(range(99)), "compressed data (zstd)", "zstd -dc FILE > NEW"),
    "zip": (archive("zip"), "an archive", "unzip FILE"),
    "tar": (archive("tar"), "an archive", "tar -xf FILE"),
    "HTML": (b"\n<!DOCTYPE html><html></html>", "an HTML page", "raw or resolve address"),
    "JSON": (b'{"message": "Not Found", "status": "404"}', "a server's answer", "raw or resolve address"),
    "XML": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "a server's answer", "download"),
    "words": (b"404: Not Found", "a server's answer", "download"),
    "text": ("Fichier supprimé\n".encode() * 900, "a text", "bring the event file back"),
    "short text": (b"gone", "a text", "bring the event file back"),
    "zeros": (bytes(99_999), "nothing but zero bytes", "copy or download the file again"),
    "pickle": (b"\x80\x04\x95\x0b\0\0\0\0\0\0\0\x8c\x07" * 9, "a file without one whole event", "file FILE"),
    "records": (frame(b"\xffno event") * 9, "a file without one whole event", "file FILE"),
}


@pytest.mark.parametrize(("data", "what", "way_out"), INSTEAD.values(), ids=INSTEAD)
def test_what_is_no_event_file_is_named_and_left_alone(
    tmp_path: Path, data: bytes, what: str, way_out: str, doctor: Doctor
) -> None:
    root = write(tmp_path / "logs", {"a": data, "a/b": data, f"c:{SECOND_WRITER}": data, "c": run(16, end=b"")})
    (found,) = [one for one in examine(root).ailments if one.name == "not-events"]
    assert found.what == f"3 files: {what} in the place of an event file"
    assert way_out in found.cure
    assert found.files == (f"a/{NAME}", f"a/b/{NAME}", f"c/{SECOND_WRITER}")
    assert not found.repairable
    assert not {"corrupt", "torn", "empty", "unreadable"} & {*names(root)}
    repair_into(Tree(root), tmp_path / "copy", 4e9)
    repair_in_place(Tree(root), 4e9)
    for mended in (root, tmp_path / "copy"):
        assert {(mended / name).read_bytes() for name in found.files} == {data}
        assert names(mended) == ["not-events"]


def test_an_event_file_whose_begin_is_damaged_is_still_mended(tmp_path: Path) -> None:
    for number, begin in enumerate([b"{", b"404", bytes(4096), b"version https://git-lfs", b"hello\n", b"md5:"]):
        write(tmp_path / "logs", {f"run{number}": begin + run(16)})
    assert "not-events" not in names(tmp_path / "logs")
    done = repair_in_place(Tree(tmp_path / "logs"), 4e9)
    assert [[*one.metrics.values()] for one in lab.read(done.root).runs] == [[0.5]] * 6


def test_files_with_no_whole_record_are_told_and_left_alone(tmp_path: Path) -> None:
    files = {"a": run(16), "empty": b"", "torn": VERSION[:20], "header": VERSION[:12], "less": VERSION[:5]}
    root = write(tmp_path / "logs", TWO | files)
    found = {one.name: one for one in examine(root).ailments}
    assert {*found} == {"empty"}
    assert found["empty"].what == "4 files with nothing in them, or no whole record"
    assert repair_in_place(Tree(root), 4e9).changed == ()


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="there are no links")
def test_a_link_to_content_that_was_not_fetched_is_named(tmp_path: Path) -> None:
    root = write(tmp_path / "logs", {"a": run(16), "b": run(32)})
    links = {"a": "../../.git/annex/objects/0/1/SHA-1/SHA-1", "b": ".dvc/cache/files/md5/0", "c": "../gone"}
    for name, target in links.items():
        (root / name).mkdir(exist_ok=True)
        (root / name / SECOND_WRITER).symlink_to(target)
    found = {one.what for one in examine(root).ailments if one.name in ("not-events", "unreadable", "symlink")}
    assert found == {
        "1 file: a git-annex pointer in the place of an event file",
        "1 file: a DVC pointer in the place of an event file",
        "1 file that cannot be read: it cannot be opened: No such file or directory",
    }


def test_a_directory_with_nothing_else_is_no_log_and_it_is_said_why(tmp_path: Path) -> None:
    write(tmp_path / "lfs", {"a": LFS, "b": LFS, "c": gzip.compress(run(16))})
    write(tmp_path / "empty", {"a": b"", "b": b""})
    with pytest.raises(LogDirError) as raised:
        lab.read(tmp_path / "lfs")
    assert str(raised.value) == (
        f"{tmp_path / 'lfs'} holds no runs; "
        "2 files: a Git LFS pointer in the place of an event file (fetch the content: git lfs pull); "
        "1 file: compressed data (gzip) in the place of an event file "
        "(unpack it: gzip -dc FILE > NEW, and put NEW in its place)"
    )
    with pytest.raises(LogDirError, match="holds no runs: 2 event files have nothing in them; bring back a copy"):
        lab.read(tmp_path / "empty")


@pytest.mark.parametrize("command", [["top"], ["show", "a"], ["importance"], ["export", "-o", "x.csv"], ["report"]])
def test_every_command_says_what_is_there_in_place_of_event_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "logs", {"a": LFS})
    with pytest.raises(SystemExit) as exit:
        main([command[0], "logs", *command[1:]])
    said = capsys.readouterr()
    assert (exit.value.code, said.out, said.err.count("\n")) == (2, "", 1)
    assert "1 file: a Git LFS pointer in the place of an event file (fetch the content: git lfs pull)" in said.err


def test_top_says_it_beside_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "logs", TWO | {"c": LFS, "d": LFS, "e": run(16, b"\1" * 40)})
    with pytest.raises(SystemExit):
        main(["top", str(tmp_path / "logs")])
    said = capsys.readouterr().out
    assert "2 files: a Git LFS pointer in the place of an event file (fetch the content: git lfs pull)\n" in said
    assert "1 damaged file: hparams-lab doctor" in said


def sixty(*more: bytes) -> dict[str, bytes]:
    """A healthy directory whose runs have 60 further hparams and metrics that nobody declared, some of two types."""
    one = {f"h{number:02}": 1.0 for number in range(60)}
    other = {f"h{number:02}": "text" for number in range(60)}
    logged = [point(1, 0.5, f"tag{number:02}") for number in range(60)]
    return TWO | {"c": run(40, *logged, **one), "d": run(41, *more, **other), "e": run(42, *more, **other)}


def declares(info: Callable[[str], api_pb2.HParamInfo]) -> dict[str, bytes]:
    infos = [info(f"h{number:02}") for number in range(60)]
    return {"": VERSION + experiment([*infos, interval("units", 1, 64), interval("rate", 0, 1)], "accuracy")}


def bare(name: str) -> api_pb2.HParamInfo:
    return api_pb2.HParamInfo(name=name, type=api_pb2.DATA_TYPE_FLOAT64)


def long(name: str) -> api_pb2.HParamInfo:
    info = bare(name)
    info.domain_discrete.extend(range(12))
    return info


def many_of_all(root: Path) -> Path:
    """Sixty members of each kind that a log can have so many of."""
    bad = {
        "torn": run(46, end=END + point(3, 0.75)[:-9]),
        "corrupt": run(45, b"\1" * 40, point(3, 0.75)),
        "odd": run(52, text_as_scalar()),
        "misfit": run(51, hparams_record("_hparams_/session_end_info", b"\xff\xff")),
        "huge": run(50, point(2**31, 0.75)),
        "back": run(53, point(1, 0.75), point(2, 0.875)),
        "swapped": run(54, point(4, 0.75), point(3, 0.875), point(5, 0.875)),
        "left": run(44, end=b""),
        "empty": b"",
        "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "wild": run(47, wild_header(2**60), point(3, 0.75)),
    }
    files = {f"{kind}/{number}": data for kind, data in bad.items() for number in range(60)}
    two = {f"two/{number}": run(48, point(50, 0.75), group="w") for number in range(60)}
    second = {f"two/{number}:{SECOND_WRITER}": run(64, point(51, 0.875), group="v") for number in range(60)}
    return write(root, sixty() | files | two | second)


def test_sixty_of_each_kind_are_one_line_each_and_fit_a_screen(tmp_path: Path, doctor: Doctor) -> None:
    root = many_of_all(tmp_path / "logs")
    found = examine(root).ailments
    kinds = [one.name for one in found]
    assert sorted(set(kinds)) == sorted(kinds)
    assert {
        "undeclared-hparam", "undeclared-metric", "mixed-types", "torn", "corrupt", "odd-scalar", "broken-hparams",
        "huge-step", "steps-back", "steps-swapped", "left-without-end", "empty", "not-events", "wild-length",
        "two-writers",
    } <= {*kinds}  # fmt: skip
    assert all(len(one.what) < 200 for one in found)
    shown = doctor(root)
    assert len(shown.output.splitlines()) < 10 * len(found)
    listed = {one["name"]: one for one in json.loads(doctor(root, "--json").output)["ailments"]}
    assert all(len(listed[name]["names"]) >= 60 for name in ("undeclared-hparam", "undeclared-metric", "mixed-types"))
    assert len(listed["torn"]["files"]) == 60


@pytest.mark.parametrize(
    ("files", "name", "what"),
    [
        (
            lambda: declares(bare) | {"a": run(16, **dict.fromkeys((f"h{n:02}" for n in range(60)), 1.0))},
            "domain",
            "60 hparams have no domain: 'h00', 'h01', 'h02' and 57 more",
        ),
        (
            lambda: declares(long) | {"a": run(16, **dict.fromkeys((f"h{n:02}" for n in range(60)), 1.0))},
            "domain",
            "60 hparams have more than 9 numbers to choose from: 'h00', 'h01', 'h02' and 57 more",
        ),
        (
            lambda: declares(lambda name: interval(name, 5, 6)) | {"a": run(1, **dict.fromkeys(("h00", "h01"), 1.0))},
            "domain",
            "2 hparams have values outside of their domains: 'h00', 'h01'",
        ),
        (sixty, "mixed-types", "60 hparams have values of several types, or lists: 'h00', 'h01', 'h02' and 57 more"),
        (
            sixty,
            "undeclared-hparam",
            "60 hparams of 3 runs are not in the experiment: 'h00', 'h01', 'h02' and 57 more",
        ),
        (
            sixty,
            "undeclared-metric",
            "60 metrics are logged and not in the experiment: tag00, tag01, tag02 and 57 more",
        ),
        (
            SICK["mixed-types"],
            "mixed-types",
            "hparam 'rate' has strings in 1 run, lists or nothing in 2 runs, numbers in 1 run",
        ),
        (SICK["undeclared-hparam"], "undeclared-hparam", "hparam 'depth' of 1 run is not in the experiment"),
        (SICK["undeclared-metric"], "undeclared-metric", "1 metric is logged and not in the experiment: accuracy"),
    ],
)
def test_many_columns_are_one_line_and_one_is_named(
    tmp_path: Path, files: Callable[[], dict[str, bytes]], name: str, what: str
) -> None:
    (found,) = [one for one in examine(write(tmp_path, files())).ailments if one.name == name]
    assert found.what == what


def test_one_experiment_of_several_declares_the_metrics_that_all_runs_have(tmp_path: Path) -> None:
    """Of sweeps of ours, which declare what they chose, those of all are columns too once they are one."""
    for tag in ("f1", "auc"):
        declared = {"_experiment/1": VERSION + experiment([interval("units", 1, 64)], tag)}
        write(tmp_path / "logs" / tag, declared | {"a": run(16, point(1, 0.5, tag), point(1, 0.5, "loss"))})
        (tmp_path / "logs" / tag / "sweep.json").write_text("{}")
    done = repair_into(Tree(tmp_path / "logs"), tmp_path / "mended", 4e9)
    (message,) = [message for _, _, message in Tree(done.root).experiments]
    assert {info.name.tag for info in message.metric_infos} == {"f1", "auc", "loss", "accuracy"}
    assert repair_in_place(Tree(done.root), 4e9).changed == ()


def test_neighbours_out_of_order_are_no_second_training(tmp_path: Path) -> None:
    """TensorBoard's default loader drops a point or two of them; the file is left as it is, and read whole."""
    orders = {
        "swapped": [10, 12, 11, 13], "threads": [1, 4, 2, 3, 8, 5, 6, 7, 9], "again": [1, 2, 1, 2],
        "far": [*range(20), *range(100, 120), 50], "once": [1, 2, 3, 3], "few": [100, 200, 300, 1, 2],
    }  # fmt: skip
    for name, steps in orders.items():
        write(tmp_path / name, {"a": VERSION + b"".join(point(step, step / 2) for step in steps)})
    said = {name: {one.name: one for one in examine(tmp_path / name).ailments} for name in orders}
    assert {name for name, found in said.items() if "steps-back" in found} == {"again", "far", "few"}
    assert {name for name, found in said.items() if "steps-swapped" in found} == {"swapped", "threads"}
    found = said["swapped"]["steps-swapped"]
    assert (found.severity, found.repairable) == (Severity.WARNING, False)
    assert "as of 'accuracy' in a step 12 before 11" in found.what
    (read,) = lab.read(tmp_path / "threads").runs
    assert read.scalars("accuracy").steps.tolist() == orders["threads"]


def test_a_session_that_starts_again_in_one_file_is_a_restart(tmp_path: Path) -> None:
    records = [restart_event(0, SECOND), *(point(step, 0.5) for step in (1, 2, 3))]
    again = [restart_event(2, SECOND + 100), *(point(step, 0.75, at=SECOND + 100) for step in (2, 3))]
    write(tmp_path, {"a": VERSION + b"".join([*records, *again])})
    found = {one.name: one for one in examine(tmp_path).ailments}
    assert "steps-back" not in found
    assert found["restarted"].what == "1 run that began again at an earlier step: 2 earlier points are left out"


def test_runs_that_name_no_group_split_none(tmp_path: Path) -> None:
    """TensorBoard has a row for each of them, as `read` has a trial."""
    alone = {name: VERSION + start({"units": 17}) + point(1, 0.5) + END for name in "xyz"}
    write(tmp_path, TWO | alone | {"named": run(17, group="mine")})
    assert "split-groups" not in names(tmp_path)
    assert len(lab.read(tmp_path).trials) == 6
    mended = tmp_path.with_name("mended")
    repair_into(Tree(tmp_path), mended)
    assert len(lab.read(mended).trials) == 6
    write(tmp_path, {"other": run(17, group="theirs")})
    assert "split-groups" in names(tmp_path)


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
