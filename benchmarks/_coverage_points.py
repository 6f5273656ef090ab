"""What `coverage` compares: for each point, what is expected in the HParams tab, and what TensorBoard shows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from _coverage_plan import (
    DIVERGES,
    EPOCHS,
    GAINS,
    GOOD,
    PENALTIES,
    RAISES_IN_BUILD,
    RAISES_IN_FIT,
    RATES,
    STOPPED,
    UNITS,
)

JUDGED = 1e-6
"""How near a metric is to the value that the search judges by, of which TensorBoard keeps a float32."""

Look = Callable[["Shown"], tuple[bool, str]]


@dataclass(frozen=True)
class Shown:
    """What a TensorBoard shows of a log directory.

    Attributes:
      experiments: how many Experiment summaries the directory holds.
      columns: the hparams' columns by name.
      metrics: the metrics' columns.
      groups: the session groups: the tab's rows.
      points: the values of a metric, one after the other, by session and metric.
      texts: what the Text tab shows.
      trials: what the search itself says of its trials.
      epochs: what it says of its epochs: the model's name, the epoch, the held-out accuracy.
      live: what was shown while the second trial was trained.
    """

    experiments: int = 0
    columns: Mapping[str, Any] = field(default_factory=dict)
    metrics: Sequence[Any] = ()
    groups: Sequence[Any] = ()
    points: Mapping[tuple[str, str], Sequence[float]] = field(default_factory=dict)
    texts: Sequence[str] = ()
    trials: Sequence[Any] = ()
    epochs: Sequence[Sequence[str]] = ()
    live: Shown | None = None


@dataclass(frozen=True)
class Point:
    """A line of the table: what, what is expected, and how to see it in what the search of that name left."""

    what: str
    expected: str
    search: str
    look: Look


def metric_name(name: Mapping[str, str]) -> str:
    """`validation/epoch_accuracy`, or a tag without a group."""
    return "/".join(filter(None, (name.get("group", ""), name["tag"])))


def metrics_of(group: Mapping[str, Any]) -> dict[str, float]:
    """A row's metrics by name."""
    return {metric_name(metric["name"]): float(metric["value"]) for metric in group.get("metricValues", [])}


def row(shown: Shown, **hparams: Any) -> Any:
    """The first row with these values; None without one."""
    rows = (group for group in shown.groups if hparams.items() <= group.get("hparams", {}).items())
    return next(rows, None)


def statuses(group: Any) -> list[str]:
    """The statuses of a row's sessions."""
    return [session.get("status", "STATUS_UNKNOWN").removeprefix("STATUS_") for session in group["sessions"]]


def score_tag(group: Any) -> str | None:
    """The metric that is the held-out accuracy of a row, as far as its name tells."""
    names = metrics_of(group)
    return next((name for name in names if name.startswith("val") and "accuracy" in name), None)


def domain(name: str, wanted: Sequence[Any] | tuple[float, float]) -> Look:
    """The domain of a column: an interval as a tuple, values as a list."""

    def look(shown: Shown) -> tuple[bool, str]:
        info = shown.columns.get(name)
        if info is None:
            return False, "no column"
        if "domainInterval" in info:
            ends = info["domainInterval"]["minValue"], info["domainInterval"]["maxValue"]
            return tuple(wanted) == ends and isinstance(wanted, tuple), f"{ends[0]:g}..{ends[1]:g}"
        values = info.get("domainDiscrete")
        if values is None:
            return False, "a column without a domain"
        same = isinstance(wanted, list) and sorted(values) == sorted(wanted)
        return same, ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)

    return look


def has_experiment(shown: Shown) -> tuple[bool, str]:
    """Whether columns are declared, and once."""
    return shown.experiments == 1, "none" if not shown.experiments else f"{shown.experiments}"


TYPES = {"activation": "STRING", "learning_rate": "FLOAT64", "bias": "BOOL", "units": "FLOAT64"}


def has_types(shown: Shown) -> tuple[bool, str]:
    """Whether the columns have the types of the values."""
    found = {name: shown.columns[name]["type"].removeprefix("DATA_TYPE_") for name in TYPES if name in shown.columns}
    words = {"FLOAT64": "number", "BOOL": "bool", "STRING": "string"}
    return found == TYPES, ", ".join(f"{name} {words.get(kind, kind)}" for name, kind in found.items()) or "no column"


