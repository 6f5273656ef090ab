"""`Declared`: what a log directory declares, read without TensorBoard's classes, which are slow to import.

It holds the JSON that `Experiment.to_json` writes; `experiment` makes the `Experiment` of it when it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from hparams_lab.core.direction import goal_of_tag
from hparams_lab.core.errors import HParamValueError
from hparams_lab.core.ranking_metric import choose
from hparams_lab.core.scalar import Goal
from hparams_lab.core.values import Value, cast_number

if TYPE_CHECKING:
    from hparams_lab.core.experiment import Experiment

_TYPES: dict[str, type] = {
    "bool": bool, "int": int, "float": float, "str": str, "IntInterval": int, "RealInterval": float,
}  # fmt: skip


class Declared:
    """The hparams, metrics and objective of one experiment.

    Args:
      found: as `Experiment.to_json` has it; `objective` may be None, where nobody said which metric matters.
      typed: whether values are to be of the domains' types; TensorBoard's protos do not tell integers from floats.

    Raises KeyError, TypeError, AttributeError or ValueError when it is something else.
    """

    def __init__(self, found: Mapping[str, Any], typed: bool = True) -> None:
        self.json = found
        self.name: str | None = found.get("name")
        self.hparams: dict[str, Mapping[str, Any]] = {str(hparam["name"]): hparam for hparam in found["hparams"]}
        self.metrics: dict[str, Mapping[str, Any]] = {str(metric["tag"]): metric for metric in found["metrics"]}
        objective = found["objective"]
        self.objective: str | None = objective if isinstance(objective, str) else None  # a file may hold anything
        self._casts = {name: _cast(hparam.get("domain")) for name, hparam in self.hparams.items() if typed}

    @classmethod
    def of(cls, experiment: Experiment) -> Declared:
        """What an experiment declares."""
        made = cls(experiment.to_json())
        made.__dict__["experiment"] = experiment
        return made

    @cached_property
    def experiment(self) -> Experiment | None:
        """The experiment; None where what is declared is none (no metric with a goal, a domain that cannot be).

        Where nobody said which metric matters, it is the one that `ranking_metric` chooses; an experiment has to have
        one, so it is the first of those that are equally likely.
        """
        from hparams_lab.core.experiment import Experiment

        choice = choose([tag for tag in self.metrics if self.goal(tag)], {})
        try:
            objective = self.objective or choice.tag or choice.others[0]
            return Experiment.from_json({**self.json, "objective": objective})
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):
            return None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Declared) and self.json == other.json

    def __hash__(self) -> int:
        return hash((*self.hparams, *self.metrics))

    def __repr__(self) -> str:
        return f"Declared(hparams={[*self.hparams]}, metrics={[*self.metrics]}, objective={self.objective!r})"

    def goal(self, tag: str) -> Goal | None:
        """The better direction of a metric; None where neither the declaration nor the name tells."""
        goal: Goal | None = self.metrics.get(tag, {}).get("goal")
        return goal or goal_of_tag(tag)

    def title(self, tag: str) -> str:
        """What a table's head calls a metric."""
        return self.metrics.get(tag, {}).get("display_name") or tag

    def is_fixed(self, name: str) -> bool:
        """Whether an hparam can have one value only."""
        domain = self.hparams.get(name, {}).get("domain") or {}
        if "values" in domain:
            return len(domain["values"]) == 1
        return "min" in domain and domain["min"] == domain["max"]

    def restored(self, name: str, value: Value) -> Value:
        """A value as it was before TensorBoard's protos held it: 16.0 as 16 in a column of integers, "None" as None."""
        cast = self._casts.get(name)
        if cast is None or value is None:
            return value
        by_text, kind = cast
        if by_text is not None:
            return by_text.get(str(value), str(value))
        try:
            return cast_number(name, value, kind)
        except HParamValueError:  # written under another declaration; the value is what it is
            return value


def _cast(domain: Mapping[str, Any] | None) -> tuple[dict[str, Value] | None, type] | None:
    """How values of a domain are restored: by their text where `None` is one of them, else by their type."""
    if not domain:
        return None
    if domain["kind"] == "discrete":
        values = domain["values"]
        return ({str(value): value for value in values} if None in values else None), _TYPES[domain["dtype"]]
    return None, _TYPES[domain["kind"]]
