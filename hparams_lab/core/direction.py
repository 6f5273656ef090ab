"""`goal_of_tag`: which way a metric is better, by the words of its tag.

A tag is split at what is neither letter nor digit, and at the capitals of camel case. Only whole words count: `layer2`
has no word `r2`. Words that say of what data or over which part a number is (`val`, `mean`, `epoch`) change nothing.
Words that make another quantity of it (`loss_scale`, `grad_norm`, `reward_std`) leave the direction unknown. A leading
`neg` turns it round, as in scikit-learn's `neg_mean_squared_error`.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from hparams_lab.core.scalar import Goal

MORE = """
accuracy, acc, precision, average precision, avg precision, prec, recall, sensitivity, specificity, tpr, tnr, ppv,
npv, true positive rate, true negative rate, true positives, true negatives, positive predictive value, negative
predictive value, positive likelihood ratio, top1, top3, top5, top10, top 1, top 3, top 5, top 10, top k, f1, f2, f 5,
fbeta, f beta, fscore, f score, fmeasure, f measure, kappa, mcc, matthews, matthews correlation coefficient, matthews
corrcoef, auc, auroc, auprc, aupr, aucpr, pr auc, auc pr, prauc, rocauc, prc, roc, ap, aps, apm, apl, map, mar, ar,
average recall, iou, miou, io u, jaccard, giou, jaccard index, jaccard coef, dice, dsc, dice coef, dice coefficient,
psnr, peak signal noise ratio, peak signal to noise ratio, structural similarity, structural similarity index,
structural similarity index measure, ssim, msssim, bleu, sacrebleu, rouge, rougel, rougelsum, meteor, cider, spice,
chrf, bertscore, bert score, bleurt, comet, clip score, clipscore, inception score, ndcg, dcg, mrr, reciprocal rank,
hit, hits, hit rate, hitrate, hit ratio, silhouette, calinski harabasz, r2, r squared, rsquared, d2, explained
variance, pearson, pearsonr, spearman, spearmanr, kendall, correlation, correlation coefficient, pck, cosine
similarity, nmi, ami, ari, rand, adjusted mutual info, mutual info, homogeneity, completeness, v measure, fowlkes
mallows, win, wins, won, winrate, success, successes, solved, pass rate, exact match, em, uas, las, hota, mota, idf1,
pq, nds, qwk, return, returns, reward, rewards, rew, elo, eprewmean, ep ret, likelihood, log likelihood,
loglikelihood, elbo, snr, sdr, sisdr, sisnr, pesq, stoi, concordance index, c index, cindex, sharpe, sharpe ratio
"""
LESS = """
loss, losses, logloss, mlogloss, merror, error, errors, err, cost, mse, rmse, mae, mape, smape, wape, msle, rmsle,
nmse, nrmse, medae, mase, perplexity, ppl, nll, negative log likelihood, neg log likelihood, bpc, bpb, bpd, bits per
character, bits per char, bits per byte, bits per dim, cross entropy, crossentropy, xent, ce, bce, brier, fid, kid,
fvd, fad, lpips, frechet inception distance, kernel inception distance, word error rate, character error rate, char
error rate, mpjpe, nme, wer, cer, ter, der, eer, mcd, hamming, hinge, wasserstein, emd, regret, davies bouldin,
deviance, gamma deviance, poisson deviance, tweedie deviance, pinball, huber, logcosh, log cosh, kld, kl divergence,
kullback leibler, js divergence, divergence, chamfer, hausdorff, hd95, ade, fde, epe, fpr, fpr95, fnr, false positive
rate, false negative rate, false alarm rate, miss rate, false positives, false negatives, negative likelihood ratio,
misclassification, failure rate, collision rate, crash rate, ece, calibration error, silog, abs rel, sq rel, latency,
aic, bic, inertia, hploss, hpmse
"""
OTHERWISE = """
grad, grads, gradient, gradients, gradnorm, norm, norms, scale, scaler, scaling, lr, weight, weights, wd, coef, coeff,
coefficient, alpha, factor, ratio, std, stddev, stdev, sd, var, variance, deviation, threshold, time, seconds, sec,
duration, hours, speed, fps, count, counter, num, number, size, len, length, target, targets, baseline, epsilon,
temperature, decay, momentum, dropout, histogram, code, id, index, idx, gap, diff, difference, delta, change, slope,
entropy, ent, rank, percentile, bound, limit, patience, schedule, multiplier, mult, mask, discount, gamma, lambda,
inverse, inv, neg, negative, minus, memory, learning, param, params, placeholder, drop, improvement
"""
"""What a number is then, is neither better when more nor when less."""
NEUTRAL = """
val, valid, validation, validate, evaluate, evaluator, oof, xval, crossval, minival, test, testing, eval, evaluation,
dev, train, training, tr, trn, tst, holdout, held, out, unseen, heldout, epoch, epochs, batch, step, iter, iteration,
episode, episodes, episodic, ep, rollout, mean, avg, average, median, overall, total, sum, final, last, best, current,
running, smoothed, smooth, ema, raw, max, min, metric, metrics, score, scores, per, of, on, the, at, by, for, and, in,
a, global, env, environment, cumulative, undiscounted, discounted, charts, cohen, simple, l, macro, micro, weighted,
binary, categorical, sparse, multi, class, multiclass, classification, k, top, percent, pct, cv, fold, bbox, segm,
box, coco, b, m, squared, absolute, root, log, percentage, relative, symmetric, rate, value, distance, word,
character, char, phone, token, level, hp, balanced, adjusted, 5 95, pr, curve, area, under, set, data, main, my,
hparam, hparams, iterations, vs, dataloader
"""
HEADS = {"loss", "losses", "error", "errors", "err", "cost", "regret"}
"""What such a word ends is less-is-better whatever it is of: `dice_loss`, `top5_error`."""
PLACES = {"target", "targets"}
"""Of such words, those that mean nothing in the name of a directory."""
TURNS = {"neg", "negative", "minus", "negated"}

OF_DATA = ("train", "validation", "valid", "val", "testing", "test", "eval", "dev", "coco")
"""Words of data that are written together with a metric's name, too."""
_CHUNK = re.compile(r"[^\W_]+")
_SHORTEST_FORM = re.compile(
    r"(?:mIoU|IoU|mAP|mAR|CIDEr)(?![a-z])\d*|[A-Z]+(?![a-z])\d*|[A-Z]?[^\W\d_A-Z]+\d*|[^\W_]+?(?=[A-Z]|$)"
)


