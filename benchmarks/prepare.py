"""How fast texts become token shards: `python benchmarks/prepare.py [--rounds 3] [--save]`.

JSON lines of documents of about 4,000 characters (Python's own documentation again and again, about 120 MB), with
GPT-2's tokenizer: `primer prepare` against the encoder alone on the same documents in memory, with as many threads.
First both must give the same ids. Then, in a process of its own, one document of 300 MB and one line of 100 MB, for
their memory.
Needs $PRIMER_DATA for GPT-2's vocabulary.
Goals: ≥ 80 % of what the encoder alone reaches; peak memory under 1.5 GB whatever the size.
"""

import argparse
import json
import multiprocessing
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from primer.corpus import open_source
from primer.data.prepare import prepare
from primer.device import cores
from primer.tokens import BPETokenizer, open_tokenizer
from receipt import write

DOCUMENT = 4000
REPEATS = 72
MEASURED = ("src/primer", "benchmarks/prepare.py")


def corpus(folder: Path) -> tuple[Path, list[str]]:
    """A file of documents, no two alike, and its texts."""
    text = "".join(open_source("python-docs").text())
    texts = [
        f"{number}: {text[start : start + DOCUMENT]}"
        for number in range(REPEATS)
        for start in range(0, len(text), DOCUMENT)
    ]
    file = folder / "documents.jsonl"
    with file.open("w", encoding="utf-8") as lines:
        for each in texts:
            lines.write(json.dumps({"text": each}) + "\n")
    return file, texts


def check(file: Path, texts: list[str], folder: Path) -> None:
    """The shards hold every document, encoded by itself, behind an end-of-text token."""
    tokenizer = gpt2()
    shards = prepare(file, tokenizer=tokenizer, out=folder / "checked")
    found = np.concatenate([shards.tokens("train")[:], shards.tokens("validation")[:]])
    begin = tokenizer.special_tokens["<|endoftext|>"]
    expected = [part for ids in tokenizer.encode_batch(texts, special="text") for part in ([begin], ids)]
    cut = len(shards.tokens("train")[:])  # the document in which the split falls is encoded in two parts
    whole = np.concatenate(expected)
    same = np.flatnonzero(found[:cut] != whole[:cut])
    assert not len(same) or same[0] > cut - 2 * DOCUMENT, "other ids"
    rest = len(found) - cut - 2 * DOCUMENT
    assert (found[-rest:] == whole[-rest:]).all(), "other ids"


def gpt2() -> BPETokenizer:
    tokenizer = open_tokenizer("gpt2")
    assert isinstance(tokenizer, BPETokenizer)
    return tokenizer


def peak_of(kind: str, folder: Path, queue: Any) -> None:
    """Peak memory of preparing one large text, beyond what the interpreter with its libraries takes."""
    gpt2().encode("warm")
    before = peak()
    piece = "".join(open_source("python-docs").text())
    file = folder / f"{kind}.txt"
    goal = 300_000_000 if kind == "one document" else 100_000_000
    with file.open("w", encoding="utf-8") as out:
        for _ in range(goal // len(piece)):
            out.write(piece if kind == "one document" else piece.replace("\n", " "))
    del piece
    prepare(file, tokenizer="gpt2", out=folder / f"{kind} shards")
    queue.put({"above_interpreter_mb": round((peak() - before) / 1e6), "peak_mb": round(peak() / 1e6)})


def peak() -> int:
    """Bytes at the highest, of this program alone (`ru_maxrss` remembers the one that started it)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="turns that each takes (default 3)")
    parser.add_argument(
        "--save", action="store_true", help="keep the figures in benchmarks/results/prepare.json"
    )
    options = parser.parse_args()
    figures: dict[str, Any] = {"threads": cores()}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file, texts = corpus(folder)
        check(file, texts, folder)
        size = sum(len(text.encode()) for text in texts)
        tokenizer = gpt2()
        shares, alone, whole = [], [], []
        for _ in range(options.rounds):
            started = time.perf_counter()
            tokenizer.encode_batch(texts, special="text")
            alone.append(time.perf_counter() - started)
            started = time.perf_counter()
            prepare(file, tokenizer=tokenizer, out=folder / "timed")
            whole.append(time.perf_counter() - started)
            shutil.rmtree(folder / "timed")
            shares.append(alone[-1] / whole[-1])
        figures |= {
            "megabytes": round(size / 1e6, 1),
            "encoder_alone_mb_per_second": round(size / statistics.median(alone) / 1e6, 2),
            "prepare_mb_per_second": round(size / statistics.median(whole) / 1e6, 2),
            "share_of_the_encoder": round(statistics.median(shares), 3),
            "shares": [round(share, 3) for share in shares],
        }
        context = multiprocessing.get_context("spawn")
        for kind in ("one document", "one line"):
            queue = context.Queue()
            process = context.Process(target=peak_of, args=(kind, folder, queue))
            process.start()
            figures[kind] = queue.get(timeout=1200)
            process.join()
    Console().print(figures)
    if options.save:
        print(write("prepare", figures, measured=MEASURED).name)


if __name__ == "__main__":
    main()
