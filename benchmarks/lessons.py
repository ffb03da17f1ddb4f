"""The evidence of the lessons in number formats, and of `why filters`: `python benchmarks/lessons.py [NAME …]`.

Carries each question of `primer why` out in full and keeps what was found, as results/lesson-NAME.json, and pictures
of it, in docs/pictures. Runs are kept in `runs`, so that the same command goes on where it was stopped.
"""

import argparse
import json
import subprocess
import sys

from primer.assets import cache_dir
from primer.experiments import filters
from primer.experiments.arithmetic import CALCULATIONS
from primer.experiments.number_formats import EXPERIMENTS
from receipt import ROOT, write

MEASURED = ("src/primer", "benchmarks/lessons.py")
COMPUTED = [each.name for each in CALCULATIONS]
TRAINED = [*(each.name for each in EXPERIMENTS), filters.NAME]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=[*COMPUTED, *TRAINED])
    options = parser.parse_args()
    pictures = ROOT / "docs" / "pictures"
    for name in options.names:
        command = ["primer", "why", name, "--full"]
        drawn = [f"--plot={pictures / f'why-{name}.svg'}"]
        if name in TRAINED:
            drawn.append(f"--curves={pictures / f'why-{name}-curves.svg'}")
        done = subprocess.run(
            [sys.executable, "-m", *command, *drawn, "--json"], stdout=subprocess.PIPE, text=True, check=True
        )
        said = done.stdout.replace(
            str(cache_dir()), "CACHE"
        )  # where it lies on this machine is nobody's business
        found = {"answered_by": " ".join(command), **json.loads(said)}
        print(write(f"lesson-{name}", found, measured=MEASURED))


if __name__ == "__main__":
    main()