def _table(text: str) -> set[tuple[str, ...]]:
    return {tuple(entry.split()) for entry in " ".join(text.split()).split(",")}


_MORE, _LESS = _table(MORE) | {("hpaccuracy",)}, _table(LESS)
OTHERWISE_WORDS = {word for entry in _table(OTHERWISE) for word in entry}
NEUTRAL_WORDS = {word for entry in _table(NEUTRAL) for word in entry}
_WORDS = {entry[0] for entry in _MORE | _LESS if len(entry) == 1}
_LONGEST = max(map(len, _MORE | _LESS))


@dataclass(frozen=True, slots=True)
class Told:
    """What the words of a tag tell.

    `goal` is None where they tell no direction. `names` are the known names in it, such as "accuracy" or "log
    likelihood"; `is_plain` whether every other word is one that changes nothing, so that the direction is sure.
    """

    goal: Goal | None
    names: tuple[str, ...] = ()
    is_plain: bool = False


def goal_of_tag(tag: str) -> Goal | None:
    """The better direction of a tag whose words say it: "max" for accuracies, "min" for losses, None for the rest."""
    return told_by(tag).goal


def words_of(tag: str) -> list[list[str]]:
    """The words of a tag in lower case, by the parts between its slashes. Numbers behind a word are left out."""
    return [[*_words_of_part(part)] for part in _parts(tag)]


