"""Ranking: which trial is best, which never are, and what a trial of several runs comes to."""

import math
import statistics
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from hparams_lab.analysis.importance import importance
from hparams_lab.analysis.report.facts import with_spread
from hparams_lab.analysis.report.study import Study
from hparams_lab.cli.leaderboard import Asked, Leaderboard
from hparams_lab.cli.ranking import Rule
from hparams_lab.core.declared import Declared
from hparams_lab.core.domains import Discrete
from hparams_lab.core.errors import UsageError
from hparams_lab.core.experiment import Experiment, Metric
from hparams_lab.core.hparam import HParam
from hparams_lab.core.outcome import Outcome
from hparams_lab.core.results import Results, RunResult, Scalars
from hparams_lab.core.trial import HParams, Trial

EXPERIMENT = Experiment([HParam("x", Discrete(range(9)))], [Metric("accuracy"), Metric("loss"), Metric("epochs")])


def run(x, outcome="completed", started=0.0, ended=1.0, columns=(), **metrics):
    trial = Trial.of(0, {"x": x})
    more = {"started": started, "ended": ended, "metrics": metrics, "columns": dict(columns)}
    return RunResult(f"run-{x}", Path(f"run-{x}"), trial.id, trial.hparams, Outcome(outcome), "", **more)


def results(*runs, experiment=EXPERIMENT):
    return Results.of(experiment, runs)


def order(trials):
    return [trial.hparams["x"] for trial in trials]


THREE = results(run(0, accuracy=0.5, loss=2.0), run(1, accuracy=0.9, loss=3.0), run(2, accuracy=0.7, loss=1.0))


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({}, [1, 2, 0]),
        ({"n": 2}, [1, 2]),
        ({"goal": "min"}, [0, 2, 1]),
        ({"metric": "loss"}, [2, 0, 1]),
        ({"metric": "loss", "goal": "max"}, [1, 0, 2]),
    ],
)
def test_top_ranks_by_the_objective_or_as_asked(how, expected):
    assert order(THREE.top(**how)) == expected


def test_best():
    assert THREE.best().hparams["x"] == 1
    assert THREE.best("loss").hparams["x"] == 2
    assert results(run(0, "failed"), run(1, "running", accuracy=0.9)).best() is None
    assert results().best() is None
    assert results().top() == []


@pytest.mark.parametrize("goal", ["max", "min"])
def test_ties_keep_their_order(goal):
    tied = results(*(run(x, accuracy=0.5) for x in (3, 1, 2)))
    assert order(tied.top(goal=goal)) == [3, 1, 2]


@pytest.mark.parametrize("goal", ["max", "min"])
@pytest.mark.parametrize(
    "bad",
    [
        run(0, "diverged", accuracy=math.nan),
        run(0, accuracy=math.nan),
        run(0, accuracy=math.inf),
        run(0, accuracy=-math.inf),
        run(0, loss=0.0),
        *(run(0, outcome, accuracy=best) for outcome in ("failed", "crashed", "pruned", "running") for best in (0, 1)),
    ],
    ids=repr,
)
def test_what_did_not_complete_with_a_finite_objective_is_never_best(bad, goal):
    found = results(bad, run(1, accuracy=0.5))
    assert order(found.top(goal=goal)) == [1, 0]
    assert found.best(goal=goal).hparams["x"] == 1
    assert results(bad).best(goal=goal) is None


def test_runs_of_one_trial_are_grouped_and_averaged():
    found = results(
        run(0, accuracy=0.9, loss=1.0),
        run(1, accuracy=0.8, ended=4.0),
        run(0, accuracy=0.5),
        run(1.0, accuracy=0.7),
    )
    assert len(found) == 2
    assert order(found) == [0, 1]
    first, second = found.trials
    assert [len(first.runs), len(second.runs)] == [2, 2]
    assert first.metrics == {"accuracy": pytest.approx(0.7), "loss": 1.0}  # over the runs that have each
    assert (len(first.runs_with("accuracy")), len(first.runs_with("loss")), first.runs_with("f1")) == (2, 1, ())
    assert (first.name, second.seconds) == ("run-0", 5.0)
    assert order(found.top()) == [1, 0]  # 0.9 alone is not the trial's


NO_METRIC: dict[str, float] = {}


