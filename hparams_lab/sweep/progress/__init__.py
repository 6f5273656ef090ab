"""How a sweep looks while it goes on: a live view on a terminal, plain lines elsewhere, JSON lines for machines."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING

from hparams_lab.sweep.progress.output import is_terminal

if TYPE_CHECKING:
    from hparams_lab.sweep.events import Observer


@contextlib.contextmanager
def progress(as_json: bool = False, file: IO[str] | None = None) -> Iterator[Observer]:
    """An observer that shows the events it is given, as suits where they go (standard output when left out)."""
    file = file or sys.stdout
    if as_json:
        from hparams_lab.sweep.progress.machine import print_json

        yield lambda event: print_json(event, file)
    elif file and is_terminal(file) and os.environ.get("TERM") != "dumb":
        from hparams_lab.sweep.progress.live import LiveView

        with LiveView(file) as view:
            yield view.take
    else:
        from hparams_lab.sweep.progress.plain import PlainView

        yield PlainView(file).take
