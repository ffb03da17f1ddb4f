"""Writes docs/mantissa-and-exponent.md from the lessons' receipts: `python benchmarks/lessons_page.py`.

What was seen is said in the experiments themselves; its figures, tables and pictures are those of the receipts.
"""

import json
from typing import Any

from primer.experiments import QUESTIONS
from primer.experiments.calculation import Calculated, Calculation
from primer.experiments.experiment import Experiment
from receipt import ROOT

PAGE = ROOT / "docs" / "mantissa-and-exponent.md"

ORDER = ("sums", "softmax", "fp16", "small-updates", "epsilon", "products", "formats")

TITLES = {
    "sums": "1. A million small numbers",
    "softmax": "2. A softmax that overflows",
    "fp16": "3. Training that dies in fp16",
    "small-updates": "4. Updates that vanish",
    "epsilon": "5. Adam's epsilon",
    "products": "6. Matrix products, measured and predicted",
    "formats": "7. One GPT in every format",
}

BEGINNING = """\
# Mantissa and exponent

A number in a computer is a sign, an exponent and a mantissa: where the point stands, and the digits behind the first.
The exponent's bits decide how large and how small a number may be, the mantissa's bits how many digits it has; what is
spent on one is taken from the other. `primer float 0.1 --format=bf16` shows it for any number and any format.

These seven lessons show what that does, to sums and to training. Each is one command; with `--minutes=5` it is made as
small as five minutes are, with `--full` as it was made for this page: three seeds or more, whose scatter gives the 95 %
intervals. Every table is a receipt in `benchmarks/results/`, with its commit, hardware and date. Formats are emulated
(`floats/tensor.py`), and exact: held against ml_dtypes, torch and gfloat where these have a format and a rounding, and
against exact arithmetic in all others.
"""


def page() -> str:
    """The whole page."""
    return "\n".join([BEGINNING, *(lesson(name) for name in ORDER)])


def lesson(name: str) -> str:
    """One lesson: question, command, what was seen, pictures, table."""
    answer = QUESTIONS[name].experiment({})
    receipt = json.loads(
        (ROOT / "benchmarks" / "results" / f"lesson-{name}.json").read_text(encoding="utf-8")
    )
    found = receipt["figures"]
    pictures = [f"why-{name}"] + ([f"why-{name}-curves"] if isinstance(answer, Experiment) else [])
    drawn = "\n\n".join(f"![{answer.question}](pictures/{picture}.svg)" for picture in pictures)
    table = columns(answer, found) if isinstance(answer, Calculation) else rows(answer, found)
    command = found["answered_by"].removesuffix(" --full")
    return (
        f"## {TITLES[name]}\n\n*{answer.question}* `{command} --minutes=5`, or `--full`\n\n{answer.seen}\n\n{drawn}\n\n"
        f"{table}\n\nReceipt: [lesson-{name}.json](../benchmarks/results/lesson-{name}.json)\n"
    )


def columns(calculation: Calculation, found: dict[str, Any]) -> str:
    """What was computed, as the command prints it."""
    from primer.cli.calculated import of_quantity

    by_seed = [
        {
            tuple(row[key] for key in calculation.keys): {
                each.name: float(row[each.name]["by_seed"][number]) for each in calculation.quantities
            }
            for row in found["rows"]
        }
        for number in range(len(found["seeds"]))
    ]
    again = Calculated(calculation, tuple(found["seeds"]), tuple(by_seed))
    parts = [f"{each.name}: {each.about}\n\n{of_quantity(again, each)}" for each in calculation.quantities]
    return "```\n" + "\n\n".join(parts) + "\n```"


def rows(experiment: Experiment, found: dict[str, Any]) -> str:
    """What was trained: a variant a line."""
    (measure,) = experiment.measures
    lines = [f"| variant | {measure.about} | against the base |", "|---|---|---|"]
    for row in (found["base"], *found["variants"]):
        mean = row["means"][measure.name]
        verdict = row["differences"][measure.name]["verdict"] if "differences" in row else "the base"
        lines.append(f"| {row['name']} | {'' if mean is None else f'{mean:.3f}'} | {verdict} |")
    return "\n".join([*lines, "", *experiment.notes])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
