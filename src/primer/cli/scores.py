"""Scores as one reads them, and a word on stderr while they are being made."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from types import TracebackType
from typing import TYPE_CHECKING, Any

from primer.cli.table import table
from primer.recipes.report import duration

if TYPE_CHECKING:
    from primer.evals.interval import Estimate
    from primer.evals.multiple_choice import TaskScore

PATIENCE = 10.0
"""Seconds between two words on the way, where they cannot write over each other."""


class Ticker:
    """Called with (done, all): says how far it is, on a terminal in one line that renews itself."""

    def __init__(self, name: str, unit: str = "answers") -> None:
        self.name, self.unit = name, unit
        self.began, self.first = time.monotonic(), 0
        self.live = bool(sys.stderr) and sys.stderr.isatty()
        self.last = time.monotonic()
        self.width = 0

    def __enter__(self) -> Ticker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.width:
            print(f"\r{' ' * self.width}\r", end="", file=sys.stderr, flush=True)

    def __call__(self, done: int, total: int) -> None:
        if not self.first:  # the first ones paid for what happens once
            self.began, self.first = time.monotonic(), done
        if not sys.stderr or time.monotonic() - self.last < (0.2 if self.live else PATIENCE):
            return
        self.last = time.monotonic()
        text = f"{self.name}: {done:,} of {total:,} {self.unit}"
        if done > self.first > 0:
            left = (self.last - self.began) / (done - self.first) * (total - done)
            text += f", {duration(left)} left"
        print(
            f"\r{text:<{self.width}}" if self.live else text,
            end="" if self.live else "\n",
            file=sys.stderr,
            flush=True,
        )
        self.width = len(text) if self.live else 0


def of_text(score: Mapping[str, Any], on: str) -> str:
    """What `Run.evaluate` says, line by line."""
    lines = [
        f"loss           {score['loss']:.4f} nats a token",
        f"perplexity     {score['perplexity']:.3f}",
        f"bits per byte  {score['bits_per_byte']:.4f}",
        f"on             {score['tokens']:,} tokens of {on}",
    ]
    if score["skipped"]:
        lines.append(f"dropped        {score['skipped']:,} characters that the run has never seen")
    return "\n".join(lines)


def of_pairs(score: Mapping[str, Any], on: str) -> str:
    """What `Run.evaluate_pairs` says, line by line."""
    share = f"{score['exact']:.2%} (95 %: {score['exact_low']:.2%} to {score['exact_high']:.2%})"
    lines = [
        f"BLEU           {score['bleu']:.2f}   {score['signature']}",
        f"chrF           {score['chrf']:.2f}",
        f"exact          {share}",
        f"loss           {score['loss']:.4f} nats a token",
        f"perplexity     {score['perplexity']:.3f} a token, {score['word_perplexity']:.2f} a word",
        f"on             {score['pairs']:,} pairs of {on}, with a beam of {score['beam']}",
    ]
    if score["left_out"]:
        lines.append(
            f"left out       {score['left_out']:,} pairs with a sentence that is too long for the model"
        )
    return "\n".join(lines)


def fields(score: TaskScore) -> dict[str, Any]:
    """A task's score as JSON holds it, with what the released GPT-2 gets."""
    from primer.evals.figures import known

    return asdict(score) | {"gpt2_124m": [asdict(figure) for figure in known(score.task)]}


COLUMNS = ("accuracy", "by_character", "by_token", "perplexity")


def of_tasks(scores: Sequence[TaskScore], context_length: int) -> str:
    """A table with the figures of the released GPT-2 below ours, and what is to be known about both."""
    from primer.evals.figures import known

    columns = [name for name in COLUMNS if any(getattr(score, name) is not None for score in scores)]
    rows = [["task", "questions", "chance", *(name.replace("_", " ") for name in columns)]]
    sources: list[str] = []
    for score in scores:
        name = f"{score.task}, {score.shots} shots" if score.shots else score.task
        chance = "–" if score.chance is None else f"{score.chance:.2f}"
        rows.append(
            [name, f"{score.questions:,}", chance, *(_estimate(getattr(score, name)) for name in columns)]
        )
        for figure in known(score.task) if not score.shots else ():
            if figure.source not in sources:
                sources.append(figure.source)
            mark = sources.index(figure.source) + 1
            values = (getattr(figure, name) for name in columns)
            rows.append(
                [f"  GPT-2 124M [{mark}]", "", "", *("" if v is None else _number(v) for v in values)]
            )
    notes = [
        "(…): between these with 95 % confidence",
        *(f"[{n}] {source}" for n, source in enumerate(sources, start=1)),
    ]
    for score in scores:
        if score.cut:
            notes.append(
                f"{score.task}: {score.cut:,} questions are longer than the model's context of {context_length} "
                "tokens, and lost their beginning"
            )
    return table(rows, right={1, 2}) + "\n\n" + "\n".join(notes)


def of_harness(found: Mapping[str, Mapping[str, Any]]) -> str:
    """The harness' metrics, one a row."""
    rows = [["task", "metric", "value", "standard error"]]
    for task, scores in found.items():
        for name, value in scores.items():
            metric, _, rest = name.partition(",")
            if rest and not metric.endswith("_stderr") and isinstance(value, int | float):
                error = scores.get(f"{metric}_stderr,{rest}")
                rows.append(
                    [task, metric, _number(value), _number(error) if isinstance(error, float) else "–"]
                )
    return table(rows, right={2, 3})


def _estimate(estimate: Estimate | None) -> str:
    if estimate is None:
        return "–"
    low, high = (_number(value, 3) for value in (estimate.low, estimate.high))
    return f"{_number(estimate.value)} ({low}–{high})"


def _number(value: float, digits: int = 4) -> str:
    if value < 10:
        return f"{value:.{digits}f}"
    return f"{value:,.2f}" if value < 1e6 else f"{value:.2e}"
