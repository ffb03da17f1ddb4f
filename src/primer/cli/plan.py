"""`primer plan`: what a run would cost, by arithmetic and one measurement, before anything is trained."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from primer.cli.flags import Verb, parse, show_help
from primer.cli.table import table
from primer.recipes.config import RunConfig
from primer.recipes.plan import plan
from primer.recipes.resolve import recipes, resolve


@dataclass(frozen=True)
class Options:
    """Of the command."""

    json: bool = False
    """Print JSON."""


VERB = Verb(
    name="plan",
    takes="[RECIPE|TEXT|FILE.toml]",
    about="Parameters, memory, FLOPs and minutes on this machine, before anything is trained. Without a name: "
    "every recipe in a line.",
    examples=("primer plan", "primer plan shakespeare --model.n-layers=12", "primer plan lecture --json"),
    options=Options,
    config=RunConfig,
)


def run(argv: Sequence[str]) -> int:
    """Print the plan of one run, or of every recipe."""
    arguments = parse(VERB, argv)
    targets = arguments.values or (["default"] if arguments.help or arguments.flags else recipes())
    configs = [resolve(target, flags=arguments.flags).config for target in targets]
    if arguments.help:
        show_help(VERB, configs[0])
        return 0
    rates: dict[str, float] = {}
    plans = [plan(config, rates) for config in configs]
    single = len(arguments.values) == 1 or bool(arguments.flags)
    if arguments.options.json:
        print(json.dumps(plans[0] if single else plans, ensure_ascii=False))
    elif single:
        print(in_lines(plans[0]))
    else:
        print(overview(plans))
    return 0


def overview(plans: Sequence[dict[str, Any]]) -> str:
    """A line for every recipe, and what it is for."""
    rows = [("recipe", "parameters", "tokens", "memory", "time here", "what for")]
    for one in plans:
        cost = (megabytes(one["memory"]["total"]), about(one["seconds"]))
        rows.append((one["recipe"], f"{one['parameters']:,}", f"{one['tokens']:,}", *cost, one["about"]))
    return f"{table(rows, right={1, 2, 3, 4}, cut=5)}\n\n{footnote(plans[0])}"


def in_lines(one: dict[str, Any]) -> str:
    """One plan for people."""
    memory = one["memory"]
    cut = one["steps_at_most"] > one["steps"]
    limit = f" (of {one['steps_at_most']:,}: as many as fit into train.minutes)" if cut else ""
    guess = " (assumed; the text decides)" if one["vocabulary_assumed"] else ""
    kinds = ", ".join(f"{kind} {megabytes(memory[kind])}" for kind in memory if kind != "total")
    lines = {
        "recipe": f"{one['recipe']}: {one['about']}",
        "text": one["source"],
        "vocabulary": f"{one['vocabulary']:,}{guess}",
        "parameters": f"{one['parameters']:,}, of which {one['matmul_parameters']:,} multiply every token",
        "steps": f"{one['steps']:,} of {one['tokens_per_step']:,} tokens: {one['tokens']:,}{limit}",
        "compute": f"{one['flops_per_token'] / 1e6:,.1f} MFLOP a token, {one['flops'] / 1e15:,.3f} PFLOP in all",
        "memory": f"{megabytes(memory['total'])} with {one['rows_at_once']} rows at once: {kinds}",
        "sampling": f"{megabytes(one['cache_bytes'])} of keys and values a sequence",
        "time here": about(one["seconds"]),
    }
    return "\n".join(f"{name:<11} {text}" for name, text in lines.items()) + f"\n\n{footnote(one)}"


def footnote(one: dict[str, Any]) -> str:
    """What the minutes rest on."""
    return (
        f"Time: without evaluations and samples, at {one['share']:.0%} of the matmul rate measured now on "
        f"{one['device']}, {one['matmul_flops'] / 1e9:,.0f} GFLOP/s in {one['precision']}."
    )


def megabytes(size: float) -> str:
    """Bytes for people."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def about(seconds: float) -> str:
    """A duration for people, no more exact than it is known."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:,.0f} days"
