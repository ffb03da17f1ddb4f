"""Seconds to a validation loss: `python benchmarks/race.py shakespeare shakespeare-fast [--seeds 3] [--save]`.

On tiny Shakespeare's characters, over the whole validation part. The clock is the wall time of the process, data
preparation and compilation included, `import torch` and evaluation excluded; the same for both sides.

The lecture's script takes hours, so its side is its loss over steps (`results/lecture-curve.json`, from recipe
`lecture`, which is proven equal to the script) times its seconds a step, which are measured again in each race from
the script itself. Where the curve ends above a target, the time to its end is a bound, and marked with ">".
`python benchmarks/race.py --curve RUN` makes that file from a run; it may be one in bfloat16, to fit into an
afternoon, and `--check RUN` then says how far a shorter run of the same seed in float32 is from it.
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
from collections.abc import Iterator, Mapping  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

import primer  # noqa: E402
from baseline import script  # noqa: E402
from primer.models.count import flops_per_token  # noqa: E402
from primer.recipes.report import PlainReporter  # noqa: E402
from receipt import write  # noqa: E402

HERE = Path(__file__).parent
CURVE = HERE / "results" / "lecture-curve.json"
TARGETS = (1.70, 1.60, 1.50)
MEASURED = ("src/primer", "benchmarks/race.py", "benchmarks/script_steps.py")


class Clock(PlainReporter):
    """The usual reporter, which also stops the clock while a run is evaluated, and notes the time of each score."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self.excluded = IMPORTED - STARTED
        self.step_ended = 0.0
        self.scores: list[tuple[float, int, float]] = []
        self.tokens_per_second: list[float] = []

    def on_step(self, row: Mapping[str, Any]) -> None:
        super().on_step(row)
        self.tokens_per_second.append(row["tokens_per_second"])
        self.step_ended = time.perf_counter()

    def on_evaluate(self, row: Mapping[str, Any]) -> None:
        self.scores.append((self.step_ended - STARTED - self.excluded, row["step"], row["val_loss"]))
        super().on_evaluate(row)
        self.excluded += time.perf_counter() - self.step_ended


def run_recipe(recipe: str, flags: dict[str, Any]) -> None:
    """Train one recipe in this process and print its scores, and how fast it computed, as JSON."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        run = primer.train(recipe, flags={**flags, "train.sample_every": 0}, runs_dir=folder, reporter=clock)
        model, train = run.config.model, run.config.train
    short = round(train.short_until * train.steps) if train.short_context else 0
    windows = ((train.short_context, clock.tokens_per_second[:short]), (0, clock.tokens_per_second[short:]))
    gflops = {
        length or model.context_length: statistics.median(speeds) * flops_per_token(model, length) / 1e9
        for length, speeds in windows
        if speeds
    }
    print(json.dumps({"scores": clock.scores, "gflops": gflops}))


def in_fresh_process(recipe: str, flags: dict[str, Any]) -> dict[str, Any]:
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
    return json.loads(done.stdout.splitlines()[-1])


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


def lecture_steps(target: float) -> tuple[float, bool]:
    """After how many steps the lecture's model reaches a loss: the curve, with straight lines between its points.

    (its last step, False) where the curve ends above that loss: it takes more steps than that.
    """
    curve = json.loads(CURVE.read_text())["figures"]["val_loss_by_step"]
    for (step, loss), (next_step, next_loss) in itertools.pairwise(curve):
        if next_loss <= target:
            return step + (next_step - step) * (loss - target) / (loss - next_loss), True
    return curve[-1][0], False


def first_below(scores: list[tuple[float, int, float]], target: float) -> float | None:
    """Seconds at the first evaluation at or below a loss."""
    return next((seconds for seconds, _, loss in scores if loss <= target), None)


def keep_curve(run: str) -> None:
    """Make the receipt of the lecture's curve from a run of recipe `lecture` that evaluated the whole split."""
    rows, loaded, hardware = curve_of(run)
    figures = {
        "val_loss_by_step": rows,
        "seed": loaded.config.seed,
        "precision": loaded.config.train.precision,
        "trained_on": hardware,
    }
    print(write(CURVE.stem, figures, measured=("src/primer",)).name)


