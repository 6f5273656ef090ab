"""Values of hyperparameters: plain Python out of NumPy, one canonical form, ids from it, text in and out.

A value is a `bool`, `int`, `float`, `str` or `None`. Two values are the same when their canonical forms are:
16, 16.0 and `np.int64(16)` are one number, `np.float32(0.1)` is 0.1 (its shortest decimal), and `True` is not 1.
"""

from __future__ import annotations

import ast
import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any, TypeAlias

from hparams_lab.errors import HParamValueError, UsageError

Value: TypeAlias = bool | int | float | str | None

LARGEST_INTEGER = 2**53
"""TensorBoard keeps numbers as doubles; beyond this, integers are no longer told apart."""


def unwrap(value: Any) -> Any:
    """Plain Python from a NumPy scalar or 0-d array; anything else as it is.

    Floats narrower than a double become the shortest decimal that means them: `np.float32(0.1)` is 0.1.
    """
    dtype = getattr(value, "dtype", None)
    if dtype is None or getattr(value, "ndim", None) != 0 or not hasattr(value, "item"):
        return value
    plain = value.item()
    from_numpy = type(value).__module__ == "numpy"
    narrow = from_numpy and isinstance(plain, float) and dtype.itemsize < 8 and math.isfinite(plain)
    return float(str(value)) if narrow else plain


def checked(name: str, value: Any) -> Value:
    """`value` as plain Python, if TensorBoard can hold it as the hparam `name`.

    Raises HParamValueError for other types, for NaN and infinities, and for integers beyond 2**53.
    """
    plain = unwrap(value)
    if plain is None or isinstance(plain, (bool, str)):
        return str.__str__(plain) if isinstance(plain, str) else plain
    if not isinstance(plain, (int, float)):
        raise HParamValueError(
            f"hparam {name!r} is {value!r} ({type(value).__name__}); "
            "wanted a bool, a number, a string or None (or their NumPy scalars)"
        )
    if isinstance(plain, float) and not math.isfinite(plain):
        raise HParamValueError(f"hparam {name!r} is {plain!r}, which TensorBoard drops; give a finite number")
    if isinstance(plain, int) and abs(plain) > LARGEST_INTEGER:
        raise HParamValueError(
            f"hparam {name!r} is {plain}, beyond 2**53 where TensorBoard's numbers lose digits; give it as a string"
        )
    return plain


def canonical(value: Value) -> Value:
    """The one form of a value: a float without a fraction becomes the integer that it equals."""
    if isinstance(value, float) and value.is_integer() and abs(value) <= LARGEST_INTEGER:
        return int(value)
    return value


def trial_id(hparams: Mapping[str, Value]) -> str:
    """16 hexadecimal digits that name a trial: the SHA-256 of its canonical values as sorted JSON."""
    plain = {name: canonical(value) for name, value in hparams.items()}
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]


def parse_literal(text: str) -> Value:
    """A value as a person types it: `16`, `1e-3`, `true`, `None`, `'quoted'`, or a bare word, which is a string.

    Nothing is evaluated. Raises UsageError on an empty text or a literal that is not a single value.
    """
    text = text.strip()
    words: dict[str, Value] = {"true": True, "false": False, "none": None, "null": None}
    if text.lower() in words:
        return words[text.lower()]
    if not text:
        raise UsageError("an empty value; wanted a number, true, false, None or a word ('' for the empty string)")
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
    if isinstance(value, (bool, int, float, str)):
        return value
    raise UsageError(f"{text!r} is a {type(value).__name__}; wanted a single number, true, false, None or a word")


def format_value(value: object) -> str:
    """A value as a person reads it: floats in their shortest form with at most 6 digits, strings as they are."""
    if isinstance(value, float) and not isinstance(value, bool):
        return f"{value:.6g}"
    return str(value)


LARGEST_STEP = 2**31 - 1
"""A step above this answers 500 for the whole directory in TensorBoard's HParams tab."""

LARGEST_SCALAR = 3.4028235677973366e38
"""Beyond this a value is infinite in the 32 bits that TensorBoard's scalars have."""

RESERVED_TAGS = "_hparams_/"
"""Where TensorBoard's HParams plugin keeps its own."""


def checked_tag(tag: Any) -> str:
    """`tag`, if TensorBoard can show it. Raises UsageError."""
    if not isinstance(tag, str) or not tag.strip():
        raise UsageError(f"a metric has the name {tag!r} ({type(tag).__name__}); wanted a string that is not empty")
    if tag.startswith(RESERVED_TAGS):
        raise UsageError(
            f"a metric has the name {tag!r}; names that begin with {RESERVED_TAGS!r} are TensorBoard's own"
        )
    try:
        tag.encode()
    except UnicodeEncodeError:
        raise UsageError(f"a metric has the name {tag!r}, which is not valid Unicode text; give another name") from None
    return tag


def checked_step(step: Any) -> int:
    """`step` as an integer that TensorBoard can show. Raises UsageError."""
    plain = unwrap(step)
    if getattr(step, "ndim", None) == 0 and not isinstance(plain, (int, float)):
        plain = int(step)  # a tensor
    if isinstance(plain, bool) or not isinstance(plain, int) or not 0 <= plain <= LARGEST_STEP:
        raise UsageError(
            f"step is {short(step)}; wanted a whole number from 0 to 2**31-1, which is what TensorBoard can show"
        )
    return plain


def as_float(tag: str, value: Any) -> float:
    """`value` as a float: numbers, bools, 0-d arrays and tensors of any framework. Raises UsageError."""
    if not isinstance(value, (str, bytes)) and getattr(value, "ndim", 0) == 0:
        try:
            return float(value)
        except (TypeError, ValueError, OverflowError):
            pass
    shape = f" of shape {tuple(value.shape)}" if hasattr(value, "shape") else ""
    raise UsageError(f"metric {tag!r} is {short(value)} ({type(value).__name__}{shape}); wanted a single number")


def short(value: object) -> str:
    """`repr(value)` in a line of at most 60 characters."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else text[:57] + "..."
