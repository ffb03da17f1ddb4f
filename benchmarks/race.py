"""Seconds to a validation loss: `python benchmarks/race.py shakespeare shakespeare-fast [--seeds 3] [--save]`.

On tiny Shakespeare's characters, over the whole validation part. The clock is the wall time of the process, data
preparation and compilation included, `import torch` and evaluation excluded; the same for both sides.

The lecture's script takes hours, so its side is its loss over steps (`results/lecture-curve.json`, from recipe
`lecture`, which is proven equal to the script) times its seconds a step, which are measured again in each race from
the script itself. `python benchmarks/race.py --curve RUN` makes that file from a run.
Needs $PRIMER_REFERENCE and $PRIMER_DATA.
"""

import time

STARTED = time.perf_counter()
import torch  # noqa: E402 — how long this takes is not counted

IMPORTED = time.perf_counter()

import argparse  # noqa: E402
import itertools  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import shutil  # noqa: E402
import statistics  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from baseline import script  # noqa: E402
from receipt import write  # noqa: E402

HERE = Path(__file__).parent
CURVE = HERE / "results" / "lecture-curve.json"
TARGETS = (1.70, 1.60, 1.50)
MEASURED = ("src/primer", "benchmarks/race.py", "benchmarks/script_steps.py")


class Clock:
    """A reporter that stops the clock while a run is evaluated, and notes the time of each score."""

    def __init__(self) -> None:
        self.excluded = IMPORTED - STARTED
        self.step_ended = 0.0
        self.scores: list[tuple[float, int, float]] = []

    def on_step(self, row: dict[str, Any]) -> None:
        self.step_ended = time.perf_counter()

    def on_evaluate(self, row: dict[str, Any]) -> None:
        self.scores.append((self.step_ended - STARTED - self.excluded, row["step"], row["val_loss"]))
        self.excluded += time.perf_counter() - self.step_ended

    def __getattr__(self, name: str) -> Any:
        return lambda *values: None


def run_recipe(recipe: str, flags: dict[str, Any]) -> None:
    """Train one recipe in this process and print its scores as JSON."""
    import primer

    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        primer.train(recipe, flags={**flags, "train.sample_every": 0}, runs_dir=folder, reporter=clock)
    print(json.dumps(clock.scores))


def in_fresh_process(recipe: str, flags: dict[str, Any]) -> list[tuple[float, int, float]]:
    """The same with nothing cached and nothing imported."""
    with tempfile.TemporaryDirectory() as cache:
        command = [sys.executable, str(HERE / "race.py"), "--only", recipe, "--flags", json.dumps(flags)]
        environment = {
            "OMP_WAIT_POLICY": "PASSIVE",
            **os.environ,
            "XDG_CACHE_HOME": cache,
        }  # as `primer` does
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return [tuple(score) for score in json.loads(done.stdout.splitlines()[-1])]


def script_seconds_a_step(steps: int) -> float:
    """Median of the script's own steps, the first left out."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(Path(os.environ["PRIMER_DATA"]) / "shakespeare" / "input.txt", folder)
        command = [sys.executable, str(HERE / "script_steps.py"), str(steps + 1)]
        environment = {**os.environ, "PRIMER_REFERENCE": str(script().resolve().parent)}
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=True
        )
    return statistics.median(json.loads(done.stdout.splitlines()[-1])["seconds"][1:])


def lecture_steps(target: float) -> float | None:
    """After how many steps the lecture's model reaches a loss: the curve, with straight lines between its points."""
    if not CURVE.exists():
        return None
    curve = json.loads(CURVE.read_text())["figures"]["val_loss_by_step"]
    for (step, loss), (next_step, next_loss) in itertools.pairwise(curve):
        if next_loss <= target:
            return step + (next_step - step) * (loss - target) / (loss - next_loss)
    return None


def first_below(scores: list[tuple[float, int, float]], target: float) -> float | None:
    """Seconds at the first evaluation at or below a loss."""
    return next((seconds for seconds, _, loss in scores if loss <= target), None)


