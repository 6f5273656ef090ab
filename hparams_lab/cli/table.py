"""`fitted`: a table as wide as the terminal; what has no room is left out by name rather than cut to nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

GAP = 2
NARROWEST_HEAD = 9
"""A head longer than its column's cells is broken over lines, but no narrower than this."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its head, its cells, and how soon it is left out where there is no room (0: never)."""

    head: str
    cells: Sequence[Text | str]
    expendable: int = 0
    right: bool = False

    @property
    def width(self) -> int:
        """How many characters it needs."""
        longest = max((len(cell) for cell in self.cells), default=0)
        return max(longest, min(len(self.head), NARROWEST_HEAD))


def fitted(columns: Sequence[Column], width: int) -> tuple[Table, list[str]]:
    """The table of the columns that fit into `width` characters, and the heads of those that do not."""
    shown, hidden = list(columns), []
    while sum(column.width + GAP for column in shown) - GAP > width:
        least = max(shown, key=lambda column: column.expendable)
        if not least.expendable:
            break
        shown.remove(least)
        hidden.append(least.head)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, GAP, 0, 0))
    for column in shown:
        table.add_column(_broken(column.head, column.width), justify="right" if column.right else "left")
    for row in zip(*(column.cells for column in shown), strict=True):
        table.add_row(*row)
    return table, hidden


def _broken(head: str, width: int) -> Text:
    """A head in lines of at most `width`, broken at underscores where it has some."""
    lines = [""]
    for part in head.replace("_", "_\0").split("\0"):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    return Text("\n".join(lines))