def is_absent(shown: Shown) -> tuple[bool, str]:
    """Whether a conditional hparam has a column, and no value where it is inactive."""
    if "gain" not in shown.columns:
        return False, "no column"
    with_value = [group["hparams"]["gain"] for group in shown.groups if "gain" in group["hparams"]]
    return not with_value, f"values {with_value}" if with_value else "a column without values"


def is_judged(hparams: Mapping[str, Any]) -> Look:
    """Whether the row's held-out accuracy is what the search judges it by."""

    def look(shown: Shown) -> tuple[bool, str]:
        group = row(shown, **hparams)
        tag = score_tag(group) if group else None
        if tag is None:
            return False, "no row" if group is None else "no such metric"
        value = metrics_of(group)[tag]
        scores = [trial["score"] for trial in shown.trials if hparams.items() <= trial["hparams"].items()]
        best = max(score for score in scores if score is not None)
        return math.isclose(value, best, rel_tol=JUDGED), f"`{tag}` {value:.4f}, judged by {best:.4f}"

    return look


def is_first_metric(shown: Shown) -> tuple[bool, str]:
    """Whether the first of the metrics' columns is the held-out accuracy."""
    if not shown.metrics:
        return False, "no metric"
    first = metric_name(shown.metrics[0]["name"])
    return first.startswith("val") and "accuracy" in first, f"first `{first}`"


def ends(units: int, status: str, why: str = "") -> Look:
    """Whether the row of so many units has sessions of this status only, and the Text tab says why."""

    def look(shown: Shown) -> tuple[bool, str]:
        group = row(shown, units=units)
        if group is None:
            return False, "no row"
        found = sorted(set(statuses(group)))
        reason = next((text for text in shown.texts if why in text), "") if why else ""
        says = f", says {why!r}" if reason else ", no reason" if why else ""
        return found == [status] and bool(reason) == bool(why), ", ".join(found) + says

    return look


def has_sessions(units: int, count: int) -> Look:
    """Whether the executions of a trial are sessions of one row."""

    def look(shown: Shown) -> tuple[bool, str]:
        rows = [group for group in shown.groups if group["hparams"].get("units") == units]
        sizes = [len(group["sessions"]) for group in rows]
        shown_sizes = " and ".join(map(str, sizes)) or "no"
        return sizes == [count], f"{len(rows)} row{'s' * (len(rows) != 1)}, {shown_sizes} sessions"

    return look


def has_curves(shown: Shown) -> tuple[bool, str]:
    """Whether each execution of the good trial has a point of the held-out accuracy for every epoch."""
    group = row(shown, units=GOOD)
    tag = score_tag(group) if group else None
    if tag is None:
        return False, "no curve"
    counts = [len(shown.points[session["name"], tag]) for session in group["sessions"]]
    return bool(counts) and min(counts) >= EPOCHS, f"`{tag}`: {' and '.join(map(str, counts))} points"


def has_last_epoch(shown: Shown) -> tuple[bool, str]:
    """Whether the curve of the good trial's first execution has its last epoch's own value."""
    group = row(shown, units=GOOD)
    tag = score_tag(group) if group else None
    if tag is None:
        return False, "no curve"
    points = shown.points[min(session["name"] for session in group["sessions"]), tag][EPOCHS - 1 :]
    value = next(float(said) for name, epoch, said in shown.epochs if (name, epoch) == (f"units_{GOOD}", str(EPOCHS)))
    there = any(math.isclose(point, value, rel_tol=JUDGED) for point in points)
    return there, f"{', '.join(f'{point:.4f}' for point in points)}; it was {value:.4f}"


def rows(count: int, status: str = "SUCCESS") -> Look:
    """Whether there are so many rows, all of them with this status."""

    def look(shown: Shown) -> tuple[bool, str]:
        found = sorted({status for group in shown.groups for status in statuses(group)})
        number = len(shown.groups)
        said = f"{number} row{'s' * (number != 1)}" if number else "no row"
        return number == count and found == [status], ", ".join([said, *found])

    return look


def promoted(shown: Shown) -> tuple[bool, str]:
    """Whether the trial that was promoted is one row."""
    trial = next(trial for trial in shown.trials if trial["hparams"]["tuner/round"] == 1)
    units = trial["hparams"]["units"]
    found = [group for group in shown.groups if group["hparams"].get("units") == units]
    return len(found) == 1, f"{len(found)} row{'s' * (len(found) != 1)} of the same values"


def is_promoted_judged(shown: Shown) -> tuple[bool, str]:
    """Whether the promoted trial's row ends on the best of its rounds."""
    trial = next(trial for trial in shown.trials if trial["hparams"]["tuner/round"] == 1)
    return is_judged({"units": trial["hparams"]["units"]})(shown)


