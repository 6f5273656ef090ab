"""The one adapter between ours and TensorBoard's declaring objects: `HParam`, the domains and `Metric`.

TensorBoard is imported only when one of ours becomes one of its. An object of its classes can only be there when the
caller has imported them.
Source: https://github.com/tensorflow/tensorboard/blob/2.21.0/tensorboard/plugins/hparams/summary_v2.py
"""

from __future__ import annotations

import sys
from typing import Any

_HOME = "tensorboard.plugins.hparams.summary_v2"


def class_of_tensorboard(thing: object) -> str:
    """Which of TensorBoard's classes an object is of: "HParam", "Discrete", ..., "Metric"; empty for any other."""
    theirs = sys.modules.get(_HOME)
    kinds = ("HParam", "Discrete", "IntInterval", "RealInterval", "Metric") if theirs else ()
    return next((kind for kind in kinds if isinstance(thing, getattr(theirs, kind))), "")


def tensorboard_domain(domain: Any) -> Any:
    """A domain of ours as TensorBoard's. Values are strings where `None` is among them; scale and step are lost."""
    from tensorboard.plugins.hparams import summary_v2

    kind = type(domain).__name__
    if kind == "Discrete":
        return summary_v2.Discrete([domain.stored(value) for value in domain.every()])
    return getattr(summary_v2, kind)(domain.min_value, domain.max_value)


def tensorboard_hparam(hparam: Any) -> Any:
    """An hparam of ours as TensorBoard's. Its condition is lost."""
    from tensorboard.plugins.hparams import summary_v2

    domain = tensorboard_domain(hparam.domain)
    return summary_v2.HParam(hparam.name, domain, display_name=hparam.display_name, description=hparam.description)


def tensorboard_metric(metric: Any) -> Any:
    """A metric of ours as TensorBoard's. Its goal is lost."""
    from tensorboard.plugins.hparams import summary_v2

    return summary_v2.Metric(
        metric.tag, metric.group, metric.display_name, metric.description, metric.dataset_type
    )
