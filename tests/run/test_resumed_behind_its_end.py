"""A run that is gone on with after something was added behind its end: ranks, pictures, another outcome."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import hparams_lab as lab
from hparams_lab.core.outcome import Outcome
from hparams_lab.events.format import summaries
from hparams_lab.run.amend import add_image, add_outcome, add_scalars

ADD = {
    "a rank": lambda run: add_scalars(run, {"rank": 2}, step=0),
    "a picture": lambda run: add_image(run, "best", np.zeros((2, 2))),
    "an outcome": lambda run: add_outcome(run, Outcome.PRUNED, "too slow"),
    "all": lambda run: [ADD[name](run) for name in ("a rank", "an outcome", "a picture", "a rank")],
    "nothing": lambda run: None,
}


def ended(logdir: Path, first: bool = False) -> lab.Run:
    with lab.start_run(logdir, hparams={"rate": 0.1}, name="x", resume=not first, provenance=False) as run:
        run.log({"loss": 0.5 if first else 0.25})
    return run


@pytest.mark.parametrize("add", ADD.values(), ids=ADD)
def test_its_first_end_does_not_count(tmp_path, add):
    run = ended(tmp_path, first=True)
    add(run.dir)
    before = lab.read(tmp_path).runs[0]
    with lab.start_run(tmp_path, hparams={"rate": 0.1}, name="x", resume=True, provenance=False) as again:
        again.flush()
        assert lab.read(tmp_path).runs[0].outcome is Outcome.RUNNING
        again.log({"loss": 0.25})
        again.set_status("failed", "it says so")
    (found,) = lab.read(tmp_path).runs
    assert (found.outcome, found.reason) == (Outcome.FAILED, "it says so")
    assert found.ended > before.ended
    assert found.scalars("loss").values.tolist() == [0.5, 0.25]
    assert found.metrics.get("rank") == before.metrics.get("rank")
    (file,) = run.dir.iterdir()
    assert file.read_bytes().count(summaries.SESSION_END_TAG.encode()) == 1


def test_again_and_again(tmp_path):
    run = ended(tmp_path, first=True)
    for _ in range(3):
        add_scalars(run.dir, {"rank": 1})
        ended(tmp_path)
    (found,) = lab.read(tmp_path).runs
    assert found.scalars("loss").values.tolist() == [0.5, 0.25, 0.25, 0.25]
    assert found.outcome is Outcome.COMPLETED
