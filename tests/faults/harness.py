"""Sweeps of fake trials that are ended in every way, begun again, and checked: nothing lost, nothing done twice.

    with Sweep(directory, trials=30) as sweep:   # writes a domain module, `fake.py`, into the directory
        runner = sweep.start()                   # `python -m hparams_lab run fake.py ...`, a process of its own
        runner.send(signal.SIGKILL)
        sweep.settle(runner)                     # waits until all its processes are gone; notes what was finished
        sweep.complete()                         # the same command, to its end
        assert not sweep.faults()                # what does not hold, by kind; see `Faults`

A trial says when it begins and ends in a ledger outside of the log directory, so that what was done twice is known
without asking the files that are under test. The processes of a sweep are found by a mark in their environment.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import re
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import NamedTuple

from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

import hparams_lab as lab
from hparams_lab.core.errors import LogDirError
from hparams_lab.core.results import Results, RunResult
from hparams_lab.events.format.event_file import read_events
from hparams_lab.storage.file_names import is_event_file

FULL = os.environ.get("HPARAMS_LAB_TORTURE") == "1"
"""Whether all of it is asked for, and not the scaled-down version."""
SEED = os.environ.get("HPARAMS_LAB_TORTURE_SEED", "0")


def allowed(seconds: float) -> float:
    """How long something may take that is promised in so many seconds.

    In full the suite measures, on a machine that does nothing else. Otherwise only what hangs is a failure.
    """
    return seconds if FULL else 60.0


GONE_SECONDS = allowed(2.0)
"""No process may be left so long after the end of a runner."""

FAKE = '''
import os, pathlib, signal, subprocess, sys, threading, time
import hparams_lab as lab

HERE = pathlib.Path(__file__).parent
EXPERIMENT = lab.Experiment([lab.HParam("x", lab.IntInterval(0, {last}))], [lab.Metric("score", goal="max")])

def note(run, word):
    ledger = os.open(HERE / "ledger", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(ledger, f"{{run.name}} {{run.trial_id}} {{os.getpid()}} {{word}}\\n".encode())
    os.close(ledger)

def during(run, x):
    """What a trial does besides."""

def train(run):
    x = run.hparams["x"]
    note(run, "begin")
    for step in range({points}):
        run.log({{"loss": (x + 1) / (step + 1)}}, step=step)
        time.sleep({seconds} / {points})
    during(run, x)
    note(run, "end")
    return {{"score": 1 / (x + 1)}}
'''
POINTS = 4


def scaled(full: int, small: int) -> int:
    """The number that a row of the table asks for, or that of the scaled-down version."""
    return full if FULL else small


def random_of(*what: object) -> random.Random:
    """Random numbers that depend on what is named, and on HPARAMS_LAB_TORTURE_SEED."""
    return random.Random(f"{SEED} {' '.join(map(str, what))}")


def wait_until(holds: Callable[[], object], seconds: float = 30.0) -> bool:
    """Whether `holds()` comes true in time."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return bool(holds())
        time.sleep(0.005)
    return True


class Entry(NamedTuple):
    """A line of the ledger."""

    name: str
    trial: str
    pid: int
    word: str


