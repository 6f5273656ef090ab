"""What lies in a directory: by whole names. And what the doctor reads of a file with much damage: each byte once."""

import sys
from pathlib import Path

import pytest
from sick_logs import NAME, VERSION, experiment, interval, point, run, write

import hparams_lab as lab
from hparams_lab.cli.main import main
from hparams_lab.core.outcome import Outcome
from hparams_lab.events.format.record import frame
from hparams_lab.logdir.doctor.examine import examine
from hparams_lab.logdir.doctor.repair import repair_in_place
from hparams_lab.logdir.doctor.salvage import records
from hparams_lab.logdir.doctor.tree import Tree
from hparams_lab.logdir.hints import no_runs
from hparams_lab.logdir.merge import merge
from hparams_lab.logdir.walk import walk
from hparams_lab.storage.paths import lies_in


@pytest.mark.parametrize(
    ("path", "directory", "lies"),
    [
        ("lr", "lr", True),
        ("lr/a", "lr", True),
        ("lr-old/a", "lr", False),
        ("lr.bak", "lr", False),
        ("a/lr", "lr", False),
        ("lr", "lr/a", False),
        ("lr/a", "", True),
        ("", "", True),
        ("/tmp/x", "/", True),
        ("/tmp", "/tmp/", True),
        ("/tmpx", "/tmp/", False),
    ],
)
def test_a_path_lies_in_a_directory_by_whole_names(path, directory, lies):
    assert lies_in(path, directory) is lies


def test_a_directory_beside_a_sweep_that_begins_with_its_name_is_not_ours(tmp_path):
    """Runs of other tools without an end stay UNKNOWN; those in our sweep become FAILURE, interrupted."""
    files = {f"{folder}/a": run(16, end=b"") for folder in ("lr", "lr-old", "lr.bak", "lr2/lr")}
    write(tmp_path / "logs", files)
    (tmp_path / "logs/lr/sweep.json").write_text("{}", encoding="utf-8")
    repair_in_place(Tree(tmp_path / "logs"), 4e9)
    found = {one.name: (one.outcome, one.reason) for one in lab.read(tmp_path / "logs").runs}
    assert found.pop("lr/a") == (Outcome.INTERRUPTED, "left without an end")
    assert set(found.values()) == {(Outcome.UNKNOWN, "")}


def test_a_run_belongs_to_the_nearest_sweep(tmp_path):
    write(tmp_path, {"a": run(16), "one/a": run(16), "one/two/a": run(16)})
    for place in ("", "one/", "one/two/"):
        write(tmp_path, {f"{place}_experiment/1": VERSION + experiment([interval("units", 0, 64)], f"m{place}")})
    found = {ailment.name: ailment.what for ailment in examine(tmp_path).ailments}
    assert found["several-sweeps"] == "3 sweeps below one root, each with its experiment"


def test_links_within_a_root_are_followed_and_those_to_a_sibling_are_not(tmp_path):
    write(tmp_path, {"lr/a": run(16), "lr-old/a": run(16)})
    (tmp_path / "lr/b").mkdir()
    for name, target in (("in", "lr/a"), ("out", "lr-old/a")):
        (tmp_path / f"lr/b/{name}.tfevents").symlink_to(tmp_path / target / NAME)
    found = walk(str(tmp_path / "lr"))
    assert [Path(finding.file).name for finding in found.findings] == ["out.tfevents"]
    assert {folder.name: folder.files for folder in found.folders} == {"a": [NAME], "b": ["in.tfevents"]}


def test_the_nearest_directory_with_runs_is_not_itself(tmp_path, monkeypatch):
    write(tmp_path, {"lr-old/a": run(16)})
    (tmp_path / "lr").mkdir()
    monkeypatch.chdir(tmp_path)
    assert no_runs(str(tmp_path / "lr")).endswith("the nearest that has some is lr-old/a")


def test_a_run_whose_name_begins_with_dots_is_found_by_its_path(tmp_path, capsys, monkeypatch):
    write(tmp_path, {"..a": run(16), "b": run(32)})
    monkeypatch.setattr(sys, "argv", ["hparams-lab", "show", str(tmp_path), str(tmp_path / "..a")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert (ended.value.code or 0) == 0
    assert "..a" in capsys.readouterr().out


def test_a_root_below_a_directory_that_prune_names_so_is_merged_and_read_whole(tmp_path):
    root = tmp_path / ".pruned-mine"
    write(root, {"one/a": run(16), "two/b": run(32)})
    merge([root / "one", root / "two"], tmp_path / "all")
    assert {one.name for one in lab.read(tmp_path / "all").runs} == {"a", "b"}


DAMAGES = 10_000


class Counted(bytes):
    """Bytes that count how many of them are copied."""

    copied = 0

    def __getitem__(self, key):
        found = super().__getitem__(key)
        Counted.copied += len(found) if isinstance(key, slice) else 1
        return found


def damaged(kind):
    """A file with a whole record behind each of many damages."""
    whole = point(1, 0.5)
    broken = {
        "length": b"\xff" + whole[1:],
        "checksum of the length": whole[:9] + bytes([whole[9] ^ 1]) + whole[10:],
        "payload": whole[:20] + bytes([whole[20] ^ 1]) + whole[21:],
        "no event": frame(b"\xff" * 20),
        "torn": whole[:20],
        "zeros": bytes(40),
    }
    return VERSION + (broken[kind] + whole) * DAMAGES


@pytest.mark.parametrize("kind", ["length", "checksum of the length", "payload", "no event", "torn", "zeros"])
def test_each_byte_of_a_file_with_many_damages_is_copied_a_few_times(kind):
    data = Counted(damaged(kind))
    Counted.copied = 0
    found = list(records(data, [], "file"))
    assert sum(payload == point(1, 0.5)[12:-4] for _, payload in found) == DAMAGES
    assert Counted.copied < 6 * len(data)


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="only Linux counts what a process reads")
def test_the_doctor_reads_a_file_with_many_damages_once(tmp_path):
    root = write(tmp_path, {"a": damaged("length")})
    size = (root / "a" / NAME).stat().st_size
    before = bytes_read()
    (facts,) = Tree(root).runs[0].files
    assert bytes_read() - before < 3 * size + 2**20
    assert facts.tags == {"accuracy": DAMAGES}
    assert len(facts.findings) == DAMAGES
    repair_in_place(Tree(root), 4e9)
    assert lab.read(root).runs[0].scalars("accuracy").steps.tolist() == [1] * DAMAGES


def bytes_read():
    said = Path("/proc/self/io").read_text(encoding="utf-8")
    return int(next(line for line in said.splitlines() if line.startswith("rchar")).split()[1])
