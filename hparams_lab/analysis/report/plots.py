"""The plots of how trials compare, as plotly's figures in plain JSON: history, importance, slices, the two that matter.

A `Plot` knows what it shows and what it leaves out; every text in a figure has been through `as_label`. Only SVG
traces: plotly.js compiles code for its WebGL ones, which the page's security policy forbids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hparams_lab.analysis.report.axis import Axis, Range
from hparams_lab.analysis.report.study import Point, Study, said_with, shade, spaced
from hparams_lab.analysis.report.text import LONGEST_NAME, as_label

if TYPE_CHECKING:
    from hparams_lab.analysis.importance import Importances

BEST, PLAIN, PRUNED, FAILED = "#c2255c", "#1c5d99", "#e8890c", "#6b7280"
SHADES = [[0.0, "#cfd9e4"], [0.5, "#5b94c6"], [1.0, "#0b2f57"]]
"""From the worst trial to the best: the darker, the better."""
MOST_IN_HISTORY, MOST_IN_SLICE, MOST_SLICES, MOST_BARS = 1500, 400, 12, 15
MANY = 300
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"


@dataclass(frozen=True, slots=True)
class Plot:
    """A figure with its name, what to say above it, its height in pixels, and what it was made of in words."""

    name: str
    figure: Mapping[str, Any]
    caption: str
    height: int = 360
    heading: str = ""


def figure(data: Sequence[Mapping[str, Any]], **layout: Any) -> dict[str, Any]:
    """A figure in the report's style."""
    style = {
        "font": {"family": FONT, "size": 13, "color": "#1f2937"},
        "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "#ffffff",
        "margin": {"l": 16, "r": 16, "t": 30, "b": 16}, "hovermode": "closest",
        "hoverlabel": {"align": "left", "bgcolor": "#ffffff", "font": {"size": 12, "color": "#1f2937"}},
        "modebar": {"bgcolor": "rgba(255,255,255,0.7)", "color": "#9ca3af", "activecolor": "#1f2937"},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
    }  # fmt: skip
    return {"data": list(data), "layout": {**style, **layout}}


def hover(study: Study, point: Point) -> str:
    """What is told of a trial under the pointer."""
    trial = point.trial
    value = f"{point.value:.6g}" if np.isfinite(point.value) else "none"
    first = f"{as_label(trial.name, LONGEST_NAME)}: {as_label(study.title)} {value}"
    if point.rank is None:
        first += f" ({trial.outcome})"
    told = [f"{as_label(n, 24)} = {as_label(trial.hparams[n])}" for n in study.varying[:12] if n in trial.hparams]
    return "<br>".join([first, *told, *(["…"] if len(study.varying) > 12 else [])])


def marks(study: Study, points: Sequence[Point], x: Sequence[float], **trace: Any) -> dict[str, Any]:
    """A trace of one mark for each trial, at its number."""
    return {
        "type": "scatter", "mode": "markers", "x": [float(at) for at in x], "y": [point.value for point in points],
        "hoverinfo": "text", "hovertext": [hover(study, point) for point in points], **trace,
    }  # fmt: skip


