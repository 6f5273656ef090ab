"""Hostile files: nothing crashes the reader, each damage is one finding, and everything whole is read."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fuzz_reader import quick_folder, read_mutants
from hostile import CRAFTED, NAME, SMALL, loss
from hostile_dirs import SPECIAL, SWEEP_JSON, accuracy, can, good_run, mixed
from mutants import VERSION, good, mutant, start
from slow_reader import differences, slow_read
from tensorboard_client import Client, eventually, values
from tiers import one_quick
from watched import ALLOWED, can_watch

import hparams_lab as lab
from hparams_lab.core.curve import extremes
from hparams_lab.core.errors import HParamsLabError, LogDirError
from hparams_lab.core.findings import Kind
from hparams_lab.core.outcome import Outcome
from hparams_lab.events.format.event_file import read_events
from hparams_lab.logdir.reader import LogDirReader, read

BATCH = 500
HERE = Path(__file__).parents[1]
GOOD = good_run("good", 3)


class HangsError(BaseException):
    """The reader hangs; nothing of it takes this for an error of the system."""


@pytest.fixture(autouse=True)
def _watchdog() -> Iterator[None]:
    """A reader that hangs is an error, not a night's wait."""
    if not hasattr(signal, "SIGALRM"):  # Windows
        yield
        return

    def bark(*_: object) -> None:
        raise HangsError

    before = signal.signal(signal.SIGALRM, bark)
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def beside_good(root: Path, data: bytes | None = None) -> Path:
    """A log directory with a good run, and `data` as another's file; the other's directory."""
    for name, content in {"good": GOOD, "hostile": data}.items():
        (root / name).mkdir(parents=True)
        if content is not None:
            (root / name / NAME).write_bytes(content)
    return root / "hostile"


def is_well(results: lab.Results) -> bool:
    """Whether the good run beside is read, and read right."""
    run = next(run for run in results.runs if run.name == "good")
    return (run.outcome, run.metrics, len(run.scalars("accuracy").steps)) == ("completed", {"accuracy": accuracy(3)}, 4)


def named(results: lab.Results, name: str = "hostile") -> lab.RunResult | None:
    return next((run for run in results.runs if run.name == name), None)


@pytest.mark.parametrize("name", CRAFTED)
def test_crafted(tmp_path: Path, name: str) -> None:
    case = CRAFTED[name]
    data = case.data
    directory = beside_good(tmp_path, data)
    results = read(tmp_path)
    run = named(results)
    assert is_well(results)
    damages = [finding for finding in results.findings if finding.kind is not Kind.MIXED]
    assert {finding.kind for finding in damages} == ({case.kind} if case.kind else set())
    assert len(damages) <= case.findings
    for finding in damages:
        assert finding.file == str(directory / NAME)
        assert 0 <= finding.offset < finding.offset + finding.bytes_lost <= len(data)
        assert finding.reason
        assert "\n" not in str(finding)
    points = {"loss": case.points, **case.also}
    assert {tag: len(run.scalars(tag).steps) if run else 0 for tag in points} == points
    if len(data) < SMALL and case.findings == 1:
        assert differences(slow_read(data), run, results.findings) == []
    assert not hasattr(lab, "UNPICKLED")


def test_the_pickle_is_a_bomb() -> None:
    import pickle

    try:
        pickle.loads(CRAFTED["pickled"].data)
        assert lab.UNPICKLED
    finally:
        del lab.UNPICKLED


@pytest.mark.parametrize("name", SPECIAL)
def test_what_is_no_plain_file(tmp_path: Path, not_root: Any, name: str) -> None:
    case = SPECIAL[name]
    restricted = not_root if case.needs == "no root" else contextlib.nullcontext
    if not can(case.needs) and not (case.needs == "no root" and hasattr(os, "seteuid")):
        pytest.skip(f"needs {case.needs}")
    signal.alarm(20)
    root = tmp_path / "logs"
    directory = beside_good(root)
    case.make(directory)
    with restricted():
        results = read(root)
    assert is_well(results)
    assert [finding.kind for finding in results.findings] == ([case.kind] if case.kind else [])
    assert all(finding.file.startswith(str(directory)) for finding in results.findings)
    assert "secret" not in [run.trial_id for run in results.runs]
    assert [run.name for run in results.runs if run.outcome is Outcome.COMPLETED] == ["good"]


