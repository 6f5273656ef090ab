"""`TunerLog`: what a tuner does, as the runs of a log directory.

The tuner's hooks (`tuner.py`) tell it when a trial and each of its trainings begin and end; `callback.py` tells the
epochs. A run starts when its hyperparameters are all known: those that `build` and `fit` ask for first appear there.
"""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Concatenate, ParamSpec

from hparams_lab.core.errors import HParamsLabError
from hparams_lab.core.outcome import Outcome
from hparams_lab.integrations.keras_tuner.found import keras_tuner
from hparams_lab.integrations.keras_tuner.hyperband import chain, is_hyperband, promotable
from hparams_lab.integrations.keras_tuner.left import LeftRuns, number_of
from hparams_lab.integrations.keras_tuner.objective import (
    BEST_EPOCH,
    Objective,
    trains_as_usual,
)
from hparams_lab.integrations.keras_tuner.space import TunerSpace
from hparams_lab.integrations.keras_tuner.trial_runs import Training, TrialRuns, promotion
from hparams_lab.integrations.search_log import SearchLog, not_lost
from hparams_lab.run.attempts import Attempt
from hparams_lab.run.outcome_records import outcome_of
from hparams_lab.storage import disk
from hparams_lab.storage.paths import LogDirPaths

Told = ParamSpec("Told")


def _harmless(hook: Callable[Concatenate[TunerLog, Told], None]) -> Callable[Concatenate[TunerLog, Told], None]:
    """A hook that costs no search: where it fails the log is given up, and nothing is done from then on."""

    @functools.wraps(hook)
    def called(self: TunerLog, /, *args: Told.args, **kwargs: Told.kwargs) -> None:
        if not self.is_on:
            return
        try:
            hook(self, *args, **kwargs)
        except Exception as error:  # of the log, of the disk, or of ours
            self._give_up(error)

    return called


