"""Results in words for people, and as JSON for machines: what the commands and the progress of a sweep share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hparams_lab.results import Outcome, RunResult
from hparams_lab.values import format_value

if TYPE_CHECKING:
    from hparams_lab.experiment import Experiment

COLOURS = {Outcome.COMPLETED: "green", Outcome.PRUNED: "cyan", Outcome.DIVERGED: "yellow"}
"""How outcomes stand out on a terminal; all others are red."""


def run_as_json(run: RunResult) -> dict[str, Any]:
    """A run as plain JSON."""
    return {
        "run": run.name,
        "trial": run.trial_id,
        "hparams": dict(run.hparams),
        "outcome": str(run.outcome),
        "reason": run.reason or None,
        "metrics": dict(run.metrics),
        "seconds": run.seconds,
    }


def dump(found: Any) -> str:
    """One line of strict JSON: NaN and infinities, which JSON lacks, are null."""
    return json.dumps(_strict(found), ensure_ascii=False, allow_nan=False)


def _strict(found: Any) -> Any:
    if isinstance(found, Mapping):
        return {key: _strict(value) for key, value in found.items()}
    if isinstance(found, (list, tuple)):
        return [_strict(value) for value in found]
    if isinstance(found, float) and not abs(found) < float("inf"):
        return None
    return found


def in_units(seconds: float) -> str:
    """A time as a person says it: 42 s, 3 min, 1.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def in_words(hparams: Mapping[str, Any], experiment: Experiment | None = None) -> str:
    """Values as `name=value` pairs; those that cannot vary left out where the experiment tells."""
    fixed = {hparam.name for hparam in experiment.hparams if hparam.domain.size == 1} if experiment else set()
    shown = [name for name in hparams if name not in fixed] or list(hparams)
    return "  ".join(f"{name}={format_value(hparams[name])}" for name in shown)


def metrics_in_words(metrics: Mapping[str, float], tags: list[str]) -> str:
    """The metrics of these tags, as far as they are there, as `tag value` pairs."""
    return "  ".join(f"{tag} {metrics[tag]:.4g}" for tag in tags if tag in metrics)
