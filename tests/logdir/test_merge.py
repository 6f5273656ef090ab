"""`merge`: one directory that holds exactly the runs of several, with one experiment, as TensorBoard sees it, too."""

import functools
import json
import os
import shutil
import subprocess
import sys

import pytest
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard_client import Client, eventually, values
from watched import can_watch, watched

import hparams_lab as lab
from hparams_lab.board.server import Board
from hparams_lab.core.errors import LogDirError
from hparams_lab.core.united import merged_domain
from hparams_lab.core.values import lone_id
from hparams_lab.events.format import summaries
from hparams_lab.events.format.event_file import read_events, summary_event, version_event
from hparams_lab.events.write.writer import EventFileWriter
from hparams_lab.logdir.declaration import current_declaration, observed_message
from hparams_lab.logdir.doctor.examine import examine
from hparams_lab.logdir.merge import merge
from hparams_lab.logdir.sweep_json import load_sweep
from hparams_lab.storage.paths import LogDirPaths
from hparams_lab.storage.scratch import MAKING, scratch


def sweep(logdir, hparams, metrics, objective=None):
    """A sweep of all its trials, each of whose metrics is the number of its values' digits."""

    def train(run):
        run.log({metric.tag: 0.0 for metric in metrics}, step=1)
        return {metric.tag: float(len(str(dict(run.hparams)))) for metric in metrics}

    space = lab.Experiment(hparams, metrics, objective)
    lab.run_sweep(space, train, logdir=logdir, executor="inline", observe=lambda event: None)


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory):
    """`monday` and `tuesday`: of six trials each, two are in both; `optimizer` is in one only."""
    root = tmp_path_factory.mktemp("sweeps")
    units, rate = lab.HParam("units", lab.Discrete([8, 16, 32]), "Units"), lab.HParam("rate", lab.Discrete([0.5, 2.0]))
    sweep(root / "monday", [units, rate], [lab.Metric("loss", goal="min"), lab.Metric("accuracy", goal="max")])
    units, rate = lab.HParam("units", lab.Discrete([32, 64, 128])), lab.HParam("rate", lab.RealInterval(0.5, 2.0))
    sweep(root / "tuesday", [units, rate], [lab.Metric("loss", goal="min"), lab.Metric("f1", goal="max")])
    optimizer = lab.HParam("optimizer", lab.Discrete(["adam", None]))
    sweep(root / "other", [units, optimizer], [lab.Metric("accuracy", goal="max")])
    return root


def facts(runs):
    """What runs are, apart from their names, of which the ids of runs without a group name are made."""
    named = [(run, "" if run.trial_id == lone_id(run.name) else run.trial_id) for run in runs]
    return sorted(
        (name, sorted(run.hparams.items()), str(run.outcome), str(run.metrics), run.started, run.ended)
        for run, name in named
    )


