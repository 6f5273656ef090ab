"""`fitted`: a table as wide as the terminal; what has no room is left out by name rather than cut to nothing.

Written without rich, whose tables take a tenth of a second to import.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from hparams_lab.core.names import cut, cut_apart, width_of
from hparams_lab.core.outcome import Outcome
from hparams_lab.core.present import COLOURS, RAMP, visible

if TYPE_CHECKING:
    from rich.text import Text

GAP = 2
NARROWEST_HEAD = 9
"""A head longer than its column's cells is broken over lines, but no narrower than this."""
WIDEST_PART = 16
"""A longer part of a head, without a place to break it, is broken anywhere."""
NARROWEST = 12
"""A column that is never left out is cut to no fewer characters than this."""
LONGEST = 40
"""Longer cells are cut where the width is limited."""
LONGEST_OF_ALL = 400
"""Longer cells are cut everywhere."""
SHARE_OF_NAMES = 3
"""Names take a third of the width, and what the other columns leave."""
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
    """A column: its head, its cells, and how soon it is left out where there is no room (0: never).

    `names` is for cells that tell rows apart: they are cut so that they differ, from these too that have no row here.
    """

    head: str
    cells: Sequence[AnyCell]
    expendable: int = 0
    right: bool = False
    names: Sequence[str] | None = None

    @property
    def width(self) -> int:
        """How many characters it needs."""
        return _Shown.of(self).cut(LONGEST).width


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
    of_names = min(max(2 * NARROWEST, width // SHARE_OF_NAMES), LONGEST_OF_ALL)
    whole = [_Shown.of(column) for column in columns]
    shown = [column.cut(longest if column.names is None else of_names) for column in whole]
    hidden = []
    while _excess(shown, width) > 0:
        least = max(shown, key=lambda column: column.expendable)
        if not least.expendable:
            shown = _narrowed(shown, _excess(shown, width))
            break
        shown.remove(least)
        hidden.append(least.head)
    shown = [column if column.names is None else _widened(column, -_excess(shown, width)) for column in shown]
    return FittedTable(tuple(_lines(shown))), hidden


@dataclass(frozen=True, slots=True)
class _Shown:
    """A column fit to be shown, and how many characters it takes; `whole` are its cells before they were cut."""

    head: str
    cells: list[Cell]
    width: int
    expendable: int
    right: bool
    names: list[str] | None
    whole: list[Cell]

    @classmethod
    def of(cls, column: Column) -> _Shown:
        head = visible(column.head)
        cells = [cell_of(cell) for cell in column.cells]
        width = max(_needed(cells), _head_width(head))
        names = None if column.names is None else [*map(visible, column.names)]
        return cls(head, cells, width, column.expendable, column.right, names, cells)

    def cut(self, width: int) -> _Shown:
        """The column in no more than `width` characters."""
        if self.names is not None:
            own = [cell.text for cell in self.whole]
            texts = cut_apart([*own, *self.names], width)[: len(own)]
            cells = [_with_text(cell, text) for cell, text in zip(self.whole, texts, strict=True)]
        else:
            cells = [_with_text(cell, cut(cell.text, width)) for cell in self.whole]
        return replace(self, cells=cells, width=min(width, max(_needed(cells), _head_width(self.head))))


def _needed(cells: Sequence[Cell]) -> int:
    return max((width_of(cell.text) for cell in cells), default=0)


def _with_text(cell: Cell, text: str) -> Cell:
    return cell if cell.text == text else replace(cell, text=text, ansi="")


def _widened(column: _Shown, room: int) -> _Shown:
    """A column of names with more of each name, where there is room."""
    return column.cut(min(column.width + room, LONGEST_OF_ALL)) if room > 0 else column


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


def _broken(head: str, width: int) -> list[str]:
    """A head in lines of at most `width`, broken at underscores, slashes and spaces where it has some."""
    lines = [""]
    for part in _parts_of(head):
        if lines[-1] and width_of(lines[-1]) + width_of(part.rstrip()) > width:
            lines.append("")
        while width_of(part.rstrip()) > width > 0:
            lines[-1:] = [part[:width], ""]
            part = part[width:]
        lines[-1] += part
    return [line.rstrip() for line in lines]


def _parts_of(head: str) -> list[str]:
    """What a head may be broken into."""
    return re.findall(r"[^_/ ]*[_/ ]|[^_/ ]+", head)


def _head_width(head: str) -> int:
    """What a column is at least as wide as: a part of its head, or what makes few lines of it."""
    longest = max((width_of(part.rstrip()) for part in _parts_of(head)), default=0)
    return min(width_of(head), max(NARROWEST_HEAD, min(longest, WIDEST_PART)))


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
