"""A tuner's search space as hparams with their domains as declared, and a trial's values in them.

keras-tuner knows a hyperparameter by its name and its conditions; a column of TensorBoard has a name only. So those of
one name become one hparam: with the domain that holds all of theirs, and the conditions that all of them share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from hparams_lab.errors import DeclarationError, HParamsLabError, HParamValueError
from hparams_lab.hparam import HParam
from hparams_lab.integrations.keras_tuner.found import keras_tuner
from hparams_lab.space import Discrete, Domain, IntInterval, RealInterval, Scale
from hparams_lab.values import Value, cast_number

kinds = keras_tuner.engine.hyperparameters

OF_HYPERBAND = ("tuner/epochs", "tuner/initial_epoch", "tuner/bracket", "tuner/round", "tuner/trial_id")
"""What Hyperband keeps among a trial's values: how long it is trained, and no hyperparameters."""

Conditions = dict[str, tuple[Value, ...]]


def hparams_of(space: Iterable[Any]) -> list[HParam]:
    """The hparams of a search space (`keras_tuner.HyperParameters.space`), in order.

    Raises DeclarationError for values that TensorBoard cannot hold, and for two hyperparameters of one name whose
    values have types that one column cannot hold.
    """
    named: dict[str, list[Any]] = {}
    for one in space:
        if one.name not in OF_HYPERBAND:
            named.setdefault(one.name, []).append(one)
    found: dict[str, HParam] = {}
    for name, alternatives in named.items():
        conditions = [_conditions(one, found) for one in alternatives]
        possible = [one for one, condition in zip(alternatives, conditions, strict=True) if condition is not None]
        if possible:
            domain = _joined(name, [_domain_of(one) for one in possible])
            shared = _shared([condition for condition in conditions if condition is not None])
            found[name] = HParam(name, domain, active_when=shared)
    return list(found.values())


def values_of(hyperparameters: Any, hparams: Iterable[HParam]) -> dict[str, Value]:
    """The values of a trial (its `keras_tuner.HyperParameters`), of the types declared; what is inactive is not there.

    Raises HParamValueError for a value of another type.
    """
    values: Mapping[str, Any] = hyperparameters.values
    return {
        hparam.name: cast_number(hparam.name, values[hparam.name], hparam.domain.dtype)
        for hparam in hparams
        if hparam.name in values and hyperparameters.is_active(hparam.name)
    }


def _domain_of(one: Any) -> Domain:
    make = next((make for kind, make in _DOMAINS.items() if isinstance(one, kind)), _any)
    try:
        return make(one)
    except HParamsLabError as error:
        raise DeclarationError(f"hparam {one.name!r} of the tuner cannot be logged: {error}") from None


def _number(one: Any) -> Domain:
    """The domain of an `Int` or `Float`. A step on a log scale multiplies, which no interval says: those are values."""
    interval, dtype = (IntInterval, int) if isinstance(one, kinds.Int) else (RealInterval, float)
    if one.sampling == "linear":
        step = None if dtype is int and one.step == 1 else one.step
        return interval(one.min_value, one.max_value, step=step)
    if one.step is not None:
        return Discrete(dict.fromkeys(map(dtype, one.values)))
    return interval(one.min_value, one.max_value, scale="log" if one.sampling == "log" else "linear")


def _any(one: Any) -> Domain:
    return Discrete(dict.fromkeys(one.values))


_DOMAINS: dict[Any, Callable[[Any], Domain]] = {
    kinds.Int: _number,
    kinds.Float: _number,
    kinds.Boolean: lambda one: Discrete([True, False]),
    kinds.Fixed: lambda one: Discrete([one.value]),
}


def _conditions(one: Any, declared: Mapping[str, HParam]) -> Conditions | None:
    """For which values of the hparams before it one is active; None when it never is."""
    found: Conditions = {}
    for condition in one.conditions:
        if condition.name not in declared:
            return None
        domain = declared[condition.name].domain
        wanted = found.get(condition.name, condition.values)
        found[condition.name] = tuple(value for value in condition.values if value in wanted and _is_in(domain, value))
        if not found[condition.name]:
            return None
    return found


def _is_in(domain: Domain, value: Any) -> bool:
    try:
        domain.cast("", value)
    except HParamValueError:
        return False
    return True


def _shared(conditions: Sequence[Conditions]) -> Conditions:
    """What holds whenever one of the conditions does, hparam by hparam."""
    first, *others = conditions
    parents = [parent for parent in first if all(parent in other for other in others)]
    return {parent: tuple(dict.fromkeys(v for each in conditions for v in each[parent])) for parent in parents}


def _joined(name: str, domains: Sequence[Domain]) -> Domain:
    """The domain that holds all of these."""
    first = domains[0]
    if all(domain == first for domain in domains):
        return first
    types = {domain.dtype for domain in domains}
    if len(types) > 1 and not types <= {int, float}:
        shown = " and as ".join(str(domain) for domain in domains)
        raise DeclarationError(
            f"hparam {name!r} of the tuner is declared as {shown}, of types that one column cannot hold; "
            "give them different names"
        )
    if all(isinstance(domain, Discrete) for domain in domains):
        return Discrete(dict.fromkeys(value for domain in domains for value in domain.points(0)))
    ends = min(domain.min_value for domain in domains), max(domain.max_value for domain in domains)
    scale: Scale = "log" if all(getattr(domain, "scale", "") == "log" for domain in domains) else "linear"
    return (IntInterval if types == {int} else RealInterval)(*ends, scale=scale)
