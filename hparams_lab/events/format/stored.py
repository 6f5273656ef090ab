"""The values of a session start, as TensorBoard keeps them: as text, and what makes two sessions of one trial."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any

from tensorboard.plugins.hparams.plugin_data_pb2 import SessionStartInfo

from hparams_lab.core.values import Value, canonical, trial_id
from hparams_lab.events.format.summaries import plain_value


def as_text(value: Any) -> str:
    """A value of a session start as a column of strings holds it."""
    if value.WhichOneof("kind") in (None, "null_value"):
        return "None"
    plain = plain_value(value)
    if plain is not None:
        return str(plain)
    from google.protobuf import json_format

    return json.dumps(json_format.MessageToDict(value))


def contradict(one: SessionStartInfo, other: SessionStartInfo) -> bool:
    """Whether two session starts give one name two values. Lightning says what is added to a session in another."""
    return any(
        name in one.hparams and one.hparams[name].SerializeToString() != value.SerializeToString()
        for name, value in other.hparams.items()
    )


def group_key(values: Mapping[str, Any]) -> str:
    """The trial that values make: 16 is 16.0, and `np.float32(0.1)`, widened, is 0.1."""
    return values_key({name: as_text(value) if (plain := plain_value(value)) is None else plain
                       for name, value in values.items()})  # fmt: skip


def values_key(values: Mapping[str, Value]) -> str:
    """The same of values as they are read."""
    return trial_id({name: _same(value) for name, value in values.items()})


def _same(plain: Value) -> Value:
    if isinstance(plain, float) and abs(plain) < 3e38 and struct.unpack("f", struct.pack("f", plain))[0] == plain:
        import numpy as np

        return canonical(float(str(np.float32(plain))))
    return canonical(plain)
