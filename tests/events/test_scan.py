"""`Scanner` and `Cursor`: whichever way records are read, columns, texts and damage are the slow reader's."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from misread import NAME, wrong
from mutants import END, LAYOUTS, SECOND, VERSION, event, good, number, record, start, tensor, told
from slow_reader import slow_read
from tensorboard.compat.proto import types_pb2
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.proto.tensor_pb2 import TensorProto

from hparams_lab.core.curve import extremes
from hparams_lab.core.findings import Finding, Kind
from hparams_lab.events.format import summaries
from hparams_lab.events.format.varints import varint
from hparams_lab.events.read.collector import Facts
from hparams_lab.events.read.cursor import LONGEST_DECODED, PIECE, SMALL, Cursor
from hparams_lab.events.read.layouts import MOST_LAYOUTS, Layouts
from hparams_lab.events.read.long import LONG
from hparams_lab.events.read.scan import FEW, MOST_FINDINGS, Scanner
from hparams_lab.events.read.wire import LONGEST
from hparams_lab.logdir.run_reader import RunReader

HEAD = VERSION + start("trial")


# Parts of files; each is a pure function of its numbers

ODD = [
    (types_pb2.DT_INT64, b"\7" + bytes(7)),
    (types_pb2.DT_INT32, b"\xff" * 4),
    (types_pb2.DT_HALF, b"\x00\x3c"),
    (types_pb2.DT_BFLOAT16, b"\x80\x3f"),
    (types_pb2.DT_BOOL, b"\1"),
    (types_pb2.DT_UINT8, b"\xfe"),
    (types_pb2.DT_STRING, b""),
    (types_pb2.DT_FLOAT, b""),
    (types_pb2.DT_FLOAT, b"123"),
]


def odd(tag: str, which: int) -> Summary.Value:
    """A tensor of a rare type, of nothing, or whose shape and bytes contradict each other."""
    dtype, content = ODD[which % len(ODD)]
    found = Summary.Value(tag=tag, tensor=TensorProto(dtype=dtype, tensor_content=content))
    found.tensor.tensor_shape.SetInParent()
    return found


def block(size: int, seed: int) -> Iterator[bytes]:
    tag = f"block{seed % 3}"
    for step in range(size):
        yield event([number(tag, step / 7)], step * (seed % 50 + 1), step)


def loop(size: int, seed: int) -> Iterator[bytes]:
    """Tags of differing lengths, or of one length, a record each."""
    tags = [f"{'layer' * (at % 3 * (seed % 2))}/{at:02d}" for at in range(seed % 70 + 1)]
    for at in range(size):
        yield event([number(tags[at % len(tags)], at / 3)], at // len(tags), at)


def mix(size: int, seed: int) -> Iterator[bytes]:
    """Several values of an event, in no order; the same tag twice in one."""
    draw = random.Random(seed)
    for at in range(size):
        tags = draw.choices(["a", "b", "cc", "dd", "block1", "/00"], k=draw.choice([0, 1, 1, 1, 2, 3]))
        yield event([number(tag, draw.choice([at, float("nan"), -0.0])) for tag in tags], draw.choice([0, 5, 300]), at)


def texts(size: int, seed: int) -> Iterator[bytes]:
    for at in range(size % 40 + 1):
        yield told(summaries.text(f"note{at % 3}", f"{seed} **{at}**"), at, at)
        yield event([number("block0", at)], at, at)


def odd_types(size: int, seed: int) -> Iterator[bytes]:
    """A tag whose values change their type."""
    for at in range(size):
        values = [number, tensor, odd][(at * seed) % 3]
        yield event([values("block1", at % 9)], at, at)


def images(size: int, seed: int) -> Iterator[bytes]:
    """Records that are too long for a layout, between others."""
    for at in range(size % 12 + 1):
        image = Summary.Image(encoded_image_string=bytes(LONGEST + seed % 90 * at))
        yield event([Summary.Value(tag="image", image=image)], at, at)
        yield from (event([number("block0", step)], step, at) for step in range(seed % 90))


def histograms(size: int, seed: int) -> Iterator[bytes]:
    """A loop of scalars with histograms of changing length among them, also in one event, and tensors of a shape."""
    draw = random.Random(seed)
    for at in range(size):
        buckets = [float(number) for number in range(draw.randint(0, 1 + seed % 40))]
        histogram = Summary.Value(tag=f"hist/{at % 3}", histo={"min": at, "bucket_limit": buckets, "bucket": buckets})
        shaped = tensor("block2", at)
        shaped.tensor.tensor_shape.dim.add(size=draw.choice([1, 1, 1, 2]))  # 2: no tensor
        scalars = [number("block0", at), number("context", at)]  # whose name has "text" in it
        values = [[scalar] for scalar in scalars] if seed % 2 else [[*scalars, histogram]]
        yield from (event(some, 100 * at, at) for some in [*values, [histogram], [shaped]])


def long_tags(size: int, seed: int) -> Iterator[bytes]:
    """Scalars around the length where layouts end, and an event of many."""
    for at in range(size % 5 + 1):
        yield from (event([number("t" * (LONGEST - 24 + more), at)], at, at) for more in range(6))
        yield event([number(f"many/{one % 50}", one) for one in range(seed * 40 % 8000)], at, at)


PARTS = {part.__name__: part for part in (block, loop, mix, texts, odd_types, images, histograms, long_tags)}
PART = st.tuples(st.sampled_from(list(PARTS)), st.integers(1, 400), st.integers(0, 200))


def file_of(parts: list[tuple[str, int, int]]) -> bytes:
    return HEAD + b"".join(itertools.chain.from_iterable(PARTS[name](size, seed) for name, size, seed in parts)) + END


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A directory for all examples of a property, and layouts that grow from one to the next."""
    return tmp_path_factory.mktemp("shared"), Layouts()


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.lists(PART, min_size=1, max_size=5))
def test_random_files(shared, parts):
    path, layouts = shared
    data = file_of(parts)
    assert wrong(path, data) == []
    assert wrong(path, data, layouts) == []
    assert wrong(path, data, layouts, extremes) == []