def files(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def experiments(root):
    """The event files with an Experiment in them."""
    return [path for path in root.rglob("*tfevents*") if b"_hparams_/experiment" in path.read_bytes()]


@pytest.mark.parametrize("link", [False, True])
def test_the_merged_directory_holds_the_union(sweeps, tmp_path, link):
    before = files(sweeps)
    done = merge([sweeps / "monday", sweeps / "tuesday"], tmp_path / "both", link=link)
    one, two, both = (lab.read(root) for root in (sweeps / "monday", sweeps / "tuesday", tmp_path / "both"))
    assert facts(both.runs) == facts([*one.runs, *two.runs])
    assert (len(both.runs), len(both.trials)) == (12, 10)
    assert {type(run.hparams["units"]) for run in both.runs} == {int}
    assert [*done.prefixes.values()] == ["monday-", "tuesday-"]
    assert sorted(run.name for run in both.runs) == sorted(
        f"{day}-run-{number:04d}" for day in ("monday", "tuesday") for number in range(6)
    )
    assert experiments(tmp_path) == [next((tmp_path / "both/_experiment/1").iterdir())]
    assert files(sweeps) == before
    assert sorted(os.listdir(tmp_path)) == ["both"]
    same = os.path.samefile(sweeps / "monday/run-0000/output.log", tmp_path / "both/monday-run-0000/output.log")
    assert same is link


def test_what_is_declared(sweeps, tmp_path):
    merge([sweeps / "monday", sweeps / "tuesday", sweeps / "other"], tmp_path / "all")
    message = current_declaration(LogDirPaths(tmp_path / "all"))
    columns = {info.name: info for info in message.hparam_infos}
    assert [*columns] == ["units", "rate", "optimizer"]
    assert (columns["units"].domain_interval.min_value, columns["units"].domain_interval.max_value) == (8, 128)
    assert (columns["units"].display_name, columns["units"].differs) == ("Units", True)
    assert [*columns["optimizer"].domain_discrete] == ["adam", "None"]
    assert columns["optimizer"].differs  # half of the runs have none
    assert [info.name.tag for info in message.metric_infos] == ["loss", "accuracy", "f1"]
    results = lab.read(tmp_path / "all")
    stored = load_sweep(LogDirPaths(tmp_path / "all"))
    assert stored["merged"][0] == {"logdir": str(sweeps / "monday"), "runs": 6}
    assert results.declared.objective is None  # they disagree
    assert (results.goal("loss"), results.goal("f1")) == ("min", "max")
    assert {run.hparams.get("optimizer", "-") for run in results.runs} == {"-", "adam", None}
    assert results.experiment.hparam("units").domain.values == [8, 16, 32, 64, 128]
    assert results.experiment.hparam("rate").domain == lab.RealInterval(0.5, 2.0)


def test_an_objective_that_all_have_stays(sweeps, tmp_path):
    merge([sweeps / "monday", sweeps / "tuesday"], tmp_path / "both")
    results = lab.read(tmp_path / "both")
    assert (results.objective, results.best().mean("loss")) == ("loss", min(t.mean("loss") for t in results.trials))


def test_names_that_are_unique_stay(sweeps, tmp_path):
    shutil.copytree(sweeps / "tuesday", tmp_path / "named")
    for number, name in enumerate(sorted(path.name for path in (tmp_path / "named").glob("run-*"))):
        (tmp_path / "named" / name).rename(tmp_path / "named" / f"try-{number}")
    assert merge([sweeps / "monday", tmp_path / "named"], tmp_path / "both").prefixes == {}
    names = [run.name for run in lab.read(tmp_path / "both").runs]
    assert names == [*(f"run-{n:04d}" for n in range(6)), *(f"try-{n}" for n in range(6))]


def test_directories_of_one_name(sweeps, tmp_path):
    for place in ("a", "b"):
        shutil.copytree(sweeps / "monday", tmp_path / place / "digits")
    merge([tmp_path / "a/digits", tmp_path / "b/digits"], tmp_path / "both")
    assert {run.name[:-4] for run in lab.read(tmp_path / "both").runs} == {"digits-run-", "digits-2-run-"}
    assert [len(trial.runs) for trial in lab.read(tmp_path / "both").trials] == [2] * 6


def test_run_refuses_what_was_merged(sweeps, tmp_path, capsys, monkeypatch):
    merge([sweeps / "monday", sweeps / "tuesday"], tmp_path / "both")
    space = lab.Experiment([lab.HParam("units", lab.Discrete([8]))], [lab.Metric("loss")])
    with pytest.raises(LogDirError, match="holds another sweep"):
        lab.run_sweep(space, lambda run: {"loss": 1.0}, logdir=tmp_path / "both", executor="inline")


# --- what other tools write -----------------------------------------------------------------------------------------


def log(directory, hparams=None, scalars=None, group="", experiment=None, status=summaries.SUCCESS):
    """One event file as other tools write it."""
    directory.mkdir(parents=True, exist_ok=True)
    writer = EventFileWriter.create(directory, 1.0)
    if experiment is not None:
        writer.add(summaries.experiment(experiment.hparam_infos, experiment.metric_infos, 1.0))
    if hparams is not None:
        writer.add(summaries.session_start(hparams, group, 1.0))
    for tag, value in (scalars or {}).items():
        writer.add(summaries.scalars({tag: value}), step=1, now=2.0)
    if hparams is not None:
        writer.add(summaries.session_end(status, 3.0))
    writer.close()
    return writer.path


def metrics(directory):
    message = current_declaration(LogDirPaths(directory))
    return [(info.name.group, info.name.tag) for info in message.metric_infos]


def declaring(*tags):
    return observed_message({"lr": 0.1}, tags)


def test_metrics_that_are_logged_and_declared_by_none_are_columns(tmp_path):
    """Lightning declares `hp_metric` alone, whatever is logged; a run that died has no `val_loss`."""
    for place in ("one", "two"):
        for number, tags in enumerate([{"val_loss": 0.5, "train_loss": 1.0}, {"train_loss": 2.0}]):
            log(tmp_path / place / f"version_{number}", {"lr": 0.1}, tags, experiment=declaring("hp_metric"))
    merge([tmp_path / "one", tmp_path / "two"], tmp_path / "both")
    assert metrics(tmp_path / "both") == [("", "hp_metric"), ("", "val_loss"), ("", "train_loss")]
    assert examine(tmp_path / "both").ailments == ()


def test_metrics_that_all_runs_have_are_columns_whoever_declares_them(tmp_path):
    """One directory declares a metric that both log, and neither declares the loss."""
    tags = {"accuracy": 0.5, "loss": 1.0}
    log(tmp_path / "one/a", {"lr": 0.1}, tags | {"only/one": 1.0}, experiment=declaring("accuracy"))
    log(tmp_path / "two/b", {"lr": 0.2}, tags | {"f1": 0.5}, experiment=declaring("f1"))
    merge([tmp_path / "one", tmp_path / "two"], tmp_path / "both")
    assert metrics(tmp_path / "both") == [("", "accuracy"), ("", "f1"), ("", "loss")]


def test_metrics_of_a_directory_below_a_run_are_of_its_group(tmp_path):
    """Keras writes the halves of a run into `train/` and `validation/`: TensorBoard calls them groups."""
    for place in ("one", "two"):
        log(tmp_path / place / "run", {"lr": 0.1}, experiment=declaring("hp_metric"))
        for half in ("train", "validation"):
            log(tmp_path / place / "run" / half, scalars={"epoch_loss": 0.5})
        log(tmp_path / place / "run" / "more", scalars={"val/acc": 0.5})
    merge([tmp_path / "one", tmp_path / "two"], tmp_path / "both")
    assert sorted(metrics(tmp_path / "both")) == [
        ("", "hp_metric"), ("more", "val/acc"), ("train", "epoch_loss"), ("validation", "epoch_loss")
    ]  # fmt: skip
    assert examine(tmp_path / "both").ailments == ()


def test_sweeps_of_ours_declare_what_all_their_runs_log(tmp_path):
    def train(run):
        run.log({"loss": 0.5}, step=1)
        return {"loss": 0.5, run.hparams["tag"]: 1.0}

    for tag in ("accuracy", "f1"):
        space = lab.Experiment([lab.HParam("tag", lab.Discrete([tag]))], [lab.Metric(tag)])
        lab.run_sweep(space, train, logdir=tmp_path / tag, executor="inline", observe=lambda event: None)
    merge([tmp_path / "accuracy", tmp_path / "f1"], tmp_path / "both")
    assert metrics(tmp_path / "both") == [("", "accuracy"), ("", "f1"), ("", "loss")]


def test_experiments_beside_the_runs_do_not_come_along(tmp_path):
    """TensorFlow's `hparams_config` in the root's file with scalars, PyTorch's in each run's."""
    declared = observed_message({"x": 1.0}, ["loss"])
    log(tmp_path / "one", scalars={"epoch": 3.0}, experiment=declared)
    log(tmp_path / "one/a", {"x": 1.0}, {"loss": 1.0})
    log(tmp_path / "two/b", {"x": 2.0}, {"loss": 2.0}, group="mine", experiment=declared)
    log(tmp_path / "two/c", {"x": 2.0}, {"loss": 3.0}, group="mine")
    merge([tmp_path / "one", tmp_path / "two"], tmp_path / "both")
    assert experiments(tmp_path / "both") == [next((tmp_path / "both/_experiment/1").iterdir())]
    both = lab.read(tmp_path / "both")
    assert facts(both.runs) == facts([*lab.read(tmp_path / "one").runs, *lab.read(tmp_path / "two").runs])
    assert sorted(run.name for run in both.runs) == ["b", "c", "one/a"]  # whose scalars are in two places
    assert [len(trial.runs) for trial in both.trials] == [2, 1]
    assert load_sweep(LogDirPaths(tmp_path / "both")) is None  # nobody told the types of values


@pytest.mark.parametrize("link", [False, True])
def test_parts_of_runs_come_along(tmp_path, link):
    log(tmp_path / "one/run", {"x": 1.0}, {"loss": 1.0})
    log(tmp_path / "one/run/validation", scalars={"loss": 2.0})
    log(tmp_path / "one/run/inner", {"x": 2.0}, {"loss": 5.0})
    (tmp_path / "one/run/checkpoint").mkdir()
    (tmp_path / "one/run/checkpoint/weights").write_text("1")
    (tmp_path / "one/run/inner/output.log").write_text("said")
    log(tmp_path / "two/run", scalars={"loss": 3.0})  # PyTorch: the session below the scalars
    log(tmp_path / "two/run/1700000000.1", {"x": 3.0})
    log(tmp_path / "three", scalars={"loss": 4.0})
    (tmp_path / "three/train.py").write_text("mine")
    log(tmp_path / "four", {"x": 4.0}, {"loss": 5.0})
    log(tmp_path / "four/validation", scalars={"loss": 6.0})
    names = ("one", "two", "three", "four")
    merge([tmp_path / name for name in names], tmp_path / "all", link=link)
    every = [run for name in names for run in lab.read(tmp_path / name).runs]
    found = lab.read(tmp_path / "all").runs
    assert facts(run for run in found if run.hparams) == facts(run for run in every if run.hparams)
    assert {run.name: run.metrics for run in found} == {
        "one-run": {"loss": 1.0, "validation/loss": 2.0},
        "one-run/inner": {"loss": 5.0},
        "two-run/1700000000.1": {"loss": 3.0},
        "three": {"loss": 4.0},
        "four": {"loss": 5.0, "validation/loss": 6.0},
    }
    others = {str(path) for path in files(tmp_path / "all") if "tfevents" not in path.name}
    assert others == {"one-run/checkpoint/weights", "one-run/inner/output.log", "_experiment/.lock"}


def test_links_out_of_a_source_stay_behind(sweeps, tmp_path):
    shutil.copytree(sweeps / "monday", tmp_path / "linked")
    (tmp_path / "secret").write_text("mine")
    (tmp_path / "linked/run-0000/secret").symlink_to(tmp_path / "secret")
    (tmp_path / "linked/run-0001/all").symlink_to(tmp_path)
    merge([tmp_path / "linked", sweeps / "other"], tmp_path / "both")
    assert not [path for path in (tmp_path / "both").rglob("*") if path.name in ("secret", "all") or path.is_symlink()]


def groups(root):
    """The names of the trials that the event files tell, by run."""
    found = {}
    for path in root.rglob("*tfevents*"):
        for event in read_events(path.read_bytes()):
            for value in event.summary.value:
                data = summaries.plugin_data(value)
                if data is not None and data.HasField("session_start_info"):
                    found[path.parent.name] = data.session_start_info.group_name
    return found


def test_the_same_values_are_one_trial_whatever_it_is_called(tmp_path):
    log(tmp_path / "one/a", {"x": 1.0}, {"loss": 1.0}, group="mine")
    log(tmp_path / "two/b", {"x": 1.0}, {"loss": 2.0}, group="theirs")
    log(tmp_path / "two/c", {"x": 1.0}, {"loss": 3.0}, group="theirs")
    log(tmp_path / "two/d", {"x": 2.0}, {"loss": 4.0})
    merge([tmp_path / "one", tmp_path / "two"], tmp_path / "both")
    assert groups(tmp_path / "both") == {"a": "mine", "b": "mine", "c": "mine", "d": ""}
    assert [len(trial.runs) for trial in lab.read(tmp_path / "both").trials] == [3, 1]


def test_the_same_name_of_other_values_is_another_trial(tmp_path):
    log(tmp_path / "one/a", {"x": 1.0}, {"loss": 1.0}, group="trial-1")
    log(tmp_path / "two/b", {"x": 2.0}, {"loss": 2.0}, group="trial-1")
    merge([tmp_path / "one", tmp_path / "two"], tmp_path / "both")
    assert groups(tmp_path / "both") == {"a": "trial-1", "b": "two-trial-1"}


def test_trials_that_a_directory_tells_apart_stay_apart(tmp_path):
    log(tmp_path / "one/a", {"x": 1.0}, {"loss": 1.0}, group="first")
    log(tmp_path / "one/b", {"x": 1.0}, {"loss": 2.0}, group="second")
    log(tmp_path / "two/c", {"x": 1.0}, {"loss": 3.0}, group="third")
    merge([tmp_path / "one", tmp_path / "two"], tmp_path / "both")
    assert groups(tmp_path / "both") == {"a": "first", "b": "second", "c": "third"}


def test_runs_that_name_no_trial_stay_trials_of_their_own(tmp_path):
    for run in ("one/a", "one/b", "two/c"):
        log(tmp_path / run, {"x": 1.0}, {"loss": 1.0})
    log(tmp_path / "two/d", {"x": 1.0}, {"loss": 1.0}, group="mine")
    merge([tmp_path / "one", tmp_path / "two"], tmp_path / "both")
    assert groups(tmp_path / "both") == {"a": "", "b": "", "c": "", "d": "mine"}
    assert len(lab.read(tmp_path / "both").trials) == 4


# --- columns of several types ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        (1.0, "auto", "numbers in {one} and texts in {two}"),
        (True, 1.0, "True or False in {one} and numbers in {two}"),
        ("auto", True, "texts in {one} and True or False in {two}"),
    ],
)
def test_types_that_differ(tmp_path, one, other, said):
    log(tmp_path / "one/a", {"x": one, "y": 1.0}, {"loss": 1.0})
    log(tmp_path / "two/b", {"x": other, "y": 2.0}, {"loss": 2.0})
    sources = [tmp_path / "one", tmp_path / "two"]
    with pytest.raises(LogDirError) as caught:
        merge(sources, tmp_path / "both")
    said = said.format(one=sources[0], two=sources[1])
    way = "a column of the tab has one type: --as-text makes it text in all"
    assert str(caught.value) == f"hparam 'x' has {said}; {way}"
    assert sorted(os.listdir(tmp_path)) == ["one", "two"]
    assert merge(sources, tmp_path / "both", as_text=True).as_text == ("x",)
    texts = [str(value).removesuffix(".0") for value in (one, other)]
    both = lab.read(tmp_path / "both")
    assert [dict(run.hparams) for run in both.runs] == [{"x": texts[0], "y": 1}, {"x": texts[1], "y": 2}]
    (info, _) = current_declaration(LogDirPaths(tmp_path / "both")).hparam_infos
    assert [*info.domain_discrete] == sorted(texts)


