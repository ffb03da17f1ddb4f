"""How fast text becomes tokens, and in how little memory: `python benchmarks/text.py [--size 1000] [--save]`.

Goals: characters are encoded at ≥ 50 MB/s; a text of 1 GB becomes shards in ≤ 150 MB above the interpreter's own
memory; the built-in text is made in ≤ 5 s; nobody waits for a batch.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from primer.corpus import open_source
from primer.tokens import ByteTokenizer, CharTokenizer
from primer.tokens.char import alphabet

MEASURED = (
    "benchmarks/text.py",
    *(f"src/primer/{room}" for room in ("assets.py", "tokens", "corpus", "data")),
)
SAMPLE = 50_000_000
"""Characters that the tokenizers are timed on, at most."""

# What the children run. VmHWM is the peak of this very process, which ru_maxrss is not: that one survives exec.
PEAK = """
import resource, sys
def peak():
    try:
        lines = open("/proc/self/status").read().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024
    except (OSError, StopIteration):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
"""
BARE = PEAK + "print(peak())"
PREPARE = (
    PEAK
    + """
import time
from pathlib import Path
start = time.perf_counter()
from primer.data.prepare import prepare
shards = prepare(sys.argv[1], out=Path(sys.argv[2]))
assert "torch" not in sys.modules
print(peak(), time.perf_counter() - start, sum(counts["tokens"] for counts in shards.counts.values()))
"""
)


def child(code: str, *arguments: str, **variables: str) -> list[float]:
    """The numbers that a fresh interpreter prints."""
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | variables)
    return [float(number) for number in done.stdout.split()]


def seconds(work: Callable[[], object], repeats: int = 5) -> float:
    """The median duration of `work`."""
    durations = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        durations.append(time.perf_counter() - start)
    return statistics.median(durations)


def check(text: str) -> None:
    """Correctness first: the ids are those of a dictionary, and the text comes back."""
    sample = text[:1_000_000]
    place = {letter: number for number, letter in enumerate(sorted(set(sample)))}
    tokenizer = CharTokenizer.train([sample])
    ids = tokenizer.encode(sample)
    assert ids.tolist() == [place[letter] for letter in sample]
    assert tokenizer.decode(ids) == sample
    assert ByteTokenizer().decode(ByteTokenizer().encode(sample)) == sample


def tokenizers(text: str) -> dict[str, float]:
    """MB/s (of UTF-8) of the tokenizers, on plain ASCII and on the same text with one letter that is not."""
    figures = {}
    for name, sample in (("ASCII", text), ("Unicode", text.replace("e", "é"))):
        check(sample)
        tokenizer = CharTokenizer.train([sample])
        ids = tokenizer.encode(sample)
        size = len(sample.encode()) / 1e6
        figures[f"characters → ids, {name} (MB/s)"] = size / seconds(lambda: tokenizer.encode(sample))  # noqa: B023
        figures[f"ids → characters, {name} (MB/s)"] = size / seconds(lambda: tokenizer.decode(ids))  # noqa: B023
        figures[f"alphabet of a text, {name} (MB/s)"] = size / seconds(lambda: alphabet([sample]))  # noqa: B023
    return figures


def shards(text: str, megabytes: int, folder: Path) -> dict[str, float]:
    """A text of `megabytes` becomes shards, is verified, and is read in batches."""
    path = folder / "text.txt"
    with path.open("w", encoding="utf-8", newline="\n") as file:
        left = megabytes * 1_000_000
        while left > 0:
            left -= file.write(text[:left])
    bare = child(BARE)[0]
    peak, duration, tokens = child(PREPARE, str(path), str(folder / "shards"))
    assert tokens == megabytes * 1_000_000
    from primer.data.batches import BatchStream, evaluation_windows
    from primer.data.shards import ShardDirectory

    train = ShardDirectory.open(folder / "shards", verify=False).tokens("train")
    stream = BatchStream(train, batch_size=64, context_length=256, seed=1)
    stream.next()  # the first one shuffles the epoch
    validation = train[: min(len(train), 1_000_000)]
    windows = seconds(lambda: list(evaluation_windows(validation, batch_size=64, context_length=256)))
    return {
        f"{megabytes} MB of text → shards (s)": duration,
        f"{megabytes} MB of text → shards (MB/s)": megabytes / duration,
        "… peak memory above the interpreter's (MB)": (peak - bare) / 1e6,
        "verified opening (MB/s)": megabytes / seconds(lambda: ShardDirectory.open(folder / "shards"), 3),
        "a batch of 64 × 256 (ms)": 1000 * seconds(stream.next, 201),
        "evaluation windows (million tokens/s)": len(validation) / 1e6 / windows,
    }


def built_in(folder: Path) -> dict[str, float]:
    """The built-in text, made for the first time and found again: the best of three, each in a fresh interpreter."""
    code = "import time; s = time.perf_counter(); from primer.corpus import open_source; open_source('python-docs')"
    code += "; print(time.perf_counter() - s)"
    made = [child(code, XDG_CACHE_HOME=str(folder / str(number)))[0] for number in range(3)]
    found = [child(code, XDG_CACHE_HOME=str(folder / str(number)))[0] for number in range(3)]
    return {"built-in text, made (s)": min(made), "built-in text, found again (s)": min(found)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--size", type=int, default=1000, help="megabytes of text that become shards (default 1000)"
    )
    parser.add_argument(
        "--save", action="store_true", help="keep the figures in benchmarks/results/text.json"
    )
    options = parser.parse_args()
    text = "".join(open_source("python-docs").text())
    sample = (text * (1 + SAMPLE // len(text)))[: min(SAMPLE, options.size * 1_000_000)]
    folder = Path(tempfile.mkdtemp(prefix="primer-text-"))
    try:
        figures = tokenizers(sample) | shards(text, options.size, folder) | built_in(folder / "cache")
    finally:
        shutil.rmtree(folder)
    table = Table("text", "measured")
    table.columns[1].justify = "right"
    for name, value in figures.items():
        table.add_row(name, f"{value:,.3g}" if value < 100 else f"{value:,.0f}")
    Console().print(table)
    if options.save:
        from receipt import write  # which needs torch, as nothing before it does

        write("text", {name: round(value, 4) for name, value in figures.items()}, measured=MEASURED)


if __name__ == "__main__":
    main()
