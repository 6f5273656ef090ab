"""`examine`: everything that is wrong with a log directory."""

from __future__ import annotations

import os

from hparams_lab.core.curve import extremes
from hparams_lab.core.errors import LogDirError
from hparams_lab.core.present import Counts
from hparams_lab.logdir.doctor import checks, columns, steps
from hparams_lab.logdir.doctor.ailment import Diagnosis, Severity
from hparams_lab.logdir.doctor.checks import group_of
from hparams_lab.logdir.doctor.tree import Tree
from hparams_lab.logdir.reader import read
from hparams_lab.storage.paths import local


def examine(logdir: str | os.PathLike[str]) -> Diagnosis:
    """Look through a log directory. Raises LogDirError when it is none, or holds no event file."""
    return diagnosis_of(Tree(local(logdir)))


def diagnosis_of(tree: Tree) -> Diagnosis:
    """What is wrong, by its facts."""
    found = [ailment for check in (*checks.CHECKS, *steps.CHECKS, *columns.CHECKS) for ailment in check(tree)]
    found.sort(key=lambda ailment: ailment.severity is not Severity.ERROR)
    running = tuple(run.name for run in tree.runs if run.is_held)
    return Diagnosis(tree.root, counts_of(tree), tuple(found), running)


def counts_of(tree: Tree) -> Counts:
    """What there is, as the other commands count it: by reading; by the doctor's facts where that is refused."""
    try:
        return Counts.of(read(tree.root, thin=extremes))
    except LogDirError:  # of a `sweep.json` that is none, or because no file can be read
        runs = [run for run in tree.runs if run.tags or run.start is not None]
        return Counts(len(runs), len({group_of(run) for run in tree.sessions}), len(tree.sessions))