def history(study: Study) -> Plot:
    """The metric of each trial in the order of their start, and the best so far."""
    measured = [point for point in study.points if np.isfinite(point.value)]
    span = Range.of([point.value for point in measured if point.rank is not None] or [p.value for p in measured])
    ranked = spaced(study.ranked, MOST_IN_HISTORY)
    others = [point for point in measured if point.rank is None]
    rest = others[:: -(-len(others) // MOST_IN_HISTORY) or 1]
    steps = _best_so_far(study)
    best = {
        "type": "scatter", "mode": "lines", "name": "best so far", "x": [at for at, _ in steps],
        "y": [value for _, value in steps], "line": {"color": BEST, "width": 2, "shape": "hv"}, "hoverinfo": "skip",
    }  # fmt: skip
    size = 7 if len(measured) <= MANY else 4
    dots = marks(study, ranked, [p.place for p in ranked], name="ranked", marker={"color": PLAIN, "size": size})
    crosses = marks(
        study,
        rest,
        [p.place for p in rest],
        name="not ranked",
        marker={"color": PRUNED, "symbol": "x", "size": size},
    )
    left_out = len(measured) - len(ranked) - len(rest)
    said = [
        f"Each mark is a trial; the line is the best so far ({'higher' if study.goal == 'max' else 'lower'} is better)."
    ]
    said += [f"{left_out:,} of {len(measured):,} marks are left out; the line counts all of them."] if left_out else []
    axes = {"xaxis": {"title": {"text": "trial, in the order of start"}, "automargin": True, "zeroline": False}}
    axes["yaxis"] = span.layout | {"title": {"text": as_label(study.title), "standoff": 8}}
    data = [dots, best, *([crosses] if rest else [])]
    return Plot("history", figure(data, **axes), " ".join([*said, span.remark()]).strip())


def _best_so_far(study: Study) -> list[tuple[int, float]]:
    """Where the best so far becomes another, and where it ends."""
    steps: list[tuple[int, float]] = []
    for point in study.points:
        if point.rank is not None and (not steps or study.is_better(point.value, steps[-1][1])):
            steps.append((point.place, point.value))
    return [*steps, (len(study.points), steps[-1][1])] if steps else []


def importance(found: Importances) -> Plot:
    """What the hparams that matter are worth, with the uncertainty."""
    rows = found.rows[:MOST_BARS][::-1]
    bars = {
        "type": "bar", "orientation": "h", "x": [row.mean for row in rows], "y": list(range(len(rows))),
        "marker": {"color": PLAIN}, "hoverinfo": "text",
        "hovertext": [f"{as_label(r.name)}: {r.mean:.0%}, {r.low:.0%} to {r.high:.0%}" for r in rows],
        "error_x": {
            "type": "data", "symmetric": False, "array": [max(0.0, row.high - row.mean) for row in rows],
            "arrayminus": [max(0.0, row.mean - row.low) for row in rows], "color": FAILED, "thickness": 1.5,
        },
    }  # fmt: skip
    labels = [as_label(row.name, 22) for row in rows]
    layout = {
        "xaxis": {
            "title": {"text": "share of variance"}, "tickformat": ".0%", "rangemode": "tozero", "automargin": True,
        },
        "yaxis": {"tickmode": "array", "tickvals": bars["y"], "ticktext": labels, "automargin": True},
    }  # fmt: skip
    more = len(found.rows) - len(rows)
    said = (
        f"How much of the variance over {said_with(found.n, 'trial')} each hyperparameter accounts for; "
        f"the thin line is how unsure that is. The model predicts unseen trials with R² {found.score:.2f}."
    )
    return Plot("importance", figure([bars], **layout), said + _left_out(more, "hyperparameter"), 110 + 34 * len(rows))


def _left_out(count: int, what: str) -> str:
    return f" {said_with(count, what)} left out." if count > 0 else ""


def slices(study: Study, order: Sequence[str]) -> list[Plot]:
    """The metric against each hparam, those that matter most first."""
    points = spaced(study.ranked, MOST_IN_SLICE)
    span = Range.of([point.value for point in study.ranked])
    axes = [Axis.of(study, name) for name in order[:MOST_SLICES]]
    return [Plot(f"slice-{n}", _slice(study, axis, points, span), "", 280, axis.name) for n, axis in enumerate(axes)]


def _slice(study: Study, axis: Axis, points: Sequence[Point], span: Range) -> dict[str, Any]:
    aside = [_jitter(point) if axis.few else 0.0 for point in points]
    x = [axis.place(point.trial) + by for point, by in zip(points, aside, strict=True)]
    shades = [shade(point.rank or 0, len(study.ranked)) for point in points]
    dots = marks(study, points, x, marker={"color": shades, "colorscale": SHADES, "cmin": 0, "cmax": 1, "size": 7})
    data = [dots, *([_means(study, axis)] if axis.few and len(study.ranked) > 2 else [])]
    y = span.layout | {"title": {"text": as_label(study.title), "standoff": 8}}
    return figure(data, xaxis=axis.layout, yaxis=y, showlegend=False, margin={"l": 16, "r": 12, "t": 8, "b": 16})


def _jitter(point: Point) -> float:
    """A step aside, always the same for a trial, so that marks of the same value do not hide each other."""
    return ((point.place * 0.618034) % 1.0 - 0.5) * 0.06


def _means(study: Study, axis: Axis) -> dict[str, Any]:
    """A short line at the mean of each value."""
    by_place: dict[float, list[float]] = {}
    for point in study.ranked:
        by_place.setdefault(axis.place(point.trial), []).append(point.value)
    x: list[float | None] = []
    y: list[float | None] = []
    for place, values in by_place.items():
        x += [place - 0.05, place + 0.05, None]
        y += [float(np.mean(values))] * 2 + [None]
    line = {"color": BEST, "width": 3}
    return {"type": "scatter", "mode": "lines", "x": x, "y": y, "line": line, "hoverinfo": "skip"}


