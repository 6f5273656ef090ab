"""Which metric ranks where none is declared: by hand-checked sets of tags, in words, and where none ranks at all."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import pytest
import sick_logs

import hparams_lab as lab
from hparams_lab.analysis.importance import importance
from hparams_lab.analysis.report.sections import report
from hparams_lab.analysis.report.study import Study
from hparams_lab.core.declared import Declared
from hparams_lab.core.direction import goal_of_tag
from hparams_lab.core.ranking_metric import Choice, choose

PAGE = Path(__file__).resolve().parents[2] / "docs/ranking-metric.md"
ROW = re.compile(r"^\| (.+?) \| (`.*`\*?(?: \(\d+\))?) \| (?:`(.+)`|(asks)) \|$", re.M)
TAG = re.compile(r"`(.+?)`(\*?)(?: \((\d+)\))?")
RUNS = 26


def chosen(tags, runs=(), declared=()):
    """The tag that ranks, in runs that all have all the tags, where nothing else is said of one."""
    goals = [tag for tag in tags if goal_of_tag(tag)]
    return choose(goals, dict.fromkeys(tags, RUNS) | dict(runs), RUNS, declared).tag


def test_the_page_of_real_logs_is_true():
    rows = ROW.findall(PAGE.read_text(encoding="utf-8"))
    wrong = []
    for tool, cells, answer, _ in rows:
        found = TAG.findall(cells)
        few = {tag: int(runs) for tag, _, runs in found if runs}
        got = chosen([tag for tag, *_ in found], few, [tag for tag, star, _ in found if star])
        wrong += [(tool, answer or None, got)] * (got != (answer or None))
    assert wrong == []
    assert len(rows) >= 90
    assert len({re.split(r"[,(]| \d", tool)[0].strip() for tool, *_ in rows}) >= 40


LOOPS = [
    line.split(" | ")
    for line in (Path(__file__).parents[1] / "tag_sets.txt").read_text(encoding="utf-8").splitlines()[2:]
]
"""What people's own loops log, and what a careful person would rank by; a dash where that person would ask."""


def test_what_ranks_in_logs_of_loops_of_ones_own():
    wrong = []
    for answer, text in LOOPS:
        tags = text.split(", ")
        wrong += [(answer, got, text) for got in (chosen(tags), chosen(tags[::-1])) if (got or "-") != answer]
    assert wrong == []
    assert len(LOOPS) >= 200


@pytest.mark.parametrize(
    "word", ["val", "valid", "validation", "test", "testing", "eval", "evaluation", "dev", "holdout"]
)
def test_the_word_for_held_out_data_stands_anywhere(word):
    """Before, behind, with a space, a dash, a dot, in camel case, as a directory and as a half of a run."""
    big = word.capitalize()
    spelt = [
        f"{word}_loss", f"loss_{word}", f"{word} loss", f"{big} Loss", f"loss-{word}", f"{word}.loss", f"{word}/loss",
        f"loss/{word}", f"Loss/{big}", f"{word}Loss", f"loss{big}", f"Loss{big}", f"{big}Loss", f"{word}/epoch_loss",
        f"epoch_{word}_loss", f"{word}_0/loss", f"loss_{word}/loss", f"loss ({word})", f"a/b/{word}/loss",
        f"{word}:loss", f"avg_{word}_loss", f"{word.upper()}_LOSS", f"{word}_loss_epoch",
    ]  # fmt: skip
    for tag in spelt:
        for bare in ("loss", "train_loss", "Loss/train", "training loss", "trainLoss"):
            assert (tag, chosen([bare, tag, "lr"])) == (tag, tag)


