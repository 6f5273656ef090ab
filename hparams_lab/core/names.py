"""Names of runs as a table has room for them: what all begin with said once, the rest cut so that all differ."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence

WIDEST = 200
"""How wide a column of names is taken to be when one is looked for."""

DEEPEST = 20
"""So often names that still look the same are looked at by themselves; then they get numbers."""

_WORD_ENDS = "/_- ,"


def common_part(names: Sequence[str]) -> str:
    """The directories that all names begin with, with the slash at their end; empty where that is none."""
    different = dict.fromkeys(names)
    return _begin([*different], "/") if len(different) > 1 else ""


def cut_as(text: str, names: Sequence[str]) -> list[str]:
    """The names that `cut_apart` may show as a text: one, if possible, else all that have its parts in their order."""
    pattern = re.compile(".*".join(map(re.escape, text.partition("~")[0].split("…"))), re.DOTALL)
    fitting = [name for name in names if pattern.fullmatch(name)] if "…" in text else []
    for width in range(width_of(text), WIDEST if len(fitting) > 1 or "~" in text else 0):
        shown = cut_apart(names, width)
        if text in shown:
            return [names[shown.index(text)]]
    return fitting


def width_of(text: str) -> int:
    """How many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def cut(text: str, width: int) -> str:
    """A text in at most `width` columns; what is cut out of its middle leaves an ellipsis."""
    if width_of(text) <= width:
        return text
    if width < 1:
        return ""
    head, tail = text[:width], text[-width:]
    while width_of(head) > width // 2:
        head = head[:-1]
    while width_of(tail) > (width - 1) // 2:
        tail = tail[1:]
    return f"{head}…{tail}"


def cut_apart(texts: Sequence[str], width: int) -> list[str]:
    """Texts in at most `width` columns each, as `cut`; where some would look the same, the place shows where they
    differ. Those that differ in a place too small for it get a number.
    """
    found = dict(zip(texts, (cut(text, width) for text in texts), strict=True))
    if len({*found.values()}) < len(found):
        found |= _around_differences([text for text in found if width_of(text) > width], width)
    found = _numbered(found, width)
    return [found[text] for text in texts]


def _numbered(shown: Mapping[str, str], width: int) -> dict[str, str]:
    """What is shown of each text, with a number where that is shown of one before it too."""
    found: dict[str, str] = {}
    taken, latest = set[str](), dict[str, int]()
    for text, wanted in shown.items():
        one = wanted
        while one in taken:
            number = latest[wanted] = latest.get(wanted, 1) + 1
            one = f"{cut(text, max(0, width - len(str(number)) - 1))}~{number}"
        taken.add(one)
        found[text] = one
    return found


def _around_differences(texts: Sequence[str], width: int, depth: int = 0) -> dict[str, str]:
    """Each text without what all begin and end with; where some still look the same, they by themselves."""
    begin = len(_begin(texts, _WORD_ENDS))
    end = len(_begin([text[:begin:-1] for text in texts], _WORD_ENDS)) if len(texts) > 1 else 0
    begin, end = max(0, begin - 1), max(0, end - 1)  # the sign beside a word tells 0.1 from 0.10
    found = {text: _window(text, begin, len(text) - end, width) for text in texts}
    alike: dict[str, list[str]] = {}
    for text, shown in found.items():
        alike.setdefault(shown, []).append(text)
    for same in alike.values():
        if 1 < len(same) < len(texts) and depth < DEEPEST:
            found |= _around_differences(same, width, depth + 1)
    return found


def _window(text: str, begin: int, end: int, width: int) -> str:
    """The part of a text from `begin` to `end`, with more ahead of it where there is room, cut at its end where not."""
    room = width - 2 - width_of(text[begin : min(end, begin + width)])
    begin = max(0, begin - max(0, room))
    shown = f"{'…' * (begin > 0)}{text[begin:end]}{'…' * (end < len(text))}"
    if width_of(shown) <= width:
        return shown
    shown = shown[:width]
    while shown and width_of(shown) > width - 1:
        shown = shown[:-1]
    return f"{shown}…"


def _begin(texts: Sequence[str], ends: str) -> str:
    """What all texts begin with, up to one of the signs that end a word."""
    first, last = min(texts), max(texts)
    alike = (one == other for one, other in zip(first, last, strict=False))
    common = first[: sum(itertools.takewhile(bool, alike))]
    return common[: max(common.rfind(sign) for sign in ends) + 1]
