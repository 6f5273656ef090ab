"""Event files cut short and with bits turned, of runs that were finished and of one that was killed: read and resumed.

What must be read of a damaged file is what is read of one without the damaged record. The records are told apart by a
few lines here, which share no code with the package.
"""

from __future__ import annotations

import os
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import hparams_lab as lab
from faults.harness import random_of, scaled
from hparams_lab.core.findings import Finding, Kind
from hparams_lab.core.results import RunResult
from hparams_lab.logdir.doctor.repair import repair_into
from hparams_lab.logdir.doctor.tree import Tree
from hparams_lab.logdir.run_reader import OUTCOME_TAG

pytestmark = pytest.mark.skipif(os.name == "nt", reason="kills its process as POSIX does")

FLIPS = 2000
RESUMED_EVERY = scaled(1, 10)
BY_COMMAND = scaled(40, 3)
ASKED = "no crash of ours; at most one record lost, and named"
HEADER = 12
LENGTHS = (Kind.BAD_LENGTH, Kind.WILD_LENGTH)
FINISHED, KILLED = "run-0001", "run-0002"

DOMAIN = """
import os, signal
import hparams_lab as lab

EXPERIMENT = lab.Experiment([lab.HParam("x", lab.Discrete([1, 2, 3, 4]))], [lab.Metric("accuracy")])

def train(run):
    for step in range(1, 5):
        run.log({"loss": run.hparams["x"] / step}, step=step)
    run.text("said", "a word")
    run.flush()
    if run.hparams["x"] == 3 and "KILL" in os.environ:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"accuracy": run.hparams["x"] / 8}
"""


def command(directory: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The sweep into `directory`, by the command."""
    said = [sys.executable, "-m", "hparams_lab", "run", "domain.py", "--executor", "inline", "--logdir", directory.name]
    env = {**os.environ, **environment}
    return subprocess.run(said, cwd=directory.parent, env=env, capture_output=True, text=True, timeout=120)


def resume(directory: Path) -> lab.Results:
    """The same here, which is a hundred times as fast."""
    domain = str(directory.parent / "domain.py")
    return lab.run_sweep(domain, logdir=directory, executor="inline", observe=lambda event: None)


def records(data: bytes) -> list[tuple[int, int]]:
    """Where each record of a whole file begins and ends."""
    found, begin = [], 0
    while begin < len(data):
        (length,) = struct.unpack_from("<Q", data, begin)
        end = begin + HEADER + length + 4
        found.append((begin, end))
        begin = end
    assert begin == len(data)
    return found


@dataclass(frozen=True)
class Template:
    """A sweep of four trials whose runner was killed in the third; and what is read of it with other files in it."""

    sweep: Path
    known: dict[tuple[str, bytes], list[RunResult]] = field(default_factory=dict)

    def file(self, run: str) -> Path:
        (file,) = (self.sweep / run).glob("events.out.tfevents.*")
        return file

    def damaged(self, name: str, run: str, data: bytes) -> Path:
        """A copy in which the run's file holds `data`."""
        copy = self.sweep.parent / name
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.sweep, copy)
        (copy / run / self.file(run).name).write_bytes(data)
        return copy

    def reads_as(self, run: str, data: bytes) -> list[tuple[object, ...]]:
        """What is read where the run's file holds `data`, of whole records."""
        key = run, data
        if key not in self.known:
            results = lab.read(self.damaged("clean", run, data))
            assert results.findings == ()
            self.known[key] = told(results)
        return self.known[key]


def told(results: lab.Results) -> list[tuple[object, ...]]:
    """Everything that is told about each run."""
    found = []
    for run in results.runs:
        points = {tag: [*map(tuple, zip(*curve, strict=True))] for tag, curve in curves(run).items()}
        facts = (run.name, run.trial_id, dict(run.hparams), run.outcome, run.reason, run.started, run.ended)
        found.append((*facts, points, dict(run.metrics), dict(run.texts)))
    return found


