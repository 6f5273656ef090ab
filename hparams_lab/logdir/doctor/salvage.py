"""The whole records of a damaged event file, those behind the damage too.

A reader that meets a length with a wrong checksum does not know where the next record begins, and ends there. A record
is told by two checksums of 32 bits, so it can be looked for: nothing but a record passes both.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from tensorboard.compat.proto.event_pb2 import Event

from hparams_lab.core.findings import Finding, Kind
from hparams_lab.events.format.crc import masked_crc32c
from hparams_lab.events.format.record import HEADER_SIZE, OVERHEAD, read_records

Data: TypeAlias = "bytes | mmap.mmap"

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
_SMALL = b"\0" * 5  # how a length below 2**24 ends
_TRIES = 200_000


@contextmanager
def contents(path: Path) -> Iterator[Data]:
    """The bytes of a file, mapped; as long as the file is now."""
    with path.open("rb") as file:
        try:
            data: Data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:  # an empty file
            data = b""
    try:
        yield data
    finally:
        if isinstance(data, mmap.mmap):
            data.close()


def events(data: Data, findings: list[Finding], file: str = "", ends: bool = True) -> Iterator[tuple[bytes, Event]]:
    """Every whole event of a file with its bytes; what is lost between them becomes findings.

    Args:
      data: the file's bytes.
      findings: what is wrong is appended.
      file: what to call it there.
      ends: whether nobody writes the file any more, so that a record that is not whole is torn.
    """
    for offset, payload in records(data, findings, file, ends):
        try:
            yield payload, Event.FromString(payload)
        except Exception as error:  # protobuf's DecodeError has no stable home across its versions
            reason = f"a record is not an Event ({error})"
            findings.append(Finding(file, offset, Kind.NOT_AN_EVENT, reason, len(payload) + OVERHEAD))


def records(
    data: Data, findings: list[Finding], file: str, ends: bool = True, begin: int = 0
) -> Iterator[tuple[int, bytes]]:
    """The whole records of a file from `begin` on as (offset, payload). Its bytes are read where they are, once."""
    while begin < len(data):
        found: list[Finding] = []
        end = begin
        for offset, payload in read_records(data, found, file, begin):
            yield offset, payload
            end = offset + len(payload) + OVERHEAD
        bad = [finding for finding in found if finding.offset >= end]  # after the last whole record
        findings += [finding for finding in found if finding.offset < end]
        stop = bad[0].offset if bad else end
        if stop == len(data) or not ends:
            findings += bad
            return
        begin = next_record(data, stop + 1)
        kind = bad[-1].kind if bad else Kind.TORN
        reason = bad[-1].reason if bad else "the last record is not whole"
        findings.append(Finding(file, stop, kind, reason, begin - stop))


def next_record(data: Data, begin: int) -> int:
    """Where the next whole record begins, at `begin` or after; the end of the data when there is none to be found."""
    at = begin + 2
    for _ in range(_TRIES):
        at = data.find(_SMALL, at + 1)
        if at < 0:
            break
        if _is_record(data, at - 3):
            return at - 3
    return len(data)


def _is_record(data: Data, begin: int) -> bool:
    if begin + OVERHEAD > len(data):
        return False
    length, length_crc = _HEADER.unpack_from(data, begin)
    end = begin + HEADER_SIZE + length
    if end + _FOOTER.size > len(data) or length_crc != masked_crc32c(data[begin : begin + 8]):
        return False
    (payload_crc,) = _FOOTER.unpack_from(data, end)
    return bool(payload_crc == masked_crc32c(data[begin + HEADER_SIZE : end]))
