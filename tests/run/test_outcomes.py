"""Every outcome of a run, and what each place makes of it that tells runs apart by how they ended."""

import contextlib
import errno
import os
import signal

import pytest

import hparams_lab as lab
from hparams_lab.analysis.report.facts import failures
from hparams_lab.analysis.report.study import Study
from hparams_lab.cli.table import outcome_cell
from hparams_lab.core import errors
from hparams_lab.core.outcome import Outcome
from hparams_lab.core.present import BROKEN, COLOURS
from hparams_lab.events.format import summaries
from hparams_lab.logdir.prune import Criteria, plan_prune
from hparams_lab.logdir.run_reader import read_run
from hparams_lab.run.outcome_records import ending, outcome_named
from hparams_lab.sweep.events import SweepNote

OVER = [outcome for outcome in Outcome if outcome not in (Outcome.RUNNING, Outcome.UNKNOWN)]
RED = {Outcome.FAILED, Outcome.CRASHED, Outcome.TIMED_OUT, Outcome.OUT_OF_MEMORY}


@pytest.fixture
def logs(tmp_path):
    """A directory with two runs of each outcome, which all have a reason but the completed ones."""
    for number, outcome in enumerate(2 * OVER):
        run = lab.start_run(tmp_path, hparams={"x": number}, name=f"run-{number:04d}", provenance=False)
        run.log({"loss": float(number)}, step=1)
        run.finish(outcome=outcome, reason="" if outcome is Outcome.COMPLETED else f"for {number} reasons")
    return tmp_path


def test_outcomes_are_read_back_as_they_were_given(logs):
    runs = lab.read(logs).runs
    assert [run.outcome for run in runs] == 2 * OVER
    assert [run.reason for run in runs[1:3]] == ["for 1 reasons", "for 2 reasons"]


@pytest.mark.parametrize("outcome", OVER)
def test_tensorboard_calls_it_a_success_only_where_it_is_one(outcome):
    expected = {Outcome.COMPLETED: summaries.SUCCESS, Outcome.PRUNED: summaries.SUCCESS}
    expected[Outcome.INTERRUPTED] = summaries.UNKNOWN
    status = expected.get(outcome, summaries.FAILURE)
    *_, end = ending(outcome, "why", "", 100.0)
    assert end == summaries.session_end(status, 100.0)


def test_what_went_wrong_is_red(logs):
    assert RED == BROKEN == {outcome for outcome in Outcome if outcome not in COLOURS}
    assert {outcome for outcome in Outcome if outcome_cell(outcome).colour == "red"} == RED


def test_outcomes_are_named_as_they_are_shown():
    assert [outcome_named(str(outcome)) for outcome in Outcome] == [*Outcome]
    assert (outcome_named("timed out"), outcome_named("out of memory")) == (Outcome.TIMED_OUT, Outcome.OUT_OF_MEMORY)


def test_the_report_tells_all_that_did_not_work_by_its_cause(logs):
    found = failures(Study.of(lab.read(logs), "logs"))
    assert {one.outcome for one in found} == RED | {Outcome.DIVERGED, Outcome.INTERRUPTED}
    assert {(one.cause, len(one.runs)) for one in found} == {("for N reasons", 2)}


def test_failed_ones_are_pruned_together(logs):
    plan = plan_prune(logs, lab.read(logs), Criteria(failed=True))
    assert {removal.run.outcome for removal in plan.removals} == RED
    assert {run.outcome for run, _ in plan.spared} == {Outcome.INTERRUPTED}  # this process may go on with them


@pytest.mark.parametrize("outcome", OVER)
def test_each_is_found_by_its_name(lines_of, logs, outcome):
    for condition in (f"outcome = '{outcome}'", f'outcome in ("{outcome}")'):
        assert len(lines_of("top", logs, "--json", "--where", condition)) == 2


def test_what_earlier_attempts_printed_goes_with_a_run_in_whose_directory_another_is(tmp_path):
    for name, loss in [("outer", 2.0), ("inner", 1.0)]:
        with lab.start_run(tmp_path, hparams={"x": loss}, name=name, provenance=False) as run:
            run.log({"loss": loss}, step=1)
    outer = tmp_path / "outer"
    (tmp_path / "inner").rename(outer / "inner")
    for name in ("output.log", "output-1.log", "output-12.log", "output-x.log"):
        (outer / name).write_text("")
    (removal,) = plan_prune(tmp_path, lab.read(tmp_path), Criteria(keep_best=1)).removals
    assert (removal.run.name, removal.trees) == ("outer", ())
    assert {file.name for file in removal.files if file.suffix == ".log"} == {
        "output.log", "output-1.log", "output-12.log",
    }  # fmt: skip


