"""How a run ends: its outcome from the error that ended it, and the summaries that say so."""

from __future__ import annotations

import time
import traceback
from pathlib import Path
from typing import Any

from hparams_lab.errors import Pruned, UsageError
from hparams_lab.events import summaries
from hparams_lab.events.reader import OUTCOME_TAG, event_files
from hparams_lab.events.writer import EventFileWriter
from hparams_lab.results import Outcome

_STATUS = {
    Outcome.COMPLETED: summaries.SUCCESS,
    Outcome.PRUNED: summaries.SUCCESS,
    Outcome.INTERRUPTED: summaries.UNKNOWN,
}


def outcome_of(error: BaseException | None) -> tuple[Outcome, str, str]:
    """How a block that ended by `error` (None: normally) ended: the outcome, the reason, the traceback."""
    if error is None:
        return Outcome.COMPLETED, "", ""
    reason = " ".join(f"{type(error).__name__}: {error}".split()) if str(error) else type(error).__name__
    if isinstance(error, Pruned):
        return Outcome.PRUNED, reason, ""
    if not isinstance(error, Exception):
        return Outcome.INTERRUPTED, reason, ""
    return Outcome.FAILED, reason, "".join(traceback.format_exception(error))


def ending(outcome: Outcome, reason: str, details: str, now: float) -> list[Any]:
    """The last summaries of a run: the outcome in words where the status says too little, and the session end."""
    end = summaries.session_end(_STATUS.get(outcome, summaries.FAILURE), now)
    if outcome is Outcome.COMPLETED:
        return [end]
    fenced = f"\n\n```\n{details}\n```\n" if details else ""
    return [summaries.text(OUTCOME_TAG, f"{outcome}: {reason}{fenced}"), end]


def end_left_run(run: Path, outcome: Outcome, reason: str, details: str = "") -> None:
    """Give an end to a run whose process is gone."""
    writer = EventFileWriter.append(event_files(run)[-1])
    now = time.time()
    for summary in ending(outcome, reason, details, now):
        writer.add(summary, now=now)
    writer.close()


def outcome_named(outcome: Outcome | str) -> Outcome:
    """The outcome of that name. Raises UsageError."""
    try:
        return Outcome(outcome)
    except ValueError:
        known = ", ".join(outcome.value for outcome in Outcome)
        raise UsageError(f"{outcome!r} is not an outcome; there are {known}") from None
