"""Checksums and records: what TensorFlow writes, byte for byte; torn is "not yet", flipped bits are findings."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hparams_lab.core.findings import Finding, Kind
from hparams_lab.events.format.crc import masked_crc32c
from hparams_lab.events.format.event_file import file_name, read_events, summary_event, version_event
from hparams_lab.events.format.record import LARGEST, OVERHEAD, frame, read_records, whole_length
from hparams_lab.events.format.summaries import scalars
from hparams_lab.storage.file_names import is_event_file

PAYLOADS = [b"one", b"", b"\x00" * 1000, bytes(range(256))]
FILE = b"".join(map(frame, PAYLOADS))
STARTS = [sum(len(payload) + OVERHEAD for payload in PAYLOADS[:index]) for index in range(len(PAYLOADS) + 1)]


def payloads(data, findings=None):
    return [payload for _, payload in read_records(data, findings)]


def flipped(data, offset, bit=0):
    return data[:offset] + bytes([data[offset] ^ 1 << bit]) + data[offset + 1 :]


@pytest.mark.parametrize(
    ("data", "crc"),  # the first four are of RFC 3720, B.4
    [
        (b"\x00" * 32, 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (b"123456789", 0xE3069283),
        (b"", 0),
    ],
)
def test_checksum(data, crc):
    assert masked_crc32c(data) == ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32


@given(st.lists(st.binary(max_size=300), max_size=6))
def test_what_is_framed_is_read(written):
    data, findings = b"".join(map(frame, written)), []
    assert payloads(data, findings) == written
    assert whole_length(data) == len(data) == sum(len(payload) + OVERHEAD for payload in written)
    assert findings == []


def test_offsets_tell_where_records_begin():
    assert [offset for offset, _ in read_records(FILE)] == STARTS[:-1]


def test_torn_at_any_byte_ends_without_a_word():
    for length in range(len(FILE)):
        findings, whole = [], sum(end <= length for end in STARTS[1:])
        assert payloads(FILE[:length], findings) == PAYLOADS[:whole]
        assert whole_length(FILE[:length]) == STARTS[whole]
        assert findings == []


@given(st.sampled_from([0, 2, 3]), st.data())
def test_flipped_bit_of_a_payload_or_its_checksum_loses_that_record(index, data):
    offset = data.draw(st.integers(STARTS[index] + 12, STARTS[index + 1] - 1))
    findings = []
    assert payloads(flipped(FILE, offset, data.draw(st.integers(0, 7))), findings) == [
        payload for other, payload in enumerate(PAYLOADS) if other != index
    ]
    lost = len(PAYLOADS[index]) + OVERHEAD
    assert findings == [Finding("", STARTS[index], Kind.BAD_CHECKSUM, "a record's checksum fails", lost)]


@given(st.integers(0, 3), st.integers(0, 11), st.integers(0, 7))
def test_flipped_bit_of_a_length_or_its_checksum_ends_the_reading(index, offset, bit):
    findings, begin = [], STARTS[index]
    assert payloads(flipped(FILE, begin + offset, bit), findings) == PAYLOADS[:index]
    reason = "the checksum of a record's length fails"
    assert findings == [Finding("", begin, Kind.BAD_LENGTH, reason, len(FILE) - begin)]


@pytest.mark.parametrize("claimed", [LARGEST + 1, 2**60, 2**64 - 1])
def test_a_length_that_no_record_has_ends_the_reading(claimed):
    length = struct.pack("<Q", claimed)
    findings = []
    assert payloads(FILE + length + struct.pack("<I", masked_crc32c(length)) + b"x" * 50, findings) == PAYLOADS
    reason = f"a record claims {claimed} bytes, of which the file has 50"
    assert findings == [Finding("", len(FILE), Kind.WILD_LENGTH, reason, 62)]


def test_a_length_beyond_the_end_is_not_yet():
    length = struct.pack("<Q", LARGEST)
    findings = []
    assert payloads(FILE + length + struct.pack("<I", masked_crc32c(length)) + b"x" * 50, findings) == PAYLOADS
    assert findings == []


def test_a_broken_last_record_is_no_whole_one():
    assert whole_length(flipped(FILE, len(FILE) - 1)) == STARTS[3]
    assert whole_length(flipped(FILE, STARTS[2] + 20)) == len(FILE)


@given(st.lists(st.binary(max_size=40) | st.binary(max_size=40).map(frame), max_size=8).map(b"".join))
def test_any_bytes_are_read_without_an_exception(data):
    findings = []
    events = list(read_events(data, findings))
    assert whole_length(data) <= len(data)
    assert len(events) + len(findings) <= len(data)
    assert all(0 <= finding.offset < len(data) and finding.bytes_lost <= len(data) for finding in findings)


def test_events_come_back_and_what_is_none_is_a_finding():
    data = version_event(1.5) + frame(b"\xff\xff") + summary_event(scalars({"loss": 0.5}), 7, 2.5)
    findings = []
    version, point = read_events(data, findings)
    assert (version.wall_time, version.file_version) == (1.5, "brain.Event:2")
    assert (point.wall_time, point.step, point.summary.value[0].simple_value) == (2.5, 7, 0.5)
    assert [(finding.offset, finding.bytes_lost) for finding in findings] == [(len(version_event(1.5)), 2)]
    assert findings[0].reason.startswith("a record is not an Event (")


def test_file_names_are_tensorboards_and_never_the_same():
    first, second = file_name(12.9, "my host/ü", 34), file_name(12.9, "my host/ü", 34)
    assert first.startswith("events.out.tfevents.hparams_lab.0000000012.my_host_ü.34.")
    assert first != second
    assert is_event_file(first)
    assert not is_event_file("output.log")
