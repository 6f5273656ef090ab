"""`Stretch`: the records of a stretch of a file, read as rows in whatever order, and handed on in theirs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from tensorboard.compat.proto.summary_pb2 import Summary

from hparams_lab.core.curve import Scalars
from hparams_lab.events.format.crc import masked_crc32c
from hparams_lab.events.format.record import HEADER_SIZE, OVERHEAD
from hparams_lab.events.format.summaries import BadSummary
from hparams_lab.events.read.layout import Groups, Layout, Rows
from hparams_lab.events.read.layouts import MOST_FORMS, MOST_LAYOUTS, Layouts
from hparams_lab.events.read.plain import Plain, Shape, Words, taken_apart

FEWEST = 3
"""Fewer records of a tag are read one by one."""

FEWEST_PLAIN = 64
"""Fewer records of one scalar each are."""

FEWEST_ROWS = 64
"""Fewer records of a length are."""

FEWEST_SKIPPED = 256
"""Fewer records of a length, without scalars, are read one by one."""


_Parts: TypeAlias = "dict[str, list[tuple[NDArray[np.int64], Scalars]]]"
"""By tag, points and the numbers of their records."""


class Sink(Protocol):
    """Takes what a file says, in its order for each tag."""

    def take_point(self, tags: Sequence[str], step: int, wall_time: float, values: Sequence[float]) -> None:
        """The values of one event."""

    def take_points(self, tag: str, points: Scalars) -> None:
        """Many points of a tag, after those taken before."""

    def take_value(self, value: Summary.Value, offset: int) -> None:
        """A value that is no scalar, of the record at `offset`. Raises BadSummary when its message is none."""

    def take_restart(self, step: int) -> None:
        """A session begins, as TensorFlow's `SessionLog.START` says it; the events after it are from `step` on."""


class Reads(Protocol):
    """Who reads single records, for what cannot be read as rows: a `Scanner`."""

    layouts: Layouts
    sink: Sink

    def read_one(self, data: memoryview, at: int, length: int, base: int) -> None:
        """Read the record at `at`, which is there and of that length."""

    def give_value(self, value: Summary.Value, offset: int) -> None:
        """Give the sink a value that is no scalar."""


