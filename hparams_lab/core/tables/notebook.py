"""`Results` as a notebook shows it: the best trials as a small HTML table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

from hparams_lab.core.errors import UsageError
from hparams_lab.core.outcome import Outcome
from hparams_lab.core.present import Counts, runs_in_words, visible
from hparams_lab.core.scalar import telling
from hparams_lab.core.tables import logged_tags
from hparams_lab.core.values import told_apart

if TYPE_CHECKING:
    from hparams_lab.core.results import Results, TrialResult

SHOWN_TRIALS = 10
SHOWN_HPARAMS = 8
SHOWN_METRICS = 4


def to_html(results: Results) -> str:
    """The best trials as a small HTML table, every text escaped."""
    trials = results.trials
    if not trials:
        return "<p>no trials yet</p>"
    ranking, ranked, shown = _ranked(results)
    rows = "".join(_row("td", cells) for cells in zip(*_html_columns(results, ranking, ranked, shown), strict=True))
    head = _row("th", _html_heads(results, ranking))
    return f"<table><thead>{head}</thead><tbody>{rows}</tbody></table><p>{escape(_summary(results, len(shown)))}</p>"


def _ranked(results: Results) -> tuple[str | None, int, list[TrialResult]]:
    """The metric that ranks, how many trials it ranks, and the best ones; the first ones where none ranks."""
    try:
        tag = results.objective
        ranked, others = results.order(tag, results.goal(tag))
        return tag, len(ranked), [*ranked, *others][:SHOWN_TRIALS]
    except UsageError:
        return None, 0, list(results.trials[:SHOWN_TRIALS])


def _html_heads(results: Results, ranking: str | None) -> list[str]:
    metrics = [results.title(tag) for tag in _shown_metrics(results, ranking)]
    return ["rank", "run", *metrics, *_shown_hparams(results), "time", "outcome"]


def _html_columns(
    results: Results, ranking: str | None, ranked: int, trials: Sequence[TrialResult]
) -> list[list[str]]:
    ranks = [str(place) if place <= ranked else "-" for place in range(1, len(trials) + 1)]
    metrics = [[_measured(trial, tag) for trial in trials] for tag in _shown_metrics(results, ranking)]
    hparams = [told_apart([trial.hparams.get(name, "-") for trial in trials]) for name in _shown_hparams(results)]
    times = ["-" if trial.seconds is None else f"{trial.seconds:.1f} s" for trial in trials]
    return [
        ranks,
        [trial.name for trial in trials],
        *metrics,
        *hparams,
        times,
        [str(trial.outcome) for trial in trials],
    ]


def _shown_metrics(results: Results, ranking: str | None) -> list[str]:
    others = telling(logged_tags(results), results.runs)
    return list(dict.fromkeys([*([ranking] if ranking else []), *others]))[:SHOWN_METRICS]


def _shown_hparams(results: Results) -> list[str]:
    return results.varying()[0][:SHOWN_HPARAMS]


def _measured(trial: TrialResult, tag: str) -> str:
    """A metric as mean ± spread."""
    mean, spread, runs = trial.metrics.get(tag), trial.spread(tag), runs_in_words(trial, tag)
    if mean is None:
        return "-"
    said = f"{mean:.4g}" if spread is None else f"{mean:.4g} ± {spread:.2g}"
    return said if runs == "1" else f"{said} (n={runs})"


def _row(cell: str, texts: Iterable[str]) -> str:
    return "<tr>" + "".join(f"<{cell}>{escape(visible(text))}</{cell}>" for text in texts) + "</tr>"


def _summary(results: Results, shown: int) -> str:
    outcomes = [trial.outcome for trial in results.trials]
    said = ", ".join(f"{outcomes.count(outcome)} {outcome}" for outcome in Outcome if outcome in outcomes)
    more = f"; the first {shown} are shown" if shown < len(outcomes) else ""
    return f"{Counts.of(results)}: {said}{more}"
