"""How well the encoder–decoder reads dates, and after how long: `python benchmarks/dates.py [--seeds 3] [--save]`.

Trains recipe `dates` with each seed, through the same function as `primer train`, and translates the test part: 1,000
dates in words of years that training has never seen. Seconds are those on the wall, from the call to the run's end:
preparing the pairs, evaluations, samples and checkpoints are all in it. Goal: ≥ 99.5 % exact within five minutes.
"""

import argparse
import statistics
import time
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

import primer
from receipt import write

MEASURED = ("src/primer", "benchmarks/dates.py")
SENTENCE = "the third of March, nineteen ninety-nine"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3, help="runs, each with a seed of its own (default 3)")
    parser.add_argument("--runs-dir", default="runs")
    parser.add_argument("--save", action="store_true", help="keep the figures in benchmarks/results")
    options = parser.parse_args()
    torch.set_num_threads(2)
    found: list[dict[str, Any]] = []
    table = Table("seed", "seconds", "exact", "95 %", f"“{SENTENCE}”")
    for seed in range(1337, 1337 + options.seeds):
        started = time.perf_counter()
        run = primer.train("dates", flags={"seed": seed}, runs_dir=options.runs_dir)
        seconds = time.perf_counter() - started
        scored = run.evaluate_pairs("test")
        (example,) = run.translate([SENTENCE])
        found.append(
            {
                "seed": seed,
                "seconds": round(seconds, 1),
                "exact": round(scored["exact"], 4),
                "interval": [round(scored[name], 4) for name in ("exact_low", "exact_high")],
                "pairs": scored["pairs"],
                "an_example": {"source": SENTENCE, "translation": example},
            }
        )
        low, high = found[-1]["interval"]
        table.add_row(str(seed), f"{seconds:.0f}", f"{scored['exact']:.2%}", f"{low:.2%}–{high:.2%}", example)
    Console().print(table)
    figures = {
        "seconds": statistics.median(each["seconds"] for each in found),
        "exact": statistics.median(each["exact"] for each in found),
        "seeds": found,
    }
    if options.save:
        print(write("dates", figures, measured=MEASURED).name)


if __name__ == "__main__":
    main()
