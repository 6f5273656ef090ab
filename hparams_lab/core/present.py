"""Results in words for people, and as JSON for machines: what the commands and the progress of a sweep share."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hparams_lab.core.outcome import Outcome
from hparams_lab.core.values import format_value

if TYPE_CHECKING:
    from hparams_lab.core.experiment import Experiment
    from hparams_lab.core.results import Results, RunResult, TrialResult

COLOURS = {
    Outcome.COMPLETED: "green", Outcome.PRUNED: "cyan", Outcome.DIVERGED: "yellow", Outcome.RUNNING: "blue",
    Outcome.INTERRUPTED: "yellow", Outcome.UNKNOWN: "white",
}  # fmt: skip
"""How outcomes stand out on a terminal; all others are red."""

BROKEN = frozenset({Outcome.FAILED, Outcome.CRASHED, Outcome.TIMED_OUT, Outcome.OUT_OF_MEMORY})
"""Outcomes of a run in which something went wrong: counted as failed."""

EPOCHS = ("hpepoch", "hpepochs", "epochs", "num_epochs", "n_epochs", "max_epochs", "epoch")
"""What the hparam is called that says for how many epochs a run trains."""

BATCH_TAGS = "batch/"
"""How the tags begin whose steps are batches, not epochs."""

RAMP = "▁▂▃▄▅▆▇█"
"""The heights of a sparkline, the lowest first."""

_JOINERS = "\u200c\u200d"  # invisible, and part of words and emoji
_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def visible(text: object) -> str:
    """A text as it may be shown to a person, in one line: what would steer the terminal is escaped.

    That is control characters, line separators, marks that turn the direction of writing, and lone surrogates.
    """
    said = str(text)
    if said.isascii() and said.isprintable():
        return said
    return "".join(map(_escaped, said))


def _escaped(char: str) -> str:
    if unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Zl", "Zp") or char in _JOINERS:
        return char
    code = ord(char)
    return _ESCAPES.get(char) or (
        f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"
    )


def some(names: Iterable[str]) -> str:
    """The first three names, and how many more there are."""
    listed = list(names)
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3:,} more" if len(listed) > 3 else "")


@dataclass(frozen=True, slots=True)
class Counts:
    """How many runs, trials and sessions there are. Every command counts these, in these words.

    A run is a training, with or without hyperparameters; a session a run with a session start, which TensorBoard's tab
    shows; a trial the runs of one session group, or one run of its own.
    """

    runs: int
    trials: int
    sessions: int

    @classmethod
    def of(cls, results: Results) -> Counts:
        """Those of a log directory."""
        return cls(len(results.runs), len(results.trials), sum(run.is_session for run in results.runs))

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.runs + other.runs, self.trials + other.trials, self.sessions + other.sessions)

    def __str__(self) -> str:
        """`3 runs in 1 trial`, `2 runs, 2 trials, no hyperparameters`."""
        joint = ", " if self.runs == self.trials else " in "
        said = said_with(self.runs, "run") + joint + said_with(self.trials, "trial")
        if self.sessions == self.runs:
            return said
        return f"{said}, {said_with(self.sessions, 'session') if self.sessions else 'no hyperparameters'}"

    def as_json(self) -> dict[str, int]:
        """The counts by name."""
        return {"runs": self.runs, "trials": self.trials, "sessions": self.sessions}


def said_with(count: int, what: str) -> str:
    """A count with its noun: 1 trial, 2 trials."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def runs_in_words(trial: TrialResult, tag: str | None) -> str:
    """How many runs a trial has, "2 of 3" where only some of them have the metric."""
    count = len(trial.runs)
    there = count if tag is None else len(trial.runs_with(tag))
    return str(count) if there in (0, count) else f"{there} of {count}"


def run_as_json(run: RunResult) -> dict[str, Any]:
    """A run as plain JSON."""
    return {
        "run": run.name,
        "trial": run.trial_id,
        "hparams": dict(run.hparams),
        "outcome": str(run.outcome),
        "reason": run.reason or None,
        "metrics": dict(run.metrics),
        "seconds": run.seconds,
    }


def dump(found: Any) -> str:
    """One line of strict JSON: NaN and infinities, which JSON lacks, are null."""
    return json.dumps(_strict(found), ensure_ascii=False, allow_nan=False)


def _strict(found: Any) -> Any:
    if isinstance(found, Mapping):
        return {key: _strict(value) for key, value in found.items()}
    if isinstance(found, (list, tuple)):
        return [_strict(value) for value in found]
    if isinstance(found, float) and not abs(found) < float("inf"):
        return None
    return found


def in_units(seconds: float) -> str:
    """A time as a person says it: 42 s, 3 min, 1.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def time_taken(seconds: float | None) -> str:
    """The time of a run or trial, finer where it is short; a dash where it has none yet."""
    return "-" if seconds is None else f"{seconds:.1f} s" if seconds < 90 else in_units(seconds)


def in_words(hparams: Mapping[str, Any], experiment: Experiment | None = None) -> str:
    """Values as `name=value` pairs; those that cannot vary left out where the experiment tells."""
    fixed = {hparam.name for hparam in experiment.hparams if hparam.domain.size == 1} if experiment else set()
    shown = [name for name in hparams if name not in fixed] or list(hparams)
    return "  ".join(visible(f"{name}={format_value(hparams[name])}") for name in shown)


def metrics_in_words(metrics: Mapping[str, float], tags: list[str]) -> str:
    """The metrics of these tags, as far as they are there, as `tag value` pairs."""
    return "  ".join(f"{visible(tag)} {metrics[tag]:.4g}" for tag in tags if tag in metrics)


def epochs_of(hparams: Mapping[str, Any]) -> int | None:
    """For how many epochs a run of these values trains; None when they do not say."""
    values = (hparams[name] for name in EPOCHS if name in hparams)
    return next((value for value in values if type(value) is int and value > 0), None)


def step_in_words(step: int | None, epochs: int | None) -> str:
    """How far a run is: `epoch 3/15` where its steps are epochs, else `step 3`; `starting` before the first."""
    if step is None:
        return "starting"
    return f"epoch {step}/{epochs}" if epochs and 0 <= step <= epochs else f"step {step}"


def counted(counts: Mapping[Outcome, int]) -> str:
    """How many there are of each outcome, in words."""
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in Outcome if counts.get(outcome))


def mean_in_words(mean: float, spread: float | None = None) -> str:
    """A mean over runs, with its spread where there are several: 0.9512 ±0.0021."""
    return f"{mean:.4g}" if spread is None else f"{mean:.4g} ±{spread:.2g}"


def sparkline(values: NDArray[np.float64], width: int = 24, ramp: str = RAMP) -> str:
    """A curve in at most `width` characters, each the mean of as many points; `×` where none is finite."""
    scale = np.abs(values[np.isfinite(values)]).max(initial=0.0) or 1.0  # so that nothing overflows
    finite = np.where(np.isfinite(values), values / scale, np.nan)
    pieces = (piece[~np.isnan(piece)] for piece in np.array_split(finite, min(width, max(1, len(finite)))))
    heights = [float(piece.mean()) if len(piece) else math.nan for piece in pieces]
    known = [height for height in heights if not math.isnan(height)]
    if not known:
        return "×" * len(values[:width])
    low, high = min(known), max(known)
    step = (high - low) / (len(ramp) - 1) or 1.0
    return "".join("×" if math.isnan(height) else ramp[round((height - low) / step)] for height in heights)
