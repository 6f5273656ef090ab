"""A function as text: its qualified name; of a lambda or a local function also what tells it from others."""

from __future__ import annotations

import ast
import functools
import hashlib
import linecache
import types
from collections.abc import Callable
from typing import Any

Text = Callable[[Any], str]
Tell = Callable[[str], None]

_seen: dict[str, tuple[str, str]] = {}  # of each text, the module and the code that it was of


def function_text(value: Any, text: Text, tell: Tell) -> str | None:
    """The text of a function, method, partial or class; None for another callable.

    Args:
      text: says what an argument or a value that it closes over is.
      tell: called with what cannot be told apart: functions of one name in two modules.
    """
    if isinstance(value, functools.partial):
        arguments = [*map(text, value.args), *(f"{key}={text(value.keywords[key])}" for key in sorted(value.keywords))]
        return f"partial({', '.join([text(value.func), *arguments])})"
    if isinstance(value, types.MethodType):
        own = value.__self__
        return f"{own.__qualname__ if isinstance(own, type) else text(own)}.{value.__name__}"
    if isinstance(value, types.FunctionType):
        return _of_function(value, text, tell)
    inner = getattr(value, "__wrapped__", None) or getattr(value, "python_function", None)
    if callable(inner):  # as jax.jit, tf.function and functools.cache have it
        return text(inner)
    own = getattr(value, "__self__", None)
    if isinstance(value, types.BuiltinFunctionType) and own is not None and not isinstance(own, types.ModuleType):
        return f"{text(own)}.{value.__name__}"
    if type(value).__name__ in ("ufunc", "builtin_function_or_method", "wrapper_descriptor", "method_descriptor"):
        name: str = getattr(value, "__qualname__", None) or value.__name__
        return name
    return None


def globals_of(value: Any) -> dict[str, Any]:
    """What a function, method, partial or callable object finds by name where it is defined."""
    if isinstance(value, types.FunctionType):
        return value.__globals__
    for inner in ("func", "__func__", "__wrapped__"):  # of a partial, a method, what is decorated
        if callable(getattr(value, inner, None)):
            return globals_of(getattr(value, inner))
    call = getattr(type(value), "__call__", None)  # noqa: B004 - its function, not whether it has one
    return call.__globals__ if isinstance(call, types.FunctionType) else {}


def _of_function(function: types.FunctionType, text: Text, tell: Tell) -> str:
    name, digest = function.__qualname__, _hash(function.__code__)
    if "<" not in name:
        module, code = _seen.setdefault(name, (function.__module__, digest))
        if (module, code) != (function.__module__, digest):
            tell(f"there are two functions that are called {name}")
        return name
    source = _source_of_lambda(function.__code__) if function.__name__ == "<lambda>" else None
    kept = {key: text(value) for key, value in _kept(function).items()}
    arguments = ", ".join(f"{key}={kept[key]}" for key in sorted(kept))
    said = source or f"{name}#{digest}"
    return said + (f" [{arguments}]" if source else f"({arguments})") if arguments else said


def _kept(function: types.FunctionType) -> dict[str, Any]:
    """The values of a function that its source does not say: its defaults, and what it closes over."""
    code = function.__code__
    defaults = function.__defaults__ or ()
    names = code.co_varnames[: code.co_argcount][code.co_argcount - len(defaults) :]
    found = {**dict(zip(names, defaults, strict=True)), **(function.__kwdefaults__ or {})}
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # not set yet
            continue
    return found


def _hash(code: types.CodeType) -> str:
    """8 hexadecimal digits of what a code does: where it stands is not in it."""
    return hashlib.sha256(repr(_essence(code)).encode("utf-8", "backslashreplace")).hexdigest()[:8]


def _essence(constant: Any) -> Any:
    if isinstance(constant, types.CodeType):
        constants = [*map(_essence, constant.co_consts)]
        return constant.co_code.hex(), constants, constant.co_names, constant.co_varnames, constant.co_freevars
    if isinstance(constant, frozenset):
        return sorted(map(repr, constant))
    return [*map(_essence, constant)] if isinstance(constant, tuple) else repr(constant)


def _source_of_lambda(code: types.CodeType) -> str | None:
    """The source of the only lambda in its line, in one line; None where there is none or more than one."""
    lines = linecache.getlines(code.co_filename)
    found = [node for node in _lambdas("".join(lines)) if node.lineno == code.co_firstlineno]
    if len(found) != 1:
        return None
    arguments = {argument.arg for argument in ast.walk(found[0].args) if isinstance(argument, ast.arg)}
    many = code.co_argcount + code.co_kwonlyargcount
    return " ".join(ast.unparse(found[0]).split()) if arguments >= {*code.co_varnames[:many]} else None


@functools.lru_cache(maxsize=16)
def _lambdas(source: str) -> tuple[ast.Lambda, ...]:
    try:
        return tuple(node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Lambda))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ()
