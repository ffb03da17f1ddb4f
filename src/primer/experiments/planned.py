"""What an experiment would cost, before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from primer.experiments.carry_out import Bench, ended
from primer.experiments.experiment import Experiment
from primer.experiments.trial import Trial
from primer.recipes.plan import plan
from primer.recipes.report import Silence


def planned(experiment: Experiment, trials: Sequence[Trial], runs_dir: str | Path = "runs") -> dict[str, Any]:
    """The base and each variant with its size and what a run of it takes here (`recipes.plan`), and what is left to do.

    A run that was begun counts as a whole one.
    """
    rates: dict[str, float] = {}
    found = Bench(experiment, Path(runs_dir), Silence()).find(trials)
    there = [run is not None and ended(run) is not None for run in found]
    rows: dict[str, dict[str, Any]] = {}
    for trial, is_there in zip(trials, there, strict=True):
        variant = trial.variant
        if variant.name not in rows:
            one = plan(trial.config, rates)
            rows[variant.name] = {
                "name": variant.name,
                "row": variant.row,
                "flags": dict(variant.flags),
                "parameters": one["parameters"],
                "matmul_parameters": one["matmul_parameters"],
                "seconds_a_run": one["seconds"],
                "bytes_a_run": one["checkpoint_bytes"] * (trial.config.train.keep + 1),  # the best one, too
                "runs": 0,
                "there": 0,
            }
        rows[variant.name]["runs"] += 1
        rows[variant.name]["there"] += is_there
    return {
        "experiment": experiment.name,
        "question": experiment.question,
        "recipe": experiment.recipe,
        "source": trials[0].config.data.source,
        "steps": trials[0].config.train.steps,
        "seeds": list(dict.fromkeys(trial.seed for trial in trials)),
        "variants": list(rows.values()),
        "seconds_left": sum(row["seconds_a_run"] * (row["runs"] - row["there"]) for row in rows.values()),
        "bytes": sum(row["bytes_a_run"] * row["runs"] for row in rows.values()),
        "device": one["device"],
        "share": one["share"],
        "matmul_flops": one["matmul_flops"],
        "precision": one["precision"],
    }
