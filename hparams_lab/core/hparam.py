"""`HParam`: a hyperparameter's name, its domain, and when it is called for.

`adopt_hparam` turns TensorBoard's own into ours, and `HParam.to_tensorboard` ours into its.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hparams_lab.core.domains import Domain, adopt_domain, domain_from_json
from hparams_lab.core.errors import DeclarationError, HParamValueError
from hparams_lab.core.tensorboard_types import class_of_tensorboard, tensorboard_hparam
from hparams_lab.core.values import Value, checked, name_of


class HParam:
    """A hyperparameter: a name and the domain it ranges over.

    Args:
      name: not empty, unique in its experiment.
      domain: `Discrete`, `IntInterval` or `RealInterval`, TensorBoard's or ours.
      display_name: what TensorBoard shows in place of the name.
      description: Markdown.
      active_when: the hparams, by name or object, on whose values this one depends, each with the value or the
        list of values that call for it: `active_when={"optimizer": ["sgd", "rmsprop"]}`. Where it is not
        called for, a trial does not have it.

    Raises:
      DeclarationError: an empty name, not a domain, an empty condition or one on what is not a value.
    """

    def __init__(
        self,
        name: str,
        domain: Any = None,
        display_name: str | None = None,
        description: str | None = None,
        active_when: Mapping[Any, Any] | None = None,
    ) -> None:
        self.name: str = checked_name("HParam", name)
        self.domain: Domain = adopt_domain(name, domain)
        self.display_name = display_name
        self.description = description
        self.active_when: dict[str, tuple[Value, ...]] = {
            name_of(parent): _condition(name, parent, wanted) for parent, wanted in (active_when or {}).items()
        }

    def __repr__(self) -> str:
        parts = [repr(self.name), repr(self.domain)]
        for field in ("display_name", "description", "active_when"):
            if getattr(self, field) not in (None, {}):
                parts.append(f"{field}={getattr(self, field)!r}")
        return f"HParam({', '.join(parts)})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HParam) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash((self.name, self.domain))

    def to_tensorboard(self) -> Any:
        """TensorBoard's own `HParam`, for its `hp` API."""
        return tensorboard_hparam(self)

    def cast(self, value: Any) -> Value:
        """`value` as one of the domain's, or HParamValueError."""
        return self.domain.cast(self.name, value)

    def is_active(self, hparams: Mapping[str, Value]) -> bool:
        """Whether the values chosen so far call for this hparam."""
        return all(parent in hparams and hparams[parent] in wanted for parent, wanted in self.active_when.items())

    def with_condition(self, active_when: Mapping[str, tuple[Value, ...]]) -> HParam:
        """The same hparam under another condition."""
        return HParam(self.name, self.domain, self.display_name, self.description, active_when)

    def to_json(self) -> dict[str, Any]:
        """The hparam as plain JSON, for `hparam_from_json`."""
        found = {
            "name": self.name,
            "domain": self.domain.to_json(),
            "display_name": self.display_name,
            "description": self.description,
            "active_when": {parent: list(wanted) for parent, wanted in self.active_when.items()},
        }
        return {key: value for key, value in found.items() if value not in (None, {})}


def checked_name(kind: str, name: Any) -> str:
    """`name`, if it is a string with something in it that UTF-8 can hold."""
    if not isinstance(name, str) or not name.strip():
        raise DeclarationError(f"{kind} has the name {name!r}; wanted a string that is not empty")
    if name.encode("utf-8", "replace").decode("utf-8") != name:
        raise DeclarationError(f"{kind} has the name {name!r}, which is not valid Unicode text")
    return name


def _condition(name: str, parent: Any, wanted: Any) -> tuple[Value, ...]:
    values = sorted(wanted, key=repr) if isinstance(wanted, (set, frozenset)) else wanted
    values = values if isinstance(values, (list, tuple)) else [values]
    if not values:
        raise DeclarationError(f"hparam {name!r} is active for no value of {name_of(parent)!r}; give at least one")
    try:
        return tuple(checked(name_of(parent), value) for value in values)
    except HParamValueError as error:
        raise DeclarationError(f"hparam {name!r} has an active_when that cannot be: {error}") from None


def adopt_hparam(hparam: Any) -> HParam:
    """`hparam` as one of ours; TensorBoard's own is taken over."""
    if isinstance(hparam, HParam):
        return hparam
    if class_of_tensorboard(hparam) == "HParam":
        return HParam(hparam.name, hparam.domain, hparam.display_name, hparam.description)
    raise DeclarationError(f"{hparam!r} is not an HParam; declare it as HParam(name, domain)")


def hparam_from_json(found: Mapping[str, Any]) -> HParam:
    """The hparam that `HParam.to_json` wrote."""
    more = {key: found.get(key) for key in ("display_name", "description", "active_when")}
    return HParam(found["name"], domain_from_json(found["domain"]), **more)