class Speechless(RuntimeError):
    def __str__(self):
        raise ValueError("no words")


def test_an_exception_that_cannot_say_what_it_is_is_a_failure_too(tmp_path):
    experiment = lab.Experiment([lab.HParam("x", lab.Discrete([1]))], [lab.Metric("loss")])

    def train(run):
        raise Speechless

    (run,) = lab.run_sweep(experiment, train, logdir=tmp_path, retries=1, observe=lambda event: None).runs
    assert (run.outcome, run.reason) == (Outcome.FAILED, "Speechless")
    assert "Speechless" in run.texts["run/outcome"]


def ends_by(tmp_path, error):
    with contextlib.suppress(type(error)), lab.start_run(tmp_path, hparams={"x": 1}, provenance=False) as run:
        raise error
    found = read_run(run.dir, run.name)
    return found.outcome, found.reason


def error_of(module, name, *bases):
    return type(name, bases or (Exception,), {"__module__": module})("after one step")


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("optuna.exceptions", "TrialPruned"),
        ("keras_tuner.src.errors", "FailedTrialError"),
        ("ray.tune.error", "_TuneStopTrialError"),
        ("ray.tune.error", "_AbortTrialExecution"),
        ("lightning.pytorch.utilities.exceptions", "_TunerExitException"),
        ("pytorch_lightning.utilities.exceptions", "_TunerExitException"),
    ],
)
def test_what_other_libraries_raise_to_prune_is_pruned(tmp_path, module, name):
    assert ends_by(tmp_path, error_of(module, name)) == (Outcome.PRUNED, f"{name}: after one step")
    derived = error_of("mine", "Mine", type(error_of(module, name)))
    assert ends_by(tmp_path, derived) == (Outcome.PRUNED, "Mine: after one step")
    for other in ("mine", "__main__", "mine." + module, module.partition(".")[0] + "_like"):
        assert ends_by(tmp_path, error_of(other, name))[0] is Outcome.FAILED


def test_optunas_own_is_pruned(tmp_path):
    optuna = pytest.importorskip("optuna", reason="the environment of further frameworks has it")
    assert ends_by(tmp_path, optuna.TrialPruned("enough")) == (Outcome.PRUNED, "TrialPruned: enough")


def inline(tmp_path, train, *metrics):
    experiment = lab.Experiment([lab.HParam("x", lab.Discrete([1, 2]))], [lab.Metric(one) for one in metrics])
    return lab.run_sweep(experiment, train, logdir=tmp_path, executor="inline", observe=lambda event: None).runs


class MissingMetricError(Exception):
    """Of a user's own."""


class Derived(lab.HParamsLabError):
    pass


Derived.__name__ = Derived.__qualname__ = "MissingMetricError"


@pytest.mark.parametrize("kind", [MissingMetricError, Derived])
def test_an_error_that_only_has_the_name_of_ours_is_a_failed_run(tmp_path, kind):
    def train(run):
        raise kind("train() neither returned nor logged the metric 'loss'")

    for _ in range(2):  # and done when the sweep goes on
        runs = inline(tmp_path, train, "loss")
        assert [run.outcome for run in runs] == [Outcome.FAILED] * 2
        assert {run.reason.partition(":")[0] for run in runs} == {"MissingMetricError"}


def test_a_declared_metric_that_only_the_summary_has_is_there(tmp_path):
    def train(run):
        run.log({"loss": 0.5}, step=1)
        run.summary["best/accuracy"] = run.hparams["x"] / 4
        return {"time": 1.0} if run.hparams["x"] == 1 else None

    runs = inline(tmp_path, train, "loss", "best/accuracy")
    assert [(run.outcome, run.metrics["best/accuracy"]) for run in runs] == [
        (Outcome.COMPLETED, 0.25),
        (Outcome.COMPLETED, 0.5),
    ]
    with pytest.raises(errors.MissingMetricError, match=r"'f1' \(it had best/accuracy, loss, time\); return"):
        inline(tmp_path / "other", train, "loss", "f1")


def test_an_inline_sweep_leaves_the_environment_as_it_was(tmp_path, monkeypatch):
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "3")
    before, seen = dict(os.environ), []

    def train(run):
        seen.append((os.environ["OMP_NUM_THREADS"], os.environ["OPENBLAS_NUM_THREADS"]))
        return {"loss": 1.0}

    inline(tmp_path / "logs", train, "loss")
    assert (seen, dict(os.environ)) == ([("1", "3")] * 2, before)
    with pytest.raises(errors.LogDirError):
        inline(tmp_path / "logs", train, "accuracy")
    with pytest.raises(errors.MissingMetricError):
        inline(tmp_path / "missing", train, "accuracy")
    assert dict(os.environ) == before


