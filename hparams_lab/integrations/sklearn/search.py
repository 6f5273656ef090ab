"""scikit-learn's searches in the HParams tab: `log_search`, one line before `fit`.

    log_search(search, "logs/grid")
    search.fit(X, y)

Each candidate is a trial, each of its folds a run that is written while it is trained, in whatever process that is.
From scikit-learn 1.9 on this is a callback of the search, which can be set as any other:

    search.set_callbacks(HParamsCallback("logs/grid"))
"""

from __future__ import annotations

import itertools
import os
import weakref
from collections.abc import Callable
from inspect import signature
from typing import Any, TypeVar

import sklearn
from sklearn.model_selection import _search, _validation
from sklearn.model_selection._search import BaseSearchCV

from hparams_lab.core.errors import LogDirError, MissingExtraError, UsageError
from hparams_lab.integrations.search_log import SearchLog
from hparams_lab.integrations.sklearn import SCIKIT_LEARN
from hparams_lab.integrations.sklearn.folds import fit_and_score
from hparams_lab.integrations.sklearn.recording import Recording
from hparams_lab.integrations.sklearn.scores import scores_of
from hparams_lab.storage.paths import paths_of

Search = TypeVar("Search")


def log_search(
    search: Search, logdir: str | os.PathLike[str], *, fresh: bool = False, objective: str | None = None
) -> Search:
    """Log the fits of a search.

    Args:
      search: a `GridSearchCV`, `RandomizedSearchCV`, `HalvingGridSearchCV` or `HalvingRandomSearchCV` over any
        estimator, or another search made like them. Not fitted yet.
      logdir: its log directory; made when it is not there. A second fit logs into one beside it, `logdir-1`, and so
        on; so do clones of the search, as `cross_val_score` makes them (from scikit-learn 1.9 on; before, clones are
        not logged).
      fresh: move what the directory holds aside, to a name beside it.
      objective: the scorer that ranks the trials, where there are several and `refit` names none.

    Returns the search. A fit that fails or is interrupted leaves it to be logged: fit it again once the directory is
    moved away, or give it to `log_search` again.

    Each row of `cv_results_` is a trial. Of a halving search those before the last iteration end as pruned, since they
    had fewer resources: "went on in iteration 1", "left out after iteration 0". So the best is `best_params_`.

    Raises UsageError for what is no search, was fitted or is logged already, or has no plain objective, and
    MissingExtraError for a scikit-learn that works in another way than those known, LogDirError for a directory that
    holds something else; so does `fit`, before anything is trained. Later it raises nothing of ours: what the log
    cannot take is a warning, and the search is as it would be without.
    """
    _check_scikit_learn()
    _check_search(search)
    if hasattr(search, "cv_results_"):
        raise UsageError(
            f"this {type(search).__name__} was fitted already; log_search comes before fit: give it clone(search)"
        )
    before = _callback_of(search)
    if before is not None and not before._is_in_vain:
        raise UsageError(f"this {type(search).__name__} is logged already, into {before.logdir}; call log_search once")
    scores_of(search, objective)
    SearchLog.check(logdir, type(search).__name__, fresh=fresh)
    if before is not None:
        _forget(search, before)
    callback = HParamsCallback(logdir, fresh=fresh, objective=objective)
    callback._bind(search)
    if hasattr(search, "set_callbacks"):
        search.set_callbacks(*getattr(search, "_skl_callbacks", ()), callback)
    else:
        search.fit = _LoggedFit(search, callback)  # type: ignore[attr-defined]
    return search


