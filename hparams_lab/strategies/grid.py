"""`grid`: every value of a `Discrete`, points of an interval, the product in declaration order.

The last hparam changes fastest. Nothing is materialised: the first ten of 10**12 trials cost ten trials.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from hparams_lab.errors import UsageError
from hparams_lab.experiment import Experiment, count_trials
from hparams_lab.hparam import HParam
from hparams_lab.results import TrialResult
from hparams_lab.trial import Suggestion
from hparams_lab.values import Value


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


def grid_size(space: Experiment, *, points: int = 2) -> int:
    """How many trials the grid has, without listing them; with constraints they are listed and counted."""
    if space.constraints:
        return sum(1 for _ in grid(space, points=points))
    size = count_trials(space.hparams, lambda hparam: _values(hparam, points))
    assert size is not None
    return size


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
    return values  # type: ignore[no-any-return]
