"""`Layout`: what stands at fixed places in a payload is what protobuf finds there, for one payload and for many."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mutants import record
from slow_reader import decoded
from tensorboard.compat.proto.event_pb2 import Event

from hparams_lab.events.format.record import HEADER_SIZE, OVERHEAD
from hparams_lab.events.read.layout import Layout, Rows
from hparams_lab.events.read.layouts import Layouts
from hparams_lab.events.read.wire import LONGEST, layout_of

QUICK = settings(max_examples=80, deadline=None, derandomize=True)


def learned(payload):
    """The layout that is kept of a payload; None when there is none."""
    found = Layouts().read(payload)
    return found and found[0]


def varint(number: int, width: int = 1) -> bytes:
    """A varint of at least so many bytes."""
    data = bytearray()
    while number > 0x7F or len(data) < width - 1:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*data, number])


def field(key: int, data: bytes) -> bytes:
    """A length-delimited field."""
    return bytes([key]) + varint(len(data)) + data


# How a value may be written: by its name, the bytes before the number (in a tensor for the latter), and its format.
SHAPE = b"\x12\x00"
FORMS = {
    "simple": (None, "<f"),
    "content": (b"\x08\x01\x12\x00\x22\x04", "<f"),
    "packed": (b"\x08\x01\x12\x00\x2a\x04", "<f"),
    "unpacked": (b"\x08\x01\x12\x00\x2d", "<f"),
    "content, no shape": (b"\x08\x01\x22\x04", "<f"),
    "unpacked, no shape": (b"\x08\x01\x2d", "<f"),
    "double content": (b"\x08\x02\x12\x00\x22\x08", "<d"),
    "double packed": (b"\x08\x02\x12\x00\x32\x08", "<d"),
    "double unpacked": (b"\x08\x02\x12\x00\x31", "<d"),
    "double packed, no shape": (b"\x08\x02\x32\x08", "<d"),
}
MOMENTS = b"".join(bytes([key]) + struct.pack("<d", key) for key in (0x09, 0x11, 0x19, 0x21, 0x29))
SKIPPED = {  # the numbers of a value that is no scalar, by how it is written
    "histogram": field(0x2A, MOMENTS + field(0x32, bytes(range(24))) + field(0x3A, bytes(range(1, 25)))),
    "histogram of few moments": field(0x2A, MOMENTS[9:18] + field(0x32, bytes(8)) + field(0x3A, b"\xff" * 8)),
    "empty histogram": field(0x2A, b""),
    "tensor": field(0x42, b"\x08\x02\x12\x08\x12\x02\x08\x02\x12\x02\x08\x03\x22\x30" + bytes(range(48))),
    "tensor of one number": field(0x42, b"\x08\x01\x12\x04\x12\x02\x08\x01\x22\x04abcd"),
}
SCALARS_PLUGIN = field(0x4A, field(0x0A, field(0x0A, b"scalars") + field(0x12, b"\x08\x00")))


def value(tag: str, form: str, number: float, metadata: bytes = b"") -> bytes:
    """A summary value, with its key."""
    if form in SKIPPED:
        return field(0x0A, field(0x0A, tag.encode()) + SKIPPED[form] + metadata)
    head, packing = FORMS[form]
    packed = struct.pack(packing, number)
    what = b"\x15" + packed if head is None else field(0x42, head + packed)
    return field(0x0A, field(0x0A, tag.encode()) + what + metadata)


def payload(values: bytes, step: bytes | None = b"\x05", wall_time: float | None = 1.5, rest: bytes = b"") -> bytes:
    """An event."""
    times = b"" if wall_time is None else b"\x09" + struct.pack("<d", wall_time)
    steps = b"" if step is None else b"\x10" + step
    return times + steps + (field(0x2A, values) if values else b"") + rest


FLOATS = st.floats(width=32)
TAGS = st.text(st.characters(exclude_categories=("Cs",)), max_size=12).filter(
    lambda tag: "text" not in tag and "hparams" not in tag
)
STEPS = st.none() | st.integers(0, 62).flatmap(lambda bits: st.integers(0, 2**bits))


@st.composite
def shapes(draw: st.DrawFn) -> tuple[list[tuple[str, str, bytes]], int, bool, bytes]:
    """What events of one layout have in common: values without their numbers, a step's width, a time, a tail."""
    metadata = st.sampled_from([b"", SCALARS_PLUGIN])
    values = draw(st.lists(st.tuples(TAGS, st.sampled_from([*FORMS, *SKIPPED]), metadata), max_size=4))
    return values, draw(st.integers(0, 9)), draw(st.booleans()), draw(st.sampled_from([b"", b"\x52\x00"]))


