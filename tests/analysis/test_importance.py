"""Which hyperparameters matter: functions of which that is known, noise of which nothing is, and the command."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from counted import at_most
from tiers import one_quick

import hparams_lab as lab
from hparams_lab.analysis.importance import MOST_CHOICES, Importance, Importances, importance
from hparams_lab.cli.importance import verdict
from hparams_lab.core.declared import Declared
from hparams_lab.core.errors import MissingExtraError, UsageError
from hparams_lab.core.outcome import Outcome
from hparams_lab.core.results import Results, RunResult, Scalars
from hparams_lab.core.trial import Trial

RNG = np.random.default_rng


def results(trials, metric="accuracy", outcomes=None, experiment=None, sweep=""):
    """Runs of (hparams, value) pairs; a value may be a list, of repeats."""
    runs = []
    for place, (hparams, values) in enumerate(trials):
        trial = Trial.of(place, hparams)
        outcome = Outcome(outcomes[place] if outcomes else "completed")
        for value in values if isinstance(values, list) else [values]:
            metrics = {metric: float(value)}
            known = (trial.id, trial.hparams, outcome, "", 0.0, 1.0, metrics)
            runs.append(RunResult(f"run-{place}", Path(f"run-{place}"), *known, sweep=sweep))
    return Results(Declared.of(experiment) if experiment else None, tuple(runs))


def drawn(count, function, noise=0.05, seed=0, names="abc"):
    """(hparams, value) pairs with uniform hparams."""
    rng = RNG(seed)
    points = [dict(zip(names, row, strict=True)) for row in rng.random((count, len(names))).tolist()]
    return [(point, function(**point) + noise * rng.normal()) for point in points]


def shares(found):
    return {row.name: row.mean for row in found.rows}


def ten_to_one(a, b, c):
    return 10 * a + b


def test_a_sum_has_the_shares_of_its_variances():
    found = importance(results(drawn(200, lambda a, b, c: 2 * a + b)))
    assert (found.enough, found.reason, found.n, found.left_out, found.metric) == (True, "", 200, 0, "accuracy")
    assert [row.name for row in found.rows] == ["a", "b", "c"]
    assert shares(found) == {  # 4/5 and 1/5 of the variance
        "a": pytest.approx(0.8, abs=0.07), "b": pytest.approx(0.2, abs=0.07), "c": pytest.approx(0, abs=0.01)
    }  # fmt: skip
    assert found.score > 0.9
    for row in found.rows:
        assert 0 <= row.low <= row.mean <= row.high <= 1
    assert sum(shares(found).values()) <= 1


def test_what_matters_ten_times_as_much_is_first_of_few_trials():
    found = importance(results(drawn(24, ten_to_one)))
    assert found.enough
    assert (found.rows[0].name, found.rows[0].mean > 0.7) == ("a", True)
    assert max(row.high for row in found.rows[1:]) < found.rows[0].low


def test_noise_takes_from_the_shares_and_widens_the_range():
    clear, noisy = (importance(results(drawn(80, ten_to_one, noise))) for noise in (0.1, 3.0))
    assert noisy.enough
    assert 0.25 < noisy.score < 0.75 < clear.score  # its variance is 100/12 of 100/12 + 9
    assert sum(shares(noisy).values()) == pytest.approx(noisy.score, abs=0.15)
    widths = [found.rows[0].high - found.rows[0].low for found in (clear, noisy)]
    assert widths[1] > 3 * widths[0]


def test_an_interaction_counts_for_both():
    found = importance(results(drawn(200, lambda a, b, c: (a - 0.5) * (b - 0.5), 0.0)))
    assert found.enough
    assert {row.name for row in found.rows[:2]} == {"a", "b"}
    assert found.rows[1].mean > 0.2 > 0.03 > found.rows[2].high


def test_strings_and_bools_count_as_one_hparam_each():
    rng, worth = RNG(0), {"adam": 1.0, "sgd": 0.0, "rmsprop": 0.9, "lion": 0.1}
    points = [
        {"optimizer": str(rng.choice([*worth])), "bias": bool(rng.integers(2)), "seed": int(rng.integers(99))}
        for _ in range(100)
    ]
    made = [(point, worth[point["optimizer"]] + 0.3 * point["bias"] + 0.02 * rng.normal()) for point in points]
    found = importance(results(made))
    assert [row.name for row in found.rows] == ["optimizer", "bias", "seed"]
    optimizer, bias = np.var([worth[point["optimizer"]] for point in points]), 0.3**2 / 4
    assert shares(found)["optimizer"] == pytest.approx(optimizer / (optimizer + bias), abs=0.06)
    assert found.rows[2].high < 0.02


def test_names_of_which_there_are_many_matter_little_and_are_no_hindrance():
    made = [({**point, "name": f"run {place}"}, value) for place, (point, value) in enumerate(drawn(60, ten_to_one))]
    assert len(made) > MOST_CHOICES
    found = importance(results(made))
    assert (found.rows[0].name, shares(found)["name"] < 0.05) == ("a", True)


def conditional(count=160, seed=3):
    """`momentum` only where `optimizer` is sgd; there it matters, and which optimizer matters more."""
    rng = RNG(seed)
    for _ in range(count):
        point = {"optimizer": str(rng.choice(["adam", "sgd"])), "x": float(rng.random())}
        if point["optimizer"] == "sgd":
            point["momentum"] = float(rng.random())
        yield point, 2.0 * (point["optimizer"] == "sgd") + point.get("momentum", 0.5) + 0.02 * rng.normal()


def test_a_conditional_hparam_counts_for_its_values_alone():
    found = importance(results(list(conditional())))
    assert [row.name for row in found.rows] == ["optimizer", "momentum", "x"]
    # variances: 2^2/4 = 1 for the optimizer, half of 1/12 for momentum
    assert shares(found)["optimizer"] == pytest.approx(0.96, abs=0.03)
    assert 0.01 < shares(found)["momentum"] < 0.07
    assert found.rows[2].high < 0.01


def test_an_absence_that_nothing_else_tells_counts_as_a_value():
    rng = RNG(0)
    made = [({"x": float(rng.random())} | ({"dropout": 0.5} if rng.integers(2) else {}), 0.0) for _ in range(60)]
    made = [(point, float("dropout" in point) + 0.1 * rng.normal()) for point, _ in made]
    found = importance(results(made))
    assert (found.rows[0].name, found.rows[0].mean > 0.8) == ("dropout", True)


def test_two_absences_of_which_each_tells_the_other_count_as_values():
    rng = RNG(0)
    made = []
    for place in range(60):
        kind = {"momentum": 0.9} if place % 2 else {"beta": 0.1}
        made.append(({"x": float(rng.random()), **kind}, place % 2 + 0.05 * rng.normal()))
    found = importance(results(made))
    assert found.enough
    assert {row.name for row in found.rows[:2]} == {"momentum", "beta"}
    assert found.rows[2].high < 0.05


def test_none_among_numbers_is_a_value():
    rng = RNG(0)
    choices = [None, 0.1, 0.9]
    made = [({"clip": choices[rng.integers(3)], "x": float(rng.random())}, 0.0) for _ in range(60)]
    made = [(point, float(point["clip"] is None) + 0.1 * rng.normal()) for point, _ in made]
    found = importance(results(made))
    assert (found.rows[0].name, found.rows[0].mean > 0.8) == ("clip", True)


def test_log_scale_and_numbers_of_every_size():
    rng = RNG(0)
    experiment = lab.Experiment(
        [lab.HParam("rate", lab.RealInterval(1e-9, 1.0, scale="log")), lab.HParam("x", lab.RealInterval(0, 1))],
        [lab.Metric("accuracy")],
    )
    made = [({"rate": float(10 ** rng.uniform(-9, 0)), "x": float(rng.random())}, 0.0) for _ in range(80)]
    made = [(point, math.log10(point["rate"]) + 3 * point["x"]) for point, _ in made]
    found = importance(results(made, experiment=experiment))
    assert shares(found) == {"rate": pytest.approx(0.87, abs=0.06), "x": pytest.approx(0.1, abs=0.06)}
    wide = [({**point, "huge": 1.7e308 * (-1) ** place, "small": 5e-324 * place}, value)
            for place, (point, value) in enumerate(made)]  # fmt: skip
    assert importance(results(wide, experiment=experiment)).rows[0].name == "rate"


def test_what_does_not_vary_is_left_out():
    made = [({**point, "epochs": 5, "kind": "x"}, value) for point, value in drawn(20, ten_to_one)]
    assert {row.name for row in importance(results(made)).rows} == {"a", "b", "c"}
    same = importance(results([({"a": 1}, 0.5), ({"a": 1.0}, 0.6), ({"a": 1, "b": 2}, 0.6)]))
    assert {row.name for row in same.rows} == {"b"}  # 1 and 1.0 are one value; b is there or not


def test_one_wild_value_is_not_all_there_is_to_explain():
    made = drawn(60, ten_to_one)
    made[7] = (made[7][0], 1e12)
    found = importance(results(made))
    assert (found.enough, found.rows[0].name, found.rows[0].mean > 0.5) == (True, "a", True)


def test_repeats_count_by_their_mean_and_weigh_by_their_number():
    made = drawn(30, ten_to_one)
    twice = [(point, [value - 5, value + 5]) for point, value in made]  # the spread within a trial is no matter
    assert shares(importance(results(twice))) == pytest.approx(shares(importance(results(made))), abs=0.01)
    # thirty trials in which b is all, once each, and thirty in which a is all, nine times each
    both = [(point, [point["b"]]) for point, _ in drawn(30, ten_to_one, seed=1)]
    both += [(point, [point["a"]] * 9) for point, _ in drawn(30, ten_to_one, seed=2)]
    found = importance(results(both))
    assert (found.n, found.rows[0].name, found.rows[0].mean > 3 * found.rows[1].mean) == (60, "a", True)


def test_too_few_trials():
    found = importance(results(drawn(6, ten_to_one)))
    assert not found.enough
    assert found.reason == "3 hparams vary and 6 trials are ranked; 4 more would be of use"
    assert [(row.name, row.mean, row.low, row.high) for row in found.rows] == [(n, 0.0, 0.0, 1.0) for n in "abc"]
    assert math.isnan(found.score)
    many = importance(results(drawn(20, lambda **point: point["a"], names="abcdefghijklmn")))
    assert many.reason == "14 hparams vary and 20 trials are ranked; 8 more would be of use"


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        ([], "no trial is ranked; 10 more would be of use"),
        ([({"a": 1}, 0.5)], "1 trial is ranked; 9 more would be of use"),
        ([({"a": 1}, 0.5), ({"a": 1, "b": 1}, 0.5)], "1 hparam varies and 2 trials are ranked; 8 more would be of use"),
        ([({}, 0.5)] * 2, "1 trial is ranked; 9 more would be of use"),
        ([({"a": x}, 0.5) for x in range(20)], "accuracy is 0.5 in all 20 trials; nothing is there to explain"),
    ],
)
def test_nothing_to_tell_from(made, reason):
    experiment = lab.Experiment([lab.HParam("a", lab.IntInterval(0, 99))], [lab.Metric("accuracy")])
    found = importance(results(made, experiment=experiment))
    assert (found.enough, found.reason) == (False, reason)


@pytest.mark.parametrize(("count", "seed"), [(12, 0), (30, 1), (30, 2), (100, 3)])
def test_noise_alone_cannot_be_told(count, seed):
    found = importance(results(drawn(count, lambda a, b, c: 0.0, 1.0, seed)))
    assert not found.enough
    assert found.reason.startswith(f"forests predict the {count} trials ")
    assert " more would be of use, unless all is chance" in found.reason
    assert len(found.rows) == 3


def test_the_same_seed_gives_the_same_numbers():
    made = results(drawn(30, ten_to_one, 2.0))
    assert importance(made, seed=4) == importance(made, seed=4)
    assert importance(made, seed=4) != importance(made, seed=5)


def test_trials_that_did_not_complete_are_left_out_and_counted():
    made = drawn(30, ten_to_one)
    broken = [({"a": 0.0, "b": 0.0, "c": float(place)}, 1e6) for place in range(8)]
    words = ["diverged", "failed", "crashed", "pruned", "interrupted", "running", "completed", "completed"]
    broken[-1] = (broken[-1][0], math.nan)
    broken[-2] = (broken[-2][0], math.inf)
    mixed = importance(results(made + broken, outcomes=["completed"] * 30 + words))
    assert (mixed.n, mixed.left_out) == (30, 8)
    assert mixed.rows == importance(results(made)).rows
    foreign = importance(results(made, outcomes=["unknown"] * 30))  # logs in which nothing tells how runs ended
    assert foreign.rows == mixed.rows


def test_by_and_goal():
    curves = []
    for hparams, _ in drawn(24, ten_to_one):
        trial = Trial.of(0, hparams)
        values = np.array([hparams["b"], 2 + hparams["a"], hparams["c"]])  # the best is a's, the worst b's or c's
        points = Scalars(np.arange(3), np.arange(3.0), values)
        known = (trial.id, trial.hparams, Outcome.COMPLETED, "", 0.0, 1.0, {"loss": hparams["c"]}, {"loss": points})
        curves.append(RunResult("run", Path("run"), *known))
    found = Results(None, tuple(curves))
    assert importance(found).rows[0].name == "c"
    assert importance(found, by="best", goal="max").rows[0].name == "a"
    assert importance(found, by="best").rows[-1].name == "a"  # less of a loss is better
    assert {row.name for row in importance(found, by="mean-of-last-2").rows[:2]} == {"a", "c"}


def test_a_thousand_trials_take_few_calls():
    made = results(drawn(1000, lambda **p: 10 * p["a"] + p["b"], names="abcdefghij"))
    importance(results(drawn(12, ten_to_one)))  # scikit-learn is imported
    with at_most(calls=5 * 10**6):
        assert importance(made).rows[0].name == "a"


def test_bad_input():
    made = results(drawn(12, ten_to_one))
    with pytest.raises(UsageError, match=r"^no run logged the metric 'accurracy'; did you mean accuracy\?$"):
        importance(made, "accurracy")
    with pytest.raises(UsageError, match=r"^by is 'median'; wanted last, best or mean-of-last-N"):
        importance(made, by="median")
    with pytest.raises(UsageError, match=r"^whether more or less of 'epochs' is better is not declared"):
        importance(results(drawn(12, ten_to_one), metric="epochs"), "epochs", by="best")
    assert importance(results(drawn(12, ten_to_one), metric="epochs"), "epochs").n == 12
    with pytest.raises(UsageError, match=r"^no objective is declared"):
        importance(results(drawn(12, ten_to_one), metric="epochs"))


def test_without_scikit_learn_the_way_to_install_it_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    with pytest.raises(MissingExtraError, match=r"scikit-learn is not installed; .* 'hparams-lab\[report\]'"):
        importance(results(drawn(12, ten_to_one)))


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """A log directory of 24 runs in which `rate` matters, `units` a little, and a run that failed."""
    root = tmp_path_factory.mktemp("logs")
    rng = RNG(0)
    for place in range(25):
        rate, units = float(rng.random()), int(rng.choice([8, 16, 32]))
        hparams = {"rate": rate, "units": units, "layer [bold]": "x" if place % 2 else "y", "epochs": 3}
        with lab.start_run(root, hparams=hparams, provenance=False) as run:
            run.log({"accuracy": rate + units / 320}, step=1)
            if place == 24:
                run.finish(outcome="failed", reason="broken")
    return root


def test_the_command_shows_bars_and_a_verdict(lab_command, logged, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, said, errors = lab_command("importance", logged)
    lines = said.splitlines()
    assert (code, errors) == (0, "")
    assert lines[0].split() == ["hparam", "share", "range"]
    assert lines[1].startswith("rate ")
    assert "█" in lines[1]
    assert {line.partition("  ")[0] for line in lines[1:4]} == {"rate", "units", "layer [bold]"}
    assert lines[4].startswith("rate matters most for accuracy: ")
    assert "25 runs, 25 trials; 1 left out, not completed or without accuracy; " in " ".join(lines)
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(("width", "bar"), one_quick([(46, "#"), (34, "")]))
def test_the_command_without_unicode_or_room(logged, width, bar):
    command = [sys.executable, "-m", "hparams_lab", "importance", str(logged)]
    environment = {**os.environ, "COLUMNS": str(width), "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    found = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.splitlines()[1].split()[0] == "rate"
    assert bar in found.stdout
    assert max(map(len, found.stdout.splitlines())) <= width


def test_the_command_in_json(lab_command, logged):
    code, said, _ = lab_command("importance", logged, "--json")
    found = json.loads(said, parse_constant=pytest.fail)
    assert code == 0
    assert (found["metric"], found["enough"], found["reason"]) == ("accuracy", True, None)
    assert (found["trials"], found["left_out"]) == (24, 1)
    expected = importance(lab.read(logged))
    assert found["score"] == expected.score
    assert found["hparams"] == [
        {"hparam": row.name, "share": row.mean, "low": row.low, "high": row.high} for row in expected.rows
    ]


def test_the_command_says_that_it_cannot_tell(lab_command, tmp_path):
    for x in range(3):
        with lab.start_run(tmp_path, hparams={"x": x}, provenance=False) as run:
            run.log({"loss": x}, step=1)
    code, said, _ = lab_command("importance", tmp_path)
    assert code == 0
    expected = "cannot tell what matters for loss: 1 hparam varies and 3 trials are ranked; 7 more would be of use"
    assert expected in " ".join(said.split())
    assert "0% to 100%" in said
    assert json.loads(lab_command("importance", tmp_path, "--json")[1], parse_constant=pytest.fail)["score"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--metric", "acuracy"], "error: no run logged the metric 'acuracy'; did you mean accuracy?\n"),
        (["--by", "worst"], "error: by is 'worst'; wanted last, best or mean-of-last-N, such as mean-of-last-5\n"),
    ],
)
def test_the_command_asked_wrongly(lab_command, logged, options, message):
    assert lab_command("importance", logged, *options) == (2, "", message)
    code, said, errors = lab_command("importance", logged / "none", *options[:0])
    assert (code, said, errors.count("\n")) == (2, "", 1)
    assert "does not exist" in errors


def test_the_verdict():
    def said(*rows, enough=True):
        shown = tuple(Importance(*row) for row in rows)
        return verdict(Importances(shown, enough, "" if enough else "why", 0.5, 20, 0, "loss"))

    sure, rival, idle = ("a", 0.6, 0.5, 0.7), ("b", 0.3, 0.2, 0.65), ("c", 0.01, 0.0, 0.02)
    assert said(sure) == "a matters most for loss: 60% of its variance"
    assert said(sure, idle) == "a matters most for loss: 60% of its variance; c hardly matters"
    assert said(sure, ("b", 0.3, 0.2, 0.55)) == "a matters most for loss: 60% of its variance"
    assert said(sure, rival) == "a seems to matter most for loss, but b may matter as much"
    many = [(name, *idle[1:]) for name in "cdefg"]
    assert said(sure, *many) == "a matters most for loss: 60% of its variance; c, d, e and 2 more hardly matter"
    assert said(sure, enough=False) == "cannot tell what matters for loss: why"
