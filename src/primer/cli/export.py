"""`primer export`: a run in the files of another program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from primer.cli.flags import Verb, parse, required, show_help
from primer.exchange import Format


@dataclass(frozen=True)
class Options:
    """Of the command."""

    to: Format = "huggingface"
    """huggingface: a GPT-2 that transformers reads, with its tokenizer."""
    out: str | None = None
    """The folder to make. Left out: one called like the run and the format, here."""
    checkpoint: Literal["best", "latest"] = "best"
    """Which of the run's checkpoints."""
    runs_dir: str = "runs"
    """Where runs are kept."""


VERB = Verb(
    name="export",
    takes="RUN",
    about="Write a run's model and tokenizer as files that other programs read, and read them back to be sure. "
    "Options of the model that the format cannot hold are named. RUN is a path, the beginning of an id, or latest.",
    examples=(
        "primer export latest --to=huggingface",
        "primer export 3fa9c1 --out=my-gpt2",
        "primer export latest --checkpoint=latest",
    ),
    options=Options,
)


def run(argv: Sequence[str]) -> int:
    """Print the path of the folder."""
    arguments = parse(VERB, argv)
    if arguments.help:
        show_help(VERB)
        return 0
    which = required(arguments, VERB, "a run")

    from primer.recipes.run import load

    options = arguments.options
    found = load(which, runs_dir=options.runs_dir, checkpoint=options.checkpoint)
    print(found.export(options.out, to=options.to))
    return 0
