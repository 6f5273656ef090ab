"""Summaries: the very bytes that TensorBoard's own builders make, and back."""

import functools
import math

import pytest
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2, summary_v2
from tensorboard.plugins.scalar.summary_v2 import scalar_pb
from tensorboard.plugins.text.summary_v2 import text_pb

from hparams_lab.core.domains import Discrete
from hparams_lab.core.experiment import Experiment, Metric
from hparams_lab.core.hparam import HParam
from hparams_lab.core.intervals import IntInterval, RealInterval
from hparams_lab.events.format import summaries
from hparams_lab.events.format.tensor import scalar_of
from hparams_lab.logdir.declaration import experiment_message, observed_info, observed_message, union

FLOAT, BOOL, STRING = api_pb2.DATA_TYPE_FLOAT64, api_pb2.DATA_TYPE_BOOL, api_pb2.DATA_TYPE_STRING
HPARAMS = [
    HParam("units", Discrete([16, 32]), "Units", "how wide"),
    HParam("optimizer", Discrete([None, "adam"])),
    HParam("bias", Discrete([False, True])),
    HParam("layers", IntInterval(1, 4)),
    HParam("rate", RealInterval(1e-3, 1e-1, scale="log")),
]
METRICS = [Metric("loss", "Loss", "less is better"), Metric("accuracy", group="validation")]
OURS = Experiment(HPARAMS[:2], METRICS, "accuracy", name="mine")
VALUES = {"units": 16, "optimizer": "None", "bias": True, "rate": 0.1, "name": "试 ü"}


def same(ours, theirs):
    """Messages are the same when their bytes are, in the one order that `deterministic` gives to maps."""
    return ours.SerializeToString(deterministic=True) == theirs.SerializeToString(deterministic=True)


def content(summary):
    """The HParams plugin's message, since the order of a map inside of it is nobody's promise."""
    (value,) = summary.value
    return plugin_data_pb2.HParamsPluginData.FromString(value.metadata.plugin_data.content)


def columns(message):
    """Each column's values or ends, by name."""
    ends = {info.name: info.domain_interval for info in message.hparam_infos}
    return {
        info.name: list(info.domain_discrete) or (ends[info.name].min_value, ends[info.name].max_value)
        for info in message.hparam_infos
    }


def test_constants_are_tensorboards():
    assert summaries.EXPERIMENT_TAG == metadata.EXPERIMENT_TAG
    assert summaries.SESSION_START_TAG == metadata.SESSION_START_INFO_TAG
    assert summaries.SESSION_END_TAG == metadata.SESSION_END_INFO_TAG
    assert summaries.HPARAMS_PLUGIN == metadata.PLUGIN_NAME
    assert summaries.session_end(summaries.SUCCESS, 1.0).value[0].tensor == metadata.NULL_TENSOR


def test_session_start_is_hparams_pb():
    theirs = summary_v2.hparams_pb(VALUES, trial_id="abc", start_time_secs=12.5)
    ours = summaries.session_start(VALUES, "abc", 12.5)
    assert same(content(ours), content(theirs))
    assert ours.value[0].tag == theirs.value[0].tag
    assert same(ours.value[0].tensor, theirs.value[0].tensor)
    info = metadata.parse_session_start_info_plugin_data(ours.value[0].metadata.plugin_data.content)
    assert {name: summaries.plain_value(value) for name, value in info.hparams.items()} == VALUES


def test_experiment_is_hparams_config_pb_plus_name_and_differs():
    hparams, metrics = ([each.to_tensorboard() for each in part] for part in (HPARAMS, METRICS))
    theirs = summary_v2.hparams_config_pb(hparams, metrics, time_created_secs=3.0)
    message = experiment_message(Experiment(HPARAMS, METRICS, name="mine"))
    assert all(info.differs for info in message.hparam_infos)
    for info in message.hparam_infos:
        info.ClearField("differs")
    ours = summaries.experiment(message.hparam_infos, message.metric_infos, 3.0)
    assert same(ours, theirs)
    assert content(summaries.experiment([], [], 3.0, "mine")).experiment.name == "mine"


def test_objective_is_the_first_metric_and_one_value_does_not_differ():
    message = experiment_message(Experiment([HParam("x", Discrete([1]))], METRICS, "accuracy"))
    assert [info.name.tag for info in message.metric_infos] == ["accuracy", "loss"]
    assert message.metric_infos[0].name.group == "validation"
    assert not message.hparam_infos[0].differs


