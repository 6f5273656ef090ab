"""Records of one scalar each, read together whatever their tags, lengths and steps: as the slow reader reads them."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import google_crc32c
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from misread import wrong
from mutants import SECOND, VERSION, event, number, record, start, tensor
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.proto.types_pb2 import DT_DOUBLE, DT_FLOAT

from hparams_lab.events.format.crc import NEAR, blank_crcs, crc_table, crc_tables
from hparams_lab.events.read import stretch
from hparams_lab.events.read.layouts import MOST_LAYOUTS, Layouts
from hparams_lab.events.read.plain import SIMPLE, shape_of
from hparams_lab.events.read.wire import layout_of

HEAD = VERSION + start("trial")
STEPS = [0, 1, 127, 128, 2**14 - 1, 2**14, 2**21, 2**28, 2**35 - 1, 2**35, 2**62, -1]
KINDS = {
    "simple": number,
    "tensor": tensor,
    "double": lambda tag, value: tensor(tag, value, DT_DOUBLE),
    "with metadata": lambda tag, value: tensor(tag, value, DT_FLOAT, True),
    "number or tensor": lambda tag, value: number(tag, value) if value > 0.5 else tensor(tag, value),
}


def reports(size: int, seed: int, kinds: list[str], tags: list[str]) -> Iterator[bytes]:
    """Reports of the same tags again and again, a record each, with a histogram of changing length among them."""
    draw = random.Random(seed)
    for at in range(size):
        step = draw.choice(STEPS) if draw.random() < 0.3 else at * 100
        for place, tag in enumerate(tags):
            kind = KINDS[kinds[place % len(kinds)]]
            yield event([kind(tag, draw.choice([draw.random(), float("nan")]))], step, 1.7e9 + at + place / 64)
        buckets = [draw.random() for _ in range(draw.randint(0, 12))]
        yield event([Summary.Value(tag="histogram", histo={"bucket": buckets, "bucket_limit": buckets})], step, at)


TAGS = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
MANY = st.lists(TAGS | st.integers(NEAR - 40, NEAR).map("t".__mul__), min_size=1, max_size=45, unique=True)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(300, 900), st.integers(0, 99), st.lists(st.sampled_from(list(KINDS)), min_size=1, max_size=4), MANY)
def test_reports_of_any_tags_at_any_steps(tmp_path_factory, records, seed, kinds, tags):
    path = tmp_path_factory.mktemp("reports")
    assert wrong(path, HEAD + b"".join(reports(records // len(tags), seed, kinds, tags))) == []


def test_damage_at_every_place_of_some_records(tmp_path):
    """A tag that is damaged, or a step or number, loses its record and none of the others."""
    tags = [f"{'layer' * (at % 3)}/{at % 7}" for at in range(12)]
    rows = [HEAD, *reports(14, 3, ["simple", "with metadata"], tags)]
    data, begin = b"".join(rows), len(b"".join(rows[:90]))
    for at in itertools.chain(range(begin, begin + 130), range(begin, len(data), 131)):
        changed = bytearray(data)
        changed[at] ^= 1 << at % 8
        assert wrong(tmp_path, bytes(changed)) == [], at


def test_tags_with_the_same_checksum(tmp_path):
    """What tells tags apart is a checksum of 32 bits, of which 16 are sorted: tags that share it are told apart too."""
    twins = ["twin" + "".join(map(chr, tail)) for tail in _same_checksum(b"twin")]
    assert len({google_crc32c.value(tag.encode()) for tag in twins}) == 1
    assert wrong(tmp_path, HEAD + b"".join(reports(200, 1, ["simple"], twins))) == []
    tags = [f"tag{at:04d}" for at in range(1500)]  # some share 16 bits
    assert wrong(tmp_path, HEAD + b"".join(reports(6, 2, ["simple"], tags))) == []


def _same_checksum(head: bytes) -> list[tuple[int, ...]]:
    """Two endings of ASCII characters after which the checksum is the same, drawn until there are."""
    draw, seen = random.Random(0), dict[int, tuple[int, ...]]()
    while True:
        tail = tuple(draw.randrange(0x21, 0x7F) for _ in range(8))
        other = seen.setdefault(google_crc32c.value(head + bytes(tail)), tail)
        if other != tail:
            return [other, tail]


@pytest.mark.parametrize("kind", ["simple", "with metadata", "double"])
def test_records_of_many_lengths_are_read_together(tmp_path, kind, monkeypatch):
    """However wide the step: none of them is read one by one, but for the file's head and tail."""
    singly = []
    monkeypatch.setattr(stretch.Stretch, "take_singly", lambda self, offsets, order, length: singly.extend(offsets))
    tags = [f"{'layer' * (at % 7)}/{at}" for at in range(45)]
    rows = [event([KINDS[kind](tag, step)], step**3, step) for step in range(1, 300) for tag in tags]
    assert wrong(tmp_path, HEAD + b"".join(rows)) == []
    assert not singly


