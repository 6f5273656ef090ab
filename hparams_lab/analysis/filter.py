"""`--where 'lr < 0.01 and optimizer in (adam, sgd)'`: which trials, in words typed on a command line.

    condition = all {"or" all}
    all       = one {"and" one}
    one       = "not" one | "(" condition ")" | name sign value | name ["not"] "in" "(" value {"," value} ")"
    sign      = < <= > >= = == != or ~, which is "contains"
    name      = a bare word such as val/loss, or anything in `backticks` or "quotes"
    value     = a number, true, false, none, a bare word, or a text in quotes

A parser of its own: nothing is evaluated. A value that a trial lacks compares false. Numbers are equal when they are
in the six digits that the tables show. What the names mean is for `columns` to say.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

from hparams_lab.core.errors import UsageError
from hparams_lab.core.present import visible
from hparams_lab.core.values import Value, format_value

EXAMPLE = "--where 'lr < 0.01 and optimizer in (adam, sgd)'"
DEEPEST = 50
"""How many parentheses and `not` may enclose each other."""

_TOKEN = re.compile(
    r"""\s*(?:(?P<quoted>(?P<prefix>(?:hparam|metric):)?(?P<quote>[`"'])(?P<inside>(?:\\.|(?!(?P=quote))[^\\])*)(?P=quote))
    |(?P<sign><=|>=|==|!=|[<>=~(),])|(?P<word>[^\s()<>=!~,`"']+))""",
    re.VERBOSE | re.DOTALL,
)
_KEYWORDS = ("and", "or", "not", "in")
_WORDS = ("true", "false", "none")
_ORDERS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt, "<=": operator.lt, ">": operator.gt, ">=": operator.gt,
}  # fmt: skip

Look: TypeAlias = Callable[[str], Any]
"""Gives the value of a name for one trial; `MISSING` where the trial has none."""

MISSING = object()


@dataclass(frozen=True, slots=True)
class Comparison:
    """A name and what its value is compared with: one value, or several, which are for `=` and `!=`."""

    name: str
    sign: str
    wanted: tuple[str, ...]
    column: int = 0

    def holds(self, look: Look) -> bool:
        """Whether it is so for what `look` finds."""
        value = look(self.name)
        if value is MISSING:
            return False
        if self.sign == "!=":
            return not any(is_same(value, wanted) for wanted in self.wanted)
        return any(_is_so(value, self.sign, wanted) for wanted in self.wanted)

    def comparisons(self) -> Iterator[Comparison]:
        """Itself."""
        yield self


@dataclass(frozen=True, slots=True)
class Join:
    """Conditions of which all (`and`), one (`or`) or none (`not`) must hold."""

    word: str
    parts: tuple[Condition, ...]

    def holds(self, look: Look) -> bool:
        """Whether it is so for what `look` finds."""
        held = (part.holds(look) for part in self.parts)
        return all(held) if self.word == "and" else any(held) is (self.word == "or")

    def comparisons(self) -> Iterator[Comparison]:
        """The comparisons in it, from left to right."""
        for part in self.parts:
            yield from part.comparisons()


Condition: TypeAlias = Comparison | Join


def parse_where(text: str) -> Condition:
    """The condition that `text` says. Raises UsageError, which says where it stops making sense."""
    return _Parser(text).whole()


def quoted_at(text: str, column: int) -> str:
    """The text around a column (from 0), with a caret before what stands there."""
    start, end = max(0, column - 30), column + 30
    before, after = visible(text[start:column]), visible(text[column:end])
    return f"{'...' if start else ''}{before}^{after}{'...' if end < len(text) else ''}"


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # "quoted", "sign", "word", "end"
    text: str
    column: int

    @property
    def in_words(self) -> str:
        return "the end" if self.kind == "end" else repr(self.text)

    def is_a(self, *words: str) -> bool:
        """Whether it is one of these signs or keywords; what is quoted never is."""
        return self.kind != "quoted" and self.text.lower() in words


class _Parser:
    """Recursive descent, a method for each rule of the grammar."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = [*self._read()]
        self._at = 0
        self._depth = 0

    def _read(self) -> Iterator[_Token]:
        at = 0
        while found := _TOKEN.match(self._text, at):
            kind = str(found.lastgroup)
            kind = "quoted" if found["quoted"] else kind
            said = found[kind] if kind != "quoted" else (found["prefix"] or "") + _unescaped(found["inside"])
            yield _Token(kind, said, found.start(kind))
            at = found.end()
        rest = self._text[at:].lstrip()
        column = len(self._text) - len(rest)
        if rest:
            what = "a quote that is not closed" if rest[0] in "`\"'" else f"{rest[0]!r}, which means nothing here"
            self._fail(column, what)
        yield _Token("end", "", len(self._text))

    def whole(self) -> Condition:
        found = self._condition()
        if self._next.kind != "end":
            self._fail(self._next.column, f"{self._next.in_words} where 'and', 'or' or the end belongs")
        return found

    def _condition(self) -> Condition:
        return self._joined("or", lambda: self._joined("and", self._one))

    def _joined(self, word: str, part: Callable[[], Condition]) -> Condition:
        parts = [part()]
        while self._take(word):
            parts.append(part())
        return Join(word, tuple(parts)) if len(parts) > 1 else parts[0]

    def _one(self) -> Condition:
        self._depth += 1
        if self._depth > DEEPEST:
            self._fail(self._next.column, f"more than {DEEPEST} parentheses or 'not' within each other")
        if self._take("not"):
            found: Condition = Join("not", (self._one(),))
        elif self._take("("):
            found = self._condition()
            self._expect(")")
        else:
            found = self._comparison()
        self._depth -= 1
        return found

    def _comparison(self) -> Condition:
        name = self._name()
        negated = self._take("not")
        if self._take("in"):
            return Comparison(name.text, "!=" if negated else "=", self._values(), name.column)
        sign = self._next
        if negated or sign.kind != "sign" or sign.text in "(),":
            wanted = "'in'" if negated else "one of < <= > >= = != ~ in"
            self._fail(sign.column, f"{sign.in_words} where {wanted} belongs")
        self._at += 1
        value = self._value()
        if sign.text[0] in "<>" and _number(value.text) is None:
            self._fail(value.column, f"{value.in_words} after {sign.text!r}, which compares numbers")
        return Comparison(name.text, sign.text, (value.text,), name.column)

    def _name(self) -> _Token:
        name = self._next
        if name.kind not in ("word", "quoted") or name.is_a(*_KEYWORDS):
            self._fail(name.column, f"{name.in_words} where a name belongs")
        if name.kind == "word" and name.text[0] in "+-.0123456789" and _number(name.text) is not None:
            self._fail(name.column, f"the number {name.text} where a name belongs (the name comes first)")
        self._at += 1
        return name

    def _values(self) -> tuple[str, ...]:
        self._expect("(")
        values = [self._value().text]
        while self._take(","):
            values.append(self._value().text)
        self._expect(")")
        return tuple(values)

    def _value(self) -> _Token:
        value = self._next
        if value.kind not in ("word", "quoted"):
            self._fail(value.column, f"{value.in_words} where a value belongs")
        self._at += 1
        return value

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _take(self, word: str) -> bool:
        taken = self._next.is_a(word)
        self._at += taken
        return taken

    def _expect(self, sign: str) -> None:
        if not self._take(sign):
            self._fail(self._next.column, f"{self._next.in_words} where {sign!r} belongs")

    def _fail(self, column: int, what: str) -> NoReturn:
        where = f"--where has at column {column + 1} {visible(what)}"
        raise UsageError(f"{where}: {quoted_at(self._text, column)}; for example {EXAMPLE}")


def _unescaped(inside: str) -> str:
    return re.sub(r"\\(.)", r"\1", inside, flags=re.DOTALL)


def _number(text: str) -> float | None:
    try:
        return float(text) if text.isascii() and "_" not in text else None
    except ValueError:
        return None


def _is_so(value: Value, sign: str, wanted: str) -> bool:
    if sign == "~":
        return wanted in format_value(value)
    if sign in ("=", "=="):
        return is_same(value, wanted)
    number = _number(wanted)
    if number is None or not isinstance(value, (int, float)) or isinstance(value, bool) or math.isnan(value):
        return False
    if is_same(value, wanted):
        return sign.endswith("=") and not math.isnan(number)
    return _ORDERS[sign](value, number)


def is_same(value: Value, text: str) -> bool:
    """Whether a value is what a person means by `text`: a number by its value, or by the six digits that are shown."""
    if isinstance(value, bool) or value is None:
        return str(value).lower() == text.lower()
    if isinstance(value, str):
        return value == text or (text.lower() in _WORDS and value.lower() == text.lower())
    number = _number(text)
    if number is None:
        return False
    if float(value).is_integer() and number.is_integer():
        return value == number
    return value == number or format_value(float(value)) == format_value(number)
