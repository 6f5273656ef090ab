"""How a run ends: its outcome from the error that ended it, and the summaries that say so."""

from __future__ import annotations

import contextlib
import errno
import re
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hparams_lab.core.errors import Pruned, UsageError
from hparams_lab.core.outcome import Outcome
from hparams_lab.events.format import summaries
from hparams_lab.events.format.event_file import summary_event
from hparams_lab.events.write.writer import EventFileWriter
from hparams_lab.logdir.run_reader import OUTCOME_TAG, own_file
from hparams_lab.storage import disk

_STATUS = {
    Outcome.COMPLETED: summaries.SUCCESS,
    Outcome.PRUNED: summaries.SUCCESS,
    Outcome.INTERRUPTED: summaries.UNKNOWN,
}

# Errors of frameworks, which are not imported for this: package and name of a class, or the words of a RuntimeError.
_PRUNED = {
    ("optuna", "TrialPruned"),
    ("keras_tuner", "FailedTrialError"),
    ("ray", "_AbortTrialExecution"),
    ("ray", "_TuneStopTrialError"),
    ("lightning", "_TunerExitException"),
    ("pytorch_lightning", "_TunerExitException"),
}
_FOR_WANT_OF_MEMORY = {("tensorflow", "ResourceExhaustedError"), ("torch", "OutOfMemoryError")}
_OUT_OF_MEMORY = (
    "RESOURCE_EXHAUSTED",  # JAX: its error has had three names
    "CUDA out of memory",
    "CUDA error: out of memory",
    "HIP out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "DefaultCPUAllocator: can't allocate memory",
)


def outcome_of(error: BaseException | None) -> tuple[Outcome, str, str]:
    """How a block that ended by `error` (None: normally) ended: the outcome, the reason, the traceback."""
    if error is None:
        return Outcome.COMPLETED, "", ""
    said = _said(error)
    reason = " ".join(f"{type(error).__name__}: {said}".split()) if said else type(error).__name__
    if isinstance(error, Pruned) or kinds_of(error) & _PRUNED:
        return Outcome.PRUNED, reason, ""
    if not isinstance(error, Exception):
        return Outcome.INTERRUPTED, reason, ""
    outcome = Outcome.OUT_OF_MEMORY if is_for_want_of_memory(error) else Outcome.FAILED
    return outcome, reason, "".join(traceback.format_exception(error))


def is_for_want_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, the machine's or an accelerator's, in a framework's words or ours."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    if kinds_of(error) & _FOR_WANT_OF_MEMORY:
        return True
    return isinstance(error, RuntimeError) and any(words in _said(error) for words in _OUT_OF_MEMORY)


def kinds_of(error: BaseException) -> set[tuple[str, str]]:
    """The package and name of an error's class and of those that it is derived from."""
    return {(str(kind.__module__).partition(".")[0], kind.__name__) for kind in type(error).__mro__}


def was_raised(kind: type[BaseException], details: str) -> bool:
    """Whether a traceback ends with an error of that very class, and not of another that has its name."""
    last = [line for line in details.splitlines() if line and not line.startswith("```")][-1:]
    return any(re.match(rf"{re.escape(kind.__module__)}\.{kind.__qualname__}(:|$)", line) for line in last)


def _said(error: BaseException) -> str:
    """What an error says of itself; nothing where it fails in that too."""
    with contextlib.suppress(Exception):
        return str(error)
    return ""


def call_at_end(run: str, call: Callable[[], Any]) -> None:
    """Make a call at the end of a run of that name, which is over whatever comes of it: an error is a warning."""
    try:
        call()
    except Exception as error:
        warnings.warn(f"run {run!r}: a call at its end failed: {error!r}", stacklevel=2)


def ending(outcome: Outcome, reason: str, details: str, now: float) -> list[Any]:
    """The last summaries of a run: the outcome in words where the status says too little, and the session end."""
    end = summaries.session_end(_STATUS.get(outcome, summaries.FAILURE), now)
    if outcome is Outcome.COMPLETED:
        return [end]
    fenced = f"\n\n```\n{details}\n```\n" if details else ""
    return [summaries.text(OUTCOME_TAG, f"{outcome}: {reason}{fenced}"), end]


def end_left_run(run: Path, outcome: Outcome, reason: str, now: float | None = None) -> None:
    """Give an end to a run whose process is gone, unless it has one. `now` is seconds since 1970.

    Raises LogDirError, and EventFileError for a file that is broken in the middle; nothing is written then.
    """
    writer = EventFileWriter.append(own_file(run))
    try:
        now = time.time() if now is None else now
        records = [summary_event(summary, 0, now) for summary in ending(outcome, reason, "", now)]
        writer.close(last=b"" if writer.has_end else b"".join(records))
    except OSError as error:
        raise disk.refusal(run, error) from None
    finally:
        writer.abandon()


def outcome_named(outcome: Outcome | str) -> Outcome:
    """The outcome of that name. Raises UsageError."""
    try:
        return Outcome(outcome)
    except ValueError:
        known = ", ".join(outcome.value for outcome in Outcome)
        raise UsageError(f"{outcome!r} is not an outcome; there are {known}") from None
