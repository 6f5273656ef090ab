"""Values of hyperparameters: plain Python out of NumPy, one canonical form, ids from it, text in and out.

A value is a `bool`, `int`, `float`, `str` or `None`. Two values are the same when their canonical forms are:
16, 16.0 and `np.int64(16)` are one number, `np.float32(0.1)` is 0.1 (its shortest decimal), and `True` is not 1.
"""

from __future__ import annotations

import ast
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from hparams_lab.core.errors import HParamValueError, UsageError
from hparams_lab.core.tensors import plain_of

Value: TypeAlias = bool | int | float | str | None

_PLAIN = (bool, int, float, str, type(None))

LARGEST_INTEGER = 2**53
"""TensorBoard keeps numbers as doubles; beyond this, integers are no longer told apart."""


def unwrap(value: Any) -> Any:
    """Plain Python from a NumPy scalar, or an array or tensor without axes; anything else as it is.

    Floats narrower than a double become the shortest decimal that means them: `np.float32(0.1)` is 0.1.
    """
    return value if type(value) in _PLAIN else plain_of(value)


def checked(name: str, value: Any) -> Value:
    """`value` as plain Python, if TensorBoard can hold it as the hparam `name`.

    Raises HParamValueError for other types, NaN and infinities, integers beyond 2**53, and text that UTF-8 cannot hold.
    """
    plain = unwrap(value)
    if isinstance(plain, str):
        return _checked_text(name, str.__str__(plain))
    if plain is None or isinstance(plain, bool):
        return plain
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


def _checked_text(name: str, text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise HParamValueError(
            f"hparam {name!r} is {short(text)}, which holds half of a surrogate pair and is no text; give it whole"
        ) from None
    return text


def cast_number(name: str, value: Any, dtype: type) -> Value:
    """`value` as `dtype` (`bool`, `int`, `float` or `str`) without changing what it says, or HParamValueError."""
    plain = checked(name, value)
    is_number = isinstance(plain, (int, float)) and not isinstance(plain, bool)
    if dtype is int and is_number and float(plain or 0).is_integer():
        return checked(name, int(plain or 0))
    if dtype is float and is_number:
        return float(plain or 0)
    if type(plain) is dtype:
        return plain
    raise HParamValueError(f"hparam {name!r} is {plain!r} ({type(plain).__name__}); wanted {_IN_WORDS[dtype]}")


_IN_WORDS = {bool: "True or False", int: "a whole number", float: "a number", str: "a string"}


def canonical(value: Value) -> Value:
    """The one form of a value: a float without a fraction becomes the integer that it equals."""
    if isinstance(value, float) and value.is_integer() and abs(value) <= LARGEST_INTEGER:
        return int(value)
    return value


def key_of(value: object) -> tuple[str, str]:
    """What tells values apart, for use in a set: 1, 1.0 and `np.int64(1)` have one key; True and "1" have others."""
    plain = canonical(unwrap(value))
    return type(plain).__name__, repr(plain)


_CANONICAL_JSON = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def trial_id(hparams: Mapping[str, Value]) -> str:
    """16 hexadecimal digits that name a trial: the SHA-256 of its canonical values as sorted JSON."""
    plain = {name: canonical(value) for name, value in hparams.items()}
    return hashlib.sha256(_CANONICAL_JSON.encode(plain).encode("ascii")).hexdigest()[:16]


def lone_id(run: str) -> str:
    """16 hexadecimal digits that name the trial of a run without a group name, by the run's own name.

    No values make the same, as what is hashed is no JSON.
    """
    return hashlib.sha256(f"run {run}".encode("utf-8", "surrogatepass")).hexdigest()[:16]


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


def told_apart(values: Sequence[object]) -> list[str]:
    """Values as a person reads them, with all their digits where fewer would make two different ones look the same."""
    texts = [format_value(value) for value in values]
    meant: dict[str, set[tuple[str, str]]] = {}
    for text, value in zip(texts, values, strict=True):
        meant.setdefault(text, set()).add(key_of(value))
    return [repr(value) if len(meant[text]) > 1 else text for text, value in zip(texts, values, strict=True)]


def name_of(hparam: Any) -> str:
    """The name of an hparam given by name or as an object."""
    return hparam if isinstance(hparam, str) else str(hparam.name)


def short(value: object) -> str:
    """`repr(value)` in a line of at most 60 characters."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else text[:57] + "..."
