"""`differences`: how what a `sweep.json` says and what is asked for differ, in words, and which of it only adds.

Both are what `Plan.identity` makes: domain, version, data, experiment, strategy, points and seed, as plain JSON. What
only adds leaves every run that is done a run of the sweep: an hparam, values, a wider interval, a metric, other trials.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hparams_lab.core.present import visible
from hparams_lab.core.values import format_value

SHOWN = 6
"""How many differences a message names."""

LONGEST_PART = 90
LONGEST_LIST = 40
LONGEST_VALUE = 24
NAMED_VALUES = 3


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that differs: what it is ("hparam units"), how, and whether that only adds to what is there."""

    what: str
    how: str
    extends: bool

    def __str__(self) -> str:
        return f"{self.what}: {self.how}"


def differences(stored: Mapping[str, Any], asked: Mapping[str, Any]) -> list[Change]:
    """What differs between a `sweep.json`, which may be anybody's, and what is asked for; empty when nothing does."""
    found = [_changed(key, stored, asked, str) for key in ("domain", "version", "data")]
    found += _experiment(stored.get("experiment"), asked["experiment"])
    found += [_changed("strategy", stored, asked, str, extends=True)]
    if None not in (stored.get("points"), asked["points"]):  # else it follows from the strategy
        found += [_changed("points", stored, asked, extends=True)]
    found += [_changed("seed", stored, asked)]
    return [change for change in found if change is not None]


def experiment_changes(old: Any, new: Mapping[str, Any]) -> list[Change]:
    """What differs between two declarations, as `Experiment.to_json` has them."""
    return [*_experiment(old, new)]


def in_a_line(changes: Sequence[Change]) -> str:
    """The differences in one line, the first of them where there are many."""
    more = [f"and {len(changes) - SHOWN} more"] if len(changes) > SHOWN else []
    return "; ".join([*map(str, changes[:SHOWN]), *more])


def _changed(
    key: str, stored: Mapping[str, Any], asked: Mapping[str, Any], kind: type = object, extends: bool = False
) -> Change | None:
    """The change of a single value; as `str`, 1 and "1" are one."""
    old, new = stored.get(key), asked.get(key)
    same = old == new or (kind is str and None not in (old, new) and str(old) == str(new))
    known = extends and old is not None
    return None if same else Change(key, _from_to(old, new), known)


# --- the experiment -------------------------------------------------------------------------------------------------


def _experiment(old: Any, new: Mapping[str, Any]) -> Iterator[Change]:
    """What differs between two declarations, as `Experiment.to_json` has them."""
    if old == new:
        return
    try:
        changes = [
            *_hparams(old["hparams"], new["hparams"]),
            *_metrics(old["metrics"], new["metrics"]),
            *filter(None, (_changed("objective", old, new), _constraints(old, new), _name(old, new))),
        ]
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
        changes = []
    yield from changes or [Change("experiment", "declared otherwise", False)]


def _constraints(old: Mapping[str, Any], new: Mapping[str, Any]) -> Change | None:
    before, after = old.get("constraints") or [], new.get("constraints") or []
    return None if before == after else Change("constraints", _lists(before, after), False)


def _name(old: Mapping[str, Any], new: Mapping[str, Any]) -> Change | None:
    return _changed("name", old, new) and Change("name", _from_to(old.get("name"), new.get("name")), True)


