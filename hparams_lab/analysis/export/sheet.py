"""Excel files of one sheet, as Office Open XML: a ZIP archive of a few fixed parts, and the cells.

    <row><c t="inlineStr"><is><t>text</t></is></c><c><v>0.1</v></c><c s="1"><v>45000.5</v></c></row>

Written here, since the packages that do so keep 16 digits of a number, and take two minutes for a million rows.
Source: ECMA-376 part 1, 18.3.1 https://ecma-international.org/publications-and-standards/standards/ecma-376/
"""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import IO, Any
from xml.sax.saxutils import escape

from hparams_lab.core.errors import UsageError
from hparams_lab.core.tables import Column, Table

MOST_ROWS = 1_048_576
MOST_COLUMNS = 16_384
LONGEST_TEXT = 32_767
"""https://support.microsoft.com/office/1672b34d-7043-467e-8e27-269d656771c3"""

_DAY = 86_400
_DAYS_TO_1970 = 25_569  # from the last day of 1899, Excel's day 0 for every day after February 1900

_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml"
_HEAD = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'

_PARTS = {
    "[Content_Types].xml": f'<Types xmlns="{_PACKAGE}/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    f'<Override PartName="/xl/workbook.xml" ContentType="{_TYPE}.sheet.main+xml"/>'
    f'<Override PartName="/xl/styles.xml" ContentType="{_TYPE}.styles+xml"/>'
    f'<Override PartName="/xl/worksheets/sheet1.xml" ContentType="{_TYPE}.worksheet+xml"/></Types>',
    "_rels/.rels": f'<Relationships xmlns="{_PACKAGE}/relationships">'
    f'<Relationship Id="rId1" Type="{_OFFICE}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
    "xl/workbook.xml": f'<workbook xmlns="{_MAIN}" xmlns:r="{_OFFICE}"><sheets>'
    '<sheet name="hparams_lab" sheetId="1" r:id="rId1"/></sheets></workbook>',
    "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{_PACKAGE}/relationships">'
    f'<Relationship Id="rId1" Type="{_OFFICE}/worksheet" Target="worksheets/sheet1.xml"/>'
    f'<Relationship Id="rId2" Type="{_OFFICE}/styles" Target="styles.xml"/></Relationships>',
    "xl/styles.xml": f'<styleSheet xmlns="{_MAIN}">'  # style 0: as it is; style 1: a time
    '<numFmts count="1"><numFmt numFmtId="164" formatCode="yyyy\\-mm\\-dd\\ hh:mm:ss"/></numFmts>'
    '<fonts count="1"><font/></fonts>'
    '<fills count="2"><fill><patternFill patternType="none"/></fill><fill><patternFill patternType="gray125"/></fill>'
    '</fills><borders count="1"><border/></borders><cellStyleXfs count="1"><xf/></cellStyleXfs>'
    '<cellXfs count="2"><xf/><xf numFmtId="164" applyNumberFormat="1"/></cellXfs>'
    '<cellStyles count="1"><cellStyle name="Normal" xfId="0" builtinId="0"/></cellStyles></styleSheet>',
}
_BEGIN = (
    f'<worksheet xmlns="{_MAIN}"><sheetViews><sheetView workbookViewId="0">'
    '<pane ySplit="1" topLeftCell="A2" activePane="bottomLeft" state="frozen"/></sheetView></sheetViews><sheetData>\n'
)
_END = "</sheetData></worksheet>\n"


def write_xlsx(tables: Iterable[Table], file: IO[bytes], write_lines: Callable[[Iterator[str], IO[bytes]], int]) -> int:
    """Write as one sheet, times as Excel's dates in UTC; the number of rows.

    Raises UsageError when a sheet has not so many rows or columns.
    """
    some = _that_fit(tables)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as book:
        for name, text in _PARTS.items():
            book.writestr(name, _HEAD + text)
        with book.open("xl/worksheets/sheet1.xml", "w", force_zip64=True) as sheet:
            sheet.write(f"{_HEAD}{_BEGIN}<row>{''.join(map(text_cell, some[0].names))}</row>\n".encode())
            rows = sum(write_lines(_rows(table), sheet) for table in some)
            sheet.write(_END.encode())
    return rows


def _that_fit(tables: Iterable[Table]) -> list[Table]:
    kept: list[Table] = []
    for table in tables:
        kept.append(table)
        rows = 1 + sum(map(len, kept))
        if rows > MOST_ROWS or len(table.columns) > MOST_COLUMNS:
            raise UsageError(
                f"an Excel sheet has {MOST_ROWS:,} rows and {MOST_COLUMNS:,} columns, and these are at least "
                f"{rows:,} and {len(table.columns):,}; write .csv or .parquet"
            )
    return kept


def _rows(table: Table) -> Iterator[str]:
    cells = zip(*map(_written, table.columns), strict=True)
    return (f"<row>{''.join(row)}</row>" for row in cells)


def _written(column: Column) -> Iterator[str]:
    return map(
        _time_cell if column.kind == "time" else _cell, column.cells if column.kind == "time" else column.plain()
    )


def _cell(cell: Any) -> str:
    """A cell of any other kind; numbers that Excel lacks are texts, which pandas reads as what they are."""
    if cell is None:
        return "<c/>"
    if isinstance(cell, bool):
        return f'<c t="b"><v>{int(cell)}</v></c>'
    if isinstance(cell, str):
        return text_cell(cell)
    return f"<c><v>{cell!r}</v></c>" if math.isfinite(cell) else text_cell(repr(cell))


def _time_cell(seconds: float | None) -> str:
    if seconds is None or not 0 <= seconds < 253_402_300_800:
        return "<c/>"
    return f'<c s="1"><v>{seconds / _DAY + _DAYS_TO_1970!r}</v></c>'


_NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


_MORE = {"\r": "&#13;"}


@lru_cache(maxsize=4096)
def text_cell(text: str) -> str:
    """A cell of text, whatever it looks like."""
    plain = _NO_XML.sub("\ufffd", text[:LONGEST_TEXT])
    return f'<c t="inlineStr"><is><t xml:space="preserve">{escape(plain, _MORE)}</t></is></c>'
