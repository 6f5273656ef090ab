"""The report's page: sections of HTML, the figures as data, and a policy under which nothing else runs or loads."""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hparams_lab.analysis.report.assets import SCRIPT, STYLE
from hparams_lab.analysis.report.plots import Plot
from hparams_lab.analysis.report.text import as_html, as_script_data, clipped
from hparams_lab.core.present import visible

MOST_VALUES = 20
"""So many values of a trial are shown at once."""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page: its heading as text, its body as HTML, the plots that the body has places for."""

    heading: str
    body: str
    plots: tuple[Plot, ...] = ()
    name: str = ""


def page(title: str, head: str, sections: Sequence[Section], plotly_js: str) -> str:
    """The whole page.

    Args:
      title: of the window, as text.
      head: what stands above the sections, as HTML.
      sections: the parts in their order.
      plotly_js: the source of plotly.js.
    """
    plots = {plot.name: plot.figure for section in sections for plot in section.plots}
    scripts = [plotly_js, SCRIPT] if plots else []
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy(scripts)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{html.escape(visible(clipped(title, 120)))}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
{head}
{"".join(map(_section, sections))}
</main>
<noscript><p>The plots need JavaScript.</p></noscript>
<script type="application/json" id="figures">{as_script_data(plots)}</script>
{"".join(f"<script>{script}</script>" for script in scripts)}
</body>
</html>
"""


def policy(scripts: Sequence[str]) -> str:
    """The content security policy: these scripts run, and nothing is fetched from anywhere.

    plotly.js writes style elements and makes pictures from data. Source of the directives: https://www.w3.org/TR/CSP3/
    """
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    sources = " ".join(f"'sha256-{digest}'" for digest in hashes) or "'none'"
    return (
        f"default-src 'none'; script-src {sources}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _section(section: Section) -> str:
    name = f' class="{section.name}"' if section.name else ""
    return f"<section{name}>\n<h2>{html.escape(section.heading)}</h2>\n{section.body}\n</section>\n"


def plot_section(heading: str, plot: Plot) -> Section:
    """A section of one plot."""
    return Section(heading, f"{_caption(plot.caption)}{place_of(plot)}", (plot,))


def grid_section(heading: str, caption: str, plots: Sequence[Plot]) -> Section:
    """A section of small plots side by side."""
    cells = "".join(map(place_of, plots))
    return Section(heading, f'{_caption(caption)}<div class="grid">{cells}</div>', tuple(plots))


def choice_section(heading: str, plots: Sequence[Plot]) -> Section:
    """A section that shows one of several plots, the first until another is chosen."""
    first = plots[0]
    options = "".join(
        f'<option value="{plot.name}">{html.escape(visible(clipped(plot.heading, 80)))}</option>' for plot in plots
    )
    choice = f'<select data-plot="plot-{first.name}" aria-label="metric">{options}</select>' if len(plots) > 1 else ""
    return Section(heading, f"{_caption(first.caption)}{choice}{place_of(first)}", tuple(plots))


def text_section(heading: str, text: str) -> Section:
    """A section that says in a line why there is nothing to show."""
    return Section(heading, f"<p>{text}</p>")


def place_of(plot: Plot) -> str:
    """Where a plot is drawn."""
    name = plot.name
    return f'<div class="plot" id="plot-{name}" data-figure="{name}" style="height:{plot.height}px"></div>'


def _caption(caption: str) -> str:
    return f'<p class="soft">{caption}</p>' if caption else ""


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], best: int | None = None) -> str:
    """A table of HTML cells that scrolls by itself where it is wider than the screen."""
    head = "".join(f"<th>{cell}</th>" for cell in heads)
    lines = [f"<tr{' class=best' if n == best else ''}>{''.join(map(_cell, row))}</tr>" for n, row in enumerate(rows)]
    body = f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody>"
    return f'<div class="wide"><table>{body}</table></div>'


def _cell(cell: str) -> str:
    """A cell; a long one may be broken over lines."""
    return f'<td class="long">{cell}</td>' if len(cell) > 60 else f"<td>{cell}</td>"


def values(found: Mapping[str, Any]) -> str:
    """Names with their values, side by side as far as there is room; where there are many, the others on demand."""
    items = [f"<li>{as_html(name)} = <strong>{as_html(value)}</strong></li>" for name, value in found.items()]
    first, rest = (f'<ul class="values">{"".join(some)}</ul>' for some in (items[:MOST_VALUES], items[MOST_VALUES:]))
    if len(items) > MOST_VALUES:
        return f"{first}<details><summary>{len(items) - MOST_VALUES} more</summary>{rest}</details>"
    return first if items else ""


def sentences(found: Sequence[str]) -> str:
    """Sentences as a list."""
    return f'<ul class="said">{"".join(f"<li>{said}</li>" for said in found)}</ul>'
