"""What a run would cost, by arithmetic and one measurement, before anything is trained."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from primer.models import count
from primer.recipes.config import LEAST_STEPS, RunConfig

SHARE = 0.6
"""The share of the measured matmul rate that training is taken to reach; 0.5 to 0.85 is usual."""
CHARACTERS = 96
"""The vocabulary of a character model is known when its text was read; until then, printable ASCII."""


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
