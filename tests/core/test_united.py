"""Several experiments through `start_run` in one directory: `sweep.json` declares all, or the second is refused."""

import json
import warnings

import pytest

import hparams_lab as lab
from hparams_lab.core.errors import LogDirError
from hparams_lab.logdir.declaration import current_declaration
from hparams_lab.storage.paths import LogDirPaths

UNITS = lab.HParam("units", lab.Discrete([8, 16]))
FIRST = lab.Experiment([UNITS], [lab.Metric("accuracy"), lab.Metric("loss")])


def start(logdir, experiment, **hparams):
    with lab.start_run(logdir, hparams=hparams, experiment=experiment, provenance=False) as run:
        run.log({metric.tag: 0.5 for metric in experiment.metrics}, step=1)


def stored(logdir):
    return json.loads((logdir / "sweep.json").read_text())


def test_two_experiments_are_one_that_declares_both(tmp_path):
    rate = lab.HParam("rate", lab.RealInterval(1e-3, 1e-1, scale="log"))
    hparams = [lab.HParam("units", lab.Discrete([16, 32])), rate]
    second = lab.Experiment(hparams, [lab.Metric("accuracy"), lab.Metric("f1")])
    start(tmp_path, FIRST, units=8)
    with pytest.warns(UserWarning, match=r"another experiment: hparam rate: added; hparam units: .*; metric f1: added"):
        start(tmp_path, second, units=32, rate=0.01)
    before = (tmp_path / "sweep.json").read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for experiment, hparams in ((FIRST, {"units": 16}), (second, {"units": 16, "rate": 0.1})):
            start(tmp_path, experiment, **hparams)
    assert (tmp_path / "sweep.json").read_bytes() == before
    declared = lab.read(tmp_path).declared
    assert declared.hparams["units"]["domain"]["values"] == [8, 16, 32]
    assert ([*declared.hparams], [*declared.metrics]) == (["units", "rate"], ["accuracy", "loss", "f1"])
    assert declared.objective == "accuracy"
    message = current_declaration(LogDirPaths(tmp_path))
    assert [info.name for info in message.hparam_infos] == ["units", "rate"]
    assert [info.name.tag for info in message.metric_infos] == ["accuracy", "loss", "f1"]


def test_another_objective_is_told_and_none_is_guessed(tmp_path):
    start(tmp_path, FIRST, units=8)
    with pytest.warns(UserWarning, match=r"objective: accuracy -> loss; from now on it declares both$"):
        start(tmp_path, lab.Experiment(FIRST.hparams, FIRST.metrics, "loss"), units=8)
    assert stored(tmp_path)["experiment"]["objective"] is None


@pytest.mark.parametrize(
    ("second", "hparams", "message"),
    [
        (
            lab.Experiment([lab.HParam("units", lab.Discrete(["few"]))], FIRST.metrics),
            {"units": "few"},
            r"declares another experiment: hparam 'units' has numbers there and texts here; give another name, or dir",
        ),
        (
            lab.Experiment([lab.HParam("units", lab.Discrete([True]))], FIRST.metrics),
            {"units": True},
            r"hparam 'units' has numbers there and True or False here",
        ),
        (
            lab.Experiment([UNITS], [lab.Metric("loss", goal="max")]),
            {"units": 8},
            r"metric 'loss' has the goal 'min' there and 'max' here",
        ),
    ],
)
def test_what_cannot_be_one_is_refused_with_nothing_written(tmp_path, second, hparams, message):
    start(tmp_path, FIRST, units=8)
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
    with pytest.raises(LogDirError, match=message):
        start(tmp_path, second, **hparams)
    assert {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")} == before


def test_a_sweep_keeps_what_it_was_asked_for(tmp_path):
    def train(run):
        return {"accuracy": 1.0, "loss": 0.0}

    options = {"logdir": tmp_path, "executor": "inline", "observe": lambda event: None}
    lab.run_sweep(FIRST, train, **options)
    before = stored(tmp_path)
    wider = lab.Experiment([UNITS, lab.HParam("more", lab.Discrete([1]))], FIRST.metrics)
    start(tmp_path, wider, units=8, more=1)
    assert stored(tmp_path) == before
    lab.run_sweep(FIRST, train, **options)
    assert [info.name for info in current_declaration(LogDirPaths(tmp_path)).hparam_infos] == ["units", "more"]
