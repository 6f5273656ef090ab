"""The views of a sweep as it goes on: what they count, what they show on terminals of any size, lines and JSON."""

import contextlib
import io
import json
import os
import pty
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from screen import Screen

import hparams_lab as lab
from hparams_lab.core.names import width_of
from hparams_lab.core.outcome import Outcome
from hparams_lab.core.present import epochs_of, step_in_words
from hparams_lab.core.results import Results, RunResult
from hparams_lab.core.trial import RunSpec, Trial
from hparams_lab.run.attempts import Attempt
from hparams_lab.sweep.events import (
    RunEnded,
    RunReported,
    RunRetried,
    RunStarted,
    SweepEnded,
    SweepNote,
    SweepStarted,
    SweepStopping,
)
from hparams_lab.sweep.progress import lines, progress
from hparams_lab.sweep.progress.footer import Footer
from hparams_lab.sweep.progress.live import LiveView
from hparams_lab.sweep.progress.standing import Best, Going, Standing, rest_of_epochs, seconds_left
from hparams_lab.sweep.progress.tally import Tally

EXPERIMENT = lab.Experiment(
    [lab.HParam("units", lab.Discrete([16, 32])), lab.HParam("epochs", lab.Discrete([15]))],
    [lab.Metric("accuracy", display_name="Accuracy", goal="max"), lab.Metric("loss", goal="min")],
)


def spec(index):
    return RunSpec.of(Trial.of(index, {"units": 16 + index % 2 * 16, "epochs": 15}), 0)


def result(index, outcome=Outcome.COMPLETED, accuracy=0.5, reason="", seconds=2.0):
    one = spec(index)
    metrics = {"accuracy": accuracy, "loss": 0.25}
    return RunResult(
        one.name, f"x/{one.name}", one.trial.id, one.trial.hparams, outcome, reason, 100.0, 100.0 + seconds, metrics
    )


