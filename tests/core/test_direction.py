"""Which way a metric is better, by the words of its tag; and what is asked for."""

from __future__ import annotations

import pytest

import hparams_lab as lab
from hparams_lab.core.direction import goal_of_tag, told_by

MORE = """
accuracy val/AUC neg_mean_squared_error neg_log_loss neg_brier_score mean_test_neg_log_loss
test_neg_mean_absolute_error val/neg_mse negative_log_loss neg_root_mean_squared_error neg_mean_gamma_deviance
neg_mean_poisson_deviance neg_max_error neg_negative_likelihood_ratio f1 F1Score f1_score f1_macro fbeta_score f0.5
score val/score mean_test_score rollout/ep_rew_mean eval/mean_reward charts/episodic_return
Environment/Cumulative_Reward Eval_AverageReturn bbox/AP bbox/APs metrics/mAP50-95(B) metrics/mAP_0.5 mAP mIoU
val_mIoU mean_io_u MeanIoU IoU val/dice psnr val_PSNR ssim NDCG@10 ndcg_at_10 MRR@10 hits@10 hit_rate
silhouette_score calinski_harabasz_score R2 R2Score r2_score R^2 R² explained_variance inception_score win_rate
winrate success_rate bleu BLEU-4 rouge1 rougeL rouge_l METEOR CIDEr top5 top-5 top_5_accuracy acc1 acc@5
top_k_categorical_accuracy precision_at_recall kappa cohen_kappa_score mcc matthews_corrcoef roc_auc pr_auc
average_precision_score exact_match valAcc balanced_accuracy d2_log_loss_score d2_absolute_error_score
negative_predictive_value true_negative_rate log_likelihood elbo hpaccuracy adjusted_rand_score v_measure_score
prec@1 auroc test_acc accuracy_1 auc_2 cosine_similarity val_dice_coef jaccard_coef MulticlassJaccardIndex
PeakSignalNoiseRatio StructuralSimilarityIndexMeasure pr_auc prc eprewmean testacc exact_match em AR@100 pck
"""
LESS = """
loss val_loss rmse train/loss brier_score fid_score davies_bouldin_score FID KID perplexity ppl wer CER TER mae MSE
val_mse MAPE error_rate word_error_rate nll negative_log_likelihood neg_log_likelihood bpc bits_per_character LPIPS
EER hinge squared_hinge wasserstein_distance regret cross_entropy binary_crossentropy cross_entropy_loss log_loss
logLoss valLoss MSELoss Loss/train Losses/Value_Loss dice_loss giou_loss top5_error top-1_err max_error logloss
valloss losstest val_ce word_error_rate FrechetInceptionDistance mpjpe mean_absolute_error latency kl_divergence
hamming_loss false_positive_rate fpr epoch_val_loss batch_loss hploss hpmse deviance validation/brier reward_loss
neg_reward mean_pinball_loss simple_regret train_loss_epoch
"""
NOTHING = """
layer2/grad_norm lr2 diff1 transferred interruptions loss_scale acc_loss time entropy train/entropy_loss
Policy/Entropy time/fps rollout/ep_len_mean learning_rate reward_std loss/weight std_test_score rank_test_score
custom_score anomaly_score target_return loss_ratio accuracy_gap 1-acc sys/cpu_percent epochs step lossless terror
speed mirror accountant aucklanders layer2 inverse_accuracy acc_neg train/approx_kl explained_var hp_metric
placeholder_loss return_code ent_loss interval_count retrieval 0 . é
"""
TOLD = [(MORE, "max"), (LESS, "min"), (NOTHING, None)]


@pytest.mark.parametrize(("tags", "goal"), TOLD, ids=["max", "min", "none"])
def test_whole_words_tell_the_direction(tags, goal):
    """With underscores, spaces or dashes between the words, in small and in capital letters."""
    for tag in tags.split():
        assert (tag, lab.Metric(tag).goal) == (tag, goal)
        if "/" not in tag:
            spelt = [tag.replace("_", " "), tag.replace("_", "-"), f"val/{tag}", f"{tag} (avg on test)"]
            assert {one: goal_of_tag(one) for one in spelt} == dict.fromkeys(spelt, goal)
    assert all(lab.Metric(tag, goal="min").goal == "min" for tag in tags.split())


