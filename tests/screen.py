"""`Screen`: what a terminal shows after the bytes that were written to it, as far as our own views use its language."""

from __future__ import annotations

import re

from rich.cells import cell_len

_PIECES = re.compile(r"\x1b\[(?P<number>\d*(?:;\d+)*)(?P<verb>[A-Za-z])|(?P<sign>[\r\n])|(?P<text>[^\x1b\r\n]+)")


class Screen:
    """Rows of text without an end, on a terminal that breaks lines at its width and, narrowed, breaks them again."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.rows = [""]
        self.row = self.column = 0
        self._continued = [False]  # whether a row goes on in the next, since it was too long

    def write(self, text: str) -> None:
        """Take what was written."""
        at = 0
        while at < len(text):
            found = _PIECES.match(text, at)
            assert found, f"the screen does not know {text[at : at + 20]!r}"
            at = found.end()
            if found["text"]:
                self._put(found["text"])
            elif found["sign"] == "\r":
                self.column = 0
            elif found["sign"] == "\n":
                self._down()
                self.column = 0
            else:
                self._obey(found["verb"], found["number"])

    def _obey(self, verb: str, number: str) -> None:
        if verb == "A":
            assert int(number) <= self.row, "the cursor goes beyond the first row"
            self.row -= int(number)
        elif verb in "KJ":
            self.rows[self.row] = self.rows[self.row][: self.column]
            self._continued[self.row] = False
            if verb == "J":
                del self.rows[self.row + 1 :], self._continued[self.row + 1 :]
        else:
            assert verb == "m"

    def _down(self) -> None:
        self.row += 1
        if self.row == len(self.rows):
            self.rows.append("")
            self._continued.append(False)

    def _put(self, text: str) -> None:
        for char in text:
            if self.column + cell_len(char) > self.width:
                self._continued[self.row] = True
                self._down()
                self.column = 0
            row = self.rows[self.row].ljust(self.column)
            self.rows[self.row] = row[: self.column] + char + row[self.column + 1 :]
            self.column += 1

    def narrow(self, width: int) -> None:
        """Make the terminal narrower: longer rows are broken, and the cursor stays in its own."""
        old, self.width = self, width
        fresh = Screen(width)
        for number, row in enumerate(old.rows):
            if number == old.row:
                cursor = fresh.row
            fresh.write(row)
            if number < len(old.rows) - 1 and not old._continued[number]:
                fresh.write("\n")
        self.rows, self._continued, self.row, self.column = fresh.rows, fresh._continued, cursor, old.column

    def shown(self) -> list[str]:
        """The rows down to the last that is not empty."""
        rows = [row.rstrip() for row in self.rows]
        while rows and not rows[-1]:
            rows.pop()
        return rows
