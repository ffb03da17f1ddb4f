"""`primer tokenizer`: train one on a text, encode and decode with it, and look at what it does."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from primer.cli.flags import Verb, parse, required, show_help
from primer.cli.stdin import as_text, from_stdin
from primer.errors import DataError, UsageError, nearest

if TYPE_CHECKING:
    from primer.tokens import Tokenizer


@dataclass(frozen=True)
class ReadOptions:
    """How files become text, as for training."""

    encoding: str = "utf-8"
    """Of text files without a byte order mark."""
    encoding_errors: Literal["strict", "replace", "ignore"] = "strict"
    """What to do with bytes that are not of this encoding."""
    field: str = "text"
    """Where .jsonl and .parquet files keep their text."""


@dataclass(frozen=True)
class TrainOptions:
    """Of the command."""

    vocab_size: int = 4096
    """Tokens in all: bytes, merges and special ones. 4,096 suits a few megabytes, 32,768 some gigabytes."""
    out: str = "tokenizer.json"
    """The file to write."""
    pattern: Literal["gpt2", "gpt4"] = "gpt4"
    """Where a text is split before merging: as for GPT-2, or as for GPT-4 (numbers in threes, better for code)."""
    special: tuple[str, ...] = ("<|endoftext|>",)
    """Special tokens, the flag once for each. --special= for none."""
    overwrite: bool = False
    """Replace the file where there is one."""
    json: bool = False
    """Print one JSON object."""
    data: ReadOptions = ReadOptions()


@dataclass(frozen=True)
class CodeOptions:
    """Of the command."""

    special: Literal["refuse", "allow", "text"] = "refuse"
    """Where the text spells a special token: refuse it, take it for the token, or for ordinary characters."""
    json: bool = False
    """Print one JSON object: the ids, and each token as text (bytes that are none by themselves as \\x..)."""
    runs_dir: str = "runs"
    """Where runs are kept."""


@dataclass(frozen=True)
class DecodeOptions:
    """Of the command."""

    json: bool = False
    """Print one JSON object: the ids, and the text."""
    runs_dir: str = "runs"
    """Where runs are kept."""


@dataclass(frozen=True)
class ReportOptions:
    """Of the command."""

    passage: int = 400
    """How many characters to show with their tokens' borders."""
    longest: int = 10
    """How many of the longest tokens to list."""
    json: bool = False
    """Print one JSON object."""
    runs_dir: str = "runs"
    """Where runs are kept."""
    data: ReadOptions = ReadOptions()


@dataclass(frozen=True)
class NoOptions:
    """Of the word itself."""


WHICH = (
    " TOKENIZER is gpt2, byte, a file that train wrote, or a run (a path, the beginning of an id, latest)."
)

TRAIN = Verb(
    "tokenizer train",
    "TEXT",
    "Learn a byte-level BPE vocabulary from TEXT: a named source (python-docs, shakespeare), a file, or a folder of "
    "them, as for primer train.",
    (
        "primer tokenizer train my.txt",
        "primer tokenizer train shakespeare --vocab-size=1024 --out=shakespeare.json",
        "primer tokenizer train my-texts --vocab-size=32768 --pattern=gpt2 --special='<|user|>' --special='<|end|>'",
    ),
    TrainOptions,
)
ENCODE = Verb(
    "tokenizer encode",
    "TOKENIZER [TEXT]",
    "The ids of TEXT, or of what comes through a pipe, to the last byte." + WHICH,
    (
        'primer tokenizer encode gpt2 "hello world"',
        "primer tokenizer encode tokenizer.json < my.txt",
        'primer tokenizer encode gpt2 "one<|endoftext|>two" --special=allow --json',
    ),
    CodeOptions,
    most=2,
)
DECODE = Verb(
    "tokenizer decode",
    "TOKENIZER [IDS …]",
    "The text of ids: numbers with spaces or commas between them, here or through a pipe." + WHICH,
    (
        "primer tokenizer decode gpt2 31373 995",
        "primer tokenizer encode gpt2 < my.txt | primer tokenizer decode gpt2",
        "primer tokenizer decode latest 0 1 2 --json",
    ),
    DecodeOptions,
    most=1 << 30,
)
REPORT = Verb(
    "tokenizer report",
    "TOKENIZER [TEXT …]",
    "Bytes a token of each TEXT (of sentences in many languages, where there is none), the longest tokens, how often "
    "each length occurs, and a passage with the borders of its tokens." + WHICH,
    (
        "primer tokenizer report gpt2",
        "primer tokenizer report tokenizer.json my.txt other.txt",
        "primer tokenizer report latest --json",
    ),
    ReportOptions,
    most=1 << 30,
)
VERBS = Verb(
    "tokenizer",
    "train|encode|decode|report",
    "Make a tokenizer, use it, look at it. Each of the four words has a help of its own.",
    (TRAIN.examples[0], ENCODE.examples[0], REPORT.examples[0]),
    NoOptions,
)


