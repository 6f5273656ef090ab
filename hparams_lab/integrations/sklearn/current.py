"""The run that a fit of now belongs to, as whoever searches says: `KerasClassifier` logs its epochs there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

from hparams_lab.run.run import Run

EPOCH = "epoch/"
"""Where the curves of a Keras model are logged, a point after each epoch."""

_RUN: ContextVar[Run | None] = ContextVar("hparams_lab_sklearn_run", default=None)


def current_run() -> Run | None:
    """The run to log into, in this thread; None where nobody logs."""
    return _RUN.get()


@contextlib.contextmanager
def logging_into(run: Run | None) -> Iterator[None]:
    """What is fitted within logs its epochs into this run; with None, nothing is logged."""
    before = _RUN.set(run)
    try:
        yield
    finally:
        _RUN.reset(before)
