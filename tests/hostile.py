"""Crafted hostile event files: what is in them, what must be found wrong, and what must still be read.

Here are those whose framing is hostile, and what is no event file; `hostile_messages` adds those of hostile protobuf.

Most are a hostile stretch between a good head (a session's start and five points of "loss") and a good tail (five more
and the end). What is odd but valid is no finding.
"""

from __future__ import annotations

import functools
import gzip
import pickle
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mutants import END, SECOND, VERSION, event, number, record, start
from slow_reader import masked
from tensorboard.compat.proto.event_pb2 import Event

from hparams_lab.core.findings import Kind

NAME = "events.out.tfevents.1700000000.hostile.1.0"
MANY = 200_000
"""So many findings would be of no use, and would take the memory of a thousand good runs."""

SMALL = 1_200_000
"""What is longer is hostile by its length: the slow reader and TensorBoard would take very long over it."""


def loss(steps: range) -> bytes:
    """Good points."""
    return b"".join(event([number("loss", 1 / (step + 1))], step, step) for step in steps)


TAIL = loss(range(5, 10)) + END


@dataclass(frozen=True, slots=True)
class Crafted:
    """A hostile file.

    Args:
      name: what to call it.
      make: its bytes; the stretch between head and tail where it is not `whole`.
      kind: of what is wrong; None for odd but valid bytes.
      points: how many points of "loss" must be read.
      also: how many points of other tags must be.
      findings: at most so many.
    """

    name: str
    make: Callable[[], bytes]
    kind: Kind | None
    points: int
    whole: bool
    also: Mapping[str, int]
    findings: int

    @property
    def data(self) -> bytes:
        """The bytes of the file."""
        return self.make() if self.whole else VERSION + start(self.name) + loss(range(5)) + self.make() + TAIL


CRAFTED: dict[str, Crafted] = {}


def crafted(
    kind: Kind | None = None,
    points: int = 10,
    whole: bool = False,
    also: Mapping[str, int] | None = None,
    most: int = 1,
) -> Callable[[Callable[[], bytes]], Callable[[], bytes]]:
    """Put what makes the bytes among the crafted files, under its name."""

    def add(make: Callable[[], bytes]) -> Callable[[], bytes]:
        name = make.__name__.strip("_").replace("_", "-")
        CRAFTED[name] = Crafted(name, make, kind, points, whole, also or {}, most)
        return make

    return add


# Lengths and checksums.


def lying(length: int, rest: bytes = b"") -> bytes:
    """The head of a record that claims a length, with a right checksum, and what follows."""
    claimed = struct.pack("<Q", length)
    return claimed + struct.pack("<I", masked(claimed)) + rest


for power, length in {"2-31": 2**31, "2-60": 2**60, "2-63": 2**63, "2-64": 2**64 - 1}.items():
    CRAFTED[f"length-{power}"] = Crafted(
        f"length-{power}", functools.partial(lying, length), Kind.WILD_LENGTH, 5, False, {}, 1
    )


@crafted(Kind.TORN, points=5)
def length_one_too_long() -> bytes:
    return lying(len(TAIL) - 3)


@crafted(Kind.TORN, points=5)
def length_as_long_as_a_record_can_be() -> bytes:
    return lying(2**31 - 1)


@crafted(Kind.TORN, points=5, whole=True)
def half_a_header() -> bytes:
    return VERSION + start("half-a-header") + loss(range(5)) + lying(40)[:7]


@crafted(Kind.BAD_LENGTH, points=5)
def bad_length_checksum() -> bytes:
    good = event([number("loss", 9.0)])
    return good[:8] + bytes([good[8] ^ 1]) + good[9:]


@crafted(Kind.BAD_CHECKSUM)
def bad_payload_checksum() -> bytes:
    return event([number("loss", 9.0)])[:-1] + b"?"


@crafted(Kind.BAD_CHECKSUM)
def flipped_value() -> bytes:
    good = bytearray(event([number("loss", 9.0)]))
    good[-6] ^= 0x10
    return bytes(good)


@crafted()
def record_of_no_bytes() -> bytes:
    return record(b"")


@crafted()
def million_records_of_no_bytes() -> bytes:
    return record(b"") * 1_000_000


@crafted(Kind.BAD_CHECKSUM, most=1000)
def many_bad_checksums() -> bytes:
    return (record(b"a")[:-1] + b"?") * MANY


@crafted(Kind.NOT_AN_EVENT, most=1000)
def many_that_are_no_event() -> bytes:
    return record(b"\xff") * (MANY // 3)


# What is no event file at all.


@crafted(points=0, whole=True)
def empty() -> bytes:
    return b""


@crafted(Kind.BAD_LENGTH, points=0, whole=True)
def zeros() -> bytes:
    return bytes(2**20)


@crafted(Kind.BAD_LENGTH, points=0, whole=True)
def gzipped() -> bytes:
    return gzip.compress(VERSION + start("gzipped") + TAIL, mtime=0)


class Bomb:
    """Unpickled, it leaves a trace."""

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return exec, ("import hparams_lab; hparams_lab.UNPICKLED = True",)


@crafted(Kind.BAD_LENGTH, points=0, whole=True)
def pickled() -> bytes:
    return pickle.dumps([Bomb(), "x" * 100])


@crafted(Kind.NOT_AN_EVENT, points=0, whole=True)
def one_record_of_64_mb() -> bytes:
    return record(b"\xffgarbage" * (2**26 // 8))


@crafted(Kind.BAD_CHECKSUM, points=0, whole=True)
def one_bad_record_of_64_mb() -> bytes:
    return record(b"garbage\n" * (2**26 // 8))[:-4] + b"????"


@crafted(points=0, whole=True)
def another_version() -> bytes:
    return record(Event(wall_time=SECOND, file_version="brain.Event:99").SerializeToString())
