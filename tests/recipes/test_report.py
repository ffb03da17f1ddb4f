import io
import math

import pytest

from primer.recipes import report
from primer.recipes.report import PlainReporter, ProgressLine, duration, visible
from setups import INFO, row


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(report.time, "monotonic", lambda: now[0])
    return now


def test_the_line_has_every_figure(clock) -> None:
    line = ProgressLine(INFO)
    assert str(line) == "step 0/1,000"
    clock[0] += 30
    line.took_step(row(250))
    line.validation = 2.25
    assert str(line) == "step 250/1,000  1:30 left  loss 2.000  validation 2.250  2,500 tokens/s  25% of peak"
    line.took_step(row(1000))
    assert "left" not in str(line)


def test_a_run_on_pairs_says_how_well_it_translates(clock) -> None:
    line = ProgressLine(INFO)
    line.scored({"val_loss": 1.8341, "val_exact": 0.0434, "val_bleu": 34.406})
    assert "validation 1.834  BLEU 34.41  exact 4.3%" in str(line)
    line.scored({"val_loss": 1.8, "val_exact": 0.05})  # without sacrebleu
    assert "validation 1.800  exact 5.0%" in str(line)


def test_time_left_of_a_resumed_run_counts_from_where_it_resumed(clock) -> None:
    line = ProgressLine(INFO | {"step": 900})
    clock[0] += 10
    line.took_step(row(950))
    assert str(line).startswith("step 950/1,000  0:10 left")


def test_the_loss_is_a_mean_of_finite_values(clock) -> None:
    line = ProgressLine(INFO)
    for step, loss in enumerate([4.0, 2.0, math.nan, math.inf, 3.0], start=1):
        line.took_step(row(step, loss))
    assert line.loss == pytest.approx(3.0)
    for step in range(6, 400):
        line.took_step(row(step, 1.0))
    assert line.loss == pytest.approx(1.0, abs=1e-6)


def test_time_left_does_not_climb_while_a_long_step_is_taken(clock) -> None:
    line = ProgressLine(INFO)
    clock[0] += 30
    line.took_step(row(250))
    for gone, left in ((0, "1:30"), (20, "1:10"), (60, "0:30"), (200, "0:00")):
        clock[0] = 130 + gone
        assert str(line).startswith(f"step 250/1,000  {left} left")


def test_what_takes_long_itself_says_how_far_it_is(clock) -> None:
    line = ProgressLine(INFO)
    line.did_part("this step", 1, 128)
    assert str(line) == "step 0/1,000", "nobody knows yet how long it takes"
    clock[0] += 10
    line.did_part("this step", 2, 128)
    assert str(line) == "step 0/1,000  this step 2%, 21:00 left"
    line.did_part("evaluating", 500, 2000)
    clock[0] += 10
    line.did_part("evaluating", 1000, 2000)
    assert str(line) == "step 0/1,000  evaluating 50%, 0:20 left"
    line.scored({"val_loss": 2.5})
    assert str(line) == "step 0/1,000  validation 2.500"
    line.did_part("this step", 1, 4)
    clock[0] += 10
    line.did_part("this step", 2, 4)
    line.took_step(row(1))
    assert "this step" not in str(line)
    line.did_part("this step", 1, 4)
    clock[0] += 0.1
    line.did_part("this step", 2, 4)
    assert "this step" not in str(line), "what takes a moment is not worth a word"


def test_without_a_terminal_a_long_step_is_told_of_at_intervals(clock) -> None:
    stream = io.StringIO()
    teller = PlainReporter(stream)
    teller.on_start(INFO)
    for done in range(1, 50):
        clock[0] += 1
        teller.on_part("this step", done, 100)
    assert stream.getvalue().splitlines()[2:] == ["step 0/1,000  this step 31%, 1:09 left"]


def test_a_stopped_run_is_compared_with_its_part_of_the_plan() -> None:
    planned = {"steps": 20, "seconds": 100.0}
    actual = {"steps": 5, "seconds": 30.0, "share": 0.5}
    said = report.farewell({"step": 5, "planned": planned, "actual": actual})
    assert "0:30 of training, 0:25 by plan, at 50% of the matmul rate" in said


def test_durations() -> None:
    assert [duration(s) for s in (0, 65.4, 3599.6, 3725)] == ["0:00", "1:05", "1:00:00", "1:02:05"]


def test_without_a_terminal_there_is_one_plain_line_an_interval(clock) -> None:
    stream = io.StringIO()
    teller = PlainReporter(stream)
    teller.on_start(INFO)
    for step in range(1, 101):
        clock[0] += 1
        teller.on_step(row(step))
    teller.on_evaluate({"step": 100, "val_loss": 2.5})
    teller.on_sample(100, "To be\x1b[2J\n")
    teller.on_save("runs/x/checkpoints/step_000100")
    teller.on_end({"step": 100, "handle": "abc123", "best_loss": 2.5})
    lines = stream.getvalue().splitlines()
    assert lines[0] == (
        "lecture: 1,234,567 parameters, 1,003,854 tokens of shakespeare, on cpu in fp32, 2 threads"
    )
    assert lines[1] == "runs/x"
    assert [line.split("  ")[0] for line in lines if line.startswith("step ")] == [
        "step 31/1,000",
        "step 62/1,000",
        "step 93/1,000",
        "step 100/1,000",
        "step 100 is saved, best validation loss 2.5000",
    ]
    assert lines[6:9] == ["-- step 100 writes:", "To be\N{REPLACEMENT CHARACTER}[2J", "--"]
    assert lines[-1] == "let it write: primer sample abc123"
    assert "\x1b" not in stream.getvalue()


def test_a_step_that_was_not_applied_is_told() -> None:
    stream = io.StringIO()
    report = PlainReporter(stream)
    report.on_step(row(3, math.nan) | {"event": "not finite: step not applied"})
    assert stream.getvalue() == "step 3: not finite: step not applied\n"


def test_control_characters_are_made_visible() -> None:
    assert (
        visible("a\tb\nc\x1b[31m\x07ü€") == "a\tb\nc\N{REPLACEMENT CHARACTER}[31m\N{REPLACEMENT CHARACTER}ü€"
    )
