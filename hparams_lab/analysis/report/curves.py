"""Learning curves: the metric over the steps of runs; which tags and which runs are shown."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hparams_lab.analysis.report.axis import Range
from hparams_lab.analysis.report.plots import BEST, FAILED, PLAIN, PRUNED, Plot, figure, hover
from hparams_lab.analysis.report.study import Point, Study, said_with, spaced
from hparams_lab.analysis.report.text import LONGEST_NAME, as_label
from hparams_lab.core.curve import Scalars
from hparams_lab.core.outcome import Outcome
from hparams_lab.core.results import RunResult
from hparams_lab.core.scalar import telling

MOST_TAGS, MOST_CURVES, MOST_POINTS = 5, 60, 300
MOST_PRUNED = 20
ENDED = (Outcome.COMPLETED, Outcome.UNKNOWN)
"""Outcomes of a run whose curve ends where it should, as far as its log tells."""



@dataclass(frozen=True, slots=True)
class _Curve:
    """A run's points of a tag, and the trial it is of."""

    point: Point
    run: RunResult
    scalars: Scalars


def curves(study: Study) -> list[Plot]:
    """A plot for each tag that has curves: the objective first, then those of validation, then the others."""
    with_curves = {tag for point in study.points for run in point.trial.runs for tag in _curved(run)}
    order = sorted(
        with_curves, key=lambda tag: (tag != study.tag, not _is_of(study, tag), not _is_validation(tag), tag)
    )
    return [_plot(study, n, tag, len(order)) for n, tag in enumerate(order[:MOST_TAGS])]


def _curved(run: RunResult) -> list[str]:
    many = (tag for tag, scalars in run.columns.items() if len(scalars.values) > 1)
    return telling(many, [run])


def _is_of(study: Study, tag: str) -> bool:
    """Whether a tag's last word is the objective's, as `val/accuracy` is of `accuracy` or `hpaccuracy`."""
    word = tag.rpartition("/")[2].removeprefix("val_")
    return bool(study.tag) and (study.tag or "").endswith(word)


def _is_validation(tag: str) -> bool:
    return tag.lower().startswith(("val", "test", "eval"))


def _plot(study: Study, number: int, tag: str, tags: int) -> Plot:
    found = [
        _Curve(point, run, run.scalars(tag))
        for point in study.points
        for run in point.trial.runs
        if tag in _curved(run)
    ]
    shown = _chosen(found)
    span = Range.of([value for curve in shown for value in _finite(curve)])
    data = [trace for curve in shown for trace in _traces(study, curve)]
    layout = {
        "xaxis": {"title": {"text": "step"}, "automargin": True, "zeroline": False, "rangemode": "nonnegative"},
        "yaxis": span.layout | {"title": {"text": as_label(tag), "standoff": 8}},
    }
    heading = study.results.title(tag)
    return Plot(
        f"curves-{number}", figure([*_legend(shown), *data], **layout), _caption(found, shown, span, tags), 400, heading
    )


_ENDS = {"pruned": "; pruned runs end in an orange cross", "failed": "; failed runs end in a grey cross"}


def _caption(found: Sequence[_Curve], shown: Sequence[_Curve], span: Range, tags: int) -> str:
    kinds = {_style(curve)[0] for curve in shown}
    ends = [text for kind, text in _ENDS.items() if kind in kinds]
    said = ["".join(["The best trial in red" if "best" in kinds else "A line for each run", *ends, "."])]
    if len(shown) < len(found):
        pruned = sum(curve.run.outcome is Outcome.PRUNED for curve in shown)
        of_those = f", {said_with(pruned, 'pruned one')}" if pruned else ""
        said.append(
            f"{len(shown)} of {said_with(len(found), 'curve')} are shown: the best{of_those} and a sample of the rest."
        )
    longest = max(len(curve.scalars.values) for curve in shown)
    if longest > MOST_POINTS:
        said.append(f"Each is thinned to {MOST_POINTS} points at most, of up to {longest:,}.")
    if tags > MOST_TAGS:
        said.append(f"{said_with(tags - MOST_TAGS, 'other tag')} with curves left out.")
    return " ".join([*said, span.remark("point")]).strip()


