"""A log directory: its one Experiment summary, as TensorBoard reads it, its `sweep.json`, and `read`."""

import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams.backend_context import Context

from hparams_lab.core.domains import Discrete
from hparams_lab.core.errors import LogDirError
from hparams_lab.core.experiment import Experiment, Metric
from hparams_lab.core.hparam import HParam
from hparams_lab.logdir.declaration import current_declaration, declare, observed_message
from hparams_lab.logdir.reader import read
from hparams_lab.logdir.sweep_json import declared_in, load_sweep, save_sweep
from hparams_lab.run.start import start_run
from hparams_lab.storage.paths import LogDirPaths

UNITS = HParam("units", Discrete([16, 32]), "Units", "how wide")
OPTIMIZER = HParam("optimizer", Discrete(["adam", None]))
EXPERIMENT = Experiment([UNITS, OPTIMIZER], [Metric("loss"), Metric("accuracy")], "accuracy", name="mine")


@pytest.fixture
def paths(tmp_path):
    return LogDirPaths(tmp_path)


def numbers(paths):
    return sorted(entry.name for entry in paths.experiments.iterdir() if entry.name != ".lock")


def in_tensorboard(logdir):
    """The experiment that TensorBoard's own backend finds, and its runs."""
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(logdir)).Reload()
    context = Context(TBContext(data_provider=MultiplexerDataProvider(multiplexer, str(logdir))))
    found = context.hparams_metadata(RequestContext(), "")
    return context.experiment_from_metadata(RequestContext(), "", True, found, None), set(multiplexer.Runs())


def columns(message):
    """Each column's values or ends, by name."""
    ends = {info.name: info.domain_interval for info in message.hparam_infos}
    return {
        info.name: list(info.domain_discrete) or (ends[info.name].min_value, ends[info.name].max_value)
        for info in message.hparam_infos
    }


def test_tensorboard_reads_the_declared_in_and_the_run(paths):
    with start_run(paths.root, hparams={"units": 16, "optimizer": None}, experiment=EXPERIMENT) as run:
        run.log({"accuracy": 0.5})
    found, runs = in_tensorboard(paths.root)
    assert runs == {"_experiment/1", "run-0000"}
    assert (found.name, columns(found)) == ("mine", {"units": [16, 32], "optimizer": ["adam", "None"]})
    assert [info.name.tag for info in found.metric_infos] == ["accuracy", "loss"]
    assert {info.name: info.display_name for info in found.hparam_infos} == {"units": "Units", "optimizer": ""}


def test_one_summary_that_is_replaced_only_when_something_changes(paths):
    for message, number in [
        (observed_message({"x": 1}, ()), "1"),
        (observed_message({"x": 1}, ()), "1"),
        (observed_message({"x": 3}, ()), "2"),
        (observed_message({"x": 2}, ()), "2"),
        (observed_message({}, ["loss"]), "3"),
        (observed_message({}, ["loss"]), "3"),
    ]:
        declare(paths, message)
        assert numbers(paths) == [number]
    assert columns(current_declaration(paths)) == {"x": (1, 3)}


def test_ten_comes_after_nine_and_what_is_no_number_stays(paths):
    for number in ("9", "10", "²"):
        (paths.experiments / number).mkdir(parents=True)
    declare(paths, observed_message({"x": 1}, ()))
    assert numbers(paths) == ["11", "²"]


@pytest.mark.parametrize(("left", "ends"), [(None, (1, 1)), (0, (1, 1)), (-1, (1, 1)), (10**6, (1, 3))])
def test_a_process_killed_between_two_summaries_is_made_good(paths, left, ends):
    other = LogDirPaths(paths.root / "other")
    declare(paths, observed_message({"x": 1}, ()))
    declare(other, observed_message({"x": 1}, ()))
    declare(other, observed_message({"x": 3}, ()))
    (file,) = (other.experiments / "2").iterdir()
    file = file.rename(paths.root / file.name)
    (paths.experiments / "2").mkdir()
    if left is not None:
        (paths.experiments / "2" / file.name).write_bytes(file.read_bytes()[:left])
    assert columns(current_declaration(paths)) == {"x": ends}
    declare(paths, observed_message({"x": 1}, ()))
    assert numbers(paths) == ["3"]
    assert columns(current_declaration(paths)) == {"x": ends}


