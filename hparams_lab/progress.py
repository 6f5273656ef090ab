"""How a sweep looks while it goes on: live bars on a terminal, plain lines elsewhere, JSON lines for machines."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import IO, Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from hparams_lab.experiment import Experiment
from hparams_lab.results import Outcome, RunResult
from hparams_lab.sweep_events import (
    Observer,
    RunEnded,
    RunReported,
    RunStarted,
    SweepEnded,
    SweepEvent,
    SweepStarted,
    SweepStopping,
)
from hparams_lab.words import COLOURS, dump, in_units, in_words, metrics_in_words, run_as_json


@contextlib.contextmanager
def progress(as_json: bool = False, file: IO[str] | None = None) -> Iterator[Observer]:
    """An observer that shows the events it is given, as suits where they go (standard output when left out)."""
    file = file or sys.stdout
    if as_json:
        yield lambda event: _print_json(event, file)
    elif file.isatty():
        with _LiveView(Console(file=file)) as view:
            yield view.take
    else:
        yield _PlainView(file).take


def event_as_json(event: SweepEvent) -> dict[str, Any] | None:
    """An event as plain JSON; None for those that machines have no use for."""
    if isinstance(event, SweepStarted):
        return {"event": "sweep_started", "logdir": str(event.logdir), "runs": event.total, "done": len(event.done)}
    if isinstance(event, RunStarted):
        return {"event": "run_started", "run": event.spec.name, "hparams": dict(event.spec.trial.hparams)}
    if isinstance(event, RunReported):
        return {"event": "run_reported", "run": event.name, "step": event.step, "metrics": dict(event.metrics)}
    if isinstance(event, RunEnded):
        return {"event": "run_ended", **run_as_json(event.result)}
    if isinstance(event, SweepStopping):
        return {"event": "sweep_stopping", "running": list(event.running)}
    best = event.results.best()
    found = {"run": best.name, "hparams": dict(best.hparams), "metrics": best.metrics} if best else None
    outcomes = [str(run.outcome) for run in event.results.runs]
    counts = {outcome: outcomes.count(outcome) for outcome in dict.fromkeys(outcomes)}
    return {
        "event": "sweep_ended",
        "seconds": round(event.seconds, 3),
        "interrupted": event.interrupted,
        "outcomes": counts,
        "best": found,
    }


def _print_json(event: SweepEvent, file: IO[str]) -> None:
    found = event_as_json(event)
    if found is not None:
        print(dump(found), file=file, flush=True)


def stopping_in_words(event: SweepStopping) -> str:
    """What a person is told who pressed Ctrl-C."""
    return f"Ctrl-C: waiting for {len(event.running)} running; press it again to stop them"


class _PlainView:
    """One line per start of the sweep and end of a run."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._count = 0
        self._total = "?"
        self._experiment: Experiment | None = None
        self._tags: list[str] = []

    def take(self, event: SweepEvent) -> None:
        if isinstance(event, SweepStarted):
            self._experiment = event.experiment
            self._tags = [metric.tag for metric in event.experiment.metrics]
            self._count, self._total = len(event.done), str(event.total or "?")
            skipped = f", {len(event.done)} done before" if event.done else ""
            self._say(f"{self._total} runs into {event.logdir}{skipped}")
        elif isinstance(event, SweepStopping):
            self._say(stopping_in_words(event))
        elif isinstance(event, RunEnded):
            self._count += 1
            run = event.result
            said = metrics_in_words(run.metrics, self._tags) if run.outcome is Outcome.COMPLETED else run.reason
            values = in_words(run.hparams, self._experiment)
            seconds = f"{run.seconds or 0:.1f} s"
            self._say(f"[{self._count}/{self._total}] {run.name} {run.outcome} {seconds}  {said}  ({values})")

    def _say(self, text: str) -> None:
        print(text, file=self._file, flush=True)


