"""`--extend`: a sweep that a directory holds gets hparams, values or trials more, and keeps what is done."""

import contextlib
import json
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

import hparams_lab as lab
from hparams_lab.core.errors import DomainLoadError, LogDirError, UsageError
from hparams_lab.logdir.declaration import current_declaration, experiment_message
from hparams_lab.logdir.sweep_json import load_sweep, save_sweep
from hparams_lab.storage import disk
from hparams_lab.storage.ownership import owned
from hparams_lab.storage.paths import LogDirPaths
from hparams_lab.sweep.directory import check_directory, prepare, source_note
from hparams_lab.sweep.events import RunEnded, SweepNote
from hparams_lab.sweep.plan import Plan
from hparams_lab.targets import domain_files
from hparams_lab.targets.load import function_domain, load_domain

LOSS, ACCURACY = lab.Metric("loss"), lab.Metric("accuracy")


def space(*units, metrics=(ACCURACY,), **hparams):
    """Widths, and other hparams by name with their values."""
    more = [lab.HParam(name, lab.Discrete(values)) for name, values in hparams.items()]
    return lab.Experiment([lab.HParam("units", lab.Discrete(units)), *more], metrics)


class Train:
    """Notes the values that it trains."""

    __name__ = "train"

    def __init__(self):
        self.trained = []

    def __call__(self, run):
        self.trained.append(dict(run.hparams))
        return {"accuracy": run.hparams["units"] / 100 + random.random() / 1000, "loss": 1.0}


def sweep(logdir, experiment, train=None, **options):
    """What was trained, by a sweep in this process."""
    train = train or Train()
    lab.run_sweep(experiment, train, logdir=logdir, executor="inline", observe=lambda event: None, **options)
    return train.trained


def tree(root):
    """Every path below `root`, with what the files hold."""
    return {path.relative_to(root): path.is_file() and path.read_bytes() for path in sorted(root.rglob("*"))}


def by_name(logdir):
    return {run.name: (run.hparams, run.metrics, run.ended) for run in lab.read(logdir).runs}


def experiments(logdir):
    """The directories of Experiment summaries: one."""
    return [path.name for path in (logdir / "_experiment").iterdir() if path.name.isdecimal()]


def refused(logdir, error, message, experiment, **options):
    """One line, nothing trained, and the directory byte for byte as it was."""
    before = tree(logdir)
    train = Train()
    with pytest.raises(error, match=message):
        sweep(logdir, experiment, train, **options)
    assert (tree(logdir), train.trained) == (before, [])


ADDED = {
    "values": (space(8, 16, 32), [{"units": 32}], "hparam units: 8, 16 -> 8, 16, 32"),
    "values in another order": (space(32, 16, 8), [{"units": 32}], "hparam units: 8, 16 -> 32, 16, 8"),
    "an hparam": (
        space(8, 16, rate=[0.5]),
        [{"units": 8, "rate": 0.5}, {"units": 16, "rate": 0.5}],
        "hparam rate: added",
    ),
    "a metric": (space(8, 16, metrics=[ACCURACY, LOSS]), [], "metric loss: added"),
}


@pytest.mark.parametrize("what", ADDED)
def test_what_is_added_is_run_and_what_is_done_stays(tmp_path, what):
    experiment, trained, said = ADDED[what]
    assert sweep(tmp_path, space(8, 16)) == [{"units": 8}, {"units": 16}]
    before, created = by_name(tmp_path), load_sweep(LogDirPaths(tmp_path))["created"]
    refused(
        tmp_path, LogDirError, rf"^.*{re.escape(said)}; choose another --logdir, --extend adds to it, or", experiment
    )
    assert sweep(tmp_path, experiment, extend=True) == trained
    after = by_name(tmp_path)
    assert {name: after[name] for name in before} == before
    assert sorted(after) == [f"run-{number:04d}" for number in range(len(before) + len(trained))]
    assert [after[name][0] for name in sorted(after)[2:]] == trained
    assert experiments(tmp_path) == ["2"]
    assert current_declaration(LogDirPaths(tmp_path)).hparam_infos == experiment_message(experiment).hparam_infos
    assert current_declaration(LogDirPaths(tmp_path)).metric_infos == experiment_message(experiment).metric_infos
    found = load_sweep(LogDirPaths(tmp_path))
    assert (found["experiment"], found["created"]) == (experiment.to_json(), created)
    assert [entry["changes"] for entry in found["extended"]] == [[said]]
    assert abs(found["extended"][0]["when"] - time.time()) < 60
    assert (found["trials"], found["runs"]) == (None, 2 if what == "an hparam" else len(after))
    settled = tree(tmp_path)
    assert sweep(tmp_path, experiment, extend=True) == sweep(tmp_path, experiment) == []  # the same sweep by now
    assert tree(tmp_path) == settled


