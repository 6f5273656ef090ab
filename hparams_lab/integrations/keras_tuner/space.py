"""`TunerSpace`: what a tuner tunes and measures, as far as that is known, and as it is declared in its log."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

from hparams_lab.core.errors import UsageError
from hparams_lab.core.experiment import Experiment
from hparams_lab.core.hparam import HParam
from hparams_lab.core.values import Value
from hparams_lab.integrations.keras_tuner.domains import hparams_of, of_several_types, values_of
from hparams_lab.integrations.keras_tuner.hyperband import is_hyperband
from hparams_lab.integrations.keras_tuner.objective import BRACKET, EPOCHS, ROUND, Objective
from hparams_lab.integrations.search_log import SearchLog


class TunerSpace:
    """What a tuner tunes and measures: more of it is known with each trial.

    Args:
      tuner: the tuner.
      objective: the tuner's.
    """

    def __init__(self, tuner: Any, objective: Objective) -> None:
        self._tuner, self._objective = tuner, objective
        self._known: dict[tuple[str, str], Any] = {}
        self._tags: list[str] = [BRACKET, ROUND, EPOCHS] if is_hyperband(tuner) else []
        self._as_text: dict[str, tuple[Value, ...]] = {}  # what each held: keras-tuner may draw anew after a trial

    def __bool__(self) -> bool:
        return bool(self._known)

    def know(self, space: Iterable[Any]) -> bool:
        """Take hyperparameters in; whether one was not known."""
        before = len(self._known)
        for one in space:
            key = one.name, repr([condition.get_config() for condition in one.conditions])
            self._known.setdefault(key, one)
        return len(self._known) > before

    def measure(self, tags: Iterable[str]) -> bool:
        """Take tags in; whether one was not known."""
        new = [tag for tag in dict.fromkeys(tags) if tag not in self._tags]
        self._tags += new
        return bool(new)

    def declare(self, log: SearchLog, trial: Any = None) -> None:
        """Say in the log what is known. Raises UsageError where there is nothing to tune."""
        hparams = self._hparams(trial)
        if not hparams:
            raise UsageError(
                "the tuner has nothing to tune: no hyperparameter was asked for; use hp in build or run_trial"
            )
        metrics = self._objective.metrics(self._tags)
        log.declare(Experiment(hparams, metrics, self._objective.tag, name=self._tuner.project_name))

    def values(self, log: SearchLog, trial: Any) -> dict[str, Value]:
        """The values of a trial, declared in the log. Raises as `declare` does."""
        is_new = self.know(trial.hyperparameters.space)
        if is_new or self._as_text or log.experiment is None:
            self.declare(log, trial)
        assert log.experiment is not None
        return values_of(trial.hyperparameters, log.experiment.hparams)

    def _hparams(self, trial: Any) -> list[HParam]:
        """The search space. A name declared with several types becomes text, of the values that trials had."""
        space = self._known.values()
        new = [name for name in of_several_types(space) if name not in self._as_text]
        if new:
            self._as_text.update(dict.fromkeys(new, ()))
            warnings.warn(
                f"{', '.join(map(repr, new))} of the tuner is declared several times, with types that one column "
                "cannot hold, and is logged as text; give them different names for columns of their own",
                stacklevel=2,
            )
        trials = [*self._tuner.oracle.trials.values(), *([trial] if trial is not None else [])]
        hparams = hparams_of(space, [one.hyperparameters for one in trials], self._as_text)
        self._as_text.update((one.name, one.domain.points(0)) for one in hparams if one.name in self._as_text)
        return hparams
