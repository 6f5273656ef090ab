"""Results as rows and columns: a row per run, per trial or per point, for pandas, Arrow, a file or a notebook.

A column is called what it holds: `run`, `outcome`, ..., an hparam by its name, a metric by its tag. Only where two of
these have the same name do the hparam and the metric get a prefix: `hparam.loss`, `metric.loss`.

Whole numbers, numbers, bools and texts have columns of their types; a column of mixed types is one of text. A value
that a run lacks, and `None`, is missing: NA in pandas, null in Arrow.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hparams_lab.core.curve import Scalars

if TYPE_CHECKING:
    from hparams_lab.core.results import Results, RunResult, TrialResult

Kind: TypeAlias = Literal["int", "float", "bool", "text", "time"]
Cells: TypeAlias = Sequence[Any] | NDArray[Any]

PIECE = 1 << 18
"""Points of one table, where they come in several: about 50 MB while they are written."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its name, its cells (None where there is none; a `time` in seconds since 1970), and what they are."""

    name: str
    cells: Cells
    kind: Kind

    @classmethod
    def of(cls, name: str, cells: Iterable[Any], kind: Kind | None = None) -> Column:
        """A column of plain values, of the kind that holds them all when none is given."""
        plain = [_encodable(cell) if isinstance(cell, str) else cell for cell in cells]
        return cls(_encodable(name), plain, kind or kind_of(plain))

    def plain(self) -> list[Any]:
        """The cells as plain Python, times as ISO 8601 in UTC."""
        if self.kind == "time":
            texts = np.datetime_as_string(times(self.cells), unit="us", timezone="UTC").tolist()
            return [None if text == "NaT" else text for text in texts]
        return list(self.cells.tolist() if isinstance(self.cells, np.ndarray) else self.cells)


@dataclass(frozen=True, slots=True)
class Table:
    """Columns of one length."""

    columns: tuple[Column, ...]

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return [column.name for column in self.columns]

    def __len__(self) -> int:
        return len(self.columns[0].cells)


def kind_of(cells: Iterable[Any]) -> Kind:
    """The narrowest kind that holds all cells; text for mixed ones."""
    types = {type(cell) for cell in cells} - {type(None)}
    if types == {bool}:
        return "bool"
    if types == {int}:
        return "int"
    return "float" if types and types <= {int, float} else "text"


def times(seconds: Cells) -> NDArray[np.datetime64]:
    """Seconds since 1970 in microseconds; what is no time before the year 10000 is missing."""
    numbers = np.array([math.nan if cell is None else cell for cell in seconds], np.float64)
    fine = (numbers >= 0) & (numbers < 253_402_300_800)
    micros = np.round(np.where(fine, numbers, 0) * 1e6).astype("datetime64[us]")
    return np.where(fine, micros, np.datetime64("NaT", "us"))