class HParamsCallback:
    """A search's fit, logged: a callback for `search.set_callbacks(...)`, from scikit-learn 1.9 on.

    Args:
      logdir: the log directory; made when it is not there. When several searches have the same callback, as clones
        do, the others log into directories beside it, `logdir-1` and so on. So does a search that is fitted again.
      fresh, objective: as in `log_search`.

    Its hooks raise what `log_search` and `fit` raise there, before anything is trained.
    """

    def __init__(self, logdir: str | os.PathLike[str], *, fresh: bool = False, objective: str | None = None) -> None:
        self.logdir = paths_of(logdir).root
        self.fresh = fresh
        self.objective = objective
        self._search: Callable[[], Any] | None = None
        self._is_used = False  # a fit was logged from its begin to its end
        self._is_in_vain = False  # the last one was not
        self._is_copy = False
        self._recordings: dict[int, Recording] = {}

    def __repr__(self) -> str:
        return f"HParamsCallback({str(self.logdir)!r})"

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_search": None, "_is_copy": True, "_is_used": False, "_recordings": {}}

    def setup(self, estimator: Any, context: Any = None) -> None:
        """Begin to log a fit."""
        _check_scikit_learn()
        _check_search(estimator)
        scores = scores_of(estimator, self.objective)
        self._recordings[id(estimator)] = Recording.begin(estimator, self._log(estimator), scores)

    def teardown(self, estimator: Any, context: Any = None) -> None:
        """End it, whatever came of it."""
        recording = self._recordings.pop(id(estimator), None)
        is_through = recording is not None and recording.is_through
        if self._is_of(estimator):
            self._is_used = self._is_used or is_through
            self._is_in_vain = not is_through
        if recording is not None:
            recording.end()

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Nothing: scikit-learn tells neither which parameters a task has, nor what came of it."""

    def on_fit_task_end(self, estimator: Any, context: Any) -> None:
        """Nothing."""

    def _bind(self, search: Any) -> None:
        """Say which search's callback it is; its clones have it too."""
        self._search = weakref.ref(search)

    def _is_of(self, search: Any) -> bool:
        return self._search is not None and self._search() is search

    def _log(self, search: Any) -> SearchLog:
        """The log directory for a search: that which was given, or one beside it for a clone or a second fit."""
        if self._search is None and not self._is_copy:
            self._bind(search)
        by = type(search).__name__
        if self._is_of(search) and not self._is_used:
            return SearchLog.open(self.logdir, by, fresh=self.fresh)
        for number in itertools.count(1):
            beside = self.logdir.with_name(f"{self.logdir.name}-{number}")
            try:
                return SearchLog.open(beside, by)
            except LogDirError:
                if not beside.is_dir():
                    raise
        raise AssertionError


class _LoggedFit:
    """A search's `fit` that is logged: for a scikit-learn without callbacks."""

    def __init__(self, search: Any, callback: HParamsCallback) -> None:
        self.search = search
        self.callback = callback

    def __call__(self, X: Any, y: Any = None, **params: Any) -> Any:
        search = self.search
        try:
            self.callback.setup(search)
            return type(search).fit(search, X, y, **params)
        finally:
            self.callback.teardown(search)


def _callback_of(search: Any) -> HParamsCallback | None:
    """The callback that logs a search; None when none does."""
    fit = vars(search).get("fit")
    if isinstance(fit, _LoggedFit):
        return fit.callback
    return next((one for one in getattr(search, "_skl_callbacks", ()) if isinstance(one, HParamsCallback)), None)


def _forget(search: Any, callback: HParamsCallback) -> None:
    """Leave a search as it was before `log_search`."""
    if hasattr(search, "set_callbacks"):
        search.set_callbacks(*(one for one in getattr(search, "_skl_callbacks", ()) if one is not callback))
    else:
        vars(search).pop("fit", None)


def _check_search(search: Any) -> None:
    """Refuse what is no search. Raises UsageError."""
    if not isinstance(search, BaseSearchCV):
        a_class = isinstance(search, type)
        kind = search.__name__ if a_class else type(search).__name__
        raise UsageError(
            f"log_search got {'the class ' if a_class else 'a '}{kind}; wanted a search of scikit-learn that is not "
            "fitted yet, such as GridSearchCV(estimator, param_grid)"
        )


def _check_scikit_learn() -> None:
    """Refuse a scikit-learn that lacks what is used here. Raises MissingExtraError."""
    of_a_fold = {"estimator", "X", "y", "scorer", "parameters", "split_progress"}
    parts = (
        (getattr(_validation, "_fit_and_score", None), of_a_fold),
        (getattr(BaseSearchCV, "_run_search", None), {"evaluate_candidates"}),
        (getattr(BaseSearchCV, "_select_best_index", None), {"refit", "refit_metric", "results"}),
    )
    known = all(part is not None and wanted <= {*signature(part).parameters} for part, wanted in parts)
    if not known or getattr(_search, "_fit_and_score", None) not in (_validation._fit_and_score, fit_and_score):
        raise MissingExtraError(
            f"scikit-learn {sklearn.__version__} trains folds in another way than log_search knows, or something "
            f"replaced its parts; bring one that it knows with: pip install '{SCIKIT_LEARN}'"
        )
