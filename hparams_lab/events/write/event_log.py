"""`EventLog`: what a run logs, buffered, encoded by columns, and written in the background.

Logging a mapping of scalars is a look-up and an append: `Run.log` finds the `Signature` of the mapping's keys, packs
(step, time, values) and appends the bytes to its rows. `drain` takes the rows of all signatures, turns them into
columns by tag, has each encoded at once, and writes. It runs

- in a thread of the log's own, woken when a buffer is full and, by `ticker`, when something is a second old;
- in whoever calls `flush` or `close`, or logs into a buffer that is many times full (or, when asked to, drops).

A list's `append`, slice and `del` are atomic, so that logging takes no lock; draining does. After a fork the child's
copy is `abandon`ed: the file is the parent's.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import struct
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from hparams_lab.events.write import ticker
from hparams_lab.events.write.encoder import FEW, ScalarEncoder
from hparams_lab.events.write.writer import EventFileWriter

FULL_BYTES = 1 << 20
"""A signature with more than so many bytes of rows wakes the writing thread."""

SMALL_BYTES = 1 << 14
"""Parts below this are put together for one write."""

OVERFULL = 4
"""With so many times more, who logs waits for the writing, or drops."""

INTEGERS = frozenset(np.dtype(code).type for code in "bBhHiIlLqQ")
"""NumPy's, which a row takes as they are; a bool, and a tensor that holds one, would be taken too."""

T = TypeVar("T")
_TIME = struct.Struct("d")
WhenFull = Literal["block", "drop"]


