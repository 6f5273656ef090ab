"""Fixtures of the fault suite: the figures for the table that `scripts/torture` prints."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Figures = dict[str, Any]
_FAILED = pytest.StashKey[bool]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Processes are found by /proc, here and in the tests."""
    if Path("/proc/self/environ").exists():
        return
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skip(reason="finds processes by /proc"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Whether the test held, for its figures."""
    report = yield
    if report.when == "call":
        item.stash[_FAILED] = not report.passed
    return report


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Iterator[Callable[..., Figures]]:
    """`figure(row, asked, **numbers)`: a line of the table, by what was done, what is asked for and what was measured.

    Gives back the numbers, to which more can be added until the test is over. A line holds when its test passes. It is
    appended as JSON to the file that HPARAMS_LAB_FIGURES names, if it does.
    """
    lines: list[tuple[str, str, Figures]] = []

    def call(row: str, asked: str = "", **numbers: Any) -> Figures:
        lines.append((row, asked, numbers))
        return numbers

    yield call
    file = os.environ.get("HPARAMS_LAB_FIGURES")
    if file:
        held = not request.node.stash.get(_FAILED, True)
        with open(file, "a", encoding="utf-8") as out:
            for row, asked, numbers in lines:
                said = {"row": row, "asked": asked, "measured": numbers, "held": held, "test": request.node.nodeid}
                out.write(json.dumps(said) + "\n")