def test_again_and_again(tmp_path):
    for count in range(1, 5):
        trained = sweep(tmp_path, space(*range(1, count + 1)), extend=True)  # the first: nothing there to extend
        assert trained == [{"units": count}]
    assert experiments(tmp_path) == ["4"]
    assert len(load_sweep(LogDirPaths(tmp_path))["extended"]) == 3
    refused(
        tmp_path, LogDirError, "--extend only adds to .*: hparam units: 1, 2, 3, 4 -> 1, 2; ", space(1, 2), extend=True
    )


def test_a_grid_of_more_points(tmp_path):
    interval = lab.Experiment([lab.HParam("units", lab.RealInterval(0, 8))], [ACCURACY])
    sweep(tmp_path, interval)
    assert sweep(tmp_path, interval, points=5, extend=True) == [{"units": 2.0}, {"units": 4.0}, {"units": 6.0}]
    assert [run.hparams["units"] for run in lab.read(tmp_path).runs] == [0.0, 8.0, 2.0, 4.0, 6.0]
    assert (load_sweep(LogDirPaths(tmp_path))["points"], experiments(tmp_path)) == (5, ["1"])


NOT_ADDED = {
    "seed: 0 -> 1": (space(8, 16), {"seed": 1}),
    "hparam units: 8, 16 -> 8": (space(8), {}),
    "hparam units: 8, 16 -> 8, 16, None": (space(8, 16, None), {}),
    "metric accuracy: removed; objective: accuracy -> loss": (space(8, 16, metrics=[LOSS]), {}),
}


@pytest.mark.parametrize("difference", NOT_ADDED)
@pytest.mark.parametrize("more", [{}, {"points": 5}])
def test_what_does_not_only_add_is_refused_and_named(tmp_path, difference, more):
    experiment, options = NOT_ADDED[difference]
    sweep(tmp_path, space(8, 16))
    message = (
        rf"^--extend only adds to {tmp_path}, and this is another sweep: {difference}; choose another --logdir, or"
    )
    refused(tmp_path, LogDirError, message, experiment, extend=True, **options, **more)
    refused(
        tmp_path, LogDirError, r" holds another sweep: .*; choose another --logdir, or --fresh", experiment, **options
    )


def test_many_differences_are_cut(tmp_path):
    sweep(tmp_path, space(8))
    wide = space(8, **{f"x{number}": [number] for number in range(9)})
    refused(tmp_path, LogDirError, r"sweep: hparam x0: added; .*; hparam x5: added; and 3 more; choose another", wide)


def test_fresh_and_extend_exclude_each_other(tmp_path):
    sweep(tmp_path, space(8))
    refused(tmp_path, UsageError, r"^--fresh and --extend are both given; ", space(8), extend=True, fresh=True)
    plan = Plan(function_domain(space(8), Train()))
    with pytest.raises(UsageError, match=r"^--fresh and --extend are both given; "):
        check_directory(LogDirPaths(tmp_path), plan, fresh=True, extend=True)


def test_what_no_sweep_made_is_not_extended(tmp_path):
    with lab.start_run(tmp_path, hparams={"units": 8}) as run:
        run.log({"accuracy": 1.0}, step=1)
    refused(tmp_path, LogDirError, r"holds runs that no sweep made; choose another --logdir, or", space(8), extend=True)


def test_how_many_trials_is_kept_current(tmp_path):
    def how_many(trials):
        sweep(tmp_path, space(8, 16, 32), trials=trials)
        found = load_sweep(LogDirPaths(tmp_path))
        return found["trials"], found["runs"], found["created"]

    first = how_many(1)
    before = (tmp_path / "sweep.json").stat().st_mtime_ns
    assert how_many(1) == first == (1, 1, first[2])
    assert (tmp_path / "sweep.json").stat().st_mtime_ns == before  # nothing changed, nothing was written
    assert how_many(2) == (2, 2, first[2])
    assert how_many(None) == (None, 3, first[2])
    assert "extended" not in load_sweep(LogDirPaths(tmp_path))


# --- killed in between ----------------------------------------------------------------------------------------------


