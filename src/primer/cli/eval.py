"""`primer eval`: score a run on its whole validation part, or on another text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from primer.cli.flags import Verb, parse, required, show_help


@dataclass(frozen=True)
class Options:
    """Of the command."""

    on: str | None = None
    """Another text: a file, a folder of texts, or a named source. Left out: the run's validation part."""
    unknown: Literal["error", "skip"] = "error"
    """A character of that text which the run has never seen: stop and name it, or drop it and say how many."""
    json: bool = False
    """Print one JSON object."""
    runs_dir: str = "runs"
    """Where runs are kept."""


VERB = Verb(
    name="eval",
    takes="RUN",
    about="Score a run's best checkpoint: loss in nats a token, perplexity, bits per byte. RUN is a path, the "
    "beginning of an id, or latest.",
    examples=("primer eval latest", "primer eval 3fa9c1 --on=my.txt", "primer eval latest --json"),
    options=Options,
)


def run(argv: Sequence[str]) -> int:
    """Print the score."""
    arguments = parse(VERB, argv)
    if arguments.help:
        show_help(VERB)
        return 0
    which = required(arguments, VERB, "a run")

    from primer.recipes.run import load

    options = arguments.options
    model = load(which, runs_dir=options.runs_dir)
    score = model.evaluate(options.on, unknown=options.unknown)
    on = options.on or f"the validation part of {model.config.data.source}"
    if options.json:
        print(json.dumps({"run": str(model.path), "on": on, **score}, ensure_ascii=False))
        return 0
    print(f"loss           {score['loss']:.4f} nats a token")
    print(f"perplexity     {score['perplexity']:.3f}")
    print(f"bits per byte  {score['bits_per_byte']:.4f}")
    print(f"on             {score['tokens']:,} tokens of {on}")
    if score["skipped"]:
        print(f"dropped        {score['skipped']:,} characters that the run has never seen")
    return 0
