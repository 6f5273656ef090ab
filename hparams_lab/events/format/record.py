"""TFRecord framing: bytes in, records out, and back.

    uint64  length          little-endian
    uint32  masked_crc32c(length)
    byte    payload[length]
    uint32  masked_crc32c(payload)

Source: https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details

"Not yet" and "broken" are different: a record whose end is not there yet ends the reading without a word, a checksum
that fails is a `Finding`.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator

from hparams_lab.core.findings import Finding, Kind
from hparams_lab.events.format.crc import masked_crc32c

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
_LENGTH = struct.Struct("<Q")
HEADER_SIZE = _HEADER.size
OVERHEAD = HEADER_SIZE + _FOOTER.size

LARGEST = 2**31 - 1
"""No record is longer: a protobuf message cannot be. https://protobuf.dev/programming-guides/proto-limits/"""


BAD_LENGTH = "the checksum of a record's length fails"
BAD_CHECKSUM = "a record's checksum fails"


def wild_length(length: int, left: int) -> str:
    """What is wrong with a length that no record can have."""
    return f"a record claims {length} bytes, of which the file has {left}"


def frame(payload: bytes) -> bytes:
    """`payload` as a record."""
    length = _LENGTH.pack(len(payload))
    return b"".join((length, _FOOTER.pack(masked_crc32c(length)), payload, _FOOTER.pack(masked_crc32c(payload))))


def read_records(
    data: bytes | mmap.mmap, findings: list[Finding] | None = None, file: str = "", begin: int = 0
) -> Iterator[tuple[int, bytes]]:
    """The whole records of `data` from `begin` on, where one begins, as (offset, payload).

    A record with a bad payload checksum is skipped, a bad length checksum ends the reading (where the next record
    begins is not known), and so does a length that no record can have; each is appended to `findings`.
    """
    findings = [] if findings is None else findings
    offset, size = begin, len(data)
    while size - offset >= _HEADER.size:
        length, length_crc = _HEADER.unpack_from(data, offset)
        if length_crc != masked_crc32c(data[offset : offset + 8]):
            findings.append(Finding(file, offset, Kind.BAD_LENGTH, BAD_LENGTH, size - offset))
            return
        if length > LARGEST:
            reason = wild_length(length, size - offset - _HEADER.size)
            findings.append(Finding(file, offset, Kind.WILD_LENGTH, reason, size - offset))
            return
        begin = offset + _HEADER.size
        if length + _FOOTER.size > size - begin:
            return
        payload = data[begin : begin + length]
        (payload_crc,) = _FOOTER.unpack_from(data, begin + length)
        if payload_crc == masked_crc32c(payload):
            yield offset, payload
        else:
            findings.append(Finding(file, offset, Kind.BAD_CHECKSUM, BAD_CHECKSUM, length + OVERHEAD))
        offset = begin + length + _FOOTER.size


def whole_length(data: bytes) -> int:
    """How many bytes of `data` are whole records: where a torn tail begins."""
    end = 0
    for offset, payload in read_records(data):
        end = offset + len(payload) + OVERHEAD
    return end
