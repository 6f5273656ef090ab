"""Restarts: points that a training logs again after it began anew at an earlier step, in a second file or after a
`SessionLog.START`. What they overtake is dropped, as TensorBoard drops it: the default loader a tag's points whose step
is not smaller, the other one all points from the step of a START on.

Steps that go back in another place are kept: see the doctor's `steps-back`.
Source: https://github.com/tensorflow/tensorboard/blob/2.21.0/tensorboard/data/server/reservoir.rs
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hparams_lab.core.curve import Scalars


def before(points: Scalars, step: int) -> Scalars:
    """The points of smaller steps."""
    smaller = points.steps < step
    return points if smaller.all() else points.taken(np.flatnonzero(smaller))


def without_overtaken(parts: Sequence[Scalars]) -> list[Scalars]:
    """The points of one tag in several files without those that a file which was begun later overtakes.

    Files that were written at the same time are of several writers, and all of their points stay.
    """
    kept = [*parts]
    for later in parts:
        if len(later.steps):
            began, step = later.wall_times.min(), int(later.steps.min())
            for place, earlier in enumerate(parts):
                if earlier is not later and len(earlier.steps) and _is_over(earlier, began):
                    kept[place] = before(kept[place], step)
    return kept


def _is_over(earlier: Scalars, now: float) -> bool:
    """Whether a file was written to its end before that time; one without times is."""
    return bool(earlier.wall_times.max() < now)
