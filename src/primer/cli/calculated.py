"""What was computed with several seeds, in columns for the terminal."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from primer.cli.plan import about
from primer.cli.table import table

if TYPE_CHECKING:
    from primer.experiments.calculation import Calculated, Key, Quantity


def plan_in_words(plan: dict[str, Any]) -> str:
    """What a calculation takes, for people."""
    seeds = plan["seeds"]
    return (
        f"{plan['question']}\nArithmetic: nothing is trained, nothing is kept. {seeds} seed{'s' * (seeds > 1)}: about "
        f"{about(max(plan['seconds_left'], 1))} on one core"
    )


def in_columns(found: Calculated) -> str:
    """A table a quantity; what the picture has along its axis are the columns."""
    calculation = found.calculation
    parts = [calculation.question]
    for quantity in calculation.quantities:
        parts += [f"{quantity.name}: {quantity.about}", of_quantity(found, quantity)]
    if len(found.seeds) > 1:
        parts.append(
            f"±: half of the 95 % interval of the mean, by Student's t over {len(found.seeds)} seeds"
        )
    if calculation.seen:
        parts.append(f"As it was carried out in full: {calculation.seen}")
    return "\n\n".join(parts)


def of_quantity(found: Calculated, quantity: Quantity) -> str:
    """One quantity."""
    calculation = found.calculation
    place = calculation.keys.index(calculation.picture.across)
    across = list(dict.fromkeys(row[place] for row in found.rows))
    lines: dict[Key, dict[str | int | float, str]] = {}
    for row in found.rows:
        line = lines.setdefault(row[:place] + row[place + 1 :], {})
        line[row[place]] = cell(found, row, quantity)
    names = [key for key in calculation.keys if key != calculation.picture.across]
    head = (*names, *(f"{calculation.picture.across} {value:,}" for value in across))
    rows = [(*map(str, line), *(cells.get(value, "") for value in across)) for line, cells in lines.items()]
    rows = [row for row in rows if any(row[len(names) :])]
    return table([head, *rows], right=range(len(names), len(head)))


def cell(found: Calculated, row: Key, quantity: Quantity) -> str:
    """A mean and its interval; nothing where there is nothing to say."""
    values = found.values(row, quantity.name)
    estimate = found.estimate(row, quantity.name)
    if estimate is None:
        return "infinite" if any(map(math.isinf, values)) else ""
    half = (estimate.high - estimate.low) / 2
    if quantity.percent:
        return f"{estimate.value:.0%}" + (f" ±{half:.0%}" if half >= 0.005 else "")
    shown = f"{estimate.value:.2g}"
    return shown if half < abs(estimate.value) * 0.005 else f"{shown} ±{half:.1g}"