class TunerLog:
    """The log of a tuner. It raises nothing once the first trial has begun: a search is worth more than its log.

    Args:
      tuner: the tuner.
      paths: those of its log directory, which is owned while it searches.
      by: what searches, as `SearchLog.open` takes it.
      fresh: whether the first search is to move aside what the directory holds.
      objective: the tuner's.
    """

    def __init__(self, tuner: Any, paths: LogDirPaths, by: str, fresh: bool, objective: Objective) -> None:
        self.paths, self.by, self.fresh = paths, by, fresh
        self.has_begun = False
        self._tuner = tuner
        self._log: SearchLog | None = None
        self._objective = objective
        self._space = TunerSpace(tuner, objective)
        self._is_usual = trains_as_usual(tuner)
        self._trial: Any = None
        self._runs: TrialRuns | None = None
        self._waiting: dict[str, TrialRuns] = {}
        self._attempts: dict[int, tuple[Attempt, ...]] = {}
        self._ended = bool(tuner.oracle.end_order)
        self._fits = False  # whether epochs were told, in this search
        self._left = LeftRuns(paths, tuner.oracle, objective)

    @property
    def is_on(self) -> bool:
        """Whether a search goes on that is logged."""
        return self._log is not None

    # --- the search ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def searching(self, log: SearchLog) -> Iterator[None]:
        """Around `search`, in a directory that is owned until it ends: then every run has an end.

        Raises what keeps it from being logged, before anything is trained.
        """
        self._log = log
        self.has_begun = True
        try:
            self.begin()
            yield
        except BaseException as error:
            self._break_off(error)
            raise
        finally:
            self._end()
            self._log = None
            with not_lost("the end of the search"):
                log.close()

    def begin(self) -> None:
        """Declare what is known, and see to the runs that an earlier process left."""
        self._space.measure(self._left.tags())
        self._space.know(self._tuner.oracle.get_space().space)
        if self._space:
            self._space.declare(self._owned())
            self._waiting.update(self._left.settle(lambda found: self._start_all(*found)))
            self._settle()

    @_harmless
    def _break_off(self, error: BaseException) -> None:
        """End the trial that an error ended together with the search."""
        runs = self._runs
        if runs is not None:
            runs.end_by(outcome_of(error))
            runs.finish(self._objective)
            self._runs = None

    @_harmless
    def _end(self) -> None:
        self._settle(all_of_them=True)

    def _give_up(self, error: Exception) -> None:
        """Let the search go on without a log: end what is open as far as that is possible, and say so once."""
        log, self._log = self._log, None
        said = str(error) if isinstance(error, HParamsLabError) else repr(error)
        waiting, self._waiting = [*self._waiting.values()], {}
        under_way, self._runs = self._runs, None
        if under_way is not None:
            under_way.end_by((Outcome.INTERRUPTED, f"its search was not logged any more: {said}", ""))
        for runs in (under_way, *waiting):
            if runs is not None:
                runs.let_go(self._objective)
        with contextlib.suppress(Exception):
            if log is not None:
                log.close()
        warnings.warn(
            f"the rest of this search is not in the log {self.paths.root}: {said}; the search itself goes on",
            stacklevel=4,
        )

    def _settle(self, all_of_them: bool = False) -> None:
        """End the runs of the trials that will not be promoted any more."""
        if not self._waiting:
            return
        stay = set() if all_of_them or not is_hyperband(self._tuner) else promotable(self._tuner.oracle)
        for trial_id in [one for one in self._waiting if one not in stay]:
            self._waiting[trial_id].finish(self._objective)
            del self._waiting[trial_id]

    # --- a trial ------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def trial(self, trial: Any) -> Iterator[None]:
        """Around `run_trial`."""
        self._begin(trial)
        try:
            yield
        except BaseException as error:
            self._fail(error)
            raise
        self._succeed()

    @_harmless
    def trial_over(self) -> None:
        """After `on_trial_end`: keras-tuner has scored the trial, and decided whether to try it again."""
        if self._runs is None:
            return
        runs, trial = self._runs, self._tuner.oracle.get_trial(self._trial.trial_id)
        self._ended = True
        if trial.status == "INVALID":
            self._attempts[runs.number] = (*runs.attempts, runs.attempt())
            runs.leave()
        elif trial.status == "COMPLETED":
            runs.end_round(trial.score)
            self._waiting[trial.trial_id] = runs
        else:
            runs.finish(self._objective)
        self._runs = None
        self._settle()

    @_harmless
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

    @_harmless
    def _fail(self, error: BaseException) -> None:
        assert self._runs is not None
        training = self._training()
        training.ending = outcome_of(error)
        if isinstance(error, keras_tuner.errors.FailedTrialError):  # as the tuner calls it
            training.ending = (Outcome.FAILED, *training.ending[1:])
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

    @_harmless
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

    @_harmless
    def training_begins(self) -> None:
        """A training of the trial begins, of which epochs may be told."""
        runs = self._runs
        assert runs is not None
        self._fits = True
        if runs.place < 0 or runs.used:
            runs.next()
        runs.used = True

    @_harmless
    def training_ends(self, result: Any) -> None:
        """It returned this: a `History`, its metrics by name, or the objective's value."""
        training = self._training()
        self._grow(training)
        value = None
        if isinstance(result, Mapping):
            value = self._objective.value(result)
            self._result(training, result)
        elif hasattr(result, "history"):
            value = self._of_history(training, result)
        elif not isinstance(result, (list, tuple)):
            with contextlib.suppress(TypeError, ValueError):  # keras-tuner says what is wrong with it
                value = float(result)
        training.judge(self._objective, value)
        self._end_early(training)

    @_harmless
    def fit_begins(self) -> None:
        """Keras begins to train: all hyperparameters are known."""
        training = self._training()
        self._fits = True
        self._grow(training)

    @_harmless
    def epoch(self, epoch: int, logs: Mapping[str, Any]) -> None:
        """An epoch is over, counted from 0."""
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
            self._measure(*tags, *([BEST_EPOCH] if self._objective.tag in tags else []))
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
        self._measure(*tags)
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
        self._runs.values = self._space.values(self._owned(), self._trial)
        self._start_all(self._runs, training)

    def _start_all(self, runs: TrialRuns, training: Training) -> None:
        training.open(self._owned(), runs)

    def _grow(self, training: Training) -> None:
        """Start the run; and again, with nothing logged yet, when there are hyperparameters that came up since."""
        runs, values = self._runs, self._space.values(self._owned(), self._trial)
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

    def _measure(self, *tags: str) -> None:
        if self._space.measure(tags):
            self._space.declare(self._owned(), self._trial)

    def _owned(self) -> SearchLog:
        assert self._log is not None
        return self._log
