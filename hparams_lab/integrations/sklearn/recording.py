"""One fit of a search, recorded: what is declared, which candidate is which trial, what is known in the end.

    recording = Recording.begin(search, "logs/grid")     before anything is trained
    ...                                                  scikit-learn fits
    recording.end()                                      the search is as it was

`_run_search` and `_select_best_index` are the two methods that every search has and calls once: around the candidates
and their scores, and between the scores and the refit. While the fit goes on they are the search's own attributes.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

from hparams_lab.core.errors import HParamsLabError, LogDirError
from hparams_lab.core.experiment import Experiment
from hparams_lab.core.outcome import Outcome
from hparams_lab.core.results import CHOSEN
from hparams_lab.core.trial import HParams
from hparams_lab.core.values import trial_id
from hparams_lab.events.write.writer import EventFileWriter
from hparams_lab.integrations.search_log import SearchLog, not_lost
from hparams_lab.integrations.sklearn.current import logging_into
from hparams_lab.integrations.sklearn.domains import Column, columns_of, hparams_of
from hparams_lab.integrations.sklearn.folds import Candidate, Task, being_trained, check_there, dispatching, log_history
from hparams_lab.integrations.sklearn.scores import Scores
from hparams_lab.logdir.run_reader import event_files, own_file, read_run
from hparams_lab.run.amend import add_outcome, add_scalars
from hparams_lab.run.outcome_records import end_left_run
from hparams_lab.run.reopen import Reopened
from hparams_lab.run.run import Run
from hparams_lab.storage import disk
from hparams_lab.storage.locks import is_held
from hparams_lab.storage.paths import writing

REFIT = "refit"
"""The directory of the refit, below that of its trial's first fold."""

LET_GO_SECONDS = 5.0
"""So long the worker processes of a search that was stopped have to be gone."""


_FOLD = re.compile(r"run-(\d+)-fold-\d")


