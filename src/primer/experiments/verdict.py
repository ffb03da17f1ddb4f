"""What an experiment has found: for each variant how far it lies from the base, over pairs of runs with one seed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from primer.evals.interval import mean as mean_of
from primer.experiments.experiment import Experiment, Measure, Variant


@dataclass(frozen=True)
class Outcome:
    """What became of one trial."""

    seed: int
    status: Literal["finished", "diverged", "missing"]
    path: str = ""
    """Of its run."""
    values: dict[str, float] | None = None
    """By the name of the measure, of a run that finished."""
    computed: str = ""
    """On what, and in which numbers."""


@dataclass(frozen=True)
class Row:
    """A variant, its size, and what became of its trials."""

    variant: Variant
    parameters: int
    matmul_parameters: int
    outcomes: tuple[Outcome, ...]

    def values(self, measure: Measure) -> dict[int, float]:
        """What was measured, by seed."""
        return {each.seed: each.values[measure.name] for each in self.outcomes if each.values}

    def mean(self, measure: Measure) -> float | None:
        """The mean over all seeds; of logarithms, where those are what is compared."""
        values = list(self.values(measure).values())
        if not values:
            return None
        if measure.logarithmic:
            return math.exp(math.fsum(map(math.log, values)) / len(values))
        return math.fsum(values) / len(values)

    @property
    def diverged(self) -> int:
        """How many of its runs have."""
        return sum(each.status == "diverged" for each in self.outcomes)


@dataclass(frozen=True)
class Difference:
    """Variant − base, over the seeds with which both have finished."""

    measure: Measure
    by_seed: dict[int, float]

    @property
    def mean(self) -> float:
        """Over the pairs."""
        return math.fsum(self.by_seed.values()) / len(self.by_seed)

    @property
    def interval(self) -> tuple[float, float] | None:
        """Between which values it lies with 95 % confidence, as such runs scatter (`evals.interval.mean`).

        None for one pair, which does not say how they do, and where all differ by the same (a share of 500 pairs has
        but 501 values): that is too little to tell it from.
        """
        lowest, highest = min(self.by_seed.values()), max(self.by_seed.values())
        if math.isclose(lowest, highest, rel_tol=1e-9, abs_tol=1e-12):
            return None
        found = mean_of(list(self.by_seed.values()))
        return found.low, found.high

    @property
    def sign(self) -> int | None:
        """-1, or 1, where the interval leaves no doubt of it; 0 where it does; None where there is no interval."""
        if self.interval is None:
            return None
        low, high = self.interval
        return (low > 0) - (high < 0)

    def __str__(self) -> str:
        seeds, digits = len(self.by_seed), self.measure.finer
        better = (self.mean < 0) == (self.measure.better == "lower")
        word = "better" if better else "worse"
        if self.interval is None:
            which = "with one seed" if seeds == 1 else f"with each of {seeds} seeds"
            return (
                f"{word} by {abs(self.mean):.{digits}f} {which}: no interval"
                if self.mean
                else f"equal {which}"
            )
        low, high = self.interval
        if not self.sign:
            return f"no difference that {seeds} seeds can show ({low:+.{digits}f} … {high:+.{digits}f})"
        near, far = sorted(map(abs, (low, high)))
        return f"{word} by {abs(self.mean):.{digits}f} ({near:.{digits}f} … {far:.{digits}f})"


@dataclass(frozen=True)
class Findings:
    """An experiment and its rows, as far as it was carried out."""

    experiment: Experiment
    seeds: tuple[int, ...]
    base: Row
    rows: tuple[Row, ...]

    def difference(self, row: Row, measure: Measure) -> Difference | None:
        """How far a variant lies from the base. None without a pair, and where a run of either has diverged: what is
        left would be chosen by how it went.
        """
        if row.diverged or self.base.diverged:
            return None
        values, base = row.values(measure), self.base.values(measure)
        pairs = {seed: measure.difference(values[seed], base[seed]) for seed in values if seed in base}
        return Difference(measure, pairs) if pairs else None

    @property
    def computed(self) -> list[str]:
        """On what the runs were trained, and in which numbers; of several, pairs may differ by that as well."""
        outcomes = [each for row in (self.base, *self.rows) for each in row.outcomes]
        return sorted({each.computed for each in outcomes if each.computed})

    def published(self, row: Row, measure: Measure) -> float | None:
        """How far others have found it from theirs."""
        theirs, base = row.variant.published.get(measure.name), self.base.variant.published.get(measure.name)
        if theirs is None or base is None:
            return None
        return round(measure.difference(theirs, base), 6)

    def agrees(self, row: Row, measure: Measure) -> bool | None:
        """Whether the variant lies on the side of the base on which others have found it.

        None where our interval has both sides in it (or there is none), and where they have found no difference.
        """
        difference, theirs = self.difference(row, measure), self.published(row, measure)
        if difference is None or not difference.sign or not theirs:
            return None
        return difference.sign == math.copysign(1, theirs)

    def verdict(self, row: Row, measure: Measure) -> str:
        """In words."""
        for which, name in ((row, ""), (self.base, "the base ")):
            if which.diverged:
                return f"{name}diverged with {which.diverged} of {len(which.outcomes)} seeds"
        found = self.difference(row, measure)
        return str(found) if found else "not trained yet"

    def to_dict(self) -> dict[str, Any]:
        """Everything, as plain values."""
        return {
            "experiment": self.experiment.name,
            "question": self.experiment.question,
            "seeds": list(self.seeds),
            "measures": {
                each.name: {"about": each.about, "better": each.better, "logarithmic": each.logarithmic}
                for each in self.experiment.measures
            },
            "published_by": self.experiment.published_by,
            "base": self._row(self.base),
            "variants": [self._row(row) | {"differences": self._differences(row)} for row in self.rows],
        }

    def _row(self, row: Row) -> dict[str, Any]:
        return {
            "name": row.variant.name,
            "row": row.variant.row,
            "flags": dict(row.variant.flags),
            "parameters": row.parameters,
            "matmul_parameters": row.matmul_parameters,
            "means": {each.name: row.mean(each) for each in self.experiment.measures},
            "published": dict(row.variant.published),
            "runs": [vars(each) for each in row.outcomes],
        }

    def _differences(self, row: Row) -> dict[str, Any]:
        return {each.name: self._difference(row, each) for each in self.experiment.measures}

    def _difference(self, row: Row, measure: Measure) -> dict[str, Any]:
        found = self.difference(row, measure)
        interval = found.interval if found else None
        return {
            "mean": found.mean if found else None,
            "interval": list(interval) if interval else None,
            "by_seed": {str(seed): value for seed, value in found.by_seed.items()} if found else {},
            "verdict": self.verdict(row, measure),
            "published": self.published(row, measure),
            "agrees": self.agrees(row, measure),
        }
