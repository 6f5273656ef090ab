"""What a sweep draws from its strategy: no more than it needs, also where that waits, repeats itself or fails."""

import collections
import itertools

import pytest

import hparams_lab as lab
from hparams_lab.core import errors
from hparams_lab.core.experiment import Experiment
from hparams_lab.core.outcome import Outcome
from hparams_lab.core.trial import Suggestion
from hparams_lab.storage.paths import LogDirPaths
from hparams_lab.sweep import plan
from hparams_lab.sweep.events import RunEnded, SweepEnded, SweepNote, SweepStarted
from hparams_lab.targets.load import function_domain

WIDE = lab.Experiment([lab.HParam("x", lab.Discrete(range(100)))], [lab.Metric("loss")])


def train(run):
    return {"loss": float(run.hparams["x"]) + run.seed / 2**31}


def sweep(logdir, experiment=WIDE, train=train, **options):
    events = []
    lab.run_sweep(experiment, train, logdir=logdir, **{"executor": "inline", "observe": events.append, **options})
    return events


def trained(events):
    return [(event.result.name, event.result.hparams["x"]) for event in events if isinstance(event, RunEnded)]


def notes(events):
    return [event.text for event in events if isinstance(event, SweepNote)]


@pytest.fixture
def strategy(monkeypatch):
    """Has the sweeps of a test ask a generator function of (results)."""

    def use(draw):
        def made(name, *, points=2):
            return lambda space, results, rng: map(as_suggestion, draw(results))

        monkeypatch.setattr(plan, "make_strategy", made)

    return use


def as_suggestion(one):
    return Suggestion({"x": one}) if isinstance(one, int) else one


def waits_for_each(results):
    for x in range(4):
        yield x
        while len(results) <= x:
            yield None


def waits_a_little_first(results):
    yield from [None, None, None, 0, None, 1, None, None, 2, 3]


def waits_with_two_under_way(results):
    yield from [0, 1]
    while len(results) < 2:
        yield None
    yield from [2, 3]


@pytest.mark.parametrize("draw", [waits_for_each, waits_a_little_first, waits_with_two_under_way])
@pytest.mark.parametrize("options", [{}, {"executor": "process", "workers": 2}], ids=["inline", "process"])
def test_a_strategy_may_wait_for_results(tmp_path, strategy, draw, options):
    strategy(draw)
    events = sweep(tmp_path, trials=4, **options)
    assert sorted(trained(events)) == [(f"run-{x:04d}", x) for x in range(4)]
    assert (notes(events), trained(sweep(tmp_path, trials=4, **options))) == ([], [])
    assert len(trained(sweep(tmp_path / "few", trials=2, **options))) == 2


def test_one_that_waits_for_ever_ends_with_a_line(tmp_path, strategy):
    strategy(lambda results: itertools.chain([0, 1], itertools.repeat(None)))
    for wanted in ([("run-0000", 0), ("run-0001", 1)], []):
        events = sweep(tmp_path)
        assert trained(events) == wanted
        assert notes(events) == [
            "the strategy waits for a result, and no run is under way that could bring one; the sweep ends after 2 runs"
        ]
        assert isinstance(events[-1], SweepEnded)
        assert len(events[-1].results.runs) == 2
    strategy(lambda results: itertools.repeat(None))
    with pytest.raises(errors.UsageError, match=r"^the strategy has no trial: it waits for a result before its first"):
        sweep(tmp_path / "none")
    assert not (tmp_path / "none").exists()


class Own(Exception):
    pass


def raises(results):
    yield 0
    yield 1
    raise Own("no more")


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (raises, r"^strategy 'grid' failed: Own\('no more'\)$"),
        (lambda results: [0, 1, 1000], r"^strategy 'grid' suggested what cannot be trial 2: hparam 'x' is 1000"),
        (lambda results: [0, 1, {"x": 1}], r"^strategy 'grid' gave {'x': 1}; wanted a Suggestion, or None to wait for"),
    ],
)
def test_one_that_fails_costs_no_run_that_is_under_way(tmp_path, strategy, draw, message):
    strategy(lambda results: iter(draw(results)))
    with pytest.raises(errors.UsageError, match=message):
        sweep(tmp_path, executor="process", workers=2)
    assert [run.outcome for run in lab.read(tmp_path).runs] == [Outcome.COMPLETED] * 2


