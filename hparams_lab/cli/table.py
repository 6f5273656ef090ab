"""`fitted`: a table as wide as the terminal; what has no room is left out by name rather than cut to nothing.

Written without rich, whose tables take a tenth of a second to import.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from hparams_lab.results import Outcome
from hparams_lab.words import COLOURS, RAMP, visible

if TYPE_CHECKING:
    from rich.text import Text

GAP = 2
NARROWEST_HEAD = 9
"""A head longer than its column's cells is broken over lines, but no narrower than this."""
NARROWEST = 12
"""A column that is never left out is cut to no fewer characters than this."""
LONGEST = 40
"""Longer cells are cut where the width is limited."""
LONGEST_OF_ALL = 400
"""Longer cells are cut everywhere."""
UNLIMITED = 1_000_000


@dataclass(frozen=True, slots=True)
class Cell:
    """A text and how it stands out; control characters in it are escaped.

    `ansi` is the text with colours in it already, where one style is too few.
    """

    text: str
    colour: str | None = None
    bold: bool = False
    dim: bool = False
    ansi: str = ""

    def __str__(self) -> str:
        if self.ansi or not (self.colour or self.bold or self.dim):
            return self.ansi or self.text
        return click.style(self.text, fg=self.colour, bold=self.bold or None, dim=self.dim or None)


AnyCell: TypeAlias = "Cell | Text | str"


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its head, its cells, and how soon it is left out where there is no room (0: never)."""

    head: str
    cells: Sequence[AnyCell]
    expendable: int = 0
    right: bool = False

    @property
    def width(self) -> int:
        """How many characters it needs."""
        return _Shown.of(self, LONGEST).width


@dataclass(frozen=True, slots=True)
class FittedTable:
    """Lines of a table; `click.echo` and rich's `print` both take it."""

    lines: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(self.lines)

    def __rich__(self) -> Any:
        from rich.text import Text

        return Text.from_ansi(str(self))


def fitted(columns: Sequence[Column], width: int) -> tuple[FittedTable, list[str]]:
    """The table of the columns that fit into `width` characters, and the heads of those that do not."""
    longest = LONGEST if width < UNLIMITED else LONGEST_OF_ALL
    shown = [_Shown.of(column, longest) for column in columns]
    hidden = []
    while _excess(shown, width) > 0:
        least = max(shown, key=lambda column: column.expendable)
        if not least.expendable:
            shown = _narrowed(shown, _excess(shown, width))
            break
        shown.remove(least)
        hidden.append(least.head)
    return FittedTable(tuple(_lines(shown))), hidden


@dataclass(frozen=True, slots=True)
class _Shown:
    """A column fit to be shown, and how many characters it needs."""

    head: str
    cells: list[Cell]
    width: int
    expendable: int
    right: bool

    @classmethod
    def of(cls, column: Column, longest: int) -> _Shown:
        head = visible(column.head)
        cells = [_cut_cell(cell_of(cell), longest) for cell in column.cells]
        needed = max((width_of(cell.text) for cell in cells), default=0)
        width = max(needed, min(width_of(head), NARROWEST_HEAD))
        return cls(head, cells, width, column.expendable, column.right)

    def cut(self, width: int) -> _Shown:
        return replace(self, cells=[_cut_cell(cell, width) for cell in self.cells], width=width)


def _cut_cell(cell: Cell, width: int) -> Cell:
    return cell if width_of(cell.text) <= width else replace(cell, text=cut(cell.text, width), ansi="")


def _excess(columns: Sequence[_Shown], width: int) -> int:
    return sum(column.width + GAP for column in columns) - GAP - width


def _narrowed(columns: list[_Shown], excess: int) -> list[_Shown]:
    """The columns with the widest ones cut, as far as that goes."""
    widths = [column.width for column in columns]
    while excess > 0 and max(widths) > NARROWEST:
        widths[widths.index(max(widths))] -= 1
        excess -= 1
    return [column.cut(width) for column, width in zip(columns, widths, strict=True)]


def _lines(columns: Sequence[_Shown]) -> list[str]:
    heads = [_broken(column.head, column.width) for column in columns]
    height = max(map(len, heads), default=0)
    rows = [[Cell(head[i] if i < len(head) else "", bold=True) for head in heads] for i in range(height)]
    rows += [list(row) for row in zip(*(column.cells for column in columns), strict=True)]
    return [_line(row, columns) for row in rows]


def _line(cells: Sequence[Cell], columns: Sequence[_Shown]) -> str:
    parts = []
    for cell, column in zip(cells, columns, strict=True):
        blank = " " * (column.width - width_of(cell.text))
        text = str(cell) if cell.text else ""
        parts.append(blank + text if column.right else text + blank)
    return (" " * GAP).join(parts).rstrip()


def cell_of(cell: AnyCell) -> Cell:
    """What is to be shown as a `Cell`; a rich text keeps its colours."""
    if isinstance(cell, str):
        return Cell(visible(cell))
    if isinstance(cell, Cell):
        return cell if visible(cell.text) == cell.text else replace(cell, text=visible(cell.text))
    return Cell(visible(cell.plain), ansi=_ansi(cell) if visible(cell.plain) == cell.plain else "")


def _ansi(text: Text) -> str:
    from rich.console import Console

    console = Console(force_terminal=True, color_system="standard", width=UNLIMITED)
    with console.capture() as said:
        console.print(text, end="")
    return said.get()


def outcome_cell(outcome: Outcome) -> Cell:
    """An outcome in its colour."""
    return Cell(str(outcome), COLOURS.get(outcome, "red"))


def width_of(text: str) -> int:
    """How many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def cut(text: str, width: int) -> str:
    """A text in at most `width` columns; what is cut out of its middle leaves an ellipsis."""
    if width_of(text) <= width:
        return text
    if width < 1:
        return ""
    head, tail = text[:width], text[-width:]
    while width_of(head) > width // 2:
        head = head[:-1]
    while width_of(tail) > (width - 1) // 2:
        tail = tail[1:]
    return f"{head}…{tail}"


def _broken(head: str, width: int) -> list[str]:
    """A head in lines of at most `width`, broken at underscores and slashes where it has some."""
    lines = [""]
    for part in head.replace("_", "_\0").replace("/", "/\0").split("\0"):
        if lines[-1] and width_of(lines[-1]) + width_of(part) > width:
            lines.append("")
        lines[-1] += part
    return lines


def terminal_width() -> int:
    """The columns of the terminal; unlimited where the output goes elsewhere and COLUMNS does not say."""
    if not sys.stdout.isatty() and not os.environ.get("COLUMNS", "").isdecimal():
        return UNLIMITED
    return terminal_size()[0]


def terminal_size() -> tuple[int, int]:
    """Columns and lines of the terminal; 80 and 24 where it does not say (Python 3.10 has 0 then)."""
    columns, lines = shutil.get_terminal_size()
    return columns or 80, lines or 24


def ramp() -> str:
    """The heights of a sparkline, as far as the terminal's encoding has them."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return RAMP if _encodable(RAMP, encoding) else "_.-=^"


def _encodable(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def echo(text: object = "") -> None:
    """Print, without colour where NO_COLOR is set, and with what the encoding lacks as question marks."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    said = str(text).encode(encoding, "replace").decode(encoding)
    click.echo(said, color=False if os.environ.get("NO_COLOR") else None)
