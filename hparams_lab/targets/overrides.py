"""`--set NAME=VALUES`: another domain for a declared hparam, in words typed on a command line.

    units=8,16                    these values            (a `Discrete`)
    learning_rate=1e-4..1e-1      between these two       (an interval, with the scale that was declared)
    learning_rate=1e-4..1e-1:log  ... on a log scale      (or :linear, or :step=0.01)

Numbers may be narrowed or replaced. Strings, bools and domains with `None` may only be narrowed, so that a misspelt
`optimizer=adm` is refused before anything is trained. Values are literals and are never evaluated.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any

from hparams_lab.core.domains import Discrete, Domain
from hparams_lab.core.errors import DeclarationError, HParamValueError, UsageError
from hparams_lab.core.experiment import Experiment
from hparams_lab.core.hparam import HParam
from hparams_lab.core.intervals import IntInterval, RealInterval
from hparams_lab.core.values import Value, parse_literal

_INTERVAL = re.compile(r"(?P<lo>[^.,:]*\.?[^.,:]+)\.\.(?P<hi>[^,:]+)(?P<options>(:[^:]+)*)")
_ITEM = re.compile(r"""\s*('[^']*'|"[^"]*"|[^,]*)\s*(?:,|$)""")
EXAMPLE = "--set units=8,16 or --set learning_rate=1e-4..1e-1:log"


def with_overrides(experiment: Experiment, settings: Iterable[str]) -> Experiment:
    """The experiment with the domains that `settings` (each "NAME=VALUES") say.

    Raises UsageError for an unknown name, a text that is not NAME=VALUES, or values that the hparam cannot take.
    """
    domains: dict[str, Domain] = {}
    for setting in settings:
        name, text = split_setting(setting)
        domains[name] = parse_domain(_declared(experiment, name), text)
    kept: dict[str, HParam] = {}
    for hparam in experiment.hparams:
        new = _replaced(hparam, domains)
        if new is not None and all(parent in kept for parent in new.active_when):
            kept[new.name] = new
    return Experiment(kept.values(), experiment.metrics, experiment.objective, experiment.name, experiment.constraints)


def split_setting(setting: str) -> tuple[str, str]:
    """The name and the values of a "NAME=VALUES". Raises UsageError for another text."""
    name, _, text = (part.strip() for part in setting.partition("="))
    if not name or not text:
        raise UsageError(f"--set {setting!r} is not NAME=VALUES; for example {EXAMPLE}")
    return name, text


def parse_domain(hparam: HParam, text: str) -> Domain:
    """The domain that `text` says for `hparam`: a list of values or an interval."""
    interval = _INTERVAL.fullmatch(text)
    try:
        if interval:
            return _interval(hparam, **interval.groupdict())
        return _discrete(hparam, _items(text))
    except (DeclarationError, HParamValueError, UsageError) as error:
        raise UsageError(f"--set {hparam.name}={text}: {error}") from None


def _declared(experiment: Experiment, name: str) -> HParam:
    names = [hparam.name for hparam in experiment.hparams]
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UsageError(f"--set names {name!r}, which is not an hparam; {hint}there are {', '.join(names)}")
    return experiment.hparam(name)


def _items(text: str) -> list[str]:
    return _ITEM.findall(text.strip() + ("," if not text.endswith(",") else ""))[:-1]


def _discrete(hparam: HParam, items: list[str]) -> Discrete:
    old: Any = hparam.domain
    only_narrowed = isinstance(old, Discrete) and (old.dtype in (str, bool) or None in old.values)
    if only_narrowed:
        return Discrete([old.cast(hparam.name, _meant(old, item)) for item in items], dtype=old.dtype)
    anything = IntInterval(-(2**53), 2**53) if old.dtype is int else RealInterval(-1.7e308, 1.7e308)
    return Discrete([anything.cast(hparam.name, parse_literal(item)) for item in items], dtype=old.dtype)


def _meant(old: Discrete, item: str) -> Value:
    """The value that `item` says; in a domain of strings, words such as 1e-3, true or none are strings too."""
    if old.dtype is str and item.strip() in old.values:
        return item.strip()
    value = parse_literal(item)
    if old.dtype is str and not isinstance(value, str) and value not in old.values:
        return str(value)
    return value


def _interval(hparam: HParam, lo: str, hi: str, options: str) -> Domain:
    old: Any = hparam.domain
    if old.dtype not in (int, float) or None in getattr(old, "values", ()):
        raise UsageError(f"{hparam.name} takes the values {old}; an interval is for numbers only")
    scale: Any = getattr(old, "scale", "linear")
    step = None
    for option in filter(None, options.split(":")):
        if option in ("log", "linear"):
            scale = option
        elif option.startswith("step="):
            step = parse_literal(option.removeprefix("step="))
        else:
            raise UsageError(f"{option!r} is not an option of an interval; there are :log, :linear and :step=N")
    kind = IntInterval if old.dtype is int else RealInterval
    return kind(parse_literal(lo), parse_literal(hi), scale=scale, step=step)


def _replaced(hparam: HParam, domains: dict[str, Domain]) -> HParam | None:
    """`hparam` with its new domain and conditions; None when narrowed parents never call for it any more."""
    when = {parent: _still(wanted, domains.get(parent)) for parent, wanted in hparam.active_when.items()}
    if not all(when.values()):
        return None
    domain = domains.get(hparam.name, hparam.domain)
    return HParam(hparam.name, domain, hparam.display_name, hparam.description, when)


def _still(wanted: tuple[Value, ...], domain: Domain | None) -> tuple[Value, ...]:
    if domain is None:
        return wanted
    return tuple(value for value in wanted if _has(domain, value))


def _has(domain: Domain, value: Value) -> bool:
    try:
        domain.cast("value", value)
    except HParamValueError:
        return False
    return True
