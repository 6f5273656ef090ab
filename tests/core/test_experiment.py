"""Experiments: what is taken in, what is refused, conditions, constraints, counting, and copies."""

import json
import pickle

import numpy as np
import pytest
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2, summary_v2

from hparams_lab.core.direction import goal_of_tag
from hparams_lab.core.domains import Discrete
from hparams_lab.core.errors import DeclarationError, HParamValueError
from hparams_lab.core.experiment import Experiment, Metric, adopt_metric
from hparams_lab.core.hparam import HParam
from hparams_lab.core.intervals import IntInterval, RealInterval

UNITS = HParam("units", Discrete([32, 16]), description="width")
OPTIMIZER = HParam("optimizer", Discrete(["sgd", "adam"]), "Optimizer")
MOMENTUM = HParam("momentum", RealInterval(0, 0.9, step=0.3), active_when={OPTIMIZER: "sgd"})
NESTEROV = HParam("nesterov", Discrete([True, False]), active_when={"momentum": [0.6, 0.9]})
RATE = HParam("rate", RealInterval(1e-3, 1e-1, scale="log"))
ACCURACY, LOSS = Metric("accuracy"), Metric("loss")
SPACE = [UNITS, OPTIMIZER, MOMENTUM, NESTEROV]


def small_sgd(hparams):
    return hparams["optimizer"] != "sgd" or hparams["units"] < 32


def plugin_data(summary):
    return plugin_data_pb2.HParamsPluginData.FromString(summary.value[0].metadata.plugin_data.content)


def test_tensorboards_own_objects_are_taken_over():
    theirs = Experiment(
        [
            summary_v2.HParam("units", summary_v2.Discrete([16, 32]), description="width"),
            summary_v2.HParam("layers", summary_v2.IntInterval(1, 4)),
            summary_v2.HParam("rate", summary_v2.RealInterval(0.001, 0.1), display_name="Rate"),
        ],
        [summary_v2.Metric("accuracy", display_name="Acc", group="val", dataset_type=summary_v2.Metric.VALIDATION)],
    )
    ours = Experiment(
        [
            HParam("units", Discrete([16, 32]), description="width"),
            HParam("layers", IntInterval(1, 4)),
            HParam("rate", RealInterval(0.001, 0.1), "Rate"),
        ],
        [Metric("accuracy", "Acc", goal="max", group="val", dataset_type=Metric.VALIDATION)],
    )
    assert theirs == ours
    assert theirs.objective == "accuracy"
    assert Experiment([UNITS], [summary_v2.Metric("loss")], summary_v2.Metric("loss")).objective == "loss"


def test_tensorboard_takes_our_objects():
    metric = Metric("val/acc", "Acc", "of the validation set", group="g", dataset_type=Metric.VALIDATION)
    hparams = [OPTIMIZER.to_tensorboard(), RATE.to_tensorboard()]
    config = plugin_data(summary_v2.hparams_config_pb(hparams, [metric.to_tensorboard()], 5)).experiment
    assert [info.name for info in config.hparam_infos] == ["optimizer", "rate"]
    assert list(config.hparam_infos[0].domain_discrete) == ["adam", "sgd"]
    assert config.hparam_infos[1].domain_interval.max_value == 0.1
    assert config.metric_infos[0] == api_pb2.MetricInfo(
        name=api_pb2.MetricName(tag="val/acc", group="g"),
        display_name="Acc",
        description="of the validation set",
        dataset_type=api_pb2.DATASET_VALIDATION,
    )
    values = dict(zip(hparams, ["sgd", 0.01], strict=True))
    start = plugin_data(summary_v2.hparams_pb(values, "id", 5)).session_start_info
    assert start.group_name == "id"
    assert start.hparams["optimizer"].string_value == "sgd"
    assert start.hparams["rate"].number_value == 0.01


@pytest.mark.parametrize(
    ("tag", "goal"),
    [("accuracy", "max"), ("val/AUC", "max"), ("loss", "min"), ("rmse", "min"), ("acc_loss", None), ("time", None)],
)
def test_goal_is_told_by_the_tag_where_it_is_plain(tag, goal):
    assert goal_of_tag(tag) == Metric(tag).goal == goal
    assert Metric(tag, goal="min").goal == "min"


def test_objective_is_the_first_metric_unless_named():
    assert Experiment([UNITS], [LOSS, ACCURACY]).objective == "loss"
    assert Experiment([UNITS], [LOSS, ACCURACY], "accuracy").objective_metric == ACCURACY
    assert Experiment([UNITS], [LOSS, ACCURACY], ACCURACY).objective == "accuracy"