def test_the_shape_of_a_layout():
    def shape(payload: bytes) -> object:
        layout = layout_of(payload[12:-4])
        assert layout is not None
        return shape_of(layout)

    assert shape(event([number("loss", 1)], 5, 1)) == SIMPLE
    assert shape(event([number("loss", 1)], 0, 1)) == SIMPLE
    assert shape(event([number("loss", 1)], 2**35, 1)) is None
    assert shape(event([number("loss", 1)], 5, -SECOND)) is None  # without a time
    assert shape(event([number("loss", 1), number("accuracy", 1)], 5, 1)) is None
    assert shape(event([], 5, 1)) is None
    assert shape(record(b"\x09" + bytes(8) + b"\x1a\x01v" + b"\x2a\x0a\x0a\x08\x0a\x01t\x15" + bytes(4))) == SIMPLE
    assert shape(event([number("t" * NEAR, 1)], 5, 1)) is None
    with_metadata = shape(event([tensor("loss", 1, DT_FLOAT, True)], 5, 1))
    assert with_metadata not in (None, SIMPLE)
    assert shape(event([tensor("another", 1, DT_FLOAT, True)], 500, 1)) == with_metadata


def test_only_so_many_shapes_are_looked_for():
    layouts = Layouts()
    for size in range(20):
        value = tensor("loss", 1)
        value.metadata.plugin_data.plugin_name = "p" * (size + 1)
        assert layouts.read(event([value], 5, 1)[12:-4]) is not None
    assert len(layouts.shapes) == 8


def test_tables_and_blanks():
    assert len(crc_tables()) == NEAR * 256
    for distance in (0, 3, 4, 5, 17, NEAR - 1):
        assert np.array_equal(crc_tables()[distance * 256 :][:256], crc_table(distance))
    for length in (0, 1, 10, 11, NEAR - 1):
        data = bytearray(length)
        data[:1] = b"\x09"[:length]
        data[9:10] = b"\x10"[: max(0, length - 9)]
        assert blank_crcs((0, 0x09), (9, 0x10))[length] == google_crc32c.value(bytes(data))


def test_a_layout_is_learned_from_the_second_record_of_a_length():
    """What is there once costs less without one; and where no more are kept, none is looked for."""
    layouts, payload = Layouts(), event([number("loss", 1)], 5, 1)[12:-4]
    assert layouts.read_single(payload) is None
    assert layouts.size == 0
    assert layouts.read_single(payload) is not None
    assert layouts.read_single(payload) == layouts.read(payload)
    assert layouts.size == 1
    for at in range(MOST_LAYOUTS):
        layouts.read(event([number(f"tag{at:05}", 1)], 5, 1)[12:-4])
    another = event([number("another", 1)], 5, 1)[12:-4]
    assert layouts.read_single(another) is layouts.read_single(another) is None
    assert layouts.read(another) is not None