class Signature(NamedTuple):
    """The rows of one set of tags, logged together: packed (time, step, values)."""

    pack: Callable[..., bytes]
    append: Callable[[bytes], None]
    rows: list[bytes]
    full: int  # so many rows are worth writing

    @classmethod
    def of(cls, tags: tuple[str, ...]) -> Signature:
        """Empty rows for these tags."""
        pack = row_of(len(tags)).pack
        rows: list[bytes] = []
        return cls(pack, rows.append, rows, max(64, FULL_BYTES // (16 + 8 * len(tags))))


@functools.cache
def row_of(width: int) -> struct.Struct:
    """A row of `width` values: (time, step, values), native and padded by hand, which packs fastest."""
    return struct.Struct(f"di4x{width}d")


@functools.cache
def table_of(width: int) -> np.dtype[Any]:
    """The same row as NumPy reads it."""
    return np.dtype([("time", "d"), ("step", "i"), ("", "V4"), ("values", "d", (width,))])


class Columns(NamedTuple):
    """Points of one tag: three arrays of one length. `times` are those of the log's clock."""

    steps: NDArray[np.int64]
    times: NDArray[np.float64]
    values: NDArray[np.float64]


class EventLog:
    """The events of one run on their way into its file.

    Args:
      writer: the run's event file.
      when_full: what logging does when the file cannot keep up: "block" until it has, or "drop" and count.
      clock: seconds that never go back; wall: seconds since 1970.
    """

    def __init__(
        self,
        writer: EventFileWriter,
        when_full: WhenFull = "block",
        clock: Callable[[], float] = time.perf_counter,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.signatures: dict[tuple[str, ...] | str, Signature] = {}  # empty when the next call has to be looked at
        self.last: dict[str, tuple[int, float]] = {}  # of each tag, the last step and value that were drained
        self.dropped = 0
        self.abandoned = False
        self.closed = False
        self.clock = clock
        self._since = wall() - clock()
        self._writer = writer
        self._when_full = when_full
        self._every: dict[tuple[str, ...], Signature] = {}
        self._records: list[bytes] = []
        self._later: list[Callable[[], bytes]] = []
        self._encoders: dict[str, ScalarEncoder] = {}
        self._error: OSError | None = None
        self._went_back: Callable[[str], None] | None = None
        self._back = ""  # a tag whose steps go back
        self._drain_lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        ticker.watch(self)

    @property
    def path(self) -> Path:
        """The event file."""
        return self._writer.path

    @property
    def is_lost(self) -> bool:
        """Whether a wait for the disk failed: nothing more is written."""
        return self._writer.is_lost

    def wall_time(self) -> float:
        """Now, in seconds since 1970, never before an earlier now of this log."""
        return self.clock() + self._since

    def signature(self, tags: tuple[str, ...], again: bool = True) -> Signature:
        """The rows of these tags, by default found `again` by the next call without asking here."""
        signature = self._every.get(tags)
        if signature is None:
            signature = self._every.setdefault(tags, Signature.of(tags))
        if again and not self.closed:
            self.signatures[tags[0] if len(tags) == 1 else tags] = signature
        return signature

    def add(self, record: bytes) -> None:
        """Add an event that is encoded already."""
        self._records.append(record)

    def later(self, make: Callable[[], bytes]) -> None:
        """Add the event that `make` returns, which takes its time: it is called when the log is drained next."""
        self._later.append(make)

    def add_columns(self, tag: str, steps: NDArray[np.int64], values: NDArray[np.float64]) -> None:
        """Add the points of a tag, after those that were logged before."""
        with self._drain_lock:
            if self.closed or self.abandoned:
                return
            self._encode_rows()
            times = np.full(len(steps), self.clock())
            self._encode(tag, [Columns(steps, times, values)])

    def overflow(self, rows: list[bytes], full: int) -> None:
        """What to do about rows that are full: wake the thread, and beyond all bounds block or drop."""
        if not self._wake.is_set():
            self.wake()
        if len(rows) <= OVERFULL * full:
            return
        if self._when_full == "block":
            self.drain()
        else:
            with contextlib.suppress(IndexError):  # written this instant
                del rows[-1]
                self.dropped += 1

    def has_pending(self) -> bool:
        """Whether there is something to write."""
        return bool(self._records or self._later) or any(signature.rows for signature in list(self._every.values()))

    def wake(self) -> None:
        """Have the thread drain; it is started when there is none yet."""
        self._wake.set()
        if not self._works() and not self.closed:
            with self._drain_lock:
                if not self._works():
                    name = f"hparams_lab {self._writer.path.parent.name}"
                    self._thread = threading.Thread(
                        target=_work, args=(weakref.ref(self), self._wake), name=name, daemon=True
                    )
                    self._thread.start()

    def _works(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def settle(self) -> None:
        """Encode what was logged: what is added from now on stands after it."""
        with self._drain_lock:
            self._gather()

    def drain(self) -> None:
        """Encode and write all that was logged. An OSError is kept for the next call that logs; see `error`."""
        with self._drain_lock:
            if not self.closed and not self.abandoned:
                self._gather()
                self._write()
        if self._back and self._went_back:
            tell, self._went_back = self._went_back, None
            tell(self._back)

    def error(self) -> OSError | None:
        """What went wrong with the file since it was last asked."""
        error, self._error = self._error, None
        return error

    def close(self, fsync: bool = True, last: bytes = b"") -> None:
        """Drain, write the `last` records, and close the file, by default waiting for the disk.

        Raises OSError, the file still open and without `last`.
        """
        self.drain()
        self._raise()
        with self._drain_lock:
            if not self.closed and not self.abandoned:
                self._writer.close(fsync, last)
                self._let_go()

    def leave(self) -> None:
        """Drain, and let go of the file. Raises OSError when not all could be written; it is let go of all the same."""
        try:
            self.drain()
        finally:
            with self._drain_lock:
                if not self.closed and not self.abandoned:
                    self._writer.abandon()
                    self._let_go()
        self._raise()

    def _raise(self) -> None:
        error = self.error()
        if error is not None:
            raise error

    def _let_go(self) -> None:
        """After the file was closed."""
        for encoder in self._encoders.values():
            encoder.give_back()
        self._encoders.clear()
        self.closed = True
        self.signatures.clear()
        self._wake.set()

    def abandon(self) -> None:
        """After a fork, in the child: forget all, write nothing."""
        self.abandoned = True
        self._drain_lock = threading.Lock()
        self.signatures.clear()
        self._every.clear()
        self._records.clear()
        self._writer.abandon()

    def on_steps_back(self, tell: Callable[[str], None]) -> None:
        """Call `tell` with the tag, once, when its steps go back."""
        self._went_back = tell

    def _gather(self) -> None:
        """What was put off, and the rows of all signatures, to records."""
        self._records += [make() for make in _taken(self._later)]
        self._encode_rows()

    def _encode_rows(self) -> None:
        """The rows of all signatures to records."""
        taken = self._take_rows()
        if sum(len(rows) for _, rows in taken) < FEW:
            self._encode_few(taken)
            return
        pieces: dict[str, list[Columns]] = {}
        for tags, rows in taken:
            if rows:
                table = np.frombuffer(b"".join(rows), table_of(len(tags)))
                steps = table["step"].astype(np.int64)
                for place, tag in enumerate(tags):
                    pieces.setdefault(tag, []).append(Columns(steps, table["time"], table["values"][:, place]))
        for tag, columns in pieces.items():
            self._encode(tag, columns)

    def _take_rows(self) -> list[tuple[tuple[str, ...], list[bytes]]]:
        """The rows that were logged until now, out of all signatures.

        Others may log while one after the other is emptied. What they log then stays for the next time: a tag of
        several signatures would lose its order.
        """
        every, now = list(self._every.items()), self.clock()
        taken = [(tags, _taken(signature.rows)) for tags, signature in every]
        for (tags, rows), (_, signature) in zip(taken, every, strict=True):
            if len(every) > 1 and any(_time_of(row) > now for row in rows[-64:]):  # threads overtake each other
                late = np.frombuffer(b"".join(rows), table_of(len(tags)))["time"] > now
                signature.rows[:0] = itertools.compress(rows, late)
                rows[:] = itertools.compress(rows, ~late)
        return taken

    def _encode_few(self, taken: list[tuple[tuple[str, ...], list[bytes]]]) -> None:
        """As `_encode_rows`, for so few rows that arrays are not worth it."""
        rows = [(row_of(len(tags)).unpack(row), tags) for tags, packed in taken for row in packed]
        rows.sort(key=lambda row: row[0][0])
        for (time_logged, step, *values), tags in rows:
            wall_time = time_logged + self._since
            for tag, value in zip(tags, values, strict=True):
                self._note(tag, step, step, value)
                self._records.append(self._encoder(tag).one(step, wall_time, value))

    def _encode(self, tag: str, pieces: list[Columns]) -> None:
        """Encode a tag's points, in the order of logging also where it was logged with different others."""
        columns = pieces[0]
        if len(pieces) > 1:
            joined = Columns(*(np.concatenate(parts) for parts in zip(*pieces, strict=True)))
            order = np.argsort(joined.times, kind="stable")
            columns = Columns(joined.steps[order], joined.times[order], joined.values[order])
        steps = columns.steps
        goes_back = bool((steps[1:] < steps[:-1]).any())
        self._note(tag, -1 if goes_back else int(steps[0]), int(steps[-1]), float(columns.values[-1]))
        self._encoder(tag).encode_to(self._emit, steps, columns.times + self._since, columns.values)

    def _emit(self, part: bytes | memoryview) -> None:
        """Keep a small part for the next write, write a large one now."""
        if len(part) < SMALL_BYTES:
            self._records.append(bytes(part))
        else:
            self._write(part)

    def _encoder(self, tag: str) -> ScalarEncoder:
        encoder = self._encoders.get(tag)
        if encoder is None:
            encoder = self._encoders[tag] = ScalarEncoder.borrowed(tag)
        return encoder

    def _note(self, tag: str, first: int, last: int, value: float) -> None:
        """Keep the last point, and whether the steps go back from the one before to the `first` of these."""
        before = self.last.get(tag)
        self.last[tag] = (last, value)
        if not self._back and (first < 0 or (before and first < before[0])):
            self._back = tag

    def _write(self, more: bytes | memoryview = b"") -> None:
        """Write what was added, and `more` after it."""
        records: list[bytes] = _taken(self._records)
        for part in (b"".join(records), more):
            try:
                self._writer.write(part)
                self._error = None  # what could not be written before is written now
            except OSError as error:  # the writer keeps the part
                self._error = error
                self.signatures.clear()


def _time_of(row: bytes) -> float:
    time_logged: float = _TIME.unpack_from(row)[0]
    return time_logged


def _taken(items: list[T]) -> list[T]:
    """What is in the list now, taken out of it; others may append meanwhile."""
    taken = items[:]
    del items[: len(taken)]
    return taken


def _work(log: weakref.ref[EventLog], wake: threading.Event) -> None:
    """The thread of a log: drain when woken, end with the log."""
    while True:
        wake.wait()
        wake.clear()
        found: Any = log()
        if found is None or found.closed or found.abandoned:
            return
        found.drain()
        del found