@pytest.mark.parametrize(
    ("hparams", "metrics", "objective", "message"),
    [
        ([], [ACCURACY], None, "an experiment without hparams; declare at least one"),
        ([UNITS], [], None, "an experiment without metrics; declare at least one"),
        ([UNITS, UNITS], [ACCURACY], None, "the experiment's hparams have the name 'units' twice; names are unique"),
        ([UNITS], [LOSS, LOSS], None, "the experiment's metrics have the name 'loss' twice"),
        ([UNITS], [LOSS], "f1", r"the objective 'f1' is not among the metrics \(loss\); declare it or name one"),
        ([UNITS], [Metric("t")], "t", r"the objective 't' has no goal; say Metric\('t', goal='max'\) or goal='min'"),
        ([MOMENTUM, OPTIMIZER], [LOSS], None, "hparam 'momentum' is active_when 'optimizer' .* not declared before it"),
        (
            [OPTIMIZER, HParam("m", Discrete([1]), active_when={"optimizer": "sdg"})],
            [LOSS],
            None,
            r"hparam 'm' has an active_when that never holds: hparam 'optimizer' is 'sdg'; its domain is \{sgd, adam\}",
        ),
        (["units"], [LOSS], None, "'units' is not an HParam"),
        ([UNITS], ["loss"], None, r"'loss' is not a Metric; declare it as Metric\(tag, goal='max'\)"),
    ],
)
def test_bad_experiments(hparams, metrics, objective, message):
    with pytest.raises(DeclarationError, match=f"^{message}") as caught:
        Experiment(hparams, metrics, objective)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Metric(" "), "Metric has the name ' '; wanted a string that is not empty"),
        (lambda: Metric("loss", goal="down"), "metric 'loss' has the goal 'down'; wanted 'max' or 'min'"),
        (lambda: adopt_metric(3), "3 is not a Metric"),
    ],
)
def test_bad_metrics(make, message):
    with pytest.raises(DeclarationError, match=f"^{message}"):
        make()


def test_check_gives_plain_values_in_declaration_order():
    experiment = Experiment(SPACE, [ACCURACY])
    given = {"momentum": np.float32(0.3), OPTIMIZER: np.str_("sgd"), "units": np.int64(16)}
    found = experiment.check(given)
    assert list(found.items()) == [("units", 16), ("optimizer", "sgd"), ("momentum", 0.3)]
    assert [type(value) for value in found.values()] == [int, str, float]


@pytest.mark.parametrize(
    ("hparams", "message"),
    [
        ({"unit": 16}, "hparam 'unit' is not declared; the experiment has units, optimizer, momentum, nesterov"),
        ({"units": 16}, r"hparam 'optimizer' has no value; give one of \{sgd, adam\}"),
        ({"units": 64, "optimizer": "adam"}, r"hparam 'units' is 64; its domain is \{32, 16\}"),
        ({"units": True, "optimizer": "adam"}, r"hparam 'units' is True \(bool\); wanted a whole number"),
        (
            {"units": 16, "optimizer": "adam", "momentum": 0.3},
            r"hparam 'momentum' is only for {'optimizer': \('sgd',\)}; leave it out here",
        ),
        ({"units": 16, "optimizer": "sgd"}, r"hparam 'momentum' has no value; give one of \[0, 0.9\] step 0.3"),
        ({"units": 32, "optimizer": "sgd", "momentum": 0}, "hparams {.*} break a constraint of the experiment"),
    ],
)
def test_check_refuses(hparams, message):
    with pytest.raises(HParamValueError, match=f"^{message}"):
        Experiment(SPACE, [ACCURACY], constraints=[small_sgd]).check(hparams)


def test_size_follows_conditions_without_listing():
    assert Experiment(SPACE, [LOSS]).size == 2 * (1 + 2 + 2 * 2)  # adam; momentum 0, 0.3; momentum 0.6, 0.9 by nesterov
    assert Experiment([HParam(f"h{i}", IntInterval(1, 10**6)) for i in range(9)], [LOSS]).size == 10**54
    assert Experiment([UNITS, RATE], [LOSS]).size is None
    never = HParam("rate", RATE.domain, active_when={"units": 16})
    assert Experiment([HParam("units", Discrete([16])), never], [LOSS]).size is None


def through_json(experiment):
    return Experiment.from_json(json.loads(json.dumps(experiment.to_json(), allow_nan=False)))


def through_pickle(experiment):
    return pickle.loads(pickle.dumps(experiment))


@pytest.mark.parametrize("copy", [through_json, through_pickle])
def test_copies_are_equal(copy):
    nullable = HParam("decay", Discrete([0.1, None]), "Decay", "*fast*", active_when={"nesterov": True, "units": 16})
    metrics = [Metric("loss", "Loss", "what", group="g", dataset_type=Metric.TRAINING), Metric("time", goal="max")]
    experiment = Experiment([*SPACE, nullable, RATE], metrics, "time", name="digits")
    found = copy(experiment)
    assert found == experiment
    assert hash(found) == hash(experiment)
    assert [hparam.description for hparam in found.hparams] == [hparam.description for hparam in experiment.hparams]
    assert found != Experiment([*SPACE, nullable, RATE], metrics, "loss", name="digits")


def test_conditions_are_values_of_their_hparam():
    depends = HParam("depends", Discrete([1]), active_when={UNITS: [np.float64(16), 32]})
    assert repr(Experiment([UNITS, depends], [LOSS]).hparam("depends").active_when) == "{'units': (16, 32)}"


def test_constraints_are_named_in_json_and_pickle_by_reference():
    experiment = Experiment([UNITS, OPTIMIZER], [LOSS], constraints=[small_sgd])
    assert experiment.to_json()["constraints"] == ["small_sgd"]
    assert through_pickle(experiment) == experiment


def test_looking_up_by_name_or_object():
    experiment = Experiment([UNITS, RATE], [LOSS])
    assert experiment.hparam("units") is experiment.hparam(UNITS) is UNITS
    with pytest.raises(KeyError, match="f1"):
        experiment.metric("f1")
    with pytest.raises(AttributeError):
        experiment.objective = "accuracy"
