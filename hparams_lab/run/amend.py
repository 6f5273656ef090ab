"""What is known of a run only after its end: its rank among the others, that it was the best, a picture of it.

TensorBoard and `read` take points that stand behind a session end. The end itself is written once: to TensorBoard the
first that it sees is the run's.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.summary_pb2 import Summary

from hparams_lab.core.errors import UsageError
from hparams_lab.core.measured import LeftOut, numbers_of
from hparams_lab.core.outcome import Outcome
from hparams_lab.core.scalar import checked_step, checked_tag
from hparams_lab.events.format import media, summaries
from hparams_lab.events.format.final import final_values
from hparams_lab.events.write.writer import EventFileWriter
from hparams_lab.logdir.run_reader import OUTCOME_TAG, own_file
from hparams_lab.storage.paths import local, writing


def add_scalars(run: Path, metrics: Mapping[str, Any], step: int | None = None, fsync: bool = True) -> None:
    """Add values by tag to a run that nobody writes any more.

    Args:
      run: its directory.
      metrics: values by tag, as `Run.log` takes them.
      step: where they stand; the last step of the run when left out.
      fsync: whether to wait until they are on the disk.

    Raises UsageError for a value that is no number, LogDirError when the run is being written, is none, or cannot be
    written.
    """
    values = numbers_of(metrics, LeftOut(f"run {run.name!r}"))
    now = time.time()
    exact = final_values(values, now)
    _add(run, [summaries.scalars(values), *([exact] if exact else [])], step, fsync, now)


def add_outcome(run: Path, outcome: Outcome, reason: str) -> None:
    """Say how a run of a completed status ended that nobody writes any more, as far as its status goes with it.

    Raises UsageError for an outcome of another status than SUCCESS: the session end stays.
    """
    if outcome not in (Outcome.COMPLETED, Outcome.PRUNED):
        raise UsageError(f"the outcome {outcome} does not go with the status SUCCESS; wanted completed or pruned")
    _add(run, [summaries.text(OUTCOME_TAG, f"{outcome}: {reason}")], None, fsync=False)


def add_text(run: Path, tag: str, markdown: str) -> None:
    """Add a text, as `Run.text` takes it, to a run that nobody writes any more. Raises as `add_scalars` does."""
    _add(run, [summaries.text(checked_tag(tag), markdown)], None, fsync=True)


def add_image(run: Path, tag: str, image: Any, step: int | None = None) -> None:
    """Add an image, as `Run.image` takes it, to a run that nobody writes any more. Raises as `add_scalars` does."""
    _add(run, [media.image(checked_tag(tag), image)], step, fsync=True)


def _add(run: Path, found: Sequence[Summary], step: int | None, fsync: bool, now: float | None = None) -> None:
    run = local(run)
    file = own_file(run)
    step = None if step is None else checked_step(step)
    with writing(run):
        writer = EventFileWriter.append(file)
        try:
            for summary in found:
                writer.add(summary, writer.last_step if step is None else step, now)
            writer.close(fsync)
        finally:
            writer.abandon()
