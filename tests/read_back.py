"""The run "x" of a directory, as a reader of its own sees it."""

from __future__ import annotations

from pathlib import Path

from hparams_lab.core.results import RunResult
from hparams_lab.logdir.run_reader import read_run


def read_back(directory: Path) -> RunResult:
    """The run, from a file of whole records."""
    findings = []
    found = read_run(directory / "x", "x", findings=findings)
    assert findings == []
    assert found is not None
    return found


def steps_of(directory: Path, tag: str = "loss") -> list[int]:
    """The steps of the run's tag."""
    columns = read_back(directory).columns
    return columns[tag].steps.tolist() if tag in columns else []
