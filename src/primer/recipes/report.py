"""Who is told what happens while a run goes on, and the plain way of telling it: lines of text."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Protocol, TextIO, cast, runtime_checkable


@runtime_checkable
class Reporter(Protocol):
    """Who is told what happens: a progress line, a notebook, or nobody."""

    def on_start(self, info: Mapping[str, Any]) -> None: ...
    def on_step(self, row: Mapping[str, Any]) -> None: ...
    def on_part(self, what: str, done: int, total: int) -> None: ...
    def on_evaluate(self, row: Mapping[str, Any]) -> None: ...
    def on_sample(self, step: int, text: str) -> None: ...
    def on_save(self, path: str) -> None: ...
    def on_message(self, text: str) -> None: ...
    def on_end(self, info: Mapping[str, Any]) -> None: ...


class Silence:
    """A reporter that says nothing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("on_"):
            return lambda *values: None
        raise AttributeError(name)


class Unfailing:
    """A stream whose reader may go away: what can no longer be written is no reason to stop training."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):  # ValueError: it was closed
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):  # ValueError: it was closed
            self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class ProgressLine:
    """The figures of one line, kept up to date: step, time left, loss, validation loss, tokens/s, share of peak.

    The loss is a running mean over about twenty steps. The share of peak is FLOPs per token (6 × matmul
    parameters + 12·L·T·C) × tokens per second ÷ the measured matmul rate.
    """

    def __init__(self, info: Mapping[str, Any]) -> None:
        self.steps = int(info["steps"])
        self.step = self.first = int(info.get("step", 0))
        self.started = self.stepped = time.monotonic()
        self.flops_per_token = float(info.get("flops_per_token") or 0)
        self.peak = float(info.get("matmul_rate") or 0)
        self.seen = 0
        self.loss: float | None = None
        self.validation: float | None = None
        self.translated = ""
        self.speed: float | None = None
        self.part: Part | None = None

    def did_part(self, what: str, done: int, total: int) -> None:
        """Take in how far something is that takes long itself: a step's micro-batches, an evaluation's tokens."""
        if self.part is None or self.part.what != what or done <= self.part.done:
            self.part = Part(what, done)
        self.part.done, self.part.total = done, total

    def took_step(self, row: Mapping[str, Any]) -> None:
        """Take in a row of metrics."""
        self.part = None
        self.stepped = time.monotonic()
        self.step = int(row["step"])
        self.seen += 1
        self.loss = self._mean(self.loss, row.get("loss"))
        self.speed = self._mean(self.speed, row.get("tokens_per_second"))

    def scored(self, row: Mapping[str, Any]) -> None:
        """Take in an evaluation."""
        self.part = None
        self.validation = row["val_loss"]
        figures = {"BLEU": row.get("val_bleu"), "exact": row.get("val_exact")}
        shown = {"BLEU": "{:.2f}", "exact": "{:.1%}"}
        self.translated = "  ".join(
            f"{name} {shown[name].format(value)}" for name, value in figures.items() if value is not None
        )

    def _mean(self, before: float | None, now: float | None) -> float | None:
        """The plain mean of up to twenty values, then an exponential one; only finite values enter."""
        if now is None or not math.isfinite(now):
            return before
        return now if before is None else before + (now - before) / min(self.seen, 20)

    def __str__(self) -> str:
        parts = [f"step {self.step:,}/{self.steps:,}"]
        done = self.step - self.first
        if done > 0 and self.step < self.steps:
            # As of the last step: one that takes long, and is not done, would seem to make all others longer.
            seconds = (self.stepped - self.started) / done * (self.steps - self.step)
            parts.append(f"{duration(max(0.0, seconds - (time.monotonic() - self.stepped)))} left")
        if self.loss is not None:
            parts.append(f"loss {self.loss:.3f}")
        if self.validation is not None:
            parts.append(f"validation {self.validation:.3f}")
        if self.translated:
            parts.append(self.translated)
        if self.speed is not None:
            parts.append(f"{self.speed:,.0f} tokens/s")
            if self.peak and self.flops_per_token:
                parts.append(f"{self.speed * self.flops_per_token / self.peak:.0%} of peak")
        if self.part is not None and (part := str(self.part)):
            parts.append(part)
        return "  ".join(parts)


class Part:
    """Something on the way, which is worth telling of where it takes seconds: "evaluating 12%, 1:40 left"."""

    worth = 3.0

    def __init__(self, what: str, done: int) -> None:
        self.what, self.first, self.done, self.total = what, done, done, done
        self.began = time.monotonic()

    def __str__(self) -> str:
        if self.done == self.first:
            return ""
        gone = time.monotonic() - self.began
        left = gone / (self.done - self.first) * (self.total - self.done)
        if gone + left < self.worth:
            return ""
        return f"{self.what} {self.done / self.total:.0%}, {duration(left)} left"


def duration(seconds: float) -> str:
    """3725 → "1:02:05", 65 → "1:05"."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def introduction(info: Mapping[str, Any]) -> str:
    """What a run says before its first step."""
    device = info.get("device", "cpu")
    count = info.get("threads") if device == "cpu" else None
    threads = f", {count} thread{'s' * (count > 1)}" if count else ""
    processes = info.get("processes", 1)
    together = f", {processes} processes ({info.get('parallel', 'ddp')})" if processes > 1 else ""
    return (
        f"{info.get('recipe', 'run')}: {info.get('parameters', 0):,} parameters, "
        f"{info.get('train_tokens', 0):,} tokens of {info.get('source', 'text')}, "
        f"on {device} in {info.get('precision', 'fp32')}{threads}{together}\n"
        + (f"numbers: {formats}\n" if (formats := info.get("formats")) else "")
        + (f"attention: {name}\n" if (name := info.get("attention", "auto")) != "auto" else "")
        + f"{info.get('path', '')}"
    )


