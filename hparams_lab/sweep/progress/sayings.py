"""What is said of an event that a person should know of: the same in the live view and in plain lines."""

from __future__ import annotations

from hparams_lab.core.outcome import Outcome
from hparams_lab.core.present import counted, in_units, visible
from hparams_lab.core.results import RunResult
from hparams_lab.sweep.events import PictureStarted, RunRetried, SweepEnded, SweepStopping

LONGEST_REASON = 500


def stopping_in_words(event: SweepStopping) -> str:
    """What a person is told who asked the sweep to stop."""
    name = "Ctrl-C" if event.signal_name == "SIGINT" else event.signal_name
    running = f"{len(event.running)} running run{'s' * (len(event.running) != 1)}"
    if event.at_once:
        return f"{name}: stopping the {running}" if event.running else f"{name}: stopping"
    if not event.running:
        return f"{name}: nothing is running; stopping"
    return f"{name}: waiting for the {running}; press it again to stop {'them' if len(event.running) > 1 else 'it'}"


def retried_in_words(event: RunRetried) -> str:
    """Why a run is done again."""
    why = f": {_short(event.attempt.reason)}" if event.attempt.reason else ""
    return f"{event.spec.name} {event.attempt.outcome}{why}; trying again, attempt {event.number + 1}"


def ended_in_words(run: RunResult) -> str:
    """How a run ended that did not complete."""
    return f"{visible(run.name)} {run.outcome}{f': {_short(run.reason)}' if run.reason else ''}"


def picturing_in_words(event: PictureStarted) -> str:
    """What goes on between the last run's end and that of the sweep."""
    return f"asking the model of {visible(event.name)} about some test images"


def over_in_words(event: SweepEnded, done: int, runs: int | None, begun: int) -> str:
    """What is said at the end of a sweep of which so many runs are done, and so many were begun in this call."""
    of = f"{done} of {runs}" if runs is not None else f"{done}"
    if event.interrupted and done != runs:
        return f"stopped: {of} runs are done; the same command goes on from here"
    if not begun:
        return f"all {done} runs were done before; nothing to train"
    outcomes = [run.outcome for run in event.results.runs]
    counts = {outcome: outcomes.count(outcome) for outcome in Outcome}
    return f"{of} runs done in {in_units(event.seconds)} ({counted(counts)})"


def _short(reason: str) -> str:
    said = visible(" ".join(reason.split()))
    return said if len(said) <= LONGEST_REASON else f"{said[:LONGEST_REASON]}…"
