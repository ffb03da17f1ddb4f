"""What training says while it goes: one live line on a terminal, plain lines anywhere else. All on stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO, cast

from primer.recipes.report import (
    PlainReporter,
    ProgressLine,
    Reporter,
    Silence,
    Unfailing,
    farewell,
    framed,
    introduction,
)

if TYPE_CHECKING:
    from rich.live import Live


@contextmanager
def reporter(stream: TextIO | None = None) -> Iterator[Reporter]:
    """A reporter for `stream` (stderr): live where it is a terminal, plain where it is a file or a pipe."""
    from primer.training.distributed import place

    if not place().is_first:  # of the processes that torchrun started
        yield Silence()
        return
    stream = cast(TextIO, Unfailing(stream or sys.stderr))
    if stream.isatty() and os.environ.get("TERM") != "dumb":
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        console = Console(file=stream, highlight=False, markup=False)
        with Live(Text(""), console=console, refresh_per_second=4, transient=True) as live:
            yield LiveReporter(live)
    else:
        yield PlainReporter(stream)


class LiveReporter:
    """One line that renews itself; what is to stay (samples, messages) is printed above it."""

    def __init__(self, live: Live) -> None:
        self.live = live
        self.line = ProgressLine({"steps": 0})

    def _show(self) -> None:
        from rich.text import Text

        self.live.update(Text(str(self.line), no_wrap=True, overflow="ellipsis"))

    def _keep(self, text: str, style: str | None = None) -> None:
        self.live.console.print(text, style=style, soft_wrap=True)

    def on_start(self, info: Mapping[str, Any]) -> None:
        self.line = ProgressLine(info)
        self._keep(introduction(info))
        self._show()

    def on_step(self, row: Mapping[str, Any]) -> None:
        self.line.took_step(row)
        if "event" in row:
            self._keep(f"step {row['step']:,}: {row['event']}", "yellow")
        self._show()

    def on_part(self, what: str, done: int, total: int) -> None:
        self.line.did_part(what, done, total)
        self._show()

    def on_evaluate(self, row: Mapping[str, Any]) -> None:
        self.line.scored(row)
        self._show()

    def on_sample(self, step: int, text: str) -> None:
        self._keep(framed(step, text))

    def on_save(self, path: str) -> None:
        """Nothing: checkpoints are part of the day's work."""

    def on_message(self, text: str) -> None:
        self._keep(text, "yellow")

    def on_end(self, info: Mapping[str, Any]) -> None:
        self._keep(f"{self.line}\n{farewell(info)}")
