"""The events of a sweep as JSON lines."""

from __future__ import annotations

import json
from collections import Counter
from typing import IO, Any

from hparams_lab.core.present import dump, run_as_json
from hparams_lab.sweep.events import (
    PictureStarted,
    RunEnded,
    RunReported,
    RunRetried,
    RunStarted,
    SweepEnded,
    SweepEvent,
    SweepNote,
    SweepStarted,
    SweepStopping,
)
from hparams_lab.sweep.progress.output import encoding_of, write_line


def print_json(event: SweepEvent, file: IO[str] | None) -> None:
    """Print an event as a line, in ASCII where the file's encoding lacks a character of it."""
    said = dump(event_as_json(event))
    try:
        said.encode(encoding_of(file) if file else "utf-8")
    except UnicodeEncodeError:
        said = json.dumps(json.loads(said))  # the escapes of JSON, which every reader of it knows
    write_line(file, said)


def event_as_json(event: SweepEvent) -> dict[str, Any]:
    """An event as plain JSON."""
    if isinstance(event, SweepStarted):
        return {"event": "sweep_started", "logdir": str(event.logdir), "runs": event.total, "done": len(event.done)}
    if isinstance(event, RunStarted):
        return {"event": "run_started", "run": event.spec.name, "hparams": dict(event.spec.trial.hparams)}
    if isinstance(event, RunReported):
        return {"event": "run_reported", "run": event.name, "step": event.step, "metrics": dict(event.metrics)}
    if isinstance(event, RunRetried):
        return _retried(event)
    if isinstance(event, RunEnded):
        return {"event": "run_ended", **run_as_json(event.result)}
    if isinstance(event, SweepNote):
        return {"event": "note", "text": event.text}
    if isinstance(event, PictureStarted):
        return {"event": "picture_started", "run": event.name}
    if isinstance(event, SweepStopping):
        running = list(event.running)
        return {"event": "sweep_stopping", "running": running, "signal": event.signal_name, "at_once": event.at_once}
    return _ended(event)


def _retried(event: RunRetried) -> dict[str, Any]:
    attempt = event.attempt
    told = {"outcome": str(attempt.outcome), "reason": attempt.reason, "log": attempt.log or None}
    return {"event": "run_retried", "run": event.spec.name, "attempt": event.number, **told}


def _ended(event: SweepEnded) -> dict[str, Any]:
    best = event.results.best()
    return {
        "event": "sweep_ended",
        "seconds": round(event.seconds, 3),
        "interrupted": event.interrupted,
        "signal": event.signal,
        "outcomes": dict(Counter(str(run.outcome) for run in event.results.runs)),
        "best": {"run": best.name, "hparams": dict(best.hparams), "metrics": best.metrics} if best else None,
        "pictured": event.pictured,
    }
