"""`primer train`: from a recipe, a text or a recipe's file to a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from primer.cli.flags import Verb, parse, show_help
from primer.config import to_toml
from primer.recipes.config import RunConfig, TranslationConfig
from primer.recipes.resolve import resolve


@dataclass(frozen=True)
class Options:
    """Of the command."""

    init_from: str | None = None
    """Start from this run's weights, sizes and vocabulary: a path, the beginning of an id, or latest."""
    runs_dir: str = "runs"
    """Where runs are kept."""
    print_config: bool = False
    """Print what would be trained, as TOML, with the origin of every value; train nothing."""


VERB = Verb(
    name="train",
    takes="[RECIPE|TEXT|FILE.toml]",
    about="Train a GPT, or an encoder–decoder that translates (dates, multi30k, translation, transformer-base). "
    "RECIPE is a name (primer plan lists them); TEXT is a .txt, .md, .jsonl or .parquet "
    "file or a folder of them, for the default recipe; FILE.toml is a recipe of your own. --data.source also takes a "
    "folder that primer prepare made, or token files as llm.c and modded-nanogpt publish them (.bin, .npy); where "
    "the recipe translates, pairs of sentences: a .tsv, .jsonl, .po or .mo file, or a file beside --data.target.",
    examples=(
        "primer train my.txt --train.steps=500",
        "primer train shakespeare --model.n-layers=6 --print-config",
        "primer train translation --data.source=my.en --data.target=my.de",
    ),
    options=Options,
    configs=(RunConfig, TranslationConfig),
    further="--data.source={}",
)


def inherited(init_from: str | None, runs_dir: str) -> tuple[str, dict[str, Any]] | None:
    """What comes along from the run to start from, if there is one."""
    if init_from is None:
        return None
    from primer.recipes.directory import brought_along, find

    return brought_along(find(init_from, runs_dir))


def run(argv: Sequence[str]) -> int:
    """Train, with progress on stderr, and print the run's path."""
    arguments = parse(VERB, argv)
    target = arguments.values[0] if arguments.values else None
    beneath = inherited(arguments.options.init_from, arguments.options.runs_dir)
    resolved = resolve(target, beneath_flags=beneath, flags=arguments.flags)
    if arguments.help:
        show_help(VERB, resolved.config)
        return 0
    if arguments.options.print_config:
        print(to_toml(resolved.config, comments=resolved.origins), end="")
        return 0

    from primer.cli.progress import reporter
    from primer.recipes.run import train
    from primer.training.distributed import place

    with reporter() as report:
        trained = train(
            target,
            flags=arguments.flags,
            runs_dir=arguments.options.runs_dir,
            init_from=arguments.options.init_from,
            reporter=report,
        )
    if place().is_first:  # of the processes that torchrun started
        print(trained.path)
    return 0
