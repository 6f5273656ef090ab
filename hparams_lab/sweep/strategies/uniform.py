"""`random`: trials drawn uniformly by each domain's scale and step, none twice.

A finite space ends when every trial was drawn. While most of it is left, repeats are drawn again; when repeats take
over, what is left is listed, shuffled and given out.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from hparams_lab.core.errors import UsageError
from hparams_lab.core.experiment import Experiment
from hparams_lab.core.results import TrialResult
from hparams_lab.core.trial import Suggestion
from hparams_lab.core.values import Value, trial_id
from hparams_lab.sweep.strategies.grid import grid

PATIENCE = 1_000
"""Draws in a row that bring nothing new before the way of drawing is changed."""

LISTABLE = 1_000_000
"""The largest space whose rest is listed."""


def random_search(
    space: Experiment, results: Sequence[TrialResult] = (), rng: random.Random | None = None
) -> Iterator[Suggestion]:
    """Trials at random, without an end in an infinite space.

    Args:
      space: the experiment.
      results: not looked at.
      rng: the source of chance; the same state gives the same trials.

    Raises UsageError when the constraints let next to nothing through.
    """
    rng = rng or random.Random(0)
    seen: set[str] = set()
    while True:
        new = _draw_new(space, rng, seen)
        if new is None:
            break
        seen.add(trial_id(new))
        yield Suggestion(new)
    yield from _rest(space, rng, seen)


def _draw_new(space: Experiment, rng: random.Random, seen: set[str]) -> dict[str, Value] | None:
    """A trial that is not in `seen`; None when `PATIENCE` draws found none."""
    for _ in range(PATIENCE):
        hparams = draw(space, rng)
        if trial_id(hparams) not in seen and space.allows(hparams):
            return hparams
    return None


def draw(space: Experiment, rng: random.Random) -> dict[str, Value]:
    """One point of the space, constraints apart."""
    chosen: dict[str, Value] = {}
    for hparam in space.hparams:
        if hparam.is_active(chosen):
            chosen[hparam.name] = hparam.domain.sample_uniform(rng)
    return chosen


def _rest(space: Experiment, rng: random.Random, seen: set[str]) -> Iterator[Suggestion]:
    size = space.size
    if size is None or size > LISTABLE:
        raise UsageError(f"of {PATIENCE} random draws in a row none was new and within the constraints; loosen them")
    left = [one for one in grid(space, points=None) if trial_id(one.hparams) not in seen]
    rng.shuffle(left)
    yield from left