def run(argv: Sequence[str]) -> int:
    """Run one of the four verbs below `tokenizer`."""
    verbs: dict[str, Callable[[Sequence[str]], int]] = {
        "train": train,
        "encode": encode,
        "decode": decode,
        "report": report,
    }
    word, *rest = argv or [""]
    if word in verbs:
        return verbs[word](rest)
    if "-h" in argv or "--help" in argv:
        show_help(VERBS)
        return 0
    if not word:
        raise UsageError("primer tokenizer needs a verb", hint=f"one of {', '.join(verbs)}")
    close = nearest(word, list(verbs))
    raise UsageError(f"unknown verb {word!r}", "primer tokenizer", f"primer tokenizer {close or '--help'}")


def train(argv: Sequence[str]) -> int:
    """Learn a vocabulary and write it."""
    arguments = parse(TRAIN, argv)
    if arguments.help:
        show_help(TRAIN)
        return 0
    spec, options = required(arguments, TRAIN, "a text"), arguments.options
    out = Path(options.out)
    if out.exists() and not options.overwrite:
        raise UsageError(f"{out} is there already", hint="--overwrite, or another --out")

    from primer.assets import replacing
    from primer.corpus import open_source
    from primer.tokens import BPETokenizer
    from primer.tokens.blocks import rejoined

    how = options.data
    source = open_source(spec, encoding=how.encoding, encoding_errors=how.encoding_errors, field=how.field)
    started = time.monotonic()
    try:
        tokenizer = BPETokenizer.train(
            rejoined(counted(source.text())),
            options.vocab_size,
            pattern=options.pattern,
            special_tokens=[name for name in options.special if name],
        )
    except DataError as error:
        raise DataError(error.cause, error.where or source.address, error.hint) from error
    with replacing(out) as file:
        file.write(tokenizer.to_json().encode())
    seconds = time.monotonic() - started
    print(f"{tokenizer.vocab_size:,} tokens in {seconds:.1f} s", file=sys.stderr)
    facts = {"path": str(out), "vocab_size": tokenizer.vocab_size, "fingerprint": tokenizer.fingerprint}
    facts |= {"pattern": tokenizer.pattern, "special_tokens": dict(tokenizer.special_tokens)}
    print(json.dumps(facts, ensure_ascii=False) if options.json else out)
    return 0


def counted(pieces: Iterable[str], interval: float = 10.0) -> Iterator[str]:
    """The pieces, and on stderr how far they have come: one line that renews itself, or now and then a new one."""
    live = sys.stderr.isatty()
    end, interval = ("\r", 0.1) if live else ("\n", interval)
    characters, said = 0, time.monotonic()
    for piece in pieces:
        yield piece
        characters += len(piece)
        if time.monotonic() - said > interval:
            print(f"read {characters:,} characters", end=end, file=sys.stderr, flush=True)
            said = time.monotonic()
    print(f"read {characters:,} characters; learning merges", file=sys.stderr, flush=True)


def encode(argv: Sequence[str]) -> int:
    """Print the ids of a text."""
    arguments = parse(ENCODE, argv)
    if arguments.help:
        show_help(ENCODE)
        return 0
    tokenizer = opened(required(arguments, ENCODE, "a tokenizer"), arguments.options.runs_dir)
    given = arguments.values[1] if len(arguments.values) > 1 else None
    text = piped("the text") if given is None or given == "-" else given
    ids = encoded(tokenizer, text, arguments.options.special).tolist()
    if arguments.options.json:
        from primer.cli.tokens_seen import written

        tokens = [written(tokenizer, token) for token in ids]
        print(json.dumps({"ids": ids, "tokens": tokens}, ensure_ascii=False))
    else:
        print(*ids)
    return 0


