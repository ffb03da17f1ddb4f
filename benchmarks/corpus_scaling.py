"""Two workers against one: `python benchmarks/corpus_scaling.py [--copies 4] [--rounds 3] [--save]`.

The sample crawl in several files, WARC to deduplicated text with `fineweb-fast`: one worker on one core, two workers on
two, in turns. Whole commands, start to end, so that what only one process does (looking at the input, the clusters, the
report) counts against it. Goal: two workers ≥ 1.8 × one.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from corpus import MEASURED, WARC, measured
from receipt import ROOT, write


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--recipe", default="fineweb-fast")
    parser.add_argument("--copies", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    seconds: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as name:
        crawl, out = Path(name) / "crawl", Path(name) / "out"
        for number in range(options.copies):  # each a crawl of its own, or all but one would be copies
            (crawl / str(number)).mkdir(parents=True)
            shutil.copy(Path(os.environ["PRIMER_DATA"]) / WARC, crawl / str(number) / "pages.warc.gz")
        words = [options.recipe, str(crawl), f"--out={out}", "--tokens.tokenizer=none"]
        command = [sys.executable, "-m", "primer", "corpus", "run", *words]
        for _ in range(options.rounds):
            for workers in (1, 2):
                shutil.rmtree(out, ignore_errors=True)
                found = measured([*command, "-j", str(workers)], environment, cores=workers)
                seconds[workers].append(found["seconds"])
                print(workers, found, flush=True)
    one, two = (statistics.median(seconds[workers]) for workers in (1, 2))
    pages = 1500 * options.copies
    figures: dict[str, Any] = {
        "recipe": options.recipe,
        "pages": pages,
        "one": {"seconds": round(one, 2), "pages_per_second": round(pages / one, 1)},
        "two": {"seconds": round(two, 2), "pages_per_second": round(pages / two, 1)},
        "times": round(statistics.median(a / b for a, b in zip(seconds[1], seconds[2], strict=True)), 2),
    }
    print(figures)
    if options.save:
        print(write("corpus_scaling", figures, measured=(*MEASURED, "benchmarks/corpus_scaling.py")))


if __name__ == "__main__":
    main()
