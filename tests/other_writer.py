"""Event files as other tools write them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from hparams_lab.events.format import summaries
from hparams_lab.events.format.event_file import summary_event, version_event
from hparams_lab.logdir.declaration import observed_message


def other(
    directory: Path,
    points: Mapping[str, list[tuple[int, float]]],
    hparams: Mapping[str, float] | None = None,
    at: float | None = None,
) -> Path:
    """An event file as `torch.utils.tensorboard` writes it; with hparams, as its `add_hparams` does."""
    now = time.time() if at is None else at
    directory.mkdir(parents=True, exist_ok=True)
    said = []
    if hparams is not None:
        message = observed_message(hparams, points)
        said = [
            summaries.experiment(message.hparam_infos, message.metric_infos, now),
            summaries.session_start(hparams, "", 0.0),
            summaries.session_end(summaries.SUCCESS, 0.0),
        ]
    data = [version_event(now), *(summary_event(one, 0, now) for one in said)]
    every = ((tag, step, value) for tag, found in points.items() for step, value in found)
    data += [summary_event(summaries.scalars({tag: value}), step, now) for tag, step, value in every]
    path = directory / f"events.out.tfevents.{int(now):010d}.host.{len(list(directory.iterdir())) + 1}.0"
    path.write_bytes(b"".join(data))
    return path
