"""A scalar as it is logged: its tag, step and value, checked."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal, Protocol, cast, get_args

from hparams_lab.core.errors import UsageError
from hparams_lab.core.tensors import SymbolicError, is_symbolic, whole_of
from hparams_lab.core.values import short

Goal = Literal["max", "min"]

LARGEST_STEP = 2**31 - 1
"""A step above this answers 500 for the whole directory in TensorBoard's HParams tab."""

SYSTEM_PREFIX = "sys/"
"""How the tags of samples of the machine begin, which stand at seconds and not at steps."""

LARGEST_SCALAR = 3.4028235677973366e38
"""Beyond this a value is infinite in the 32 bits that TensorBoard's scalars have."""

PLACEHOLDER, UNSET = "hp_metric", -1.0
"""The metric that Lightning logs for its hyperparameters, and its value until someone logs another."""

RESERVED_TAGS = "_hparams_/"
"""Where TensorBoard's HParams plugin keeps its own."""


def checked_goal(goal: object) -> Goal | None:
    """`goal` if it is "max", "min" or None. Raises UsageError."""
    if goal is not None and goal not in get_args(Goal):
        raise UsageError(f"goal is {short(goal)}; wanted 'max' or 'min'")
    return cast("Goal | None", goal)


def checked_tag(tag: Any) -> str:
    """`tag`, if TensorBoard can show it. Raises UsageError."""
    if not isinstance(tag, str) or not tag.strip():
        raise UsageError(f"a metric has the name {tag!r} ({type(tag).__name__}); wanted a string that is not empty")
    if tag.startswith(RESERVED_TAGS):
        raise UsageError(
            f"a metric has the name {tag!r}; names that begin with {RESERVED_TAGS!r} are TensorBoard's own"
        )
    try:
        tag.encode()
    except UnicodeEncodeError:
        raise UsageError(f"a metric has the name {tag!r}, which is not valid Unicode text; give another name") from None
    return tag


def checked_step(step: Any) -> int:
    """`step`, a whole number of whatever type, as an integer that TensorBoard can show. Raises UsageError."""
    if is_symbolic(step):
        raise SymbolicError("step", step)
    whole = whole_of(step)
    if whole is None or not 0 <= whole <= LARGEST_STEP:
        raise UsageError(
            f"step is {short(step)}; wanted a whole number from 0 to 2**31-1, which is what TensorBoard can show"
        )
    return whole


def is_of_system(tag: str) -> bool:
    """Whether a tag is a sample of the machine, at seconds since the start where others have steps."""
    return tag.startswith(SYSTEM_PREFIX)


class Measured(Protocol):
    """What has metrics: a run."""

    @property
    def metrics(self) -> Mapping[str, float]:
        """The last value of each tag."""


def is_placeholder(tag: str, runs: Iterable[Measured]) -> bool:
    """Whether a tag holds nothing: Lightning's `hp_metric` where it is -1 in every run, or in none at all.

    Source: https://lightning.ai/docs/pytorch/stable/extensions/logging.html
    """
    return tag.rpartition("/")[2] == PLACEHOLDER and all(run.metrics.get(tag, UNSET) == UNSET for run in runs)


def telling(tags: Iterable[str], runs: Collection[Measured]) -> list[str]:
    """The tags that are shown unasked: no samples of the machine, no placeholder, and none that no run has logged.

    Before anything is logged, they are all that are declared.
    """
    logged = {tag for run in runs for tag in run.metrics}
    there = (tag for tag in tags if tag in logged or not logged)
    return [tag for tag in there if not is_of_system(tag) and not is_placeholder(tag, runs)]
