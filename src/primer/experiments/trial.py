"""A trial is one training that an experiment asks for: a variant with a seed, resolved into a config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from primer.config import dotted, spelt, to_dict
from primer.errors import UsageError
from primer.experiments.experiment import Experiment, Variant
from primer.recipes.config import AnyConfig
from primer.recipes.resolve import resolve

LABELS = ("recipe", "about")
"""What a config says about itself, and what changes nothing in a run."""

CHOSEN: dict[str, Any] = {
    "model.vocab_size": 0,
    "optim.muon_dtype": "auto",
    "train.device": "auto",
    "train.precision": "auto",
    "train.compile": "auto",
    "train.parallel": "auto",
    "train.threads": 0,
    "train.micro_batch": 0,
    "train.micro_tokens": 0,
}
"""The values that leave a choice to the program; a run's config says what it has chosen."""


@dataclass(frozen=True)
class Trial:
    """A variant (or the base) with a seed."""

    variant: Variant
    seed: int
    flags: Mapping[str, Any]
    """All that is laid over the experiment's recipe."""
    config: AnyConfig

    def made(self, config: AnyConfig) -> bool:
        """Whether a run with this config was made of these choices, wherever it was left to the program to choose."""
        mine, theirs = settings(self.config), settings(config)
        return mine.keys() == theirs.keys() and all(
            theirs[key] == value or (key in CHOSEN and value == CHOSEN[key]) for key, value in mine.items()
        )


def trials(
    experiment: Experiment, variants: Sequence[Variant], seeds: int, flags: Mapping[str, Any]
) -> list[Trial]:
    """The base with every seed, then each variant with the same ones, so that the first verdicts come early.

    flags: a person's own, over the experiment's and beneath the variants'. Seeds are that of the recipe (or of `flags`)
    and those that follow it. A variant that the flags have made the base is left out. UsageError for what cannot be
    trained.
    """
    if seeds < 1:
        raise UsageError(f"--seeds must be at least 1, got {seeds}", hint="--seeds=3")
    base = _resolved(experiment, experiment.base, flags, None)
    if base.train.minutes:
        raise UsageError(
            "the runs of an experiment take equally many steps, not equally many minutes",
            "train.minutes",
            f"--train.steps={base.train.steps}",
        )
    found = []
    for variant in (experiment.base, *variants):
        config = _resolved(experiment, variant, flags, base.seed)
        if variant.flags and settings(config) == settings(base):
            continue
        for seed in range(base.seed, base.seed + seeds):
            mine = _flags(experiment, variant, flags, seed)
            found.append(Trial(variant, seed, mine, replace(config, seed=seed)))
    return found


def settings(config: AnyConfig) -> dict[str, Any]:
    """All that decides a run, by dotted key."""
    return {key: value for key, value in dotted(to_dict(config)).items() if key not in LABELS}


def _flags(
    experiment: Experiment, variant: Variant, flags: Mapping[str, Any], seed: int | None
) -> dict[str, Any]:
    """Everything over the recipe; the name of the variant goes with the recipe's, so that runs can be told apart."""
    name = experiment.recipe if not variant.flags else f"{experiment.recipe} {variant.name}"
    labels = {"recipe": name, "about": f"{experiment.name}, {variant.name}: {experiment.question}"}
    seeded = {} if seed is None else {"seed": seed}
    return {**experiment.flags, **spelt(flags), **variant.flags, **labels, **seeded}


def _resolved(
    experiment: Experiment, variant: Variant, flags: Mapping[str, Any], seed: int | None
) -> AnyConfig:
    try:
        return resolve(experiment.recipe, flags=_flags(experiment, variant, flags, seed)).config
    except UsageError as error:
        if variant.flags:
            error.where = f"{variant.name}, {error.where}" if error.where else f"variant {variant.name}"
        raise