def killed_at(count, paths, plan, **how):
    """Prepare a directory in a fork that is gone at its `count`-th operation on the disk; whether it came so far."""
    if (child := os.fork()) == 0:
        left = iter(range(count))
        disk.before = lambda operation, what: None if next(left, None) is not None else os._exit(9)
        try:
            with owned(paths.root) as ownership:
                check_directory(paths, plan, how.get("fresh", False), how.get("extend", False))
                ownership.announce()
                prepare(paths, plan, how.get("fresh", False), how.get("extend", False))
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, 9)
    return status == 9


def at_every_kill(tmp_path, old, then):
    """`then(logdir)` is killed at each operation in turn; the directories in which that left the sweep of `old`."""
    for count in range(200):
        logdir = tmp_path / str(count) / "logs"
        if old is not None:
            sweep(logdir, old)
        if not then(count, LogDirPaths(logdir)):
            assert count > 8
            return
        yield logdir
    pytest.fail("there is no end to it")


def test_killed_at_any_step_of_an_extension(tmp_path):
    """The same command goes on; so does the old one, as long as no run of the new sweep has begun."""
    old, new = space(8, 16), space(8, 16, 32)
    plan = Plan(function_domain(new, Train()))
    extended = 0
    for logdir in at_every_kill(tmp_path, old, lambda n, paths: killed_at(n, paths, plan, extend=True)):
        before = by_name(logdir)
        if load_sweep(LogDirPaths(logdir))["experiment"] == old.to_json():
            assert sweep(logdir, old) == []
            assert current_declaration(LogDirPaths(logdir)).hparam_infos == experiment_message(old).hparam_infos
        else:
            extended += 1
        assert sweep(logdir, new, extend=True) == [{"units": 32}]
        assert current_declaration(LogDirPaths(logdir)).hparam_infos == experiment_message(new).hparam_infos
        assert len(experiments(logdir)) == 1
        assert {name: by_name(logdir)[name] for name in before} == before
        assert [entry["changes"] for entry in load_sweep(LogDirPaths(logdir))["extended"]] == [
            ["hparam units: 8, 16 -> 8, 16, 32"]
        ]
    assert extended > 0


def test_killed_at_any_step_of_a_beginning(tmp_path):
    plan = Plan(function_domain(space(8), Train()))
    for logdir in at_every_kill(tmp_path, None, lambda n, paths: killed_at(n, paths, plan)):
        assert sweep(logdir, space(8)) == [{"units": 8}]
        assert len(experiments(logdir)) == 1


def test_killed_at_any_step_of_moving_aside(tmp_path):
    plan = Plan(function_domain(space(9), Train()))
    for logdir in at_every_kill(tmp_path, space(8), lambda n, paths: killed_at(n, paths, plan, fresh=True)):
        assert sweep(logdir, space(9), fresh=True) == [{"units": 9}]
        kept = [path for path in logdir.parent.iterdir() if (path / "run-0000").exists()]
        units = sorted(run.hparams["units"] for path in kept for run in lab.read(path).runs)
        assert units == [8, 9]
        assert {re.sub(r"old-\d$", "old", path.name) for path in logdir.parent.iterdir()} <= {"logs", "logs.old"}


# --- moved aside ----------------------------------------------------------------------------------------------------


def test_fresh_through_a_link_moves_what_it_leads_to(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "logs").symlink_to(tmp_path / "disk")
    sweep(tmp_path / "logs", space(8))
    sweep(tmp_path / "logs", space(9), fresh=True)
    assert (tmp_path / "logs").resolve() == tmp_path / "disk"
    assert [lab.read(tmp_path / name).runs[0].hparams["units"] for name in ("disk", "disk.old-1")] == [9, 8]


@pytest.mark.parametrize(("inside", "logdir"), [("", "."), ("run-0000", ".."), ("run-0000", "{}")])
def test_what_one_is_in_is_not_moved_aside(tmp_path, monkeypatch, inside, logdir):
    """The working directory would move along, and what is logged with it."""
    sweep(tmp_path / "logs", space(8))
    monkeypatch.chdir(tmp_path / "logs" / inside)
    logdir = Path(logdir.format(tmp_path / "logs"))
    message = rf"^--fresh cannot move {logdir} aside from inside of it; start from another directory$"
    refused(logdir, LogDirError, message, space(9), fresh=True)


def test_fresh_tells_where_it_moved_what_was_there(tmp_path):
    for held in (False, True):
        events = []
        lab.run_sweep(space(8), Train(), logdir=tmp_path / "logs", executor="inline", fresh=True, observe=events.append)
        notes = [event.text for event in events if isinstance(event, SweepNote)]
        assert notes == [f"what {tmp_path}/logs held is in {tmp_path}/logs.old-1 now"] * held