class Clock:
    """Seconds that go on when they are told to."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def tally(clock):
    """A tally of a sweep of ten runs, two of which were done before."""
    tally = Tally(clock)
    done = (result(0, accuracy=0.6), result(1, Outcome.TIMED_OUT, 0.9))
    tally.take(SweepStarted(Path("logs"), 10, done, EXPERIMENT))
    return tally


def ended(*, total=10, stopped=False, outcomes=(Outcome.COMPLETED,)):
    runs = [result(index, outcome) for index, outcome in enumerate(outcomes)]
    return SweepEnded(Results.of(EXPERIMENT, runs), 65.0, stopped, 2 * stopped)


# --- how a sweep stands ---------------------------------------------------------------------------------------------


def test_runs_are_counted_from_the_first_event_to_the_last(tally):
    def counts():
        found = tally.standing()
        return found.done, len(found.running), found.waiting, found.failed

    assert counts() == (2, 0, 8, 1)
    for index in (2, 3):
        tally.take(RunStarted(spec(index)))
    assert counts() == (2, 2, 6, 1)
    tally.take(RunEnded(result(2, Outcome.OUT_OF_MEMORY)))
    assert counts() == (3, 1, 6, 2)
    tally.take(RunRetried(spec(3), Attempt(Outcome.CRASHED, "SIGSEGV"), 1))
    assert counts() == (3, 0, 7, 2)
    tally.take(RunStarted(spec(3)))
    assert (counts(), tally.standing().running[0].attempt) == ((3, 1, 6, 2), 2)
    tally.take(RunEnded(result(3, Outcome.INTERRUPTED)))  # it is run again, so it waits
    assert counts() == (3, 0, 7, 2)


def test_the_best_is_a_completed_run_and_a_diverged_one_never(tally):
    assert (tally.standing().best.name, tally.standing().best.value) == ("run-0000", 0.6)
    tally.take(RunEnded(result(2, Outcome.DIVERGED, 0.99)))
    tally.take(RunEnded(result(3, Outcome.COMPLETED, float("nan"))))
    assert tally.standing().best.name == "run-0000"
    tally.take(RunEnded(result(4, Outcome.COMPLETED, 0.7)))
    assert (tally.standing().best.name, tally.standing().best.title) == ("run-0004", "Accuracy")


def test_how_far_a_run_is(tally, clock):
    tally.take(RunStarted(spec(2)))
    clock.now += 3
    (going,) = tally.standing().running
    assert (going.seconds, going.step, going.epochs, dict(going.hparams)) == (3.0, None, 15, {"units": 16})
    tally.take(RunReported("run-0002", 3, {"loss": 1.0, "val/loss": 2.0}))
    tally.take(RunReported("run-0002", 4, {"accuracy": 0.25}))
    tally.take(RunReported("run-0002", 400, {"batch/loss": 0.5}))  # steps of these are batches
    (going,) = tally.standing().running
    assert (going.step, step_in_words(going.step, going.epochs)) == (4, "epoch 4/15")
    assert [*going.metrics.items()] == [("accuracy", 0.25), ("loss", 1.0), ("val/loss", 2.0), ("batch/loss", 0.5)]


def test_the_time_left_needs_something_to_go_by(tally, clock):
    for index in (2, 3):
        tally.take(RunStarted(spec(index)))
    clock.now += 4
    assert tally.standing().seconds_left is None  # the runs done before are of another call
    tally.take(RunEnded(result(2)))
    tally.take(RunStarted(spec(4)))
    # 4 s a run; run-0003 is due, run-0004 has 4 s to go, 5 wait, two at once
    assert tally.standing().seconds_left == pytest.approx((4 + 5 * 4) / 2)
    tally.take(SweepStopping(("run-0003", "run-0004")))
    assert tally.standing().seconds_left == pytest.approx(4)


def test_epochs_tell_the_time_left_before_any_run_is_over(tally, clock):
    for index in (2, 3):
        tally.take(RunStarted(spec(index)))
    clock.now += 100  # getting ready, which says nothing of epochs
    tally.take(RunReported("run-0002", 1, {"loss": 1.0}))
    assert tally.standing().seconds_left is None
    clock.now += 4
    tally.take(RunReported("run-0002", 3, {"loss": 1.0}))
    clock.now += 1
    assert tally.standing().running[0].rest == pytest.approx(12 * 2 - 1)
    # a run takes 105 + 23 s; run-0003 has as much to go; 6 wait
    assert tally.standing().seconds_left == pytest.approx((23 + 23 + 6 * 128) / 2)


def test_the_time_left_of_runs():
    going = [Going("a", 6.0, rest=24.0), Going("b", 6.0)]
    assert seconds_left([], going, 0, 2) == pytest.approx(24.0)
    assert seconds_left([], going, 4, 2) == pytest.approx((24 + 24 + 4 * 30) / 2)
    assert seconds_left([10.0], going, 0, 2) == pytest.approx(24.0)
    assert seconds_left([], [Going("a", 6.0)], 0, 1) is None
    assert seconds_left([10.0], [], None, 1) is None
    assert seconds_left([10.0, 20.0], [], 4, 3) == pytest.approx(20.0)
    assert seconds_left([10.0], [Going("late", 60.0)], 0, 1) == 0.0


def test_what_epochs_tell():
    assert rest_of_epochs(15, (1, 10.0), (5, 18.0), 18.0) == pytest.approx(20.0)
    assert rest_of_epochs(15, (1, 10.0), (5, 18.0), 60.0) == 0.0
    assert rest_of_epochs(15, (1, 10.0), (5, 9.0), 60.0) == 0.0  # the clock was set back
    assert rest_of_epochs(15, (1, 10.0), (1, 10.0), 12.0) is None
    assert rest_of_epochs(15, (1, 10.0), (400, 11.0), 12.0) is None  # steps that are none
    assert rest_of_epochs(None, (1, 10.0), (5, 18.0), 18.0) is None


@pytest.mark.parametrize(
    ("hparams", "epochs"),
    [
        ({"hpepoch": 15}, 15),
        ({"epochs": 3, "units": 4}, 3),
        ({"epochs": True}, None),
        ({"epochs": 0}, None),
        ({"epochs": 2.5}, None),
        ({"lr": 1}, None),
    ],
)
def test_the_epochs_of_hparams(hparams, epochs):
    assert epochs_of(hparams) == epochs


def test_steps_in_words():
    assert [step_in_words(*one) for one in [(None, 15), (3, 15), (16, 15), (7, None)]] == [
        "starting",
        "epoch 3/15",
        "step 16",
        "step 7",
    ]


# --- on a terminal --------------------------------------------------------------------------------------------------


HOSTILE = {"units": "試" * 9, "\x1b[2J": "\n"}


def standing(running=2, runs=100, done=12):
    going = [
        Going(f"run-{n:04d}", 61.0 * n, n % 16 or None, 15, None, {"accuracy": 0.5}, HOSTILE) for n in range(running)
    ]
    best = Best("run-\x1b[0m", "Acc\nuracy", 0.75, {"units": 16})
    return Standing(runs, {Outcome.COMPLETED: done - 1, Outcome.CRASHED: 1}, going, best, 90.0)


@pytest.mark.parametrize("width", [10, 39, 40, 80, 199, 2000])
@pytest.mark.parametrize("runs", [None, 0, 100])
def test_lines_are_no_wider_than_the_terminal_and_steer_nothing(width, runs):
    found = standing(70, runs)
    shown = [lines.bar(found, width, "42 s  about 2 min left"), lines.counts(found), *lines.best_so_far(found)]
    shown += lines.running(found, width, 10)
    plain = [lines.rendered(line, width, styled=False) for line in shown]
    assert all(text.isprintable() and width_of(text) <= width for text in plain)
    assert len(plain) == 13
    assert "61 more" in plain[-1] or width < 14
    coloured = [lines.rendered(line, width) for line in shown]
    assert [re.sub(r"\x1b\[\d+m", "", text) for text in coloured] == plain


def test_what_the_lines_say():
    found = standing(2)
    rows = [lines.rendered(line, 120, styled=False) for line in lines.running(found, 120, 5)]
    assert rows[0].split()[:5] == ["run-0000", "starting", "0", "s", "accuracy"]
    assert rows[1].startswith("run-0001  epoch 1/15  61 s  accuracy 0.5  units=試")
    (best,) = lines.best_so_far(found)
    assert lines.rendered(best, 120, styled=False) == r"best so far Acc\nuracy 0.75  run-\x1b[0m  units=16"
    counts = lines.rendered(lines.counts(found), 120, styled=False)
    assert counts == "12 done  2 running  86 waiting  1 failed"
    bar = lines.rendered(lines.bar(found, 80, "about 2 min left"), 80, styled=False)
    assert re.fullmatch("━{40}  12/100 runs  about 2 min left", bar)
    assert lines.rendered(lines.bar(found, 80, ""), 80).count("━" * 4 + "\x1b[0m") == 2  # of 40, 4 are full


class Terminal(io.StringIO):
    """A terminal of some size, and the screen of what was written to it."""

    def __init__(self, columns, rows):
        super().__init__()
        self.size = os.terminal_size((columns, rows))
        self.screen = Screen(columns)
        self.writes = 0

    def isatty(self):
        return True

    def write(self, text):
        self.writes += 1
        self.screen.write(text)
        return len(text)

    def footer(self):
        return Footer(self, lambda: self.size)


def plain(*texts):
    return [[lines.Piece(text)] for text in texts]


def test_lines_are_written_over_and_what_is_said_stays_above():
    terminal = Terminal(20, 10)
    footer = terminal.footer()
    footer.show(plain("one", "two", "three"))
    footer.show(plain("1", "2"), plain("said " * 10))
    footer.show(plain("1", "2", "3"))
    footer.show(plain("1", "2", "3"))
    assert terminal.screen.shown() == ["said said said said", "said said said said", "said said", "1", "2", "3"]
    assert terminal.writes == 3  # nothing is written when nothing changed
    terminal.screen.write("^C")  # as the terminal echoes it
    footer.show(plain("1", "2"))
    footer.show([], plain("over"))
    assert terminal.screen.shown()[-2:] == ["said said", "over"]


def test_a_terminal_that_is_made_narrower_keeps_no_pieces():
    terminal = Terminal(60, 20)
    footer = terminal.footer()
    footer.show(plain("a" * 59, "b" * 30, "c"), plain("said"))
    terminal.size = os.terminal_size((25, 20))
    terminal.screen.narrow(25)
    assert len(terminal.screen.shown()) == 7
    footer.show(plain("A" * 59, "B" * 30, "C"))
    assert terminal.screen.shown() == ["said", "A" * 23 + "…", "B" * 23 + "…", "C"]


def test_no_more_lines_than_the_terminal_has():
    terminal = Terminal(60, 4)
    terminal.footer().show(plain(*"abcdefgh"))
    assert terminal.screen.shown() == ["a", "b", "c"]


def test_a_terminal_that_is_gone_ends_nothing():
    terminal = Terminal(60, 4)
    footer = terminal.footer()
    terminal.close()
    footer.show(plain("a"))

    def gone(text):
        raise BrokenPipeError

    terminal = Terminal(60, 4)
    footer = terminal.footer()
    terminal.write = gone
    footer.show(plain("a"))
    footer.show(plain("b"))


def test_without_colour_where_that_is_asked_for(monkeypatch):
    shown = []
    for value in ("", "1"):
        monkeypatch.setenv("NO_COLOR", value)
        terminal = Terminal(60, 9)
        footer = terminal.footer()
        terminal.write = shown.append
        footer.show([[lines.Piece("red", "red")]])
    assert ["\x1b[31m" in text for text in shown] == [True, False]


def live(terminal, *events, error=None):
    """The screen after a live view was given these events."""
    view = LiveView(terminal)
    view._footer = terminal.footer()
    with contextlib.suppress(ZeroDivisionError), view:
        for event in events:
            view.take(event)
        if error:
            raise error
    return terminal.screen.shown()


BEGINNING = (SweepStarted(Path("logs"), 3, (result(0),), EXPERIMENT), RunStarted(spec(1)))


def test_nothing_stays_of_a_sweep_that_did_not_begin():
    assert live(Terminal(80, 20), error=ZeroDivisionError()) == []
    note = SweepNote("ending 2 runs that were\x1b[2J left")
    assert live(Terminal(80, 20), note, error=ZeroDivisionError()) == [r"ending 2 runs that were\x1b[2J left"]


def test_the_bar_stays_and_what_went_wrong():
    broken = RunEnded(result(1, Outcome.TIMED_OUT, reason="it took longer than 90 s"))
    over = ended(outcomes=(Outcome.COMPLETED, Outcome.TIMED_OUT, Outcome.COMPLETED))
    retried = RunRetried(spec(2), Attempt(Outcome.CRASHED, "killed by SIGSEGV", "output-1.log"), 1)
    shown = live(
        Terminal(90, 20),
        *BEGINNING,
        broken,
        RunStarted(spec(2)),
        retried,
        RunStarted(spec(2)),
        RunEnded(result(2)),
        over,
    )
    assert shown == [
        "run-0001 timed out: it took longer than 90 s",
        "run-0002 crashed: killed by SIGSEGV; trying again, attempt 2",
        "━" * 40 + "  3/3 runs",
        "3 of 3 runs done in 65 s (2 completed, 1 timed out)",
    ]


def test_a_sweep_that_is_stopped_says_that_it_goes_on():
    stopping = SweepStopping(("run-0001",))
    at_once = SweepStopping(("run-0001",), "SIGTERM", at_once=True)
    assert live(Terminal(120, 20), *BEGINNING, stopping, at_once, ended(stopped=True)) == [
        "Ctrl-C: waiting for the 1 running run; press it again to stop it",
        "SIGTERM: stopping the 1 running run",
        "━" * 40 + "  1/3 runs",
        "stopped: 1 of 3 runs are done; the same command goes on from here",
    ]


def test_a_sweep_that_was_done_says_so():
    done = tuple(map(result, range(3)))
    shown = live(Terminal(80, 20), SweepStarted(Path("logs"), 3, done, EXPERIMENT), ended())
    assert shown == ["all 3 runs were done before; nothing to train"]


def test_an_error_leaves_the_bar_without_the_runs():
    shown = live(Terminal(80, 20), *BEGINNING, error=ZeroDivisionError())
    assert shown == ["━" * 40 + "  1/3 runs"]


def test_whoever_tells_of_an_event_never_waits_for_the_terminal():
    """A terminal that is stopped with Ctrl-S takes nothing; the sweep goes on."""
    ours, theirs = pty.openpty()
    fill = b"x" * 65536
    os.set_blocking(theirs, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(theirs, fill)
    os.set_blocking(theirs, True)
    reading = threading.Thread(target=drain, args=(ours,))
    with open(theirs, "w", encoding="utf-8") as file, LiveView(file) as view:
        waits_in_vain = threading.Timer(60, reading.start)
        waits_in_vain.start()
        for event in (*BEGINNING, *(RunReported("run-0001", 1, {"loss": 1.0}) for _ in range(1000))):
            view.take(event)
        waits_in_vain.cancel()
        assert reading.ident is None, "it waited until somebody read"
        reading.start()
    reading.join()
    os.close(ours)


def drain(descriptor):
    with contextlib.suppress(OSError):
        while os.read(descriptor, 65536):
            pass


SCRIPT = """
import sys, time
import hparams_lab as lab
EXPERIMENT = lab.Experiment([lab.HParam("x", lab.Discrete([*range(8)])), lab.HParam("epochs", lab.Discrete([20]))],
                            [lab.Metric("loss")])
