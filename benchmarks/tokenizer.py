"""How fast byte-level BPE is against the field's libraries: `python benchmarks/tokenizer.py [--rounds 5] [--save]`.

Goals: encoding at ≥ 90 % of tiktoken's own speed, on one thread and on all; learning a vocabulary of 32,768 at least as
fast as the `tokenizers` library on the same text with the same threads. Correctness first: same ids, same merges.
It needs GPT-2's two files and as much text as $PRIMER_DATA holds: tiny Shakespeare, Multi30k, the evaluation sets,
and the documentation that Python carries.
"""

from __future__ import annotations

import argparse
import gzip
import os
import statistics
import time
from pathlib import Path

import numpy as np
import tiktoken
import tokenizers
from rich.console import Console
from rich.table import Table
from tiktoken.load import data_gym_to_mergeable_bpe_ranks
from tiktoken_ext import openai_public

from primer.assets import find
from primer.corpus import open_source
from primer.tokens import BPETokenizer
from primer.tokens.blocks import blocks
from primer.tokens.gpt2 import ENCODER, MERGES, gpt2, spelled, spelling
from primer.tokens.pairs import count_chunks, train_chunks
from primer.tokens.patterns import PATTERNS, PatternName, splitter
from primer.tokens.vocabulary import token_bytes
from receipt import take_turns, write
from text import PEAK, child

MEASURED = ("benchmarks/tokenizer.py", "src/primer/tokens")
VOCABULARY = 32_768


def corpus() -> str:
    """All the text there is here, about 11 MB."""
    parts = ["".join(open_source("python-docs").text()), "".join(open_source("shakespeare").text())]
    data = Path(os.environ.get("PRIMER_DATA", "."))
    parts += [gzip.decompress(path.read_bytes()).decode() for path in sorted(data.glob("multi30k/*.gz"))]
    parts += [path.read_text(encoding="utf-8") for path in sorted(data.glob("eval/*.jsonl"))]
    return "\n\n".join(parts)


def published() -> tiktoken.Encoding:
    """tiktoken's own gpt2, from local files instead of its downloads."""
    ranks = data_gym_to_mergeable_bpe_ranks(str(find(MERGES)), str(find(ENCODER)))
    return tiktoken.Encoding(
        "gpt2",
        pat_str=openai_public.r50k_pat_str,
        mergeable_ranks=ranks,
        special_tokens={"<|endoftext|>": 50256},
    )


def encoding(text: str, rounds: int) -> dict[str, float]:
    """MB/s of GPT-2's vocabulary, ours and tiktoken's in turns; the ratio is the median of the rounds' ratios."""
    mine, theirs, readable = gpt2(), published(), gpt2(implementation="readable")
    sample = text[:2_000_000]
    ids = mine.encode(text)
    assert np.array_equal(ids, theirs.encode_to_numpy(text))
    assert np.array_equal(readable.encode(sample), mine.encode(sample))
    assert np.array_equal(mine.encode_batch([text])[0], ids)
    assert mine.decode(ids) == text
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    pieces = [text[start:end] for start, end in blocks(text, 0, len(text))]
    seconds = take_turns(
        {
            "ours": lambda: mine.encode(text),
            "numpy": lambda: theirs.encode_to_numpy(text),
            "list": lambda: theirs.encode_ordinary(text),
            "ours, batch": lambda: mine.encode_batch(pieces, threads=cores),
            "batch": lambda: theirs.encode_ordinary_batch(pieces, num_threads=cores),
            "one text": lambda: mine.encode_batch([text], threads=cores),
        },
        rounds,
    )
    slow = take_turns({"readable": lambda: gpt2(implementation="readable").encode(sample)}, min(rounds, 3))
    size = len(text.encode()) / 1e6
    fastest = [min(pair) for pair in zip(seconds["numpy"], seconds["list"], strict=True)]
    return {
        "encode, one thread (MB/s)": size / statistics.median(seconds["ours"]),
        "… ÷ tiktoken's faster way": ratio(fastest, seconds["ours"]),
        f"encode, {cores} threads (MB/s)": size / statistics.median(seconds["ours, batch"]),
        "… ÷ tiktoken's batch": ratio(seconds["batch"], seconds["ours, batch"]),
        f"one long text, {cores} threads (MB/s)": size / statistics.median(seconds["one text"]),
        "encode, readable, with loading (MB/s)": len(sample.encode()) / 1e6 / statistics.median(slow["readable"]),
        "decode (million tokens/s)": len(ids) / 1e6 / statistics.median(
            take_turns({"decode": lambda: mine.decode(ids)}, rounds)["decode"]
        ),
    }  # fmt: skip