class Recording:
    """A fit that is being recorded. Made by `begin`; `end` is called whatever came of it."""

    def __init__(self, search: Any, log: SearchLog, scores: Scores) -> None:
        self._search = search
        self._log = log
        self._scores = scores
        self._spaces = _spaces(search)
        self._drawn: list[dict[str, Any]] = []  # the candidates so far, each with what else `cv_results_` says of it
        self._tasks: dict[int, Task] = {}  # by number, where they could be logged
        self._before = vars(search).get("cv_results_")
        self._ids: Counter[str] = Counter()
        self._told: set[str] = set()
        self._results: Mapping[str, Any] | None = None
        self._is_ranked = False
        self._refit: Run | None = None
        self._held = contextlib.ExitStack()

    @classmethod
    def begin(cls, search: Any, log: SearchLog, scores: Scores) -> Recording:
        """Record a fit that begins, into a log that is open; it is closed in the end."""
        recording = cls(search, log, scores)
        recording._held.callback(log.close)
        recording._held.enter_context(dispatching())
        for name, method in (("_run_search", recording._run_search), ("_select_best_index", recording._select)):
            setattr(search, name, _InPlace(getattr(search, name), method))
            recording._held.callback(vars(search).pop, name, None)
        return recording

    @property
    def is_through(self) -> bool:
        """Whether the fit came to its end."""
        return vars(self._search).get("cv_results_", self._before) is not self._before

    def end(self) -> None:
        """Give an end to what has none, and leave the search as it was."""
        with not_lost("the end of the search"), self._held:
            if self._refit:
                with not_lost("the refit's time"):
                    _end_refit(self._refit, self._search)
            self._end_left()
            if not self._is_ranked and self._results is not None:
                self._rank(None)

    def _run_search(self, original: Callable[..., Any], evaluate: Callable[..., Any], **more: Any) -> None:
        def recorded(candidates: Any, *given: Any, **others: Any) -> Any:
            tried = [*candidates]
            results = evaluate(self._to_be_logged(tried, _beside(len(tried), given, others)), *given, **others)
            results["params"] = [dict(parameters) for parameters in results["params"]]
            self._results = results
            with not_lost("what the search measures"):
                self._scores = self._scores.as_found(results)
                self._declare()
            return results

        original(recorded, **more)

    def _to_be_logged(
        self, tried: list[Mapping[str, Any]], beside: Mapping[str, Sequence[Any]]
    ) -> Sequence[Mapping[str, Any]]:
        """The candidates with their tasks; as they are where the log cannot take them.

        Raises HParamsLabError as long as nothing was trained.
        """
        begin = len(self._drawn)
        try:
            found = self._tasks_of(tried, beside)
        except Exception as error:
            self._drawn += [{}] * (begin + len(tried) - len(self._drawn))  # to number those behind them
            if not begin and isinstance(error, HParamsLabError):
                raise
            with not_lost(f"what is tried from row {begin} of cv_results_ on"):
                raise
            return tried
        if {"iter", "n_resources"} <= beside.keys():
            with not_lost(f"what became of the rows before {begin} of cv_results_"):
                self._prune(begin)
        return found

    def _prune(self, begin: int) -> None:
        """Say of the folds of a halving search's last iteration whether it went on with them.

        Their scores are of fewer resources than those of the iteration that begins with the row `begin`.
        """
        iteration = self._drawn[begin]["iter"]
        went_on = {self._key(task) for number, task in self._tasks.items() if number >= begin}
        last = {
            number: f"went on in iteration {iteration}"
            if self._key(task) in went_on
            else f"left out after iteration {iteration - 1}"
            for number, task in self._tasks.items()
            if number < begin and self._drawn[number]["iter"] == iteration - 1
        }
        for number, run in self._runs():
            if number in last:
                with not_lost(f"what became of {run.name}"):
                    found = read_run(run, run.name)
                    if found is not None and found.outcome is Outcome.COMPLETED:
                        add_outcome(run, Outcome.PRUNED, last[number])

    def _key(self, task: Task) -> frozenset[tuple[str, Any]]:
        """A candidate, whatever resources it gets."""
        resources = ("iter", "n_resources", getattr(self._search, "resource", None))
        return frozenset(item for item in task.hparams.items() if item[0] not in resources)

    def _select(self, original: Callable[..., Any], refit: Any, metric: str, results: Mapping[str, Any]) -> Any:
        best = original(refit, metric, results)
        with not_lost("what is known of the trials in the end"):
            self._rank(int(best) if refit else None)
        if refit and best in self._tasks:
            with not_lost("the refit"):
                self._refit = self._held.enter_context(_refit_run(self._log, self._tasks[best]))
        return best

    def _tasks_of(
        self, candidates: Sequence[Mapping[str, Any]], beside: Mapping[str, Sequence[Any]]
    ) -> list[Candidate]:
        """The candidates, each with its task: numbered as the rows of `cv_results_`, named by their values."""
        alone = {"estimator": _estimator_name(self._search.estimator)}  # of a candidate without parameters
        rows = [{**{key: beside[key][i] for key in beside}, **(one or alone)} for i, one in enumerate(candidates)]
        begin = len(self._drawn)
        self._drawn += rows
        columns = self._declare()
        found = []
        for number, (one, row) in enumerate(zip(candidates, rows, strict=True), begin):
            values = {name: column.value(name, row[name]) for name, column in columns.items() if name in row}
            name = trial_id(values)
            self._ids[name] += 1
            name = name if self._ids[name] == 1 else f"{name}-{self._ids[name]}"
            self._tasks[number] = Task(self._log, number, name, values, self._scores)
            found.append(Candidate.of(one, self._tasks[number]))
        return found

    def _declare(self) -> dict[str, Column]:
        """Declare what the search ranges over, as far as it is known, and what it measures; the columns."""
        columns = columns_of(self._spaces, self._drawn)
        as_text = [name for name, column in columns.items() if column.was_object and name not in self._told]
        if as_text:
            self._told.update(as_text)
            warnings.warn(
                f"TensorBoard holds numbers, bools and strings; of these parameters the values are logged as text: "
                f"{', '.join(as_text)}",
                stacklevel=2,
            )
        metrics = self._scores.metrics(self._search.return_train_score, bool(self._search.refit))
        name = f"{type(self._search).__name__} of {_estimator_name(self._search.estimator)}"
        if self._tasks:
            check_there(self._log)
        self._log.declare(Experiment(hparams_of(columns), metrics, self._scores.tag, name=name))
        return columns

    def _rank(self, best: int | None) -> None:
        """Add to the runs what is known of their trials now: mean, standard deviation, rank, whether it is the best."""
        assert self._results is not None
        self._is_ranked = True
        for number, run in self._runs():
            if number < len(self._results["params"]):
                found = self._scores.of_trial(self._results, number)
                finite = {tag: value for tag, value in found.items() if math.isfinite(value)}
                with not_lost(f"what is known of {run.name} in the end"):
                    add_scalars(run, finite if best is None else {**finite, CHOSEN: number == best}, fsync=False)

    def _end_left(self) -> None:
        """Give an end to the runs of worker processes that were killed with a search that was stopped."""
        through = len(self._results["params"]) if self._results else 0
        if through < len(self._drawn):
            end = time.monotonic() + LET_GO_SECONDS
            with not_lost("the end of what was being trained"):
                for number, run in self._runs():
                    if number >= through and run not in being_trained:
                        _end_run(run, end)

    def _runs(self) -> Iterator[tuple[int, Path]]:
        """The directories of the folds' runs, each with its candidate's number."""
        for entry in sorted(os.listdir(self._log.paths.root)):
            if match := _FOLD.match(entry):
                yield int(match[1]), self._log.paths.run(entry)


