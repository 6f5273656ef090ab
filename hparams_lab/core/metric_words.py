"""`MetricTag`: a tag taken apart into its metric, what that is of, and the data it was measured on.

The words are those of `direction`; here stand the ones that tell metrics apart and say which a field looks at first.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from hparams_lab.core.direction import NEUTRAL_WORDS, OTHERWISE_WORDS, numbers_of, told_by, words_of

HELD_OUT = {
    "val", "valid", "validation", "validate", "test", "testing", "tst", "eval", "evaluation", "evaluate", "evaluator",
    "dev", "holdout", "heldout", "held", "unseen", "minival", "xval", "crossval", "cv", "oof",
}  # fmt: skip
TEST = {"test", "testing", "tst"}
TRAINING = {"train", "training", "trn", "tr"}
EXTREMES = {"max", "min", "best", "ema", "smoothed", "moving", "running"}
"""Words of a number that stands for another one's extreme or past."""
MEANS = {"mean", "avg", "average"}
PASSING = {"batch", "step", "iter", "iteration", "iterations"}
AVERAGES = {"macro": 1, "weighted": 2, "micro": 3}
EPISODES = {"ep", "episode", "episodes", "episodic", "cumulative", "rollout"}
OF_AGENTS_TRAINING = re.compile(
    r"\b(policy|actor|advantages?|value loss|vf loss|value function|approx kl|td error|td loss|qf loss|q network loss|"
    r"dqn|eprewmean)\b"
)
"""Words of tags that only the training of an agent has."""
SAME = {
    other: name
    for name, others in {
        "accuracy": "acc, hpaccuracy, top1, top 1",
        "top": "top3, top5, top10, top 3, top 5, top 10, top k",
        "precision": "prec, ppv",
        "recall": "tpr, sensitivity",
        "ap": "map, aps, apm, apl, average precision, avg precision",
        "average recall": "ar, mar",
        "auc": "auroc, roc, roc auc, rocauc",
        "auprc": "aupr, aucpr, pr auc, auc pr, prauc, prc",
        "f1": "fscore, f score, f measure, fmeasure",
        "iou": "miou, io u, jaccard, jaccard index, jaccard coef",
        "dice": "dsc, dice coef, dice coefficient",
        "psnr": "peak signal noise ratio, peak signal to noise ratio",
        "ssim": "structural similarity, structural similarity index, structural similarity index measure",
        "fid": "frechet inception distance",
        "kid": "kernel inception distance",
        "bleu": "sacrebleu",
        "wer": "word error rate",
        "cer": "character error rate, char error rate",
        "hits": "hit, hit rate, hitrate, hit ratio",
        "mrr": "reciprocal rank",
        "exact match": "em",
        "kappa": "qwk",
        "clip score": "clipscore",
        "c index": "cindex, concordance index",
        "loss": "losses, cost, hploss",
        "error": "err, errors",
        "ppl": "perplexity",
        "xent": "cross entropy, crossentropy, ce, nll, negative log likelihood, neg log likelihood, bce, logloss, "
        "mlogloss",
        "return": "returns, ep ret",
        "reward": "rewards, rew, eprewmean",
        "success": "successes, solved, pass rate",
        "win": "wins, winrate, won",
    }.items()
    for other in others.split(", ")
}
"""Other names of the same quantity."""
AGENT = {"return", "reward", "success", "win", "elo", "score"}
"""By what an agent is judged."""
MEASURED_ON_HELD_OUT = {
    "ap", "bleu", "wer", "cer", "fid", "kid", "rouge", "rougel", "rougelsum", "meteor", "cider", "mrr", "ndcg", "hits",
    "exact match", "inception score", "average recall", "chrf",
}  # fmt: skip
"""Scores that nobody computes in training."""
USUAL = AGENT | MEASURED_ON_HELD_OUT | {
    "accuracy", "balanced accuracy", "auc", "auprc", "f1", "iou", "dice", "psnr", "ssim", "mcc", "matthews",
    "kappa", "ter", "top", "eer", "matthews correlation coefficient", "matthews corrcoef", "dcg", "error rate",
    "merror", "recall at", "precision at", "epe", "clip score", "c index", "uas", "las", "hota", "mota", "idf1",
    "pq", "nds", "fvd", "fad",
}  # fmt: skip
"""Scores by which a field compares models, before their losses."""
SECOND = {"precision", "recall", "specificity", "top", "error rate", "merror"}
"""Scores that only go with others, or say the same as an accuracy."""
BEFORE = {
    "ap": {"iou", "average recall", "f1"} | SECOND, "iou": {"accuracy", "balanced accuracy"} | SECOND,
    "dice": {"accuracy", "balanced accuracy"} | SECOND, "psnr": {"ssim", "lpips"}, "ssim": {"lpips"},
    "fid": {"kid", "inception score"} | SECOND, "wer": {"cer", "ter", "accuracy"}, "cer": {"accuracy"},
    "bleu": {"chrf", "ter", "accuracy"}, "mrr": {"hits"}, "las": {"uas"}, "hota": {"mota", "idf1"},
    "elo": AGENT - {"elo"}, "return": {"reward"}, "xent": {"ppl"}, "rmse": {"mse"},
    **dict.fromkeys(("accuracy", "f1", "auc", "auprc", "mcc", "kappa"), SECOND),
}  # fmt: skip
"""The first score of a field, and those that only go with it."""
NEVER = {"latency", "true positives", "false positives", "false negatives", "inertia", "aic", "bic"}
"""Times and counts, though their direction is known."""
OF_NO_MODEL = {
    "batches", "bsz", "cpu", "done", "example", "examples", "figure", "flops", "fraction", "frame", "frames", "gpu",
    "image", "images", "label", "labels", "prediction", "predictions", "progress", "queue", "ram", "runtime",
    "sample", "samples", "seed", "sps", "steps", "throughput", "timestep", "timesteps", "token", "tokens", "update",
    "updates", "ups", "usage", "util", "version", "word", "words", "wpb", "wps",
}  # fmt: skip
"""Words of tags that say nothing of a model, though they have a word for held-out data."""
TELLING = {
    "bbox", "segm", "box", "a", "b", "m", "l", "squared", "absolute", "root", "log", "percentage", "relative",
    "symmetric", "word", "character", "char", "phone", "token", "level", "adjusted", "class",
}  # fmt: skip
"""Words that leave the direction as it is, but make another quantity of a metric."""


