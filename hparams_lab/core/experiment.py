"""What is tuned and what is measured: `Metric` and `Experiment`.

An `Experiment` is the declaration that everything else works from: the hparams in order, the metrics, the objective
(the metric that ranks trials, and whether more or less of it is better) and the constraints over several hparams.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hparams_lab.core.direction import goal_of_tag
from hparams_lab.core.errors import DeclarationError, HParamValueError
from hparams_lab.core.hparam import HParam, adopt_hparam, checked_name, hparam_from_json
from hparams_lab.core.scalar import Goal
from hparams_lab.core.tensorboard_types import class_of_tensorboard, tensorboard_metric
from hparams_lab.core.values import Value, name_of

Constraint = Callable[[Mapping[str, Value]], bool]


class Metric:
    """A metric: the tag of a scalar, with the direction that is better.

    Args:
      tag: the scalar's tag, not empty.
      display_name, description: what TensorBoard shows.
      goal: "max" or "min"; left out, it is told from the tag where that is plain ("accuracy", "val/loss").
      group, dataset_type: as in TensorBoard's own `Metric`.

    Raises:
      DeclarationError: an empty tag, an unknown goal.
    """

    TRAINING = 1
    VALIDATION = 2
    """The `dataset_type`s of TensorBoard's `api.proto`."""

    def __init__(
        self,
        tag: str,
        display_name: str | None = None,
        description: str | None = None,
        goal: Goal | None = None,
        group: str | None = None,
        dataset_type: Any = None,
    ) -> None:
        self.tag: str = checked_name("Metric", tag)
        if goal not in (None, "max", "min"):
            raise DeclarationError(f"metric {tag!r} has the goal {goal!r}; wanted 'max' or 'min'")
        self.group = group
        self.dataset_type = dataset_type
        self.display_name = display_name
        self.description = description
        self.goal: Goal | None = goal or goal_of_tag(tag)

    def __repr__(self) -> str:
        return f"Metric({self.tag!r}, display_name={self.display_name!r}, goal={self.goal!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Metric) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(self.tag)

    @property
    def title(self) -> str:
        """What a table's head calls it."""
        return self.display_name or self.tag

    def to_tensorboard(self) -> Any:
        """TensorBoard's own `Metric`, for its `hp` API."""
        return tensorboard_metric(self)

    def to_json(self) -> dict[str, Any]:
        """The metric as plain JSON, for `Experiment.from_json`."""
        fields = ("tag", "display_name", "description", "goal", "group", "dataset_type")
        found = {field: getattr(self, field) for field in fields}
        return {key: value for key, value in found.items() if value is not None}


def adopt_metric(metric: Any) -> Metric:
    """`metric` as one of ours; TensorBoard's own is taken over."""
    if isinstance(metric, Metric):
        return metric
    if class_of_tensorboard(metric) == "Metric":
        info = metric.as_proto()
        return Metric(
            info.name.tag,
            info.display_name or None,
            info.description or None,
            group=info.name.group or None,
            dataset_type=info.dataset_type or None,
        )
    raise DeclarationError(f"{metric!r} is not a Metric; declare it as Metric(tag, goal='max')")


