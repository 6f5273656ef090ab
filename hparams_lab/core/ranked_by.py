"""What ranks trials and why, in words for a person."""

from __future__ import annotations

from hparams_lab.core.ranking_metric import NAMED, Choice
from hparams_lab.core.results import Results
from hparams_lab.core.scalar import Goal, telling


def ranked_by(results: Results, choice: Choice, goal: Goal, most: int = NAMED, reasons: int = 2) -> str:
    """Which metric ranks, why, in how many runs it is where not in all, and at most so many of those that could too."""
    tag, runs = choice.tag, results.searched()
    having = sum(tag in run.metrics for run in runs)
    partly = f"in {having} of {len(runs)} runs" if having < len(runs) else ""
    why = ", ".join(filter(None, [*choice.why[:reasons], partly]))
    also = f"; also: {choice.in_words(most, ', ')} (--metric)" if choice.others else ""
    first = "most" if goal == "max" else "least"
    return f"ranked by {results.title(tag or '')}, {first} first{': ' * bool(why)}{why}{also}"


def ranked_by_within(width: int, results: Results, choice: Choice, goal: Goal) -> str:
    """The same in so many columns, where it can be said shorter: with fewer other metrics, and with one reason."""
    lengths = [(most, reasons) for most in range(NAMED, 0, -1) for reasons in (2, 1)] + [(0, 2), (0, 1)]
    said = [ranked_by(results, choice, goal, most, reasons) for most, reasons in lengths]
    return next((line for line in said if len(line) <= width), said[-1])


def why_unranked(results: Results, choice: Choice) -> str:
    """Why no metric ranks, and the way out; empty where none was logged."""
    if choice.tag is not None:
        return f"whether more or less of {choice.tag!r} is better is not declared; say --max or --min"
    if choice.others:
        return f"{choice.in_words()} are equally likely; name one with --metric"
    logged = telling(results.tags, results.runs)
    return "no metric's better direction is known; name one with --metric and --max or --min" if logged else ""
