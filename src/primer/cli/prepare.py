"""`primer prepare`: from texts of any size to a folder of token shards to train on."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from primer.assets import left_behind
from primer.cli.flags import Verb, own_flags, parse, required, show_help
from primer.errors import StoppedError

if TYPE_CHECKING:
    from primer.data.shards import ShardDirectory


@dataclass(frozen=True)
class Options:
    """Of the command."""

    out: str = "shards"
    """The folder to make; what is there already is kept if it was made from the same texts in the same way."""
    tokenizer: str = "gpt2"
    """gpt2, byte, char, or a file that `primer tokenizer train` wrote."""
    validation_fraction: float = 0.1
    """The last part of the text, kept away from training."""
    limit_tokens: int = 0
    """Stop after so many tokens; the first of them, by that fraction, are then for validation. 0: everything."""
    threads: int = 0
    """How many encode at once. 0: as many as there are cores."""
    unknown: Literal["error", "skip"] = "error"
    """A character that the tokenizer has never seen: stop and name it, or drop it and say how many."""
    encoding: str = "utf-8"
    """How the files' bytes become characters."""
    encoding_errors: Literal["strict", "replace", "ignore"] = "strict"
    """Bytes that are no text: stop and name the offset, put U+FFFD in their place, or drop them."""
    field: str = "text"
    """Where a .jsonl or .parquet file keeps its text: a key, a column."""
    json: bool = False
    """Print one JSON object."""


VERB = Verb(
    name="prepare",
    takes="TEXT…",
    about="Turn texts into token shards, on all cores and with little memory: .txt, .md, .jsonl or .parquet files, "
    "folders of them, or named sources (python-docs, shakespeare, fineweb-edu-10B, fineweb-10B). Killed or stopped, "
    "the same command goes on where it was. Then: primer train RECIPE --data.source=FOLDER.",
    examples=(
        "primer prepare my-texts --out=my-shards",
        "primer prepare a.jsonl b.parquet --out=shards --tokenizer=tokenizer.json",
        "primer prepare fineweb-edu-10B --out=fineweb --limit-tokens=100000000",
    ),
    options=Options,
    most=1 << 20,
)


def run(argv: Sequence[str]) -> int:
    """Prepare, with progress on stderr, and print what was made."""
    arguments = parse(VERB, argv)
    if arguments.help:
        show_help(VERB)
        return 0
    required(arguments, VERB, "a text")

    from primer.data.prepare import is_prepared, prepare

    options = arguments.options
    progress = Progress()
    was_there = is_prepared(options.out)
    started = time.monotonic()
    try:
        with politely_stopped(), own_flags():
            shards = prepare(
                arguments.values,
                tokenizer=options.tokenizer,
                out=Path(options.out),
                validation_fraction=options.validation_fraction,
                limit_tokens=options.limit_tokens,
                unknown=options.unknown,
                encoding=options.encoding,
                encoding_errors=options.encoding_errors,
                field=options.field,
                threads=options.threads,
                progress=progress,
            )
    except KeyboardInterrupt as error:
        raise stopped(Path(options.out), error.args[0] if error.args else 2) from error
    finally:
        progress.end()
    found = summary(shards) | {"made": not was_there, "seconds": round(time.monotonic() - started, 1)}
    print(json.dumps(found, ensure_ascii=False) if options.json else in_lines(found))
    return 0


@contextmanager
def politely_stopped() -> Iterator[None]:
    """A polite kill and a closed terminal are a Ctrl-C: what was done is kept, and said."""
    before: dict[int, Any] = {}

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt(number)

    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is None or signal.getsignal(number) == signal.SIG_IGN:  # `nohup primer prepare … &`
            continue
        before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stopped(out: Path, number: int) -> StoppedError:
    """What a signal leaves, in words."""
    kept = any(left_behind(out))
    return StoppedError(
        "what was done is kept, but for the last seconds" if kept else "before anything was kept",
        str(out),
        "the same command, which goes on from there" if kept else "the same command",
        128 + number,
    )


def summary(shards: ShardDirectory) -> dict[str, Any]:
    """What a shard directory holds, as plain values."""
    counts = shards.counts
    total = {name: sum(each[name] for each in counts.values()) for name in counts["train"]}
    return {
        "path": str(shards.path),
        "source": shards.source["name"],
        "tokenizer": shards.tokenizer.name,
        "vocabulary": shards.tokenizer.vocab_size,
        "train_tokens": counts["train"]["tokens"],
        "validation_tokens": counts["validation"]["tokens"],
        "bytes": total["bytes"],
        "bytes_per_token": round(total["bytes"] / max(total["tokens"], 1), 3),
        "skipped": total["skipped"],
        "shards": len(list(shards.path.glob("*.bin"))),
        "fingerprint": shards.fingerprint,
    }


def in_lines(found: dict[str, Any]) -> str:
    """The same for people."""
    lines = {
        "shards": f"{found['shards']} in {found['path']}",
        "tokens": f"{found['train_tokens']:,} to train on, {found['validation_tokens']:,} to validate with",
        "bytes": f"{found['bytes']:,} of text, {found['bytes_per_token']} a token",
        "vocabulary": f"{found['vocabulary']:,} ({found['tokenizer']})",
        "took": f"{found['seconds']:.1f} s" + ("" if found["made"] else ": they were there already"),
        "next": f"primer plan gpt2-124m --data.source={found['path']}, then the same with train",
    }
    if found["skipped"]:
        lines["dropped"] = f"{found['skipped']:,} characters that the tokenizer does not know"
    return "\n".join(f"{name:<11} {text}" for name, text in lines.items())


class Line:
    """A line that renews itself on a terminal, a line every half minute elsewhere."""

    def __init__(self) -> None:
        self.live = sys.stderr.isatty()
        self.said = time.monotonic()
        self.wrote = False

    def is_due(self, now: float) -> bool:
        """Whether it is time to say something; whoever asks says it then."""
        if now - self.said < (0.25 if self.live else 30.0):
            return False
        self.said = now
        return True

    def say(self, text: str) -> None:
        """Write the line."""
        print(
            f"\r\x1b[K{text}" if self.live else text,
            end="" if self.live else "\n",
            file=sys.stderr,
            flush=True,
        )
        self.wrote = True

    def end(self) -> None:
        """Leave the line."""
        if self.live and self.wrote:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


class Progress(Line):
    """How far the preparing of a text is."""

    def __init__(self) -> None:
        super().__init__()
        self.stage, self.started, self.before = "", 0.0, 0

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if stage != self.stage:
            self.stage, self.started, self.before = stage, now, done
        if not self.is_due(now):
            return
        speed = (done - self.before) / max(now - self.started, 1e-9)
        unit = "tokens" if stage == "tokens" else "characters"
        share = f"{done / total:.0%}" if total else f"{done:,} {unit}"
        left = f", {duration(max(total - done, 0) / speed)} left" if total and speed else ""
        self.say(f"{stage}: {share}, {speed / 1e6:.1f} million {unit}/s{left}")


def duration(seconds: float) -> str:
    """3725 → "1:02:05"."""
    from primer.recipes.report import duration as written

    return written(seconds)
