"""What a tuner measures: the tags, the objective among them, and which epoch a training is judged by.

Keras's `val_loss` is `val/loss`, its `loss` is `train/loss`. keras-tuner judges a training by its best epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hparams_lab.core.errors import UsageError
from hparams_lab.core.experiment import Metric
from hparams_lab.core.measured import LeftOut, as_float, numbers_among
from hparams_lab.core.scalar import Goal
from hparams_lab.integrations.keras_tuner.found import keras_tuner

EPOCHS = "epochs"
BEST_EPOCH = "best_epoch"
BRACKET = "bracket"
ROUND = "round"
_DESCRIBED = {
    BEST_EPOCH: "the epoch that the objective is of",
    EPOCHS: "epochs trained",
    BRACKET: "Hyperband's bracket; that of the largest number stops earliest",
    ROUND: "the last round of the bracket that the trial came to",
}
_leave_out = LeftOut("keras-tuner")


@dataclass(frozen=True, slots=True)
class Objective:
    """A tuner's objective.

    Attributes:
      of_tuner: keras-tuner's own object.
      tag: where it is logged.
    """

    of_tuner: Any
    tag: str

    @classmethod
    def of(cls, tuner: Any) -> Objective:
        """That of a tuner. Raises UsageError for several where one is needed."""
        found = tuner.oracle.objective
        names = [one.name for one in getattr(found, "objectives", ())]
        is_sklearn = isinstance(tuner, keras_tuner.SklearnTuner)
        if names and is_sklearn:
            raise UsageError(
                f"this SklearnTuner has several objectives ({', '.join(names)}), and is judged by one; "
                "give its oracle objective=keras_tuner.Objective('score', 'max')"
            )
        return cls(found, _tag_of_objective(found.name, is_sklearn, not names and _is_fitted_as_usual(tuner)))

    @property
    def goal(self) -> Goal:
        """The better direction."""
        return "max" if self.of_tuner.direction == "max" else "min"

    def is_better(self, value: float, other: float) -> bool:
        """Whether a value is better than another, as keras-tuner compares them: NaN never is."""
        return bool(self.of_tuner.better_than(value, other))

    def epoch_tags(self, logs: Mapping[str, Any]) -> dict[str, float]:
        """What Keras reports of an epoch, by tag, with the sum of several objectives; numbers, and arrays of a few."""
        found = {self._tag(name, "train/"): number for name, number in numbers_among(logs, _leave_out).items()}
        if (value := self.value(logs)) is not None:
            found[self.tag] = value
        return found

    def result_tags(self, result: Mapping[str, Any], logged: Container[str]) -> dict[str, float]:
        """What a training returned, by tag. `logged` are those of its epochs."""
        found = {}
        for name, number in numbers_among(result, _leave_out).items():
            is_of_epochs = f"train/{name}" in logged
            found[self._tag(name, "train/" if is_of_epochs else "")] = number
        return found

    def value(self, logs: Mapping[str, Any]) -> float | None:
        """The objective's value among these; None when it is not there."""
        if self.of_tuner.name in logs:
            return as_float(self.tag, logs[self.of_tuner.name])
        return as_float(self.tag, self.of_tuner.get_value(logs)) if self.of_tuner.has_value(logs) else None

    def best(self, points: Iterable[tuple[int, float]]) -> tuple[int, float] | None:
        """The point (step, value) that keras-tuner judges by: the best, the first of equals; None without any.

        A NaN at the beginning stays, since nothing is better than it.
        """
        best = None
        for step, value in points:
            if best is None or self.is_better(value, best[1]):
                best = step, value
        return best

    def metrics(self, tags: Iterable[str]) -> list[Metric]:
        """The declarations of all tags: the objective, then what is measured on held out data, then the others."""
        places = {tag: place for place, tag in enumerate(_DESCRIBED, 1)}
        others = sorted((tag for tag in {*tags} if tag != self.tag), key=lambda tag: (places.get(tag, 0), _rank(tag)))
        return [Metric(self.tag, goal=self.goal), *(Metric(tag, description=_DESCRIBED.get(tag)) for tag in others)]

    def _tag(self, name: str, prefix: str) -> str:
        if name == self.of_tuner.name:
            return self.tag
        return f"val/{name[4:]}" if name.startswith("val_") else prefix + name


def _tag_of_objective(name: str, is_sklearn: bool, is_of_epochs: bool) -> str:
    if is_sklearn:
        return f"val/{name}"
    if name.startswith("val_"):
        return f"val/{name[4:]}"
    return f"train/{name}" if is_of_epochs and name != "default_objective" else name


def _is_fitted_as_usual(tuner: Any) -> bool:
    """Whether `model.fit` trains, and its epochs are what is returned: a metric without `val_` is one of training."""
    own = keras_tuner.HyperModel.fit
    fit: Callable[..., Any] = getattr(type(tuner.hypermodel), "fit", own)
    return trains_as_usual(tuner) and fit is own


def trains_as_usual(tuner: Any) -> bool:
    """Whether keras-tuner's own `run_trial` trains."""
    return type(tuner).run_trial in (keras_tuner.Tuner.run_trial, keras_tuner.Hyperband.run_trial)


def _rank(tag: str) -> tuple[int, str]:
    return (0 if tag.startswith("val/") else 1, tag)
