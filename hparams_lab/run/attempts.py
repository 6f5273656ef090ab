"""`Attempt`: an earlier try of a run that did not last; and the text of a run that lists them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from hparams_lab.core.outcome import Outcome

ATTEMPTS_TAG = "run/attempts"


@dataclass(frozen=True, slots=True)
class Attempt:
    """An earlier try of a run that did not last: how it ended, and the file in the run's directory with its output."""

    outcome: Outcome
    reason: str
    log: str = ""


def attempts_markdown(attempts: Sequence[Attempt]) -> str:
    """Earlier attempts as a Markdown table."""
    rows = [f"| {number} | {one.outcome} | {_cell(one.reason)} | {one.log} |" for number, one in enumerate(attempts, 1)]
    return "\n".join(["| attempt | outcome | reason | log |", "| --- | --- | --- | --- |", *rows])


def attempts_in(markdown: str) -> tuple[Attempt, ...]:
    """The attempts of such a table; those that cannot be read are left out."""
    rows = re.findall(r"^\| \d+ \| (.+?) \| (.*) \| (.*) \|$", markdown, re.MULTILINE)
    known = {outcome.value for outcome in Outcome}
    return tuple(Attempt(Outcome(word), reason.replace("\\|", "|"), log) for word, reason, log in rows if word in known)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
