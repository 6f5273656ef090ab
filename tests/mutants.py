"""Good event files in the layouts that loggers write, and mutants of them: pure functions of a seed."""

from __future__ import annotations

import functools
import random
import struct
from collections.abc import Callable, Iterator, Sequence

from slow_reader import masked
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.types_pb2 import DT_DOUBLE, DT_FLOAT, DT_INT64

from hparams_lab.events.format import media, summaries

SECOND = 1_700_000_000.0


def record(payload: bytes, length: int | None = None) -> bytes:
    """A record with right checksums, whatever `length` it claims."""
    head = struct.pack("<Q", len(payload) if length is None else length)
    return head + struct.pack("<I", masked(head)) + payload + struct.pack("<I", masked(payload))


def event(values: Sequence[Summary.Value] = (), step: int = 0, now: float = 0.0) -> bytes:
    """A record of these summary values."""
    return record(Event(wall_time=SECOND + now, step=step, summary=Summary(value=values)).SerializeToString())


def told(summary: Summary, step: int = 0, now: float = 0.0) -> bytes:
    """A record of a summary."""
    return event(summary.value, step, now)


def number(tag: str, value: float) -> Summary.Value:
    """A scalar as TensorFlow 1, PyTorch and ourselves write it."""
    return Summary.Value(tag=tag, simple_value=value)


def tensor(tag: str, value: float, dtype: int = DT_FLOAT, metadata: bool = False) -> Summary.Value:
    """A scalar as TensorFlow 2 writes it."""
    packed = struct.pack({DT_FLOAT: "<f", DT_DOUBLE: "<d", DT_INT64: "<q"}[dtype], value)
    found = Summary.Value(tag=tag, tensor=TensorProto(dtype=dtype, tensor_content=packed))
    found.tensor.tensor_shape.SetInParent()
    if metadata:
        plugin = SummaryMetadata.PluginData(plugin_name="scalars", content=b"\x08\x00")
        found.metadata.CopyFrom(SummaryMetadata(plugin_data=plugin, data_class=1))
    return found


VERSION = record(Event(wall_time=SECOND, file_version="brain.Event:2").SerializeToString())
END = told(summaries.session_end(summaries.SUCCESS, SECOND + 5e7), now=5e7)  # behind all points


def start(name: str) -> bytes:
    """The record of a session's start."""
    stored = {"units": 16.0, "rate": 0.125, "optimizer": "adam", "bias": True}
    return told(summaries.session_start(stored, name, SECOND))


def one_tag(points: int) -> Iterator[bytes]:
    """A loop over one tag."""
    for step in range(points):
        yield event([number("loss", 1 / (step + 1))], step, step / 8)


