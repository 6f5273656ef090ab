"""`View`: what TensorBoard is shown of log directories: all but what kills it, with one experiment.

A directory that is fine is shown as it is. Otherwise TensorBoard gets a directory of links: a link to each directory
in which all is well, and where it is not, a directory with a link to each file that does no harm. Two sessions in one
directory get one each, named as by `--repair`. It reads both ways through links, and follows files that grow. (Its own
`--logdir_spec` is no way: only the slow loader knows it.) New runs are looked for while the view is open.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tensorboard.plugins.hparams import api_pb2

from hparams_lab.core.errors import LogDirError
from hparams_lab.core.present import Counts
from hparams_lab.events.format.event_file import file_name, version_event
from hparams_lab.events.read.instead import Instead
from hparams_lab.events.read.layouts import Layouts
from hparams_lab.logdir.declaration import ExperimentMessage, declare, union
from hparams_lab.logdir.doctor.checks import group_of
from hparams_lab.logdir.doctor.columns import shared_metrics, whole_experiment
from hparams_lab.logdir.doctor.cures import Cure, session_of, without_experiment
from hparams_lab.logdir.doctor.deadly import deadly, loops, why_deadly
from hparams_lab.logdir.doctor.examine import counts_of
from hparams_lab.logdir.doctor.parted import Moved, moved
from hparams_lab.logdir.doctor.tree import FileFacts, Tree, facts_of
from hparams_lab.storage.file_names import is_event_file
from hparams_lab.storage.paths import LogDirPaths, lies_in, local
from hparams_lab.storage.scratch import scratch

LOOK_SECONDS = 2.0

PREFIX = "hparams-lab-board-"
"""How the names of the directories of links begin."""


class View:
    """A context manager.

    Args:
      roots: the log directories.
      slow_loader: whether TensorBoard reads with `--load_fast=false`.

    Raises LogDirError when one is none, or holds no event file.
    """

    def __init__(self, roots: Sequence[Path], slow_loader: bool = False) -> None:
        self._slow = slow_loader
        self._roots = _labelled([*map(local, roots)])
        self._trees = {label: Tree(Path(os.path.abspath(root))) for label, root in self._roots.items()}
        self.withheld: dict[str, str] = {}
        for tree in self._trees.values():
            self.withheld |= deadly(tree, slow_loader)
        self._joins = len(self._trees) > 1 or any(_differ(tree) for tree in self._trees.values())
        self._hosts = any(_settled_guests(tree) for tree in self._trees.values())
        self._parts = {label: moved(tree) for label, tree in self._trees.items()}
        self._changes = self._joins or self._hosts or any(self._parts.values())
        if self._changes or self.withheld or slow_loader:
            for tree in self._trees.values():
                self.withheld |= loops(str(tree.root))
        self._made: Path | None = None
        self._closing = contextlib.ExitStack()
        self._open: dict[Path, Path] = {}
        self._settled: set[str] = set()
        self._stop = threading.Event()
        self._looks: threading.Thread | None = None

    @property
    def counts(self) -> Counts:
        """What the directories hold, as every command counts it."""
        return sum((counts_of(tree) for tree in self._trees.values()), Counts(0, 0, 0))

    @property
    def trials(self) -> int:
        """How many rows the tab will have: fewer than there are trials where some have no session, or are withheld."""
        shown = [run for tree in self._trees.values() for run in tree.sessions if not self._hides(run.files)]
        others = [part for parts in self._parts.values() for part in parts if part.is_session]
        others = [part for part in others if part.lacks_a_session or not self._hides(part.files)]
        return len({group_of(run) for run in shown} | {part.group for part in others})

    @property
    def runs(self) -> int:
        """How many runs TensorBoard opens."""
        return sum(len(tree.runs) for tree in self._trees.values())

    @property
    def instead(self) -> list[Instead]:
        """What stands in the place of event files, for each."""
        files = (file for tree in self._trees.values() for _, file in tree.files)
        return [file.instead for file in files if file.instead is not None]

    def _hides(self, files: Iterable[Any]) -> bool:
        return all(str(file.path) in self.withheld for file in files if file.starts)

    def __enter__(self) -> View:
        if self._changes or self.withheld:
            self._made = self._closing.enter_context(scratch(Path(tempfile.gettempdir()), PREFIX))
            try:
                self._fill(self._made)
            except BaseException:
                self.__exit__()
                raise
            self._looks = threading.Thread(target=self._look, name="hparams_lab view", daemon=True)
            self._looks.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stop.set()
        if self._looks is not None:
            self._looks.join()
        self._closing.close()

    @property
    def logdir(self) -> Path:
        """What to give to TensorBoard."""
        return self._made or next(iter(self._trees.values())).root

    def _fill(self, made: Path) -> None:
        message = ExperimentMessage()
        for label, tree in self._trees.items():
            hidden, parts = self._hidden(tree), self._parts[label]
            self._mirror(tree.root, made / label, hidden | {str(f.path): None for part in parts for f in part.files})
            for part in parts:
                self._part(part, made / label / part.name, hidden)
            message = union(message, whole_experiment(tree))
        if self._joins:
            shared = sorted(shared_metrics(self._trees.values()))
            infos = [api_pb2.MetricInfo(name=api_pb2.MetricName(group=group, tag=tag)) for group, tag in shared]
            declare(LogDirPaths(made), union(message, ExperimentMessage(metric_infos=infos)))

    def _hidden(self, tree: Tree) -> dict[str, bytes | None]:
        """The files of a tree that are not linked, each with what stands in its place."""
        hidden: dict[str, bytes | None] = dict.fromkeys(path for path in self.withheld if _is_below(path, tree.root))
        declaring = (file for _, file, _ in tree.experiments if self._joins)
        for file in (*declaring, *_settled_guests(tree)):
            if str(file.path) not in hidden:
                hidden[str(file.path)] = without_experiment(file)
        return hidden

    def _mirror(self, source: Path, target: Path, hidden: Mapping[str, bytes | None]) -> None:
        """Make a directory that shows what `source` does, but for what is hidden."""
        target.mkdir(parents=True, exist_ok=True)
        self._open[source] = target
        self._settled |= hidden.keys()
        opened = {str(parent) for path in hidden for parent in Path(path).parents}
        for entry in os.scandir(source):
            stead = hidden.get(entry.path, b"")
            if entry.path in opened and entry.is_dir(follow_symlinks=False):
                self._mirror(Path(entry.path), target / entry.name, hidden)
            elif entry.path in hidden and stead:
                (target / entry.name).write_bytes(stead)
            elif entry.path not in hidden and _is_shown(entry):
                _link(entry.path, target / entry.name)

    def _part(self, part: Moved, target: Path, hidden: Mapping[str, bytes | None]) -> None:
        """Show the files of a session that is not the first of its directory in a directory of their own."""
        target.mkdir(parents=True, exist_ok=True)
        for file in part.files:
            stead = hidden.get(str(file.path), b"")
            if stead:
                (target / file.path.name).write_bytes(stead)
            elif stead is not None:
                _link(str(file.path), target / file.path.name)
        if part.lacks_a_session:
            (target / file_name()).write_bytes(version_event(time.time()) + session_of(part.run.files, Cure()))

    def _look(self) -> None:
        """Show what is new, and drop what is gone, until the view is closed."""
        while not self._stop.wait(LOOK_SECONDS):
            for source, target in list(self._open.items()):
                with contextlib.suppress(OSError, LogDirError):  # gone, or only just beginning: next time
                    self._follow(source, target)

    def _follow(self, source: Path, target: Path) -> None:
        shown = {entry.name: entry for entry in os.scandir(target)}
        for name, entry in shown.items():
            if entry.is_symlink() and not os.path.exists(entry.path):
                os.unlink(target / name)
        for entry in list(os.scandir(source)):
            if entry.name in shown or entry.path in self._settled or not _is_shown(entry):
                continue
            if entry.is_dir(follow_symlinks=False):
                self._add(Path(entry.path), target / entry.name)
            else:
                self._add_file(source, entry.name, target)

    def _add_file(self, source: Path, name: str, target: Path) -> None:
        """Show a new file of a directory that is not shown as a whole."""
        facts = facts_of(str(source), name, "", Layouts())
        reason = why_deadly(facts, self._slow)
        self._settled.add(f"{source}/{name}")
        if reason:
            self.withheld[f"{source}/{name}"] = reason
        elif not (facts.experiments and self._joins):
            _link(f"{source}/{name}", target / name)

    def _add(self, source: Path, target: Path) -> None:
        """Show a new directory, if there is anything in it yet."""
        tree = Tree(source)
        self.withheld |= {**dict(loops(str(source))), **deadly(tree, self._slow)}
        hidden = self._hidden(tree)
        if hidden:
            self._mirror(source, target, hidden)
        else:
            _link(str(source), target)
        if self._joins and self._made is not None:
            declare(LogDirPaths(self._made), whole_experiment(tree))


def _labelled(roots: Sequence[Path]) -> dict[str, Path]:
    """A name for each directory, by which its runs are told apart; "" where there is only one."""
    if len(roots) == 1:
        return {"": roots[0]}
    found: dict[str, Path] = {}
    for root in dict.fromkeys(Path(os.path.abspath(root)) for root in roots):
        name = root.name or "root"
        found[next(label for label in _numbered(name) if label not in found)] = root
    return found if len(found) > 1 else {"": next(iter(found.values()))}


def _numbered(name: str) -> Iterator[str]:
    yield name
    number = 2
    while True:
        yield f"{name}-{number}"
        number += 1


def _differ(tree: Tree) -> bool:
    """Whether a directory has experiments that declare different things: TensorBoard would take any one of them."""
    found = [message for _, _, message in tree.experiments]
    fields = ("hparam_infos", "metric_infos")
    return any(getattr(found[0], name) != getattr(other, name) for other in found[1:] for name in fields)


def _settled_guests(tree: Tree) -> list[FileFacts]:
    """The files of other loggers whose hparams are not shown: what stands in place of one does not grow with it."""
    return [file for file in tree.guests if not file.is_held]


def _is_below(path: str, root: Path) -> bool:
    return lies_in(path, str(root))


def _is_shown(entry: os.DirEntry[str]) -> bool:
    """Whether TensorBoard would read it; links to directories are not followed."""
    if entry.is_dir(follow_symlinks=False):
        return True
    return is_event_file(entry.name) and not os.path.isdir(entry.path)


def _link(source: str, target: Path) -> None:
    try:
        os.symlink(os.path.realpath(source), target)
    except FileExistsError:
        pass
    except OSError as error:  # Windows without the right to
        raise LogDirError(f"{target} cannot be made a link ({error.strerror}); run as an administrator") from None