class _LiveView:
    """A bar for the sweep, a line for each run under way, the best so far."""

    def __init__(self, console: Console) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("runs"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
        )
        self._task = self._bar.add_task("sweep", total=None, left="")
        self._getting_ready = Spinner("dots", "getting ready: importing, checking the data")
        self._is_over = False
        self._console = console
        self._running: dict[str, tuple[RunStarted, RunReported | None, float]] = {}
        self._seconds: list[float] = []
        self._best: RunResult | None = None
        self._experiment: Experiment | None = None
        self._live = Live(get_renderable=self._render, console=console, refresh_per_second=8)

    def __enter__(self) -> _LiveView:
        self._live.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._running.clear()
        self._live.__exit__(*error)

    def take(self, event: SweepEvent) -> None:
        if isinstance(event, SweepStarted):
            self._experiment = event.experiment
            self._bar.update(self._task, total=event.total, completed=len(event.done))
            for run in event.done:
                self._note_best(run)
        elif isinstance(event, RunStarted):
            self._running[event.spec.name] = (event, None, time.monotonic())
        elif isinstance(event, RunReported) and event.name in self._running:
            started, _, since = self._running[event.name]
            self._running[event.name] = (started, event, since)
        elif isinstance(event, RunEnded):
            self._end(event.result)
        elif isinstance(event, SweepStopping):
            self._console.print(Text(stopping_in_words(event), "yellow"))
        elif isinstance(event, SweepEnded):
            self._is_over = True
            self._bar.update(self._task, description="stopped" if event.interrupted else "done")

    def _end(self, run: RunResult) -> None:
        at_once = max(1, len(self._running))
        self._running.pop(run.name, None)
        self._bar.advance(self._task)
        self._seconds.append(run.seconds or 0.0)
        task = self._bar.tasks[0]
        if task.total:
            left = (task.total - task.completed) * sum(self._seconds) / len(self._seconds) / at_once
            self._bar.update(self._task, left=f"about {in_units(left)} left" if left else "")
        self._note_best(run)
        if run.outcome is not Outcome.COMPLETED:
            colour = COLOURS.get(run.outcome, "red")
            self._console.print(Text.assemble((f"{run.name} {run.outcome}", colour), f": {run.reason}"))

    def _note_best(self, run: RunResult) -> None:
        assert self._experiment is not None
        metric = self._experiment.objective_metric
        value = run.metrics.get(metric.tag)
        if run.outcome is not Outcome.COMPLETED or value is None:
            return
        sign = -1 if metric.goal == "max" else 1
        if self._best is None or sign * value < sign * self._best.metrics[metric.tag]:
            self._best = run

    def _render(self) -> Group:
        if self._experiment is None:
            return Group(self._getting_ready)
        parts: list[Any] = [self._bar]
        if self._running:
            parts.append(self._running_rows())
        if self._best is not None and not self._is_over:
            value = f"{self._experiment.objective} {self._best.metrics[self._experiment.objective]:.4g}"
            values = in_words(self._best.hparams, self._experiment)
            words = Text.assemble(("best so far ", "green"), (value, "bold green"), f"  {self._best.name}  {values}")
            words.no_wrap, words.overflow = True, "ellipsis"
            parts.append(words)
        return Group(*parts)

    def _running_rows(self) -> Table:
        """A line for each run under way, as much of it as fits."""
        rows = Table.grid(padding=(0, 2), expand=True)
        for _ in range(4):
            rows.add_column(no_wrap=True)
        rows.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        for name, (started, reported, since) in self._running.items():
            seen = f"step {reported.step}" if reported else "starting"
            metrics = metrics_in_words(reported.metrics, list(reported.metrics)[:2]) if reported else ""
            values = in_words(started.spec.trial.hparams, self._experiment)
            time_taken = f"{time.monotonic() - since:.0f} s"
            rows.add_row(Text(name, "bold"), time_taken, seen, Text(metrics, "cyan"), Text(values, "dim"))
        return rows
