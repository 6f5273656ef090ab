"""An object as text: what it is and how it is configured, the same at each start of a program.

    Adam(beta_1=0.9, learning_rate=0.001, ...)      class and configuration, as the object or its attributes say it
    lambda x: 2 * x                                 a lambda by its source
    make.<locals>.step#1f0c23ab(rate=0.1)           another local function: a hash of its code, and what it closes over
    /data, adam, inf                                paths, members of an enumeration, numbers

No memory address stands in it, sets are in a fixed order, and an object within itself is "...".
"""

from __future__ import annotations

import contextlib
import inspect
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from hparams_lab.core.functions import function_text
from hparams_lab.core.tensors import is_symbolic, listed, shape_of, shortest, shortest_of, size_of
from hparams_lab.core.values import LARGEST_INTEGER, unwrap
from hparams_lab.core.warned import warn_caller

MOST_ELEMENTS = 10_000
"""Of a larger array there are the shape, the type and a hash."""

MOST_PARTS = 20_000
"""So many parts of an object are looked at."""

DEEPEST = 50

_MACHINERY = ("_thread", "_io", "weakref", "_weakref")
"""What objects hold of these is no configuration."""

_PLAIN = (bool, int, float, complex, str, bytes)

Tell = Callable[[str], None]
"""Told what cannot be told apart from others of its kind, and why."""


def as_text(value: Any, tell: Tell = lambda what: None) -> Any:
    """What TensorBoard holds as it is; infinities, integers beyond 2**53 and all else as text, JSON where it has that.

    `tell` is called for objects whose text may be that of another one, too.
    """
    plain = unwrap(value)
    if isinstance(plain, str):
        return str.__str__(plain).encode("utf-8", "backslashreplace").decode()
    if plain is None or isinstance(plain, bool):
        return plain
    if isinstance(plain, (int, float)):
        fits = math.isfinite(plain) if isinstance(plain, float) else abs(plain) <= LARGEST_INTEGER
        return plain if fits else str(plain)
    describe = _Described(tell)
    if isinstance(plain, (list, tuple, dict)) and not hasattr(plain, "_fields"):
        return describe.json(plain)
    return describe.text(plain, top=True).encode("utf-8", "backslashreplace").decode()


_said: set[tuple[str, str]] = set()


def tell_alike(name: str, why: str) -> None:
    """Warn that values of the hparam `name` cannot be told apart, once in a process."""
    if (name, why) not in _said:
        _said.add((name, why))
        warn_caller(
            f"hparam {name!r}: {why}, so two that differ may be one trial; log what differs as an hparam of its own"
        )


@dataclass(frozen=True, slots=True)
class Made:
    """A class, and the values by which an object of it is configured; `said` is what it says of itself before them."""

    kind: str
    config: Mapping[str, Any]
    said: str = ""


