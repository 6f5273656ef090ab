"""Random log directories with several ailments at once, made of the faults of `sick_logs`; each point's value is its
own."""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Iterator
from random import Random
from typing import Any

from sick_logs import (
    NAME,
    SECOND,
    SECOND_WRITER,
    VERSION,
    experiment,
    hparams_record,
    interval,
    point,
    start,
    text_as_scalar,
    wild_header,
)
from tensorboard.plugins.hparams import api_pb2

from hparams_lab.core.values import trial_id
from hparams_lab.events.format import summaries
from hparams_lab.events.format.event_file import restart_event, summary_event

PLACES = (
    "", "a", "b", "c", "a/train", "a/validation", "b/train", "b/validation", "deep/er/d", "c/1700000000.1", "run-0000",
    "sweep/a", "sweep/b", "sweep/sub/a",
)  # fmt: skip
OWN = "events.out.tfevents.hparams_lab.1700000000.host.1.0"
LATER = "events.out.tfevents.1700001000.host.3.0"
OLD = "events.out.tfevents.1700000000.host"
SAME_PROCESS = "events.out.tfevents.1700000300.host.1.1"
FILES = (NAME, NAME, NAME, SECOND_WRITER, LATER, OWN, OLD, SAME_PROCESS)
BEGAN = {NAME: (0.0, 0.5), SECOND_WRITER: (0.5, 100.0), LATER: (1000.0,), SAME_PROCESS: (300.0,)}
"""When the first point of a file may be, in seconds since the first file of all."""
UNITS = (16, 16.0, 32, 0.1, 0.10000000149011612, "auto", None, [8], True, float("nan"))
POINTERS = (b"version https://git-lfs.github.com/spec/v1\n", gzip.compress(b"x" * 9, mtime=0), b"", b"gone", bytes(50))


def sick_dir(random: Random, damaged: bool) -> dict[str, bytes]:
    """The files of a directory, by their names as `sick_logs.write` takes them; `damaged` allows bytes that cannot be
    read."""
    values = itertools.count(1)
    found = {f"z:{NAME}": VERSION + point(1, 0.0)}
    for place in random.sample(PLACES, random.randint(1, 5)):
        for name in dict.fromkeys(random.choice(FILES) for _ in range(random.choice((1, 1, 1, 2, 3)))):
            if name == OWN and (not place or place.endswith(("/train", "/validation"))):
                continue  # what is below is of that run, and other sessions there are read apart until they are mended
            session = {"train": 0.0, "validation": 0.0, "": 1.0}.get(place.rpartition("/")[2], 0.6)
            found[f"{place}:{name}"] = _file(random, name, values, damaged, 1.0 if name == OWN else session)
    if random.random() < 0.4:
        for place in random.sample(("", "_experiment/1", "_experiment/2", "sweep/_experiment/1"), random.randint(1, 2)):
            found[f"{place}:{LATER}.x"] = VERSION + _experiment(random)
    for place in ("", "sweep"):
        if random.random() < 0.15:
            found[f"{place}:sweep.json"] = b"{}"
    return found


def _file(random: Random, name: str, values: Iterator[int], damaged: bool, session: float) -> bytes:
    """An event file, or what stands in its place; with a session as probably as that, or more than one."""
    if random.random() < 0.07:
        return random.choice(POINTERS)
    later = random.choice(BEGAN.get(name, (0.0,)))
    records = [VERSION] * (random.random() < 0.9)
    if random.random() < 0.25:
        records.append(_experiment(random))
    if random.random() < session:
        records.append(start(*_session(random, name == OWN)))
    records += _points(random, values, SECOND + later)
    for odd in _odd(random, damaged, session > 0):
        records.insert(random.randint(0, len(records)), odd)
    if random.random() < 0.5:
        records.append(summary_event(summaries.session_end(random.choice((1, 2)), SECOND + later + 60), 0, SECOND + 60))
        if random.random() < 0.2:
            records += _points(random, values, SECOND + later + 90)
    return _damaged(random, records) if damaged else b"".join(records)


