"""A question that arithmetic answers, without training: the same is computed with several seeds, in many ways."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from primer.errors import UsageError, nearest
from primer.evals.interval import Estimate
from primer.evals.interval import mean as mean_of

Key = tuple[str | int | float, ...]
"""What tells one row from the others: (naive, bf16, 1000)."""

Values = Mapping[Key, Mapping[str, float]]
"""By row, what was found, by the name of the quantity."""

Told = Callable[[str, int, int], None]
"""Called with what is being computed, how much is done, and how much there is."""


@dataclass(frozen=True)
class Quantity:
    """What is computed of each row."""

    name: str
    about: str
    percent: bool = False
    logarithmic: bool = False
    """Whether the mean is that of logarithms: of errors that differ by orders of magnitude."""


@dataclass(frozen=True)
class Picture:
    """How the rows are drawn: a row of panels a quantity, in each a line for each value of a key."""

    across: str
    """The key along the horizontal axis."""
    lines: str
    panels: str = ""
    """The key with a panel for each of its values."""


@dataclass(frozen=True)
class Calculation:
    """What is asked, and how one seed answers it."""

    name: str
    question: str
    keys: tuple[str, ...]
    """The names of a row's parts."""
    quantities: tuple[Quantity, ...]
    parts: tuple[Key, ...]
    """For each of `keys`, what a row's part may be."""
    of: Callable[[int], Values]
    """All rows, of one seed."""
    picture: Picture
    seconds: float
    """That a seed takes on one core of an AMD EPYC of 2026."""
    predicted: Mapping[str, tuple[str, str]] | None = None
    """Of a quantity, those that say what theory expects as a rule, and at worst: {"error": ("predicted", "bound")}."""
    seeds: int = 5
    """Of the shipped evidence."""
    seen: str = ""
    """What was seen when it was carried out in full."""

    def chosen(self, words: str) -> tuple[str, ...]:
        """The words with commas between them, each a part of some rows. UsageError for one that is in none."""
        known = [str(part) for parts in self.parts for part in parts]
        wanted = tuple(word.strip() for word in words.split(",") if word.strip())
        for word in wanted:
            if word not in known:
                close = nearest(word, known)
                hint = f"--variants={close}" if close else f"--variants={','.join(known)}, or some of these"
                raise UsageError(f"{self.name} has no {word!r}", f"primer why {self.name}", hint)
        return wanted


@dataclass(frozen=True)
class Calculated:
    """The rows of all seeds."""

    calculation: Calculation
    seeds: tuple[int, ...]
    by_seed: tuple[Values, ...]

    @property
    def rows(self) -> list[Key]:
        """All keys, in the order in which they were computed."""
        return list(self.by_seed[0])

    def values(self, row: Key, quantity: str) -> list[float]:
        """Of one row, seed by seed."""
        return [each[row][quantity] for each in self.by_seed]

    def estimate(self, row: Key, quantity: str) -> Estimate | None:
        """The mean over the seeds and its 95 % interval (`evals.interval.mean`). None where one is not finite."""
        values = self.values(row, quantity)
        if not all(map(math.isfinite, values)):
            return None
        if len(values) == 1:
            return Estimate(values[0], values[0], values[0])
        logarithmic = next(each.logarithmic for each in self.calculation.quantities if each.name == quantity)
        if logarithmic and min(values) > 0:
            found = mean_of([math.log(value) for value in values])
            return Estimate(*map(math.exp, (found.value, found.low, found.high)))
        return mean_of(values)

    def to_dict(self) -> dict[str, Any]:
        """Everything, as plain values; what is not finite as text."""
        calculation = self.calculation
        return {
            "calculation": calculation.name,
            "question": calculation.question,
            "seeds": list(self.seeds),
            "quantities": {each.name: each.about for each in calculation.quantities},
            "rows": [
                dict(zip(calculation.keys, row, strict=True))
                | {each.name: self._plain(row, each.name) for each in calculation.quantities}
                for row in self.rows
            ],
        }

    def _plain(self, row: Key, quantity: str) -> dict[str, Any]:
        found = self.estimate(row, quantity)
        values = [value if math.isfinite(value) else str(value) for value in self.values(row, quantity)]
        interval = None if found is None or len(values) == 1 else [found.low, found.high]
        return {"mean": found.value if found else None, "interval": interval, "by_seed": values}


def calculate(
    calculation: Calculation, seeds: int, *, minutes: float = 0.0, tell: Told = lambda what, done, all_: None
) -> Calculated:
    """Compute with as many seeds as are asked for, or as fit into some minutes (two at least). UsageError for none."""
    if seeds < 1:
        raise UsageError(f"--seeds must be at least 1, got {seeds}", hint="--seeds=3")
    started = time.monotonic()
    found: list[Values] = []
    for seed in range(seeds):
        tell(f"{calculation.name}, seed {seed + 1}", seed, seeds)
        found.append(calculation.of(seed))
        longest = (time.monotonic() - started) * (seed + 2) / (seed + 1)  # with one more
        if minutes and len(found) >= 2 and longest > minutes * 60:
            break
    return Calculated(calculation, tuple(range(len(found))), tuple(found))


def planned(calculation: Calculation, seeds: int, minutes: float = 0.0) -> dict[str, Any]:
    """How long it takes to `calculate`, as plain values."""
    each = calculation.seconds
    if minutes:
        seeds = max(min(seeds, 2), min(seeds, int(minutes * 60 / each)))
    return {
        "calculation": calculation.name,
        "question": calculation.question,
        "seeds": seeds,
        "seconds_a_seed": each,
        "seconds_left": seeds * each,
    }


def only(found: Calculated, wanted: Sequence[str]) -> Calculated:
    """The rows with a part among the words; all where there is no word."""
    if not wanted:
        return found
    rows = [row for row in found.rows if set(map(str, row)) & set(wanted)]
    return Calculated(
        found.calculation, found.seeds, tuple({row: each[row] for row in rows} for each in found.by_seed)
    )
