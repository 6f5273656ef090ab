"""Parallel coordinates: a line for each trial through its value of every hparam, down to the metric.

The axes lie one below the other, so that a phone shows them whole. The lines are scatter traces in SVG, in a few
bundles by rank; plotly's own parallel coordinates need WebGL.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hparams_lab.analysis.report.axis import Axis, Range, nice
from hparams_lab.analysis.report.plots import BEST, FAILED, Plot, figure, hover
from hparams_lab.analysis.report.study import Point, Study, said_with, spaced
from hparams_lab.analysis.report.text import LONGEST_LABEL, as_label, clipped
from hparams_lab.core.present import visible
from hparams_lab.core.values import format_value

MOST_LINES, MOST_AXES, BUNDLES = 200, 12, 8
WIDEST = 56
"""So many characters stand below an axis on a phone."""
ROW = 74
"""The height of an axis and its labels in pixels."""


def parallel(study: Study, order: Sequence[str]) -> Plot:
    """The lines of the ranked trials; the best one stands out, and what is tapped."""
    axes = [Axis.of(study, name) for name in order[:MOST_AXES]]
    points = spaced(study.ranked, MOST_LINES)
    span = Range.of([point.value for point in study.ranked])
    lines = {point.place: _line(axes, span, point) for point in points}
    # the worst first, so that the best lies on top
    pieces = enumerate(map(list, np.array_split(np.arange(len(points))[::-1], min(BUNDLES, len(points)))))
    data = [_bundle(study, [points[n] for n in piece], lines, number) for number, piece in pieces]
    data.append(_chosen(study.ranked[0], lines))
    rules = [(n, axis.name, axis.ticks, axis.log) for n, axis in enumerate(axes)]
    rules.append((len(axes), study.title, _metric_ticks(span), span.log))
    low = min([0.0, *(place for axis in axes for place in axis.places.values())])
    layout = {
        "xaxis": {"visible": False, "range": [low - 0.05, 1.05], "fixedrange": True},
        "yaxis": {"visible": False, "range": [len(axes) + 0.45, -0.5], "fixedrange": True},
        "shapes": [_rule(n, low) for n in range(len(axes) + 1)],
        "annotations": [note for rule in rules for note in _labels(*rule, low)],
        "showlegend": False, "margin": {"l": 6, "r": 6, "t": 6, "b": 6},
    }  # fmt: skip
    return Plot("parallel", figure(data, **layout), _caption(study, len(points), order), ROW * (len(axes) + 1))


def chosen_in_words(study: Study, point: Point) -> str:
    """What is told of the line that stands out, as text."""
    told = [
        f"{name} = {format_value(point.trial.hparams[name])}" for name in study.varying if name in point.trial.hparams
    ]
    told = [f"{point.trial.name}: {study.title} {point.value:.6g}", *told[:MOST_AXES]]
    return ", ".join(visible(clipped(text, LONGEST_LABEL * 2)) for text in told)


def _caption(study: Study, shown: int, order: Sequence[str]) -> str:
    said = [
        f"A line for each trial, from value to value down to {as_label(study.title)}: the darker, the better; "
        "the best in red. Tap a line to follow it."
    ]
    if shown < len(study.ranked):
        said.append(
            f"{shown:,} of {len(study.ranked):,} ranked trials: the best {shown // 4} and a sample of the rest."
        )
    if len(order) > MOST_AXES:
        said.append(f"{said_with(len(order) - MOST_AXES, 'hyperparameter')} left out.")
    return " ".join(said)


def _line(axes: Sequence[Axis], span: Range, point: Point) -> list[float]:
    """Where a trial crosses each axis; a little aside where many do at the same place."""
    aside = ((point.place * 0.618034) % 1.0 - 0.5) * 0.024
    return [axis.place(point.trial) + (aside if axis.few else 0.0) for axis in axes] + [span.place(point.value)]


def _bundle(study: Study, points: Sequence[Point], lines: dict[int, list[float]], number: int) -> dict[str, Any]:
    """The lines of like rank as one trace."""
    x: list[float | None] = []
    y: list[float | None] = []
    text: list[str] = []
    trials: list[int] = []
    for point in points:
        line = lines[point.place]
        x += [*(round(at, 4) for at in line), None]
        y += [*range(len(line)), None]
        text += [hover(study, point)] * len(line) + [""]
        trials += [point.place] * (len(line) + 1)
    share = number / max(min(BUNDLES, len(lines)) - 1, 1)
    colour, opacity = _colour(share), (0.35 + 0.45 * share) * (1.0 if len(lines) <= 100 else 0.6)
    return {
        "type": "scatter", "mode": "lines+markers", "x": x, "y": y, "line": {"color": colour, "width": 1.2},
        "marker": {"size": 4, "color": colour}, "opacity": opacity, "hoverinfo": "text", "hovertext": text,
        "customdata": trials, "meta": {str(point.place): chosen_in_words(study, point) for point in points},
    }  # fmt: skip


def _colour(share: float) -> str:
    worst, best = (196, 207, 219), (11, 47, 87)
    red, green, blue = (round(low + (high - low) * share) for low, high in zip(worst, best, strict=True))
    return f"rgb({red},{green},{blue})"


def _chosen(best: Point, lines: dict[int, list[float]]) -> dict[str, Any]:
    """The line that stands out: the best trial's, until another is tapped."""
    line = lines[best.place]
    return {
        "type": "scatter", "mode": "lines+markers", "name": "chosen", "x": line, "y": list(range(len(line))),
        "line": {"color": BEST, "width": 3}, "marker": {"size": 8, "color": BEST}, "hoverinfo": "skip",
    }  # fmt: skip


def _rule(row: int, low: float) -> dict[str, Any]:
    line = {"color": FAILED, "width": 1}
    return {"type": "line", "x0": low - 0.02, "x1": 1.02, "y0": row, "y1": row, "line": line, "layer": "below"}


def _labels(row: int, name: str, ticks: Sequence[tuple[float, str]], log: bool, low: float) -> list[dict[str, Any]]:
    """The axis' name above it and its values below it, each on a ground of its own so that no line crosses it."""
    plain = {"showarrow": False, "bgcolor": "rgba(255,255,255,0.8)", "borderpad": 1, "y": row}
    text = as_label(name) + (" (log)" if log else "")
    head = {**plain, "x": low, "xanchor": "left", "yshift": 20, "text": f"<b>{text}</b>", "font": {"size": 13}}
    small = {"size": 11, "color": "#4b5563"}
    every = -(-sum(len(label) + 2 for _, label in ticks) // WIDEST) or 1
    told = [
        {**plain, "x": at, "xanchor": _anchor(at, label), "yshift": -13, "text": label, "font": small}
        for at, label in ticks[::every]
    ]
    return [head, *told]


def _anchor(at: float, label: str) -> str:
    """The side on which a label begins: inward at the ends, where it is long."""
    if len(label) <= 5 or 0.1 < at < 0.9:
        return "center"
    return "left" if at <= 0.1 else "right"


def _metric_ticks(span: Range) -> tuple[tuple[float, str], ...]:
    return tuple((span.place(number), f"{number:.4g}") for number in nice(span.low, span.high, span.log))
