"""`primer resume`: go on with a run from its newest whole checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from primer.cli.flags import Verb, parse, required, show_help
from primer.recipes.config import RunConfig, TranslationConfig


@dataclass(frozen=True)
class Options:
    """Of the command. Any dotted flag of `primer train` changes the run from here on."""

    runs_dir: str = "runs"
    """Where runs are kept."""


VERB = Verb(
    name="resume",
    takes="RUN",
    about="Go on where a run stopped, bit for bit as if it never had. RUN is a path, the beginning of an id, "
    "or latest. The flags of primer train (primer train --help) change the run from here on, except for the "
    "model (its dropout may change), the text, and the seed.",
    examples=(
        "primer resume latest",
        "primer resume 3fa9c1 --train.steps=5000",
        "primer resume runs/2026-11-22-shakespeare-3fa9c1",
    ),
    options=Options,
    configs=(RunConfig, TranslationConfig),
)


def run(argv: Sequence[str]) -> int:
    """Train on, with progress on stderr, and print the run's path."""
    arguments = parse(VERB, argv)
    if arguments.help:
        show_help(VERB)
        return 0
    which = required(arguments, VERB, "a run")

    from primer.cli.progress import reporter
    from primer.recipes.run import resume
    from primer.training.distributed import place

    with reporter() as report:
        resumed = resume(which, flags=arguments.flags, runs_dir=arguments.options.runs_dir, reporter=report)
    if place().is_first:  # of the processes that torchrun started
        print(resumed.path)
    return 0