def how_far(is_promoted: bool) -> Look:
    """Whether a row says its bracket, the round it came to and the epochs it was trained."""

    def look(shown: Shown) -> tuple[bool, str]:
        promotions = [trial for trial in shown.trials if trial["hparams"]["tuner/round"] == 1]
        chosen = {trial["hparams"]["units"] for trial in promotions}
        others = [t for t in shown.trials if t["hparams"]["tuner/bracket"] == 1 and t["hparams"]["units"] not in chosen]
        trial = (promotions if is_promoted else others)[0]["hparams"]
        group = row(shown, units=trial["units"])
        if group is None:
            return False, "no row"
        everything = {**metrics_of(group), **group["hparams"]}
        wanted = {"bracket": 1, "round": trial["tuner/round"], "epochs": trial["tuner/epochs"]}
        found = {name.removeprefix("tuner/"): value for name, value in everything.items()}
        said = ", ".join(f"{name} {found[name]:g}" for name in wanted if name in found)
        status = ", ".join(sorted(set(statuses(group))))
        right = status == "SUCCESS" and wanted.items() <= found.items()
        return right, f"{status}, {said or 'nothing of it'}"

    return look


def are_scores(shown: Shown) -> tuple[bool, str]:
    """Whether each trial of the `SklearnTuner` is a row with its score."""
    wanted = sorted(round(trial["score"], 4) for trial in shown.trials)
    found = sorted(round(metrics_of(group).get("val/score", math.nan), 4) for group in shown.groups)
    return found == wanted, f"{len(found)} rows, {', '.join(map(str, found))}" if found else "no row"


def going(look: Look) -> Look:
    """The same while the second trial was trained."""

    def then(shown: Shown) -> tuple[bool, str]:
        assert shown.live is not None
        return look(shown.live)

    return then


def is_running(shown: Shown) -> tuple[bool, str]:
    """Whether the trial that is being trained is listed as such, with its first epoch."""
    group = row(shown, units=STOPPED)
    if group is None:
        return False, "no row"
    tag = score_tag(group)
    said = ", ".join(sorted(set(statuses(group))))
    return said == "UNKNOWN" and tag is not None, f"{said}, {f'`{tag}` so far' if tag else 'no metric'}"


def all_trials(shown: Shown) -> tuple[bool, str]:
    """Whether the five trials are rows, with the statuses they should have."""
    wanted = {GOOD: "SUCCESS", STOPPED: "SUCCESS", DIVERGES: "FAILURE", RAISES_IN_FIT: "FAILURE"}
    wanted[RAISES_IN_BUILD] = "FAILURE"
    found = {units: row(shown, units=units) for units in wanted}
    right = all(group and set(statuses(group)) == {wanted[units]} for units, group in found.items())
    ended = [status for group in shown.groups for status in sorted(set(statuses(group)))]
    counts = {status: ended.count(status) for status in sorted(set(ended))}
    return right, ", ".join(f"{count} {status}" for status, count in counts.items()) or "no row"


def candidate(penalty: float, sessions: int, status: str) -> Look:
    """Whether a candidate of the grid search is a row of so many folds with this status."""

    def look(shown: Shown) -> tuple[bool, str]:
        group = row(shown, C=penalty)
        if group is None:
            return False, "no row"
        found = statuses(group)
        return found == [status] * sessions, f"{len(found)} sessions, {', '.join(sorted(set(found)))}"

    return look


def has_mean(shown: Shown) -> tuple[bool, str]:
    """Whether the best candidate's row has the mean of its folds, and its rank."""
    group = row(shown, C=PENALTIES[2])
    if group is None:
        return False, "no row"
    found = metrics_of(group)
    trial = shown.trials[2]
    tag = score_tag(group)
    value, rank = found.get(tag or "", math.nan), found.get("rank_test_score", math.nan)
    right = math.isclose(value, trial["score"], rel_tol=JUDGED) and rank == trial["rank"]
    return right, f"`{tag}` {value:.4f} of {trial['score']:.4f}, rank {rank:g} of {trial['rank']}"


def is_fold_running(shown: Shown) -> tuple[bool, str]:
    """Whether the fold that is being fitted is listed, and the candidate before has its score."""
    group, before = row(shown, C=PENALTIES[1]), row(shown, C=PENALTIES[0])
    if group is None or before is None:
        return False, "no row"
    said = ", ".join(sorted(set(statuses(group))))
    tag = score_tag(before)
    return said == "UNKNOWN" and tag is not None, f"{said}, before it {f'`{tag}`' if tag else 'no score'}"


