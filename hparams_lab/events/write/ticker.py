"""One thread per process that wakes the logs whose data are a second old, and what a fork does to them.

A run that is over within a second never needs a thread of its own.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Protocol

TICK_SECONDS = 1.0


class Watched(Protocol):
    """What is watched: an `EventLog`."""

    closed: bool

    def has_pending(self) -> bool:
        """Whether there is something to write."""

    def wake(self) -> None:
        """Write it."""

    def abandon(self) -> None:
        """After a fork, in the child: forget all, write nothing."""


_lock = threading.Lock()
_watched: weakref.WeakSet[Watched] = weakref.WeakSet()
_thread: threading.Thread | None = None
_calls: deque[Callable[[], None]] = deque()


def watch(log: Watched) -> None:
    """Wake `log` when it has something to write, until it is closed or gone."""
    global _thread
    with _lock:
        _watched.add(log)
        if _thread is None:
            _thread = threading.Thread(target=_tick, name="hparams_lab ticker", daemon=True)
            _thread.start()


def call_later(call: Callable[[], None]) -> None:
    """Have it called within a second, by the ticker: for who is called where nothing may be waited for."""
    _calls.append(call)


def make_calls() -> None:
    """Call what was put off; what one raises is told on standard error."""
    while _calls:
        try:
            _calls.popleft()()
        except Exception as error:
            print(f"hparams_lab: {error}", file=sys.stderr)


def _tick() -> None:
    while True:
        _pause.wait(TICK_SECONDS)
        make_calls()
        for log in _open_logs():
            with contextlib.suppress(RuntimeError):  # no more threads just now: the next tick tries again
                if log.has_pending():
                    log.wake()


def _open_logs() -> list[Watched]:
    with _lock:
        for log in [log for log in _watched if log.closed]:
            _watched.discard(log)
        return list(_watched)


def _in_child() -> None:
    """After a fork: the files are the parent's, its threads are not here, and a lock may be held by one of them."""
    global _lock, _thread, _pause
    _lock, _thread, _pause = threading.Lock(), None, threading.Event()
    for log in list(_watched):
        log.abandon()
    _watched.clear()


_pause = threading.Event()  # never set: a wait that a test can end early by setting it
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