def numbers_of(tag: str) -> list[str]:
    """The numbers that `words_of` leaves out or that are words of their own: 50 and 95 of `mAP50-95`."""
    spelt = (word for part in _parts(tag) for chunk in _CHUNK.findall(part) for word in _spelt(chunk))
    return [number for word in spelt if word not in _WORDS for number in re.findall(r"\d+", word)]


def _parts(tag: str) -> list[str]:
    """What stands between slashes, and between dashes that have spaces around them."""
    plain = unicodedata.normalize("NFKC", tag.replace("²", "2")).replace("R^2", "R2").replace("r^2", "r2")
    plain = re.sub(r"(?<=/dataloader)_idx(?=_\d)", "", plain)  # Lightning's, of several sets of data
    return [part for part in re.split(r"/| - ", plain) if part.strip()]


def _words_of_part(part: str) -> Iterator[str]:
    for chunk in _CHUNK.findall(part):
        for spelt in _spelt(chunk):
            yield from _apart(_without_number(spelt))


def _spelt(chunk: str) -> list[str]:
    """The words of letters and digits without anything between them, in lower case."""
    whole = _without_number(chunk.lower())
    return [chunk.lower()] if whole in _WORDS else [word.lower() for word in _SHORTEST_FORM.findall(chunk)]


def _apart(word: str) -> list[str]:
    """`valloss` and `acctest` as two words."""
    if word not in _WORDS and word not in NEUTRAL_WORDS:
        for data in OF_DATA:
            if word.startswith(data) and word[len(data) :] in _WORDS:
                return [data, word[len(data) :]]
            if word.endswith(data) and word[: -len(data)] in _WORDS:
                return [word[: -len(data)], data]
    return [word]


def _without_number(word: str) -> str:
    return word if word in _WORDS else word.rstrip("0123456789") or word


@functools.lru_cache(maxsize=4096)
def told_by(tag: str) -> Told:
    """What the words of a tag tell: those behind its last slash, else all of them."""
    parts = words_of(tag)
    if not parts or re.search(r"(?<![\w.\-])1\s*-\s*[a-zA-Z]", tag):
        return Told(None)
    last = _told(parts[-1], [word for part in parts[:-1] for word in part])
    return last if last.goal or len(parts) == 1 else _told([word for part in parts for word in part], [])


def _told(words: list[str], around: list[str]) -> Told:
    first = next((place for place, word in enumerate(words) if word not in NEUTRAL_WORDS), len(words))
    turned = words[first : first + 1] and words[first] in TURNS and not _entry_at(words, first)
    if turned:
        del words[first]
    names, rest = _split(words)
    others = [*rest, *(word for word in around if word not in PLACES)]
    if OTHERWISE_WORDS & {*others}:
        return Told(None, tuple(names))
    is_plain = all(word in NEUTRAL_WORDS or word.isdecimal() for word in others)
    goal = _goal(names, is_plain and bool({"score", "scores"} & {*words}))
    if turned and goal:
        return Told("max" if goal == "min" else "min", tuple(names), is_plain and goal == "min")
    return Told(goal, tuple(names), is_plain)


def _entry_at(words: list[str], place: int) -> tuple[str, ...]:
    """The longest known name that begins there; empty without one."""
    for size in range(min(_LONGEST, len(words) - place), 0, -1):
        entry = tuple(words[place : place + size])
        if entry in _MORE or entry in _LESS:
            return entry
    return ()


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """The known names among words, and the other words."""
    names, rest, place = [], [], 0
    while place < len(words):
        entry = _entry_at(words, place)
        if entry:
            names.append(" ".join(entry))
        else:
            rest.append(words[place])
        place += len(entry) or 1
    return names, rest


def _goal(names: list[str], is_a_score: bool) -> Goal | None:
    """The direction that all known names agree on."""
    if "d2" in names:
        return "max"
    more = [name for name in names if tuple(name.split()) in _MORE]
    if len(more) == len(names):
        return "max" if more or is_a_score else None
    of_a_head = names[-1] in HEADS and not {"acc", "accuracy"} & {*more}
    return "min" if not more or of_a_head else None
