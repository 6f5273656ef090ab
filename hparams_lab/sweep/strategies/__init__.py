"""Search strategies: functions from (space, results so far, rng) to suggestions.

A strategy is a generator function. The runner draws from it whenever a slot is free, and `results` is a live view:
what has ended by then is in it. It ends when there is nothing more to try, and may yield `None` for "nothing to try
until another result is there": it is asked again, and the sweep ends when no run is under way that could bring one. A
trial that is suggested again is another run of it, with a seed of its own. A strategy keeps no state outside of its
arguments, so the same seed gives the same trials.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterator, Sequence

from hparams_lab.core.errors import UsageError
from hparams_lab.core.experiment import Experiment
from hparams_lab.core.results import TrialResult
from hparams_lab.core.trial import Suggestion
from hparams_lab.sweep.strategies.grid import grid
from hparams_lab.sweep.strategies.uniform import random_search

Strategy = Callable[[Experiment, Sequence[TrialResult], random.Random], Iterator[Suggestion | None]]

NAMES = ("grid", "random")

__all__ = ["NAMES", "Strategy", "grid", "make_strategy", "random_search"]


def make_strategy(name: str, *, points: int = 2) -> Strategy:
    """The strategy of that name; `points` is how many values an interval gives to a grid (at least 1).

    Raises UsageError for an unknown name.
    """
    if name == "grid":
        return functools.partial(grid, points=points)
    if name == "random":
        return random_search
    raise UsageError(f"there is no strategy {name!r}; there are {', '.join(NAMES)}")
