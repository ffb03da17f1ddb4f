"""`primer import`: another program's model as a run. (`import` alone is a word of Python's.)"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from primer.cli.flags import Verb, parse, required, show_help


@dataclass(frozen=True)
class Options:
    """Of the command."""

    tokenizer: str | None = None
    """gpt2, byte, or a file of `primer tokenizer train`, where the folder has no tokenizer."""
    revision: str | None = None
    """Of a model on the hub: a branch, a tag or a commit. Left out: the newest."""
    runs_dir: str = "runs"
    """Where runs are kept."""


VERB = Verb(
    name="import",
    takes="FOLDER|NAME",
    about="Make a run of a GPT-2 as Hugging Face keeps it (config.json, model.safetensors, the tokenizer's files), to "
    "sample from, score, start from (train --init-from) and export. FOLDER is on this machine; NAME is a model on the "
    "Hugging Face hub (owner/name; gpt2, gpt2-medium, gpt2-large, gpt2-xl), which is then downloaded and checked.",
    examples=(
        "primer import gpt2",
        "primer import models/my-gpt2",
        "primer import openai-community/gpt2-xl --revision=main",
    ),
    options=Options,
)


def run(argv: Sequence[str]) -> int:
    """Print the path of the run that the model became."""
    arguments = parse(VERB, argv)
    if arguments.help:
        show_help(VERB)
        return 0
    source = required(arguments, VERB, "a folder, or a name on the Hugging Face hub")

    from primer.models.count import parameters
    from primer.recipes.imported import import_model

    options = arguments.options
    imported = import_model(
        source, tokenizer=options.tokenizer, revision=options.revision, runs_dir=options.runs_dir
    )
    model = imported.config.model
    print(
        f"{imported.config.recipe}: {parameters(model):,} parameters, {model.vocab_size:,} tokens\n"
        f"let it write: primer sample {imported.directory.handle}\n"
        f"go on from it: primer train finetune --init-from={imported.directory.handle} --data.source=my.txt",
        file=sys.stderr,
    )
    print(imported.path)
    return 0