@st.composite
def alike(draw: st.DrawFn, most: int = 12) -> list[bytes]:
    """Payloads of one layout."""
    values, width, timed, rest = draw(shapes())
    found = []
    for _ in range(draw(st.integers(1, most))):
        step = varint(draw(st.integers(0, 2 ** (7 * width) - 1)), width) if width else None
        data = b"".join(value(tag, form, draw(FLOATS), metadata) for tag, form, metadata in values)
        time = draw(st.floats(allow_nan=True)) if timed else None
        found.append(payload(data, step, time, rest))
    return found


def rows_of(payloads: list[bytes], gap: int = 0) -> Rows:
    """The payloads as records, `gap` bytes apart."""
    data = b"".join(bytes(gap) + record(one) for one in payloads)
    return Rows(data, gap, len(payloads[0]) + OVERHEAD + gap, len(payloads))


def agrees(found: tuple[int, float, tuple[float, ...]], layout: Layout, data: bytes) -> bool:
    """Whether a layout and protobuf find the same in a payload."""
    wanted = decoded(data)
    assert wanted.damage is None
    assert not wanted.texts
    assert not wanted.sessions
    numbers = [float(number) for _, number in wanted.scalars]
    same = np.array_equal([found[1], *found[2]], [wanted.wall_time, *numbers], equal_nan=True)
    return same and found[0] == wanted.step and layout.tags == tuple(tag for tag, _ in wanted.scalars)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("metadata", [b"", SCALARS_PLUGIN], ids=["bare", "plugin"])
def test_a_scalar_in_each_form(form, metadata):
    data = payload(value("loss", form, 0.15625, metadata))
    assert layout_of(data).one(data) == (5, 1.5, (0.15625,))
    assert agrees(layout_of(data).one(data), layout_of(data), data)


@pytest.mark.parametrize("form", SKIPPED)
def test_what_is_no_scalar_is_skipped_by_its_place(form):
    """The other scalars of its event are read, and its own numbers may be any."""
    values = value("a", "simple", 0.5), value("b/c", form, 0), value("d", "double packed", 0.25, SCALARS_PLUGIN)
    data = payload(b"".join(values))
    layout = layout_of(data)
    assert agrees(layout.one(data), layout, data)
    numbers = SKIPPED[form][2:][-4:]
    changed = data.replace(numbers, b"\xff\xfe\0\1") if numbers else data
    for rows in (rows_of([data, changed, data]), rows_of([changed] * 5)):
        assert layout.fits(rows).all()
        assert layout.sound(rows, layout.decoded(rows), layout.fixed_crc).all()
        assert [column.tolist() for column in layout.decoded(rows).values] == [[0.5] * rows.size, [0.25] * rows.size]
    assert layout.one(changed) == layout.one(data) == (5, 1.5, (0.5, 0.25))
    alone = layout_of(payload(values[1]))
    assert (alone.tags, alone.one(payload(values[1]))) == ((), (5, 1.5, ()))


@pytest.mark.parametrize("bits", range(63))
def test_a_step_of_each_width(bits):
    for step in (2**bits - 1, 2**bits):
        data = payload(value("loss", "simple", 1), varint(step))
        assert layout_of(data).one(data)[0] == step == Event.FromString(data).step
        assert layout_of(data).decoded(rows_of([data] * 2)).steps.tolist() == [step] * 2


def test_what_is_left_out_is_zero():
    data = payload(value("loss", "simple", 2), None, None)
    assert layout_of(data).one(data) == (0, 0.0, (2.0,))
    rows = layout_of(data).decoded(rows_of([data] * 3))
    assert (rows.steps.tolist(), rows.wall_times.tolist()) == ([0] * 3, [0.0] * 3)
    assert (rows.fixed_crc == layout_of(data).fixed_crc).all()


def test_events_without_values_have_a_layout():
    data = b"\x09" + struct.pack("<d", 2.5) + field(0x1A, b"brain.Event:2")
    assert layout_of(data).one(data) == (0, 2.5, ())
    assert layout_of(data).tags == ()


@QUICK
@given(alike())
def test_one_is_what_protobuf_says(payloads):
    layout = learned(payloads[0])
    for data in payloads:
        assert agrees(layout.one(data), layout, data)