def _chosen(found: Sequence[_Curve]) -> list[_Curve]:
    """At most so many curves: the best and a sample of the ranked, then of the pruned, then of the others."""
    ranked = sorted((curve for curve in found if curve.point.rank), key=lambda curve: curve.point.rank or 0)
    pruned = [curve for curve in found if curve.run.outcome is Outcome.PRUNED]
    seen = {id(curve) for curve in (*ranked, *pruned)}
    rest = [curve for curve in found if id(curve) not in seen]
    chosen = [*_sample(pruned, MOST_PRUNED), *_sample(rest, MOST_PRUNED // 2)]
    return [*chosen, *spaced(ranked, MOST_CURVES - len(chosen))[::-1]]  # the best one is drawn last, on top


def _sample(found: Sequence[_Curve], most: int) -> list[_Curve]:
    return list(found[:: -(-len(found) // most) or 1])


def _finite(curve: _Curve) -> list[float]:
    values = curve.scalars.values
    return [float(value) for value in values[np.isfinite(values)]]


def _traces(study: Study, curve: _Curve) -> list[dict[str, Any]]:
    """The line of a curve, and how it ended where that was early."""
    points = thinned(curve.scalars, MOST_POINTS)
    x = points.steps.tolist()
    y = [_short(value) for value in points.values.tolist()]
    kind, colour, width, opacity = _style(curve)
    told = hover(study, curve.point).partition("<br>")
    name = f"{as_label(curve.run.name, LONGEST_NAME)} ({curve.run.outcome})<br>{told[0]}{told[1]}{told[2]}"
    common = {"type": "scatter", "legendgroup": kind, "showlegend": False, "hoverinfo": "text", "hovertext": name}
    line = {**common, "mode": "lines", "x": x, "y": y, "line": {"color": colour, "width": width}, "opacity": opacity}
    if kind in ("best", *map(str, ENDED)) or not x:
        return [line]
    last = max((n for n, value in enumerate(y) if value is not None), default=len(y) - 1)
    marker = {"symbol": "x", "size": 8, "color": colour}
    return [line, {**common, "mode": "markers", "x": [x[last]], "y": [y[last]], "marker": marker}]


def _style(curve: _Curve) -> tuple[str, str, float, float]:
    """What a curve is in the legend, its colour, width and opacity."""
    if curve.point.rank == 1:
        return "best", BEST, 3.0, 1.0
    outcome = curve.run.outcome
    if outcome is Outcome.PRUNED:
        return "pruned", PRUNED, 1.5, 0.9
    if outcome in ENDED:
        return str(outcome), PLAIN, 1.2, 0.4
    return ("running" if outcome is Outcome.RUNNING else "failed"), FAILED, 1.5, 0.9


def _legend(shown: Sequence[_Curve]) -> list[dict[str, Any]]:
    """A trace without points for each kind of curve, for the legend's sake."""
    kinds = {style[0]: style for style in map(_style, reversed(shown))}
    return [
        {"type": "scatter", "mode": "lines", "x": [None], "y": [None], "name": kind, "legendgroup": kind,
         "line": {"color": colour, "width": width}, "hoverinfo": "skip"}
        for kind, colour, width, _ in kinds.values()
    ]  # fmt: skip


def thinned(points: Scalars, most: int) -> Scalars:
    """At most so many points, in the order of their steps: of each stretch the lowest and the highest.

    The first and the last are always kept, and a gap (NaN) is where a stretch has no number.
    """
    count = len(points.values)
    if count <= most:
        return points.taken(np.argsort(points.steps, kind="stable"))
    points = points.taken(np.argsort(points.steps, kind="stable"))
    edges = np.linspace(0, count, (most - 2) // 2 + 1).astype(int)
    kept = {0, count - 1}
    for start, stop in itertools.pairwise(edges):
        piece = points.values[start:stop]
        finite = np.isfinite(piece)
        low = np.where(finite, piece, np.inf)
        high = np.where(finite, piece, -np.inf)
        kept |= {start + int(low.argmin()), start + int(high.argmax())}
    return points.taken(np.array(sorted(kept)))


def _short(value: float) -> float | None:
    """Six significant digits are more than a screen shows; NaN and infinities are gaps."""
    return float(f"{value:.6g}") if math.isfinite(value) else None
