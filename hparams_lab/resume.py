"""What a sweep's directory holds when a runner comes to it: what is done, what was left, what may go.

The event files are the journal. A run is done when its session end is in its file; a run that was left gets a terminal
state, its torn tail cut, and is run again when its turn comes. Attempts never share an event file.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hparams_lab import disk
from hparams_lab.declared import Declared
from hparams_lab.ending import end_left_run
from hparams_lab.errors import EventFileError, LogDirError
from hparams_lab.events.logdir import read
from hparams_lab.events.reader import event_files, read_run
from hparams_lab.executors.job import ATTEMPTS_TAG, Attempt, attempts_in, missing_metric
from hparams_lab.experiment import Experiment
from hparams_lab.locks import is_held
from hparams_lab.paths import OUTPUT_LOG, LogDirPaths, writing
from hparams_lab.results import Outcome, RunResult
from hparams_lab.trial import Trial
from hparams_lab.words import BROKEN

LET_GO_SECONDS = 5.0
_RUN = re.compile(r"run-\d{4,}")


@dataclass(slots=True)
class Found:
    """The runs of a sweep's directory.

    Attributes:
      done: those that need not be done again, by trial id.
      names: the names of all trials that have a directory, by trial id.
      ended: those that a runner left without an end, and that were given one.
    """

    done: dict[str, RunResult] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)

    def name_for(self, trial: Trial) -> str:
        """The name of a trial's run: the one it has, else that of its place, else the next that is free."""
        if trial.id not in self.names:
            taken = set(self.names.values())
            numbers = itertools.chain([trial.index], itertools.count(len(taken)))
            self.names[trial.id] = next(name for name in map("run-{:04d}".format, numbers) if name not in taken)
        return self.names[trial.id]


def scan(paths: LogDirPaths, experiment: Experiment, retry_failed: bool) -> Found:
    """Find what is done in a directory that is this runner's alone, and give an end to what was left without one."""
    found = Found()
    again = BROKEN if retry_failed else ()
    declared = Declared.of(experiment)
    for run in _settled(_runs(paths), declared):
        if run.ended is None:
            _end(run)
            found.ended.append(run.name)
        elif run.is_over and run.outcome not in again and not missing_metric(run):
            found.done[run.trial_id] = run
        found.names[run.trial_id] = run.name
    _remove_stillborn(paths, found)
    for half_written in paths.root.glob(f".{paths.sweep_json.name}.*"):
        disk.remove(half_written)
    return found


def _runs(paths: LogDirPaths) -> list[RunResult]:
    if not any(_RUN.fullmatch(name) for name in os.listdir(paths.root)):
        return []
    try:
        runs = read(paths.root).runs
    except LogDirError:  # nothing that is a run
        return []
    return [run for run in runs if _RUN.fullmatch(run.name) and (run.hparams or run.outcome is not Outcome.UNKNOWN)]


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


def _remove_stillborn(paths: LogDirPaths, found: Found) -> None:
    """Remove what is left of runs that were killed before they had said which trial they are."""
    known = set(found.names.values())
    for name in os.listdir(paths.root):
        if _RUN.fullmatch(name) and name not in known:
            directory = paths.run(name)
            wait_until_let_go(directory)
            with writing(directory):
                disk.remove_tree(directory)


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
            if not _KEPT_LOG.fullmatch(path.name):
                disk.remove_tree(path) if path.is_dir() and not path.is_symlink() else disk.remove(path)
    if run is None:
        return ()
    reason = run.reason if run.ended is not None else "its runner was stopped or killed"
    return (*earlier, Attempt(run.outcome if run.ended is not None else Outcome.INTERRUPTED, reason, log))


_KEPT_LOG = re.compile(r"output-(\d+)\.log")


def _keep_log(directory: Path) -> str:
    """Give the output of the last attempt a number; its name, or that of the one before where it has none."""
    numbers = [int(match[1]) for path in directory.iterdir() if (match := _KEPT_LOG.fullmatch(path.name))]
    last = max(numbers, default=0)
    output = directory / OUTPUT_LOG
    if output.exists():
        last += 1
        disk.rename(output, directory / f"output-{last}.log")
    return f"output-{last}.log" if last else ""
