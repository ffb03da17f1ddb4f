"""What a figure needs to be believed: turns taken in one run, command, commit, hardware, date."""

import datetime
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from primer.device import describe

ROOT = Path(__file__).parents[1]


def take_turns(contestants: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each contestant in each round."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def write(name: str, figures: dict[str, Any], *, measured: tuple[str, ...], device: str = "cpu") -> Path:
    """Keep `figures` as results/<name>.json; the commit is marked where a `measured` path was changed."""
    variables = [f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith("OMP_")]
    receipt = {
        "command": " ".join([*variables, "python", *(Path(a).as_posix() for a in sys.argv)]),
        "commit": commit(measured),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "hardware": describe(torch.device(device)),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "figures": figures,
    }
    path = ROOT / "benchmarks" / "results" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(receipt, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def commit(measured: tuple[str, ...]) -> str:
    """The hash of HEAD, with "-dirty" where the working tree differs from it in what is measured."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
        ).stdout.strip()

    dirty = "-dirty" if git("status", "--porcelain", "--", *measured) else ""
    return (git("rev-parse", "HEAD") or "unknown") + dirty