@dataclass(frozen=True, slots=True, init=False)
class Experiment:
    """The declared hparams, metrics and objective of a sweep.

    Args:
      hparams: at least one `HParam`, ours or TensorBoard's, names unique.
      metrics: at least one `Metric`, ours or TensorBoard's, tags unique.
      objective: the metric that ranks trials, by tag or object; the first metric when left out. It has a goal.
      name: what reports call the experiment.
      constraints: functions of a trial's hparams (a mapping by name) that are true for the trials to keep.

    Raises:
      DeclarationError: no or duplicate names, an objective that is not among the metrics or has no goal, a
        condition on an hparam that is not declared before, or on a value that its domain lacks.
    """

    hparams: tuple[HParam, ...]
    metrics: tuple[Metric, ...]
    objective: str
    name: str | None
    constraints: tuple[Constraint, ...]

    def __init__(
        self,
        hparams: Iterable[Any],
        metrics: Iterable[Any],
        objective: Any = None,
        name: str | None = None,
        constraints: Iterable[Constraint] = (),
    ) -> None:
        adopted = [adopt_hparam(hparam) for hparam in hparams]
        _check_unique("hparams", [hparam.name for hparam in adopted])
        measured = tuple(adopt_metric(metric) for metric in metrics)
        _check_unique("metrics", [metric.tag for metric in measured])
        found = {
            "hparams": tuple(_with_checked_condition(hparam, adopted[:i]) for i, hparam in enumerate(adopted)),
            "metrics": measured,
            "objective": _objective(objective, measured),
            "name": name,
            "constraints": tuple(constraints),
        }
        for attribute, value in found.items():
            object.__setattr__(self, attribute, value)  # the class is frozen

    @property
    def objective_metric(self) -> Metric:
        """The metric that ranks trials."""
        return self.metric(self.objective)

    def metric(self, tag: str) -> Metric:
        """The declared metric of that tag; KeyError without one."""
        return next((metric for metric in self.metrics if metric.tag == tag), None) or _missing(tag)

    def hparam(self, name: Any) -> HParam:
        """The declared hparam of that name (or object); KeyError without one."""
        wanted = name_of(name)
        return next((hparam for hparam in self.hparams if hparam.name == wanted), None) or _missing(wanted)

    def check(self, hparams: Mapping[Any, Any]) -> dict[str, Value]:
        """The values of one trial, by name in declaration order, each in its domain.

        Raises HParamValueError for an unknown name, a missing one, a value outside its domain, a value for an
        hparam that the others do not call for, or a broken constraint.
        """
        given = {name_of(key): value for key, value in hparams.items()}
        unknown = [name for name in given if name not in {hparam.name for hparam in self.hparams}]
        if unknown:
            known = ", ".join(hparam.name for hparam in self.hparams)
            raise HParamValueError(f"hparam {unknown[0]!r} is not declared; the experiment has {known}")
        found: dict[str, Value] = {}
        for hparam in self.hparams:
            if hparam.is_active(found):
                if hparam.name not in given:
                    raise HParamValueError(f"hparam {hparam.name!r} has no value; give one of {hparam.domain}")
                found[hparam.name] = hparam.cast(given[hparam.name])
            elif hparam.name in given:
                raise HParamValueError(f"hparam {hparam.name!r} is only for {hparam.active_when}; leave it out here")
        if not self.allows(found):
            raise HParamValueError(f"hparams {found} break a constraint of the experiment")
        return found

    def allows(self, hparams: Mapping[str, Value]) -> bool:
        """Whether every constraint holds."""
        return all(constraint(hparams) for constraint in self.constraints)

    @property
    def size(self) -> int | None:
        """The number of different trials, constraints apart; None for infinitely many."""
        return count_trials(self.hparams, lambda hparam: hparam.domain.every())

    def to_json(self) -> dict[str, Any]:
        """The declaration as plain JSON (constraints by their names, since functions are not data)."""
        return {
            "name": self.name,
            "hparams": [hparam.to_json() for hparam in self.hparams],
            "metrics": [metric.to_json() for metric in self.metrics],
            "objective": self.objective,
            "constraints": [getattr(constraint, "__qualname__", "constraint") for constraint in self.constraints],
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Experiment:
        """The declaration that `to_json` wrote, without its constraints."""
        metrics = [Metric(**metric) for metric in found["metrics"]]
        hparams = [hparam_from_json(hparam) for hparam in found["hparams"]]
        return cls(hparams, metrics, found["objective"], name=found.get("name"))


def count_trials(hparams: Sequence[HParam], values_of: Callable[[HParam], Sequence[Value] | None]) -> int | None:
    """The number of trials when each hparam has `values_of` it, without listing them; None for infinitely many.

    Conditions are followed: an hparam that is not called for counts as one. Only the hparams that a later
    condition asks about are walked value by value.
    """
    asked = {parent for hparam in hparams for parent in hparam.active_when}

    def count(index: int, chosen: dict[str, Value]) -> int | None:
        if index == len(hparams):
            return 1
        hparam = hparams[index]
        if not hparam.is_active(chosen):
            return count(index + 1, chosen)
        values = values_of(hparam)
        if values is None or hparam.name not in asked:
            rest = count(index + 1, chosen)
            return None if values is None or rest is None else len(values) * rest
        parts = [count(index + 1, {**chosen, hparam.name: value}) for value in values]
        return None if None in parts else sum(part or 0 for part in parts)

    return count(0, {})


def _missing(name: str) -> Any:
    raise KeyError(name)


def _check_unique(what: str, names: list[str]) -> None:
    if not names:
        raise DeclarationError(f"an experiment without {what}; declare at least one")
    twice = [name for index, name in enumerate(names) if name in names[:index]]
    if twice:
        raise DeclarationError(f"the experiment's {what} have the name {twice[0]!r} twice; names are unique")


def _with_checked_condition(hparam: HParam, before: Sequence[HParam]) -> HParam:
    """`hparam`, its condition in the values of the hparams declared before it."""
    if not hparam.active_when:
        return hparam
    parents = {other.name: other for other in before}
    missing = [parent for parent in hparam.active_when if parent not in parents]
    if missing:
        raise DeclarationError(
            f"hparam {hparam.name!r} is active_when {missing[0]!r} says so, which is not declared before it"
        )
    try:
        return hparam.with_condition(
            {
                parent: tuple(parents[parent].cast(value) for value in wanted)
                for parent, wanted in hparam.active_when.items()
            }
        )
    except HParamValueError as error:
        raise DeclarationError(f"hparam {hparam.name!r} has an active_when that never holds: {error}") from None


def _objective(objective: Any, metrics: Sequence[Metric]) -> str:
    objective = metrics[0] if objective is None else objective
    tag = objective if isinstance(objective, str) else adopt_metric(objective).tag
    found = [metric for metric in metrics if metric.tag == tag]
    if not found:
        known = ", ".join(metric.tag for metric in metrics)
        raise DeclarationError(
            f"the objective {tag!r} is not among the metrics ({known}); declare it or name one of them"
        )
    if found[0].goal is None:
        raise DeclarationError(f"the objective {tag!r} has no goal; say Metric({tag!r}, goal='max') or goal='min'")
    return tag
