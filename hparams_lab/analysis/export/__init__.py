"""Tables as files: CSV, JSON, JSON lines, Parquet, Excel sheets.

Numbers are written so that reading them gives the same number. What is missing is an empty cell, or null. CSV and Excel
have `nan`, `inf` and `-inf` as pandas reads them, JSON, which lacks them, null, Parquet itself.

A text that a spreadsheet would take for a formula is a text: with a single quote before it in CSV, as a cell of text in
Excel. See https://owasp.org/www-community/attacks/CSV_Injection
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import itertools
import json
import math
import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from hparams_lab.analysis.export.sheet import write_xlsx
from hparams_lab.core.errors import MissingExtraError, UsageError
from hparams_lab.core.tables import Table
from hparams_lab.core.tables.frames import arrow_table
from hparams_lab.storage.paths import local

Tables = Iterable[Table]
"""Tables with the same columns, one after another: at least one."""


@dataclass(frozen=True, slots=True)
class Format:
    """A file format: how tables are written into an open file, which package that needs, and whether it is text."""

    write: Callable[[Tables, IO[bytes]], int]
    package: str = ""
    is_text: bool = False

    def check(self) -> None:
        """Raise MissingExtraError when the package is not installed."""
        if self.package and importlib.util.find_spec(self.package) is None:
            raise MissingExtraError.of(self.package, "parquet")


def format_of(path: str | Path) -> Format:
    """The format that the end of a file's name says. Raises UsageError."""
    found = FORMATS.get(Path(path).suffix.lower())
    if found is None:
        raise UsageError(f"{path} does not say what to write; end it with one of {', '.join(FORMATS)}")
    return found


def export(tables: Tables, path: str | Path, *, force: bool = False) -> int:
    """Write tables to a file in the format of its name, whole or not at all; the number of rows.

    Raises UsageError for an unknown format, a file that is there already (without `force`) or cannot be written, and
    more rows than an Excel sheet has; MissingExtraError without the package that the format needs.
    """
    path = local(path, UsageError)
    chosen = format_of(path)
    chosen.check()
    with appearing(path, force) as file:
        return chosen.write(tables, file)


def check_target(path: Path, force: bool) -> None:
    """Raise UsageError when no file can or may be made at `path`."""
    if path.is_dir():
        raise UsageError(f"{path} is a directory; name a file in it")
    if not path.parent.is_dir():
        raise UsageError(f"{path} cannot be written: there is no directory {path.parent}; make it, or name another")
    if path.exists() and not path.is_file():
        raise UsageError(f"{path} is a device or a pipe, which cannot be replaced; name a file")
    if os.path.lexists(path) and not force:
        raise UsageError(f"{path} is there already; --force replaces it")


@contextlib.contextmanager
def appearing(path: Path, force: bool) -> Iterator[IO[bytes]]:
    """A file to write that stands at `path` once all is written, and leaves nothing when that fails."""
    check_target(path, force)
    name = f".{os.getpid()}-{secrets.token_hex(4)}.part"  # short: the name beside it may be as long as names can be
    temporary = path.with_name(name)
    try:
        with open(temporary, "xb") as file:
            yield file
        os.replace(temporary, path)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}; choose another place") from None
    finally:
        temporary.unlink(missing_ok=True)


# --- text -----------------------------------------------------------------------------------------------------------


def write_csv(tables: Tables, file: IO[bytes]) -> int:
    """Write as CSV with one line of names (RFC 4180, but with plain line feeds), UTF-8."""
    rows = 0
    for number, table in enumerate(tables):
        if number == 0:
            file.write(f"{','.join(map(csv_cell, table.names))}\n".encode())
        rows += _write_lines(map(",".join, _cells(table, csv_cell)), file)
    return rows


def csv_cell(cell: Any) -> str:
    """A cell of CSV: numbers as they are, texts made safe."""
    if cell is None:
        return ""
    return _csv_text(cell) if isinstance(cell, str) else repr(cell)


@functools.lru_cache(maxsize=4096)
def _csv_text(text: str) -> str:
    safe = f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
    return '"' + safe.replace('"', '""') + '"' if re.search('[,"\r\n]', safe) else safe


def write_jsonl(tables: Tables, file: IO[bytes]) -> int:
    """Write as one JSON object a line."""
    return sum(_write_lines(_objects(table), file) for table in tables)


def write_json(tables: Tables, file: IO[bytes]) -> int:
    """Write as one JSON array of objects, each on a line."""
    objects = itertools.chain.from_iterable(map(_objects, tables))
    first = next(objects, None)
    if first is None:
        file.write(b"[]\n")
        return 0
    file.write(b"[\n" + first.encode())
    rows = 1 + _write_lines((f",\n{each}" for each in objects), file, end="")
    file.write(b"\n]\n")
    return rows


def _objects(table: Table) -> Iterator[str]:
    names = (json_cell(name).replace("%", "%%") for name in table.names)
    template = "{" + ", ".join(f"{name}: %s" for name in names) + "}"
    return map(template.__mod__, _cells(table, json_cell))


def json_cell(cell: Any) -> str:
    """A cell of strict JSON."""
    if isinstance(cell, float):
        return repr(cell) if math.isfinite(cell) else "null"
    return _json_text(cell)


_json_text = functools.lru_cache(maxsize=4096, typed=True)(json.JSONEncoder(ensure_ascii=False).encode)


def _cells(table: Table, written: Callable[[Any], str]) -> Iterator[tuple[str, ...]]:
    """The rows, each cell as it is written."""
    return zip(*(map(written, column.plain()) for column in table.columns), strict=True)


LINES = 20_000


def _write_lines(lines: Iterator[str], file: IO[bytes], end: str = "\n") -> int:
    """Write lines by the thousand; how many they were."""
    count = 0
    while some := list(itertools.islice(lines, LINES)):
        count += len(some)
        file.write((end.join(some) + end).encode())
    return count


# --- Parquet --------------------------------------------------------------------------------------------------------


def write_parquet(tables: Tables, file: IO[bytes]) -> int:
    """Write as Parquet, a row group per table."""
    import pyarrow.parquet

    rows = 0
    with contextlib.ExitStack() as stack:
        writer = None
        for table in map(arrow_table, tables):
            if writer is None:
                writer = stack.enter_context(pyarrow.parquet.ParquetWriter(file, table.schema))
            writer.write_table(table)
            rows += table.num_rows
    return rows


FORMATS: dict[str, Format] = {
    ".csv": Format(write_csv, is_text=True),
    ".json": Format(write_json, is_text=True),
    ".jsonl": Format(write_jsonl, is_text=True),
    ".parquet": Format(write_parquet, "pyarrow"),
    ".xlsx": Format(functools.partial(write_xlsx, write_lines=_write_lines)),
}
"""By the end of the file's name."""