# What comes after the training


class Keeps:
    """Trains at once, and keeps what it made as `how` says."""

    def __init__(self, how):
        self.how = how

    def __call__(self, run):
        run.at_finish(lambda: 1 / 0)
        run.log({"loss": 2.0}, step=1)
        return {"accuracy": 0.5}

    def keep(self, run):
        assert run.is_over
        if self.how == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "full":
            raise OSError(errno.ENOSPC, "No space left on device", "model")
        raise ValueError(f"no model\n{'x' * 1000}")


@pytest.mark.filterwarnings("ignore:run 'run-0000'. a call at its end failed. ZeroDivisionError")
@pytest.mark.parametrize(("how", "executor"), [("raises", "inline"), ("raises", "process"), ("dies", "process")])
def test_what_comes_after_the_training_costs_nothing_that_it_found(tmp_path, how, executor):
    space = lab.Experiment([lab.HParam("x", lab.Discrete([1]))], [lab.Metric("accuracy")])
    events = []
    lab.run_sweep(space, Keeps(how), logdir=tmp_path, executor=executor, observe=events.append)
    (run,) = lab.read(tmp_path).runs
    assert (run.outcome, run.reason, run.metrics) == (Outcome.COMPLETED, "", {"loss": 2.0, "accuracy": 0.5})
    notes = [event.text for event in events if isinstance(event, SweepNote)]
    said = [f"its model was not kept: ValueError: no model {'x' * 279}…"] * (how == "raises")
    assert notes == [f"run-0000: {one}" for one in said]
    assert [text for tag, text in run.texts.items() if tag.startswith("run/note")] == said
    if executor == "process" and said:
        assert said[0] in (run.dir / "output.log").read_text()


@pytest.mark.parametrize(
    "more", [{"optimizer": "adam"}, {"model": object}, {"nothing": None, "fine": 1}, {"": 2}, {3: 4}]
)
def test_what_is_returned_beside_the_metrics_costs_no_run(tmp_path, more):
    space = lab.Experiment([lab.HParam("x", lab.Discrete([1]))], [lab.Metric("accuracy")])
    returned = {"accuracy": 0.5, **more}
    lab.run_sweep(space, lambda run: returned, logdir=tmp_path, executor="inline", observe=lambda event: None)
    (run,) = lab.read(tmp_path).runs
    fine = {"fine": 1.0} if "fine" in more else {}
    assert (run.outcome, run.metrics) == (Outcome.COMPLETED, {"accuracy": 0.5, **fine})
    assert run.texts["run/note/metrics"].startswith("what it returned beside its metrics is not kept: ")
    assert f"{next(iter(more))}=" in run.texts["run/note/metrics"]


def test_a_declared_metric_that_is_a_text_fails_the_run(tmp_path):
    space = lab.Experiment([lab.HParam("x", lab.Discrete([1]))], [lab.Metric("accuracy")])
    returned = {"accuracy": "high"}
    lab.run_sweep(space, lambda run: returned, logdir=tmp_path, executor="inline", observe=lambda event: None)
    (run,) = lab.read(tmp_path).runs
    assert (run.outcome, run.reason) == (
        Outcome.FAILED, "UsageError: metric 'accuracy' is 'high' (str); wanted a single number"
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore:run 'run-0000'. a call at its end failed. ZeroDivisionError")
def test_a_full_disk_is_told_of_the_sweep_also_where_a_model_does_not_fit(tmp_path):
    space = lab.Experiment([lab.HParam("x", lab.Discrete([1]))], [lab.Metric("accuracy")])
    with pytest.raises(errors.UnsavedError, match=r"^model cannot be written: No space left on device; make room"):
        lab.run_sweep(space, Keeps("full"), logdir=tmp_path, executor="process", observe=lambda event: None)
    assert not lab.read(tmp_path).runs  # the same command does it again


def test_a_call_at_the_end_that_fails_is_a_warning(tmp_path):
    run = lab.start_run(tmp_path, hparams={"x": 1}, name="r")
    run.at_finish(lambda: 1 / 0)
    run.log({"loss": 2.0}, step=1)
    with pytest.warns(UserWarning, match=r"^run 'r': a call at its end failed: ZeroDivisionError"):
        run.finish()
    (found,) = lab.read(tmp_path).runs
    assert (found.outcome, found.metrics) == (Outcome.COMPLETED, {"loss": 2.0})
