"""Text from a log directory made safe to show: as HTML, in a plot, and inside a script element.

Names and values are whatever somebody logged. `present.visible` writes out what cannot be seen or would turn the text
around it; here its meaning to HTML, to plotly and to a script element is taken from it.
"""

from __future__ import annotations

import html

from hparams_lab.core.present import dump, visible
from hparams_lab.core.values import format_value

LONGEST_CELL = 300
LONGEST_LABEL = 40
LONGEST_NAME = 120
"""Of a run, whose name may differ from the others' in its middle only."""


def clipped(text: str, most: int) -> str:
    """At most so many characters of a text, and how many it had."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text):,} characters)"


def as_html(value: object, most: int = LONGEST_CELL) -> str:
    """A value or name as HTML that shows it and does nothing else; its writing direction ends where it ends."""
    return f"<bdi>{html.escape(visible(clipped(format_value(value), most)))}</bdi>"


def as_html_block(text: str, most: int = 4000) -> str:
    """Lines of text as HTML for a `pre` element."""
    return html.escape("\n".join(map(visible, clipped(text, most).expandtabs(4).split("\n"))))


def as_label(value: object, most: int = LONGEST_LABEL) -> str:
    """A value or name for a plot: plotly reads tags, entities and `%{...}` in texts, so they are escaped."""
    text = format_value(value)
    short = visible(text if len(text) <= most else f"{text[: most // 2]}…{text[-((most - 1) // 2) :]}")  # ends differ
    return html.escape(short, quote=False).replace("{", "&#123;")


def as_script_data(found: object) -> str:
    """Strict JSON that cannot end the script element it stands in."""
    text = dump(found)
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text
