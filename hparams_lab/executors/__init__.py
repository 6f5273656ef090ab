"""Executors: where runs are trained.

An executor takes jobs (one run each) and gives back how each ended. The job logs into its own event file; over one
channel, owned by the executor, it reports (step, metrics) while it goes on. What a run achieved is not said here: it is
read from its files.

    executor.describe(source)          what a domain module declares, imported where the runs will be
    executor.start(setup, on_report)   get ready; raise what keeps any run from starting
    executor.submit(job)               begin a job; at most `slots` at once
    executor.wait(seconds)             the jobs that ended; reports go to `on_report` meanwhile
    executor.cancel(name)              stop a job: ask, then kill; `wait` tells its end
    executor.stop()                    kill what is still running and clean up
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from hparams_lab.core.errors import UsageError
from hparams_lab.executors.protocol import Asked, Ended, Executor, Job, Resources, Setup

NAMES = ("process", "inline", "ray")

__all__ = ["NAMES", "Ended", "Executor", "Job", "Resources", "Setup", "executor_of", "make_executor"]


def _nobody() -> bool:
    return False


@contextlib.contextmanager
def executor_of(
    name: str | None = None, resources: Resources | None = None, asked_to_stop: Asked = _nobody
) -> Iterator[Executor]:
    """`make_executor`, stopped at the end whatever happens."""
    executor = make_executor(name, resources, asked_to_stop)
    try:
        yield executor
    finally:
        executor.stop()


def make_executor(
    name: str | None = None, resources: Resources | None = None, asked_to_stop: Asked = _nobody
) -> Executor:
    """The executor of that name: "process" (the default where the system can fork), "inline" or "ray".

    Raises UsageError for an unknown name or resources that do not fit, MissingExtraError without Ray.
    """
    resources = resources or Resources()
    if resources.ray_address is not None and name != "ray":
        raise UsageError("--ray-address needs --executor ray; add it, or leave the address out")
    name = name or ("process" if hasattr(os, "fork") else "inline")
    if name == "inline":
        from hparams_lab.executors.inline import InlineExecutor

        return InlineExecutor(resources)
    if name == "process":
        from hparams_lab.executors.process import ProcessExecutor

        return ProcessExecutor(resources, asked_to_stop)
    if name == "ray":
        from hparams_lab.executors.ray import RayExecutor

        return RayExecutor(resources, asked_to_stop)
    raise UsageError(f"there is no executor {name!r}; there are {', '.join(NAMES)}")