def train(run):
    for epoch in range(1, 21):
        run.log({"loss": 1.0 / epoch}, step=epoch)
        time.sleep(0.02)
lab.run_sweep(EXPERIMENT, train, logdir=sys.argv[1], workers=2)
"""


def test_a_real_sweep_on_a_real_terminal(tmp_path):
    """The bar fills, epochs count, and the last screen holds nothing else than the bar and what came of it."""
    import fcntl
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    said = bytearray()
    environment = {**os.environ, "TERM": "xterm"}
    command = [sys.executable, "-c", SCRIPT, tmp_path / "logs"]
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, stdin=theirs, env=environment) as running:
        os.close(theirs)
        with contextlib.suppress(OSError):
            while more := os.read(ours, 65536):
                said += more
        assert running.wait(60) == 0
    os.close(ours)
    text = said.decode().replace("\r\n", "\n")
    assert re.search(r"epoch \d+/20", text)
    assert re.search(r"[1-7]/8 runs.*about \d+ s left", text)
    screen = Screen(100)
    screen.write(text)
    bar, last = screen.shown()
    assert bar == "━" * 40 + "  8/8 runs"
    assert re.fullmatch(r"8 of 8 runs done in \d+ s \(8 completed\)", last)


# --- elsewhere ------------------------------------------------------------------------------------------------------

STORY = (
    SweepNote("mine.py has changed"),
    *BEGINNING,
    RunReported("run-0001", 1, {"loss": 1.0}),
    RunRetried(spec(1), Attempt(Outcome.CRASHED, "killed by SIGSEGV", "output-1.log"), 1),
    RunStarted(spec(1)),
    RunEnded(result(1, Outcome.OUT_OF_MEMORY, reason="it asked for more than 2 GB\x1b[2J")),
    RunStarted(spec(2)),
    SweepStopping(("run-0002",), "SIGTERM", at_once=True),
    RunEnded(result(2)),
    ended(stopped=True),
)


def told(as_json):
    file = io.StringIO()
    with progress(as_json, file) as tell:
        for event in STORY:
            tell(event)
    return file.getvalue().splitlines()


def test_plain_lines():
    assert told(as_json=False) == [
        "mine.py has changed",
        "3 runs into logs, 1 done before",
        "run-0001 crashed: killed by SIGSEGV; trying again, attempt 2",
        r"[2/3] run-0001 out of memory 2.0 s  it asked for more than 2 GB\x1b[2J  (units=32)",
        "SIGTERM: stopping the 1 running run",
        "[3/3] run-0002 completed 2.0 s  accuracy 0.5  loss 0.25  (units=16)",
        "3 of 3 runs done in 65 s (1 completed)",
    ]


def test_json_lines():
    events = [json.loads(line, parse_constant=pytest.fail) for line in told(as_json=True)]
    assert [one["event"] for one in events] == [
        "note", "sweep_started", "run_started", "run_reported", "run_retried", "run_started", "run_ended",
        "run_started", "sweep_stopping", "run_ended", "sweep_ended",
    ]  # fmt: skip
    assert events[0] == {"event": "note", "text": "mine.py has changed"}
    assert events[4] == {
        "event": "run_retried", "run": "run-0001", "attempt": 1, "outcome": "crashed", "reason": "killed by SIGSEGV",
        "log": "output-1.log",
    }  # fmt: skip
    assert events[6]["outcome"] == "out of memory"
    assert events[8] == {"event": "sweep_stopping", "running": ["run-0002"], "signal": "SIGTERM", "at_once": True}
    assert (events[10]["interrupted"], events[10]["signal"], events[10]["outcomes"]) == (True, 2, {"completed": 1})


def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    terminal = Terminal(80, 20)
    said = []
    terminal.write = said.append
    with progress(file=terminal) as tell:
        tell(SweepNote("first"))
    assert "".join(said) == "first\n"
