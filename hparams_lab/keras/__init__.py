"""Keras: `RunCallback` for any `model.fit`, and the training of Keras domains.

Needs Keras 3 on any backend; nothing here imports TensorFlow when the backend is another. Keras itself is imported when
`RunCallback` is asked for, so that what needs no Keras yet (reading a domain's data) does not wait for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hparams_lab.keras.callback import RunCallback as RunCallback

__all__ = ["RunCallback"]


def __getattr__(name: str) -> Any:
    if name != "RunCallback":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from hparams_lab.keras.callback import RunCallback

    return RunCallback
