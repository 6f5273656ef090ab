"""Event files in pieces, so that a large one takes no memory: which bytes are in it, and its records one by one."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from hparams_lab.events.format.crc import masked_crc32c
from hparams_lab.events.format.record import HEADER_SIZE, LARGEST

PIECE = 2**20
_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")


def holds(path: Path, wanted: Sequence[bytes]) -> bool:
    """Whether one of these byte strings is in a file."""
    overlap = max(map(len, wanted)) - 1
    tail = b""
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            both = tail + piece
            if any(each in both for each in wanted):
                return True
            tail = both[-overlap:]
    return False


def pieces(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """All bytes of a file in their order: each record with its payload, and what is no sound record with none."""
    with path.open("rb") as file:
        left = os.fstat(file.fileno()).st_size
        while record := _record(file, left):
            left -= len(record)
            payload = record[HEADER_SIZE : -_FOOTER.size]
            is_sound = _FOOTER.unpack(record[-_FOOTER.size :])[0] == masked_crc32c(payload)
            yield record, payload if is_sound else b""
        while rest := file.read(PIECE):
            yield rest, b""


def _record(file: IO[bytes], left: int) -> bytes:
    """The next record; nothing, and the file where it was, when there is none."""
    begin = file.tell()
    header = file.read(HEADER_SIZE)
    if len(header) == HEADER_SIZE:
        length, crc = _HEADER.unpack(header)
        size = HEADER_SIZE + length + _FOOTER.size
        if size <= left and length <= LARGEST and crc == masked_crc32c(header[:8]):
            rest = file.read(size - HEADER_SIZE)
            if len(rest) == size - HEADER_SIZE:  # else it was cut meanwhile
                return header + rest
    file.seek(begin)
    return b""
