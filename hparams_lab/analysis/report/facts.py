"""What a report says in words: which trial is best, how sure that is, what mattered, and why runs failed.

Sentences are HTML: each name and value in them has been through `as_html`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hparams_lab.analysis.report.study import Point, Study, listed, said_with
from hparams_lab.analysis.report.text import as_html
from hparams_lab.core.outcome import Outcome
from hparams_lab.core.present import BROKEN, Counts, in_units, runs_in_words
from hparams_lab.core.results import RunResult
from hparams_lab.core.values import Value, format_value

if TYPE_CHECKING:
    from hparams_lab.analysis.importance import Importances

CLEAR = 2.0
"""A gap of so many standard errors is told from chance; what is less is called too close."""
FAILURES = BROKEN | {Outcome.DIVERGED, Outcome.INTERRUPTED}


def number(value: float) -> str:
    """A metric as a person reads it."""
    return f"{value:.4g}"


def with_spread(study: Study, point: Point) -> str:
    """A trial's number with the spread over its runs, where it has several."""
    spread, runs = study.spread(point), runs_in_words(point.trial, study.tag)
    said = number(point.value) if spread is None else f"{number(point.value)} ± {number(spread)}"
    return said if spread is None and " of " not in runs else f"{said} over {runs} runs"


def how_sure(study: Study) -> list[str]:
    """Sentences on how far the best trial can be told from the others."""
    if not study.ranked:
        return []
    if len(study.ranked) == 1:
        others = len(study.points) - 1
        why = f"; {said_with(others, 'other')} {'is' if others == 1 else 'are'} not" if others else ""
        return [f"Only one trial is ranked{why}, so there is nothing to compare it with."]
    said = [*_gap(study), *_edges(study)]
    if study.best and study.runs(study.best) == 1 and len(study.ranked) >= 10:
        said.append(f"The best of {len(study.ranked):,} is partly lucky: trained again, expect a little worse.")
    return said


def _gap(study: Study) -> Iterator[str]:
    best, second = study.ranked[:2]
    gap = abs(best.value - second.value)
    behind = f"The second, {as_html(second.trial.name)}, has {with_spread(study, second)}"
    tied = sum(point.value == best.value for point in study.ranked)
    if tied > 1:
        yield f"{tied:,} trials tie for the best; the one that was read first is shown."
        return
    error = _standard_error(study, best, second)
    if error is None:
        yield f"{behind}: {number(gap)} behind."
        several = any(study.runs(point) > 1 for point in (best, second))
        yield (
            "Not every trial ran more than once"
            if several
            else "Each trial ran once, so how much of this is chance is not known"
        ) + ": train the first few again with other seeds to tell them apart."
        return
    ratio = gap / error if error else math.inf
    verdict = "the best is clearly ahead" if ratio > CLEAR else "too close to call"
    how = f"{ratio:.1f} standard errors" if error else "and the runs do not differ"
    yield f"{behind}: {number(gap)} behind, {how}: {verdict}."
    if ratio <= CLEAR:
        close = sum(abs(point.value - best.value) <= CLEAR * error for point in study.ranked)
        yield f"{close:,} of {len(study.ranked):,} trials are as good within {CLEAR:.0f} standard errors."


def _standard_error(study: Study, *points: Point) -> float | None:
    """The standard error of the difference of trials; None where their spread is not known."""
    pooled = _pooled_spread(study)
    if pooled is None:
        return None
    spreads = [study.spread(point) for point in points]
    squares = [
        (pooled if spread is None or study.runs(point) < 3 else spread) ** 2 / study.runs(point)
        for point, spread in zip(points, spreads, strict=True)
    ]
    return math.sqrt(sum(squares))


def _pooled_spread(study: Study) -> float | None:
    """The spread over runs of one trial, from all trials that have several; None without."""
    found = [(study.runs(p) - 1, study.spread(p)) for p in study.ranked if study.runs(p) > 1]
    free = sum(count for count, _ in found)
    return math.sqrt(sum(count * (spread or 0.0) ** 2 for count, spread in found) / free) if free else None