def test_directories_of_any_name(tmp_path: Path) -> None:
    names = [b"a\nb", b"-x", b"\x1b[31mred", "\u202eabc".encode(), b"x" * 250, b"/".join([b"d"] * 100), b"\xff\xfe"]
    for at, name in enumerate(names):
        directory = os.path.join(os.fsencode(tmp_path), name)
        try:
            os.makedirs(directory)
        except OSError:  # a system that has Unicode names only
            continue
        Path(os.fsdecode(directory), NAME).write_bytes(good_run(f"g{at}", at) + b"torn")
    results = read(tmp_path)
    assert {run.trial_id: run.metrics for run in results.runs}.items() >= {
        f"g{at}": {"accuracy": accuracy(at)} for at in range(len(names) - 1)
    }.items()
    assert {finding.kind for finding in results.findings} == {Kind.TORN}
    assert len(results.findings) == len(results.runs)


@pytest.mark.parametrize("name", SWEEP_JSON)
def test_a_hostile_sweep_json_is_one_line(tmp_path: Path, name: str) -> None:
    beside_good(tmp_path)
    (tmp_path / "sweep.json").write_bytes(SWEEP_JSON[name])
    results, said = None, f"{tmp_path / 'sweep.json'} "
    try:
        results = read(tmp_path)
    except LogDirError as error:
        said = str(error)
    assert said.startswith(f"{tmp_path / 'sweep.json'} ")
    assert "\n" not in said
    assert len(said) < 500
    if results is None:
        return
    assert is_well(results)
    with contextlib.suppress(HParamsLabError):
        assert [results.title(tag) for tag in results.tags]
        assert results.experiment is None or results.experiment.metrics
        assert results.top(metric="accuracy", goal="max")
        assert results.top()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no FIFOs here")
def test_a_sweep_json_that_is_a_fifo_does_not_hang(tmp_path: Path) -> None:
    signal.alarm(20)
    beside_good(tmp_path)
    os.mkfifo(tmp_path / "sweep.json")
    with pytest.raises(LogDirError, match=r"sweep\.json"):
        read(tmp_path)


# Mutants.


@pytest.mark.parametrize("mutants", one_quick([range(1000), range(1000, 10_000), range(10_000, 20_000)]), ids=str)
def test_mutants(mutants: range) -> None:
    wrong = {}
    with quick_folder() as folder:
        for begin in range(0, len(mutants), BATCH):
            wrong.update(read_mutants(Path(folder, "logs"), mutants[begin : begin + BATCH]).wrong)
    assert wrong == {}


def test_mutants_of_which_the_extremes_are_kept() -> None:
    with quick_folder() as folder:
        assert read_mutants(Path(folder, "logs"), range(30_000, 30_500), thin=extremes).wrong == {}


def test_mutants_that_grow_while_they_are_read(tmp_path: Path) -> None:
    """What a reader that comes back has at the end is what a new one has, whatever was there when it looked."""
    draw, files = random.Random(3), {f"{seed:03d}": mutant(seed)[1] for seed in range(300)}
    cuts = {name: sorted(draw.randrange(len(data) + 1) for _ in range(2)) for name, data in files.items()}
    reader, _ = LogDirReader(tmp_path), beside_good(tmp_path)
    for look in range(3):
        for name, data in files.items():
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / NAME).write_bytes(data[: cuts[name][look] if look < 2 else None])
        results = reader.read()
    assert is_well(results)
    wrong = {}
    for name, data in files.items():
        mine = [finding for finding in results.findings if Path(finding.file).parent.name == name]
        wrong[name] = differences(slow_read(data), named(results, name), mine)
    assert {name: why for name, why in wrong.items() if why} == {}


def test_a_file_that_shrinks_or_is_replaced_is_read_anew(tmp_path: Path) -> None:
    directory, reader = beside_good(tmp_path, b"".join(good("loop", 400))), LogDirReader(tmp_path)
    assert reader.read().findings == ()
    for layout, points in [("loop", 60), ("several", 400), ("one_tag", 3), ("tensors", 20)]:
        data = b"".join(good(layout, points))
        if len(data) < (directory / NAME).stat().st_size:
            (directory / NAME).write_bytes(data)
        else:
            (tmp_path / "new").write_bytes(data)
            (tmp_path / "new").replace(directory / NAME)
        results = reader.read()
        assert differences(slow_read(data), named(results), results.findings) == []
    (directory / NAME).write_bytes(b"")
    assert named(reader.read()) is None
    (directory / NAME).unlink()
    assert [run.name for run in reader.read().runs] == ["good"]


SHRINKING = """
import sys, time
from hparams_lab.logdir.reader import LogDirReader, read
print("ready", flush=True)
end, looks, reader = time.monotonic() + 2, 0, LogDirReader(sys.argv[1])
while time.monotonic() < end:
    read(sys.argv[1]), reader.read()
    looks += 1
print(looks)
"""


