"""The runs of a trial of a tuner: one per training, kept open until it is known how the trial ended.

A training is judged by its best epoch, so the objective's tag ends on that value: where the last epoch has another, by
a point one step behind it. Where the loss of that epoch is no number any more, the training has diverged. A trial that
Hyperband promotes is trained on in the same runs; the best of its rounds counts, as it does to keras-tuner.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hparams_lab.core.outcome import Outcome
from hparams_lab.core.values import Value
from hparams_lab.integrations.keras_tuner.objective import BEST_EPOCH, BRACKET, EPOCHS, ROUND, Objective
from hparams_lab.integrations.search_log import SearchLog, run_name
from hparams_lab.run.attempts import ATTEMPTS_TAG, Attempt, attempts_markdown
from hparams_lab.run.run import Run

LOSSES = ("train/loss", "val/loss")
COMPLETED = (Outcome.COMPLETED, "", "")
Ending = tuple[Outcome, str, str]


@dataclass(slots=True)
class Judged:
    """What a training came to in a round: the objective's value, and the step it is of (None where there are none)."""

    value: float | None = None
    step: int | None = None


class Training:
    """One training of a trial, which Hyperband may go on with, and its run.

    Attributes:
      run: None before the values of the trial are known.
      tags: what was logged.
      points: the objective at each step of this round.
      lost: the steps at which a loss was not finite, with its tag and value.
      rounds: what the rounds came to that are over.
      ending: how it ended, once it did.
    """

    def __init__(self, name: str, goes_on: bool = False, after: int | None = None) -> None:
        self.name = name
        self.run: Run | None = None
        self.tags: set[str] = set()
        self.points: list[tuple[int, float]] = []
        self.lost: dict[int, tuple[str, float]] = {}
        self.rounds: list[Judged] = []
        self.judged = Judged()
        self.result: dict[str, float] = {}
        self.ending: Ending | None = None
        self.goes_on = goes_on
        self._after = after
        self._last = -1
        self._objective: float | None = None  # as the last epoch has it
        self._offset = 0

    @property
    def epochs(self) -> int:
        """Epochs trained in all."""
        return max(self._last, 0)

    def open(self, log: SearchLog, of: TrialRuns) -> None:
        """Start the run, or go on with it."""
        if self.goes_on and log.paths.run(self.name).is_dir():
            self.run = log.go_on(self.name, of.values, self._after)
        else:
            self.run = log.start(self.name, of.values, of.trial_id)
        of.trial_id = self.run.trial_id
        if of.attempts:
            self.run.text(ATTEMPTS_TAG, attempts_markdown(of.attempts), step=0)

    def remember(self, points: list[tuple[int, float]], objective: Objective) -> None:
        """Take over what a run that is gone on with logged of the objective before."""
        self._last = max((step for step, _ in points), default=-1)
        self._objective = points[-1][1] if points else None
        if (best := objective.best(points)) is not None:
            self.rounds.append(Judged(best[1], best[0]))

    def epoch(self, epoch: int, tags: Mapping[str, float], objective: Objective) -> None:
        """Log an epoch, counted from 0 by Keras. One that counts from the beginning again goes on behind the last."""
        assert self.run is not None
        step = epoch + 1 + self._offset
        if step <= self._last:
            self._offset += self._last + 1 - step
            step = self._last + 1
        self._last = step
        self.run.log(tags, step=step)
        self.tags.update(tags)
        if objective.tag in tags:
            self._objective = tags[objective.tag]
            self.points.append((step, self._objective))
        for tag in LOSSES:
            if not math.isfinite(tags.get(tag, 0.0)):
                self.lost[step] = tag, tags[tag]

    def judge(self, objective: Objective, value: float | None) -> None:
        """Say what this round came to: by the best epoch, unless the training returned a `value` that is none's."""
        best = objective.best(self.points)
        if value is None and best is not None:
            value = best[1]
        self.judged = Judged(value, next((step for step, found in self.points if _same(found, value)), None))

    def end_round(self) -> None:
        """Let another round of the trial follow."""
        self.rounds.append(self.judged)
        self.judged, self.points, self.ending, self._offset = Judged(), [], None, 0
        if self.run is not None and not self.run.is_over:
            self.run.flush()  # what the next round logs stands behind it in the file

    def finish(self, objective: Objective, of: Judged, more: Mapping[str, float]) -> None:
        """End the run, judged by what a round came to."""
        if self.run is None or self.run.is_over:
            return
        final = {**self.result, **more}
        if of.value is not None:
            if self._objective is not None and not _same(self._objective, of.value):
                self.run.log({objective.tag: of.value}, step=self._last + 1)  # else it hides that of the last epoch
            final[objective.tag] = of.value
        if of.step is not None:
            final[BEST_EPOCH] = of.step
        self.run.finish(final, *(self.ending or self._divergence(of)))

    def _divergence(self, of: Judged) -> Ending:
        """How a training ended that was complete: diverged, where the loss at the epoch that counts is no number."""
        if of.step not in self.lost:
            return COMPLETED
        tag, value = self.lost[of.step]
        return Outcome.DIVERGED, f"{tag!r} is {value} at the epoch that counts, {of.step}", ""