def curves(run: RunResult) -> dict[str, tuple[list[float], ...]]:
    return {tag: (p.steps.tolist(), p.wall_times.tolist(), p.values.tolist()) for tag, p in run.columns.items()}


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Template:
    directory = tmp_path_factory.mktemp("damage")
    (directory / "domain.py").write_text(DOMAIN)
    assert command(directory / "template", KILL="1").returncode == -signal.SIGKILL
    template = Template(directory / "template")
    outcomes = {run.name: str(run.outcome) for run in lab.read(template.sweep).runs}
    assert outcomes == {"run-0000": "completed", FINISHED: "completed", KILLED: "interrupted"}
    return template


@dataclass(frozen=True)
class Mutant:
    """A damaged file of a run.

    Args:
      run: whose file.
      data: its bytes.
      kept: what is to be read of it, as a file of whole records.
      saved: what is still in it, damage apart: `kept` except where a broken length hides the records behind it.
      at: where the damage must be said to be; None where nothing tells it (a file that ends with a whole record).
      kinds: what it must be called.
    """

    run: str
    data: bytes
    kept: bytes
    saved: bytes
    at: int | None
    kinds: tuple[Kind, ...]

    def __str__(self) -> str:
        return f"{self.run}, {len(self.data)} bytes, damaged at {self.at}"


def cuts(run: str, whole: bytes) -> Iterator[Mutant]:
    """The file cut at every byte of its last three records."""
    places = records(whole)
    for end in range(places[-3][0], len(whole)):
        boundary = max(begin for begin, _ in places if begin <= end)
        torn = boundary < end
        yield Mutant(run, whole[:end], whole[:boundary], whole[:boundary], boundary if torn else None, (Kind.TORN,))


def flips(run: str, whole: bytes, count: int) -> Iterator[Mutant]:
    """The file with a bit turned, anywhere."""
    chance = random_of("flips", run, count)
    for _ in range(count):
        at, bit = chance.randrange(len(whole)), chance.randrange(8)
        begin, end = next(place for place in records(whole) if place[0] <= at < place[1])
        data = whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :]
        without = whole[:begin] + whole[end:]
        if at < begin + HEADER:  # where the next record begins is not known
            yield Mutant(run, data, whole[:begin], without, begin, LENGTHS)
        else:
            yield Mutant(run, data, without, without, begin, (Kind.BAD_CHECKSUM,))


def check_reading(template: Template, mutant: Mutant) -> Path:
    """It loses one record at most, and the damage is named."""
    directory = template.damaged("damaged", mutant.run, mutant.data)
    file = directory / mutant.run / template.file(mutant.run).name
    results = lab.read(directory)
    assert told(results) == template.reads_as(mutant.run, mutant.kept), mutant
    named = [(finding.file, finding.offset) for finding in results.findings]
    assert named == ([] if mutant.at is None else [(str(file), mutant.at)]), mutant
    assert all(finding.kind in mutant.kinds for finding in results.findings), mutant
    return directory


def check_resumed(template: Template, mutant: Mutant, directory: Path) -> None:
    """Everything is done; what had its end is as it was, byte for byte; nothing of the first attempts is mixed in."""
    results = lab.read(directory)
    assert [(run.name, str(run.outcome)) for run in results.runs] == [
        (f"run-{number:04d}", "completed") for number in range(4)
    ], mutant
    hurt = {name for name, _ in map(named_at, results.findings)}
    for run in results.runs:
        files = list(run.dir.glob("events.out.tfevents.*"))
        assert len(files) == 1, mutant
        if run.name in untouched(template, mutant):
            wanted = mutant.data if run.name == mutant.run else template.file(run.name).read_bytes()
            assert files[0].read_bytes() == wanted, mutant
        else:
            assert run.name not in hurt, mutant
            x = run.hparams["x"]
            assert run.metrics == {"loss": x / 4, "accuracy": x / 8}, mutant


def untouched(template: Template, mutant: Mutant) -> set[str]:
    """The runs that are over by what is read: they are not done again."""
    return {str(run[0]) for run in template.reads_as(mutant.run, mutant.kept) if str(run[3]) == "completed"}


