"""`report`: which sections a report has, in which order, and what each says where there is nothing to show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from hparams_lab.analysis.report import facts, page, plots
from hparams_lab.analysis.report.curves import curves
from hparams_lab.analysis.report.page import Section
from hparams_lab.analysis.report.pair import pair
from hparams_lab.analysis.report.parallel import chosen_in_words, parallel
from hparams_lab.analysis.report.plots import MOST_SLICES, Plot
from hparams_lab.analysis.report.study import Point, Study, said_with
from hparams_lab.analysis.report.text import as_html, as_html_block
from hparams_lab.core.errors import MissingExtraError
from hparams_lab.core.findings import Kind, said_of_mixed
from hparams_lab.core.names import common_part
from hparams_lab.core.present import in_units
from hparams_lab.core.scalar import telling
from hparams_lab.core.values import format_value

if TYPE_CHECKING:
    from hparams_lab.analysis.importance import Importances

MOST_ROWS, MOST_HPARAMS, MOST_METRICS = 100, 24, 8
MOST_CAUSES, MOST_FINDINGS = 12, 20
NO_TRIAL = "No trial completed with a number to rank by, so no trials are compared here."


@dataclass(frozen=True, slots=True)
class Report:
    """A page to be: its title, the HTML above the sections, and the sections."""

    title: str
    head: str
    sections: tuple[Section, ...]

    @property
    def plots(self) -> list[Plot]:
        """All plots, in their order."""
        return [plot for section in self.sections for plot in section.plots]

    def html(self, plotly_js: str) -> str:
        """The page, with plotly.js in it."""
        return page.page(self.title, self.head, self.sections, plotly_js)


def report(study: Study, predictions: Section | None = None) -> Report:
    """The report on a study; `predictions` is the section of that name."""
    found, why_not = _importance(study)
    order = _order(study, found)
    sections = [
        _answer(study, found, why_not),
        *_sweeps(study),
        *_comparisons(study, order, found, why_not),
        _curves(study),
        *([predictions] if predictions else []),
        _failures(study),
        *_findings(study),
        _trials(study),
    ]
    return Report(f"{study.name}: report", _head(study), tuple(sections))


def _importance(study: Study) -> tuple[Importances | None, str]:
    """What matters; else why it cannot be told."""
    if not study.ranked:
        return None, NO_TRIAL
    if not study.varying or len(study.points) < 2:
        return None, "No hyperparameter varies."
    from hparams_lab.analysis.importance import importance

    try:
        return importance(study.results, study.tag, study.goal, study.by), ""
    except MissingExtraError as error:
        return None, f"{error}."


def _order(study: Study, found: Importances | None) -> list[str]:
    """The hparams that vary, those that matter most first where that is known."""
    ranked = [row.name for row in found.rows] if found and found.enough else []
    rest = [name for name in study.varying if name not in ranked]
    rest.sort(key=lambda name: sum(name not in point.trial.hparams for point in study.points))
    return [*ranked, *rest]


def _head(study: Study) -> str:
    told = [facts.outcomes_in_words(study), facts.time_in_words(study)]
    made = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    said = " · ".join([*(text for text in told if text), f"report of {made}"])
    doubt = said_of_mixed(study.results.findings)
    warning = f"<p>{as_html(doubt)}</p>" if doubt else ""
    return f'<h1>{as_html(study.name)}</h1><p class="soft">{said}</p>{warning}'


def _answer(study: Study, found: Importances | None, why_not: str) -> Section:
    """The answer: the best trial, how sure that is, and what mattered."""
    best = study.best
    if best is None:
        none = f"No metric ranks: {as_html(study.why)}." if study.tag is None and study.why else NO_TRIAL
        return Section("No answer yet", f"<p>{none}</p>{_same(study)}", name="answer")
    direction = "highest" if study.goal == "max" else "lowest"
    judged = "" if str(study.by) == "last" else f", by {study.by}"
    varying = {name: best.trial.hparams[name] for name in study.varying if name in best.trial.hparams}
    body = (
        f'<p class="value">{facts.with_spread(study, best)}</p>'
        f"<p>{as_html(study.title)} of {as_html(best.trial.name)}, the {direction} of "
        f"{said_with(len(study.ranked), 'ranked trial')}{judged}</p>"
        f"{page.values(varying)}{_same(study)}{_ranked_by(study)}"
        f"<h3>How sure</h3>{page.sentences(facts.how_sure(study))}"
        f"<h3>What mattered</h3>{page.sentences(facts.what_mattered(found, why_not))}"
    )
    return Section("Best trial", body, name="answer")


def _same(study: Study) -> str:
    return f'<p class="soft">The same for all: {facts.same_in_words(study)}</p>' if study.same else ""


def _ranked_by(study: Study) -> str:
    return f'<p class="soft">{as_html(study.why[:1].upper() + study.why[1:])}.</p>' if study.why else ""


def _sweeps(study: Study) -> list[Section]:
    """The sweeps, where there are several."""
    found = facts.sweeps_in_words(study)
    rows = [
        [
            as_html(name or "."),
            f"{count:,}",
            f"{as_html(best.trial.name)}: {facts.number(best.value)}" if best else "none",
        ]
        for name, count, best in found
    ]
    return [Section("Sweeps", page.table(["sweep", "trials", "best"], rows))] if rows else []


def _comparisons(study: Study, order: Sequence[str], found: Importances | None, why_not: str) -> list[Section]:
    """The sections of how trials compare, as far as there is something to compare."""
    measured = any(math.isfinite(point.value) for point in study.points)
    history = [page.plot_section("History", plots.history(study))] if measured else []
    if len(study.ranked) < 2 or not order:
        why = "No hyperparameter varies" if not order else "One ranked trial alone cannot be compared"
        return [*history, *([page.text_section("Comparisons", f"{why}.")] if study.ranked else [])]
    return [_parallel(study, order), *history, _importance_section(found, why_not), _slices(study, order)] + (
        [_pair(study, order, found)] if len(order) > 1 else []
    )


def _parallel(study: Study, order: Sequence[str]) -> Section:
    lines = page.plot_section("Parallel coordinates", parallel(study, order))
    told = as_html(chosen_in_words(study, study.ranked[0]), 1000)
    return Section(
        lines.heading, f'{lines.body}<p class="soft">In red: <span id="chosen">{told}</span></p>', lines.plots
    )


def _importance_section(found: Importances | None, why_not: str) -> Section:
    heading = "Importance"
    if found is None:
        return page.text_section(heading, as_html(why_not))
    if not found.enough:
        return page.text_section(heading, f"{as_html(found.reason[:1].upper() + found.reason[1:])}.")
    return page.plot_section(heading, plots.importance(found))


def _slices(study: Study, order: Sequence[str]) -> Section:
    found = plots.slices(study, order)
    said = f"{as_html(study.title)} against each hyperparameter: a mark for each trial, darker where it is better"
    said += "; a red line at the mean of each value." if any(plot.figure["data"][1:] for plot in found) else "."
    if len(order) > MOST_SLICES:
        said += f" {said_with(len(order) - MOST_SLICES, 'hyperparameter')} left out."
    if len(study.ranked) > plots.MOST_IN_SLICE:
        shown = plots.MOST_IN_SLICE
        said += f" {shown:,} of {len(study.ranked):,} trials: the best {shown // 4} and a sample of the rest."
    return page.grid_section("Slices", said, found)


def _pair(study: Study, order: Sequence[str], found: Importances | None) -> Section:
    known = found is not None and found.enough
    heading = "The two that matter most" if known else "The first two that vary"
    plot = pair(study, *order[:2])
    return page.plot_section(heading, plot)


def _curves(study: Study) -> Section:
    found = curves(study)
    heading = "Learning curves"
    if not found:
        return page.text_section(heading, "No run logged a metric more than once, so there are no curves.")
    return page.choice_section(heading, found)


def _failures(study: Study) -> Section:
    found = facts.failures(study)
    if not found:
        return page.text_section("Failures", "No run failed.")
    rows = [
        [str(one.outcome), f"{len(one.runs):,}", as_html(one.cause), _common(one), _example(one)]
        for one in found[:MOST_CAUSES]
    ]
    more = (
        f'<p class="soft">{said_with(len(found) - len(rows), "rarer cause")} left out.</p>'
        if found[len(rows) :]
        else ""
    )
    return Section("Failures", page.table(["outcome", "runs", "cause", "only with", "example"], rows) + more)


def _common(failure: facts.Failure) -> str:
    return ", ".join(f"{as_html(name)} = {as_html(value)}" for name, value in failure.common.items()) or "–"


def _example(failure: facts.Failure) -> str:
    """One run of the group, with its own words and the traceback."""
    run = failure.runs[0]
    told = run.texts.get("run/outcome", "").partition("```")[2].rpartition("```")[0].strip("\n") or run.reason
    name = as_html(run.name)
    return f"<details><summary>{name}</summary><pre>{as_html_block(told)}</pre></details>" if told else name


def _findings(study: Study) -> list[Section]:
    """What is wrong with the files, where something is."""
    found = [finding for finding in study.results.findings if finding.kind is not Kind.MIXED]
    if not found:
        return []
    rows = [
        [as_html(one.file), f"{one.offset:,}", as_html(one.reason), f"{one.bytes_lost:,}"]
        for one in found[:MOST_FINDINGS]
    ]
    more = len(found) - len(rows)
    said = "What could be read of them is in this report. <code>hparams-lab doctor</code> tells more."
    said += f" {said_with(more, 'finding')} left out." if more else ""
    return [Section("Damaged files", f"<p>{said}</p>" + page.table(["file", "at byte", "what", "bytes lost"], rows))]


def _trials(study: Study) -> Section:
    """The table of the trials, best first."""
    others = [point for point in study.points if point.rank is None]
    shown = [*study.ranked, *others][:MOST_ROWS]
    hparams, metrics = study.varying[:MOST_HPARAMS], _metrics(study)
    judged = [study.title] if study.tag else []
    heads = ["rank", "trial", *judged, *hparams, *map(study.results.title, metrics), "time", "outcome"]
    common = common_part([point.trial.name for point in study.points])
    rows = [_row(study, point, hparams, metrics, common) for point in shown]
    said = [f"Runs in {as_html(common)}."] if common else []
    if len(study.points) > len(shown):
        said.append(f"The first {len(shown):,} of {len(study.points):,} trials; hparams-lab export writes all of them.")
    if len(study.varying) > len(hparams):
        said.append(f"{said_with(len(study.varying) - len(hparams), 'hyperparameter')} left out.")
    note = f'<p class="soft">{" ".join(said)}</p>' if said else ""
    best = 0 if study.ranked else None
    return Section("Trials", note + page.table([*map(as_html, heads)], rows, best))


def _metrics(study: Study) -> list[str]:
    """The other metrics: the declared ones, else the first that were logged."""
    declared = study.results.declared
    known = list(declared.metrics) if declared else list(study.results.tags)
    return [tag for tag in telling(known, study.results.runs) if tag != study.tag][:MOST_METRICS]


def _row(study: Study, point: Point, hparams: Sequence[str], metrics: Sequence[str], common: str) -> list[str]:
    trial = point.trial
    means = trial.metrics
    value = facts.with_spread(study, point) if math.isfinite(point.value) else "–"
    return [
        str(point.rank or "–"),
        as_html(trial.name.removeprefix(common)),
        *([value] if study.tag else []),
        *(as_html(format_value(trial.hparams[name])) if name in trial.hparams else "–" for name in hparams),
        *(facts.number(means[tag]) if tag in means else "–" for tag in metrics),
        "–" if trial.seconds is None else in_units(trial.seconds),
        str(trial.outcome),
    ]
