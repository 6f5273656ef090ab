"""`LiveView`: a sweep on a terminal, as it goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import IO, Any

from hparams_lab.core.outcome import Outcome
from hparams_lab.core.present import COLOURS, in_units, visible
from hparams_lab.sweep.events import PictureStarted, RunEnded, RunRetried, SweepEvent, SweepNote, SweepStopping
from hparams_lab.sweep.progress import lines
from hparams_lab.sweep.progress.footer import Footer
from hparams_lab.sweep.progress.lines import Line, Piece
from hparams_lab.sweep.progress.sayings import (
    ended_in_words,
    over_in_words,
    picturing_in_words,
    retried_in_words,
    stopping_in_words,
)
from hparams_lab.sweep.progress.tally import Tally

FRAME_SECONDS = 0.125
SHARE_OF_TIME = 0.05
"""Drawing takes no more of the time than this."""
SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


class LiveView:
    """A bar, the counts, the best so far and a line for each run under way; what went wrong is said above them.

    A thread of its own draws, and nothing else writes: whoever tells of an event never waits for the terminal.
    While the sweep gets ready there is one line, which vanishes however that ends.
    """

    def __init__(self, file: IO[str], frame_seconds: float = FRAME_SECONDS) -> None:
        self._footer = Footer(file)
        self._tally = Tally()
        self._lock = threading.Lock()
        self._above: list[Line] = []
        self._last_act: list[Line] = []
        self._seconds = frame_seconds
        self._is_over = threading.Event()
        self._is_told = False
        self._thread = threading.Thread(target=self._draw_until_over, name="hparams-lab live view", daemon=True)

    def __enter__(self) -> LiveView:
        self._thread.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._is_over.set()
        self._thread.join()
        self._draw()

    def take(self, event: SweepEvent) -> None:
        """Take note of an event; it is drawn with the next frame."""
        with self._lock:
            self._tally.take(event)
            if isinstance(event, PictureStarted):
                self._last_act = [[Piece(picturing_in_words(event))]]
            said = _said(event)
            if said is not None:
                self._above.append([said])

    def _draw_until_over(self) -> None:
        pause = 0.0
        while not self._is_over.wait(pause):
            began = time.thread_time()
            self._draw()
            pause = max(self._seconds, (time.thread_time() - began) / SHARE_OF_TIME)

    def _draw(self) -> None:
        width, height = self._footer.room()
        with self._lock:
            above, self._above = self._above, []
            if self._is_over.is_set():
                shown, above = [], [*above, *self._last_lines(width)]
            else:
                shown = list(self._lines(width, height))
        self._footer.show(shown, above)

    def _lines(self, width: int, height: int) -> Iterator[Line]:
        seconds = time.monotonic() - self._tally.began
        if not self._tally.is_started:
            spin = SPINNER[int(seconds / FRAME_SECONDS) % len(SPINNER)]
            yield [
                Piece(f"{spin} ", "green"),
                Piece(f"getting ready: importing, checking the data  {in_units(seconds)}"),
            ]
        else:
            standing = self._tally.standing()
            told = f"{in_units(seconds)}  {lines.left(standing)}".rstrip()
            head = [
                lines.bar(standing, width, told),
                lines.counts(standing),
                *lines.best_so_far(standing),
                *self._last_act,
            ][:height]
            yield from head
            yield from lines.running(standing, width, height - len(head))

    def _last_lines(self, width: int) -> Iterator[Line]:
        """What stays: nothing of a sweep that did not begin, and no run under way."""
        if self._is_told:
            return
        self._is_told = True
        tally, standing = self._tally, self._tally.standing()
        ended = tally.ended
        if tally.is_started and (tally.begun or ended is None):
            yield lines.bar(standing, width, "")
        if ended is not None:
            said = over_in_words(ended, standing.done, standing.runs, tally.begun)
            yield [Piece(said, "yellow" if ended.interrupted else "green")]


def _said(event: SweepEvent) -> Piece | None:
    """What is said for good of an event; None where the other lines tell enough."""
    if isinstance(event, RunEnded) and event.result.outcome is not Outcome.COMPLETED:
        return Piece(ended_in_words(event.result), COLOURS.get(event.result.outcome, "red"))
    if isinstance(event, RunRetried):
        return Piece(retried_in_words(event), "yellow")
    if isinstance(event, SweepNote):
        return Piece(visible(event.text), "yellow")
    if isinstance(event, SweepStopping):
        return Piece(stopping_in_words(event), "yellow")
    return None