@dataclass(frozen=True, slots=True)
class MetricTag:
    """A tag taken apart.

    `name` is the metric's, `of` what it is of beside that, `words` all words of the tag; `data` as `data_of` tells it,
    `runs` how many have it.
    """

    tag: str
    name: str
    of: frozenset[str]
    words: frozenset[str]
    data: str
    runs: int
    is_declared: bool

    @classmethod
    def read(cls, tag: str, runs: int, is_declared: bool) -> MetricTag:
        """The parts of a tag."""
        return cls(tag, *_taken_apart(tag), data_of(tag), runs, is_declared)

    @property
    def quantity(self) -> tuple[str, frozenset[str]]:
        """What is measured, whatever the data and the moment."""
        return self.name, self.of

    @property
    def is_usual(self) -> bool:
        """Whether it is a score by which a field compares models."""
        return self.name in USUAL

    @property
    def is_held_out(self) -> bool:
        """Whether it says that its data were not trained on."""
        return self.data == "held-out"

    @property
    def is_of_training(self) -> bool:
        """Whether it says that its data were trained on."""
        return self.data == "training"

    def is_part_of(self, other: MetricTag) -> bool:
        """Whether it is the other metric, of some of it only: AP50 of AP, a class's IoU, a term of a loss."""
        return self.name == other.name and self.of > other.of


@functools.lru_cache(maxsize=4096)
def all_words_of(tag: str) -> tuple[str, ...]:
    """The words of all parts of a tag, one after the other."""
    return tuple(word for part in words_of(tag) for word in part)


@functools.lru_cache(maxsize=4096)
def _taken_apart(tag: str) -> tuple[str, frozenset[str], frozenset[str]]:
    """The name of a tag's metric, what it is of, and the words."""
    told, words = told_by(tag), all_words_of(tag)
    names = [SAME.get(name, name) for name in told.names] or ["score"]
    name = names[-1] if names[-1] in ("loss", "error") else next((n for n in names if n in USUAL), names[0])
    spelt = {word for each in told.names for word in each.split()}
    others = {word for word in words if word not in spelt and not word.isdecimal() and SAME.get(word) != name}
    of = {word for word in others if word not in NEUTRAL_WORDS or word in TELLING}
    of |= {*names} - {name} | {size for size in ("aps", "apm", "apl") if size in told.names}
    if "total" not in words:  # TensorFlow 1 calls a second one total_loss_1
        of |= {*numbers_of(_without_usual_numbers(tag, name))}
    return _as_it_counts(name, {*words, *names}, tag), frozenset(of), frozenset(words)


def _as_it_counts(name: str, words: set[str], tag: str) -> str:
    """A rate of errors is a score, an error is none; an accuracy of tokens is none, a recall at a rank is one."""
    if name == "error" and {"rate", "top"} & words:
        return "error rate"
    if name == "precision" and "prec" in words and {"1", "5"} & {*numbers_of(tag)}:  # of ImageNet's classic script
        return "accuracy"
    if name in ("precision", "recall") and ("@" in tag or "at" in words):
        return f"{name} at"
    if name == "accuracy" and "balanced" in words:
        return "balanced accuracy"
    return "token accuracy" if name == "accuracy" and {"token", "tokens"} & words else name


def _without_usual_numbers(tag: str, name: str) -> str:
    """A tag without the numbers that the usual form of its metric has: mAP50-95, top-1, BLEU-4."""
    first = r"(?:top[-_ ]?|accuracy@|acc@?|prec@?)1"
    usual = {"ap": r"0?[._]?50?\s*[:_\-]\s*0?[._]?95", "bleu": "bleu[-_@ ]?4", "accuracy": first, "precision": first}
    return re.sub(rf"(?<!\d){usual[name]}(?!\d)", "", tag, flags=re.IGNORECASE) if name in usual else tag


def data_of(tag: str) -> str:
    """Of what data a metric is by the words of its tag: "held-out", "training", or "" where none says.

    Where words of both are in it, the more frequent ones count, as TensorBoard's `add_scalars` repeats them.
    """
    words = all_words_of(tag)
    held_out, training = (sum(word in known for word in words) for known in (HELD_OUT, TRAINING))
    return "" if not held_out + training else "held-out" if held_out >= training else "training"


def may_be_of_a_model(tag: str) -> bool:
    """Whether a tag without a known direction may be a metric of held-out data: none of its words speaks against it."""
    words = {*all_words_of(tag)}
    others = {word for word in words if word not in NEUTRAL_WORDS and not word.isdecimal()}
    return bool(others) and data_of(tag) == "held-out" and not words & (OTHERWISE_WORDS | OF_NO_MODEL)


def is_of_unseen_data(tag: str) -> bool:
    """Whether a tag says that it was measured on data which were not trained on."""
    return data_of(tag) == "held-out"
