"""`grid`: every value of a `Discrete`, points of an interval, the product in declaration order.

The last hparam changes fastest. Nothing is materialised: the first ten of 10**12 trials cost ten trials.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence

from hparams_lab.core.errors import UsageError
from hparams_lab.core.experiment import Experiment, count_trials
from hparams_lab.core.hparam import HParam
from hparams_lab.core.results import TrialResult
from hparams_lab.core.trial import Suggestion
from hparams_lab.core.values import Value


def grid(
    space: Experiment,
    results: Sequence[TrialResult] = (),
    rng: random.Random | None = None,
    *,
    points: int | None = 2,
    backwards: bool = False,
) -> Iterator[Suggestion]:
    """The grid's trials in order (`backwards`: from the last one).

    Args:
      space: the experiment.
      results, rng: not looked at; a grid is the same whatever happens.
      points: values per interval, evenly spaced by its scale: 2 are its ends. At least 1. None
        is every value of a finite space.
    """
    pools = [_values(hparam, points) for hparam in space.hparams]
    values = [pool[::-1] if backwards else pool for pool in pools]
    for hparams in _product(space.hparams, values, {}):
        if space.allows(hparams):
            yield Suggestion(hparams)


def grid_size(space: Experiment, *, points: int = 2, listed: int | None = None) -> int | None:
    """How many trials the grid has, without listing them; with constraints they are listed and counted.

    None where that would be more than `listed`.
    """
    size = count_trials(space.hparams, lambda hparam: _values(hparam, points))
    if space.constraints and size is not None:
        return sum(1 for _ in grid(space, points=points)) if listed is None or size <= listed else None
    return size


def is_in_grid(space: Experiment, hparams: Mapping[str, Value], *, points: int = 2) -> bool:
    """Whether a point of the space, which `Experiment.check` let pass, is one of the grid, without listing that."""
    return all(hparams[one.name] in _values(one, points) for one in space.hparams if one.name in hparams)


def _product(
    hparams: Sequence[HParam], values: Sequence[Sequence[Value]], chosen: dict[str, Value]
) -> Iterator[dict[str, Value]]:
    if not hparams:
        yield chosen
        return
    first, rest = hparams[0], hparams[1:]
    if not first.is_active(chosen):
        yield from _product(rest, values[1:], chosen)
        return
    for value in values[0]:
        yield from _product(rest, values[1:], {**chosen, first.name: value})


def _values(hparam: HParam, points: int | None) -> Sequence[Value]:
    if points is not None and points < 1:
        raise UsageError(f"--points is {points}; wanted at least 1 (2 are the ends of an interval)")
    values = hparam.domain.every() if points is None else hparam.domain.points(points)
    if values is None:
        raise UsageError(f"hparam {hparam.name!r} has infinitely many values in {hparam.domain}; give --points")
    return values