def test_a_trial_that_is_suggested_again_is_another_run_of_it(tmp_path, strategy):
    strategy(lambda results: iter([5, 6, 5, 5]))
    broken = []

    def train_once(run):
        if run.name in broken:
            raise SystemExit(1)
        return train(run)

    train_once.__name__ = "train"
    broken.append("run-0002")
    logdir = tmp_path / "logs"
    events = sweep(logdir, train=train_once)
    assert trained(events) == [("run-0000", 5), ("run-0001", 6), ("run-0002", 5), ("run-0003", 5)]
    before = lab.read(logdir)
    assert [(trial.hparams["x"], len(trial.runs)) for trial in before.trials] == [(5, 3), (6, 1)]
    assert len({run.metrics["loss"] for run in before.runs if run.hparams["x"] == 5 and run.metrics}) == 2
    broken.clear()
    again = sweep(logdir, train=train_once, retry_failed=True)
    assert (trained(again), len(again[-1].results.runs) - len(trained(again))) == ([("run-0002", 5)], 3)
    last = sweep(logdir, train=train_once)
    (begun,) = (event for event in last if isinstance(event, SweepStarted))
    assert (trained(last), len(begun.done)) == ([], 4)
    strategy(lambda results: iter([5, 6, 5, 5]))
    at_once = {run.name: run.metrics for run in sweep(tmp_path / "other", train=train)[-1].results.runs}
    assert {run.name: run.metrics for run in lab.read(logdir).runs} == at_once


MILLIONS = Experiment(
    [lab.HParam(f"h{i}", lab.Discrete(range(10))) for i in range(7)] + [lab.HParam("x", lab.Discrete([0]))],
    [lab.Metric("loss")],
)
WITH_CONSTRAINT = Experiment(MILLIONS.hparams, MILLIONS.metrics, constraints=[lambda hparams: hparams["h6"] > 0])


class EnoughError(Exception):
    pass


@pytest.mark.parametrize(
    ("experiment", "total"), [(MILLIONS, 10**7), (WITH_CONSTRAINT, None)], ids=["grid", "with a constraint"]
)
def test_ten_million_trials_cost_what_is_drawn_of_them(tmp_path, monkeypatch, experiment, total):
    """Trials that are checked before the first run, before the eleventh when it goes on, and by what is planned."""
    checked = collections.Counter()
    check = Experiment.check

    def counting(self, hparams):
        checked["all"] += 1
        return check(self, hparams)

    allows = Experiment.allows

    def counted(self, hparams):
        checked["allowed"] += 1
        return allows(self, hparams)

    monkeypatch.setattr(Experiment, "check", counting)
    monkeypatch.setattr(Experiment, "allows", counted)

    def until(count):
        events = []

        def observe(event):
            events.append(event)
            if sum(isinstance(one, RunEnded) for one in events) == count:
                raise EnoughError

        with pytest.raises(EnoughError):
            sweep(tmp_path, experiment, lambda_train, observe=observe)
        return events

    events = until(10)
    assert isinstance(events[0], SweepStarted)
    assert (events[0].total, events[0].done) == (total, ())
    assert checked["all"] < 100
    assert checked["allowed"] < 200
    checked.clear()
    events = until(1)
    assert len(events[0].done) == 10
    assert checked["all"] < 100
    assert checked["allowed"] < 200
    assert plan.Plan(function_domain(experiment, lambda_train)).size == total


def lambda_train(run):
    return {"loss": 1.0}


def test_runs_that_are_not_of_the_plan_are_not_counted_as_done(tmp_path):
    sweep(tmp_path, trials=6)
    assert [len(sweep(tmp_path, trials=trials)[0].done) for trials in (3, 6)] == [3, 6]
    with lab.start_run(tmp_path / "other", hparams={"x": 3, "y": 1}, provenance=False) as run:
        run.log({"loss": 1.0})
    run.dir.rename(LogDirPaths(tmp_path).run("run-0050"))
    assert len(sweep(tmp_path, trials=6)[0].done) == 6
