"""The number of a tensor is what TensorBoard's own reader makes of it."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from slow_reader import NUMBERS, number_of
from tensorboard.compat.proto import types_pb2
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.util.tensor_util import make_ndarray

from hparams_lab.events.format.tensor import BadTensor, scalar_of


def value(dtype: int, dims=(), content: bytes = b"", **values) -> Summary.Value:
    found = Summary.Value(tag="t", tensor=TensorProto(dtype=dtype, tensor_content=content, **values))
    found.tensor.tensor_shape.SetInParent()
    for size in dims:
        found.tensor.tensor_shape.dim.add(size=size)
    return found


@pytest.mark.parametrize("dtype", NUMBERS, ids=types_pb2.DataType.Name)
def test_each_type_in_both_forms(dtype):
    form, name = NUMBERS[dtype]
    bits = {types_pb2.DT_HALF: 0x3E00, types_pb2.DT_BFLOAT16: 0x3FC0}.get(dtype, 1)
    stored = bits if name == "half_val" else np.array(1, form).item()
    kind = "<u2" if name == "half_val" else form
    content = np.array(bits if name == "half_val" else 1, kind).tobytes()
    expected = 1.5 if name == "half_val" else 1.0
    for one in (value(dtype, **{name: [stored]}), value(dtype, content=content)):
        assert scalar_of(one) == expected == number_of(one.tensor)[1]
        if dtype not in (types_pb2.DT_BFLOAT16, types_pb2.DT_UINT32, types_pb2.DT_UINT64):  # unknown to it
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                assert float(make_ndarray(one.tensor)) == expected
    assert scalar_of(value(dtype)) == 0.0


def test_a_simple_value_and_what_is_no_number():
    assert scalar_of(Summary.Value(tag="t", simple_value=0.5)) == 0.5
    assert math.isnan(scalar_of(Summary.Value(tag="t", simple_value=math.nan)))
    assert scalar_of(Summary.Value(tag="t")) is None
    assert scalar_of(value(types_pb2.DT_STRING, string_val=[b"1"])) is None
    assert scalar_of(value(types_pb2.DT_FLOAT, [1], float_val=[1])) is None
    assert scalar_of(value(types_pb2.DT_FLOAT, [2, 0])) is None
    assert scalar_of(Summary.Value(tag="t", image=Summary.Image())) is None


@pytest.mark.parametrize(
    "bad",
    [
        value(types_pb2.DT_FLOAT, [-1]), value(types_pb2.DT_FLOAT, [2**40]), value(types_pb2.DT_FLOAT, [2**32, 2**32]),
        value(types_pb2.DT_FLOAT, content=b"123"), value(types_pb2.DT_FLOAT, content=b"12345678"),
        value(types_pb2.DT_FLOAT, float_val=[1, 2]), value(types_pb2.DT_FLOAT, [3], b"1234"),
        value(types_pb2.DT_FLOAT, [0], b"1234"), value(types_pb2.DT_DOUBLE, content=b"1234"),
    ],
)  # fmt: skip
def test_shape_and_bytes_that_contradict_each_other(bad):
    with pytest.raises(BadTensor, match="its shape"):
        scalar_of(bad)