class Stretch:
    """What is read of records in another order than theirs, to be handed on in theirs."""

    def __init__(self, scanner: Reads, data: bytes | bytearray, base: int) -> None:
        self._scanner = scanner
        self._data = data
        self._base = base
        self._parts: _Parts = {}
        self._singles: list[tuple[int, int, int]] = []

    def take_plain(self, offsets: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
        """Read the records of one scalar each, of which there are some of the same tag; the numbers of the others."""
        left, is_left = np.arange(len(offsets)), np.ones(len(offsets), np.bool_)
        for shape in tuple(self._scanner.layouts.shapes):
            if len(left) < FEWEST_PLAIN:
                break
            which, rows = taken_apart(self._data, offsets[left], lengths[left], shape)
            if len(which) >= FEWEST_PLAIN:
                is_left[self._take_shape(shape, rows, left[which])] = False
                left = np.flatnonzero(is_left)
        return left

    def _take_shape(self, shape: Shape, rows: Plain, order: NDArray[np.int64]) -> NDArray[np.int64]:
        """Read records that may have one shape, a tag after the other; the numbers of those that are read."""
        groups = Groups.of(rows.rest ^ rows.rest >> 16 ^ rows.sizes, rows.rest, rows.sizes)
        order, bodies, *columns = (column[groups.order] for column in (order, rows.bodies, *rows.columns))
        tails = rows.tails[groups.order] if shape.tail else rows.tails
        read = np.zeros(len(order), np.bool_)
        for which in np.flatnonzero(groups.sizes >= FEWEST).tolist():
            begin, size = groups.begins.item(which), groups.sizes.item(which)
            words = self._words(shape, rows, groups.order.item(begin))
            if words is not None:
                its = slice(begin, begin + size)
                read[its] = groups.like_first[its] & words.fit(self._data, bodies[its], tails[its])
                self._keep([words.tag], [column[its] for column in columns], order[its], read[its])
        return order[read]

    def _words(self, shape: Shape, rows: Plain, number: int) -> Words | None:
        """The words of the tag of a row; None where it has another shape, or its checksum fails."""
        known, size = self._scanner.layouts.words, rows.sizes.item(number)
        key = shape, rows.rest.item(number), size
        words = known.get(key)
        if words is None:
            body = rows.bodies.item(number)
            end = body + size + shape.back
            payload = bytes(self._data[body - rows.prefixes.item(number) : end])
            stored = int.from_bytes(self._data[end : end + 4], "little")
            layout = self._scanner.layouts.learned(payload) if stored == masked_crc32c(payload) else None
            words = Words.of(layout, size) if layout is not None else None
            if words is None or words.shape != shape:
                return None
            if len(known) < MOST_LAYOUTS:
                known[key] = words
        return words

    def take(self, rows: Rows, length: int, order: NDArray[np.int64], offsets: Any, stride: int = 0) -> None:
        """Read records of one length.

        Args:
          order: the number of each record in the stretch.
          offsets: where each is in the data, or the first of them where they are `stride` apart.
        """
        if stride:
            offsets = offsets + stride * np.arange(rows.size)
        for _ in range(MOST_FORMS):
            layout = self._layout_of(rows, 0, length)
            if layout is None or not (layout.slots or rows.size >= FEWEST_SKIPPED):
                break
            alike = layout.fits_form(rows)
            if alike.all():
                self._take_form(layout, rows, order, offsets)
                return
            fitting, others = np.flatnonzero(alike), np.flatnonzero(~alike)
            size = length + OVERHEAD
            self._take_form(layout, rows.taken(fitting, size), order[fitting], offsets[fitting])
            rows, order, offsets = rows.taken(others, size), order[others], offsets[others]
        self.take_singly(offsets, order, length)

    def _layout_of(self, rows: Rows, place: int, length: int) -> Layout | None:
        """The layout of one of the rows; None when it has none, or its checksum fails."""
        record = bytes(rows.column(0, f"V{length + OVERHEAD}")[place])
        payload = record[HEADER_SIZE:-4]
        if int.from_bytes(record[-4:], "little") != masked_crc32c(payload):
            return None
        found = self._scanner.layouts.read(payload)
        return found[0] if found else None

    def _take_form(self, layout: Layout, rows: Rows, order: NDArray[np.int64], offsets: NDArray[np.int64]) -> None:
        """Read records that differ from a layout in their tags at most."""
        decoded = layout.decoded(rows)
        if layout.fits_tags(rows).all():
            sound = layout.sound(rows, decoded, layout.fixed_crc)
            self._keep(layout.tags, decoded.columns(), order, sound)
        else:
            groups = layout.by_tags(rows)
            length = len(layout.sample)
            layouts = [self._layout_of(rows, first, length) for first in groups.order[groups.begins].tolist()]
            layouts = [its if its is not None and its.holes == layout.holes else None for its in layouts]
            fixed = np.array([its.fixed_crc if its else 0 for its in layouts], np.uint32)
            known = np.array([its is not None for its in layouts])
            fixed_crc = np.empty(rows.size, np.uint32)
            fixed_crc[groups.order] = np.repeat(fixed, groups.sizes)
            sound = layout.sound(rows, decoded, fixed_crc)
            sound[groups.order] &= groups.like_first & np.repeat(known, groups.sizes)
            columns, in_order = decoded.columns(groups.order), order[groups.order]
            for its, begin, size in zip(layouts, groups.begins.tolist(), groups.sizes.tolist(), strict=True):
                group = slice(begin, begin + size)
                if its is not None:
                    its_columns = [column[group] for column in columns]
                    self._keep(its.tags, its_columns, in_order[group], sound[groups.order[group]])
        if not sound.all():
            self.take_singly(offsets[~sound], order[~sound], len(layout.sample))

    def _keep(
        self, tags: Sequence[str], columns: Sequence[NDArray[Any]], order: NDArray[np.int64], sound: NDArray[np.bool_]
    ) -> None:
        """Keep the points of the records of some tags that are sound."""
        if not sound.all():
            kept = np.flatnonzero(sound)
            columns, order = [column[kept] for column in columns], order[kept]
        if len(order):
            steps, wall_times, *values = columns
            for tag, its in zip(tags, values, strict=True):
                self._parts.setdefault(tag, []).append((order, Scalars(steps, wall_times, its)))

    def take_singly(self, offsets: NDArray[np.int64], order: NDArray[np.int64], lengths: Any) -> None:
        """Let records be read one by one. Args: lengths: of each, or the one length of all."""
        lengths = np.broadcast_to(lengths, order.shape)
        self._singles += zip(order.tolist(), offsets.tolist(), lengths.tolist(), strict=True)

    def hand_on(self) -> None:
        """Give everything to the sink."""
        sink, singles = self._scanner.sink, self._read_singly(sorted(self._singles))
        for value, offset in singles.values:
            self._scanner.give_value(value, offset)
        for tag, part in singles.parts():
            self._parts.setdefault(tag, []).append(part)
        begin = -1
        for number, step in singles.restarts:
            _hand_on_points(self._parts_between(begin, number), sink)
            sink.take_restart(step)
            begin = number
        _hand_on_points(self._parts_between(begin), sink)

    def hand_on_apart(self, firsts: NDArray[np.int64], begins: Sequence[int], sinks: Sequence[Sink]) -> set[int]:
        """Give what stands in files, which lie one behind the other, to a sink of each.

        Args:
          firsts: the number of the first record of each. begins: where in the data each begins.

        Returns the files that are to be read by themselves: a session begins in them, or a summary is none.
        """
        apart: list[_Parts] = []
        left = set()
        remaining = sorted(self._singles)
        ends = np.searchsorted([number for number, _, _ in remaining], [*firsts[1:], 1 << 62]).tolist()
        for place, (begin, end, sink) in enumerate(zip([0, *ends[:-1]], ends, sinks, strict=True)):
            singles = self._read_singly(remaining[begin:end])
            apart.append({tag: [part] for tag, part in singles.parts()})
            try:
                for value, offset in singles.values:
                    sink.take_value(value, offset - begins[place])
            except BadSummary:
                left.add(place)
            if singles.restarts:
                left.add(place)
        for tag, parts in self._parts.items():
            for place, part in _by_file(firsts, parts):
                apart[place].setdefault(tag, []).append(part)
        for its_parts, sink in zip(apart, sinks, strict=True):
            _hand_on_points(its_parts, sink)
        return left

    def _read_singly(self, records: Sequence[tuple[int, int, int]]) -> _Singles:
        """Read records one by one. Args: records: number, offset and length of each."""
        singles = _Singles()
        scanner, sink = self._scanner, self._scanner.sink
        scanner.sink = singles
        with memoryview(self._data) as data:
            for singles.order, offset, length in records:
                scanner.read_one(data, offset, length, self._base)
        scanner.sink = sink
        return singles

    def _parts_between(self, begin: int, end: int | None = None) -> _Parts:
        """The points of the records behind one restart, and before the next one."""
        if begin < 0 and end is None:
            return self._parts
        found = {tag: _between(parts, begin, end) for tag, parts in self._parts.items()}
        return {tag: parts for tag, parts in found.items() if parts}


class _Singles:
    """A sink that remembers which record each point is from."""

    def __init__(self) -> None:
        self.order = 0
        self.values: list[tuple[Summary.Value, int]] = []
        self.restarts: list[tuple[int, int]] = []
        self._points: dict[str, list[tuple[int, int, float, float]]] = {}

    def take_point(self, tags: Sequence[str], step: int, wall_time: float, values: Sequence[float]) -> None:
        for tag, value in zip(tags, values, strict=True):
            self._points.setdefault(tag, []).append((self.order, step, wall_time, value))

    def take_points(self, tag: str, points: Scalars) -> None:
        for step, wall_time, value in zip(*(column.tolist() for column in points), strict=True):
            self.take_point((tag,), step, wall_time, (value,))

    def take_value(self, value: Summary.Value, offset: int) -> None:
        self.values.append((value, offset))

    def take_restart(self, step: int) -> None:
        self.restarts.append((self.order, step))

    def parts(self) -> Iterator[tuple[str, tuple[NDArray[np.int64], Scalars]]]:
        for tag, points in self._points.items():
            order, steps, wall_times, values = zip(*points, strict=True)
            yield tag, (np.array(order), Scalars(np.array(steps), np.array(wall_times), np.array(values)))


def _by_file(
    firsts: NDArray[np.int64], parts: list[tuple[NDArray[np.int64], Scalars]]
) -> Iterator[tuple[int, tuple[NDArray[np.int64], Scalars]]]:
    """Parts, the records of which are in order, cut where files begin: the file of each, and what is of it."""
    for order, points in parts:
        places = np.searchsorted(firsts, order, "right") - 1
        ends = [*(np.flatnonzero(places[1:] != places[:-1]) + 1).tolist(), len(order)]
        for begin, end in zip([0, *ends[:-1]], ends, strict=True):
            its = slice(begin, end)
            yield int(places[begin]), (order[its], points.taken(its))


def _hand_on_points(parts: _Parts, sink: Sink) -> None:
    """Give points to a sink, the tags in the order of their first records."""
    for tag, its in sorted(parts.items(), key=lambda item: min(int(order[0]) for order, _ in item[1])):
        sink.take_points(tag, _in_order(its))


def _between(parts: list[tuple[NDArray[np.int64], Scalars]], begin: int, end: int | None) -> list[Any]:
    """The points of one tag of the records behind `begin` and before `end`."""
    found = []
    for order, points in parts:
        which = np.flatnonzero((order > begin) & (order < (1 << 62 if end is None else end)))
        if len(which):
            found.append((order[which], points.taken(which)))
    return found


def _in_order(parts: list[tuple[NDArray[np.int64], Scalars]]) -> Scalars:
    """The points of one tag, in the order of their records."""
    if len(parts) == 1:
        return parts[0][1]
    parts = sorted(parts, key=lambda part: int(part[0][0]))
    columns = [np.concatenate(column) for column in zip(*(points for _, points in parts), strict=True)]
    if any(before[-1] > after[0] for (before, _), (after, _) in itertools.pairwise(parts)):
        order = np.argsort(np.concatenate([order for order, _ in parts]), kind="stable")
        columns = [column[order] for column in columns]
    return Scalars(*columns)
