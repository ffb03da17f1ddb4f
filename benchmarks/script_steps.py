"""Seconds of each step of the lecture's script, unchanged: `python script_steps.py STEPS`, in a folder with input.txt.

The script draws its progress with `rich.progress.track`; a `track` of ours looks at the clock between two steps and
ends the program after the last one. Prints one JSON object. With `--wait` each step waits for a line on the standard
input, and answers with a JSON object of its own.
"""

import json
import resource
import runpy
import sys
import time
from collections.abc import Iterator
from typing import Any

import rich.progress

from baseline import script


class Done(Exception):
    """Enough steps were taken."""


def timed(steps: int, seconds: list[float], *, wait: bool) -> Any:
    """A stand-in for `track` that notes how long each step took."""

    def track(numbers: range, description: str) -> Iterator[int]:
        for number in numbers[:steps]:
            if wait and not sys.stdin.readline():  # nobody asks any more
                break
            started = time.perf_counter()
            yield number
            seconds.append(time.perf_counter() - started)
            if wait:
                print(json.dumps({"seconds": seconds[-1]}), flush=True)
        raise Done

    return track


if __name__ == "__main__":
    seconds: list[float] = []
    rich.progress.track = timed(int(sys.argv[1]), seconds, wait="--wait" in sys.argv)
    try:
        runpy.run_path(str(script()))
    except Done:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"seconds": seconds, "peak_bytes": peak}))
