"""Counts what a call does, where its time would depend on what else the machine does."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any


@contextlib.contextmanager
def at_most(calls: int) -> Iterator[None]:
    """Fails as soon as more functions, of Python or C, are called in the block, by this thread."""
    left = calls

    def count(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal left
        left -= event in ("call", "c_call")
        if left < 0:
            sys.setprofile(None)
            raise AssertionError(f"it calls more than {calls:,} functions")

    sys.setprofile(count)
    try:
        yield
    finally:
        sys.setprofile(None)
