"""`prune`: what goes and what stays, that a kill leaves no half of a run, and archives that read like the directory."""

import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import replace

import pytest

import hparams_lab as lab
from hparams_lab.core.errors import LogDirError, UsageError
from hparams_lab.events.format import summaries
from hparams_lab.events.write.writer import EventFileWriter
from hparams_lab.logdir.declaration import current_declaration
from hparams_lab.logdir.prune import PRUNED, Criteria, plan_prune, removal
from hparams_lab.logdir.prune.removal import prune
from hparams_lab.storage.paths import LogDirPaths

SPACE = lab.Experiment([lab.HParam("x", lab.Discrete([*range(6)]))], [lab.Metric("loss", goal="min")])


def train(run):
    run.log({"loss": 1.0}, step=1)
    if run.hparams["x"] in (1, 4):
        raise ValueError("broken")
    return {"loss": float("nan") if run.hparams["x"] == 2 else 10.0 - run.hparams["x"]}


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Six runs: 0, 3 and 5 completed (5 is the best), 1 and 4 failed, 2 diverged."""
    logdir = tmp_path_factory.mktemp("swept") / "sweep"
    lab.run_sweep(SPACE, train, logdir=logdir, executor="inline", observe=lambda event: None)
    return logdir


@pytest.fixture
def logdir(swept, tmp_path):
    """A copy of it."""
    return shutil.copytree(swept, tmp_path / "sweep")


@pytest.fixture
def lab_command(lab_command):
    """As everywhere, for `prune`."""
    return functools.partial(lab_command, "prune")


def numbers(logdir):
    """The numbers of the runs that are there."""
    return [int(run.name.removeprefix("run-")) for run in lab.read(logdir).runs]


def files(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def pruned(logdir, archive=None, **criteria):
    return prune(plan_prune(logdir, lab.read(logdir), Criteria(**criteria)), archive)


@pytest.mark.parametrize(
    ("criteria", "left"),
    [
        ({"failed": True}, [0, 2, 3, 5]),
        ({"diverged": True}, [0, 1, 3, 4, 5]),
        ({"failed": True, "diverged": True}, [0, 3, 5]),
        ({"keep_best": 1}, [5]),
        ({"keep_best": 2}, [3, 5]),
        ({"keep_best": 9}, [0, 3, 5]),
        ({"keep_best": 1, "goal": "max"}, [0]),
        ({"keep_best": 1, "failed": True}, [5]),
    ],
)
def test_what_goes(logdir, criteria, left):
    before = files(logdir)
    gone = pruned(logdir, **criteria)
    assert numbers(logdir) == left
    assert len(gone) == 6 - len(left)
    after = files(logdir)
    assert {path: before[path] for path in after} == after
    lost = sum(len(before[path]) for path in before.keys() - after.keys())
    assert sum(removal.size for removal in gone) == lost
    assert sorted(os.listdir(logdir)) == sorted(
        [".lock", ".lock-runs", "_experiment", "sweep.json", *(f"run-{n:04d}" for n in left)]
    )


def test_nothing_is_done_without_yes(logdir, lab_command):
    before = files(logdir)
    code, said, errors = lab_command(logdir, "--failed")
    assert (code, errors, files(logdir)) == (0, "", before)
    lines = said.splitlines()
    assert lines[0].split() == ["run", "outcome", "size", "reason"]
    assert [line.split()[0] for line in lines[1:3]] == ["run-0001", "run-0004"]
    assert "ValueError: broken" in lines[1]
    assert lines[3].startswith("2 runs would be deleted (")
    assert lines[3].endswith("), 4 kept. --yes does it.")


def test_with_yes(logdir, lab_command):
    code, said, _ = lab_command(logdir, "--keep-best", 1, "--yes")
    assert (code, numbers(logdir)) == (0, [5])
    assert said.splitlines()[-1].startswith("5 runs deleted (")
    assert said.splitlines()[-1].endswith("), 1 kept.")
    assert lab_command(logdir, "--keep-best", 1, "--yes")[1] == "Nothing to go, 1 run kept.\n"


def test_as_json(logdir, lab_command):
    said = json.loads(lab_command(logdir, "--diverged", "--json")[1], parse_constant=pytest.fail)
    assert (said["done"], said["kept"], said["archive"], said["spared"]) == (False, 5, None, [])
    (run,) = said["runs"]
    size = sum(map(len, files(logdir / "run-0002").values()))
    assert run["trial"] == lab.read(logdir).runs[2].trial_id
    assert {key: run[key] for key in ("run", "outcome", "why", "bytes", "removed")} == {
        "run": "run-0002", "outcome": "diverged", "why": "diverged", "bytes": size, "removed": False,
    }  # fmt: skip
    assert said["bytes"] == size
    said = json.loads(lab_command(logdir, "--diverged", "--json", "--yes")[1])
    assert (said["done"], said["runs"][0]["removed"]) == (True, True)
    assert numbers(logdir) == [0, 1, 3, 4, 5]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "nothing says which runs are to go; give --failed, --diverged or --keep-best N"),
        (["--keep-best", "1", "--metric", "los"], "no run logged the metric 'los'; did you mean loss?"),
        (["--failed", "--archive", "{logdir}/old"], "the archive {logdir}/old and {logdir} are one in the other; "),
        (["--failed", "--archive", "{logdir}/.."], "the archive {logdir}/.. and {logdir} are one in the other; "),
        (["--failed", "--archive", "{logdir}/sweep.json"], "the archive {logdir}/sweep.json and {logdir} are one in"),
    ],
)
def test_asked_wrongly(logdir, lab_command, arguments, said):
    before = files(logdir)
    code, out, errors = lab_command(logdir, "--yes", *(each.format(logdir=logdir) for each in arguments))
    assert (code, out, errors.count("\n")) == (2, "", 1)
    assert errors.startswith(f"error: {said.format(logdir=logdir)}")
    assert files(logdir) == before


def test_some_trial_must_be_good_enough(tmp_path):
    with lab.start_run(tmp_path, hparams={"x": 1}, provenance=False) as run:
        run.log({"loss": float("nan")}, step=1)
    with pytest.raises(UsageError, match=r"^no trial completed with a finite 'loss', so none would stay; "):
        pruned(tmp_path, keep_best=1)
    assert len(lab.read(tmp_path).runs) == 1


def test_a_running_run_stays(logdir):
    run = lab.start_run(logdir, hparams={"x": 0}, experiment=SPACE, name="by-hand", provenance=False)
    plan = plan_prune(logdir, lab.read(logdir), Criteria(keep_best=1))
    assert [(each.name, why) for each, why in plan.spared] == [("by-hand", "it is still running")]
    prune(plan)
    # run-0000 is of the same trial, and needed for its mean
    assert [run.name for run in lab.read(logdir).runs] == ["by-hand", "run-0000", "run-0005"]
    run.finish()
    pruned(logdir, keep_best=1)
    assert numbers(logdir) == [5]


def test_a_run_that_is_gone_on_with_meanwhile_stays(logdir):
    plan = plan_prune(logdir, lab.read(logdir), Criteria(failed=True))
    (file,) = (path for path in (logdir / "run-0001").iterdir() if "tfevents" in path.name)
    writer = EventFileWriter.append(file)
    assert [removal.run.name for removal in prune(plan)] == ["run-0004"]
    writer.close()
    assert numbers(logdir) == [0, 1, 2, 3, 5]


def session_file(directory, name, scalars=True, session=True, status=None):
    """An event file as other tools write it, without a lock."""
    directory.mkdir(parents=True, exist_ok=True)
    writer = EventFileWriter.create(directory, 1.0)
    if session:
        writer.add(summaries.session_start({"x": 1.0}, "0123456789abcdef", 1.0))
    if scalars:
        writer.add(summaries.scalars({"loss": 1.0}), step=1)
    if status is not None:
        writer.add(summaries.session_end(status, 2.0))
    writer.close()
    writer.path.rename(directory / name)


@pytest.mark.skipif(os.name == "nt", reason="there is no way to ask")
@pytest.mark.parametrize("end", ["", ".v2"])
def test_a_run_of_a_living_process_stays(tmp_path, end):
    """TensorFlow and PyTorch lock nothing, but their files' names tell the process."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as writer:
        name = f"events.out.tfevents.1700000000.{socket.gethostname()}.{writer.pid}.0{end}"
        session_file(tmp_path / "run", name)
        plan = plan_prune(tmp_path, lab.read(tmp_path), Criteria(failed=True))
        assert (plan.removals, plan.spared[0][1]) == ((), f"its process {writer.pid} is still there")
        writer.communicate(b"\n")
    assert len(plan_prune(tmp_path, lab.read(tmp_path), Criteria(failed=True)).removals) == 1


