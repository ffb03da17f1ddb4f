"""`primer plan`: what a run would cost, by arithmetic and one measurement, before anything is trained."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from primer.cli.flags import Verb, parse, show_help
from primer.cli.table import table
from primer.models import count
from primer.recipes.config import LEAST_STEPS, RunConfig
from primer.recipes.resolve import recipes, resolve

SHARE = 0.6
"""The share of the measured matmul rate that training is taken to reach; 0.5 to 0.85 is usual."""
CHARACTERS = 96
"""The vocabulary of a character model is known when its text was read; until then, printable ASCII."""


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


def plan(config: RunConfig, rates: dict[str, float]) -> dict[str, Any]:
    """The costs of a run as plain values. `rates` keeps what was measured, by device and precision."""
    train, assumed = config.train, not config.model.vocab_size
    guess = 256 if config.data.tokenizer == "byte" else CHARACTERS
    model = replace(config.model, vocab_size=config.model.vocab_size or guess)
    rows = train.micro_batch or train.batch_size
    memory = count.training_bytes(model, rows, optimizer=config.optim.name)
    tokens = train.batch_size * model.context_length  # a step
    short = train.short_until if train.short_context else 0.0
    flops_a_step = tokens * (
        short * count.flops_per_token(model, train.short_context or None)
        + (1 - short) * count.flops_per_token(model)
    )
    device, precision, rate = measure(config, rates)
    seconds_a_step = flops_a_step / (rate * SHARE)
    steps = train.steps
    if train.minutes:
        steps = min(steps, max(LEAST_STEPS, int(train.minutes * 60 / seconds_a_step)))
    flops = flops_a_step * steps
    return {
        "recipe": config.recipe,
        "about": config.about,
        "source": config.data.source,
        "vocabulary": model.vocab_size,
        "vocabulary_assumed": assumed and config.data.tokenizer == "char",
        "parameters": count.parameters(model),
        "matmul_parameters": count.matmul_parameters(model),
        "flops_per_token": count.flops_per_token(model),
        "steps": steps,
        "steps_at_most": train.steps,
        "tokens_per_step": tokens,
        "tokens": tokens * steps,
        "flops": flops,
        "rows_at_once": rows,
        "memory": asdict(memory) | {"total": memory.total},
        "cache_bytes": count.cache_bytes(model),
        "device": device,
        "precision": precision,
        "matmul_flops": rate,
        "share": SHARE,
        "seconds": seconds_a_step * steps,
    }


def measure(config: RunConfig, rates: dict[str, float]) -> tuple[str, str, float]:
    """The device, the precision, and the FLOP/s of matrix products there; each pair is measured once."""
    import torch

    from primer import device as devices

    device = devices.choose(config.train.device)
    devices.set_threads(config.train.threads)
    dtype = devices.autocast_dtype(device, config.train.precision) or torch.float32
    precision = str(dtype).removeprefix("torch.")
    key = f"{device} {precision} {config.train.threads}"
    if key not in rates:
        rates[key] = devices.matmul_rate(device, dtype)
    return str(device), precision, rates[key]


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
    return f"{seconds / 3600:.1f} h"
