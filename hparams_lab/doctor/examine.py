"""`examine`: everything that is wrong with a log directory."""

from __future__ import annotations

import os

from hparams_lab.doctor import checks, columns, steps
from hparams_lab.doctor.ailment import Diagnosis, Severity
from hparams_lab.doctor.tree import Tree
from hparams_lab.paths import local


def examine(logdir: str | os.PathLike[str]) -> Diagnosis:
    """Look through a log directory. Raises LogDirError when it is none, or holds no event file."""
    return diagnosis_of(Tree(local(logdir)))


def diagnosis_of(tree: Tree) -> Diagnosis:
    """What is wrong, by its facts."""
    found = [ailment for check in (*checks.CHECKS, *steps.CHECKS, *columns.CHECKS) for ailment in check(tree)]
    found.sort(key=lambda ailment: ailment.severity is not Severity.ERROR)
    running = tuple(run.name for run in tree.runs if run.is_held)
    return Diagnosis(tree.root, len(tree.sessions), tuple(found), running)
