"""A `Standing` as lines for a terminal of some width: the bar, the counts, the best so far, the runs that go on."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import click

from hparams_lab.core.names import cut_apart, width_of
from hparams_lab.core.present import in_units, in_words, metrics_in_words, step_in_words, visible
from hparams_lab.sweep.progress.standing import Going, Standing

WIDEST_BAR, NARROWEST_BAR = 40, 8
WIDEST = 200
"""Lines are no longer than this, however wide the terminal is."""
LONGEST_NAME = 24
GAP = "  "


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a line, in one style."""

    text: str
    colour: str | None = None
    bold: bool = False
    dim: bool = False


Line = Sequence[Piece]


def rendered(line: Line, width: int, styled: bool = True) -> str:
    """A line in at most `width` columns, its end cut off with an ellipsis where it is longer."""
    width = min(width, WIDEST)
    room = width if sum(width_of(piece.text) for piece in line) <= width else width - 1
    parts = []
    for piece in line:
        text = clipped(piece.text, room)
        room -= width_of(text)
        parts.append(_styled(text, piece) if styled and text else text)
        if text != piece.text:
            return "".join([*parts, "…"])
    return "".join(parts)


def _styled(text: str, piece: Piece) -> str:
    if not (piece.colour or piece.bold or piece.dim):
        return text
    return click.style(text, fg=piece.colour, bold=piece.bold or None, dim=piece.dim or None)


def clipped(text: str, width: int) -> str:
    """As much of the beginning of a text as fits into so many columns."""
    text = text[: max(0, width)]
    while width_of(text) > width:
        text = text[:-1]
    return text


def bar(standing: Standing, width: int, told: str) -> Line:
    """The share of the runs that are over, drawn, in figures and with what is told beside it."""
    done, runs = standing.done, standing.runs
    figures = f"{done}/{runs}" if runs is not None else f"{done}"
    said = f"{figures} runs{GAP}{told}".rstrip()
    room = min(WIDEST_BAR, width - width_of(said) - len(GAP))
    if runs is None or room < NARROWEST_BAR:
        return [Piece(said)]
    full = room * min(done, runs) // runs if runs else room
    colour = "green" if full == room else "cyan"
    return [Piece("━" * full, colour), Piece("━" * (room - full), dim=True), Piece(f"{GAP}{said}")]


def counts(standing: Standing) -> Line:
    """How many runs are done, running, waiting and failed; how many ended otherwise, in words."""
    parts = [[Piece(f"{standing.done} done")], [Piece(f"{len(standing.running)} running", "blue")]]
    if standing.waiting is not None:
        parts.append([Piece(f"{standing.waiting} waiting")])
    parts.append([Piece(f"{standing.failed} failed", "red" if standing.failed else None)])
    return [*itertools.chain.from_iterable([[*part, Piece(GAP)] for part in parts])][:-1]


def left(standing: Standing) -> str:
    """The time left, in words; empty where it is not known or there is none."""
    seconds = standing.seconds_left
    return f"about {in_units(seconds)} left" if seconds else ""


def best_so_far(standing: Standing) -> Iterator[Line]:
    """The best run so far, where there is one."""
    best = standing.best
    if best is not None:
        value = f"{visible(best.title)} {best.value:.4g}"
        more = f"{GAP}{visible(best.name)}{GAP}{in_words(best.hparams)}"
        yield [Piece("best so far "), Piece(value, "green", bold=True), Piece(more)]


def running(standing: Standing, width: int, most: int) -> Iterator[Line]:
    """A line for each run that goes on, at most so many in all; the last tells how many have none."""
    going = standing.running
    shown = going if len(going) <= most else going[: max(0, most - 1)]
    names = cut_apart([visible(one.name) for one in shown], LONGEST_NAME)
    steps = [_step(one) for one in shown]
    times = [in_units(max(0.0, one.seconds)) for one in shown]
    metrics = [metrics_in_words(one.metrics, [*one.metrics][: 1 if width < 60 else 3]) for one in shown]
    for one, row in zip(shown, zip(*map(_aligned, (names, steps, times, metrics)), strict=True), strict=True):
        name, step, time, metric = row
        yield [
            Piece(f"{name}{GAP}", bold=True),
            Piece(f"{step}{GAP}{time}{GAP}"),
            Piece(f"{metric}{GAP * bool(metric)}", "cyan"),
            Piece(in_words(one.hparams), dim=True),
        ]
    if len(shown) < len(going) and most > 0:
        yield [Piece(f"... and {len(going) - len(shown)} more" if shown else f"{len(going)} running", dim=True)]


def _step(one: Going) -> str:
    attempt = f", attempt {one.attempt}" if one.attempt > 1 else ""
    return f"{step_in_words(one.step, one.epochs)}{attempt}"


def _aligned(texts: Sequence[str]) -> list[str]:
    """Texts as wide as the widest of them."""
    widest = max(map(width_of, texts), default=0)
    return [text + " " * (widest - width_of(text)) for text in texts]
