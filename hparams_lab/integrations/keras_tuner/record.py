"""`TunerLog`: what a tuner does, as the runs of a log directory.

The tuner's hooks (`tuner.py`) tell it when a trial and each of its trainings begin and end; `callback.py` tells the
epochs. A run starts when its hyperparameters are all known: those that `build` and `fit` ask for first appear there.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from hparams_lab import disk
from hparams_lab.ending import outcome_of
from hparams_lab.errors import HParamsLabError, UsageError
from hparams_lab.executors.job import Attempt
from hparams_lab.experiment import Experiment
from hparams_lab.integrations.keras_tuner.domains import hparams_of, values_of
from hparams_lab.integrations.keras_tuner.found import keras_tuner
from hparams_lab.integrations.keras_tuner.hyperband import chain, is_hyperband, promotable
from hparams_lab.integrations.keras_tuner.left import LeftRuns, number_of
from hparams_lab.integrations.keras_tuner.objective import (
    BEST_EPOCH,
    BRACKET,
    EPOCHS,
    ROUND,
    Objective,
    trains_as_usual,
)
from hparams_lab.integrations.keras_tuner.trial_runs import Training, TrialRuns, promotion
from hparams_lab.integrations.search_log import SearchLog
from hparams_lab.values import Value


class TunerLog:
    """The log of a tuner.

    Attributes:
      error: the one of ours that is to end the search, where keras-tuner would take it for one of the trial's.
    """

    def __init__(
        self, tuner: Any, logdir: str | os.PathLike[str], by: str, log: SearchLog, objective: Objective
    ) -> None:
        self.error: BaseException | None = None
        self._tuner, self._logdir, self._by = tuner, logdir, by
        self._log: SearchLog | None = log
        self._objective = objective
        self._space: dict[tuple[str, str], Any] = {}
        self._tags: list[str] = [BRACKET, ROUND, EPOCHS] if is_hyperband(tuner) else []
        self._is_usual = trains_as_usual(tuner)
        self._trial: Any = None
        self._runs: TrialRuns | None = None
        self._waiting: dict[str, TrialRuns] = {}
        self._attempts: dict[int, tuple[Attempt, ...]] = {}
        self._ended = bool(tuner.oracle.end_order)
        self._fits = False  # whether epochs were told, in this search
        self._left = LeftRuns(log.paths, tuner.oracle, objective)

    # --- the search ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def searching(self) -> Iterator[None]:
        """Around `search`: the directory is owned, and in the end every run has an end."""
        if self._log is None:
            self._log = SearchLog.open(self._logdir, self._by, goes_on=True)
        self.error = None
        try:
            self.begin()
            yield
        except BaseException as error:
            self._break_off(error)
            raise
        finally:
            try:
                self._settle(all_of_them=True)
            finally:
                self._log.close()
                self._log = None

    def begin(self) -> None:
        """Declare what is known, and see to the runs that an earlier process left."""
        self._tags += [tag for tag in self._left.tags() if tag not in self._tags]
        for one in self._tuner.oracle.get_space().space:
            self._know(one)
        if self._space:
            self._declare()
            self._waiting.update(self._left.settle(lambda found: self._start_all(*found)))
            self._settle()

    def _break_off(self, error: BaseException) -> None:
        """End the trial that an error ended together with the search."""
        runs, self._runs = self._runs, None
        if runs is None:
            return
        if error is self.error:
            runs.leave()
            return
        for training in runs.trainings:
            training.ending = training.ending or outcome_of(error)
        runs.finish(self._objective)

    def _settle(self, all_of_them: bool = False) -> None:
        """End the runs of the trials that will not be promoted any more."""
        if not self._waiting:
            return
        stay = set() if all_of_them or not is_hyperband(self._tuner) else promotable(self._tuner.oracle)
        for trial_id in [one for one in self._waiting if one not in stay]:
            self._waiting.pop(trial_id).finish(self._objective)

    # --- a trial ------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def trial(self, trial: Any) -> Iterator[None]:
        """Around `run_trial`."""
        with self._ours():
            self._begin(trial)
        try:
            yield
        except BaseException as error:
            if error is not self.error:
                with self._ours():
                    self._fail(error)
            raise
        with self._ours():
            self._succeed()

    def trial_over(self) -> None:
        """After `on_trial_end`: keras-tuner has scored the trial, and decided whether to try it again."""
        if self._runs is None or self.error is not None:
            return
        runs, trial = self._runs, self._tuner.oracle.get_trial(self._trial.trial_id)
        self._runs = None
        self._ended = True
        if trial.status == "INVALID":
            self._attempts[runs.number] = (*runs.attempts, runs.attempt())
            runs.leave()
        elif trial.status == "COMPLETED":
            runs.end_round(trial.score)
            self._waiting[trial.trial_id] = runs
        else:
            runs.finish(self._objective)
        self._settle()

    def _begin(self, trial: Any) -> None:
        if self._runs is not None:  # on_trial_end was not called
            self._runs.finish(self._objective)
        oracle = self._tuner.oracle
        self._trial = trial
        trials = chain(oracle.trials, trial)
        number = number_of(oracle, trials[0])
        runs = self._waiting.pop(trials[-2].trial_id, None) if len(trials) > 1 else None
        if runs is None and len(trials) > 1:
            after = trial.hyperparameters.values.get("tuner/initial_epoch")
            after = int(after) if isinstance(self._tuner, keras_tuner.Hyperband) else None
            runs = self._left.restored(number, trials[:-1], after)
        if runs is None:
            runs = TrialRuns(number, self._part())
            told = self._left.clear(number)
            runs.attempts = self._attempts.pop(number, told)
        runs.more = promotion(trial.hyperparameters.values)
        self._runs = runs
        if not self._is_usual and self._ended and not self._fits and not self._part():
            self._start(runs.next())

    def _part(self) -> str:
        if isinstance(self._tuner, keras_tuner.SklearnTuner):
            return "fold"
        return "execution" if getattr(self._tuner, "executions_per_trial", 1) > 1 else ""

    def _fail(self, error: BaseException) -> None:
        assert self._runs is not None
        training = self._training()
        training.ending = outcome_of(error)
        if training.run is not None:
            return
        if self._space or self._trial.hyperparameters.space:
            self._start(training)
        else:
            warnings.warn(
                f"trial {self._trial.trial_id} is not logged: before it asked for a hyperparameter came "
                f"{training.ending[1]}",
                stacklevel=2,
            )

    def _succeed(self) -> None:
        """Take over what the trial was told to have come to, where its trainings did not say it themselves."""
        assert self._runs is not None
        first = self._training()
        self._grow(first)
        name, tracker = self._objective.of_tuner.name, self._tuner.oracle.get_trial(self._trial.trial_id).metrics
        value = tracker.get_best_value(name) if tracker.exists(name) else None
        trainings = self._runs.trainings
        if len(trainings) == 1 and not (self._is_usual and first.judged.value is not None):
            found = {name: history.get_last_value() for name, history in tracker.metrics.items()}
            self._result(first, found)
            first.judge(self._objective, value)
        for training in trainings:
            if training.judged.value is None:
                training.judge(self._objective, value)

    # --- a training of it ---------------------------------------------------------------------------------------------

    def training_begins(self) -> None:
        """A training of the trial begins, of which epochs may be told."""
        with self._ours():
            runs = self._runs
            assert runs is not None
            self._fits = True
            if runs.place < 0 or runs.used:
                runs.next()
            runs.used = True

    def training_ends(self, result: Any) -> None:
        """It returned this: a `History`, its metrics by name, or the objective's value."""
        with self._ours():
            training = self._training()
            self._grow(training)
            value = None
            if isinstance(result, Mapping):
                value = self._objective.value(result)
                self._result(training, result)
            elif hasattr(result, "history"):
                value = self._of_history(training, result)
            elif not isinstance(result, (list, tuple)):
                value = float(result)
            training.judge(self._objective, value)
            self._end_early(training)

    def fit_begins(self) -> None:
        """Keras begins to train: all hyperparameters are known."""
        with self._ours():
            training = self._training()
            self._fits = True
            self._grow(training)

    def epoch(self, epoch: int, logs: Mapping[str, Any]) -> None:
        """An epoch is over, counted from 0."""
        with self._ours():
            self._epoch(self._training(), epoch, logs)

    def _training(self) -> Training:
        """The training that goes on."""
        assert self._runs is not None
        return self._runs.next() if self._runs.place < 0 else self._runs.current

    def _epoch(self, training: Training, epoch: int, logs: Mapping[str, Any]) -> None:
        tags = self._objective.epoch_tags(logs)
        if training.run is None:
            self._start(training)
        if tags:
            self._declare(*tags, *([BEST_EPOCH] if self._objective.tag in tags else []))
            training.epoch(epoch, tags, self._objective)

    def _of_history(self, training: Training, result: Any) -> float | None:
        """The value of the best epoch of a Keras `History`; its epochs are logged unless they were."""
        columns = result.history
        epochs = [dict(zip(columns, values, strict=False)) for values in zip(*columns.values(), strict=False)]
        if not training.tags:
            for epoch, logs in zip(result.epoch, epochs, strict=False):
                self._epoch(training, epoch, logs)
        points = [
            (place, value) for place, logs in enumerate(epochs) if (value := self._objective.value(logs)) is not None
        ]
        best = self._objective.best(points)
        return best and best[1]

    def _result(self, training: Training, found: Mapping[str, Any]) -> None:
        tags = self._objective.result_tags(found, training.tags)
        tags = {tag: value for tag, value in tags.items() if tag not in training.tags and tag != self._objective.tag}
        self._declare(*tags)
        training.result.update(tags)

    def _end_early(self, training: Training) -> None:
        """Give the run its end now, where nothing can follow that would change it."""
        oracle = self._tuner.oracle
        is_known = self._is_usual or isinstance(self._tuner, keras_tuner.SklearnTuner)
        nothing_follows = is_known and not oracle.max_retries_per_trial and not is_hyperband(self._tuner)
        if nothing_follows and training.judged.value is not None:
            training.finish(self._objective, training.judged, {})

    # --- runs ---------------------------------------------------------------------------------------------------------

    def _start(self, training: Training) -> None:
        """Start a run of the trial that goes on, with the hyperparameters that are known."""
        assert self._runs is not None
        self._runs.values = self._values()
        self._start_all(self._runs, training)

    def _start_all(self, runs: TrialRuns, training: Training) -> None:
        training.open(self._owned(), runs)

    def _grow(self, training: Training) -> None:
        """Start the run; and again, with nothing logged yet, when there are hyperparameters that came up since."""
        runs, values = self._runs, self._values()
        assert runs is not None
        if training.run is not None and values == runs.values:
            return
        if training.run is not None and (training.tags or training.goes_on):
            if not runs.scores:  # else it is what other trials asked for since, which keras-tuner adds
                missing = ", ".join(name for name in values if name not in runs.values)
                warnings.warn(
                    f"{training.name}: {missing or 'a value'} came up when the run was under way, and is not among "
                    "its hparams; ask for it before the training begins",
                    stacklevel=2,
                )
            return
        if training.run is not None:
            training.run.leave()
            disk.remove_tree(training.run.dir)
        self._start(training)

    def _values(self) -> dict[str, Value]:
        hyperparameters = self._trial.hyperparameters
        new = [one for one in hyperparameters.space if self._know(one)]
        if new or self._owned().experiment is None:
            self._declare()
        experiment = self._owned().experiment
        assert experiment is not None
        return values_of(hyperparameters, experiment.hparams)

    def _know(self, one: Any) -> bool:
        """Take a hyperparameter into the search space; whether it was not in it."""
        key = one.name, repr([condition.get_config() for condition in one.conditions])
        is_new = key not in self._space
        self._space.setdefault(key, one)
        return is_new

    def _declare(self, *tags: str) -> None:
        """Declare the search space, and what is measured."""
        log = self._owned()
        new = [tag for tag in tags if tag not in self._tags]
        self._tags += new
        if tags and not new:
            return
        hparams = hparams_of(self._space.values())
        if not hparams:
            raise UsageError(
                "the tuner has nothing to tune: no hyperparameter was asked for; use hp in build or run_trial"
            )
        metrics = self._objective.metrics(self._tags)
        log.declare(Experiment(hparams, metrics, self._objective.tag, name=self._tuner.project_name))

    def _owned(self) -> SearchLog:
        if self._log is None:
            raise UsageError("the tuner is logged while search() goes on; call run_trial by search()")
        return self._log

    @contextlib.contextmanager
    def _ours(self) -> Iterator[None]:
        """Keep an error of the logging itself, to raise it where keras-tuner does not catch it."""
        try:
            yield
        except HParamsLabError as error:
            self.error = self.error or error
            raise
