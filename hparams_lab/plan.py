"""`Plan`: what a sweep is asked to do, and the trials that follow from it."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hparams_lab.domain import Domain
from hparams_lab.errors import UsageError
from hparams_lab.results import TrialResult
from hparams_lab.strategies import Strategy, make_strategy
from hparams_lab.strategies.grid import grid_size
from hparams_lab.trial import Trial


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

    def suggestions(self, results: Sequence[TrialResult]) -> Iterator[Trial]:
        """The trials in order, each checked against the experiment, drawn as the strategy sees `results` grow."""
        experiment = self.domain.experiment
        check_numbers(self.points, self.trials)
        strategy: Strategy = make_strategy(self.strategy, points=self.points)
        if self.strategy != "grid" and self.trials is None and experiment.size is None:
            raise UsageError(f"strategy {self.strategy!r} has no end in this space; say --trials N")
        suggested = filter(None, strategy(experiment, results, random.Random(self.seed)))
        for index, suggestion in enumerate(itertools.islice(suggested, self.trials)):
            yield Trial.of(index, experiment.check(suggestion.hparams))

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
        experiment = self.domain.experiment
        size = grid_size(experiment, points=self.points) if self.strategy == "grid" else experiment.size
        limits = [limit for limit in (size, self.trials) if limit is not None]
        return min(limits) if limits else None
