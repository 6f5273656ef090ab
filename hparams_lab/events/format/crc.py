"""The checksum of TFRecord files: CRC-32C, masked; of one record, and of the rows of a matrix at once.

Masking keeps a checksum of bytes that hold checksums from being trivial: rotate right by 15 bits, add a constant.
Source: https://github.com/tensorflow/tensorflow/blob/v2.21.0/tensorflow/core/lib/hash/crc32c.h

A CRC is linear over XOR: that of a row is the one of its fixed bytes, XORed with a table look-up for each varying byte
by its distance from the end.
"""

from __future__ import annotations

import functools
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

MASK_DELTA = 0xA282EAD8


def masked_crc32c(data: bytes) -> int:
    """The masked CRC-32C of `data`, 0 to 2**32-1."""
    crc: int = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + MASK_DELTA) & 0xFFFFFFFF


def masked(crc: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """The masked form of checksums."""
    found: NDArray[np.uint32] = ((crc >> np.uint32(15)) | (crc << np.uint32(17))) + np.uint32(MASK_DELTA)
    return found


def unmasked(crc: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """The checksums that the masked ones are of."""
    rotated: NDArray[np.uint32] = crc - np.uint32(MASK_DELTA)
    found: NDArray[np.uint32] = (rotated >> np.uint32(17)) | (rotated << np.uint32(15))
    return found


def add_to_crc(crc: NDArray[np.uint32], distance: int, words: NDArray[Any]) -> None:
    """Add to the checksums what the bytes of `words` mean, the first of which stand `distance` before the end.

    A byte that all words share is looked up once.
    """
    width = words.dtype.itemsize
    varying = int(np.bitwise_or.reduce(words ^ words[0])).to_bytes(width, "little")
    data = words.view(np.uint8).reshape(len(words), width)
    for place in range(width):
        table = crc_table(distance - place - 1)
        crc ^= table.take(data[:, place]) if varying[place] else table[data[0, place]]


NEAR = 256
"""Distances of which there are tables side by side."""


@functools.cache
def crc_tables() -> NDArray[np.uint32]:
    """`crc_table` of the `NEAR` smallest distances, one behind the other.

    A checksum that more zeros follow is that of its four bytes, each so much farther from the end.
    """
    tables = np.zeros((NEAR, 256), np.uint32)
    tables[:4] = [crc_table(distance) for distance in range(4)]
    for done in (4 << power for power in range(6)):
        parts = tables[:done].astype("<u4").view(np.uint8).reshape(done, 256, 4)
        for byte in range(4):
            tables[done : 2 * done] ^= tables[done - 1 - byte][parts[:, :, byte]]
    return tables.reshape(-1)


@functools.cache
def blank_crcs(*bytes_set: tuple[int, int]) -> NDArray[np.uint32]:
    """The checksums of zeros, of each length below `NEAR`, but for some bytes, each a place and a value."""
    found = np.array([google_crc32c.value(bytes(length)) for length in range(NEAR)], np.uint32)
    for place, value in bytes_set:
        found[place + 1 :] ^= crc_tables()[value::256][: NEAR - place - 1]
    return found


@functools.lru_cache(maxsize=8192)
def crc_table(distance: int) -> NDArray[np.uint32]:
    """What each value of a byte adds to a CRC-32C, `distance` bytes before the end."""
    zeros = bytes(distance)
    nothing = google_crc32c.value(b"\0" + zeros)
    table = np.zeros(256, np.uint32)
    for bit in range(8):
        one = 1 << bit
        table[one : 2 * one] = table[:one] ^ np.uint32(google_crc32c.value(bytes([one]) + zeros) ^ nothing)
    return table
