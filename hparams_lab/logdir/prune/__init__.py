"""What of a log directory may go: `plan_prune` says which runs, of which files, and which are spared and why."""

from __future__ import annotations

import os
import re
import socket
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hparams_lab.core.curve import LAST, By
from hparams_lab.core.errors import UsageError
from hparams_lab.core.outcome import Outcome
from hparams_lab.core.present import BROKEN
from hparams_lab.core.results import Results, RunResult
from hparams_lab.core.scalar import Goal, checked_goal
from hparams_lab.logdir.membership import Owned, owned
from hparams_lab.logdir.walk import above_of
from hparams_lab.storage.file_names import is_event_file
from hparams_lab.storage.locks import is_held
from hparams_lab.storage.paths import MODEL, OUTPUT_LOG, local

PRUNED = ".pruned-"
"""How the names begin that directories have while they are deleted."""

FAILED = BROKEN | {Outcome.INTERRUPTED}


@dataclass(frozen=True, slots=True)
class Criteria:
    """Which runs are to go: those that went wrong or were interrupted, the diverged, and all but the best N trials.

    `metric`, `goal` and `by` say which are best, as for `Results.top`.
    """

    failed: bool = False
    diverged: bool = False
    keep_best: int | None = None
    metric: str | None = None
    goal: Goal | None = None
    by: By = LAST


@dataclass(frozen=True, slots=True)
class Removal:
    """A run that goes, and why: directories as a whole, single files of those that hold something else, their bytes."""

    run: RunResult
    why: str
    trees: tuple[Path, ...]
    files: tuple[Path, ...]
    size: int

    @property
    def event_files(self) -> list[Path]:
        """All its event files."""
        below = (file for tree in self.trees for file in _files_below(tree))
        return [file for file in (*below, *self.files) if is_event_file(file.name)]


@dataclass(frozen=True, slots=True)
class Plan:
    """What goes, what should and is spared with the reason, how many runs stay, and what an earlier prune left."""

    root: Path
    removals: tuple[Removal, ...]
    spared: tuple[tuple[RunResult, str], ...]
    kept: int
    leftovers: tuple[Path, ...]

    @property
    def size(self) -> int:
        """The bytes of all that goes."""
        left = (file for tree in self.leftovers for file in _files_below(tree))
        return sum(removal.size for removal in self.removals) + sum(map(_size, left))


def plan_prune(logdir: str | os.PathLike[str], results: Results, criteria: Criteria) -> Plan:
    """Say which of the runs that were read from `logdir` go.

    Raises UsageError without any criterion, for a metric that cannot rank, and when no trial is good enough to stay.
    """
    root = Path(os.path.normpath(local(logdir)))
    every = owned(root, results.runs)
    below = _below(every)
    chosen = _chosen(results, criteria)
    removals: list[Removal] = []
    spared: list[tuple[RunResult, str]] = []
    for each in every:
        why = chosen.get(id(each.run))
        if why and (reason := why_spared(root, each)):
            spared.append((each.run, reason))
        elif why:
            removals.append(_removal(each, below, why))
    kept = len(every) - len(removals)
    return Plan(root, tuple(removals), tuple(spared), kept, tuple(_leftovers(root)))


def _chosen(results: Results, criteria: Criteria) -> dict[int, str]:
    """The runs to go by their identity, and why."""
    if not (criteria.failed or criteria.diverged) and criteria.keep_best is None:
        raise UsageError("nothing says which runs are to go; give --failed, --diverged or --keep-best N")
    chosen: dict[int, str] = {}
    if criteria.keep_best is not None:
        for run in _not_among_the_best(results, criteria):
            chosen[id(run)] = f"not among the best {criteria.keep_best}"
    wanted = (FAILED if criteria.failed else frozenset()) | ({Outcome.DIVERGED} if criteria.diverged else frozenset())
    chosen.update({id(run): str(run.outcome) for run in results.runs if run.outcome in wanted})
    return chosen


def _not_among_the_best(results: Results, criteria: Criteria) -> Iterator[RunResult]:
    tag, goal = _told(results, criteria)
    ranked, others = results.order(tag, goal, criteria.by)
    if others and not ranked:
        raise UsageError(f"no trial completed with a finite {tag!r}, so none would stay; name another --metric")
    for trial in results.contenders([*ranked[criteria.keep_best :], *others]):
        goes_on = trial.outcome is Outcome.RUNNING  # the runs that it has so far are needed for its mean
        yield from (run for run in trial.runs if not goes_on or run.outcome is Outcome.RUNNING)