TUNER = [
    Point("the experiment", "one, declared", "grid", has_experiment),
    Point("domain of `Int` units", "4..16", "grid", domain("units", tuple(map(float, UNITS)))),
    Point("domain of `Float` learning rate, log", "0.0001..0.01", "grid", domain("learning_rate", RATES)),
    Point("domain of `Choice` activation", "relu, tanh", "grid", domain("activation", ["relu", "tanh"])),
    Point("domain of `Boolean` bias", "True, False", "grid", domain("bias", [True, False])),
    Point("domain of `Fixed` optimizer", "adam", "grid", domain("optimizer", ["adam"])),
    Point("domain of a conditional `Float` gain", "0.5..1.5", "grid", domain("gain", GAINS)),
    Point("the same where it is inactive", "a column without values", "grid", is_absent),
    Point("types", "string, number, bool, number", "grid", has_types),
    Point("first metric", "the objective: held-out accuracy", "grid", is_first_metric),
    Point("the good trial's objective", "its best epoch", "grid", is_judged({"units": GOOD})),
    Point("epoch curves", f"{EPOCHS} points an execution, or more", "grid", has_curves),
    Point("their last epoch", "its own value", "grid", has_last_epoch),
    Point("two executions of a trial", "1 row, 2 sessions", "grid", has_sessions(GOOD, 2)),
    Point("the good trial", "SUCCESS", "grid", ends(GOOD, "SUCCESS")),
    Point("a trial that a callback stops early", "SUCCESS", "grid", ends(STOPPED, "SUCCESS")),
    Point("its objective", "its best epoch", "grid", is_judged({"units": STOPPED})),
    Point(
        "a trial whose loss is NaN, judged by its accuracy",
        "FAILURE, the Text tab says why",
        "grid",
        ends(DIVERGES, "FAILURE", "diverged"),
    ),
    Point(
        "the same, judged by its loss",
        "FAILURE, the Text tab says why",
        "nan",
        ends(DIVERGES, "FAILURE", "diverged"),
    ),
    Point(
        "a trial that raises in `fit`",
        "FAILURE, the Text tab says why",
        "grid",
        ends(RAISES_IN_FIT, "FAILURE", "no more data"),
    ),
    Point(
        "a trial that raises in `build`",
        "FAILURE, the Text tab says why",
        "grid",
        ends(RAISES_IN_BUILD, "FAILURE", "no such network"),
    ),
    Point("live: domain of units", "4..16", "grid", going(domain("units", tuple(map(float, UNITS))))),
    Point("live: the trial before", "SUCCESS", "grid", going(ends(GOOD, "SUCCESS"))),
    Point("live: the trial that is trained", "UNKNOWN, its first epoch", "grid", going(is_running)),
    Point("Hyperband, 6 trainings of 5 trials", "5 rows, SUCCESS", "hyperband", rows(5)),
    Point("a trial that is promoted", "1 row", "hyperband", promoted),
    Point("its objective", "the best of its rounds", "hyperband", is_promoted_judged),
    Point("how far it came", "SUCCESS, bracket 1, round 1, epochs 3", "hyperband", how_far(True)),
    Point("a trial that is not promoted", "SUCCESS, bracket 1, round 0, epochs 1", "hyperband", how_far(False)),
    Point("a tuner that is loaded again", "3 rows, SUCCESS", "reloaded", rows(3)),
    Point("`SklearnTuner`, 3 trials", "3 rows, their scores", "sklearn_tuner", are_scores),
    Point("the five trials on the JAX backend", "3 FAILURE, 2 SUCCESS", "jax", all_trials),
    Point("domain of units there", "4..16", "jax", domain("units", tuple(map(float, UNITS)))),
]

SEARCH_CV = [
    Point("the experiment", "one, declared", "grid_search_cv", has_experiment),
    Point("domain of C", "0.01, 0.1, 1, -1", "grid_search_cv", domain("C", PENALTIES)),
    Point("a candidate of three folds", "3 sessions, SUCCESS", "grid_search_cv", candidate(PENALTIES[2], 3, "SUCCESS")),
    Point("its score and rank", "the mean of the folds, rank 1", "grid_search_cv", has_mean),
    Point("a candidate that raises", "3 sessions, FAILURE", "grid_search_cv", candidate(PENALTIES[3], 3, "FAILURE")),
    Point("live: a fold that is fitted", "UNKNOWN, a score before it", "grid_search_cv", going(is_fold_running)),
]