@dataclass
class Faults:
    """What does not hold, a line each; false when all holds."""

    lost: list[str] = field(default_factory=list)  # a trial without its run, or without its values
    twice: list[str] = field(default_factory=list)  # a run that was finished, and was begun or written again
    unended: list[str] = field(
        default_factory=list
    )  # a run without a terminal state, or a runner that did not end well
    unreadable: list[str] = field(default_factory=list)  # a file that is torn, mixed or not what it should be
    strays: list[str] = field(default_factory=list)  # a file that does not belong there
    left: list[str] = field(default_factory=list)  # a process that was left

    def __bool__(self) -> bool:
        return any(self.by_kind.values())

    def __add__(self, other: Faults) -> Faults:
        return Faults(*(mine + other.by_kind[kind] for kind, mine in self.by_kind.items()))

    @property
    def by_kind(self) -> dict[str, list[str]]:
        """The lines of each kind."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    @property
    def counts(self) -> dict[str, int]:
        """How many there are of each kind, for the table."""
        words = ("lost", "finished twice", "without an end", "unreadable", "stray files", "processes left")
        return {word: len(lines) for word, lines in zip(words, self.by_kind.values(), strict=True)}


class Runner:
    """A process that runs a sweep, in a session of its own, and what it says."""

    def __init__(self, command: Sequence[str], cwd: Path, environment: Mapping[str, str], said: Path) -> None:
        self._said = said
        with open(f"{said}.out", "wb") as out, open(f"{said}.err", "wb") as err:
            self.process = subprocess.Popen(
                command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                start_new_session=True,
            )  # fmt: skip
        self.began = time.monotonic()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def out(self) -> str:
        """What it wrote to stdout so far."""
        return Path(f"{self._said}.out").read_text(errors="replace")

    @property
    def errors(self) -> str:
        """What it wrote to stderr so far."""
        return Path(f"{self._said}.err").read_text(errors="replace")

    @property
    def is_over(self) -> bool:
        """Whether it ended."""
        return self.process.poll() is not None

    def send(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def end(self, seconds: float = 120.0) -> int:
        """Its exit code, as `subprocess` has it: negative for a signal. Raises TimeoutExpired."""
        return self.process.wait(seconds)


class Sweep:
    """`hparams-lab run fake.py` in a directory of its own, to be interrupted. A context manager: kills what is left.

    Args:
      directory: holds `fake.py`, the ledger and what the runners said; made if need be.
      trials: how many; trial i has the hparam x = i.
      seconds: how long one takes.
      more: more of the domain module, appended; it may define `during(run, x)` anew, or `train(run)`.
      module: the whole domain module instead, which must write the ledger with a `note` as `FAKE` does.
      logdir: the log directory; `logs` beside the module when left out.
      options: more options of the command line; `--points` and `--workers` are given already.
      workers: runs at the same time.
      expect: outcome by x of those that are not to be completed.

    Attributes:
      slowest_end: seconds from the end of a runner to that of its last process, at most.
      any_outcome: names of runs whose outcome is not looked at, since they were killed.
      again: outcomes of runs that are to be done again (`--retry-failed`), and so are not finished.
    """

    def __init__(
        self,
        directory: Path,
        trials: int = 30,
        seconds: float = 0.05,
        more: str = "",
        *,
        module: str | None = None,
        logdir: Path | None = None,
        options: Iterable[str] = (),
        workers: int = 2,
        expect: Mapping[int, str] | None = None,
    ) -> None:
        self.directory, self.trials, self.workers = directory, trials, workers
        self.logdir = logdir or directory / "logs"
        self.options = [*options]
        self.expect = dict(expect or {})
        self.marker = uuid.uuid4().hex
        self.slowest_end = 0.0
        self.any_outcome: set[str] = set()
        self.again: set[str] = set()
        self._done: dict[str, tuple[str, int]] = {}  # finished runs: their files, and the ledger's length then
        self._faults = Faults()
        self._runners: list[Runner] = []
        self.temporary.mkdir(parents=True, exist_ok=True)
        text = FAKE.format(last=trials - 1, seconds=seconds, points=POINTS) + more if module is None else module
        (directory / "fake.py").write_text(text)

    @property
    def temporary(self) -> Path:
        """Where its processes put temporary files; nothing is to be left there."""
        return self.directory / "tmp"

    @property
    def command(self) -> list[str]:
        """The arguments of `hparams-lab`, the same each time."""
        given = ["--points", str(self.trials), "--workers", str(self.workers), "--logdir", str(self.logdir)]
        return ["run", "fake.py", *given, *self.options]

    def start(
        self,
        *options: str,
        program: Sequence[str] = ("-m", "hparams_lab"),
        wrapper: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> Runner:
        """Start the command, with more options; by another Python program, or below another command (strace)."""
        command = [*wrapper, sys.executable, *program, *self.command, *options]
        of_all = {**os.environ, "MARKER": self.marker, "TMPDIR": str(self.temporary), "PYTHONDONTWRITEBYTECODE": "1"}
        said = self.directory / f"said-{len(self._runners)}"
        runner = Runner(command, self.directory, {**of_all, **(environment or {})}, said)
        self._runners.append(runner)
        return runner

    @property
    def processes(self) -> list[int]:
        """The processes that came of it; a zombie is none."""
        return marked(self.marker)

    @property
    def ledger(self) -> list[Entry]:
        """What trials said, in that order."""
        file = self.directory / "ledger"
        lines = file.read_text().splitlines() if file.exists() else []
        return [Entry(name, trial, int(pid), word) for name, trial, pid, word in map(str.split, lines)]

    def begun(self) -> int:
        """How many times a trial was begun."""
        return sum(entry.word == "begin" for entry in self.ledger)

    def under_way(self) -> dict[int, str]:
        """The runs that began and did not say that they end: names by process id."""
        latest = {entry.pid: entry for entry in self.ledger}
        return {pid: entry.name for pid, entry in latest.items() if entry.word == "begin"}

    def read(self) -> Results:
        """The log directory."""
        return lab.read(self.logdir)

    def settle(self, runner: Runner, seconds: float = 30.0) -> None:
        """Wait until the runner and all its processes are gone (2 s are allowed them), and note what is finished."""
        runner.end(seconds)
        self._wait_until_gone()
        self._note()

    def complete(self, *options: str, codes: Iterable[int] = (0,), seconds: float = 300.0) -> Runner:
        """Run the command to its end, which must be well: with one of these exit codes."""
        runner = self.start(*options)
        try:
            code = runner.end(seconds)
        except subprocess.TimeoutExpired:
            self._faults.unended.append(f"the runner {runner.pid} hangs: {runner.errors[-500:]}")
            self.kill_all()
            return runner
        if code not in (*codes,):
            self._faults.unended.append(f"resumed, it ended with {code}: {runner.errors[-500:]}{runner.out[-500:]}")
        self._wait_until_gone()
        return runner

    def kill_all(self) -> None:
        """Kill whatever is left of it."""
        end = time.monotonic() + 10
        while (left := self.processes) and time.monotonic() < end:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
        for runner in self._runners:
            with contextlib.suppress(subprocess.TimeoutExpired):
                runner.end(5)

    def __enter__(self) -> Sweep:
        return self

    def __exit__(self, *error: object) -> None:
        self.kill_all()

    def kill_at_random(self, rng: random.Random, start_up: float = 0.7, jitter: float = 0.06, parts: int = 1) -> bool:
        """Start it, and kill the runner at a random moment: while it starts, or once some of the trials are begun.

        `parts` is how many such kills are to be spread over what is left. Whether it was killed, and had not ended.
        """
        runner = self.start()
        before, missing = self.begun(), self.trials - len(self._done)
        while_it_starts = rng.random() < 0.25 or missing == 0
        wanted = 0 if while_it_starts else rng.randint(1, max(1, min(missing, 2 * missing // (parts + 1))))
        pause = rng.uniform(0, start_up if while_it_starts else jitter)
        if wanted:
            wait_until(lambda: runner.is_over or self.begun() >= before + wanted, 60)
        time.sleep(pause)  # the moment is the point
        runner.send(signal.SIGKILL)
        self.settle(runner)
        return runner.process.returncode == -signal.SIGKILL

    def faults(self) -> Faults:
        """What does not hold, once the sweep is completed."""
        found = Faults() + self._faults
        try:
            results = self.read()
        except LogDirError as error:
            return found + Faults(unreadable=[str(error)])
        found.unreadable += [str(finding) for finding in results.findings]
        runs = {run.name: run for run in results.runs}
        by_x = Counter(run.hparams.get("x") for run in runs.values())
        found.lost += [f"trial {x} has {by_x[x]} runs" for x in range(self.trials) if by_x[x] != 1]
        found.lost += [f"a run of an unknown trial, x = {x}" for x in by_x if x not in range(self.trials)]
        for run in runs.values():
            self._check(run, found)
        self._note(at_the_end=True)
        found.twice += self._faults.twice[len(found.twice) :]
        self._check_files(found)
        return found

    def _check(self, run: RunResult, found: Faults) -> None:
        """A run: its end, its values, and that its one file holds one session."""
        if not run.is_over or run.ended is None:
            found.unended.append(f"{run.name} is {run.outcome}")
            return
        files = [path for path in run.dir.iterdir() if is_event_file(path.name)]
        if len(files) != 1:
            found.unreadable.append(f"{run.name} has {len(files)} event files")
            return
        starts, ends = sessions(files[0])
        if (starts, len(ends)) != (1, 1):
            found.unreadable.append(f"{run.name} has {starts} session starts and the ends {ends}")
        if run.name in self.any_outcome:
            return
        x = int(run.hparams["x"])  # type: ignore[arg-type]
        wanted = self.expect.get(x, "completed")
        if str(run.outcome) != wanted:
            found.lost.append(f"{run.name} is {run.outcome} ({run.reason}) and should be {wanted}")
        elif wanted == "completed":
            losses, score = run.scalars("loss").values.tolist(), run.metrics.get("score")
            right = [(x + 1) / (step + 1) for step in range(POINTS)], 1 / (x + 1)
            near = score is not None and abs(score - right[1]) < 1e-6 and len(losses) == POINTS
            if not near or any(abs(a - b) > 1e-4 * abs(b) for a, b in zip(losses, right[0], strict=True)):
                found.lost.append(f"{run.name} (x = {x}) has score {score}, losses {losses}")

    def _check_files(self, found: Faults) -> None:
        """Nothing that does not belong there, and exactly one Experiment summary."""
        file = r"events\.out\.tfevents\.[^/]+"
        belongs = re.compile(
            rf"sweep\.json|\.lock|\.lock-runs|_experiment(/\.lock|/\d+(/{file})?)?|run-\d+(/{file}|/output(-\d+)?\.log)?"
        )
        there = [str(path.relative_to(self.logdir)) for path in self.logdir.rglob("*")]
        found.strays += [path for path in there if not belongs.fullmatch(path)]
        found.strays += [str(path) for path in self.temporary.iterdir()]
        experiments = [path for path in there if re.fullmatch(rf"_experiment/\d+/{file}", path)]
        if len(experiments) != 1:
            found.unreadable.append(f"there are {len(experiments)} Experiment summaries: {experiments}")

    def _wait_until_gone(self) -> None:
        began = time.monotonic()
        wait_until(lambda: not self.processes, GONE_SECONDS)
        if left := self.processes:
            said = {pid: _command_of(pid) for pid in left}
            wait_until(lambda: not self.processes, 20)
            self._faults.left.append(f"{said} were left for {time.monotonic() - began:.1f} s")
            self.kill_all()
        self.slowest_end = max(self.slowest_end, time.monotonic() - began)

    def _note(self, at_the_end: bool = False) -> None:
        """Remember what is finished, by the directory; see that what was finished before was left alone."""
        ledger = self.ledger
        runs: tuple[RunResult, ...] = ()
        with contextlib.suppress(LogDirError):  # no directory yet, or no run in it
            runs = self.read().runs
        over = [run for run in runs if run.is_over and str(run.outcome) not in self.again]
        prints = {run.name: _fingerprint(run.dir) for run in over}
        for name, (before, length) in self._done.items():
            if again := [entry for entry in ledger[length:] if entry.name == name]:
                self._faults.twice.append(f"{name} was finished, and then {again[0].word}s in process {again[0].pid}")
            elif prints.get(name) != before:
                self._faults.twice.append(f"{name} was finished, and is {prints.get(name, 'gone')}, no more {before}")
        if not at_the_end:
            self._done = {name: (there, len(ledger)) for name, there in prints.items()}


def marked(marker: str) -> list[int]:
    """The processes with this text in their environment."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{name}/environ", "rb") as environ:
            if marker.encode() in environ.read():
                found.append(int(name))
    return found


def _command_of(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")[:200]
    return "gone"


def _fingerprint(directory: Path) -> str:
    """A run's event files: names and what is in them."""
    parts = []
    for path in sorted(path for path in directory.iterdir() if is_event_file(path.name)):
        parts.append(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()[:12]}")
    return ", ".join(parts)


def sessions(file: Path) -> tuple[int, list[int]]:
    """How many session starts are in an event file, and the statuses of its session ends (1 success, 2 failure)."""
    starts, ends = 0, []
    for event in read_events(file.read_bytes()):
        for value in event.summary.value:
            if value.metadata.plugin_data.plugin_name == "hparams":
                said = HParamsPluginData.FromString(value.metadata.plugin_data.content)
                kind = said.WhichOneof("data")
                starts += kind == "session_start_info"
                ends += [said.session_end_info.status] if kind == "session_end_info" else []
    return starts, ends