def keep_curve(run: str) -> None:
    """Make the receipt of the lecture's curve from a run of recipe `lecture` that evaluated the whole split."""
    import primer

    loaded = primer.load(run)
    assert loaded.config.recipe == "lecture", "this is another recipe's run"
    assert loaded.config.train.evaluate_batches == 0, "this run did not evaluate the whole split"
    rows = [(row["step"], round(row["val_loss"], 5)) for row in loaded.metrics() if "val_loss" in row]
    facts = json.loads((loaded.path / "run.json").read_text())
    figures = {"val_loss_by_step": rows, "seed": loaded.config.seed, "trained_on": facts["hardware"]}
    print(write("lecture-curve", figures, measured=("src/primer",)).name)


def race(recipes: list[str], seeds: int, script_steps: int, flags: dict[str, Any]) -> dict[str, Any]:
    """The script's pace, then every recipe with every seed, then the script's pace again."""
    pace = [script_seconds_a_step(script_steps)]
    scores: dict[str, list[list[tuple[float, int, float]]]] = {recipe: [] for recipe in recipes}
    for seed in range(seeds):
        for recipe in recipes:
            scores[recipe].append(in_fresh_process(recipe, {**flags, "seed": seed}))
    pace.append(script_seconds_a_step(script_steps))
    seconds_a_step = statistics.median(pace)
    figures: dict[str, Any] = {"script_seconds_a_step": [round(each, 3) for each in pace], "flags": flags}
    for recipe, runs in scores.items():
        figures[recipe] = {"scores_by_seed": runs, "best": [min(loss for _, _, loss in run) for run in runs]}
        for target in TARGETS:
            times = [first_below(run, target) for run in runs]
            steps = lecture_steps(target)
            lecture = steps and steps * seconds_a_step
            reached = [each for each in times if each is not None]
            median = statistics.median(reached) if len(reached) == len(times) else None
            figures[recipe][f"to {target:.2f}"] = {
                "seconds": [each and round(each, 1) for each in times],
                "lecture_seconds": lecture and round(lecture),
                "times_the_script": round(lecture / median, 1) if lecture and median else None,
            }
    return figures


def show(figures: dict[str, Any], recipes: list[str]) -> None:
    """One row a recipe and target."""
    table = Table("recipe", "to", "seconds, by seed", "the lecture's script", "times faster")
    for recipe in recipes:
        for target in TARGETS:
            row = figures[recipe][f"to {target:.2f}"]
            lecture = (
                f"{row['lecture_seconds'] / 3600:.2f} h" if row["lecture_seconds"] else "not yet measured"
            )
            cells = [", ".join(map(str, row["seconds"])), lecture, str(row["times_the_script"] or "–")]
            table.add_row(recipe, f"{target:.2f}", *cells)
        table.add_row(recipe, "best", ", ".join(f"{loss:.4f}" for loss in figures[recipe]["best"]), "", "")
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipes", nargs="*", default=["shakespeare", "shakespeare-fast"])
    parser.add_argument("--seeds", type=int, default=3, help="runs of each recipe (default 3)")
    parser.add_argument(
        "--script-steps", type=int, default=4, help="steps of the script to measure, twice (default 4)"
    )
    parser.add_argument("--flags", default="{}", help="JSON of flags for all recipes")
    parser.add_argument("--curve", metavar="RUN", help="make the lecture's curve from this run, and end")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    parser.add_argument(
        "--save", action="store_true", help="keep the figures in benchmarks/results/race.json"
    )
    options = parser.parse_args()
    flags = json.loads(options.flags)
    if options.only:
        run_recipe(options.only, flags)
    elif options.curve:
        keep_curve(options.curve)
    else:
        figures = race(options.recipes, options.seeds, options.script_steps, flags)
        figures["threads"] = torch.get_num_threads()
        show(figures, options.recipes)
        if options.save:
            print(write("race", figures, measured=MEASURED).name)


if __name__ == "__main__":
    main()
