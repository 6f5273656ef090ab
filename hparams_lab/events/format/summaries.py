"""Summaries as TensorBoard's plugins want them: pure builders, one per kind, and their readers.

The HParams plugin finds three tags, each with its message in the plugin's metadata and an empty tensor as value:
the experiment, a session's start and a session's end. Scalars are `simple_value`s (32-bit floats, which every loader
reads; double tensors are dropped by the default one); texts are string tensors.
Source: https://github.com/tensorflow/tensorboard/blob/2.21.0/tensorboard/plugins/hparams/plugin_data.proto
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.compat.proto.types_pb2 import DT_FLOAT, DT_STRING
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo

from hparams_lab.core.values import LARGEST_INTEGER

EXPERIMENT_TAG = "_hparams_/experiment"
SESSION_START_TAG = "_hparams_/session_start_info"
SESSION_END_TAG = "_hparams_/session_end_info"
HPARAMS_PLUGIN = "hparams"
TEXT_PLUGIN = "text"

SUCCESS: int = api_pb2.STATUS_SUCCESS
FAILURE: int = api_pb2.STATUS_FAILURE
UNKNOWN: int = api_pb2.STATUS_UNKNOWN

_NO_VALUE = TensorProto(dtype=DT_FLOAT, tensor_shape=TensorShapeProto(dim=[TensorShapeProto.Dim(size=0)]))

Stored = Mapping[str, "bool | float | str"]


def experiment(
    hparams: Iterable[api_pb2.HParamInfo], metrics: Iterable[api_pb2.MetricInfo], created: float, name: str = ""
) -> Summary:
    """The one declaration of a log directory. Metrics show in this order, the first five at once."""
    message = api_pb2.Experiment(name=name, time_created_secs=created, hparam_infos=hparams, metric_infos=metrics)
    return _hparams(EXPERIMENT_TAG, HParamsPluginData(experiment=message))


def session_start(hparams: Stored, trial_id: str, started: float) -> Summary:
    """The start of a run: its values as TensorBoard holds them, and the trial (session group) it belongs to."""
    info = SessionStartInfo(group_name=trial_id, start_time_secs=started)
    for name, value in hparams.items():
        if isinstance(value, bool):
            info.hparams[name].bool_value = value
        elif isinstance(value, str):
            info.hparams[name].string_value = value
        else:
            info.hparams[name].number_value = value
    return _hparams(SESSION_START_TAG, HParamsPluginData(session_start_info=info))


def session_end(status: int, ended: float) -> Summary:
    """The end of a run. TensorBoard keeps the first one that it sees, so it is written once."""
    info = SessionEndInfo(status=status, end_time_secs=ended)
    return _hparams(SESSION_END_TAG, HParamsPluginData(session_end_info=info))


def scalars(values: Mapping[str, float]) -> Summary:
    """Scalars of one step."""
    return Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])


def text(tag: str, markdown: str) -> Summary:
    """A text, shown as Markdown in the Text tab."""
    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name=TEXT_PLUGIN))
    tensor = TensorProto(
        dtype=DT_STRING, string_val=[markdown.encode("utf-8", "replace")], tensor_shape=TensorShapeProto()
    )
    return Summary(value=[Summary.Value(tag=tag, metadata=metadata, tensor=tensor)])


def text_made(tag: str, make: Callable[[], str]) -> Summary:
    """The text that `make` returns, or the error that it raised: nothing that is told aside may end a run."""
    try:
        return text(tag, make())
    except Exception as error:
        return text(tag, f"could not be found out: {error!r}")


class BadSummary(ValueError):
    """A summary of the HParams plugin whose message is none."""


def plugin_data(value: Summary.Value) -> HParamsPluginData | None:
    """The HParams plugin's message of a summary value; None when it is no such summary."""
    try:
        return checked_plugin_data(value)
    except BadSummary:
        return None


def checked_plugin_data(value: Summary.Value) -> HParamsPluginData | None:
    """As `plugin_data`. Raises BadSummary for a message that is none."""
    data = value.metadata.plugin_data
    if data.plugin_name != HPARAMS_PLUGIN:
        return None
    try:
        return HParamsPluginData.FromString(data.content)
    except Exception as error:  # protobuf's DecodeError has no stable home across its versions
        raise BadSummary(str(error)) from None


def text_of(value: Summary.Value) -> str | None:
    """The text of a summary value; None when it is no text (images and audio are string tensors, too)."""
    if value.metadata.plugin_data.plugin_name != TEXT_PLUGIN or not value.tensor.string_val:
        return None
    return bytes(value.tensor.string_val[0]).decode("utf-8", "replace")


def plain_value(value: Any) -> bool | int | float | str | None:
    """What a protobuf `Value` of a session start holds; a number without a fraction is an integer, a NaN is text."""
    kind = value.WhichOneof("kind")
    if kind == "number_value":
        number: float = value.number_value
        if number.is_integer():
            return int(number) if -LARGEST_INTEGER <= number <= LARGEST_INTEGER else number
        return number if number - number == 0.0 else str(number)  # NaN and infinities are no values of ours
    return getattr(value, kind) if kind in ("string_value", "bool_value") else None


def _hparams(tag: str, data: HParamsPluginData) -> Summary:
    plugin = SummaryMetadata.PluginData(plugin_name=HPARAMS_PLUGIN, content=data.SerializeToString())
    return Summary(value=[Summary.Value(tag=tag, metadata=SummaryMetadata(plugin_data=plugin), tensor=_NO_VALUE)])
