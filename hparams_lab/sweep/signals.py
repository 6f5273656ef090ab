"""Signals that ask a sweep to stop: SIGINT once lets what is running finish; twice, SIGTERM or SIGHUP stop it at once.

The handlers only note the signal: who waits for something looks. Where runs train in this very process, there is nobody
to look, and what stops at once raises KeyboardInterrupt as Ctrl-C does; before a run has begun, the first signal does.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

WATCHED = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class StopRequests:
    """The signals that came.

    Attributes:
      raising: whether the next that stops at once raises KeyboardInterrupt in the main thread.
    """

    def __init__(self) -> None:
        self._numbers: list[int] = []
        self._has_begun = True
        self.raising = False

    def note(self, number: int, frame: object = None) -> None:
        """A signal came."""
        self._numbers.append(number)
        if self.raising and (self.at_once or not self._has_begun):
            self.raising = False  # once: what clears up is not to be interrupted
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def getting_ready(self, here: bool) -> Iterator[None]:
        """A block before anything has begun: what goes on in this process (`here`) ends when the first signal comes.

        By KeyboardInterrupt, also where what is imported keeps that to itself or makes another error of it.
        """
        self.raising, self._has_begun = here, not here
        try:
            self._raise_if(here)  # one that came before
            yield
        except Exception:
            self._raise_if(here)
            raise
        finally:
            self.raising, self._has_begun = False, True
        self._raise_if(here)

    def _raise_if(self, here: bool) -> None:
        if here and self.asked():
            raise KeyboardInterrupt

    def asked(self) -> bool:
        """Whether anything asked to stop."""
        return bool(self._numbers)

    @property
    def at_once(self) -> bool:
        """Whether what is running is to be stopped, too."""
        return len(self._numbers) > self._numbers.count(signal.SIGINT) or len(self._numbers) > 1

    @property
    def signal(self) -> int:
        """The signal that counts: the one that stops at once, else the first; 0 when none came."""
        others = [number for number in self._numbers if number != signal.SIGINT]
        return (others or self._numbers or [0])[0]

    @property
    def name(self) -> str:
        """Its name, as "SIGTERM"."""
        return signal.Signals(self.signal).name

    @property
    def exit_code(self) -> int:
        """What a program that it stopped exits with: 130, 143 or 129."""
        return 128 + (self.signal or signal.SIGINT)


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequests]:
    """Note signals in the block, where they can be had: in the main thread. What ignores one (nohup) goes on so."""
    requests = StopRequests()
    if threading.current_thread() is not threading.main_thread():
        yield requests
        return
    before = {number: signal.getsignal(number) for number in WATCHED}
    watched = [number for number in WATCHED if before[number] not in (signal.SIG_IGN, None)]
    for number in watched:
        signal.signal(number, requests.note)
    try:
        yield requests
    finally:
        for number in watched:
            signal.signal(number, before[number])
