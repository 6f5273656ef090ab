"""What an earlier process left in the log of a tuner that goes on: runs without an end, and what is in them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hparams_lab.core.outcome import Outcome
from hparams_lab.core.results import RunResult
from hparams_lab.integrations.keras_tuner.hyperband import chain
from hparams_lab.integrations.keras_tuner.objective import Objective
from hparams_lab.integrations.keras_tuner.trial_runs import Training, TrialRuns, promotion
from hparams_lab.logdir.run_reader import event_files, read_run
from hparams_lab.logdir.sweep_json import load_sweep
from hparams_lab.run.attempts import ATTEMPTS_TAG, Attempt, attempts_in
from hparams_lab.run.outcome_records import end_left_run
from hparams_lab.storage import disk
from hparams_lab.storage.paths import LogDirPaths, natural, writing
from hparams_lab.sweep.resume import wait_until_let_go

_NAME = re.compile(r"run-(\d{4,})(?:-(execution|fold)-\d+)?")
TRAIN_LOSS = "train/loss"
STOPPED = "its search was stopped or killed"
Start = Callable[[tuple[TrialRuns, Training]], None]


def number_of(oracle: Any, trial: Any) -> int:
    """The number of a trial: what its id says, else its place."""
    said: str = trial.trial_id
    return int(said) if said.isdecimal() else [*oracle.trials].index(said)


class LeftRuns:
    """The runs in the log directory of a tuner.

    Args:
      paths: those of the log directory.
      oracle: the tuner's.
      objective: the tuner's.
    """

    def __init__(self, paths: LogDirPaths, oracle: Any, objective: Objective) -> None:
        self._paths, self._oracle, self._objective = paths, oracle, objective

    def names(self, number: int | None = None) -> list[str]:
        """The names of the runs, or of those of a trial."""
        if not self._paths.root.is_dir():
            return []
        matches = (_NAME.fullmatch(path.name) for path in self._paths.root.iterdir())
        found = [match for match in matches if match and number in (None, int(match[1]))]
        return sorted((match[0] for match in found), key=natural)

    def any_ended(self) -> bool:
        """Whether a run has an end."""
        found = (read_run(self._paths.run(name), name) for name in self.names())
        return any(run is not None and run.ended is not None for run in found)

    def tags(self) -> list[str]:
        """The tags that were declared before, but for the objective."""
        sweep = load_sweep(self._paths) if self._paths.root.is_dir() else None
        found = (sweep or {}).get("experiment") or {"metrics": []}
        return [metric["tag"] for metric in found["metrics"] if metric["tag"] != self._objective.tag]

    def settle(self, start: Start) -> dict[str, TrialRuns]:
        """Give an end to each run that was left without; those of completed trials come back, opened by `start`."""
        last = self._last_trials()
        waiting: dict[str, TrialRuns] = {}
        for name in self.names():
            run = self._read(name)
            if run is None or run.ended is not None:
                continue
            trial = last.get(int(name[4:].partition("-")[0]))
            if trial is not None and trial.status == "COMPLETED":
                if trial.trial_id not in waiting:
                    trials = chain(self._oracle.trials, trial)
                    waiting[trial.trial_id] = self.restored(number_of(self._oracle, trials[0]), trials, None)
                    runs = waiting[trial.trial_id]
                    runs.more = promotion(trial.hyperparameters.values)
                    for training in runs.trainings:
                        start((runs, training))
            else:
                _end(run, trial)
        return waiting

    def restored(self, number: int, trials: list[Any], after: int | None) -> TrialRuns:
        """The runs of a trial that these trials of the tuner's were, to be gone on with behind the step `after`."""
        names = self.names(number)
        part = next((match[2] for name in names if (match := _NAME.fullmatch(name)) and match[2]), "")
        runs = TrialRuns(number, part, goes_on=True, after=after)
        best = self._objective.best(enumerate(trial.score for trial in trials if trial.score is not None))
        if best is not None:
            runs.scores = [best[1]]
        for name in names:
            run = self._read(name)
            if run is not None:
                last = _last_epoch(run, after)
                training = Training(name, goes_on=True, after=last)
                points = run.scalars(self._objective.tag)
                kept = [(int(step), float(value)) for step, value in zip(points.steps, points.values, strict=True)]
                kept = [point for point in kept if last is None or point[0] <= last]
                training.remember(kept, self._objective)
                runs.values = dict(run.hparams)
                runs.trainings.append(training)
        return runs

    def clear(self, number: int) -> tuple[Attempt, ...]:
        """Remove the runs of a trial that is tried again; what they were."""
        attempts: tuple[Attempt, ...] = ()
        for name in self.names(number):
            run = self._read(name)
            if run is not None and not attempts:
                reason = run.reason if run.ended is not None else STOPPED
                outcome = run.outcome if run.ended is not None else Outcome.INTERRUPTED
                attempts = (*attempts_in(run.texts.get(ATTEMPTS_TAG, "")), Attempt(outcome, reason))
            if event_files(self._paths.run(name)):  # else it only happens to be called so
                with writing(self._paths.root):
                    disk.remove_tree(self._paths.run(name))
        return attempts

    def _read(self, name: str) -> RunResult | None:
        wait_until_let_go(self._paths.run(name))
        return read_run(self._paths.run(name), name)

    def _last_trials(self) -> dict[int, Any]:
        """By the number of a trial, the last of the tuner's trials that are one with it."""
        chains: Iterator[list[Any]] = (chain(self._oracle.trials, trial) for trial in self._oracle.trials.values())
        found: dict[int, list[Any]] = {}
        for trials in chains:
            number = number_of(self._oracle, trials[0])
            found[number] = max(found.get(number, []), trials, key=len)
        return {number: trials[-1] for number, trials in found.items()}


def _last_epoch(run: RunResult, after: int | None) -> int | None:
    """The last step to keep of a run: `after`, or its last epoch, where its end logged the value that counts behind."""
    ends = [] if after is None else [after]
    if TRAIN_LOSS in run.columns:
        ends += [int(step) for step in run.scalars(TRAIN_LOSS).steps[-1:]]
    return min(ends, default=None)


def _end(run: RunResult, trial: Any) -> None:
    """Give a run an end, at the time of its last point."""
    last = max([run.started, *(column.wall_times.item(-1) for column in run.columns.values())])
    outcome, reason = Outcome.INTERRUPTED, STOPPED
    if trial is not None and trial.status == "FAILED":
        lines = (trial.message or "").strip().splitlines()
        outcome, reason = (Outcome.FAILED, lines[-1]) if lines else (Outcome.DIVERGED, "the objective is not a number")
    with writing(Path(run.path)):
        end_left_run(Path(run.path), outcome, reason, now=last)