@dataclass(slots=True)
class TrialRuns:
    """A trial and its trainings.

    Attributes:
      number: of the trial, which its runs have in their names.
      part: what its trainings are called when there are several: "execution", "fold"; empty for a single one.
      values: its hyperparameters, once they are known.
      trial_id: what its runs share, once one has begun.
      attempts: earlier ones of which nothing is kept.
      scores: keras-tuner's, of the rounds that are over.
      more: Hyperband's bracket and round.
    """

    number: int
    part: str = ""
    goes_on: bool = False
    after: int | None = None
    values: dict[str, Value] = field(default_factory=dict)
    trial_id: str | None = None
    attempts: tuple[Attempt, ...] = ()
    trainings: list[Training] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    more: dict[str, float] = field(default_factory=dict)
    place: int = -1  # of the training that goes on, in this round
    used: bool = False  # whether it has begun

    @property
    def current(self) -> Training:
        """The training that goes on."""
        return self.trainings[self.place]

    def next(self) -> Training:
        """The next training of this round."""
        self.place, self.used = self.place + 1, False
        if self.place == len(self.trainings):
            part = self.part or ("execution" if self.place else "")
            name = run_name(self.number, part, self.place + 1)
            self.trainings.append(Training(name, self.goes_on, self.after))
        return self.current

    def attempt(self) -> Attempt:
        """How this attempt ended, to be told by the next."""
        endings = [training.ending for training in self.trainings if training.ending]
        outcome, reason, _ = next((ending for ending in endings if ending[0] is not Outcome.COMPLETED), COMPLETED)
        if outcome is Outcome.COMPLETED:
            outcome, reason = Outcome.DIVERGED, "the objective was not a number"
        return Attempt(outcome, reason)

    def end_round(self, score: float | None) -> None:
        """Let another round of the trial follow."""
        self.scores.append(float("nan") if score is None else score)
        for training in self.trainings:
            training.end_round()
        self.place = -1

    def finish(self, objective: Objective) -> None:
        """End all runs, each judged by the round in which the trial was best."""
        best = objective.best(enumerate(self.scores))
        for training in self.trainings:
            of = training.judged
            if best is not None and best[0] < len(training.rounds):
                if of.value is not None and not math.isfinite(of.value):
                    reason = f"the objective {objective.tag!r} is {of.value} in the last round"
                    training.ending = training.ending or (Outcome.DIVERGED, reason, "")
                of = training.rounds[best[0]]
            more = {**self.more, EPOCHS: training.epochs} if self.more else {}
            training.finish(objective, of, more)

    def end_by(self, ending: Ending) -> None:
        """Say how the trainings ended that have not said it themselves."""
        for training in self.trainings:
            training.ending = training.ending or ending

    def let_go(self, objective: Objective) -> None:
        """End all runs, as far as that is possible; nothing is raised."""
        with contextlib.suppress(Exception):
            self.finish(objective)
        for training in self.trainings:
            if training.run is not None:
                with contextlib.suppress(Exception):
                    training.run.leave()

    def leave(self) -> None:
        """Let go of all runs without an end."""
        for training in self.trainings:
            if training.run is not None:
                training.run.leave()


def promotion(values: Mapping[str, Any]) -> dict[str, float]:
    """Hyperband's bracket and round, from a trial's values; nothing for another tuner."""
    return {
        tag: float(values[name]) for tag, name in ((BRACKET, "tuner/bracket"), (ROUND, "tuner/round")) if name in values
    }


def _same(one: float, other: float | None) -> bool:
    return one == other or (other is not None and math.isnan(one) and math.isnan(other))
