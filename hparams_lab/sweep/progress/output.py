"""Lines for whoever watches a sweep. That nobody can is no reason to end it: the log directory is the product."""

from __future__ import annotations

import os
import sys
from typing import IO

GOING_ON = "the sweep goes on, and what comes of it is in the log directory"


def write_line(file: IO[str] | None, text: str) -> None:
    """Write a line at once. What the file's encoding lacks is escaped.

    A file that cannot be written to, since its reader is gone or its disk is full, takes no more from then on; one line
    on standard error says so of standard output. No file (standard output when it was closed from the start) is none.
    """
    write(file, f"{text}\n", "backslashreplace")


def write(file: IO[str] | None, text: str, unknown: str) -> None:
    """Write a text as it is, and `unknown`, an error handler of `str.encode`, for what the file's encoding lacks."""
    if file is None:
        return
    encoding = encoding_of(file)
    try:
        file.write(text.encode(encoding, unknown).decode(encoding))
        file.flush()
    except (OSError, ValueError) as error:
        if _quiet(file) and file is sys.stdout:
            why = (isinstance(error, OSError) and error.strerror) or str(error)
            write_line(sys.stderr, f"standard output takes no more ({why}); {GOING_ON}")


def occupy_standard_descriptors() -> None:
    """Have standard descriptors that were closed from the start lead nowhere.

    The next file or socket would be one of them otherwise, and get what a library prints, or be gone in a process that
    is started with others.
    """
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)


def encoding_of(file: IO[str]) -> str:
    """What the file writes its text in; UTF-8 where it does not tell."""
    return getattr(file, "encoding", None) or "utf-8"


def is_terminal(file: IO[str] | None) -> bool:
    """Whether somebody may be looking; no file and a closed one are no terminals."""
    try:
        return file is not None and file.isatty()
    except (OSError, ValueError):
        return False


def _quiet(file: IO[str]) -> bool:
    """Let what is still in its buffer, and all that follows, go nowhere: Python's exit would fail at it otherwise.

    False for what has no descriptor, such as a closed file: writing to it fails each time, and is harmless at the exit.
    """
    try:
        target = file.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
    except (OSError, ValueError):
        return False
    try:
        os.dup2(nowhere, target)
    finally:
        os.close(nowhere)
    return True