class _Described:
    """The text of one value. Keeps what is being described, so that a circle ends, and counts the parts."""

    def __init__(self, tell: Tell) -> None:
        self._told: set[str] = set()
        self._tell_once = tell
        self._within: list[int] = []
        self._parts = 0

    def _tell(self, what: str) -> None:
        if what not in self._told:
            self._told.add(what)
            self._tell_once(what)

    def json(self, value: Any) -> str:
        """A list or a dict as JSON, what JSON lacks in it as text."""
        with contextlib.suppress(TypeError, ValueError, RecursionError):
            return json.dumps(value, sort_keys=True)
        return json.dumps(self._plain(value), sort_keys=True)

    def _plain(self, value: Any) -> Any:
        value = unwrap(value)
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if not isinstance(value, (list, tuple, dict)) or hasattr(value, "_fields"):
            return self._array(value) or self.text(value, top=True)
        if self._is_enough(value):
            return "..."
        self._within.append(id(value))
        try:
            if isinstance(value, dict):
                return {self._key(key): self._plain(part) for key, part in value.items()}
            return [*map(self._plain, value)]
        finally:
            self._within.pop()

    def _key(self, key: Any) -> str:
        return key if isinstance(key, str) else str(self.text(key, top=True))

    def text(self, value: Any, top: bool = False) -> str:
        """Any value as text. At the `top` a string stands without quotes."""
        value = unwrap(value)
        if (value is None or isinstance(value, _PLAIN)) and not isinstance(value, Enum):
            return str(value) if top and isinstance(value, str) else repr(value)
        if (found := _word(value)) is not None:
            return found if top else repr(found)
        if (found := _named(value)) is not None:
            return found
        if self._is_enough(value):
            return "..."
        self._within.append(id(value))
        try:
            return self._of_parts(value)
        finally:
            self._within.pop()

    def _is_enough(self, value: Any) -> bool:
        self._parts += 1
        if self._parts == MOST_PARTS or len(self._within) == DEEPEST:
            self._tell(f"{_kind(value)} is too large to be told whole")
        return id(value) in self._within or len(self._within) >= DEEPEST or self._parts >= MOST_PARTS

    def _of_parts(self, value: Any) -> str:
        if isinstance(value, Mapping):
            pairs = sorted((self.text(key), self.text(part)) for key, part in value.items())
            body = "{" + ", ".join(f"{key}: {part}" for key, part in pairs) + "}"
            return body if type(value) is dict else f"{_kind(value)}({body})"
        if isinstance(value, (set, frozenset)):
            return "{" + ", ".join(sorted(map(self.text, value))) + "}" if value else "{}"
        if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
            return "[" + ", ".join(map(self.text, value)) + "]"
        if callable(value) and (said := function_text(value, self.text, self._tell)) is not None:
            return said
        if isinstance(value, Made):
            return self._made(value)
        array = self._array(value)
        if array is not None:
            return array if isinstance(array, str) else repr(array)
        return self._configured(value)

    def _array(self, value: Any) -> Any:
        """An array or a tensor as lists, a large one as its shape, type and a hash; None for what is none."""
        shape = shape_of(value)
        if shape is None or is_symbolic(value) or isinstance(value, type):
            return None
        with contextlib.suppress(Exception):
            if hasattr(value, "columns"):  # a data frame
                return f"{_kind(value)}({self.text(value.to_dict('list'))})"
            if (size_of(shape) or 0) > MOST_ELEMENTS:
                return _hashed(value, shape)
            return self._plain(shortest_of(listed(value), value))
        return None

    def _configured(self, value: Any) -> str:
        kind = _kind(value)
        for configuration in _CONFIGURATIONS:
            with contextlib.suppress(Exception):  # code of others, which has reasons of its own
                found = configuration(value)
                if isinstance(found, str):
                    return found
                if found is not None:
                    return self._made(found if isinstance(found, Made) else Made(kind, found))
        if type(value).__module__ not in _MACHINERY or len(self._within) == 1:
            self._tell(f"{kind} does not say how it is configured")
        return f"{kind}()"

    def _made(self, made: Made) -> str:
        said = [made.said] if made.said else []
        said += [f"{name}={self.text(made.config[name])}" for name in sorted(made.config)]
        return f"{made.kind}({', '.join(said)})"


def _word(value: Any) -> str | None:
    """The text that members of an enumeration, paths, dates and exact numbers are."""
    if isinstance(value, Enum):
        return value.value if isinstance(value.value, str) else value.name or str(value.value)
    if hasattr(type(value), "__fspath__"):
        path = value.__fspath__()
        return path if isinstance(path, str) else path.decode("utf-8", "backslashreplace")
    if type(value).__module__ == "datetime" and hasattr(value, "isoformat"):
        return str(value.isoformat())
    return str(value) if type(value).__module__ in ("decimal", "fractions", "uuid") else None


def _named(value: Any) -> str | None:
    """The name of a class, a type hint, a type of numbers, a module, a logger."""
    if type(value).__module__ == "typing" or type(value).__name__ in ("GenericAlias", "UnionType"):
        return str(value)
    if isinstance(value, type):
        return value.__qualname__
    if type(value).__module__ == "logging" and hasattr(value, "name"):
        return f"{_kind(value)}({value.name})"
    if type(value).__name__.lower().endswith("dtype") or str(type(value)) == "<class 'torch.device'>":
        return str(getattr(value, "name", value))
    return value.__name__ if type(value).__name__ == "module" else None