def encoded(tokenizer: Tokenizer, text: str, special: Literal["refuse", "allow", "text"]) -> Any:
    """The ids, or what is wrong with the text in the words of this command."""
    from primer.tokens import SpecialTokenError, UnknownCharacterError

    try:
        return tokenizer.encode(text, special=special)
    except SpecialTokenError as error:
        hint = "--special=text (as characters) or --special=allow (as the token)"
        raise DataError(error.cause, "the text", hint) from error
    except UnknownCharacterError as error:
        raise DataError(error.cause, "the text", "write it without that character") from error


def decode(argv: Sequence[str]) -> int:
    """Print the text of ids."""
    arguments = parse(DECODE, argv)
    if arguments.help:
        show_help(DECODE)
        return 0
    tokenizer = opened(required(arguments, DECODE, "a tokenizer"), arguments.options.runs_dir)
    words = " ".join(arguments.values[1:]) if len(arguments.values) > 1 else piped("the ids")
    ids = numbers(words, tokenizer.vocab_size)
    text = tokenizer.decode(ids)
    if arguments.options.json:
        print(json.dumps({"ids": ids, "text": text}, ensure_ascii=False))
    else:
        print(text, end="\n" if sys.stdout.isatty() else "")
    return 0


def numbers(words: str, vocab_size: int) -> list[int]:
    """The ids that a text lists. DataError names the first that is none, with its position."""
    ids = []
    for position, word in enumerate(re.findall(r"[^\s,\[\]]+", words)):
        where = f"position {position} of the ids"
        if not re.fullmatch(r"-?[0-9]{1,30}", word):
            raise DataError(f"{word[:40]!r} is no token id", where, "whole numbers, with spaces between them")
        if not 0 <= int(word) < vocab_size:
            raise DataError(
                f"token id {word} is outside the vocabulary of {vocab_size:,}",
                where,
                f"numbers from 0 to {vocab_size - 1}",
            )
        ids.append(int(word))
    return ids


def report(argv: Sequence[str]) -> int:
    """Print what a tokenizer makes of texts."""
    arguments = parse(REPORT, argv)
    if arguments.help:
        show_help(REPORT)
        return 0
    name = required(arguments, REPORT, "a tokenizer")
    if min(arguments.options.passage, arguments.options.longest) < 0:
        raise UsageError("--passage and --longest must not be negative", hint="--passage=0 for none")
    tokenizer = opened(name, arguments.options.runs_dir)

    from primer.cli.tokens_seen import look, page

    how = arguments.options.data
    seen = look(
        tokenizer,
        arguments.values[1:],
        decoding={"encoding": how.encoding, "encoding_errors": how.encoding_errors, "field": how.field},
        passage=arguments.options.passage,
        longest=arguments.options.longest,
    )
    print(
        json.dumps({"tokenizer": name, **seen}, ensure_ascii=False) if arguments.options.json else page(seen)
    )
    return 0


def opened(name: str, runs_dir: str) -> Tokenizer:
    """The tokenizer of that name, in that file, or of that run."""
    from primer.tokens import NAMED, open_tokenizer

    if name in NAMED or Path(name).is_file():
        return open_tokenizer(name)
    close = nearest(name, list(NAMED))
    hint = f"did you mean {close}?" if close else f"{', '.join(NAMED)}, a file that train wrote, or a run"

    from primer.recipes.directory import find
    from primer.recipes.text import read_tokenizer

    try:
        run = find(name, runs_dir)
    except DataError as error:
        raise DataError(
            f"{name!r} is no tokenizer: no name, no file, and {error.cause}", None, hint
        ) from error
    return read_tokenizer(run)


def piped(what: str) -> str:
    """All that comes on stdin; UsageError on a terminal."""
    content = from_stdin()
    if content is None:
        raise UsageError(f"{what} is missing", hint="write it behind the tokenizer, or put a pipe in front")
    return as_text(content, what)