@pytest.mark.parametrize(
    ("others", "mean"),
    [
        ([("unknown", {"accuracy": 0.5}), ("unknown", NO_METRIC)], 0.7),
        ([("completed", {"accuracy": 0.5}), ("unknown", {"loss": 2.0})], 0.7),
        ([("completed", NO_METRIC)], 0.9),
        ([("unknown", {"accuracy": math.nan})], None),
        ([("completed", {"accuracy": math.inf}), ("unknown", NO_METRIC)], None),
        ([("failed", NO_METRIC)], None),
        ([("crashed", {"accuracy": 0.5})], None),
        ([("running", NO_METRIC)], None),
    ],
)
def test_a_trial_is_ranked_over_the_runs_that_have_the_metric(others, mean):
    runs = [run(0, outcome, **metrics) for outcome, metrics in others]
    for found in (results(run(0, accuracy=0.9), *runs), results(*runs, run(0, accuracy=0.9))):
        (trial,) = found.trials
        assert (found.best() is not None) is (mean is not None)
        if mean is None:
            continue
        there = [one.metrics["accuracy"] for one in trial.runs if "accuracy" in one.metrics]
        assert trial.mean("accuracy") == trial.metrics["accuracy"] == pytest.approx(mean)
        assert trial.spread("accuracy") == (pytest.approx(statistics.stdev(there)) if len(there) > 1 else None)
        ranking = Rule().over(found)
        assert (ranking.ranked, ranking.mean(trial, "accuracy")) == (1, pytest.approx(mean))
        board = Leaderboard(ranking, Asked(), Path("logs"))
        said = f"{len(there)} of {len(trial.runs)}"
        assert any(said in line for line in board.lines(100))
        (row,) = board.as_json()
        assert (row["runs_with_metric"], len(row["runs"])) == (len(there), len(trial.runs))
        study = Study.of(found, "study")
        assert f"over {said} runs" in with_spread(study, study.best)
        assert f"n={said}" in found._repr_html_()


@pytest.mark.parametrize(
    ("outcomes", "worst"),
    [
        ("completed completed", "completed"),
        ("completed pruned", "pruned"),
        ("pruned interrupted", "interrupted"),
        ("interrupted diverged completed", "diverged"),
        ("diverged failed", "failed"),
        ("completed failed crashed", "crashed"),
        ("crashed running", "running"),
    ],
)
def test_outcome_of_several_runs_is_the_gravest(outcomes, worst):
    runs = [run(0, outcome, accuracy=0.9) for outcome in outcomes.split()]
    for found in (results(*runs), results(*reversed(runs))):
        assert str(found.trials[0].outcome) == worst
        assert (found.best() is not None) == (worst == "completed")


def test_metrics_and_directions_that_are_not_known():
    timed = results(run(0, accuracy=0.5, epochs=3.0), run(1, accuracy=0.5, epochs=5.0))
    with pytest.raises(UsageError, match=r"^no run logged the metric 'f1'; there are accuracy, epochs$"):
        timed.top(metric="f1")
    with pytest.raises(UsageError, match=r"^whether more or less of 'epochs' is better is not declared; say goal="):
        timed.best("epochs")
    assert order(timed.top(metric="epochs", goal="max")) == [1, 0]


def test_without_an_experiment_a_metric_whose_name_tells_its_direction_ranks():
    bare = results(*THREE.runs, experiment=None)
    assert order(bare.top()) == order(bare.top(metric=bare.objective))
    with pytest.raises(UsageError, match=r"^no objective is declared; name the metric to rank by: epochs \(--metric "):
        results(run(0, epochs=3.0), experiment=None).top()
    assert order(bare.top(metric="loss")) == [2, 0, 1]
    assert bare.best("accuracy").hparams["x"] == 1


def test_declared_goal_wins_over_the_tags():
    backwards = Experiment(EXPERIMENT.hparams, [Metric("loss", goal="max")])
    assert order(results(*THREE.runs, experiment=backwards).top()) == [1, 0, 2]


