"""`Standing`: how a sweep stands at one moment, whoever found it out: the runner's events, or the files.

Both the live view and `top --watch` show it, with the lines of `hparams_lab.sweep.progress.lines`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hparams_lab.core.declared import Declared
from hparams_lab.core.metric_words import is_of_unseen_data
from hparams_lab.core.outcome import Outcome
from hparams_lab.core.present import BROKEN
from hparams_lab.core.values import Value


@dataclass(frozen=True, slots=True)
class Going:
    """A run that goes on: `seconds` since it began, `step` its last (None: none yet), `epochs` that it is to train.

    `rest` is how many seconds its epochs will still take; None where they do not tell. `hparams` are those worth
    showing, `metrics` the last values, the most telling first; `attempt` counts from 1.
    """

    name: str
    seconds: float
    step: int | None = None
    epochs: int | None = None
    rest: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    hparams: Mapping[str, Value] = field(default_factory=dict)
    attempt: int = 1

    def as_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "run": self.name,
            "step": self.step,
            "epochs": self.epochs,
            "metrics": dict(self.metrics),
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True, slots=True)
class Best:
    """The best run so far: its number of the metric that ranks, and the hparams worth showing."""

    name: str
    title: str
    value: float
    hparams: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Standing:
    """How a sweep stands.

    Attributes:
      runs: how many there are to be; None when nobody knows.
      outcomes: how many of those that are over ended in which way.
      running: the runs that go on, the first begun first.
      best: the best so far; None without one.
      seconds_left: an estimate; None while there is nothing to go by, or nobody at work.
    """

    runs: int | None
    outcomes: Mapping[Outcome, int]
    running: Sequence[Going] = ()
    best: Best | None = None
    seconds_left: float | None = None

    @property
    def done(self) -> int:
        """How many runs are over, however they ended."""
        return sum(self.outcomes.values())

    @property
    def failed(self) -> int:
        """How many of those done went wrong: failed, crashed, timed out, out of memory."""
        return sum(count for outcome, count in self.outcomes.items() if outcome in BROKEN)

    @property
    def waiting(self) -> int | None:
        """How many are still to begin; None when nobody knows."""
        return None if self.runs is None else max(0, self.runs - self.done - len(self.running))

    def as_json(self) -> dict[str, Any]:
        """As plain JSON: numbers of runs, and each run that goes on."""
        return {
            "runs": self.runs,
            "done": self.done,
            "running": len(self.running),
            "waiting": self.waiting,
            "failed": self.failed,
            "outcomes": {str(outcome): count for outcome, count in self.outcomes.items()},
            "seconds_left": None if self.seconds_left is None else round(self.seconds_left, 1),
            "under_way": [going.as_json() for going in self.running],
        }


def seconds_left(taken: Sequence[float], going: Sequence[Going], waiting: int | None, at_once: int) -> float | None:
    """How long the rest will take.

    Args:
      taken: the seconds of runs that are over.
      going: those that go on; their epochs tell how long a run takes while none is over.
      waiting: how many are still to begin; None when nobody knows.
      at_once: how many run at the same time.

    Returns None while nothing tells how long a run takes.
    """
    known = taken or [one.seconds + one.rest for one in going if one.rest is not None]
    if not known or waiting is None:
        return None
    each = sum(known) / len(known)
    rests = [max(0.0, each - one.seconds) if one.rest is None else one.rest for one in going]
    return max([(sum(rests) + waiting * each) / max(1, at_once), *rests])


def rest_of_epochs(epochs: int | None, first: tuple[int, float], last: tuple[int, float], now: float) -> float | None:
    """How many seconds epochs will still take, by the time between two of them; None where that tells nothing.

    Args: first, last: steps, and when they were reported. What went before the first was getting ready.
    """
    (first_step, began), (step, came) = first, last
    if epochs is None or not first_step < step <= epochs:
        return None
    return max(0.0, (epochs - step) * (came - began) / (step - first_step) - (now - came))


def worth_showing(hparams: Mapping[str, Value], declared: Declared | None) -> Mapping[str, Value]:
    """The hparams that can vary; all of them when none can."""
    varying = {name: value for name, value in hparams.items() if declared is None or not declared.is_fixed(name)}
    return varying or hparams


def telling_first(metrics: Mapping[str, float], first: Iterable[str]) -> dict[str, float]:
    """Metrics in the order in which they matter: those of `first`, then those of data that no training sees."""
    place = {tag: n for n, tag in enumerate(dict.fromkeys(first))}
    order = sorted(metrics, key=lambda tag: (place.get(tag, len(place)), not is_of_unseen_data(tag)))
    return {tag: metrics[tag] for tag in order}
