"""What the fast reader makes of the bytes of one file, compared with the slow one."""

from __future__ import annotations

from pathlib import Path

from slow_reader import differences, slow_read

from hparams_lab.events.read.layouts import Layouts
from hparams_lab.logdir.run_reader import RunReader

NAME = "events.out.tfevents.1.host"


def wrong(path: Path, data: bytes, layouts: Layouts | None = None, thin=None) -> list[str]:
    """In what the reading of these bytes differs from the slow reader's."""
    (path / NAME).write_bytes(data)
    reader = RunReader(str(path), layouts or Layouts(), thin)
    reader.read_new([NAME])
    run = reader.run("run") or reader.bare_run("run")
    slow = slow_read(data)
    return differences(slow, run, reader.findings) if thin is None else differences(slow, run, reader.findings, thin)
