"""An experiment in so many minutes: fewer steps, so that several seeds fit; and no seed that would not end in time."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from primer import device as devices
from primer.errors import UsageError
from primer.experiments.carry_out import carry_out
from primer.experiments.experiment import Experiment, Variant
from primer.experiments.trial import Trial, trials
from primer.experiments.verdict import Findings
from primer.recipes.config import LEAST_STEPS
from primer.recipes.kinds import kind_of
from primer.recipes.measure import seconds_of_a_step
from primer.recipes.report import Reporter, Silence
from primer.recipes.run import complete
from primer.training.distributed import World

OVERHEAD = 3.0
"""Seconds of a short run that are no steps: opening its text, evaluating, saving."""
MARGIN = 1.3
"""How much longer steps take than those that were measured: evaluations come in between."""


def within(
    experiment: Experiment,
    variants: Sequence[Variant],
    flags: Mapping[str, Any],
    minutes: float,
    *,
    seeds: int,
    runs_dir: str | Path = "runs",
    reporter: Reporter | None = None,
) -> Findings:
    """What so many minutes say: all variants with one seed, then with the next, as long as another round ends in time.

    Steps are as many as let `seeds` rounds fit, by three steps of each variant that are measured first; never more than
    the experiment's own. UsageError where not even one round of the fewest steps does.
    """
    started, report = time.monotonic(), reporter or Silence()
    first = trials(experiment, variants, 1, flags)
    rates = [measured(trial, report) for trial in first]
    left = minutes * 60 - (time.monotonic() - started)
    full = first[0].config.train.steps
    steps, rounds = fitting(rates, left, seeds, full)
    if not rounds:
        needed = (time.monotonic() - started + seconds_of_a_round(rates, LEAST_STEPS)) / 60
        raise UsageError(
            f"{len(first)} trainings of {LEAST_STEPS} steps take about {needed:.1f} minutes here",
            f"--minutes={minutes:g}",
            f"--minutes={needed + 1:.0f}, or fewer variants: --variants={variants[0].name}",
        )
    if steps < full:
        report.on_message(
            f"{steps} of {full} steps a run, so that {rounds} seed{'s' * (rounds > 1)} fit here"
        )
    shorter = {
        **flags,
        "train.steps": steps,
        "schedule.warmup": min(first[0].config.schedule.warmup, steps // 10),
    }
    longest, found = 0.0, None
    for number in range(1, seeds + 1):
        began = time.monotonic()
        if found is not None and began - started + longest > minutes * 60:
            break
        found = carry_out(
            experiment, trials(experiment, variants, number, shorter), runs_dir=runs_dir, reporter=report
        )
        longest = max(longest, time.monotonic() - began)
    assert found is not None
    return found


def measured(trial: Trial, report: Reporter) -> float:
    """Seconds that a step of a trial takes here: the slower one of two, with a model that is then forgotten."""
    config, world = trial.config, World()
    kind, device = kind_of(config), devices.choose(config.train.device)
    data = kind.prepare(config, world, None, report.on_message)
    config = complete(config, data, device)
    model = kind.model(config, data, device)
    config = kind.with_micro_batch(config, model, world)
    return seconds_of_a_step(kind.trainer(config, model, data, world), at=0)


def seconds_of_a_round(rates: Sequence[float], steps: int) -> float:
    """Of a training with each variant, one after the other."""
    return sum(rate * steps * MARGIN + OVERHEAD for rate in rates)


def fitting(rates: Sequence[float], seconds: float, seeds: int, full: int) -> tuple[int, int]:
    """How many steps, and how many seeds fit: as many seeds as are wanted, if runs then have steps enough to be any."""
    for rounds in range(seeds, 0, -1):
        steps = int((seconds / rounds - OVERHEAD * len(rates)) / (MARGIN * sum(rates)))
        least = min(full, LEAST_STEPS if rounds == 1 else 5 * LEAST_STEPS)
        if steps >= least:
            return min(steps, full), rounds
    return 0, 0
