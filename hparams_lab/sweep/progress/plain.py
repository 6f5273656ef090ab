"""The events of a sweep as plain lines, one for each that a person reads of later."""

from __future__ import annotations

from typing import IO

from hparams_lab.core.outcome import Outcome
from hparams_lab.core.present import in_words, metrics_in_words, time_taken, visible
from hparams_lab.sweep.events import (
    RunEnded,
    RunRetried,
    SweepEnded,
    SweepEvent,
    SweepNote,
    SweepStarted,
    SweepStopping,
)
from hparams_lab.sweep.progress.output import write_line
from hparams_lab.sweep.progress.sayings import over_in_words, retried_in_words, stopping_in_words
from hparams_lab.sweep.progress.tally import Tally


class PlainView:
    """One line for the start of the sweep, for each run that ends or is tried again, and for the end."""

    def __init__(self, file: IO[str] | None) -> None:
        self._file = file
        self._tally = Tally()
        self._started: SweepStarted | None = None

    def take(self, event: SweepEvent) -> None:
        """Print what is to be said of the event, if anything is."""
        self._tally.take(event)
        said = self._said(event)
        if said:
            write_line(self._file, said)

    def _said(self, event: SweepEvent) -> str:
        if isinstance(event, SweepStarted):
            self._started = event
            before = f", {len(event.done)} done before" if event.done else ""
            runs = "? runs" if event.total is None else f"{event.total} run{'s' * (event.total != 1)}"
            return f"{runs} into {visible(event.logdir)}{before}"
        if isinstance(event, RunEnded):
            return self._ended(event)
        if isinstance(event, RunRetried):
            return retried_in_words(event)
        if isinstance(event, SweepNote):
            return visible(event.text)
        if isinstance(event, SweepStopping):
            return stopping_in_words(event)
        if isinstance(event, SweepEnded):
            standing = self._tally.standing()
            return over_in_words(event, standing.done, standing.runs, self._tally.begun)
        return ""

    def _ended(self, event: RunEnded) -> str:
        run, standing = event.result, self._tally.standing()
        experiment = self._started.experiment if self._started else None
        tags = [metric.tag for metric in experiment.metrics] if experiment else []
        said = metrics_in_words(run.metrics, tags) if run.outcome is Outcome.COMPLETED else visible(run.reason)
        count = f"[{standing.done}/{'?' if standing.runs is None else standing.runs}]"
        took = f"{run.seconds or 0:.1f} s" if (run.seconds or 0) < 90 else time_taken(run.seconds)
        return f"{count} {run.name} {run.outcome} {took}  {said}  ({in_words(run.hparams, experiment)})"