class _InPlace:
    """A search's method while it is recorded: `method(original, ...)`. A copy in a worker process is nobody's."""

    def __init__(self, original: Callable[..., Any], method: Callable[..., Any]) -> None:
        self._original = original
        self._method = method
        self.__signature__ = signature(original)  # scikit-learn asks which contexts it takes

    def __call__(self, *given: Any, **more: Any) -> Any:
        return self._method(self._original, *given, **more)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[()]]:
        return _nobody, ()


def _nobody() -> None:
    """What travels to a worker process in place of a method."""


def _spaces(search: Any) -> list[Mapping[str, Any]]:
    """The grids or distributions that a search was given."""
    given = getattr(search, "param_grid", None) or getattr(search, "param_distributions", None) or {}
    return [given] if isinstance(given, Mapping) else [*given]


def _estimator_name(estimator: Any) -> str:
    """A pipeline's last step says more than that it is one."""
    steps = getattr(estimator, "steps", None)
    return type(steps[-1][-1] if steps else estimator).__name__


def _beside(count: int, given: Sequence[Any], others: Mapping[str, Any]) -> dict[str, Sequence[Any]]:
    """What `cv_results_` is to say of candidates beside their parameters, such as the iteration of a halving search.

    `evaluate_candidates(candidates, cv, more_results, ...)` takes a list for each name.
    """
    more = others.get("more_results", given[1] if len(given) > 1 else None) or {}
    return {key: values for key, values in more.items() if len(values) == count}


def _end_run(run: Path, deadline: float) -> None:
    """Give an end to a run without one, once nobody writes it; one that never began to be written goes."""
    files = event_files(run)
    if not files:
        disk.remove_tree(run)
        return
    while is_held(own_file(run)) and time.monotonic() < deadline:
        time.sleep(0.01)
    with contextlib.suppress(HParamsLabError):
        end_left_run(run, Outcome.INTERRUPTED, "its search was stopped")


@contextlib.contextmanager
def _refit_run(log: SearchLog, task: Task) -> Iterator[Run]:
    """What is fitted within logs into `refit/` below the first fold of its trial, without a session of its own.

    A session would be one more run of the trial, without a score: the trial would have no mean, and no rank.
    """
    directory = log.paths.run(task.fold_name(0)) / REFIT
    if not directory.parent.is_dir():
        raise LogDirError(f"{directory.parent} is gone, or was never made")
    with writing(directory):
        disk.make_directories(directory)
    writer = EventFileWriter.create(directory, time.time())
    name = f"{directory.parent.name}/{REFIT}"
    run = Run(directory, name, HParams(task.hparams), trial=task.trial, reopened=Reopened(writer), fsync=False)
    try:
        with logging_into(run):
            yield run
    finally:
        with not_lost("the end of the refit"):
            run.leave()


def _end_refit(run: Run, search: Any) -> None:
    """Log what is known once the best was trained again."""
    if hasattr(search, "refit_time_"):
        log_history(search.best_estimator_, run)
        run.log({"fit_time": search.refit_time_})