def test_what_was_declared_of_numbers_goes_when_they_become_texts(tmp_path):
    interval = observed_message({"x": 0.1}, ["loss"])
    interval.hparam_infos[0].domain_interval.max_value = 1.0
    log(tmp_path / "one/a", {"x": 0.5, "only": 1.0, "y": 1.0}, {"loss": 1.0}, experiment=interval)
    log(tmp_path / "two/b", {"x": "auto", "y": 1.0}, {"loss": 2.0})
    merge([tmp_path / "one", tmp_path / "two"], tmp_path / "both", as_text=True)
    columns = {info.name: info for info in current_declaration(LogDirPaths(tmp_path / "both")).hparam_infos}
    assert [*columns["x"].domain_discrete] == ["0.5", "auto"]
    assert {name for name, info in columns.items() if info.differs} == {"x", "only"}


def test_none_among_numbers_as_text_keeps_the_types_of_ours(tmp_path):
    metric = [lab.Metric("loss", goal="min")]
    sweep(tmp_path / "one", [lab.HParam("depth", lab.Discrete([4, None]))], metric)
    sweep(tmp_path / "two", [lab.HParam("depth", lab.Discrete([4, 8]))], metric)
    with pytest.raises(LogDirError, match=r"'depth' has texts in .*one and numbers in .*two; "):
        merge([tmp_path / "one", tmp_path / "two"], tmp_path / "both")
    merge([tmp_path / "one", tmp_path / "two"], tmp_path / "both", as_text=True)
    both = lab.read(tmp_path / "both")
    assert [run.hparams["depth"] for run in both.runs] == [4, None, 4, 8]
    assert [len(trial.runs) for trial in both.trials] == [2, 1, 1]


