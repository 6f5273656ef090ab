"""What a sweep's directory holds when a runner comes to it: what is done, what was left, what may go.

The event files are the journal. A run is done when its session end is in its file; a run that was left gets a terminal
state, its torn tail cut, and is run again when its turn comes. Attempts never share an event file.

Anyone may log beside a sweep. It ends and clears only what is its own: a run named as it names them, of a trial that
it plans, with the log of its output, which an executor alone makes. Everything else keeps its name and its files.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import time
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hparams_lab.core.declared import Declared
from hparams_lab.core.errors import EventFileError, LogDirError
from hparams_lab.core.experiment import Experiment
from hparams_lab.core.findings import Finding, Kind
from hparams_lab.core.outcome import Outcome
from hparams_lab.core.present import BROKEN
from hparams_lab.core.results import RunResult
from hparams_lab.core.trial import Trial
from hparams_lab.events.read.layouts import Layouts
from hparams_lab.events.write.writer import EventFileWriter
from hparams_lab.executors.job import missing_metric
from hparams_lab.logdir.reader import read
from hparams_lab.logdir.run_reader import RunReader, event_files, own_file, read_run
from hparams_lab.run.attempts import ATTEMPTS_TAG, Attempt, attempts_in
from hparams_lab.run.outcome_records import end_left_run
from hparams_lab.storage import disk
from hparams_lab.storage.locks import is_held
from hparams_lab.storage.paths import OUTPUT_LOG, LogDirPaths, natural, writing

LET_GO_SECONDS = 5.0
KEPT = "damaged-"
"""How the names begin of directories with what is damaged where it says what it is a run of."""

_RUN = re.compile(r"run-\d{4,}")
_LOG = re.compile(r"output(-\d+)?\.log")
_KEPT_LOG = re.compile(r"output-(\d+)\.log")
_HALF_WRITTEN = re.compile(r"\.sweep\.json\.[0-9a-f]{16}")


@dataclass(slots=True)
class Found:
    """The runs of a sweep's directory.

    Attributes:
      runs: their names by trial id, in order; each with what came of it where it need not be done again.
      taken: the names of all directories that are named as runs.
      ready: those of the sweep's own that hold nothing but what is damaged.
      crashes: how often each run crashed that is to be tried again, by name.
      ended: those that a runner left without an end, and that were given one.
      damaged: those of which their own files do not tell the trial any more.
      others: the runs that someone logged beside the sweep's.
    """

    runs: dict[str, list[tuple[str, RunResult | None]]] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    ready: set[str] = field(default_factory=set)
    crashes: dict[str, int] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    others: list[RunResult] = field(default_factory=list)

    @property
    def done(self) -> list[RunResult]:
        """The runs that need not be done again, in order."""
        there = [run for runs in self.runs.values() for _, run in runs if run is not None]
        return sorted(there, key=lambda run: natural(run.name))

    def done_of(self, trial: str, repeat: int) -> RunResult | None:
        """What came of a run of a trial, the one after `repeat` others; None where it is to be done."""
        runs = self.runs.get(trial, [])
        return runs[repeat][1] if repeat < len(runs) else None

    def name_for(self, trial: Trial, repeat: int, paths: LogDirPaths) -> str:
        """The name of a trial's run: the one it has, else that of its place, else the next that is free.

        Its directory is there then. Raises LogDirError when it cannot be made.
        """
        runs = self.runs.setdefault(trial.id, [])
        if repeat == len(runs):
            numbers = itertools.chain([trial.index], itertools.count(len(self.taken)))
            names = (name for name in map("run-{:04d}".format, numbers) if name not in self.taken)
            runs.append((next(name for name in names if self._make(paths.run(name))), None))
        return runs[repeat][0]

    def _make(self, directory: Path) -> bool:
        """Make a run's directory, unless there is something of that name, which someone else made meanwhile."""
        self.taken.add(directory.name)
        if directory.name in self.ready:
            return True
        with writing(directory), contextlib.suppress(FileExistsError):
            disk.make_directory(directory, sync=True)
            return True
        return False


