"""A search's scorers as metrics: what are they called, which ranks the trials, and what else is measured."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sklearn.base import ClassifierMixin, RegressorMixin, is_classifier, is_regressor
from sklearn.model_selection._search import BaseSearchCV

from hparams_lab.core.errors import UsageError
from hparams_lab.core.experiment import Metric
from hparams_lab.core.results import CHOSEN
from hparams_lab.core.scalar import Goal

UNSEEN, SEEN = "val/", "train/"


@dataclass(frozen=True, slots=True)
class Scores:
    """The scorers of a search.

    Attributes:
      names: as they are logged, behind `val/` and `train/`.
      objective: the one that ranks the trials.
      keys: what `cv_results_` calls them, in the same order: "score" where there is one.
      is_sure: whether that is all known; what a function returns is only when it has.
      is_named: whether somebody said which ranks the trials.
    """

    names: tuple[str, ...]
    objective: str
    keys: tuple[str, ...] = ("score",)
    is_sure: bool = True
    is_named: bool = True

    @property
    def tag(self) -> str:
        """The objective's tag."""
        return UNSEEN + self.objective

    def by_tag(self, found: Any, prefix: str = UNSEEN) -> dict[str, float]:
        """A fold's score, or its scores by name, by the tags that they are logged under."""
        scores = found if isinstance(found, Mapping) else {self.names[0]: found}
        return {f"{prefix}{name}": value for name, value in scores.items()}

    def as_found(self, results: Mapping[str, Any]) -> Scores:
        """The same once `cv_results_` tells what a function returned. Warns where nobody named one of several."""
        if self.is_sure:
            return self
        prefix = "mean_test_"
        keys = tuple(key.removeprefix(prefix) for key in results if key.startswith(prefix))
        if keys == ("score",):
            return replace(self, is_sure=True)
        objective = self.objective if self.objective in keys else keys[0]
        if self.objective not in keys and (self.is_named or len(keys) > 1):
            other = f"; name another: objective={keys[1]!r}" if len(keys) > 1 else ""
            warnings.warn(
                f"the scorer returned {', '.join(keys)}; trials are ranked by {objective}{other}", stacklevel=4
            )
        return Scores(keys, objective, keys)

    def metrics(self, with_train: bool, with_refit: bool) -> list[Metric]:
        """What is measured, the objective first: a fold's scores and times, and what is known of a trial in the end."""
        names = sorted(self.names, key=lambda name: name != self.objective)
        prefixes = (UNSEEN, SEEN) if with_train else (UNSEEN,)
        found = [Metric(prefix + name, goal="max") for prefix in prefixes for name in names]
        if with_refit:
            found.append(Metric(CHOSEN, description="1 for the trial that was trained again on all data", goal="max"))
        found += [_of_trial(kind, key) for kind in _OF_TRIAL for key in self.keys]
        return [*found, _seconds("fit_time"), _seconds("score_time")]

    def of_trial(self, results: Mapping[str, Any], index: int) -> dict[str, float]:
        """What is known of a trial in the end: the mean, standard deviation and rank of each score."""
        columns = (f"{kind}_test_{key}" for key in self.keys for kind in _OF_TRIAL)
        return {column: float(results[column][index]) for column in columns if column in results}


_OF_TRIAL: dict[str, tuple[Goal, str]] = {
    "rank": ("min", "1 is the best"),
    "std": ("min", "standard deviation of the folds, divided by their number"),
    "mean": ("max", "mean of the folds"),
}


def _of_trial(kind: str, key: str) -> Metric:
    goal, description = _OF_TRIAL[kind]
    return Metric(f"{kind}_test_{key}", description=description, goal=goal)


def _seconds(tag: str) -> Metric:
    return Metric(tag, description="seconds", goal="min")


def scores_of(search: Any, objective: str | None = None) -> Scores:
    """The scorers of a search.

    Args:
      search: one of scikit-learn's.
      objective: the name of the scorer that ranks the trials; the one that `refit` names, or the only one, when left
        out.

    Raises UsageError when that is none of them, when there are several and nothing says which, or none at all.
    """
    scoring, refit = search.scoring, search.refit
    wanted = objective if objective is not None else refit if isinstance(refit, str) else None
    if scoring is None or isinstance(scoring, str):
        name = scoring or _default(search.estimator)
        return _checked(Scores((name,), objective or name))
    if callable(scoring):
        name = wanted or _name(scoring)
        keys = (name,) if isinstance(refit, str) else ("score",)
        return Scores((name,), name, keys, is_sure=False, is_named=wanted is not None)
    names = tuple(map(str, scoring)) if isinstance(scoring, Collection) else ()
    if not names:
        raise UsageError(f"scoring is {scoring!r}; wanted a scorer's name, a function, or several by name")
    if wanted is None and len(names) == 1:
        wanted = names[0]
    if wanted is None:
        raise UsageError(
            f"the search has {len(names)} scorers and refit={_shown(refit)}, and nothing says which ranks the trials; "
            f"name one: objective={names[0]!r}"
        )
    return _checked(Scores(names, wanted, names))


def _checked(scores: Scores) -> Scores:
    if scores.objective in scores.names:
        return scores
    raise UsageError(
        f"the objective is {scores.objective!r}, which is none of the search's scorers: {', '.join(scores.names)}"
    )


def _default(estimator: Any) -> str:
    """What an estimator's own score is."""
    if steps := getattr(estimator, "steps", None):
        return _default(steps[-1][-1])
    if isinstance(estimator, BaseSearchCV) and estimator.scoring is None:
        return _default(estimator.estimator)
    own = getattr(estimator, "scoring", None)
    # Others have a `scoring` that is of something else, such as when to stop.
    is_by_it = getattr(type(estimator), "score", None) not in (ClassifierMixin.score, RegressorMixin.score)
    if is_by_it and own is not None and own != "warn":
        if callable(own):
            return _name(own)
        refit = getattr(estimator, "refit", None)
        return own if isinstance(own, str) else refit if isinstance(refit, str) else "score"
    if is_classifier(estimator):
        return "accuracy"
    return "r2" if is_regressor(estimator) else "score"


def _name(scorer: Any) -> str:
    """A name for a function that scores, or for what `make_scorer` made of one."""
    function = getattr(scorer, "_score_func", scorer)
    name = getattr(function, "__name__", "score")
    name = name if name.isidentifier() else "score"
    return f"neg_{name}" if getattr(scorer, "_sign", 1) < 0 else name


def _shown(refit: Any) -> str:
    return getattr(refit, "__name__", None) or repr(refit)