def discrete(*listed, dtype="int"):
    return {"kind": "discrete", "values": list(listed), "dtype": dtype}


def interval(low, high, kind="RealInterval", scale="linear", step=None):
    return {"kind": kind, "min": low, "max": high, "scale": scale, "step": step}


@pytest.mark.parametrize(
    ("domains", "stored", "wanted"),
    [
        ([], [1], None),
        ([discrete(8, 16), discrete(8, 16)], [8, 16], discrete(8, 16)),
        ([discrete(8, 16), discrete(16, 32)], [8], discrete(8, 16, 32)),
        ([discrete(8, 16)], [8, 24], discrete(8, 16, 24)),
        ([discrete(0.5, 16.0, dtype="float")], [0.5, 16], discrete(0.5, 16.0, dtype="float")),
        ([discrete(8), discrete(0.5, dtype="float")], [8], discrete(8, 0.5, dtype="float")),
        ([discrete(True, dtype="bool"), discrete(False, dtype="bool")], [True], discrete(True, False, dtype="bool")),
        ([discrete(1), discrete("a", dtype="str")], ["1", "a"], discrete("1", "a", dtype="str")),
        ([discrete("a", None, dtype="str")], ["None", "a"], discrete("a", None, dtype="str")),
        ([discrete(4, None), discrete(4, 8)], ["4", "None", "8"], discrete(4, None, 8)),
        ([interval(1, 4, "IntInterval", "log", 2)] * 2, [1, 3], interval(1, 4, "IntInterval", "log", 2)),
        ([interval(1, 4, "IntInterval"), interval(3, 9, "IntInterval")], [], interval(1, 9, "IntInterval")),
        ([interval(1, 4, "IntInterval"), interval(0.5, 2.0)], [], interval(0.5, 4.0)),
        ([interval(1, 4, "IntInterval"), discrete(8)], [], interval(1, 8, "IntInterval")),
        ([interval(0.1, 1.0, scale="log"), interval(0.01, 0.5, scale="log")], [], interval(0.01, 1.0, scale="log")),
        ([interval(0.1, 1.0, scale="log")], [0.0], interval(0.0, 1.0)),
        ([interval(0.1, 1.0)], [0.5, "auto"], discrete(0.5, "auto", dtype="str") | {"values": ["0.5", "auto"]}),
    ],
)
def test_merged_domains(domains, stored, wanted):
    assert merged_domain(domains, stored) == wanted