@pytest.mark.parametrize(
    ("tag", "sure"),
    [
        ("accuracy", True), ("val/loss", True), ("neg_mean_squared_error", True), ("brier_score", True),
        ("F1Score", True), ("policy_gradient_accuracy", False),
        ("recon_loss", False), ("neg_accuracy", False), ("epochs", False),
    ],
)  # fmt: skip
def test_a_direction_is_sure_where_every_word_is_known(tag, sure):
    assert bool(told_by(tag).goal and told_by(tag).is_plain) is sure


@pytest.fixture
def logged(tmp_path):
    """Logs three runs with x = 1, 2, 3, each metric being x times what is given, and gives their directory."""

    def log(**metrics):
        for x in (1, 2, 3):
            with lab.start_run(tmp_path, hparams={"x": x}, provenance=False) as run:
                run.log({tag.replace("__", "/"): sign * x for tag, sign in metrics.items()}, step=1)
        return tmp_path

    return log


def test_an_agent_is_ranked_by_its_reward(logged):
    directory = logged(train__value_loss=-1.0, train__loss=-1.0, time__fps=1.0, rollout__ep_rew_mean=-2.0)
    assert lab.read(directory).best().hparams["x"] == 1


def test_where_nothing_is_known_the_metrics_are_told(logged, lab_command):
    directory = logged(speed=1.0, layer2__grad_norm=2.0)
    code, said, errors = lab_command("top", directory)
    way = "ranked by none: no metric's better direction is known; name one with --metric and --max or --min"
    assert (code, said.splitlines()[-1], errors) == (0, way, "")
    assert lab_command("top", directory, "--metric", "speed", "--max")[0] == 0
    with pytest.raises(lab.UsageError, match=r"^no objective is declared; name the metric to rank by: speed, layer2"):
        lab.read(directory).best()
    assert lab.read(directory).best("speed", "min").hparams["x"] == 1


@pytest.mark.parametrize(
    ("asked", "refused"),
    [
        ([], "no objective is declared, and what goes is not guessed; name the metric that ranks, such as "),
        (["--min"], "no objective is declared, and what goes is not guessed; name the metric that ranks, such as "),
        (["--metric", "recon_loss"], "whether more or less of 'recon_loss' is better is only guessed, and what goes"),
        (["--metric", "val/neg_accuracy"], "whether more or less of 'val/neg_accuracy' is better is only guessed"),
        (["--metric", "speed"], "whether more or less of 'speed' is better is not declared; say --max or --min"),
        (["--metric", "recon_loss", "--min"], None),
        (["--metric", "speed", "--max"], None),
        (["--metric", "val/loss"], None),
    ],
)
def test_nothing_is_deleted_by_a_guess(asked, refused, logged, lab_command):
    directory = logged(val__loss=1.0, recon_loss=1.0, val__neg_accuracy=1.0, speed=1.0)
    code, _, errors = lab_command("prune", directory, "--keep-best", 1, *asked, "--yes")
    left = [run.name for run in lab.read(directory).runs]
    if refused is None:
        assert (code, errors) == (0, "")
        assert left == ["run-0002" if "--max" in asked else "run-0000"]
    else:
        assert (code, len(left), errors.count("\n")) == (2, 3, 1)
        assert errors.startswith(f"error: {refused}")


def test_a_declared_goal_always_wins(tmp_path):
    space = lab.Experiment([lab.HParam("x", lab.Discrete([1, 2]))], [lab.Metric("brier_score", goal="max")])
    logdir = tmp_path / "sweep"
    found = lab.run_sweep(space, lambda run: {"brier_score": run.hparams["x"]}, logdir=logdir, executor="inline")
    assert found.best().hparams["x"] == lab.read(tmp_path).best().hparams["x"] == 2


@pytest.mark.parametrize("tag", ["layer2/grad_norm", "lr2", "loss_scale", "entropy"])
def test_an_objective_without_a_known_direction_is_asked_for(tag):
    with pytest.raises(lab.DeclarationError, match=rf"^the objective '{tag}' has no goal; say Metric\('{tag}', goal="):
        lab.Experiment([lab.HParam("x", lab.Discrete([1, 2]))], [lab.Metric(tag)])
