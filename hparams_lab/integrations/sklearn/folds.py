"""A fold as a run, where it is trained: in the process of the search, a thread, or a worker process.

scikit-learn trains each fold of each candidate in `_fit_and_score(estimator, X, y, parameters=...)`. While a search is
logged, `fit_and_score` stands in its place, and parameters that are a `Candidate` say which run they are of. It travels
to worker processes by its name, and the candidate by value.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import math
import threading
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sklearn.metrics._scorer import _MultimetricScorer
from sklearn.model_selection import _search, _validation

from hparams_lab.core.errors import LogDirError
from hparams_lab.core.outcome import Outcome
from hparams_lab.core.scalar import LARGEST_SCALAR
from hparams_lab.core.values import Value
from hparams_lab.integrations.search_log import SearchLog, not_lost, run_name
from hparams_lab.integrations.sklearn.build_function import DivergedError
from hparams_lab.integrations.sklearn.current import EPOCH, logging_into
from hparams_lab.integrations.sklearn.scores import SEEN, UNSEEN, Scores
from hparams_lab.run.outcome_records import outcome_of, was_raised
from hparams_lab.run.run import Run

train = _validation._fit_and_score
"""scikit-learn's own."""


@dataclass(frozen=True, slots=True)
class Task:
    """What a fold's run needs to know of its candidate.

    Attributes:
      log: where it is logged.
      number: the candidate's place in `cv_results_`.
      trial: its id.
      hparams: its values, as they are logged.
      scores: what its scores are called.
    """

    log: SearchLog
    number: int
    trial: str
    hparams: Mapping[str, Value]
    scores: Scores

    def fold_name(self, fold: int) -> str:
        """The name of the run of a fold: 0, 1, ..."""
        return run_name(self.number, "fold", fold)

    def start(self, name: str) -> Run:
        """Start a run of the trial. Raises LogDirError when that cannot be."""
        check_there(self.log)
        return self.log.start(name, self.hparams, self.trial, provenance=False, judged=False, fsync=False)


class Candidate(dict[str, Any]):
    """A candidate's parameters, as scikit-learn takes them, with the task that they are of."""

    task: Task

    @classmethod
    def of(cls, parameters: Mapping[str, Any], task: Task) -> Candidate:
        """These parameters, of this task."""
        made = cls(parameters)
        made.task = task
        return made


def check_there(log: SearchLog) -> None:
    """Refuse a log directory that was deleted: what would be made in its place is no log. Raises LogDirError."""
    if not log.paths.root.is_dir():
        raise LogDirError(f"{log.paths.root} is gone; what is logged from here on is lost with it")


being_trained: set[Path] = set()
"""The directories of runs that threads of this process make and write."""


def fit_and_score(estimator: Any, X: Any, y: Any, *, parameters: Any, **more: Any) -> Any:
    """scikit-learn's `_fit_and_score`, and a run of it when the parameters are a `Candidate`."""
    if not isinstance(parameters, Candidate):
        with logging_into(None):  # a search inside of what is trained: its epochs are its own
            return train(estimator, X, y, parameters=parameters, **more)
    task = parameters.task
    scorer = _watched(more.pop("scorer"), task.scores.names[0])
    with _run_of(task, more["split_progress"][0]) as run:
        with dispatching(), logging_into(run):
            result = train(estimator, X, y, parameters=dict(parameters), scorer=scorer, **more)
        if run is not None:
            log_history(estimator, run)
            with not_lost(f"what came of {run.name}"):
                _finish(run, task.scores, result, scorer.failures)
    return result


@contextlib.contextmanager
def _run_of(task: Task, fold: int) -> Iterator[Run | None]:
    """The run of a fold, which ends as the block does; None where it cannot be logged. It raises the block's errors."""
    name = task.fold_name(fold)
    directory = task.log.paths.run(name)
    being_trained.add(directory)
    run: Run | None = None
    try:
        with not_lost(name):
            run = task.start(name)
        yield run
    except BaseException as error:
        if run is not None:
            with not_lost(f"the end of {name}"):
                run.finish(None, *_ended_by(error))
        raise
    finally:
        being_trained.discard(directory)
        if run is not None and not run.is_over:
            with contextlib.suppress(Exception):  # it was said that it is not in the log
                run.leave()


def _ended_by(error: BaseException) -> tuple[Outcome, str, str]:
    """How a fold ended by an error that ends the search: the outcome, the reason, the traceback."""
    outcome, reason, details = outcome_of(error)
    return Outcome.DIVERGED if isinstance(error, DivergedError) else outcome, reason, details