def farewell(info: Mapping[str, Any]) -> str:
    """What a run says after its last one."""
    best = info.get("best_loss")
    loss = f", best validation loss {best:.4f}" if isinstance(best, float) and best < float("inf") else ""
    if "actual" in info:
        planned, actual = info["planned"], info["actual"]
        part = actual["steps"] / max(planned["steps"], 1)  # it may have been stopped before its end
        loss += (
            f"\n{duration(actual['seconds'])} of training, {duration(part * planned['seconds'])} by plan, "
            f"at {actual['share']:.0%} of the matmul rate (primer plan {info.get('handle', 'latest')})"
        )
    use = {"translation": ("let it translate", "translate")}.get(
        str(info.get("kind")), ("let it write", "sample")
    )
    what, verb = use
    return (
        f"step {info.get('step', 0):,} is saved{loss}\n{what}: primer {verb} {info.get('handle', 'latest')}"
    )


class PlainReporter:
    """One line an evaluation, and one every half minute between them."""

    interval = 30.0

    def __init__(self, stream: TextIO) -> None:
        self.stream = cast(TextIO, Unfailing(stream))
        self.line = ProgressLine({"steps": 0})
        self.said = time.monotonic()

    def _say(self, text: str) -> None:
        print(text, file=self.stream, flush=True)

    def on_start(self, info: Mapping[str, Any]) -> None:
        self.line = ProgressLine(info)
        self._say(introduction(info))

    def on_step(self, row: Mapping[str, Any]) -> None:
        self.line.took_step(row)
        if "event" in row:
            self._say(f"step {row['step']:,}: {row['event']}")
        if time.monotonic() - self.said > self.interval:
            self._report()

    def on_part(self, what: str, done: int, total: int) -> None:
        self.line.did_part(what, done, total)
        if time.monotonic() - self.said > self.interval:
            self._report()

    def on_evaluate(self, row: Mapping[str, Any]) -> None:
        self.line.scored(row)
        self._report()

    def _report(self) -> None:
        self.said = time.monotonic()
        self._say(str(self.line))

    def on_sample(self, step: int, text: str) -> None:
        self._say(framed(step, text))

    def on_save(self, path: str) -> None:
        """Nothing: checkpoints are part of the day's work."""

    def on_message(self, text: str) -> None:
        self._say(text)

    def on_end(self, info: Mapping[str, Any]) -> None:
        self._say(farewell(info))


def framed(step: int, text: str) -> str:
    """A sample with a line above and below; characters that would steer a terminal are made visible."""
    return f"-- step {step:,} writes:\n{visible(text).strip(chr(10))}\n--"


def visible(text: str) -> str:
    """Text without control characters other than line feed and tab: a model may write any of them."""
    return "".join(c if c in "\n\t" or c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