def test_records_that_are_not_where_they_are_looked_for(tmp_path):
    """Event files within images, events without a time, and records of more than two bytes of length, among others."""
    within = HEAD + b"".join(loop(40, 7)) + END
    parts = [loop(3000, 8)]
    for size in (len(within), 1 << 15, 1 << 16, (1 << 16) + 7, 1 << 17):
        image = Summary.Image(encoded_image_string=within * (size // len(within)))
        parts += [[event([Summary.Value(tag="image", image=image)], 1, 1)], loop(700, 10)]
    parts += [(event([number(f"{'t' * (at % 5)}", at)], at, -SECOND) for at in range(3000)), loop(2000, 11)]
    assert wrong(tmp_path, HEAD + b"".join(itertools.chain.from_iterable(parts)) + END) == []


@pytest.mark.parametrize("tags", [1, 2, 3, 19, 31, 32, 33, 56, 57, 63, 64, 65, 70])
def test_loops_of_any_number_of_tags(tmp_path, tags):
    for same_length in (0, 1):
        size = max(400, tags * 12)
        seed = tags - 1 if (tags - 1) % 2 == same_length else tags - 1 + 70 * 1
        assert wrong(tmp_path, HEAD + b"".join(loop(size, seed)) + END) == []
    assert wrong(tmp_path, b"".join(loop(tags * 12 + tags // 2, tags - 1))) == []


def test_the_tags_of_an_event_keep_their_order(tmp_path):
    """The record of both is longer than the others, and so is read after them."""
    both = [number("first", 1), number("second", 1)]
    rest = [event([number("second", at), *[number("x", at)] * (at * 7 % 3)], at, at) for at in range(200)]
    assert wrong(tmp_path, b"".join([event(both), *rest])) == []
    rest = [event([number("second", at)], at, at) for at in range(200)]
    assert wrong(tmp_path, b"".join([event(both), *rest])) == []
    assert wrong(tmp_path, b"".join([*(event([number("z" * (at % 5 + 1), at)]) for at in range(80)), *rest])) == []


def test_events_of_one_length_with_their_tags_in_another_order(tmp_path):
    """What is known from one file must not tell the order of the next."""
    layouts = Layouts()
    for first, second in (("a", "b"), ("b", "a"), ("a", "b")):
        rows = [event([number(second, at), number(first, at)], at, at) for at in range(1, 200)]
        rows.insert(0, event([number(first, 0), number(second, 0)]))
        assert wrong(tmp_path, b"".join(rows), layouts) == []


def test_more_layouts_of_a_length_than_are_kept(tmp_path):
    layouts = Layouts()
    for size in (40, 1000, MOST_LAYOUTS + 500):
        rows = [event([number(f"tag{at % size:05d}", at)], at // 64, at) for at in range(size + 700)]
        assert wrong(tmp_path, b"".join(rows), layouts) == []


def test_files_around_the_sizes_where_the_way_changes(tmp_path):
    row = event([number("loss", 1)], 1, 1)
    for size in (FEW * FEW, SMALL):
        for rows in range(size // len(row) - 1, size // len(row) + 3):
            assert wrong(tmp_path, row * rows) == []
            assert wrong(tmp_path, row * rows + row[:-1]) == []


# Damage

LINED = HEAD + b"".join(loop(100, 18)) + END
JUMBLED = HEAD + b"".join(mix(100, 5)) + END


@pytest.mark.parametrize("name", ["lined", "jumbled"])
def test_damage_at_every_place(tmp_path, name):
    data = LINED if name == "lined" else JUMBLED
    assert len(data) > FEW * FEW
    middle = len(data) // 2
    for at in itertools.chain(range(0, len(data), 17), range(middle, middle + 100)):
        changed = bytearray(data)
        changed[at] ^= 1 << at % 8
        assert wrong(tmp_path, bytes(changed)) == [], at


@pytest.mark.parametrize("name", ["lined", "jumbled"])
def test_a_cut_at_every_place(tmp_path, name):
    data = LINED if name == "lined" else JUMBLED
    for at in itertools.chain(range(0, len(data), 23), range(len(data) - 70, len(data))):
        assert wrong(tmp_path, data[:at]) == [], at


def test_damage_is_counted_where_there_is_too_much_of_it(tmp_path):
    rows = [bytearray(event([number("loss", at)], at, at)) for at in range(MOST_FINDINGS + 500)]
    for row in rows:
        row[20] ^= 1
    (tmp_path / NAME).write_bytes(b"".join(rows))
    reader = RunReader(str(tmp_path), Layouts())
    reader.read_new([NAME])
    assert len(reader.findings) == MOST_FINDINGS
    assert {finding.kind for finding in reader.findings} == {Kind.BAD_CHECKSUM}
    assert sum(finding.bytes_lost for finding in reader.findings) == sum(map(len, rows))
    assert "501 records" in reader.findings[-1].reason


# Pieces


@pytest.fixture(scope="module")
def long_file():
    """More than a piece of everything, with damage where one piece ends and the next begins."""
    parts = [("loop", PIECE // 46, 19), ("mix", 9000, 3), ("images", 11, 80), ("block", 12_000, 1)]
    parts.append(("odd_types", 300, 4))
    data = bytearray(file_of(parts))
    for at in (PIECE - 60, PIECE - 4, PIECE + 33):
        data[at] ^= 4
    return bytes(data)


def test_a_file_of_several_pieces(tmp_path, long_file):
    assert len(long_file) > PIECE
    undamaged = HEAD + b"".join(loop(PIECE // 40, 4)) + END
    assert len(undamaged) > PIECE
    assert wrong(tmp_path, undamaged) == []
    assert wrong(tmp_path, long_file) == []


def test_records_longer_than_a_piece(tmp_path):
    image = Summary.Value(tag="image", image=Summary.Image(encoded_image_string=bytes(PIECE)))
    rows = [event([number("loss", at)], at, at) for at in range(100)]
    whole = b"".join([*rows, event([image, number("loss", 7)], 7, 7), *rows])
    assert wrong(tmp_path, whole) == []
    assert wrong(tmp_path, whole[:2_000_000]) == []
    damaged = bytearray(whole)
    damaged[1_500_000] ^= 1
    assert wrong(tmp_path, bytes(damaged)) == []


def test_of_an_enormous_record_only_the_checksum_is_verified(tmp_path):
    image = Summary.Value(tag="image", image=Summary.Image(encoded_image_string=bytes(LONGEST_DECODED)))
    rows = [event([number("loss", at)], at, at) for at in range(10)]
    data = b"".join([*rows, event([image]), *rows])
    assert wrong(tmp_path, data) == []
    damaged = bytearray(data)
    damaged[len(data) // 2] ^= 1
    (tmp_path / NAME).write_bytes(damaged)
    reader = RunReader(str(tmp_path), Layouts())
    reader.read_new([NAME])
    assert [finding.kind for finding in reader.findings] == [Kind.BAD_CHECKSUM]
    assert len(reader.facts.columns()["loss"].values) == 20


@pytest.mark.parametrize("name", LAYOUTS)
def test_pieces_of_any_size_in_memory(name):
    """What a scanner leaves of a piece is what the next one begins with."""
    data = b"".join(good(name, 1200))
    wanted = slow_read(data)
    for size in (4200, 5000, 9999, 30_000):
        facts, findings = Facts(), []
        scanner = Scanner("x", Layouts(), facts, findings)
        base, piece = 0, b""
        while base + len(piece) < len(data):
            piece += data[base + len(piece) : base + len(piece) + size]
            used = scanner.scan(piece, len(piece), base, len(data) - base)
            base, piece = base + used, piece[used:]
        assert (base, findings) == (len(data), [])
        columns = facts.columns()
        assert list(columns) == list(wanted.columns)
        for tag, points in wanted.columns.items():
            for column, expected in zip(columns[tag], zip(*points, strict=True), strict=True):
                np.testing.assert_array_equal(column, expected)


# Files that grow


def grown(path: Path, data: bytes, sizes: list[int]) -> Iterator[tuple[Facts, list[Finding], bytes]]:
    """What a cursor has read at each size."""
    facts, findings = Facts(), []
    cursor = Cursor(str(path), Layouts(), facts, findings)
    with open(path, "wb") as file:
        for size in sizes:
            file.write(data[file.tell() : size])
            file.flush()
            assert cursor.read_new() is True
            assert cursor.read_new() is False
            yield facts, [*findings, *([cursor.torn] if cursor.torn else [])], data[:size]


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_file_that_grows_byte_by_byte(tmp_path, name):
    data = b"".join(good(name, 8))
    for facts, findings, there in grown(tmp_path / NAME, data, list(range(1, len(data) + 1))):
        wanted = slow_read(there)
        assert [(one.offset, one.kind, one.bytes_lost) for one in findings] == wanted.damages
        values = {tag: points.values.tolist() for tag, points in facts.columns().items()}
        assert repr(values) == repr({tag: [point[2] for point in points] for tag, points in wanted.columns.items()})
        assert (facts.start, facts.texts) == (wanted.start, wanted.texts)


def test_a_file_that_grows_by_any_steps(tmp_path, long_file):
    draw = random.Random(1)
    sizes = sorted({*(draw.randrange(len(long_file)) for _ in range(12)), len(long_file)})
    for facts, findings, _ in grown(tmp_path / NAME, long_file, sizes):  # noqa: B007
        assert facts.columns()
    wanted = slow_read(long_file)
    assert [(one.offset, one.kind) for one in findings] == [damage[:2] for damage in wanted.damages]
    for tag, points in wanted.columns.items():
        np.testing.assert_array_equal(facts.columns()[tag].values, [value for _, _, value in points])


def test_bytes_that_are_there_are_read_once(tmp_path):
    """What a process reads is counted by the kernel."""
    if not os.path.exists("/proc/self/io"):
        pytest.skip("needs /proc/self/io")
    data = b"".join(good("loop", 3000))
    more = event([number("loss", 1)], 1, 1)
    facts, path = Facts(), tmp_path / NAME
    path.write_bytes(data)
    cursor = Cursor(str(path), Layouts(), facts, [])
    assert _read_by(cursor.read_new) in range(len(data), len(data) + 500)
    with open(path, "ab") as file:
        file.write(more * 3 + more[:20])
    assert _read_by(cursor.read_new) in range(len(more) * 3 + 20, len(more) * 3 + 520)
    assert _read_by(cursor.read_new) < 500


def _read_by(what) -> int:
    """How many bytes a call reads, and what reading the counter takes."""

    def read_so_far() -> int:
        with open("/proc/self/io", "rb") as file:
            return int(file.read().split()[1])

    before = read_so_far()
    what()
    return read_so_far() - before


def test_a_long_event_with_a_field_that_nobody_knows(tmp_path):
    """Protobuf passes over such a field, in a summary too; so does the reading value by value."""
    plain = event([number(f"gradient/of/layer/{at}", at) for at in range(4000)], 5, 1)
    assert len(plain) > LONG
    payload = plain[12:-4]
    at = payload.index(b"\x2a", 9)
    length, begin = varint(payload, at + 1)
    odd = b"\xf8\x07\x01"  # field 127, a number
    longer = Summary.FromString(payload[begin:] + odd)
    assert len(longer.value) == 4000
    head = payload[: at + 1] + bytes([length + len(odd) & 0x7F | 0x80, (length + len(odd)) >> 7 & 0x7F | 0x80])
    head += bytes([(length + len(odd)) >> 14])
    assert wrong(tmp_path, event([number("loss", 1)], 1, 1) + record(head + payload[begin:] + odd), Layouts()) == []
