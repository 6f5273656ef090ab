"""The values of a session start, as TensorBoard keeps them: as text, and what makes two sessions of one trial."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format

from hparams_lab.events.summaries import plain_value
from hparams_lab.values import Value, canonical, trial_id


def as_text(value: Any) -> str:
    """A value of a session start as a column of strings holds it."""
    if value.WhichOneof("kind") in (None, "null_value"):
        return "None"
    plain = plain_value(value)
    return json.dumps(json_format.MessageToDict(value)) if plain is None else str(plain)


def group_key(values: Mapping[str, Any]) -> str:
    """The trial that values make: 16 is 16.0, and `np.float32(0.1)`, widened, is 0.1."""
    return trial_id({name: _same(value) for name, value in values.items()})


def _same(value: Any) -> Value:
    plain = plain_value(value)
    if plain is None:
        return as_text(value)
    if isinstance(plain, float) and abs(plain) < 3e38 and struct.unpack("f", struct.pack("f", plain))[0] == plain:
        import numpy as np

        return canonical(float(str(np.float32(plain))))
    return canonical(plain)