def test_directories_below_a_run_go_with_it(tmp_path):
    for part, session in (("", True), ("train", False), ("validation", False)):
        session_file(tmp_path / "run" / part, "events.out.tfevents.1.host.1.0", session=session, status=None)
    (tmp_path / "run/checkpoint").mkdir()
    (tmp_path / "run/checkpoint/weights").write_bytes(b"1" * 1000)
    session_file(tmp_path / "good", "events.out.tfevents.1.host.1.0", status=summaries.SUCCESS)
    (removal,) = pruned(tmp_path, failed=True)
    assert (sorted(os.listdir(tmp_path)), removal.size > 1000) == (["good"], True)


def test_a_run_in_a_run_stays(tmp_path):
    session_file(tmp_path / "run", "events.out.tfevents.1.host.1.0")
    (tmp_path / "run/output.log").write_text("said")
    (tmp_path / "run/notes.txt").write_text("mine")
    session_file(tmp_path / "run/validation", "events.out.tfevents.1.host.1.0", session=False)
    session_file(tmp_path / "run/good/deep", "events.out.tfevents.1.host.1.0", status=summaries.SUCCESS)
    pruned(tmp_path, failed=True)
    assert set(files(tmp_path / "run")) == {
        (tmp_path / name).relative_to(tmp_path) for name in ("notes.txt", "good/deep/events.out.tfevents.1.host.1.0")
    }
    (tmp_path / "run/notes.txt").unlink()
    pruned(tmp_path, keep_best=1)
    assert len(lab.read(tmp_path).runs) == 1


