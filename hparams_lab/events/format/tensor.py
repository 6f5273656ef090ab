"""The number of a summary value: a `simple_value`, or a tensor without dimensions as TensorFlow 2 writes it.

A tensor's shape is checked against its bytes before anything is made of either.
Source: https://github.com/tensorflow/tensorboard/blob/2.21.0/tensorboard/compat/proto/tensor.proto
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from tensorboard.compat.proto import types_pb2 as types
from tensorboard.compat.proto.summary_pb2 import Summary

LARGEST_TENSOR = 2**31 - 1
"""More elements than this are no summary's; whoever believes in them runs out of memory."""

# By type: NumPy's name of its bytes, and the field that holds values one by one.
_FORMS = {
    types.DT_FLOAT: ("<f4", "float_val"),
    types.DT_DOUBLE: ("<f8", "double_val"),
    types.DT_INT32: ("<i4", "int_val"),
    types.DT_UINT8: ("<u1", "int_val"),
    types.DT_INT16: ("<i2", "int_val"),
    types.DT_INT8: ("<i1", "int_val"),
    types.DT_INT64: ("<i8", "int64_val"),
    types.DT_BOOL: ("?", "bool_val"),
    types.DT_BFLOAT16: ("<u2", "half_val"),
    types.DT_UINT16: ("<u2", "int_val"),
    types.DT_HALF: ("<f2", "half_val"),
    types.DT_UINT32: ("<u4", "uint32_val"),
    types.DT_UINT64: ("<u8", "uint64_val"),
}


class BadTensor(ValueError):
    """The shape of a tensor and its bytes contradict each other."""


def scalar_of(value: Summary.Value) -> float | None:
    """The scalar of a summary value, as TensorFlow 1 or 2 writes it; None when it is no scalar. Raises BadTensor."""
    kind = value.WhichOneof("value")
    if kind == "simple_value":
        return float(value.simple_value)
    if kind != "tensor" or value.tensor.dtype not in _FORMS:
        return None
    dtype, field = _FORMS[value.tensor.dtype]
    shape = [dim.size for dim in value.tensor.tensor_shape.dim]
    values = getattr(value.tensor, field)
    _check(shape, values, value.tensor.tensor_content, np.dtype(dtype).itemsize)
    return None if shape else _number(value.tensor.dtype, values, value.tensor.tensor_content, dtype)


def _check(shape: list[int], values: Any, content: bytes, width: int) -> None:
    if any(size < 0 for size in shape) or math.prod(shape) > LARGEST_TENSOR:
        raise BadTensor(f"its shape is {shape[:8]}")
    count = math.prod(shape)
    if content and len(content) != count * width:
        raise BadTensor(f"its shape {shape[:8]} takes {count * width} bytes, it has {len(content)}")
    if len(values) > count:
        raise BadTensor(f"its shape {shape[:8]} takes {count} values, it has {len(values)}")


def _number(dtype: int, values: Any, content: bytes, form: str) -> float:
    """The one number of a tensor; 0 where nothing is stored, as TensorFlow has it."""
    if not content:
        if not values:
            return 0.0
        if dtype not in (types.DT_HALF, types.DT_BFLOAT16):
            return float(values[0])
        content = (int(values[0]) & 0xFFFF).to_bytes(2, "little")
    if dtype == types.DT_BFLOAT16:
        content, form = b"\0\0" + content, "<f4"
    return float(np.frombuffer(content, form)[0])