def check_curve(run: str) -> None:
    """Add to the receipt how far a shorter run of the same seed, in float32, is from the curve."""
    receipt = json.loads(CURVE.read_text())
    rows, loaded, hardware = curve_of(run)
    assert loaded.config.train.precision == "fp32", "this run is not in float32"
    assert loaded.config.seed == receipt["figures"]["seed"], "this run has another seed"
    kept = dict(receipt["figures"]["val_loss_by_step"])
    receipt["figures"]["in_float32"] = {
        "val_loss_by_step": rows,
        "less_the_curve": [(step, round(loss - kept[step], 5)) for step, loss in rows if step in kept],
        "trained_on": hardware,
    }
    CURVE.write_text(json.dumps(receipt, indent=1) + "\n")


def curve_of(run: str) -> tuple[list[tuple[int, float]], primer.Run, dict[str, Any]]:
    """Step and loss of each evaluation of a run of recipe `lecture`, the run, and where it was trained."""
    loaded = primer.load(run)
    assert loaded.config.recipe == "lecture", "this is another recipe's run"
    assert loaded.config.train.evaluate_batches == 0, "this run did not evaluate the whole split"
    rows = [(row["step"], round(row["val_loss"], 5)) for row in loaded.metrics() if "val_loss" in row]
    return rows, loaded, json.loads((loaded.path / "run.json").read_text())["hardware"]


def race(
    recipes: list[str], seeds: int, script_steps: int, flags: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """The script's pace, then every recipe with the next seed, and so on; the figures so far after each seed."""
    pace = [script_seconds_a_step(script_steps)]
    results: dict[str, list[dict[str, Any]]] = {recipe: [] for recipe in recipes}
    for seed in range(seeds):
        for recipe in recipes:
            results[recipe].append(in_fresh_process(recipe, {**flags, "seed": seed}))
        pace.append(script_seconds_a_step(script_steps))
        yield {
            "script_seconds_a_step": [round(each, 3) for each in pace],
            "flags": flags,
            "threads": torch.get_num_threads(),
            **{recipe: compare(done, statistics.median(pace)) for recipe, done in results.items()},
        }


def compare(results: list[dict[str, Any]], seconds_a_step: float) -> dict[str, Any]:
    """How soon the runs of one recipe reached each target, and how long the script would have taken."""
    runs = [each["scores"] for each in results]
    figures: dict[str, Any] = {
        "gflops_by_context": [{T: round(each) for T, each in run["gflops"].items()} for run in results],
        "best": [min(loss for _, _, loss in run) for run in runs],
        "best_after_seconds": [round(min(run, key=lambda score: score[2])[0], 1) for run in runs],
        "scores_by_seed": [[(round(t, 2), step, round(loss, 5)) for t, step, loss in run] for run in runs],
    }
    for target in TARGETS:
        times = [first_below(run, target) for run in runs]
        steps, arrived = lecture_steps(target)
        reached = [each for each in times if each is not None]
        median = statistics.median(reached) if len(reached) == len(times) else None
        figures[f"to {target:.2f}"] = {
            "seconds": [each and round(each, 1) for each in times],
            "lecture_seconds": round(steps * seconds_a_step),
            "times_the_script": round(steps * seconds_a_step / median, 1) if median else None,
            "lecture_arrived": arrived,  # if not, both figures of the lecture are "more than"
        }
    return figures


def show(figures: dict[str, Any], recipes: list[str]) -> None:
    """One row a recipe and target."""
    table = Table("recipe", "to", "seconds, by seed", "the lecture's script", "times faster")
    for recipe in recipes:
        for target in TARGETS:
            row = figures[recipe][f"to {target:.2f}"]
            bound = "" if row["lecture_arrived"] else "> "
            times = f"{bound}{row['times_the_script']}" if row["times_the_script"] else "–"
            lecture = f"{bound}{row['lecture_seconds'] / 3600:.2f} h"
            table.add_row(
                recipe,
                f"{target:.2f}",
                ", ".join(str(each or "never") for each in row["seconds"]),
                lecture,
                times,
            )
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
        "--check",
        metavar="RUN",
        help="say in the curve's receipt how far this float32 run is from it, and end",
    )
    parser.add_argument(
        "--save", nargs="?", const="race", metavar="NAME", help="keep the figures in results/NAME.json (race)"
    )
    options = parser.parse_args()
    flags = json.loads(options.flags)
    if options.only:
        run_recipe(options.only, flags)
    elif options.curve:
        keep_curve(options.curve)
    elif options.check:
        check_curve(options.check)
    else:
        for figures in race(options.recipes, options.seeds, options.script_steps, flags):
            show(figures, options.recipes)
            if options.save:
                print(write(options.save, figures, measured=MEASURED).name)


if __name__ == "__main__":
    main()