@QUICK
@given(alike(), st.integers(0, 20))
def test_rows_are_what_each_is_alone(payloads, gap):
    layout = layout_of(payloads[0])
    rows = rows_of(payloads, gap)
    assert layout.fits(rows).all()
    found = layout.decoded(rows)
    assert layout.sound(rows, found, layout.fixed_crc).all()
    assert (found.steps.dtype, found.wall_times.dtype) == (np.int64, np.float64)
    for row, data in enumerate(payloads):
        one = (int(found.steps[row]), found.wall_times[row], tuple(column[row] for column in found.values))
        assert agrees(one, layout, data)


@QUICK
@given(alike(), st.data())
def test_a_bit_that_flips_is_seen_in_its_row_only(payloads, data):
    layout = layout_of(payloads[0])
    size = len(payloads[0]) + OVERHEAD
    row = data.draw(st.integers(0, len(payloads) - 1))
    bit = data.draw(st.integers(HEADER_SIZE * 8, size * 8 - 1))
    records = bytearray(b"".join(map(record, payloads)))
    records[row * size + bit // 8] ^= 1 << bit % 8
    rows = Rows(records, 0, size, len(payloads))
    fits, sound = layout.fits(rows), layout.sound(rows, layout.decoded(rows), layout.fixed_crc)
    others = np.arange(len(payloads)) != row
    assert (fits & sound).tolist() == others.tolist()
    changed = bytes(records[row * size + HEADER_SIZE : (row + 1) * size - 4])
    one = layout.one(changed)
    assert (one is not None) is bool(fits[row])
    if one is not None:
        assert agrees(one, layout, changed)


@pytest.mark.parametrize("width", range(1, 10))
def test_the_continuation_bits_of_a_step_are_part_of_the_layout(width):
    data = payload(value("loss", "simple", 1), varint(1, width))
    layout = layout_of(data)
    for place in range(width):
        changed = bytearray(data)
        changed[10 + place] ^= 0x80
        assert layout.one(bytes(changed)) is None
        assert layout.fits(rows_of([data, bytes(changed), data])).tolist() == [True, False, True]


@QUICK
@given(alike(1), st.data())
def test_whatever_has_a_layout_is_what_protobuf_says(payloads, data):
    changed = bytearray(payloads[0])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(changed)))
        changed[at : at + data.draw(st.integers(0, 3))] = data.draw(
            st.binary(max_size=3) | st.sampled_from([b"\x2a\x00", b"\x0a", b"\x10\x03", b"\x15", b"\x80\x00"])
        )
    changed = bytes(changed)
    layout = learned(changed)
    if layout is not None:
        assert agrees(layout.one(changed), layout, changed)
        assert layout.fits(rows_of([changed])).all()


@QUICK
@given(st.binary(max_size=60))
@example(b"")
@example(b"\x09")
@example(b"\x10\xff")
def test_any_bytes_have_no_layout_or_the_right_one(data):
    layout = learned(data)
    assert layout is None or agrees(layout.one(data), layout, data)


LOSS = value("loss", "simple", 0.5)
TIME, STEP, SUMMARY = b"\x09" + struct.pack("<d", 1.5), b"\x10\x05", field(0x2A, LOSS)


def tensor(data: bytes) -> bytes:
    return payload(field(0x0A, field(0x0A, b"loss") + field(0x42, data)))


