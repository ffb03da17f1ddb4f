"""How fast translations are found: `python benchmarks/translate.py RUN [--sentences 300] [--rounds 3] [--save]`.

A beam of 4 over the test set of a run of recipe `multi30k`, by the search that keeps keys and values, and by the same
search without them, which reads the source and all that was written once more for every token. First both must find the
same translations. Then they take turns. Goal: ≥ 5 × the sentences a second.
"""

import argparse
import statistics
import sys
from functools import partial
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

import primer
from primer.recipes import translating
from primer.recipes.config import as_translation
from primer.recipes.pair_scores import pairs_of
from receipt import take_turns, write

MEASURED = ("src/primer", "benchmarks/translate.py")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="a run of multi30k: its path")
    parser.add_argument("--sentences", type=int, default=300, help="of the test set (default 300)")
    parser.add_argument("--rounds", type=int, default=3, help="turns that each takes (default 3)")
    parser.add_argument("--save", action="store_true", help="keep the figures in benchmarks/results")
    options = parser.parse_args()
    torch.set_num_threads(2)
    run = primer.load(options.run)
    how = as_translation(run.config).translate.search
    pairs = pairs_of(run, "test")
    ids = [pairs.source[n] for n in range(min(options.sentences, len(pairs)))]
    contestants = {
        name: partial(translating.search, run, ids, how, use_cache=cache)
        for name, cache in (("keys and values kept", True), ("all computed again", False))
    }
    fast, slow = ([found.text for found in run_once()] for run_once in contestants.values())
    if fast != slow:  # rounding may turn two equally likely ones round
        different = sum(a != b for a, b in zip(fast, slow, strict=True))
        print(f"{different} of {len(ids)} translations differ", file=sys.stderr)
        if different > 0.01 * len(ids):
            sys.exit("the two searches do not find the same")
    seconds = take_turns(contestants, options.rounds)
    ratios = [b / a for a, b in zip(*seconds.values(), strict=True)]
    table = Table("search", "sentences/s")
    figures: dict[str, Any] = {"beam": how.beam, "sentences": len(ids)}
    for name, took in seconds.items():
        figures[name] = round(len(ids) / statistics.median(took), 1)
        table.add_row(name, f"{figures[name]:,.1f}")
    figures |= {"times": round(statistics.median(ratios), 2), "ratios": [round(ratio, 2) for ratio in ratios]}
    Console().print(table)
    print(f"{figures['times']} ×")
    if options.save:
        print(write("translate", figures, measured=MEASURED).name)


if __name__ == "__main__":
    main()