def scan(
    paths: LogDirPaths, experiment: Experiment, retry_failed: bool = False, retries: int = 0, was_killed: bool = False
) -> Found:
    """Find what is done in a directory that is this runner's alone, and give an end to what was left without one.

    Args:
      retry_failed: whether runs that did not work are not done.
      retries: so often a run that crashed is tried again; one that was not yet is not done.
      was_killed: whether the last runner was, so that what it wrote may not be on the disk.

    Raises LogDirError when a run cannot be read, or is still being written.
    """
    found = Found()
    again = BROKEN if retry_failed else ()
    declared = Declared.of(experiment)
    there = _runs(paths)
    runs = list(_settled(filter(_may_count, there), declared))
    found.others += [run for run in there if not _may_count(run) and not run.sweep]
    works = any(run.outcome is Outcome.COMPLETED for run in runs)
    if paths.root.is_dir():
        found.taken.update(filter(_RUN.fullmatch, os.listdir(paths.root)))
    for run in runs:
        is_own = has_output_log(run.dir)
        is_done = run.ended is not None and run.is_over and run.outcome not in again
        is_done &= works or not missing_metric(run)  # else train() was to be mended
        if run.outcome is Outcome.CRASHED and (crashes := _crashes(run)) <= retries:
            found.crashes[run.name] = crashes
            is_done = False
        if run.ended is None:
            _end(run)
            found.ended.append(run.name)
        elif is_done and was_killed and is_own:
            sync_run(run.dir)
        if is_done or is_own:
            found.runs.setdefault(run.trial_id, []).append((run.name, run if is_done else None))
    if paths.root.is_dir():
        _look_after_the_rest(paths, found, {run.name for run in runs})
    return found


def _runs(paths: LogDirPaths) -> list[RunResult]:
    return [run for run in read(paths.root).runs if run.hparams] if paths.sweep_json.exists() else []


def _may_count(run: RunResult) -> bool:
    """Whether it is named as a sweep names its runs; one without an end is the sweep's own, too."""
    has_end = run.ended is not None and run.outcome is not Outcome.UNKNOWN
    return bool(_RUN.fullmatch(run.name)) and (has_end or has_output_log(run.dir))


def has_output_log(directory: Path) -> bool:
    """Whether an executor ran something there: it keeps the output, which no other writer of runs does."""
    return any(map(_LOG.fullmatch, os.listdir(directory)))


def _crashes(run: RunResult) -> int:
    """How often it was tried and crashed."""
    return 1 + sum(one.outcome is Outcome.CRASHED for one in attempts_in(run.texts.get(ATTEMPTS_TAG, "")))


def sync_run(directory: Path) -> None:
    """Wait until a run that has an end is on the disk. Raises UnsavedError."""
    with writing(directory):
        EventFileWriter.append(own_file(directory)).close()


def _settled(runs: Iterable[RunResult], declared: Declared) -> Iterator[RunResult]:
    """The runs; one whose process is being killed is waited for, and read again."""
    for run in runs:
        if run.ended is not None:
            yield run
            continue
        wait_until_let_go(run.dir)
        yield read_run(run.dir, run.name, declared) or run


def wait_until_let_go(directory: Path) -> None:
    """Wait for the last of a run's processes, which was killed a moment ago, to be gone. Raises LogDirError."""
    end = time.monotonic() + LET_GO_SECONDS
    while any(is_held(file) for file in event_files(directory)):
        if time.monotonic() > end:
            raise LogDirError(f"{directory} is still being written by another process; wait for it to end, or stop it")
        time.sleep(0.01)


def _end(run: RunResult) -> None:
    """Give a run an end, at the time of its last point; one whose file is broken is done again without."""
    last = max([run.started, *(column.wall_times.item(-1) for column in run.columns.values())])
    with writing(run.dir), contextlib.suppress(EventFileError):
        end_left_run(run.dir, Outcome.INTERRUPTED, "its runner was stopped or killed", now=last)


