"""The plots as PNG files, drawn by plotly.js in a headless Chrome through kaleido."""

from __future__ import annotations

import asyncio
import importlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hparams_lab.analysis.report.plots import Plot
from hparams_lab.core.errors import MissingExtraError, UsageError

WIDTH, SCALE = 900, 2
NO_CHROME = (
    "the pictures of --png are drawn by Chrome, and none was found; install chromium (or run plotly_get_chrome), "
    "or leave out --png"
)


def check_pictures(folder: Path, plots: Sequence[Plot], force: bool) -> None:
    """Refuse a folder that cannot be written or whose pictures would be replaced, and missing packages."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"the folder of the pictures {folder} is a file; name a directory with --png")
    there = [plot.name for plot in plots if (folder / f"{plot.name}.png").exists()]
    if there and not force:
        raise UsageError(f"{folder / there[0]}.png exists; name another folder with --png, or --force replaces it")
    _kaleido()


def _kaleido() -> Any:
    """The package, which has no types."""
    try:
        return importlib.import_module("kaleido")
    except ModuleNotFoundError:
        raise MissingExtraError.of("kaleido, which draws the pictures,", "report") from None


def draw_pictures(plots: Sequence[Plot]) -> dict[str, bytes]:
    """Each plot as a PNG file's bytes, by the plot's name. Raises MissingExtraError without a Chrome."""
    return asyncio.run(_draw(plots))


def write_pictures(folder: Path, pictures: Mapping[str, bytes]) -> None:
    """Put the pictures into `<folder>/<name>.png`; each appears whole."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".pictures-") as hidden:
            for name, picture in pictures.items():
                (Path(hidden) / name).write_bytes(picture)
                os.replace(Path(hidden) / name, folder / f"{name}.png")
    except OSError as error:
        raise UsageError(
            f"the pictures cannot be written to {folder}: {error.strerror}; name another folder with --png"
        ) from None


async def _draw(plots: Sequence[Plot]) -> dict[str, bytes]:
    """All plots by one browser, which fetches nothing: MathJax, which kaleido would load, is not needed."""
    errors = importlib.import_module("kaleido.errors")
    try:
        async with _kaleido().Kaleido(mathjax=False) as browser:
            size = {"format": "png", "width": WIDTH, "scale": SCALE}
            sizes = ((plot, {**size, "height": plot.height}) for plot in plots)
            return {plot.name: await browser.calc_fig(_on_white(plot), opts=opts) for plot, opts in sizes}
    except errors.ChromeNotFoundError:
        raise MissingExtraError(NO_CHROME) from None


def _on_white(plot: Plot) -> Mapping[str, Any]:
    """A figure on white ground, where the page has its own."""
    return {**plot.figure, "layout": {**plot.figure["layout"], "paper_bgcolor": "#ffffff"}}
