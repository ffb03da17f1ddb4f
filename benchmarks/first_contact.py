"""What a newcomer waits for: `python benchmarks/first_contact.py [--rounds 3] [--save]`.

`primer --help`; from the start of a process to the end of the first training step, less what `import torch` takes
there; the whole of `primer train` with an empty cache, its first sample, and what it wrote in the end.
Goals: help ≤ 0.3 s; the first step ≤ 2 s beyond `import torch`; a sample within 60 s, the end within 3 minutes.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from receipt import write

MEASURED = ("src/primer", "benchmarks/first_contact.py")

FIRST_STEP = """
import sys, time
before = time.time()
import torch
importing = time.time() - before

class FirstStep:
    def on_step(self, row):
        print(importing, time.time(), flush=True)
        raise SystemExit
    def __getattr__(self, name):
        return lambda *values: None

from primer.recipes.run import train
train("default", runs_dir=sys.argv[1], reporter=FirstStep())
"""


def primer(words: list[str], cache: str, folder: str) -> subprocess.Popen[str]:
    """The command in a process of its own, with its progress to be read."""
    environment = {**os.environ, "XDG_CACHE_HOME": cache, "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "primer", *words],
        cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def help_seconds(folder: str) -> float:
    """Wall time of `primer --help`."""
    started = time.perf_counter()
    assert "usage: primer" in primer(["--help"], folder, folder).communicate()[0]
    return time.perf_counter() - started


def first_step_seconds(cache: str, folder: str) -> float:
    """From starting the interpreter to the end of step 1 of the default recipe, without importing torch."""
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, "XDG_CACHE_HOME": cache}  # as `primer` does
    started = time.time()
    done = subprocess.run(
        [sys.executable, "-c", FIRST_STEP, folder],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    importing, reached = map(float, done.stdout.split())
    return reached - started - importing


def whole_training(cache: str, folder: str) -> dict[str, Any]:
    """`primer train` from an empty cache to its end, as somebody sees it who watches."""
    started = time.perf_counter()
    training = primer(["train"], cache, folder)
    assert training.stderr is not None
    assert training.stdout is not None
    first_sample = None
    for line in training.stderr:
        if first_sample is None and line.startswith("-- step"):
            first_sample = time.perf_counter() - started
    run = Path(folder) / training.stdout.read().strip()
    assert training.wait() == 0
    seconds = time.perf_counter() - started
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    samples = [json.loads(line) for line in (run / "samples.jsonl").read_text().splitlines()]
    return {
        "seconds": round(seconds, 1),
        "first_sample_seconds": first_sample and round(first_sample, 1),
        "steps": max(row["step"] for row in rows),
        "val_loss": min(row["val_loss"] for row in rows if "val_loss" in row),
        "last_sample": samples[-1]["text"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="of each, the whole training once (default 3)")
    parser.add_argument(
        "--save", action="store_true", help="keep the figures in benchmarks/results/first_contact.json"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cache = f"{folder}/cache"
        training = whole_training(cache, folder)
        figures = {
            "help_seconds": [round(help_seconds(folder), 3) for _ in range(options.rounds)],
            "first_step_seconds_beyond_torch": [
                round(first_step_seconds(cache, folder), 2) for _ in range(options.rounds)
            ],
            "train": training,
        }
    table = Table("what", "seconds (median)", "goal")
    table.add_row("primer --help", f"{statistics.median(figures['help_seconds']):.2f}", "0.3")
    steps = statistics.median(figures["first_step_seconds_beyond_torch"])
    table.add_row("start to the end of the first step, beyond torch", f"{steps:.2f}", "2")
    table.add_row("primer train: first sample", f"{training['first_sample_seconds']}", "60")
    table.add_row("primer train: the whole", f"{training['seconds']}", "180")
    Console().print(table)
    print(f"{training['steps']} steps, validation loss {training['val_loss']:.3f}; it wrote:")
    print(training["last_sample"])
    if options.save:
        print(write("first_contact", figures, measured=MEASURED).name)


if __name__ == "__main__":
    main()
