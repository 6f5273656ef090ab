"""`united`: several declarations, each as `Experiment.to_json` has it, as one that holds the runs of all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hparams_lab.core.values import Value, canonical

IN_WORDS = {"bool": "True or False", "number": "numbers", "text": "texts"}


def united(declared: Sequence[Mapping[str, Any]], values: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """One declaration of all: every hparam and metric once, domains wide enough for all and for the `values`.

    It keeps the types of values and the goals of metrics. The objective stays where all agree; conditions and
    constraints go, since they may not hold for the others' runs.
    """
    columns = _by(declared, "hparams", "name")
    objectives = {found.get("objective") for found in declared}
    agree = len(objectives) == 1
    return {
        "name": next((found["name"] for found in declared if found.get("name")), None),
        "hparams": [_hparam(name, found, values.get(name, [])) for name, found in columns.items()],
        "metrics": [_agreed(found) for found in _by(declared, "metrics", "tag").values()],
        "objective": objectives.pop() if agree else None,
        "constraints": [],
    }


def conflict(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Why two declarations cannot be one, in words; empty when they can."""
    for name, found in _by([old, new], "hparams", "name").items():
        kinds = [_kind_of_domain(one.get("domain") or {}) for one in found]
        if len({*kinds} - {""}) > 1:
            return f"hparam {name!r} has {IN_WORDS[kinds[0]]} there and {IN_WORDS[kinds[1]]} here"
    for tag, found in _by([old, new], "metrics", "tag").items():
        goals = [one["goal"] for one in found if one.get("goal")]
        if len({*goals}) > 1:
            return f"metric {tag!r} has the goal {goals[0]!r} there and {goals[1]!r} here"
    return ""


def _kind_of_domain(domain: Mapping[str, Any]) -> str:
    if domain.get("kind") != "discrete":
        return "number" if domain else ""
    return {"bool": "bool", "str": "text"}.get(domain["dtype"], "number")


def kind_of(value: Value) -> str:
    """Which of TensorBoard's types a value is of: "bool", "text" or "number"."""
    return "bool" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"


def _by(declared: Iterable[Mapping[str, Any]], part: str, key: str) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for each in (each for one in declared for each in one.get(part, ())):
        found.setdefault(each[key], []).append(each)
    return found


def _agreed(declarations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """All that is said once, or always the same; of a name to show, the first."""
    found: dict[str, Any] = {}
    for key in dict.fromkeys(key for one in declarations for key in one):
        said = [one[key] for one in declarations if key in one]
        if key in ("display_name", "description") or all(other == said[0] for other in said):
            found[key] = said[0]
    return found


def _hparam(name: str, declarations: Sequence[Mapping[str, Any]], values: Sequence[Any]) -> dict[str, Any]:
    domains = [found["domain"] for found in declarations if found.get("domain")]
    found = _agreed([{k: v for k, v in one.items() if k not in ("domain", "active_when")} for one in declarations])
    domain = merged_domain(domains, values)
    return found if domain is None else {**found, "domain": domain}


def merged_domain(domains: Sequence[Mapping[str, Any]], values: Sequence[Value]) -> dict[str, Any] | None:
    """A domain that holds what the domains hold, and the values as they are stored; None without any."""
    if not domains:
        return None
    listed = [value for domain in domains for value in domain.get("values", ())]
    ends = [domain[end] for domain in domains if "values" not in domain for end in ("min", "max")]
    known = {str(form) for value in listed for form in (value, canonical(value))}
    more = [value for value in values if value is not None and str(canonical(value)) not in known]
    if all(domain == domains[0] for domain in domains) and all(_is_between(value, ends) for value in more):
        return dict(domains[0])
    if ends and all(kind_of(value) == "number" for value in [*listed, *more]):
        return _interval(domains, [*listed, *ends, *more])
    return _discrete([*listed, *more])


def _is_between(value: Value, ends: Sequence[float]) -> bool:
    return bool(ends) and kind_of(value) == "number" and min(ends) <= float(value or 0) <= max(ends)


def _discrete(values: Sequence[Value]) -> dict[str, Any]:
    """Values by what they say, each once; those of several types as texts."""
    types = {type(value) for value in values if value is not None}
    dtype = next(iter(types)).__name__ if len(types) == 1 else "float" if types == {int, float} else "str"
    if dtype == "str":
        values = [value if value is None else str(value) for value in values]
    once: dict[str, Value] = {}
    for value in values:
        once.setdefault(str(canonical(value)), value)
    return {"kind": "discrete", "values": [*once.values()], "dtype": dtype}


def _interval(domains: Sequence[Mapping[str, Any]], values: Sequence[Any]) -> dict[str, Any]:
    kinds = {domain["kind"] for domain in domains if "values" not in domain}
    whole = kinds == {"IntInterval"} and all(float(value).is_integer() for value in values)
    scales = {domain.get("scale", "linear") for domain in domains if "values" not in domain}
    scale = scales.pop() if len(scales) == 1 and min(values) > 0 else "linear"
    as_one = int if whole else float
    ends = {"min": as_one(min(values)), "max": as_one(max(values))}
    return {"kind": "IntInterval" if whole else "RealInterval", **ends, "scale": scale, "step": None}
