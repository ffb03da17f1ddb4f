"""The main text of pages, by each extractor: `python benchmarks/extractors.py [--every 3] [--save]`.

Each extractor reads the same pages of the sample crawl, one core, in turns: milliseconds a page, and how near its words
are to trafilatura's (F1, precision and recall over bags of words, mean over the pages of which trafilatura makes a
text). `main_content` is Resiliparse's own search for the main part, which `resiliparse` here no longer uses. Goal: F1
≥ .95 in at most 5 ms.
"""

import argparse
import os
import re
import statistics
import time
from collections import Counter
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from resiliparse.extract.html2text import extract_plain_text

from primer.corpus.crawl.archive import is_html, looks_binary, read_archive
from primer.corpus.crawl.blocks import Lost
from primer.corpus.crawl.charset import decode
from primer.corpus.crawl.extract import ExtractionError, depth, extractor
from receipt import write

WARC = "warc/debian-docs-a.warc.gz"
MEASURED = ("src/primer/corpus/crawl", "benchmarks/extractors.py")
WORD = re.compile(r"\w+")
TURN = 20
"""Pages that an extractor reads before it is the next one's turn: the machine's pace changes within a minute."""


def pages(every: int) -> list[str]:
    """HTML, decoded."""
    found = []
    for each in read_archive(Path(os.environ["PRIMER_DATA"]) / WARC):
        if not isinstance(each, Lost) and each.kind == "response" and is_html(each):
            text = None if looks_binary(each.payload) else decode(each.payload, each.charset)
            if text and depth(text.text) < 500:
                found.append(text.text)
    return found[::every]


def main_content(html: str) -> str:
    """As Resiliparse has it."""
    return extract_plain_text(html, main_content=True, alt_texts=False, links=False)


def compared(found: Counter[str], wanted: Counter[str]) -> tuple[float, float, float]:
    """(F1, precision, recall) of a bag of words."""
    both = (found & wanted).total()
    precision, recall = both / max(found.total(), 1), both / wanted.total()
    return 2 * both / (found.total() + wanted.total()), precision, recall


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--every", type=int, default=3, help="one page of so many")
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    extractors: dict[str, Callable[[str], str]] = {
        "trafilatura": extractor("trafilatura"),
        "resiliparse": extractor("resiliparse"),
        "main_content": main_content,
        "primer": extractor("primer"),
    }
    read = pages(options.every)
    seconds = dict.fromkeys(extractors, 0.0)
    words: dict[str, list[Counter[str]]] = {name: [] for name in extractors}
    for start in range(0, len(read), TURN):
        for name, extract in extractors.items():
            for html in read[start : start + TURN]:
                started = time.perf_counter()
                try:
                    text = extract(html)
                except ExtractionError:
                    text = ""
                seconds[name] += time.perf_counter() - started
                words[name].append(Counter(WORD.findall(text)))
    figures: dict[str, Any] = {"pages": len(read), "trafilatura_version": version("trafilatura")}
    for name in extractors:
        pairs = zip(words[name], words["trafilatura"], strict=True)
        near = [compared(found, wanted) for found, wanted in pairs if wanted]
        f1, precision, recall = (statistics.mean(column) for column in zip(*near, strict=True))
        figures[name] = {
            "milliseconds": round(1000 * seconds[name] / len(read), 2),
            "f1": round(f1, 4),
            "precision": round(precision, 4),
            "recall": round(recall, 4),
        }
        print(f"{name:14}", figures[name], flush=True)
    if options.save:
        print(write("extractors", figures, measured=MEASURED))


if __name__ == "__main__":
    main()
