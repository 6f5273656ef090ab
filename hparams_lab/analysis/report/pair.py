"""The plot of the two hparams that matter most: the metric over both of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hparams_lab.analysis.report.axis import Axis, Range
from hparams_lab.analysis.report.plots import BEST, SHADES, Plot, figure, hover
from hparams_lab.analysis.report.study import Point, Study, shade, spaced
from hparams_lab.analysis.report.text import as_label

GRID = 40
"""The contour is computed at so many places in each direction."""
MOST_POINTS = 200
MOST_WEIGHED = 2000


def pair(study: Study, first: str, second: str) -> Plot:
    """A table of means where both have few values, a contour where both are numbers, else the trials themselves."""
    x, y = Axis.of(study, first), Axis.of(study, second)
    if x.few and y.few:
        return _cells(study, x.counted(), y.counted())
    if x.numbers and y.numbers and len(study.ranked) >= 8:
        return _contour(study, x, y)
    said = f"Each mark is a trial, darker where {as_label(study.title)} is better."
    return _plot(study, x, y, [_trials(study, x, y, shaded=True)], said)


def _plot(study: Study, x: Axis, y: Axis, data: list[dict[str, Any]], said: str, notes: Any = ()) -> Plot:
    best = study.ranked[0]
    star = {
        "type": "scatter", "mode": "markers", "x": [x.place(best.trial)], "y": [y.place(best.trial)],
        "marker": {"symbol": "star", "size": 15, "color": BEST, "line": {"color": "#ffffff", "width": 1.5}},
        "hoverinfo": "text", "hovertext": [f"best: {hover(study, best)}"],
    }  # fmt: skip
    axes = {"xaxis": x.layout | {"showgrid": False}, "yaxis": y.layout | {"showgrid": False}}
    shown = figure([*data, star], **axes, showlegend=False, annotations=list(notes))
    return Plot("pair", shown, f"{said} The star is the best trial.", 420)


def _colours(study: Study, span: Range) -> dict[str, Any]:
    """The colours of the metric: dark is better."""
    bar = {"title": {"text": as_label(study.title, 20), "side": "right"}, "thickness": 12, "outlinewidth": 0}
    ends = {"zmin": span.low, "zmax": span.high}
    return {"colorscale": SHADES, "reversescale": study.goal == "min", "colorbar": bar, **ends}


def _cells(study: Study, x: Axis, y: Axis) -> Plot:
    """The mean over the trials of each pair of values."""
    found: dict[tuple[float, float], list[float]] = {}
    for point in study.ranked:
        found.setdefault((x.place(point.trial), y.place(point.trial)), []).append(point.value)
    means = {cell: float(np.mean(values)) for cell, values in found.items()}
    across, up = ([place for place, _ in axis.ticks] for axis in (x, y))
    z = [[means.get((column, row)) for column in across] for row in up]
    text = [[_cell_text(found.get((column, row), [])) for column in across] for row in up]
    heat = {
        "type": "heatmap", "x": across, "y": up, "z": z, "hovertext": text, "xgap": 2, "ygap": 2, "hoverinfo": "text",
        **_colours(study, Range.of(list(means.values()))),
    }  # fmt: skip
    said = "The mean over the trials of each pair of values, darker where it is better."
    return _plot(study, x, y, [heat], said, _numbers(z, study.goal == "max"))


def _cell_text(values: list[float]) -> str:
    if not values:
        return "no ranked trial"
    return f"mean {np.mean(values):.4g} of {len(values)}, from {min(values):.4g} to {max(values):.4g}"


def _numbers(z: list[list[float | None]], more_is_better: bool) -> list[dict[str, Any]]:
    """The means written into their cells."""
    known = [value for row in z for value in row if value is not None]
    low, high = min(known), max(known)
    noted = []
    for row, values in enumerate(z):
        for column, value in enumerate(values):
            if value is not None:
                share = (value - low) / (high - low) if high > low else 1.0
                is_dark = (share if more_is_better else 1 - share) > 0.45
                font = {"color": "#ffffff" if is_dark else "#1f2937", "size": 12}
                place = {"x": column, "y": row, "yshift": -22}
                noted.append({**place, "text": f"{value:.4g}", "showarrow": False, "font": font})
    return noted


def _contour(study: Study, x: Axis, y: Axis) -> Plot:
    """The metric between the trials, by their inverse distance, and the trials."""
    at = np.array([[x.place(p.trial), y.place(p.trial)] for p in study.ranked])
    values = np.array([point.value for point in study.ranked])
    span = Range.of(values.tolist())
    every = -(-len(values) // MOST_WEIGHED)
    edge = np.linspace(0, 1, GRID)
    z = _between(at[::every], np.clip(values, span.low, span.high)[::every], edge)
    contour = {
        "type": "contour", "x": edge.tolist(), "y": edge.tolist(), "z": np.round(z, 8).tolist(), "hoverinfo": "skip",
        "ncontours": 14, "contours": {"coloring": "heatmap", "showlines": True}, "line": {"width": 0.5},
        **_colours(study, span),
    }  # fmt: skip
    said = "The metric over both, darker where it is better; between the trials (dots) it is interpolated."
    return _plot(study, x, y, [contour, _trials(study, x, y, shaded=False)], said)


def _between(at: NDArray[np.float64], values: NDArray[np.float64], edge: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of the values weighed by the inverse cube of their distance, at each place of the grid."""
    rows = []
    for height in edge:
        distance = np.hypot(edge[:, None] - at[None, :, 0], height - at[None, :, 1])
        weights = 1.0 / np.maximum(distance, 0.01) ** 3
        rows.append(weights @ values / weights.sum(axis=1))
    return np.array(rows)


def _trials(study: Study, x: Axis, y: Axis, shaded: bool) -> dict[str, Any]:
    points: list[Point] = spaced(study.ranked, MOST_POINTS)
    shades = {
        "color": [shade(p.rank or 0, len(study.ranked)) for p in points],
        "colorscale": SHADES,
        "cmin": 0,
        "cmax": 1,
    }
    plain = {"color": "#ffffff"}
    marker = {"size": 9 if shaded else 6, "line": {"color": "#1f2937", "width": 1}, **(shades if shaded else plain)}
    return {
        "type": "scatter", "mode": "markers", "x": [x.place(p.trial) for p in points],
        "y": [y.place(p.trial) for p in points], "marker": marker, "hoverinfo": "text",
        "hovertext": [hover(study, p) for p in points],
    }  # fmt: skip
