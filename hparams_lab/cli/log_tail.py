"""`log_tail`: the last lines that a run's process printed, as a terminal would show them."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from hparams_lab.core.present import visible
from hparams_lab.storage.paths import OUTPUT_LOG

BYTES = 64 * 1024
"""So much of the end of the file is looked at."""
_STYLES = re.compile(r"\x1b\[[0-9;:?]*[A-Za-z]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[()][0-9A-B]")


def log_tail(run: Path, lines: int, without: str = "") -> list[str]:
    """The last lines of a run's `output.log`; none without one. `without` is a traceback that is shown already."""
    text = _end_of(run / OUTPUT_LOG)
    said = [_as_shown(line) for line in text.replace(without, "").split("\n")] if without else []
    said = said or [_as_shown(line) for line in text.split("\n")]
    while said and not said[-1].strip():
        said.pop()
    return said[-lines:]


def _end_of(path: Path) -> str:
    """The end of a file that is one: links are not followed, and a pipe is not waited for."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(path, flags)
    except OSError:
        return ""
    with open(descriptor, "rb") as file:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            return ""
        file.seek(max(0, facts.st_size - BYTES))
        return file.read(BYTES).decode("utf-8", "replace")


def _as_shown(line: str) -> str:
    """A line without colours, and of what a progress bar wrote over and over the last."""
    plain = _STYLES.sub("", line).replace("\b", "").rstrip("\r")
    return visible(plain.rpartition("\r")[2]).replace("\\t", "    ").rstrip()