def _encodable(text: str) -> str:
    """`text` as UTF-8 can hold it: a file's name may be any bytes."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def runs_table(
    results: Results, trials: Sequence[TrialResult] | None = None, tags: Sequence[str] | None = None
) -> Table:
    """One row per run, of these trials (all when left out), with a column for each of the tags (all when left out)."""
    runs = _runs(results, trials)
    fixed = _sweep_column(results, [run.sweep for run in runs])
    fixed += [
        Column.of("run", (run.name for run in runs), "text"),
        Column.of("trial", (run.trial_id for run in runs), "text"),
        Column.of("outcome", (str(run.outcome) for run in runs), "text"),
        Column.of("reason", (run.reason or None for run in runs), "text"),
        Column("started", [run.started for run in runs], "time"),
        Column("ended", [run.ended for run in runs], "time"),
        Column("seconds", [run.seconds for run in runs], "float"),
    ]
    tags = logged_tags(results) if tags is None else tags
    metrics = {tag: Column.of(tag, (run.metrics.get(tag) for run in runs), "float") for tag in tags}
    return _named(fixed, _hparam_columns(results, [run.hparams for run in runs]), metrics)


def trials_table(
    results: Results, trials: Sequence[TrialResult] | None = None, tags: Sequence[str] | None = None
) -> Table:
    """One row per trial: each metric's mean over its `n` runs, and its spread where there is one.

    The spread of `loss`, its sample standard deviation, is in `loss.spread`. Where some runs of a trial lack it, how
    many have it is in `loss.n`: mean and spread are over these.
    """
    which = results.trials if trials is None else trials
    fixed = _sweep_column(results, [trial.sweep for trial in which])
    fixed += [
        Column.of("trial", (trial.id for trial in which), "text"),
        Column.of("run", (trial.name for trial in which), "text"),
        Column("n", [len(trial.runs) for trial in which], "int"),
        Column.of("outcome", (str(trial.outcome) for trial in which), "text"),
        Column("seconds", [trial.seconds for trial in which], "float"),
    ]
    means = [trial.metrics for trial in which]
    tags = logged_tags(results) if tags is None else tags
    metrics = {tag: Column.of(tag, (found.get(tag) for found in means), "float") for tag in tags}
    if any(len(trial.runs) > 1 for trial in which):
        metrics = dict(_with_spreads(metrics, which, means))
    return _named(fixed, _hparam_columns(results, [trial.hparams for trial in which]), metrics)


def _with_spreads(
    metrics: Mapping[str, Column], trials: Sequence[TrialResult], means: Sequence[Mapping[str, float]]
) -> Iterator[tuple[str, Column]]:
    for tag, column in metrics.items():
        yield tag, column
        pairs = zip(trials, means, strict=True)
        spreads = [trial.spread(tag) if tag in found else None for trial, found in pairs]
        yield f"{tag}\0spread", Column.of(f"{tag}.spread", spreads, "float")
        counts = [len(trial.runs_with(tag)) for trial in trials]
        if any(0 < count < len(trial.runs) for count, trial in zip(counts, trials, strict=True)):
            yield f"{tag}\0n", Column.of(f"{tag}.n", counts, "int")


def point_tables(
    results: Results, trials: Sequence[TrialResult] | None = None, piece: int | None = PIECE
) -> Iterator[Table]:
    """One row per point: run, tag, step, wall_time (seconds since 1970), value.

    They come in tables of about `piece` points, so that a file is written in bounded memory; in one for None.
    """
    waiting: list[tuple[RunResult, str, Scalars]] = []
    count = 0
    for run, tag, points in _curves(_runs(results, trials), piece):
        if piece is not None and waiting and count + len(points.values) > piece:
            yield _points(results, waiting)
            waiting, count = [], 0
        waiting.append((run, tag, points))
        count += len(points.values)
    yield _points(results, waiting)


def _curves(runs: Iterable[RunResult], piece: int | None) -> Iterator[tuple[RunResult, str, Scalars]]:
    """The curves of the runs, none longer than `piece`."""
    for run in runs:
        for tag, points in run.columns.items():
            length = len(points.values)
            for begin in range(0, length, piece or length):
                yield run, tag, points.taken(slice(begin, begin + (piece or length)))


def _points(results: Results, curves: Sequence[tuple[RunResult, str, Scalars]]) -> Table:
    lengths = [len(points.values) for _, _, points in curves]

    def repeated(texts: Iterable[str]) -> NDArray[Any]:
        once = np.empty(len(curves), object)
        once[:] = [_encodable(text) for text in texts]
        return np.repeat(once, np.array(lengths, np.int64))

    def joined(field: int, dtype: Any) -> NDArray[Any]:
        return np.concatenate([np.empty(0, dtype), *(points[field] for _, _, points in curves)])

    columns = [Column("run", repeated(run.name for run, _, _ in curves), "text")]
    if _has_sweeps(results):
        columns.insert(0, Column("sweep", repeated(run.sweep for run, _, _ in curves), "text"))
    columns += [
        Column("tag", repeated(tag for _, tag, _ in curves), "text"),
        Column("step", joined(0, np.int64), "int"),
        Column("wall_time", joined(1, np.float64), "float"),
        Column("value", joined(2, np.float64), "float"),
    ]
    return Table(tuple(columns))


def _runs(results: Results, trials: Sequence[TrialResult] | None) -> Sequence[RunResult]:
    return results.runs if trials is None else [run for trial in trials for run in trial.runs]


def _has_sweeps(results: Results) -> bool:
    return any(run.sweep for run in results.runs)


def _sweep_column(results: Results, sweeps: Sequence[str]) -> list[Column]:
    return [Column.of("sweep", sweeps, "text")] if _has_sweeps(results) else []


def logged_tags(results: Results) -> list[str]:
    """The logged tags: the objective, what is declared, then the others."""
    logged = results.tags
    declared = [each for each in (results.declared, *results.sweeps.values()) if each]
    order = [each.objective for each in declared] + [tag for each in declared for tag in each.metrics]
    return [tag for tag in dict.fromkeys([*order, *logged]) if tag in logged]


def _hparam_columns(results: Results, rows: Sequence[Mapping[Any, Any]]) -> dict[str, Column]:
    """The hparams that runs have: what is declared in its order, then the others."""
    there = dict.fromkeys(name for run in results.runs for name in run.hparams)
    declared = [name for each in (results.declared, *results.sweeps.values()) if each for name in each.hparams]
    names = [name for name in dict.fromkeys([*declared, *there]) if name in there]
    return {name: Column.of(name, (row.get(name) for row in rows)) for name in names}


def _named(fixed: Sequence[Column], hparams: Mapping[str, Column], metrics: Mapping[str, Column]) -> Table:
    """All columns, those prefixed that have another's name."""
    every = [*fixed, *hparams.values(), *metrics.values()]
    count = Counter(column.name for column in every)
    taken = set(count)

    def free(column: Column, prefix: str) -> Column:
        name = column.name
        while count[column.name] > 1 and name in taken:
            name = f"{prefix}.{name}"
        taken.add(name)
        return Column(name, column.cells, column.kind)

    renamed = [free(column, "hparam") for column in hparams.values()]
    return Table((*fixed, *renamed, *(free(column, "metric") for column in metrics.values())))