FORKS = """
import os, sys
from hparams_lab.run.start import start_run
children = []
for n in range(10):
    if (child := os.fork()) == 0:
        with start_run(sys.argv[1], hparams={"shared": n, f"own_{n}": str(n)}) as run:
            run.log({"loss": n, f"metric_{n}": n})
        os._exit(0)
    children.append(child)
sys.exit(any(os.waitpid(child, 0)[1] for child in children))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork and no flock")
def test_ten_processes_at_once_leave_one_experiment_with_every_column(paths):
    subprocess.run([sys.executable, "-c", FORKS, str(paths.root)], check=True, timeout=60)
    results = read(paths.root)
    assert [run.name for run in results.runs] == [f"run-{n:04d}" for n in range(10)]
    assert sorted(run.hparams["shared"] for run in results.runs) == list(range(10))
    assert all(run.metrics[f"metric_{run.hparams['shared']}"] == run.hparams["shared"] for run in results.runs)
    (number,) = numbers(paths)
    found, runs = in_tensorboard(paths.root)
    assert runs == {f"_experiment/{number}"} | {run.name for run in results.runs}
    assert columns(found) == {"shared": (0, 9), **{f"own_{n}": [str(n)] for n in range(10)}}
    assert {info.name.tag for info in found.metric_infos} == {"loss", *(f"metric_{n}" for n in range(10))}


def test_sweep_json_is_whole_at_any_instant(paths):
    def write(n):
        for _ in range(20):
            save_sweep(paths, {"n": n, "text": "ü" * 10_000 * n})

    save_sweep(paths, {"n": 0, "text": ""})
    with ThreadPoolExecutor() as pool:
        writing = pool.submit(write, 1)
        while not writing.done():
            assert load_sweep(paths)["n"] in (0, 1)
        writing.result()
    assert [entry.name for entry in paths.root.iterdir()] == ["sweep.json"]


def test_the_experiment_comes_back_from_sweep_json(paths):
    assert (load_sweep(paths), declared_in(paths)) == (None, None)
    save_sweep(paths, {"experiment": EXPERIMENT.to_json()})
    assert declared_in(paths).experiment == EXPERIMENT
    assert read(paths.root).experiment == EXPERIMENT
    save_sweep(paths, {"seed": 1})
    assert declared_in(paths) is None


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", "Expecting property name .*"),
        ("[]", "it holds a list"),
        ('{"experiment": null}', "its experiment is none: AttributeError.*"),
        ('{"experiment": {}}', "its experiment is none: KeyError.*"),
        (b"\xff", "'utf-8' codec .*"),
        (None, "Is a directory.*"),
    ],
)
def test_sweep_json_that_cannot_be_read(paths, content, why):
    if content is None:
        paths.sweep_json.mkdir()
    else:
        paths.sweep_json.write_bytes(content if isinstance(content, bytes) else content.encode())
    wanted = (
        re.escape(f"{paths.sweep_json} cannot be read (") + f".*{why}" + r"\); restore it or move the directory aside"
    )
    with pytest.raises(LogDirError, match=f"^{wanted}$") as caught:
        read(paths.root)
    assert "\n" not in str(caught.value)


def test_directories_that_hold_nothing(tmp_path):
    (tmp_path / "file").write_text(json.dumps({}))
    for name, wrong in [("gone", "does not exist"), ("file", "is a file")]:
        with pytest.raises(LogDirError, match=rf"^the log directory .*{name} {wrong}; name a directory that a sweep"):
            read(tmp_path / name)
    with pytest.raises(LogDirError, match=r" holds no runs: no file with .tfevents. in its name and hparams or scal"):
        read(tmp_path)