NUMBER = struct.pack("<f", 0.5)
NONE = {
    "the step before the time": STEP + TIME + SUMMARY,
    "the summary first": SUMMARY + TIME + STEP,
    "two steps": TIME + STEP + STEP + SUMMARY,
    "two summaries": TIME + STEP + SUMMARY + SUMMARY,
    "two times": TIME + TIME + SUMMARY,
    "a negative step": TIME + b"\x10" + varint(2**64 - 1) + SUMMARY,
    "a field nobody knows": TIME + STEP + SUMMARY + b"\xa0\x06\x01",
    "a field nobody knows in a value": payload(field(0x0A, field(0x0A, b"loss") + b"\x15" + NUMBER + b"\xa0\x06\x01")),
    "a graph": TIME + field(0x22, b""),
    "the value before its tag": payload(field(0x0A, b"\x15" + NUMBER + field(0x0A, b"loss"))),
    "the metadata before the value": payload(field(0x0A, field(0x0A, b"loss") + SCALARS_PLUGIN + b"\x15" + NUMBER)),
    "no tag": payload(field(0x0A, b"\x15" + NUMBER)),
    "no value": payload(field(0x0A, field(0x0A, b"loss"))),
    "two values": payload(field(0x0A, field(0x0A, b"loss") + b"\x15" + NUMBER + b"\x15" + NUMBER)),
    "a tag that is no text": payload(field(0x0A, field(0x0A, b"\xff\xfe") + b"\x15" + NUMBER)),
    "a node's name": payload(field(0x0A, field(0x0A, b"loss") + b"\x15" + NUMBER + field(0x3A, b"node"))),
    "an image": payload(field(0x0A, field(0x0A, b"loss") + field(0x22, b"\x08\x01"))),
    "a tensor of integers": tensor(b"\x08\x03\x12\x00\x22\x04" + NUMBER),
    "a tensor that is shorter than its shape": tensor(b"\x08\x01\x12\x04\x12\x02\x08\x02\x22\x04" + NUMBER),
    "a tensor that is longer than its shape": tensor(b"\x08\x01\x12\x04\x12\x02\x08\x00\x22\x04" + NUMBER),
    "a tensor of strings": tensor(b"\x08\x07\x12\x04\x12\x02\x08\x01\x42\x04" + NUMBER),
    "a tensor of half a number": tensor(b"\x08\x02\x12\x04\x12\x02\x08\x01\x22\x04" + NUMBER),
    "half a bucket": payload(field(0x0A, field(0x0A, b"loss") + field(0x2A, MOMENTS + field(0x32, NUMBER)))),
    "half a moment": payload(field(0x0A, field(0x0A, b"loss") + field(0x2A, MOMENTS[:-4]))),
    "a moment twice": payload(field(0x0A, field(0x0A, b"loss") + field(0x2A, MOMENTS[:9] * 2))),
    "a histogram of text": payload(field(0x0A, field(0x0A, b"\xff\xfe") + SKIPPED["histogram"])),
    "a histogram that is a text": payload(
        value("a", "histogram", 0, field(0x4A, field(0x0A, field(0x0A, b"text"))))
    ),
    "two numbers in a tensor": tensor(b"\x08\x01\x12\x00\x2a\x08" + NUMBER * 2),
    "no number in a tensor": tensor(b"\x08\x01\x12\x00"),
    "a tensor in another order": tensor(b"\x22\x04" + NUMBER + b"\x08\x01\x12\x00"),
    "a text": payload(value("a", "simple", 0.5, field(0x4A, field(0x0A, field(0x0A, b"text"))))),
    "hparams": payload(value("a", "simple", 0.5, field(0x4A, field(0x0A, field(0x0A, b"hparams"))))),
    "too long": payload(value("t" * LONGEST, "simple", 0.5)),
    "half a time": TIME[:5],
    "half a summary": payload(LOSS)[:-1],
    "a byte too many": payload(LOSS) + b"\0",
    "a summary that ends in a value": TIME + STEP + field(0x2A, LOSS[:-2]),
    "a version that is no text": TIME + field(0x1A, b"\xff"),
}  # fmt: skip


@pytest.mark.parametrize("name", NONE)
def test_what_has_no_layout(name):
    assert layout_of(NONE[name]) is None


def test_what_has_no_layout_is_nearly_one():
    assert layout_of(TIME + STEP + SUMMARY) is not None
    assert layout_of(tensor(b"\x08\x01\x12\x00\x22\x04" + NUMBER)) is not None
    assert layout_of(payload(value("t" * (LONGEST - 40), "simple", 0.5))) is not None


def test_a_layout_of_other_tags_fits_nothing():
    layout = layout_of(payload(LOSS))
    other = payload(value("lass", "simple", 0.5))
    assert layout.one(other) is None
    assert layout.fits(rows_of([payload(LOSS), other])).tolist() == [True, False]


def test_metadata_that_protobuf_refuses_is_not_learned():
    data = payload(field(0x0A, field(0x0A, b"loss") + b"\x15" + NUMBER + field(0x4A, b"\x0a\x05x")))
    assert learned(data) is None


def test_numbers_keep_their_bits():
    for number in (-0.0, 5e-324, 1.7976931348623157e308, math.pi, -math.inf):
        data = payload(value("loss", "double content", number))
        (found,) = layout_of(data).one(data)[2]
        (column,) = layout_of(data).decoded(rows_of([data])).values
        assert struct.pack("<d", found) == struct.pack("<d", column[0]) == struct.pack("<d", number)