@pytest.mark.parametrize(
    "never",
    [
        "entropy", "train/entropy_loss", "Policy/Entropy", "val/entropy", "lr", "learning_rate", "val/lr",
        "Learning Rate", "lr-Adam", "step", "global_step", "epoch", "val_epoch", "time", "val/time", "eval/runtime",
        "seconds", "sys/memory", "gpu_memory_mb", "count", "num_samples", "eval/steps_per_second",
        "samples_per_second", "grad_norm", "val/grad_norm", "loss_scale", "eval/latency", "latency", "val/latency_ms",
        "accuracy_count", "eval/mean_ep_length", "weight_decay", "reward_std", "val/true_positives",
        "val_false_negatives", "memory/allocated", "throughput",
    ],
)  # fmt: skip
def test_what_says_nothing_of_a_model_never_ranks(never):
    assert chosen([never]) is None
    assert chosen([never, "loss"]) == (None if never == "Policy/Entropy" else "loss")  # no loss ranks agents


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ("mAP50-95", "mAP50 mAP75 precision recall"), ("AP", "AP50 AP75 APs APm APl AP-person"),
        ("mAP@0.5:0.95", "mAP@0.5 mAP@0.75"), ("top1", "top5"), ("acc@1", "acc@5"),
        ("top-1_accuracy", "top-5_accuracy"), ("f1_macro", "f1_micro f1_weighted"),
        ("f1", "precision recall f1_class_3"), ("mIoU", "pixel_acc IoU_road IoU_car"), ("psnr", "ssim lpips"),
        ("fid", "kid inception_score"), ("wer", "cer"), ("bleu", "bleu-1 bleu-2 bleu-3 chrf"),
        ("mrr", "hits@1 hits@10"), ("accuracy", "accuracy_cats accuracy_dogs error_rate"),
        ("loss", "kl_loss recon_loss mae r2"), ("total_loss", "cls_loss box_loss"), ("auc", "precision recall"),
        ("reward_mean", "reward_max reward_min reward_std"), ("episode_return", "batch_return return reward"),
        ("acc", "acc_max best_acc"),
    ],
)  # fmt: skip
def test_the_first_score_of_a_field_and_the_whole_come_first(first, then):
    for place in ("val/{}", "{}", "test_{}", "metrics/{}"):
        tags = [place.format(tag) for tag in (first, *then.split())]
        assert chosen(tags) == chosen(tags[::-1]) == tags[0]
        with_loss = "loss" if first == "total_loss" else first
        assert chosen([*tags, place.format("loss")]) == place.format(with_loss)


@pytest.mark.parametrize(
    "tags",
    [
        "val/accuracy val/f1", "val/accuracy val/auc val/loss", "val/iou val/f1", "val/mAP val/accuracy",
        "val/fid val/psnr", "val/bleu val/wer", "val/accuracy val/balanced_accuracy", "val/f1 val/auc",
        "bbox/AP segm/AP", "val/iou val/dice", "Ant/return Hopper/return", "env_0/return env_1/return",
        "env_a/reward env_b/reward", "Eval_AverageReturn bbox/AP", "eval/mean_reward eval/success_rate",
        "val/rmse val/mae", "G_loss D_loss", "val/box_loss val/cls_loss train/loss",
        "val_acc/dataloader_idx_0 val_acc/dataloader_idx_1", "rouge1 rouge2 rougeL", "fold_1/val_acc fold_2/val_acc",
        "cola/accuracy sst2/accuracy", "val/psnr val/accuracy", "val_clean/acc val_noisy/acc val/loss",
        "wer/en wer/de", "mAP50-95(B) mAP50-95(M)", "val/roc_auc val/pr_auc", "test/bleu test/rouge",
    ],
)  # fmt: skip
def test_a_toss_up_is_asked(tags):
    for order in (tags.split(), tags.split()[::-1]):
        choice = choose(order, dict.fromkeys(order, RUNS), RUNS)
        assert choice.tag is None
        assert len(choice.others) >= 2


def test_what_most_runs_have_ranks():
    few = {"test/accuracy": 1, "val/loss": 20}
    assert choose(few, few).tag == "val/loss"
    assert choose(few, few | {"test/accuracy": 19}).tag == "test/accuracy"
    assert choose(few, few | {"test/accuracy": 10}).tag == "test/accuracy"
    two = {"val/accuracy": 26, "val/f1": 20}
    assert choose(two, two, 26) == Choice("val/accuracy", ("the one that most runs have",), ("val/f1",))
    assert choose(two, two | {"val/f1": 24}, 26).tag is None
    apart = {"Ant/return": 15, "Hopper/return": 11}  # each run has one of them
    assert choose(apart, apart, 26).tag == "Ant/return"
    assert choose(apart, apart | {"Ant/return": 13, "Hopper/return": 13}, 26).tag is None
    spelt = {"val_acc": 11, "val_accuracy": 13}  # the same by two names
    assert choose(spelt, spelt, 24).tag == "val_accuracy"


@pytest.mark.parametrize(
    ("tags", "asks"),
    [
        ("train/loss val/SPL", True), ("loss accuracy val/SPL", True), ("train/loss val/SPL val/loss", False),
        ("train/loss val/lr val/step eval/runtime eval/samples_per_second val/grad_norm", False),
        ("train/loss eval/mean_ep_length", False), ("train/loss valid/num_updates valid/wps", False),
        ("rollout/ep_rew_mean eval/SPL train/actor_loss", False), ("bbox/AP val/SPL", False),
    ],
)  # fmt: skip
def test_an_unknown_metric_of_held_out_data_is_asked_for(tags, asks):
    """A training loss says less than it, whatever it is; not so where something of held-out data is known."""
    assert (chosen(tags.split()) is None) is asks


