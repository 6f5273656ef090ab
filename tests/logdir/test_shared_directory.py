"""A log directory that a group shares: what is made has the modes that the umask leaves, and what may not be written
is one line."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import hparams_lab as lab
from hparams_lab.core.errors import LogDirError
from hparams_lab.integrations.search_log import SearchLog
from hparams_lab.logdir.doctor.repair import repair_in_place
from hparams_lab.logdir.doctor.tree import Tree
from hparams_lab.logdir.prune import Criteria, plan_prune
from hparams_lab.logdir.prune.removal import prune
from hparams_lab.run.amend import add_scalars

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no modes")

SCRIPT = """
import os, sys
from pathlib import Path
import hparams_lab as lab
from hparams_lab.run.amend import add_scalars
from hparams_lab.logdir.doctor.repair import repair_in_place, repair_into
from hparams_lab.logdir.doctor.tree import Tree
from hparams_lab.integrations.search_log import SearchLog
from hparams_lab.logdir.merge import merge

root = Path(sys.argv[1])
experiment = lab.Experiment([lab.HParam("x", lab.Discrete([1, 2]))], metrics=[lab.Metric("loss", goal="min")])

def train(run):
    print("said")
    return {"loss": float(run.hparams["x"])}

for resume in (False, True):
    with lab.start_run(root / "runs", hparams={"x": 1}, name="a", resume=resume) as run:
        run.log({"loss": 0.5})
    add_scalars(run.dir, {"rank": 1})
lab.run_sweep(experiment, train, logdir=root / "sweep", executor="process", observe=lambda event: None)
lab.run_sweep(experiment, train, logdir=root / "inline", executor="inline", observe=lambda event: None)
log = SearchLog.open(root / "search", "a search")
log.declare(experiment)
log.start("run-0000", {"x": 1}).finish({"loss": 0.5})
log.close()
merge([root / "runs", root / "sweep"], root / "merged")
for name in ("runs", "sweep"):  # left without an end
    run = next(iter(lab.read(root / name).runs))
    (file,) = run.dir.glob("*tfevents*")
    file.write_bytes(file.read_bytes()[:-3])
    os.utime(file, (1.0, 1.0))
repair_into(Tree(root / "runs"), root / "mended")
repair_in_place(Tree(root / "sweep"))
"""


@pytest.mark.parametrize("umask", [0o002, 0o077], ids=oct)
def test_modes_are_what_the_umask_leaves(tmp_path, umask):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    logs = tmp_path / "logs"
    done = subprocess.run([sys.executable, str(script), str(logs)], umask=umask, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = {path.relative_to(logs): stat.S_IMODE(path.stat().st_mode) for path in logs.rglob("*")}
    names = {path.name for path in found}
    assert {".lock", ".lock-runs", "sweep.json", "output.log"} < names
    assert len([name for name in names if "tfevents" in name]) > 4
    wrong = {
        str(path): oct(mode)
        for path, mode in found.items()
        if mode != (0o777 if (logs / path).is_dir() else 0o666) & ~umask
    }
    assert wrong == {}


def test_what_is_written_anew_keeps_its_mode(tmp_path):
    run = logged(tmp_path)
    (file,) = run.glob("*tfevents*")
    file.write_bytes(file.read_bytes()[:-3])
    os.chmod(file, 0o640)
    os.utime(file, (1.0, 1.0))
    repair_in_place(Tree(tmp_path))
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


def logged(logdir: Path) -> Path:
    with lab.start_run(logdir, hparams={"x": 1}, name="a", provenance=False) as run:
        run.log({"loss": 0.5})
    return run.dir


@contextlib.contextmanager
def somebody_else(modes: Mapping[Path, int]) -> Iterator[None]:
    """Whoever may not do what the modes of these do not allow: root may do anything."""
    for path, mode in modes.items():
        os.chmod(path, mode)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)
        for path in modes:
            os.chmod(path, 0o755 if path.is_dir() else 0o644)


def modes(root: Path, directories: int, files: int = 0o644) -> dict[Path, int]:
    """The same mode for every directory and for every file."""
    return {path: directories if path.is_dir() else files for path in (root, *root.rglob("*"))}


def again(logdir: Path, resume: bool = True, **hparams: int) -> None:
    with lab.start_run(logdir, hparams={"x": 1, **hparams}, name="a", resume=resume, provenance=False):
        pass


ACTS = {
    "another run": lambda root: lab.start_run(root, hparams={"x": 1}, provenance=False).finish(),
    "a new column": lambda root: again(root, resume=True, y=2),
    "resume": again,
    "afterwards": lambda root: add_scalars(root / "a", {"rank": 1}),
    "a search": lambda root: SearchLog.open(root / "search", "a search"),
    "a sweep": lambda root: lab.run_sweep(
        lab.Experiment([lab.HParam("x", lab.Discrete([1]))], metrics=[lab.Metric("loss", goal="min")]),
        lambda run: {"loss": 0.5},
        logdir=root / "sweep",
        executor="inline",
        observe=lambda event: None,
    ),
    "prune": lambda root: prune(plan_prune(root, lab.read(root), Criteria(keep_best=1, metric="loss", goal="min"))),
    "repair": lambda root: repair_in_place(Tree(root)),
}


@pytest.fixture
def shared(tmp_path):
    """A directory that others may come to, and not write: its run, its lock and itself."""
    root = tmp_path / "logs"
    logged(root)
    for path in (tmp_path, *list(tmp_path.parents)[:2]):
        os.chmod(path, 0o755)
    for act in ("another run", "afterwards"):  # what these import is imported
        ACTS[act](root)
    return root


@pytest.mark.parametrize("act", ["another run", "resume", "afterwards", "a search", "a sweep"])
def test_a_directory_that_may_not_be_written_is_one_line(shared, act):
    with somebody_else(modes(shared, 0o555, 0o444)), pytest.raises(LogDirError) as told:
        ACTS[act](shared)
    assert "\n" not in str(told.value)
    assert str(shared) in str(told.value)


def test_a_lock_that_may_not_be_opened_is_one_line(shared):
    """The directory is everybody's, and a colleague of another umask made the lock."""
    with somebody_else(modes(shared, 0o777)):
        with pytest.raises(LogDirError, match=r"_experiment/\.lock cannot be written: Permission denied; choose ano"):
            lab.start_run(shared, hparams={"x": 1, "y": 2}, provenance=False)
        assert not (shared / "run-0002").exists()
    for name in (".lock", ".lock-runs"):
        (shared / name).touch()
        with (
            somebody_else(modes(shared, 0o777)),
            pytest.raises(LogDirError, match="cannot be written: Permission denied; choose another log directory"),
        ):
            SearchLog.open(shared, "a search", fresh=True)
        (shared / name).unlink()


@pytest.mark.parametrize("act", ["repair", "prune"])
def test_what_may_not_be_mended_or_deleted_is_one_line(shared, act):
    with lab.start_run(shared, hparams={"x": 2}, provenance=False) as run:
        run.log({"loss": 0.9})
    if act == "repair":
        (file,) = (shared / "a").glob("*tfevents*")
        file.write_bytes(file.read_bytes()[:-3])
        os.utime(file, (1.0, 1.0))
    with somebody_else(modes(shared.parent, 0o555)), pytest.raises(LogDirError) as told:
        ACTS[act](shared)
    assert "Permission denied" in str(told.value)