def _edges(study: Study) -> Iterator[str]:
    """Where the best value of an interval is its end, although values between were tried."""
    assert study.best
    for name in study.varying:
        domain, value = study.asked_domain(name), study.best.trial.hparams.get(name)
        ends = [domain[end] for end in ("min", "max") if end in domain]
        tried = {point.trial.hparams.get(name) for point in study.ranked}
        if value in ends and len(tried) > 2:
            yield (
                f"{as_html(name)} = {as_html(value)} is the end of its range: better values may lie beyond it "
                f"(--set widens it)."
            )


def what_mattered(found: Importances | None, why_not: str) -> list[str]:
    """Sentences on the hparams that matter most."""
    if found is None:
        return [as_html(why_not)]
    if not found.enough:
        return [f"What mattered cannot be told: {as_html(found.reason)}."]
    told = [row for row in found.rows if row.low > 0.01][:3] or list(found.rows[:1])
    shares = [
        f"<strong>{as_html(row.name)}</strong> ({row.mean:.0%} of the variance; {row.low:.0%} to {row.high:.0%})"
        for row in told
    ]
    return [", then ".join(shares) + "."]


def outcomes_in_words(study: Study) -> str:
    """How many trials and runs there are, and how they ended."""
    outcomes = [point.trial.outcome for point in study.points]
    counts = [f"{outcomes.count(outcome):,} {outcome}" for outcome in Outcome if outcome in outcomes]
    return f"{Counts.of(study.results)}: {', '.join(counts) or 'none'}"


def time_in_words(study: Study) -> str:
    """How long it took from the first start to the last end; empty where nothing ended."""
    ends = [run.ended for run in study.results.runs if run.ended is not None]
    if not ends:
        return ""
    return f"{in_units(max(0.0, max(ends) - min(run.started for run in study.results.runs)))} from start to end"


@dataclass(frozen=True, slots=True)
class Failure:
    """Runs that failed for one cause, and what only they have in common."""

    outcome: Outcome
    cause: str
    runs: tuple[RunResult, ...]
    common: Mapping[str, Value]


def failures(study: Study) -> list[Failure]:
    """The failed runs by their cause, the most frequent first."""
    groups: dict[tuple[Outcome, str], list[RunResult]] = {}
    for run in study.results.runs:
        if run.outcome in FAILURES:
            groups.setdefault((run.outcome, cause_of(run.reason)), []).append(run)
    found = sorted(groups.items(), key=lambda item: -len(item[1]))
    return [Failure(outcome, cause, tuple(runs), _common(study, runs)) for (outcome, cause), runs in found]


def cause_of(reason: str) -> str:
    """A reason without what differs from run to run: addresses, paths' directories, numbers."""
    text = re.sub(r"\b0x[0-9a-fA-F]+\b", "0x…", " ".join(reason[:2000].split()))
    text = re.sub(r"(?:/[^\s/'\":]+)+/(?=[^\s/'\":])", "…/", text)
    text = re.sub(r"run-\d+(?:-(?:fold|repeat)-\d+)?", "run-N", text)
    return re.sub(r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?(?![\w.])", "N", text) or "no reason is told"


def _common(study: Study, runs: Sequence[RunResult]) -> dict[str, Value]:
    """The hparams that all of these runs have with one value, and that no other run has with it."""
    if len(runs) < 2 or len(runs) == len(study.results.runs):
        return {}
    inside = {run.name for run in runs}
    found: dict[str, Value] = {}
    for name in study.varying:
        values = {format_value(run.hparams[name]) if name in run.hparams else None for run in runs}
        (value,) = values if len(values) == 1 else (None,)
        others = (run for run in study.results.runs if run.name not in inside and name in run.hparams)
        if value is not None and all(format_value(run.hparams[name]) != value for run in others):
            found[name] = runs[0].hparams[name]
    return found


def sweeps_in_words(study: Study) -> list[tuple[str, int, Point | None]]:
    """The sweeps below the directory, each with its trials and its best; empty when there is but one."""
    names = list(dict.fromkeys(point.trial.sweep for point in study.points))
    if len(names) < 2:
        return []
    best = {name: next((p for p in study.ranked if p.trial.sweep == name), None) for name in names}
    return [(name, sum(p.trial.sweep == name for p in study.points), best[name]) for name in names]


def same_in_words(study: Study) -> str:
    """The hparams that are the same in all trials."""
    return listed((f"{as_html(name)} = {as_html(value)}" for name, value in study.same.items()), 20)
