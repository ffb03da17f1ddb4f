"""Set-ups that several tests share. `pythonpath` in pyproject.toml makes this importable as `setups`."""

from pathlib import Path
from typing import Any

TINY: dict[str, Any] = {
    "model.d_model": 16,
    "model.n_layers": 1,
    "model.n_heads": 2,
    "model.context_length": 16,
    "train.steps": 12,
    "train.batch_size": 8,
    "train.short_context": 0,
    "train.evaluate_every": 6,
    "train.sample_every": 6,
    "train.checkpoint_every": 4,
    "train.device": "cpu",
    "train.threads": 1,
    "schedule.warmup": 2,
    "sample.tokens": 8,
    "sample.prompt": "two",
}
"""Flags of a training that takes a moment in this process."""

INFO: dict[str, Any] = {
    "steps": 1000,
    "step": 0,
    "path": "runs/x",
    "handle": "abc123",
    "recipe": "lecture",
    "parameters": 1_234_567,
    "train_tokens": 1_003_854,
    "source": "shakespeare",
    "device": "cpu",
    "precision": "fp32",
    "threads": 2,
    "flops_per_token": 1e6,
    "matmul_rate": 1e10,
}
"""What a reporter is told at the start."""


def row(step: int, loss: float = 2.0, speed: float = 2500.0) -> dict[str, Any]:
    """What a reporter is told of a step."""
    return {"step": step, "loss": loss, "tokens_per_second": speed}


TINY_PAIRS: dict[str, Any] = {
    "model.d_model": 16,
    "model.n_layers": 1,
    "model.n_heads": 2,
    "model.d_ff": 32,
    "model.context_length": 40,
    "data.vocab_size": 257,
    "data.validation_fraction": 0.2,
    "train.steps": 12,
    "train.batch_tokens": 120,
    "train.micro_tokens": 60,
    "train.evaluate_every": 6,
    "train.evaluate_pairs": 5,
    "train.sample_every": 6,
    "train.checkpoint_every": 3,
    "train.keep": 3,
    "train.device": "cpu",
    "train.threads": 1,
    "schedule.warmup": 2,
    "schedule.shape": "inverse_sqrt",
    "translate.checkpoints": 3,
    "translate.extra_length": 5,
}
"""Flags of a training on pairs that takes a moment in this process."""


def reversed_digits(folder: Path, count: int = 120) -> Path:
    """A .tsv file of pairs: a number of one to five digits, and the same backwards."""
    rows = sorted({str(7919 * n % 10 ** (1 + n % 5)) for n in range(count)})
    file = folder / "backwards.tsv"
    file.write_text("".join(f"{row}\t{row[::-1]}\n" for row in rows), encoding="utf-8")
    return file
