"""Which steps that go back are neighbours in the wrong order, and which a training that began again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hparams_lab.logdir.doctor.salvage import contents, events

FEW = 3
"""One point of so many may be overtaken."""

NEIGHBOURS = 8
"""Threads that log at the same time leave a step at most so many places behind its own."""


def swapped_tags(path: Path, tags: Mapping[str, object]) -> set[str]:
    """Those of `tags` in a file whose steps only have neighbours out of order. Reads the file."""
    steps: dict[str, list[int]] = {tag: [] for tag in tags}
    with contents(path) as data:
        for _, event in events(data, []):
            for value in event.summary.value:
                if value.tag in steps:
                    steps[value.tag].append(event.step)
    return {tag for tag, found in steps.items() if is_swapped(found)}


def is_swapped(steps: Sequence[int]) -> bool:
    """Whether each step is there once, none is more than `NEIGHBOURS` places behind its own, and few are overtaken.

    A training that began again logs steps that are there already, goes back farther, or overtakes most of its points.
    """
    found: NDArray[np.int64] = np.array(steps, np.int64)
    order = np.argsort(found, kind="stable")
    is_once = bool((np.diff(found[order]) > 0).all())
    is_near = bool((np.abs(order - np.arange(len(found))) <= NEIGHBOURS).all())
    least_later = np.minimum.accumulate(found[::-1])[::-1][1:]
    return is_once and is_near and FEW * int((found[:-1] > least_later).sum()) <= len(found)