def _told(results: Results, criteria: Criteria) -> tuple[str, Goal]:
    """The metric and its better direction, as somebody said them: what is only guessed deletes nothing."""
    tag, goal = results.tag_of(criteria.metric), checked_goal(criteria.goal)
    if criteria.metric is None and not results.is_objective_sure:
        raise UsageError(
            f"no objective is declared, and what goes is not guessed; name the metric that ranks, such as "
            f"--metric {tag} --{goal or results.goal(tag)}"
        )
    if goal is None and not results.is_goal_sure(tag):
        how = "not declared" if results.goal_of(tag) is None else "only guessed, and what goes is not"
        raise UsageError(f"whether more or less of {tag!r} is better is {how}; say --max or --min")
    return tag, goal or results.goal(tag)


# --- what is spared -------------------------------------------------------------------------------------------------


def why_spared(root: Path, each: Owned) -> str:
    """Why a run must not be touched; empty when it may."""
    run = each.run
    if run.outcome is Outcome.RUNNING or any(map(is_held, _event_files(each))):
        return "it is still running"
    if run.outcome in (Outcome.INTERRUPTED, Outcome.UNKNOWN):
        alive = next(filter(None, (_living_writer(file.name) for file in _event_files(each))), None)
        if alive is not None:
            return f"its process {alive} is still there"
    real = os.path.realpath(root)
    for folder in each.folders:
        if os.path.realpath(folder.path) != os.path.normpath(os.path.join(real, os.path.relpath(folder.path, root))):
            return "a link leads there"
    return ""


_WRITER = re.compile(r"tfevents\.(?:hparams_lab\.)?\d+\.(?P<host>.+)\.(?P<pid>\d+)\.\d+(\.v2)?$")


def _living_writer(name: str) -> int | None:
    """The process that the name of an event file tells, if it is there: not every tool locks what it writes."""
    found = _WRITER.search(name)
    if found is None or os.name == "nt" or found["host"] != re.sub(r"[^\w.-]", "_", socket.gethostname()):
        return None
    try:
        os.kill(int(found["pid"]), 0)
    except (ProcessLookupError, OverflowError):
        return None
    except PermissionError:
        pass
    return int(found["pid"])


def _event_files(each: Owned) -> list[Path]:
    return [Path(folder.path, file) for folder in each.folders for file in folder.files]


# --- what goes ------------------------------------------------------------------------------------------------------


def _removal(each: Owned, below: Counter[str], why: str) -> Removal:
    """A directory goes as a whole unless it is the root, or another run is in it; then the run's own files go. Where
    its event files lie beside those of another run, those go, and nothing else: whose the rest is is not known.

    Args: below: how many directories of runs are below each directory.
    """
    own = _below([each])
    trees: list[Path] = []
    files: list[Path] = []
    for folder in sorted(each.folders, key=lambda folder: len(folder.name)):
        path = Path(folder.path)
        if any(tree in path.parents for tree in trees):
            continue
        if not each.is_alone:
            files += [path / name for name in folder.files]
        elif folder.name and below[folder.name] == own[folder.name]:
            trees.append(path)
        else:
            names = [*folder.files, *((OUTPUT_LOG, MODEL, *_earlier_logs(path)) if folder.name else ())]
            files += [path / name for name in names if (path / name).is_file()]
    size = sum(map(_size, files)) + sum(_size(file) for tree in trees for file in _files_below(tree))
    return Removal(each.run, why, tuple(trees), tuple(files), size)


def _earlier_logs(run: Path) -> list[str]:
    """What the earlier attempts of a run printed: output-1.log, ..."""
    return [name for name in os.listdir(run) if re.fullmatch(r"output-\d+\.log", name)]


def _below(runs: Iterable[Owned]) -> Counter[str]:
    """How many directories of these runs are below each directory."""
    return Counter(above for each in runs for folder in each.folders for above in above_of(folder.name))


def _files_below(tree: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(tree):
        yield from (Path(folder, name) for name in names)


def _size(file: Path) -> int:
    try:
        return os.lstat(file).st_size
    except OSError:  # gone meanwhile
        return 0


def _leftovers(root: Path) -> Iterator[Path]:
    """The directories that a prune which was killed had begun to delete."""
    for folder, children, _ in os.walk(root):
        left = [child for child in children if child.startswith(PRUNED)]
        children[:] = [child for child in children if child not in left]
        yield from (Path(folder, child) for child in left if not os.path.islink(Path(folder, child)))
