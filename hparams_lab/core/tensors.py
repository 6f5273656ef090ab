"""Tensors and arrays of any framework, recognised by the names of their classes: none is imported for it.

A tensor is what has a shape and numbers: of NumPy, PyTorch (on a GPU too, with a graph or without), TensorFlow, JAX and
Keras, and variables of theirs. A symbolic one stands for a value while a function is traced, and has none.
"""

from __future__ import annotations

import contextlib
import math
import sys
from typing import Any

from hparams_lab.core.errors import UsageError

_SYMBOLIC = {
    ("tensorflow", "SymbolicTensor"), ("jax", "Tracer"), ("keras", "KerasTensor"), ("torch", "Proxy"),
    ("torch", "FakeTensor"), ("torch", "SymInt"), ("torch", "SymFloat"), ("torch", "SymBool"),
}  # fmt: skip
_PLAIN = (float, int, bool, str, type(None))


class SymbolicError(UsageError):
    """A symbolic tensor where a value is wanted: it has none while its function is traced."""

    def __init__(self, what: str, value: object) -> None:
        super().__init__(
            f"{what} is a symbolic tensor ({type(value).__name__}), which has no value while its function is traced; "
            "return it from that function (tf.function, jax.jit, ...) and log it outside"
        )

    def __reduce__(self) -> tuple[type[UsageError], tuple[object, ...]]:
        return UsageError, self.args


def is_tensor(value: Any) -> bool:
    """Whether `value` says that it has a shape."""
    return not isinstance(value, type) and shape_of(value) is not None


def shape_of(value: Any) -> tuple[int | None, ...] | None:
    """The shape of a tensor, None for a length that is not known; None for what is no tensor."""
    with contextlib.suppress(Exception):  # of unknown rank, or of a class of somebody's own
        shape = value.shape
        return tuple(None if length is None else int(length) for length in shape)
    return None


def size_of(shape: tuple[int | None, ...]) -> int | None:
    """How many elements there are; None where that is not known."""
    known = [length for length in shape if length is not None]
    return math.prod(known) if len(known) == len(shape) else None


def is_symbolic(value: Any) -> bool:
    """Whether `value` stands for what a traced function will compute: `tf.function`, `jax.jit`, `torch.vmap`, ..."""
    if type(value) in _PLAIN:
        return False
    kinds = {(kind.__module__.partition(".")[0], kind.__name__) for kind in type(value).__mro__}
    if kinds & _SYMBOLIC:
        return True
    if inner(value) is not value:
        return is_symbolic(inner(value))
    if ("tensorflow", "Variable") in kinds:  # which is a Tensor too
        return not sys.modules["tensorflow"].executing_eagerly()
    if ("tensorflow", "Tensor") in kinds:
        return ("tensorflow", "EagerTensor") not in kinds
    with contextlib.suppress(Exception):  # names that a version of theirs may lack
        return ("torch", "Tensor") in kinds and bool(sys.modules["torch"]._C._functorch.is_batchedtensor(value))
    return False


def inner(value: Any) -> Any:
    """The tensor of a variable of Keras; anything else as it is."""
    return value.value if type(value).__module__.startswith("keras.") and hasattr(value, "value") else value


def detached(value: Any) -> Any:
    """A tensor without the graph that it is computed by, where NumPy and Python can read it; others as they are."""
    value = inner(value)
    if not hasattr(value, "shape"):
        return value
    if hasattr(value, "detach"):
        return value.detach()
    return value.numpy() if hasattr(value, "numpy") else value


def listed(value: Any) -> Any:
    """The elements of a tensor as nested lists; a plain value for one without axes. Raises as its framework does."""
    value = detached(value)
    return (value if hasattr(value, "tolist") else value.__array__()).tolist()


def plain_of(value: Any) -> Any:
    """Plain Python from a tensor without axes, a float by `shortest`; anything else as it is."""
    if shape_of(value) != () or is_symbolic(value):
        return value
    with contextlib.suppress(Exception):  # a tensor of what is no number, or without its data
        plain = listed(value)
        return shortest(plain, _name_of_type(value)) if isinstance(plain, float) else plain
    return value


def whole_of(value: Any) -> int | None:
    """A whole number out of whatever type has one, a tensor of one element too; None for all else, and for bools."""
    with contextlib.suppress(Exception):
        plain = only(listed(value)) if is_tensor(value) else value
        whole = int(plain)
        return None if isinstance(plain, bool) or whole != plain else whole
    return None


def only(nested: Any) -> Any:
    """The one element of nested lists. Raises ValueError for more."""
    while isinstance(nested, list):
        (nested,) = nested
    return nested


def shortest(number: float, kind: str) -> float:
    """The shortest decimal that a narrow type of floats holds as `number`: of "float32" 0.10000000149011612 it is 0.1.

    The decimal nearest to the number among those, as NumPy prints it; the number itself for other types.
    """
    if kind not in _NARROW or not math.isfinite(number):
        return number
    bits, least = _NARROW[kind]

    def rounded(decimal: float) -> float:
        unit = math.ldexp(1.0, max(math.frexp(decimal)[1] - bits, least))
        return round(decimal / unit) * unit

    for digits in range(1, 17):
        half = 10.0 ** (math.floor(math.log10(abs(number) or 1.0)) - digits + 1) / 2
        for near in (number, number + math.copysign(half, number)):  # the nearest decimal, and the one farther from 0
            decimal = float(f"{near:.{digits}g}")
            if rounded(decimal) == number:
                return decimal
    return number


_NARROW = {
    "float32": (24, -149), "float16": (11, -24), "bfloat16": (8, -133),
    "float8_e4m3fn": (4, -9), "float8_e5m2": (3, -16),
}  # fmt: skip
"""Types of floats: the bits of the significand, and the exponent of the smallest number."""


def shortest_of(nested: Any, tensor: Any) -> Any:
    """Nested lists of a tensor's elements, each float the `shortest` of its type."""
    if isinstance(nested, list):
        return [shortest_of(part, tensor) for part in nested]
    return shortest(nested, _name_of_type(tensor)) if isinstance(nested, float) else nested


def _name_of_type(value: Any) -> str:
    dtype = getattr(value, "dtype", "")
    return str(getattr(dtype, "name", None) or dtype).rpartition(".")[2]