def test_the_scalars_above_a_session_go_with_it(tmp_path):
    """As PyTorch's `add_hparams` writes them."""
    session_file(tmp_path / "one", "events.out.tfevents.1.host.1.0", session=False)
    session_file(tmp_path / "one/1700000000.1", "events.out.tfevents.1.host.1.1", scalars=False)
    session_file(tmp_path / "two", "events.out.tfevents.1.host.1.0", status=summaries.SUCCESS)
    assert len(lab.read(tmp_path).runs) == 2
    pruned(tmp_path, failed=True)
    assert os.listdir(tmp_path) == ["two"]


def test_of_the_root_only_event_files_go(tmp_path):
    session_file(tmp_path, "events.out.tfevents.1.host.1.0")
    (tmp_path / "train.py").write_text("mine")
    assert len(pruned(tmp_path, failed=True)) == 1
    assert os.listdir(tmp_path) == ["train.py"]


def test_empty_directories_go(tmp_path):
    session_file(tmp_path / "logs/a/b/run", "events.out.tfevents.1.host.1.0")
    pruned(tmp_path / "logs", failed=True)
    assert os.listdir(tmp_path) == ["logs"]
    assert os.listdir(tmp_path / "logs") == []


def test_links_lead_nowhere(logdir, tmp_path):
    outside = tmp_path / "outside"
    session_file(outside / "run", "events.out.tfevents.1.host.1.0")
    (logdir / "run-0007").symlink_to(outside / "run")
    (logdir / "run-0001/link").symlink_to(outside)
    (logdir / "run-0001/output-link").symlink_to(outside / "run/events.out.tfevents.1.host.1.0")
    before = files(outside)
    pruned(logdir, failed=True, diverged=True, keep_best=1)
    assert files(outside) == before
    assert not (logdir / "run-0001").exists()
    assert (logdir / "run-0007").is_symlink()