def named_at(finding: Finding) -> tuple[str, int]:
    return Path(finding.file).parent.name, finding.offset


def check_mended(template: Template, mutant: Mutant) -> None:
    """What reading cannot reach behind a broken length, the doctor brings back: one record is lost at most."""
    directory = template.damaged("sick", mutant.run, mutant.data)
    mended = directory.with_name("mended")
    shutil.rmtree(mended, ignore_errors=True)
    repair_into(Tree(directory), mended)
    before = {run[0]: run for run in template.reads_as(mutant.run, mutant.saved)}[mutant.run]
    after = {run[0]: run for run in told(lab.read(mended))}[mutant.run]
    points, metrics, texts = after[-3:]
    assert (points, metrics) == before[-3:-1], mutant
    assert {tag: text for tag, text in texts.items() if tag != OUTCOME_TAG} == before[-1], mutant  # it gives an end


def test_a_file_cut_anywhere_in_its_last_records_loses_the_torn_one_only(template, figure):
    figures = figure("an event file cut at every byte of its last 3 records", ASKED)
    mutants = [one for run in (FINISHED, KILLED) for one in cuts(run, template.file(run).read_bytes())]
    for mutant in mutants:
        directory = check_reading(template, mutant)
        resume(directory)
        check_resumed(template, mutant, directory)
        figures.update(cuts=figures.get("cuts", 0) + 1)


def check_refusal(error: lab.HParamsLabError, file: Path, mutant: Mutant) -> None:
    """It is one line, and left the file as it was."""
    assert str(error).isprintable(), mutant
    assert file.read_bytes() == mutant.data, mutant


@pytest.mark.slow
@pytest.mark.parametrize(("run", "state"), [(FINISHED, "finished"), (KILLED, "killed")])
def test_a_turned_bit_loses_one_record(template, figure, run, state):
    figures = figure(f"{FLIPS // 2} bits turned in the file of a {state} run", ASKED)
    figures.update({"read": 0, "in a length, the rest brought back by the doctor": 0, "resumed": 0})
    for number, mutant in enumerate(flips(run, template.file(run).read_bytes(), FLIPS // 2)):
        directory = check_reading(template, mutant)
        figures["read"] += 1
        if mutant.kept != mutant.saved:
            check_mended(template, mutant)
            figures["in a length, the rest brought back by the doctor"] += 1
        if number % RESUMED_EVERY == 0:
            resume(directory)
            check_resumed(template, mutant, directory)
            figures["resumed"] += 1


@pytest.mark.slow
def test_the_command_resumes_damaged_sweeps(template):
    chance = random_of("by command")
    files = {run: template.file(run).read_bytes() for run in (FINISHED, KILLED)}
    mutants = [one for run, whole in files.items() for one in (*cuts(run, whole), *flips(run, whole, 200))]
    for mutant in chance.sample(mutants, BY_COMMAND):
        directory = check_reading(template, mutant)
        done = command(directory)
        assert (done.returncode, done.stderr) == (0, ""), mutant
        check_resumed(template, mutant, directory)


def test_a_run_that_is_gone_on_with_keeps_every_whole_record(template):
    """`start_run(resume=True)` cuts a torn end off; what is whole stays and what is new is read, or it refuses."""
    whole = template.file(KILLED).read_bytes()
    for mutant in (*cuts(KILLED, whole), *flips(KILLED, whole, FLIPS // 10)):
        directory = check_reading(template, mutant)
        file = directory / KILLED / template.file(KILLED).name
        try:
            run = lab.start_run(directory, name=KILLED, hparams={"x": 3}, resume=True, provenance=False)
        except lab.HParamsLabError as error:
            check_refusal(error, file, mutant)
            continue
        with run:
            run.log("loss", 9.0, step=9)
        after = file.read_bytes()
        kept = [mutant.saved[begin:end] for begin, end in records(mutant.saved)]
        assert [record for record in kept if record not in after] == [], mutant
        (found,) = [one for one in lab.read(directory).runs if one.name == KILLED]
        assert (str(found.outcome), found.scalars("loss").steps.tolist()[-1]) == ("completed", 9), mutant
