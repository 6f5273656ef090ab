"""`SearchLog`: the log directory of a search that another library runs.

    log = SearchLog.open("logs/grid", "GridSearchCV")      owns the directory; refuses one that holds something else
    log.declare(experiment)                                again, when the space turns out to be wider
    with log.start("run-0003-fold-1", hparams) as run:     here, or in a worker process that `log` was sent to
    log.close()

One directory, one experiment, a run per training, as a sweep of ours leaves it: `top`, `report` and TensorBoard do not
tell them apart. The values of a trial are taken as they are: the other library drew them.
"""

from __future__ import annotations

import contextlib
import os
import time
import warnings
from collections.abc import Iterator, Mapping

from hparams_lab.core.errors import HParamsLabError, LogDirError, UsageError
from hparams_lab.core.experiment import Experiment
from hparams_lab.core.trial import HParams, stored_values
from hparams_lab.core.values import Value
from hparams_lab.logdir.declaration import declare, experiment_message
from hparams_lab.logdir.run_reader import read_run
from hparams_lab.logdir.sweep_json import BY, load_sweep, save_sweep
from hparams_lab.run.provenance import PROVENANCE_TAG, command, git_state, provenance_markdown, versions
from hparams_lab.run.reopen import reopened
from hparams_lab.run.run import Run
from hparams_lab.run.run_dir import make_run_dir
from hparams_lab.storage import disk
from hparams_lab.storage.ownership import owned
from hparams_lab.storage.paths import LogDirPaths, paths_of, writing
from hparams_lab.sweep.directory import check_in_advance, check_not_inside, check_unused, set_aside


class SearchLog:
    """The log directory of a search. Made by `open`; in another process a copy starts runs, and nothing else.

    Attributes:
      paths: those of the directory.
      experiment: what was declared last; None before.
    """

    def __init__(self, paths: LogDirPaths, experiment: Experiment | None = None) -> None:
        self.paths = paths
        self.experiment = experiment
        self._by = ""
        self._held = contextlib.ExitStack()

    @classmethod
    def open(cls, logdir: str | os.PathLike[str], by: str, *, fresh: bool = False, goes_on: bool = False) -> SearchLog:
        """Own a log directory for a search.

        Args:
          logdir: made when it is not there.
          by: what searches, such as "GridSearchCV" or "keras-tuner Hyperband"; `sweep.json` says it.
          fresh: move what the directory holds aside, to a name beside it.
          goes_on: whether a directory that such a search filled before may be gone on with.

        Raises LogDirError when it holds something else or cannot be written, OwnedError while another works in it.
        Nothing is written then.
        """
        log = cls(paths_of(logdir))
        root = log.paths.root
        cls.check(root, by, fresh=fresh, goes_on=goes_on)
        try:
            ownership = log._held.enter_context(owned(root))
            if fresh:
                set_aside(root)
            else:
                _check(log.paths, by, goes_on)  # again, now that nobody else works in it
            ownership.announce()
        except BaseException:
            log.close()
            raise
        log._by = by
        return log

    @classmethod
    def check(cls, logdir: str | os.PathLike[str], by: str, *, fresh: bool = False, goes_on: bool = False) -> None:
        """Refuse what `open` would refuse now, without owning or making anything. Raises as it does."""
        paths = paths_of(logdir)
        check_in_advance(paths.root)
        if fresh:
            check_not_inside(paths.root, "fresh=True")
        else:
            _check(paths, by, goes_on)

    def __reduce__(self) -> tuple[type[SearchLog], tuple[LogDirPaths, Experiment | None]]:
        return SearchLog, (self.paths, self.experiment)

    def declare(self, experiment: Experiment) -> None:
        """Say what is tuned and measured: for TensorBoard, and in `sweep.json`. Only what differs is written."""
        if experiment == self.experiment:
            return
        stored = load_sweep(self.paths)
        with writing(self.paths.root):
            if stored is None:
                git = git_state()
                stored = {BY: self._by, "command": command(), "created": time.time()}
                stored |= {"versions": versions(), "git_commit": git and git[0]}
            save_sweep(self.paths, {**stored, "experiment": experiment.to_json()})
            declare(self.paths, experiment_message(experiment), combine=lambda old, new: new)
        self.experiment = experiment

    def start(
        self,
        name: str,
        hparams: Mapping[str, Value],
        trial_id: str | None = None,
        provenance: bool = True,
        judged: bool = True,
        fsync: bool = True,
    ) -> Run:
        """Start a run, in any process.

        Args:
          name: of its directory; one that is taken gets a number.
          hparams: its values by name, of types that TensorBoard holds.
          trial_id: runs of the same trial share it; the hash of the values when left out.
          provenance: log the command, versions and host, in the background.
          judged: whether it has diverged when it completes and its objective is not finite; else the caller says so.
          fsync: whether its end waits until the run is on the disk.

        Raises LogDirError when it cannot be made, UsageError before anything is declared.
        """
        if self.experiment is None:
            raise UsageError("a run starts before anything is declared; declare(experiment) comes first")
        name = make_run_dir(self.paths, name, if_exists="number")
        try:
            stored = stored_values(hparams, self.experiment)
            run = Run(
                self.paths.run(name),
                name,
                HParams(hparams),
                trial=trial_id,
                experiment=self.experiment if judged else None,
                stored=stored,
                fsync=fsync,
            )
        except BaseException:
            disk.remove_tree(self.paths.run(name))
            raise
        if provenance:
            run.text_later(PROVENANCE_TAG, provenance_markdown)
        return run

    def go_on(self, name: str, hparams: Mapping[str, Value], after: int | None = None) -> Run:
        """Go on with a run that nobody writes, after its last whole record. An end that it has is taken back.

        Args:
          name: of its directory.
          hparams: its values by name.
          after: a step; what was logged behind it goes, to be logged again.

        Raises LogDirError when it holds no run, or cannot be written.
        """
        directory = self.paths.run(name)
        before = read_run(directory, name)
        if before is None:
            raise LogDirError(f"{directory} holds no run to go on with; delete it, or choose another log directory")
        return Run(
            directory,
            name,
            HParams(hparams),
            trial=before.trial_id,
            experiment=self.experiment,
            reopened=reopened(directory, before, after),
        )

    def close(self) -> None:
        """Let go of the directory."""
        self._held.close()


def run_name(index: int, part: str = "", number: int = 0) -> str:
    """`run-0003`, or `run-0003-fold-1` for a part of a trial."""
    return f"run-{index:04d}-{part}-{number}" if part else f"run-{index:04d}"


@contextlib.contextmanager
def not_lost(what: str, stacklevel: int = 4) -> Iterator[None]:
    """Whatever goes wrong with the log in this block is a warning: what was trained is not to be lost for that.

    Args:
      what: is then not in the log, in words.
      stacklevel: as `warnings.warn` takes it.
    """
    try:
        yield
    except Exception as error:  # of the log, of the disk, or of ours
        said = str(error) if isinstance(error, HParamsLabError) else repr(error)
        warnings.warn(f"{what} is not in the log: {said}", stacklevel=stacklevel)


def _check(paths: LogDirPaths, by: str, goes_on: bool) -> None:
    """Refuse a directory that holds something else. Raises LogDirError."""
    sweep = load_sweep(paths) if paths.root.is_dir() else None
    if goes_on and sweep is not None and sweep.get(BY) == by:
        return
    check_unused(paths, "give another log directory, or fresh=True moves it aside")