def test_the_directory_itself_may_be_a_link(logdir, tmp_path):
    (tmp_path / "link").symlink_to(logdir)
    assert len(pruned(tmp_path / "link", failed=True)) == 2
    assert numbers(logdir) == [0, 2, 3, 5]


def test_odd_names(logdir, weird_tmp_path, lab_command):
    moved = logdir.rename(weird_tmp_path / "it")
    (moved / "run-0001").rename(moved / "run \n\x1b[31m'1'")
    code, said, _ = lab_command(moved, "--failed", "--yes")
    assert (code, len(lab.read(moved).runs), "\x1b" in said) == (0, 4, False)


# --- killed in the midst --------------------------------------------------------------------------------------------

KILLED = """
import itertools, os, sys
from pathlib import Path
import hparams_lab as lab
from hparams_lab.logdir.prune import Criteria, plan_prune
from hparams_lab.logdir.prune.removal import prune
root, when, archive = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]) if sys.argv[3] else None
plan = plan_prune(root, lab.read(root), Criteria(failed=True))
count = itertools.count()
def hook(event, arguments):
    if event in ("os.rename", "os.remove", "os.rmdir", "shutil.rmtree", "os.mkdir") and next(count) == when:
        os.kill(os.getpid(), 9)
sys.addaudithook(hook)
prune(plan, archive)
"""


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
@pytest.mark.parametrize("archived", [False, True])
def test_killed_at_any_step(logdir, tmp_path, archived):
    """Every run is as it was or gone, and the next prune clears up; in an archive, it is in one place or the other."""
    session_file(logdir / "run-0001/validation", "events.out.tfevents.1.host.1.0", session=False)
    shutil.rmtree(logdir / "run-0004")
    whole = {run.name: run for run in lab.read(logdir).runs}
    steps = 0
    for steps in range(100):
        copy, archive = shutil.copytree(logdir, tmp_path / f"copy{steps}"), tmp_path / f"archive{steps}"
        arguments = [str(copy), str(steps), str(archive) if archived else ""]
        done = subprocess.run([sys.executable, "-c", KILLED, *arguments], capture_output=True, text=True)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        there = [run for run in lab.read(copy).runs if not run.name.startswith(PRUNED)]
        there += lab.read(archive).runs if archived and archive.exists() and any(archive.rglob("*tfevents*")) else []
        assert len({run.name for run in there}) == len(there)
        assert all(facts([run]) == facts([whole[run.name]]) for run in there)
        assert len(there) == 5 or not archived
        pruned(copy, failed=True)
        assert sorted(os.listdir(copy)) == [
            ".lock",
            ".lock-runs",
            "_experiment",
            *(f"run-{n:04d}" for n in (0, 2, 3, 5)),
            "sweep.json",
        ]
        if done.returncode == 0:
            break
    assert steps > (1 if archived else 4)


# --- archives -------------------------------------------------------------------------------------------------------


def facts(runs):
    return [(run.name, run.trial_id, dict(run.hparams), run.outcome, str(run.metrics)) for run in runs]


def test_an_archive_reads_like_the_directory(logdir, tmp_path, lab_command):
    before = {run.name: run for run in lab.read(logdir).runs}
    archive = tmp_path / "deep/archive"
    code, said, _ = lab_command(logdir, "--failed", "--archive", archive, "--yes")
    assert (code, said.splitlines()[-1].startswith(f"2 runs moved to {archive} (")) == (0, True)
    assert numbers(logdir) == [0, 2, 3, 5]
    found = lab.read(archive)
    assert facts(found.runs) == facts([before["run-0001"], before["run-0004"]])
    assert found.declared == lab.read(logdir).declared
    assert (
        current_declaration(LogDirPaths(archive)).hparam_infos == current_declaration(LogDirPaths(logdir)).hparam_infos
    )
    pruned(logdir, archive, diverged=True)  # more into the same archive
    assert numbers(archive) == [1, 2, 4]