def test_fresh_in_a_directory_with_nothing_in_it_moves_nothing(tmp_path):
    with owned(tmp_path / "logs") as ownership:
        ownership.announce()
    sweep(tmp_path / "logs", space(8), fresh=True)
    assert [path.name for path in tmp_path.iterdir()] == ["logs"]


# --- directories that cannot be written -----------------------------------------------------------------------------


def test_directories_that_cannot_be_written(tmp_path, not_root):
    plan = Plan(function_domain(space(8), Train()))
    (tmp_path / "logs").mkdir(mode=0o555)
    (tmp_path / "closed").mkdir(mode=0o600)
    for root, said in (("logs", "cannot be written"), ("logs/new", "cannot be written"), ("closed/a", "cannot be")):
        with not_root(), pytest.raises(LogDirError, match=rf"{tmp_path}/{root} {said}[^\n]*; choose another[^\n]*$"):
            check_directory(LogDirPaths(tmp_path / root), plan, fresh=False)
    (tmp_path / "link").symlink_to(tmp_path / "unplugged")
    with pytest.raises(
        LogDirError, match=rf"^the log directory .*/link is a link to {tmp_path}/unplugged, which is not"
    ):
        check_directory(LogDirPaths(tmp_path / "link"), plan, fresh=False)
    with pytest.raises(LogDirError, match=r"^/proc/1/logs cannot be written|^the log directory /proc/1/logs cannot be"):
        sweep(Path("/proc/1/logs"), space(8))