# --- asked wrongly --------------------------------------------------------------------------------------------------


@pytest.fixture
def lab_command(lab_command):
    """As everywhere, for `merge`."""
    return functools.partial(lab_command, "merge")


def test_the_command(sweeps, tmp_path, lab_command):
    monday, other, both = sweeps / "monday", sweeps / "other", tmp_path / "new/both"
    code, said, errors = lab_command(monday, other, "-o", both)
    assert (code, errors) == (0, "")
    assert said == f"{monday}: 6 runs, named monday-...\n{other}: 6 runs, named other-...\n{both}: 12 runs\n"
    said = json.loads(lab_command(monday, other, "-o", tmp_path / "two", "--json")[1])
    assert said["runs"] == {str(monday): 6, str(other): 6}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{0}/monday", "-o", "{1}/new"], "1 directory is given; merging takes two or more"),
        (["{0}/monday", "{0}/monday/../monday", "-o", "{1}/new"], "{0}/monday and {0}/monday are one in the other"),
        (["{0}", "{0}/monday", "-o", "{1}/new"], "{0}/monday and {0} are one in the other, or the same; give each"),
        (["{0}/monday", "{0}/other", "-o", "{0}/other/new"], "{0}/other/new would be in {0}/other, which is merged"),
        (["{0}/monday", "{0}/other", "-o", "{1}"], "{1} is there already; name a directory that is not, or move"),
        (["{0}/monday", "{1}/none", "-o", "{1}/new"], "the log directory {1}/none does not exist"),
        (["{0}/monday", "{0}/other", "-o", "/proc/new"], "/proc cannot be written: "),
    ],
)
def test_asked_wrongly(sweeps, tmp_path, lab_command, arguments, said):
    before = files(sweeps)
    code, out, errors = lab_command(*(each.format(sweeps, tmp_path) for each in arguments))
    assert (code, out, errors.count("\n")) == (2, "", 1)
    assert errors.startswith(f"error: {said.format(sweeps, tmp_path)}")
    assert os.listdir(tmp_path) == []
    assert files(sweeps) == before


