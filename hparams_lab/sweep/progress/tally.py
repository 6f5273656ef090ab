"""`Tally`: how a sweep stands, kept up to date event by event."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hparams_lab.core.declared import Declared
from hparams_lab.core.outcome import Outcome
from hparams_lab.core.present import BATCH_TAGS, epochs_of
from hparams_lab.core.results import RunResult
from hparams_lab.sweep.events import (
    RunEnded,
    RunReported,
    RunRetried,
    RunStarted,
    SweepEnded,
    SweepEvent,
    SweepStarted,
    SweepStopping,
)
from hparams_lab.sweep.progress.standing import (
    Best,
    Going,
    Standing,
    rest_of_epochs,
    seconds_left,
    telling_first,
    worth_showing,
)

if TYPE_CHECKING:
    from hparams_lab.core.trial import RunSpec

LATEST = 100
"""The time left is told from so many of the last runs."""


@dataclass(slots=True)
class _UnderWay:
    """A run that was begun."""

    spec: RunSpec
    since: float
    attempt: int
    first: tuple[int, float] | None = None  # a step, and when it was reported
    last: tuple[int, float] | None = None
    metrics: dict[str, float] = field(default_factory=dict)


class Tally:
    """What the events so far amount to.

    Args: clock: gives seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._declared: Declared | None = None
        self._objective = ""
        self._sign = 1.0
        self._total: int | None = None
        self._outcomes: Counter[Outcome] = Counter()
        self._running: dict[str, _UnderWay] = {}
        self._attempts: dict[str, int] = {}
        self._taken: list[float] = []
        self._at_once = 1
        self._best: RunResult | None = None
        self._is_stopping = False
        self.began = clock()
        self.begun = 0
        """How many runs were begun."""
        self.is_started = False
        self.ended: SweepEnded | None = None

    def take(self, event: SweepEvent) -> None:
        """Take note of an event."""
        if isinstance(event, SweepStarted):
            self._start(event)
        elif isinstance(event, RunStarted):
            self._begin(event.spec)
            self.begun += 1
        elif isinstance(event, RunReported):
            self._report(event)
        elif isinstance(event, RunRetried):
            self._attempts[event.spec.name] = event.number + 1
            self._running.pop(event.spec.name, None)  # until it is begun again
        elif isinstance(event, RunEnded):
            self._end(event.result)
        elif isinstance(event, SweepStopping):
            self._is_stopping = True
        elif isinstance(event, SweepEnded):
            self.ended = event
            self._running.clear()

    def _start(self, event: SweepStarted) -> None:
        metric = event.experiment.objective_metric
        self._objective, self._sign = metric.tag, -1.0 if metric.goal == "max" else 1.0
        self._declared = Declared.of(event.experiment)
        self._total, self.began, self.is_started = event.total, self._clock(), True
        for run in event.done:
            self._outcomes[run.outcome] += 1
            self._note_best(run)

    def _begin(self, spec: RunSpec) -> None:
        self._running[spec.name] = _UnderWay(spec, self._clock(), self._attempts.get(spec.name, 1))
        self._at_once = max(self._at_once, len(self._running))

    def _report(self, event: RunReported) -> None:
        run = self._running.get(event.name)
        if run is not None:
            run.metrics |= event.metrics
            if not all(tag.startswith(BATCH_TAGS) for tag in event.metrics) or not epochs_of(run.spec.trial.hparams):
                run.last = (event.step, self._clock())
                run.first = run.first or run.last

    def _end(self, result: RunResult) -> None:
        run = self._running.pop(result.name, None)
        self._attempts.pop(result.name, None)
        if result.is_over:
            self._outcomes[result.outcome] += 1
            # from its start to its end as seen here: what is not in the run's own file takes its time too
            self._taken = [*self._taken[1 - LATEST :], self._clock() - run.since if run else result.seconds or 0.0]
        self._note_best(result)

    def _note_best(self, run: RunResult) -> None:
        value = run.metrics.get(self._objective, math.nan)
        if run.outcome is not Outcome.COMPLETED or not math.isfinite(value):
            return
        if self._best is None or self._sign * value < self._sign * self._best.metrics[self._objective]:
            self._best = run

    def standing(self) -> Standing:
        """How the sweep stands now."""
        running = [self._going(name, run) for name, run in self._running.items()]
        standing = Standing(self._total, dict(self._outcomes), running, self._best_so_far())
        to_begin = 0 if self._is_stopping else standing.waiting
        left = seconds_left(self._taken, running, to_begin, self._at_once)
        return Standing(self._total, standing.outcomes, running, standing.best, left)

    def _going(self, name: str, run: _UnderWay) -> Going:
        epochs, now = epochs_of(run.spec.trial.hparams), self._clock()
        first = [self._objective, *(self._declared.metrics if self._declared else ())]
        return Going(
            name,
            now - run.since,
            run.last[0] if run.last else None,
            epochs,
            rest_of_epochs(epochs, run.first, run.last, now) if run.first and run.last else None,
            telling_first(run.metrics, first),
            worth_showing(run.spec.trial.hparams, self._declared),
            run.attempt,
        )

    def _best_so_far(self) -> Best | None:
        if self._best is None or self._declared is None:
            return None
        value = self._best.metrics[self._objective]
        title = self._declared.title(self._objective)
        return Best(self._best.name, title, value, worth_showing(self._best.hparams, self._declared))