def loop(points: int, tags: int = 20) -> Iterator[bytes]:
    """A loop that logs many tags, a record each."""
    for step in range(points // tags):
        yield from (event([number(f"layer/{tag}", step * tag / 7)], step, step + tag / 64) for tag in range(tags))


def several(points: int) -> Iterator[bytes]:
    """Several values in one event."""
    names = ["loss", "accuracy", "val/loss", "val/accuracy", "rate"]
    for step in range(points // 4):
        yield event([number(name, step / (at + 3)) for at, name in enumerate(names)], 100 + step, step * 2.5)


def tensors(points: int) -> Iterator[bytes]:
    """Tensors; the first of a tag with its metadata."""
    for step in range(points // 2):
        yield event([tensor("epoch_loss", 1 / (step + 2), DT_FLOAT, True)], step, step)
        yield event([tensor("epoch_accuracy", step / 9, DT_FLOAT, step == 0)], step, step + 0.5)


def irregular(points: int) -> Iterator[bytes]:
    """Tags in no order, steps that go back, values of every kind."""
    draw = random.Random(7)
    for _ in range(points):
        value = draw.choice([0.0, -1.5, float("nan"), float("inf"), draw.random() * 10 ** draw.randint(-30, 30)])
        yield event([number("t" * draw.randint(1, 6), value)], draw.choice([0, 1, 127, 128, 2**14, 2**31 - 1]), 0.5)


def mixed(points: int) -> Iterator[bytes]:
    """Scalars between texts, histograms and other tensors."""
    for step in range(points // 4):
        yield event([number("loss", step), tensor("count", step, DT_INT64)], step, step)
        yield told(summaries.text("note", f"step **{step}**"), step, step)
        yield told(media.histogram("weights", [0.5, 1.5, step], 4), step, step)
        yield event([tensor("exact", step / 3, DT_DOUBLE)], step, step)


def wide(points: int) -> Iterator[bytes]:
    """An event of very many values, the last of which are tensors."""
    names = [f"gradient/of/layer/{at}" for at in range(min(8 * points, 3300))]
    yield event([*(number(name, len(name)) for name in names[:-5]), *(tensor(name, 0.5) for name in names[-5:])], 1, 1)


LAYOUTS: dict[str, Callable[[int], Iterator[bytes]]] = {
    layout.__name__: layout for layout in (one_tag, loop, several, tensors, irregular, mixed, wide)
}


@functools.cache
def good(layout: str, points: int, ends: bool = True) -> tuple[bytes, ...]:
    """The records of a good file of so many points, give or take a round of its loop."""
    head = (VERSION, start(f"{layout}-{points}"))
    return (*head, *LAYOUTS[layout](points), *([END] if ends else []))


def some_file(draw: random.Random) -> tuple[bytes, ...]:
    """The records of one of the good files: mostly short ones, some long enough to be read all at once."""
    points = draw.choices([3, 8, 20, 40, 400, 3000], [20, 25, 25, 25, 4, 1])[0]
    return good(draw.choice(list(LAYOUTS)), points, draw.random() < 0.8)


def _stretch(draw: random.Random, size: int) -> slice:
    begin = draw.randrange(size + 1)
    return slice(begin, min(size, begin + int(2 ** (draw.random() * 10))))


def flipped(draw: random.Random, data: bytearray) -> None:
    """One to eight bits."""
    for _ in range(draw.choice([1, 1, 1, 2, 8])):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)


def cut(draw: random.Random, data: bytearray) -> None:
    """The end is missing."""
    del data[draw.randrange(len(data)) :]


def hole(draw: random.Random, data: bytearray) -> None:
    """A stretch is missing."""
    del data[_stretch(draw, len(data))]


def inserted(draw: random.Random, data: bytearray) -> None:
    """Bytes that do not belong there."""
    at = draw.randrange(len(data) + 1)
    data[at:at] = draw.randbytes(draw.choice([1, 4, 12, 100]))


def doubled(draw: random.Random, data: bytearray) -> None:
    """A stretch stands there twice."""
    where = _stretch(draw, len(data))
    data[where.start : where.start] = data[where]


def swapped(draw: random.Random, data: bytearray) -> None:
    """Two stretches, exchanged."""
    one, other = sorted((_stretch(draw, len(data)) for _ in range(2)), key=lambda part: part.start)
    if one.stop <= other.start:
        data[other], data[one] = data[one], data[other]


def blanked(draw: random.Random, data: bytearray) -> None:
    """A stretch of zeros or ones, as a lost block of a disk."""
    where = _stretch(draw, len(data))
    data[where] = draw.choice([b"\0", b"\xff"]) * (where.stop - where.start)


BYTES: tuple[Callable[[random.Random, bytearray], None], ...] = (
    flipped, flipped, cut, hole, inserted, doubled, swapped, blanked,
)  # fmt: skip


def forged(draw: random.Random, rows: list[bytes]) -> None:
    """Payloads changed, and their checksums made right again: what only a decoder notices."""
    change = draw.choice(BYTES)
    for at in _some_rows(draw, rows):
        payload = bytearray(rows[at][12:-4])
        if payload:
            change(draw, payload)
        rows[at] = record(bytes(payload))


def _some_rows(draw: random.Random, rows: list[bytes]) -> range:
    first = draw.randrange(len(rows))
    return range(first, min(len(rows), first + draw.choice([1, 1, 2, 40])), draw.choice([1, 1, 3]))


def patched(draw: random.Random, rows: list[bytes]) -> None:
    """The same byte of many payloads set to something else, and the checksums made right again."""
    at, byte = draw.choice([0, 1, 8, 9, 10, 11, 12, draw.randrange(60), -draw.randint(1, 12)]), draw.randrange(256)
    for row in _some_rows(draw, rows):
        payload = bytearray(rows[row][12:-4])
        if -len(payload) <= at < len(payload):
            payload[at] = draw.choice([byte, byte, draw.randrange(256)])
        rows[row] = record(bytes(payload))


def reworded(draw: random.Random, rows: list[bytes]) -> None:
    """Events that say something odd, which is not damaged."""
    change = draw.choice(ODDITIES)
    for at in _some_rows(draw, rows):
        found = Event.FromString(rows[at][12:-4])
        found.summary.value.add().CopyFrom(number("odd", 0.5))
        tail = change(draw, found) or b""
        rows[at] = record(found.SerializeToString() + tail)


def _odd_step(draw: random.Random, found: Event) -> None:
    found.step = draw.choice([-1, -(2**63), 2**63 - 1, 2**31, 2**40, draw.randrange(2**20)])


def _odd_time(draw: random.Random, found: Event) -> None:
    found.wall_time = draw.choice([0.0, -1.0, float("nan"), float("inf"), 5e-324])


def _odd_tag(draw: random.Random, found: Event) -> None:
    found.summary.value[-1].tag = draw.choice(["", "\0", "../..", "<script>", "\u202eabc", "\U0001f642" * 300])


def _odd_tensor(draw: random.Random, found: Event) -> None:
    dims = draw.choice([[], [], [1], [0], [2, 3], [-1], [2**40], [2**32, 2**32], [2**62, 4], [0, 2**62]])
    made = found.summary.value[-1].tensor
    made.dtype = draw.choice([0, 1, 1, 1, 2, 3, 7, 9, 10, 19, 99])
    made.tensor_content = draw.randbytes(draw.choice([0, 1, 4, 4, 4, 8, 8, 24]))
    made.float_val.extend([1.5] * draw.choice([0, 0, 1, 2]))
    for size in dims:
        made.tensor_shape.dim.add(size=size)


def _odd_plugin(draw: random.Random, found: Event) -> None:
    found.summary.value[-1].metadata.plugin_data.plugin_name = draw.choice(["text", "hparams", "scalars", "?"])
    found.summary.value[-1].metadata.plugin_data.content = draw.choice([b"", b"\x08\x00", b"\xff", b"\x1a\x00"])


def _odd_fields(draw: random.Random, found: Event) -> bytes:
    """Fields again, in another order, unknown ones, and numbers that take more bytes than they need."""
    step = b"\x10" + draw.choice([b"\x05", b"\x85\x00", b"\x85\x80\x80\x80\x00", b"\xff" * 9 + b"\x01"])
    time = b"\x09" + struct.pack("<d", 12.5)
    summary = b"\x2a\x0c\x0a\x0a\x15" + struct.pack("<f", 0.25) + b"\x0a\x03abc"
    unknown = draw.choice([b"\xa0\x06\x07", b"\xa2\x06\x02hi", b"\xa3\x06\xa4\x06"])
    return b"".join(draw.sample([step, step, time, summary, unknown], draw.randint(1, 5)))


ODDITIES: tuple[Callable[[random.Random, Event], bytes | None], ...] = (
    _odd_step, _odd_time, _odd_tag, _odd_tensor, _odd_tensor, _odd_plugin, _odd_fields,
)  # fmt: skip


def misled(draw: random.Random, rows: list[bytes]) -> None:
    """A length that is not the payload's, with a right checksum."""
    at = draw.randrange(len(rows))
    payload = rows[at][12:-4]
    off = draw.choice([-1, 1, 4, -len(payload), 16, 2**12, 2**31, 2**40, 2**60, 2**63, 2**64 - 1 - len(payload)])
    rows[at] = record(payload, max(0, len(payload) + off))


def shuffled(draw: random.Random, rows: list[bytes]) -> None:
    """Whole records in another order, or there twice, or gone: nothing is damaged."""
    where = _stretch(draw, len(rows))
    part = rows[where]
    draw.shuffle(part)
    rows[where] = draw.choice([part, part + part, part[: len(part) // 2]])


def spliced(draw: random.Random, rows: list[bytes]) -> None:
    """Records of another file between these."""
    rows[draw.randrange(len(rows)) :] = some_file(draw)[-draw.randint(1, 40) :]


RECORDS: tuple[Callable[[random.Random, list[bytes]], None], ...] = (
    forged, patched, patched, reworded, reworded, misled, shuffled, spliced,
)  # fmt: skip


def mutant(seed: int) -> tuple[str, bytes]:
    """The mutant of that number: how it was changed, and its bytes."""
    draw = random.Random(seed)
    rows, names = list(some_file(draw)), []
    if draw.random() < 0.5:
        change = draw.choice(RECORDS)
        change(draw, rows)
        names.append(change.__name__)
    data = bytearray(b"".join(rows))
    if not names or draw.random() < 0.2:
        change_bytes = draw.choice(BYTES)
        change_bytes(draw, data)
        names.append(change_bytes.__name__)
    return "+".join(names), bytes(data)
