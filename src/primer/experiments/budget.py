"""An experiment in so many minutes: fewer steps, so that several seeds fit; and no seed that would not end in time."""

from __future__ import annotations

import tempfile
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

MARGIN = 1.2
"""How much longer steps take than those that were measured: evaluations come in between."""
RESERVE = 1.1
"""How much longer than the longest so far another round may take."""
WORTH = 50
"""Steps from which on a second seed, and with it an interval, is worth more than longer runs."""
PLANNED, MOST = 3, 20
"""Seeds that steps are chosen for, and those that may follow where time is left."""


def within(
    experiment: Experiment,
    variants: Sequence[Variant],
    flags: Mapping[str, Any],
    minutes: float,
    *,
    seeds: int = 0,
    runs_dir: str | Path = "runs",
    reporter: Reporter | None = None,
) -> Findings:
    """What so many minutes say: all variants with one seed, then with the next, as long as another round ends in time.

    Steps are as many as let three rounds fit (or `seeds`, and then no more are tried), by a few steps of each variant
    and one short run of the base, which are measured first; never more than the experiment's own. They are a round
    number, so that the same command, given again, finds the runs that are there. UsageError where not even one round of
    the fewest steps fits.
    """
    started, report = time.monotonic(), reporter or Silence()
    first = trials(experiment, variants, 1, flags)
    rates = [measured(trial, report) for trial in first]
    full = first[0].config.train.steps
    beside = seconds_beside_steps(experiment, flags, rates[0])
    left = minutes * 60 - (time.monotonic() - started)
    steps, rounds = fitting(rates, beside, left, seeds or PLANNED, full)
    if not rounds:
        needed = (time.monotonic() - started + seconds_of_a_round(rates, beside, LEAST_STEPS)) / 60
        raise UsageError(
            f"{len(first)} trainings of {LEAST_STEPS} steps take about {needed:.1f} minutes here",
            f"--minutes={minutes:g}",
            f"--minutes={needed + 1:.0f}, or fewer variants: --variants={variants[0].name}",
        )
    if steps < full:
        report.on_message(
            f"{steps} of {full} steps a run, so that {rounds} seed{'s' * (rounds > 1)} fit here"
        )
    shorter = {**flags, **of_length(steps, first[0].config.schedule.warmup)}
    longest, found = 0.0, None
    for number in range(1, (seeds or MOST) + 1):
        began = time.monotonic()
        if found is not None and began - started + RESERVE * longest > minutes * 60:
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


def seconds_beside_steps(experiment: Experiment, flags: Mapping[str, Any], rate: float) -> float:
    """What a run takes beside its steps: opening its text, evaluating, saving. Of one of the base, then forgotten."""
    short = trials(experiment, (), 1, {**flags, **of_length(LEAST_STEPS, 0)})
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        carry_out(experiment, short, runs_dir=folder)
        return max(0.0, time.monotonic() - began - rate * LEAST_STEPS)


def of_length(steps: int, warmup: int) -> dict[str, Any]:
    """The flags of a run of so many steps, whose warm-up is no more than a tenth of them."""
    return {"train.steps": steps, "schedule.warmup": min(warmup, steps // 10)}


def seconds_of_a_round(rates: Sequence[float], beside: float, steps: int) -> float:
    """Of a training with each variant, one after the other."""
    return sum(rate * steps * MARGIN + beside for rate in rates)


def fitting(rates: Sequence[float], beside: float, seconds: float, seeds: int, full: int) -> tuple[int, int]:
    """How many steps, and how many seeds fit: as many seeds as are wanted, if runs then have steps enough to be any."""
    for rounds in range(seeds, 0, -1):
        steps = int((seconds / rounds - beside * len(rates)) / (MARGIN * sum(rates)))
        least = min(full, LEAST_STEPS if rounds == 1 else WORTH)
        if steps >= least:
            unit = 10 if steps < 100 else 50 if steps < 1000 else 500
            return min(steps - steps % unit, full), rounds
    return 0, 0