@contextlib.contextmanager
def mounted(path, options):
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], capture_output=True).returncode != 0:
        pytest.skip("may not mount")
    try:
        yield
    finally:
        subprocess.run(["umount", path], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
def test_a_full_disk_and_one_that_is_read_only(tmp_path):
    with mounted(tmp_path, "size=1m"):
        sweep(tmp_path / "logs", space(8))
        with contextlib.suppress(OSError), open(tmp_path / "filler", "wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        for root in (tmp_path / "logs", tmp_path / "new"):
            message = rf"^the log directory {root} is on a disk that is full; make room there, or choose another$"
            before = tree(tmp_path)
            with pytest.raises(LogDirError, match=message):
                sweep(root, space(8, 16), extend=True)
            assert tree(tmp_path) == before
        (tmp_path / "filler").unlink()
        assert sweep(tmp_path / "logs", space(8, 16), extend=True) == [{"units": 16}]
        subprocess.run(["mount", "-o", "remount,ro", tmp_path], check=True)
        for root in (tmp_path / "logs", tmp_path / "new"):
            message = rf"^the log directory {root} is on a file system that is read-only; choose another$"
            with pytest.raises(LogDirError, match=message):
                sweep(root, space(8, 16))


# --- versions and sources -------------------------------------------------------------------------------------------

DOMAIN = """
import hparams_lab as lab
EXPERIMENT = lab.Experiment([lab.HParam("units", lab.Discrete([{units}]))], [lab.Metric("accuracy")])
{more}

def train(run):
    return {{"accuracy": run.hparams["units"] / 100}}
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments):
    """`hparams-lab run tuning.py` in a process of its own."""
    command = [sys.executable, "-m", "hparams_lab", "run", "tuning.py", "--workers", "2", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def write(units="8, 16", more=""):
    Path("tuning.py").write_text(DOMAIN.format(units=units, more=more))


def test_the_command(here):
    write()
    assert run().returncode == 0
    before, sweeps = by_name(here / "logs/tuning"), tree(here / "logs")
    write("8, 16, 32, 64")
    refusal = run()
    said = "logs/tuning holds another sweep: hparam units: 8, 16 -> 8, 16, 32, 64; choose another --logdir, --extend "
    assert (refusal.returncode, refusal.stdout) == (2, "")
    assert refusal.stderr == f"error: {said}adds to it, or --fresh moves it aside\n"
    refusal = run("--extend", "--seed", "3")
    said = "--extend only adds to logs/tuning, and this is another sweep: seed: 0 -> 3; choose another --logdir, or "
    assert (refusal.returncode, refusal.stdout) == (2, "")
    assert refusal.stderr == f"error: {said}--fresh moves it aside\n"
    assert tree(here / "logs") == sweeps
    extended = run("--extend", "--json")
    assert (extended.returncode, extended.stderr) == (0, "")
    events = [json.loads(line) for line in extended.stdout.splitlines()]
    ended = sorted(event["run"] for event in events if event["event"] == "run_ended")
    assert ended == ["run-0002", "run-0003"]
    after = by_name(here / "logs/tuning")
    assert {name: after[name] for name in before} == before
    assert [after[name][0]["units"] for name in sorted(after)] == [8, 16, 32, 64]
    assert experiments(here / "logs/tuning") == ["2"]


def planned(*arguments):
    command = [sys.executable, "-m", "hparams_lab", "plan", "tuning.py", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_plan_tells_that_it_would_be_refused(here):
    write()
    assert planned().endswith("\ntime: not known before a run has finished\n")
    assert json.loads(planned("--json"))["refused"] is None
    sweep(here / "logs/tuning", space(8))
    said = (
        "logs/tuning holds another sweep: domain: train -> tuning.py; hparam units: 8 -> 8, 16; choose another --logdir"
    )
    assert f"\n2 trials, 2 runs (one each)\n`run` would refuse: {said}, or --fresh" in planned()
    found = json.loads(planned("--json"))
    assert (found["done"], found["seconds_left"], found["refused"].startswith(said)) == (0, None, True)
    assert planned("--logdir", "tuning.py").endswith(
        "refuse: the log directory tuning.py is a file; name a directory\n"
    )


def test_the_version_of_a_domain(here):
    write()
    assert run().returncode == 0
    write(more="VERSION = 2")
    refusal = run("--extend")
    assert (refusal.returncode, refusal.stderr.count("\n")) == (2, 1)
    assert "this is another sweep: version: none -> 2; choose another" in refusal.stderr
    assert run("--fresh").returncode == 0
    found = json.loads(Path("logs/tuning/sweep.json").read_text())
    assert found["version"] == 2
    assert re.fullmatch(r"[0-9a-f]{12}", found["source"])
    write(more="VERSION = 2.5")
    refusal = run()
    said = "domain 'tuning.py' has a VERSION that is 2.5 (float); wanted a string or a whole number"
    assert (refusal.returncode, refusal.stderr) == (2, f"error: {said}\n")


@pytest.fixture
def forgotten_modules(monkeypatch):
    """`load(path)` is the domain of a file as a new process would load it."""
    monkeypatch.setattr(sys, "path", [*sys.path])

    def load(path):
        forget()
        return load_domain(path)

    def forget():
        for name in [name for name in sys.modules if name == "tuning" or name.startswith(f"{domain_files.__name__}.")]:
            del sys.modules[name]

    yield load
    forget()


def test_a_file_that_changed_is_told_and_not_refused(here, forgotten_modules):
    paths = LogDirPaths(here / "logs")
    write()
    plan = Plan(forgotten_modules("tuning.py"))
    assert source_note(paths, plan) == ""
    prepare(paths, plan, fresh=False)
    first = load_sweep(paths)["source"]
    assert source_note(paths, plan) == ""
    write(more="# mended")
    changed = Plan(forgotten_modules("tuning.py"))
    check_directory(paths, changed, fresh=False)
    prepare(paths, changed, fresh=False)
    assert source_note(paths, changed) == (
        "tuning.py has changed since this sweep began; set VERSION in it to keep results of different versions apart"
    )
    assert load_sweep(paths)["source"] == first
    save_sweep(paths, {**load_sweep(paths), "version": 1})
    write(more="VERSION = 1  # mended again")
    assert source_note(paths, Plan(forgotten_modules("tuning.py"))) == ""  # its author tells versions apart


def test_versions_that_are_none(here, forgotten_modules):
    for nonsense in ("True", "[1]", "1.5", "b'1'"):
        write(more=f"VERSION = {nonsense}")
        with pytest.raises(
            DomainLoadError, match=r"^domain 'tuning.py' has a VERSION that is .*; wanted a string or a "
        ):
            forgotten_modules("tuning.py")


def test_live_results_of_an_extended_sweep_are_what_is_read_later(tmp_path):
    sweep(tmp_path, space(8, 16))
    events = []
    results = lab.run_sweep(
        space(8, 16, 32, rate=[0.5]), Train(), logdir=tmp_path, executor="inline", extend=True, observe=events.append
    )
    assert results == lab.read(tmp_path)
    assert [event.result for event in events if isinstance(event, RunEnded)] == list(results.runs)[2:]
    assert results.best().hparams == {"units": 32, "rate": 0.5}