def _hashed(value: Any, shape: tuple[int | None, ...]) -> str:
    from hashlib import sha256

    digest = sha256(json.dumps(listed(value)).encode()).hexdigest()[:16]
    return f"{_kind(value)}(shape={list(shape)}, dtype={getattr(value, 'dtype', None)}, sha256={digest})"


def _kind(value: object) -> str:
    return type(value).__qualname__.rpartition("<locals>.")[2]


# --- how an object says what its configuration is: names and values, a text, or None --------------------------------


def _of_fields(value: Any) -> Any:
    """Of a NamedTuple, a dataclass, a class of attrs, a model of pydantic."""
    kind = type(value)
    for fields in ("_fields", "__dataclass_fields__", "__attrs_attrs__", "model_fields", "__pydantic_fields__"):
        found = getattr(kind, fields, None)
        if found is not None:
            names = (getattr(field, "name", field) for field in found)
            return {name: getattr(value, name) for name in names if hasattr(value, name)}
    return None


def _of_keras(value: Any) -> Any:
    """What `get_config` says. Numbers that Keras counts up, as in "dense_3", are no configuration."""
    if not callable(getattr(value, "get_config", None)):
        return None
    found = value.get_config()
    return _uncounted(found, _names(found)) if isinstance(found, Mapping) else None


def _names(config: Any) -> set[str]:
    """The names in a configuration, at any depth."""
    if isinstance(config, Mapping):
        own = {config["name"]} if isinstance(config.get("name"), str) else set()
        return own.union(*map(_names, config.values()))
    return set().union(*map(_names, config)) if isinstance(config, (list, tuple)) else set()


def _uncounted(config: Any, names: set[str]) -> Any:
    """A configuration without such numbers, what was serialized in it as `Made`, and floats as they were given."""
    if isinstance(config, Mapping):
        parts = {key: _uncounted(part, names) for key, part in config.items() if key != "shared_object_id"}
        inner = parts.get("config")
        return Made(str(parts["class_name"]), inner) if "class_name" in parts and isinstance(inner, Mapping) else parts
    if isinstance(config, (list, tuple)):
        return [_uncounted(part, names) for part in config]
    if isinstance(config, float):
        return shortest(config, "float32")
    counted = isinstance(config, str) and (config in names or config.startswith("keras_tensor_"))
    return re.sub(r"_\d+$", "", config) if counted else config


def _of_sklearn(value: Any) -> Any:
    """Of an estimator: the parameters that are not its class's defaults, as scikit-learn prints them."""
    if not (callable(getattr(value, "get_params", None)) and hasattr(value, "set_params")):
        return None
    usual = inspect.signature(type(value).__init__).parameters
    given = value.get_params(deep=False)
    return {name: given[name] for name in given if name not in usual or repr(given[name]) != repr(usual[name].default)}


def _of_torch(value: Any) -> Any:
    """Of a module: what it prints of itself, its attributes and its children. Its weights are no configuration."""
    kinds = {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(value).__mro__}
    if "torch.Module" in kinds:
        said = value.extra_repr()
        public = {key: part for key, part in vars(value).items() if key[0] != "_" and key != "training"}
        more = {key: part for key, part in public.items() if not re.search(rf"\b{key}=", said)}
        return Made(_kind(value), {**more, **dict(value.named_children())}, said)
    return _printed(value) if "torch.Optimizer" in kinds else None


def _of_attributes(value: Any) -> Any:
    found = {name: part for name, part in getattr(value, "__dict__", {}).items() if not name.startswith("__")}
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in [slots] if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                found[name] = getattr(value, name)
    return found or None


def _printed(value: Any) -> str | None:
    """What it prints of itself, in one line; None where that is an address, or cut."""
    said = " ".join(repr(value).split())
    return None if re.search(r"0x[0-9a-fA-F]{4,}|\.\.\.", said) else said


def _of_no_state(value: Any) -> Any:
    """Nothing: of a class that is written in Python and has no attributes, all instances are alike."""
    return {} if hasattr(value, "__dict__") else None


_CONFIGURATIONS: tuple[Callable[[Any], Any], ...] = (
    _of_fields, _of_torch, _of_keras, _of_sklearn, _of_attributes, _printed, _of_no_state,
)  # fmt: skip