def test_a_file_that_is_truncated_meanwhile_does_not_kill_the_reader(tmp_path: Path) -> None:
    """A memory map of a file that shrinks is SIGBUS at the first touch; a run that goes on again cuts its torn tail."""
    directory = beside_good(tmp_path, b"")
    long = VERSION + start("x") + loss(range(40)) * 2000
    command = [sys.executable, "-c", SHRINKING, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        with open(directory / NAME, "r+b") as file:
            while process.poll() is None:
                file.seek(0)
                file.write(long)
                file.flush()
                time.sleep(0.002)
                file.truncate(len(long) // 3)
                time.sleep(0.001)
        looks = process.stdout.read()
    assert process.returncode == 0
    assert int(looks) > 3


# Memory and time, in a process of their own.


HANGS = 20.0
"""Seconds of the processor; all of them take some hundredths, and what a file can multiply takes minutes."""


@pytest.mark.skipif(not can_watch(), reason="reads /proc, which only Linux has")
def test_each_file_is_read_in_bounded_time_and_memory() -> None:
    with quick_folder() as folder:
        for name, case in CRAFTED.items():
            beside_good(Path(folder, name, "logs"), case.data)
        for name, special in SPECIAL.items():
            if can(special.needs):
                special.make(beside_good(Path(folder, name, "logs")))
        told = watched_reads(Path(folder).glob("*/logs"))
    assert told.keys() == {*CRAFTED, *(name for name, special in SPECIAL.items() if can(special.needs))}
    assert {name: one["crash"] for name, one in told.items() if "crash" in one} == {}
    assert {name: one["grown"] >> 20 for name, one in told.items() if one["grown"] > ALLOWED} == {}
    assert {name: one["seconds"] for name, one in told.items() if one["seconds"] > HANGS} == {}
    assert all("good" in one["runs"] for one in told.values())


def watched_reads(directories: Iterable[Path]) -> dict[str, dict[str, Any]]:
    """What `watched.py` tells of each log directory, by the name of the folder that it is in."""
    command = [sys.executable, str(HERE / "watched.py"), *map(str, sorted(directories))]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=120, check=True)
    return {Path(line["directory"]).parent.name: line for line in map(json.loads, done.stdout.splitlines())}


# Good runs between hostile ones.


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    """A log directory of 70 good and 30 hostile runs, and the accuracy of the good ones."""
    root = tmp_path_factory.mktemp("crowd") / "logs"
    return root, {name: accuracy(at) for at, name in enumerate(mixed(root))}


def test_the_reader_has_every_good_run_between_hostile_ones(crowd: tuple[Path, dict[str, float]]) -> None:
    root, good_runs = crowd
    results = read(root)
    right = {run.name: run.metrics.get("accuracy") for run in results.runs if run.outcome is Outcome.COMPLETED}
    assert {name: right.get(name) for name in good_runs} == good_runs
    assert {finding.kind for finding in results.findings} >= {Kind.WILD_LENGTH, Kind.TORN, Kind.BAD_LENGTH}
    assert not any("-good" in finding.file for finding in results.findings)
    best = results.best("accuracy")
    assert best is not None
    assert (best.name, best.hparams["units"]) == ("run-069-good", 69)


def test_the_report_has_every_good_run_between_hostile_ones(
    crowd: tuple[Path, dict[str, float]], tmp_path: Path
) -> None:
    root, good_runs = crowd
    output = tmp_path / "report.html"
    command = [sys.executable, "-m", "hparams_lab", "report", str(root), "-o", str(output), "--metric", "accuracy"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    page = output.read_text(encoding="utf-8")
    assert [name for name in good_runs if name not in page] == []
    assert "<script>alert" not in page


def test_tensorboard_shows_every_good_run_between_hostile_ones(crowd: tuple[Path, dict[str, float]]) -> None:
    root, good_runs = crowd
    with board(root) as url:
        client = Client(url)

        def shown() -> dict[str, float | None]:
            return {group["name"]: values(group).get("accuracy") for group in client.groups()}

        eventually(shown, lambda found: found.items() >= good_runs.items(), seconds=30)


@contextlib.contextmanager
def board(root: Path) -> Iterator[str]:
    """`hparams-lab board`, and the address that it tells."""
    command = [sys.executable, "-m", "hparams_lab", "board", str(root), "--port", "0"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            found = next((at for line in process.stdout if (at := re.search(r"http://\S+", line))), None)
            assert found, "the board told no address"
            yield found[0]
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(20)


@pytest.mark.parametrize("name", ["length-2-60", "length-2-63"])
def test_the_slow_way_through_a_file_agrees(name: str) -> None:
    """`read_events`, which the writers use to find where a file ends, has the same findings."""
    findings = []
    data = CRAFTED[name].data
    assert len(list(read_events(data, findings, "x"))) == 7
    assert [finding.kind for finding in findings] == [Kind.WILD_LENGTH]