def test_a_run_that_goes_on_is_waited_for(sweeps, tmp_path):
    run = lab.start_run(tmp_path / "mine", hparams={"units": 1}, provenance=False)
    with pytest.raises(LogDirError, match=r"^the run run-0000 of .*/mine is still running; wait for its end, or stop"):
        merge([sweeps / "monday", tmp_path / "mine"], tmp_path / "both")
    run.finish()
    merge([sweeps / "monday", tmp_path / "mine"], tmp_path / "both")
    assert len(lab.read(tmp_path / "both").runs) == 7


def test_a_link_to_another_file_system(sweeps, elsewhere):
    with pytest.raises(LogDirError, match=r"cannot be linked .*; leave --link out to copy it"):
        merge([sweeps / "monday", sweeps / "other"], elsewhere / "both", link=True)
    assert os.listdir(elsewhere) == []


def test_what_a_killed_merge_has_left_is_no_part_of_the_next(sweeps, tmp_path):
    log(tmp_path / ".merging-both/run-0009", {"x": 1.0})
    merge([sweeps / "monday", sweeps / "other"], tmp_path / "both")
    assert len(lab.read(tmp_path / "both").runs) == 12
    assert os.listdir(tmp_path) == ["both"]


def test_odd_names(sweeps, weird_tmp_path):
    odd = shutil.copytree(sweeps / "monday", weird_tmp_path / "it's\nodd")
    merge([odd, sweeps / "other"], weird_tmp_path / "bo\tth")
    assert len(lab.read(weird_tmp_path / "bo\tth").runs) == 12