def test_run_tells_its_time_and_scalars():
    loss = Scalars(np.array([1, 2]), np.array([0.5, 0.6]), np.array([3.0, 2.0]))
    one = run(0, started=10.0, ended=12.5, columns={"loss": loss})
    assert one.seconds == 2.5
    assert one.scalars("loss").values.tolist() == [3.0, 2.0]
    assert [len(column) for column in one.scalars("accuracy")] == [0, 0, 0]
    assert one == run(0, started=10.0, ended=12.5)  # what was logged live compares equal to what was read back
    going = run(0, "running", ended=None)
    assert going.seconds is None
    assert results(one, going).trials[0].seconds is None
    assert [run(0, name).is_over for name in ("pruned", "running", "interrupted")] == [True, False, False]


@pytest.mark.parametrize("goal", ["maximum", "Max", "minimize", "", 1, True])
def test_a_goal_is_max_or_min(goal):
    for call in (THREE.top, THREE.best, partial(importance, THREE), partial(Study.of, THREE, "study")):
        with pytest.raises(UsageError, match=f"^goal is {goal!r}; wanted 'max' or 'min'$"):
            call(goal=goal)


@pytest.mark.parametrize("n", [-1, 2.0, True, "2"])
def test_how_many_trials_is_a_whole_number(n):
    with pytest.raises(UsageError, match=rf"^n is {n!r}; wanted how many trials, a whole number from 0, or None for"):
        THREE.top(n)
    assert THREE.top(0) == []


def test_a_metric_may_be_named_by_its_title():
    titled = Experiment(EXPERIMENT.hparams, [Metric("acc", "Accuracy"), Metric("loss", "Loss")])
    runs = [run(0, acc=0.5, loss=2.0), run(1, acc=0.9, loss=3.0)]
    of_one = results(*runs, experiment=titled)
    of_several = Results(None, tuple(runs), {"a": Declared.of(titled), "b": Declared.of(EXPERIMENT)})
    for found in (of_one, of_several):
        assert order([found.best("Accuracy"), found.best("acc"), found.best("Loss")]) == [1, 1, 0]
        assert order(found.top(metric="Loss")) == [0, 1]
        assert found.title("acc") == Study.of(found, "study", "Accuracy").title == "Accuracy"


def bare(**metrics):
    """What is logged beside the runs: it has no hparams."""
    return replace(run(0, "unknown", **metrics), name="root", hparams=HParams({}), trial_id="root")


def test_where_runs_have_hparams_one_without_any_has_no_rank():
    found = results(bare(accuracy=0.99, best=1.0), *THREE.runs, bare(accuracy=0.98))
    assert [trial.name for trial in found.top()] == ["run-1", "run-2", "run-0", "root"]
    assert found.best().name == "run-1"
    assert found.best("best", "max") is None
    assert found.varying() == (["x"], {})
    assert importance(found).n == 3
    study = Study.of(found, "study")
    assert study.best.trial.name == "run-1"
    assert [point.rank for point in study.points if point.trial.name == "root"] == [None]
    assert "<td>-</td><td>root</td>" in found._repr_html_()
    assert results(bare(accuracy=0.9)).best().name == "root"
    assert results(bare(accuracy=0.9), experiment=None).objective == "accuracy"
    assert results(bare(accuracy=0.9), run(1, loss=0.1), experiment=None).objective == "loss"


@pytest.mark.parametrize(
    ("values", "varies"),
    [
        ([0.1000000001, 0.1000000002], True), ([16, 16.0], False), ([True, 1], True), ([False, 0.0], True),
        (["1", 1], True), ([None, "None"], True), ([0.0, -0.0], False), ([1e6, 1000000], False),
    ],
)  # fmt: skip
def test_whether_an_hparam_varies_is_one_answer(values, varies):
    of = {str(n): HParams({"x": value}) for n, value in enumerate(values)}
    found = results(*(replace(run(0, accuracy=0.5), trial_id=key, hparams=hparams) for key, hparams in of.items()))
    assert found.varying() == (["x"], {}) if varies else ([], {"x": values[0]})
    assert list(Study.of(found, "study").varying) == found.varying()[0]
    board = Leaderboard(Rule().over(found), Asked(), Path("logs")).lines(100)
    assert ("the same for all" in board[0]) is not varies
    shown = [line.split()[2] for line in board[1:3]]
    assert not varies or len({*shown}) == 2  # and so that they can be told apart
    assert importance(found).reason.startswith("1 hparam varies" if varies else "no hparam varies")
