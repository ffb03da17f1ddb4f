"""A run on its way out: its weights and its tokenizer in the files of another program."""

from pathlib import Path
from typing import Literal

import torch

from primer.assets import require_free
from primer.exchange import Format
from primer.exchange.gpt2 import refuse_what_it_cannot_hold
from primer.exchange.huggingface import write_gpt2
from primer.models.config import GPTConfig
from primer.models.gpt import GPT
from primer.recipes.directory import RunDirectory
from primer.recipes.text import read_tokenizer
from primer.recipes.weights import read_checkpoint
from primer.training import checkpoint


def export(
    run: RunDirectory,
    config: GPTConfig,
    which: Literal["best", "latest"],
    out: str | Path | None,
    to: Format,
) -> Path:
    """Write a run's checkpoint, verified, into the new folder `out` (None: one of the run's name here)."""
    folder = Path(out) if out is not None else Path(f"{run.path.name}-{to}")
    require_free(folder)  # this and the next before gigabytes are read
    refuse_what_it_cannot_hold(config)
    saved = read_checkpoint(run, which, config)
    with torch.device("meta"):
        checkpoint.match(saved.model, checkpoint.weights_of(GPT(config)), str(saved.path))
    write_gpt2(folder, config, saved.model, read_tokenizer(run))
    return folder