@pytest.mark.parametrize("words", ["**bold**\n\n试", "", "tab\there"])
def test_text_is_text_pb(words):
    ours, theirs = summaries.text("note", words), text_pb("note", words)
    assert ours.value[0].tag == theirs.value[0].tag
    assert same(ours.value[0].tensor, theirs.value[0].tensor)
    plugin = theirs.value[0].metadata.plugin_data
    assert ours.value[0].metadata.plugin_data.plugin_name == plugin.plugin_name
    assert [summaries.text_of(summary.value[0]) for summary in (ours, theirs)] == [words, words]


def test_text_that_utf8_cannot_hold_is_kept_as_far_as_it_can():
    assert summaries.text_of(summaries.text("note", "a\ud800b").value[0]) == "a?b"


def test_scalars_are_simple_values():
    values = {"loss": 0.5, "nan": math.nan, "inf": math.inf}
    summary = summaries.scalars(values)
    assert [value.tag for value in summary.value] == list(values)
    assert [value.WhichOneof("value") for value in summary.value] == ["simple_value"] * 3
    assert [scalar_of(value) for value in summary.value] == pytest.approx([0.5, math.nan, math.inf], nan_ok=True)


def test_readers_of_what_is_something_else():
    (scalar,), (text,) = scalar_pb("loss", 0.5).value, text_pb("note", "words").value
    assert (scalar_of(scalar), summaries.text_of(scalar), summaries.plugin_data(scalar)) == (0.5, None, None)
    assert (scalar_of(text), summaries.text_of(text), summaries.plugin_data(text)) == (None, "words", None)
    image = text_pb("image", ["28", "28", "png"]).value[0]
    image.metadata.plugin_data.plugin_name = "images"
    assert (scalar_of(image), summaries.text_of(image)) == (None, None)
    torn = SummaryMetadata.PluginData(plugin_name="hparams", content=b"\xff\xff")
    assert summaries.plugin_data(Summary.Value(metadata=SummaryMetadata(plugin_data=torn))) is None


def test_plain_values_of_a_session_start():
    info = summaries.session_start({"i": 16, "f": 0.5, "b": False, "s": "", "big": 2.0**60}, "abc", 0.0)
    found = content(info).session_start_info.hparams
    found["none"].null_value = 0
    found["list"].list_value.values.add().number_value = 1
    found["nan"].number_value = math.nan
    plain = {name: summaries.plain_value(value) for name, value in found.items()}
    assert plain == {"i": 16, "f": 0.5, "b": False, "s": "", "big": 2.0**60, "none": None, "list": None, "nan": "nan"}
    assert [type(plain[name]) for name in ("i", "f", "b", "big")] == [int, float, bool, float]


@pytest.mark.parametrize(
    ("values", "dtype", "domain"),
    [
        ([1, 0.5], FLOAT, (0.5, 1)),
        ([True, False, True], BOOL, [False, True]),
        (["b", "a"], STRING, ["a", "b"]),
        ([None, "a"], STRING, ["None", "a"]),
        ([True, 2], STRING, ["2", "True"]),
        ([3, None], STRING, ["3", "None"]),
    ],
    ids=str,
)
def test_observed_columns_have_one_type(values, dtype, domain):
    info = observed_info("x", values)
    assert (info.type, info.differs) == (dtype, True)
    assert columns(api_pb2.Experiment(hparam_infos=[info])) == {"x": domain}
    assert not observed_info("x", values[:1]).differs
    merged = observed_message({"x": values[0]}, ())
    for value in values[1:]:
        merged = union(merged, observed_message({"x": value}, ()))
    assert list(merged.hparam_infos) == [info]


def test_union_keeps_names_and_order_and_widens_domains():
    more = Experiment([HParam("depth", IntInterval(1, 4)), HParam("units", Discrete([64, 16]))], [Metric("f1")])
    found = union(experiment_message(OURS), experiment_message(more))
    assert found.name == "mine"
    assert columns(found) == {"units": (16, 64), "optimizer": ["None", "adam"], "depth": (1, 4)}
    assert (found.hparam_infos[0].display_name, found.hparam_infos[0].description) == ("Units", "how wide")
    assert [info.name.tag for info in found.metric_infos] == ["accuracy", "loss", "f1"]
    assert union(found, experiment_message(OURS)) == found


def test_a_union_of_many_is_that_of_each_with_the_next():
    """What was merged once changes nothing again, whatever came between."""
    values = [1, 2, 1, "x", 2, True, 1, 3.5]
    messages = [observed_message({"x": value, f"only/{at % 3}": at % 2}, ["loss"]) for at, value in enumerate(values)]
    assert union(*messages) == functools.reduce(union, messages)
    assert union(*messages, *messages) == union(*messages)
    assert union() == api_pb2.Experiment()