def test_an_archive_of_undeclared_runs_has_columns(tmp_path):
    session_file(tmp_path / "logs/a", "events.out.tfevents.1.host.1.0")
    session_file(tmp_path / "logs/b", "events.out.tfevents.1.host.1.0", status=summaries.SUCCESS)
    pruned(tmp_path / "logs", tmp_path / "old", failed=True)
    message = current_declaration(LogDirPaths(tmp_path / "old"))
    assert [info.name for info in message.hparam_infos] == ["x"]
    assert [info.name.tag for info in message.metric_infos] == ["loss"]


def test_sweeps_below_a_root_keep_their_places(swept, tmp_path):
    for name in ("a", "b"):
        shutil.copytree(swept, tmp_path / "logs" / name)
    pruned(tmp_path / "logs", tmp_path / "old", keep_best=1)
    assert len(lab.read(tmp_path / "logs").runs) == 1
    old = lab.read(tmp_path / "old")
    assert (len(old.runs), set(old.sweeps)) == (11, {"a", "b"})


def test_an_archive_loses_nothing(logdir, tmp_path):
    shutil.copytree(logdir / "run-0004", tmp_path / "old/run-0004")
    before = files(tmp_path)
    with pytest.raises(LogDirError, match=r"/old/run-0004 already; name another directory$"):
        pruned(logdir, tmp_path / "old", failed=True)
    assert files(tmp_path) == before


def test_an_archive_on_another_file_system(logdir, elsewhere):
    archive = elsewhere / "old"
    before = facts(lab.read(logdir).runs)
    pruned(logdir, archive, failed=True)
    assert facts(lab.read(archive).runs) == [before[1], before[4]]
    assert numbers(logdir) == [0, 2, 3, 5]
    assert sorted(os.listdir(archive)) == ["_experiment", "run-0001", "run-0004", "sweep.json"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
def test_pipes_and_links_to_nothing_in_a_run_go_with_it(logdir):
    os.mkfifo(logdir / "run-0001/x.tfevents.pipe")
    (logdir / "run-0004/x.tfevents.link").symlink_to("nowhere")
    code = "import sys; from hparams_lab.cli.main import main; main(sys.argv[1:])"
    subprocess.run([sys.executable, "-c", code, "prune", logdir, "--failed", "--yes"], timeout=20, check=True)
    assert numbers(logdir) == [0, 2, 3, 5]


def test_what_a_process_of_the_same_number_left_is_no_hindrance(logdir):
    left = logdir / f"{PRUNED}{os.getpid()}-{next(removal._numbers) + 1}"
    shutil.copytree(logdir / "run-0000", left)
    plan = plan_prune(logdir, lab.read(logdir), Criteria(failed=True))
    assert len(prune(replace(plan, leftovers=()))) == 2
    assert left.is_dir()
    assert numbers(logdir) == [0, 2, 3, 5]
    prune(plan_prune(logdir, lab.read(logdir), Criteria(failed=True)))
    assert not left.exists()


def test_what_a_study_logged_above_its_runs_is_neither_best_nor_pruned(tmp_path):
    """Nor what Keras's callback left beside them: it has no hparams, and is no trial."""
    for x in range(3):
        with lab.start_run(tmp_path, hparams={"x": x}, provenance=False) as run:
            run.log({"loss": 5.0 - x}, step=1)
    for above in (tmp_path, tmp_path / "train"):
        above.mkdir(exist_ok=True)
        writer = EventFileWriter.create(above, 1.0)
        writer.add(summaries.scalars({"loss": 0.1}), step=1)
        writer.close()
    gone = pruned(tmp_path, keep_best=2, metric="loss", goal="min")
    assert [removal.run.name for removal in gone] == ["run-0000"]
    assert [run.name for run in lab.read(tmp_path).runs] == [tmp_path.name, "run-0001", "run-0002", "train"]
