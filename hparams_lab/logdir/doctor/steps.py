"""The checks of steps: those that TensorBoard cannot answer with, and those that go back.

TensorBoard's default loader drops a tag's earlier points whose step is not smaller than the next one's, so that a
training that began again hides what it overtook. The reader drops the same only where a file or a `SessionLog.START`
says that a training began again.
Source: https://github.com/tensorflow/tensorboard/blob/2.21.0/tensorboard/data/server/reservoir.rs
"""

from __future__ import annotations

from collections.abc import Iterator

from hparams_lab.events.read.layouts import Layouts
from hparams_lab.logdir.doctor.ailment import Ailment, Severity, plural
from hparams_lab.logdir.doctor.checks import writers_of
from hparams_lab.logdir.doctor.tree import RunFacts, Tree
from hparams_lab.logdir.run_reader import RunReader

ERROR, WARNING = Severity.ERROR, Severity.WARNING


def huge_steps(tree: Tree) -> Iterator[Ailment]:
    """Steps that the tab cannot answer with."""
    files = [file for _, file in tree.files if file.wild_steps]
    if files:
        yield Ailment(
            "huge-step",
            ERROR,
            f"{plural(len(files), 'file')} with steps beyond 2**31-1",
            "an error in place of the HParams tab, for all runs",
            "the steps of the run begin at 0 (its smallest is taken off) or, where that is not enough, are numbered",
            tuple(file.name for file in files),
        )


def steps_back(tree: Tree) -> Iterator[Ailment]:
    """Steps that go back within a file: a second training in one run, or a run that was gone on with at its first step.

    A file that begins anew beside another is a restart, whose earlier points are dropped on purpose.
    """
    runs = [run for run in tree.runs if any(file.back for file in run.files)]
    if runs:
        tag, (last, first) = next((tag, at) for file in runs[0].files for tag, at in file.back.items())
        example = f"{tag!r} in {runs[0].name or '.'} from {last} to {first}"
        yield Ailment(
            "steps-back",
            ERROR,
            f"{plural(len(runs), 'run')} whose steps go back, as of {example}",
            "less than there is: its default loader drops a tag's earlier points from the step that it goes back to on",
            "the steps that follow go on counting behind those before; a tag whose steps never go back keeps them",
            tuple(run.name or "." for run in runs),
            names=tuple(dict.fromkeys(tag for run in runs for file in run.files for tag in file.back)),
        )


def swapped(tree: Tree) -> Iterator[Ailment]:
    """Neighbours in the wrong order, as threads that log at the same time leave them."""
    runs = [run for run in tree.runs if any(file.swapped for file in run.files)]
    if runs:
        tag, (last, first) = next((tag, at) for file in runs[0].files for tag, at in file.swapped.items())
        yield Ailment(
            "steps-swapped",
            WARNING,
            f"{plural(len(runs), 'run')} with neighbours out of order, as of {tag!r} in {runs[0].name or '.'} "
            f"step {last} before {first}",
            "all but a point or two at each such place; `read`, `top` and `export` have every point",
            "log the steps of a tag in their order, from one thread",
            tuple(run.name or "." for run in runs),
            repairable=False,
            names=tuple(dict.fromkeys(tag for run in runs for file in run.files for tag in file.swapped)),
        )


def restarted(tree: Tree) -> Iterator[Ailment]:
    """Trainings that began again at an earlier step, in a file or session of their own. A warning: all readers agree
    on them."""
    counts = {run.name or ".": count for run in tree.runs if (count := _overtaken(run))}
    if counts:
        dropped = sum(counts.values())
        yield Ailment(
            "restarted",
            WARNING,
            f"{plural(len(counts), 'run')} that began again at an earlier step: "
            f"{plural(dropped, 'earlier point')} {'is' if dropped == 1 else 'are'} left out",
            "what was logged last of each step; `read`, `top` and `export` do too",
            "nothing, if that is right; to see both, give each training a directory of its own",
            tuple(counts),
            repairable=False,
        )


def _overtaken(run: RunFacts) -> int:
    """How many points of a run are left out because a training began again."""
    if not any(file.was_restarted for file in run.files) and (len(run.files) < 2 or len(writers_of(run)) > 1):
        return 0
    reader = RunReader(str(run.directory), Layouts())
    reader.read_new([file.path.name for file in run.files])
    overtaken = sum(reader.facts.overtaken.values())
    if any(file.findings for file in run.files) or (len(run.files) > 1 and any(file.is_own for file in run.files)):
        return overtaken  # what else is not read has other reasons
    stored = sum(count for file in run.files for count in file.tags.values())
    return max(stored - sum(len(points.steps) for points in reader.facts.columns().values()), overtaken)


CHECKS = (huge_steps, steps_back, swapped, restarted)
