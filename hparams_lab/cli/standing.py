"""`State`: how the sweeps of a log directory stand, told from their files: `top --watch` and `top --json` show it."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hparams_lab.cli.ranking import Ranking
from hparams_lab.core.curve import Scalars
from hparams_lab.core.declared import Declared
from hparams_lab.core.errors import LogDirError
from hparams_lab.core.outcome import Outcome
from hparams_lab.core.present import BATCH_TAGS, epochs_of
from hparams_lab.core.results import Results, RunResult
from hparams_lab.core.scalar import is_of_system
from hparams_lab.logdir.sweep_json import load_sweep
from hparams_lab.run.run_dir import is_manual
from hparams_lab.storage.ownership import Owner, current_owner
from hparams_lab.storage.paths import LogDirPaths
from hparams_lab.sweep.progress.standing import (
    Best,
    Going,
    Standing,
    rest_of_epochs,
    seconds_left,
    telling_first,
    worth_showing,
)

LATEST = 100
"""The time left is told from so many of the last runs."""


@dataclass(frozen=True, slots=True)
class State:
    """How all that is in a directory stands.

    `owner` is the runner at work there, `is_sweep` whether a sweep was ever begun in it, by its `sweep.json`.
    """

    standing: Standing
    owner: Owner | None
    is_sweep: bool
    ranking: Ranking

    @classmethod
    def of(cls, ranking: Ranking, logdir: Path, now: float) -> State:
        """What the files of a directory tell at the time `now`, in seconds since 1970."""
        results = ranking.results
        sweeps = dict(_sweeps(results, logdir))
        owner = next(filter(None, (current_owner(logdir / name) for name in sweeps)), None)
        running = sorted((run for run in results.runs if run.outcome is Outcome.RUNNING), key=lambda run: run.started)
        over = [run for run in results.runs if _is_over(run, sweeps)]
        standing = Standing(
            _planned(results, sweeps),
            Counter(run.outcome for run in over),
            [going(run, results, now, ranking.tag) for run in running],
            _best(ranking),
        )
        return cls(_with_time_left(standing, owner, over, running), owner, bool(sweeps), ranking)

    def as_json(self) -> dict[str, Any]:
        """As plain JSON."""
        owner, best = self.owner, self.standing.best
        who = owner and {"host": owner.host, "pid": owner.pid, "since": owner.since, "command": owner.command}
        first = best and {
            "run": best.name, "metric": self.ranking.tag, "value": best.value,
            "hparams": dict(self.ranking.trials[0].hparams),
        }  # fmt: skip
        return {"sweep": {**self.standing.as_json(), "owner": who, "best": first}}


def _sweeps(results: Results, logdir: Path) -> Iterator[tuple[str, int | None]]:
    """The directories of sweeps, and how many runs each is to have."""
    for name in {"": None, **dict.fromkeys(results.sweeps)}:
        found = None
        with contextlib.suppress(LogDirError):
            found = load_sweep(LogDirPaths(logdir / name))
        if found is not None:
            runs = found.get("runs")
            yield name, runs if type(runs) is int and runs >= 0 else None


def _planned(results: Results, sweeps: dict[str, int | None]) -> int | None:
    """How many runs there are to be in all; None when one sweep does not say, or when runs are of none."""
    if not sweeps or None in sweeps.values() or any(run.sweep not in sweeps for run in results.runs):
        return None
    return sum(runs or 0 for runs in sweeps.values()) + sum(is_manual(run.name) for run in results.runs)


def _is_over(run: RunResult, sweeps: dict[str, int | None]) -> bool:
    """Whether a run will not go on; a sweep runs its interrupted ones again."""
    return run.is_over or run.outcome is Outcome.UNKNOWN or (
        run.outcome is Outcome.INTERRUPTED and run.sweep not in sweeps
    )  # fmt: skip


def going(run: RunResult, results: Results, now: float, tag: str | None) -> Going:
    """A run that goes on."""
    declared: Declared | None = results.sweeps.get(run.sweep) or results.declared
    first = [*([tag] if tag else []), *(declared.metrics if declared else ())]
    epochs, points = epochs_of(run.hparams), _last_points(run)
    ends = [(int(points.steps[n]), float(points.wall_times[n])) for n in (0, -1)] if points else []
    return Going(
        run.name,
        max(0.0, now - run.started),
        ends[1][0] if ends else None,
        epochs,
        rest_of_epochs(epochs, ends[0], ends[1], now) if ends else None,
        telling_first(run.metrics, first),
        worth_showing(run.hparams, declared),
    )


def _last_points(run: RunResult) -> Scalars | None:
    """The points of the tag that has come farthest, in epochs where the run counts those; None before the first."""
    by_tag = {tag: points for tag, points in run.columns.items() if len(points.steps) and not is_of_system(tag)}
    of_epochs = [points for tag, points in by_tag.items() if not tag.startswith(BATCH_TAGS)]
    found = of_epochs if epochs_of(run.hparams) else by_tag.values()
    return max(found, key=lambda points: points.steps[-1], default=None)


def _best(ranking: Ranking) -> Best | None:
    results, tag = ranking.results, ranking.tag
    if tag is None or not ranking.trials or ranking.rank(0) is None:
        return None
    trial = ranking.trials[0]
    mean = ranking.mean(trial, tag)
    declared = results.sweeps.get(trial.sweep) or results.declared
    return mean if mean is None else Best(trial.name, results.title(tag), mean, worth_showing(trial.hparams, declared))


def _with_time_left(
    standing: Standing, owner: Owner | None, over: Sequence[RunResult], running: Sequence[RunResult]
) -> Standing:
    if owner is None and not running:
        return standing
    since = owner.since if owner and owner.since else 0.0
    timed = [run for run in over if run.ended is not None]
    latest = sorted([run for run in timed if run.started >= since] or timed, key=lambda run: run.started)[-LATEST:]
    at_once = max(len(running), *(_at_once(run, latest) for run in latest), 1)
    left = seconds_left([run.seconds or 0.0 for run in latest], standing.running, standing.waiting, at_once)
    return Standing(standing.runs, standing.outcomes, standing.running, standing.best, left)


def _at_once(run: RunResult, others: Sequence[RunResult]) -> int:
    """How many went on when a run began, itself among them."""
    return sum(other.started <= run.started < (other.ended or 0.0) for other in others) or 1