def test_what_is_declared_ranks_before_what_is_only_logged():
    tags = ["train/epoch_accuracy", "validation/epoch_accuracy", "validation/epoch_loss", "accuracy"]
    assert chosen(tags) == "validation/epoch_accuracy"
    assert chosen(tags, declared=iter(["accuracy"])) == "accuracy"
    assert chosen(tags, declared=["train/epoch_accuracy"]) == "validation/epoch_accuracy"
    assert chosen(["loss", "accuracy", "val_loss"], declared=["loss", "accuracy", "val_loss"]) == "val_loss"


@pytest.mark.parametrize(
    ("tags", "why", "others"),
    [
        ("train_loss val_loss", ("held-out",), "train_loss"),
        ("train/loss val/loss val/acc", ("held-out", "a usual score"), "val/loss train/loss"),
        ("val_loss val_mae loss", ("held-out", "the loss"), "val_mae loss"),
        ("rollout/ep_rew_mean train/value_loss", ("an agent's score",), "train/value_loss"),
        ("train_loss loss", ("not of training",), "train_loss"),
        ("reward_mean reward_max", ("a mean",), "reward_max"),
        ("epoch_loss batch_loss", ("not of a step",), "batch_loss"),
        ("loss", (), ""),
    ],
)
def test_the_reasons_are_said(tags, why, others):
    choice = choose(tags.split(), dict.fromkeys(tags.split(), 1), 1)
    assert (choice.why, choice.others) == (why, tuple(others.split()))


def test_the_metric_that_an_hparams_config_declares_ranks(tmp_path):
    """As in TensorFlow's tutorial, with Keras's callback below: the halves of a run have their own accuracy."""
    files = {"": sick_logs.VERSION + sick_logs.experiment([sick_logs.interval("units", 8, 64)], "accuracy")}
    for units in (16, 32):
        files[f"run-{units}"] = sick_logs.run(units)
        for half in ("train", "validation"):
            files[f"run-{units}/{half}"] = sick_logs.VERSION + sick_logs.point(1, 0.5, "epoch_accuracy")
    results = lab.read(sick_logs.write(tmp_path, files))
    assert {"accuracy", "train/epoch_accuracy", "validation/epoch_accuracy"} <= {*results.tags}
    assert (results.objective, results.choice.why) == ("accuracy", ("not of training", "declared"))


# --- in the commands ------------------------------------------------------------------------------------------------


@pytest.fixture
def logs(tmp_path):
    """`logs(sets...)` writes a run for each set of tags, such as "val_loss lr", and gives their directory."""

    def write(*sets):
        for x, tags in enumerate(sets):
            with lab.start_run(tmp_path / "logs", hparams={"x": x}, name=f"run{x}", provenance=False) as run:
                run.log({tag: float(x + 1) for tag in tags.split()}, step=1)
                run.log({tag: float(x + 2) for tag in tags.split()}, step=2)
        return tmp_path / "logs"

    return write


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (120, "ranked by val_loss, least first: held-out, in 2 of 3 runs; also: train_loss, train_mae (--metric)"),
        (98, "ranked by val_loss, least first: held-out, in 2 of 3 runs; also: train_loss, train_mae (--metric)"),
        (90, "ranked by val_loss, least first: held-out, in 2 of 3 runs; also: 2 more (--metric)"),
        (80, "ranked by val_loss, least first: held-out, in 2 of 3 runs; also: 2 more (--metric)"),
    ],
)
def test_top_says_what_ranks_and_why(width, line, logs, lines_of, monkeypatch):
    directory = logs("train_loss train_mae val_loss lr", "train_loss train_mae val_loss lr", "train_loss train_mae lr")
    monkeypatch.setenv("COLUMNS", str(width))
    assert lines_of("top", directory)[-1] == line
    assert lines_of("top", directory, "--metric", "train_loss")[-1] == (
        "3 runs, 3 trials: 3 completed; ranked by train_loss, least first"
    )
    objective = json.loads(lines_of("top", directory, "--json", "--n", 1)[0])["objective"]
    assert (objective["metric"], objective["why"]) == ("val_loss", "held-out")
    assert lines_of("show", directory, "run0")[-1].startswith("ranked by val_loss, least first: held-out, in 2 of 3 ")
    assert lines_of("importance", directory)[-1] == "val_loss: held-out (--metric)"
    assert json.loads(lines_of("importance", directory, "--json")[0])["why"] == "held-out"
    assert "Ranked by val_loss, least first: held-out, in 2 of 3 runs; also: train_loss, train_mae" in report(
        Study.of(lab.read(directory), "study")
    ).html("")