def ratio(theirs: list[float], ours: list[float]) -> float:
    """How many times as fast we are: the median over rounds."""
    return statistics.median(their / our for their, our in zip(theirs, ours, strict=True))


def learning(text: str, rounds: int) -> dict[str, float]:
    """Seconds to learn the vocabulary, ours and the `tokenizers` library's in turns, on all cores."""
    pieces = [text[start:end] for start, end in blocks(text, 0, len(text))]
    figures: dict[str, float] = {}
    for pattern in PATTERNS:
        same_merges(text[:1_000_000], pattern)
        seconds = take_turns(
            {
                "ours": lambda: BPETokenizer.train(pieces, VOCABULARY, pattern=pattern),  # noqa: B023
                "theirs": lambda: library(pieces, VOCABULARY, pattern),  # noqa: B023
            },
            rounds,
        )
        figures[f"learn {VOCABULARY:,}, {pattern}'s pattern (s)"] = statistics.median(seconds["ours"])
        figures[f"… the tokenizers library, {pattern} (s)"] = statistics.median(seconds["theirs"])
        figures[f"… times as fast, {pattern}"] = ratio(seconds["theirs"], seconds["ours"])
    started = time.perf_counter()
    slow = BPETokenizer.train(pieces, VOCABULARY, implementation="readable")
    figures[f"learn {VOCABULARY:,}, readable (s)"] = time.perf_counter() - started
    assert slow.merges == BPETokenizer.train(pieces, VOCABULARY).merges
    return figures


def library(pieces: list[str], size: int, pattern: PatternName) -> tokenizers.Tokenizer:
    """A vocabulary that the `tokenizers` library learned; its ByteLevel splits with GPT-2's pattern by itself."""
    before = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pattern == "gpt2")
    if pattern != "gpt2":
        split = tokenizers.pre_tokenizers.Split(tokenizers.Regex(PATTERNS[pattern]), "isolated")
        before = tokenizers.pre_tokenizers.Sequence([split, before])
    learner = tokenizers.Tokenizer(tokenizers.models.BPE())
    learner.pre_tokenizer = before
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    learner.train_from_iterator(pieces, trainer)
    return learner


def same_merges(text: str, pattern: PatternName) -> None:
    """The library learns what we learn, once the bytes are numbered as it numbers them, which decides among equals."""
    order = bytes(sorted(spelling(), key=lambda byte: spelling()[byte]))
    table = bytes(order.index(byte) for byte in range(256))
    chunks = count_chunks([text], splitter(pattern))
    merges = train_chunks({chunk.translate(table): often for chunk, often in chunks.items()}, 1000)
    ours = [spelled(token) for token in token_bytes(order, merges)]
    vocabulary = library([text], 1256, pattern).get_vocab()
    assert ours == sorted(vocabulary, key=lambda token: vocabulary[token])
    readable, fast = (
        BPETokenizer.train([text], 1256, pattern=pattern, implementation=way) for way in ("readable", "fast")
    )
    assert readable.merges == fast.merges


LINE = (
    PEAK
    + """
import time
from primer.tokens.gpt2 import gpt2
tokenizer = gpt2()
tokenizer.encode("warm")
before = peak()
text = sys.argv[1] * (100_000_000 // len(sys.argv[1]))
start = time.perf_counter()
ids = tokenizer.encode(text)
print(time.perf_counter() - start, (peak() - before) / 1e6)
"""
)


def endless_lines() -> dict[str, float]:
    """100 MB in one line, most without a place to cut, each in a fresh process: seconds, and how memory grew."""
    figures = {}
    for name, unit in (("letters", "acgtca"), ("spaces", " "), ("marks", "="), ("words", "word, ")):
        seconds, megabytes = child(LINE, unit)
        figures[f"100 MB of {name} in one line (s)"] = seconds
        figures[f"… peak memory with these 100 MB, {name} (MB)"] = megabytes
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5, help="turns that each takes (default 5)")
    parser.add_argument(
        "--save", action="store_true", help="keep the figures in benchmarks/results/tokenizer.json"
    )
    options = parser.parse_args()
    text = corpus()
    figures = {"text (MB)": len(text.encode()) / 1e6}
    figures |= encoding(text, options.rounds) | learning(text, options.rounds)
    figures |= endless_lines()
    table = Table("byte-level BPE", "measured")
    table.columns[1].justify = "right"
    for name, value in figures.items():
        table.add_row(name, f"{value:,.3g}" if value < 100 else f"{value:,.0f}")
    Console().print(table)
    if options.save:
        write("tokenizer", {name: round(value, 4) for name, value in figures.items()}, measured=MEASURED)


if __name__ == "__main__":
    main()
