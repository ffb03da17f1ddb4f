import io

import pytest

from primer.cli.progress import LiveReporter, reporter
from primer.recipes.report import PlainReporter
from setups import INFO, row


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
        report.on_end({"step": 1, "handle": "abc123"})
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
