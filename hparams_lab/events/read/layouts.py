"""`Layouts`: the layouts that records have had so far; what was learned of one file is known of the next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from tensorboard.compat.proto.event_pb2 import Event

from hparams_lab.events.format.crc import masked_crc32c
from hparams_lab.events.format.record import LARGEST
from hparams_lab.events.read.layout import Layout, Point
from hparams_lab.events.read.plain import SIMPLE, Shape, Words, shape_of
from hparams_lab.events.read.wire import LONGEST, layout_of

MOST_LAYOUTS = 4096
"""So many layouts are remembered."""

MOST_SHAPES = 8
"""So many shapes of records of one scalar are looked for."""

MOST_FORMS = 32
"""So many different forms of records of one length are; records of yet others are read one by one."""


MOST_TRIES = 4
"""After so many records of a length that hold no scalars, it is not learned any more where records are read singly."""


class _Form(NamedTuple):
    """The layouts that differ in their fixed bytes only, and what takes their payloads apart."""

    unpack: Callable[[bytes], tuple[Any, ...]]
    layouts: dict[tuple[bytes, ...], Layout]


_NONE: dict[object, _Form] = {}


class Layouts:
    """The layouts that records have had so far."""

    def __init__(self) -> None:
        self._forms: dict[int, dict[object, _Form]] = {}  # by length, then by what varies
        self._tries: dict[int, int] = {}
        self._count = 0
        self.length_crcs: dict[int, int] = {}
        self.shapes: dict[Shape, None] = {SIMPLE: None}
        """The shapes of records of one scalar."""
        self.words: dict[tuple[Shape, int, int], Words] = {}
        """The words of tags, by their shape, checksum and bytes."""

    @property
    def size(self) -> int:
        """How many there are."""
        return self._count

    def read(self, payload: bytes) -> tuple[Layout, Point] | None:
        """The layout of a payload and what it says; None when it has none."""
        return self._known(payload) or self._kept(payload)

    def read_single(self, payload: bytes) -> tuple[Layout, Point] | None:
        """As `read`, where it pays to learn a layout: of scalars, and from the second payload of a length on.

        Args: payload: of at most `LONGEST` bytes.
        """
        length = len(payload)
        tries = self._tries.get(length)
        if tries is None:
            if length not in self._forms:
                self._tries[length] = MOST_TRIES
                return None
            tries = 0
        found = self._known(payload)
        if found is not None or not tries or self._count >= MOST_LAYOUTS:
            return found
        found = self._kept(payload)
        if found is None or not found[0].slots:
            self._tries[length] = tries - 1
        return found

    def _known(self, payload: bytes) -> tuple[Layout, Point] | None:
        for unpack, layouts in self._forms.get(len(payload), _NONE).values():
            found = unpack(payload)
            layout = layouts.get(found[::2])
            if layout is not None:
                point = layout.point(found)
                if point is not None:
                    return layout, point
        return None

    def learned(self, payload: bytes) -> Layout | None:
        """The layout of a payload, which is not kept; None when it has none."""
        found = layout_of(payload)
        return found if found is not None and _is_event(payload) else None

    def _kept(self, payload: bytes) -> tuple[Layout, Point] | None:
        """As `learned`, and kept where there is room."""
        layout = self.learned(payload)
        if layout is None:
            return None
        forms = self._forms.setdefault(len(payload), {})
        if self._count < MOST_LAYOUTS and len(forms) < MOST_FORMS:
            self._count += 1
            forms.setdefault(layout.holes, _Form(layout.unpack, {})).layouts[layout.fixed] = layout
            shape = shape_of(layout)
            if shape is not None and len(self.shapes) < MOST_SHAPES:
                self.shapes[shape] = None
        point = layout.one(payload)
        return None if point is None else (layout, point)

    def length_is_sound(self, length: int, crc: int) -> bool:
        """Whether that is the checksum of a length."""
        known = self.length_crcs.get(length)
        if known is None:
            known = masked_crc32c(length.to_bytes(8, "little"))
            if length <= LARGEST and len(self.length_crcs) < LONGEST:
                self.length_crcs[length] = known
        return known == crc


def _is_event(payload: bytes) -> bool:
    """Whether protobuf finds no fault with a payload, nor with the parts of it that a layout only skips."""
    try:
        Event.FromString(payload)
    except Exception:  # protobuf's DecodeError has no stable home across its versions
        return False
    return True