NONE_RANKS = {
    "a toss-up": ("Eval_AverageReturn bbox/AP",
    "Eval_AverageReturn and bbox/AP are equally likely; name one with --metric"),
    "no known direction": (
        "speed layer2/grad_norm",
        "no metric's better direction is known; name one with --metric and --max or --min",
    ),
    "many": ("a/f1 b/f1 c/f1 d/f1 e/f1 g/f1",
    "a/f1, b/f1, c/f1, d/f1 and 2 more are equally likely; name one with --metric"),
    "samples of the machine alone": ("sys/cpu_percent", ""),
    "nothing": ("", ""),
}


@pytest.mark.parametrize("kind", NONE_RANKS)
def test_without_a_metric_that_ranks_all_but_ranks_works(kind, logs, lines_of, tmp_path):
    tags, why = NONE_RANKS[kind]
    directory = logs(tags, tags)
    said = lines_of("top", directory)
    assert [row.split()[1] for row in said if row.split()[0] == "-"] == ["run0", "run1"]
    assert said[-1] == (f"ranked by none: {why}" if why else "2 runs, 2 trials: 2 completed")
    for line in lines_of("top", directory, "--json")[:2]:
        assert json.loads(line)["rank"] is None
    assert "not ranked" in lines_of("show", directory, "run1")[0]
    assert lines_of("compare", directory, "run0", "run1")
    assert len(lines_of("export", directory, "-o", "-")) == 3
    page = tmp_path / "report.html"
    assert lines_of("report", directory, "-o", page)
    if why:
        assert f"No metric ranks: {why}" in html.unescape(re.sub("</?bdi>", "", page.read_text(encoding="utf-8")))
    for command in (("show", directory, "best"), ("show", directory, "#1"), ("compare", directory, "#1", "#2")):
        assert lines_of(*command, refused=True) == f"no trial has a rank: {why or 'no run logged a metric'}"
    assert lines_of("importance", directory, refused=True).startswith("no objective is declared")
    results = lab.read(directory)
    assert "<td>-</td><td>run0</td>" in results._repr_html_()
    assert len(results.to_pandas()) == 2
    for call in (results.top, results.best, lambda: results.objective, lambda: importance(results)):
        with pytest.raises(lab.UsageError, match=r"^no objective is declared"):
            call()


def test_a_toss_up_is_told_with_its_candidates(logs, lines_of):
    directory = logs("val/accuracy val/f1 val/loss", "val/accuracy val/f1 val/loss")
    said = (
        "no objective is declared, and val/accuracy and val/f1 are equally likely; name the metric to rank by "
        "(--metric TAG; in Python metric=)"
    )
    assert lines_of("importance", directory, refused=True) == said
    with pytest.raises(lab.UsageError, match=re.escape(said)):
        lab.read(directory).top()
    objective = json.loads(lines_of("top", directory, "--json")[0])["objective"]
    assert (objective["metric"], objective["candidates"]) == (None, ["val/accuracy", "val/f1"])
    assert ["1", "run1"] in [row.split()[:2] for row in lines_of("top", directory, "--metric", "val/f1")]
    assert lines_of("show", directory, "best", "--metric", "val/f1")[0].startswith("run1")
    assert [trial.name for trial in lab.read(directory).top(metric="val/f1")] == ["run1", "run0"]


def test_many_metrics_of_unknown_direction_are_not_all_named(logs):
    results = lab.read(logs(" ".join(f"speed{n}" for n in range(400))))
    with pytest.raises(lab.UsageError, match=r"rank by: speed0, speed1, .*, speed11, \.\.\. \(--metric TAG") as raised:
        results.best()
    assert len(str(raised.value)) < 250


def test_the_experiment_has_the_metric_that_ranks():
    hparams = lab.Experiment([lab.HParam("x", lab.Discrete([1, 2]))], [lab.Metric("loss")]).to_json()["hparams"]

    def experiment(*tags):
        metrics = [{"tag": tag} for tag in tags]
        return Declared({"hparams": hparams, "metrics": metrics, "objective": None}).experiment

    assert experiment("loss", "val_loss").objective == "val_loss"
    assert experiment("f1", "accuracy").objective == "f1"  # a toss-up; an experiment has to have one
    assert experiment("zzz") is None
