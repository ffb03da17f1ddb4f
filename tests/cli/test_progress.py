import io
import math
from typing import Any

import pytest

from primer.cli import progress
from primer.cli.progress import LiveReporter, PlainReporter, ProgressLine, duration, reporter, visible

INFO: dict[str, Any] = {
    "steps": 1000,
    "step": 0,
    "path": "runs/x",
    "id": "abc123",
    "recipe": "lecture",
    "parameters": 1_234_567,
    "train_tokens": 1_003_854,
    "source": "shakespeare",
    "device": "cpu",
    "precision": "fp32",
    "threads": 2,
    "flops_per_token": 1e6,
    "matmul_rate": 1e10,
}


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def row(step: int, loss: float = 2.0, speed: float = 2500.0) -> dict[str, Any]:
    return {"step": step, "loss": loss, "tokens_per_second": speed}


def test_the_line_has_every_figure(clock) -> None:
    line = ProgressLine(INFO)
    assert str(line) == "step 0/1,000"
    clock[0] += 30
    line.took_step(row(250))
    line.validation = 2.25
    assert str(line) == "step 250/1,000  loss 2.000  validation 2.250  2,500 tokens/s  25% of peak  1:30 left"
    line.took_step(row(1000))
    assert "left" not in str(line)


def test_time_left_of_a_resumed_run_counts_from_where_it_resumed(clock) -> None:
    line = ProgressLine(INFO | {"step": 900})
    clock[0] += 10
    line.took_step(row(950))
    assert str(line).endswith("0:10 left")


def test_the_loss_is_a_mean_of_finite_values(clock) -> None:
    line = ProgressLine(INFO)
    for step, loss in enumerate([4.0, 2.0, math.nan, math.inf, 3.0], start=1):
        line.took_step(row(step, loss))
    assert line.loss == pytest.approx(3.0)
    for step in range(6, 400):
        line.took_step(row(step, 1.0))
    assert line.loss == pytest.approx(1.0, abs=1e-6)


def test_durations() -> None:
    assert [duration(s) for s in (0, 65.4, 3599.6, 3725)] == ["0:00", "1:05", "1:00:00", "1:02:05"]


def test_without_a_terminal_there_is_one_plain_line_an_interval(clock) -> None:
    stream = io.StringIO()
    with reporter(stream) as report:
        assert isinstance(report, PlainReporter)
        report.on_start(INFO)
        for step in range(1, 101):
            clock[0] += 1
            report.on_step(row(step))
        report.on_evaluate({"step": 100, "val_loss": 2.5})
        report.on_sample(100, "To be\x1b[2J\n")
        report.on_save("runs/x/checkpoints/step_000100")
        report.on_end({"step": 100, "id": "abc123", "best_loss": 2.5})
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


class Gone(io.StringIO):
    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal

    def write(self, text: str) -> int:
        raise OSError(5, "Input/output error")

    def flush(self) -> None:
        raise OSError(5, "Input/output error")


@pytest.mark.parametrize("terminal", [False, True])
def test_a_reader_that_left_does_not_stop_the_training(terminal: bool, monkeypatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    with reporter(Gone(terminal)) as report:
        report.on_start(INFO)
        report.on_step(row(1))
        report.on_message("still training")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def on_a_terminal(monkeypatch, **environment: str) -> str:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm-256color", "COLUMNS": "100", **environment}.items():
        monkeypatch.setenv(name, value)
    stream = Terminal()
    with reporter(stream) as report:
        assert isinstance(report, LiveReporter)
        report.on_start(INFO)
        report.on_step(row(1))
        report.on_evaluate({"step": 1, "val_loss": 2.5})
        report.on_sample(1, "[bold]To be[/bold]")
        report.on_message("a word")
        report.live.refresh()
        report.on_end({"step": 1, "id": "abc123"})
    return stream.getvalue()


def test_on_a_terminal_one_line_renews_itself_below_what_stays(monkeypatch) -> None:
    said = on_a_terminal(monkeypatch)
    assert "validation 2.500" in said
    assert "[bold]To be[/bold]" in said, "a sample is no markup"
    assert "\x1b[33ma word" in said
    assert said.index("To be") < said.rindex("step 1/1,000")


def test_no_color_is_honoured(monkeypatch) -> None:
    said = on_a_terminal(monkeypatch, NO_COLOR="1")
    assert "\x1b[33m" not in said
    assert "a word" in said


def test_a_dumb_terminal_gets_plain_lines(monkeypatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    with reporter(Terminal()) as report:
        assert isinstance(report, PlainReporter)


def test_control_characters_are_made_visible() -> None:
    assert (
        visible("a\tb\nc\x1b[31m\x07ü€") == "a\tb\nc\N{REPLACEMENT CHARACTER}[31m\N{REPLACEMENT CHARACTER}ü€"
    )