# --- as TensorBoard sees it -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("loader", ["true", "false"], ids=["rust", "python"])
def test_tensorboard_shows_all_under_one_experiment(sweeps, tmp_path, loader):
    log(tmp_path / "theirs", experiment=observed_message({"width": 1.0}, ["loss"]))
    log(tmp_path / "theirs/a", {"width": 1.0, "units": 8.0}, {"loss": 1.0})
    log(tmp_path / "theirs/b", {"width": 2.0, "units": 8.0}, {"loss": 2.0})
    sources = [sweeps / "monday", sweeps / "tuesday", sweeps / "other", tmp_path / "theirs"]
    merge(sources, tmp_path / "all")
    trials = {trial.id: trial for trial in lab.read(tmp_path / "all").trials}
    assert len(trials) == 10 + 6 + 2
    with Board(tmp_path / "all", 0, [f"--load_fast={loader}"]) as board:
        client = Client(board.url)
        found = eventually(client.groups, lambda groups: sum(bool(values(group)) for group in groups) == len(trials))
        columns = client.columns()
        assert set(columns) == {"units", "rate", "optimizer", "width"}
        assert {group["hparams"].get("optimizer") for group in found} == {None, "adam", "None"}
        for group in found:
            runs = [run for trial in trials.values() for run in trial.runs if run.name in _sessions(group)]
            assert len(runs) == len(group["sessions"])
            assert len({run.trial_id for run in runs}) == 1
        assert sum(len(group["sessions"]) for group in found) == 6 * 3 + 2
        for name in columns:  # a column of one type can be sorted
            ordered = client.groups({"hparam": name, "order": "ORDER_ASC"})
            assert len(ordered) == len(trials)