def _reason(details: str) -> str:
    """The name of an error's class and what it says, in a line, from its traceback."""
    lines = details.rpartition("Traceback (most recent call last):\n")[2].splitlines()
    said = " ".join(" ".join(itertools.dropwhile(lambda line: line[:1].isspace(), lines)).split())
    kind, colon, rest = said.partition(":")
    return said if " " in kind else kind.rpartition(".")[2] + colon + rest


def _finish(run: Run, scores: Scores, result: Mapping[str, Any], failures: Mapping[str, str]) -> None:
    """Log what came of a fold, and end its run."""
    times = {tag: result[tag] for tag in ("fit_time", "score_time")}
    if result["fit_error"]:
        failures = dict.fromkeys(scores.names, result["fit_error"])
    # What is in the place of a score that failed is `error_score`, which nobody measured.
    measured = {
        tag: value
        for prefix, found in ((SEEN, result.get("train_scores", {})), (UNSEEN, result["test_scores"]))
        for tag, value in scores.by_tag(found, prefix).items()
        if tag.removeprefix(prefix) not in failures
    }
    if failures:
        why = next(iter(failures.values())).strip()
        outcome = Outcome.DIVERGED if was_raised(DivergedError, why) else Outcome.FAILED
        run.finish({**times, **measured}, outcome, _reason(why), why)
        return
    tag = scores.tag if scores.tag in measured else next((tag for tag in measured if tag.startswith(UNSEEN)), "")
    score = measured.get(tag, math.nan)
    if math.isfinite(score) and abs(score) <= LARGEST_SCALAR:
        run.finish({**times, **measured})
    else:
        run.finish({**times, **measured}, Outcome.DIVERGED, f"the score {tag!r} is {score}")


def log_history(estimator: Any, run: Run) -> None:
    """Log the epochs of a Keras estimator that is not ours, which keeps them as `history_`: after the fit.

    Warns where it cannot.
    """
    with not_lost(f"what the epochs of {run.name} reported"):
        history = next((found for found in map(_history, _parts(estimator)) if found), None)
        if history and not any(tag.startswith(EPOCH) for tag in run.metrics):
            for name, values in history.items():
                run.log_columns({EPOCH + name: values}, steps=range(1, len(values) + 1))


def _parts(estimator: Any) -> Iterator[Any]:
    """A fitted estimator, and those that it is made of."""
    yield estimator
    for step in reversed(getattr(estimator, "steps", ())):
        yield from _parts(step[-1])
    for name in ("best_estimator_", "regressor_", "classifier_", "estimator_"):
        if part := vars(estimator).get(name) if hasattr(estimator, "__dict__") else None:
            yield from _parts(part)


def _history(estimator: Any) -> dict[str, list[float]]:
    """The curves of an estimator by name; none when it keeps none."""
    history = getattr(estimator, "history_", None)
    if not isinstance(history, Mapping):
        return {}
    return {
        str(name): [float(value) for value in values]
        for name, values in history.items()
        if isinstance(values, list) and values and all(isinstance(value, (int, float)) for value in values)
    }


class _WatchedScorer:
    """A scorer that keeps the traceback of what it raised; scikit-learn makes a warning of it."""

    def __init__(self, scorer: Any, name: str) -> None:
        self._scorer = scorer
        self._name = name
        self.failures: dict[str, str] = {}

    def __call__(self, *given: Any, **more: Any) -> Any:
        try:
            return self._scorer(*given, **more)
        except Exception:
            self.failures[self._name] = traceback.format_exc()
            raise

    def __repr__(self) -> str:
        return repr(self._scorer)


class _WatchedScorers(_MultimetricScorer):
    """The same for several, of which scikit-learn gives the tracebacks in place of the scores."""

    failures: dict[str, str]

    def __call__(self, *given: Any, **more: Any) -> Any:
        found = super().__call__(*given, **more)
        self.failures |= {name: value for name, value in found.items() if isinstance(value, str)}
        return found


def _watched(scorer: Any, name: str) -> Any:
    """The scorer, or scorers, of a fold, with `failures`: the tracebacks of what was raised, by name."""
    if not isinstance(scorer, _MultimetricScorer):
        return _WatchedScorer(scorer, name)
    watched = copy.copy(scorer)
    watched.__class__ = _WatchedScorers
    watched.failures = {}
    return watched


_lock = threading.Lock()
_searches = 0


@contextlib.contextmanager
def dispatching() -> Iterator[None]:
    """Let `fit_and_score` stand in scikit-learn's place, until the last of those who asked for it is through."""
    global _searches
    with _lock:
        _search._fit_and_score = fit_and_score
        _searches += 1
    try:
        yield
    finally:
        with _lock:
            _searches -= 1
            if not _searches:
                _search._fit_and_score = train
