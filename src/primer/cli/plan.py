"""`primer plan`: what a run would cost, by arithmetic and one measurement, before anything is trained."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from primer.cli.flags import Verb, parse, show_help
from primer.cli.table import table
from primer.cli.train import inherited
from primer.corpus.sources import RUN_MARK
from primer.errors import DataError
from primer.recipes.config import RunConfig, TranslationConfig
from primer.recipes.plan import plan
from primer.recipes.resolve import recipes, resolve


@dataclass(frozen=True)
class Options:
    """Of the command."""

    json: bool = False
    """Print JSON."""
    init_from: str | None = None
    """The run that the training would start from: its sizes and vocabulary are planned with."""
    runs_dir: str = "runs"
    """Where runs are kept."""


VERB = Verb(
    name="plan",
    takes="[RECIPE|TEXT|FILE.toml|RUN]",
    about="Parameters, memory, FLOPs and minutes on this machine, before anything is trained. Without a name: "
    "every recipe in a line. For a run: what was planned, and what it was.",
    examples=("primer plan", "primer plan shakespeare --model.n-layers=12", "primer plan latest"),
    options=Options,
    configs=(RunConfig, TranslationConfig),
)


def run(argv: Sequence[str]) -> int:
    """Print the plan of one run, or of every recipe."""
    arguments = parse(VERB, argv)
    if arguments.values and not arguments.help and (run := the_run(arguments.values[0], arguments.options)):
        print(json.dumps(run, ensure_ascii=False) if arguments.options.json else as_it_was(run))
        return 0
    targets = arguments.values or (["default"] if arguments.help or arguments.flags else recipes())
    beneath = inherited(arguments.options.init_from, arguments.options.runs_dir)
    configs = [resolve(target, beneath_flags=beneath, flags=arguments.flags).config for target in targets]
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


def the_run(word: str, options: Options) -> dict[str, Any] | None:
    """The plan of a run and how it went, where the word is a run's name and neither a recipe's nor a text's."""
    if word in recipes() or (os.path.exists(word) and not os.path.exists(os.path.join(word, RUN_MARK))):
        return None
    from primer.recipes.directory import find

    try:
        run = find(word, options.runs_dir)
    except DataError:
        return None
    facts = run.read_facts()
    if run.is_imported:
        raise DataError(
            "this run was imported: nothing was planned, and nothing trained",
            str(run.path),
            f"primer train my.txt --init-from={run.handle}",
        )
    if "planned" not in facts:
        raise DataError(
            "this run keeps no plan: it has not come to an end, or was trained in silence",
            str(run.path),
            f"primer runs show {run.handle}",
        )
    return {"run": run.id, "planned": facts["planned"], "actual": facts["actual"]}


def as_it_was(run: dict[str, Any]) -> str:
    """The plan of a run, and beside it what it was."""
    planned, actual = run["planned"], run["actual"]
    speed = planned["tokens"] / max(planned["seconds"], 1e-9)
    rows = [
        ("", "planned", "was"),
        ("parameters", f"{planned['parameters']:,}", f"{actual['parameters']:,}"),
        ("steps", f"{planned['steps']:,}", f"{actual['steps']:,}"),
        ("memory", megabytes(planned["memory"]["total"]), megabytes(actual["memory"])),
        ("tokens", f"{planned['tokens']:,}", f"{actual['tokens']:,}"),
        ("compute", work(planned["flops"]), work(actual["flops"])),
        ("time", about(planned["seconds"]), about(actual["seconds"])),
        ("tokens/s", f"{speed:,.0f}", f"{actual['tokens_per_second']:,}"),
        ("of matmul rate", f"{planned['share']:.0%}", f"{actual['share']:.0%}"),
    ]
    where = f"{planned['device']}, {planned['matmul_flops'] / 1e9:,.0f} GFLOP/s in {planned['precision']}"
    note = "Memory: what the model needs, and the peak of the process, which holds the program as well."
    return f"run {run['run']} on {where}\n\n{table(rows, right={1, 2})}\n\n{note}"


def overview(plans: Sequence[dict[str, Any]]) -> str:
    """A line for every recipe, and what it is for."""
    rows = [("recipe", "parameters", "tokens", "memory", "time here", "what for")]
    for one in plans:
        size, memory, time = (
            f"{one['parameters']:,}",
            megabytes(one["memory"]["total"]),
            about(one["seconds"]),
        )
        if one["needs_weights"]:  # its size is that of the run to start from
            size = memory = time = "-"
        rows.append((one["recipe"], size, f"{one['tokens']:,}", memory, time, one["about"]))
    return f"{table(rows, right={1, 2, 3, 4}, cut=5)}\n\n{footnote(plans[0])}"


def in_lines(one: dict[str, Any]) -> str:
    """One plan for people."""
    memory = one["memory"]
    cut = one["steps_at_most"] > one["steps"]
    limit = f" (of {one['steps_at_most']:,}: as many as fit into train.minutes)" if cut else ""
    guess = " (assumed; the text decides)" if one["vocabulary_assumed"] else ""
    kinds = ", ".join(f"{kind} {megabytes(memory[kind])}" for kind in memory if kind != "total")
    unit = "places" if one["kind"] == "translation" else "rows"
    lines = {
        "recipe": f"{one['recipe']}: {one['about']}",
        "text": one["source"] or "yours: --data.source",
        "vocabulary": f"{one['vocabulary']:,}{guess}",
        "parameters": f"{one['parameters']:,}, of which {one['matmul_parameters']:,} multiply every token",
        "steps": f"{one['steps']:,} of {one['tokens_per_step']:,} tokens: {one['tokens']:,}{limit}",
        "compute": f"{one['flops_per_token'] / 1e6:,.1f} MFLOP a token, {work(one['flops'])} in all",
        "memory": f"{megabytes(memory['total'])} with {one['rows_at_once']:,} {unit} at once: {kinds}",
        "disk": f"{megabytes(one['checkpoint_bytes'])} a checkpoint, at most {one['checkpoints']} of them",
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


def work(flops: float) -> str:
    """FLOPs for people."""
    return f"{flops / 1e15:,.1f} PFLOP" if flops >= 1e15 else f"{flops / 1e12:,.1f} TFLOP"


def about(seconds: float) -> str:
    """A duration for people, no more exact than it is known."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:,.0f} days"
