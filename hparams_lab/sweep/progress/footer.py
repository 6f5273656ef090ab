"""`Footer`: lines at the bottom of what a terminal shows, written over in place; what is said stays above them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import IO

from hparams_lab.core.names import width_of
from hparams_lab.sweep.progress.lines import WIDEST, Line, rendered
from hparams_lab.sweep.progress.output import write

NARROWEST = 10


class Footer:
    """The cursor always stands below the lines, at the start of a row: what a terminal echoes there is written over.

    Args:
      file: a terminal.
      size: gives its columns and rows.
    """

    def __init__(self, file: IO[str], size: Callable[[], os.terminal_size] | None = None) -> None:
        self._file = file
        self._size = size or self._size_of_terminal
        self._styled = not os.environ.get("NO_COLOR")
        self._widths: list[int] = []  # of the lines that are there now
        self._shown: tuple[object, ...] = ()

    def _size_of_terminal(self) -> os.terminal_size:
        try:
            size = os.get_terminal_size(self._file.fileno())
        except (OSError, ValueError):
            size = os.terminal_size((80, 24))
        return size if size.columns and size.lines else os.terminal_size((80, 24))

    def room(self) -> tuple[int, int]:
        """The columns and rows that lines may take now: never the last ones, where terminals differ."""
        size = self._size()
        return max(NARROWEST, min(WIDEST, size.columns - 1)), max(1, size.lines - 1)

    def show(self, lines: Sequence[Line], above: Sequence[Line] = ()) -> None:
        """Write these lines over those that are there, after what is said for good."""
        width, height = self.room()
        texts = [rendered(line, width, self._styled) for line in lines[:height]]
        if not above and self._shown == (width, texts):
            return
        self._shown = (width, texts)
        frame = f"{self._back(width)}{''.join(self._said(line) for line in above)}"
        frame += "".join(f"{text}\x1b[K\n" for text in texts)
        self._widths = [width_of(rendered(line, width, styled=False)) for line in lines[:height]]
        write(self._file, f"{frame}\x1b[J", "replace")  # not escaped: that would be wider

    def _back(self, width: int) -> str:
        """To the first of the lines; a terminal that was made narrower has broken them."""
        rows = sum(max(1, -(-wide // (width + 1))) for wide in self._widths)
        return f"\x1b[{rows}A\r" if rows else "\r"

    def _said(self, line: Line) -> str:
        """A line of any length; what stands there is erased first, since it may take several rows."""
        return f"\x1b[J{''.join(rendered([piece], 10**6, self._styled) for piece in line)}\n"
