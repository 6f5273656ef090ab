"""The checksum of TFRecord files: CRC-32C, masked.

Masking keeps a checksum of bytes that hold checksums from being trivial: rotate right by 15 bits, add a constant.
Source: https://github.com/tensorflow/tensorflow/blob/v2.21.0/tensorflow/core/lib/hash/crc32c.h
"""

from __future__ import annotations

import google_crc32c

MASK_DELTA = 0xA282EAD8


def masked_crc32c(data: bytes) -> int:
    """The masked CRC-32C of `data`, 0 to 2**32-1."""
    crc: int = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + MASK_DELTA) & 0xFFFFFFFF