def _session(random: Random, is_own: bool = False) -> tuple[dict[str, Any], str]:
    hparams: dict[str, Any] = {"units": random.randint(100, 999) if is_own else random.choice(UNITS)}
    if random.random() < 0.4:
        hparams["rate"] = random.choice((0.1, 0.2, "fast"))
    if random.random() < 0.1:
        hparams = {}
    group = "ours" if is_own else random.choice(("", "", "g", "h"))
    plain = {name: value for name, value in hparams.items() if not isinstance(value, list) and value == value}
    return hparams, trial_id(plain) if group == "ours" else group


def _experiment(random: Random) -> bytes:
    bare = api_pb2.HParamInfo(name="units", type=api_pb2.DATA_TYPE_FLOAT64)
    long = api_pb2.HParamInfo(name="rate", type=api_pb2.DATA_TYPE_FLOAT64)
    long.domain_discrete.extend(range(12))
    columns = [bare, long, interval("units", 1, 64), interval("rate", 0, 0.15), interval("depth", 0, 1)]
    infos = {info.name: info for info in random.sample(columns, random.randint(0, 3))}
    return experiment(infos.values(), *random.sample(("accuracy", "loss", "hp_metric"), random.randint(0, 2)))


def _points(random: Random, values: Iterator[int], at: float) -> list[bytes]:
    """The points of one to three tags: their steps go on, go back, are out of order, the same, huge or negative."""
    steps = random.choice(
        (
            [], [1], [1, 2, 3], [1, 2, 3], [0, 10, 20], [1, 2, 3, 1, 2], [1, 3, 2, 4], [3, 2, 1], [1, 1, 2], [5, 1, 5],
            [2**31, 1], [-3, -2], [0, 2**40], [2**62, 1, 2, 1], [-(2**40), 0], [7, 8, 9, 7],
        )
    )  # fmt: skip
    tags = random.sample(("accuracy", "loss", "val/loss"), random.choice((1, 1, 2, 3)))
    if random.random() < 0.5:
        found = [_at(step, next(values), tag, at + n) for n, step in enumerate(steps) for tag in tags]
    else:
        found = [_at(step, next(values), tag, at + n) for tag in tags for n, step in enumerate(steps)]
    if random.random() < 0.1:
        found.insert(random.randint(0, len(found)), restart_event(random.choice((0, 2)), at))
    return found


def _at(step: int, value: float, tag: str, at: float) -> bytes:
    return point(step, value, tag, at - step % 100)


def _odd(random: Random, damaged: bool, is_run: bool) -> list[bytes]:
    odd = [
        text_as_scalar(),
        hparams_record(summaries.SESSION_END_TAG, b"\xff\xff"),
        hparams_record(summaries.SESSION_START_TAG, b""),
        summary_event(summaries.text("notes", "hello"), 3, SECOND),
        summary_event(summaries.session_end(1, SECOND + 9), 0, SECOND + 9),
    ]
    if is_run:
        odd.append(start(*_session(random)))
    if damaged:
        odd += [wild_header(2**60), wild_header(2**30), b"\1" * 40, point(4, 0.5)[:-1] + b"?"]
    return [random.choice(odd) for _ in range(random.choice((0, 0, 0, 1, 1, 2)))]


def _damaged(random: Random, records: list[bytes]) -> bytes:
    data = b"".join(records)
    kind = random.choice(("", "", "", "", "cut", "flip", "zeros", "twice", "begin"))
    at = random.randint(0, len(data))
    if kind == "cut":
        return data[:at]
    if kind == "flip" and data:
        at = min(at, len(data) - 1)
        return data[:at] + bytes([data[at] ^ 1 << random.randint(0, 7)]) + data[at + 1 :]
    if kind == "zeros":
        return data + bytes(random.choice((3, 12, 99)))
    if kind == "twice":
        return data + data
    return random.choice((b"{", b"x" * 20)) + data if kind == "begin" else data
