"""`Plan`: what a sweep is asked to do, and the trials that follow from it."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hparams_lab.core.errors import HParamsLabError, HParamValueError, UsageError
from hparams_lab.core.results import TrialResult
from hparams_lab.core.trial import Suggestion, Trial
from hparams_lab.core.values import Value, short
from hparams_lab.sweep.strategies import Strategy, make_strategy
from hparams_lab.sweep.strategies.grid import grid_size
from hparams_lab.targets.load import Domain

PATIENCE = 100
"""So often a strategy that waits for a result is asked again while no run is under way."""

COUNTED = 10_000
"""The largest grid whose trials are counted one by one before the first of them is trained."""


def check_numbers(points: int, trials: int | None) -> None:
    """Refuse what no space has, before there is one. Raises UsageError."""
    if points < 1:
        raise UsageError(f"--points is {points}; wanted at least 1 (2 are the ends of an interval)")
    if trials is not None and trials < 1:
        raise UsageError(f"--trials is {trials}; wanted at least 1")


@dataclass(frozen=True, slots=True)
class Plan:
    """What a sweep is asked to do.

    `trials` is how many at most (None: all that the strategy has), `seed` fixes the trials and their random numbers.
    """

    domain: Domain
    strategy: str = "grid"
    points: int = 2
    trials: int | None = None
    seed: int = 0

    def drawn(self, results: Sequence[TrialResult]) -> Iterator[Trial | None]:
        """The trials in order, each checked against the experiment, drawn as the strategy sees `results` grow.

        None where the strategy has nothing until another result is there.

        Raises UsageError for a strategy that fails, or that suggests what the experiment does not hold.
        """
        experiment = self.domain.experiment
        check_numbers(self.points, self.trials)
        strategy: Strategy = make_strategy(self.strategy, points=self.points)
        if self.strategy != "grid" and self.trials is None and experiment.size is None:
            raise UsageError(f"strategy {self.strategy!r} has no end in this space; say --trials N")
        count = 0
        for hparams in self._suggested(strategy(experiment, results, random.Random(self.seed))):
            if hparams is None:
                yield None
                continue
            try:
                trial = Trial.of(count, experiment.check(hparams))
            except HParamValueError as error:
                said = f"strategy {self.strategy!r} suggested what cannot be trial {count}: {error}"
                raise UsageError(said) from None
            yield trial
            count += 1
            if count == self.trials:
                return

    def _suggested(self, suggestions: Iterator[Suggestion | None]) -> Iterator[Mapping[str, Value] | None]:
        """The values that a strategy suggests. Its errors are one line, and so is what is no suggestion."""
        while True:
            try:
                suggestion = next(suggestions)
            except StopIteration:
                return
            except HParamsLabError:
                raise
            except Exception as error:
                raise UsageError(f"strategy {self.strategy!r} failed: {error!r}") from error
            if suggestion is not None and not isinstance(suggestion, Suggestion):
                said = f"gave {short(suggestion)}; wanted a Suggestion, or None to wait for a result"
                raise UsageError(f"strategy {self.strategy!r} {said}")
            yield None if suggestion is None else suggestion.hparams

    def suggestions(self, results: Sequence[TrialResult]) -> Iterator[Trial]:
        """As `drawn`, up to where the strategy waits for a result that does not come."""
        waited = 0
        for trial in self.drawn(results):
            waited = 0 if trial else waited + 1
            if waited == PATIENCE:
                return
            if trial is not None:
                yield trial

    def identity(self) -> dict[str, Any]:
        """What makes it this sweep and not another: a directory holds one."""
        return {
            **self.domain.identity,
            "version": self.domain.version,
            "experiment": self.domain.experiment.to_json(),
            "strategy": self.strategy,
            "points": self.points if self.strategy == "grid" else None,
            "seed": self.seed,
        }

    @property
    def size(self) -> int | None:
        """How many trials there are; None when only the strategy knows, as it goes."""
        return self.count(COUNTED)

    def count(self, at_most: int) -> int | None:
        """As `size`. The trials of a grid with constraints are listed for it where there are `at_most` so many."""
        experiment = self.domain.experiment
        size = grid_size(experiment, points=self.points, listed=at_most) if self.strategy == "grid" else experiment.size
        limits = [limit for limit in (size, self.trials) if limit is not None]
        return min(limits) if limits else None