def _hparams(old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> Iterator[Change]:
    before, after = {hparam["name"]: hparam for hparam in old}, {hparam["name"]: hparam for hparam in new}
    yield from _gone_or_new("hparam", before, after)
    for name, hparam in before.items():
        if name in after and hparam != after[name]:
            yield from _hparam(f"hparam {_shown(name)}", hparam, after[name])
    yield from _reordered("hparams", before, after)


def _hparam(what: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    """The changes of one hparam: its domain, when it is called for, its words."""
    if old["domain"] != new["domain"]:
        yield _domain(what, old["domain"], new["domain"])
    before, after = old.get("active_when") or {}, new.get("active_when") or {}
    if before != after:
        widened = after.keys() <= before.keys() and all({*before[key]} <= {*after[key]} for key in after)
        yield Change(what, f"{_condition(before)} -> {_condition(after)}", widened)
    rest = {*old, *new} - {"domain", "active_when"}
    if any(old.get(key) != new.get(key) for key in rest):
        yield Change(what, "described otherwise", True)


def _condition(active_when: Mapping[str, Sequence[Any]]) -> str:
    """When an hparam is called for: "with optimizer=sgd, rmsprop"."""
    if not active_when:
        return "always"
    return " and ".join(f"with {_shown(name)}={_listed(wanted)}" for name, wanted in active_when.items())


def _metrics(old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> Iterator[Change]:
    before, after = {metric["tag"]: metric for metric in old}, {metric["tag"]: metric for metric in new}
    yield from _gone_or_new("metric", before, after)
    for tag, metric in before.items():
        if tag in after and metric != after[tag]:
            what = f"metric {_shown(tag)}"
            if metric.get("goal") != after[tag].get("goal"):
                yield Change(what, f"goal {_from_to(metric.get('goal'), after[tag].get('goal'))}", False)
            else:
                yield Change(what, "described otherwise", True)
    yield from _reordered("metrics", before, after)


def _gone_or_new(kind: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    yield from (Change(f"{kind} {_shown(name)}", "removed", False) for name in before if name not in after)
    yield from (Change(f"{kind} {_shown(name)}", "added", True) for name in after if name not in before)


def _reordered(what: str, before: Iterable[str], after: Iterable[str]) -> Iterator[Change]:
    both = {*before} & {*after}
    if [name for name in before if name in both] != [name for name in after if name in both]:
        yield Change(what, "in another order", True)


# --- domains --------------------------------------------------------------------------------------------------------


def _domain(what: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Change:
    if old["kind"] == new["kind"] == "discrete":
        if old["dtype"] != new["dtype"]:
            return Change(what, f"{_in_words(old)} ({old['dtype']}) -> {_in_words(new)} ({new['dtype']})", False)
        return Change(what, _lists(old["values"], new["values"]), _holds_values(old, new))
    kinds = {old["kind"], new["kind"]} == {*_NUMBERS}
    words = [f"{_in_words(one)} of {_NUMBERS[one['kind']]}" if kinds else _in_words(one) for one in (old, new)]
    return Change(what, _from_to(*words), _holds_interval(old, new))


_NUMBERS = {"IntInterval": "whole numbers", "RealInterval": "real numbers"}


def _holds_values(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether every old value is among the new ones, and a column of numbers does not become one of texts, by None."""
    holds = all(value in new["values"] for value in old["values"])
    return holds and (old["dtype"] == "str" or (None in old["values"]) == (None in new["values"]))


def _holds_interval(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether an interval of the same kind and scale has every value of another."""
    if old["kind"] != new["kind"] or old["scale"] != new["scale"]:
        return False
    if not new["min"] <= old["min"] <= old["max"] <= new["max"]:
        return False
    smallest = 1 if new["kind"] == "IntInterval" else None
    step, old_step = new["step"] or smallest, old["step"] or smallest
    if step is None:
        return True
    return old_step is not None and _divides(step, old_step) and _divides(step, old["min"] - new["min"])


def _divides(step: float, length: float) -> bool:
    times = length / step
    return math.isclose(times, round(times), rel_tol=1e-9, abs_tol=1e-9)


def _in_words(domain: Mapping[str, Any]) -> str:
    """A domain as a person reads it: "8, 16", or "[0.001, 0.1] log"."""
    if domain["kind"] == "discrete":
        return _listed(domain["values"])
    step = "" if domain["step"] is None else f" step {format_value(domain['step'])}"
    log = " log" if domain["scale"] == "log" else ""
    return f"[{format_value(domain['min'])}, {format_value(domain['max'])}]{step}{log}"


# --- words ----------------------------------------------------------------------------------------------------------


def _lists(old: Sequence[Any], new: Sequence[Any]) -> str:
    """Two lists; where they are long, how long, and what is new and gone."""
    said = [_all_of(old), _all_of(new)]
    if said[0] == said[1]:  # in the digits that are shown
        said = [_all_of([*map(repr, old)]), _all_of([*map(repr, new)])]
    if max(map(len, said)) <= LONGEST_LIST:
        return " -> ".join(said)
    added, gone = [value for value in new if value not in old], [value for value in old if value not in new]
    parts = [f"new: {_listed(added)}"] * bool(added) + [f"gone: {_listed(gone)}"] * bool(gone)
    return f"{len(old)} -> {len(new)} values ({'; '.join(parts) or 'in another order'})".replace("; ", ", ")


def _all_of(values: Sequence[Any]) -> str:
    return ", ".join(map(_shown, values)) or "none"


def _listed(values: Sequence[Any]) -> str:
    """A list, cut where it is long."""
    said = _all_of(values)
    if len(said) <= LONGEST_LIST:
        return said
    return f"{_all_of(values[:NAMED_VALUES])}, ... ({len(values)} values)"


def _from_to(old: Any, new: Any) -> str:
    """The two values; as Python writes them where they look the same otherwise."""
    shown = ["none" if value is None else _shown(value, LONGEST_PART) for value in (old, new)]
    if shown[0] == shown[1]:
        shown = [_shown(repr(value), LONGEST_PART) for value in (old, new)]
    return " -> ".join(shown) if shown[0] != shown[1] else f"{shown[0]} is another"


def _shown(value: Any, longest: int = LONGEST_VALUE) -> str:
    """A value in a line, cut where it is long."""
    said = visible(format_value(value)) or "''"
    return said if len(said) <= longest else f"{said[: longest - 3]}..."
