"""`Finding`: something wrong with a file of a log directory, what kind of wrong, and what is lost by it."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass


class Kind(str, enum.Enum):
    """What is wrong."""

    TORN = "torn"  # the last record is not whole, and nobody writes the file any more
    BAD_LENGTH = "bad length"  # the checksum of a record's length fails: where the next begins is not known
    WILD_LENGTH = "wild length"  # a record claims more than a file can hold; TensorBoard dies of it
    BAD_CHECKSUM = "bad checksum"  # the checksum of a record's bytes fails
    NOT_AN_EVENT = "not an event"  # a record whose bytes are no Event message
    BAD_TENSOR = "bad tensor"  # a tensor whose shape and bytes contradict each other
    OVERTAKEN = "overtaken"  # nothing is: a training began again, and earlier points of the same steps are left out
    MIXED = "mixed"  # one file with several sessions of different values: whose the points are is not known
    SYMLINK = "symlink"  # a link out of the log directory, which is not followed
    UNREADABLE = "unreadable"  # the system refuses to read it

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong at `offset` of `file`: its kind, why in words, and how many bytes are lost by it."""

    file: str
    offset: int
    kind: Kind
    reason: str
    bytes_lost: int

    def __str__(self) -> str:
        return f"{self.file}, byte {self.offset}: {self.reason} ({self.bytes_lost} bytes lost)"


def said_of_mixed(findings: Iterable[Finding]) -> str:
    """A line ahead of values that may not be those of the points beside them; empty where there is no such file."""
    mixed = [finding for finding in findings if finding.kind is Kind.MIXED]
    more = f"; so it is in {len(mixed) - 1} more" if len(mixed) > 1 else ""
    return f"{mixed[0].file} holds {mixed[0].reason}{more}" if mixed else ""