def _look_after_the_rest(paths: LogDirPaths, found: Found, known: Container[str]) -> None:
    """Remove what a kill left of a write and of runs that had not said which trial they are; keep what is damaged."""
    with writing(paths.root):
        for entry in list(os.scandir(paths.root)):
            if _HALF_WRITTEN.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                disk.remove(entry.path)
            elif _RUN.fullmatch(entry.name) and entry.name not in known and entry.is_dir(follow_symlinks=False):
                _look_after(Path(entry.path), found)


def _look_after(directory: Path, found: Found) -> None:
    """Remove a directory in which nothing was logged; put by what is damaged. What is not the sweep's stays."""
    names = [name for name in os.listdir(directory) if not name.startswith(KEPT)]
    logs = [name for name in names if _LOG.fullmatch(name)]
    if names and not logs:
        return
    wait_until_let_go(directory)
    findings, is_empty = _looked_at(directory)
    files = event_files(directory)
    if findings and _put_by(directory):
        found.damaged.append(directory.name)
    elif not is_empty or len(names) != len(logs) + len(files):
        return
    elif files or not any((directory / log).stat().st_size for log in logs):
        for name in names:
            disk.remove(directory / name)
    else:
        return
    found.taken.discard(directory.name)
    if os.listdir(directory):
        found.ready.add(directory.name)
    else:
        disk.remove_tree(directory)


def _looked_at(directory: Path) -> tuple[list[Finding], bool]:
    """How the event files are damaged, torn ends apart, and whether nothing was logged in them.

    Raises LogDirError when they cannot be read.
    """
    reader = RunReader(str(directory), Layouts())
    reader.read_new([file.name for file in event_files(directory)])
    unreadable = [finding for finding in reader.findings if finding.kind is Kind.UNREADABLE]
    if unreadable:
        raise LogDirError(f"{unreadable[0].file} cannot be read: {unreadable[0].reason}; see to it, and start again")
    damaged = [finding for finding in reader.findings if finding.kind not in (Kind.TORN, Kind.OVERTAKEN)]
    is_bare = reader.bare_run(directory.name) is None and reader.run(directory.name) is None
    return damaged, is_bare and not damaged


def _put_by(directory: Path) -> bool:
    """Put a damaged run into a directory inside its own, where nobody takes it for a run; whether there was one."""
    files = event_files(directory)
    if not files:
        return False
    numbers = (directory / f"{KEPT}{number}" for number in itertools.count(1))
    kept = next(path for path in numbers if not path.exists())
    disk.make_directory(kept)
    for file in files:
        disk.rename(file, kept / file.name.replace("tfevents", "damaged"))
    for path in directory.iterdir():
        if not path.name.startswith(KEPT):
            disk.rename(path, kept / path.name)
    return True


def clear(paths: LogDirPaths, name: str, declared: Declared) -> tuple[Attempt, ...]:
    """Make a run's directory ready for a new attempt: there, and empty but for what earlier attempts printed.

    What those were is given back. The log gets its new name before the event file goes, which says what it was of.
    """
    directory = paths.run(name)
    with writing(directory):
        if not directory.exists():
            disk.make_directory(directory, sync=True)
            return ()
        wait_until_let_go(directory)
        run = read_run(directory, name, declared)
        earlier = attempts_in(run.texts.get(ATTEMPTS_TAG, "")) if run else ()
        log = _keep_log(directory)
        for file in event_files(directory):
            disk.remove(file)
        for path in directory.iterdir():
            if not _KEPT_LOG.fullmatch(path.name) and not path.name.startswith(KEPT):
                disk.remove_tree(path) if path.is_dir() and not path.is_symlink() else disk.remove(path)
    if run is None:
        return ()
    reason = run.reason if run.ended is not None else "its runner was stopped or killed"
    return (*earlier, Attempt(run.outcome if run.ended is not None else Outcome.INTERRUPTED, reason, log))


def _keep_log(directory: Path) -> str:
    """Give the output of the last attempt a number; its name, or that of the one before where it has none."""
    numbers = [int(match[1]) for path in directory.iterdir() if (match := _KEPT_LOG.fullmatch(path.name))]
    last = max(numbers, default=0)
    output = directory / OUTPUT_LOG
    if output.exists():
        last += 1
        disk.rename(output, directory / f"output-{last}.log")
    return f"output-{last}.log" if last else ""
