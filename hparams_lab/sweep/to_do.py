"""`ToDo`: what a sweep has to do next, drawn from its strategy one by one, without listing what comes after."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from hparams_lab.core.errors import HParamsLabError, HParamValueError
from hparams_lab.core.results import RunResult, TrialResult
from hparams_lab.core.trial import Trial
from hparams_lab.core.values import trial_id
from hparams_lab.sweep.plan import PATIENCE, Plan
from hparams_lab.sweep.resume import Found
from hparams_lab.sweep.strategies.grid import is_in_grid


class ToDo:
    """The trials that are to be trained, in order. Those that are done go into the results on the way.

    Args:
      plan: what is asked for.
      found: what is done.
      results: what the strategy sees.

    Attributes:
      is_over: whether the strategy gives nothing more.
      note: why that is so, where it is not that all was tried.
      failure: the error that the strategy ended by.
    """

    def __init__(self, plan: Plan, found: Found, results: list[TrialResult]) -> None:
        self.is_over = False
        self.note = ""
        self.failure: HParamsLabError | None = None
        self._drawn = plan.drawn(results)
        self._found, self._results = found, results
        self._times: Counter[str] = Counter()
        self._put_back: list[tuple[Trial, int]] = []

    def peek(self) -> bool:
        """Whether there is something to train while nothing is under way."""
        if not self._put_back and (one := self.next(busy=False)):
            self._put_back.append(one)
        return bool(self._put_back)

    def next(self, busy: bool) -> tuple[Trial, int] | None:
        """The next trial, and how often it was suggested before; None when there is none, or none yet.

        A strategy that waits for a result is asked again, but not for ever where no run is under way (`busy`).
        """
        if self._put_back:
            return self._put_back.pop()
        waited = 0
        while not self.is_over:
            trial = self._draw()
            if trial is not None:
                waited = 0
                if one := self._unless_done(trial):
                    return one
            elif busy:
                return None
            else:
                waited += 1
                if waited == PATIENCE and not self.is_over:
                    self.is_over = True
                    self.note = (
                        "the strategy waits for a result, and no run is under way that could bring one; "
                        f"the sweep ends after {len(self._results)} runs"
                    )
        return None

    def _draw(self) -> Trial | None:
        try:
            return next(self._drawn)
        except StopIteration:
            self.is_over = True
        except HParamsLabError as error:  # once what is under way has ended
            self.is_over, self.failure = True, error
        return None

    def _unless_done(self, trial: Trial) -> tuple[Trial, int] | None:
        """The trial, unless that run of it is done. Suggested again, it is another run of the trial."""
        times = self._times[trial.id]
        self._times[trial.id] += 1
        done = self._found.done_of(trial.id, times)
        if done is None:
            return trial, times
        self._results.append(TrialResult(done.trial_id, done.hparams, (done,)))
        return None


def done_of(plan: Plan, found: Found) -> tuple[RunResult, ...]:
    """The runs that are done already, of those that are planned; no more of the plan is drawn than that takes."""
    done = [run for run in found.done if _may_be_planned(plan, run)]
    if plan.size is None or (plan.strategy == "grid" and plan.trials is None):
        return tuple(done)
    left = Counter(run.trial_id for run in done)
    planned: Counter[str] = Counter()
    for trial in plan.suggestions([]):
        if planned.total() == len(done):
            break
        planned[trial.id] += planned[trial.id] < left[trial.id]
    return tuple(_first(done, planned))


def _first(runs: Sequence[RunResult], counts: Counter[str]) -> list[RunResult]:
    """Of each trial the first so many runs."""
    left, found = Counter(counts), []
    for run in runs:
        if left[run.trial_id]:
            left[run.trial_id] -= 1
            found.append(run)
    return found


def _may_be_planned(plan: Plan, run: RunResult) -> bool:
    """Whether the run is of a trial of the space, and of the grid where that is the strategy."""
    experiment = plan.domain.experiment
    try:
        hparams = experiment.check(run.hparams)
    except HParamValueError:
        return False
    if trial_id(hparams) != run.trial_id:
        return False
    return plan.strategy != "grid" or is_in_grid(experiment, hparams, points=plan.points)
