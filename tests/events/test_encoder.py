"""The encoder of scalars, byte for byte what protobuf and the framing say, for one row as for many."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hparams_lab.events.format import summaries
from hparams_lab.events.format.event_file import read_events, summary_event
from hparams_lab.events.write.encoder import _CHUNK, FEW, ScalarEncoder

STEP_BOUNDS = [0, 1, 2**7 - 1, 2**7, 2**14 - 1, 2**14, 2**21 - 1, 2**21, 2**28 - 1, 2**28, 2**31 - 1]
VALUES = [0.0, -0.0, math.nan, math.inf, -math.inf, 5e-324, 1e-45, 1e-40, 3.4028235677973366e38, 3.5e38, 1e300, -1e300]

tags = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300)
steps = st.sampled_from(STEP_BOUNDS) | st.integers(0, 2**31 - 1)
values = st.sampled_from(VALUES) | st.floats()
times = st.floats(min_value=1e-3, max_value=1e11)
points = st.tuples(steps, times, values)


def by_protobuf(tag, rows):
    """The records one by one, each built as a message."""
    return b"".join(summary_event(summaries.scalars({tag: value}), step, time) for step, time, value in rows)


def encode(tag, rows, encoder=None):
    steps, times, values = zip(*rows, strict=True) if rows else ((), (), ())
    arrays = np.array(steps, np.int64), np.array(times, np.float64), np.array(values, np.float64)
    return (encoder or ScalarEncoder(tag)).encode(*arrays)


@given(tags, st.lists(points, max_size=FEW - 1))
def test_few_rows(tag, rows):
    assert encode(tag, rows) == by_protobuf(tag, rows)


@given(tags, st.lists(points, min_size=FEW, max_size=2 * FEW))
def test_scattered_steps(tag, rows):
    assert encode(tag, rows) == by_protobuf(tag, rows)


@settings(max_examples=25)
@given(tags, st.sampled_from(STEP_BOUNDS), times, st.lists(values, min_size=4 * FEW, max_size=300))
def test_many_rows_across_a_varint_length(tag, bound, time, values):
    """Steps that grow by one go through at most two lengths: the rows of each are encoded as one matrix."""
    first = max(0, min(bound, 2**31 - 1 - len(values)) - len(values) // 2)
    rows = [(first + number, time + number / 64, value) for number, value in enumerate(values)]
    assert encode(tag, rows) == by_protobuf(tag, rows)


@given(tags, points, st.integers(FEW, 3 * FEW))
def test_rows_that_are_all_the_same(tag, point, count):
    assert encode(tag, [point] * count) == by_protobuf(tag, [point] * count)


@pytest.mark.parametrize("tag", ["x", "a" * 300, "ü試\n\0", "loss/val"], ids=len)
def test_more_than_a_chunk_in_two_calls_of_one_encoder(tag):
    rows = [(step, 1.7e9 + step / 10, 1 / (step + 1)) for step in range(_CHUNK + 500)]
    encoder = ScalarEncoder(tag)
    assert encode(tag, rows[:-7], encoder) + encode(tag, rows[-7:], encoder) == by_protobuf(tag, rows)


@pytest.mark.parametrize("count", [1, FEW, 3 * FEW])
def test_columns_of_a_larger_array_need_not_be_contiguous(count):
    table = np.array([(step, 1.5 + step, -step / 3) for step in range(2 * count)])
    kept = table[::2]
    data = ScalarEncoder("x").encode(kept[:, 0].astype(np.int64), kept[:, 1], kept[:, 2])
    assert data == by_protobuf("x", [(int(step), time, value) for step, time, value in kept.tolist()])


def test_what_the_reader_makes_of_it():
    rows = [(step, 1.5, value) for step in STEP_BOUNDS for value in VALUES]
    findings = []
    events = list(read_events(encode("loss", rows), findings))
    assert findings == []
    assert [event.step for event in events] == [step for step, _, _ in rows]
    with np.errstate(over="ignore"):
        narrow = np.array([value for _, _, value in rows]).astype(np.float32)
    np.testing.assert_array_equal([event.summary.value[0].simple_value for event in events], narrow)