def _sessions(group):
    return {session["name"] for session in group["sessions"]}


def run_of(values, *more):
    """The bytes of a run without an end, then `more`."""
    events = [version_event(1.0), summary_event(summaries.session_start(values, "", 1.0), 0, 1.0)]
    return b"".join([*events, *more])


@pytest.mark.parametrize("damage", ["length", "checksum", "start", "torn"])
def test_what_is_damaged_is_merged_as_it_is(tmp_path, damage):
    """Also in files that change: what stands behind the damage may still be saved by `doctor`."""
    good = summary_event(summaries.scalars({"loss": 0.5}), 1, 2.0)
    start = summary_event(summaries.session_start({"x": 2.0}, "", 1.0), 0, 1.0)
    bad = {"length": b"\1" * 40, "checksum": good[:-1] + b"?", "start": start[:-1] + b"?", "torn": b""}[damage]
    behind = bad + (good[:-3] if damage == "torn" else good)
    for name, value in (("one", 0.5), ("two", "auto")):
        (tmp_path / name / "run").mkdir(parents=True)
        (tmp_path / name / "run/tfevents").write_bytes(run_of({"x": value}, good, behind))
    merge([tmp_path / "one", tmp_path / "two"], tmp_path / "both", as_text=True)
    (merged,) = (tmp_path / "both/one-run").iterdir()
    data = merged.read_bytes()
    assert data.endswith(good + behind)
    assert data != (tmp_path / "one/run/tfevents").read_bytes()


@pytest.mark.skipif(not can_watch(), reason="this system does not tell how large a process was")
def test_a_large_file_that_changes_takes_no_memory(tmp_path):
    size = 2**20
    images = (summary_event(Summary(value=[Summary.Value(tag="t", tensor=TensorProto(tensor_content=bytes(size)))]),
                            step, 2.0) for step in range(60))  # fmt: skip
    for name, value, more in (("one", 0.5, images), ("two", "auto", ())):
        (tmp_path / name / "run").mkdir(parents=True)
        (tmp_path / name / "run/tfevents").write_bytes(run_of({"x": value}, *more))
    _, took = watched(lambda: merge([tmp_path / "one", tmp_path / "two"], tmp_path / "both", as_text=True))
    assert (tmp_path / "both/one-run/tfevents").stat().st_size > 60 * size
    assert took.grown < 20 * size


def test_a_merge_that_was_killed_leaves_nothing_for_the_next(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name / "run").mkdir(parents=True)
        (tmp_path / name / "run/tfevents").write_bytes(run_of({"x": 1.0}))
    code = (
        "import os, sys; from hparams_lab.logdir import merge; merge.declare = lambda *all: os.kill(os.getpid(), 9);"
        "merge.merge(sys.argv[1:3], sys.argv[3])"
    )
    paths = [tmp_path / name for name in ("one", "two", "both")]
    assert subprocess.run([sys.executable, "-c", code, *paths], check=False).returncode == -9
    (left,) = (path for path in tmp_path.iterdir() if path.name not in ("one", "two"))
    assert any(left.rglob("*tfevents*"))
    with scratch(tmp_path, MAKING) as other:  # what another process is making stays
        assert not left.exists()
        merge(paths[:2], paths[2])
        assert other.is_dir()
    assert {path.name for path in tmp_path.iterdir()} == {"one", "two", "both"}
