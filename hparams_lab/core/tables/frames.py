"""Tables as pandas and Arrow have them: the two are imported when they are asked for."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from hparams_lab.core.errors import MissingExtraError
from hparams_lab.core.tables import Cells, Column, Table, point_tables, runs_table, times

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from hparams_lab.core.results import Results


def to_pandas(results: Results, scalars: bool = False) -> pd.DataFrame:
    """A row per run, or per point. Raises MissingExtraError without pandas."""
    try:
        import pandas
    except ImportError:
        raise MissingExtraError.of("pandas", "parquet") from None
    table = next(point_tables(results, piece=None)) if scalars else runs_table(results)
    return pandas.DataFrame({column.name: _pandas_array(pandas, column) for column in table.columns})


def to_arrow(results: Results, scalars: bool = False) -> pa.Table:
    """A row per run, or per point. Raises MissingExtraError without pyarrow."""
    if not scalars:
        return arrow_table(runs_table(results))
    import_arrow()
    import pyarrow

    return pyarrow.concat_tables(arrow_table(table) for table in point_tables(results))


def import_arrow() -> None:
    """Raises MissingExtraError without pyarrow."""
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise MissingExtraError.of("pyarrow", "parquet") from None


def arrow_table(table: Table) -> pa.Table:
    """The table as Arrow holds it. Raises MissingExtraError without pyarrow."""
    import_arrow()
    import pyarrow

    types = {
        "int": pyarrow.int64(), "float": pyarrow.float64(), "bool": pyarrow.bool_(),
        "text": pyarrow.string(), "time": pyarrow.timestamp("us", tz="UTC"),
    }  # fmt: skip
    arrays = [pyarrow.array(_typed(column), types[column.kind]) for column in table.columns]
    return pyarrow.Table.from_arrays(arrays, names=table.names)


def _pandas_array(pandas: Any, column: Column) -> Any:
    cells = _typed(column)
    if column.kind == "time":
        return pandas.DatetimeIndex(cells).tz_localize("UTC")
    if column.kind == "float":
        return np.array([math.nan if cell is None else cell for cell in cells]) if isinstance(cells, list) else cells
    return pandas.array(cells, dtype={"int": "Int64", "bool": "boolean", "text": "string"}[column.kind])


def _typed(column: Column) -> Cells:
    """The cells as their kind says: times as NumPy has them, all of a text column as text."""
    if column.kind == "time":
        return times(column.cells)
    if column.kind == "text" and not isinstance(column.cells, np.ndarray):
        return [None if cell is None else str(cell) for cell in column.cells]
    return column.cells
