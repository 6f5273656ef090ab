"""The folds of `SklearnTuner`, told apart: it asks its splitter for one after the other, and scores each once.

So while a trial goes on, splitter, scoring and metrics are wrapped, and say what they are asked for.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

from hparams_lab.integrations.keras_tuner.record import TunerLog


@contextlib.contextmanager
def told_apart(tuner: Any, log: TunerLog) -> Iterator[None]:
    """While a trial of a `SklearnTuner` is run, each of its folds is a training of the log's."""
    before = tuner.cv, tuner.scoring, tuner.metrics
    found: dict[str, float] = {}
    tuner.cv = _Splitter(tuner.cv, log, found)
    tuner.scoring = _noting(tuner.scoring or _score, found, "score")
    tuner.metrics = [_noting(metric, found, metric.__name__) for metric in tuner.metrics]
    try:
        yield
    finally:
        tuner.cv, tuner.scoring, tuner.metrics = before


class _Splitter:
    """A splitter of scikit-learn's that tells of each fold when it begins and when it is over."""

    def __init__(self, splitter: Any, log: TunerLog, found: dict[str, float]) -> None:
        self._splitter, self._log, self._found = splitter, log, found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._splitter, name)

    def split(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        for pair in self._splitter.split(*args, **kwargs):
            self._found.clear()
            self._log.training_begins()
            yield pair
            self._log.training_ends(dict(self._found))


def _score(model: Any, x: Any, y: Any, sample_weight: Any = None) -> Any:
    return model.score(x, y, sample_weight=sample_weight)


def _noting(call: Callable[..., Any], found: dict[str, float], name: str) -> Callable[..., Any]:
    """The same function, which notes what it returns."""

    def noting(*args: Any, **kwargs: Any) -> Any:
        result = found[name] = call(*args, **kwargs)
        return result

    functools.update_wrapper(noting, call, updated=())
    noting.__name__ = name
    return noting
