"""`read_together`: short event files at once, whatever they hold: their records are looked at as those of one file.

A file with anything wrong in it, or with a session that begins in its midst, is left to be read by itself.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

import numpy as np

from hparams_lab.core.curve import Thin
from hparams_lab.core.findings import Finding
from hparams_lab.events.format.record import HEADER_SIZE, OVERHEAD
from hparams_lab.events.read.collector import Facts
from hparams_lab.events.read.layouts import Layouts
from hparams_lab.events.read.scan import MOST_FINDINGS, Scanner
from hparams_lab.events.read.stretch import Stretch
from hparams_lab.events.read.wire import LONGEST

MOST_BYTES = 1 << 22
"""So many bytes are read together."""

FEWEST_FILES = 4
"""Fewer files are read by themselves."""

_HEADER = struct.Struct("<QI")


def read_together(
    files: Sequence[tuple[str, bytes]], layouts: Layouts, thin: Thin | None = None
) -> Iterator[tuple[str, Facts]]:
    """The paths of the files that could be read together, and what each says. Args: files: by path, their bytes."""
    batch: list[tuple[str, bytes]] = []
    size = 0
    for path, data in files:
        if size + len(data) > MOST_BYTES:
            yield from _read(batch, layouts, thin)
            batch, size = [], 0
        batch.append((path, data))
        size += len(data)
    yield from _read(batch, layouts, thin)


def _read(files: Sequence[tuple[str, bytes]], layouts: Layouts, thin: Thin | None) -> Iterator[tuple[str, Facts]]:
    lengths_of = [_lengths(data, layouts) for _, data in files]
    whole = [file for file, its in zip(files, lengths_of, strict=True) if its]
    counts = [len(its) for its in lengths_of if its]
    if len(whole) < FEWEST_FILES:
        return
    lengths = np.array([length for its in lengths_of for length in its], np.int64)
    ends = np.cumsum(lengths + OVERHEAD)
    offsets = ends - lengths - OVERHEAD
    firsts = np.cumsum([0, *counts[:-1]])
    begins = offsets[firsts]
    paths, facts = [path for path, _ in whole], [Facts(thin) for _ in whole]
    findings: list[Finding] = []
    stretch = Stretch(Scanner("", layouts, Facts(), findings), b"".join(data for _, data in whole), 0)
    singles = stretch.take_plain(offsets, lengths)
    stretch.take_singly(offsets[singles], singles, lengths[singles])
    left = stretch.hand_on_apart(firsts, begins.tolist(), facts)
    left.update((np.searchsorted(begins, [finding.offset for finding in findings], "right") - 1).tolist())
    if len(findings) < MOST_FINDINGS:
        yield from (one for place, one in enumerate(zip(paths, facts, strict=True)) if place not in left)


def _lengths(data: bytes, layouts: Layouts) -> list[int]:
    """The lengths of the payloads of a file; none where a record is broken, not whole, or too long to have a layout."""
    lengths, at, end = [], 0, len(data)
    sound, unpack = layouts.length_crcs, _HEADER.unpack_from
    while at + HEADER_SIZE <= end:
        length, crc = unpack(data, at)
        if length > LONGEST or (sound.get(length) != crc and not layouts.length_is_sound(length, crc)):
            return []
        lengths.append(length)
        at += length + OVERHEAD
    return lengths if at == end else []
